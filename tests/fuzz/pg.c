/* Goal: what a database writes is read, or refused, within its bounds; what was read and is written
 *       again is read as the same; what was encoded as a parameter is read back as it was; and a
 *       glance at the server's messages stays within what came. */
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "pg/calendar.h"
#include "pg/copying.h"
#include "pg/decode.h"
#include "pg/encode.h"

#include <string.h>

enum { ITEMS_MAX = 64 };

/* In memory of just that size, so that the sanitizer sees who reads behind it. */
static char *copy_of(struct span text)
{
    char *copy = mem_alloc(text.len > 0 ? text.len : 1);

    memcpy(copy, text.ptr, text.len);
    return copy;
}

static char *written(const struct pg_value *value)
{
    char *text = mem_alloc(pg_value_size(value));

    pg_value_write(value, text);
    MUST(strlen(text) < pg_value_size(value));
    return text;
}

static void check_time(struct span text)
{
    char again[PG_TIME_SIZE];
    int64_t us, same;

    if (!pg_time_read(text, &us))
        return;
    pg_time_write(us, again);
    MUST(pg_time_read(span_of(again), &same));
    MUST(same == us);
}

/* Whatever number a plugin takes for a time. */
static void check_any_time(struct span bytes)
{
    char text[PG_TIME_SIZE];
    int64_t us;

    if (bytes.len < sizeof us)
        return;
    memcpy(&us, bytes.ptr, sizeof us);
    pg_time_write(us, text);
    MUST(strlen(text) > 7);
}

static void check_bytes(struct span text)
{
    char *out = mem_alloc(text.len + 1), *again, *back;
    size_t len = 0, len_back = 0;

    if (pg_bytes_read(text, out, &len)) {
        MUST(len <= text.len);
        again = written(&(struct pg_value){.kind = PG_BYTES, .as.text = {out, len}});
        back = mem_alloc(strlen(again) + 1);
        MUST(pg_bytes_read(span_of(again), back, &len_back));
        MUST(len_back == len && memcmp(back, out, len) == 0);
        mem_free(back);
        mem_free(again);
    }
    mem_free(out);
}

/* Do these items, written as a parameter, come back? */
static void check_items(const struct span *items, uint32_t count)
{
    const struct pg_value value = {.kind = PG_TEXTS, .as.texts = {items, count}};
    struct span text, *back;
    uint32_t count_back = 0;
    char *again, *store;
    enum err err;

    if (pg_value_problem(&value, &err) != NULL)
        return;
    again = written(&value);
    text = span_of(again);
    back = mem_calloc(pg_array_count_max(text) + 1, sizeof *back);
    store = mem_alloc(2 * text.len + 2);
    MUST(pg_array_read(text, store, back, &count_back));
    MUST(count_back == count);
    for (uint32_t i = 0; i < count; i++) {
        MUST((back[i].ptr == NULL) == (items[i].ptr == NULL));
        MUST(items[i].ptr == NULL ||
             (back[i].len == items[i].len && memcmp(back[i].ptr, items[i].ptr, back[i].len) == 0));
    }
    mem_free(store);
    mem_free(back);
    mem_free(again);
}

static void check_array(struct span text)
{
    uint32_t most = pg_array_count_max(text), count = 0;
    struct span *items = mem_calloc(most + 1, sizeof *items);
    char *store = mem_alloc(2 * text.len + 2);

    MUST(most <= text.len + 1);
    if (pg_array_read(text, store, items, &count)) {
        MUST(count <= most);
        for (uint32_t i = 0; i < count; i++) {
            MUST(items[i].ptr == NULL ||
                 (items[i].ptr >= store && items[i].ptr + items[i].len < store + 2 * text.len + 2));
            MUST(items[i].ptr == NULL || items[i].ptr[items[i].len] == '\0');
        }
        check_items(items, count);
    }
    mem_free(store);
    mem_free(items);
}

/* The input cut at each comma, "-" standing for NULL. */
static void check_texts(struct span text)
{
    struct span items[ITEMS_MAX];
    uint32_t count = 0;
    size_t begin = 0;

    for (size_t at = 0; at <= text.len && count < ITEMS_MAX; at++) {
        if (at < text.len && text.ptr[at] != ',')
            continue;
        items[count] = (struct span){text.ptr + begin, at - begin};
        if (span_equal(items[count], SPAN("-")))
            items[count].ptr = NULL;
        count++;
        begin = at + 1;
    }
    check_items(items, count);
}

static void check_glance(struct span bytes)
{
    enum pg_glance whole = pg_copying_glance((const unsigned char *)bytes.ptr, bytes.len);

    MUST(whole == PG_GLANCE_FINE || whole == PG_GLANCE_CUT || whole == PG_GLANCE_FAILED);
    for (size_t len = 0; len < bytes.len && len < 64; len++) {
        enum pg_glance part = pg_copying_glance((const unsigned char *)bytes.ptr, len);

        MUST(part != PG_GLANCE_FAILED || whole == PG_GLANCE_FAILED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = copy_of((struct span){(const char *)data, size});
    struct span text = {copy, size};

    check_time(text);
    check_any_time(text);
    check_bytes(text);
    check_array(text);
    check_texts(text);
    check_glance(text);
    mem_free(copy);
    return 0;
}
