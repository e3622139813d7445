/* pg/suspects.c - ad-hoc texts that have run for long, and how long they do on average. */
#include "pg/suspects.h"
#include "base/check.h"
#include "base/mem.h"
#include "pg/dispatch.h"
#include "pg/statement.h"

enum {
    BEFORE_US = 1,    /* taken for the average of what was not watched: it was quick, or is new */
    CLEARED_US = 500, /* below it a text is watched no more */
};

struct suspect {
    struct span sql;      /* its own copy */
    uint32_t expected_us; /* the moving average */
    struct list link;     /* by use */
};

void pg_suspects_init(struct pg_suspects *suspects)
{
    table_init(&suspects->by_text);
    list_init(&suspects->_by_use);
}

static void drop(struct pg_suspects *suspects, struct suspect *suspect)
{
    (void)table_remove(&suspects->by_text, suspect->sql);
    list_remove(&suspect->link);
    suspects->bytes -= (uint32_t)suspect->sql.len;
    mem_free((char *)suspect->sql.ptr);
    mem_free(suspect);
}

void pg_suspects_deinit(struct pg_suspects *suspects)
{
    struct list *link;

    while ((link = list_first(&suspects->_by_use)) != NULL)
        drop(suspects, CONTAINER_OF(link, struct suspect, link));
    table_deinit(&suspects->by_text);
}

static bool is_full(const struct pg_suspects *suspects, struct span sql)
{
    return suspects->by_text.count >= PG_SUSPECTS_MAX ||
           sql.len > PG_SUSPECTS_BYTES_MAX - suspects->bytes;
}

static struct suspect *add(struct pg_suspects *suspects, struct span sql)
{
    struct suspect *suspect = mem_alloc(sizeof *suspect);

    while (is_full(suspects, sql))
        drop(suspects, CONTAINER_OF(list_first(&suspects->_by_use), struct suspect, link));
    suspect->sql = (struct span){mem_copy(sql), sql.len};
    suspect->expected_us = BEFORE_US;
    (void)table_set(&suspects->by_text, suspect->sql, suspect);
    suspects->bytes += (uint32_t)sql.len;
    return suspect;
}

/* One long run weighs an eighth: a stall of the machine, which hits whatever runs just then, must
 * not make a slow one of each. */
void pg_suspects_learn(struct pg_suspects *suspects, struct span sql, uint64_t took_us)
{
    bool is_long = pg_dispatch_is_slow(took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX);
    struct suspect *suspect = NULL;

    CHECK(sql.ptr != NULL);
    if (sql.len > PG_AD_HOC_TEXT_MAX)
        return;
    if (suspects->by_text.count > 0)
        suspect = table_get(&suspects->by_text, sql);
    if (suspect == NULL && !is_long)
        return;
    if (suspect == NULL)
        suspect = add(suspects, sql);
    suspect->expected_us = pg_dispatch_learn(suspect->expected_us, took_us);
    list_remove(&suspect->link);
    if (suspect->expected_us < CLEARED_US)
        drop(suspects, suspect);
    else
        list_append(&suspects->_by_use, &suspect->link);
}

uint32_t pg_suspects_look_up(const struct pg_suspects *suspects, struct span sql)
{
    const struct suspect *suspect =
        sql.len <= PG_AD_HOC_TEXT_MAX ? table_get(&suspects->by_text, sql) : NULL;

    return suspect != NULL ? suspect->expected_us : 0;
}
