/* server/crash.h - what a worker says as it crashes: one line in the error log, and a backtrace.
 *
 * On SIGSEGV, SIGBUS, SIGABRT, SIGFPE or SIGILL a handler on a stack of its own writes signal,
 * address, plugin, route and request, and that a fiber's stack has overflown where it has; then the
 * signal takes its course, so that a core is made where cores are, and the master sees it.
 * A signal that somebody handles already, such as a sanitizer, is left to them. An exit() that
 * nobody has allowed is told in the same way.
 * Loop:   of the process; the handler runs on the thread whose fault it is. The loop's and helper
 *         threads have a stack for it; on a plugin's own thread an overflow is not told.
 * Memory: what it is given must stay until the process ends or something else is given.
 */
#ifndef WEFT_SERVER_CRASH_H
#define WEFT_SERVER_CRASH_H

struct blame;
struct fiber_pool;

/* Installs it, in a worker, once the log is set up and before any code of a plugin runs. `process`
 * is how the worker calls itself in the log; `blame` may be NULL. */
void crash_install(const char *process, struct blame *blame);

/* The worker's own end has come: exit() is no surprise from here on. */
void crash_allow_exit(void);

/* The fibers whose guard pages tell an overflow; NULL: none any more. */
void crash_watch_fibers(const struct fiber_pool *fibers);

#endif
