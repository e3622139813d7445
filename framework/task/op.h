/* task/op.h - the one noun for what takes time: an operation that settles exactly once.
 *
 *   PENDING ──▶ SETTLED ──▶ TOLD ──▶ released
 *
 * SETTLED: its status is known, and somebody to be told. TOLD: they were, or there was nobody.
 *
 * Starting never fails: what fails at once is an op that has already settled. A consumer never runs
 * inside the call that took it, nor inside the call that settled it. Settled is not retired: a
 * provider whose machinery still points at the op's memory retires it later (most retire at once:
 * what is in flight belongs to the session or connection, which only points at the op and forgets
 * it). An op lies in its scope's arena; its handle is checked at each use.
 * Loop:   of one loop.
 * Memory: embed `struct op` as the first member of the provider's struct, allocated from the
 *         scope's arena. `release` of the kind lets go of a result when the op is released: by
 *         op_release(), or at the scope's end.
 */
#ifndef WEFT_TASK_OP_H
#define WEFT_TASK_OP_H

#include "base/error.h"
#include "base/list.h"
#include "base/span.h"
#include "loop/loop.h"
#include "task/scope.h"
#include <stdbool.h>
#include <stdint.h>

struct fiber;
struct op;

/* What a provider does. Constant; its address tells one kind from another. */
struct op_kind {
    const char *name; /* "pg query", for logs */
    int account;      /* an enum scope_account that its time counts for; -1: none */
    /* The op was canceled while pending, and is settled: stop, forget it, and op_retire() it now or
     * when nothing points at it any more. NULL: there is nothing to stop; it is retired at once. */
    void (*withdraw)(struct op *op);
    /* Lets go of the result; once, the op is retired. NULL: nothing to let go of. */
    void (*release)(struct op *op);
    /* For who counts: it has just settled, canceled too, `us` after its start; nobody was told yet.
     * Starts nothing. May be NULL. */
    void (*settled)(const struct op *op, uint64_t us);
    /* For who wants to know what is awaited: writes it to `text` (`size` bytes, with the NUL,
     * longer ones are cut). NULL: its name must do. */
    void (*describe)(const struct op *op, char *text, size_t size);
};

/* Told that `op` settled. It may release `op`. */
typedef void op_fn(struct op *op, void *data);

/* See above; one that is TOLD is SETTLED again while a consumer or watcher that came late waits. */
enum op_state { OP_PENDING, OP_SETTLED, OP_TOLD };

/* One operation. To be read by all, written by this room alone. */
struct op {
    uint32_t magic;             /* OP_MAGIC */
    enum op_state state;        /* see above */
    enum err status;            /* once settled */
    bool is_retired;            /* nothing of the host points at it */
    bool has_begun;             /* it left its queue: op_begin() */
    bool is_deaf;               /* its consumer was taken: told to nobody else */
    bool _on_fiber;             /* the consumer runs on a fiber */
    uint64_t handle;            /* for who must not hold addresses */
    struct scope *scope;        /* in which it runs */
    const struct op_kind *kind; /* its provider */
    struct line *line;          /* in which it waits: op_line_up(); NULL: none */
    struct span error;          /* a text for people, in the arena; absent */
    struct span piece;          /* what a pull of a stream brought, set by its provider before it
                                 * settles OK; absent: the stream's end, or no pull. Good until the
                                 * next pull of that stream */
    uint64_t born_us;           /* loop time of its start */
    uint64_t begun_after_us;    /* how long it was in its queue, once it has begun */
    uint64_t started_us;        /* the same; once it has begun: when it did */
    struct list _link;          /* among the scope's ops */
    struct list _watchers;      /* struct op_watch: groups */
    struct ready _tell;         /* in the ready list while SETTLED */
    op_fn *_fn;                 /* the consumer, or NULL */
    void *_data;                /* for _fn; of a waiting fiber, its scope */
    struct fiber *_waiting;     /* the fiber that awaits it, or NULL */
    size_t _held;               /* bytes of its result beside the arena: op_hold() */
};

#define OP_MAGIC 0x6f702121u

/* A watcher beside the consumer: runs on the loop's stack, before the consumer; it releases no op.
 * Embedded by its user, who unlinks it (list_remove) where it goes before the op settles. Zeroed:
 * in no list. */
struct op_watch {
    struct list link; /* among the op's watchers; in no list when fn runs */
    op_fn *fn;        /* what runs */
    void *data;       /* for fn */
};

/* ---- for providers ---- */

/* Makes a pending op in `scope`; `op` is zeroed memory from the scope's arena. False: the scope is
 * canceled or its deadline has passed; the op is born settled and retired, and the provider starts
 * nothing. */
bool op_init(struct op *op, struct scope *scope, const struct op_kind *kind)
    __attribute__((warn_unused_result));

/* An op that has failed at once, for callers that must answer with one. `text` (may be absent) is
 * copied. `reason` as in op_settle(). */
struct op *op_failed(struct scope *scope, enum err err, const char *reason, struct span text);

/* It waits in `line` until op_begin(), or until it settles. Once more, or after either, changes
 * nothing. */
void op_line_up(struct op *op, struct line *line);

/* It left its queue, for a session or a connection: what it took so far counts as SCOPE_TIME_QUEUE,
 * what follows for its kind's account. Once more, or once it has settled, changes nothing. */
void op_begin(struct op *op);

/* The outcome of a pending op, once (checked). `reason` is NULL or a constant token for the access
 * log; where err is not ERR_OK, it becomes the scope's and its root's. Not retired by this. */
void op_settle(struct op *op, enum err err, const char *reason);

/* Sets the text for people, of a pending op; copied into the scope's arena. */
void op_explain(struct op *op, struct span text);

/* The result holds `bytes` beside the arena until the op is released: they count for the scope's
 * memory, and too many cancel it, later. Of a pending op, as it is settled. */
void op_hold(struct op *op, size_t bytes);

/* The provider is done with the op's memory. Once; the op is settled (both checked). */
void op_retire(struct op *op);

/* op_settle() and op_retire() together. */
void op_finish(struct op *op, enum err err, const char *reason);

/* ---- for users ---- */

/* The scope's op after `op` (NULL: the first), in the order of their start; NULL at the end. */
const struct op *op_next(const struct scope *scope, const struct op *op);

/* The living op of `handle`; NULL for a stale one. */
struct op *op_of(const struct tasks *tasks, uint64_t handle);

/* Settles a pending op as canceled (ERR_CANCELED, or ERR_DEADLINE where that is why its scope was
 * canceled) and withdraws it; a settled one stays as it is. */
void op_cancel(struct op *op);

/* The same with a given error, for limits of an op's own. `reason` as in op_settle(). */
void op_cancel_as(struct op *op, enum err err, const char *reason);

/* Takes the one consumer: `fn(op, data)` from the ready list, on a fiber of the op's scope.
 * ERR_STATE: it has one already, or the scope's cleanups run. */
enum err op_then(struct op *op, op_fn *fn, void *data) __attribute__((warn_unused_result));

/* The same for the host's own code: on the loop's stack, where nothing can wait. */
enum err op_notify(struct op *op, op_fn *fn, void *data) __attribute__((warn_unused_result));

/* Waits on the current fiber until the op has settled, and answers its status; at once where it has
 * settled already. ERR_STATE: it has a consumer already, or is of another root's tree, or no
 * scope's fiber runs. A fiber that goes on and on awaiting in a canceled scope, or what failed at
 * once, is slowed down; so are consumers of what is settled in a canceled scope. */
enum err op_await(struct op *op);

/* An await was refused, for want of an op or of the right one: slows down who goes on and on. Fine
 * where nothing can wait. */
void op_await_none(struct tasks *tasks);

/* Lets go of a settled op before its scope ends: its handle is stale afterwards. ERR_STATE: it is
 * pending, or not yet told (one that was awaited is), or not retired. */
enum err op_release(struct op *op) __attribute__((warn_unused_result));

/* Watches: `watch->fn` (set, as `data` is) runs when the op settles; from the ready list, also if
 * it has settled already. */
void op_watch(struct op *op, struct op_watch *watch);

/* An op that settles OK after `ms`, never earlier; 0: in the next turn. */
struct op *op_sleep(struct scope *scope, uint32_t ms);

#endif
