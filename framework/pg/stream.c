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

enum { TEXT_KEPT_MAX = 256 * 1024 }; /* bytes of storage that are kept for the next piece */

static const struct span no_text = {NULL, 0};
static const struct span too_big = SPAN("a row is larger than result_max");

/* A stream takes as long as whoever reads it: the server's limit for a statement is not for it. The
 * session of a pooler is not ours, and keeps its settings; a transaction's limit, which its user
 * may have set, comes and goes by settings that end with it. */
struct pg_stream_sql pg_stream_sql(const struct pg_session *session)
{
    if (session->is_pinned)
        return (struct pg_stream_sql){
            "select set_config('weft.statement_timeout', current_setting('statement_timeout'), "
            "true), set_config('statement_timeout', '0', true)",
            "select set_config('statement_timeout', current_setting('weft.statement_timeout'), "
            "true)"};
    if (session->has_prepared)
        return (struct pg_stream_sql){"set statement_timeout = 0", "reset statement_timeout"};
    return (struct pg_stream_sql){NULL, NULL};
}

static struct pg_pull *pull_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_pull, op);
}

/* The end */

static void end(struct pg_stream *stream, enum err err, const char *reason, struct span error)
{
    CHECK(stream->state != PG_STREAM_ENDED);
    CHECK(stream->transaction == NULL || stream->transaction->stream == stream);
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

static bool has_data(const struct pg_stream *stream)
{
    return stream->page.rows > 0 || stream->piece.len > 0;
}

static void settle_pull(struct pg_stream *stream)
{
    struct op *op = &stream->pull->op;

    CHECK(stream->state == PG_STREAM_ENDED || has_data(stream));
    CHECK(stream->pull->stream == stream);
    stream->is_fresh = false;
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (!has_data(stream) && stream->err != ERR_OK) {
        op_explain(op, stream->error);
        op_finish(op, stream->err, stream->reason);
        return;
    }
    stream->pulls++;
    if (stream->piece.len > 0) {
        *buf_reserve(&stream->piece, 1) = '\0'; /* as behind every text */
        op->piece = buf_span(&stream->piece);
    }
    op_finish(op, ERR_OK, NULL);
}

static bool is_pulled(const struct pg_stream *stream)
{
    return stream->pull != NULL && stream->pull->op.state == OP_PENDING;
}

/* It has ended: whoever waits is told. */
static void tell(struct pg_stream *stream)
{
    if (is_pulled(stream))
        settle_pull(stream);
    pg_copy_ended(stream);
}

/* May it have changed something, though that was not confirmed? */
static bool may_have_applied(const struct pg_stream *stream, bool is_pinned)
{
    return (stream->query.flags & PG_READ_ONLY) == 0 && !is_pinned &&
           (stream->kind != PG_STREAM_COPY_IN || stream->is_closing);
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
    CHECK(stream->state == PG_STREAM_FLOWING);
    pg_stream_leave(stream);
    query->state = PG_QUERY_DONE;
    query->pool->counts.canceled++;
    query->is_maybe_applied = may_have_applied(stream, stream->transaction != NULL);
    end(stream, err, reason, error);
    tell(stream);
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
    if (!op_is_pg_pull(op))
        return pg_copy_query(op);
    return pull_of(op)->stream != NULL ? &pull_of(op)->stream->query : NULL;
}

const struct pg_page *pg_stream_page(const struct op *pull)
{
    if (!op_is_pg_pull(pull) || pull_of(pull)->stream == NULL || pull->state == OP_PENDING ||
        pull->status != ERR_OK)
        return NULL;
    return &pull_of(pull)->stream->page;
}

bool pg_stream_has_page(const struct op *op)
{
    return pg_stream_page(op) != NULL;
}

/* What the session brings */

static void open(struct pg_stream *stream)
{
    struct pg_query *query = &stream->query;

    CHECK(stream->state == PG_STREAM_OPENING);
    CHECK(query->state == PG_QUERY_SENT);
    stream->state = PG_STREAM_FLOWING;
    stream->moved_ms = loop_now_ms(query->pool->loop);
    pg_query_note_over(query);
    query->pool->counts.statements++;
    op_finish(&query->op, ERR_OK, NULL);
}

static bool is_full(const struct pg_stream *stream)
{
    return pg_page_is_full(&stream->page) || stream->piece.len >= PG_PAGE_SIZE;
}

static void note_data(struct pg_stream *stream)
{
    stream->is_fresh = true;
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (is_full(stream) || !is_pulled(stream))
        pg_stream_rest(stream);
}

void pg_stream_row(struct pg_stream *stream, struct pg_result *row)
{
    char problem[PG_MISFIT_SIZE];

    if (pg_result_size(row) > stream->query.pool->options->result_max) {
        pg_result_clear(row);
        pg_stream_give_up(stream, ERR_DB, "pg_result_too_big", too_big);
        return;
    }
    if ((stream->query.flags & PG_BINARY) != 0 && !pg_result_fits(row, problem)) {
        pg_result_clear(row);
        pg_stream_give_up(stream, ERR_DB, "pg_misfit",
                          arena_copy(&stream->query.op.scope->arena, span_of(problem)));
        return;
    }
    if (stream->state == PG_STREAM_OPENING) {
        stream->query.result = pg_result_shape(row);
        open(stream);
    }
    CHECK(stream->state == PG_STREAM_FLOWING);
    pg_page_add(&stream->page, row);
    pg_result_clear(row);
    note_data(stream);
}

void pg_stream_ready(struct pg_stream *stream, bool is_in)
{
    CHECK(stream->state == PG_STREAM_OPENING);
    if (is_in != (stream->kind == PG_STREAM_COPY_IN)) {
        /* The server reads the text in another way (standard_conforming_strings = off). */
        stream->kind = is_in ? PG_STREAM_COPY_IN : PG_STREAM_COPY_OUT;
        pg_stream_give_up(stream, ERR_INVALID, "pg_error",
                          SPAN("the server runs it as a COPY the other way"));
        return;
    }
    open(stream);
    if (!is_in)
        pg_session_pause(stream->query.session);
}

void pg_stream_data(struct pg_stream *stream, struct span data)
{
    CHECK(stream->state == PG_STREAM_FLOWING);
    if (data.len > stream->query.pool->options->result_max) {
        pg_stream_give_up(stream, ERR_DB, "pg_result_too_big", too_big);
        return;
    }
    buf_append(&stream->piece, data);
    note_data(stream);
}

void pg_stream_rest(struct pg_stream *stream)
{
    if (!stream->is_fresh)
        return;
    CHECK(stream->state == PG_STREAM_FLOWING);
    pg_session_pause(stream->query.session);
    if (is_pulled(stream))
        settle_pull(stream);
}

/* The server says in which line of what was copied. */
static struct span describe(const struct pg_stream *stream, const struct pg_result *result)
{
    struct arena *arena = &stream->query.op.scope->arena;
    struct span message = pg_result_message(result), where = pg_result_context(result);

    if (stream->kind != PG_STREAM_COPY_IN || where.ptr == NULL)
        return arena_copy(arena, message);
    return arena_format(arena, "%.*s (%.*s)", SPAN_ARG(message), SPAN_ARG(where));
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
    end(stream, err, err == ERR_DEADLINE ? "pg_timeout" : "pg_error", describe(stream, result));
    pg_result_clear(result);
}

void pg_stream_answered(struct pg_stream *stream, struct pg_session *session,
                        const struct pg_answer *answer)
{
    struct pg_query *query = &stream->query;

    CHECK(stream->state == PG_STREAM_FLOWING);
    query->is_maybe_applied =
        answer->outcome != PG_ANSWERED && may_have_applied(stream, session->is_pinned);
    switch (answer->outcome) {
    case PG_ANSWERED:
        end_answered(stream, answer->result);
        break;
    case PG_TOO_BIG:
        end(stream, ERR_DB, "pg_result_too_big", too_big);
        break;
    case PG_ABORTED:
    case PG_UNGUARDED:
        end(stream, ERR_DB, "pg_error", SPAN("the server did not run it to its end"));
        break;
    case PG_LOST:
        end(stream, ERR_DB_DOWN, "pg_lost", no_text);
        break;
    }
    tell(stream);
}

/* Standing still */

static void on_still(struct timer *timer)
{
    struct pg_stream *stream = CONTAINER_OF(timer, struct pg_stream, timer);
    const struct pg_pool *pool = stream->query.pool;
    uint64_t end_ms = stream->moved_ms + pool->options->stream_timeout_ms;

    CHECK(stream->state != PG_STREAM_ENDED);
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

struct op *pg_stream_open(struct scope *scope, const struct pg_call *call, enum pg_stream_kind kind)
{
    struct pg_stream *stream = scope_alloc(scope, sizeof *stream);
    struct op *op;

    stream->kind = kind;
    list_init(&stream->writes);
    stream->query.stream = stream;
    op = pg_query_start_as(scope, call, &stream->query);
    if (op != &stream->query.op || op->state != OP_PENDING) {
        stream->state = PG_STREAM_ENDED; /* it never began */
        return op;
    }
    start_clock(stream);
    if (call->transaction != NULL)
        stream->transaction = call->transaction->root;
    if (stream->transaction == NULL)
        return op;
    CHECK(stream->transaction->stream == NULL);
    stream->transaction->stream = stream;
    return op;
}

struct op *pg_stream_start(struct scope *scope, const struct pg_call *call)
{
    return pg_stream_open(scope, call, PG_STREAM_ROWS);
}

/* What it brought is given up. */
static void part(struct pg_pull *pull)
{
    pull->stream = NULL;
    pull->op.piece = no_text;
}

void pg_stream_release(struct pg_stream *stream)
{
    pg_stream_give_up(stream, ERR_STATE, NULL, no_text);
    if (stream->pull != NULL)
        part(stream->pull);
    stream->pull = NULL;
    pg_copy_release(stream);
    timer_stop(&stream->timer);
    pg_page_deinit(&stream->page);
    buf_release(&stream->piece);
    buf_release(&stream->json);
}

/* Memory for a pull: that of the last one, where nobody looks at it any more, since a stream may
 * have as many pulls as it likes. */
static struct pg_pull *make_pull(struct pg_stream *stream)
{
    struct pg_pull *last = stream->pull;

    stream->pull = NULL;
    if (last != NULL)
        part(last);
    if (last == NULL || op_release(&last->op) != ERR_OK)
        return scope_alloc(stream->query.op.scope, sizeof *last);
    memset(last, 0, sizeof *last);
    return last;
}

static void empty(struct buf *buf)
{
    if (buf->_size > TEXT_KEPT_MAX)
        buf_release(buf);
    else
        buf_consume(buf, buf->len);
}

static void drop_data(struct pg_stream *stream)
{
    pg_page_clear(&stream->page);
    empty(&stream->piece);
    empty(&stream->json);
}

static void begin_pull(struct pg_stream *stream)
{
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    if (!stream->is_fresh)
        drop_data(stream);
    if (stream->is_fresh && stream->state == PG_STREAM_FLOWING && !is_full(stream))
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

struct op *pg_stream_pull(struct op *open, enum pg_stream_kind kind)
{
    struct pg_stream *stream = op_is_pg(open) ? pg_query_of(open)->stream : NULL;
    struct pg_pull *pull;

    if (stream == NULL || stream->kind != kind || open->state == OP_PENDING ||
        open->status != ERR_OK)
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

struct op *pg_stream_next(struct op *open)
{
    return pg_stream_pull(open, PG_STREAM_ROWS);
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
