/* Goal: what a database writes is read, or refused, within its bounds; what was read and is written
 *       again is read as the same; what was encoded as a parameter is read back as it was; values
 *       in binary form are read, or refused, in the same way, and what is written of them is read
 *       as the same again; and a glance at the server's messages stays within what came. */
#include "base/mem.h"
#include "base/number.h"
#include "fuzz/fuzz.h"
#include "pg/binary.h"
#include "pg/calendar.h"
#include "pg/copying.h"
#include "pg/decode.h"
#include "pg/encode.h"
#include "pg/number.h"
#include "pg/types.h"

#include <string.h>

enum { ITEMS_MAX = 64 };

static const uint32_t types[] = {
    PG_OID_BOOL,     PG_OID_BYTEA,       PG_OID_CHAR,
    PG_OID_INT8,     PG_OID_INT2,        PG_OID_INT4,
    PG_OID_TEXT,     PG_OID_OID,         PG_OID_FLOAT4,
    PG_OID_FLOAT8,   PG_OID_BOOLS,       PG_OID_CHARS,
    PG_OID_INT2S,    PG_OID_INT4S,       PG_OID_TEXTS,
    PG_OID_INT8S,    PG_OID_FLOAT4S,     PG_OID_FLOAT8S,
    PG_OID_VARCHARS, PG_OID_DATE,        PG_OID_TIMESTAMP,
    PG_OID_NUMERIC,  PG_OID_TIMESTAMPTZ, PG_OID_UUID,
    PG_OID_UUIDS,    PG_OID_JSONB,       0,
};

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

/* Whatever number a plugin gives, as each kind that takes one. */
static void check_numbers_written(struct span bytes)
{
    struct pg_value value = {.kind = PG_INT};
    int64_t number = 0;
    double real = 0;
    char *text;

    memcpy(&value.as.i, bytes.ptr, bytes.len < 8 ? bytes.len : 8);
    text = written(&value);
    MUST(number_int(span_of(text), &number) && number == value.as.i);
    mem_free(text);
    value.kind = PG_BOOL;
    text = written(&value);
    MUST(span_equal(span_of(text), value.as.i != 0 ? SPAN("t") : SPAN("f")));
    mem_free(text);
    value.kind = PG_DOUBLE;
    text = written(&value);
    MUST(pg_double_read(span_of(text), &real));
    MUST(memcmp(&real, &value.as.d, sizeof real) == 0 ||
         (real != real && value.as.d != value.as.d));
    MUST(real == real || span_equal(span_of(text), SPAN("NaN")));
    mem_free(text);
}

/* The bytes as numbers of an array. */
static void check_ints_written(struct span bytes)
{
    struct span items[ITEMS_MAX];
    int64_t numbers[ITEMS_MAX], back;
    uint32_t count = bytes.len / sizeof *numbers < ITEMS_MAX
                         ? (uint32_t)(bytes.len / sizeof *numbers)
                         : ITEMS_MAX;
    const struct pg_value value = {.kind = PG_INTS, .as.ints = {numbers, count}};
    uint32_t count_back = 0;
    char *text, *store;

    memcpy(numbers, bytes.ptr, count * sizeof *numbers);
    text = written(&value);
    MUST(pg_array_count_max(span_of(text)) <= ITEMS_MAX);
    store = mem_alloc(2 * strlen(text) + 2);
    MUST(pg_array_read(span_of(text), store, items, &count_back) && count_back == count);
    for (uint32_t i = 0; i < count; i++)
        MUST(number_int(items[i], &back) && back == numbers[i]);
    mem_free(store);
    mem_free(text);
}

/* A text and a JSON go as they are, or not at all: there is no NUL in one. */
static void check_texts_written(struct span bytes)
{
    struct pg_value value = {.kind = PG_TEXT, .as.text = bytes};
    enum err err = ERR_OK;

    for (int kind = 0; kind < 2; kind++) {
        bool has_nul = bytes.len > 0 && memchr(bytes.ptr, '\0', bytes.len) != NULL;
        char *text;

        value.kind = kind == 0 ? PG_TEXT : PG_JSON;
        MUST((pg_value_problem(&value, &err) != NULL) == has_nul);
        MUST(!has_nul || err == ERR_DB_VALUE);
        if (has_nul)
            continue;
        text = written(&value);
        MUST(span_equal(span_of(text), bytes));
        mem_free(text);
    }
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

/* Do the texts that were written of its items come back from the text that was written of all? */
static void check_written(uint32_t type, struct span bytes, struct span text)
{
    struct span *items = mem_calloc(pg_array_count_max(text) + 1, sizeof *items), item;
    char *store = mem_alloc(2 * text.len + 2);
    struct buf one = {0};
    struct pg_items all;
    uint32_t count = 0;

    MUST(pg_items_open(type, bytes, &all));
    if (all.dimensions <= 1) {
        MUST(pg_array_read(text, store, items, &count));
        MUST(count == all.count);
        for (uint32_t i = 0; i < count; i++) {
            MUST(pg_items_next(&all, &item));
            MUST((item.ptr == NULL) == (items[i].ptr == NULL));
            buf_consume(&one, one.len);
            if (item.ptr != NULL)
                pg_binary_write(all.type, item, &one);
            MUST(one.len <= pg_item_size(item.len));
            MUST(one.len == items[i].len &&
                 (one.len == 0 || memcmp(one.data, items[i].ptr, one.len) == 0));
        }
    }
    buf_release(&one);
    mem_free(store);
    mem_free(items);
}

/* Is what was written the number, or the time, that is told? */
static void check_numbers(uint32_t type, struct span bytes, struct span text)
{
    double number, again;
    int64_t us, same;

    if (type != PG_OID_TEXT && pg_binary_double(type, bytes, &number) &&
        pg_double_read(text, &again))
        MUST(number == again || (number != number && again != again) ||
             (type == PG_OID_FLOAT4 && (float)number == (float)again));
    if (type != PG_OID_TEXT && pg_binary_time(type, bytes, &us) && pg_time_read(text, &same))
        MUST(us == same);
}

/* The first byte is the type. */
static void check_binary(struct span input)
{
    struct span bytes = {input.ptr + 1, input.len - 1}, text;
    struct buf out = {0};
    uint32_t type;
    int64_t number;
    char *read;
    size_t len = 0;

    if (input.len == 0)
        return;
    type = types[(unsigned char)input.ptr[0] % (sizeof types / sizeof types[0])];
    read = mem_alloc(bytes.len + 1);
    if (type != PG_OID_TEXT) /* libpq has a NUL behind each */
        (void)pg_binary_int(type, bytes, &number);
    (void)pg_binary_bool(type, bytes);
    if (pg_binary_text(type, bytes, &text))
        MUST(text.ptr >= bytes.ptr && text.ptr + text.len <= bytes.ptr + bytes.len);
    if (pg_binary_bytes(type, bytes, read, &len))
        MUST(len <= bytes.len);
    pg_binary_write(type, bytes, &out);
    buf_append(&out, (struct span){"", 1});
    out.len--;
    if (pg_binary_is_fine(type, bytes)) {
        check_numbers(type, bytes, buf_span(&out));
        if (pg_items_open(type, bytes, &(struct pg_items){0}))
            check_written(type, bytes, buf_span(&out));
    }
    buf_release(&out);
    mem_free(read);
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
    check_numbers_written(text);
    check_ints_written(text);
    check_texts_written(text);
    check_glance(text);
    check_binary(text);
    mem_free(copy);
    return 0;
}
