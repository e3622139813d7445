/* pg/copying.h - COPY on a session: it leaves pipeline mode for it, and comes back.
 *
 * In a pipeline libpq answers a COPY for ever. So a session that has nothing else in flight leaves
 * that mode; in its ring the COPY is a statement with its Sync, as any other.
 * Loop:   of the session's loop; what it brings is told by the session's on_open(), on_data(),
 *         on_space() and on_answer(), never from inside a call of its user.
 * Memory: the session's.
 * Limits: what is to be sent is handed to libpq in pieces of 64 KB, each once the one before has
 *         left; who writes bounds the rest.
 */
#ifndef WEFT_PG_COPYING_H
#define WEFT_PG_COPYING_H

#include "base/buf.h"
#include "base/span.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pg_query;
struct pg_result;
struct pg_session;

/* Where a session is with it; see copying.c. */
enum pg_copying_state {
    PG_COPY_OFF,
    PG_COPY_LIFTING,
    PG_COPY_STARTING,
    PG_COPY_OUT,
    PG_COPY_IN,
    PG_COPY_ENDING
};

/* Embedded in a session; zeroed: off. */
struct pg_copying {
    enum pg_copying_state state; /* see copying.c */
    const char *sql;             /* the COPY; the query's, gone with it */
    const char *restore;         /* what is run behind it; NULL: nothing */
    const char *refusal;         /* why the server is to undo it; NULL: it is not */
    bool must_end;               /* nothing more will be written */
    bool must_restore;           /* restore has to work */
    bool is_blocked;             /* goes on when the socket takes more */
    bool is_owed;                /* something was written since on_space() */
    bool is_unclear;             /* where the server's next message begins is not known */
    struct buf deferred;         /* texts that are run behind it, each with its NUL */
    struct buf unsent;           /* what is to be written */
    struct pg_result *result;    /* how it ended, as far as that is known */
};

/* Starts the query's COPY on an idle session. False: the session broke. */
bool pg_copying_start(struct pg_session *session, struct pg_query *query)
    __attribute__((warn_unused_result));

/* Goes on with what has come, or has left. False: the session cannot go on. */
bool pg_copying_go_on(struct pg_session *session) __attribute__((warn_unused_result));

/* Something has come and was not yet read: an error while it is written to? */
void pg_copying_look(struct pg_session *session);

/* Writes more to a COPY FROM STDIN. Copied; on_space() tells when all has left. */
void pg_copying_write(struct pg_session *session, struct span bytes);

/* All was written: the server is to apply it. */
void pg_copying_end(struct pg_session *session);

/* Nobody wants it any more: the server is to undo it. What was ended already may happen. */
void pg_copying_give_up(struct pg_session *session);

/* Frees what it holds. Off and twice is fine. */
void pg_copying_deinit(struct pg_copying *copying);

/* What the server has begun to say, beside what libpq shows, while it is written to. */
enum pg_glance {
    PG_GLANCE_FINE,  /* notices and their like, each to its end */
    PG_GLANCE_CUT,   /* the same, but for the last one's end, or it is not understood */
    PG_GLANCE_FAILED /* there is an error among it */
};

/* Looks at `bytes` of the server's, which begin with a message. */
enum pg_glance pg_copying_glance(const unsigned char *bytes, size_t len);

#endif
