/* pg/listen.h - LISTEN: what other sessions of the database NOTIFY, pulled one by one.
 *
 * Notifications come to the pool's control session (pg/control.h), which stays open while somebody
 * listens, and listens anew after it broke. Whoever may have missed some by that, or by being slow,
 * is told. However many listen to a channel, the server is asked for it once.
 * Loop:   of the pool's loop.
 * Memory: a notification is held once a channel, until everyone has pulled it; who listens has a
 *         copy of what was pulled last.
 * Limits: notify_queue of the options a channel, PG_PAYLOAD_MAX bytes each.
 */
#ifndef WEFT_PG_LISTEN_H
#define WEFT_PG_LISTEN_H

#include "pg/pool.h"
#include "task/op.h"

/* Bytes of a channel's name, and of what is sent to it: the server's own limits. */
enum { PG_CHANNEL_MAX = 63, PG_PAYLOAD_MAX = 8000 };

/* Listens to a channel, whose case counts: OK once the server has agreed; what is committed from
 * then on is heard, until the op is released. Errors: ERR_INVALID (no name that a channel may
 * have), ERR_UNSUPPORTED (behind a pooler), ERR_DB_DOWN (pg_down: no session within the time of the
 * pool's queue), what the server says, and those of op_init(). */
struct op *pg_listen(struct scope *scope, struct pg_pool *pool, const char *channel);

/* Pulls the next notification, as an op of the same scope: op->piece is its payload, with a NUL
 * behind it; absent: some may have been missed. Good until the next pull, or until `listening` is
 * released. A pull that is canceled loses none. ERR_STATE: not a pg_listen() that settled OK, or a
 * pull of it is pending. */
struct op *pg_listen_next(struct op *listening);

#endif
