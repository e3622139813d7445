/* http/inside.h - what the files of this room ask of one another, and nobody else does.
 *
 *   server.c ──▶ server_conn.c (states, the socket) ──▶ conn_read.c (bytes in) ──▶ serve.c
 *                   ▲            └──▶ conn_limits.c (time)                     (a request's life)
 *                   └── pipeline.c (answers out, in order) ◀── response.c, problem.c ◀──┘
 *
 * What request.c, response.c, problem.c and body.c know of a connection are the functions below: a
 * connection of another protocol would offer the same.
 * Loop:   of one loop.
 * Memory: a connection is on the heap from http_conn_start() to http_conn_close(), which is never
 *         called while one of its requests is being parsed or answered.
 */
#ifndef WEFT_HTTP_INSIDE_H
#define WEFT_HTTP_INSIDE_H

#include "base/check.h"
#include "base/log.h"
#include "base/table.h"
#include "http/parser.h"
#include "http/request.h"
#include "http/server.h"
#include "http/shed.h"
#include "http/writer.h"
#include "net/ranges.h"
#include "net/stream.h"
#include <assert.h>

/* A worker's HTTP side. */
struct http_server {
    uint32_t magic;                     /* HTTP_SERVER_MAGIC */
    uint32_t living;                    /* requests whose scope has not ended */
    struct http_server_setup setup;     /* as given */
    struct loop *loop;                  /* of setup.tasks */
    const struct http_options *options; /* of setup */
    struct buf_pool buffers;            /* lent to connections and bodies */
    struct http_head *head;             /* shared by all parsers */
    struct http_intake *intakes;        /* free ones */
    uint32_t intakes_count;             /* how many these are */
    struct http_parser_limits limits;   /* of all parsers */
    struct addr_ranges trusted;         /* options->trusted_proxies, taken apart */
    struct http_date date;              /* shared by all answers */
    struct list conns;                  /* all of them; see room.c */
    struct table clients;               /* connections of each address, where they are counted */
    struct timer retry;                 /* looks for room while it is full */
    bool is_making_room;                /* one is closed for another that is being accepted */
    struct http_shed shed;              /* measures load; options->shed_after_ms */
    struct list lost;                   /* requests that go on without a connection */
    uint64_t ids;                       /* of requests, given out */
    struct http_server_counts *counts;  /* what happened: setup.counts, or own_counts */
    struct http_server_counts own_counts;
    struct ready drained;           /* tells on_drained */
    void (*on_drained)(void *data); /* NULL: not draining, or told */
    void *on_drained_data;          /* for it */
    uint64_t draining_since_ms;     /* loop time; see is_draining */
    bool is_draining;               /* http_server_drain() */
};

#define HTTP_SERVER_MAGIC 0x68747376u

/* Where a connection is with what it reads; see server_conn.c. */
enum http_conn_state { CONN_IDLE, CONN_HEAD, CONN_BODY, CONN_DISCARD, CONN_LAST, CONN_LINGER };

/* What reading a message takes, and nothing else does: a connection has one while it is at one. */
struct http_intake {
    struct http_intake *_next; /* in server->intakes, where it is free */
    struct http_parser parser; /* what comes */
    uint64_t heard_us;         /* loop time: the last byte of a body, or while lingering */
    uint64_t body_since_us;    /* loop time: when the body began, and what we held it up, added */
    uint64_t body_bytes;       /* of it, so far */
    uint32_t discarded;        /* bytes of a body that nobody wants, or while lingering */
};

/* One client. */
struct http_conn {
    uint32_t magic;               /* HTTP_CONN_MAGIC */
    uint8_t state;                /* enum http_conn_state */
    bool is_parsing;              /* the parse loop is on the stack: nobody needs to wake it */
    bool is_ended;                /* the client sent FIN */
    bool is_cut;                  /* the answer that was sent last ends the connection */
    bool is_final;                /* the request that is read is the client's last */
    bool must_introduce;          /* the PROXY protocol's header has not come */
    bool must_linger;             /* bytes that were not read may be under way */
    bool must_reset;              /* its end has to look like a failure */
    uint32_t requests;            /* so far, where they are counted */
    uint32_t open;                /* requests in the pipeline */
    uint32_t unsafe;              /* of them with methods that are not safe */
    struct http_server *server;   /* whose */
    struct list _link;            /* among the server's */
    struct list pipeline;         /* requests whose answers are not complete, in their order */
    struct http_request *reading; /* the one whose body comes; NULL */
    struct http_request *held;    /* the newest, if it must wait for those before it; NULL */
    struct http_intake *intake;   /* of the message that is read; NULL: between two */
    struct stream stream;         /* the socket */
    struct timer timer;           /* whichever limit is next, or earlier */
    struct ready step;            /* goes on after an answer */
    uint64_t since_us;            /* loop time: when it became idle, when the head began, ... */
    unsigned char peer_len;       /* bytes of peer */
    unsigned char peer[28];       /* the client's address: an IPv6 one at most */
};

#define HTTP_CONN_MAGIC 0x6874636eu

/* All that an idle connection has is this and its place in the loop's table. Ten thousand of them
 * are to cost no more than nginx's do, 525 bytes each: what only a request needs stays with the
 * request, or comes with an intake. */
static_assert(sizeof(struct http_conn) <= 472, "an idle connection is small");

/* ---- server_conn.c ---- */

/* Takes over `fd`. */
void http_conn_start(struct http_server *server, int fd, const struct addr *peer);

/* Closes it and frees it; its requests lose it (`why` for those that are not over). */
void http_conn_close(struct http_conn *conn, enum scope_why why);

/* Has it look, soon, at what it could not do before: an answer was completed, or room was made. */
void http_conn_wake(struct http_conn *conn);

/* The server drains: an idle one gets its short while. */
void http_conn_drain(struct http_conn *conn);

/* Bytes were written for `request`, which is the first in line. */
void http_conn_wrote(struct http_conn *conn);

/* Of a state: its name for traces, and which may follow, one bit each. */
extern const struct http_conn_states {
    const char *name;
    unsigned next;
} http_conn_states[];

/* To another state, which may follow (checked). */
static inline void http_conn_move(struct http_conn *conn, enum http_conn_state state)
{
    CHECK((http_conn_states[conn->state].next & 1u << state) != 0);
    log_trace("http %d: %s -> %s", conn->stream.fd, http_conn_states[conn->state].name,
              http_conn_states[state].name);
    conn->state = (uint8_t)state;
}

/* After anything that happened: is it over, and if not, how long may it go on like this? It may be
 * gone afterwards. */
void http_conn_settle(struct http_conn *conn);

/* ---- intake.c ---- */

enum { HTTP_INTAKES_KEPT = 64 }; /* free ones; more go back to the heap */

/* Makes one, where none is free. */
struct http_intake *http_intake_create(struct http_server *server);

/* Lets go of it, wherever the message is. None is fine. */
void http_intake_drop(struct http_conn *conn);

/* The connection's; one is taken if it has none. */
static inline struct http_intake *http_intake_take(struct http_conn *conn)
{
    struct http_server *server = conn->server;

    if (conn->intake != NULL)
        return conn->intake;
    conn->intake = server->intakes;
    if (conn->intake == NULL)
        return conn->intake = http_intake_create(server);
    CHECK(server->intakes_count > 0);
    server->intakes = conn->intake->_next;
    server->intakes_count--;
    return conn->intake;
}

/* Gives it back where the connection is between two messages. None is fine. */
static inline void http_intake_rest(struct http_conn *conn)
{
    struct http_server *server = conn->server;
    struct http_intake *intake = conn->intake;

    if (intake == NULL || !http_parser_is_idle(&intake->parser))
        return;
    if (server->intakes_count == HTTP_INTAKES_KEPT) {
        http_intake_drop(conn);
        return;
    }
    conn->intake = NULL;
    intake->_next = server->intakes;
    server->intakes = intake;
    server->intakes_count++;
}

/* Frees those that nobody has. */
void http_intakes_free(struct http_server *server);

/* ---- conn_read.c ---- */

/* Takes from what has come as much as may be taken now. */
void http_conn_parse(struct http_conn *conn);

/* No further request is read. */
void http_conn_stop_reading(struct http_conn *conn);

/* What is read has not come in time. */
void http_conn_expire_reading(struct http_conn *conn);

/* The handler of `request` wants its body, or has made room for more of it: `was_full`, there was
 * none. */
void http_conn_want_body(struct http_conn *conn, struct http_request *request, bool was_full);

/* The request that is read was let pass by its filters. */
void http_conn_go_on(struct http_conn *conn);

/* Must the connection end behind the answer of `request`, whose body has not come in full? */
bool http_conn_must_cut(const struct http_conn *conn, const struct http_request *request);

/* `request` is answered; the rest of its body is of no use. */
void http_conn_skip_body(struct http_conn *conn, struct http_request *request);

/* ---- introduce.c ---- */

/* Takes the PROXY protocol's header, which the connection begins with. False: it is not there yet,
 * or never will be. */
bool http_conn_introduce(struct http_conn *conn);

/* The client's address and the request's given id, as trusted proxies, if there are any, say
 * them. */
void http_request_introduce(struct http_request *request);

/* Has the answer carry the request's id, where [server] request_id names a field for it. */
void http_reply_introduce(struct http_request *request);

/* ---- trailer.c ---- */

/* Copies the fields of `section`, which the guard has passed, to request->trailers. False: there
 * are more than a head may have. */
bool http_trailer_take(struct http_request *request, struct span section);

/* ---- conn_limits.c ---- */

/* Has the timer run when the limit of the state is reached, or before. */
void http_conn_arm(struct http_conn *conn);

/* The same for the answer that was just written. */
void http_conn_arm_write(struct http_conn *conn);

/* A body begins to come, or comes on after we have held it up. */
void http_conn_time_body(struct http_conn *conn);

/* Does its body still come without long pauses, only too slowly on the whole? */
bool http_conn_is_trickling(const struct http_conn *conn);

/* ---- room.c ---- */

/* Counts a connection that comes from `peer`. False: its address has too many, `fd` was answered
 * and closed. */
bool http_server_enter(struct http_server *server, int fd, const struct addr *peer);

/* It goes. */
void http_server_leave(struct http_server *server, const struct http_conn *conn);

/* It is idle from now on. */
static inline void http_conn_rest(struct http_conn *conn)
{
    conn->since_us = loop_now_us(conn->server->loop);
    if (conn->_link.next == &conn->server->conns)
        return;
    list_remove(&conn->_link);
    list_append(&conn->server->conns, &conn->_link);
}

/* ---- pipeline.c ---- */

/* Puts a new request at the end. */
void http_pipeline_add(struct http_conn *conn, struct http_request *request);

/* Takes it out, unanswered. */
void http_pipeline_remove(struct http_conn *conn, struct http_request *request);

/* The same for all of them: they lose their connection. */
void http_pipeline_drop(struct http_conn *conn, enum scope_why why);

/* May its handler start, or would that change what those before it do? Requests with safe methods
 * run beside one another (RFC 9112 section 9.3.2). */
bool http_pipeline_may_start(const struct http_conn *conn, const struct http_request *request);

/* Writes "100 Continue". */
void http_pipeline_continue(struct http_request *request);

/* The head; reply, code and _reply_left are set. */
void http_pipeline_begin(struct http_request *request, struct span type);

/* Some of the body. */
void http_pipeline_write(struct http_request *request, struct span bytes);

/* The head and all of the body. */
void http_pipeline_write_whole(struct http_request *request, struct span type, struct span body);

/* http_pipeline_write(), `count` spans with `size` bytes as one piece. */
void http_pipeline_write_all(struct http_request *request, const struct span *pieces,
                             uint32_t count, size_t size);

/* Bytes of the answer that the kernel has not taken yet; of those before it as well. */
size_t http_pipeline_unsent(const struct http_request *request);

/* Is there room for more of the answer: now; or is this turn's output not sent yet; or is one told
 * when there is (http_stream_room())? */
enum http_room { HTTP_ROOM_NOW, HTTP_ROOM_SOON, HTTP_ROOM_LATER };
enum http_room http_pipeline_room(const struct http_request *request);

/* The client has taken all that was written: there is room. */
void http_pipeline_drained(struct http_conn *conn);

/* The file behind what was written for the first one in line has gone out, or cannot. */
void http_pipeline_file_sent(struct http_conn *conn, enum err err);

/* The end. `is_short`: the declared length was not reached. Answers that waited for this one
 * follow. */
void http_pipeline_end(struct http_request *request, bool is_short);

/* ---- serve.c ---- */

/* Is the owner of `scope` a request? */
bool http_serves(const struct scope *scope);

/* A new request of `conn`, last in its pipeline. `head` is NULL where it could not be read. */
struct http_request *http_request_make(struct http_conn *conn, const struct http_head *head);

/* Finds its route and checks what its head asks for. False: it has been answered. */
bool http_request_admit(struct http_request *request, const struct http_head *head);

/* Finds who serves it, where its filters were asked first. False: nobody does, it has been
 * answered. */
bool http_request_admit_route(struct http_request *request);

/* Has its filters asked; _is_asked says that there are some. */
void http_request_ask(struct http_request *request);

/* Calls its handler. It may be gone afterwards. */
void http_request_start(struct http_request *request);

/* Lets go of its memory at once where it is over and nothing of it goes on. On the loop's stack. */
void http_request_reap(struct http_request *request);

/* Answers with an error of the server's own; `why` is for the access log, NULL: derived. */
void http_request_refuse(struct http_request *request, uint32_t code, const char *why,
                         struct span detail);

/* Its connection is gone, and it is out of the pipeline: goes on only where it may. */
void http_request_lose(struct http_request *request, enum scope_why why);

/* Its answer is complete, or will never be: it is logged and let go of. Once. */
void http_request_over(struct http_request *request, enum scope_why why);

/* Says in the log what a plugin did wrong with it. */
void http_request_blame(const struct http_request *request, const char *what);

/* It goes on: until its answer begins, its budget counts from now again. */
void http_request_renew(struct http_request *request);

/* Does its handler pull the body? */
static inline bool http_request_streams(const struct http_request *request)
{
    const struct http_route *route = request->match.route;

    return route != NULL && (route->flags & HTTP_ROUTE_STREAM_BODY) != 0;
}

/* Has its handler been called? */
static inline bool http_request_is_started(const struct http_request *request)
{
    return request->handler_us != 0;
}

/* ---- response.c ---- */

/* Framing, and what is the same in every answer: not for handlers. */
bool http_reply_is_own_field(struct span name);

/* http_reply_write(), `count` spans in one piece. */
enum err http_reply_write_all(struct http_request *request, const struct span *pieces,
                              uint32_t count) __attribute__((warn_unused_result));

/* Ends a begun reply that nobody will end; the connection ends with it. */
void http_reply_abandon(struct http_request *request);

/* ---- server.c ---- */

/* A connection went, or a request's scope ended. */
void http_server_lost(struct http_server *server);

#endif
