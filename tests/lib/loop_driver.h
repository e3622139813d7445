/* lib/loop_driver.h - driving a loop from a test: until something happened, or through time.
 *
 * Loop:   of the test's thread; none of this may be called from within a turn.
 * Memory: nothing is kept; descriptors that are made belong to the test.
 * Limits: a wait that takes longer than DRIVER_SECONDS of real time fails the test.
 */
#ifndef WEFT_TESTS_LIB_LOOP_DRIVER_H
#define WEFT_TESTS_LIB_LOOP_DRIVER_H

#include "loop/loop.h"
#include <stdbool.h>
#include <stdint.h>

/* How long any wait may take: far more than a slow machine under sanitizers wants. */
enum { DRIVER_SECONDS = 20 };

/* Turns until `*is_done`; with a real clock the loop sleeps in between, with a fake one it only
 * turns. Fails the test where that does not happen in DRIVER_SECONDS. */
void run_until(struct loop *loop, const bool *is_done);

/* The same, until `*count` is at least `wanted`. */
void run_until_count(struct loop *loop, const uint32_t *count, uint32_t wanted);

/* `count` turns that do not sleep: enough for what needs nobody else. */
void run_turns(struct loop *loop, uint32_t count);

/* Turns for `ms` of real time: to see that something does not happen, on a loop with a real
 * clock. */
void run_for(struct loop *loop, uint32_t ms);

/* A clock that a test moves. It starts at a whole second that is not 0. */
struct fake_clock {
    uint64_t now_us; /* what the loop reads at its next turn */
};

/* A loop on `clock`, which is set to its start; it never sleeps. */
struct loop *fake_clock_loop(struct fake_clock *clock);

/* Moves the clock by `ms` at once, and turns once. */
void fake_clock_jump(struct fake_clock *clock, struct loop *loop, uint64_t ms);

/* Moves the clock by `ms`, a millisecond and a turn at a time. */
void fake_clock_walk(struct fake_clock *clock, struct loop *loop, uint32_t ms);

/* Two connected Unix stream sockets, CLOEXEC and NONBLOCK. */
void pair_unix(int fds[2]);

/* Two ends of a TCP connection over 127.0.0.1, CLOEXEC and NONBLOCK: for what Unix sockets do not
 * do, such as a reset. */
void pair_tcp(int fds[2]);

/* Closes a TCP socket so that its peer gets a reset; *fd is -1 afterwards. */
void close_with_reset(int *fd);

/* Closes `*fd` unless it is -1; it is -1 afterwards. */
void close_fd(int *fd);

/* Writes all of `text`, which must fit into the socket's buffer. */
void peer_send(int fd, const char *text);

/* What there is to be read without waiting, up to size - 1 bytes, with a NUL behind it. The count;
 * 0 also for end of file, which sets *is_end where that is not NULL. */
size_t peer_read(int fd, char *text, size_t size, bool *is_end);

/* How many descriptors this process has open: for tests that none is lost. */
uint32_t open_fds(void);

#endif
