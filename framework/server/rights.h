/* server/rights.h - what a process of the host may do: as whom it runs, and with which limits.
 *
 * The master keeps the rights it was started with: it binds ports, reads secrets and opens logs
 * anew. A worker loads the plugins with them and then gives them up for good: it becomes `user`,
 * and can neither come back nor gain rights by what it executes.
 * Memory: plain values.
 */
#ifndef WEFT_SERVER_RIGHTS_H
#define WEFT_SERVER_RIGHTS_H

#include "base/error.h"
#include <stdbool.h>
#include <sys/types.h>

struct server_options;

/* As whom workers run. Zeroed: as whoever the master is. */
struct rights {
    bool has_user;  /* uid is set */
    bool has_group; /* gid is set, as it is where there is a user */
    uid_t uid;      /* the user */
    gid_t gid;      /* the group */
};

/* What the setting core_dumps may say. */
enum { RIGHTS_CORES_INHERIT, RIGHTS_CORES_ON, RIGHTS_CORES_OFF };

/* Room for what is wrong, with the NUL. */
enum { RIGHTS_PROBLEM_SIZE = 256 };

/* Looks user and group up, by name or by number. ERR_INVALID: there is none, or this process may
 * not become it; `key` is the setting's, and `problem` says what is wrong with it. */
enum err rights_find(const struct server_options *options, struct rights *rights, const char **key,
                     char problem[RIGHTS_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* The master, at its start: sets how many files a process may have open. */
void rights_start(const struct server_options *options);

/* The master, once it serves: warns where plugins run as root and nobody has said so. */
void rights_warn(const struct rights *rights);

/* The master, before workers open or reopen their logs: makes the files where there are none, and
 * the workers' user their owner. What cannot be done is logged. */
void rights_own_logs(const struct server_options *options, const struct rights *rights);

/* The worker, before any thread is started: no new privileges, and core dumps as configured. */
void rights_limit(const struct server_options *options);

/* The worker, once the plugins are loaded, with all of its threads: becomes user and group. ERR_IO:
 * `problem` says what cannot be done. The signal of the parent's death is to be asked for again. */
enum err rights_drop(const struct server_options *options, const struct rights *rights,
                     char problem[RIGHTS_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
