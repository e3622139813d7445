/* http/response.c - answering a request.
 *
 *   NONE ──begin──▶ BEGUN ──write──▶ BEGUN ──end──▶ ENDED
 *
 * What was written for a client that has left is dropped, but the states are gone through all the
 * same, so that a handler sees one difference only: ERR_CLOSED.
 */
#include "http/response.h"
#include "base/check.h"
#include "http/filter.h"
#include "http/inside.h"

/* The room for fields doubles from here; the count alone says how much there is. */
enum { FIELDS_FIRST = 8 };

bool http_reply_is_own_field(struct span name)
{
    static const struct span names[] = {
        {"Connection", 10}, {"Content-Length", 14},    {"Date", 4},
        {"Keep-Alive", 10}, {"Proxy-Connection", 16},  {"Server", 6},
        {"Trailer", 7},     {"Transfer-Encoding", 17}, {"Upgrade", 7},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (span_equal_nocase(name, names[i]))
            return true;
    }
    return false;
}

static struct http_field *next_field(struct http_request *request)
{
    uint32_t count = request->reply_field_count;
    struct http_field *at;

    if (count == 0 || (count >= FIELDS_FIRST && (count & (count - 1)) == 0)) {
        at = scope_alloc(request->scope,
                         (count == 0 ? FIELDS_FIRST : 2 * (size_t)count) * sizeof(*at));
        if (count > 0)
            memcpy(at, request->reply_fields, count * sizeof(*at));
        request->reply_fields = at;
    }
    return &request->reply_fields[request->reply_field_count++];
}

enum err http_reply_field(struct http_request *request, struct span name, struct span value)
{
    struct http_field *field;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply > HTTP_REPLY_SEEN)
        return ERR_STATE;
    if (!http_is_token(name) || !http_is_field_value(value) || http_reply_is_own_field(name))
        return ERR_INVALID;
    field = next_field(request);
    field->name = arena_copy(&request->scope->arena, name);
    field->value = value.len > 0 ? arena_copy(&request->scope->arena, value) : SPAN("");
    return ERR_OK;
}

static bool has_left(const struct http_request *request)
{
    return request->conn == NULL || request->scope->why == SCOPE_CLIENT_GONE;
}

/* Nobody hears the end of it: one that only went on to finish is over. */
static enum err end_unheard(struct http_request *request)
{
    request->reply = HTTP_REPLY_ENDED;
    if (request->conn == NULL && !request->_is_over)
        http_request_over(request, SCOPE_CLIENT_GONE);
    return ERR_CLOSED;
}

/* The head as the handler has it, seen by the filters. */
static enum err prepare(struct http_request *request, uint32_t code, struct span type,
                        int64_t length)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply != HTTP_REPLY_NONE)
        return ERR_STATE;
    if (code < 200 || code > 599 || length < -1 || !http_is_field_value(type))
        return ERR_INVALID;
    request->code = code;
    request->reply_type = type;
    request->_reply_left = length;
    if (request->server->options->request_id[0] != '\0')
        http_reply_introduce(request);
    if (request->filter_count > 0 && !has_left(request)) {
        request->reply = HTTP_REPLY_SEEN;
        http_filters_see(request);
    }
    request->reply = HTTP_REPLY_BEGUN;
    return has_left(request) ? ERR_CLOSED : ERR_OK;
}

enum err http_reply_begin(struct http_request *request, uint32_t code, struct span type,
                          int64_t length)
{
    enum err err = prepare(request, code, type, length);

    if (err != ERR_OK)
        return err;
    if (request->_transform_count > 0)
        request->_reply_left = -1; /* nobody knows how much comes out */
    http_pipeline_begin(request, request->reply_type);
    return ERR_OK;
}

/* Sends what becomes of `bytes`. */
static enum err write_changed(struct http_request *request, struct span bytes, uint32_t flags)
{
    if (request->_has_no_body)
        return ERR_OK;
    if (request->_is_spoiled || !http_filters_change(request, bytes, flags, &bytes)) {
        request->_is_spoiled = true;
        request->why = "transform";
        return ERR_IO;
    }
    http_pipeline_write(request, bytes);
    return ERR_OK;
}

/* Takes `size` bytes off the declared length, if there is one. */
static bool take_length(struct http_request *request, size_t size)
{
    if (request->_reply_left < 0)
        return true;
    if (size > (uint64_t)request->_reply_left)
        return false;
    request->_reply_left -= (int64_t)size;
    return true;
}

enum err http_reply_write(struct http_request *request, struct span bytes)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply != HTTP_REPLY_BEGUN || !take_length(request, bytes.len))
        return ERR_STATE;
    if (has_left(request))
        return ERR_CLOSED;
    if (request->_transform_count > 0)
        return write_changed(request, bytes, HTTP_PIECE_FLUSH);
    http_pipeline_write(request, bytes);
    return ERR_OK;
}

/* In one piece, as what is not changed goes out. */
static enum err write_all_changed(struct http_request *request, const struct span *pieces,
                                  uint32_t count)
{
    struct buf whole;
    enum err err;

    buf_init(&whole, &request->server->buffers);
    for (uint32_t i = 0; i < count; i++)
        buf_append(&whole, pieces[i]);
    err = write_changed(request, buf_span(&whole), HTTP_PIECE_FLUSH);
    buf_release(&whole);
    return err;
}

enum err http_reply_write_all(struct http_request *request, const struct span *pieces,
                              uint32_t count)
{
    size_t size = 0;

    for (uint32_t i = 0; i < count; i++)
        size += pieces[i].len;
    if (request->reply != HTTP_REPLY_BEGUN || !take_length(request, size))
        return ERR_STATE;
    if (has_left(request))
        return ERR_CLOSED;
    if (request->_transform_count > 0)
        return write_all_changed(request, pieces, count);
    http_pipeline_write_all(request, pieces, count, size);
    return ERR_OK;
}

enum err http_reply_end(struct http_request *request)
{
    bool is_short;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply != HTTP_REPLY_BEGUN)
        return ERR_STATE;
    if (has_left(request))
        return end_unheard(request);
    if (request->_transform_count > 0 &&
        write_changed(request, SPAN(""), HTTP_PIECE_LAST) != ERR_OK) {
        http_reply_abandon(request);
        return ERR_IO;
    }
    is_short = request->_reply_left > 0 && !request->_has_no_body;
    request->reply = HTTP_REPLY_ENDED;
    http_pipeline_end(request, is_short);
    return is_short ? ERR_STATE : ERR_OK;
}

/* All of it at once, so that its length is known. Of one that is not sent it stays unknown. */
static bool change_whole(struct http_request *request, struct span *body)
{
    bool is_sent = !request->is_head && !http_is_bodyless(request->code) && request->code != 205;

    if (is_sent && !http_filters_change(request, *body, HTTP_PIECE_LAST, body))
        return false;
    request->_reply_left = is_sent ? (int64_t)body->len : -1;
    request->_transform_count = 0;
    if (!is_sent)
        *body = SPAN("");
    return true;
}

enum err http_reply(struct http_request *request, uint32_t code, struct span type, struct span body)
{
    enum err err = prepare(request, code, type, (int64_t)body.len);

    if (err == ERR_CLOSED) /* nobody hears it, but it ends */
        return http_reply_end(request);
    if (err != ERR_OK)
        return err;
    if (request->_transform_count > 0 && !change_whole(request, &body)) {
        http_pipeline_begin(request, request->reply_type);
        request->why = "transform";
        http_reply_abandon(request);
        return ERR_IO;
    }
    http_pipeline_write_whole(request, request->reply_type, body);
    (void)take_length(request, body.len); /* it is as long as that */
    return http_reply_end(request);
}

void http_reply_abandon(struct http_request *request)
{
    CHECK(request->reply == HTTP_REPLY_BEGUN);
    if (has_left(request)) {
        (void)end_unheard(request);
        return;
    }
    request->reply = HTTP_REPLY_ENDED;
    http_pipeline_end(request, true);
}
