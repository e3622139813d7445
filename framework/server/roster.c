/* server/roster.c - memory that the master and the workers of one generation share. */
#include "server/roster.h"
#include "base/check.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *share(size_t size)
{
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (made == MAP_FAILED) {
        log_error("no memory to share with workers: %s", strerror(errno));
        abort();
    }
    return made;
}

static size_t beats_size(void)
{
    return SETTINGS_WORKERS_MAX * sizeof(struct roster_beat);
}

void roster_init(struct roster *roster)
{
    roster->order = share(sizeof *roster->order);
    roster->beats = share(beats_size());
}

void roster_deinit(struct roster *roster)
{
    if (roster->order == NULL)
        return;
    CHECK(munmap(roster->order, sizeof *roster->order) == 0);
    CHECK(munmap(roster->beats, beats_size()) == 0);
    *roster = (struct roster){0};
}

void roster_say(struct roster *roster, enum roster_word word, const int *kept, uint32_t count)
{
    struct roster_order *order = roster->order;

    CHECK(count <= ROSTER_KEPT_MAX);
    if (count > 0)
        memcpy(order->kept, kept, count * sizeof *kept);
    order->kept_count = count;
    __atomic_store_n(&order->word, word, __ATOMIC_RELEASE);
}

void roster_seal(const struct roster *roster)
{
    CHECK(mprotect(roster->order, sizeof *roster->order, PROT_READ) == 0);
}

enum roster_word roster_word(const struct roster *roster)
{
    return (enum roster_word)__atomic_load_n(&roster->order->word, __ATOMIC_ACQUIRE);
}

bool roster_is_kept(const struct roster *roster, int fd)
{
    for (uint32_t i = 0; i < roster->order->kept_count; i++)
        if (roster->order->kept[i] == fd)
            return true;
    return false;
}

void roster_beat(struct roster *roster, uint32_t index, uint64_t now_us)
{
    CHECK(index < SETTINGS_WORKERS_MAX);
    __atomic_store_n(&roster->beats[index].accepts_us, now_us, __ATOMIC_RELAXED);
}

void roster_leave(struct roster *roster, uint32_t index)
{
    roster_beat(roster, index, 0);
}

bool roster_accepts(const struct roster *roster, uint32_t index, uint64_t now_us)
{
    CHECK(index < SETTINGS_WORKERS_MAX);
    uint64_t at = __atomic_load_n(&roster->beats[index].accepts_us, __ATOMIC_RELAXED);

    return at != 0 && at + (uint64_t)ROSTER_STALE_MS * 1000 > now_us;
}
