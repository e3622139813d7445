/* server/generation.c - the workers that run with one set of settings and plugins. */
#include "server/generation.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/loop.h"
#include <signal.h>
#include <stdio.h>

enum {
    GRACE_MS = 3000,    /* beyond a drain's time, before a worker is killed */
    HOLD_MS = 1000,     /* for workers to say that they hold */
    WORKED_MS = 5000,   /* before a worker is replaced for its memory */
    CLOSING_MS = 60000, /* the longest that a killed process may be in the kernel */
};

/* Which states may follow, one bit each; ENDING may follow any but itself and GONE. */
static const unsigned states[] = {
    [GENERATION_STARTING] = 1u << GENERATION_STARTING | 1u << GENERATION_READY |
                            1u << GENERATION_SERVING | 1u << GENERATION_FAILED |
                            1u << GENERATION_ENDING,
    [GENERATION_READY] =
        1u << GENERATION_STARTING | 1u << GENERATION_SERVING | 1u << GENERATION_ENDING,
    [GENERATION_SERVING] = 1u << GENERATION_HOLDING | 1u << GENERATION_ENDING,
    [GENERATION_HOLDING] = 1u << GENERATION_SERVING | 1u << GENERATION_ENDING,
    [GENERATION_FAILED] = 1u << GENERATION_ENDING,
    [GENERATION_ENDING] = 1u << GENERATION_GONE,
    [GENERATION_GONE] = 0,
};

static void end_if_gone(struct generation *generation);

static void move(struct generation *generation, enum generation_state state)
{
    CHECK((states[generation->state] & 1u << state) != 0);
    generation->state = state;
    generation->since_ms = loop_now_ms(generation->host->loop);
}

struct generation *generation_create(struct host *host, struct settings *settings, uint32_t number,
                                     const struct generation_events *events, void *owner)
{
    struct generation *generation = mem_alloc(sizeof *generation);

    generation->host = host;
    generation->settings = settings;
    generation->number = number;
    generation->events = events;
    generation->owner = owner;
    runtime_name_generation(&host->runtime, number, generation->folder);
    roster_init(&generation->roster);
    generation->slots = mem_calloc(settings->workers, sizeof *generation->slots);
    for (uint32_t i = 0; i < settings->workers; i++)
        slot_init(&generation->slots[i], generation, i);
    list_init(&generation->leavers);
    list_append(&host->generations, &generation->link);
    return generation;
}

void generation_destroy(struct generation *generation)
{
    if (generation == NULL)
        return;
    CHECK(list_is_empty(&generation->leavers));
    timer_stop(&generation->patience);
    timer_stop(&generation->hold);
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        slot_deinit(&generation->slots[i]);
    mem_free(generation->slots);
    roster_deinit(&generation->roster);
    runtime_remove_generation(&generation->host->runtime, generation->number);
    list_remove(&generation->link);
    settings_free(generation->settings);
    mem_free(generation);
}

/* How many workers have a process. */
static uint32_t count_alive(const struct generation *generation)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < generation->settings->workers; i++)
        count += generation->slots[i].pid != 0;
    for (const struct list *link = generation->leavers.next; link != &generation->leavers;
         link = link->next)
        count++;
    return count;
}

static struct slot *first_in(const struct generation *generation, enum slot_state state)
{
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        if (generation->slots[i].state == state)
            return &generation->slots[i];
    return NULL;
}

const struct settings *generation_beside(const struct generation *generation)
{
    LIST_EACH (&generation->host->generations, link) {
        const struct generation *other = CONTAINER_OF(link, struct generation, link);

        if (other != generation && other->state != GENERATION_GONE &&
            other->state != GENERATION_FAILED)
            return other->settings;
    }
    return NULL;
}

struct slot *generation_find(struct host *host, pid_t pid)
{
    LIST_EACH (&host->generations, link) {
        struct generation *generation = CONTAINER_OF(link, struct generation, link);
        for (uint32_t i = 0; i < generation->settings->workers; i++)
            if (generation->slots[i].pid == pid)
                return &generation->slots[i];
        LIST_EACH (&generation->leavers, at) {
            if (CONTAINER_OF(at, struct slot, link)->pid == pid)
                return CONTAINER_OF(at, struct slot, link);
        }
    }
    return NULL;
}

void generation_signal(const struct generation *generation, int number)
{
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        if (generation->slots[i].pid != 0)
            kill(generation->slots[i].pid, number);
    LIST_EACH (&generation->leavers, link) {
        kill(CONTAINER_OF(link, struct slot, link)->pid, number);
    }
}

void generation_abandon(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        slot_abandon(&generation->slots[i]);
    LIST_EACH (&generation->leavers, link) {
        slot_abandon(CONTAINER_OF(link, struct slot, link));
    }
}

static void fail(struct generation *generation, const struct slot *slot)
{
    char problem[sizeof slot->problem];

    if (generation->state != GENERATION_STARTING)
        return;
    snprintf(problem, sizeof problem, "%s", slot->problem);
    move(generation, GENERATION_FAILED);
    generation->events->failed(generation, problem);
}

/* ---- starting ---- */

/* False: one could not be forked, and the owner knows. */
static bool start_empty(struct generation *generation)
{
    struct slot *slot;

    while ((slot = first_in(generation, SLOT_EMPTY)) != NULL)
        if (!slot_start(slot)) {
            fail(generation, slot);
            return false;
        }
    return true;
}

void generation_start(struct generation *generation, bool is_tried)
{
    CHECK(generation->state == GENERATION_STARTING);
    rights_own_logs(&generation->settings->server, &generation->settings->rights);
    generation->goes_at_once = !is_tried;
    move(generation, GENERATION_STARTING);
    if (is_tried)
        (void)start_empty(generation);
    else if (!slot_start(&generation->slots[0]))
        fail(generation, &generation->slots[0]);
}

static struct slot *leaver_of(const struct generation *generation, const struct slot *slot)
{
    LIST_EACH (&generation->leavers, link) {
        if (CONTAINER_OF(link, struct slot, link)->index == slot->index)
            return CONTAINER_OF(link, struct slot, link);
    }
    return NULL;
}

static void serve(struct slot *slot)
{
    const struct slot *leaver = leaver_of(slot->generation, slot);

    slot->state = SLOT_SERVING;
    slot_wake(slot);
    if (leaver != NULL)
        log_info("worker %u is process %d now; process %d is wound up", slot->index, (int)slot->pid,
                 (int)leaver->pid);
    else if (slot->deaths > 0)
        log_info("worker %u is back as process %d", slot->index, (int)slot->pid);
}

/* The one in the place of `slot` (NULL: each) is needed no more. */
static void release_leavers(const struct generation *generation, const struct slot *slot)
{
    uint64_t wait_ms = generation->settings->server.drain_timeout_ms + GRACE_MS;

    LIST_EACH (&generation->leavers, link) {
        struct slot *leaver = CONTAINER_OF(link, struct slot, link);
        if (leaver->state == SLOT_SERVING && (slot == NULL || leaver->index == slot->index))
            slot_leave(leaver, wait_ms);
    }
}

/* One at a time in each place, and nobody before he has done some work: a limit that is too low
 * must not have us start workers all day. */
static void check_memory(struct generation *generation, struct slot *slot)
{
    uint64_t now_ms = loop_now_ms(generation->host->loop);
    uint64_t max = generation->settings->server.memory_max, used;
    struct slot *leaver;

    if (slot->state != SLOT_SERVING || now_ms - slot->started_ms < WORKED_MS ||
        leaver_of(generation, slot) != NULL)
        return;
    used = watch_memory(slot->pid);
    if (used <= max)
        return;
    log_warn("worker %u (process %d) uses %llu bytes of memory, memory_max is %llu: replaced",
             slot->index, (int)slot->pid, (unsigned long long)used, (unsigned long long)max);
    leaver = mem_alloc(sizeof *leaver);
    slot_split(slot, leaver);
    list_append(&generation->leavers, &leaver->link);
    if (!slot_start(slot))
        slot_start_again(slot);
}

void generation_check_memory(struct generation *generation)
{
    if (generation->state != GENERATION_SERVING || generation->settings->server.memory_max == 0)
        return;
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        check_memory(generation, &generation->slots[i]);
}

static void on_leaver_ended(struct generation *generation, struct slot *leaver)
{
    list_remove(&leaver->link);
    slot_deinit(leaver);
    mem_free(leaver);
    if (generation->state == GENERATION_ENDING)
        end_if_gone(generation);
}

void generation_on_ready(struct generation *generation, struct slot *slot)
{
    bool is_starting = generation->state == GENERATION_STARTING;

    if (generation->state == GENERATION_SERVING || (is_starting && generation->goes_at_once)) {
        roster_say(&generation->roster, ROSTER_GO, NULL, 0);
        serve(slot);
        release_leavers(generation, slot);
    }
    if (!is_starting || !start_empty(generation) || first_in(generation, SLOT_STARTING) != NULL)
        return;
    move(generation, generation->goes_at_once ? GENERATION_SERVING : GENERATION_READY);
    generation->events->ready(generation);
}

void generation_go(struct generation *generation)
{
    bool was_holding = generation->state == GENERATION_HOLDING;

    CHECK(was_holding || generation->state == GENERATION_READY);
    timer_stop(&generation->hold);
    roster_say(&generation->roster, ROSTER_GO, NULL, 0);
    move(generation, GENERATION_SERVING);
    for (uint32_t i = 0; i < generation->settings->workers; i++) {
        struct slot *slot = &generation->slots[i];
        if (slot->state == SLOT_READY || slot->state == SLOT_HOLDING || slot->state == SLOT_SERVING)
            serve(slot);
        else if (slot->state == SLOT_EMPTY && !slot_start(slot))
            slot_start_again(slot);
    }
}

/* ---- holding ---- */

static void tell_held(struct generation *generation)
{
    timer_stop(&generation->hold);
    generation->events->held(generation);
}

static void on_hold_over(struct timer *timer)
{
    tell_held(CONTAINER_OF(timer, struct generation, hold));
}

void generation_on_held(struct generation *generation)
{
    if (generation->state == GENERATION_HOLDING && timer_is_on(&generation->hold) &&
        first_in(generation, SLOT_SERVING) == NULL)
        tell_held(generation);
}

void generation_hold(struct generation *generation, const int *kept, uint32_t kept_count)
{
    CHECK(generation->state == GENERATION_SERVING);
    move(generation, GENERATION_HOLDING);
    roster_say(&generation->roster, ROSTER_HOLD, kept, kept_count);
    release_leavers(generation, NULL);
    for (uint32_t i = 0; i < generation->settings->workers; i++) {
        struct slot *slot = &generation->slots[i];
        if (slot->state == SLOT_WAITING || slot->state == SLOT_STARTING)
            slot_stop(slot, SIGTERM); /* it would come too late for anything */
        else
            slot_wake(slot);
    }
    timer_start(generation->host->loop, &generation->hold,
                first_in(generation, SLOT_SERVING) != NULL ? HOLD_MS : 0, on_hold_over);
}

/* ---- ending ---- */

static void kill_late(struct generation *generation, const struct slot *slot)
{
    if (slot->pid == 0)
        return;
    log_error("worker %u (process %d) does not end: killed", slot->index, (int)slot->pid);
    generation->killed++;
    kill(slot->pid, SIGKILL);
}

static void on_patience_over(struct timer *timer)
{
    struct generation *generation = CONTAINER_OF(timer, struct generation, patience);

    for (uint32_t i = 0; i < generation->settings->workers; i++)
        kill_late(generation, &generation->slots[i]);
    LIST_EACH (&generation->leavers, link) {
        kill_late(generation, CONTAINER_OF(link, struct slot, link));
    }
    timer_start(generation->host->loop, timer, CLOSING_MS, on_patience_over);
}

/* Its owner is told by the loop, never inside the call. */
static void on_nobody_left(struct timer *timer)
{
    struct generation *generation = CONTAINER_OF(timer, struct generation, patience);

    move(generation, GENERATION_GONE);
    generation->events->gone(generation);
}

static void end_if_gone(struct generation *generation)
{
    if (count_alive(generation) == 0)
        timer_start(generation->host->loop, &generation->patience, 0, on_nobody_left);
}

void generation_end(struct generation *generation, int number)
{
    uint64_t wait = generation->settings->server.drain_timeout_ms;

    if (generation->state == GENERATION_GONE)
        return;
    timer_stop(&generation->hold);
    if (generation->state != GENERATION_ENDING)
        move(generation, GENERATION_ENDING);
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        slot_stop(&generation->slots[i], number);
    LIST_EACH (&generation->leavers, link) {
        slot_stop(CONTAINER_OF(link, struct slot, link), number);
    }
    timer_start(generation->host->loop, &generation->patience, wait + GRACE_MS, on_patience_over);
    end_if_gone(generation);
}

/* While it serves: dead workers are started again, if the owner does not want something else. */
static void replace(struct generation *generation, struct slot *slot)
{
    if (!generation->events->died(generation, slot) || generation->state != GENERATION_SERVING)
        return;
    if (slot->state != SLOT_REFUSED) {
        slot_start_again(slot);
        return;
    }
    log_error("worker %u is not started again; others serve its clients", slot->index);
    if (count_alive(generation) == 0 && first_in(generation, SLOT_WAITING) == NULL)
        generation->events->failed(generation, slot->problem);
}

/* One has died: whose turn it is to stand in for it shall not wait for the next tick. */
static void wake_neighbours(struct generation *generation)
{
    for (uint32_t i = 0; i < generation->settings->workers; i++)
        if (generation->slots[i].state == SLOT_SERVING)
            slot_wake(&generation->slots[i]);
}

void generation_on_ended(struct generation *generation, struct slot *slot, enum slot_state before)
{
    if (slot->is_leaver) {
        on_leaver_ended(generation, slot);
        return;
    }
    switch (generation->state) {
    case GENERATION_STARTING:
        fail(generation, slot);
        break;
    case GENERATION_READY: /* the owner is about to have it go: too late for that */
        move(generation, GENERATION_STARTING);
        fail(generation, slot);
        break;
    case GENERATION_SERVING:
        wake_neighbours(generation);
        if (before == SLOT_STOPPING) /* it was told to: to hold, or to make room for another */
            slot_start_again(slot);
        else
            replace(generation, slot);
        break;
    case GENERATION_HOLDING:
        slot->state = SLOT_EMPTY;
        generation_on_held(generation);
        break;
    case GENERATION_FAILED:
    case GENERATION_GONE:
        break;
    case GENERATION_ENDING:
        slot->state = SLOT_EMPTY;
        end_if_gone(generation);
        break;
    }
}
