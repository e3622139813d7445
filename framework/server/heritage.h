/* server/heritage.h - what a master leaves to the one that follows it in an upgrade: the listening
 * sockets, that of the admin listener, the host's folder with its lock, and a channel between the
 * two.
 *
 * Descriptors go through exec() under their numbers; a variable of the environment says which they
 * are. It begins with the number of its form, since the two programs are of different versions.
 * Memory: plain values; the descriptors are the reader's from heritage_read() on.
 */
#ifndef WEFT_SERVER_HERITAGE_H
#define WEFT_SERVER_HERITAGE_H

#include "base/error.h"
#include "settings/ini.h"
#include <limits.h>
#include <stdint.h>

struct host;
struct sockets;

struct heritage {
    int channel;           /* to the master before (server/predecessor.h); -1: there is none */
    int lock_fd;           /* of the folder's pid file */
    uint32_t generation;   /* the number of ours */
    int admin;             /* socket of the admin listener; -1: there is none */
    bool is_admin_handed;  /* it is the service manager's */
    char folder[PATH_MAX]; /* the host's */
};

/* The master before: puts into the environment what it has, for generation `number`, and has these
 * descriptors outlive exec(). In the forked child, which is about to exec(). */
void heritage_leave(const struct host *host, int channel, uint32_t number);

/* Takes all of it over, the sockets as well, and out of the environment. ERR_NOT_FOUND: this is no
 * upgrade. ERR_INVALID: `problem` says what is wrong, and sockets are closed. */
enum err heritage_read(struct heritage *heritage, struct sockets *sockets,
                       char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* The channel alone, for who cannot even begin; -1: this is no upgrade. Nothing is taken. */
int heritage_channel(void);

#endif
