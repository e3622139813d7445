/* pg/stream.c - a statement's rows, pulled in pages.
 *
 *   OPENING (a statement like any other) ──first row──▶ FLOWING ──answered──▶ ENDED
 *        └── failed, canceled, or done without a row ──────┴── given up ──▶ ENDED
 *
 * FLOWING, with a pull pending: rows go to the page until that is full, or nothing more has come;
 * then the pull settles and the session is paused. With none: the session is paused.
 * An error that comes behind rows is for the pull after those. Given up: the session forgets the
 * statement, reads what still comes for nobody, and pg/control.c has the server stop.
 */
#include "pg/stream.h"
#include "base/check.h"
#include "pg/private.h"
#include "task/scope.h"

struct pg_pull {
    struct op op;             /* first */
    struct pg_stream *stream; /* whose page it has; NULL: none, or not any more */
};

enum { JSON_KEPT_MAX = 256 * 1024 }; /* bytes of storage that are kept for the next piece */

static const struct span no_text = {NULL, 0};
static const struct span too_big = SPAN("a row is larger than result_max");

static struct pg_pull *pull_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_pull, op);
}

/* The end */

static void end(struct pg_stream *stream, enum err err, const char *reason, struct span error)
{
    stream->state = PG_STREAM_ENDED;
    stream->err = err;
    stream->reason = reason;
    stream->error = error;
    timer_stop(&stream->timer);
    if (stream->transaction != NULL)
        stream->transaction->stream = NULL;
    stream->transaction = NULL;
}

void pg_stream_unopened(struct pg_stream *stream)
{
    const struct op *op = &stream->query.op;

    CHECK(stream->state == PG_STREAM_OPENING);
    end(stream, op->status == ERR_OK ? ERR_OK : ERR_STATE, NULL, no_text);
}

void pg_stream_leave(struct pg_stream *stream)
{
    struct pg_query *query = &stream->query;
    struct pg_session *session = query->session;

    CHECK(session != NULL);
    pg_session_forget(session, query);
    if (stream->transaction != NULL)
        stream->transaction->is_spoiled = true;
    if (query->pool->options->is_prepared)
        pg_control_notice(&query->pool->control);
    else
        pg_session_end(session, "a stream was given up");
}

/* Pulls */

static void settle_pull(struct pg_stream *stream)
{
    struct op *op = &stream->pull->op;
    bool has_rows = stream->page.rows > 0;

    CHECK(stream->state == PG_STREAM_ENDED || has_rows);
    stream->is_fresh = false;
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (!has_rows && stream->err != ERR_OK) {
        op_explain(op, stream->error);
        op_finish(op, stream->err, stream->reason);
        return;
    }
    stream->pulls++;
    op_finish(op, ERR_OK, NULL);
}

static bool is_pulled(const struct pg_stream *stream)
{
    return stream->pull != NULL && stream->pull->op.state == OP_PENDING;
}

void pg_stream_give_up(struct pg_stream *stream, enum err err, const char *reason,
                       struct span error)
{
    struct pg_query *query = &stream->query;

    if (stream->state == PG_STREAM_ENDED)
        return;
    if (query->op.state == OP_PENDING) {
        op_explain(&query->op, error);
        op_cancel_as(&query->op, err, reason);
        return;
    }
    pg_stream_leave(stream);
    query->state = PG_QUERY_DONE;
    query->pool->counts.canceled++;
    query->is_maybe_applied = (query->flags & PG_READ_ONLY) == 0 && stream->transaction == NULL;
    end(stream, err, reason, error);
    if (is_pulled(stream))
        settle_pull(stream);
}

static void withdraw_pull(struct op *op)
{
    struct pg_pull *pull = pull_of(op);
    struct pg_stream *stream = pull->stream;

    stream->pull = NULL;
    pull->stream = NULL;
    if (op->scope->why != SCOPE_ALIVE)
        pg_stream_give_up(stream, scope_error(op->scope), NULL, no_text);
    else if (stream->query.session != NULL)
        pg_session_pause(stream->query.session);
    op_retire(op);
}

static void release_pull(struct op *op)
{
    struct pg_pull *pull = pull_of(op);

    if (pull->stream != NULL)
        pull->stream->pull = NULL;
}

static const struct op_kind pull_kind = {
    .name = "pg pull",
    .account = SCOPE_TIME_PG,
    .withdraw = withdraw_pull,
    .release = release_pull,
};

bool op_is_pg_pull(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    return op->kind == &pull_kind;
}

const struct pg_query *pg_query_behind(const struct op *op)
{
    if (op_is_pg(op))
        return pg_query_of(op);
    return op_is_pg_pull(op) && pull_of(op)->stream != NULL ? &pull_of(op)->stream->query : NULL;
}

const struct pg_page *pg_stream_page(const struct op *pull)
{
    if (!op_is_pg_pull(pull) || pull_of(pull)->stream == NULL || pull->state == OP_PENDING ||
        pull->status != ERR_OK)
        return NULL;
    return &pull_of(pull)->stream->page;
}

/* What the session brings */

static void open(struct pg_stream *stream, const struct pg_result *row)
{
    struct pg_query *query = &stream->query;

    stream->state = PG_STREAM_FLOWING;
    query->result = pg_result_shape(row);
    query->pool->pending--;
    query->pool->counts.statements++;
    op_finish(&query->op, ERR_OK, NULL);
}

void pg_stream_row(struct pg_stream *stream, struct pg_result *row)
{
    if (pg_result_size(row) > stream->query.pool->options->result_max) {
        pg_result_clear(row);
        pg_stream_give_up(stream, ERR_DB, "pg_result_too_big", too_big);
        return;
    }
    if (stream->state == PG_STREAM_OPENING)
        open(stream, row);
    CHECK(stream->state == PG_STREAM_FLOWING);
    pg_page_add(&stream->page, row);
    pg_result_clear(row);
    stream->is_fresh = true;
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (pg_page_is_full(&stream->page) || !is_pulled(stream))
        pg_stream_rest(stream);
}

void pg_stream_rest(struct pg_stream *stream)
{
    if (!stream->is_fresh)
        return;
    pg_session_pause(stream->query.session);
    if (is_pulled(stream))
        settle_pull(stream);
}

static void end_answered(struct pg_stream *stream, struct pg_result *result)
{
    struct pg_query *query = &stream->query;
    struct span sqlstate = pg_result_sqlstate(result);
    enum err err = pg_sqlstate_error(sqlstate);

    if (pg_result_kind(result) == PG_RESULT_OK) {
        pg_result_clear(query->result);
        query->result = result;
        end(stream, ERR_OK, NULL, no_text);
        return;
    }
    (void)snprintf(query->sqlstate, sizeof query->sqlstate, "%.*s", SPAN_ARG(sqlstate));
    query->pool->counts.failed++;
    end(stream, err, err == ERR_DEADLINE ? "pg_timeout" : "pg_error",
        arena_copy(&query->op.scope->arena, pg_result_message(result)));
    pg_result_clear(result);
}

void pg_stream_answered(struct pg_stream *stream, struct pg_session *session,
                        const struct pg_answer *answer)
{
    struct pg_query *query = &stream->query;

    CHECK(stream->state == PG_STREAM_FLOWING);
    query->is_maybe_applied =
        answer->outcome != PG_ANSWERED && (query->flags & PG_READ_ONLY) == 0 && !session->is_pinned;
    switch (answer->outcome) {
    case PG_ANSWERED:
        end_answered(stream, answer->result);
        break;
    case PG_TOO_BIG:
        end(stream, ERR_DB, "pg_result_too_big", too_big);
        break;
    case PG_ABORTED:
        end(stream, ERR_DB, "pg_error", SPAN("the server did not run it to its end"));
        break;
    case PG_LOST:
        end(stream, ERR_DB_DOWN, "pg_lost", no_text);
        break;
    }
    if (is_pulled(stream))
        settle_pull(stream);
}

/* Standing still */

static void on_still(struct timer *timer)
{
    struct pg_stream *stream = CONTAINER_OF(timer, struct pg_stream, timer);
    const struct pg_pool *pool = stream->query.pool;
    uint64_t end_ms = stream->moved_ms + pool->options->stream_timeout_ms;

    if (end_ms > loop_now_ms(pool->loop)) {
        timer_start_at(pool->loop, timer, end_ms, on_still);
        return;
    }
    pg_stream_give_up(stream, ERR_DEADLINE, "pg_stream_timeout",
                      SPAN("the stream stood still for longer than stream_timeout"));
}

static void start_clock(struct pg_stream *stream)
{
    const struct pg_pool *pool = stream->query.pool;

    stream->moved_ms = loop_now_ms(pool->loop);
    timer_start(pool->loop, &stream->timer, pool->options->stream_timeout_ms, on_still);
}

/* For users */

struct op *pg_stream_start(struct scope *scope, const struct pg_call *call)
{
    struct pg_stream *stream = scope_alloc(scope, sizeof *stream);
    struct op *op;

    stream->query.stream = stream;
    op = pg_query_start_as(scope, call, &stream->query);
    if (op != &stream->query.op || op->state != OP_PENDING) {
        stream->state = PG_STREAM_ENDED; /* it never began */
        return op;
    }
    start_clock(stream);
    if (call->transaction != NULL)
        stream->transaction = call->transaction->root;
    if (stream->transaction != NULL)
        stream->transaction->stream = stream;
    return op;
}

void pg_stream_release(struct pg_stream *stream)
{
    pg_stream_give_up(stream, ERR_STATE, NULL, no_text);
    if (stream->pull != NULL)
        stream->pull->stream = NULL;
    stream->pull = NULL;
    timer_stop(&stream->timer);
    pg_page_deinit(&stream->page);
    buf_release(&stream->json);
}

/* Memory for a pull: that of the last one, where nobody looks at it any more, since a stream may
 * have as many pulls as it likes. */
static struct pg_pull *make_pull(struct pg_stream *stream)
{
    struct pg_pull *last = stream->pull;

    stream->pull = NULL;
    if (last != NULL)
        last->stream = NULL;
    if (last == NULL || op_release(&last->op) != ERR_OK)
        return scope_alloc(stream->query.op.scope, sizeof *last);
    memset(last, 0, sizeof *last);
    return last;
}

static void drop_page(struct pg_stream *stream)
{
    pg_page_clear(&stream->page);
    if (stream->json._size > JSON_KEPT_MAX)
        buf_release(&stream->json);
    else
        buf_consume(&stream->json, stream->json.len);
}

static void begin_pull(struct pg_stream *stream)
{
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (!stream->is_fresh)
        drop_page(stream);
    if (stream->is_fresh && stream->state == PG_STREAM_FLOWING && !pg_page_is_full(&stream->page))
        pg_session_resume(stream->query.session); /* there may be more: it settles in on_rest() */
    else if (stream->is_fresh || stream->state == PG_STREAM_ENDED)
        settle_pull(stream);
    else
        pg_session_resume(stream->query.session);
}

static struct op *refuse(const struct op *open, const char *why)
{
    return op_failed(open->scope, ERR_STATE, "pg_error", span_of(why));
}

struct op *pg_stream_next(struct op *open)
{
    struct pg_stream *stream = op_is_pg(open) ? pg_query_of(open)->stream : NULL;
    struct pg_pull *pull;

    if (stream == NULL || open->state == OP_PENDING || open->status != ERR_OK)
        return refuse(open, "no stream, or none that is open");
    if (is_pulled(stream))
        return refuse(open, "a pull of the stream is pending");
    pull = make_pull(stream);
    if (!op_init(&pull->op, open->scope, &pull_kind))
        return &pull->op;
    op_begin(&pull->op);
    stream->pull = pull;
    pull->stream = stream;
    begin_pull(stream);
    return &pull->op;
}

struct span pg_stream_json(const struct op *pull, size_t size_max)
{
    const struct pg_page *page = pg_stream_page(pull);
    struct pg_stream *stream;

    if (page == NULL)
        return (struct span){NULL, 0};
    stream = pull_of(pull)->stream;
    if (stream->json.len > 0)
        return buf_span(&stream->json);
    if (pg_json_piece(pull, stream->pulls == 1, size_max, &stream->json)) {
        *buf_reserve(&stream->json, 1) = '\0'; /* as behind every text */
        return buf_span(&stream->json);
    }
    buf_release(&stream->json);
    return (struct span){NULL, 0};
}
