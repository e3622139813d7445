/* server/watch.c - the master's eye on its workers. */
#include "server/watch.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "server/board.h"
#include "server/hang.h"
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PERIOD_MS_MIN = 5,
    PERIOD_MS_MAX = 250,
    PERIODS = 4,        /* heartbeats within the shorter limit */
    KILL_MS = 5000,     /* from SIGABRT, which may write a core, to SIGKILL */
    LOST_MAX = 1 << 20, /* what a ruined page says beyond it is not believed */
};

/* ---- stalls ---- */

static void log_stall(const struct watched *worker, const struct blame_culprit *culprit,
                      enum log_level level, const char *what)
{
    char request[17] = "-";

    if (culprit->request != 0)
        snprintf(request, sizeof request, "%016llx", (unsigned long long)culprit->request);
    log_fields(level,
               LOG_FIELDS({"plugin", span_of(culprit->plugin[0] != '\0' ? culprit->plugin : "-")},
                          {"route", span_of(culprit->route[0] != '\0' ? culprit->route : "-")},
                          {"request", span_of(request)}),
               "worker %u (process %d) has been in one turn for %u ms%s", worker->slot,
               (int)worker->pid, worker->_stuck_ms, what);
}

static void ask(struct watched *worker)
{
    struct watch *watch = worker->_watch;
    struct blame_culprit culprit;

    worker->_is_asked = true;
    blame_read(worker->blame, &culprit);
    log_stall(worker, &culprit, LOG_WARN, "");
    quarantine_note_stall(&watch->quarantine, &culprit, loop_now_ms(watch->loop));
    (void)hang_ask(worker->pid, worker->_turn);
}

static void condemn(struct watched *worker, uint32_t elapsed_ms)
{
    struct blame_culprit culprit;

    if (worker->_condemned_ms == 0) {
        blame_read(worker->blame, &culprit);
        log_stall(worker, &culprit, LOG_ERROR, ", longer than stall_kill: killed");
        kill(worker->pid, SIGABRT);
        worker->_condemned_ms = 1;
        return;
    }
    if (worker->_condemned_ms <= KILL_MS && worker->_condemned_ms + elapsed_ms > KILL_MS)
        kill(worker->pid, SIGKILL);
    worker->_condemned_ms += elapsed_ms;
}

static void look_at(struct watched *worker, uint32_t elapsed_ms)
{
    const struct watch *watch = worker->_watch;
    uint64_t turn = __atomic_load_n(&worker->blame->turn, __ATOMIC_ACQUIRE);
    uint64_t start_us = __atomic_load_n(&worker->blame->turn_start_us, __ATOMIC_RELAXED);

    if (worker->_condemned_ms > 0) {
        condemn(worker, elapsed_ms);
        return;
    }
    if (start_us == 0 || turn != worker->_turn) {
        if (worker->_is_asked)
            log_info("worker %u (process %d) turns again", worker->slot, (int)worker->pid);
        worker->_turn = turn;
        worker->_stuck_ms = 0;
        worker->_is_asked = false;
        return;
    }
    worker->_stuck_ms += elapsed_ms;
    bool is_long = watch->_warn_ms > 0 && worker->_stuck_ms >= watch->_warn_ms;
    bool is_over = watch->_kill_ms > 0 && worker->_stuck_ms >= watch->_kill_ms;
    if ((is_long && !worker->_is_asked) || is_over) {
        if (hang_is_stopped(worker->pid)) {
            worker->_stuck_ms = 0;
            return;
        }
        if (is_long && !worker->_is_asked)
            ask(worker);
        if (is_over)
            condemn(worker, elapsed_ms);
    }
}

static void on_beat(struct timer *timer)
{
    struct watch *watch = CONTAINER_OF(timer, struct watch, _timer);
    uint64_t now_ms = loop_now_ms(watch->loop);
    uint64_t elapsed_ms = now_ms - watch->_beat_ms;

    /* Whoever was not looked at for longer may have been kept from running just as we were. */
    if (elapsed_ms > 2 * (uint64_t)watch->_period_ms)
        elapsed_ms = 2 * (uint64_t)watch->_period_ms;
    watch->_beat_ms = now_ms;
    LIST_EACH (&watch->workers, link) {
        look_at(CONTAINER_OF(link, struct watched, _link), (uint32_t)elapsed_ms);
    }
    timer_start(watch->loop, &watch->_timer, watch->_period_ms, on_beat);
}

/* ---- life ---- */

static void take_limits(struct watch *watch, const struct server_options *options)
{
    uint32_t shorter = options->stall_warn_ms;

    watch->_warn_ms = options->stall_warn_ms;
    watch->_kill_ms = options->stall_kill_ms;
    if (shorter == 0 || (watch->_kill_ms > 0 && watch->_kill_ms < shorter))
        shorter = watch->_kill_ms;
    timer_stop(&watch->_timer);
    watch->_period_ms = shorter / PERIODS;
    if (watch->_period_ms < PERIOD_MS_MIN)
        watch->_period_ms = PERIOD_MS_MIN;
    if (watch->_period_ms > PERIOD_MS_MAX)
        watch->_period_ms = PERIOD_MS_MAX;
    watch->_beat_ms = loop_now_ms(watch->loop);
    if (shorter > 0)
        timer_start(watch->loop, &watch->_timer, watch->_period_ms, on_beat);
}

void watch_init(struct watch *watch, struct loop *loop, const struct server_options *options)
{
    *watch = (struct watch){.loop = loop, .since_ms = loop_now_ms(loop)};
    list_init(&watch->workers);
    quarantine_init(&watch->quarantine, options->crash_limit, options->crash_window_ms);
    census_init(&watch->past);
    watch->slots = mem_calloc(SETTINGS_WORKERS_MAX, sizeof *watch->slots);
    watch->_ticks = clock_ticks();
    watch->_ticks_us = clock_monotonic_us();
    take_limits(watch, options);
}

void watch_deinit(struct watch *watch)
{
    if (watch->loop == NULL)
        return;
    CHECK(list_is_empty(&watch->workers));
    timer_stop(&watch->_timer);
    quarantine_deinit(&watch->quarantine);
    census_deinit(&watch->past);
    mem_free(watch->slots);
    watch->loop = NULL;
}

void watch_renew(struct watch *watch, const struct server_options *options)
{
    quarantine_clear(&watch->quarantine, options->crash_limit, options->crash_window_ms);
    take_limits(watch, options);
}

void watch_set_phase(struct watch *watch, enum watch_phase phase)
{
    watch->phase = phase;
}

bool watch_is_ready(const struct watch *watch)
{
    if (watch->phase != WATCH_SERVING)
        return false;
    LIST_EACH (&watch->workers, link) {
        uint32_t state = CONTAINER_OF(link, struct watched, _link)->board->state;
        if (state > BOARD_STARTING && state < BOARD_DRAINING) /* from one word to the next, too */
            return true;
    }
    return false;
}

/* By generation, and in it by slot: whoever reads a table looks for a worker in its place. */
static void enlist(struct watch *watch, struct watched *worker)
{
    struct list *before = &watch->workers;

    LIST_EACH (&watch->workers, link) {
        const struct watched *other = CONTAINER_OF(link, struct watched, _link);
        if (other->generation > worker->generation ||
            (other->generation == worker->generation && other->slot > worker->slot)) {
            before = link;
            break;
        }
    }
    list_append(before, &worker->_link); /* the last before that one */
}

void watch_begin(struct watch *watch, struct watched *worker, const struct watch_worker *what)
{
    CHECK(worker->_watch == NULL);
    *worker = (struct watched){._watch = watch,
                               .blame = what->blame,
                               .board = what->board,
                               .pid = what->pid,
                               .slot = what->slot,
                               .generation = what->generation,
                               .started_ms = loop_now_ms(watch->loop)};
    enlist(watch, worker);
}

/* ---- deaths ---- */

/* Is it what a plugin's own code brings about? Others are sent from outside. */
static bool is_own_fault(const struct watched *worker, int status)
{
    if (WIFEXITED(status))
        return true;
    switch (WTERMSIG(status)) {
    case SIGSEGV:
    case SIGBUS:
    case SIGABRT:
    case SIGFPE:
    case SIGILL:
    case SIGSYS:
    case SIGTRAP:
    case SIGALRM: /* of the report of a crash that hung itself */
        return true;
    default:
        return worker->_condemned_ms > 0;
    }
}

/* ", last entered plugin=... route=...", where the host itself ran. */
static void describe_last(const struct watched *worker, char *text, size_t size)
{
    char plugin[4 * BLAME_PLUGIN_SIZE + 3], route[4 * BLAME_ROUTE_SIZE + 3];
    struct blame_culprit culprit;

    blame_read_last(worker->blame, &culprit);
    text[0] = '\0';
    if (!culprit.is_past)
        return;
    log_escape(plugin, sizeof plugin, span_of(culprit.plugin), false);
    log_escape(route, sizeof route, span_of(culprit.route), false);
    snprintf(text, size, ", after last_plugin=%s last_route=%s", plugin, route);
}

void watch_move(struct watched *from, struct watched *to)
{
    struct watch *watch = from->_watch;

    CHECK(watch != NULL);
    list_remove(&from->_link);
    *to = *from;
    to->_link = (struct list){NULL, NULL};
    enlist(watch, to);
    *from = (struct watched){._watch = NULL};
}

static struct watch_slot *slot_of(const struct watched *worker)
{
    CHECK(worker->slot < SETTINGS_WORKERS_MAX);
    return &worker->_watch->slots[worker->slot];
}

static void log_death(const struct watched *worker, int status)
{
    uint32_t lost = worker->board->http.requests_open;
    char culprit[BLAME_TEXT_SIZE], last[BLAME_TEXT_SIZE], what[96];
    struct watch_slot *slot = slot_of(worker);

    blame_describe(worker->blame, culprit, sizeof culprit);
    describe_last(worker, last, sizeof last);
    if (WIFSIGNALED(status))
        snprintf(what, sizeof what, "was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(what, sizeof what, "exited with code %d", WEXITSTATUS(status));
    snprintf(slot->why, sizeof slot->why, "%s while it ran %.400s", what, culprit);
    log_error("worker %u (process %d) %s while it ran %s%s; requests lost: %u", worker->slot,
              (int)worker->pid, what, culprit, last, lost <= LOST_MAX ? lost : 0);
}

void watch_end(struct watched *worker, int status, enum watch_end how, const char *said)
{
    struct watch *watch = worker->_watch;
    struct blame_culprit culprit;

    if (watch == NULL)
        return;
    if (how != WATCH_TOLD) {
        slot_of(worker)->deaths++;
        slot_of(worker)->died_us = clock_wall_us();
        snprintf(slot_of(worker)->why, sizeof slot_of(worker)->why, "could not start: %s", said);
    }
    if (how == WATCH_DIED) {
        log_death(worker, status);
        blame_read(worker->blame, &culprit);
        if (is_own_fault(worker, status))
            (void)quarantine_note_crash(&watch->quarantine, &culprit, loop_now_ms(watch->loop));
    }
    census_add(&watch->past, worker->blame, worker->board, false);
    list_remove(&worker->_link);
    *worker = (struct watched){._watch = NULL};
}

uint64_t watch_ticks_us(const struct watch *watch, uint64_t ticks)
{
    uint64_t us = clock_monotonic_us() - watch->_ticks_us;
    uint64_t passed = clock_ticks() - watch->_ticks;

    return us > 0 && passed > 0 ? (uint64_t)((double)ticks * (double)us / (double)passed) : 0;
}

uint64_t watch_memory(pid_t pid)
{
    unsigned long long pages = 0;
    char path[32];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    (void)fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
