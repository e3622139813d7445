/* pg/statement.c - statements that are known.
 *
 *   UNPREPARED ──▶ PREPARING ──▶ PREPARED       PREPARE failed, or the server lost it: UNPREPARED;
 *        ▲              └────────────┴──────▶   the next preparing has another name
 */
#include "pg/statement.h"
#include "base/check.h"
#include "base/mem.h"
#include <stdio.h>

/* Declared ones */

void pg_statements_deinit(struct pg_statements *statements)
{
    if (statements == NULL)
        return;
    for (uint32_t i = 0; i < statements->count; i++) {
        struct pg_statement *statement = statements->list[i];

        mem_free(statement->name);
        mem_free((char *)statement->sql.ptr);
        statement->magic = 0;
        mem_free(statement);
    }
    mem_free(statements->list);
    table_deinit(&statements->by_name);
    *statements = (struct pg_statements){0};
}

enum err pg_statements_declare(struct pg_statements *statements, struct pg_pool *pool,
                               const char *name, const char *sql, uint32_t flags,
                               struct pg_statement **statement)
{
    struct pg_statement *known = table_get(&statements->by_name, span_of(name));

    if (known != NULL) {
        if (known->flags != flags || !span_equal(known->sql, span_of(sql)))
            return ERR_EXISTS;
        *statement = known;
        return ERR_OK;
    }
    known = mem_alloc(sizeof *known);
    known->magic = PG_STATEMENT_MAGIC;
    known->id = statements->count;
    known->flags = flags;
    known->pool = pool;
    known->name = mem_copy(span_of(name));
    known->sql = span_of(mem_copy(span_of(sql)));
    known->advice = pg_is_refused(known->sql);
    statements->list =
        mem_realloc(statements->list, (statements->count + 1) * sizeof *statements->list);
    statements->list[statements->count++] = known;
    (void)table_set(&statements->by_name, span_of(name), known);
    *statement = known;
    return ERR_OK;
}

const char *pg_statement_name(const struct pg_statement *statement)
{
    CHECK_OBJ(statement, PG_STATEMENT_MAGIC);
    return statement->name;
}

/* Prepared ones */

void pg_prepared_set_init(struct pg_prepared_set *set)
{
    *set = (struct pg_prepared_set){0};
    table_init(&set->ad_hoc);
    list_init(&set->by_use);
}

static void free_ad_hoc(struct pg_prepared *prepared)
{
    CHECK(prepared->is_ad_hoc);
    list_remove(&prepared->link);
    mem_free((char *)prepared->sql.ptr);
    mem_free(prepared);
}

void pg_prepared_set_deinit(struct pg_prepared_set *set)
{
    struct list *link;

    for (uint32_t i = 0; i < set->declared_count; i++)
        mem_free(set->declared[i]);
    mem_free(set->declared);
    while ((link = list_first(&set->by_use)) != NULL)
        free_ad_hoc(CONTAINER_OF(link, struct pg_prepared, link));
    table_deinit(&set->ad_hoc);
}

struct pg_prepared *pg_prepared_declared(struct pg_prepared_set *set,
                                         const struct pg_statement *statement)
{
    CHECK_OBJ(statement, PG_STATEMENT_MAGIC);
    if (statement->id >= set->declared_count) {
        uint32_t count = statement->id + 16;

        set->declared = mem_realloc(set->declared, count * sizeof *set->declared);
        for (uint32_t i = set->declared_count; i < count; i++)
            set->declared[i] = NULL;
        set->declared_count = count;
    }
    if (set->declared[statement->id] == NULL) {
        struct pg_prepared *prepared = mem_alloc(sizeof *prepared);

        prepared->sql = statement->sql;
        set->declared[statement->id] = prepared;
    }
    return set->declared[statement->id];
}

uint32_t pg_prepared_evict(struct pg_prepared_set *set)
{
    LIST_EACH (&set->by_use, link) {
        struct pg_prepared *oldest = CONTAINER_OF(link, struct pg_prepared, link);
        uint32_t number = oldest->state == PG_PREPARED ? oldest->number : 0;

        if (oldest->users > 0)
            continue;
        (void)table_remove(&set->ad_hoc, oldest->sql);
        set->ad_hoc_bytes -= (uint32_t)oldest->sql.len;
        free_ad_hoc(oldest);
        return number;
    }
    return 0;
}

struct pg_prepared *pg_prepared_ad_hoc(struct pg_prepared_set *set, struct span sql)
{
    struct pg_prepared *prepared = table_get(&set->ad_hoc, sql);

    if (prepared != NULL) {
        list_remove(&prepared->link);
        list_append(&set->by_use, &prepared->link);
        return prepared;
    }
    CHECK(pg_prepared_has_room(set, sql));
    prepared = mem_alloc(sizeof *prepared);
    prepared->is_ad_hoc = true;
    prepared->sql = (struct span){mem_copy(sql), sql.len};
    (void)table_set(&set->ad_hoc, sql, prepared);
    list_append(&set->by_use, &prepared->link);
    set->ad_hoc_bytes += (uint32_t)sql.len;
    return prepared;
}

struct pg_prepared *pg_prepared_find(const struct pg_prepared_set *set, struct span sql)
{
    return table_get(&set->ad_hoc, sql);
}

bool pg_prepared_has_room(const struct pg_prepared_set *set, struct span sql)
{
    if (set->ad_hoc.count < PG_AD_HOC_MAX && sql.len <= PG_AD_HOC_BYTES_MAX - set->ad_hoc_bytes)
        return true;
    return pg_prepared_find(set, sql) != NULL;
}

void pg_prepared_set_lose(struct pg_prepared_set *set)
{
    for (uint32_t i = 0; i < set->declared_count; i++)
        if (set->declared[i] != NULL)
            set->declared[i]->state = PG_UNPREPARED;
    LIST_EACH (&set->by_use, link)
        CONTAINER_OF(link, struct pg_prepared, link)->state = PG_UNPREPARED;
}

void pg_prepared_begin(struct pg_prepared_set *set, struct pg_prepared *prepared)
{
    CHECK(prepared->state == PG_UNPREPARED);
    prepared->state = PG_PREPARING;
    prepared->number = ++set->names;
    CHECK(prepared->number > 0); /* a name is never given twice */
    pg_prepared_name(prepared->number, prepared->name);
}

void pg_prepared_name(uint32_t number, char name[PG_PREPARED_NAME_SIZE])
{
    CHECK(number > 0);
    (void)snprintf(name, PG_PREPARED_NAME_SIZE, "w%u", number);
}
