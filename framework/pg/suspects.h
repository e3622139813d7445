/* pg/suspects.h - ad-hoc texts that have run for long, and how long they do on average.
 *
 * A declared statement has its average; of ad-hoc text there is no end, so only what once ran so
 * long that it would not be let share a session is watched from then on. Whatever else runs pays
 * one look at an empty table.
 * Loop:   of the pool's loop.
 * Memory: the pool's; texts are copies.
 * Limits: PG_SUSPECTS_MAX texts, PG_SUSPECTS_BYTES_MAX of them together, the one that ran least
 *         lately out first; none longer than PG_AD_HOC_TEXT_MAX.
 */
#ifndef WEFT_PG_SUSPECTS_H
#define WEFT_PG_SUSPECTS_H

#include "base/list.h"
#include "base/span.h"
#include "base/table.h"
#include <stdbool.h>
#include <stdint.h>

enum { PG_SUSPECTS_MAX = 256, PG_SUSPECTS_BYTES_MAX = 1024 * 1024 };

struct pg_suspects {
    struct table by_text; /* text -> struct suspect */
    struct list _by_use;  /* the same, the one that ran least lately first */
    uint32_t bytes;       /* of the texts */
};

/* None. */
void pg_suspects_init(struct pg_suspects *suspects);

/* Frees them. */
void pg_suspects_deinit(struct pg_suspects *suspects);

/* The text has run, and took so long. Of one that is too long it takes no note. */
void pg_suspects_learn(struct pg_suspects *suspects, struct span sql, uint64_t took_us);

/* The moving average of a text that is watched, else 0. */
uint32_t pg_suspects_look_up(const struct pg_suspects *suspects, struct span sql);

/* The same, for who asks it of every statement. */
static inline uint32_t pg_suspects_expected_us(const struct pg_suspects *suspects, struct span sql)
{
    return suspects->by_text.count == 0 ? 0 : pg_suspects_look_up(suspects, sql);
}

#endif
