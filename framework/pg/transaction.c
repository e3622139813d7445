/* pg/transaction.c - a session of one's own between BEGIN and COMMIT.
 *
 *   BEGINNING (waits for a session; BEGIN sent) ──▶ OPEN ──▶ ENDED (COMMIT or ROLLBACK sent)
 *        └────────────────────────────────────────────┴──▶ ENDED: its op went, ROLLBACK sent
 *
 * It holds its session until COMMIT or ROLLBACK is sent; from there the session finds back by
 * itself, once it is idle and outside of a transaction. One whose session broke is lost: OPEN, but
 * nothing can be run on it.
 *
 * A nested one is a savepoint of its root, the whole one, and has neither session nor line of its
 * own. BEGIN is then SAVEPOINT, COMMIT is RELEASE, ROLLBACK is ROLLBACK TO. The root lists them in
 * the order in which their SAVEPOINTs were sent, as the server does: those behind one are in it,
 * and end with it. One that was not sent yet, or was given up before its answer came, is in none.
 *
 * The server has one line of savepoints: what runs behind one is in it, whichever of the open
 * transactions it was meant for. So a statement or a begin is taken by the innermost one only,
 * which is the last in that list but for those whose end is in line. A statement that comes behind
 * a begin which was not sent yet is sent before it.
 */
#include "pg/transaction.h"
#include "base/check.h"
#include "pg/private.h"
#include "task/scope.h"
#include <stdio.h>

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

static struct begin *make(struct scope *scope, struct pg_pool *pool)
{
    struct begin *begin = scope_alloc(scope, sizeof *begin);
    struct pg_transaction *transaction = &begin->transaction;

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    transaction->magic = PG_TRANSACTION_MAGIC;
    transaction->state = PG_TX_BEGINNING;
    transaction->pool = pool;
    transaction->scope = scope;
    transaction->root = transaction;
    list_init(&transaction->waiting);
    list_init(&transaction->nested);
    list_init(&transaction->link);
    begin->query.begins = transaction;
    return begin;
}

struct op *pg_begin(struct scope *scope, struct pg_pool *pool, uint32_t flags)
{
    struct begin *begin = make(scope, pool);

    begin->transaction.is_read_only = (flags & PG_TX_READ_ONLY) != 0;
    if (pg_query_init(&begin->query, scope, pool, PG_DO_BEGIN, begin_sql(scope, flags)))
        pg_query_submit(&begin->query);
    return &begin->query.op;
}

static struct pg_transaction *transaction_in(struct list *link)
{
    return link != NULL ? CONTAINER_OF(link, struct pg_transaction, link) : NULL;
}

static struct op *refuse(struct scope *scope, enum err err, const char *why)
{
    return op_failed(scope, err, err == ERR_DB_DOWN ? "pg_lost" : "pg_error", span_of(why));
}

static const char open_in_it[] = "a transaction that was begun in it is open, which takes what is "
                                 "run meanwhile, or is to be ended first";

/* The begin that waits on `outer`, and is the last that does; NULL: none. */
static struct pg_query *begin_in_line(const struct pg_transaction *outer)
{
    struct list *link = list_last(&outer->root->waiting);
    struct pg_query *query = link != NULL ? CONTAINER_OF(link, struct pg_query, link) : NULL;

    return query != NULL && query->what == PG_DO_SAVEPOINT && query->transaction == outer ? query
                                                                                          : NULL;
}

struct op *pg_begin_nested(struct scope *scope, struct pg_transaction *outer)
{
    const char *problem;
    enum err err = pg_transaction_check_alone(outer, &problem);
    struct pg_transaction *root;
    struct begin *begin;
    struct span sql;

    if (err != ERR_OK)
        return refuse(scope, err, problem);
    root = outer->root;
    if (root->nested_count >= PG_NESTED_MAX)
        return refuse(scope, ERR_STATE, "too many transactions in one another");
    begin = make(scope, root->pool);
    begin->transaction.root = root;
    begin->transaction.savepoint = ++root->savepoint;
    sql = arena_format(&scope->arena, "savepoint weft_s%u", root->savepoint);
    if (!pg_query_init(&begin->query, scope, root->pool, PG_DO_SAVEPOINT, sql)) {
        begin->transaction.state =
            PG_TX_ENDED; /* its root knows nothing of it, and may go before */
        begin->transaction.root = NULL;
        return &begin->query.op;
    }
    root->nested_count++;
    begin->query.transaction = outer;
    pg_query_submit(&begin->query);
    return &begin->query.op;
}

struct pg_transaction *pg_transaction_of(struct op *begin)
{
    if (!op_is_pg(begin) || pg_query_of(begin)->begins == NULL || begin->state == OP_PENDING ||
        begin->status != ERR_OK)
        return NULL;
    return pg_query_of(begin)->begins;
}

/* The scope's root knows how many sessions are held in its name. */
static void hold(struct pg_transaction *transaction, bool is_held)
{
    if (transaction->is_held == is_held)
        return;
    transaction->is_held = is_held;
    if (is_held) {
        transaction->scope->root->held_count++;
    } else {
        CHECK(transaction->scope->root->held_count > 0);
        transaction->scope->root->held_count--;
    }
}

void pg_transaction_pin(struct pg_transaction *transaction, struct pg_session *session)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    CHECK(transaction->state == PG_TX_BEGINNING);
    CHECK(transaction->root == transaction);
    CHECK(transaction->session == NULL);
    CHECK(session->transaction == NULL);
    CHECK(!session->is_pinned);
    transaction->session = session;
    pg_limit_init(&transaction->limit, transaction->pool->options);
    session->transaction = transaction;
    session->is_pinned = true;
    session->is_touched = session->is_direct; /* a pooler's are cleaned by that */
    session->aborted_by = ERR_OK;
    session->load.is_taken = true;
    transaction->pool->counts.sessions_pinned++;
    hold(transaction, true);
}

void pg_transaction_begun(struct pg_transaction *transaction, bool is_ok)
{
    if (transaction->state == PG_TX_ENDED)
        return; /* with its root */
    CHECK(transaction->state == PG_TX_BEGINNING);
    if (is_ok)
        transaction->state = PG_TX_OPEN;
    else
        pg_transaction_end(transaction);
}

/* Ends */

/* Is it in `nested`, or that itself? Both are in their root's list, which has them by number. */
static bool is_within(const struct pg_transaction *transaction, const struct pg_transaction *nested)
{
    return transaction->root == nested->root && transaction->savepoint >= nested->savepoint;
}

/* What waits on it, or in it, will not be sent. NULL: all that waits on `root`. */
static void fail_waiting(struct pg_transaction *root, const struct pg_transaction *nested,
                         enum err err, const char *reason)
{
    LIST_EACH (&root->waiting, link) {
        struct pg_query *query = CONTAINER_OF(link, struct pg_query, link);
        bool is_undoing = query->what == PG_DO_ROLLBACK || query->what == PG_DO_UNDO;

        if (nested != NULL &&
            (query->transaction == root || !is_within(query->transaction, nested)))
            continue;
        pg_pool_withdraw(root->pool, query);
        query->transaction = NULL;
        pg_query_settle(query, is_undoing ? ERR_OK : err, is_undoing ? NULL : reason);
    }
}

/* It is ended, and no other one. */
static void drop(struct pg_transaction *nested)
{
    CHECK(nested->root != NULL);
    CHECK(nested->root != nested);
    CHECK(nested->root->nested_count > 0);
    nested->root->nested_count--;
    list_remove(&nested->link);
    nested->state = PG_TX_ENDED;
    nested->root = NULL;
}

/* It is ended, and so is what is in it; its root goes on. */
static void leave(struct pg_transaction *nested)
{
    struct pg_transaction *root = nested->root, *last;

    CHECK(root != NULL);
    do {
        last = transaction_in(list_last(&root->nested));
        CHECK(last != NULL);
        drop(last);
    } while (last != nested);
}

/* From here on the session finds back by itself. */
static struct pg_session *let_go(struct pg_transaction *transaction)
{
    struct pg_session *session = transaction->session;
    struct pg_transaction *first = transaction_in(list_first(&transaction->nested));

    if (first != NULL)
        leave(first);
    hold(transaction, false);
    transaction->state = PG_TX_ENDED;
    transaction->session = NULL;
    list_remove(&transaction->link);
    if (session != NULL) {
        CHECK(session->transaction == transaction);
        session->transaction = NULL;
        session->is_returning = true;
    }
    return session;
}

/* The end was sent: what must be undone beyond it goes with it. Behind a COPY nothing can be sent
 * yet; then the pool sees to it (pg/pool.c), and where it fails, since the end has. */
static void clean(struct pg_session *session)
{
    if (session->is_touched && !pg_session_is_copying(session))
        pg_session_clean(session, false);
}

/* ROLLBACK TO leaves the savepoint, and whoever tries again and again a stack of them. */
static void release(struct pg_transaction *root, uint32_t savepoint)
{
    char sql[64];

    (void)snprintf(sql, sizeof sql, "release weft_s%u", savepoint);
    pg_session_command(root->session, sql);
}

/* Undoes what was done since the savepoint, which is of no use then. */
static void undo(struct pg_transaction *root, uint32_t savepoint)
{
    char sql[64];

    CHECK(savepoint > 0);
    pg_limit_undo(&root->limit, savepoint);
    (void)snprintf(sql, sizeof sql, "rollback to weft_s%u", savepoint);
    pg_session_command(root->session, sql);
    release(root, savepoint);
}

static void end_nested(struct pg_transaction *nested)
{
    struct pg_transaction *root = nested->root;
    uint32_t savepoint = nested->savepoint;

    /* Nothing was done in it; but what was sent behind its SAVEPOINT may be good. */
    if (nested->state == PG_TX_BEGINNING) {
        drop(nested);
        return;
    }
    fail_waiting(root, nested, ERR_STATE, "pg_error");
    leave(nested);
    if (root->session != NULL)
        undo(root, savepoint);
}

void pg_transaction_end(struct pg_transaction *transaction)
{
    struct pg_session *session;

    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    if (transaction->state == PG_TX_ENDED)
        return;
    if (transaction->root != transaction) {
        end_nested(transaction);
        return;
    }
    if (transaction->stream != NULL)
        pg_stream_give_up(transaction->stream, ERR_STATE, "pg_error",
                          SPAN("the transaction has ended"));
    session = transaction->session;
    fail_waiting(transaction, NULL, ERR_STATE, "pg_error");
    (void)let_go(transaction);
    if (session == NULL)
        return;
    pg_session_roll_back(session);
    pg_session_command(session, "rollback");
    clean(session);
    pg_control_notice(&transaction->pool->control);
}

void pg_transaction_undo(struct pg_session *session, const struct pg_query *query)
{
    if (session->transaction != NULL)
        undo(session->transaction, query->savepoint);
}

void pg_transaction_lost(struct pg_transaction *transaction)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    CHECK(transaction->root == transaction); /* only that has a session */
    CHECK(transaction->session != NULL);
    hold(transaction, false);
    transaction->session = NULL;
    transaction->is_lost = true;
    list_remove(&transaction->link);
    fail_waiting(transaction, NULL, ERR_DB_DOWN, "pg_lost");
}

/* Statements */

/* Or is about to, by itself or with one that it is in. */
static bool has_ended(const struct pg_transaction *transaction)
{
    const struct pg_transaction *root = transaction->root;

    if (transaction->state != PG_TX_OPEN || transaction->is_committing)
        return true;
    LIST_EACH (&root->nested, link) {
        if (transaction == root || transaction_in(link) == transaction)
            break;
        if (transaction_in(link)->is_committing)
            return true;
    }
    return root->is_committing;
}

/* Is one open that was begun in it, or on its way there? */
static bool is_outer(const struct pg_transaction *transaction)
{
    const struct pg_transaction *root = transaction->root;
    const struct list *next = transaction == root ? root->nested.next : transaction->link.next;

    return next != &root->nested &&
           !CONTAINER_OF(next, const struct pg_transaction, link)->is_committing;
}

/* What all need that is still to be sent on it, its end too. */
static enum err check(const struct pg_transaction *transaction, const char **problem)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    *problem = "the transaction has ended";
    if (has_ended(transaction))
        return ERR_STATE;
    transaction = transaction->root;
    *problem = "the transaction's session broke";
    if (transaction->is_lost)
        return ERR_DB_DOWN;
    *problem = "a stream is open on the transaction: it is to be read to its end, or released";
    if (transaction->stream != NULL)
        return ERR_STATE;
    *problem = "a stream on the transaction was given up: it can only be rolled back";
    return transaction->is_spoiled ? ERR_STATE : ERR_OK;
}

enum err pg_transaction_check(const struct pg_transaction *transaction, const char **problem)
{
    enum err err = check(transaction, problem);

    if (err != ERR_OK || !is_outer(transaction))
        return err;
    *problem = open_in_it;
    return ERR_STATE;
}

enum err pg_transaction_check_alone(const struct pg_transaction *transaction, const char **problem)
{
    enum err err = pg_transaction_check(transaction, problem);

    if (err != ERR_OK || begin_in_line(transaction) == NULL)
        return err;
    *problem = open_in_it;
    return ERR_STATE;
}

void pg_transaction_room(struct pg_transaction *transaction)
{
    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    if (list_is_empty(&transaction->waiting) || !list_is_empty(&transaction->link))
        return;
    list_append(&transaction->pool->transactions, &transaction->link);
    pg_pool_wake(transaction->pool);
}

void pg_transaction_add(struct pg_query *query)
{
    struct pg_transaction *root = query->transaction->root;
    struct pg_query *begin = query->what == PG_DO_RUN ? begin_in_line(query->transaction) : NULL;

    CHECK(root->session != NULL);
    CHECK(root->state == PG_TX_OPEN);
    CHECK(list_is_empty(&query->link));
    list_append(begin != NULL ? &begin->link : &root->waiting, &query->link);
    pg_transaction_room(root);
}

/* `nested` goes on, though its end was in line: what was taken behind that is not its own, unless
 * the end of one that it is in stands between. */
static void refuse_behind(const struct pg_transaction *nested)
{
    struct pg_transaction *root = nested->root;

    LIST_EACH (&root->waiting, link) {
        struct pg_query *query = CONTAINER_OF(link, struct pg_query, link);

        if ((query->what == PG_DO_RELEASE || query->what == PG_DO_UNDO) &&
            is_within(nested, query->transaction))
            return;
        if ((query->what != PG_DO_RUN && query->what != PG_DO_SAVEPOINT) ||
            (query->transaction != root && is_within(query->transaction, nested)))
            continue;
        pg_pool_withdraw(root->pool, query);
        query->transaction = NULL;
        op_explain(&query->op, span_of(open_in_it));
        pg_query_settle(query, ERR_STATE, "pg_error");
    }
}

void pg_transaction_withdrawn(const struct pg_query *query)
{
    switch (query->what) {
    case PG_DO_COMMIT:
    case PG_DO_ROLLBACK:
        CHECK(query->transaction != NULL); /* which would have failed it as it ended */
        query->transaction->is_committing = false;
        break;
    case PG_DO_RELEASE:
    case PG_DO_UNDO:
        CHECK(query->transaction != NULL);
        query->transaction->is_committing = false;
        refuse_behind(query->transaction);
        break;
    case PG_DO_RUN:
    case PG_DO_BEGIN:
    case PG_DO_SAVEPOINT:
        break;
    }
}

/* A COPY wants the session for itself. */
static bool is_turn(const struct pg_transaction *root)
{
    const struct list *link = list_first(&root->waiting);
    const struct pg_query *query = CONTAINER_OF(link, const struct pg_query, link);
    bool is_copy = query->stream != NULL && query->stream->kind != PG_STREAM_ROWS;

    return !pg_session_is_copying(root->session) && (!is_copy || pg_session_is_idle(root->session));
}

/* The server ends a statement by itself where its op's deadline has passed. */
static void limit_time(struct pg_transaction *root, const struct pg_query *query)
{
    char sql[PG_LIMIT_SQL_SIZE];

    if (pg_limit_change(&root->limit, query, sql))
        pg_session_command(root->session, sql);
}

static void note_limit(struct pg_transaction *root, const struct pg_query *query)
{
    if (pg_limit_note(&root->limit, query))
        root->session->has_own_limit = true;
}

static void note_savepoint(struct pg_transaction *root, struct pg_transaction *nested)
{
    const struct pg_transaction *last = transaction_in(list_last(&root->nested));

    CHECK(last == NULL || last->savepoint < nested->savepoint);
    list_append(&root->nested, &nested->link);
}

/* The query was sent: what does that mean for its transaction? */
static void note_sent(struct pg_transaction *transaction, const struct pg_query *query)
{
    struct pg_transaction *root = transaction->root;

    switch (query->what) {
    case PG_DO_ROLLBACK:
        pg_session_roll_back(transaction->session);
        pg_control_notice(&transaction->pool->control);
        clean(let_go(transaction));
        break;
    case PG_DO_COMMIT:
        clean(let_go(transaction));
        break;
    case PG_DO_UNDO:
    case PG_DO_RELEASE:
        fail_waiting(root, transaction, ERR_STATE, "pg_error");
        leave(transaction);
        if (query->what == PG_DO_UNDO)
            release(root, query->savepoint);
        break;
    case PG_DO_SAVEPOINT:
        note_savepoint(root, query->begins);
        break;
    case PG_DO_RUN:
    case PG_DO_BEGIN:
        break;
    }
}

static bool send_next(struct pg_transaction *root)
{
    struct list *link = list_first(&root->waiting);
    struct pg_query *query = CONTAINER_OF(link, struct pg_query, link);
    struct pg_transaction *transaction = query->transaction;

    limit_time(root, query);
    if (!pg_session_run(root->session, query, false))
        return false;
    pg_pool_sent(root->pool, query);
    query->transaction = NULL;
    note_limit(root, query);
    note_sent(transaction, query);
    return true;
}

static void send_all(struct pg_transaction *transaction)
{
    uint32_t depth_max = transaction->pool->options->depth_max;

    while (!list_is_empty(&transaction->waiting)) {
        CHECK(transaction->session != NULL); /* nothing waits behind COMMIT or ROLLBACK */
        if (transaction->session->load.statements >= depth_max || !is_turn(transaction) ||
            !send_next(transaction))
            return;
    }
}

void pg_transaction_send(struct pg_transaction *transaction)
{
    struct list *waiting = &transaction->waiting;
    struct pg_cork *cork;

    CHECK_OBJ(transaction, PG_TRANSACTION_MAGIC);
    list_remove(&transaction->link);
    if (list_is_empty(waiting))
        return; /* they were canceled; it may have no session any more */
    cork = &transaction->session->cork;
    if (list_first(waiting) != list_last(waiting))
        pg_cork_push(cork);
    send_all(transaction);
    pg_cork_pull(cork);
}

/* COMMIT and ROLLBACK */

static struct op *finish(struct pg_transaction *transaction, enum pg_query_what what,
                         struct span sql)
{
    bool is_undoing = what == PG_DO_ROLLBACK || what == PG_DO_UNDO;
    const char *problem;
    struct pg_query *query;
    enum err err;

    if (what == PG_DO_ROLLBACK && transaction->stream != NULL)
        pg_stream_give_up(transaction->stream, ERR_STATE, "pg_error",
                          SPAN("the transaction has ended"));
    err = check(transaction, &problem);
    if (what == PG_DO_ROLLBACK && !has_ended(transaction) && !transaction->is_lost)
        err = ERR_OK; /* it can always be rolled back */
    if (err == ERR_STATE)
        return refuse(transaction->scope, ERR_STATE, problem);
    query = scope_alloc(transaction->scope, sizeof *query);
    if (!pg_query_init(query, transaction->scope, transaction->pool, what, sql))
        return &query->op;
    transaction->is_committing = true;
    query->transaction = transaction;
    query->savepoint = transaction->savepoint;
    if (err == ERR_OK) {
        pg_query_submit(query);
        return &query->op;
    }
    query->transaction = NULL;
    pg_query_settle(query, is_undoing ? ERR_OK : ERR_DB_DOWN, is_undoing ? NULL : "pg_lost");
    return &query->op;
}

static struct op *finish_nested(struct pg_transaction *nested, enum pg_query_what what,
                                const char *verb)
{
    return finish(nested, what,
                  arena_format(&nested->scope->arena, "%s weft_s%u", verb, nested->savepoint));
}

struct op *pg_commit(struct pg_transaction *transaction)
{
    if (transaction->root != transaction)
        return finish_nested(transaction, PG_DO_RELEASE, "release");
    return finish(transaction, PG_DO_COMMIT, SPAN("commit"));
}

struct op *pg_rollback(struct pg_transaction *transaction)
{
    if (transaction->root != transaction)
        return finish_nested(transaction, PG_DO_UNDO, "rollback to");
    return finish(transaction, PG_DO_ROLLBACK, SPAN("rollback"));
}
