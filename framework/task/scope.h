/* task/scope.h - the one noun for lifetime: arena, deadline, cancel, and the ops in it.
 *
 *   OPEN ──▶ CANCELED (with a reason; level-triggered: every new op is born canceled)
 *     └──────────┴──▶ FINISHING (the owner let go) ──▶ ended
 *
 * A scope that is canceled settles its ops at once; its memory goes only when the last op is
 * retired, its fibers have returned, its consumers were told and its children have ended. Then its
 * cleanups run, newest first, then its ops are released, then `on_end`.
 * Loop:   of one loop; nothing here runs a callback inside the call that causes it, but scope_run()
 *         runs its function at once.
 * Memory: a scope is the task room's; what is allocated from `arena` lives until on_end returned.
 * Limits: on the memory of a whole tree, scopes and children that live counted, too: beyond
 *         `memory_max` the allocation succeeds, and scope and root are canceled (SCOPE_MEMORY);
 *         beyond `memory_hard` the worker aborts, and the log names the scope. Results that ops
 *         hold outside of the arena (op_hold()) count up to `memory_hard`, and then cancel.
 */
#ifndef WEFT_TASK_SCOPE_H
#define WEFT_TASK_SCOPE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/list.h"
#include "base/log.h"
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

/* What the time of an op counts for. QUEUE: what it waited for a session or a connection, which is
 * in none of the others. */
enum scope_account { SCOPE_TIME_PG, SCOPE_TIME_CALL, SCOPE_TIME_QUEUE, SCOPE_TIME_COUNT };

/* Of scope_child(): the parent's being canceled does not cancel it; a failed child of an ALL group
 * of ops started in it does not cancel the others. */
enum { SCOPE_SHIELD = 1, SCOPE_SUPERVISE = 2 };

/* Bytes that scope_alloc() may hand out before the worker aborts, unless the owner says else. */
enum { SCOPE_MEMORY_HARD = 64 * 1024 * 1024 };

/* What the owner is told, on the loop's stack; constant, and may be shared by many scopes. */
struct scope_handler {
    /* Nothing of it goes on any more: no fiber of it or of a child lives, and no op of them is
     * pending or undelivered. Runs each time that becomes so once a fiber of it has returned; the
     * owner finishes the scope, or starts something, or lets it be. Not after scope_finish(). May
     * be NULL. */
    void (*on_idle)(struct scope *scope);
    /* It was canceled with scope->why: told once, from the ready list, beside what its ops are
     * told. Not where the owner has called scope_finish() by then. May be NULL. */
    void (*on_cancel)(struct scope *scope);
    /* It ended: nothing of it runs any more; its memory goes when this returns. May be NULL. */
    void (*on_end)(struct scope *scope);
};

/* One lifetime. To be read by all; others write only where it says so. */
struct scope {
    uint32_t magic;       /* SCOPE_MAGIC */
    enum scope_why why;   /* SCOPE_ALIVE: not canceled */
    uint64_t handle;      /* for who must not hold addresses */
    struct tasks *tasks;  /* the worker's */
    struct scope *parent; /* NULL: a root */
    struct scope *root;   /* itself, for a root */
    void *owner;          /* the handler's own: a request, a plugin's background job */
    const struct scope_handler *handler; /* NULL, or what the owner is told; a child's owner may set
                                          * it once the child is made */
    struct arena arena; /* its memory; through scope_alloc() where a plugin chooses the size */
    uint64_t
        deadline_ms; /* absolute, on the loop's scale; 0: none. Only scope_renew() puts it off */
    uint64_t request_id;  /* for the blame page and logs; 0: none. The owner writes it */
    uint32_t blame_index; /* which plugin and route, for the blame page. The owner writes it */
    uint32_t flags;       /* SCOPE_SHIELD, SCOPE_SUPERVISE */
    const char *reason;   /* why the last op that failed did, those of children included: a token
                             * such as "pg_queue_full"; NULL */
    uint64_t spent_us[SCOPE_TIME_COUNT]; /* of a root: time that ops below were under way */
    uint32_t lines;        /* of a root: the bits of the lines that ops below have joined */
    uint32_t held_count;   /* of a root: sessions that transactions hold; the room pg writes it */
    size_t memory_max;     /* bytes, soft; 0: no limit. A root's counts, and its owner writes it */
    size_t memory_hard;    /* the same, hard; SCOPE_MEMORY_HARD at first */
    size_t held;           /* of a root: bytes of the arenas and scopes of its tree */
    size_t results;        /* of a root: bytes that ops of its tree hold beside them */
    struct list ops;       /* every op that was not released */
    struct list children;  /* living ones */
    uint64_t _own_ms;      /* of a child: the deadline that it was given itself; 0: none */
    struct list _link;     /* among the parent's children or the tasks' roots */
    struct list _cleanups; /* newest first */
    struct timer _timer;   /* the deadline */
    struct timer _shield;  /* while it runs, the client's leaving does not cancel */
    struct ready _step;    /* on_cancel, on_idle and the end are told from the ready list */
    uint32_t _running;     /* fibers of it that live */
    uint32_t _pending;     /* ops not settled, or settled and not yet told */
    uint32_t _busy;        /* the two, and children that are busy themselves */
    uint32_t _futile;      /* awaits that found it canceled already */
    uint32_t _unretired;   /* ops that still hold something of the host */
    size_t _noted;         /* bytes of the arena that the root's `held` has */
    struct scope *_leaver; /* the ancestor whose finish left it; NULL: none did */
    uint32_t _state;       /* see scope.c */
    uint32_t _notes;       /* see scope.c */
};

#define SCOPE_MAGIC 0x73636f70u

/* Life */

/* A root scope, with `budget_ms` from now (0: no deadline). `handler` may be NULL. */
struct scope *scope_create(struct tasks *tasks, const struct scope_handler *handler, void *owner,
                           uint64_t budget_ms);

/* A child, with the parent's owner, limits and names for the blame page, and no handler. Its
 * deadline is the sooner of its own (`budget_ms`; 0: none) and the parent's; it is canceled with
 * the parent, at birth too, and keeps it from ending. SCOPE_SHIELD: the parent's being canceled
 * does not cancel it, and its deadline is its own alone (budget_ms > 0 then, checked). It ends by
 * scope_finish(); or, where an ancestor is finished first, when nothing in the whole of that
 * ancestor's tree runs or is pending any more. NULL: the parent's cleanups run. */
struct scope *scope_child(struct scope *parent, uint64_t budget_ms, uint32_t flags);

/* The living scope of `handle`; NULL for a stale one. */
struct scope *scope_of(const struct tasks *tasks, uint64_t handle);

/* The owner lets go: cancels it with `why` if it was not, children too, shielded ones excepted; it
 * ends as soon as it can, never inside this call. Once (checked). */
void scope_finish(struct scope *scope, enum scope_why why);

/* Ends a finished scope now instead of from the ready list, where nothing of it goes on: so its
 * memory is used again while it is still in the cache. For the owner, on the loop's stack and
 * outside any callback of the scope. True: it is gone, on_end ran. False: it ends by itself. */
bool scope_reap(struct scope *scope);

/* Limits */

/* Tightens the deadline to `ms` from now, its children's too; a later one changes nothing. */
void scope_tighten(struct scope *scope, uint64_t ms);

/* The same for a root that may well be over before this turn ends: its owner calls scope_watch()
 * by then where it is not, and no timer runs for it before. */
void scope_tighten_unwatched(struct scope *root, uint64_t ms);
void scope_watch(struct scope *root);

/* Sets the deadline of a root anew, to `ms` from now (0: none), later though it may be: for what
 * has no length of its own, and may go on as long as it moves. Deadlines that children were given
 * themselves stay. Canceled, it stays so. */
void scope_renew(struct scope *root, uint64_t ms);

/* Milliseconds left; 0: passed; UINT64_MAX: no deadline. */
uint64_t scope_budget_ms(const struct scope *scope);

/* For `ms` from now, SCOPE_CLIENT_GONE does not cancel it; if the client left meanwhile, it does at
 * the end of that time. A second call may prolong that time, never shorten it. */
void scope_shield(struct scope *scope, uint32_t ms);

/* Cancel */

/* Cancels: its pending ops settle, its children are canceled (shielded ones not). The first reason
 * stands: a canceled one stays as it is. `why` is not SCOPE_ALIVE. */
void scope_cancel(struct scope *scope, enum scope_why why);

/* What an op of it gets that is born or found canceled: ERR_DEADLINE or ERR_CANCELED. */
enum err scope_error(const struct scope *scope);

/* Running */

/* What scope_run() runs, on a fiber. */
typedef void scope_fn(struct scope *scope, void *data);

/* Runs `fn(scope, data)` on a fiber in this scope, at once, with the blame page set, until it
 * returns or waits for the first time. False, and nothing ran: its cleanups run; or, unless
 * `admitted`, at the limit of fibers. */
bool scope_run(struct scope *scope, scope_fn *fn, void *data, bool admitted);

/* The scope whose fiber runs now, or NULL. */
struct scope *scope_current(const struct tasks *tasks);

/* Has it begun to end: do its cleanups run? It cannot be finished then, nor have children. */
bool scope_is_ending(const struct scope *scope);

/* Who it is, as fields of a log line: plugin and route by the page of blame, and the request's id;
 * absent where they are not known. `who` must stay put until they were written. */
struct scope_who {
    struct log_field fields[3]; /* plugin, route, request */
    char request[17];           /* the last one's text */
};
void scope_who(const struct scope *scope, struct scope_who *who);

/* Does nothing of it go on: neither a fiber of it or of a child, nor a pending or undelivered
 * op? */
bool scope_is_idle(const struct scope *scope);

/* For who looks at all of them: the root after `root` (NULL: the first), in the order of their
 * start, and the scope after `scope` in the tree of `root`, parents first; NULL at the end. Nothing
 * may start or end meanwhile. */
struct scope *scope_next_root(const struct tasks *tasks, const struct scope *root);
struct scope *scope_next_in(const struct scope *root, struct scope *scope);

/* Memory */

/* `size` zeroed bytes of the arena, under the limits of the root. */
void *scope_alloc(struct scope *scope, size_t size) __attribute__((returns_nonnull));

/* Bytes that may still be allocated, with a reserve for what the host itself needs: for a size that
 * a peer has a part in. Who would take more cancels the scope instead (SCOPE_MEMORY). */
size_t scope_room(const struct scope *scope);

/* Has `fn(data)` run when the scope ends, newest first, on the loop's stack with the blame page
 * set; it cannot wait, and ops that it starts are born canceled. */
void scope_defer(struct scope *scope, void (*fn)(void *data), void *data);

#endif
