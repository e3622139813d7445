/* server/census.h - what all workers have done and have, added up: by plugin and route, by pool,
 * statement and upstream.
 *
 * Counters of workers that are gone are kept in a census of their own and added, so that they never
 * go back.
 * Loop:   none: plain values.
 * Memory: grows with the names it hears; census_deinit() frees it.
 * Limits: CENSUS_ROWS_MAX rows of each kind; what is beyond is left out. Numbers that no worker can
 *         have reached are those of a ruined page, and left out too.
 */
#ifndef WEFT_SERVER_CENSUS_H
#define WEFT_SERVER_CENSUS_H

#include "base/table.h"
#include "observe/blame.h"
#include "server/board.h"
#include "server/quarantine.h"

enum { CENSUS_ROWS_MAX = 32768 };

struct census_route {
    char plugin[BLAME_PLUGIN_SIZE]; /* "" : the host itself, requests without a route */
    char route[BLAME_ROUTE_SIZE];   /* the same */
    struct blame_tally tally;       /* added up; longest_ticks: the longest */
    uint64_t crashes;               /* of workers, in it */
    uint64_t stalls;                /* turns that took too long, in it */
    bool is_closed;                 /* in quarantine */
};

/* Rows of one kind, found again by their names. */
struct census_rows {
    void *at;           /* `count` of them */
    uint32_t count;     /* of at */
    uint32_t _size;     /* room at `at` */
    struct table _keys; /* name -> index + 1 */
};

struct census {
    struct census_rows routes;      /* struct census_route */
    struct census_rows pools;       /* struct board_pool */
    struct census_rows statements;  /* struct board_statement */
    struct census_rows upstreams;   /* struct board_upstream */
    struct census_rows reasons;     /* struct http_reason */
    struct http_server_counts http; /* but for its reasons */
    uint64_t access_dropped;        /* lines of access logs */
    uint64_t log_dropped;           /* the same of error logs */
};

/* An empty one. */
void census_init(struct census *census);

/* Frees the rows. Twice is fine. */
void census_deinit(struct census *census);

/* Adds what a worker has shown; gauges, such as sessions that are open, only where it
 * `is_alive`. */
void census_add(struct census *census, const struct blame *page, const struct board *board,
                bool is_alive);

/* Adds another census. */
void census_merge(struct census *census, const struct census *other);

/* Adds who was blamed for crashes and stalls. */
void census_blame(struct census *census, const struct quarantine *book);

/* Row number `index` of each kind; below its count. */
static inline struct census_route *census_route(const struct census *census, uint32_t index)
{
    return (struct census_route *)census->routes.at + index;
}

#endif
