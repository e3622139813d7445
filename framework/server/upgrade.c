/* server/upgrade.c - another master takes over from this one. */
#include "server/upgrade.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GRACE_MS = 5000 }; /* beyond start_timeout, which its trial and its workers have each */

static struct reload *reload_of(struct successor *successor)
{
    return CONTAINER_OF(successor, struct reload, successor);
}

/* ---- the master that leads ---- */

/* We end; whoever is queued at addresses that the new master does not have is still accepted. */
static void leave(struct reload *reload)
{
    timer_stop(&reload->probation);
    log_info("process %d has taken over: this master ends", (int)reload->successor.pid);
    reload->events.replaced(reload->events.data);
}

static void on_probation_over(struct timer *timer)
{
    leave(CONTAINER_OF(timer, struct reload, probation));
}

void upgrade_pass_on(struct reload *reload)
{
    int number = reload->is_upgrade_wanted ? SIGUSR2 : SIGHUP;

    reload->is_wanted = reload->is_upgrade_wanted = false;
    control_end_all(&reload->host->control, reload->ticket, 1,
                    "the host was upgraded meanwhile: ask again");
    if (reload->successor.pid != 0)
        kill(reload->successor.pid, number);
}

/* It has everything. */
static void hand_over(struct reload *reload, const char *what)
{
    uint32_t window_ms = reload->current->settings->server.rollback_window_ms;
    char text[INI_PROBLEM_SIZE];

    snprintf(text, sizeof text, "upgraded: %.400s", what);
    log_info("%s; generation %u is wound up", text, reload->current->number);
    reload_finish(reload, 0, text);
    reload->state = RELOAD_HANDED;
    if (reload->is_wanted)
        upgrade_pass_on(reload);
    if (window_ms > 0)
        timer_start(reload->host->loop, &reload->probation, window_ms, on_probation_over);
    else
        leave(reload);
}

/* We serve as before. */
static void back_out(struct reload *reload, const char *problem)
{
    bool was_handed = reload->state == RELOAD_HANDED;
    bool has_yielded = was_handed || reload->state == RELOAD_HANDING;
    char why[INI_PROBLEM_SIZE], text[INI_PROBLEM_SIZE + 80];

    timer_stop(&reload->probation);
    if (reload->current->state == GENERATION_HOLDING)
        generation_go(reload->current);
    runtime_remove_generation(&reload->host->runtime, reload->last_number);
    if (was_handed) {
        snprintf(text, sizeof text, "the upgrade was taken back, generation %u serves again: %s",
                 reload->current->number, problem);
        log_error("rollback: %s", text);
        reload_note(reload, RELOAD_TAKEN_BACK, text);
        reload->state = RELOAD_IDLE;
    } else {
        reload_refuse(reload, problem);
    }
    if (has_yielded && !reload->events.take(reload->events.data, why))
        log_error("commands cannot be taken any more: %s", why);
    reload_begin_soon(reload);
}

/* Its workers accept: ours need not any more, but where it does not. */
static void hold(struct reload *reload)
{
    const struct sockets *sockets = &reload->host->sockets;
    int *kept = mem_calloc((size_t)sockets->slots * SOCKETS_ROWS_MAX, sizeof *kept);
    uint32_t count = sockets_of_rows(sockets, reload->declined, kept);

    generation_hold(reload->current, kept, count);
    mem_free(kept);
}

static void on_successor(struct successor *successor, enum successor_says what, const char *text)
{
    struct reload *reload = reload_of(successor);

    if (reload->is_stopping)
        return;
    switch (what) {
    case SUCCESSOR_WARNS:
        control_warn_all(&reload->host->control, reload->ticket, text);
        break;
    case SUCCESSOR_READY:
        reload->declined = (uint32_t)strtoul(text, NULL, 10);
        reload->state = RELOAD_TAKING;
        successor_tell(successor, SUCCESSOR_GO);
        break;
    case SUCCESSOR_SERVES:
        hold(reload);
        break;
    case SUCCESSOR_HAS_ALL:
        hand_over(reload, text);
        break;
    case SUCCESSOR_FAILED:
        back_out(reload, text);
        break;
    case SUCCESSOR_END:
        if (reload->state == RELOAD_HANDED)
            leave(reload);
        break;
    }
}

void upgrade_on_held(struct reload *reload)
{
    reload->state = RELOAD_HANDING;
    reload->events.yield(reload->events.data);
    successor_tell(&reload->successor, SUCCESSOR_TAKE);
}

void upgrade_begin(struct reload *reload)
{
    reload->is_wanted = reload->is_upgrade_wanted = false;
    reload->is_upgrade = true;
    log_info("upgrade: to %s", reload->host->program);
    notify_reloading(&reload->host->notify);
    if (reload->host->pid == 1) {
        reload_refuse(reload, "this is process 1, with which all processes of its container end: "
                              "start another container, or weft under an init");
        return;
    }
    reload_clear(reload);
}

void upgrade_start(struct reload *reload)
{
    uint32_t limit_ms = reload->current->settings->server.start_timeout_ms;
    char problem[INI_PROBLEM_SIZE];

    reload->state = RELOAD_STARTING;
    if (successor_start(&reload->successor, reload->host, ++reload->last_number,
                        2 * limit_ms + GRACE_MS, on_successor) == ERR_OK)
        return;
    snprintf(problem, sizeof problem, "cannot start a process: %s", strerror(errno));
    reload_refuse(reload, problem);
}

void upgrade_reap(struct reload *reload, int status)
{
    successor_ended(&reload->successor, status);
    if (reload->state == RELOAD_HANDED && reload->is_stopping)
        log_error("the new master has ended while this one was wound up");
    else if (reload->state == RELOAD_CLEARING)
        reload_clear(reload);
    else
        reload_end_if_done(reload);
}

bool upgrade_forget(struct reload *reload)
{
    static const char why[] = "the host is stopping";
    struct control *control = &reload->host->control;

    if (reload->is_wanted)
        control_end_all(control, reload->ticket + (reload->state != RELOAD_IDLE), 1, why);
    reload->is_wanted = reload->is_upgrade_wanted = false;
    if (reload->state != RELOAD_FOLLOWING) { /* who would take back over, and serve on */
        predecessor_tell(&reload->predecessor, SUCCESSOR_END, "");
        predecessor_stop(&reload->predecessor);
    }
    if (!reload->is_upgrade)
        return true;
    if (reload->state == RELOAD_CLEARING) {
        reload_refuse(reload, why);
    } else if (reload->state == RELOAD_STARTING) {
        successor_cancel(&reload->successor);
        back_out(reload, why);
    }
    return !reload->is_upgrade;
}

void upgrade_stop(struct reload *reload)
{
    struct sockets *sockets = &reload->host->sockets;

    if (reload->state == RELOAD_HANDED) {
        sockets_deafen_rows(sockets, reload->declined);
        return;
    }
    successor_cancel(&reload->successor);
    if (reload->predecessor.is_there && (reload->has_failed || reload->state == RELOAD_FOLLOWING))
        return; /* the other master goes on with the sockets */
    predecessor_tell(&reload->predecessor, SUCCESSOR_END, "");
    sockets_deafen(sockets, NULL);
}

/* ---- the master that follows ---- */

void upgrade_on_lost(struct reload *reload, const char *problem)
{
    reload->has_failed = reload->predecessor.is_there;
    if (reload->has_failed)
        reload->events.yield(reload->events.data);
    predecessor_tell(&reload->predecessor, SUCCESSOR_FAILED, problem);
    reload->events.lost(reload->events.data, problem);
}

/* Commands come to us from here. */
static void take(struct reload *reload)
{
    char problem[INI_PROBLEM_SIZE], text[128] = "upgraded: ";
    char *what = text + strlen(text);

    if (!reload->events.take(reload->events.data, problem)) {
        log_error("%s", problem);
        upgrade_on_lost(reload, problem);
        return;
    }
    snprintf(what, sizeof text - strlen(text),
             "weft " WEFT_VERSION " in process %d, generation %u, %u workers", (int)getpid(),
             reload->current->number, reload->current->settings->workers);
    predecessor_tell(&reload->predecessor, SUCCESSOR_HAS_ALL, what);
    reload_note(reload, RELOAD_SERVED, text);
    reload->state = RELOAD_IDLE;
    reload->ticket++; /* who asked meanwhile waits for the next */
    reload->events.serving(reload->events.data);
    reload_begin_soon(reload);
}

static void go(struct reload *reload)
{
    if (reload->current == NULL || reload->current->state != GENERATION_READY)
        return;
    generation_go(reload->current);
    predecessor_tell(&reload->predecessor, SUCCESSOR_SERVES, "");
}

static void on_gone(struct reload *reload)
{
    if (reload->state != RELOAD_FOLLOWING)
        notify_ready(&reload->host->notify, reload->current->number);
    if (reload->state == RELOAD_CLEARING)
        reload_clear(reload);
    if (reload->state != RELOAD_FOLLOWING)
        return;
    log_warn("the master that was to be followed has died");
    go(reload);
    if (reload->current != NULL && reload->current->state == GENERATION_SERVING)
        take(reload);
}

static void on_predecessor(struct predecessor *predecessor, enum predecessor_says what)
{
    struct reload *reload = CONTAINER_OF(predecessor, struct reload, predecessor);

    if (reload->is_stopping)
        return;
    switch (what) {
    case PREDECESSOR_GO:
        go(reload);
        break;
    case PREDECESSOR_TAKE:
        if (reload->state == RELOAD_FOLLOWING)
            take(reload);
        break;
    case PREDECESSOR_GIVE_UP:
        log_info("the upgrade was called off");
        reload->events.lost(reload->events.data, "the upgrade was called off");
        break;
    case PREDECESSOR_GONE:
        on_gone(reload);
        break;
    }
}

void upgrade_follow(struct reload *reload, int channel, uint32_t number)
{
    reload->state = RELOAD_FOLLOWING;
    reload->last_number = number - 1;
    predecessor_start(&reload->predecessor, reload->host->loop, channel, on_predecessor);
}

void upgrade_try(struct reload *reload)
{
    char problem[INI_PROBLEM_SIZE];

    if (reload_try(reload, reload->last_number + 1, problem) == ERR_OK)
        return;
    log_error("%s", problem);
    upgrade_on_lost(reload, problem);
}

/* Line by line: a message has room for one. */
static void pass_warnings(const struct reload *reload, const char *text)
{
    char line[INI_PROBLEM_SIZE];

    for (size_t len; *text != '\0'; text += len + (text[len] == '\n')) {
        len = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)len, text);
        predecessor_tell(&reload->predecessor, SUCCESSOR_WARNS, line);
    }
}

void upgrade_on_tried(struct reload *reload, const char *problem, const char *warnings)
{
    pass_warnings(reload, warnings);
    if (problem == NULL) {
        reload_start_first(reload, true);
        return;
    }
    log_error("%s", problem);
    upgrade_on_lost(reload, problem);
}

void upgrade_on_ready(struct reload *reload)
{
    char rows[16];

    if (!reload->predecessor.is_there) {
        go(reload);
        take(reload);
        return;
    }
    snprintf(rows, sizeof rows, "%u", reload->declined);
    predecessor_tell(&reload->predecessor, SUCCESSOR_READY, rows);
}
