/* base/slots.c - handles that can be checked: slot and generation.
 *
 *   FREE (object NULL) ──add──▶ LIVING ──remove──▶ FREE, one generation later
 *                                  └─────remove──▶ RETIRED: its generations are used up
 */
#include "base/slots.h"
#include "base/check.h"
#include "base/mem.h"

enum { CHUNK_SLOTS = 256, SLOTS_MAX = (1 << 24) - 1, SLOTS_MAGIC = 0x510751 };

struct slot {
    void *object;        /* NULL: free or retired */
    uint32_t generation; /* of the handle that lives or comes next */
    uint32_t next_free;  /* of a free one: the next slot's number + 1, or 0 */
};

struct slots {
    uint32_t magic;
    uint32_t free;  /* the first free slot's number + 1, or 0; the last freed is the first used */
    uint32_t made;  /* slots that were ever used */
    uint32_t count; /* living */
    uint32_t chunks_size; /* of `chunks`, in pointers */
    uint8_t kind;         /* bits 56 to 63 of each handle */
    struct slot **chunks; /* each of CHUNK_SLOTS, never moved */
};

static struct slot *slot_at(const struct slots *slots, uint32_t number)
{
    return &slots->chunks[number / CHUNK_SLOTS][number % CHUNK_SLOTS];
}

struct slots *slots_create(uint8_t kind)
{
    struct slots *slots = mem_alloc(sizeof(*slots));

    CHECK(kind >= 1 && kind <= 127);
    slots->magic = SLOTS_MAGIC;
    slots->kind = kind;
    return slots;
}

void slots_destroy(struct slots *slots)
{
    if (slots == NULL)
        return;
    CHECK_OBJ(slots, SLOTS_MAGIC);
    for (uint32_t i = 0; i * CHUNK_SLOTS < slots->made; i++)
        mem_free(slots->chunks[i]);
    mem_free(slots->chunks);
    slots->magic = 0;
    mem_free(slots);
}

/* A slot that was never used. */
static uint32_t make_slot(struct slots *slots)
{
    uint32_t number = slots->made;
    uint32_t chunk = number / CHUNK_SLOTS;

    CHECK(number < SLOTS_MAX);
    if (number % CHUNK_SLOTS == 0) {
        if (chunk == slots->chunks_size) {
            slots->chunks_size = chunk == 0 ? 4 : chunk * 2;
            slots->chunks = mem_realloc(slots->chunks, slots->chunks_size * sizeof(*slots->chunks));
        }
        slots->chunks[chunk] = mem_calloc(CHUNK_SLOTS, sizeof(struct slot));
    }
    slots->made++;
    return number;
}

uint64_t slots_add(struct slots *slots, void *object)
{
    struct slot *slot;
    uint32_t number;

    CHECK_OBJ(slots, SLOTS_MAGIC);
    CHECK(object != NULL);
    if (slots->free != 0) {
        number = slots->free - 1;
        slot = slot_at(slots, number);
        slots->free = slot->next_free;
    } else {
        number = make_slot(slots);
        slot = slot_at(slots, number);
    }
    CHECK(slot->object == NULL);
    slot->object = object;
    slot->next_free = 0;
    slots->count++;
    return (uint64_t)slots->kind << 56 | (uint64_t)slot->generation << 24 | number;
}

/* The slot of a living handle, or NULL. */
static struct slot *find(const struct slots *slots, uint64_t handle)
{
    uint32_t number = (uint32_t)(handle & 0xffffff);
    struct slot *slot;

    if (handle >> 56 != slots->kind || number >= slots->made)
        return NULL;
    slot = slot_at(slots, number);
    return slot->generation == (uint32_t)(handle >> 24) && slot->object != NULL ? slot : NULL;
}

void *slots_get(const struct slots *slots, uint64_t handle)
{
    struct slot *slot;

    CHECK_OBJ(slots, SLOTS_MAGIC);
    slot = find(slots, handle);
    return slot != NULL ? slot->object : NULL;
}

void slots_remove(struct slots *slots, uint64_t handle)
{
    struct slot *slot;

    CHECK_OBJ(slots, SLOTS_MAGIC);
    slot = find(slots, handle);
    CHECK(slot != NULL);
    slot->object = NULL;
    slots->count--;
    /* After the last generation the first would come again, and with it the first handles. */
    if (slot->generation == UINT32_MAX)
        return;
    slot->generation++;
    slot->next_free = slots->free;
    slots->free = (uint32_t)(handle & 0xffffff) + 1;
}

uint32_t slots_count(const struct slots *slots)
{
    CHECK_OBJ(slots, SLOTS_MAGIC);
    return slots->count;
}
