/* loop/helper.h - a few threads for what blocks: work on a thread, the end of it on the loop.
 *
 * Loop:   all calls from the loop's thread; `work` runs on a helper thread with all signals but
 *         SIGSEGV and its like blocked, `done` on the loop.
 * Memory: a job is embedded by its user and must stay put until `done` ran or it was taken back.
 *         One that has begun cannot be taken back: who no longer wants it lets `done` throw the
 *         result away.
 * Limits: `threads_max` threads, started as needed; jobs wait in line without limit (callers bound
 *         them, and their waiting).
 */
#ifndef WEFT_LOOP_HELPER_H
#define WEFT_LOOP_HELPER_H

#include "base/list.h"
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct helpers;
struct job;

/* Work, or the end of it. */
typedef void job_fn(struct job *job);

/* One piece of work. Zeroed: not in line. `work` may use what embeds it until `done` has run; the
 * loop must leave that alone meanwhile. */
struct job {
    struct list _link;        /* in line, or among the finished ones */
    struct helpers *_helpers; /* whose; NULL: not on its way */
    job_fn *_work;            /* on a helper thread */
    job_fn *_done;            /* on the loop, once; may free the job or run it again */
    bool _has_begun;          /* a thread has taken it */
};

/* No thread is started before the first job. Aborts where the kernel gives no descriptor. */
struct helpers *helpers_create(struct loop *loop, uint32_t threads_max);

/* Drops the jobs in line without calling anything, waits for those that run and joins the threads;
 * for jobs that had begun `done` runs, from inside this call, and must not run another one. NULL is
 * fine. */
void helpers_destroy(struct helpers *helpers);

/* Has `work` run on a helper thread and then `done` on the loop. Aborts where there is no thread
 * and none can be started. */
void helper_run(struct helpers *helpers, struct job *job, job_fn *work, job_fn *done);

/* Takes back a job that has not begun: true, and nothing of it runs. False: it runs or ran, `done`
 * will come, unless it came already. */
bool helper_take_back(struct helpers *helpers, struct job *job);

/* Jobs whose `done` has not run yet, for those who drain. */
uint32_t helpers_pending(const struct helpers *helpers);

/* Does `address` lie in the guard page of the calling helper thread's stack (for the crash report)?
 * Such a thread has a stack for signal handlers. Async-signal-safe. */
bool helper_is_overflow(const void *address);

#endif
