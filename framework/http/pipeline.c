/* http/pipeline.c - answers leave in the order of their requests (RFC 9112 section 9.3).
 *
 *   pipeline:  first ──▶ second ──▶ third
 *                │          └──────────┴── each writes into its own _out
 *                └── writes into the stream
 *
 * Once the first one's answer has ended it is over, and what the next one has written so far
 * follows; before that goes its file, if there is one. This is where HTTP/1.1 frames bodies.
 */
#include "base/check.h"
#include "http/inside.h"
#include "http/reply_file.h"
#include "http/reply_stream.h"

static struct http_request *at(struct list *link)
{
    return CONTAINER_OF(link, struct http_request, _link);
}

static bool is_first(const struct http_conn *conn, const struct http_request *request)
{
    return conn->pipeline.next == &request->_link;
}

void http_pipeline_add(struct http_conn *conn, struct http_request *request)
{
    CHECK(request->conn == conn);
    CHECK(!conn->is_cut); /* whatever comes behind that answer gets none */
    list_append(&conn->pipeline, &request->_link);
    conn->open++;
    conn->unsafe += !http_is_safe(request->method);
}

void http_pipeline_remove(struct http_conn *conn, struct http_request *request)
{
    CHECK(request->conn == conn);
    CHECK(conn->open > 0);
    CHECK(conn->unsafe <= conn->open);
    list_remove(&request->_link);
    conn->open--;
    conn->unsafe -= !http_is_safe(request->method);
    if (conn->held == request)
        conn->held = NULL;
    if (conn->reading == request)
        conn->reading = NULL;
    request->conn = NULL;
}

bool http_pipeline_may_start(const struct http_conn *conn, const struct http_request *request)
{
    return is_first(conn, request) || (conn->unsafe == 0 && http_is_safe(request->method));
}

/* What was written but never left, of a connection that goes. */
static void take_back(struct http_conn *conn)
{
    uint64_t unsent = stream_unsent(&conn->stream);

    LIST_EACH (&conn->pipeline, link) {
        struct http_request *request = at(link);
        uint64_t lost = is_first(conn, request) ? unsent : request->_out.len;

        request->_out_bytes -= lost < request->_out_bytes ? lost : request->_out_bytes;
        http_file_count(request);
    }
}

void http_pipeline_drop(struct http_conn *conn, enum scope_why why)
{
    struct list *link;

    take_back(conn);
    while ((link = list_first(&conn->pipeline)) != NULL) {
        struct http_request *request = at(link);

        http_pipeline_remove(conn, request);
        http_request_lose(request, why);
    }
}

/* ---- bytes out ---- */

static struct buf *out_of(struct http_request *request)
{
    struct http_conn *conn = request->conn;

    return is_first(conn, request) ? &conn->stream.out : &request->_out;
}

/* `before` bytes were in `out` before something was written. */
static void wrote(struct http_request *request, const struct buf *out, size_t before)
{
    request->_out_bytes += out->len - before;
    if (out == &request->conn->stream.out)
        http_conn_wrote(request->conn);
}

void http_pipeline_continue(struct http_request *request)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    http_write_continue(out);
    wrote(request, out, before);
}

static enum http_framing framing_of(const struct http_request *request)
{
    if (http_is_bodyless(request->code))
        return HTTP_FRAMED_NOT;
    if (request->code == 205 || request->_reply_left >= 0)
        return HTTP_FRAMED_BY_LENGTH;
    return request->is_http10 ? HTTP_FRAMED_BY_CLOSE : HTTP_FRAMED_BY_CHUNKS;
}

/* Is nothing behind `request` that the connection must stay for? */
static bool is_last(const struct http_conn *conn, const struct http_request *request)
{
    return conn->pipeline.prev == &request->_link && conn->stream.in.len == 0;
}

static enum http_persistence persistence_of(const struct http_request *request)
{
    if (request->must_close)
        return HTTP_CLOSES;
    return request->is_http10 ? HTTP_PERSISTS_IN_10 : HTTP_PERSISTS;
}

static void put_head(struct http_request *request, struct buf *out, struct span type)
{
    struct http_conn *conn = request->conn;
    struct http_server *server = conn->server;
    struct http_answer answer = {.code = request->code,
                                 .type = type,
                                 .fields = request->reply_fields,
                                 .field_count = request->reply_field_count};

    CHECK(request->reply == HTTP_REPLY_BEGUN);
    answer.framing = framing_of(request);
    answer.length = request->code == 205 ? 0 : (uint64_t)request->_reply_left;
    if (answer.framing == HTTP_FRAMED_BY_CLOSE || (server->is_draining && is_last(conn, request)) ||
        ((request->_stream == NULL || request->_expects_word) && http_conn_must_cut(conn, request)))
        request->must_close = true;
    answer.persistence = persistence_of(request);
    request->_framing = (uint8_t)answer.framing;
    request->_has_no_body =
        request->is_head || answer.framing == HTTP_FRAMED_NOT || request->code == 205;
    http_date_refresh(&server->date, loop_now_us(server->loop));
    http_write_head(out, &answer, &server->date);
}

/* False: nothing of it is sent. */
static bool put_body(struct http_request *request, struct buf *out, struct span bytes)
{
    if (request->_has_no_body || bytes.len == 0)
        return false;
    request->reply_bytes += bytes.len;
    if (request->_framing == HTTP_FRAMED_BY_CHUNKS)
        http_write_chunk(out, bytes);
    else
        buf_append(out, bytes);
    return true;
}

void http_pipeline_begin(struct http_request *request, struct span type)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    put_head(request, out, type);
    wrote(request, out, before);
}

void http_pipeline_write(struct http_request *request, struct span bytes)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    if (put_body(request, out, bytes))
        wrote(request, out, before);
}

void http_pipeline_write_whole(struct http_request *request, struct span type, struct span body)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    put_head(request, out, type);
    (void)put_body(request, out, body);
    wrote(request, out, before);
}

void http_pipeline_write_all(struct http_request *request, const struct span *pieces,
                             uint32_t count, size_t size)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    if (request->_has_no_body || size == 0)
        return;
    request->reply_bytes += size;
    if (request->_framing == HTTP_FRAMED_BY_CHUNKS)
        http_write_chunk_head(out, size);
    for (uint32_t i = 0; i < count; i++)
        buf_append(out, pieces[i]);
    if (request->_framing == HTTP_FRAMED_BY_CHUNKS)
        buf_append(out, SPAN("\r\n"));
    wrote(request, out, before);
}

/* ---- room ---- */

size_t http_pipeline_unsent(const struct http_request *request)
{
    const struct http_conn *conn = request->conn;

    return is_first(conn, request) ? stream_unsent(&conn->stream) : request->_out.len;
}

enum http_room http_pipeline_room(const struct http_request *request)
{
    const struct http_conn *conn = request->conn;

    if (!is_first(conn, request))
        return HTTP_ROOM_LATER;
    if (stream_unsent(&conn->stream) < HTTP_STREAM_LOW)
        return HTTP_ROOM_NOW;
    return stream_is_blocked(&conn->stream) ? HTTP_ROOM_LATER : HTTP_ROOM_SOON;
}

void http_pipeline_drained(struct http_conn *conn)
{
    struct list *link = list_first(&conn->pipeline);

    if (link != NULL)
        http_stream_room(at(link));
}

/* ---- the order ---- */

/* What `request`, now the first, has written so far. */
static void follow(struct http_conn *conn, struct http_request *request)
{
    if (request->_out.len > 0) {
        buf_append(&conn->stream.out, buf_span(&request->_out));
        http_conn_wrote(conn);
    }
    buf_release(&request->_out);
    http_stream_room(request);
}

static void advance(struct http_conn *conn)
{
    struct list *link;

    while ((link = list_first(&conn->pipeline)) != NULL && !conn->is_cut) {
        struct http_request *first = at(link);

        if (first->_out.len > 0)
            follow(conn, first);
        if (first->reply != HTTP_REPLY_ENDED)
            break;
        if (conn->reading == first)
            http_conn_skip_body(conn, first);
        if (first->_file != NULL && http_file_is_pending(first)) {
            http_file_send(first);
            break;
        }
        conn->is_cut = first->must_close;
        conn->must_reset |= first->_is_broken;
        http_pipeline_remove(conn, first);
        http_request_over(first, SCOPE_REPLIED);
    }
    if (conn->is_cut) /* whatever was read behind that answer gets none */
        http_pipeline_drop(conn, SCOPE_CLIENT_GONE);
    if (list_is_empty(&conn->pipeline) && conn->state == CONN_IDLE)
        http_conn_rest(conn);
    if (!conn->is_parsing)
        http_conn_wake(conn);
}

void http_pipeline_file_sent(struct http_conn *conn, enum err err)
{
    CHECK(!list_is_empty(&conn->pipeline));
    http_file_sent(at(conn->pipeline.next), err);
    advance(conn);
}

/* Did the client say that it takes trailers (RFC 9110 section 10.1.4)? */
static bool takes_trailers(const struct http_request *request)
{
    for (uint32_t i = 0; i < request->fields.count; i++) {
        const struct http_field *field = &request->fields.at[i];

        if (span_equal_nocase(field->name, SPAN("TE")) &&
            http_has_token(field->value, SPAN("trailers")))
            return true;
    }
    return false;
}

static void end_chunks(const struct http_request *request, struct buf *out)
{
    struct http_fields trailers = http_stream_trailers(request);

    if (trailers.count > 0 && takes_trailers(request))
        http_write_last_chunk_with(out, &trailers);
    else
        http_write_last_chunk(out);
}

void http_pipeline_end(struct http_request *request, bool is_short)
{
    struct buf *out = out_of(request);
    size_t before = out->len;

    CHECK(request->reply == HTTP_REPLY_ENDED);
    if (is_short || (request->_stream != NULL && http_conn_must_cut(request->conn, request)))
        request->must_close = true;
    if (is_short)
        request->_is_broken = request->_framing == HTTP_FRAMED_BY_CLOSE;
    else if (request->_framing == HTTP_FRAMED_BY_CHUNKS && !request->_has_no_body)
        end_chunks(request, out);
    if (out->len > before)
        wrote(request, out, before);
    if (is_first(request->conn, request))
        advance(request->conn);
    else
        scope_cancel(request->scope, SCOPE_REPLIED);
}
