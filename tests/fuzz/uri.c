/* Goal: a target's parts lie within it, no path leads above its root, and what is decoded is no
 *       longer than it was. */
#include "http/uri.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

#include <string.h>

static void check_segments(struct span path)
{
    static struct span segments[URI_SEGMENTS_MAX];
    char *out = mem_alloc(path.len + 1);
    uint32_t count = 0;
    size_t sum = 0;

    if (uri_segments(path, out, segments, &count) == ERR_OK) {
        MUST(count <= URI_SEGMENTS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            MUST(segments[i].ptr >= out && segments[i].ptr + segments[i].len <= out + path.len);
            MUST(memchr(segments[i].ptr, '\0', segments[i].len) == NULL);
            MUST(!(segments[i].len == 2 && memcmp(segments[i].ptr, "..", 2) == 0));
            MUST(!(segments[i].len == 1 && segments[i].ptr[0] == '.'));
            sum += segments[i].len;
        }
        MUST(sum <= path.len);
    }
    mem_free(out);
}

static void check_query(struct span query)
{
    char *out = mem_alloc(query.len + 1);
    struct span raw;

    MUST(uri_query_decode(query, out) <= query.len);
    if (uri_query_find(query, SPAN("a"), &raw))
        MUST(raw.len == 0 || (raw.ptr >= query.ptr && raw.ptr + raw.len <= query.ptr + query.len));
    mem_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span target = {(const char *)data, size};
    struct uri uri;

    (void)uri_is_host(target);
    check_query(target);
    if (!uri_split(target, &uri))
        return 0;
    MUST(uri.path.len > 0 && uri.path.len <= size + 1);
    MUST(memchr(uri.path.ptr, '?', uri.path.len) == NULL);
    if (uri.path.ptr[0] == '/')
        check_segments(uri.path);
    return 0;
}
