/* server/activation.h - listening sockets that the service manager (systemd) has made and hands
 * over: $LISTEN_FDS of them, from descriptor 3 on.
 *
 * Their queues outlive us: who comes while no host runs waits for the next one.
 * Memory: plain values; a descriptor is its taker's.
 */
#ifndef WEFT_SERVER_ACTIVATION_H
#define WEFT_SERVER_ACTIVATION_H

#include "base/error.h"
#include "net/addr.h"
#include "settings/ini.h"
#include <stdint.h>

enum { ACTIVATION_MAX = 64 };

/* What was handed over and not taken yet. Zeroed: nothing. */
struct activation {
    struct {
        struct addr addr; /* it is bound to */
        int fd;           /* CLOEXEC, NONBLOCK; -1: it was taken */
    } _sockets[ACTIVATION_MAX];
    uint32_t _count; /* of them */
};

/* Finds what was handed over to this process, and takes the variables out of the environment. Once,
 * before anything else is opened. ERR_INVALID: a descriptor is no listening stream socket, or there
 * are too many; `problem` says which. */
enum err activation_find(struct activation *activation, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* The socket that is bound to `addr`, the caller's from here; -1: none was handed over. */
int activation_take(struct activation *activation, const struct addr *addr);

/* Closes what nobody has taken, and logs each: no `listen` names it. */
void activation_close(struct activation *activation);

#endif
