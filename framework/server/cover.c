/* server/cover.c - accepts for a worker's own slots, and for neighbours that do not. */
#include "server/cover.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include <unistd.h>

void *cover_data(struct listener *listener)
{
    return CONTAINER_OF(listener, struct cover_door, listener)->cover->_setup.data;
}

static uint32_t owner_of(const struct cover *cover, uint32_t slot)
{
    return slot % cover->_setup.settings->workers;
}

static bool may_accept(struct listener *listener)
{
    const struct cover *cover = CONTAINER_OF(listener, struct cover_door, listener)->cover;
    const struct cover_setup *setup = &cover->_setup;

    /* The master's word counts from the moment it is said, also for who was stalled meanwhile. */
    if (roster_word(setup->roster) == ROSTER_HOLD && !roster_is_kept(setup->roster, listener->_fd))
        return false;
    return setup->make_room(setup->data);
}

static void open_door(struct cover_door *door)
{
    const struct cover_setup *setup = &door->cover->_setup;

    if (door->listener._fd >= 0)
        return;
    listener_start(setup->loop, &door->listener, door->fd, setup->on_connection);
    door->listener.may_accept = may_accept;
}

/* Who stands in for worker `owner`: the next that accepts; nobody: `owner` itself. */
static uint32_t find_stand_in(const struct cover *cover, uint32_t owner, uint64_t now_us)
{
    uint32_t workers = cover->_setup.settings->workers;

    for (uint32_t i = 0; i < workers; i++)
        if (roster_accepts(cover->_setup.roster, (owner + i) % workers, now_us))
            return (owner + i) % workers;
    return owner;
}

/* Opens and closes doors by who accepts now. */
static void look_around(struct cover *cover, uint64_t now_us)
{
    uint32_t me = cover->_setup.index;

    for (uint32_t i = 0; i < cover->_count; i++) {
        struct cover_door *door = &cover->_doors[i];
        uint32_t owner = owner_of(cover, door->slot);
        if (owner == me)
            continue;
        if (find_stand_in(cover, owner, now_us) != me) {
            listener_stop(&door->listener);
        } else if (door->listener._fd < 0) {
            log_debug("worker %u does not accept: its slot %u is served here", owner, door->slot);
            open_door(door);
        }
    }
}

static void on_tick(struct timer *timer)
{
    struct cover *cover = CONTAINER_OF(timer, struct cover, _tick);
    const struct cover_setup *setup = &cover->_setup;
    uint64_t now_us = loop_now_us(setup->loop);

    timer_start(setup->loop, timer, ROSTER_TICK_MS, on_tick);
    if (cover->_is_on) {
        if (setup->has_room(setup->data))
            roster_beat(setup->roster, setup->index, now_us);
        look_around(cover, now_us);
    }
    setup->on_tick(setup->data); /* last: it may end us */
}

void cover_look(struct cover *cover)
{
    if (cover->_is_on)
        look_around(cover, loop_now_us(cover->_setup.loop));
}

static void add_row(struct cover *cover, const struct sockets_row *row, uint32_t slots)
{
    for (uint32_t slot = 0; slot < slots; slot++)
        cover->_doors[cover->_count++] = (struct cover_door){
            .listener._fd = -1, .cover = cover, .slot = slot, .fd = row->fds[slot]};
}

void cover_init(struct cover *cover, const struct cover_setup *setup)
{
    const struct sockets *sockets = setup->sockets;

    *cover = (struct cover){._setup = *setup};
    cover->_doors = mem_calloc((size_t)sockets->slots * SETTINGS_LISTEN_MAX, sizeof *cover->_doors);
    for (uint32_t i = 0; i < setup->settings->listen_count; i++) {
        const struct sockets_row *row = sockets_row(sockets, &setup->settings->listen[i]);
        CHECK(row != NULL);
        add_row(cover, row, sockets->slots);
    }
    sockets_close_others(sockets, setup->settings);
    timer_start(setup->loop, &cover->_tick, ROSTER_TICK_MS, on_tick);
}

void cover_go(struct cover *cover)
{
    const struct cover_setup *setup = &cover->_setup;

    cover->_is_on = true;
    roster_beat(setup->roster, setup->index, loop_now_us(setup->loop));
    for (uint32_t i = 0; i < cover->_count; i++) {
        if (owner_of(cover, cover->_doors[i].slot) == setup->index)
            open_door(&cover->_doors[i]);
        listener_resume(&cover->_doors[i].listener);
    }
}

void cover_hold(struct cover *cover)
{
    const struct cover_setup *setup = &cover->_setup;

    cover->_is_on = false;
    roster_leave(setup->roster, setup->index);
    for (uint32_t i = 0; i < cover->_count; i++)
        if (!roster_is_kept(setup->roster, cover->_doors[i].fd))
            listener_stop(&cover->_doors[i].listener);
}

void cover_resume(struct cover *cover)
{
    for (uint32_t i = 0; i < cover->_count; i++)
        listener_resume(&cover->_doors[i].listener);
}

/* Where no other generation serves, neighbours' queues are emptied as well: an owner may not have
 * begun yet, or have died a moment ago. What we keep from another generation is open anyway. */
void cover_drain(struct cover *cover)
{
    bool is_last = cover->_count > 0 && roster_word(cover->_setup.roster) == ROSTER_GO;

    cover->_is_on = false;
    if (cover->_count > 0)
        roster_leave(cover->_setup.roster, cover->_setup.index);
    for (uint32_t i = 0; i < cover->_count; i++) {
        struct cover_door *door = &cover->_doors[i];
        if (is_last && door->fd >= 0)
            open_door(door);
        listener_drain(&door->listener);
        if (door->fd >= 0)
            close(door->fd);
        door->fd = -1;
    }
}

void cover_deinit(struct cover *cover)
{
    timer_stop(&cover->_tick);
    for (uint32_t i = 0; i < cover->_count; i++)
        listener_stop(&cover->_doors[i].listener);
    for (uint32_t i = 0; i < cover->_count; i++)
        if (cover->_doors[i].fd >= 0)
            close(cover->_doors[i].fd);
    mem_free(cover->_doors);
    cover->_doors = NULL;
    cover->_count = 0;
}
