/* http/trailer.c - the fields behind a chunked body (RFC 9110 section 6.5).
 *
 * The guard has passed the section. Its fields are kept apart from the head's: what they say of
 * framing, routing or who somebody is counts for nothing.
 */
#include "http/trailer.h"
#include "base/check.h"
#include "http/inside.h"

/* The first line of `section`, which is not its last. */
static struct span take_line(struct span *section)
{
    const char *end = memchr(section->ptr, '\r', section->len);
    struct span line;

    CHECK(end != NULL); /* the guard saw to it */
    line = (struct span){section->ptr, (size_t)(end - section->ptr)};
    section->ptr += line.len + 2;
    section->len -= line.len + 2;
    return line;
}

static uint32_t count_lines(struct span section)
{
    uint32_t count = 0;

    for (; section.len > 2; count++)
        (void)take_line(&section);
    return count;
}

static void read_line(struct arena *arena, struct span line, struct http_field *field)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    size_t size;

    CHECK(colon != NULL);
    size = (size_t)(colon - line.ptr);
    field->name = arena_copy(arena, (struct span){line.ptr, size});
    field->value = arena_copy(arena, span_trim((struct span){colon + 1, line.len - size - 1}));
}

bool http_trailer_fields(struct arena *arena, struct span section, uint32_t fields_max,
                         struct http_fields *fields)
{
    uint32_t count = count_lines(section);
    struct http_field *at;

    if (count > fields_max)
        return false;
    if (count == 0) {
        *fields = (struct http_fields){NULL, 0};
        return true;
    }
    at = arena_alloc(arena, count * sizeof(*at));
    for (uint32_t i = 0; i < count; i++)
        read_line(arena, take_line(&section), &at[i]);
    *fields = (struct http_fields){at, count};
    return true;
}

bool http_trailer_take(struct http_request *request, struct span section)
{
    return http_trailer_fields(&request->scope->arena, section,
                               request->server->options->fields_max, &request->trailers);
}
