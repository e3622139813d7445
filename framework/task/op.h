/* task/op.h - the one noun for what takes time: an operation that settles exactly once.
 *
 *   PENDING ──▶ SETTLED (status known; consumer told from the ready list) ──▶ TOLD ──▶ released
 *
 * Starting never fails: what fails at once is an op that has already settled. A consumer never runs inside the call that
 * took it, nor inside the call that settled it. Settled is not retired: a provider whose machinery still points at the
 * op's memory retires it later (most retire at once: what is in flight belongs to the session or connection, which only
 * points at the op and forgets it). An op lies in its scope's arena; its handle is checked at each use.
 * Loop:   of one loop.
 * Memory: embed `struct op` as the first member of the provider's struct, allocated from the scope's arena. `release` of the
 *         kind lets go of a result when the op is released: by op_release(), or at the scope's end.
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

struct op;
struct fiber;

/* What a provider does. */
struct op_kind {
    const char *name; /* "pg query", for logs */
    int account;      /* an enum scope_account that its time counts for; -1: none */
    void (*withdraw)(
        struct op *
            op); /* the op was canceled while pending, and is settled: stop, forget it, and op_retire()
                                         * it now or when nothing points at it any more */
    void (*release)(struct op *op); /* lets go of the result; NULL: nothing to let go of */
};

/* Told that `op` settled. */
typedef void op_fn(struct op *op, void *data);

enum op_state { OP_PENDING, OP_SETTLED, OP_TOLD };

struct op {
    uint32_t magic;             /* OP_MAGIC */
    enum op_state state;        /* see above */
    enum err status;            /* once settled */
    bool is_retired;            /* nothing of the host points at it */
    bool is_deaf;               /* its consumer was taken: told by nobody else */
    bool _on_fiber;             /* the consumer runs on a fiber */
    uint64_t handle;            /* for who must not hold addresses */
    struct scope *scope;        /* in which it runs */
    const struct op_kind *kind; /* its provider */
    struct span error;          /* a text for people, in the arena; absent */
    uint64_t started_us;        /* loop time */
    struct list _link;          /* among the scope's ops */
    struct list _watchers;      /* struct op_watch: groups */
    struct ready _tell;         /* in the ready list once settled */
    op_fn *_fn;                 /* the consumer, or NULL */
    void *_data;                /* for _fn */
    struct fiber *_waiting;     /* the fiber that awaits it, or NULL */
};

#define OP_MAGIC 0x6f702121u

/* A watcher beside the consumer: runs on the loop's stack, before the consumer. Embedded by its user, who unlinks it
 * (list_remove) where it goes before the op settles. */
struct op_watch {
    struct list link; /* among the op's watchers */
    op_fn *fn;        /* what runs */
    void *data;       /* for fn */
};

/* Makes a pending op in `scope`; `op` is zeroed memory from the scope's arena. False: the scope is canceled or its deadline has
 * passed; the op is born settled and retired, and the provider starts nothing. */
bool op_init(struct op *op, struct scope *scope, const struct op_kind *kind)
    __attribute__((warn_unused_result));

/* The living op of `handle`; NULL for a stale one. */
struct op *op_of(const struct tasks *tasks, uint64_t handle);

/* An op that has failed at once, for callers that must answer with one. `text` (may be absent) is copied. */
struct op *op_failed(struct scope *scope, enum err err, const char *reason, struct span text);

/* The outcome, once. `reason` is NULL or a constant token for the access log; it becomes the scope's where err is not
 * ERR_OK. Not retired by this. */
void op_settle(struct op *op, enum err err, const char *reason);

/* Sets the text for people, before op_settle(); copied into the scope's arena. */
void op_explain(struct op *op, struct span text);

/* The provider is done with the op's memory. Once; the op is settled. */
void op_retire(struct op *op);

/* The two together. */
void op_finish(struct op *op, enum err err, const char *reason);

/* Settles a pending op as canceled (ERR_CANCELED, ERR_DEADLINE by the scope's reason) and withdraws it; a settled one stays as it
 * is. */
void op_cancel(struct op *op);

/* The same with a given error, for limits of an op's own. */
void op_cancel_as(struct op *op, enum err err, const char *reason);

/* Takes the one consumer: `fn(op, data)` from the ready list, on a fiber of the op's scope. ERR_STATE: it has one already. */
enum err op_then(struct op *op, op_fn *fn, void *data) __attribute__((warn_unused_result));

/* The same for the host's own code: on the loop's stack, where nothing can wait. */
enum err op_notify(struct op *op, op_fn *fn, void *data) __attribute__((warn_unused_result));

/* Waits on the current fiber until the op has settled, and answers its status. ERR_STATE: it has a consumer already, or no
 * fiber runs. */
enum err op_await(struct op *op);

/* Lets go of a settled op before its scope ends: its handle is stale afterwards. ERR_STATE: it is pending, not yet told, or not retired. */
enum err op_release(struct op *op) __attribute__((warn_unused_result));

/* Watches: `watch->fn` runs when the op settles (from the ready list; also if it has settled already). */
void op_watch(struct op *op, struct op_watch *watch);

/* An op that settles OK after `ms`. */
struct op *op_sleep(struct scope *scope, uint32_t ms);

/* ---- for scope.c ---- */
/* Ends a retired op at its scope's end: release, handle. */
void op_destroy(struct op *op);

#endif
