/* http/request.c - reading a request. */
#include "http/request.h"
#include "base/check.h"
#include "http/inside.h"

struct span http_request_header(const struct http_request *request, struct span name)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    return http_field_get(&request->fields, name);
}

struct span http_request_param(const struct http_request *request, struct span name)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    for (uint32_t i = 0; i < request->match.count; i++) {
        if (span_equal(request->match.names[i], name))
            return request->match.values[i];
    }
    return (struct span){NULL, 0};
}

struct span http_request_query(struct http_request *request, struct span name)
{
    struct span raw;
    char *out;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (!uri_query_find(request->query, name, &raw))
        return (struct span){NULL, 0};
    out = arena_bytes(&request->scope->arena, raw.len + 1);
    return (struct span){out, uri_query_decode(raw, out)};
}

struct span http_request_body(const struct http_request *request)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->body.len == 0 || http_request_streams(request))
        return SPAN("");
    return buf_span(&request->body);
}

struct span http_request_name(struct http_request *request)
{
    char text[17];

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->given_id.ptr != NULL)
        return request->given_id;
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)request->id);
    return arena_copy(&request->scope->arena, (struct span){text, 16});
}

struct span http_request_peer(struct http_request *request)
{
    char text[ADDR_TEXT_SIZE];

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    return arena_copy(&request->scope->arena,
                      (struct span){text, addr_format_host(request->peer, text)});
}

struct http_request *http_request_of(const struct scope *scope)
{
    struct http_request *request;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    if (!http_serves(scope->root))
        return NULL;
    request = scope->root->owner;
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    return request;
}
