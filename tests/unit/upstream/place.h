/* upstream/place.h - where tests make calls: an upstream, its scripted server, and a scope.
 *
 * Loop:   the world's, on a fake clock; the peer's calls turn it.
 * Memory: the place is place_set_up()'s; connections of the peer are the test's to close.
 */
#ifndef WEFT_TESTS_UPSTREAM_PLACE_H
#define WEFT_TESTS_UPSTREAM_PLACE_H

#include "lib/dns_server.h"
#include "lib/peer.h"
#include "lib/task_world.h"
#include "lib/test.h"
#include "net/resolve.h"
#include "upstream/upstream.h"

/* An answer whose body is "hi". */
#define OK_HI "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

/* An upstream whose server is a scripted peer, and a scope to call it from. */
struct place {
    struct world world;                   /* clock, loop, tasks */
    struct dns_server dns;                /* knows api.test */
    struct resolver *resolver;            /* asks dns */
    struct upstream_options options;      /* short limits; for place_restart() */
    struct peer peer;                     /* the server */
    char name_url[64];                    /* of the peer, by a name that needs dns */
    struct upstream *upstream;            /* "partner" */
    const struct upstream_counts *counts; /* its */
    struct scope *scope;                  /* to call from */
    char text[8192];                      /* the last request that the peer read */
};

/* For cmocka: a place with the peer's url, and its end. */
int place_set_up(void **state);
int place_tear_down(void **state);

/* Ends the scope and begins another with this budget (0: none). */
void place_renew_scope(struct place *place, uint64_t budget_ms);

/* Begins anew with the options as they are now, at `url`, which must stay put. */
void place_restart(struct place *place, char *url);

/* Calls /quote; `method` may be NULL. */
struct op *place_call(struct place *place, const char *method, struct span body, uint32_t flags);

/* The same, a GET. */
struct op *place_get(struct place *place);

/* Turns until it has settled. */
void place_run(struct place *place, const struct op *op);

/* Accepts the next connection and reads a request from it; the peer's end. */
int place_take_call(struct place *place);

/* From now on connecting to the peer hangs: its queue is full of `fillers`, the test's to close. */
void place_hang(struct place *place, int fillers[2]);

/* It settles with that answer. */
void place_assert_answer(struct place *place, struct op *op, uint32_t code, const char *body);

/* It settles without one, says why, and has nothing to show. */
void place_assert_failed(struct place *place, struct op *op, enum err err, const char *reason);

/* A call that is answered, and whose connection is kept; the peer's end of that. */
int place_warm_up(struct place *place);

#endif
