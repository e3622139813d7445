/* base/table.h - a hash table from bytes to pointers.
 *
 * Open addressing, grows by itself, seeded (a peer cannot aim at collisions). Where no key that
 * goes in comes from a peer, there is nothing to aim at, and a cheaper hash does:
 * table_init_trusted().
 * Memory: keys are copied, values are the caller's.
 */
#ifndef WEFT_BASE_TABLE_H
#define WEFT_BASE_TABLE_H

#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct table_entry;

/* Embed it; zeroed is an empty one. */
struct table {
    struct table_entry *_entries; /* NULL: empty */
    uint32_t _size;               /* of _entries: a power of two, or 0 */
    uint32_t count;               /* entries */
    uint64_t _seed;               /* of the hash */
    bool _is_trusted;             /* no seed: see table_init_trusted() */
};

/* An empty table. */
void table_init(struct table *table);

/* The same for keys that are our own, or a plugin's; what is looked up may be anybody's. */
void table_init_trusted(struct table *table);

/* Frees the keys and the table; it is empty afterwards. NULL and zeroed are fine. */
void table_deinit(struct table *table);

/* The value of `key`, or NULL. */
void *table_get(const struct table *table, struct span key);

/* Sets the value, not NULL, of `key`; returns what it replaced, or NULL. */
void *table_set(struct table *table, struct span key, void *value);

/* Takes `key` out; returns its value, or NULL. */
void *table_remove(struct table *table, struct span key);

/* Walks in no order: start with *at == 0; false at the end. `key` and `value` may be NULL; the key
 * is the table's. The table must not change meanwhile. */
bool table_next(const struct table *table, uint32_t *at, struct span *key, void **value);

#endif
