/* watch.c - what the plugin calls goes through here: who started what is noted, for messages, and a
 * step's fault that keeps anything from being sent is done at once.
 *
 * The tables are the host's own but for a few entries; what is appended to them later comes
 * along. */
#include "base/slots.h"
#include "http/request.h"
#include "kit.h"
#include "net/addr.h"
#include "pg/private.h"
#include "plugin/inside.h"
#include "task/tasks.h"
#include "upstream/upstream.h"

static struct {
    weft_pg_api pg;
    weft_http_api http;
    weft_call_api call;
    weft_api api;
} tables;

/* Whose call it is */

static struct scope *scope_of_ctx(weft_ctx *ctx)
{
    return scope_of(kit_here->tasks, abi_number(ctx));
}

static weft_test_request *owner_of(const struct scope *scope)
{
    const struct http_request *request = scope != NULL ? http_request_of(scope) : NULL;

    return request != NULL ? kit_client_of(kit_here, addr_port(request->peer)) : NULL;
}

static const char *where_is(const struct scope *scope)
{
    const struct abi_route *route = scope != NULL ? abi_route_of(scope) : NULL;

    return kit_copy(kit_here, route != NULL ? route->text : "the plugin's background");
}

/* A fault before anything was sent. */
static void fail_at_once(struct op *op, enum err err, const char *reason, const char *text)
{
    op_explain(op, span_of(text));
    op_cancel_as(op, err, reason);
}

/* What it was started for, if it is under way; NULL: it is not. */
static struct op *started(weft_op *handle)
{
    struct op *op = op_of(kit_here->tasks, abi_number(handle));

    return op != NULL && op->state == OP_PENDING ? op : NULL;
}

/* Statements */

static struct kit_statement statement_of(const struct pg_query *query)
{
    return (struct kit_statement){.pool = pg_pool_name(query->pool),
                                  .sql = query->sql.ptr,
                                  .count = query->count,
                                  .values = query->values};
}

/* Where its step has it fail before anything is sent, it does. */
static weft_op *look_at_query(weft_op *handle)
{
    struct op *op = started(handle);
    const struct pg_query *query = op != NULL ? pg_query_behind(op) : NULL;
    struct kit_statement statement;
    weft_test_step *step;

    if (query == NULL)
        return handle;
    statement = statement_of(query);
    step = kit_find_query(kit_here, &statement);
    if (step == NULL || (step->fault != WEFT_TEST_BUSY && step->fault != WEFT_TEST_DOWN))
        return handle;
    kit_meet(step);
    if (step->fault == WEFT_TEST_BUSY)
        fail_at_once(op, ERR_DB_BUSY, "pg_queue_full", "the pool's queue is full");
    else
        fail_at_once(op, ERR_DB_DOWN, "pg_down", "there is no session with the database");
    return handle;
}

/* A COPY has its place on the session before it is sent. */
static bool is_unsent(const struct pg_query *query)
{
    return query->session == NULL ||
           (query->stream != NULL && query->stream->kind != PG_STREAM_ROWS);
}

/* Is this the statement that is being sent? */
static bool is_being_sent(const struct op *op, const char *sql, const char *const *values)
{
    const struct pg_query *query = op->state == OP_PENDING ? pg_query_behind(op) : NULL;

    return query != NULL && &query->op == op && is_unsent(query) && query->values == values &&
           strcmp(query->sql.ptr, sql) == 0;
}

/* The newest first: a handler that runs thousands of statements keeps their ops. */
static const struct op *find_among(const struct scope *scope, const char *sql,
                                   const char *const *values)
{
    for (const struct list *at = scope->ops.prev; at != &scope->ops; at = at->prev) {
        const struct op *op = CONTAINER_OF(at, const struct op, _link);

        if (is_being_sent(op, sql, values))
            return op;
    }
    return NULL;
}

static const struct op *find_being_sent(const struct list *scopes, const char *sql,
                                        const char *const *values)
{
    LIST_EACH (scopes, link) {
        const struct scope *scope = CONTAINER_OF(link, const struct scope, _link);
        const struct op *found = find_being_sent(&scope->children, sql, values);

        if (found == NULL)
            found = find_among(scope, sql, values);
        if (found != NULL)
            return found;
    }
    return NULL;
}

const struct kit_start *kit_start_of_query(weft_test *t, const char *sql, const char *const *values)
{
    const struct op *op = find_being_sent(&t->tasks->scopes, sql, values);
    struct kit_start *start;

    if (op == NULL)
        return NULL;
    start = arena_alloc(&t->arena, sizeof *start);
    start->where = where_is(op->scope);
    start->owner = owner_of(op->scope);
    return start;
}

static weft_op *run(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                    const weft_value *values)
{
    return look_at_query(abi_pg.run(ctx, db, stmt, count, values));
}

static weft_op *run_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags, uint32_t count,
                        const weft_value *values)
{
    return look_at_query(abi_pg.run_sql(ctx, db, sql, flags, count, values));
}

static weft_op *begin(weft_ctx *ctx, weft_pg *db, uint32_t flags)
{
    return look_at_query(abi_pg.begin(ctx, db, flags));
}

static weft_op *commit(weft_pg *tx)
{
    return look_at_query(abi_pg.commit(tx));
}

static weft_op *rollback(weft_pg *tx)
{
    return look_at_query(abi_pg.rollback(tx));
}

static weft_op *stream(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                       const weft_value *values)
{
    return look_at_query(abi_pg.stream(ctx, db, stmt, count, values));
}

static weft_op *stream_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags,
                           uint32_t count, const weft_value *values)
{
    return look_at_query(abi_pg.stream_sql(ctx, db, sql, flags, count, values));
}

static weft_op *copy_out(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return look_at_query(abi_pg.copy_out(ctx, db, sql));
}

static weft_op *copy_in(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return look_at_query(abi_pg.copy_in(ctx, db, sql));
}

/* Calls */

static struct kit_peer *peer_of(weft_upstream *handle)
{
    const struct upstream *upstream = slots_get(abi_here()->upstreams, abi_number(handle));
    struct kit_peer *peer = kit_here->peers;

    while (peer != NULL && (upstream == NULL || peer->upstream != upstream))
        peer = peer->next;
    return peer;
}

static const char *call_text(const char *upstream, struct span method, struct span path)
{
    return arena_format(&kit_here->arena, "%s %.*s %.*s", upstream, SPAN_ARG(method),
                        SPAN_ARG(path))
        .ptr;
}

static void note_start(const struct op *op, const char *text)
{
    struct kit_start *start = arena_alloc(&kit_here->arena, sizeof *start);

    start->where = where_is(op->scope);
    start->call = text;
    list_append(&kit_here->starts, &start->link);
}

static void note_call(struct op *op, const struct kit_peer *peer, const weft_call *given)
{
    const struct http_fields fields = {(struct http_field *)(uintptr_t)(const void *)given->fields,
                                       given->field_count};
    const struct kit_call made = {
        .upstream = peer->name,
        .method = given->method != NULL ? span_of(given->method) : SPAN("GET"),
        .path = abi_span(given->path),
        .body = abi_span(given->body),
        .fields = &fields,
    };
    weft_test_step *step = kit_find_call(kit_here, &made);

    note_start(op, call_text(peer->name, made.method, made.path));
    if (step == NULL || (step->fault != WEFT_TEST_BUSY && step->fault != WEFT_TEST_DOWN))
        return;
    kit_meet(step);
    if (step->fault == WEFT_TEST_BUSY)
        fail_at_once(op, ERR_UP_BUSY, "upstream_queue_full", "all connections are in use");
    else
        fail_at_once(op, ERR_UP_CONNECT, "upstream_connect", "connection refused");
}

static weft_op *look_at_call(weft_op *handle, weft_upstream *upstream, const weft_call *given)
{
    struct op *op = started(handle);
    weft_call known;

    if (op != NULL && op_is_upstream(op) && abi_take_options(&known, sizeof known, given))
        note_call(op, peer_of(upstream), &known);
    return handle;
}

static weft_op *call_start(weft_ctx *ctx, weft_upstream *upstream, const weft_call *given)
{
    return look_at_call(abi_call.start(ctx, upstream, given), upstream, given);
}

static weft_op *call_stream(weft_ctx *ctx, weft_upstream *upstream, const weft_call *given)
{
    return look_at_call(abi_call.stream(ctx, upstream, given), upstream, given);
}

const struct kit_start *kit_start_of_call(weft_test *t, const struct kit_call *made)
{
    const char *text = call_text(made->upstream, made->method, made->path);

    LIST_EACH (&t->starts, link) {
        struct kit_start *start = CONTAINER_OF(link, struct kit_start, link);

        if (start->call == NULL || strcmp(start->call, text) != 0)
            continue;
        list_remove(&start->link);
        return start;
    }
    return NULL;
}

/* Replies */

static void look_at(const struct scope *scope, const char *where)
{
    LIST_EACH (&scope->ops, link) {
        const struct op *op = CONTAINER_OF(link, struct op, _link);

        if (op->state == OP_PENDING && !op->is_deaf && list_is_empty(&op->_watchers))
            kit_fail(kit_here, NULL, 0,
                     "%s: replies while a %s that it started is under way, and nobody waits for "
                     "it: the reply cancels it",
                     where, op->kind->name);
    }
    LIST_EACH (&scope->children, link) {
        const struct scope *child = CONTAINER_OF(link, struct scope, _link);

        if ((child->flags & SCOPE_SHIELD) == 0)
            look_at(child, where);
    }
}

/* Before a reply, which cancels what is under way. */
static void look_for_unsettled(weft_ctx *ctx, uint32_t code)
{
    struct scope *scope = scope_of_ctx(ctx);
    const struct http_request *request = scope != NULL ? http_request_of(scope) : NULL;

    if (request != NULL && request->reply != HTTP_REPLY_ENDED && code < 400 &&
        scope->root->why == SCOPE_ALIVE)
        look_at(scope->root, where_is(scope));
}

static weft_status reply(weft_ctx *ctx, uint32_t code, const char *type, weft_str body)
{
    look_for_unsettled(ctx, code);
    return abi_http.reply(ctx, code, type, body);
}

static weft_status reply_end(weft_ctx *ctx)
{
    look_for_unsettled(ctx, 200);
    return abi_http.reply_end(ctx);
}

static weft_status reply_file(weft_ctx *ctx, uint32_t code, const char *type, const weft_file *file)
{
    look_for_unsettled(ctx, code);
    return abi_http.reply_file(ctx, code, type, file);
}

static weft_status reply_rows(weft_ctx *ctx, uint32_t code, weft_op *op, uint32_t flags)
{
    look_for_unsettled(ctx, code);
    return abi_pg.reply(ctx, code, op, flags);
}

void kit_watch(const weft_plugin *plugin)
{
    tables.api = **plugin->api;
    tables.pg = abi_pg;
    tables.pg.run = run;
    tables.pg.run_sql = run_sql;
    tables.pg.begin = begin;
    tables.pg.commit = commit;
    tables.pg.rollback = rollback;
    tables.pg.stream = stream;
    tables.pg.stream_sql = stream_sql;
    tables.pg.copy_out = copy_out;
    tables.pg.copy_in = copy_in;
    tables.pg.reply = reply_rows;
    tables.http = abi_http;
    tables.http.reply = reply;
    tables.http.reply_end = reply_end;
    tables.http.reply_file = reply_file;
    tables.call = abi_call;
    tables.call.start = call_start;
    tables.call.stream = call_stream;
    tables.api.pg = &tables.pg;
    tables.api.http = &tables.http;
    tables.api.call = &tables.call;
    *plugin->api = &tables.api;
}
