/* base/table.c - a hash table from bytes to pointers.
 *
 * Linear probing; an entry that is taken out is filled by moving the ones behind it down, so there
 * are no tombstones and a look-up ends at the first hole. SipHash-1-3 with a seed of the table's
 * own: a peer that cannot see the seed cannot find keys that collide. A look-up alone never takes
 * longer than the longest run of entries, whatever is looked for; so a table whose keys are trusted
 * has a hash of a multiplication for eight bytes instead.
 */
#include "base/table.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include <sys/random.h>

enum { SIZE_MIN = 8 };

struct table_entry {
    char *key;      /* NULL: a hole */
    size_t key_len; /* bytes */
    uint64_t hash;  /* of the key */
    void *value;    /* the caller's */
};

static inline uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

static uint64_t sip_hash(uint64_t seed, struct span key)
{
    uint64_t v[4] = {seed ^ 0x736f6d6570736575u, ~seed ^ 0x646f72616e646f6du,
                     seed ^ 0x6c7967656e657261u, ~seed ^ 0x7465646279746573u};
    uint64_t word;

    for (size_t at = 0; at <= key.len; at += 8) {
        size_t left = key.len - at;

        word = left < 8 ? (uint64_t)key.len << 56 : 0;
        if (left > 0)
            memcpy(&word, key.ptr + at, left < 8 ? left : 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* Up to eight bytes as a number. Different ones of one length make different numbers. */
static inline uint64_t short_word(const char *bytes, size_t len)
{
    uint32_t low, high;

    if (len >= 4) {
        memcpy(&low, bytes, 4);
        memcpy(&high, bytes + len - 4, 4);
        return (uint64_t)high << 32 | low;
    }
    if (len == 0)
        return 0;
    return (uint64_t)(unsigned char)bytes[len - 1] << 16 |
           (uint64_t)(unsigned char)bytes[len / 2] << 8 | (unsigned char)bytes[0];
}

static inline uint64_t stir(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u; /* 2^64 by the golden ratio */
    return hash ^ hash >> 32;
}

static uint64_t trusted_hash(struct span key)
{
    uint64_t hash = key.len, word;
    size_t at = 0;

    for (; key.len - at > 8; at += 8) {
        memcpy(&word, key.ptr + at, 8);
        hash = stir(hash, word);
    }
    return stir(hash, short_word(key.ptr + at, key.len - at));
}

static uint64_t hash_of(const struct table *table, struct span key)
{
    return table->_is_trusted ? trusted_hash(key) : sip_hash(table->_seed, key);
}

void table_init(struct table *table)
{
    CHECK(table != NULL);
    *table = (struct table){._entries = NULL};
}

void table_init_trusted(struct table *table)
{
    CHECK(table != NULL);
    *table = (struct table){._is_trusted = true};
}

void table_deinit(struct table *table)
{
    if (table == NULL || table->_entries == NULL)
        return;
    for (uint32_t i = 0; i < table->_size; i++)
        mem_free(table->_entries[i].key);
    mem_free(table->_entries);
    *table = (struct table){._is_trusted = table->_is_trusted};
}

/* The entry of `key`, or the hole where it belongs. */
static struct table_entry *find(const struct table *table, struct span key, uint64_t hash)
{
    uint32_t mask = table->_size - 1;

    for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
        struct table_entry *entry = &table->_entries[at];

        if (entry->key == NULL)
            return entry;
        if (entry->hash == hash && span_equal((struct span){entry->key, entry->key_len}, key))
            return entry;
    }
}

void *table_get(const struct table *table, struct span key)
{
    CHECK(table != NULL);
    if (table->count == 0)
        return NULL;
    return find(table, key, hash_of(table, key))->value;
}

static void make_room(struct table *table)
{
    struct table_entry *old = table->_entries;
    uint32_t old_size = table->_size;

    if (old != NULL && table->count < old_size / 4 * 3)
        return;
    CHECK(old_size <= UINT32_MAX / 4);
    if (old == NULL && getrandom(&table->_seed, sizeof(table->_seed), GRND_NONBLOCK) < 0)
        table->_seed = clock_wall_us() ^ (uintptr_t)table; /* early at boot, or an old kernel */
    table->_size = old == NULL ? SIZE_MIN : old_size * 2;
    table->_entries = mem_calloc(table->_size, sizeof(*table->_entries));
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i].key != NULL)
            *find(table, (struct span){old[i].key, old[i].key_len}, old[i].hash) = old[i];
    }
    mem_free(old);
}

void *table_set(struct table *table, struct span key, void *value)
{
    struct table_entry *entry;
    uint64_t hash;
    void *replaced;

    CHECK(table != NULL);
    CHECK(key.ptr != NULL);
    CHECK(value != NULL);
    make_room(table);
    hash = hash_of(table, key);
    entry = find(table, key, hash);
    replaced = entry->value;
    if (entry->key == NULL) {
        *entry = (struct table_entry){.key = mem_copy(key), .key_len = key.len, .hash = hash};
        table->count++;
    }
    entry->value = value;
    return replaced;
}

void *table_remove(struct table *table, struct span key)
{
    struct table_entry *hole;
    uint32_t mask;
    void *value;

    CHECK(table != NULL);
    if (table->count == 0)
        return NULL;
    hole = find(table, key, hash_of(table, key));
    if (hole->key == NULL)
        return NULL;
    value = hole->value;
    mem_free(hole->key);
    mask = table->_size - 1;
    for (uint32_t at = (uint32_t)(hole - table->_entries);;) {
        struct table_entry *entry = &table->_entries[at = (at + 1) & mask];
        uint32_t hole_at = (uint32_t)(hole - table->_entries);

        if (entry->key == NULL)
            break;
        /* It may move down if the hole is not before the place that it hashes to. */
        if (((at - (uint32_t)entry->hash) & mask) >= ((at - hole_at) & mask)) {
            *hole = *entry;
            hole = entry;
        }
    }
    *hole = (struct table_entry){.key = NULL};
    table->count--;
    return value;
}

bool table_next(const struct table *table, uint32_t *at, struct span *key, void **value)
{
    CHECK(table != NULL);
    CHECK(at != NULL);
    while (*at < table->_size) {
        struct table_entry *entry = &table->_entries[(*at)++];

        if (entry->key == NULL)
            continue;
        if (key != NULL)
            *key = (struct span){entry->key, entry->key_len};
        if (value != NULL)
            *value = entry->value;
        return true;
    }
    return false;
}
