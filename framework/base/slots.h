/* base/slots.h - handles that can be checked: slot and generation.
 *
 * A plugin holds a handle, never an address: a stale one is answered, not followed. A handle is a
 * 64-bit number: the kind in bits 56 to 63, the generation in bits 24 to 55, the slot in bits 0 to
 * 23; it is never 0. A slot's generation goes up each time it is given back; one whose generations
 * are used up is not used again, so that no handle ever comes twice. Slots lie in chunks that are
 * never moved or unmapped.
 * Loop:   a table is of one thread.
 * Memory: objects are the caller's.
 * Limits: 2^24 - 1 living handles (checked).
 */
#ifndef WEFT_BASE_SLOTS_H
#define WEFT_BASE_SLOTS_H

#include <stdint.h>

struct slots;

/* A table of handles of one `kind` (1 to 127). */
struct slots *slots_create(uint8_t kind);

/* Frees the table; NULL is fine. Only where no handle can come any more. */
void slots_destroy(struct slots *slots);

/* A handle for `object`, which is not NULL. */
uint64_t slots_add(struct slots *slots, void *object);

/* The living object of `handle`; NULL for a stale one, another kind's, or any other number. */
void *slots_get(const struct slots *slots, uint64_t handle);

/* Ends a living handle (checked). */
void slots_remove(struct slots *slots, uint64_t handle);

/* How many live. */
uint32_t slots_count(const struct slots *slots);

#endif
