/* server/filter.h - which system calls a worker may make (seccomp), once its plugins are loaded.
 *
 * What handlers and the host's own libraries need is allowed: files, sockets of the internet and of
 * Unix, memory, threads, time. Anything else fails with EPERM, and the log names the call, and the
 * plugin and route that it was made in: other processes (fork, exec, ptrace, signals to others),
 * mounts, modules, keys, raw sockets, and all that the kernel will think of.
 * Loop:   of a worker; once.
 * Memory: keeps the names of the calls for the life of the process.
 */
#ifndef WEFT_SERVER_FILTER_H
#define WEFT_SERVER_FILTER_H

#include "base/error.h"
#include "base/span.h"
#include <stdbool.h>

enum { FILTER_PROBLEM_SIZE = 128 };

/* Is there a system call of that name? */
bool filter_knows(struct span name);

/* From here on, and for good, on all threads: only what is allowed, and the calls that `more`
 * names, with blanks between. Needs no-new-privileges, or root. ERR_IO: `problem` says what cannot
 * be done. */
enum err filter_install(const char *more, char problem[FILTER_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
