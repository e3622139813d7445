/* server/slot.c - one worker of a generation: forks it, listens to it, notes its end. */
#include "server/slot.h"
#include "base/check.h"
#include "base/log.h"
#include "loop/loop.h"
#include "observe/blame.h"
#include "server/board.h"
#include "server/generation.h"
#include "server/worker.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIVED_MS = 30000 }; /* a worker that lived so long starts the back-off anew */

static const uint32_t backoff_ms[] = {0, 100, 500, 1000, 2000, 5000, 10000, 30000};

void slot_init(struct slot *slot, struct generation *generation, uint32_t index)
{
    *slot = (struct slot){
        .generation = generation,
        .index = index,
        .channel = -1,
        .blame = blame_create(),
        .board = board_create(),
    };
}

void slot_deinit(struct slot *slot)
{
    CHECK(slot->pid == 0);
    timer_stop(&slot->timer);
    blame_destroy(slot->blame);
    board_destroy(slot->board);
}

static void close_channel(struct slot *slot)
{
    io_stop(&slot->io);
    if (slot->channel >= 0)
        close(slot->channel);
    slot->channel = -1;
}

void slot_abandon(struct slot *slot)
{
    if (slot->channel >= 0)
        close(slot->channel);
}

/* ---- what it says ---- */

static void on_message(struct slot *slot, const char *message)
{
    switch (message[0]) {
    case REPORT_READY:
        if (slot->state == SLOT_STARTING) {
            timer_stop(&slot->timer);
            slot->state = SLOT_READY;
            generation_on_ready(slot->generation, slot);
        }
        break;
    case REPORT_FAILED:
        snprintf(slot->problem, sizeof slot->problem, "%s", message + 1);
        break;
    case REPORT_HELD:
        if (slot->state == SLOT_SERVING || slot->state == SLOT_READY) {
            slot->state = SLOT_HOLDING;
            generation_on_held(slot->generation);
        }
        break;
    default: /* a plugin may write there: nothing is believed but what is known */
        break;
    }
}

/* False: there is nothing more to read. */
static bool take_message(struct slot *slot)
{
    char message[INI_PROBLEM_SIZE + 8];
    ssize_t got =
        slot->channel >= 0 ? recv(slot->channel, message, sizeof message - 1, MSG_DONTWAIT) : 0;

    if (got > 0) {
        message[got] = '\0';
        on_message(slot, message);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        io_stop(&slot->io); /* it has gone: the rest is slot_ended()'s */
    return false;
}

static void on_channel(struct io *io, uint32_t events)
{
    (void)events;
    (void)take_message(CONTAINER_OF(io, struct slot, io));
}

void slot_wake(struct slot *slot)
{
    if (slot->channel >= 0) /* where it is full, the worker has enough to wake up for */
        (void)send(slot->channel, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- its start ---- */

static void on_start_timeout(struct timer *timer)
{
    struct slot *slot = CONTAINER_OF(timer, struct slot, timer);

    while (take_message(slot)) /* it may have been in time, and we were stopped meanwhile */
        ;
    if (slot->state != SLOT_STARTING)
        return;
    if (slot->problem[0] == '\0')
        snprintf(slot->problem, sizeof slot->problem,
                 "worker %u has not started within start_timeout (%u ms): killed", slot->index,
                 slot->generation->settings->server.start_timeout_ms);
    log_error("%s", slot->problem);
    kill(slot->pid, SIGKILL);
}

/* In the child: becomes the worker. */
static _Noreturn void become_worker(struct slot *slot, int channel)
{
    struct generation *generation = slot->generation;
    struct host *host = generation->host;

    host_abandon(host);
    exit(worker_run(&(struct worker_setup){
        .settings = generation->settings,
        .beside = generation_beside(generation),
        .copy_dir = generation->folder,
        .blame = slot->blame,
        .board = slot->board,
        .quarantine = host->watch.quarantine.list,
        .roster = &generation->roster,
        .shared = host->shared,
        .sockets = &host->sockets,
        .slot = slot->index,
        .generation = generation->number,
        .life = host->lives,
        .channel = channel,
        .master = host->pid,
    }));
}

static bool fail(struct slot *slot)
{
    snprintf(slot->problem, sizeof slot->problem, "worker %u: cannot be forked: %s", slot->index,
             strerror(errno));
    log_error("%s", slot->problem);
    return false;
}

bool slot_start(struct slot *slot)
{
    struct generation *generation = slot->generation;
    struct host *host = generation->host;
    int ends[2];

    CHECK(slot->pid == 0);
    CHECK(slot->channel == -1);
    CHECK(!slot->is_leaver);
    slot->problem[0] = '\0';
    slot->started_ms = loop_now_ms(host->loop);
    blame_reset(slot->blame);
    board_reset(slot->board);
    host->lives++;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return fail(slot);
    pid_t pid = fork();
    if (pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return fail(slot);
    }
    if (pid == 0) {
        close(ends[0]);
        become_worker(slot, ends[1]);
    }
    close(ends[1]);
    slot->channel = ends[0];
    slot->pid = pid;
    slot->state = SLOT_STARTING;
    watch_begin(&host->watch, &slot->watched,
                &(struct watch_worker){pid, slot->index, slot->blame, slot->board,
                                       slot->generation->number});
    io_start(host->loop, &slot->io, ends[0], IO_READ, on_channel);
    timer_start(host->loop, &slot->timer, generation->settings->server.start_timeout_ms,
                on_start_timeout);
    return true;
}

static void on_backoff_over(struct timer *timer)
{
    struct slot *slot = CONTAINER_OF(timer, struct slot, timer);

    if (!slot_start(slot))
        slot_start_again(slot);
}

void slot_start_again(struct slot *slot)
{
    struct loop *loop = slot->generation->host->loop;
    uint32_t last = sizeof backoff_ms / sizeof *backoff_ms - 1;

    CHECK(slot->pid == 0);
    if (loop_now_ms(loop) - slot->started_ms >= LIVED_MS)
        slot->deaths = 0;
    uint32_t wait = backoff_ms[slot->deaths < last ? slot->deaths : last];
    slot->deaths++;
    slot->state = SLOT_WAITING;
    log_info("worker %u is started again in %u ms", slot->index, wait);
    timer_start(loop, &slot->timer, wait, on_backoff_over);
}

/* ---- another in its place ---- */

void slot_split(struct slot *slot, struct slot *leaver)
{
    CHECK(slot->state == SLOT_SERVING);
    CHECK(!timer_is_on(&slot->timer));
    *leaver = (struct slot){.generation = slot->generation,
                            .blame = slot->blame,
                            .board = slot->board,
                            .channel = slot->channel,
                            .pid = slot->pid,
                            .started_ms = slot->started_ms,
                            .index = slot->index,
                            .state = slot->state,
                            .is_leaver = true};
    io_stop(&slot->io);
    watch_move(&slot->watched, &leaver->watched);
    io_start(slot->generation->host->loop, &leaver->io, leaver->channel, IO_READ, on_channel);
    slot->blame = blame_create();
    slot->board = board_create();
    slot->channel = -1;
    slot->pid = 0;
    slot->state = SLOT_EMPTY;
}

static void on_leave_over(struct timer *timer)
{
    const struct slot *leaver = CONTAINER_OF(timer, struct slot, timer);

    log_error("worker %u (process %d) does not end: killed", leaver->index, (int)leaver->pid);
    kill(leaver->pid, SIGKILL);
}

void slot_leave(struct slot *leaver, uint64_t ms)
{
    CHECK(leaver->is_leaver);
    slot_stop(leaver, SIGTERM);
    timer_start(leaver->generation->host->loop, &leaver->timer, ms, on_leave_over);
}

/* ---- its end ---- */

void slot_stop(struct slot *slot, int number)
{
    timer_stop(&slot->timer);
    slot->state = slot->pid != 0 ? SLOT_STOPPING : SLOT_EMPTY;
    if (slot->pid != 0)
        kill(slot->pid, number);
}

/* It could not start, and said why. A plugin's exit(78) later on says nothing of the kind. */
static bool has_refused(const struct slot *slot, int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_REFUSED &&
           slot->problem[0] != '\0';
}

static void end_watch(struct slot *slot, int status)
{
    enum watch_end how = WATCH_DIED;

    if (has_refused(slot, status)) {
        log_error("%s", slot->problem);
        how = WATCH_FAILED;
    } else if (slot->state == SLOT_STOPPING && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        how = WATCH_TOLD;
    }
    watch_end(&slot->watched, status, how, slot->problem);
}

/* Why, for whoever waits for the start. */
static void note_death(struct slot *slot, int status)
{
    char culprit[BLAME_TEXT_SIZE];

    if (slot->problem[0] != '\0')
        return;
    blame_describe(slot->blame, culprit, sizeof culprit);
    if (WIFSIGNALED(status))
        snprintf(slot->problem, sizeof slot->problem,
                 "worker %u was killed by signal %d (%s) while it ran %.380s", slot->index,
                 WTERMSIG(status), strsignal(WTERMSIG(status)), culprit);
    else
        snprintf(slot->problem, sizeof slot->problem,
                 "worker %u exited with code %d while it ran %.380s", slot->index,
                 WEXITSTATUS(status), culprit);
}

void slot_ended(struct slot *slot, int status)
{
    enum slot_state before;
    bool is_refused;

    CHECK(slot->pid != 0);
    while (take_message(slot)) /* why it failed it wrote just before it went */
        ;
    close_channel(slot);
    timer_stop(&slot->timer);
    is_refused = has_refused(slot, status);
    end_watch(slot, status);
    note_death(slot, status);
    roster_leave(&slot->generation->roster, slot->index);
    before = slot->state;
    slot->pid = 0;
    slot->state = is_refused ? SLOT_REFUSED : SLOT_EMPTY;
    generation_on_ended(slot->generation, slot, before);
}
