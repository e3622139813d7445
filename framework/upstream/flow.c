/* upstream/flow.c - the bodies of a call that is streamed.
 *
 *   pull:   PENDING ──▶ a piece, or the answer's end
 *   write:  PENDING ──▶ OK, with all others, when nothing is unsent
 *
 * Where the call fails, so do they, with its error.
 *
 * A pull is given all that has gathered; what comes meanwhile is for the next one. A pull that is
 * canceled leaves it where it is; a write has been taken over. In a canceled scope either gives the
 * call up: nobody is going to go on with it.
 *
 * gzip that is decoded waits as it came while nobody pulls, and may go on doing so when the
 * exchange is over and its connection lent to others: what is wrong with the rest, a pull finds
 * out.
 *
 * An answer may come while the request is still being written. Where it is complete, or where it
 * says that there is something wrong, no more is sent: a peer that has refused may read no further.
 * What is written then is taken and forgotten, so that its writer comes to see the answer.
 */
#include "upstream/flow.h"
#include "base/check.h"
#include "base/number.h"
#include "task/scope.h"
#include "upstream/call.h"
#include "upstream/request.h"
#include "upstream/upstream.h"
#include <stdio.h>

struct flow_pull {
    struct op op;      /* first */
    struct flow *flow; /* whose; NULL: none, or not any more */
};

struct flow_write {
    struct op op;      /* first */
    struct flow *flow; /* whose; NULL: none, or not any more */
    struct list link;  /* among those that wait */
};

static struct flow_pull *pull_of(const struct op *op)
{
    return CONTAINER_OF(op, struct flow_pull, op);
}

static struct flow_write *write_of(const struct op *op)
{
    return CONTAINER_OF(op, struct flow_write, op);
}

static struct exchange *exchange_of(const struct flow *flow)
{
    const struct attempt *attempt = &flow->call->attempt;

    return attempt->state == ATTEMPT_SENT ? &attempt->conn->exchange : NULL;
}

static void note_move(struct flow *flow)
{
    flow->moved_ms = loop_now_ms(flow->call->upstream->loop);
}

/* ---- the answer ---- */

static bool is_pulled(const struct flow *flow)
{
    return flow->pull != NULL && flow->pull->op.state == OP_PENDING;
}

/* Gives the pull that waits what there is, or the end. */
static void serve(struct flow *flow)
{
    struct flow_pull *pull = flow->pull;

    if (!is_pulled(flow))
        return;
    if (flow->gathered.len > 0) {
        buf_release(&flow->piece);
        flow->piece = flow->gathered;
        buf_init(&flow->gathered, &flow->call->upstream->buffers);
        *buf_reserve(&flow->piece, 1) = '\0';
        pull->op.piece = buf_span(&flow->piece);
        note_move(flow);
        op_finish(&pull->op, ERR_OK, NULL);
    } else if (flow->is_over) {
        if (flow->err != ERR_OK)
            op_explain(&pull->op, flow->error);
        op_finish(&pull->op, flow->err, flow->reason);
    }
}

static void withdraw_pull(struct op *op)
{
    struct flow_pull *pull = pull_of(op);
    struct flow *flow = pull->flow;

    CHECK(flow != NULL);
    CHECK(flow->pull == pull);
    flow->pull = NULL;
    pull->flow = NULL;
    op_retire(op);
    if (op->scope->why != SCOPE_ALIVE)
        call_give_up(flow->call, scope_error(op->scope));
}

static void release_pull(struct op *op)
{
    struct flow_pull *pull = pull_of(op);

    if (pull->flow != NULL)
        pull->flow->pull = NULL;
}

static const struct op_kind pull_kind = {
    .name = "upstream pull",
    .account = SCOPE_TIME_CALL,
    .withdraw = withdraw_pull,
    .release = release_pull,
};

/* Memory for a pull: that of the last one, where nobody looks at it any more, since a body may have
 * as many pulls as it likes. */
static struct flow_pull *make_pull(struct flow *flow)
{
    struct flow_pull *last = flow->pull;

    flow->pull = NULL;
    if (last != NULL) {
        last->flow = NULL;
        last->op.piece = (struct span){NULL, 0};
    }
    if (last == NULL || op_release(&last->op) != ERR_OK)
        return scope_alloc(flow->call->op.scope, sizeof *last);
    memset(last, 0, sizeof *last);
    return last;
}

static bool has_room(const struct flow *flow)
{
    return flow->gathered.len < FLOW_HIGH && unpack_is_hungry(&flow->unpack);
}

void flow_decode(struct flow *flow)
{
    const struct upstream *upstream = flow->call->upstream;

    unpack_start(&flow->unpack, flow->gathered._pool, upstream->options->decoded_bytes_max);
}

enum err flow_take(struct flow *flow, struct span bytes)
{
    struct exchange *exchange = exchange_of(flow);
    enum err err = ERR_OK;

    CHECK(!flow->is_over);
    CHECK(exchange != NULL);
    note_move(flow);
    if (unpack_is_started(&flow->unpack))
        err = unpack_more(&flow->unpack, bytes, &flow->gathered, FLOW_HIGH);
    else
        buf_append(&flow->gathered, bytes);
    serve(flow);
    if (err == ERR_OK && !has_room(flow))
        exchange_pause(exchange);
    return err;
}

bool flow_is_cut_off(const struct flow *flow)
{
    return unpack_is_hungry(&flow->unpack) && !unpack_is_complete(&flow->unpack);
}

/* Somebody wants more than has gathered: decodes some of what waits, which may turn out to be none
 * only now, behind the answer's end. */
static void decode_more(struct flow *flow)
{
    enum err err;

    if (!unpack_is_started(&flow->unpack) || flow->gathered.len > 0)
        return;
    err = unpack_more(&flow->unpack, (struct span){NULL, 0}, &flow->gathered, FLOW_HIGH);
    if (err == ERR_OK && flow->is_over && flow_is_cut_off(flow))
        err = ERR_CLOSED;
    if (err != ERR_OK && flow->err == ERR_OK)
        call_fail_body(flow->call, err);
    if (flow->is_over && unpack_is_hungry(&flow->unpack))
        unpack_stop(&flow->unpack);
}

void flow_answered(struct flow *flow, uint32_t code)
{
    note_move(flow);
    if (flow->upload != FLOW_OPEN || code < 400)
        return;
    flow->upload = FLOW_UNWANTED;
    flow_drained(flow);
}

/* ---- the request ---- */

static void settle_write(struct flow *flow, struct flow_write *write)
{
    bool is_failed = flow->is_over && flow->err != ERR_OK;

    CHECK(flow->write_count > 0);
    list_remove(&write->link);
    flow->write_count--;
    if (is_failed)
        op_explain(&write->op, flow->error);
    op_finish(&write->op, is_failed ? flow->err : ERR_OK, is_failed ? flow->reason : NULL);
}

static void settle_writes(struct flow *flow)
{
    struct list *link;

    ready_stop(&flow->space);
    while ((link = list_first(&flow->writes)) != NULL)
        settle_write(flow, CONTAINER_OF(link, struct flow_write, link));
}

void flow_drained(struct flow *flow)
{
    note_move(flow);
    settle_writes(flow);
}

static void withdraw_write(struct op *op)
{
    struct flow_write *write = write_of(op);
    struct flow *flow = write->flow;

    CHECK(flow != NULL);
    CHECK(flow->write_count > 0);
    list_remove(&write->link);
    flow->write_count--;
    op_retire(op);
    if (op->scope->why != SCOPE_ALIVE)
        call_give_up(flow->call, scope_error(op->scope));
}

static void release_write(struct op *op)
{
    struct flow_write *write = write_of(op);

    if (write->flow != NULL && write->flow->write == write)
        write->flow->write = NULL;
}

static const struct op_kind write_kind = {
    .name = "upstream write",
    .account = SCOPE_TIME_CALL,
    .withdraw = withdraw_write,
    .release = release_write,
};

/* Memory for the next one: that of the last write, where nobody looks at it any more. */
static struct flow_write *make_write(struct flow *flow)
{
    struct flow_write *last = flow->write;

    flow->write = NULL;
    if (last != NULL && last->op.state != OP_PENDING) {
        last->flow = NULL;
        if (op_release(&last->op) == ERR_OK) {
            memset(last, 0, sizeof *last);
            return last;
        }
    }
    return scope_alloc(flow->call->op.scope, sizeof *last);
}

static size_t unsent_of(const struct flow *flow)
{
    const struct exchange *exchange = exchange_of(flow);

    return flow->unsent.len + (exchange != NULL ? exchange_unsent(exchange) : 0);
}

static void put(struct flow *flow, struct span bytes)
{
    struct exchange *exchange = exchange_of(flow);

    if (exchange == NULL) {
        buf_append(&flow->unsent, bytes);
        return;
    }
    flow->has_written = true;
    exchange_write(exchange, bytes);
}

static void put_framed(struct flow *flow, struct span bytes)
{
    char size[24];

    CHECK(flow->upload == FLOW_OPEN);
    if (!flow->is_chunked) {
        CHECK(bytes.len <= flow->left);
        flow->left -= bytes.len;
        put(flow, bytes);
        return;
    }
    put(flow, (struct span){size, (size_t)snprintf(size, sizeof size, "%zx\r\n", bytes.len)});
    put(flow, bytes);
    put(flow, SPAN("\r\n"));
}

static void on_space(struct ready *ready)
{
    flow_drained(CONTAINER_OF(ready, struct flow, space));
}

/* There is more than is welcome: sends what can be sent. Where the kernel has taken all of it, that
 * is told from the loop, so that who writes without end does not keep others from their turn. */
static void push(struct flow *flow)
{
    struct exchange *exchange = exchange_of(flow);

    if (exchange == NULL)
        return;
    exchange_flush(exchange);
    if (exchange_unsent(exchange) == 0)
        ready_start(flow->call->upstream->loop, &flow->space, on_space);
}

void flow_sent(struct flow *flow)
{
    struct exchange *exchange = exchange_of(flow);

    CHECK(exchange != NULL);
    note_move(flow);
    if (flow->upload == FLOW_NONE)
        return;
    exchange_open(exchange);
    if (flow->unsent.len > 0)
        put(flow, buf_span(&flow->unsent));
    buf_release(&flow->unsent);
    if (flow->upload == FLOW_ENDED)
        exchange_close(exchange);
    if (!list_is_empty(&flow->writes))
        push(flow);
}

/* ---- life ---- */

struct flow *flow_create(struct call *call, bool is_upload, uint64_t length)
{
    struct flow *flow = scope_alloc(call->op.scope, sizeof *flow);

    flow->call = call;
    flow->upload = is_upload ? FLOW_OPEN : FLOW_NONE;
    flow->is_chunked = length == 0;
    flow->left = length;
    list_init(&flow->writes);
    buf_init(&flow->gathered, &call->upstream->buffers);
    buf_init(&flow->piece, &call->upstream->buffers);
    buf_init(&flow->unsent, &call->upstream->buffers);
    note_move(flow);
    return flow;
}

void flow_end(struct flow *flow, enum err err, const char *reason, struct span error)
{
    CHECK(!flow->is_over);
    flow->is_over = true;
    flow->err = err;
    flow->reason = reason;
    flow->error = error;
    buf_release(&flow->unsent);
    settle_writes(flow);
    serve(flow);
}

uint64_t flow_still_ms(const struct flow *flow)
{
    uint64_t moved_ms = flow->moved_ms;
    const struct exchange *exchange = exchange_of(flow);

    if (exchange != NULL && exchange_progress_ms(exchange) > moved_ms)
        moved_ms = exchange_progress_ms(exchange);
    return moved_ms + flow->call->upstream->options->stream_timeout_ms;
}

void flow_release(struct flow *flow)
{
    CHECK(flow->is_over);
    CHECK(list_is_empty(&flow->writes));
    CHECK(flow->write_count == 0);
    if (flow->pull != NULL) {
        flow->pull->flow = NULL;
        flow->pull->op.piece = (struct span){NULL, 0};
    }
    if (flow->write != NULL)
        flow->write->flow = NULL;
    flow->pull = NULL;
    flow->write = NULL;
    ready_stop(&flow->space);
    unpack_stop(&flow->unpack);
    buf_release(&flow->gathered);
    buf_release(&flow->piece);
    buf_release(&flow->unsent);
}

/* ---- for users ---- */

/* The flow of `op`; NULL: it is no stream, or never began. */
static struct flow *flow_of(struct op *op)
{
    return op_is_upstream(op) ? call_of(op)->flow : NULL;
}

static struct op *refuse(const struct op *op, const char *why)
{
    return op_failed(op->scope, ERR_STATE, NULL, span_of(why));
}

struct op *upstream_read(struct op *op)
{
    struct flow *flow = flow_of(op);
    struct exchange *exchange;
    struct flow_pull *pull;

    if (flow == NULL)
        return refuse(op, "no stream of an upstream");
    if (is_pulled(flow))
        return refuse(op, "a pull of this stream waits already");
    pull = make_pull(flow);
    if (!op_init(&pull->op, op->scope, &pull_kind))
        return &pull->op;
    op_begin(&pull->op);
    flow->pull = pull;
    pull->flow = flow;
    buf_release(&flow->piece);
    note_move(flow);
    decode_more(flow);
    serve(flow);
    exchange = exchange_of(flow);
    if (exchange != NULL && has_room(flow))
        exchange_resume(exchange);
    return &pull->op;
}

/* NULL, or why nothing can be written. */
static const char *write_problem(const struct flow *flow, size_t size)
{
    if (flow == NULL || flow->upload == FLOW_NONE)
        return "no stream of an upstream that is written to";
    if (flow->upload == FLOW_ENDED)
        return "the body has ended";
    if (!flow->is_chunked && size > flow->left)
        return "more than the length that was announced";
    return NULL;
}

static bool is_overloaded(const struct flow *flow, size_t size)
{
    size_t unsent = unsent_of(flow);

    return flow->write_count >= FLOW_WRITES_MAX || (unsent > 0 && unsent + size > FLOW_UNSENT_MAX);
}

struct op *upstream_write(struct op *op, struct span bytes)
{
    struct flow *flow = flow_of(op);
    const char *problem = write_problem(flow, bytes.len);
    struct flow_write *write;

    if (problem != NULL)
        return refuse(op, problem);
    if (upstream_wants(op) && is_overloaded(flow, bytes.len))
        return op_failed(op->scope, ERR_OVERLOAD, NULL,
                         SPAN("more was written than the upstream takes: await the writes"));
    write = make_write(flow);
    list_init(&write->link);
    if (!op_init(&write->op, op->scope, &write_kind))
        return &write->op;
    op_begin(&write->op);
    write->flow = flow;
    flow->write = write;
    flow->write_count++;
    list_append(&flow->writes, &write->link);
    if (!upstream_wants(op)) {
        settle_write(flow, write);
        return &write->op;
    }
    note_move(flow);
    if (bytes.len > 0)
        put_framed(flow, bytes);
    if (unsent_of(flow) <= FLOW_HIGH && flow->write_count == 1)
        settle_write(flow, write);
    else
        push(flow);
    return &write->op;
}

static void put_trailers(struct flow *flow, const struct http_field *fields, uint32_t count)
{
    put(flow, SPAN("0\r\n"));
    for (uint32_t i = 0; i < count; i++) {
        put(flow, fields[i].name);
        put(flow, SPAN(": "));
        put(flow, fields[i].value);
        put(flow, SPAN("\r\n"));
    }
    put(flow, SPAN("\r\n"));
}

enum err upstream_write_end(struct op *op, const struct http_field *trailers, uint32_t count)
{
    struct flow *flow = flow_of(op);
    struct exchange *exchange;
    bool is_wanted = upstream_wants(op);

    if (write_problem(flow, 0) != NULL)
        return ERR_STATE;
    if (count > 0 && !upstream_trailers_check(trailers, count))
        return ERR_INVALID;
    flow->upload = is_wanted ? FLOW_ENDED : FLOW_UNWANTED;
    if (!is_wanted)
        return ERR_OK;
    if (!flow->is_chunked && flow->left > 0) {
        call_spoil(flow->call, "the body was ended before its length was reached");
        return ERR_STATE;
    }
    note_move(flow);
    if (flow->is_chunked)
        put_trailers(flow, trailers, count);
    exchange = exchange_of(flow);
    if (exchange != NULL)
        exchange_close(exchange);
    return ERR_OK;
}

bool upstream_wants(const struct op *op)
{
    const struct flow *flow = op_is_upstream(op) ? call_of((struct op *)op)->flow : NULL;

    return flow != NULL && flow->upload == FLOW_OPEN && !flow->is_over;
}

const struct http_fields *upstream_trailers(const struct op *op)
{
    static const struct http_fields none;
    const struct flow *flow = op_is_upstream(op) ? call_of((struct op *)op)->flow : NULL;

    return flow != NULL ? &flow->trailers : &none;
}
