/* pg/transaction.c - a session of one's own between BEGIN and COMMIT.
 *
 *   BEGINNING (waits for a session; BEGIN sent) ──▶ OPEN ──▶ ENDED (COMMIT or ROLLBACK sent)
 *        └────────────────────────────────────────────┴──▶ ENDED: its op went, ROLLBACK sent
 *
 * It holds its session until COMMIT or ROLLBACK is sent; from there the session finds back by
 * itself, once it is idle and outside of a transaction. One whose session broke is lost: OPEN, but
 * nothing can be run on it.
 */
#include "pg/transaction.h"
#include "base/check.h"
#include "pg/private.h"
#include "task/scope.h"

/* A BEGIN with what it begins. */
struct begin {
    struct pg_query query;             /* first */
    struct pg_transaction transaction; /* lives as long as the op */
};

static struct span begin_sql(struct scope *scope, uint32_t flags)
{
    const char *level = "";

    if ((flags & PG_TX_SERIALIZABLE) != 0)
        level = " isolation level serializable";
    else if ((flags & PG_TX_REPEATABLE_READ) != 0)
        level = " isolation level repeatable read";
    return arena_format(&scope->arena, "begin%s%s%s", level,
                        (flags & PG_TX_READ_ONLY) != 0 ? " read only" : "",
                        (flags & PG_TX_DEFERRABLE) != 0 ? " deferrable" : "");
}

struct op *pg_begin(struct scope *scope, struct pg_pool *pool, uint32_t flags)
{
    struct begin *begin = scope_alloc(scope, sizeof *begin);
    struct pg_transaction *transaction = &begin->transaction;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    transaction->magic = PG_TRANSACTION_MAGIC;
    transaction->state = PG_TX_BEGINNING;
    transaction->pool = pool;
    transaction->scope = scope;
    list_init(&transaction->waiting);
    list_init(&transaction->link);
    begin->query.transaction = transaction;
    if (pg_query_init(&begin->query, scope, pool, PG_DO_BEGIN, begin_sql(scope, flags)))
        pg_query_submit(&begin->query);
    return &begin->query.op;
}

struct pg_transaction *pg_transaction_of(struct op *begin)
{
    if (!op_is_pg(begin) || pg_query_of(begin)->what != PG_DO_BEGIN || begin->state == OP_PENDING ||
        begin->status != ERR_OK)
        return NULL;
    return pg_query_of(begin)->transaction;
}

void pg_transaction_pin(struct pg_transaction *transaction, struct pg_session *session)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    CHECK(transaction->state == PG_TX_BEGINNING);
    transaction->session = session;
    session->transaction = transaction;
    session->is_pinned = true;
    session->load.is_taken = true;
    transaction->pool->counts.sessions_pinned++;
}

void pg_transaction_begun(struct pg_transaction *transaction, bool is_ok)
{
    CHECK(transaction->state == PG_TX_BEGINNING);
    if (is_ok)
        transaction->state = PG_TX_OPEN;
    else
        pg_transaction_end(transaction);
}

/* From here on the session finds back by itself. */
static struct pg_session *let_go(struct pg_transaction *transaction)
{
    struct pg_session *session = transaction->session;

    transaction->state = PG_TX_ENDED;
    transaction->session = NULL;
    list_remove(&transaction->link);
    if (session != NULL) {
        session->transaction = NULL;
        session->is_returning = true;
    }
    return session;
}

/* All that waits on it will not be sent. */
static void fail_waiting(struct pg_transaction *transaction, enum err err, const char *reason)
{
    struct list *link;

    while ((link = list_first(&transaction->waiting)) != NULL) {
        struct pg_query *query = CONTAINER_OF(link, struct pg_query, link);
        bool is_rollback = query->what == PG_DO_ROLLBACK;

        pg_pool_withdraw(transaction->pool, query);
        pg_query_settle(query, is_rollback ? ERR_OK : err, is_rollback ? NULL : reason);
    }
}

void pg_transaction_end(struct pg_transaction *transaction)
{
    struct pg_session *session;

    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    if (transaction->state == PG_TX_ENDED)
        return;
    if (transaction->stream != NULL)
        pg_stream_give_up(transaction->stream, ERR_STATE, "pg_error",
                          SPAN("the transaction has ended"));
    session = let_go(transaction);
    fail_waiting(transaction, ERR_STATE, "pg_error");
    if (session == NULL)
        return;
    session->is_rolling_back = true;
    pg_session_command(session, "rollback");
    pg_control_notice(&transaction->pool->control);
}

void pg_transaction_lost(struct pg_transaction *transaction)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    transaction->session = NULL;
    transaction->is_lost = true;
    list_remove(&transaction->link);
    fail_waiting(transaction, ERR_DB_DOWN, "pg_lost");
}

static bool has_ended(const struct pg_transaction *transaction)
{
    return transaction->state != PG_TX_OPEN || transaction->is_committing;
}

enum err pg_transaction_check(const struct pg_transaction *transaction, const char **problem)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    *problem = "the transaction has ended";
    if (has_ended(transaction))
        return ERR_STATE;
    if (transaction->is_lost)
        return ERR_DB_DOWN;
    *problem = "a stream is open on the transaction: it is to be read to its end, or released";
    if (transaction->stream != NULL)
        return ERR_STATE;
    *problem = "a stream on the transaction was given up: it can only be rolled back";
    return transaction->is_spoiled ? ERR_STATE : ERR_OK;
}

void pg_transaction_room(struct pg_transaction *transaction)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    if (list_is_empty(&transaction->waiting) || !list_is_empty(&transaction->link))
        return;
    list_append(&transaction->pool->transactions, &transaction->link);
    pg_pool_wake(transaction->pool);
}

void pg_transaction_add(struct pg_transaction *transaction, struct pg_query *query)
{
    CHECK(transaction->session != NULL);
    list_append(&transaction->waiting, &query->link);
    pg_transaction_room(transaction);
}

static bool send_next(struct pg_transaction *transaction)
{
    struct list *link = list_first(&transaction->waiting);
    struct pg_query *query = CONTAINER_OF(link, struct pg_query, link);

    if (!pg_session_run(transaction->session, query, false))
        return false;
    pg_pool_sent(transaction->pool, query);
    query->transaction = NULL;
    if (query->what != PG_DO_RUN)
        (void)let_go(transaction);
    return true;
}

void pg_transaction_send(struct pg_transaction *transaction)
{
    uint32_t depth_max = transaction->pool->options->depth_max;

    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    list_remove(&transaction->link);
    while (!list_is_empty(&transaction->waiting)) {
        if (transaction->session->load.statements >= depth_max || !send_next(transaction))
            return;
    }
}

/* COMMIT and ROLLBACK */

static struct op *finish(struct pg_transaction *transaction, enum pg_query_what what,
                         struct span sql)
{
    const char *problem;
    struct pg_query *query;
    enum err err;

    if (what == PG_DO_ROLLBACK && transaction->stream != NULL)
        pg_stream_give_up(transaction->stream, ERR_STATE, "pg_error",
                          SPAN("the transaction has ended"));
    err = pg_transaction_check(transaction, &problem);
    if (what == PG_DO_ROLLBACK && !has_ended(transaction) && !transaction->is_lost)
        err = ERR_OK; /* it can always be rolled back */
    if (err == ERR_STATE)
        return op_failed(transaction->scope, ERR_STATE, "pg_error", span_of(problem));
    query = scope_alloc(transaction->scope, sizeof *query);
    query->transaction = transaction;
    if (!pg_query_init(query, transaction->scope, transaction->pool, what, sql))
        return &query->op;
    transaction->is_committing = true;
    if (err == ERR_OK)
        pg_query_submit(query);
    else if (what == PG_DO_ROLLBACK)
        pg_query_settle(query, ERR_OK, NULL);
    else
        pg_query_settle(query, ERR_DB_DOWN, "pg_lost");
    return &query->op;
}

struct op *pg_commit(struct pg_transaction *transaction)
{
    return finish(transaction, PG_DO_COMMIT, SPAN("commit"));
}

struct op *pg_rollback(struct pg_transaction *transaction)
{
    return finish(transaction, PG_DO_ROLLBACK, SPAN("rollback"));
}
