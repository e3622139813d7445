/* http/filter.c - the list of filters, and what they do to an answer. */
#include "http/filter.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/inside.h"
#include "http/response.h"
#include "http/uri.h"
#include <string.h>

/* ---- the list ---- */

/* Takes the next segment of `*prefix`, which begins with '/'. */
static struct span take_segment(struct span *prefix)
{
    const char *start = prefix->ptr + 1;
    const char *slash = memchr(start, '/', prefix->len - 1);
    struct span segment = {start, slash != NULL ? (size_t)(slash - start) : prefix->len - 1};

    prefix->ptr += segment.len + 1;
    prefix->len -= segment.len + 1;
    return segment;
}

/* Compared with what is decoded: no path could bring a segment that is empty, a dot or two. */
static bool is_prefix(struct span prefix)
{
    if (prefix.len > 0 && prefix.ptr[0] != '/')
        return false;
    while (prefix.len > 0) {
        struct span segment = take_segment(&prefix);

        if (segment.len == 0 || span_equal(segment, SPAN(".")) || span_equal(segment, SPAN("..")))
            return false;
        for (size_t i = 0; i < segment.len; i++) {
            unsigned char byte = (unsigned char)segment.ptr[i];
            if (byte <= ' ' || byte == 0x7f || byte == '?' || byte == '#')
                return false;
        }
    }
    return true;
}

enum err http_filters_add(struct http_filters *filters, const struct http_filter *filter)
{
    struct http_filter *made;
    uint32_t i = filters->count;

    CHECK(filter->ask != NULL || filter->see != NULL);
    if (!is_prefix(span_of(filter->prefix)))
        return ERR_SYNTAX;
    if (filters->count == HTTP_FILTERS_MAX)
        return ERR_TOO_BIG;
    made = mem_alloc(sizeof *made);
    *made = *filter;
    made->prefix = mem_copy(span_of(filter->prefix));
    for (; i > 0 && filters->at[i - 1]->order > made->order; i--)
        filters->at[i] = filters->at[i - 1];
    filters->at[i] = made;
    filters->count++;
    return ERR_OK;
}

static void free_filter(struct http_filter *filter)
{
    mem_free(filter->prefix);
    mem_free(filter);
}

void http_filters_remove_owner(struct http_filters *filters, const char *owner)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < filters->count; i++) {
        if (strcmp(filters->at[i]->owner, owner) == 0)
            free_filter(filters->at[i]);
        else
            filters->at[kept++] = filters->at[i];
    }
    filters->count = kept;
}

void http_filters_clear(struct http_filters *filters)
{
    for (uint32_t i = 0; i < filters->count; i++)
        free_filter(filters->at[i]);
    filters->count = 0;
}

static bool lies_below(const char *prefix, const struct span *segments, uint32_t count)
{
    struct span rest = span_of(prefix);

    for (uint32_t i = 0; rest.len > 0; i++) {
        if (i == count || !span_equal(take_segment(&rest), segments[i]))
            return false;
    }
    return true;
}

void http_filters_match(const struct http_filters *filters, struct http_request *request,
                        const struct span *segments, uint32_t count)
{
    for (uint32_t i = 0; i < filters->count; i++) {
        if (!lies_below(filters->at[i]->prefix, segments, count))
            continue;
        if (request->filters == NULL)
            request->filters = arena_alloc(&request->scope->arena,
                                           (filters->count - i) * sizeof *request->filters);
        request->filters[request->filter_count++] = filters->at[i];
    }
}

/* ---- an answer ---- */

void http_filters_see(struct http_request *request)
{
    CHECK(request->reply == HTTP_REPLY_SEEN);
    for (uint32_t i = request->filter_count; i-- > 0;) {
        if (request->filters[i]->see != NULL)
            request->filters[i]->see(request, request->filters[i]);
    }
}

enum err http_reply_remove_field(struct http_request *request, struct span name)
{
    uint32_t kept = 0;

    if (request->reply != HTTP_REPLY_SEEN)
        return ERR_STATE;
    for (uint32_t i = 0; i < request->reply_field_count; i++) {
        if (!span_equal_nocase(request->reply_fields[i].name, name))
            request->reply_fields[kept++] = request->reply_fields[i];
    }
    request->reply_field_count = kept;
    if (span_equal_nocase(name, SPAN("Content-Type")))
        request->reply_type = (struct span){NULL, 0};
    return ERR_OK;
}

/* A change of a body, and what is called for it. */
struct http_transform {
    http_transform_fn *fn; /* runs it */
    void *data;            /* for fn */
};

enum err http_reply_transform(struct http_request *request, http_transform_fn *fn, void *data)
{
    CHECK(fn != NULL);
    if (request->reply != HTTP_REPLY_SEEN)
        return ERR_STATE;
    if (request->_transform_count == HTTP_TRANSFORMS_MAX || request->_file != NULL)
        return ERR_UNSUPPORTED;
    if (request->_transforms == NULL)
        request->_transforms =
            arena_alloc(&request->scope->arena, HTTP_TRANSFORMS_MAX * sizeof *request->_transforms);
    request->_transforms[request->_transform_count++] = (struct http_transform){fn, data};
    return ERR_OK;
}

bool http_filters_change(struct http_request *request, struct span in, uint32_t flags,
                         struct span *out)
{
    *out = in;
    for (uint32_t i = 0; i < request->_transform_count; i++) {
        const struct http_transform *transform = &request->_transforms[i];

        in = *out;
        *out = SPAN("");
        if (!transform->fn(request, transform->data, in, flags, out))
            return false;
    }
    return true;
}
