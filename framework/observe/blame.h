/* observe/blame.h - who is to blame: a page in which a worker notes whose code it runs.
 *
 * The master makes one for each worker slot before it forks, and reads it when the worker has died
 * or does not turn any more. The worker names plugins and routes at its start and notes an index
 * before each entry into plugin code, so an entry costs a few plain stores.
 * Loop:   written by one worker's loop thread; read by the master, at any time.
 * Memory: shared and anonymous; the pages of names that nobody wrote cost nothing. A plugin may
 *         have overwritten it: whoever reads trusts no byte of it.
 * Limits: BLAME_NAMES_MAX names; longer names are cut.
 */
#ifndef WEFT_OBSERVE_BLAME_H
#define WEFT_OBSERVE_BLAME_H

#include "base/check.h"
#include "base/clock.h"
#include "base/span.h"
#include "observe/metrics.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names in a page, the host's own and the last one, which all further routes share, among them;
 * sizes of their texts with the NUL. */
enum { BLAME_NAMES_MAX = 16384, BLAME_PLUGIN_SIZE = 48, BLAME_ROUTE_SIZE = 80 };

/* The index that stands for the host itself. */
enum { BLAME_HOST = 0 };

/* What a route has done and cost. Written by one thread with plain stores; readers may see one
 * number newer than another. */
struct blame_tally {
    uint64_t refused;         /* requests that were answered with 400 to 498 */
    uint64_t failed;          /* the same with 500 and more */
    uint64_t gone;            /* requests that were left by the client (499), or cut off */
    uint64_t busy_ticks;      /* that its code was running on the loop: clock_ticks() */
    uint64_t longest_ticks;   /* the most of that at one time */
    uint64_t live;            /* ctx that live, children included: as of the last count, as are: */
    uint64_t live_bytes;      /* of their memory */
    uint64_t live_ops;        /* of their ops, those that are pending */
    struct histogram latency; /* of all requests that are over: first byte in to last byte out */
};

/* What an index stands for. */
struct blame_name {
    char plugin[BLAME_PLUGIN_SIZE]; /* the instance's name in server.ini */
    char route[BLAME_ROUTE_SIZE];   /* "GET /books/:id", or "(init)" and the like */
    uint64_t entries;               /* how often it was entered */
    struct blame_tally tally;       /* of the host itself: requests that found no route */
};

/* One worker's page. */
struct blame {
    uint64_t turn;                            /* turns of the loop so far: the heartbeat */
    uint64_t since_ticks;                     /* when what runs now was entered, or gone on with */
    uint64_t turn_start_us;                   /* when this one began, monotonic; 0: it sleeps */
    uint64_t request;                         /* the id of the request that is being served, or 0 */
    uint64_t last_request;                    /* the same of whoever was entered last */
    uint64_t thread_request;                  /* of thread_index */
    uint64_t entries;                         /* into plugin code, in all */
    uint32_t index;                           /* whose code is running: of `names` */
    uint32_t last_index;                      /* whose was entered last, running or not */
    uint32_t thread_index;                    /* whose work crashed on a helper thread; 0: none's */
    uint32_t count;                           /* of `names` */
    struct blame_name names[BLAME_NAMES_MAX]; /* the first is the host's */
};

/* What was running when a page was read. */
struct blame_culprit {
    char plugin[BLAME_PLUGIN_SIZE]; /* "" : the host itself */
    char route[BLAME_ROUTE_SIZE];   /* "" : the host itself */
    uint64_t request;               /* 0: none */
    bool is_past;                   /* the host itself ran, and these were entered last */
};

/* Room for blame_describe(), with the NUL. */
enum { BLAME_TEXT_SIZE = 768 };

/* A page for one worker slot; to be made before the fork. Never NULL. */
struct blame *blame_create(void) __attribute__((returns_nonnull));

/* Unmaps it; NULL is fine. */
void blame_destroy(struct blame *page);

/* Makes it as new, for the slot's next worker. NULL is fine. */
void blame_reset(struct blame *page);

/* The worker, at start: a new index for `route` of `plugin`. Once the page is full, the index of a
 * name that says so. BLAME_HOST for a NULL page. */
uint32_t blame_name(struct blame *page, struct span plugin, struct span route);

/* The master: copies what was running, on a helper thread where that is what crashed. NULL: the
 * host. */
void blame_read(const struct blame *page, struct blame_culprit *culprit);

/* The same; where the host itself was running, whoever was entered last, with `is_past`: a heap
 * that a plugin has ruined is noticed later. */
void blame_read_last(const struct blame *page, struct blame_culprit *culprit);

/* What blame_read() answers as text for a log line, `plugin=books route="GET /books/:id"
 * request=0000010000000011`, or `plugin=- route=- request=-` for the host; ended by a NUL and cut
 * at `size`. Returns its length. */
size_t blame_describe(const struct blame *page, char *text, size_t size);

/* Counts the time since whoever runs was entered, and starts anew: for entries within another one.
 * Never NULL. */
static inline void blame_charge(struct blame *page)
{
    struct blame_tally *tally = &page->names[page->index].tally;
    uint64_t now = clock_ticks(), ran = now - page->since_ticks;

    page->since_ticks = now;
    if (page->index == BLAME_HOST)
        return;
    tally->busy_ticks += ran;
    if (ran > tally->longest_ticks)
        tally->longest_ticks = ran;
}

/* Counts a request that is over: `status` of its answer, 0: it was cut off. NULL is fine. */
void blame_request(struct blame *page, uint32_t index, uint32_t status, uint64_t us);

/* The worker, before each entry into plugin code: `index` runs now, for `request` (or 0). NULL is
 * fine. */
static inline void blame_enter(struct blame *page, uint32_t index, uint64_t request)
{
    if (page == NULL)
        return;
    CHECK(index < BLAME_NAMES_MAX);
    blame_charge(page);
    page->request = page->last_request = request;
    page->index = page->last_index = index;
    page->entries++;
    page->names[index].entries++;
}

/* The worker, when plugin code has come back: the host runs. NULL is fine. */
static inline void blame_leave(struct blame *page)
{
    if (page == NULL)
        return;
    blame_charge(page);
    page->index = BLAME_HOST;
    page->request = 0;
}

/* A helper thread that crashes in plugin code that was given to it: `index` as above. NULL is fine.
 * Async-signal-safe. */
static inline void blame_thread(struct blame *page, uint32_t index, uint64_t request)
{
    if (page == NULL)
        return;
    page->thread_request = request;
    page->thread_index = index;
}

/* The worker, as a turn of its loop begins at `now_us`. NULL is fine. */
static inline void blame_turn(struct blame *page, uint64_t now_us)
{
    if (page == NULL)
        return;
    __atomic_store_n(&page->turn_start_us, now_us, __ATOMIC_RELAXED);
    __atomic_store_n(&page->turn, page->turn + 1, __ATOMIC_RELEASE);
}

/* The worker, as it goes to sleep until something happens. NULL is fine. */
static inline void blame_sleep(struct blame *page)
{
    if (page != NULL)
        __atomic_store_n(&page->turn_start_us, 0, __ATOMIC_RELAXED);
}

#endif
