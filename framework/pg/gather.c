/* pg/gather.c - SO_RCVLOWAT, as far as what came says. */
#include "pg/gather.h"
#include "base/check.h"
#include "loop/loop.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
    IN_FLIGHT_MIN = 3, /* with fewer there is nothing to gain */
    WAIT_US = 500,     /* the wait that is aimed at */
    WAIT_MS_MAX = 1,   /* the longest one */
    LOW_MAX = 8192,    /* bytes: far below what the socket's buffer holds */
    WEIGHT = 4         /* of what was known beside what came */
};

void pg_gather_init(struct pg_gather *gather, struct loop *loop, int fd)
{
    int domain = AF_UNSPEC;
    socklen_t size = sizeof domain;

    CHECK(fd >= 0);
    *gather = (struct pg_gather){.loop = loop, .fd = fd, .low = 1};
    gather->is_off = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
                     (domain != AF_INET && domain != AF_INET6);
}

void pg_gather_deinit(struct pg_gather *gather)
{
    timer_stop(&gather->_timer);
    gather->is_off = true;
    gather->low = 1;
}

static void on_long_wait(struct timer *timer);

/* The kernel looks at once whether what is there is enough. Where it refuses, `low` stays what the
 * kernel has, and is lowered again and again until it is done: else answers would be there, and
 * nobody woken. */
static void set_low(struct pg_gather *gather, uint32_t low)
{
    int bytes = (int)low;

    if (low == gather->low)
        return;
    if (setsockopt(gather->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) == 0) {
        gather->low = low;
        return;
    }
    gather->is_off = true;
    if (gather->low > 1)
        timer_start(gather->loop, &gather->_timer, WAIT_MS_MAX, on_long_wait);
}

static void on_long_wait(struct timer *timer)
{
    struct pg_gather *gather = CONTAINER_OF(timer, struct pg_gather, _timer);

    gather->has_waited = true;
    set_low(gather, 1);
}

/* How many answers to wait for. */
static uint32_t worth_waiting_for(const struct pg_gather *gather, uint32_t in_flight)
{
    uint32_t half = in_flight / 2;
    uint32_t soon;

    if (gather->size == 0)
        return 1;
    soon = WAIT_US / (gather->pace_us > 0 ? gather->pace_us : 1);
    return half < soon ? half : soon;
}

/* Three binary digits of it: a mark that moves by less is not worth a system call. */
static uint32_t mark_for(uint64_t bytes)
{
    uint32_t mark = bytes < LOW_MAX ? (uint32_t)bytes : LOW_MAX;
    uint32_t step = 1;

    while (mark / step >= 8)
        step *= 2;
    return mark / step * step;
}

static void wait_for(struct pg_gather *gather, uint32_t in_flight)
{
    uint32_t count = in_flight < IN_FLIGHT_MIN ? 1 : worth_waiting_for(gather, in_flight);

    if (count < 2 || gather->has_waited) {
        timer_stop(&gather->_timer);
        set_low(gather, 1);
        return;
    }
    set_low(gather, mark_for((uint64_t)count * gather->size));
    if (timer_is_on(&gather->_timer) || gather->is_off)
        return; /* sends, one after the other, do not put the end off */
    timer_start(gather->loop, &gather->_timer, WAIT_MS_MAX, on_long_wait);
}

void pg_gather_sent(struct pg_gather *gather, uint32_t in_flight)
{
    if (gather->is_off)
        return;
    if (gather->in_flight == 0)
        gather->since_us = loop_now_us(gather->loop);
    gather->in_flight = in_flight;
    wait_for(gather, in_flight);
}

void pg_gather_look(struct pg_gather *gather, uint32_t in_flight)
{
    int found = 0;

    gather->found = 0;
    gather->in_flight = in_flight;
    if (gather->is_off || in_flight < IN_FLIGHT_MIN)
        return;
    if (ioctl(gather->fd, FIONREAD, &found) == 0 && found > 0)
        gather->found = (uint32_t)found;
}

static uint32_t mean(uint32_t known, uint64_t now)
{
    uint64_t sum = (uint64_t)known * (WEIGHT - 1) + now;

    if (known == 0)
        return now < UINT32_MAX ? (uint32_t)now : UINT32_MAX;
    return sum / WEIGHT < UINT32_MAX ? (uint32_t)(sum / WEIGHT) : UINT32_MAX;
}

static void learn(struct pg_gather *gather, uint32_t answers)
{
    uint64_t took_us = loop_now_us(gather->loop) - gather->since_us;

    gather->size = mean(gather->size, gather->found / answers);
    gather->pace_us = mean(gather->pace_us, took_us / answers);
}

void pg_gather_next(struct pg_gather *gather, uint32_t in_flight)
{
    if (gather->is_off)
        return;
    if (gather->found > 0 && in_flight < gather->in_flight)
        learn(gather, gather->in_flight - in_flight);
    gather->since_us = loop_now_us(gather->loop);
    gather->found = 0;
    gather->in_flight = in_flight;
    gather->has_waited = false;
    timer_stop(&gather->_timer); /* a wait of its own */
    wait_for(gather, in_flight);
}
