/* task/scope.h - the one noun for lifetime: arena, deadline, cancel, and the ops in it.
 *
 *   OPEN ──▶ CANCELED (with a reason; level-triggered: every new op is born canceled)
 *     └──────────┴──▶ FINISHING (the owner let go) ──▶ ended, once no fiber runs and the last op is retired
 *
 * A scope that is canceled settles its ops at once; its memory goes only when the last op is retired, its fibers have
 * returned and its children have ended. Then its cleanups run, newest first, then `on_end`.
 * Loop:   of one loop; nothing here runs a callback inside the call that causes it, but scope_run().
 * Memory: a scope is the task room's; what is allocated from `arena` lives until on_end has returned.
 * Limits: `memory_max` soft: the allocation succeeds and the scope is canceled (SCOPE_MEMORY); `memory_hard` aborts, named.
 */
#ifndef WEFT_TASK_SCOPE_H
#define WEFT_TASK_SCOPE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/list.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "task/tasks.h"
#include <stdbool.h>
#include <stdint.h>

struct scope;

/* Why a scope was canceled. The ABI's WEFT_WHY_ numbers in the same order. */
enum scope_why {
    SCOPE_ALIVE,       /* it was not */
    SCOPE_CLIENT_GONE, /* the client left */
    SCOPE_DEADLINE,    /* its budget is used up */
    SCOPE_SIBLING,     /* a group's loser, or a failed sibling */
    SCOPE_EXPLICIT,    /* its user asked for it */
    SCOPE_REPLIED,     /* the reply was sent and the owner let go */
    SCOPE_SHUTDOWN,    /* the worker ends */
    SCOPE_MEMORY       /* beyond its limit of memory */
};

enum scope_account { SCOPE_TIME_PG, SCOPE_TIME_CALL, SCOPE_TIME_COUNT };

struct scope_handler {
    /* No fiber of it lives, no op is pending or undelivered, no child lives. Runs each time that becomes so after a
     * fiber returned; the owner finishes the scope, or starts something, or lets it be. May be NULL. */
    void (*on_idle)(struct scope *scope);
    /* It was canceled with scope->why: told once, from the ready list, beside what its ops are told. May be NULL. */
    void (*on_cancel)(struct scope *scope);
    /* It ended: nothing of it runs any more; its memory goes when this returns. May be NULL. */
    void (*on_end)(struct scope *scope);
};

struct scope {
    uint32_t magic;       /* SCOPE_MAGIC */
    enum scope_why why;   /* SCOPE_ALIVE: not canceled */
    uint64_t handle;      /* for who must not hold addresses */
    struct tasks *tasks;  /* the worker's */
    struct scope *parent; /* NULL: a root */
    struct scope *root;   /* itself, for a root */
    void *owner;          /* the handler's own: a request, a plugin's background job */
    const struct scope_handler *handler; /* what the owner is told */
    struct arena arena;   /* its memory; through scope_alloc() where a plugin chooses the size */
    uint64_t deadline_ms; /* absolute, on the loop's scale; 0: none. Only ever tightened */
    uint64_t request_id;  /* for the blame page and logs; 0: none */
    uint32_t blame_index; /* which plugin and route, for the blame page */
    uint32_t flags;       /* SCOPE_SHIELD, SCOPE_SUPERVISE */
    const char *reason; /* why the last op that failed did: a token such as "pg_queue_full"; NULL */
    uint64_t spent_us[SCOPE_TIME_COUNT]; /* of the root: time that ops were under way, by account */
    size_t memory_max, memory_hard;      /* limits of the arena's bytes */
    struct list ops;                     /* every op that was not released */
    struct list children;                /* living ones */
    struct list _link;                   /* among the parent's children or the tasks' scopes */
    struct list _cleanups;               /* newest first */
    struct timer _timer;                 /* the deadline */
    struct timer _shield;                /* while it runs, the client's leaving does not cancel */
    struct ready _step;  /* on_cancel, on_idle and the end are told from the ready list */
    uint32_t _running;   /* fibers that live */
    uint32_t _pending;   /* ops not settled, or settled and not yet told to their consumer */
    uint32_t _unretired; /* ops that still hold something of the host */
    uint32_t _state;     /* see scope.c */
};

#define SCOPE_MAGIC 0x73636f70u

enum { SCOPE_SHIELD = 1, SCOPE_SUPERVISE = 2 };

/* A root scope, with `budget_ms` from now (0: no deadline). */
struct scope *scope_create(struct tasks *tasks, const struct scope_handler *handler, void *owner,
                           uint64_t budget_ms);

/* A child: its deadline is the sooner of its own and the parent's; canceled with the parent, and keeps it from ending.
 * SCOPE_SHIELD: the parent's being canceled does not cancel it, and its deadline is its own alone (budget_ms > 0 then).
 * It ends by scope_finish(), or with its parent's finish. */
struct scope *scope_child(struct scope *parent, uint64_t budget_ms, uint32_t flags);

/* The living scope of `handle`; NULL for a stale one. */
struct scope *scope_of(const struct tasks *tasks, uint64_t handle);

/* Tightens the deadline to `ms` from now; a later one changes nothing. */
void scope_tighten(struct scope *scope, uint64_t ms);

/* Milliseconds left; 0: passed; UINT64_MAX: no deadline. */
uint64_t scope_budget_ms(const struct scope *scope);

/* For `ms` from now, SCOPE_CLIENT_GONE does not cancel it; if the client left meanwhile, it does at the end of that time. */
void scope_shield(struct scope *scope, uint32_t ms);

/* Cancels: its pending ops settle, its children are canceled (shielded ones not). The first reason stands. */
void scope_cancel(struct scope *scope, enum scope_why why);

/* What an op of it gets that is born or found canceled: ERR_DEADLINE or ERR_CANCELED. */
enum err scope_error(const struct scope *scope);

/* The owner lets go: cancels it with `why` if it was not, children too, shielded ones excepted; it ends as soon as it can. Once. */
void scope_finish(struct scope *scope, enum scope_why why);

/* Runs `fn(scope, data)` on a fiber in this scope, at once, with the blame page set; `admitted` false: false at the fiber
 * limit and nothing ran. */
typedef void scope_fn(struct scope *scope, void *data);
bool scope_run(struct scope *scope, scope_fn *fn, void *data, bool admitted);

/* The scope whose fiber runs now, or NULL. */
struct scope *scope_current(const struct tasks *tasks);

/* `size` zeroed bytes of the arena, under the limits. */
void *scope_alloc(struct scope *scope, size_t size) __attribute__((returns_nonnull));

/* Has `fn(data)` run when the scope ends, newest first, on the loop's stack with the blame page set; it cannot wait. */
void scope_defer(struct scope *scope, void (*fn)(void *data), void *data);

/* Is there neither a living fiber, nor a pending op, nor a child? */
bool scope_is_idle(const struct scope *scope);

#endif
