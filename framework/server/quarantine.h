/* server/quarantine.h - routes whose plugin has taken workers down again and again, and which are
 * answered 503 until a reload, so that all else is served.
 *
 * The master counts deaths by plugin and route and writes the list; workers read it, and take it
 * over at their start and at the beginning of a turn after it has changed.
 * Loop:   the counting of the master's; the shared list is read by every worker.
 * Memory: the list is shared and anonymous, made before the first fork; a worker seals it, so that
 *         no plugin can write there.
 * Limits: QUARANTINE_MAX routes are closed; as many culprits are remembered, the one heard of last
 *         longest.
 */
#ifndef WEFT_SERVER_QUARANTINE_H
#define WEFT_SERVER_QUARANTINE_H

#include "observe/blame.h"

struct http_route;
struct router;

enum { QUARANTINE_MAX = 256, QUARANTINE_LIMIT_MAX = 32 };

/* What workers are told. */
struct quarantine_list {
    uint32_t version; /* changes with the list */
    uint32_t count;   /* of routes */
    struct {
        char plugin[BLAME_PLUGIN_SIZE]; /* the instance */
        char route[BLAME_ROUTE_SIZE];   /* "GET /books/:id", as in the page of blame */
    } routes[QUARANTINE_MAX];
};

/* One who has been blamed. */
struct quarantine_culprit {
    char plugin[BLAME_PLUGIN_SIZE];
    char route[BLAME_ROUTE_SIZE];         /* "(background)", "(init)": its own jobs; never closed */
    uint64_t crashes;                     /* workers that died in it, ever */
    uint64_t recent;                      /* of them, since the routes were last opened */
    uint64_t stalls;                      /* turns of it that took too long */
    uint64_t heard_ms;                    /* when it was blamed last */
    uint64_t times[QUARANTINE_LIMIT_MAX]; /* of its last crashes, a ring by `recent` */
    bool is_closed;                       /* in the list */
};

/* The master's book. Embed it. */
struct quarantine {
    struct quarantine_list *list;                       /* shared */
    uint32_t limit;                                     /* crashes; 0: no route is ever closed */
    uint32_t window_ms;                                 /* within which they count */
    uint32_t count;                                     /* of culprits */
    struct quarantine_culprit culprits[QUARANTINE_MAX]; /* in no order */
};

/* An empty book. Aborts where there is no memory to share. */
void quarantine_init(struct quarantine *book, uint32_t limit, uint32_t window_ms);

/* Twice, and zeroed, is fine. */
void quarantine_deinit(struct quarantine *book);

/* A worker died in the culprit's code. True: its route is closed from now on, and that was told in
 * the log. */
bool quarantine_note_crash(struct quarantine *book, const struct blame_culprit *culprit,
                           uint64_t now_ms);

/* A turn took too long in it. */
void quarantine_note_stall(struct quarantine *book, const struct blame_culprit *culprit,
                           uint64_t now_ms);

/* New settings or plugins serve: every route is open again, and
 * crashes of before do not count against it. */
void quarantine_clear(struct quarantine *book, uint32_t limit, uint32_t window_ms);

/* ---- the worker ---- */

/* Nothing may write to it in this process any more. NULL is fine. */
void quarantine_seal(const struct quarantine_list *list);

/* Closes and opens the router's routes by the list, if that has changed since `*version`, 0 at
 * first. A NULL list: nothing. */
void quarantine_apply(const struct quarantine_list *list, uint32_t *version, struct router *router);

#endif
