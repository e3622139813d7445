/* plugin/abi_http.c - the table `http`: the request and its reply. */
#include "base/check.h"
#include "http/body.h"
#include "http/reply_file.h"
#include "http/reply_stream.h"
#include "http/response.h"
#include "plugin/inside.h"
#include <unistd.h>

static const weft_str absent = {NULL, 0};

/* The request */

static weft_str method(weft_ctx *ctx)
{
    const struct http_request *request = abi_request(ctx, "method");

    return request != NULL ? abi_str(request->method) : absent;
}

static weft_str path(weft_ctx *ctx)
{
    const struct http_request *request = abi_request(ctx, "path");

    return request != NULL ? abi_str(request->path) : absent;
}

static weft_str param(weft_ctx *ctx, const char *name)
{
    const struct http_request *request = abi_request(ctx, "param");

    if (request == NULL || name == NULL)
        return absent;
    return abi_str(http_request_param(request, span_of(name)));
}

static weft_str query(weft_ctx *ctx, const char *name)
{
    struct http_request *request = abi_request(ctx, "query");

    if (request == NULL || name == NULL)
        return absent;
    return abi_str(http_request_query(request, span_of(name)));
}

static weft_str header(weft_ctx *ctx, const char *name)
{
    const struct http_request *request = abi_request(ctx, "header");

    if (request == NULL || name == NULL)
        return absent;
    return abi_str(http_request_header(request, span_of(name)));
}

static weft_str query_string(weft_ctx *ctx)
{
    const struct http_request *request = abi_request(ctx, "query_string");

    return request != NULL ? abi_str(request->query) : absent;
}

static weft_field header_at(weft_ctx *ctx, uint32_t index)
{
    const struct http_request *request = abi_request(ctx, "header_at");
    weft_field field = {absent, absent};

    if (request == NULL || index >= request->fields.count)
        return field;
    field.name = abi_str(request->fields.at[index].name);
    field.value = abi_str(request->fields.at[index].value);
    return field;
}

static weft_str peer(weft_ctx *ctx)
{
    struct http_request *request = abi_request(ctx, "peer");

    return request != NULL ? abi_str(http_request_peer(request)) : absent;
}

static weft_str request_id(weft_ctx *ctx)
{
    struct http_request *request = abi_request(ctx, "request_id");

    return request != NULL ? abi_str(http_request_name(request)) : absent;
}

static weft_str mount(weft_ctx *ctx)
{
    const struct http_request *request = abi_request(ctx, "mount");
    const struct abi_route *route = request != NULL ? abi_route_of(request->scope) : NULL;

    return route != NULL ? abi_str(span_of(route->instance->options.mount)) : absent;
}

static weft_str body(weft_ctx *ctx)
{
    const struct http_request *request = abi_request(ctx, "body");

    return request != NULL ? abi_str(http_request_body(request)) : absent;
}

static weft_op *body_read(weft_ctx *ctx)
{
    struct scope *scope = abi_scope(ctx, "body_read");
    struct op *op;

    if (scope == NULL)
        return NULL;
    if (abi_route_of(scope) == NULL ||
        (http_request_of(scope)->match.route->flags & HTTP_ROUTE_STREAM_BODY) == 0) {
        abi_misuse("body_read", "a ctx without a request, or a route without WEFT_ROUTE_STREAM");
        return abi_handle(op_failed(scope, ERR_STATE, NULL, SPAN("no body that is streamed")));
    }
    op = http_body_read(scope, SIZE_MAX);
    if (op->state != OP_PENDING && op->status == ERR_STATE)
        abi_misuse("body_read", "a read of this body waits already");
    return abi_handle(op);
}

static weft_str trailer(weft_ctx *ctx, const char *name)
{
    const struct http_request *request = abi_request(ctx, "trailer");

    if (request == NULL || name == NULL)
        return absent;
    return abi_str(http_field_get(&request->trailers, span_of(name)));
}

static weft_field trailer_at(weft_ctx *ctx, uint32_t index)
{
    const struct http_request *request = abi_request(ctx, "trailer_at");

    if (request == NULL || index >= request->trailers.count)
        return (weft_field){absent, absent};
    return (weft_field){abi_str(request->trailers.at[index].name),
                        abi_str(request->trailers.at[index].value)};
}

/* The reply */

static weft_status explain(weft_ctx *ctx, weft_str detail)
{
    struct http_request *request = abi_request(ctx, "explain");

    if (request == NULL)
        return WEFT_E_STATE;
    request->detail = arena_copy(&request->scope->arena, abi_span(detail));
    return WEFT_OK;
}

/* What the plugin is told about its reply. */
static weft_status outcome(enum err err, const char *call)
{
    if (err == ERR_STATE)
        abi_misuse(call, "there is a reply already; the first one stands");
    if (err == ERR_INVALID)
        abi_misuse(call, "a code, type or field that cannot be sent");
    return err == ERR_CLOSED ? WEFT_E_CANCELED : abi_status(err);
}

static weft_status set_header(weft_ctx *ctx, const char *name, weft_str value)
{
    struct http_request *request = abi_request(ctx, "set_header");

    if (request == NULL)
        return WEFT_E_STATE;
    if (name == NULL || value.ptr == NULL)
        return outcome(ERR_INVALID, "set_header");
    return outcome(http_reply_field(request, span_of(name), abi_span(value)), "set_header");
}

static weft_status reply(weft_ctx *ctx, uint32_t code, const char *type, weft_str text)
{
    struct http_request *request = abi_request(ctx, "reply");

    if (request == NULL)
        return WEFT_E_STATE;
    /* What json() could not make must not become an empty success. */
    if (text.ptr == NULL && abi_scope(ctx, "reply")->why == SCOPE_MEMORY)
        return WEFT_E_CANCELED;
    return outcome(http_reply(request, code, span_of(type), abi_span(text)), "reply");
}

static weft_status problem(weft_ctx *ctx, uint32_t code, weft_str detail)
{
    struct http_request *request = abi_request(ctx, "problem");

    if (request == NULL)
        return WEFT_E_STATE;
    return outcome(http_problem(request, code, abi_span(detail)), "problem");
}

/* The reply in pieces */

enum {
    PIECES_MAX = 64, /* of one write */
    IDLE_BYTES_MAX = 1024
};

/* What the plugin is told of a call that needs an answer in pieces. */
static weft_status stream_outcome(enum err err, const char *call)
{
    if (err == ERR_STATE)
        abi_misuse(call, "no reply has begun, it has ended, or its length is not what was said");
    if (err == ERR_INVALID)
        abi_misuse(call, "a field that cannot be sent behind a body");
    return err == ERR_CLOSED ? WEFT_E_CANCELED : abi_status(err);
}

static weft_status reply_begin(weft_ctx *ctx, uint32_t code, const char *type,
                               const weft_reply_options *given)
{
    struct http_request *request = abi_request(ctx, "reply_begin");
    struct http_stream_options options;
    weft_reply_options taken;

    if (request == NULL)
        return WEFT_E_STATE;
    if (!abi_take_options(&taken, sizeof taken, given) || (taken.flags & ~WEFT_REPLY_LIVE) != 0) {
        abi_misuse("reply_begin", "options that this host does not know");
        return WEFT_E_UNSUPPORTED;
    }
    if (taken.length > INT64_MAX || taken.idle_bytes.len > IDLE_BYTES_MAX)
        return outcome(ERR_INVALID, "reply_begin");
    options = (struct http_stream_options){.length = taken.length > 0 ? (int64_t)taken.length : -1,
                                           .is_live = (taken.flags & WEFT_REPLY_LIVE) != 0,
                                           .idle_ms = taken.idle_ms,
                                           .idle = abi_span(taken.idle_bytes)};
    return outcome(http_stream_begin(request, code, span_of(type), &options), "reply_begin");
}

static weft_op *write_pieces(weft_ctx *ctx, uint32_t count, const weft_str *pieces)
{
    struct scope *scope = abi_scope(ctx, "write");
    struct span spans[PIECES_MAX];
    struct op *op;

    if (scope == NULL)
        return NULL;
    if (count > PIECES_MAX || (count > 0 && pieces == NULL) || http_request_of(scope) == NULL) {
        abi_misuse("write", "too many pieces, none, or a ctx without a request");
        return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("nothing that can be written")));
    }
    for (uint32_t i = 0; i < count; i++)
        spans[i] = abi_span(pieces[i]);
    op = http_stream_write(scope, spans, count);
    if (op->state != OP_PENDING && op->status == ERR_STATE)
        (void)stream_outcome(ERR_STATE, "write");
    return abi_handle(op);
}

static weft_status set_trailer(weft_ctx *ctx, const char *name, weft_str value)
{
    struct http_request *request = abi_request(ctx, "set_trailer");

    if (request == NULL)
        return WEFT_E_STATE;
    if (name == NULL || value.ptr == NULL)
        return WEFT_E_INVALID;
    return stream_outcome(http_stream_trailer(request, span_of(name), abi_span(value)),
                          "set_trailer");
}

static weft_status reply_end(weft_ctx *ctx)
{
    struct http_request *request = abi_request(ctx, "reply_end");

    return request != NULL ? stream_outcome(http_reply_end(request), "reply_end") : WEFT_E_STATE;
}

/* 0 to 2 are not for sending: they come from a struct that was not filled in. */
static bool is_file(const weft_file *file)
{
    return file != NULL && file->size >= sizeof(*file) && file->fd > STDERR_FILENO;
}

static weft_status reply_file(weft_ctx *ctx, uint32_t code, const char *type,
                              const weft_file *given)
{
    struct http_request *request = abi_request(ctx, "reply_file");
    struct http_file file;
    weft_file taken;
    enum err err;

    if (request == NULL || !is_file(given) || !abi_take_options(&taken, sizeof taken, given)) {
        if (is_file(given))
            (void)close(given->fd);
        return request == NULL ? WEFT_E_STATE : outcome(ERR_INVALID, "reply_file");
    }
    file = (struct http_file){.fd = taken.fd, .offset = taken.offset, .length = taken.length};
    err = http_reply_file(request, code, span_of(type), &file);
    if (err == ERR_IO)
        abi_misuse("reply_file", "the file cannot be read, or is shorter than its length");
    return outcome(err, "reply_file");
}

const weft_http_api abi_http = {
    .size = sizeof(weft_http_api),
    .method = method,
    .path = path,
    .param = param,
    .query = query,
    .header = header,
    .peer = peer,
    .mount = mount,
    .body = body,
    .explain = explain,
    .set_header = set_header,
    .reply = reply,
    .problem = problem,
    .body_read = body_read,
    .trailer = trailer,
    .trailer_at = trailer_at,
    .query_string = query_string,
    .header_at = header_at,
    .reply_begin = reply_begin,
    .write = write_pieces,
    .set_trailer = set_trailer,
    .reply_end = reply_end,
    .filter = abi_add_filter,
    .reply_code = abi_reply_code,
    .reply_header = abi_reply_header,
    .remove_header = abi_remove_header,
    .reply_length = abi_reply_length,
    .transform = abi_transform,
    .reply_file = reply_file,
    .request_id = request_id,
};
