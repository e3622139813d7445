/* pg/gather.h - answers that follow each other closely are read several at a time.
 *
 * A statement with a Sync of its own is answered on its own, and each answer would wake the worker:
 * for an upsert a request that is a sixth of all its CPU, and as much of the server's. While
 * several are in flight, TCP is told to wake us only when about half of them have been answered
 * (SO_RCVLOWAT, socket(7)), as far as these are likely to be there within 500 us; a timer of a
 * millisecond ends a wait that takes longer, and what is not an answer, as an end, ends it at once.
 * How large answers are, and how far apart, is learned from those that came. A Unix socket knows no
 * such mark: then nothing is done.
 * Loop:   of the session.
 * Memory: the session's.
 */
#ifndef WEFT_PG_GATHER_H
#define WEFT_PG_GATHER_H

#include "loop/timer.h"
#include <stdbool.h>
#include <stdint.h>

struct pg_gather {
    struct loop *loop;   /* the session's */
    int fd;              /* its socket */
    bool is_off;         /* that has no mark */
    bool has_waited;     /* long enough: nothing is awaited before the next read */
    uint32_t low;        /* bytes that wake us */
    uint32_t found;      /* bytes that the read under way has found; 0: nothing to learn from it */
    uint32_t in_flight;  /* answers that were awaited then */
    uint32_t size;       /* of an answer, on average; 0: not yet known */
    uint32_t pace_us;    /* between two */
    uint64_t since_us;   /* of the last read or, where nothing was in flight, the last send */
    struct timer _timer; /* the longest wait */
};

/* For a socket, which stays its owner's. */
void pg_gather_init(struct pg_gather *gather, struct loop *loop, int fd);

/* Nothing waits any more, and the socket is not touched again, whose number may be another one's:
 * before it is closed, or as soon as libpq may have closed it. Twice is fine. */
void pg_gather_deinit(struct pg_gather *gather);

/* Something was sent: `in_flight` answers are awaited now. 0: none that may wait, as those of a
 * transaction or a stream. */
void pg_gather_sent(struct pg_gather *gather, uint32_t in_flight);

/* The socket is about to be read. */
void pg_gather_look(struct pg_gather *gather, uint32_t in_flight);

/* It was read, and `in_flight` are left. */
void pg_gather_next(struct pg_gather *gather, uint32_t in_flight);

#endif
