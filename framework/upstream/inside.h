/* upstream/inside.h - what the files of this room share. */
#ifndef WEFT_UPSTREAM_INSIDE_H
#define WEFT_UPSTREAM_INSIDE_H

#include "base/buf.h"
#include "upstream/breaker.h"
#include "upstream/exchange.h"
#include "upstream/origin.h"
#include "upstream/retry.h"
#include "upstream/upstream.h"
#include "upstream/url.h"

#define UPSTREAM_MAGIC 0x75707374u

struct upstream {
    uint32_t magic;                         /* UPSTREAM_MAGIC */
    char *name;                             /* of the section */
    struct loop *loop;                      /* its loop */
    const struct upstream_options *options; /* the caller's */
    struct upstream_url url;                /* slices of options->url */
    struct buf_pool buffers;                /* for connections and bodies */
    struct tls_context *tls;                /* NULL: without TLS */
    struct exchange_shared exchanges;       /* what they share */
    struct origin origin;                   /* the connections */
    struct line line;                       /* before the connections, as newcomers see it */
    struct retry_budget budget;             /* for calls that are sent again */
    struct breaker breaker;                 /* stops calls when most fail */
    struct histogram times;                 /* of the calls, failed ones too */
    struct upstream_counts counts;          /* for whoever asks */
    struct list flights;                    /* shared ones (flight.h), oldest first */
    uint32_t alive;                         /* calls that were not released */
};

/* ---- notes.c ---- */

/* A call of it has settled, canceled too, `us` after its start: counted, and logged where it was
 * slow. */
void upstream_note_settled(struct upstream *upstream, const struct op *op, uint64_t us);

#endif
