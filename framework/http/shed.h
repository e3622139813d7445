/* http/shed.h - has the worker more to do than it can do in time? Then new requests are refused
 * early.
 *
 * What is measured is how long requests have lain in the kernel when we come to them, and how long
 * turns of the loop are. A delay that is long now and then is a burst, and harmless; where for a
 * tenth of a second even the shortest one is too long, requests stand in a line that does not go
 * away (as CoDel has it, RFC 8289). From then on who has waited for more than a quarter of that is
 * refused, which costs little: so the others are served in time, and as many of them as can be.
 * That ends where for a second nobody had to be refused, or somebody has hardly waited.
 * Lines for a session or an upstream are judged each for itself, in task/line.h.
 * Loop:   of one loop.
 * Memory: embedded.
 */
#ifndef WEFT_HTTP_SHED_H
#define WEFT_HTTP_SHED_H

#include "loop/loop.h"

/* Of one server. Zeroed: nothing was measured. */
struct http_shed {
    bool is_on;             /* who has waited for long is refused */
    uint32_t after_ms;      /* the shortest delay that is too long; 0: none is */
    uint64_t count;         /* requests refused so far; whoever refuses counts */
    struct loop *_loop;     /* whose turns */
    struct hook _turn_end;  /* measures */
    uint64_t _turn_us;      /* loop time: when this turn came to its first request */
    bool _is_blind;         /* the kernel cannot say it: turns are all that we know */
    uint32_t _count;        /* delays that were measured in this window */
    uint64_t _delay_us_min; /* of these; UINT64_MAX: there was none */
    uint64_t _delay_us;     /* the last one */
    uint64_t _noted_us;     /* loop time: when that was */
    uint64_t _window_us;    /* loop time: when the window began */
    int _fd;                /* the socket that was asked last */
    uint64_t _refused_us;   /* loop time: when somebody was refused */
    uint64_t _told_ms;      /* loop time of the last line in the log about it */
};

/* `after_ms` as above. */
void http_shed_init(struct http_shed *shed, struct loop *loop, uint32_t after_ms);

/* Stops measuring. */
void http_shed_deinit(struct http_shed *shed);

/* A request has come: is it to be refused? `fd`: the socket that it came by, where it lay there for
 * nobody's sake; -1: what it waited for was another request of its own client. */
bool http_shed_ask(struct http_shed *shed, int fd);

#endif
