/* server/board.h - what a worker shows of itself: memory that the master shares with it.
 *
 * Counters of HTTP are always up to date. The rest is shown once a second, and soon after the
 * master has asked: a worker that hangs leaves what it has shown last.
 * Loop:   written by one worker's loop thread; read by the master, at any time.
 * Memory: shared and anonymous, made before the fork, one a worker; what nobody wrote costs
 *         nothing. A plugin may have overwritten it: whoever reads trusts no byte of it.
 * Limits: what is beyond the counts below is not shown.
 */
#ifndef WEFT_SERVER_BOARD_H
#define WEFT_SERVER_BOARD_H

#include "http/server.h"
#include "observe/metrics.h"
#include "pg/pool.h"
#include "upstream/upstream.h"

enum {
    BOARD_POOLS_MAX = 64,
    BOARD_UPSTREAMS_MAX = 256,
    BOARD_STATEMENTS_MAX = 1024,
    BOARD_REQUESTS_MAX = 256,
    BOARD_NAME_SIZE = 64,  /* of names of sections and statements, with the NUL */
    BOARD_ROUTE_SIZE = 80, /* of routes */
    BOARD_TEXT_SIZE = 192, /* of what is awaited */
};

/* READY: it accepts as soon as it has seen the master's word. */
enum board_state { BOARD_STARTING, BOARD_READY, BOARD_SERVING, BOARD_HOLDING, BOARD_DRAINING };

struct board_pool {
    char name[BOARD_NAME_SIZE];   /* "main" */
    struct pg_pool_counts counts; /* see there */
};

struct board_statement {
    char pool[BOARD_NAME_SIZE]; /* whose */
    char name[BOARD_NAME_SIZE]; /* as it was declared */
    uint64_t failed;            /* of its runs */
    struct histogram times;     /* of all */
};

struct board_upstream {
    char name[BOARD_NAME_SIZE];    /* "partner" */
    struct upstream_counts counts; /* see there */
    struct histogram times;        /* of its calls */
};

/* A request under way. */
struct board_request {
    uint64_t id;                  /* as in the logs */
    uint64_t age_us;              /* since its first byte, when it was shown */
    char plugin[BOARD_NAME_SIZE]; /* "" : it has no route yet */
    char route[BOARD_ROUTE_SIZE]; /* the same */
    char awaits[BOARD_TEXT_SIZE]; /* what it waits for */
};

struct board {
    struct http_server_counts http; /* counted in place */
    uint32_t state;                 /* enum board_state */
    uint32_t asked;                 /* the master's; each question is a number more */
    uint32_t answered;              /* the last question that was answered, requests too */
    uint32_t fibers;                /* that live */
    uint32_t fibers_high;           /* the most there were */
    uint32_t fiber_stack;           /* bytes that each has */
    uint32_t fiber_stack_high;      /* the most of them that were ever used, in whole pages */
    uint32_t pool_count;            /* of pools */
    uint32_t upstream_count;        /* of upstreams */
    uint32_t statement_count;       /* of statements */
    uint32_t request_count;         /* of requests, the oldest ones */
    uint64_t access_dropped;        /* lines of the access log that were lost */
    uint64_t log_dropped;           /* of the error log */
    struct board_pool pools[BOARD_POOLS_MAX];
    struct board_upstream upstreams[BOARD_UPSTREAMS_MAX];
    struct board_request requests[BOARD_REQUESTS_MAX];
    struct board_statement statements[BOARD_STATEMENTS_MAX];
};

/* Zeroed. Aborts where there is no memory to share. */
struct board *board_create(void) __attribute__((returns_nonnull));

/* Unmaps it; NULL is fine. */
void board_destroy(struct board *board);

/* Makes it as new, for the slot's next worker. NULL is fine. */
void board_reset(struct board *board);

#endif
