/* server/predecessor.h - the master that this one follows in an upgrade, from this one's side;
 * server/successor.h has the conversation.
 *
 * Loop:   of the master's, but predecessor_refuse().
 * Memory: embedded; owns its end of the channel from predecessor_start() on.
 */
#ifndef WEFT_SERVER_PREDECESSOR_H
#define WEFT_SERVER_PREDECESSOR_H

#include "loop/loop.h"
#include "server/successor.h"

struct predecessor;

/* What it says, and that it has gone, with the last of its workers or without them. */
enum predecessor_says {
    PREDECESSOR_GO = SUCCESSOR_GO,
    PREDECESSOR_TAKE = SUCCESSOR_TAKE,
    PREDECESSOR_GIVE_UP = SUCCESSOR_GIVE_UP,
    PREDECESSOR_GONE = 0
};

/* Runs for each message; PREDECESSOR_GONE is the last. */
typedef void predecessor_fn(struct predecessor *predecessor, enum predecessor_says what);

/* Zeroed: none. */
struct predecessor {
    struct io _io;       /* of the channel */
    int _channel;        /* our end, while it is there */
    predecessor_fn *_fn; /* what runs */
    bool is_there;       /* its process lives */
};

/* Listens to who is behind `channel`. */
void predecessor_start(struct predecessor *predecessor, struct loop *loop, int channel,
                       predecessor_fn *fn);

/* Says one thing to it; nothing where it has gone. */
void predecessor_tell(const struct predecessor *predecessor, enum successor_says what,
                      const char *text);

/* Closes the channel. None is fine. */
void predecessor_stop(struct predecessor *predecessor);

/* In a forked child: closes the channel. */
void predecessor_abandon(const struct predecessor *predecessor);

/* Where this process was started for an upgrade, and cannot even begin: tells why. */
void predecessor_refuse(const char *problem);

#endif
