/* server/worker.c - the life of a worker.
 *
 *   STARTING ──▶ SERVING ──▶ DRAINING ──▶ ENDED
 *                    └──────────┴───────▶ CUT (the drain's time is over, or SIGQUIT, or a second SIGTERM) ──▶ ENDED
 *
 * DRAINING accepts what the kernel has queued, closes the listening sockets, lets requests under
 * way finish and plugins' background work end. CUT cancels what is left; what does not end within
 * CUT_MS even so is left to the end of the process.
 */
#include "server/worker.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/signals.h"
#include "net/listener.h"
#include "observe/access.h"
#include "server/crash.h"
#include "server/error_log.h"
#include "server/hang.h"
#include "server/inspect.h"
#include "server/parts.h"
#include "server/report.h"
#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    CUT_MS = 1000,    /* for canceled handlers to return */
    TICK_MS = 100,    /* between flushes of the logs */
    ID_SLOT_BITS = 8, /* of a request's id: slot, life, then a counter */
    ID_COUNT_BITS = 40,
};

enum worker_state { STARTING, SERVING, DRAINING, CUT, ENDED };

struct door {
    struct listener listener; /* of one listening socket */
    struct worker *worker;    /* whose */
};

struct worker {
    const struct worker_setup *setup;       /* the master's */
    struct parts parts;                     /* all that lives on the loop */
    struct door doors[SETTINGS_LISTEN_MAX]; /* one a listening socket */
    struct signals signals;                 /* TERM, QUIT, INT, USR1 */
    struct timer tick;       /* flushes logs; while draining, looks whether all has ended */
    struct timer patience;   /* of the drain, then of the cut */
    enum worker_state state; /* see above */
    bool is_http_drained;    /* its last connection went */
};

static void report(const struct worker_setup *setup, char what, const char *text)
{
    if (setup->report_fd < 0)
        return;
    dprintf(setup->report_fd, "%c%s\n", what, text);
    close(setup->report_fd);
}

static void each_listener(struct worker *worker, void (*verb)(struct listener *listener))
{
    for (uint32_t i = 0; i < worker->setup->listener_count; i++)
        verb(&worker->doors[i].listener);
}

static void end_if_done(struct worker *worker)
{
    if (!worker->is_http_drained || parts_are_busy(&worker->parts))
        return;
    worker->state = ENDED;
    loop_stop(worker->parts.loop);
}

static void on_http_drained(void *data)
{
    struct worker *worker = data;

    worker->is_http_drained = true;
}

static void on_patience_over(struct timer *timer);

/* The end of patience: whoever is still there is canceled, and gets a moment to return. */
static void cut(struct worker *worker)
{
    if (worker->state == CUT) {
        log_error("%u scopes have not ended %d ms after they were canceled: left behind",
                  worker->parts.tasks->scopes_count, CUT_MS);
        worker->state = ENDED;
        loop_stop(worker->parts.loop);
        return;
    }
    worker->state = CUT;
    uint32_t count = http_server_abort(worker->parts.http);
    if (count > 0)
        log_warn("the drain's time is over: %u requests were cut off", count);
    timer_start(worker->parts.loop, &worker->patience, CUT_MS, on_patience_over);
}

static void on_patience_over(struct timer *timer)
{
    cut(CONTAINER_OF(timer, struct worker, patience));
}

/* Takes what the kernel has accepted for us already, so that closing the socket resets nobody. */
static void close_sockets(struct worker *worker)
{
    each_listener(worker, listener_drain);
    for (uint32_t i = 0; i < worker->setup->listener_count; i++)
        close(worker->setup->listeners[i]);
    for (uint32_t i = 0; i < worker->setup->other_count; i++)
        close(worker->setup->others[i]);
}

static void drain(struct worker *worker)
{
    worker->state = DRAINING;
    log_info("draining");
    close_sockets(worker);
    plugins_stop(worker->parts.plugins);
    timer_start(worker->parts.loop, &worker->patience,
                worker->setup->settings->server.drain_timeout_ms, on_patience_over);
    http_server_drain(worker->parts.http, on_http_drained, worker);
}

static void reopen_logs(struct worker *worker)
{
    struct access_log *access = worker->parts.access;

    if (error_log_open(worker->setup->settings) != ERR_OK)
        log_error("error_log: cannot be opened again: %s", strerror(errno));
    if (access != NULL && access_reopen(access) != ERR_OK)
        log_error("access_log: cannot be opened again: %s", strerror(errno));
}

/* What the loop calls: note what happened, hand on. No policy below this line. */

static void on_signal(struct signals *signals, int number, int pid)
{
    struct worker *worker = CONTAINER_OF(signals, struct worker, signals);

    (void)pid;
    if (number == SIGUSR1) {
        reopen_logs(worker);
        return;
    }
    if (number == SIGINT) /* the terminal's, for the master too: it will tell us */
        return;
    bool was_serving = worker->state == SERVING;
    if (was_serving)
        drain(worker);
    if (worker->state == DRAINING && (!was_serving || number == SIGQUIT))
        cut(worker);
}

static void on_tick(struct timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, tick);

    log_flush_repeats();
    access_flush(worker->parts.access);
    if (worker->state >= DRAINING)
        end_if_done(worker);
    if (worker->state != ENDED)
        timer_start(worker->parts.loop, timer, worker->state >= DRAINING ? 10 : TICK_MS, on_tick);
}

static void on_connection(struct listener *listener, int fd, const struct addr *peer)
{
    struct worker *worker = CONTAINER_OF(listener, struct door, listener)->worker;

    http_server_accept(worker->parts.http, fd, peer);
}

static bool on_may_accept(struct listener *listener)
{
    struct worker *worker = CONTAINER_OF(listener, struct door, listener)->worker;

    return http_server_has_room(worker->parts.http);
}

static void on_room(void *data)
{
    struct worker *worker = data;

    if (worker->state == SERVING)
        each_listener(worker, listener_resume);
}

static enum err serve(struct worker *worker, char *problem)
{
    const struct worker_setup *setup = worker->setup;
    uint64_t id_base = (uint64_t)setup->slot << (64 - ID_SLOT_BITS) |
                       (uint64_t)(setup->life & 0xffffu) << ID_COUNT_BITS;
    enum err err = parts_serve(&worker->parts, id_base, on_room, worker, problem);

    if (err != ERR_OK)
        return err;
    for (uint32_t i = 0; i < setup->listener_count; i++) {
        struct door *door = &worker->doors[i];
        door->worker = worker;
        listener_start(worker->parts.loop, &door->listener, setup->listeners[i], on_connection);
        door->listener.may_accept = on_may_accept;
    }
    timer_start(worker->parts.loop, &worker->tick, TICK_MS, on_tick);
    worker->state = SERVING;
    return ERR_OK;
}

/* A start that failed half-way: what was started is canceled and let go, so that leaks show. */
static void give_up(struct worker *worker)
{
    plugins_stop(worker->parts.plugins);
    for (int i = 0; i < 100 && parts_are_busy(&worker->parts); i++)
        loop_turn(worker->parts.loop, 10);
}

static void start_signals(struct worker *worker)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGUSR1);
    signals_start(worker->parts.loop, &worker->signals, &set, on_signal);
}

/* One more SIGTERM must not turn an orderly end into a death by signal. */
static void stop_signals(struct worker *worker)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signals_stop(&worker->signals);
}

static void name_process(const struct worker_setup *setup)
{
    char name[32];

    snprintf(name, sizeof name, "worker %u", setup->slot);
    log_set_process(name);
    crash_install(name, setup->blame);
    snprintf(name, sizeof name, "weft-worker-%u", setup->slot);
    prctl(PR_SET_NAME, name);
}

int worker_run(const struct worker_setup *setup)
{
    struct worker *worker = mem_alloc(sizeof *worker);
    char problem[INI_PROBLEM_SIZE] = "";
    int code = 0;

    worker->setup = setup;
    worker->signals._fd = -1;
    for (uint32_t i = 0; i < SETTINGS_LISTEN_MAX; i++)
        worker->doors[i].listener._fd = -1;
    name_process(setup);
    enum err err = parts_init(&worker->parts, setup, problem);
    if (err == ERR_OK) {
        crash_watch_fibers(worker->parts.tasks->fibers);
        report_note_modules();
        hang_install(setup->blame);
        start_signals(worker);
        err = serve(worker, problem);
    }
    if (err != ERR_OK) {
        report(setup, REPORT_FAILED, problem);
        give_up(worker);
        code = WORKER_EXIT_REFUSED;
    } else {
        report(setup, REPORT_READY, "");
        log_info("ready: %u plugins", plugins_count(worker->parts.plugins));
        loop_run(worker->parts.loop);
    }
    stop_signals(worker);
    each_listener(worker, listener_stop);
    timer_stop(&worker->tick);
    timer_stop(&worker->patience);
    if (parts_are_busy(&worker->parts)) {
        crash_allow_exit();
        return code; /* said above: the end of the process lets go of the rest */
    }
    crash_watch_fibers(NULL);
    parts_deinit(&worker->parts);
    mem_free(worker);
    log_flush_repeats();
    crash_allow_exit();
    return code;
}

static void print_routes(const struct router *router, const char *before, FILE *out)
{
    const struct http_route *route;
    uint32_t at = 0;

    while ((route = router_next(router, &at)) != NULL)
        fprintf(out, "%s%-7s %-40s %s\n", before, route->method, route->pattern, route->owner);
}

enum err worker_check(const struct worker_setup *setup, FILE *out, char problem[INI_PROBLEM_SIZE])
{
    struct parts parts;
    enum err err;

    crash_install("check", setup->blame);
    err = parts_init(&parts, setup, problem);

    if (setup->inspection != NULL)
        inspection_print(setup->inspection, out);
    if (err == ERR_OK)
        print_routes(parts.router, setup->inspection != NULL ? "route     " : "", out);
    parts_deinit(&parts);
    crash_allow_exit();
    return err;
}
