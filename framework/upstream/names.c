/* upstream/names.c - where an upstream is, kept up to date.
 *
 * A name:  ASKED ──▶ KNOWN (until its answer has run out) ──▶ ASKED
 *
 * The resolver keeps answers and failures for their time (net/resolve.h), so a name is asked for
 * again when that is over, and never more often.
 */
#include "upstream/names.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/timer.h"
#include "net/resolve.h"
#include <string.h>

struct name {
    struct names *names;                  /* whose */
    struct upstream_place place;          /* what is asked for */
    struct resolve resolve;               /* while it is asked */
    struct timer again;                   /* when it is asked next */
    struct addr addrs[RESOLVE_ADDRS_MAX]; /* what is known */
    uint32_t count;                       /* of addrs */
    enum err err;                         /* of the last look-up */
    bool is_literal;                      /* never asked */
    bool is_answered;                     /* once, at least */
};

/* A refused or lost question is not asked again at once, whatever the resolver says. */
enum { AGAIN_MS_MIN = 1000 };

static void on_again(struct timer *timer);

static void on_resolved(struct resolve *resolve, enum err err)
{
    struct name *name = CONTAINER_OF(resolve, struct name, resolve);
    struct names *names = name->names;

    name->err = err;
    if (err == ERR_OK) {
        memcpy(name->addrs, resolve->addrs, resolve->count * sizeof resolve->addrs[0]);
        name->count = resolve->count;
    } else if (err == ERR_UNKNOWN_NAME) {
        name->count = 0;
    }
    if (!name->is_answered) {
        CHECK(names->_unanswered > 0);
        names->_unanswered--;
    }
    name->is_answered = true;
    timer_start(names->_loop, &name->again,
                resolve->good_ms > AGAIN_MS_MIN ? resolve->good_ms : AGAIN_MS_MIN, on_again);
    names->_fn(names, names->_data);
}

static void ask(struct name *name)
{
    CHECK(!name->is_literal);
    resolve_start(name->names->_resolver, &name->resolve, name->place.host, name->place.port,
                  on_resolved);
}

static void on_again(struct timer *timer)
{
    ask(CONTAINER_OF(timer, struct name, again));
}

static bool is_literal(struct name *name)
{
    return addr_from_ip(name->place.host, name->place.port, &name->addrs[0]) ||
           (name->place.port == 0 && addr_parse(name->place.host, &name->addrs[0]));
}

void names_init(struct names *names, struct loop *loop, struct resolver *resolver,
                const struct upstream_place *places, uint32_t count)
{
    CHECK(count > 0);
    *names = (struct names){._loop = loop, ._resolver = resolver, ._count = count};
    names->_names = mem_calloc(count, sizeof *names->_names);
    for (uint32_t i = 0; i < count; i++) {
        struct name *name = &names->_names[i];

        name->names = names;
        name->place = places[i];
        name->is_literal = is_literal(name);
        name->count = name->is_literal ? 1 : 0;
        name->is_answered = name->is_literal;
        names->_unanswered += name->is_literal ? 0 : 1;
    }
}

void names_deinit(struct names *names)
{
    for (uint32_t i = 0; i < names->_count; i++) {
        if (!names->_names[i].is_literal && names->_is_started)
            resolve_cancel(&names->_names[i].resolve);
        timer_stop(&names->_names[i].again);
    }
    mem_free(names->_names);
    *names = (struct names){0};
}

void names_start(struct names *names, names_fn *fn, void *data)
{
    CHECK(!names->_is_started);
    names->_is_started = true;
    names->_fn = fn;
    names->_data = data;
    for (uint32_t i = 0; i < names->_count; i++)
        if (!names->_names[i].is_literal)
            ask(&names->_names[i]);
}

/* *at counts addresses: RESOLVE_ADDRS_MAX for each name. */
const struct addr *names_next(const struct names *names, uint32_t *at)
{
    while (*at / RESOLVE_ADDRS_MAX < names->_count) {
        const struct name *name = &names->_names[*at / RESOLVE_ADDRS_MAX];
        uint32_t index = *at % RESOLVE_ADDRS_MAX;

        if (index < name->count) {
            ++*at;
            return &name->addrs[index];
        }
        *at += RESOLVE_ADDRS_MAX - index;
    }
    return NULL;
}

enum err names_error(const struct names *names)
{
    enum err err = ERR_OK;

    for (uint32_t i = 0; i < names->_count; i++)
        if (names->_names[i].err != ERR_OK)
            err = names->_names[i].err;
    return err;
}
