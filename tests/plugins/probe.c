/* Goal: a plugin that does one thing a route, right things and wrong ones, and answers what the ABI
 * answered to that, for tests of the ABI. */
#include "weft.h"
#include "weft_jansson.h"
#include "weft_json.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

struct probe {
    weft_str greeting;    /* setting `greeting` */
    int64_t number;       /* setting `number` */
    uint32_t flag;        /* setting `flag` */
    uint64_t background;  /* turns of the job that start() began */
    weft_host *host;      /* kept longer than it is good */
    weft_ctx *old_ctx;    /* of a request that is over */
    weft_op *old_op;      /* of the same */
    weft_status recorded; /* what something answered that could not reply */
    uint32_t cleanups;    /* clean-ups that ran */
    uint32_t start_fails; /* setting `start_fails` */
    weft_ctx *waiting;    /* a request that another one answers */
    weft_inbox *inbox;    /* where threads post */
    uint32_t posts;       /* that ran */
};

static struct probe probe;

static weft_status reply_status(weft_ctx *ctx, weft_status status)
{
    return weft_reply(ctx, 200, "text/plain", weft_fmt(ctx, "%d", (int)status));
}

/* ---- what is right ---- */

static weft_status show_request(weft_ctx *ctx, void *self)
{
    weft_str text = weft_fmt(
        ctx, "%s %s id=%s q=%s x=%s peer=%s mount=%s body=%s greeting=%s number=%d flag=%u self=%d",
        weft_method(ctx).ptr, weft_path(ctx).ptr, weft_param(ctx, "id").ptr,
        weft_query(ctx, "q").ptr, weft_header(ctx, "x-probe").ptr, weft_peer(ctx).ptr,
        weft_mount(ctx).ptr, weft_body(ctx).ptr, probe.greeting.ptr, (int)probe.number, probe.flag,
        self == &probe);

    WEFT_TRY(weft_set_header(ctx, "X-Answer", weft_cstr("42")));
    return weft_reply(ctx, 201, "text/plain", text);
}

static weft_status show_absent(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_status(ctx, weft_param(ctx, "no").ptr != NULL ||
                                 weft_query(ctx, "no").ptr != NULL ||
                                 weft_header(ctx, "no").ptr != NULL || weft_body(ctx).ptr == NULL);
}

/* Returns ?status=, explained where ?why= is there. */
static weft_status return_status(weft_ctx *ctx, void *self)
{
    weft_status status = (weft_status)strtol(weft_query(ctx, "status").ptr, NULL, 10);
    weft_str why = weft_query(ctx, "why");

    (void)self;
    return why.ptr != NULL ? weft_explain(ctx, status, "%s", why.ptr) : status;
}

static weft_status sleep_a_while(weft_ctx *ctx, void *self)
{
    weft_str ms = weft_query(ctx, "ms");

    (void)self;
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)strtoul(ms.ptr, NULL, 10))));
    return weft_reply_text(ctx, 200, "slept");
}

static weft_status on_sleep(weft_ctx *ctx, weft_op *op, void *data)
{
    WEFT_TRY(weft_op_status(op));
    WEFT_TRY(weft_await(weft_sleep(ctx, 5)));
    return weft_reply_text(ctx, 200, data);
}

static weft_status then_reply(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_sleep(ctx, 5), on_sleep, (void *)(uintptr_t) "then");
}

static weft_status on_failure(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)op;
    (void)data;
    return weft_explain(ctx, WEFT_E_NOT_FOUND, "as callbacks say");
}

static weft_status then_fail(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_sleep(ctx, 5), on_failure, NULL);
}

static weft_status fail_slowly(weft_ctx *ctx, void *self)
{
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)(uintptr_t)self)));
    return WEFT_E_TOO_BIG;
}

/* What ?kind= answers for a success after 50 ms and a failure after 20: status and winner. */
static weft_status use_group(weft_ctx *ctx, void *self)
{
    weft_op *ops[] = {weft_sleep(ctx, 50), weft_spawn(ctx, fail_slowly, (void *)20)};
    weft_op *group;
    weft_status status;

    (void)self;
    group = weft_query(ctx, "kind").ptr[1] == 'l' ? weft_all(ctx, 2, ops) : weft_any(ctx, 2, ops);
    status = weft_await(group);
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d", (int)status, (int)weft_winner(group),
                               (int)weft_op_status(ops[0])));
}

/* Notes why its ctx was canceled, and goes on in vain. */
static weft_status note_why(weft_ctx *ctx, void *self)
{
    weft_status status = weft_await(weft_sleep(ctx, 60000));

    *(uint32_t *)self = weft_why(ctx) + (weft_await(weft_sleep(ctx, 1)) == WEFT_OK ? 100 : 0);
    return status;
}

static weft_status do_nothing(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_OK;
}

/* Losers that run are canceled in their own ctx, and the request is not. */
static weft_status use_spawns(weft_ctx *ctx, void *self)
{
    uint32_t *whys = weft_alloc(ctx, 4 * sizeof *whys);
    weft_op *lost[] = {weft_spawn(ctx, note_why, whys), weft_sleep(ctx, 5)};
    weft_op *undone[] = {weft_spawn(ctx, note_why, whys + 1),
                         weft_spawn(ctx, fail_slowly, (void *)5)};
    weft_op *canceled = weft_spawn(ctx, note_why, whys + 2);
    weft_op *unbegun = weft_spawn(ctx, note_why, whys + 3), *quick;
    weft_status statuses[4];

    (void)self;
    weft_op_cancel(unbegun);
    statuses[0] = weft_await(weft_any(ctx, 2, lost));
    statuses[1] = weft_await(weft_all(ctx, 2, undone));
    weft_op_cancel(canceled);
    statuses[2] = weft_await(canceled);
    quick = weft_spawn(ctx, do_nothing, NULL);
    WEFT_TRY(weft_await(quick));
    statuses[3] = weft_op_release(quick);
    WEFT_TRY(weft_await(weft_sleep(ctx, 5)));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d %d %u %u %u %u %u", (int)statuses[0],
                               (int)statuses[1], (int)statuses[2], (int)statuses[3], whys[0],
                               whys[1], whys[2], whys[3], weft_why(ctx)));
}

static weft_status use_race(weft_ctx *ctx, void *self)
{
    weft_op *lost[] = {weft_sleep(ctx, 50), weft_spawn(ctx, fail_slowly, (void *)20)};
    weft_op *won[] = {weft_sleep(ctx, 5), weft_spawn(ctx, fail_slowly, (void *)20)};
    weft_op *failed = weft_race(ctx, 2, lost), *done = weft_race(ctx, 2, won);
    weft_status first = weft_await(failed), second = weft_await(done);

    (void)self;
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d %d %d %d", (int)first, (int)weft_winner(failed),
                               (int)weft_op_status(lost[0]), (int)second, (int)weft_winner(done),
                               (int)weft_await(weft_race(ctx, 0, NULL))));
}

/* A hedge's second op, and how long it was waited for before it was started. */
struct second {
    uint32_t wait_ms, sleep_ms;
    weft_op *op;
};

static weft_op *start_second(weft_ctx *ctx, void *data)
{
    struct second *second = data;

    if (second->sleep_ms == 0)
        return NULL;
    if (second->wait_ms > 0 && weft_await(weft_sleep(ctx, second->wait_ms)) != WEFT_OK)
        return NULL;
    second->op = weft_sleep(ctx, second->sleep_ms);
    return second->op;
}

/* One hedge: its status, the winner, and what became of the second op: `-` was not started. */
static weft_str hedge_of(weft_ctx *ctx, weft_op *first, struct second *second)
{
    weft_op *hedge = weft_hedge(ctx, first, 20, start_second, second);
    weft_status status = weft_await(hedge);

    return weft_fmt(ctx, "%d %d %s; ", (int)status, (int)weft_winner(hedge),
                    second->op == NULL                           ? "-"
                    : weft_op_status(second->op) == WEFT_PENDING ? "pending"
                    : weft_op_status(second->op) == WEFT_OK      ? "ok"
                                                                 : "canceled");
}

static weft_status use_hedges(weft_ctx *ctx, void *self)
{
    struct second seconds[6] = {{0, 10, NULL}, {0, 10, NULL}, {0, 90, NULL},
                                {5, 10, NULL}, {0, 10, NULL}, {0, 0, NULL}};
    weft_str quick = hedge_of(ctx, weft_sleep(ctx, 5), &seconds[0]);
    weft_str slow = hedge_of(ctx, weft_sleep(ctx, 1000), &seconds[1]);
    weft_str lost = hedge_of(ctx, weft_sleep(ctx, 40), &seconds[2]);
    weft_str waited = hedge_of(ctx, weft_sleep(ctx, 1000), &seconds[3]);
    weft_str failed = hedge_of(ctx, weft_spawn(ctx, fail_slowly, (void *)1), &seconds[4]);
    weft_str none = hedge_of(ctx, weft_spawn(ctx, fail_slowly, (void *)1), &seconds[5]);

    (void)self;
    return weft_reply(
        ctx, 200, "text/plain",
        weft_fmt(ctx, "%s%s%s%s%s%s%d %d", quick.ptr, slow.ptr, lost.ptr, waited.ptr, failed.ptr,
                 none.ptr, (int)weft_await(weft_hedge(ctx, NULL, 1, start_second, NULL)),
                 (int)weft_await(weft_hedge(ctx, weft_sleep(ctx, 1), 1, NULL, NULL))));
}

static void count_cleanup(void *data)
{
    probe.cleanups += (uint32_t)(uintptr_t)data;
}

/* A child a turn: its memory and ops go with it. */
static weft_status use_children(weft_ctx *ctx, void *self)
{
    uint32_t before = probe.cleanups;

    (void)self;
    for (uint32_t i = 0; i < 5; i++) {
        weft_ctx *child = weft_child(ctx, 1000, 0);
        WEFT_TRY(weft_defer(child, count_cleanup, (void *)1));
        WEFT_TRY(weft_await(weft_sleep(child, 1)));
        if (weft_budget_ms(child) > 1000)
            return WEFT_E_INVALID;
        WEFT_TRY(weft_end(child));
    }
    WEFT_TRY(weft_await(weft_sleep(ctx, 5)));
    return reply_status(ctx, (weft_status)(probe.cleanups - before));
}

static weft_status cancel_op(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, 60000);

    (void)self;
    if (weft_op_status(op) != WEFT_PENDING)
        return WEFT_E_INVALID;
    weft_op_cancel(op);
    return reply_status(ctx, weft_await(op));
}

static weft_status cancel_ctx(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 0, 0);
    weft_op *op = weft_sleep(child, 60000), *late;

    (void)self;
    weft_cancel(child);
    late = weft_sleep(child, 1);
    return weft_reply(
        ctx, 200, "text/plain",
        weft_fmt(ctx, "%d %d %u", (int)weft_await(op), (int)weft_op_status(late), weft_why(child)));
}

static weft_status release(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, 1);
    weft_status early = weft_op_release(op), after;

    (void)self;
    WEFT_TRY(weft_await(op));
    after = weft_op_release(op);
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d", (int)early, (int)after, (int)weft_op_status(op)));
}

/* Keeps this request open; /answer-waiting ends it from another one. */
static weft_status wait_for_other(weft_ctx *ctx, void *self)
{
    (void)self;
    probe.waiting = ctx;
    return weft_await(weft_sleep(ctx, 60000));
}

static weft_status answer_waiting(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_status(ctx, weft_reply_text(probe.waiting, 200, "from another"));
}

static weft_status show_background(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_status(ctx, (weft_status)probe.background);
}

static weft_status show_recorded(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_status(ctx, probe.recorded);
}

static weft_status log_line(weft_ctx *ctx, void *self)
{
    (void)self;
    weft_log(ctx, WEFT_LOG_WARN, "number %d and\nmore", 7);
    weft_log(NULL, WEFT_LOG_DEBUG, "nobody reads this");
    return weft_reply_text(ctx, 200, weft_status_text(WEFT_E_DB_BUSY));
}

static weft_status use_memory(weft_ctx *ctx, void *self)
{
    char *bytes = weft_alloc(ctx, 100000);
    size_t sum = 0;

    (void)self;
    for (size_t i = 0; i < 100000; i++)
        sum += bytes[i] != 0;
    memset(bytes, 'x', 100000);
    sum += (uintptr_t)bytes % 16 + (weft_alloc(ctx, 0) == NULL);
    return reply_status(ctx, (weft_status)sum);
}

/* Beyond its limit: given up, but not crashed. */
static weft_status use_much_memory(weft_ctx *ctx, void *self)
{
    (void)self;
    for (uint32_t i = 0; i < 20; i++)
        memset(weft_alloc(ctx, 1 << 20), 'x', 1 << 20);
    return weft_await(weft_sleep(ctx, 1));
}

static weft_status parse_body(weft_ctx *ctx, void *self)
{
    json_t *value;

    (void)self;
    WEFT_TRY(weft_jansson_body(ctx, &value));
    return reply_status(ctx, (weft_status)json_typeof(value));
}

/* ---- what is wrong, and answered ---- */

static weft_status nothing(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_OK;
}

static weft_status on_nothing(weft_ctx *ctx, weft_op *op, void *data)
{
    (void)ctx;
    (void)data;
    return weft_op_status(op);
}

static weft_status then_nothing(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_sleep(ctx, 5), on_nothing, NULL);
}

static weft_status reply_twice(weft_ctx *ctx, void *self)
{
    (void)self;
    WEFT_TRY(weft_reply_text(ctx, 200, "first"));
    probe.recorded = weft_reply_text(ctx, 200, "second");
    return WEFT_E_INVALID;
}

static weft_status consume_twice(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, 5);

    (void)self;
    WEFT_TRY(weft_then(op, on_nothing, NULL));
    return weft_reply(
        ctx, 200, "text/plain",
        weft_fmt(ctx, "%d %d", (int)weft_await(op), (int)weft_then(op, on_nothing, NULL)));
}

static weft_status keep_handles(weft_ctx *ctx, void *self)
{
    (void)self;
    probe.old_ctx = ctx;
    probe.old_op = weft_sleep(ctx, 1);
    return weft_reply_text(ctx, 200, "kept");
}

static weft_status use_stale(weft_ctx *ctx, void *self)
{
    weft_ctx *old = probe.old_ctx;
    char *memory = weft_alloc(old, 10);
    weft_op *none = weft_sleep(old, 1);
    weft_pg *db;

    (void)self;
    memset(memory, 'x', 10);
    weft_cancel(old);
    weft_op_cancel(probe.old_op);
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d %d %d %d %d %d %d %d",
                               (int)weft_reply_text(old, 200, "x"), (int)weft_await(probe.old_op),
                               (int)weft_op_status(none), (int)weft_await(NULL),
                               weft_param(old, "id").ptr != NULL, weft_child(old, 1, 0) != NULL,
                               (int)weft_defer(old, count_cleanup, NULL), (int)weft_end(ctx),
                               (int)weft_find_pool(probe.host, "main", &db),
                               (int)weft_await(weft_all(ctx, 1, &probe.old_op))));
}

static void await_in_cleanup(void *data)
{
    weft_ctx *ctx = data;

    probe.recorded = weft_await(weft_sleep(ctx, 1));
    (void)weft_end(ctx);
}

static weft_status defer_await(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 0, 0);

    (void)self;
    probe.recorded = 0;
    WEFT_TRY(weft_defer(child, await_in_cleanup, child));
    WEFT_TRY(weft_end(child));
    probe.cleanups = weft_end(child) == WEFT_E_STATE;
    WEFT_TRY(weft_await(weft_sleep(ctx, 5)));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %u", (int)probe.recorded, probe.cleanups));
}

static void *call_from_thread(void *data)
{
    weft_ctx *ctx = data;

    probe.recorded = weft_reply_text(ctx, 200, "never");
    weft_log(NULL, WEFT_LOG_WARN, "from a thread");
    return NULL;
}

static weft_status use_thread(weft_ctx *ctx, void *self)
{
    pthread_t thread;

    (void)self;
    if (pthread_create(&thread, NULL, call_from_thread, ctx) != 0)
        return WEFT_E_INVALID;
    pthread_join(thread, NULL);
    return reply_status(ctx, probe.recorded);
}

/* ---- work on threads ---- */

enum { THREADS = 4 };

static sem_t begun, gate; /* each held piece of work posts the one and waits for the other */

static weft_status work(void *data)
{
    return *(weft_status *)data;
}

static weft_status work_wrongly(void *data)
{
    probe.recorded = weft_op_status(weft_sleep(data, 1));
    weft_log(NULL, WEFT_LOG_WARN, "from its work");
    return WEFT_OK;
}

/* Its memory must be there when it goes on. */
static weft_status work_held(void *data)
{
    sem_post(&begun);
    sem_wait(&gate);
    ++*(uint32_t *)data;
    return WEFT_OK;
}

static weft_op *hold(weft_ctx *ctx)
{
    return weft_offload(ctx, work_held, weft_alloc(ctx, sizeof(uint32_t)));
}

static weft_status use_offload(weft_ctx *ctx, void *self)
{
    weft_status *result = weft_alloc(ctx, sizeof *result), done;

    (void)self;
    done = weft_await(weft_offload(ctx, work, result));
    *result = WEFT_E_TOO_BIG;
    WEFT_TRY(weft_await(weft_offload(ctx, work_wrongly, ctx)));
    return weft_reply(
        ctx, 200, "text/plain",
        weft_fmt(ctx, "%d %d %d %d", (int)done, (int)weft_await(weft_offload(ctx, work, result)),
                 (int)probe.recorded, (int)weft_await(weft_offload(ctx, NULL, NULL))));
}

/* Canceled while it runs, and while it waits for a thread. */
static weft_status cancel_offload(weft_ctx *ctx, void *self)
{
    uint32_t *runs = weft_alloc(ctx, sizeof *runs);
    weft_op *held[THREADS], *waiting, *running;
    weft_status statuses[4];

    (void)self;
    running = hold(ctx);
    sem_wait(&begun);
    weft_op_cancel(running);
    statuses[0] = weft_await(running);
    statuses[1] = weft_op_release(running);
    for (uint32_t i = 1; i < THREADS; i++)
        held[i] = hold(ctx);
    for (uint32_t i = 1; i < THREADS; i++)
        sem_wait(&begun);
    waiting = weft_offload(ctx, work_held, runs);
    weft_op_cancel(waiting);
    statuses[2] = weft_await(waiting);
    statuses[3] = weft_op_release(waiting);
    for (uint32_t i = 0; i < THREADS; i++)
        sem_post(&gate);
    WEFT_TRY(weft_await(weft_all(ctx, THREADS - 1, held + 1)));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d %d %u", (int)statuses[0], (int)statuses[1],
                               (int)statuses[2], (int)statuses[3], *runs));
}

/* Replies while its work goes on, until /let-go. */
static weft_status leave_work(weft_ctx *ctx, void *self)
{
    (void)self;
    (void)hold(ctx);
    sem_wait(&begun);
    return weft_reply_text(ctx, 200, "left");
}

static weft_status let_go(weft_ctx *ctx, void *self)
{
    (void)self;
    sem_post(&gate);
    return weft_reply_text(ctx, 200, "let go");
}

/* ---- posts ---- */

/* Runs in the background ctx, and may wait there. */
static weft_status on_post(weft_ctx *background, void *data)
{
    WEFT_TRY(weft_await(weft_sleep(background, 1)));
    probe.posts += (uint32_t)(uintptr_t)data;
    return WEFT_OK;
}

static void *post_from_thread(void *data)
{
    *(weft_status *)data = weft_post(probe.inbox, on_post, (void *)1);
    return NULL;
}

static weft_status use_posts(weft_ctx *ctx, void *self)
{
    uint32_t before = probe.posts;
    weft_status posted;
    pthread_t thread;

    (void)self;
    if (pthread_create(&thread, NULL, post_from_thread, &posted) != 0)
        return WEFT_E_INVALID;
    pthread_join(thread, NULL);
    WEFT_TRY(weft_await(weft_sleep(ctx, 10)));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %u %d %d", (int)posted, probe.posts - before,
                               (int)weft_post(NULL, on_post, NULL),
                               (int)weft_post(probe.inbox, NULL, NULL)));
}

static weft_status post_too_much(weft_ctx *ctx, void *self)
{
    uint32_t count = 0;
    weft_status status;

    (void)self;
    while ((status = weft_post(probe.inbox, on_post, (void *)1)) == WEFT_OK)
        count++;
    WEFT_TRY(weft_await(weft_sleep(ctx, 10)));
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%u %d %d", count, (int)status,
                               (int)weft_post(probe.inbox, on_post, (void *)1)));
}

/* ?as=: each is refused, and nothing of it is sent. */
static weft_status bad_headers(weft_ctx *ctx, void *self)
{
    static const struct {
        const char *name;
        weft_str value;
    } fields[] = {
        {"X-A", WEFT_S("a\r\nB: c")},
        {"X-A", WEFT_S("a\nB: c")},
        {"X-A", WEFT_S("a\rB: c")},
        {"X-A", WEFT_S("a\0b")},
        {"a b", WEFT_S("x")},
        {"X\r\nB", WEFT_S("c")},
        {"", WEFT_S("x")},
        {NULL, WEFT_S("x")},
        {"X-A", {NULL, 0}},
        {"X-A", {NULL, 5}},
        {"Date", WEFT_S("x")},
        {"content-LENGTH", WEFT_S("1")},
    };
    weft_str text = weft_fmt(ctx, "%d", (int)weft_reply_text(ctx, 99, "x"));

    (void)self;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        text = weft_fmt(ctx, "%s %d", text.ptr,
                        (int)weft_set_header(ctx, fields[i].name, fields[i].value));
    text = weft_fmt(ctx, "%s %d %d %d %d", text.ptr,
                    (int)weft_reply(ctx, 200, "a\r\nB: c", weft_cstr("x")),
                    (int)weft_redirect(ctx, 200, weft_cstr("/B")),
                    (int)weft_redirect(ctx, 400, weft_cstr("/B")),
                    (int)weft_redirect(ctx, 303, weft_cstr("/\nB")));
    return weft_reply(ctx, 200, "text/plain", text);
}

/* Ignores what it is told, until its ctx has ended under it. */
static weft_status ignore_all(weft_ctx *ctx, void *self)
{
    (void)self;
    do
        probe.recorded = weft_await(weft_sleep(ctx, 10));
    while (weft_why(ctx) == WEFT_WHY_NONE);
    probe.recorded = (weft_status)weft_why(ctx);
    return WEFT_OK;
}

static weft_status bad_statements(weft_ctx *ctx, void *self)
{
    weft_pg *no_db = (weft_pg *)ctx;
    weft_op *op = weft_run_sql(ctx, no_db, "select 1", 0, WEFT_NO_ARGS);

    (void)self;
    return weft_reply(ctx, 200, "text/plain",
                      weft_fmt(ctx, "%d %d %d %d %u %d %d", (int)weft_await(op),
                               (int)weft_await(weft_begin(ctx, NULL, 0)), weft_tx(op) != NULL,
                               (int)weft_op_status(weft_commit(no_db)), weft_rows(op),
                               weft_column(op, "id"),
                               (int)weft_await(weft_call_get(ctx, (weft_upstream *)ctx, "/"))));
}

/* ---- init, start, fini ---- */

struct entry {
    const char *method, *pattern;
    weft_handler *fn;
    uint32_t timeout_ms, flags;
};

static const struct entry entries[] = {
    {"GET", "/request/:id", show_request, 0, 0},
    {"POST", "/request/:id", show_request, 0, 0},
    {"GET", "/absent", show_absent, 0, 0},
    {"GET", "/status", return_status, 0, 0},
    {"GET", "/sleep", sleep_a_while, 200, 0},
    {"GET", "/sleep-to-the-end", sleep_a_while, 0, WEFT_ROUTE_FINISH},
    {"GET", "/then", then_reply, 0, 0},
    {"GET", "/then-fail", then_fail, 0, 0},
    {"GET", "/group", use_group, 0, 0},
    {"GET", "/race", use_race, 0, 0},
    {"GET", "/spawns", use_spawns, 0, 0},
    {"GET", "/hedges", use_hedges, 0, 0},
    {"GET", "/children", use_children, 0, 0},
    {"GET", "/cancel-op", cancel_op, 0, 0},
    {"GET", "/cancel-ctx", cancel_ctx, 0, 0},
    {"GET", "/release", release, 0, 0},
    {"GET", "/wait", wait_for_other, 0, 0},
    {"GET", "/answer-waiting", answer_waiting, 0, 0},
    {"GET", "/background", show_background, 0, 0},
    {"GET", "/recorded", show_recorded, 0, 0},
    {"GET", "/log", log_line, 0, 0},
    {"GET", "/memory", use_memory, 0, 0},
    {"GET", "/much-memory", use_much_memory, 0, 0},
    {"POST", "/json", parse_body, 0, 0},
    {"GET", "/nothing", nothing, 0, 0},
    {"GET", "/then-nothing", then_nothing, 0, 0},
    {"GET", "/twice", reply_twice, 0, 0},
    {"GET", "/two-consumers", consume_twice, 0, 0},
    {"GET", "/keep", keep_handles, 0, 0},
    {"GET", "/stale", use_stale, 0, 0},
    {"GET", "/defer-await", defer_await, 0, 0},
    {"GET", "/thread", use_thread, 0, 0},
    {"GET", "/posts", use_posts, 0, 0},
    {"GET", "/many-posts", post_too_much, 0, 0},
    {"GET", "/offload", use_offload, 0, 0},
    {"GET", "/cancel-offload", cancel_offload, 0, 0},
    {"GET", "/leave-work", leave_work, 0, 0},
    {"GET", "/let-go", let_go, 0, 0},
    {"GET", "/bad-headers", bad_headers, 0, 0},
    {"GET", "/ignore", ignore_all, 100, 0},
    {"GET", "/bad-statements", bad_statements, 0, 0},
};

static weft_status add_routes(weft_host *host)
{
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        weft_route_options options = {sizeof options, entries[i].flags, entries[i].timeout_ms, 0,
                                      0};
        WEFT_TRY(weft_route_with(host, entries[i].method, entries[i].pattern, entries[i].fn, NULL,
                                 &options));
    }
    return WEFT_OK;
}

/* Fails in the way that setting `fail` names. */
static weft_status fail_as_told(weft_host *host, weft_str how)
{
    weft_pg *db;
    weft_upstream *upstream;
    uint32_t flag;

    if (weft_equal(how, weft_cstr("twice")))
        return weft_route(host, "GET", "/sleep", nothing);
    if (weft_equal(how, weft_cstr("pattern")))
        return weft_route(host, "GET", "/a/*rest/b", nothing);
    if (weft_equal(how, weft_cstr("no-handler")))
        return weft_route(host, "GET", "/a", NULL);
    if (weft_equal(how, weft_cstr("missing")))
        return weft_setting(host, "surely", NULL, &how);
    if (weft_equal(how, weft_cstr("key")))
        return weft_setting(host, "path", NULL, &how);
    if (weft_equal(how, weft_cstr("bool")))
        return weft_setting_bool(host, "greeting", 0, &flag);
    if (weft_equal(how, weft_cstr("pool")))
        return weft_find_pool(host, "nowhere", &db);
    if (weft_equal(how, weft_cstr("upstream")))
        return weft_find_upstream(host, "nowhere", &upstream);
    if (weft_equal(how, weft_cstr("await")))
        return weft_await(weft_sleep(NULL, 1));
    if (weft_equal(how, weft_cstr("ignored")))
        return weft_find_pool(host, "nowhere", &db) == WEFT_E_INVALID ? WEFT_OK : WEFT_E_STATE;
    return how.len > 0 ? WEFT_E_UNSUPPORTED : WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    weft_str fail;

    *self = &probe;
    probe.host = host;
    WEFT_TRY(weft_open_inbox(host, &probe.inbox));
    sem_init(&begun, 0, 0);
    sem_init(&gate, 0, 0);
    WEFT_TRY(weft_setting(host, "greeting", "hello", &probe.greeting));
    WEFT_TRY(weft_setting_int(host, "number", -5, 100, 17, &probe.number));
    WEFT_TRY(weft_setting_bool(host, "flag", 1, &probe.flag));
    WEFT_TRY(weft_setting_bool(host, "start_fails", 0, &probe.start_fails));
    WEFT_TRY(add_routes(host));
    WEFT_TRY(weft_setting(host, "fail", "", &fail));
    return fail_as_told(host, fail);
}

/* Works until it is canceled, a child a turn. */
static weft_status start(weft_ctx *background, void *self)
{
    struct probe *mine = self;

    if (mine->start_fails)
        return WEFT_E_DB_DOWN;
    while (weft_why(background) == WEFT_WHY_NONE) {
        weft_ctx *turn = weft_child(background, 0, 0);
        weft_status status = weft_await(weft_sleep(turn, 10));
        (void)weft_end(turn);
        WEFT_TRY(status);
        mine->background++;
    }
    return WEFT_OK;
}

static void fini(void *self)
{
    const struct probe *mine = self;

    weft_log(NULL, WEFT_LOG_INFO, "fini after %d turns", mine->background > 0);
    weft_log(NULL, WEFT_LOG_INFO, "posts answer %d", (int)weft_post(mine->inbox, on_post, NULL));
}

WEFT_PLUGIN("probe", "1.0", init, start, fini);
