/* helper.c - in place of loop/helper.c: a job runs on a thread of its own while the loop waits for
 * it, so that what it may not touch is noticed, and the order of things is always the same. */
#include "loop/helper.h"
#include "base/check.h"
#include "base/mem.h"
#include "kit.h"
#include <pthread.h>

struct helpers {
    struct list line; /* jobs that have not begun */
    uint32_t count;   /* of jobs whose `done` has not run */
};

struct helpers *helpers_create(struct loop *loop, uint32_t threads_max)
{
    struct helpers *helpers = mem_alloc(sizeof *helpers);

    (void)loop;
    (void)threads_max;
    list_init(&helpers->line);
    return helpers;
}

void helpers_destroy(struct helpers *helpers)
{
    mem_free(helpers);
}

void helper_run(struct helpers *helpers, struct job *job, job_fn *work, job_fn *done)
{
    CHECK(job->_helpers == NULL);
    *job = (struct job){._helpers = helpers, ._work = work, ._done = done};
    list_append(&helpers->line, &job->_link);
    helpers->count++;
}

bool helper_take_back(struct helpers *helpers, struct job *job)
{
    if (job->_helpers != helpers || job->_has_begun)
        return false;
    list_remove(&job->_link);
    job->_helpers = NULL;
    helpers->count--;
    return true;
}

uint32_t helpers_pending(const struct helpers *helpers)
{
    return helpers->count;
}

static void *on_thread(void *data)
{
    struct job *job = data;

    job->_work(job);
    return NULL;
}

bool kit_helpers_run(struct helpers *helpers)
{
    struct list *link = list_first(&helpers->line);
    struct job *job;
    pthread_t thread;

    if (link == NULL)
        return false;
    job = CONTAINER_OF(link, struct job, _link);
    list_remove(link);
    job->_has_begun = true;
    CHECK(pthread_create(&thread, NULL, on_thread, job) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    job->_helpers = NULL;
    helpers->count--;
    job->_done(job);
    return true;
}
