/* pg/notes.c - what is told of a statement beside its result: counts, slowness, what is awaited. */
#include "base/check.h"
#include "base/log.h"
#include "pg/private.h"
#include "task/tasks.h"
#include <stdio.h>

static const char *name_of(const struct pg_query *query)
{
    switch (query->what) {
    case PG_DO_RUN:
        return query->statement != NULL ? query->statement->name : "(ad hoc)";
    case PG_DO_BEGIN:
        return "BEGIN";
    case PG_DO_COMMIT:
        return "COMMIT";
    case PG_DO_ROLLBACK:
        return "ROLLBACK";
    case PG_DO_SAVEPOINT:
        return "SAVEPOINT";
    case PG_DO_RELEASE:
        return "RELEASE SAVEPOINT";
    case PG_DO_UNDO:
        return "ROLLBACK TO SAVEPOINT";
    }
    return "";
}

static void log_slow(const struct pg_query *query, uint64_t us)
{
    const struct op *op = &query->op;
    struct scope_who who;
    char queue_ms[24];

    scope_who(op->scope, &who);
    snprintf(queue_ms, sizeof queue_ms, "%.3f",
             (double)(op->has_begun ? op->begun_after_us : us) / 1000);
    log_fields(LOG_WARN,
               LOG_FIELDS({"pool", span_of(query->pool->name)},
                          {"statement", span_of(name_of(query))}, {"queue_ms", span_of(queue_ms)},
                          {"outcome", span_of(err_text(op->status))}, who.fields[0], who.fields[1],
                          who.fields[2]),
               "slow query: %.3f ms", (double)us / 1000);
}

void pg_note_settled(const struct op *op, uint64_t us)
{
    const struct pg_query *query = pg_query_of(op);
    uint32_t slow_ms = query->pool->options->slow_query_ms;

    if (query->statement != NULL && query->what == PG_DO_RUN) {
        struct pg_statement *statement = (struct pg_statement *)query->statement;

        statement->failed += op->status != ERR_OK;
        histogram_add(&statement->times, us);
    }
    if (slow_ms > 0 && us / 1000 >= slow_ms)
        log_slow(query, us);
}

void pg_note_describe(const struct op *op, char *text, size_t size)
{
    const struct pg_query *query = pg_query_of(op);
    int len = snprintf(text, size, "statement %s of %s, ", name_of(query), query->pool->name);

    if (len < 0 || (size_t)len >= size)
        return;
    if (query->session != NULL)
        snprintf(text + len, size - (size_t)len, "backend %d", pg_session_backend(query->session));
    else
        snprintf(text + len, size - (size_t)len, "waits for a session");
}

const struct pg_statement *pg_pool_statement(const struct pg_pool *pool, uint32_t index)
{
    CHECK_OBJ(pool, PG_POOL_MAGIC);
    return index < pool->statements.count ? pool->statements.list[index] : NULL;
}

const struct histogram *pg_statement_times(const struct pg_statement *statement, uint64_t *failed)
{
    CHECK_OBJ(statement, PG_STATEMENT_MAGIC);
    *failed = statement->failed;
    return &statement->times;
}
