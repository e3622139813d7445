/* upstream/flight.h - one call for all who ask the same, or a second one where the first is slow.
 *
 *   followers (calls of scopes) ──▶ flight ──▶ a call, and perhaps another one to another address
 *
 * A follower has its own deadline and may leave; the flight goes on for the others. What one of its
 * calls answers, all followers get; a failure, once no call is left that may do better. Only GETs
 * without a body fly. Those that are shared are the same in each byte that their handlers chose.
 * Loop:   of the upstream's.
 * Memory: a flight is a root scope of its own, and gone once it has landed or nobody follows it.
 */
#ifndef WEFT_UPSTREAM_FLIGHT_H
#define WEFT_UPSTREAM_FLIGHT_H

#include "upstream/upstream.h"
#include <stdbool.h>

struct call;
struct flight;
struct upstream;

/* Is `what` to fly: for what it says, or the upstream's options? */
bool flight_is_wanted(const struct upstream *upstream, const struct upstream_call *what);

/* `call`, pending, follows the flight of its like; one takes off where there is none. */
void flight_join(struct call *call, const struct upstream_call *what);

/* The time of `call`, which follows one, is over. True: it was the last, and so the flight's calls
 * have failed, as it will when it is told of that; false: it fails alone. */
bool flight_time_out(struct call *call) __attribute__((warn_unused_result));

/* It follows no more. */
void flight_leave(struct call *call);

#endif
