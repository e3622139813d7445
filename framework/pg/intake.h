/* pg/intake.h - how much was read from a socket, where libpq reads and does not tell.
 *
 * Loop:   any thread; no state but the socket's own.
 * Memory: the caller's.
 * Limits: counts to INT32_MAX, and stays there.
 */
#ifndef WEFT_PG_INTAKE_H
#define WEFT_PG_INTAKE_H

#include <stdint.h>

/* A count; zeroed is one that has not begun. */
struct pg_intake {
    int fd;         /* the socket, not owned */
    int domain;     /* AF_UNIX, AF_INET...; 0: it cannot be told */
    uint64_t begin; /* what had been read then */
};

/* Counts from here on. */
void pg_intake_begin(struct pg_intake *intake, int fd);

/* Bytes that were read since it began, as they came over the wire; 0 where the system does not
 * tell. */
uint64_t pg_intake_bytes(const struct pg_intake *intake);

#endif
