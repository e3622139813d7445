/* server/worker.c - the life of a worker.
 *
 *   STARTING ──▶ READY ──▶ SERVING ⇄ HOLDING
 *                  └──────────┴─────────┴───▶ DRAINING ──▶ ENDED
 *                                                 └──────▶ CUT ──▶ ENDED
 *
 * READY waits for the master's word. HOLDING accepts nobody and winds its connections up, but would
 * serve again. DRAINING accepts what the kernel has queued where nobody else will, closes the
 * listening sockets, lets requests under way finish and plugins' background work end. The drain's
 * time counts from the first of the two. CUT (that time is over, SIGQUIT, a second SIGTERM) cancels
 * what is left; what does not end within CUT_MS even so is left to the end of the process.
 */
#include "server/worker.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/signals.h"
#include "observe/access.h"
#include "server/board.h"
#include "server/cover.h"
#include "server/crash.h"
#include "server/error_log.h"
#include "server/filter.h"
#include "server/hang.h"
#include "server/inspect.h"
#include "server/orphan.h"
#include "server/parts.h"
#include "server/rehearse.h"
#include "server/report.h"
#include "server/show.h"
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CUT_MS = 1000,    /* for canceled handlers to return */
    TICK_MS = 100,    /* between flushes of the logs */
    ID_SLOT_BITS = 8, /* of a request's id: slot, life, then a counter */
    ID_COUNT_BITS = 40,
};

enum worker_state { STARTING, READY, SERVING, HOLDING, DRAINING, CUT, ENDED };

struct worker {
    const struct worker_setup *setup; /* the master's */
    struct parts parts;               /* all that lives on the loop */
    struct cover cover;               /* the listening sockets */
    struct signals signals;           /* TERM, QUIT, INT, USR1 */
    struct io channel;                /* to the master */
    struct timer tick;       /* flushes logs; while draining, looks whether all has ended */
    struct timer patience;   /* of the drain, then of the cut */
    uint64_t due_ms;         /* when the drain's patience ends; 0: it has not begun */
    enum worker_state state; /* see above */
    uint64_t show_ms;        /* when the board is to be written next */
    bool is_http_drained;    /* its last connection went */
    bool is_orphan;          /* the master died */
};

static void report(const struct worker_setup *setup, char what, const char *text)
{
    char message[INI_PROBLEM_SIZE + 1];
    int len = snprintf(message, sizeof message, "%c%s", what, text);

    CHECK(len > 0);
    if (setup->channel >= 0)
        (void)send(setup->channel, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void show_state(const struct worker *worker, enum board_state state)
{
    if (worker->setup->board != NULL)
        worker->setup->board->state = state;
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
    uint32_t count = http_server_abort(worker->parts.http);
    if (count > 0)
        log_warn("the drain's time is over: %u requests were cut off", count);
    if (worker->state == HOLDING)
        return;
    worker->state = CUT;
    timer_start(worker->parts.loop, &worker->patience, CUT_MS, on_patience_over);
}

static void on_patience_over(struct timer *timer)
{
    cut(CONTAINER_OF(timer, struct worker, patience));
}

/* Connections are wound up; their time begins. */
static void wind_up(struct worker *worker)
{
    worker->due_ms =
        loop_now_ms(worker->parts.loop) + worker->setup->settings->server.drain_timeout_ms;
    timer_start_at(worker->parts.loop, &worker->patience, worker->due_ms, on_patience_over);
    http_server_drain(worker->parts.http, on_http_drained, worker);
    parts_wind_up(&worker->parts, true);
}

static void drain(struct worker *worker)
{
    bool is_winding_up = worker->state == HOLDING;

    worker->state = DRAINING;
    show_state(worker, BOARD_DRAINING);
    log_info("draining");
    cover_drain(&worker->cover);
    plugins_stop(worker->parts.plugins);
    if (is_winding_up)
        timer_start_at(worker->parts.loop, &worker->patience, worker->due_ms, on_patience_over);
    else
        wind_up(worker);
    if (worker->is_orphan)
        orphan_heard(worker->setup->settings->server.drain_timeout_ms + CUT_MS);
}

static void hold(struct worker *worker)
{
    bool was_serving = worker->state == SERVING;

    worker->state = HOLDING;
    show_state(worker, BOARD_HOLDING);
    cover_hold(&worker->cover);
    wind_up(worker);
    if (was_serving)
        log_info("holding: another generation accepts");
    report(worker->setup, REPORT_HELD, "");
}

static void go(struct worker *worker)
{
    if (worker->state == HOLDING) {
        timer_stop(&worker->patience);
        http_server_resume(worker->parts.http);
        parts_wind_up(&worker->parts, false);
        worker->is_http_drained = false;
        log_info("serving again");
    }
    worker->state = SERVING;
    show_state(worker, BOARD_SERVING);
    cover_go(&worker->cover);
}

/* Does what the roster says. */
static void obey(struct worker *worker)
{
    switch (roster_word(worker->setup->roster)) {
    case ROSTER_WAIT:
        break;
    case ROSTER_GO:
        if (worker->state == READY || worker->state == HOLDING)
            go(worker);
        break;
    case ROSTER_HOLD:
        if (worker->state == READY || worker->state == SERVING)
            hold(worker);
        break;
    }
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
    bool is_first = worker->state < DRAINING;
    if (is_first)
        drain(worker);
    if (worker->state == DRAINING && (!is_first || number == SIGQUIT))
        cut(worker);
}

/* Anything that comes is a reason to look at the roster; the end is the master's. */
static void on_channel(struct io *io, uint32_t events)
{
    struct worker *worker = CONTAINER_OF(io, struct worker, channel);
    char bytes[64];
    ssize_t got = recv(worker->setup->channel, bytes, sizeof bytes, MSG_DONTWAIT);

    (void)events;
    if (got > 0) {
        obey(worker);
        cover_look(&worker->cover); /* a neighbour may have died: its clients wait */
        return;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    io_stop(io);
    worker->is_orphan = true;
    if (worker->state >= DRAINING)
        return;
    log_error("the master has died");
    drain(worker);
}

static void on_cover_tick(void *data)
{
    obey(data);
}

static void on_tick(struct timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, tick);

    log_flush_repeats();
    access_flush(worker->parts.access);
    show_tick(&worker->parts, &worker->show_ms);
    if (worker->state >= DRAINING)
        end_if_done(worker);
    if (worker->state != ENDED)
        timer_start(worker->parts.loop, timer, worker->state >= DRAINING ? 10 : TICK_MS, on_tick);
}

static void on_connection(struct listener *listener, int fd, const struct addr *peer)
{
    struct worker *worker = cover_data(listener);

    http_server_accept(worker->parts.http, fd, peer);
}

static bool has_room(void *data)
{
    const struct worker *worker = data;

    return http_server_has_room(worker->parts.http);
}

static bool make_room(void *data)
{
    struct worker *worker = data;

    return http_server_make_room(worker->parts.http);
}

static void on_room(void *data)
{
    struct worker *worker = data;

    cover_resume(&worker->cover);
}

static enum err serve(struct worker *worker, char *problem)
{
    const struct worker_setup *setup = worker->setup;
    uint64_t id_base = (uint64_t)setup->slot << (64 - ID_SLOT_BITS) |
                       (uint64_t)(setup->life & 0xffffu) << ID_COUNT_BITS;
    enum err err = error_log_open(setup->settings); /* a reload may have named another one */

    if (err != ERR_OK) {
        snprintf(problem, INI_PROBLEM_SIZE, "error_log: %.300s: %s",
                 setup->settings->server.error_log, strerror(errno));
        return err;
    }
    err = parts_serve(&worker->parts, id_base, on_room, worker, problem);
    if (err != ERR_OK)
        return err;
    cover_init(&worker->cover, &(struct cover_setup){
                                   .loop = worker->parts.loop,
                                   .roster = setup->roster,
                                   .sockets = setup->sockets,
                                   .settings = setup->settings,
                                   .index = setup->slot,
                                   .on_connection = on_connection,
                                   .has_room = has_room,
                                   .make_room = make_room,
                                   .on_tick = on_cover_tick,
                                   .data = worker,
                               });
    io_start(worker->parts.loop, &worker->channel, setup->channel, IO_READ, on_channel);
    timer_start(worker->parts.loop, &worker->tick, TICK_MS, on_tick);
    worker->state = READY;
    show_state(worker, BOARD_READY);
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

/* Its last moment with the master's rights has come: the plugins are loaded. */
static enum err give_up_rights(struct worker *worker, char *problem)
{
    const struct settings *settings = worker->setup->settings;
    enum err err = rights_drop(&settings->server, &settings->rights, problem);

    orphan_watch(worker->setup->master); /* the kernel forgets it with the user */
    if (err == ERR_OK && settings->server.syscall_filter)
        err = filter_install(settings->server.syscalls_allowed, problem);
    return err == ERR_OK ? settings_check_files(settings, problem) : err;
}

/* All that comes before the first connection. */
static enum err begin(struct worker *worker, char *problem)
{
    const struct worker_setup *setup = worker->setup;
    enum err err;

    name_process(setup);
    orphan_watch(setup->master);
    roster_seal(setup->roster);
    rights_limit(&setup->settings->server);
    err = parts_init(&worker->parts, setup, problem);
    if (err != ERR_OK)
        return err;
    crash_watch_fibers(worker->parts.tasks->fibers);
    report_note_modules();
    hang_install(setup->blame);
    start_signals(worker);
    err = give_up_rights(worker, problem);
    return err == ERR_OK ? serve(worker, problem) : err;
}

/* Lets go of all; where something does not end, of what is not in its way: the end of the process
 * does the rest. */
static void end(struct worker *worker)
{
    stop_signals(worker);
    io_stop(&worker->channel);
    close(worker->setup->channel);
    cover_deinit(&worker->cover);
    timer_stop(&worker->tick);
    timer_stop(&worker->patience);
    if (!parts_are_busy(&worker->parts)) {
        crash_watch_fibers(NULL);
        parts_deinit(&worker->parts);
        mem_free(worker);
        log_flush_repeats();
    }
    crash_allow_exit();
}

int worker_run(const struct worker_setup *setup)
{
    struct worker *worker = mem_alloc(sizeof *worker);
    char problem[INI_PROBLEM_SIZE] = "";
    int code = 0;

    worker->setup = setup;
    worker->signals._fd = -1;
    if (begin(worker, problem) == ERR_OK) {
        report(setup, REPORT_READY, "");
        log_info("ready: generation %u, %u plugins", setup->generation,
                 plugins_count(worker->parts.plugins));
        loop_run(worker->parts.loop);
    } else {
        report(setup, REPORT_FAILED, problem);
        give_up(worker);
        code = WORKER_EXIT_REFUSED;
    }
    end(worker);
    return code;
}

static void print_routes(const struct router *router, const char *before, FILE *out)
{
    const struct http_route *route;
    uint32_t at = 0;

    while ((route = router_next(router, &at)) != NULL)
        fprintf(out, "%s%-7s %-40s %s\n", before, route->method, route->pattern, route->owner);
}

enum err worker_check(const struct worker_setup *setup, FILE *out, FILE *warnings,
                      char problem[INI_PROBLEM_SIZE])
{
    struct parts parts;
    enum err err;

    crash_install("check", setup->blame);
    err = parts_init(&parts, setup, problem);
    if (setup->inspection != NULL)
        inspection_print(setup->inspection, out);
    if (err == ERR_OK)
        print_routes(parts.router, setup->inspection != NULL ? "route     " : "", out);
    if (err == ERR_OK && setup->inspection == NULL)
        err = rehearse(&parts, warnings, problem);
    parts_deinit(&parts);
    crash_allow_exit();
    return err;
}
