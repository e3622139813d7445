/* pg/cork.h - what is sent in pieces leaves as one.
 *
 * libpq sends at each Sync, and each send wakes the server's process: two statements with a Sync
 * each cost 11.5 us of CPU that way and 8.9 corked, four 20.6 and 11.4. TCP can hold what is sent
 * until the cork is pulled (tcp(7), TCP_CORK); a Unix socket cannot, and is left alone.
 * Loop:   of the session.
 * Memory: the session's.
 */
#ifndef WEFT_PG_CORK_H
#define WEFT_PG_CORK_H

#include <stdbool.h>

struct pg_cork {
    int fd;          /* the socket */
    bool is_in;      /* what is sent is held */
    bool is_refused; /* it is no socket that can hold anything */
};

/* For a socket, which stays its owner's. */
void pg_cork_init(struct pg_cork *cork, int fd);

/* What is sent from here on waits for pg_cork_pull(), which must follow in the same turn: the
 * kernel waits for 200 ms only. Nothing where it is in already. */
void pg_cork_push(struct pg_cork *cork);

/* What was held leaves. Nothing where none is in. */
void pg_cork_pull(struct pg_cork *cork);

/* The socket is not touched again, whose number may be another one's. */
void pg_cork_deinit(struct pg_cork *cork);

#endif
