/* server/cover.h - the listening sockets from a worker's side: its own slots', and those of
 * neighbours that do not accept.
 *
 * Slot s of the host is worker s % workers's. A worker whose word was not heard for ROSTER_STALE_MS
 * (it died, is stopped, is busy in one turn, or has all the connections it may have) is stood in
 * for by the next one behind it that does accept, until it is back.
 * Loop:   of the worker's.
 * Memory: embedded; owns the descriptors that the worker inherited from cover_init() on.
 */
#ifndef WEFT_SERVER_COVER_H
#define WEFT_SERVER_COVER_H

#include "loop/timer.h"
#include "net/listener.h"
#include "server/roster.h"
#include "server/sockets.h"

struct cover;

/* What a cover is made of. Copied; what it points at outlives it. */
struct cover_setup {
    struct loop *loop;               /* the worker's */
    struct roster *roster;           /* the generation's */
    const struct sockets *sockets;   /* the host's, as they were inherited */
    const struct settings *settings; /* which of them are wanted, and how many workers there are */
    uint32_t index;                  /* of the worker */
    listener_fn *on_connection;      /* as net/listener.h; the listener's data is cover_data() */
    bool (*has_room)(void *data);    /* is there room for another connection? */
    bool (*make_room)(void *data);   /* may another be accepted, now? */
    void (*on_tick)(void *data);     /* every ROSTER_TICK_MS */
    void *data;                      /* for the three */
};

/* One listening socket. */
struct cover_door {
    struct listener listener; /* stopped: nobody is accepted here */
    struct cover *cover;      /* whose */
    uint32_t slot;            /* of the host */
    int fd;                   /* the socket */
};

struct cover {
    struct cover_setup _setup; /* as given */
    struct timer _tick;        /* the beat */
    struct cover_door *_doors; /* _count of them: each wanted address and slot */
    uint32_t _count;           /* of _doors */
    bool _is_on;               /* it accepts */
};

/* Takes the inherited sockets over and closes those that are not wanted; accepts nobody yet, but
 * ticks. */
void cover_init(struct cover *cover, const struct cover_setup *setup);

/* Accepts from here on. Twice is fine. */
void cover_go(struct cover *cover);

/* Stops accepting, but from the sockets that the roster keeps. */
void cover_hold(struct cover *cover);

/* Somebody may have begun or ceased to accept: looks now, instead of at the next tick. */
void cover_look(struct cover *cover);

/* There is room for connections again. */
void cover_resume(struct cover *cover);

/* Accepts who is queued, unless another generation does, and closes all sockets. */
void cover_drain(struct cover *cover);

/* Stops everything and closes what is open. Zeroed, and twice, is fine. */
void cover_deinit(struct cover *cover);

/* The `data` of the cover whose listener this is. */
void *cover_data(struct listener *listener);

#endif
