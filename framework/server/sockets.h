/* server/sockets.h - the listening sockets of the host: one for each slot and address.
 *
 * The master makes them and keeps them for as long as it lives: closing one resets the clients that
 * are queued on it. Workers inherit all of them.
 * Memory: embedded in the master; the settings are the caller's and outlive it.
 */
#ifndef WEFT_SERVER_SOCKETS_H
#define WEFT_SERVER_SOCKETS_H

#include "base/error.h"
#include "server/settings.h"
#include <stdint.h>

struct sockets {
    const struct settings *_settings; /* how many, and where */
    int (*_fds)[SETTINGS_LISTEN_MAX]; /* a row for each slot, an fd for each address; -1: none */
};

/* Makes none yet. */
void sockets_init(struct sockets *sockets, const struct settings *settings);

/* Binds and listens, for every slot. What fails is logged with the address and the reason. The
 * first slot's are bound before SO_REUSEPORT is set, so that a second host is refused unless
 * it has reuseport = on itself. */
enum err sockets_open(struct sockets *sockets) __attribute__((warn_unused_result));

/* Those of `slot`, one for each of settings->listen. */
const int *sockets_of(const struct sockets *sockets, uint32_t slot);

/* Copies those of all other slots to `others` (room for workers * SETTINGS_LISTEN_MAX); returns how
 * many. */
uint32_t sockets_of_others(const struct sockets *sockets, uint32_t slot, int *others);

/* Nobody will accept from those of `slot` any more, and the kernel would go on queueing clients
 * there: takes them out of the group that shares the address, in every process. */
void sockets_retire(struct sockets *sockets, uint32_t slot);

/* For good: no new client is queued (the workers accept those who are), ours are closed, files of
 * Unix sockets removed. Twice is fine. */
void sockets_close(struct sockets *sockets);

/* Closes and frees. */
void sockets_deinit(struct sockets *sockets);

#endif
