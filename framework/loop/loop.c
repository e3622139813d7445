/* loop/loop.c - the turn, and who is told of what.
 *
 *   epoll_wait -> read the clock -> io callbacks -> due timers -> ready list -> hooks
 *
 * An io is known to the kernel by slot and generation, never by address: io_stop() ends the
 * generation, so an event that was already fetched for it finds nothing, even where the slot, the
 * io or the descriptor has a new use by then. Nobody else need think of that.
 *
 * A library may close what is watched: the kernel forgets it then, and the number goes to whom the
 * program opens next. So a descriptor is that io's which was started with it last, and another one
 * that still has the number asks the kernel for nothing.
 *
 * Timers cost no system call: epoll_wait's timeout is the time until the wheel's next slot.
 */
#include "loop/loop.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "loop/coalesce.h"
#include "loop/timer.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { LOOP_MAGIC = 0x4c4f4f50, EVENTS_MAX = 256, READY_MAX_DEFAULT = 1024, SLOTS_MIN = 64 };
enum { TURN_US = 10000, EVENTS_A_LOOK = 8 }; /* of events: how long, and when the clock is read */

/* Where an io is known. */
struct io_slot {
    struct io *io;       /* NULL: free */
    uint32_t generation; /* goes up with each use that ends */
    uint32_t next_free;  /* where free: the next free one, or NO_SLOT */
};

static const uint32_t NO_SLOT = UINT32_MAX;

struct loop {
    uint32_t magic;
    int epoll_fd;
    struct loop_options options;
    uint64_t now_us;
    uint64_t now_ms;
    struct wheel *wheel;
    struct coalesce coalesce;
    struct list ready;
    struct list hooks;
    struct io_slot *slots;
    uint32_t slots_count; /* that there is room for */
    uint32_t slots_used;  /* that ever had an io: memory behind them was never touched */
    uint32_t slots_free;  /* the first free one of the used, or NO_SLOT */
    uint32_t io_count;    /* that are on */
    uint32_t *holders;    /* by descriptor: the slot of the io that was started with it last */
    uint32_t holders_count;
    uint32_t event_next;                   /* the first of `events` that was not dispatched */
    uint32_t event_count;                  /* of them */
    struct epoll_event events[EVENTS_MAX]; /* of the last epoll_wait() */
    bool is_in_turn;
    bool is_stopping;
};

/* Time */

static void read_clock(struct loop *loop)
{
    uint64_t now_us = loop->options.now_us(loop->options.data);

    CHECK(now_us >= loop->now_us);
    loop->now_us = now_us;
    loop->now_ms = now_us / 1000;
}

static uint64_t monotonic_us(void *data)
{
    (void)data;
    return clock_monotonic_us();
}

static void sleep_us(uint32_t us)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = (long)us * 1000}, NULL);
}

static uint64_t thread_cpu_us(void)
{
    struct timespec used;

    CHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
    return (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

uint64_t loop_now_ms_up(const struct loop *loop)
{
    return loop->now_ms + (loop->now_us % 1000 != 0);
}

uint64_t loop_now_us(const struct loop *loop)
{
    return loop->now_us;
}

uint64_t loop_refresh_us(struct loop *loop)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    read_clock(loop);
    return loop->now_us;
}

/* Life */

struct loop *loop_create(const struct loop_options *options)
{
    struct loop *loop = mem_alloc(sizeof *loop);

    loop->magic = LOOP_MAGIC;
    if (options != NULL)
        loop->options = *options;
    if (loop->options.now_us == NULL)
        loop->options.now_us = monotonic_us;
    if (loop->options.pause == NULL)
        loop->options.pause = sleep_us;
    if (loop->options.cpu_us == NULL)
        loop->options.cpu_us = thread_cpu_us;
    if (loop->options.ready_max == 0)
        loop->options.ready_max = READY_MAX_DEFAULT;
    list_init(&loop->ready);
    list_init(&loop->hooks);
    loop->slots_free = NO_SLOT;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    CHECK(loop->epoll_fd >= 0);
    read_clock(loop);
    loop->wheel = wheel_create(loop->now_ms);
    return loop;
}

void loop_destroy(struct loop *loop)
{
    if (loop == NULL)
        return;
    CHECK_OBJ(loop, LOOP_MAGIC);
    CHECK(!loop->is_in_turn);
    CHECK(loop->io_count == 0);
    wheel_destroy(loop->wheel);
    (void)close(loop->epoll_fd);
    mem_free(loop->slots);
    mem_free(loop->holders);
    loop->magic = 0;
    mem_free(loop);
}

void loop_abandon(struct loop *loop)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    (void)close(loop->epoll_fd);
    loop->epoll_fd = -1;
}

struct wheel *loop_wheel(struct loop *loop)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    return loop->wheel;
}

/* Descriptors */

static void add_slot(struct loop *loop)
{
    if (loop->slots_used == loop->slots_count) {
        loop->slots_count = loop->slots_count > 0 ? loop->slots_count * 2 : SLOTS_MIN;
        loop->slots = mem_realloc(loop->slots, loop->slots_count * sizeof *loop->slots);
    }
    loop->slots[loop->slots_used] = (struct io_slot){.next_free = NO_SLOT};
    loop->slots_free = loop->slots_used++;
}

static void take_slot(struct loop *loop, struct io *io)
{
    if (loop->slots_free == NO_SLOT)
        add_slot(loop);
    io->_slot = loop->slots_free;
    loop->slots_free = loop->slots[io->_slot].next_free;
    loop->slots[io->_slot].io = io;
    loop->io_count++;
}

static void free_slot(struct loop *loop, struct io *io)
{
    struct io_slot *slot = &loop->slots[io->_slot];

    CHECK(slot->io == io);
    slot->io = NULL;
    slot->generation++;
    slot->next_free = loop->slots_free;
    loop->slots_free = io->_slot;
    loop->io_count--;
}

static void hold_fd(struct loop *loop, const struct io *io)
{
    uint32_t fd = (uint32_t)io->_fd, had = loop->holders_count;

    if (fd >= had) {
        loop->holders_count = fd < 2 * had ? 2 * had : fd + SLOTS_MIN;
        loop->holders = mem_realloc(loop->holders, loop->holders_count * sizeof *loop->holders);
        for (uint32_t i = had; i < loop->holders_count; i++)
            loop->holders[i] = NO_SLOT;
    }
    loop->holders[fd] = io->_slot;
}

/* As long as it is on, nobody else has its slot. */
static bool holds_fd(const struct io *io)
{
    return io->_loop->holders[io->_fd] == io->_slot;
}

/* EPOLL* and IO_* differ only in where the bits stand, so that no branch is needed per event. */
static_assert((int)EPOLLIN == IO_READ, "same bit");
static_assert((int)EPOLLOUT >> 1 == IO_WRITE, "one place down");
static_assert((int)EPOLLRDHUP >> 11 == IO_PEER_CLOSED, "eleven places down");
static_assert((int)EPOLLERR == IO_ERROR, "same bit");
static_assert((int)EPOLLHUP == IO_HANGUP, "same bit");

static uint32_t to_epoll(uint32_t events)
{
    return (events & IO_READ) | (events & IO_WRITE) << 1 | (events & IO_PEER_CLOSED) << 11;
}

static uint32_t from_epoll(uint32_t events)
{
    return (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) | (events & EPOLLOUT) >> 1 |
           (events & EPOLLRDHUP) >> 11;
}

static int control(struct io *io, int operation)
{
    struct loop *loop = io->_loop;
    uint64_t generation = loop->slots[io->_slot].generation;
    struct epoll_event event = {.events = to_epoll(io->_events),
                                .data.u64 = generation << 32 | io->_slot};

    return epoll_ctl(loop->epoll_fd, operation, io->_fd, &event);
}

void io_start(struct loop *loop, struct io *io, int fd, uint32_t events, io_fn *fn)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    CHECK(!io_is_on(io));
    CHECK(fd >= 0);
    CHECK(fn != NULL);
    *io = (struct io){._loop = loop, ._fn = fn, ._fd = fd, ._events = events};
    take_slot(loop, io);
    hold_fd(loop, io);
    CHECK(control(io, EPOLL_CTL_ADD) == 0); /* else watched already, or the kernel has no memory */
}

void io_update(struct io *io, uint32_t events)
{
    CHECK(io_is_on(io));
    if (io->_events == events)
        return;
    io->_events = events;
    if (holds_fd(io))
        CHECK(control(io, EPOLL_CTL_MOD) == 0);
}

void io_stop(struct io *io)
{
    if (!io_is_on(io))
        return;
    CHECK_OBJ(io->_loop, LOOP_MAGIC);
    if (holds_fd(io)) /* a library may have closed it all the same: the kernel says so then */
        (void)epoll_ctl(io->_loop->epoll_fd, EPOLL_CTL_DEL, io->_fd, NULL);
    free_slot(io->_loop, io);
    io->_loop = NULL;
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
    const struct io_slot *slot = &loop->slots[(uint32_t)event->data.u64];
    struct io *io = slot->io;
    uint32_t events;

    if (io == NULL || slot->generation != (uint32_t)(event->data.u64 >> 32))
        return;
    events = from_epoll(event->events) & (io->_events | IO_ERROR | IO_HANGUP);
    if (events != 0)
        io->_fn(io, events);
}

/* The ready list and the hooks */

void ready_start(struct loop *loop, struct ready *ready, ready_fn *fn)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    CHECK(fn != NULL);
    if (ready_is_on(ready))
        return;
    ready->_fn = fn;
    list_append(&loop->ready, &ready->_link);
}

void ready_stop(struct ready *ready)
{
    list_remove(&ready->_link);
}

static void run_ready(struct loop *loop)
{
    struct list *link;

    for (uint32_t left = loop->options.ready_max; left > 0; left--) {
        struct ready *ready;

        if ((link = list_first(&loop->ready)) == NULL)
            return;
        ready = CONTAINER_OF(link, struct ready, _link);
        list_remove(link);
        ready->_fn(ready);
    }
}

void hook_start(struct loop *loop, struct hook *hook, hook_fn *fn)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    CHECK(fn != NULL);
    if (hook_is_on(hook))
        return;
    hook->_fn = fn;
    list_append(&loop->hooks, &hook->_link);
}

void hook_stop(struct hook *hook)
{
    list_remove(&hook->_link);
}

static void run_hooks(struct loop *loop)
{
    struct list due;
    struct list *link;

    list_init(&due);
    list_move_all(&due, &loop->hooks); /* what hooks arm waits for the next turn */
    while ((link = list_first(&due)) != NULL) {
        struct hook *hook = CONTAINER_OF(link, struct hook, _link);

        list_remove(link);
        hook->_fn(hook);
    }
}

/* The turn */

static int timeout_ms(const struct loop *loop, uint32_t wait_ms)
{
    uint32_t until_timer;

    if (loop->options.now_us != monotonic_us)
        return 0;
    if (!list_is_empty(&loop->ready) || !list_is_empty(&loop->hooks))
        return 0;
    until_timer = wheel_wait_ms(loop->wheel, loop->now_ms);
    if (until_timer < wait_ms)
        wait_ms = until_timer;
    if (wait_ms == UINT32_MAX)
        return -1;
    return wait_ms < INT_MAX ? (int)wait_ms : INT_MAX;
}

void loop_step_ended(struct loop *loop, uint64_t took_us)
{
    coalesce_ended(&loop->coalesce, took_us);
}

bool loop_coalesces(const struct loop *loop)
{
    return loop->options.coalesces;
}

void loop_hold(struct loop *loop)
{
    loop->coalesce.holds++;
}

void loop_release(struct loop *loop)
{
    CHECK(loop->coalesce.holds > 0);
    loop->coalesce.holds--;
}

/* Timers that are due within the pause are at most that late: they are never exact to less than a
 * millisecond. */
static void pause_under_load(struct loop *loop)
{
    uint32_t us;

    if (coalesce_is_over(&loop->coalesce, loop->now_us))
        coalesce_judge(&loop->coalesce, loop->now_us, loop->options.cpu_us());
    us = coalesce_pause_us(&loop->coalesce);
    if (us > 0)
        loop->options.pause(us);
}

static void fetch_events(struct loop *loop, uint32_t wait_ms)
{
    int wait = timeout_ms(loop, wait_ms);
    int count;

    if (wait != 0 && loop->options.coalesces)
        pause_under_load(loop);
    count = epoll_wait(loop->epoll_fd, loop->events, EVENTS_MAX, wait);
    if (count < 0)
        CHECK(errno == EINTR); /* a debugger or a stopped job: a turn without events */
    loop->event_next = 0;
    loop->event_count = count > 0 ? (uint32_t)count : 0;
}

/* Where handlers take long, what is left over comes with the next turn, before anything newer:
 * answers leave at the end of a turn, and would wait for handlers that have nothing to do with
 * them. */
static void run_events(struct loop *loop)
{
    uint64_t end_us = loop->now_us + TURN_US;

    while (loop->event_next < loop->event_count) {
        dispatch(loop, &loop->events[loop->event_next++]);
        if (loop->event_next % EVENTS_A_LOOK == 0 &&
            loop->options.now_us(loop->options.data) >= end_us)
            break;
    }
}

static bool has_events(const struct loop *loop)
{
    return loop->event_next < loop->event_count;
}

void loop_turn(struct loop *loop, uint32_t wait_ms)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    CHECK(!loop->is_in_turn);
    loop->is_in_turn = true;
    if (!has_events(loop))
        fetch_events(loop, wait_ms);
    read_clock(loop);
    if (loop->options.on_turn != NULL)
        loop->options.on_turn(loop->options.on_turn_data);
    run_events(loop);
    wheel_run(loop->wheel, loop->now_ms);
    run_ready(loop);
    run_hooks(loop);
    if (loop->options.on_sleep != NULL)
        loop->options.on_sleep(loop->options.on_turn_data);
    loop->is_in_turn = false;
}

bool loop_has_work(const struct loop *loop)
{
    struct epoll_event event; /* level-triggered: to look takes nothing away */

    CHECK_OBJ(loop, LOOP_MAGIC);
    if (!list_is_empty(&loop->ready) || !list_is_empty(&loop->hooks) || has_events(loop))
        return true;
    return epoll_wait(loop->epoll_fd, &event, 1, 0) > 0;
}

void loop_run(struct loop *loop)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    while (!loop->is_stopping)
        loop_turn(loop, UINT32_MAX);
    loop->is_stopping = false;
}

void loop_stop(struct loop *loop)
{
    CHECK_OBJ(loop, LOOP_MAGIC);
    loop->is_stopping = true;
}
