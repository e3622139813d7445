/* upstream/names.h - where an upstream is, kept up to date: literal addresses, and names that are
 * looked up again in the background whenever their answers have run out.
 *
 * A look-up that fails leaves what was known; a name that is gone for certain has no addresses any
 * more.
 * Loop:   of one loop; the callback runs from the loop only.
 * Memory: embedded; owns its list. The places' texts are the caller's and outlive it.
 * Limits: UPSTREAM_PLACES_MAX places, RESOLVE_ADDRS_MAX addresses each.
 */
#ifndef WEFT_UPSTREAM_NAMES_H
#define WEFT_UPSTREAM_NAMES_H

#include "base/error.h"
#include "net/addr.h"
#include "upstream/url.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct name;
struct names;
struct resolver;

/* One of the places was answered: its addresses may be others than before, or the same. */
typedef void names_fn(struct names *names, void *data);

/* The places of an upstream. Zeroed: none. */
struct names {
    struct loop *_loop;         /* its loop */
    struct resolver *_resolver; /* for names */
    names_fn *_fn;              /* what runs */
    void *_data;                /* for _fn */
    struct name *_names;        /* one a place */
    uint32_t _count;            /* of _names */
    uint32_t _unanswered;       /* of them, without any answer yet */
    bool _is_started;           /* names_start() was called */
};

/* Asks nobody yet. `resolver` may be NULL where all places are literal. */
void names_init(struct names *names, struct loop *loop, struct resolver *resolver,
                const struct upstream_place *places, uint32_t count);

/* Gives up what is asked. Zeroed and twice is fine. */
void names_deinit(struct names *names);

/* From now on `fn` is told of each answer, and names are asked for again and again. Literal
 * addresses are known at once, without `fn`. */
void names_start(struct names *names, names_fn *fn, void *data);

/* Was it started? */
static inline bool names_are_started(const struct names *names)
{
    return names->_is_started;
}

/* Walks over what is known: start with *at == 0; NULL at the end. The same address may come
 * twice. */
const struct addr *names_next(const struct names *names, uint32_t *at);

/* Has every place been answered, with addresses or without? */
static inline bool names_are_answered(const struct names *names)
{
    return names->_is_started && names->_unanswered == 0;
}

/* Why there is no address: the last failure; ERR_OK where there was none. */
enum err names_error(const struct names *names);

#endif
