/* lib/peer.h - a scripted server: a test accepts its connections and says what it likes on them.
 *
 * It has no part in the loop: the calls that wait turn the loop until the client under test has
 * done what is waited for. Use peer_send(), close_fd() and close_with_reset() of lib/loop_driver.h
 * for the rest.
 * Loop:   of the test's thread; none of this may be called from within a turn.
 * Memory: embedded in the test; connections are the test's to close.
 * Limits: waiting longer than DRIVER_SECONDS fails the test.
 */
#ifndef WEFT_TESTS_LIB_PEER_H
#define WEFT_TESTS_LIB_PEER_H

#include "loop/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A listening socket on 127.0.0.1. */
struct peer {
    struct loop *loop; /* the client's, which is turned */
    int fd;            /* -1: closed, connecting to it is refused */
    uint16_t port;     /* chosen by the kernel */
    char url[40];      /* http://127.0.0.1:port */
};

/* Listens on a port of its own. */
void peer_init(struct peer *peer, struct loop *loop);

/* Stops listening. Twice is fine. */
void peer_deinit(struct peer *peer);

/* The next connection, non-blocking; waits for it. */
int peer_accept(struct peer *peer);

/* Is a connection waiting to be accepted? */
bool peer_has_client(const struct peer *peer);

/* Waits until a whole request was received on `fd`, with the body that its Content-Length says, and
 * nothing behind it. `text` gets it, with a NUL; it must fit into `size`. */
void peer_request(struct peer *peer, int fd, char *text, size_t size);

/* Waits until the client has closed or reset the connection; then closes it here. */
void peer_wait_closed(struct peer *peer, int *fd);

/* Has the client closed or reset it by now? */
bool peer_is_closed(int fd);

#endif
