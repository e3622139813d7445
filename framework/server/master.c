/* server/master.c - the life of the master: it makes what the generations of workers share, has the
 * first one started, obeys signals and commands, and ends when the last worker has.
 *
 *   STARTING ──▶ SERVING ──▶ LEAVING (pre_stop_delay) ──▶ STOPPING ──▶ ended
 *       └── (the first generation cannot start) ──▲
 */
#include "server/master.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/signals.h"
#include "loop/timer.h"
#include "server/admin.h"
#include "server/desk.h"
#include "server/error_log.h"
#include "server/heritage.h"
#include "server/host.h"
#include "server/reload.h"
#include "server/shared.h"
#include "server/upgrade.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of askers that wait: for the host's end, for its status (DESK_FORMS of them). */
enum { TICKET_STOP = 1, TICKET_STATUS = 2 };

struct master {
    struct host host;        /* what workers share */
    struct reload reload;    /* the generations of workers */
    struct fresh_desk fresh; /* has workers show what they have */
    struct desk desk;        /* answers who asks for the host's status */
    struct admin admin;      /* answers who watches over the host */
    struct timer tick;       /* flushes the log's repeats */
    struct timer leaving;    /* of pre_stop_delay */
    bool is_stopping;        /* no worker is started any more */
    int code;                /* of the exit */
};

static struct master *master_of(struct host *host)
{
    return CONTAINER_OF(host, struct master, host);
}

/* ---- the end ---- */

static void announce_end(struct master *master)
{
    if (!master->is_stopping)
        notify_stopping(&master->host.notify);
    master->is_stopping = true;
    watch_set_phase(&master->host.watch, WATCH_DRAINING);
}

static void stop_all(struct master *master, int number)
{
    timer_stop(&master->leaving);
    announce_end(master);
    reload_stop(&master->reload, number);
}

static void on_left(struct timer *timer)
{
    stop_all(CONTAINER_OF(timer, struct master, leaving), SIGTERM);
}

/* The first time: whoever sends us clients is told so, and has time to send them elsewhere. */
static void leave(struct master *master)
{
    const struct generation *current = master->reload.current;
    uint32_t delay_ms = current != NULL ? current->settings->server.pre_stop_delay_ms : 0;

    if (master->is_stopping || delay_ms == 0 || master->host.watch.phase != WATCH_SERVING ||
        !upgrade_forget(&master->reload)) {
        stop_all(master, SIGTERM);
        return;
    }
    log_info("not ready any more; the drain begins in %u ms", delay_ms);
    announce_end(master);
    timer_start(master->host.loop, &master->leaving, delay_ms, on_left);
}

static void on_lost(void *data, const char *problem)
{
    struct master *master = data;

    (void)problem; /* it was logged where it happened */
    master->code = 1;
    if (!master->is_stopping || timer_is_on(&master->leaving))
        stop_all(master, SIGTERM);
}

static void on_stopped(void *data)
{
    struct master *master = data;

    if (master->reload.killed > 0)
        master->code = 1;
    loop_stop(master->host.loop);
}

/* ---- what it is told ---- */

static void on_serving(void *data)
{
    struct master *master = data;
    const struct generation *first = master->reload.current;

    watch_set_phase(&master->host.watch, WATCH_SERVING);
    if (!master->reload.predecessor.is_there) /* else the host is the other master's still */
        notify_ready(&master->host.notify, first->number);
    rights_warn(&first->settings->rights);
    log_info("serving: %u workers, generation %u", first->settings->workers, first->number);
}

static void on_command(void *data, struct control_asker *asker, const char *verb, const char *rest)
{
    struct master *master = data;

    if (strcmp(verb, "stop") == 0) {
        bool is_now = strcmp(rest, "now") == 0;
        log_info("told to stop%s", is_now ? " at once" : "");
        control_wait(asker, TICKET_STOP);
        if (is_now)
            stop_all(master, SIGQUIT);
        else
            leave(master);
        return;
    }
    if (strcmp(verb, "status") == 0) {
        desk_status(&master->desk, asker, rest);
        return;
    }
    bool is_upgrade = strcmp(verb, "upgrade") == 0;
    bool is_known = is_upgrade || strcmp(verb, "reload") == 0;
    if (is_known && !master->is_stopping) {
        control_wait(asker, is_upgrade ? reload_ask_upgrade(&master->reload)
                                       : reload_ask(&master->reload));
        return;
    }
    if (is_known)
        control_warn(asker, "the host is stopping");
    else
        control_warn(asker, "this host has no command %.64s", verb);
    control_end(asker, 1);
}

static void reopen_logs(struct master *master)
{
    const struct settings *settings = reload_settings(&master->reload);

    if (settings == NULL)
        return;
    rights_own_logs(&settings->server, &settings->rights);
    if (error_log_open(settings) != ERR_OK)
        log_error("error_log: cannot be opened again: %s", strerror(errno));
    reload_signal(&master->reload, SIGUSR1);
}

static void reap(struct master *master)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        (void)reload_reap(&master->reload, pid, status);
}

static void on_signal(struct signals *signals, int number, int pid)
{
    struct master *master = master_of(CONTAINER_OF(signals, struct host, signals));

    (void)pid;
    switch (number) {
    case SIGCHLD:
        reap(master);
        break;
    case SIGHUP:
        if (!master->is_stopping)
            (void)reload_ask(&master->reload);
        break;
    case SIGUSR1:
        reopen_logs(master);
        break;
    case SIGUSR2:
        if (!master->is_stopping)
            (void)reload_ask_upgrade(&master->reload);
        break;
    default:
        log_info("%s: stopping", strsignal(number));
        if (number == SIGTERM)
            leave(master);
        else
            stop_all(master, number == SIGQUIT ? SIGQUIT : SIGTERM);
    }
}

static void on_tick(struct timer *timer)
{
    struct master *master = CONTAINER_OF(timer, struct master, tick);

    log_flush_repeats();
    if (master->reload.current != NULL && !master->is_stopping)
        generation_check_memory(master->reload.current);
    timer_start(master->host.loop, timer, 1000, on_tick);
}

/* ---- life ---- */

static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

static void start_signals(struct master *master)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&set, numbers[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* one who ignored it may have started us: no death would be told */
    signals_start(master->host.loop, &master->host.signals, &set, on_signal);
}

/* One more SIGTERM must not turn an orderly end into a death by signal. */
static void stop_signals(struct master *master)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] != SIGCHLD)
            signal(numbers[i], SIG_IGN);
    signals_stop(&master->host.signals);
}

/* Where `takes_over`, from another master of this host. */
static enum err open_control(struct master *master, const struct settings *settings,
                             bool takes_over, char *problem)
{
    const char *configured = settings->server.control;
    char *path = configured[0] != '\0'
                     ? mem_copy(span_of(configured))
                     : mem_format("%s/%s", master->host.runtime.path, RUNTIME_CONTROL);
    enum err err = control_open(&master->host.control, master->host.loop, path,
                                configured[0] == '\0' || takes_over, problem);

    mem_free(path);
    return err;
}

/* ---- upgrades ---- */

static bool on_take(void *data, char problem[INI_PROBLEM_SIZE])
{
    struct master *master = data;

    const struct settings *settings = master->reload.current->settings;

    runtime_own(&master->host.runtime, true);
    control_close(&master->host.control);
    if (open_control(master, settings, true, problem) != ERR_OK ||
        admin_own(&master->admin, settings, NULL, problem) != ERR_OK)
        return false;
    control_start(&master->host.control, on_command, master);
    return true;
}

/* The control socket stays for those who ask already; others will find the new master's. */
static void on_yield(void *data)
{
    struct master *master = data;

    runtime_own(&master->host.runtime, false);
    admin_lend(&master->admin);
}

static void on_replaced(void *data)
{
    struct master *master = data;

    notify_main_pid(&master->host.notify, master->reload.successor.pid);
    notify_stop(&master->host.notify); /* the host goes on */
    stop_all(master, SIGTERM);
}

/* What the master before has left us. */
static enum err inherit(struct master *master, const struct settings *settings,
                        const struct heritage *heritage, char *problem)
{
    struct host *host = &master->host;
    const char *path = settings->file->path;
    enum err err = runtime_inherit(&host->runtime, heritage->folder, heritage->lock_fd,
                                   heritage->generation, problem);

    if (err == ERR_OK && !runtime_may_be(settings->server.runtime_dir, path, heritage->folder)) {
        snprintf(problem, INI_PROBLEM_SIZE, "runtime_dir has changed, which wants a restart");
        err = ERR_INVALID;
    }
    master->admin.inherited = heritage->admin;
    master->admin.is_handed = heritage->is_admin_handed;
    master->reload.declined = sockets_decline(&host->sockets, settings);
    return err;
}

/* In a forked child. */
static void abandon(const struct host *host)
{
    const struct master *master = CONTAINER_OF(host, const struct master, host);

    reload_abandon(&master->reload);
    admin_abandon(&master->admin);
}

void host_abandon(struct host *host)
{
    host->abandon(host);
    LIST_EACH (&host->generations, link) {
        generation_abandon(CONTAINER_OF(link, struct generation, link));
    }
    control_abandon(&host->control);
    notify_abandon(&host->notify);
    close(host->runtime.lock_fd); /* the lock is the master's: it goes with it */
    signals_abandon(&host->signals);
    loop_abandon(host->loop);
}

static void init(struct master *master, const struct settings *settings)
{
    *master = (struct master){.host = {.pid = getpid(),
                                       .lives = (uint32_t)(clock_wall_us() / 1000),
                                       .abandon = abandon,
                                       .signals._fd = -1,
                                       .control._fd = -1,
                                       .notify._fd = -1,
                                       .runtime.lock_fd = -1}};
    master->host.loop = loop_create(NULL);
    list_init(&master->host.generations);
    sockets_init(&master->host.sockets);
    watch_init(&master->host.watch, master->host.loop, &settings->server);
    fresh_init(&master->fresh, &master->host.watch);
    master->desk = (struct desk){.fresh = &master->fresh,
                                 .watch = &master->host.watch,
                                 .control = &master->host.control,
                                 .tickets = TICKET_STATUS,
                                 .reload = &master->reload};
    desk_init(&master->desk);
    master->host.admin = &master->admin;
    admin_init(&master->admin, &master->fresh, &master->host.watch, &master->reload);
}

static void deinit(struct master *master)
{
    admin_close(&master->admin);
    reload_deinit(&master->reload);
    sockets_deinit(&master->host.sockets);
    timer_stop(&master->tick);
    timer_stop(&master->leaving);
    stop_signals(master);
    desk_deinit(&master->desk);
    fresh_deinit(&master->fresh);
    control_close(&master->host.control);
    notify_stop(&master->host.notify);
    watch_deinit(&master->host.watch);
    runtime_close(&master->host.runtime);
    shared_destroy(master->host.shared);
    mem_free(master->host.program);
    loop_destroy(master->host.loop);
}

static enum err make_shared(struct master *master, const struct settings *settings, char *problem)
{
    master->host.shared = shared_create(settings->server.shared_memory);
    if (master->host.shared != NULL)
        return ERR_OK;
    snprintf(problem, INI_PROBLEM_SIZE, "[server] shared_memory: %llu bytes cannot be had: %s",
             (unsigned long long)settings->server.shared_memory, strerror(errno));
    return ERR_IO;
}

/* Takes what the service manager has handed over, and makes the rest. */
static enum err open_sockets(struct master *master, const struct settings *settings, char *problem)
{
    struct sockets *sockets = &master->host.sockets;
    struct activation handed;
    enum err err = activation_find(&handed, problem);

    sockets->handed = &handed;
    if (err == ERR_OK)
        err = sockets_open(sockets, settings, problem);
    /* The one that follows another master opens it later: it is not ready before. */
    if (err == ERR_OK && master->reload.state != RELOAD_FOLLOWING)
        err = admin_own(&master->admin, settings, &handed, problem);
    sockets->handed = NULL;
    activation_close(&handed);
    return err;
}

/* All that must be there before workers are. */
static enum err prepare(struct master *master, const struct settings *settings)
{
    struct host *host = &master->host;
    struct heritage heritage;
    char problem[INI_PROBLEM_SIZE];
    enum err err = heritage_read(&heritage, &host->sockets, problem);

    if (err == ERR_OK) {
        upgrade_follow(&master->reload, heritage.channel, heritage.generation);
        err = inherit(master, settings, &heritage, problem);
    } else if (err == ERR_NOT_FOUND) {
        err = runtime_open(&host->runtime, settings->server.runtime_dir, settings->file->path, 1,
                           problem);
        if (err == ERR_OK)
            err = open_control(master, settings, false, problem);
    }
    if (err == ERR_OK)
        err = open_sockets(master, settings, problem);
    if (err == ERR_OK)
        err = make_shared(master, settings, problem);
    if (err == ERR_OK)
        return ERR_OK;
    log_error("%s", problem);
    predecessor_tell(&master->reload.predecessor, SUCCESSOR_FAILED, problem);
    return err;
}

int master_run(struct settings *settings, const char *path, const char *const *overrides,
               char *const *argv)
{
    struct master master;
    enum err err;

    log_set_process("master");
    rights_start(&settings->server);
    init(&master, settings);
    master.host.argv = argv;
    master.host.program = successor_program(argv[0]);
    reload_init(&master.reload, &master.host, path, overrides,
                &(struct reload_events){.serving = on_serving,
                                        .lost = on_lost,
                                        .stopped = on_stopped,
                                        .take = on_take,
                                        .yield = on_yield,
                                        .replaced = on_replaced,
                                        .data = &master});
    err = prepare(&master, settings);
    if (err == ERR_OK) {
        start_signals(&master);
        if (master.reload.state != RELOAD_FOLLOWING)
            control_start(&master.host.control, on_command, &master);
        timer_start(master.host.loop, &master.tick, 1000, on_tick);
        notify_start(&master.host.notify, &master.host.watch);
        reload_begin(&master.reload, settings);
        loop_run(master.host.loop);
        control_end_all(&master.host.control, TICKET_STOP, 0, "stopped");
    } else {
        settings_free(settings);
    }
    deinit(&master);
    log_flush_repeats();
    if (master.code == 0 && err == ERR_OK)
        log_info("stopped");
    return err != ERR_OK ? 1 : master.code;
}
