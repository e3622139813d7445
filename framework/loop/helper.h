/* loop/helper.h - a few threads for what blocks: work on a thread, the end of it on the loop.
 *
 * Loop:   helper_run() from the loop's thread; `work` runs on a helper thread with all signals
 *         blocked, `done` on the loop.
 * Memory: a job is embedded by its user and must stay put until `done` ran; a job that has begun
 *         cannot be taken back: who no longer wants it lets `done` throw the result away.
 * Limits: `threads_max` threads, started as needed; jobs wait in line without limit (callers bound
 *         them).
 */
#ifndef WEFT_LOOP_HELPER_H
#define WEFT_LOOP_HELPER_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct helpers;
struct job;

typedef void job_fn(struct job *job);

struct job {
    struct job *_next;        /* in line */
    struct helpers *_helpers; /* whose */
    job_fn *work;             /* on a helper thread */
    job_fn *done;             /* on the loop, once */
};

/* No thread is started before the first job. */
struct helpers *helpers_create(struct loop *loop, uint32_t threads_max);

/* Waits for the jobs that run, drops those in line without calling anything, and joins the threads.
 * NULL is fine. */
void helpers_destroy(struct helpers *helpers);

/* Has `work` run on a helper thread and then `done` on the loop. */
void helper_run(struct helpers *helpers, struct job *job, job_fn *work, job_fn *done);

/* Takes back a job that has not begun: true, and nothing of it runs. False: it runs or ran, `done`
 * will come. */
bool helper_take_back(struct helpers *helpers, struct job *job);

/* Jobs that run or wait, for those who drain. */
uint32_t helpers_pending(const struct helpers *helpers);

#endif
