/* server/hang.h - what a worker says of itself while it hangs: a line, and a backtrace.
 *
 * The master sees in the page of blame that a turn does not end, and asks with a signal, which the
 * worker's handler answers in the middle of whatever runs. A sleep() or poll() of a plugin comes
 * back early by that.
 * Loop:   the handler runs on the loop's thread.
 * Memory: what it is given must stay until the process ends.
 */
#ifndef WEFT_SERVER_HANG_H
#define WEFT_SERVER_HANG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct blame;

/* The worker, before its loop turns. */
void hang_install(const struct blame *blame);

/* The master: has the process tell where it is, if it is still in that turn. False: it is gone. */
bool hang_ask(pid_t pid, uint64_t turn);

/* Is the process stopped, by a signal or a debugger? False where nobody can tell. */
bool hang_is_stopped(pid_t pid);

#endif
