/* upstream/request.h - a call to the bytes of its request.
 *
 * Host and framing are written here and nowhere else, and nothing of a handler's gets into the head
 * that could end a line.
 * Memory: the bytes lie in the scope's arena, so that a call can wait in line, or be sent again.
 */
#ifndef WEFT_UPSTREAM_REQUEST_H
#define WEFT_UPSTREAM_REQUEST_H

#include "base/span.h"
#include "upstream/upstream.h"
#include <stdbool.h>

struct scope;

/* Room for what is wrong with a call. */
enum { UPSTREAM_PROBLEM_SIZE = 160 };

/* May `call` be sent? False: `problem` says why not, for people. */
bool upstream_request_check(const struct upstream_call *call, char problem[UPSTREAM_PROBLEM_SIZE]);

/* May these stand behind a body? */
bool upstream_trailers_check(const struct http_field *fields, uint32_t count);

/* May a handler set a field of that name? */
bool upstream_is_field_name(struct span name);

/* What goes along with each call; absent: does not. */
struct upstream_extras {
    struct span traceparent;  /* of the request that is served, well-formed */
    struct span tracestate;   /* the same; only with a traceparent */
    struct span budget_field; /* the name of the field that tells the milliseconds left */
    bool decodes;             /* gzip is welcome */
};

/* Those of a call in `scope`. */
struct upstream_extras upstream_extras_of(const struct scope *scope,
                                          const struct upstream_options *options,
                                          const struct upstream_call *call);

/* A request. */
struct upstream_request {
    struct span bytes; /* head and body, in the scope's arena; absent: beyond scope_room() */
    char *budget;      /* the value of the budget's field, in bytes; NULL: there is none */
};

/* Says how many milliseconds are left. */
void upstream_request_set_budget(const struct upstream_request *request, uint64_t ms);

/* Head and body of `call`, which was checked, to the server at `url`. Absent: beyond
 * scope_room(), and the scope is canceled. */
struct upstream_request upstream_request_render(struct scope *scope, const struct upstream_url *url,
                                                const struct upstream_call *call,
                                                const struct upstream_extras *extras);

#endif
