/* pg/statement.h - statements that are known: declared ones of a pool, prepared ones of a session.
 *
 * A declared statement has a dense id: a session finds what it has prepared by an array. Ad-hoc
 * text goes through a table, bounded, the least recently used first out. Each preparing gets a new
 * name, so that one that failed, or was lost to DISCARD, is never in the way.
 * Loop:   of the pool's loop.
 * Memory: the pool owns statements, a session its prepared ones.
 * Limits: PG_AD_HOC_MAX ad-hoc texts a session, PG_AD_HOC_BYTES_MAX of them together: the server
 *         keeps sixty times as much for their plans.
 */
#ifndef WEFT_PG_STATEMENT_H
#define WEFT_PG_STATEMENT_H

#include "base/error.h"
#include "base/list.h"
#include "base/span.h"
#include "base/table.h"
#include "observe/metrics.h"
#include "pg/pool.h"

/* A declared statement. */
struct pg_statement {
    uint32_t magic;         /* STATEMENT_MAGIC */
    uint32_t id;            /* dense, from 0 */
    uint32_t flags;         /* PG_READ_ONLY, PG_SLOW, PG_BINARY */
    uint32_t expected_us;   /* moving average of its runs; 0: none yet */
    uint64_t failed;        /* runs that ended with an error; canceled ones too */
    struct histogram times; /* of all its runs, from the call to the answer */
    struct pg_pool *pool;   /* whose */
    char *name;             /* for logs and metrics */
    struct span sql;        /* with a NUL behind it */
    const char *advice; /* only a transaction can run it: what to say elsewhere; NULL: any can */
};

#define PG_STATEMENT_MAGIC 0x70677374u

/* The declared statements of a pool. Zeroed: none. */
struct pg_statements {
    struct table by_name;       /* name -> struct pg_statement */
    struct pg_statement **list; /* by id */
    uint32_t count;             /* of them */
};

/* Frees all of them. */
void pg_statements_deinit(struct pg_statements *statements);

/* See pg_pool_declare(). */
enum err pg_statements_declare(struct pg_statements *statements, struct pg_pool *pool,
                               const char *name, const char *sql, uint32_t flags,
                               struct pg_statement **statement) __attribute__((warn_unused_result));

enum {
    PG_AD_HOC_MAX = 256,
    PG_AD_HOC_TEXT_MAX = 16 * 1024, /* bytes; a longer one is neither prepared nor watched */
    PG_AD_HOC_BYTES_MAX = 1024 * 1024,
    PG_PREPARED_NAME_SIZE = 16
};

enum pg_prepared_state { PG_UNPREPARED, PG_PREPARING, PG_PREPARED };

/* A statement as one session knows it. */
struct pg_prepared {
    enum pg_prepared_state state;     /* of the name */
    uint32_t number;                  /* of the name; 0: never had one */
    char name[PG_PREPARED_NAME_SIZE]; /* by which the server knows it; another each time */
    uint32_t users;                   /* flights that point here */
    bool is_ad_hoc;                   /* in the table, else in the array */
    struct span sql;                  /* its text; of an ad-hoc one, the struct's own */
    struct list link;                 /* ad hoc: by age of use */
};

/* What a session has prepared. */
struct pg_prepared_set {
    struct pg_prepared **declared; /* by id; NULL: never used here */
    uint32_t declared_count;       /* of the array */
    struct table ad_hoc;           /* text -> struct pg_prepared */
    struct list by_use;            /* the least recently used first */
    uint32_t ad_hoc_bytes;         /* of the texts */
    uint32_t names;                /* given so far */
};

/* An empty set. */
void pg_prepared_set_init(struct pg_prepared_set *set);

/* Frees it. */
void pg_prepared_set_deinit(struct pg_prepared_set *set);

/* The declared statement in this set; made where it was not yet used here. */
struct pg_prepared *pg_prepared_declared(struct pg_prepared_set *set,
                                         const struct pg_statement *statement);

/* The same for ad-hoc text, which becomes the most recently used; only where there is room. */
struct pg_prepared *pg_prepared_ad_hoc(struct pg_prepared_set *set, struct span sql);

/* The same where it is there already, of no later use than before; else NULL. */
struct pg_prepared *pg_prepared_find(const struct pg_prepared_set *set, struct span sql);

/* Is it there already, or can it be without another one's going? */
bool pg_prepared_has_room(const struct pg_prepared_set *set, struct span sql);

/* Lets the least recently used ad-hoc text go, of those that no flight points at. The number of its
 * name, which is to be deallocated; 0: none. */
uint32_t pg_prepared_evict(struct pg_prepared_set *set);

/* The server has none of the names any more, or soon will not: all are PG_UNPREPARED. */
void pg_prepared_set_lose(struct pg_prepared_set *set);

/* Gives it a new name, and is PG_PREPARING. */
void pg_prepared_begin(struct pg_prepared_set *set, struct pg_prepared *prepared);

/* Writes the name of `number`. */
void pg_prepared_name(uint32_t number, char name[PG_PREPARED_NAME_SIZE]);

#endif
