/* server.c - the database's side of a session: what was sent is worked off in order, each statement
 * as its step says.
 *
 *   current == NULL ──▶ the next entry ──▶ done, or in `after_ms`, or never
 *
 * A transaction is kept track of as the server does it: an error aborts it, COMMIT then rolls
 * back. */
#include "base/check.h"
#include "http/request.h"
#include "libpq.h"
#include "loop/loop.h"
#include "pg/private.h"
#include <stdio.h>
#include <stdlib.h>

static const char guard_start[] = "select where set_config('transaction_read_only'";
static const char cancel_start[] = "select pg_cancel_backend(";
static const char undo_start[] = "rollback to ";

static void done(struct pg_conn *conn, struct pg_result *result)
{
    conn->current->is_done = true;
    conn->current->result = result;
    conn->current = NULL;
    conn->step = NULL;
}

static void fail(struct pg_conn *conn, struct pg_result *result)
{
    conn->is_aborted = conn->is_pipeline;
    if (conn->state == PQTRANS_INTRANS)
        conn->state = PQTRANS_INERROR;
    done(conn, result);
}

static bool begins_with(const char *text, const char *start)
{
    return strncasecmp(text, start, strlen(start)) == 0;
}

const char *kit_statement_name(const weft_test *t, const char *pool, const char *sql)
{
    for (const struct kit_peer *peer = t->peers; peer != NULL; peer = peer->next) {
        if (peer->pool == NULL || strcmp(peer->name, pool) != 0)
            continue;
        for (uint32_t i = 0; i < peer->pool->statements.count; i++)
            if (strcmp(peer->pool->statements.list[i]->sql.ptr, sql) == 0)
                return peer->pool->statements.list[i]->name;
    }
    return NULL;
}

/* Transactions */

static void begin(struct pg_conn *conn, const struct entry *entry)
{
    conn->begin = conn->step;
    conn->owner = entry->start->owner;
}

static void end_transaction(struct pg_conn *conn)
{
    conn->state = PQTRANS_IDLE;
    conn->begin = NULL;
    conn->owner = NULL;
}

/* A step may be written for what the host does by itself, but need not. */
static void meet_if_next(const struct pg_conn *conn, const char *sql)
{
    const struct kit_statement statement = {.pool = conn->pool, .sql = sql, .begin = conn->begin};
    weft_test_step *step = kit_find_query(kit_here, &statement);

    if (step != NULL && conn->begin != NULL)
        kit_meet(step);
}

/* The host rolls back what the plugin has left open. One that has failed is over for the plugin,
 * which may run it again (weft_transact()). */
static void on_left_open(struct pg_conn *conn)
{
    meet_if_next(conn, "rollback");
    if (conn->owner != NULL && conn->begin != NULL && conn->state != PQTRANS_INERROR)
        kit_client_left_open(conn->owner, conn->begin);
}

static void end_by(struct pg_conn *conn, const char *sql)
{
    bool is_commit = strcasecmp(sql, "commit") == 0 && conn->state != PQTRANS_INERROR;
    struct pg_result *result = kit_result(PGRES_COMMAND_OK);

    snprintf(result->tag, sizeof result->tag, "%s", is_commit ? "COMMIT" : "ROLLBACK");
    end_transaction(conn);
    done(conn, result);
}

/* Commands of the host's own */

static struct pg_result *one_row(void)
{
    struct pg_result *result = kit_result(PGRES_COMMAND_OK);

    snprintf(result->tag, sizeof result->tag, "SELECT 1");
    return result;
}

static void cancel(int pid)
{
    LIST_EACH (&kit_conns, link) {
        struct pg_conn *conn = CONTAINER_OF(link, struct pg_conn, link);

        if (conn->pid != pid || conn->current == NULL)
            continue;
        timer_stop(&conn->timer);
        fail(conn, kit_result_error("ERROR", "57014", "canceling statement due to user request"));
        kit_conn_signal(conn);
        kit_server_work(conn);
        return;
    }
}

/* Commands that no op has asked for: all that they are to be told is that all is well. */
static void run_hosts_own(struct pg_conn *conn, const struct entry *entry)
{
    if (begins_with(entry->sql, guard_start))
        conn->is_read_only = true;
    if (begins_with(entry->sql, "listen ") || begins_with(entry->sql, "unlisten "))
        kit_listen(conn, entry->sql);
    if (begins_with(entry->sql, cancel_start))
        cancel(atoi(entry->sql + strlen(cancel_start)));
    if (strcmp(entry->sql, "rollback") == 0) {
        if (conn->state != PQTRANS_IDLE)
            on_left_open(conn);
        end_by(conn, entry->sql);
        return;
    }
    if (begins_with(entry->sql, undo_start)) {
        meet_if_next(conn, entry->sql);
        conn->state = PQTRANS_INTRANS;
    }
    done(conn, one_row());
}

/* Statements */

static struct pg_result *result_of(const weft_test_step *step, bool is_binary)
{
    struct pg_result *result = kit_result(step->columns > 0 ? PGRES_TUPLES_OK : PGRES_COMMAND_OK);
    uint64_t affected = step->has_affected ? step->affected : step->rows;

    result->step = step->columns > 0 ? step : NULL;
    result->rows = step->columns > 0 ? step->rows : 0;
    result->is_binary = is_binary;
    if (is_binary)
        kit_encode((weft_test_step *)step);
    snprintf(result->affected, sizeof result->affected, "%llu", (unsigned long long)affected);
    snprintf(result->tag, sizeof result->tag, "SELECT %llu", (unsigned long long)affected);
    if (step->fault == WEFT_TEST_TOO_BIG)
        result->size = SIZE_MAX / 2;
    return result;
}

static void answer(struct pg_conn *conn)
{
    const weft_test_step *step = conn->step;
    struct entry *entry = conn->current;

    if (kit_copy_of(entry->sql) != KIT_COPY_NONE) {
        done(conn, kit_copy_open(entry, step));
    } else if (step->sqlstate != NULL) {
        fail(conn, kit_result_error("ERROR", step->sqlstate, step->message));
    } else if (strcasecmp(entry->sql, "commit") == 0 || strcasecmp(entry->sql, "rollback") == 0) {
        end_by(conn, entry->sql);
    } else {
        if (begins_with(entry->sql, "begin") || begins_with(entry->sql, undo_start))
            conn->state = PQTRANS_INTRANS;
        done(conn, result_of(step, entry->is_binary));
    }
}

/* Whoever has just sent it learns of that later, when it reads. */
static void lose(struct pg_conn *conn)
{
    conn->is_breaking = true;
    conn->current = NULL;
}

static void finish(struct pg_conn *conn)
{
    switch (conn->step->fault) {
    case WEFT_TEST_BUSY:
    case WEFT_TEST_DOWN:
        kit_fail(kit_here, conn->step->file, conn->step->line,
                 "a fault that the kit has no place for here");
        answer(conn);
        return;
    case WEFT_TEST_LOST:
        if (kit_copy_of(conn->current->sql) != KIT_COPY_NONE)
            answer(conn); /* it breaks later */
        else
            lose(conn);
        return;
    case WEFT_TEST_TIMEOUT:
        fail(conn,
             kit_result_error("ERROR", "57014", "canceling statement due to statement timeout"));
        return;
    default:
        answer(conn);
    }
}

void kit_server_end_copy(struct pg_conn *conn, struct entry *entry, struct pg_result *result)
{
    conn->current = entry;
    if (result == NULL)
        lose(conn);
    else if (result->status == PGRES_COMMAND_OK)
        done(conn, result);
    else
        fail(conn, result);
    kit_conn_signal(conn);
}

static void on_timer(struct timer *timer)
{
    struct pg_conn *conn = CONTAINER_OF(timer, struct pg_conn, timer);

    finish(conn);
    kit_conn_signal(conn);
    kit_server_work(conn);
}

static uint32_t statement_timeout_ms(const char *pool)
{
    for (const struct kit_peer *peer = kit_here->peers; peer != NULL; peer = peer->next)
        if (peer->pool != NULL && strcmp(peer->name, pool) == 0)
            return peer->pg_options.statement_timeout_ms;
    return 0;
}

/* Its answer, now or later; the session waits for it meanwhile. */
static void schedule(struct pg_conn *conn)
{
    const weft_test_step *step = conn->step;
    uint64_t ms = step->after_ms;

    if (step->fault == WEFT_TEST_TIMEOUT)
        ms = statement_timeout_ms(conn->pool);
    if (step->fault == WEFT_TEST_NEVER || (step->fault == WEFT_TEST_TIMEOUT && ms == 0))
        return;
    if (ms > 0)
        timer_start(kit_here->loop, &conn->timer, ms, on_timer);
    else
        finish(conn);
}

static bool is_write(const char *sql)
{
    static const char *const words[] = {"insert ", "update ", "delete ", "truncate ", "merge "};

    sql += strspn(sql, " \t\n");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (begins_with(sql, words[i]))
            return true;
    return false;
}

static void run(struct pg_conn *conn, struct entry *entry)
{
    const struct kit_statement statement = {conn->pool, entry->sql, entry->count,
                                            (const char *const *)entry->values, conn->begin};
    bool is_end = strcasecmp(entry->sql, "commit") == 0 || strcasecmp(entry->sql, "rollback") == 0;

    if (conn->state == PQTRANS_INERROR && !is_end && !begins_with(entry->sql, undo_start)) {
        fail(conn, kit_result_error("ERROR", "25P02",
                                    "current transaction is aborted, commands ignored until end "
                                    "of transaction block"));
        return;
    }
    if (conn->is_read_only && is_write(entry->sql)) {
        fail(conn, kit_result_error("ERROR", "25006",
                                    "cannot execute a write in a read-only transaction"));
        return;
    }
    conn->step = kit_take_query(kit_here, &statement, entry->start->where);
    if (conn->step != NULL) {
        if (begins_with(entry->sql, "begin"))
            begin(conn, entry);
        schedule(conn);
    } else if (is_end) {
        end_by(conn, entry->sql);
    } else {
        fail(conn, kit_result_error("ERROR", "XX000", "weft_test: no step answers this"));
    }
}

static void work_on(struct pg_conn *conn, struct entry *entry)
{
    conn->current = entry;
    if (entry->kind == ENTRY_SYNC) {
        conn->is_aborted = conn->is_read_only = false;
        done(conn, NULL);
    } else if (conn->is_aborted) {
        done(conn, kit_result(PGRES_PIPELINE_ABORTED));
    } else if (entry->kind == ENTRY_PREPARE) {
        done(conn, kit_result(PGRES_COMMAND_OK));
    } else if (entry->start == NULL) {
        run_hosts_own(conn, entry);
    } else {
        run(conn, entry);
    }
}

void kit_server_work(struct pg_conn *conn)
{
    bool has_worked = false;

    LIST_EACH (&conn->entries, link) {
        struct entry *entry = CONTAINER_OF(link, struct entry, link);

        if (conn->current != NULL || conn->is_breaking)
            break;
        if (entry->is_done)
            continue;
        work_on(conn, entry);
        has_worked = true;
    }
    if (has_worked)
        kit_conn_signal(conn);
}

void kit_server_forget(struct pg_conn *conn)
{
    timer_stop(&conn->timer);
    conn->current = NULL;
}
