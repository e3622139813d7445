/* server/exposition.h - what the host has counted, as Prometheus reads it: /metrics.
 *
 * All workers are added up, those that are gone too, so that no counter goes back but with the
 * host's end.
 * Memory: keeps nothing.
 */
#ifndef WEFT_SERVER_EXPOSITION_H
#define WEFT_SERVER_EXPOSITION_H

#include "base/buf.h"

struct status;

/* Appends all of it (exposition format 0.0.4). `status` is gathered. */
void exposition_text(const struct status *status, struct buf *out);

#endif
