/* pg/query.c - a statement as an op.
 *
 *   QUEUED (pool, transaction) ──▶ SENT (session) ──▶ DONE      a neighbour's error, a plan that is
 *      │ ▲                            │    │                    out of date: QUEUED once more
 *      │ └────────────────────────────┘    │
 *      └──▶ DONE: canceled, refused        └──▶ DONE: canceled; a tombstone stays in the session
 *
 * An op that is canceled retires at once: the session forgets it, and its parameters are in libpq's
 * buffer already.
 */
#include "base/check.h"
#include "base/log.h"
#include "pg/encode.h"
#include "pg/plans.h"
#include "pg/private.h"
#include "task/scope.h"
#include <stdio.h>

enum { ABORTED_MAX = 2 };

/* What it takes */

static uint32_t expected_us(const struct pg_query *query)
{
    if (query->statement != NULL)
        return query->pool->statements.list[query->statement->id]->expected_us;
    return pg_suspects_expected_us(&query->pool->suspects, query->sql);
}

/* What it took is a sample of what its next run will. */
static void learn(const struct pg_query *query, uint64_t took_us)
{
    struct pg_statement *statement;

    if (query->what != PG_DO_RUN || query->stream != NULL)
        return;
    if (query->statement == NULL) {
        pg_suspects_learn(&query->pool->suspects, query->sql, took_us);
        return;
    }
    statement = query->pool->statements.list[query->statement->id];
    statement->expected_us = pg_dispatch_learn(statement->expected_us, took_us);
}

/* It was ended after `took_us`: it takes longer than that. Nothing else is known, so that proves
 * none quick. */
static void learn_longer(const struct pg_query *query, uint64_t took_us)
{
    uint32_t took = took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX;
    uint32_t so_far_us = expected_us(query);

    if (so_far_us > 0 ? took > so_far_us : pg_dispatch_is_slow(took))
        learn(query, took_us);
}

/* Life of the op */

void pg_query_note_over(const struct pg_query *query)
{
    CHECK(query->pool->pending > 0);
    query->pool->pending--;
}

static void release(struct op *op)
{
    struct pg_query *query = pg_query_of(op);

    if (query->stream != NULL)
        pg_stream_release(query->stream);
    pg_result_clear(query->result);
    query->result = NULL;
    if (query->begins != NULL)
        pg_transaction_end(query->begins);
}

static void leave(struct pg_query *query)
{
    learn_longer(query, pg_session_ran_us(query->session, query));
    pg_session_forget(query->session, query);
}

/* One that is being opened, to which nothing was written yet. */
static bool is_copy_in(const struct pg_query *query)
{
    return query->stream != NULL && query->stream->kind == PG_STREAM_COPY_IN;
}

/* In a transaction nobody has held it to what it says, and the transaction may be committed. */
static bool may_apply(const struct pg_query *query)
{
    return query->what == PG_DO_COMMIT ||
           (query->what == PG_DO_RUN && !is_copy_in(query) &&
            (query->session->is_pinned || (query->flags & PG_READ_ONLY) == 0));
}

static void withdraw(struct op *op)
{
    struct pg_query *query = pg_query_of(op);

    CHECK(query->state != PG_QUERY_DONE);
    if (query->state == PG_QUERY_QUEUED) {
        pg_pool_withdraw(query->pool, query);
        pg_transaction_withdrawn(query);
    } else {
        query->is_maybe_applied = may_apply(query);
        if (query->stream != NULL)
            pg_stream_leave(query->stream);
        else
            leave(query);
        pg_control_notice(&query->pool->control);
    }
    query->state = PG_QUERY_DONE;
    pg_query_note_over(query);
    query->pool->counts.canceled++;
    if (query->begins != NULL)
        pg_transaction_end(query->begins);
    if (query->stream != NULL)
        pg_stream_unopened(query->stream);
    op_retire(op);
}

static const struct op_kind query_kind = {
    .name = "pg query",
    .account = SCOPE_TIME_PG,
    .withdraw = withdraw,
    .release = release,
    .settled = pg_note_settled,
    .describe = pg_note_describe,
};

bool op_is_pg(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    return op->kind == &query_kind;
}

bool pg_query_init(struct pg_query *query, struct scope *scope, struct pg_pool *pool,
                   enum pg_query_what what, struct span sql)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(sql.ptr != NULL);
    CHECK(sql.ptr[sql.len] == '\0');
    query->pool = pool;
    query->what = what;
    query->sql = sql;
    query->state = PG_QUERY_DONE;
    list_init(&query->link);
    if (!op_init(&query->op, scope, &query_kind))
        return false;
    query->state = PG_QUERY_QUEUED;
    pool->pending++;
    return true;
}

void pg_query_settle(struct pg_query *query, enum err err, const char *reason)
{
    CHECK(query->state != PG_QUERY_DONE);
    CHECK(query->session == NULL);
    CHECK(list_is_empty(&query->link));
    query->state = PG_QUERY_DONE;
    pg_query_note_over(query);
    query->pool->counts.statements++;
    if (query->begins != NULL)
        pg_transaction_begun(query->begins, err == ERR_OK);
    op_finish(&query->op, err, reason);
    if (query->stream != NULL)
        pg_stream_unopened(query->stream);
}

void pg_query_submit(struct pg_query *query)
{
    if (pg_pool_submit(query->pool, query))
        return;
    query->pool->counts.refused++;
    pg_query_settle(query, ERR_DB_BUSY, "pg_queue_full");
}

/* Parameters */

static size_t values_size(const struct pg_call *call)
{
    size_t size = call->count * sizeof(char *);

    for (uint32_t i = 0; i < call->count; i++)
        size += pg_value_size(&call->values[i]);
    return size;
}

static void copy_values(struct scope *scope, struct pg_query *query, const struct pg_call *call)
{
    size_t size = values_size(call);
    const char **values;
    char *text;

    if (call->count == 0)
        return;
    values = scope_alloc(scope, size);
    text = (char *)(values + call->count);
    for (uint32_t i = 0; i < call->count; i++) {
        if (pg_value_is_null(&call->values[i]))
            continue;
        pg_value_write(&call->values[i], text);
        values[i] = text;
        text += pg_value_size(&call->values[i]);
    }
    query->values = values;
    query->count = call->count;
    query->bytes = size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
}

/* Starting */

/* What is wrong with a call; ERR_OK: nothing. */
static enum err check_values(const struct pg_call *call, const char **problem)
{
    if (call->count > PG_PARAMS_MAX) {
        *problem = "too many parameters";
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < call->count; i++) {
        enum err err;

        *problem = pg_value_problem(&call->values[i], &err);
        if (*problem != NULL)
            return err;
    }
    return ERR_OK;
}

static enum err check_sql(const struct pg_call *call, const char **problem)
{
    if (memchr(call->sql.ptr, '\0', call->sql.len) != NULL)
        *problem = "a statement with a NUL in it";
    else if (call->is_copy)
        *problem = pg_is_refused_copy(call->sql, call->is_copy_in);
    else if (call->transaction != NULL)
        *problem = pg_is_refused_in_transaction(call->sql);
    else
        *problem = pg_is_refused(call->sql);
    return *problem != NULL ? ERR_INVALID : ERR_OK;
}

static enum err check_call(const struct pg_call *call, bool is_stream, const char **problem)
{
    const struct pg_pool *pool = call->pool;

    if (call->transaction != NULL) {
        enum err err = is_stream ? pg_transaction_check_alone(call->transaction, problem)
                                 : pg_transaction_check(call->transaction, problem);

        if (err != ERR_OK)
            return err;
        pool = call->transaction->pool;
    }
    if (call->statement != NULL && call->statement->pool != pool) {
        *problem = "the statement was declared on another pool";
        return ERR_INVALID;
    }
    if (call->statement != NULL && call->transaction == NULL && call->statement->advice != NULL) {
        *problem = call->statement->advice;
        return ERR_INVALID;
    }
    if (call->statement == NULL && check_sql(call, problem) != ERR_OK)
        return ERR_INVALID;
    return check_values(call, problem);
}

struct op *pg_query_start_as(struct scope *scope, const struct pg_call *call,
                             struct pg_query *query)
{
    const char *problem = NULL;
    struct span sql;
    enum err err;

    CHECK((call->pool != NULL) != (call->transaction != NULL));
    CHECK(call->pool == NULL || call->pool->magic == PG_POOL_MAGIC);
    CHECK((call->statement != NULL) != (call->sql.ptr != NULL));
    err = check_call(call, query->stream != NULL, &problem);
    if (err != ERR_OK)
        return op_failed(scope, err, err == ERR_DB_DOWN ? "pg_lost" : "pg_error", span_of(problem));
    if (values_size(call) + call->sql.len > scope_room(scope)) {
        scope_cancel(scope, SCOPE_MEMORY);
        return op_failed(scope, ERR_CANCELED, NULL, SPAN("parameters beyond the limit of memory"));
    }
    query->transaction = call->transaction;
    query->statement = call->statement;
    query->flags = call->statement != NULL ? call->statement->flags : call->flags;
    sql = call->statement != NULL ? call->statement->sql : arena_copy(&scope->arena, call->sql);
    copy_values(scope, query, call);
    if (pg_query_init(query, scope, call->pool != NULL ? call->pool : call->transaction->pool,
                      PG_DO_RUN, sql))
        pg_query_submit(query);
    return &query->op;
}

struct op *pg_query_start(struct scope *scope, const struct pg_call *call)
{
    return pg_query_start_as(scope, call, scope_alloc(scope, sizeof(struct pg_query)));
}

/* Answers */

static bool may_have_applied(const struct pg_query *query, const struct pg_session *session)
{
    switch (query->what) {
    case PG_DO_RUN:
        if (is_copy_in(query))
            return false;
        /* In a transaction only a COMMIT applies anything, and nothing is held to what it says. */
        return session->is_pinned ? session->is_returning : (query->flags & PG_READ_ONLY) == 0;
    case PG_DO_COMMIT:
        return true;
    case PG_DO_BEGIN:
    case PG_DO_ROLLBACK:
    case PG_DO_SAVEPOINT:
    case PG_DO_RELEASE:
    case PG_DO_UNDO:
        return false;
    }
    return true;
}

static void run_again(struct pg_query *query)
{
    query->must_run_alone = true;
    query->pool->counts.run_again++;
    pg_pool_submit_again(query->pool, query);
}

/* Our cancel of a neighbour under its Sync has ended it? Once only: then it runs alone. */
static bool is_sacrificed(const struct pg_query *query, const struct pg_session *session)
{
    return session->is_canceling && !query->must_run_alone && (query->flags & PG_READ_ONLY) != 0;
}

/* False: it was, often enough. By then it has none to blame but itself: the last time it gets a
 * session of its own, where there are no neighbours. */
static bool may_run_again(struct pg_query *query, const struct pg_session *session)
{
    if (!is_sacrificed(query, session) && ++query->aborted_count > ABORTED_MAX)
        return false;
    if (query->aborted_count == ABORTED_MAX)
        query->wants_own = true;
    run_again(query);
    return true;
}

/* Its neighbour's answer ended the session. */
static bool is_harmless_again(const struct pg_query *query, const struct pg_session *session)
{
    return session->is_overfull && !session->is_pinned && query->what == PG_DO_RUN &&
           (query->flags & PG_READ_ONLY) != 0;
}

static void lost(struct pg_query *query, struct pg_session *session)
{
    if (is_harmless_again(query, session) && may_run_again(query, session))
        return;
    query->is_maybe_applied = may_have_applied(query, session);
    if (query->what == PG_DO_ROLLBACK || query->what == PG_DO_UNDO)
        pg_query_settle(query, ERR_OK, NULL);
    else
        pg_query_settle(query, ERR_DB_DOWN, "pg_lost");
}

static void aborted(struct pg_query *query, const struct pg_session *session)
{
    if (may_run_again(query, session))
        return;
    op_explain(&query->op, SPAN("the server did not run it"));
    pg_query_settle(query, ERR_DB, "pg_error");
}

/* Once only: then the guard goes unprepared, too. */
static void unguarded(struct pg_query *query)
{
    query->was_renewed = true;
    run_again(query);
}

/* It has run, as far as anybody knows. */
static void too_big(struct pg_query *query, const struct pg_session *session)
{
    query->is_maybe_applied = may_have_applied(query, session);
    query->pool->counts.failed++;
    op_explain(&query->op, SPAN("the result is larger than result_max"));
    pg_query_settle(query, ERR_DB, "pg_result_too_big");
}

/* Did our cancel of another statement hit this one, before it could apply anything? Not where its
 * time may have been up: the server's clock starts when that reads it, ours when we read the answer
 * before it, which may be later. Under one Sync any of them may have had all the time. */
static bool was_hit(const struct pg_query *query, const struct pg_session *session,
                    const struct pg_answer *answer, struct span sqlstate)
{
    uint64_t timeout_us = query->pool->options->statement_timeout_ms * 1000ull;

    if (!session->is_canceling || session->is_pinned || !span_equal(sqlstate, SPAN("57014")))
        return false;
    return timeout_us == 0 || answer->group_us < timeout_us - timeout_us / 8;
}

/* May it have committed something before it was hit? A CALL may, or a CREATE INDEX CONCURRENTLY. */
static bool may_stand(const struct pg_query *query)
{
    return query->what == PG_DO_RUN && (query->flags & PG_READ_ONLY) == 0 && !is_copy_in(query) &&
           !pg_is_undone_by_error(query->sql);
}

/* Its plan is of no use any more. It runs once more, without being prepared, and so gets its own
 * answer whatever others do; the next use prepares it anew. Never what may have been executed and
 * have committed something before it failed. */
static bool may_renew(const struct pg_query *query, const struct pg_session *session,
                      enum pg_plan_fault fault)
{
    if (session->is_pinned)
        return false; /* the error has aborted the transaction */
    return fault == PG_PLAN_STALE || pg_is_undone_by_error(query->sql);
}

/* What was to end a transaction was not executed, for its plan's fault or since a cancel of what
 * ran before has hit it: it is undone in another way. True: as was asked for. */
static bool undo(const struct pg_query *query, struct pg_session *session)
{
    if (query->what == PG_DO_UNDO)
        pg_transaction_undo(session, query);
    else if (query->what == PG_DO_COMMIT || query->what == PG_DO_ROLLBACK)
        pg_session_command(session, "rollback");
    return query->what == PG_DO_UNDO || query->what == PG_DO_ROLLBACK;
}

static bool is_undone_anyway(const struct pg_query *query, struct pg_session *session,
                             struct span sqlstate)
{
    return query->what == PG_DO_ROLLBACK && span_equal(sqlstate, SPAN("57014")) &&
           undo(query, session);
}

/* Sees to a statement that failed with `err`, where that is its plan's fault. ERR_OK: it is run
 * again, or has settled; ERR_DB_RETRY: its transaction, of which nothing was applied, is to be run
 * again. */
static enum err renew(struct pg_query *query, struct pg_session *session,
                      const struct pg_result *result, enum err err)
{
    enum pg_plan_fault fault = query->number != 0 ? pg_result_plan_fault(result) : PG_PLAN_FINE;

    if (fault == PG_PLAN_FINE)
        return err;
    pg_plans_drop(session, query, span_equal(pg_result_sqlstate(result), SPAN("0A000")));
    if (may_renew(query, session, fault)) {
        query->was_renewed = true;
        run_again(query);
        return ERR_OK;
    }
    if (!session->is_pinned || fault != PG_PLAN_STALE)
        return err;
    query->pool->plans_round++;
    if (!undo(query, session))
        return ERR_DB_RETRY;
    pg_query_settle(query, ERR_OK, NULL);
    return ERR_OK;
}

/* Is it the server that the pool wants, as libpq judges it? Then no other one would be found. */
static bool is_in_place(const struct pg_pool *pool, const struct pg_session *session)
{
    return pool->aim.wants_primary ? pg_session_is_primary(session)
                                   : pg_session_takes_writes(session);
}

/* The server takes no writes any more, though the pool wants one that does: it was demoted. Who
 * says by itself that it only reads is refused for that; of old servers and behind a pooler only
 * what was said at the beginning is known. */
static bool is_demoted(const struct pg_query *query, const struct pg_session *session,
                       struct span sqlstate)
{
    if (!query->pool->aim.wants_writer || !span_equal(sqlstate, SPAN("25006")) ||
        is_in_place(query->pool, session))
        return false;
    if (session->is_pinned)
        return session->transaction != NULL && !session->transaction->is_read_only;
    return (query->flags & PG_READ_ONLY) == 0;
}

/* For who looks for it: whoever turns the failure into an answer logs it for everybody. */
static void report(const struct pg_query *query)
{
    log_debug("pg %s: statement %s failed with SQLSTATE %s", query->pool->name,
              query->statement != NULL ? query->statement->name : "(ad hoc)", query->sqlstate);
}

/* Is the failure none of its own, or what was asked for all the same? Then that is seen to. Else
 * *err is what it is for people, and whether anything may have been applied is noted. */
static bool is_overcome(struct pg_query *query, struct pg_session *session,
                        const struct pg_answer *answer, struct span sqlstate, enum err *err)
{
    if (was_hit(query, session, answer, sqlstate)) {
        query->is_maybe_applied = may_stand(query);
        if (!query->is_maybe_applied && may_run_again(query, session))
            return true;
    }
    if (is_undone_anyway(query, session, sqlstate)) {
        pg_query_settle(query, ERR_OK, NULL);
        return true;
    }
    *err = renew(query, session, answer->result, *err);
    if (*err == ERR_OK)
        return true;
    if (!is_demoted(query, session, sqlstate))
        return false;
    pg_pool_move(query->pool, session);
    *err = ERR_DB_RETRY; /* the transaction's; a statement alone has not run and waits */
    return !session->is_pinned && query->stream == NULL && may_run_again(query, session);
}

/* What was refused only since another one has aborted the transaction is to be run again where that
 * is: so whoever hands on the failure that he met last says so, too. */
static enum err follow(struct pg_session *session, struct span sqlstate, enum err err)
{
    if (span_equal(sqlstate, PG_REFUSED_IN_ABORTED))
        return session->is_pinned && session->aborted_by == ERR_DB_RETRY ? ERR_DB_RETRY : err;
    session->aborted_by = err;
    return err;
}

static void failed(struct pg_query *query, struct pg_session *session,
                   const struct pg_answer *answer)
{
    struct pg_result *result = answer->result;
    struct span sqlstate = pg_result_sqlstate(result);
    enum err err = pg_sqlstate_error(sqlstate);

    if (is_overcome(query, session, answer, sqlstate, &err)) {
        pg_result_clear(result);
        return;
    }
    err = follow(session, sqlstate, err);
    if (err == ERR_DEADLINE && answer->is_typical)
        learn_longer(query, answer->took_us);
    (void)snprintf(query->sqlstate, sizeof query->sqlstate, "%.*s", SPAN_ARG(sqlstate));
    query->pool->counts.failed++;
    report(query);
    if (query->what == PG_DO_RELEASE)
        pg_transaction_undo(session, query);
    op_explain(&query->op, pg_result_message(result));
    pg_result_clear(result);
    pg_query_settle(query, err, err == ERR_DEADLINE ? "pg_timeout" : "pg_error");
}

/* It has run, but its rows are of no use. */
static void misfits(struct pg_query *query, const struct pg_session *session,
                    struct pg_result *result, const char *problem)
{
    query->is_maybe_applied = may_have_applied(query, session);
    query->pool->counts.failed++;
    op_explain(&query->op, span_of(problem));
    pg_result_clear(result);
    pg_query_settle(query, ERR_DB, "pg_misfit");
}

static void succeeded(struct pg_query *query, const struct pg_session *session,
                      const struct pg_answer *answer)
{
    char problem[PG_MISFIT_SIZE];

    if ((query->flags & PG_BINARY) != 0 && !pg_result_fits(answer->result, problem)) {
        misfits(query, session, answer->result, problem);
        return;
    }
    query->result = answer->result;
    op_hold(&query->op, pg_result_size(query->result));
    if (answer->is_typical)
        learn(query, answer->took_us);
    if (query->what == PG_DO_COMMIT && !span_equal(pg_result_tag(answer->result), SPAN("COMMIT"))) {
        op_explain(&query->op, SPAN("rolled back, since a statement had failed"));
        pg_query_settle(query, session->aborted_by == ERR_DB_RETRY ? ERR_DB_RETRY : ERR_DB,
                        "pg_error");
        return;
    }
    pg_query_settle(query, ERR_OK, NULL);
}

void pg_query_answered(struct pg_query *query, struct pg_session *session,
                       const struct pg_answer *answer)
{
    CHECK(query->state == PG_QUERY_SENT);
    CHECK(query->session == NULL);
    if (query->op.state != OP_PENDING) {
        CHECK(query->stream != NULL);
        query->state = PG_QUERY_DONE;
        pg_stream_answered(query->stream, session, answer);
        return;
    }
    switch (answer->outcome) {
    case PG_LOST:
        lost(query, session);
        return;
    case PG_ABORTED:
        aborted(query, session);
        return;
    case PG_UNGUARDED:
        unguarded(query);
        return;
    case PG_TOO_BIG:
        too_big(query, session);
        return;
    case PG_ANSWERED:
        if (pg_result_kind(answer->result) == PG_RESULT_OK)
            succeeded(query, session, answer);
        else
            failed(query, session, answer);
    }
}

struct span pg_sqlstate(const struct op *op)
{
    const struct pg_query *query = pg_query_behind(op);

    if (query == NULL || query->sqlstate[0] == '\0' || op->status == ERR_OK)
        return (struct span){NULL, 0};
    return span_of(query->sqlstate);
}

struct span pg_op_statement(const struct op *op)
{
    const struct pg_query *query = pg_query_behind(op);

    if (query == NULL || query->statement == NULL)
        return (struct span){NULL, 0};
    return span_of(query->statement->name);
}

bool pg_maybe_applied(const struct op *op)
{
    const struct pg_query *query = pg_query_behind(op);

    return query != NULL && op->status != ERR_OK && query->is_maybe_applied;
}
