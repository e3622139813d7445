/* http/server_conn.c - one client's connection: bytes in, states, limits, and how it ends.
 *
 *   IDLE ──▶ HEAD ──▶ BODY ──▶ IDLE         a request after the other; BODY: the rest of a message,
 *     └───────────────▶│                     be it empty
 *                      ├──▶ DISCARD ──▶ IDLE its request is answered already, the rest is dropped
 *   any of these ──▶ LAST                    no further request is read; answers still go out
 *   LAST ──▶ LINGER                          all is answered, but bytes may be under way: a close
 *                                            would reset the connection under the last answer
 *   LAST, LINGER, IDLE, or a failure in any ──▶ closed, and freed
 *
 * FIN: what was received is served. Requests whose handlers wait are canceled (the client is gone),
 * unless FIN was there when they started, or their route says FINISH; the connection is closed
 * then, and what came behind such a request is lost with it, since answers keep their order.
 */
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/body.h"
#include "http/inside.h"
#include "http/reply_stream.h"

enum {
    IN_MIN = 16384,      /* bytes that are read ahead, at least */
    LINGER_MAX = 1 << 20 /* bytes of what nobody wants, once all is answered */
};

const struct http_conn_states http_conn_states[] = {
    [CONN_IDLE] = {"idle", 1u << CONN_HEAD | 1u << CONN_BODY | 1u << CONN_LAST},
    [CONN_HEAD] = {"head", 1u << CONN_BODY | 1u << CONN_LAST},
    [CONN_BODY] = {"body", 1u << CONN_IDLE | 1u << CONN_DISCARD | 1u << CONN_LAST},
    [CONN_DISCARD] = {"discard", 1u << CONN_IDLE | 1u << CONN_LAST},
    [CONN_LAST] = {"last", 1u << CONN_LINGER},
    [CONN_LINGER] = {"linger", 0},
};

static uint64_t now_us(const struct http_conn *conn)
{
    return loop_now_us(conn->server->loop);
}

/* ---- the end ---- */

void http_conn_close(struct http_conn *conn, enum scope_why why)
{
    struct http_server *server = conn->server;

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    CHECK(!conn->is_parsing); /* who parses goes on with it */
    http_pipeline_drop(conn, why);
    timer_stop(&conn->timer);
    ready_stop(&conn->step);
    http_intake_rest(conn);
    http_intake_drop(conn);
    stream_close(&conn->stream);
    list_remove(&conn->_link);
    http_server_leave(server, conn);
    conn->magic = 0;
    heap_gave(&server->setup.tasks->heap, sizeof(*conn));
    mem_free(conn);
    CHECK(server->counts->connections_open > 0);
    server->counts->connections_open--;
    if (server->setup.on_room != NULL && !server->is_making_room)
        server->setup.on_room(server->setup.data);
    http_server_lost(server);
}

/* All is answered, and nothing more is read. The functions down to http_conn_settle() may free
 * `conn`. */
static void part(struct http_conn *conn)
{
    bool is_heard =
        !conn->must_reset && !conn->is_ended && (conn->must_linger || conn->stream.in.len > 0);

    if (is_heard) {
        http_conn_move(conn, CONN_LINGER);
        conn->since_us = http_intake_take(conn)->heard_us = now_us(conn);
        conn->intake->discarded = 0;
        buf_consume(&conn->stream.in, conn->stream.in.len);
        stream_shutdown(&conn->stream);
        http_conn_arm(conn);
        return;
    }
    stream_flush_now(&conn->stream);
    if (stream_unsent(&conn->stream) > 0)
        return;
    if (conn->must_reset)
        stream_reset(&conn->stream);
    http_conn_close(conn, SCOPE_CLIENT_GONE);
}

/* After anything that happened: is it over, and if not, how long may it go on like this? */
void http_conn_settle(struct http_conn *conn)
{
    if (conn->is_cut)
        http_conn_stop_reading(conn);
    if (conn->state == CONN_LAST && list_is_empty(&conn->pipeline))
        part(conn);
    else
        http_conn_arm(conn);
}

/* ---- what the stream, the timer and the ready list call ---- */

static void linger_on(struct http_conn *conn)
{
    CHECK(conn->intake != NULL);
    CHECK(list_is_empty(&conn->pipeline));
    conn->intake->heard_us = now_us(conn);
    conn->intake->discarded += (uint32_t)conn->stream.in.len;
    buf_consume(&conn->stream.in, conn->stream.in.len);
    if (conn->intake->discarded > LINGER_MAX)
        http_conn_close(conn, SCOPE_CLIENT_GONE);
}

static void on_data(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER) {
        linger_on(conn);
        return;
    }
    http_conn_parse(conn);
    http_conn_settle(conn);
}

/* Cancels what waits for nobody. True: there was something. */
static bool cancel_waiting(struct http_conn *conn)
{
    bool is_any = false;

    LIST_EACH (&conn->pipeline, link) {
        struct http_request *request = CONTAINER_OF(link, struct http_request, _link);

        /* One whose body still comes has not said all: its FIN is part of that. */
        if (request == conn->reading)
            request->_is_after_fin = true;
        if (!http_request_is_started(request) || request->reply == HTTP_REPLY_ENDED ||
            request->_is_after_fin || (request->match.route->flags & HTTP_ROUTE_FINISH) != 0)
            continue;
        scope_cancel(request->scope, SCOPE_CLIENT_GONE);
        is_any |= request->scope->why == SCOPE_CLIENT_GONE;
    }
    return is_any;
}

static void on_end(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    conn->is_ended = true;
    if (conn->state == CONN_LINGER) {
        http_conn_close(conn, SCOPE_CLIENT_GONE);
        return;
    }
    if (cancel_waiting(conn))
        return; /* serve.c is told, and closes the connection */
    http_conn_parse(conn);
    http_conn_settle(conn);
}

static void on_fail(struct stream *stream, enum err err)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    log_debug("http %d: %s", stream->fd, err_text(err));
    http_conn_close(conn, SCOPE_CLIENT_GONE);
}

static void on_drained(struct stream *stream)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER)
        return;
    if (conn->state == CONN_IDLE)
        http_conn_rest(conn);
    http_pipeline_drained(conn);
    http_conn_parse(conn);
    http_conn_settle(conn);
}

static void on_file(struct stream *stream, enum err err)
{
    struct http_conn *conn = CONTAINER_OF(stream, struct http_conn, stream);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    http_pipeline_file_sent(conn, err);
}

static const struct stream_handler stream_handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_fail = on_fail,
    .on_drained = on_drained,
    .on_file = on_file,
};

static void on_step(struct ready *ready)
{
    struct http_conn *conn = CONTAINER_OF(ready, struct http_conn, step);
    bool was_full = conn->stream.in.len >= conn->stream.in_max;

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_LINGER)
        return;
    http_conn_parse(conn);
    if (was_full && conn->stream.in.len < conn->stream.in_max)
        stream_resume(&conn->stream);
    http_conn_settle(conn);
}

/* ---- for the other files ---- */

void http_conn_start(struct http_server *server, int fd, const struct addr *peer)
{
    struct http_conn *conn = mem_alloc(sizeof(*conn));
    const struct http_parser_limits *limits = &server->limits;
    size_t in_max = limits->head_bytes_max > limits->trailer_bytes_max ? limits->head_bytes_max
                                                                       : limits->trailer_bytes_max;

    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    CHECK(fd >= 0);
    heap_took(&server->setup.tasks->heap, sizeof(*conn));
    conn->magic = HTTP_CONN_MAGIC;
    conn->server = server;
    conn->state = CONN_IDLE;
    list_init(&conn->pipeline);
    list_append(&server->conns, &conn->_link);
    /* The address of a client on a Unix socket has no name, but perhaps a long path. */
    conn->peer_len =
        (unsigned char)(peer->len <= sizeof(conn->peer) ? peer->len : sizeof(sa_family_t));
    memcpy(conn->peer, &peer->storage, conn->peer_len);
    stream_start(server->loop, &conn->stream, fd, &server->buffers,
                 in_max > IN_MIN ? (uint32_t)in_max : IN_MIN, &stream_handler);
    conn->since_us = now_us(conn);
    conn->must_introduce = server->options->proxy_protocol;
    http_conn_arm(conn);
    server->counts->connections++;
    server->counts->connections_open++;
}

void http_conn_wake(struct http_conn *conn)
{
    ready_start(conn->server->loop, &conn->step, on_step);
}

void http_conn_drain(struct http_conn *conn)
{
    LIST_EACH (&conn->pipeline, link) {
        http_stream_drain(CONTAINER_OF(link, struct http_request, _link));
    }
    http_conn_arm(conn);
}

void http_conn_wrote(struct http_conn *conn)
{
    stream_flush(&conn->stream);
    http_conn_arm_write(conn);
}
