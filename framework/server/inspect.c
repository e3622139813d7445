/* server/inspect.c - notes what a plugin says and asks for, and makes what it wants to have. */
#include "server/inspect.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "pg/options.h"
#include "pg/pool.h"
#include "upstream/options.h"
#include "upstream/upstream.h"
#include <string.h>

struct stand_in {
    struct stand_in *next;                    /* the one made before */
    char *name;                               /* of the section that is missing */
    struct pg_pool *pool;                     /* NULL: it is an upstream */
    struct upstream *upstream;                /* NULL: it is a pool */
    struct pg_options pg_options;             /* the pool's: the defaults */
    struct upstream_options upstream_options; /* the upstream's: an address, and the defaults */
};

struct inspection {
    struct plugin_watch watch;  /* with this as its data */
    struct buf text;            /* what was noted: lines */
    struct stand_in *stand_ins; /* the newest first */
};

/* What is asked for twice is noted once. */
static void note(struct inspection *inspection, char *line)
{
    struct span noted = buf_span(&inspection->text);

    if (noted.len == 0 || memmem(noted.ptr, noted.len, line, strlen(line)) == NULL)
        buf_append(&inspection->text, span_of(line));
    mem_free(line);
}

static void on_bound(void *data, const struct plugin_identity *identity)
{
    note(data, mem_format("%-9s %s %s\n", "plugin", identity->name, identity->version));
    note(data, mem_format("%-9s %u.%u\n", "abi", identity->major, identity->minor));
}

static void on_asked(void *data, const char *key, const char *expected, const char *fallback)
{
    note(data, fallback == NULL ? mem_format("%-9s %-24s %s, required\n", "setting", key, expected)
                                : mem_format("%-9s %-24s %s, default %s\n", "setting", key,
                                             expected, fallback[0] != '\0' ? fallback : "empty"));
}

/* The text in one line. */
static void on_declared(void *data, const char *pool, const char *name, const char *sql,
                        uint32_t flags)
{
    struct buf line;

    buf_init(&line, NULL);
    buf_format(&line, "%-9s %-24s [pg.%s]%s%s%s%s:", "statement", name, pool,
               (flags & PG_READ_ONLY) != 0 ? ", read only" : "",
               (flags & PG_SLOW) != 0 ? ", slow" : "", (flags & PG_BINARY) != 0 ? ", binary" : "",
               pg_is_refused(span_of(sql)) != NULL ? ", in transactions" : "");
    while (*(sql += strspn(sql, " \t\r\n\v\f")) != '\0') {
        size_t len = strcspn(sql, " \t\r\n\v\f");

        buf_format(&line, " %.*s", (int)len, sql);
        sql += len;
    }
    note(data, mem_format("%.*s\n", (int)line.len, line.data));
    buf_release(&line);
}

struct inspection *inspection_create(void)
{
    struct inspection *inspection = mem_alloc(sizeof *inspection);

    *inspection = (struct inspection){
        .watch = {
            .bound = on_bound, .asked = on_asked, .declared = on_declared, .data = inspection}};
    buf_init(&inspection->text, NULL);
    return inspection;
}

void inspection_destroy(struct inspection *inspection)
{
    if (inspection == NULL)
        return;
    for (struct stand_in *at = inspection->stand_ins, *next; at != NULL; at = next) {
        next = at->next;
        pg_pool_destroy(at->pool);
        upstream_destroy(at->upstream);
        field_clear(&pg_option_table, &at->pg_options);
        field_clear(&upstream_option_table, &at->upstream_options);
        mem_free(at->name);
        mem_free(at);
    }
    buf_release(&inspection->text);
    mem_free(inspection);
}

const struct plugin_watch *inspection_watch(const struct inspection *inspection)
{
    return inspection != NULL ? &inspection->watch : NULL;
}

static struct stand_in *find(const struct inspection *inspection, const char *name, bool is_pool)
{
    struct stand_in *at = inspection->stand_ins;

    while (at != NULL && (strcmp(at->name, name) != 0 || (at->pool != NULL) != is_pool))
        at = at->next;
    return at;
}

static struct stand_in *add(struct inspection *inspection, const char *name)
{
    struct stand_in *made = mem_alloc(sizeof *made);

    *made = (struct stand_in){.next = inspection->stand_ins, .name = mem_copy(span_of(name))};
    field_defaults(&pg_option_table, &made->pg_options);
    field_defaults(&upstream_option_table, &made->upstream_options);
    mem_free(made->upstream_options.url);
    made->upstream_options.url = mem_copy(SPAN("http://127.0.0.1:1"));
    inspection->stand_ins = made;
    return made;
}

struct pg_pool *inspection_pool(struct inspection *inspection, struct loop *loop,
                                struct helpers *helpers, const char *name)
{
    struct stand_in *stand_in = find(inspection, name, true);

    CHECK(name != NULL);
    note(inspection, mem_format("%-9s [pg.%s]\n", "pool", name));
    if (stand_in == NULL) {
        stand_in = add(inspection, name);
        stand_in->pool = pg_pool_create(loop, helpers, name, &stand_in->pg_options);
    }
    return stand_in->pool;
}

struct upstream *inspection_upstream(struct inspection *inspection, struct tasks *tasks,
                                     struct resolver *resolver, const char *name)
{
    struct stand_in *stand_in = find(inspection, name, false);
    char problem[INI_PROBLEM_SIZE];

    CHECK(name != NULL);
    note(inspection, mem_format("%-9s [upstream.%s]\n", "upstream", name));
    if (stand_in == NULL) {
        stand_in = add(inspection, name);
        stand_in->upstream =
            upstream_create(tasks, resolver, name, &stand_in->upstream_options, problem);
        CHECK(stand_in->upstream != NULL); /* it has no TLS */
    }
    return stand_in->upstream;
}

void inspection_print(const struct inspection *inspection, FILE *out)
{
    CHECK(inspection != NULL);
    if (inspection->text.len > 0)
        fwrite(inspection->text.data, 1, inspection->text.len, out);
}
