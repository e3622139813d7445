/* upstream/upstream.c - a named HTTP server that handlers call: its connections, and calls as ops.
 *
 * A call:
 *
 *   CONNECTING ──▶ SENT ──▶ OVER        failed, too slow: OVER, with the error
 *        ▲───────────┘                  once, where retry.h says that it is safe
 *
 * CONNECTING is in line, or while a connection is being opened; an idle connection skips it. What
 * is in flight belongs to the connection. Canceled in any state: the place in line is given up, or
 * the connection closed, since HTTP/1 cannot take a request back; nothing points at the op any
 * more, so it is retired at once.
 */
#include "upstream/upstream.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/parser.h"
#include "task/scope.h"
#include "upstream/exchange.h"
#include "upstream/origin.h"
#include "upstream/request.h"
#include "upstream/retry.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define UPSTREAM_MAGIC 0x75707374u

/* Storage that is kept for the next answers; a text for people. */
enum { BUFFERS_KEPT = 256, EXPLAIN_SIZE = 320 };

struct upstream {
    uint32_t magic;                         /* UPSTREAM_MAGIC */
    char *name;                             /* of the section */
    struct loop *loop;                      /* its loop */
    const struct upstream_options *options; /* the caller's */
    struct upstream_url url;                /* slices of options->url */
    struct buf_pool buffers;                /* for connections and bodies */
    struct exchange_shared exchanges;       /* what they share */
    struct origin origin;                   /* the server */
    struct upstream_counts counts;          /* for whoever asks */
    uint32_t alive;                         /* calls that were not released */
};

enum { CONNECTING, SENT, OVER };

struct call {
    struct op op;              /* first */
    struct upstream *upstream; /* whose; NULL: it never began */
    int state;                 /* see above */
    uint32_t tries;            /* how often it was sent */
    bool is_head;              /* HEAD: no body in the answer */
    bool is_idempotent;        /* may be sent again when it was written */
    struct span request;       /* head and body as they are sent, in the arena */
    uint64_t queue_due_ms;     /* the end of its patience in line */
    uint64_t due_ms;           /* its end in all */
    struct timer timer;        /* the sooner of the two that counts */
    struct origin_loan loan;   /* CONNECTING: its place in line */
    struct origin_conn *conn;  /* SENT: its connection, lent */
    uint32_t code;             /* of the answer; 0: no head yet */
    struct http_fields fields; /* of the answer, in the arena */
    struct buf body;           /* of the answer */
};

static const struct op_kind call_kind;

static struct call *call_of(struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->kind == &call_kind);
    return CONTAINER_OF(op, struct call, op);
}

/* The one way out but for being canceled; the call holds neither place nor connection by now. */
static void settle(struct call *call, enum err err, const char *reason)
{
    struct upstream_counts *counts = &call->upstream->counts;

    CHECK(call->conn == NULL);
    call->state = OVER;
    timer_stop(&call->timer);
    counts->calls++;
    if (err != ERR_OK) {
        counts->failed++;
        buf_release(&call->body);
    }
    if (err == ERR_UP_BUSY)
        counts->refused++;
    op_finish(&call->op, err, reason);
}

__attribute__((format(printf, 4, 5))) static void fail(struct call *call, enum err err,
                                                       const char *reason, const char *format, ...)
{
    char text[EXPLAIN_SIZE];
    int len = snprintf(text, sizeof text, "upstream %s: ", call->upstream->name);
    size_t used = len < (int)sizeof text ? (size_t)len : sizeof text - 1;
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, sizeof text - used, format, args);
    va_end(args);
    op_explain(&call->op, span_of(text));
    settle(call, err, reason);
}

/* The answer */

/* One copy of the head's bytes; names and values lie in it and get their NULs, each in place of a
 * byte that belongs to none of them. */
static void copy_fields(struct call *call, const struct http_head *head)
{
    struct arena *arena = &call->op.scope->arena;
    char *bytes = arena_bytes(arena, head->bytes.len);
    struct http_field *to = arena_alloc(arena, head->fields.count * sizeof *to);

    memcpy(bytes, head->bytes.ptr, head->bytes.len);
    for (uint32_t i = 0; i < head->fields.count; i++) {
        const struct http_field *from = &head->fields.at[i];
        char *name = bytes + (from->name.ptr - head->bytes.ptr);
        char *value = bytes + (from->value.ptr - head->bytes.ptr);

        name[from->name.len] = '\0';
        value[from->value.len] = '\0';
        to[i] = (struct http_field){{name, from->name.len}, {value, from->value.len}};
    }
    call->fields = (struct http_fields){to, head->fields.count};
}

static enum err on_head(struct exchange *exchange, const struct http_head *head)
{
    struct call *call = exchange->user;

    CHECK(call->state == SENT);
    if (head->has_body && head->length > (int64_t)call->upstream->options->body_bytes_max)
        return ERR_TOO_BIG;
    copy_fields(call, head);
    call->code = head->code;
    return ERR_OK;
}

static enum err on_body(struct exchange *exchange, struct span bytes)
{
    struct call *call = exchange->user;

    CHECK(call->state == SENT);
    if (bytes.len > call->upstream->options->body_bytes_max - call->body.len)
        return ERR_TOO_BIG;
    buf_append(&call->body, bytes);
    return ERR_OK;
}

/* Sending */

static void on_done(struct exchange *exchange, enum err err);

static const struct exchange_handler exchange_handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_done = on_done,
};

static void send_on(struct call *call, struct origin_conn *conn)
{
    call->state = SENT;
    call->conn = conn;
    call->tries++;
    op_begin(&call->op);
    exchange_start(&conn->exchange, call->request, call->is_head, &exchange_handler, call);
}

/* What an error of a connection under way, or of an exchange, is to the caller. */
static enum err outer_err(enum err err)
{
    if (err == ERR_TIMED_OUT)
        return ERR_UP_TIMEOUT;
    return err == ERR_TOO_BIG ? ERR_UP_TOO_BIG : ERR_UP_RESET;
}

/* What the room's own parts tell, from the loop. */

static void on_loan(struct origin_loan *loan, const struct conn_failure *failure,
                    struct origin_conn *conn)
{
    struct call *call = CONTAINER_OF(loan, struct call, loan);

    CHECK(call->state == CONNECTING);
    if (failure == NULL)
        send_on(call, conn);
    else
        fail(call, ERR_UP_CONNECT, failure->reason, "%s", failure->problem);
}

static void on_done(struct exchange *exchange, enum err err)
{
    struct call *call = exchange->user;
    struct origin_conn *conn = call->conn;
    const char *reason = exchange->reason;
    const char *problem = exchange->problem;
    const struct retry_facts facts = {
        .err = err,
        .tries = call->tries,
        .was_reused = conn->was_kept,
        .is_idempotent = call->is_idempotent,
        .written = exchange_written(exchange),
        .received = exchange_received(exchange),
    };

    CHECK(call->state == SENT);
    call->conn = NULL;
    if (err != ERR_OK && retry_is_safe(&facts)) {
        call->state = CONNECTING;
        call->upstream->counts.retried++;
        origin_dial_again(conn, &call->loan, on_loan);
        return;
    }
    if (err == ERR_OK && exchange->is_reusable)
        origin_keep(conn, exchange->keep_ms);
    else
        origin_drop(conn);
    if (err == ERR_OK) {
        op_hold(&call->op, call->body.len);
        if (call->body.len > 0)
            *buf_reserve(&call->body, 1) = '\0';
        settle(call, ERR_OK, NULL);
    } else {
        fail(call, outer_err(err), reason, "%s", problem);
    }
}

/* Lets go of its place or its connection; nothing of them will call back. */
static void detach(struct call *call)
{
    struct origin_conn *conn = call->conn;

    call->conn = NULL;
    origin_withdraw(&call->loan);
    if (conn != NULL)
        origin_drop(conn);
}

static void on_time(struct timer *timer)
{
    struct call *call = CONTAINER_OF(timer, struct call, timer);
    uint64_t now_ms = loop_now_ms(call->upstream->loop);
    bool is_in_line = call->state == CONNECTING && origin_is_in_line(&call->loan);

    CHECK(call->state != OVER);
    if (now_ms >= call->due_ms) {
        const char *what = call->state == SENT ? "the answer is not complete" : "not connected";

        detach(call);
        fail(call, ERR_UP_TIMEOUT, "upstream_timeout", "too slow in all, %s", what);
    } else if (is_in_line && now_ms >= call->queue_due_ms &&
               !origin_is_nowhere(&call->upstream->origin)) {
        detach(call);
        fail(call, ERR_UP_BUSY, "upstream_queue_timeout", "all %u connections are in use",
             call->upstream->options->connections_max);
    } else {
        if (now_ms >= call->queue_due_ms) /* it waited for a name, which has a limit of its own */
            call->queue_due_ms = now_ms + call->upstream->options->queue_timeout_ms;
        timer_start_at(call->upstream->loop, timer,
                       is_in_line && call->queue_due_ms < call->due_ms ? call->queue_due_ms
                                                                       : call->due_ms,
                       on_time);
    }
}

/* The op */

static void withdraw(struct op *op)
{
    struct call *call = call_of(op);

    call->state = OVER;
    timer_stop(&call->timer);
    call->upstream->counts.calls++;
    call->upstream->counts.canceled++;
    detach(call);
    buf_release(&call->body);
    op_retire(op);
}

static void release(struct op *op)
{
    struct call *call = call_of(op);

    if (call->upstream == NULL)
        return;
    buf_release(&call->body);
    call->upstream->alive--;
}

static const struct op_kind call_kind = {
    .name = "upstream call",
    .account = SCOPE_TIME_CALL,
    .withdraw = withdraw,
    .release = release,
};

static void start(struct call *call, const struct upstream_call *what)
{
    struct upstream *upstream = call->upstream;
    const struct upstream_options *options = upstream->options;
    struct origin_conn *conn = origin_take(&upstream->origin);
    uint32_t timeout_ms = what->timeout_ms != 0 ? what->timeout_ms : options->timeout_ms;
    uint64_t first_ms = timeout_ms;

    call->due_ms = loop_now_ms(upstream->loop) + timeout_ms;
    call->queue_due_ms = loop_now_ms(upstream->loop) + options->queue_timeout_ms;
    if (conn != NULL) {
        send_on(call, conn);
    } else if (!origin_wait(&upstream->origin, &call->loan, on_loan)) {
        fail(call, ERR_UP_BUSY, "upstream_queue_full", "%u calls are waiting already",
             upstream->counts.waiting);
        return;
    } else if (options->queue_timeout_ms < timeout_ms) {
        first_ms = options->queue_timeout_ms;
    }
    timer_start(upstream->loop, &call->timer, first_ms, on_time);
}

struct op *upstream_call(struct scope *scope, struct upstream *upstream,
                         const struct upstream_call *what)
{
    char problem[UPSTREAM_PROBLEM_SIZE];
    struct call *call;
    bool is_fit;

    CHECK_OBJ(scope, SCOPE_MAGIC);
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    CHECK(upstream->loop == scope->tasks->loop);
    call = scope_alloc(scope, sizeof *call);
    is_fit = upstream_request_check(what, problem);
    if (is_fit) /* before the op is there: too much memory cancels the scope's ops at once */
        call->request = upstream_request_render(scope, &upstream->url, what);
    if (!op_init(&call->op, scope, &call_kind))
        return &call->op;
    call->upstream = upstream;
    upstream->alive++;
    buf_init(&call->body, &upstream->buffers);
    if (!is_fit) {
        fail(call, ERR_INVALID, "upstream_invalid", "%s", problem);
        return &call->op;
    }
    call->is_head = span_equal(what->method, SPAN("HEAD"));
    call->is_idempotent = (what->flags & UPSTREAM_IDEMPOTENT) != 0 || what->method.ptr == NULL ||
                          retry_is_idempotent(what->method);
    start(call, what);
    return &call->op;
}

bool op_is_upstream(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    return op->kind == &call_kind;
}

/* The call of `op` if there is an answer; NULL. */
static const struct call *answered(const struct op *op)
{
    if (!op_is_upstream(op) || op->state == OP_PENDING || op->status != ERR_OK)
        return NULL;
    return CONTAINER_OF(op, const struct call, op);
}

uint32_t upstream_code(const struct op *op)
{
    const struct call *call = answered(op);

    return call != NULL ? call->code : 0;
}

const struct http_fields *upstream_fields(const struct op *op)
{
    static const struct http_fields none;
    const struct call *call = answered(op);

    return call != NULL ? &call->fields : &none;
}

struct span upstream_body(const struct op *op)
{
    const struct call *call = answered(op);

    if (call == NULL)
        return (struct span){NULL, 0};
    return call->body.len > 0 ? buf_span(&call->body) : SPAN("");
}

/* The upstream */

struct upstream *upstream_create(struct loop *loop, struct resolver *resolver, const char *name,
                                 const struct upstream_options *options)
{
    struct upstream *upstream = mem_alloc(sizeof *upstream);
    char problem[INI_PROBLEM_SIZE];
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    uint32_t count = 0;
    enum err err = upstream_url_parse(options->url, &upstream->url, problem);

    CHECK(err == ERR_OK);
    err = upstream_places_parse(options->addresses, &upstream->url, places, &count, problem);
    CHECK(err == ERR_OK);
    upstream->magic = UPSTREAM_MAGIC;
    upstream->name = mem_copy(span_of(name));
    upstream->loop = loop;
    upstream->options = options;
    buf_pool_init(&upstream->buffers, BUFFERS_KEPT);
    upstream->exchanges = (struct exchange_shared){
        .loop = loop,
        .options = options,
        .head = http_head_create(EXCHANGE_FIELDS_MAX),
        .limits = {.head_bytes_max = (size_t)options->head_bytes_max},
    };
    origin_init(&upstream->origin, &(struct origin_setup){
                                       .resolver = resolver,
                                       .buffers = &upstream->buffers,
                                       .exchanges = &upstream->exchanges,
                                       .places = places,
                                       .place_count = count,
                                       .counts = &upstream->counts,
                                   });
    return upstream;
}

void upstream_start(struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    origin_start(&upstream->origin);
}

void upstream_destroy(struct upstream *upstream)
{
    if (upstream == NULL)
        return;
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    CHECK(upstream->alive == 0);
    origin_deinit(&upstream->origin);
    http_head_destroy(upstream->exchanges.head);
    buf_pool_deinit(&upstream->buffers);
    mem_free(upstream->name);
    upstream->magic = 0;
    mem_free(upstream);
}

const char *upstream_name(const struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return upstream->name;
}

const struct upstream_counts *upstream_counts(const struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return &upstream->counts;
}
