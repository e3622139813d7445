/* server/cores.h - how many processors there are for us: what `workers = auto` means. */
#ifndef WEFT_SERVER_CORES_H
#define WEFT_SERVER_CORES_H

#include "base/span.h"
#include <stdint.h>

/* The processors that this process may run on, or fewer where a cgroup's quota of processor time
 * grants less (rounded up); at least 1. */
uint32_t cores_available(void);

/* What the text of a cgroup's cpu.max ("200000 100000", "max 100000") grants, rounded up; 0: no
 * limit, or no such text. */
uint32_t cores_of_quota(struct span text);

#endif
