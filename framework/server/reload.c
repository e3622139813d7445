/* server/reload.c - which generation serves: the first one, then those of reloads. */
#include "server/reload.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "server/changes.h"
#include "server/error_log.h"
#include "server/upgrade.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct generation_events events;

static struct reload *owner_of(struct generation *generation)
{
    return generation->owner;
}

/* ---- outcomes ---- */

static void log_all(const char *text)
{
    for (size_t len; *text != '\0'; text += len + (text[len] == '\n')) {
        len = strcspn(text, "\n");
        log_warn("reload: %.*s", (int)len, text);
    }
}

void reload_note(struct reload *reload, enum reload_end end, const char *text)
{
    struct reload_history *history = &reload->history;

    history->counts[end]++;
    history->at_us = clock_wall_us();
    snprintf(history->text, sizeof history->text, "%s", text);
}

void reload_finish(struct reload *reload, int code, const char *text)
{
    uint32_t ticket = reload->ticket;

    reload->state = RELOAD_IDLE;
    reload->is_upgrade = false;
    settings_free(reload->settings);
    reload->settings = NULL;
    reload->ticket++;
    notify_ready(&reload->host->notify, reload->current->number);
    reload_note(reload, code == 0 ? RELOAD_SERVED : RELOAD_FAILED, text);
    control_end_all(&reload->host->control, ticket, code, text);
    reload_begin_soon(reload);
}

void reload_refuse(struct reload *reload, const char *problem)
{
    char text[INI_PROBLEM_SIZE + 64];

    snprintf(text, sizeof text, "%s failed, generation %u goes on: %s",
             reload->is_upgrade ? "upgrade" : "reload", reload->current->number, problem);
    log_error("%s", text);
    reload_finish(reload, 1, text);
}

/* ---- the old generation ---- */

static void end_old(struct reload *reload)
{
    CHECK(reload->old != NULL);
    timer_stop(&reload->probation);
    sockets_deafen(&reload->host->sockets, reload->current->settings);
    generation_end(reload->old, SIGTERM);
}

static void on_probation_over(struct timer *timer)
{
    end_old(CONTAINER_OF(timer, struct reload, probation));
}

static void follow_log(const struct settings *settings)
{
    if (error_log_open(settings) != ERR_OK)
        log_error("error_log: cannot be opened: %s", strerror(errno));
}

/* Who is queued is not for `generation` any more, unless the others do not have that address. */
static void leave_queues(struct reload *reload, struct generation *generation,
                         const struct settings *others)
{
    const struct sockets *sockets = &reload->host->sockets;
    int *kept = mem_calloc((size_t)sockets->slots * SETTINGS_LISTEN_MAX, sizeof *kept);
    uint32_t count = sockets_only_of(sockets, generation->settings, others, kept);

    roster_say(&generation->roster, ROSTER_HOLD, kept, count);
    mem_free(kept);
}

/* The current generation has crashed while the old one holds. */
static void roll_back(struct reload *reload, const struct slot *slot)
{
    struct generation *failed = reload->current;
    char text[sizeof slot->problem + 80];

    CHECK(reload->old != NULL);
    snprintf(text, sizeof text, "generation %u was taken back, generation %u serves again: %s",
             failed->number, reload->old->number, slot->problem);
    log_error("rollback: %s", text);
    reload_note(reload, RELOAD_TAKEN_BACK, text);
    timer_stop(&reload->probation);
    leave_queues(reload, failed, reload->old->settings);
    generation_go(reload->old);
    reload->current = reload->old;
    reload->old = failed;
    watch_renew(&reload->host->watch, &reload->current->settings->server);
    follow_log(reload->current->settings);
    notify_ready(&reload->host->notify, reload->current->number);
    end_old(reload);
}

/* ---- the new generation ---- */

static void start_next(struct reload *reload)
{
    struct host *host = reload->host;
    char problem[INI_PROBLEM_SIZE];

    if (sockets_open(&host->sockets, reload->settings, problem) != ERR_OK) {
        runtime_remove_generation(&host->runtime, reload->last_number + 1);
        reload_refuse(reload, problem);
        return;
    }
    CHECK(reload->state == RELOAD_CLEARING);
    CHECK(reload->next == NULL);
    reload->state = RELOAD_STARTING;
    reload->next =
        generation_create(host, reload->settings, ++reload->last_number, &events, reload);
    reload->settings = NULL;
    generation_start(reload->next, true);
}

/* It could not start, or crashed as it began to serve. */
static void drop_next(struct reload *reload, const char *problem)
{
    CHECK(reload->old == NULL); /* two live at most */
    leave_queues(reload, reload->next, reload->current->settings);
    reload->old = reload->next;
    reload->next = NULL;
    end_old(reload);
    reload_refuse(reload, problem);
}

static void take_over(struct reload *reload)
{
    uint32_t slots = reload->host->sockets.slots;
    int *kept = mem_calloc((size_t)slots * SETTINGS_LISTEN_MAX, sizeof *kept);
    uint32_t count = sockets_only_of(&reload->host->sockets, reload->current->settings,
                                     reload->next->settings, kept);

    CHECK(reload->state == RELOAD_STARTING);
    reload->state = RELOAD_TAKING;
    generation_go(reload->next);
    generation_hold(reload->current, kept, count);
    mem_free(kept);
}

/* The old one accepts nobody any more: from this moment all is new. */
static void commit(struct reload *reload)
{
    const struct settings *settings = reload->next->settings;
    uint32_t window_ms = settings->server.rollback_window_ms;
    char text[96];

    CHECK(reload->state == RELOAD_TAKING);
    CHECK(reload->old == NULL);
    reload->old = reload->current;
    reload->current = reload->next;
    reload->next = NULL;
    watch_renew(&reload->host->watch, &settings->server);
    follow_log(settings);
    snprintf(text, sizeof text, "generation %u serves, with %u workers", reload->current->number,
             settings->workers);
    log_info("reloaded: %s; generation %u is wound up", text, reload->old->number);
    if (window_ms > 0)
        timer_start(reload->host->loop, &reload->probation, window_ms, on_probation_over);
    else
        end_old(reload);
    reload_finish(reload, 0, text);
}

void reload_clear(struct reload *reload)
{
    bool is_first = reload->state != RELOAD_CLEARING;

    reload->state = RELOAD_CLEARING;
    if (reload->old == NULL && !reload->predecessor.is_there && reload->successor.pid == 0) {
        if (reload->is_upgrade)
            upgrade_start(reload);
        else
            start_next(reload);
        return;
    }
    /* Who reloads again is content with what serves. */
    if (is_first)
        predecessor_tell(&reload->predecessor, SUCCESSOR_END, "");
    if (reload->old != NULL && reload->old->state == GENERATION_HOLDING)
        end_old(reload);
}

/* ---- trying ---- */

static void on_tried(struct trial *trial, const char *problem, const char *warnings)
{
    struct reload *reload = CONTAINER_OF(trial, struct reload, trial);

    log_all(warnings);
    if (reload->state == RELOAD_FOLLOWING) {
        upgrade_on_tried(reload, problem, warnings);
        return;
    }
    control_warn_all(&reload->host->control, reload->ticket, warnings);
    if (problem != NULL) {
        runtime_remove_generation(&reload->host->runtime, reload->last_number + 1);
        reload_refuse(reload, problem);
        return;
    }
    reload_clear(reload);
}

static void note_changes(struct reload *reload)
{
    struct buf text;

    buf_init(&text, NULL);
    changes_list(reload->current->settings, reload->settings, &text);
    if (text.len > 0) {
        char *line = mem_format("these changed keys want a restart of the host: %.*s",
                                SPAN_ARG(buf_span(&text)));
        log_all(line);
        control_warn_all(&reload->host->control, reload->ticket, line);
        mem_free(line);
    }
    buf_release(&text);
}

enum err reload_try(struct reload *reload, uint32_t number, char problem[INI_PROBLEM_SIZE])
{
    struct host *host = reload->host;
    char folder[PATH_MAX];
    enum err err = runtime_make_generation(&host->runtime, number, problem);

    if (err != ERR_OK)
        return err;
    runtime_name_generation(&host->runtime, number, folder);
    err = trial_start(&reload->trial, host, reload->settings, folder, number, on_tried);
    if (err != ERR_OK)
        snprintf(problem, INI_PROBLEM_SIZE, "cannot start a process: %s", strerror(errno));
    return err;
}

static void try_settings(struct reload *reload)
{
    uint32_t number = reload->last_number + 1;
    char problem[INI_PROBLEM_SIZE];

    reload->state = RELOAD_TRYING;
    reload->is_wanted = false;
    log_info("reload: trying generation %u", number);
    notify_reloading(&reload->host->notify);
    if (settings_load(reload->path, reload->overrides, &reload->settings, problem) != ERR_OK) {
        reload_refuse(reload, problem);
        return;
    }
    note_changes(reload);
    if (reload_try(reload, number, problem) != ERR_OK)
        reload_refuse(reload, problem);
}

static void on_begin(struct timer *timer)
{
    struct reload *reload = CONTAINER_OF(timer, struct reload, begin);

    if (reload->state != RELOAD_IDLE || !reload->is_wanted)
        return;
    if (reload->is_upgrade_wanted)
        upgrade_begin(reload);
    else
        try_settings(reload);
}

/* By the loop, so that whoever asked knows the ticket before anything is answered; and not before
 * the first generation serves. */
void reload_begin_soon(struct reload *reload)
{
    bool is_serving = reload->current != NULL && reload->current->state == GENERATION_SERVING;

    if (reload->is_wanted && is_serving && !reload->is_stopping)
        timer_start(reload->host->loop, &reload->begin, 0, on_begin);
}

/* ---- what generations tell ---- */

static void on_ready(struct generation *generation)
{
    struct reload *reload = owner_of(generation);

    if (reload->is_stopping)
        return;
    if (generation == reload->next) {
        take_over(reload);
    } else if (reload->state == RELOAD_FOLLOWING) {
        upgrade_on_ready(reload);
    } else {
        reload->events.serving(reload->events.data);
        reload_begin_soon(reload);
    }
}

static void on_failed(struct generation *generation, const char *problem)
{
    struct reload *reload = owner_of(generation);

    if (reload->is_stopping)
        return;
    if (generation == reload->next)
        drop_next(reload, problem);
    else if (generation == reload->current)
        upgrade_on_lost(reload, problem);
}

static void on_held(struct generation *generation)
{
    struct reload *reload = owner_of(generation);

    if (generation != reload->current || reload->state != RELOAD_TAKING || reload->is_stopping)
        return;
    if (reload->is_upgrade)
        upgrade_on_held(reload);
    else
        commit(reload);
}

static bool on_died(struct generation *generation, const struct slot *slot)
{
    struct reload *reload = owner_of(generation);

    if (generation == reload->next) {
        generation_go(reload->current);
        drop_next(reload, slot->problem);
        return false;
    }
    if (generation == reload->current && timer_is_on(&reload->probation)) {
        roll_back(reload, slot);
        return false;
    }
    if (generation == reload->current && reload->predecessor.is_there) {
        upgrade_on_lost(reload, slot->problem);
        return false;
    }
    return true;
}

static void on_gone(struct generation *generation)
{
    struct reload *reload = owner_of(generation);

    if (!reload->is_stopping)
        log_info("generation %u has ended", generation->number);
    if (generation == reload->old) {
        reload->old = NULL;
    } else if (generation == reload->next) {
        reload->next = NULL;
    } else {
        CHECK(generation == reload->current);
        reload->current = NULL;
    }
    reload->killed += generation->killed;
    generation_destroy(generation);
    if (reload->is_stopping) {
        reload_end_if_done(reload);
        return;
    }
    sockets_prune(&reload->host->sockets, reload->current->settings,
                  reload->next != NULL ? reload->next->settings : NULL);
    if (reload->state == RELOAD_CLEARING)
        reload_clear(reload);
}

static const struct generation_events events = {
    .ready = on_ready,
    .failed = on_failed,
    .held = on_held,
    .died = on_died,
    .gone = on_gone,
};

/* ---- life ---- */

void reload_init(struct reload *reload, struct host *host, const char *path,
                 const char *const *overrides, const struct reload_events *told)
{
    CHECK(path != NULL);
    *reload = (struct reload){.host = host,
                              .path = path,
                              .overrides = overrides,
                              .events = *told,
                              .ticket = RELOAD_TICKET_FIRST};
}

void reload_begin(struct reload *reload, struct settings *settings)
{
    CHECK(reload->current == NULL);
    reload->settings = settings;
    if (reload->state == RELOAD_FOLLOWING)
        upgrade_try(reload);
    else
        reload_start_first(reload, false);
}

void reload_start_first(struct reload *reload, bool is_tried)
{
    struct settings *settings = reload->settings;

    CHECK(settings != NULL);
    CHECK(reload->current == NULL);
    reload->settings = NULL;
    reload->current =
        generation_create(reload->host, settings, ++reload->last_number, &events, reload);
    generation_start(reload->current, is_tried);
}

uint32_t reload_ask(struct reload *reload)
{
    uint32_t ticket = reload->ticket + (reload->state != RELOAD_IDLE);

    reload->is_wanted = true;
    reload_begin_soon(reload);
    if (reload->state == RELOAD_HANDED)
        upgrade_pass_on(reload);
    return ticket;
}

uint32_t reload_ask_upgrade(struct reload *reload)
{
    reload->is_upgrade_wanted = true;
    return reload_ask(reload);
}

void reload_end_if_done(struct reload *reload)
{
    bool is_alone = reload->state == RELOAD_HANDED || reload->successor.pid == 0;

    if (reload->is_stopping && is_alone && reload->old == NULL && reload->next == NULL &&
        reload->current == NULL)
        reload->events.stopped(reload->events.data);
}

void reload_stop(struct reload *reload, int number)
{
    struct generation *const all[] = {reload->current, reload->old, reload->next};

    reload->is_stopping = true;
    timer_stop(&reload->probation);
    timer_stop(&reload->begin);
    trial_stop(&reload->trial);
    control_end_all(&reload->host->control, reload->ticket, 1, "the host is stopping");
    control_end_all(&reload->host->control, reload->ticket + 1, 1, "the host is stopping");
    upgrade_stop(reload);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != NULL)
            generation_end(all[i], number);
    reload_end_if_done(reload);
}

bool reload_reap(struct reload *reload, pid_t pid, int status)
{
    struct slot *slot = generation_find(reload->host, pid);

    if (slot != NULL)
        slot_ended(slot, status);
    else if (pid == reload->trial.pid)
        trial_ended(&reload->trial, status);
    else if (pid == reload->successor.pid)
        upgrade_reap(reload, status);
    else
        return false;
    return true;
}

const struct settings *reload_settings(const struct reload *reload)
{
    const struct generation *const all[] = {reload->current, reload->old, reload->next};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != NULL)
            return all[i]->settings;
    return reload->settings;
}

void reload_signal(const struct reload *reload, int number)
{
    const struct generation *const all[] = {reload->current, reload->old, reload->next};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] != NULL)
            generation_signal(all[i], number);
}

void reload_deinit(struct reload *reload)
{
    trial_stop(&reload->trial);
    timer_stop(&reload->probation);
    timer_stop(&reload->begin);
    successor_deinit(&reload->successor);
    predecessor_stop(&reload->predecessor);
    generation_destroy(reload->old);
    generation_destroy(reload->next);
    generation_destroy(reload->current);
    settings_free(reload->settings);
    reload->old = reload->next = reload->current = NULL;
    reload->settings = NULL;
}

void reload_abandon(const struct reload *reload)
{
    trial_abandon(&reload->trial);
    successor_abandon(&reload->successor);
    predecessor_abandon(&reload->predecessor);
}
