/* server/orphan.h - a worker whose master has died: it ends by itself, also where a plugin keeps it
 * from ever looking.
 *
 * That the master has gone is heard on the channel. Where nobody listens there, because plugin code
 * does not return, the kernel ends the process: no orphan keeps a port.
 * Loop:   of the process; once, before other threads are started.
 */
#ifndef WEFT_SERVER_ORPHAN_H
#define WEFT_SERVER_ORPHAN_H

#include <stdint.h>
#include <sys/types.h>

/* From here on the end of `master`, our parent, sets an alarm that ends this process after 2 s; to
 * be called again after the process has become another user's. Ends it at once where the master
 * has died before. */
void orphan_watch(pid_t master);

/* We have heard: the alarm comes after `ms` instead, for an orderly end. */
void orphan_heard(uint64_t ms);

#endif
