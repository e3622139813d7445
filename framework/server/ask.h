/* server/ask.h - the side of a command (`weft reload`, `weft stop`) that talks to a running host.
 *
 * Loop:   of none: waits, 10 s without a sign of life from the host at most.
 * Memory: plain values.
 */
#ifndef WEFT_SERVER_ASK_H
#define WEFT_SERVER_ASK_H

/* Exit codes beside those that the host gives: it could not be done, or there is no host. */
enum { ASK_EXIT_FAILED = 1, ASK_EXIT_NO_HOST = 3 };

/* Has the host that runs with the settings in `ini`, whatever else is wrong with them, obey `line`
 * (server/control.h), and copies what it says to standard output and standard error. `overrides`
 * are settings of the command line (settings_load()); server.control and server.runtime_dir count.
 * Returns the exit code. */
int ask_host(const char *ini, const char *const *overrides, const char *line);

#endif
