/* server/show.c - a worker writes on its board what it has. */
#include "server/show.h"
#include "base/log.h"
#include "loop/loop.h"
#include "observe/access.h"
#include "observe/blame.h"
#include "server/board.h"
#include "server/parts.h"
#include "task/fiber.h"
#include "task/op.h"
#include "task/tasks.h"
#include <stdio.h>

enum {
    PERIOD_MS = 1000,
    DESCRIBED_MAX = 3,
    STACKS_MAX = 64, /* looked at each time: a system call each */
};

static void copy(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from);
}

static void show_statements(struct board *board, struct pg_pool *pool)
{
    const struct pg_statement *statement;

    for (uint32_t i = 0; (statement = pg_pool_statement(pool, i)) != NULL; i++) {
        struct board_statement *shown = &board->statements[board->statement_count];

        if (board->statement_count == BOARD_STATEMENTS_MAX)
            return;
        copy(shown->pool, sizeof shown->pool, pg_pool_name(pool));
        copy(shown->name, sizeof shown->name, pg_statement_name(statement));
        shown->times = *pg_statement_times(statement, &shown->failed);
        board->statement_count++;
    }
}

static void show_peers(const struct parts *parts)
{
    const struct settings *settings = parts->settings;
    struct board *board = parts->board;

    board->pool_count = board->upstream_count = board->statement_count = 0;
    for (uint32_t i = 0; i < settings->pg_count && i < BOARD_POOLS_MAX; i++) {
        struct board_pool *shown = &board->pools[board->pool_count++];

        copy(shown->name, sizeof shown->name, settings->pgs[i].name);
        shown->counts = *pg_pool_counts(parts->pools[i]);
        show_statements(board, parts->pools[i]);
    }
    for (uint32_t i = 0; i < settings->upstream_count && i < BOARD_UPSTREAMS_MAX; i++) {
        struct board_upstream *shown = &board->upstreams[board->upstream_count++];

        copy(shown->name, sizeof shown->name, settings->upstreams[i].name);
        shown->counts = *upstream_counts(parts->upstreams[i]);
        shown->times = *upstream_times(parts->upstreams[i]);
    }
}

/* The ops of one scope that are pending, behind what is in `text`; `*count` is how many there
 * were. */
static void describe_ops(const struct scope *scope, char *text, size_t size, uint32_t *count)
{
    for (const struct op *op = op_next(scope, NULL); op != NULL; op = op_next(scope, op)) {
        size_t used = strlen(text);

        if (op->state != OP_PENDING || (*count)++ >= DESCRIBED_MAX || used + 3 > size)
            continue;
        if (used > 0) {
            copy(text + used, size - used, "; ");
            used += 2;
        }
        if (op->kind->describe != NULL)
            op->kind->describe(op, text + used, size - used);
        else
            copy(text + used, size - used, op->kind->name);
    }
}

static void describe(struct scope *root, const struct http_request *request, char *text,
                     size_t size)
{
    uint32_t count = 0;

    text[0] = '\0';
    for (struct scope *scope = root; scope != NULL; scope = scope_next_in(root, scope))
        describe_ops(scope, text, size, &count);
    size_t used = strlen(text);
    if (count > DESCRIBED_MAX && used + 16 < size)
        (void)snprintf(text + used, size - used, "; %u more", count - DESCRIBED_MAX);
    if (count > 0)
        return;
    if (!request->is_body_complete && request->handler_us == 0)
        copy(text, size, "body");
    else if (request->reply == HTTP_REPLY_BEGUN)
        copy(text, size, "the client, to take the answer");
    else
        copy(text, size, request->reply == HTTP_REPLY_ENDED ? "an earlier answer" : "-");
}

static void show_request(const struct parts *parts, struct scope *root)
{
    const struct blame *page = parts->tasks->blame;
    const struct http_request *request = http_request_of(root);
    struct board *board = parts->board;
    struct board_request *shown = &board->requests[board->request_count];

    if (request == NULL || board->request_count == BOARD_REQUESTS_MAX)
        return;
    shown->id = request->id;
    shown->age_us = loop_now_us(parts->loop) - request->begun_us;
    shown->plugin[0] = shown->route[0] = '\0';
    if (page != NULL && request->match.route != NULL) {
        const struct blame_name *name = &page->names[request->match.route->blame_index];

        copy(shown->plugin, sizeof shown->plugin, name->plugin);
        copy(shown->route, sizeof shown->route, name->route);
    }
    describe(root, request, shown->awaits, sizeof shown->awaits);
    board->request_count++;
}

static void count_scope(struct blame *page, const struct scope *scope)
{
    struct blame_tally *tally = &page->names[scope->blame_index].tally;

    tally->live++;
    tally->live_bytes += scope->arena.bytes;
    for (const struct op *op = op_next(scope, NULL); op != NULL; op = op_next(scope, op))
        tally->live_ops += op->state == OP_PENDING;
}

/* Counted now instead of at each start and end: a request pays nothing for it. */
static void count_live(const struct parts *parts)
{
    struct blame *page = parts->tasks->blame;

    for (uint32_t i = 0; i < page->count && i < BLAME_NAMES_MAX; i++)
        page->names[i].tally.live = page->names[i].tally.live_bytes =
            page->names[i].tally.live_ops = 0;
    for (struct scope *root = scope_next_root(parts->tasks, NULL); root != NULL;
         root = scope_next_root(parts->tasks, root)) {
        for (struct scope *scope = root; scope != NULL; scope = scope_next_in(root, scope))
            count_scope(page, scope);
    }
}

static void show_requests(const struct parts *parts)
{
    parts->board->request_count = 0;
    for (struct scope *root = scope_next_root(parts->tasks, NULL); root != NULL;
         root = scope_next_root(parts->tasks, root))
        show_request(parts, root);
}

void show_tick(const struct parts *parts, uint64_t *due_ms)
{
    uint64_t now_ms = loop_now_ms(parts->loop);
    struct board *board = parts->board;
    uint32_t asked;

    if (board == NULL || parts->tasks->blame == NULL)
        return;
    asked = __atomic_load_n(&board->asked, __ATOMIC_ACQUIRE);
    if (asked == board->answered && now_ms < *due_ms)
        return;
    *due_ms = now_ms + PERIOD_MS;
    board->fibers = fiber_count(parts->tasks->fibers);
    board->fibers_high = fiber_count_high(parts->tasks->fibers);
    board->fiber_stack = (uint32_t)fiber_stack_size(parts->tasks->fibers);
    board->fiber_stack_high = (uint32_t)fiber_stack_high(parts->tasks->fibers, STACKS_MAX);
    board->log_dropped = log_lost();
    board->access_dropped = parts->access != NULL ? access_dropped(parts->access) : 0;
    show_peers(parts);
    count_live(parts);
    if (asked == board->answered)
        return;
    show_requests(parts);
    __atomic_store_n(&board->answered, asked, __ATOMIC_RELEASE);
}
