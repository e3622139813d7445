/* Goal: what weft_web.h reads of a client's fields lies within them, whatever they are: cookies as
 * another reader finds them, pairs, preferences, dates, tags and ranges. The first byte is where
 * the field ends, and a query begins. */
#include "fuzz/fuzz.h"
#include "weft_web.h"

#include <stdlib.h>

const weft_api *weft__api;

enum { KEPT_MAX = 4096 };

static void *kept[KEPT_MAX];
static size_t kept_count;
static weft_str field;

/* ---- a host that has one field ---- */

static void *take(weft_ctx *ctx, size_t size)
{
    (void)ctx;
    MUST(kept_count < KEPT_MAX);
    kept[kept_count] = calloc(1, size > 0 ? size : 1);
    return kept[kept_count++];
}

static void let_go(void)
{
    while (kept_count > 0)
        free(kept[--kept_count]);
}

static weft_str get_field(weft_ctx *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return field;
}

static weft_str get_method(weft_ctx *ctx)
{
    (void)ctx;
    return weft_cstr("GET");
}

static const weft_core_api core = {.size = sizeof core, .alloc = take};
static const weft_http_api http = {.size = sizeof http, .header = get_field, .method = get_method};
static const weft_api api = {.size = sizeof api, .core = &core, .http = &http};

/* ---- cookies ---- */

/* The same as weft_cookie(), read byte by byte. */
static weft_str other_cookie(weft_str list, const char *name)
{
    size_t len = strlen(name), at = 0;

    while (at <= list.len) {
        size_t begin = at, end;
        while (at < list.len && list.ptr[at] != ';')
            at++;
        end = at++;
        while (begin < end && (list.ptr[begin] == ' ' || list.ptr[begin] == '\t'))
            begin++;
        while (end > begin && (list.ptr[end - 1] == ' ' || list.ptr[end - 1] == '\t'))
            end--;
        if (end - begin <= len || memcmp(list.ptr + begin, name, len) != 0 ||
            list.ptr[begin + len] != '=')
            continue;
        begin += len + 1;
        if (end - begin >= 2 && list.ptr[begin] == '"' && list.ptr[end - 1] == '"')
            return (weft_str){list.ptr + begin + 1, end - begin - 2};
        return (weft_str){list.ptr + begin, end - begin};
    }
    return (weft_str){NULL, 0};
}

static void read_cookies(void)
{
    static const char *const names[] = {"a", "id", "session"};

    for (size_t i = 0; i < 3; i++) {
        weft_str cookie = weft_cookie(NULL, names[i]), other = other_cookie(field, names[i]);

        MUST(weft_equal(cookie, other));
        MUST(cookie.ptr == NULL || cookie.ptr[cookie.len] == '\0');
    }
}

/* ---- the rest ---- */

static void read_pairs(weft_str query)
{
    weft_str name, value;
    weft_pairs pairs;
    size_t sum = 0;

    weft_pairs_begin(&pairs, NULL, query);
    while (kept_count + 8 < KEPT_MAX && weft_pairs_next(&pairs, &name, &value))
        sum += name.len + value.len;
    MUST(sum <= query.len);
}

static void read_preferences(void)
{
    static const char *const offers[] = {"text/html", "gzip", "identity", "en-GB"};
    int32_t found = weft_prefers(NULL, "Accept", 4, offers);

    MUST(found >= -1 && found < 4);
    MUST(weft_media_type(NULL).len <= field.len);
}

static void read_conditions(void)
{
    weft_str etag = weft_cstr("\"tag\"");
    uint64_t first, len;
    uint32_t code = weft_range(NULL, etag, 1000000000, 10000, &first, &len);
    int64_t time = weft_http_time(field);

    MUST(code == 200 || code == 206 || code == 416);
    MUST(code != 206 || (len > 0 && first + len <= 10000));
    code = weft_precondition(NULL, etag, 1000000000);
    MUST(code == 0 || code == 304 || code == 412);
    if (time >=
        0) /* what is a date is written the same way again, whichever of the three forms it had */
        MUST(weft_http_time(weft_http_date(NULL, time)) == time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cut = size > 0 ? data[0] : 0;
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = '\0';
    if (cut > size)
        cut = size;
    weft__api = &api;
    field = (weft_str){text, cut};
    read_cookies();
    read_preferences();
    read_conditions();
    read_pairs((weft_str){text + cut, size - cut});
    let_go();
    free(text);
    return 0;
}
