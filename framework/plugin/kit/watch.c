/* watch.c - what the plugin calls goes through here: who started what is noted, for messages, and a
 * step's fault that keeps anything from being sent is done at once.
 *
 * The tables are the host's own but for a few entries; what is appended to them later comes along. */
#include "base/slots.h"
#include "http/request.h"
#include "kit.h"
#include "net/addr.h"
#include "pg/private.h"
#include "plugin/inside.h"
#include "task/tasks.h"
#include "upstream/upstream.h"

static weft_pg_api pg;
static weft_http_api http;
static weft_call_api call;
static weft_api api;

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

static struct kit_start *note(const struct op *op)
{
    struct kit_start *start = arena_alloc(&kit_here->arena, sizeof *start);

    start->op = op->handle;
    start->where = where_is(op->scope);
    start->owner = owner_of(op->scope);
    list_append(&kit_here->starts, &start->link);
    return start;
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

static weft_op *note_query(weft_op *handle)
{
    struct op *op = started(handle);
    struct kit_statement statement;
    weft_test_step *step;

    if (op == NULL || !op_is_pg(op))
        return handle;
    (void)note(op);
    statement = statement_of(pg_query_of(op));
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

const struct kit_start *kit_start_of_query(weft_test *t, const char *sql, const char *const *values)
{
    LIST_EACH (&t->starts, link) {
        struct kit_start *start = CONTAINER_OF(link, struct kit_start, link);
        const struct op *op = op_of(t->tasks, start->op);
        const struct pg_query *query = op != NULL && op_is_pg(op) ? pg_query_of(op) : NULL;

        if (op == NULL)
            list_remove(&start->link);
        if (query == NULL || op->state != OP_PENDING || query->values != values ||
            strcmp(query->sql.ptr, sql) != 0)
            continue;
        list_remove(&start->link);
        return start;
    }
    return NULL;
}

static weft_op *run(weft_ctx *ctx, weft_pg *db, weft_stmt *stmt, uint32_t count,
                    const weft_value *values)
{
    return note_query(abi_pg.run(ctx, db, stmt, count, values));
}

static weft_op *run_sql(weft_ctx *ctx, weft_pg *db, const char *sql, uint32_t flags, uint32_t count,
                        const weft_value *values)
{
    return note_query(abi_pg.run_sql(ctx, db, sql, flags, count, values));
}

static weft_op *begin(weft_ctx *ctx, weft_pg *db, uint32_t flags)
{
    return note_query(abi_pg.begin(ctx, db, flags));
}

static weft_op *commit(weft_pg *tx)
{
    return note_query(abi_pg.commit(tx));
}

static weft_op *rollback(weft_pg *tx)
{
    return note_query(abi_pg.rollback(tx));
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

    note(op)->call = call_text(peer->name, made.method, made.path);
    if (step == NULL || (step->fault != WEFT_TEST_BUSY && step->fault != WEFT_TEST_DOWN))
        return;
    kit_meet(step);
    if (step->fault == WEFT_TEST_BUSY)
        fail_at_once(op, ERR_UP_BUSY, "upstream_queue_full", "all connections are in use");
    else
        fail_at_once(op, ERR_UP_CONNECT, "upstream_connect", "connection refused");
}

static weft_op *call_start(weft_ctx *ctx, weft_upstream *upstream, const weft_call *given)
{
    weft_op *handle = abi_call.start(ctx, upstream, given);
    struct op *op = started(handle);
    weft_call known;

    if (op != NULL && op_is_upstream(op) && abi_take_options(&known, sizeof known, given))
        note_call(op, peer_of(upstream), &known);
    return handle;
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

    if (request != NULL && request->reply == HTTP_REPLY_NONE && code < 400 &&
        scope->root->why == SCOPE_ALIVE)
        look_at(scope->root, where_is(scope));
}

static weft_status reply(weft_ctx *ctx, uint32_t code, const char *type, weft_str body)
{
    look_for_unsettled(ctx, code);
    return abi_http.reply(ctx, code, type, body);
}

static weft_status reply_rows(weft_ctx *ctx, uint32_t code, weft_op *op, uint32_t flags)
{
    look_for_unsettled(ctx, code);
    return abi_pg.reply(ctx, code, op, flags);
}

void kit_watch(const weft_plugin *plugin)
{
    api = **plugin->api;
    pg = abi_pg;
    pg.run = run;
    pg.run_sql = run_sql;
    pg.begin = begin;
    pg.commit = commit;
    pg.rollback = rollback;
    pg.reply = reply_rows;
    http = abi_http;
    http.reply = reply;
    call = abi_call;
    call.start = call_start;
    api.pg = &pg;
    api.http = &http;
    api.call = &call;
    *plugin->api = &api;
}
