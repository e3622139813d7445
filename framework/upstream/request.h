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

/* Head and body of `call`, which was checked, to the server at `url`. Absent: beyond
 * scope_room(), and the scope is canceled. */
struct span upstream_request_render(struct scope *scope, const struct upstream_url *url,
                                    const struct upstream_call *call);

#endif
