/* server/master.c - holds the sockets, starts the workers, and starts them again.
 *
 *   slot: EMPTY ──▶ STARTING ──▶ SERVING ──▶ WAITING (dead, back-off) ──▶ STARTING
 *                      └──▶ REFUSED (exit 78)        any but the last ──▶ STOPPING ──▶ EMPTY
 *
 * The first start goes slot by slot at its beginning: the first worker tries settings and plugins,
 * and only when it is ready are the others forked, so that what is wrong is said once. A worker
 * that dies later is started again: at once the first time, then with back-off until one has lived
 * for LIVED_MS.
 */
#include "server/master.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/signals.h"
#include "loop/timer.h"
#include "observe/blame.h"
#include "server/board.h"
#include "server/control.h"
#include "server/error_log.h"
#include "server/runtime.h"
#include "server/sockets.h"
#include "server/watch.h"
#include "server/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LIVED_MS = 30000, /* a worker that lived so long starts the back-off anew */
    GRACE_MS = 3000   /* beyond a drain's time, before a worker is killed */
};

static const uint32_t backoff_ms[] = {0, 100, 500, 1000, 2000, 5000, 10000, 30000};

enum { TICKET_STOP = 1 }; /* of askers that wait for the host's end */

enum slot_state { EMPTY, STARTING, SERVING, WAITING, REFUSED, STOPPING };

struct slot {
    struct master *master;              /* whose */
    struct blame *blame;                /* shared with the worker */
    struct board *board;                /* the same */
    struct watched watched;             /* the process, while there is one */
    struct io report;                   /* of the report pipe's read end */
    struct timer timer;                 /* the start's limit, or the back-off */
    int report_fd;                      /* read end; -1: none */
    pid_t pid;                          /* 0: none */
    uint64_t started_ms;                /* when it was forked */
    uint32_t deaths;                    /* in a row: index into backoff_ms */
    uint32_t index;                     /* of the slot */
    enum slot_state state;              /* see above */
    char problem[INI_PROBLEM_SIZE + 8]; /* what the report pipe said so far */
    size_t problem_len;                 /* bytes of it */
};

struct master {
    const struct settings *settings; /* read before */
    struct loop *loop;               /* its own */
    struct signals signals;          /* CHLD, TERM, INT, QUIT, HUP, USR1 */
    struct timer patience;           /* until workers that do not end are killed */
    struct timer tick;               /* flushes the log's repeats */
    struct runtime runtime;          /* the host's folder */
    struct sockets sockets;          /* every slot's */
    struct control control;          /* takes commands */
    struct watch watch;              /* over the workers */
    struct slot *slots;              /* settings->workers of them */
    pid_t pid;                       /* its own */
    uint32_t generation;             /* of the workers; from 1 */
    uint32_t lives;                  /* goes up with each fork, from a start of its own */
    bool is_ready;                   /* all were ready once */
    bool is_stopping;                /* no worker is started any more */
    int code;                        /* of the exit */
};

static void stop_all(struct master *master, int number);
static void fork_worker(struct slot *slot);
static void start_again(struct slot *slot);

/* ---- one slot ---- */

/* In the child: becomes the worker. The master's loop is left as it is; its descriptors are
 * closed. */
static _Noreturn void become_worker(struct slot *slot, int report_fd)
{
    struct master *master = slot->master;
    const struct settings *settings = master->settings;
    int *others = mem_calloc(settings->workers, SETTINGS_LISTEN_MAX * sizeof *others);
    uint32_t other_count = sockets_of_others(&master->sockets, slot->index, others);

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != slot->master->pid) /* it died before we asked */
        _exit(0);
    for (uint32_t i = 0; i < settings->workers; i++)
        if (master->slots[i].report_fd >= 0)
            close(master->slots[i].report_fd);
    control_abandon(&master->control);
    signals_abandon(&master->signals);
    loop_abandon(master->loop);
    int code = worker_run(&(struct worker_setup){
        .settings = settings,
        .copy_dir = master->runtime.generation,
        .blame = slot->blame,
        .board = slot->board,
        .quarantine = master->watch.quarantine.list,
        .listeners = sockets_of(&master->sockets, slot->index),
        .listener_count = settings->listen_count,
        .others = others,
        .other_count = other_count,
        .slot = slot->index,
        .generation = master->generation,
        .life = master->lives,
        .report_fd = report_fd,
    });
    mem_free(others);
    exit(code);
}

static void close_report(struct slot *slot)
{
    io_stop(&slot->report);
    if (slot->report_fd >= 0)
        close(slot->report_fd);
    slot->report_fd = -1;
}

static struct slot *first_in(struct master *master, enum slot_state state)
{
    for (uint32_t i = 0; i < master->settings->workers; i++)
        if (master->slots[i].state == state)
            return &master->slots[i];
    return NULL;
}

static bool is_any_alive(const struct master *master)
{
    for (uint32_t i = 0; i < master->settings->workers; i++)
        if (master->slots[i].pid != 0)
            return true;
    return false;
}

/* The host cannot start, or has nothing left to run. */
static void give_up(struct master *master)
{
    master->code = 1;
    if (!master->is_stopping)
        stop_all(master, SIGTERM);
}

static void on_ready(struct slot *slot)
{
    struct master *master = slot->master;

    timer_stop(&slot->timer);
    close_report(slot);
    if (master->is_stopping) /* it has been told to stop already */
        return;
    slot->state = SERVING;
    if (slot->deaths > 0)
        log_info("worker %u is back as process %d", slot->index, (int)slot->pid);
    if (master->is_ready)
        return;
    for (struct slot *next; !master->is_stopping && (next = first_in(master, EMPTY)) != NULL;)
        fork_worker(next);
    if (master->is_stopping || first_in(master, STARTING) != NULL)
        return;
    master->is_ready = true;
    log_info("serving: %u workers, generation %u", master->settings->workers, master->generation);
}

static void on_start_timeout(struct timer *timer)
{
    struct slot *slot = CONTAINER_OF(timer, struct slot, timer);

    log_error("worker %u has not started within start_timeout: killed", slot->index);
    kill(slot->pid, SIGKILL);
}

static void on_report(struct io *io, uint32_t events)
{
    struct slot *slot = CONTAINER_OF(io, struct slot, report);
    ssize_t got = read(slot->report_fd, slot->problem + slot->problem_len,
                       sizeof slot->problem - 1 - slot->problem_len);

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0)
        slot->problem_len += (size_t)got;
    slot->problem[slot->problem_len] = '\0';
    if (got > 0 && slot->problem[0] == REPORT_READY)
        on_ready(slot);
    else if (got <= 0) /* it failed or died: the rest is on_worker_died()'s */
        io_stop(io);
}

static void fork_worker(struct slot *slot)
{
    struct master *master = slot->master;
    int ends[2] = {-1, -1};

    slot->problem_len = 0;
    slot->started_ms = loop_now_ms(master->loop);
    blame_reset(slot->blame);
    board_reset(slot->board);
    master->lives++;
    pid_t pid = pipe2(ends, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid < 0) {
        log_error("worker %u: cannot be forked: %s", slot->index, strerror(errno));
        for (int i = 0; i < 2 && ends[i] >= 0; i++)
            close(ends[i]);
        if (master->is_ready)
            start_again(slot);
        else
            give_up(master);
        return;
    }
    if (pid == 0) {
        close(ends[0]);
        become_worker(slot, ends[1]);
    }
    close(ends[1]);
    slot->report_fd = ends[0];
    slot->pid = pid;
    slot->state = STARTING;
    watch_begin(&master->watch, &slot->watched,
                &(struct watch_worker){pid, slot->index, slot->blame, slot->board});
    io_start(master->loop, &slot->report, ends[0], IO_READ, on_report);
    timer_start(master->loop, &slot->timer, master->settings->server.start_timeout_ms,
                on_start_timeout);
}

static void on_backoff_over(struct timer *timer)
{
    fork_worker(CONTAINER_OF(timer, struct slot, timer));
}

/* ---- deaths ---- */

/* Reads what the pipe still holds: a worker that failed wrote its reason just before it went. */
static void drain_report(struct slot *slot)
{
    while (slot->report_fd >= 0 && io_is_on(&slot->report))
        on_report(&slot->report, 0);
}

/* It could not start, and said why. A plugin's exit(78) later on says nothing of the kind. */
static bool has_refused(const struct slot *slot, int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_REFUSED &&
           slot->problem_len > 0 && slot->problem[0] == REPORT_FAILED;
}

static void end_watch(struct slot *slot, int status)
{
    enum watch_end how = WATCH_DIED;

    if (slot->problem_len > 0 && slot->problem[0] == REPORT_FAILED) {
        log_error("%.*s", (int)strcspn(slot->problem + 1, "\n"), slot->problem + 1);
        how = WATCH_FAILED;
    } else if (slot->state == STOPPING && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        how = WATCH_TOLD;
    }
    watch_end(&slot->watched, status, how);
}

static void start_again(struct slot *slot)
{
    struct master *master = slot->master;
    uint32_t last = sizeof backoff_ms / sizeof *backoff_ms - 1;

    if (loop_now_ms(master->loop) - slot->started_ms >= LIVED_MS)
        slot->deaths = 0;
    uint32_t wait = backoff_ms[slot->deaths < last ? slot->deaths : last];
    slot->deaths++;
    slot->state = WAITING;
    log_info("worker %u is started again in %u ms", slot->index, wait);
    timer_start(master->loop, &slot->timer, wait, on_backoff_over);
}

static void on_worker_died(struct slot *slot, int status)
{
    struct master *master = slot->master;
    bool is_refused;

    drain_report(slot);
    close_report(slot);
    timer_stop(&slot->timer);
    is_refused = has_refused(slot, status);
    end_watch(slot, status);
    slot->pid = 0;
    if (master->is_stopping) {
        slot->state = EMPTY;
        if (!is_any_alive(master))
            loop_stop(master->loop);
        return;
    }
    if (!master->is_ready) {
        slot->state = REFUSED;
        give_up(master);
        return;
    }
    if (!is_refused) {
        start_again(slot);
        return;
    }
    slot->state = REFUSED;
    log_error("worker %u is not started again", slot->index);
    sockets_retire(&slot->master->sockets, slot->index);
    if (!is_any_alive(master) && first_in(master, WAITING) == NULL)
        give_up(master);
}

static void reap(struct master *master)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (uint32_t i = 0; i < master->settings->workers; i++)
            if (master->slots[i].pid == pid) {
                on_worker_died(&master->slots[i], status);
                break;
            }
}

/* ---- the end ---- */

static void on_patience_over(struct timer *timer)
{
    struct master *master = CONTAINER_OF(timer, struct master, patience);

    for (uint32_t i = 0; i < master->settings->workers; i++)
        if (master->slots[i].pid != 0) {
            log_error("worker %u (process %d) does not end: killed", i, (int)master->slots[i].pid);
            kill(master->slots[i].pid, SIGKILL);
            master->code = 1;
        }
}

static void stop_all(struct master *master, int number)
{
    master->is_stopping = true;
    sockets_close(&master->sockets);
    for (uint32_t i = 0; i < master->settings->workers; i++) {
        struct slot *slot = &master->slots[i];
        timer_stop(&slot->timer);
        slot->state = slot->pid != 0 ? STOPPING : EMPTY;
        if (slot->pid != 0)
            kill(slot->pid, number);
    }
    if (!is_any_alive(master))
        loop_stop(master->loop);
    timer_start(master->loop, &master->patience,
                (uint64_t)master->settings->server.drain_timeout_ms + GRACE_MS, on_patience_over);
}

static void on_command(void *data, struct control_asker *asker, const char *verb, const char *rest)
{
    struct master *master = data;

    if (strcmp(verb, "stop") == 0) {
        bool is_now = strcmp(rest, "now") == 0;
        log_info("told to stop%s", is_now ? " at once" : "");
        control_wait(asker, TICKET_STOP);
        stop_all(master, is_now ? SIGQUIT : SIGTERM);
        return;
    }
    control_warn(asker, "this host has no command %.64s", verb);
    control_end(asker, 1);
}

static void on_signal(struct signals *signals, int number, int pid)
{
    struct master *master = CONTAINER_OF(signals, struct master, signals);

    (void)pid;
    switch (number) {
    case SIGCHLD:
        reap(master);
        break;
    case SIGHUP:
        log_warn("SIGHUP: settings and plugins are read at start; restart the host");
        break;
    case SIGUSR1:
        if (error_log_open(master->settings) != ERR_OK)
            log_error("error_log: cannot be opened again: %s", strerror(errno));
        for (uint32_t i = 0; i < master->settings->workers; i++)
            if (master->slots[i].pid != 0)
                kill(master->slots[i].pid, SIGUSR1);
        break;
    default:
        log_info("%s: stopping", strsignal(number));
        stop_all(master, number == SIGQUIT ? SIGQUIT : SIGTERM);
    }
}

static void on_tick(struct timer *timer)
{
    struct master *master = CONTAINER_OF(timer, struct master, tick);

    log_flush_repeats();
    timer_start(master->loop, timer, 1000, on_tick);
}

/* ---- life ---- */

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};

static void start_signals(struct master *master)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* one who ignored it may have started us: no death would be told */
    signals_start(master->loop, &master->signals, &set, on_signal);
}

/* One more SIGTERM must not turn an orderly end into a death by signal. */
static void stop_signals(struct master *master)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] != SIGCHLD)
            signal(numbers[i], SIG_IGN);
    signals_stop(&master->signals);
}

static void init_slots(struct master *master)
{
    master->slots = mem_calloc(master->settings->workers, sizeof *master->slots);
    for (uint32_t i = 0; i < master->settings->workers; i++) {
        struct slot *slot = &master->slots[i];
        slot->master = master;
        slot->index = i;
        slot->report_fd = -1;
        slot->blame = blame_create();
        slot->board = board_create();
    }
}

static void deinit(struct master *master)
{
    sockets_deinit(&master->sockets);
    timer_stop(&master->tick);
    timer_stop(&master->patience);
    stop_signals(master);
    control_close(&master->control);
    watch_deinit(&master->watch);
    for (uint32_t i = 0; i < master->settings->workers; i++) {
        blame_destroy(master->slots[i].blame);
        board_destroy(master->slots[i].board);
    }
    mem_free(master->slots);
    runtime_close(&master->runtime);
    loop_destroy(master->loop);
}

static enum err open_control(struct master *master)
{
    const char *configured = master->settings->server.control;
    char problem[INI_PROBLEM_SIZE];
    char *path = configured[0] != '\0' ? mem_copy(span_of(configured))
                                       : mem_format("%s/%s", master->runtime.path, RUNTIME_CONTROL);
    enum err err =
        control_open(&master->control, master->loop, path, configured[0] == '\0', problem);

    mem_free(path);
    if (err != ERR_OK)
        log_error("%s", problem);
    return err;
}

int master_run(const struct settings *settings)
{
    struct master master = {.settings = settings,
                            .pid = getpid(),
                            .lives = (uint32_t)(clock_wall_us() / 1000),
                            .generation = 1,
                            .control._fd = -1,
                            .runtime.lock_fd = -1};
    char problem[INI_PROBLEM_SIZE];

    log_set_process("master");
    raise_file_limit();
    master.signals._fd = -1;
    master.loop = loop_create(NULL);
    sockets_init(&master.sockets, settings);
    watch_init(&master.watch, master.loop, &settings->server);
    init_slots(&master);
    enum err err = runtime_open(&master.runtime, settings->server.runtime_dir, settings->file->path,
                                master.generation, problem);
    if (err != ERR_OK)
        log_error("%s", problem);
    else
        err = open_control(&master);
    if (err == ERR_OK)
        err = sockets_open(&master.sockets);
    if (err == ERR_OK) {
        start_signals(&master);
        control_start(&master.control, on_command, &master);
        timer_start(master.loop, &master.tick, 1000, on_tick);
        fork_worker(&master.slots[0]);
        loop_run(master.loop);
        control_end_all(&master.control, TICKET_STOP, 0, "stopped");
    }
    deinit(&master);
    log_flush_repeats();
    if (master.code == 0 && err == ERR_OK)
        log_info("stopped");
    return err != ERR_OK ? 1 : master.code;
}
