/* server/changes.h - what of new settings a reload cannot bring about.
 *
 * Memory: none is kept.
 */
#ifndef WEFT_SERVER_CHANGES_H
#define WEFT_SERVER_CHANGES_H

#include "base/buf.h"
#include "server/settings.h"

/* Appends the names of the keys that differ in a way which wants a restart of the host, separated
 * by blanks; nothing where there are none. */
void changes_list(const struct settings *before, const struct settings *after, struct buf *keys);

#endif
