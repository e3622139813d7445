/* upstream/target.c - one address of an upstream, and the choice among them. */
#include "upstream/target.h"
#include "base/check.h"
#include "base/mem.h"

void targets_init(struct targets *targets, uint64_t seed)
{
    *targets = (struct targets){._random = seed | 1};
}

static void free_target(struct target *target)
{
    CHECK(target->places == 0);
    CHECK(list_is_empty(&target->idle));
    CHECK(target->idle_count == 0);
    tls_sessions_clear(&target->sessions);
    mem_free(target);
}

void targets_deinit(struct targets *targets)
{
    for (uint32_t i = 0; i < targets->count; i++)
        free_target(targets->at[i]);
    mem_free(targets->at);
    *targets = (struct targets){0};
}

void targets_forget(struct target *target)
{
    if (target->is_gone && target->places == 0)
        free_target(target);
}

static struct target *find(struct target *const *at, uint32_t count, const struct addr *addr)
{
    for (uint32_t i = 0; i < count; i++)
        if (addr_equal(&at[i]->addr, addr))
            return at[i];
    return NULL;
}

static struct target *make(struct targets *targets, const struct addr *addr)
{
    struct target *target = mem_alloc(sizeof *target);

    target->addr = *addr;
    (void)addr_format(addr, target->text);
    target->id = ++targets->_last_id;
    list_init(&target->idle);
    return target;
}

void targets_update(struct targets *targets, const struct names *names,
                    void (*on_gone)(struct target *target, void *data), void *data)
{
    struct target **before = targets->at;
    uint32_t before_count = targets->count;
    const struct addr *addr;
    uint32_t at = 0;

    targets->at = mem_calloc(TARGETS_MAX, sizeof *targets->at);
    targets->count = 0;
    targets->has_left_out = false;
    while ((addr = names_next(names, &at)) != NULL && targets->count < TARGETS_MAX) {
        struct target *known = find(before, before_count, addr);

        if (targets->no_private && addr_is_private(addr)) {
            targets->has_left_out = true;
            continue;
        }
        if (find(targets->at, targets->count, addr) == NULL)
            targets->at[targets->count++] = known != NULL ? known : make(targets, addr);
    }
    for (uint32_t i = 0; i < before_count; i++) {
        if (find(targets->at, targets->count, &before[i]->addr) != NULL)
            continue;
        before[i]->is_gone = true;
        on_gone(before[i], data);
    }
    mem_free(before);
}

/* The choice */

static uint32_t below(struct targets *targets, uint32_t bound)
{
    CHECK(bound > 0);
    targets->_random ^= targets->_random << 13;
    targets->_random ^= targets->_random >> 7;
    targets->_random ^= targets->_random << 17;
    return (uint32_t)((targets->_random >> 32) * bound >> 32);
}

static bool is_avoided(const struct target *target, const struct target_wish *wish)
{
    for (uint32_t i = 0; i < wish->avoid_count; i++)
        if (wish->avoid[i] == target->id)
            return true;
    return false;
}

static bool has_room(const struct target *target, const struct target_wish *wish)
{
    if (wish->may_be_idle && target->idle_count > 0)
        return true;
    return wish->may_open && (wish->places_max == 0 || target->places < wish->places_max);
}

static bool suits(const struct target *target, const struct target_wish *wish)
{
    return has_room(target, wish) && !is_avoided(target, wish) &&
           (wish->_is_panic || health_may_serve(&target->health, wish->now_ms));
}

/* Calls under way to it, those that wait for a connection to it too. */
static uint32_t load_of(const struct target *target)
{
    CHECK(target->idle_count <= target->places);
    return target->places - target->idle_count;
}

static struct target *better(struct target *a, struct target *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    return load_of(b) < load_of(a) ? b : a;
}

/* Two of them by chance; where neither suits, any that does. */
static struct target *pick(struct targets *targets, const struct target_wish *wish)
{
    uint32_t first = below(targets, targets->count);
    uint32_t second = below(targets, targets->count - 1);
    struct target *one = targets->at[first];
    struct target *two = targets->at[second < first ? second : second + 1];
    struct target *found = better(suits(one, wish) ? one : NULL, suits(two, wish) ? two : NULL);

    for (uint32_t i = 0; found == NULL && i < targets->count; i++) {
        struct target *other = targets->at[(first + i) % targets->count];

        found = suits(other, wish) ? other : NULL;
    }
    return found;
}

struct target *targets_pick(struct targets *targets, const struct target_wish *wish)
{
    struct target_wish any = *wish;
    struct target *found;

    if (targets->count <= 1) {
        if (targets->count == 0 || !has_room(targets->at[0], wish))
            return NULL;
        return wish->must_avoid && is_avoided(targets->at[0], wish) ? NULL : targets->at[0];
    }
    found = pick(targets, wish);
    if (found == NULL && !wish->must_avoid && wish->avoid_count > 0) {
        any.avoid_count = 0;
        found = pick(targets, &any);
    }
    if (found == NULL && !targets_have_other(targets, NULL, wish->now_ms)) {
        any._is_panic = true; /* none is fit: then all of them are */
        found = pick(targets, &any);
    }
    return found;
}

bool targets_have_other(const struct targets *targets, const struct target *target, uint64_t now_ms)
{
    for (uint32_t i = 0; i < targets->count; i++)
        if (targets->at[i] != target && health_may_serve(&targets->at[i]->health, now_ms))
            return true;
    return false;
}
