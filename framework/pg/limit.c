/* pg/limit.c - how long the server lets a statement of a transaction run.
 *
 * It is SET LOCAL that says so, not set_config(), which is a query: the transaction would have its
 * snapshot from then on, before its LOCK TABLE, and could not choose its isolation any more. */
#include "pg/limit.h"
#include "pg/private.h"
#include "task/scope.h"
#include <stdio.h>

/* Less than this is not worth a SET, and would end what is not the statement's: the SAVEPOINT
 * behind it, a ROLLBACK. */
enum { LEAST_MS = 50 };

void pg_limit_init(struct pg_limit *limit, const struct pg_options *options)
{
    *limit = (struct pg_limit){.ms = options->is_prepared ? options->statement_timeout_ms : 0};
}

/* 0: none. */
static uint32_t wanted_ms(const struct pg_query *query)
{
    uint64_t want_ms = scope_budget_ms(query->op.scope);
    uint32_t most_ms = query->pool->options->statement_timeout_ms;

    if (most_ms > 0 && most_ms < want_ms)
        want_ms = most_ms;
    if (want_ms >= INT32_MAX)
        return 0;
    if (most_ms > 0 && most_ms < LEAST_MS)
        return most_ms;
    return want_ms > LEAST_MS ? (uint32_t)want_ms : LEAST_MS;
}

/* It costs a statement: a sooner end is worth that where much is gained, and not for a COMMIT. */
static bool must_change(const struct pg_limit *limit, const struct pg_query *query,
                        uint32_t want_ms)
{
    if (limit->is_unknown)
        return true;
    if (limit->ms > 0 && (want_ms == 0 || want_ms > limit->ms))
        return true;
    return query->what == PG_DO_RUN && want_ms > 0 &&
           (limit->ms == 0 || want_ms < limit->ms - limit->ms / 4);
}

/* What takes back cannot wait for that: it may be refused, where a statement has failed. */
static bool has_limit(const struct pg_query *query)
{
    switch (query->what) {
    case PG_DO_RUN:
        return query->stream == NULL; /* which lifts the limit: it is not for streams */
    case PG_DO_COMMIT:
    case PG_DO_SAVEPOINT:
    case PG_DO_RELEASE:
        return true;
    case PG_DO_BEGIN:
    case PG_DO_ROLLBACK:
    case PG_DO_UNDO:
        return false;
    }
    return false;
}

bool pg_limit_change(struct pg_limit *limit, const struct pg_query *query,
                     char sql[PG_LIMIT_SQL_SIZE])
{
    uint32_t want_ms = wanted_ms(query);

    if (!has_limit(query) || limit->is_own || !must_change(limit, query, want_ms))
        return false;
    limit->ms = want_ms;
    limit->was_set = true;
    limit->is_unknown = false;
    if (want_ms > 0)
        (void)snprintf(sql, PG_LIMIT_SQL_SIZE, "set local statement_timeout = %u", want_ms);
    else
        (void)snprintf(sql, PG_LIMIT_SQL_SIZE, "set local statement_timeout to default");
    return true;
}

/* Is `name`, with '_' in its place `at`, in the text? There are fewer of these than of letters. */
static bool mentions(struct span text, struct span name, size_t at)
{
    const char *from = text.ptr, *end = text.ptr + text.len, *mark;

    while ((mark = memchr(from, '_', (size_t)(end - from))) != NULL) {
        if ((size_t)(mark - text.ptr) >= at && (size_t)(end - mark) >= name.len - at &&
            span_is_nocase(mark - at, name.ptr, name.len))
            return true;
        from = mark + 1;
    }
    return false;
}

static bool has_value(const struct pg_query *query, struct span name)
{
    for (uint32_t i = 0; i < query->count; i++)
        if (query->values[i] != NULL && span_equal_nocase(span_of(query->values[i]), name))
            return true;
    return false;
}

/* SHOW and current_setting() do not. */
static bool may_set(const struct pg_query *query)
{
    const struct span name = SPAN("statement_timeout");

    if (mentions(query->sql, SPAN("set_config"), 3))
        return mentions(query->sql, name, 9) || has_value(query, name);
    return mentions(query->sql, name, 9) &&
           (pg_begins_with(query->sql, "set") || pg_begins_with(query->sql, "do"));
}

/* Savepoints */

/* As the server compares names: in quotes byte for byte, else as lower case. */
static uint32_t hash(struct span name)
{
    bool is_quoted = name.len > 1 && name.ptr[0] == '"';
    uint32_t sum = 2166136261u; /* FNV-1a */

    if (is_quoted)
        name = (struct span){name.ptr + 1, name.len - 2};
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (!is_quoted && c >= 'A' && c <= 'Z')
            c |= 0x20;
        sum = (sum ^ c) * 16777619u;
    }
    return sum;
}

static uint32_t known(const struct pg_limit *limit)
{
    return limit->depth < PG_LIMIT_MARKS_MAX ? limit->depth : PG_LIMIT_MARKS_MAX;
}

static void make(struct pg_limit *limit, uint32_t name)
{
    if (limit->depth < PG_LIMIT_MARKS_MAX)
        limit->marks[limit->depth] =
            (struct pg_limit_mark){.name = name, .savepoint = limit->savepoint};
    limit->depth++;
}

/* What was set behind them counts as set before from here on. */
static void shorten(struct pg_limit *limit, uint32_t depth)
{
    limit->depth = depth;
    if (limit->own_depth > depth)
        limit->own_depth = depth;
}

static void release(struct pg_limit *limit, uint32_t name)
{
    uint32_t depth = known(limit);

    if (limit->depth > PG_LIMIT_MARKS_MAX) {
        limit->depth--; /* of which it is one, perhaps with others */
        return;
    }
    while (depth > 0 && limit->marks[depth - 1].name != name)
        depth--;
    if (depth > 0)
        shorten(limit, depth - 1);
}

static void go_back(struct pg_limit *limit, uint32_t name)
{
    uint32_t count = known(limit), first = 0, last = count;

    while (first < count && limit->marks[first].name != name)
        first++;
    while (last > first && limit->marks[last - 1].name != name)
        last--;
    limit->is_unknown |= limit->was_set || (limit->is_own && first == count);
    if (first == count || limit->own_depth > first)
        limit->is_own = false;
    if (first < count)
        limit->depth = last;
}

/* It and its savepoints are gone. */
static void leave(struct pg_limit *limit, uint32_t savepoint)
{
    uint32_t depth = known(limit);

    while (depth > 0 && limit->marks[depth - 1].savepoint >= savepoint)
        depth--;
    if (depth < known(limit))
        shorten(limit, depth);
}

/* Notes */

static bool note_text(struct pg_limit *limit, const struct pg_query *query)
{
    struct span name;

    switch (pg_savepoint_step(query->sql, &name)) {
    case PG_SAVEPOINT_NONE:
        break;
    case PG_SAVEPOINT_MADE:
        make(limit, hash(name));
        return false;
    case PG_SAVEPOINT_RELEASED:
        release(limit, hash(name));
        return false;
    case PG_SAVEPOINT_GONE_BACK_TO:
        go_back(limit, hash(name));
        return false;
    }
    if (!may_set(query))
        return false;
    if (!limit->is_own) { /* else that one is undone later, if at all */
        limit->own_savepoint = limit->savepoint;
        limit->own_depth = limit->depth;
    }
    limit->is_own = true;
    return true;
}

bool pg_limit_note(struct pg_limit *limit, const struct pg_query *query)
{
    switch (query->what) {
    case PG_DO_RUN:
        return note_text(limit, query);
    case PG_DO_SAVEPOINT:
        limit->savepoint = query->begins->savepoint;
        break;
    case PG_DO_RELEASE:
        leave(limit, query->savepoint);
        break;
    case PG_DO_UNDO:
        pg_limit_undo(limit, query->savepoint);
        break;
    case PG_DO_BEGIN:
    case PG_DO_COMMIT:
    case PG_DO_ROLLBACK:
        break;
    }
    return false;
}

void pg_limit_undo(struct pg_limit *limit, uint32_t savepoint)
{
    if (limit->own_savepoint >= savepoint)
        limit->is_own = false;
    limit->is_unknown |= limit->was_set;
    leave(limit, savepoint);
}
