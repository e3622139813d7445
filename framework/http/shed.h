/* http/shed.h - is there more to do than can be done in time? Then new requests are refused early.
 *
 * What is measured is the shortest delay of each tenth of a second: of a turn of the loop, and of
 * the lines that requests stood in for a session or an upstream. A delay that is long now and then
 * is a burst, and harmless; where even the shortest one is long, a line stands that does not go
 * away, and whoever joins it makes everybody later (as CoDel has it, RFC 8289).
 * Loop:   of one loop.
 * Memory: embedded.
 */
#ifndef WEFT_HTTP_SHED_H
#define WEFT_HTTP_SHED_H

#include "loop/loop.h"

/* Of one server. Zeroed: nothing was measured. */
struct http_shed {
    bool is_on;            /* new requests are refused */
    uint32_t after_ms;     /* the shortest delay that is too long; 0: none is */
    uint64_t count;        /* requests refused so far; whoever refuses counts */
    struct loop *_loop;    /* whose turns */
    struct hook _turn_end; /* measures */
    uint64_t _turn_us;     /* loop time: when this turn came to its first request */
    uint64_t _window_ms;   /* loop time: when these two are judged */
    uint64_t _turn_us_min; /* of this window; UINT64_MAX: there was none */
    uint64_t _line_us_min; /* the same */
    uint64_t _told_ms;     /* loop time of the last line in the log about it */
};

/* `after_ms` as above. */
void http_shed_init(struct http_shed *shed, struct loop *loop, uint32_t after_ms);

/* Stops measuring. */
void http_shed_deinit(struct http_shed *shed);

/* A request has come: is it to be refused? */
bool http_shed_ask(struct http_shed *shed);

/* One is over that used a pool or an upstream, and stood in line for `line_us`. */
void http_shed_note(struct http_shed *shed, uint64_t line_us);

#endif
