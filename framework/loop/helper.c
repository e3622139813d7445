/* loop/helper.c - a few threads for what blocks: work on a thread, the end of it on the loop.
 *
 *   helper_run() ──▶ WAITING ──▶ BEGUN (a thread works) ──▶ FINISHED ──▶ done, on the loop
 *                       └──▶ taken back, or dropped by helpers_destroy()
 *
 * One lock guards both lists and the counts of threads; it is never held while work or done runs.
 * The first of the finished ones wakes the loop through an eventfd of our own: unlike a post, that
 * can be stopped, so nothing is under way any more once helpers_destroy() returns.
 *
 * Each thread has a stack for signal handlers beside its own: one whose stack is full could not say
 * so otherwise.
 */
#include "loop/helper.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREADS_MAX = 64, SIGNAL_STACK_SIZE = 64 * 1024 };

/* The page below a helper thread's stack; 0 on other threads. */
static _Thread_local struct {
    uintptr_t start; /* its address */
    size_t size;     /* bytes */
} guard;

struct helpers {
    struct io io;           /* of wake_fd */
    int wake_fd;            /* eventfd: something is finished */
    uint32_t pending;       /* jobs whose done has not run; the loop's alone */
    uint32_t threads_max;   /* never changes */
    uint32_t threads_count; /* started; the loop's alone */
    pthread_t threads[THREADS_MAX];

    pthread_mutex_t lock;    /* guards what follows, and the links of jobs */
    pthread_cond_t has_work; /* a job waits, or is_ending */
    struct list waiting;     /* jobs in line */
    struct list finished;    /* jobs whose done is due */
    uint32_t waiting_count;  /* of waiting */
    uint32_t idle_count;     /* threads that wait for a job */
    bool is_ending;          /* threads are to return */
};

static void lock(struct helpers *helpers)
{
    CHECK(pthread_mutex_lock(&helpers->lock) == 0);
}

static void unlock(struct helpers *helpers)
{
    CHECK(pthread_mutex_unlock(&helpers->lock) == 0);
}

static void wake_loop(int fd)
{
    const uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0)
        CHECK(errno == EINTR);
}

/* Takes the next job, or NULL when it is time to return. Called and left with the lock held. */
static struct job *next_job(struct helpers *helpers)
{
    struct list *link;
    struct job *job;

    while (!helpers->is_ending && list_is_empty(&helpers->waiting)) {
        helpers->idle_count++;
        CHECK(pthread_cond_wait(&helpers->has_work, &helpers->lock) == 0);
        helpers->idle_count--;
    }
    if (helpers->is_ending || (link = list_first(&helpers->waiting)) == NULL)
        return NULL;
    job = CONTAINER_OF(link, struct job, _link);
    list_remove(link);
    helpers->waiting_count--;
    job->_has_begun = true;
    return job;
}

static void note_guard(void)
{
    pthread_attr_t attr;
    void *stack;
    size_t size;

    CHECK(pthread_getattr_np(pthread_self(), &attr) == 0);
    CHECK(pthread_attr_getstack(&attr, &stack, &size) == 0);
    CHECK(pthread_attr_getguardsize(&attr, &guard.size) == 0);
    CHECK(pthread_attr_destroy(&attr) == 0);
    guard.start = (uintptr_t)stack - guard.size;
}

/* A stack for this thread's signal handlers; NULL: it has a sanitizer's. */
static void *take_signal_stack(void)
{
    stack_t ours = {.ss_size = SIGNAL_STACK_SIZE};
    stack_t before;

    CHECK(sigaltstack(NULL, &before) == 0);
    if ((before.ss_flags & SS_DISABLE) == 0)
        return NULL;
    ours.ss_sp = mem_alloc(SIGNAL_STACK_SIZE);
    CHECK(sigaltstack(&ours, NULL) == 0);
    return ours.ss_sp;
}

static void give_signal_stack(void *stack)
{
    const stack_t none = {.ss_flags = SS_DISABLE};

    if (stack != NULL)
        CHECK(sigaltstack(&none, NULL) == 0);
    mem_free(stack);
}

static void *work(void *data)
{
    void *signal_stack = take_signal_stack();
    struct helpers *helpers = data;
    struct job *job;

    note_guard();
    lock(helpers);
    while ((job = next_job(helpers)) != NULL) {
        bool is_first;

        unlock(helpers);
        job->_work(job);
        lock(helpers);
        is_first = list_is_empty(&helpers->finished);
        list_append(&helpers->finished, &job->_link);
        if (is_first)
            wake_loop(helpers->wake_fd);
    }
    unlock(helpers);
    give_signal_stack(signal_stack);
    return NULL;
}

/* Runs `done` of all that have finished by now. */
static void finish(struct helpers *helpers)
{
    struct list finished;
    struct list *link;

    list_init(&finished);
    lock(helpers);
    list_move_all(&finished, &helpers->finished);
    unlock(helpers);
    while ((link = list_first(&finished)) != NULL) {
        struct job *job = CONTAINER_OF(link, struct job, _link);

        list_remove(link);
        job->_helpers = NULL;
        helpers->pending--;
        job->_done(job); /* last: it may free the job */
    }
}

static void on_finished(struct io *io, uint32_t events)
{
    struct helpers *helpers = CONTAINER_OF(io, struct helpers, io);
    uint64_t count;

    CHECK(events == IO_READ);
    if (read(helpers->wake_fd, &count, sizeof count) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    finish(helpers);
}

/* Signals are the loop's business: a new thread inherits a mask that blocks them all, but for those
 * that are its own fault: blocked, they would end the process before anybody can say why. */
static void start_thread(struct helpers *helpers)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGSYS};
    sigset_t all;
    sigset_t before;
    int result;

    CHECK(sigfillset(&all) == 0);
    for (unsigned i = 0; i < sizeof faults / sizeof faults[0]; i++)
        CHECK(sigdelset(&all, faults[i]) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    result = pthread_create(&helpers->threads[helpers->threads_count], NULL, work, helpers);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (result == 0)
        helpers->threads_count++;
    CHECK(helpers->threads_count > 0); /* with fewer than wanted the line is only slower */
}

struct helpers *helpers_create(struct loop *loop, uint32_t threads_max)
{
    struct helpers *helpers = mem_alloc(sizeof *helpers);

    CHECK(threads_max > 0);
    CHECK(threads_max <= THREADS_MAX);
    helpers->threads_max = threads_max;
    CHECK(pthread_mutex_init(&helpers->lock, NULL) == 0);
    CHECK(pthread_cond_init(&helpers->has_work, NULL) == 0);
    list_init(&helpers->waiting);
    list_init(&helpers->finished);
    helpers->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(helpers->wake_fd >= 0);
    io_start(loop, &helpers->io, helpers->wake_fd, IO_READ, on_finished);
    return helpers;
}

static void drop_waiting(struct helpers *helpers)
{
    LIST_EACH (&helpers->waiting, link) {
        struct job *job = CONTAINER_OF(link, struct job, _link);

        list_remove(link);
        job->_helpers = NULL;
        helpers->pending--;
    }
    helpers->waiting_count = 0;
}

void helpers_destroy(struct helpers *helpers)
{
    if (helpers == NULL)
        return;
    lock(helpers);
    drop_waiting(helpers);
    helpers->is_ending = true;
    CHECK(pthread_cond_broadcast(&helpers->has_work) == 0);
    unlock(helpers);
    for (uint32_t i = 0; i < helpers->threads_count; i++)
        CHECK(pthread_join(helpers->threads[i], NULL) == 0);
    finish(helpers);
    CHECK(helpers->pending == 0); /* `done` may not run another job by now */
    io_stop(&helpers->io);
    (void)close(helpers->wake_fd);
    CHECK(pthread_cond_destroy(&helpers->has_work) == 0);
    CHECK(pthread_mutex_destroy(&helpers->lock) == 0);
    mem_free(helpers);
}

void helper_run(struct helpers *helpers, struct job *job, job_fn *work_fn, job_fn *done)
{
    bool wants_thread;

    CHECK(helpers != NULL);
    CHECK(job->_helpers == NULL);
    CHECK(work_fn != NULL);
    CHECK(done != NULL);
    *job = (struct job){._helpers = helpers, ._work = work_fn, ._done = done};
    helpers->pending++;
    lock(helpers);
    CHECK(!helpers->is_ending);
    list_append(&helpers->waiting, &job->_link);
    helpers->waiting_count++;
    wants_thread = helpers->waiting_count > helpers->idle_count;
    CHECK(pthread_cond_signal(&helpers->has_work) == 0);
    unlock(helpers);
    if (wants_thread && helpers->threads_count < helpers->threads_max)
        start_thread(helpers);
}

bool helper_take_back(struct helpers *helpers, struct job *job)
{
    bool is_waiting;

    CHECK(helpers != NULL);
    if (job->_helpers == NULL)
        return false;
    CHECK(job->_helpers == helpers);
    lock(helpers);
    is_waiting = !job->_has_begun;
    if (is_waiting) {
        list_remove(&job->_link);
        helpers->waiting_count--;
    }
    unlock(helpers);
    if (!is_waiting)
        return false;
    job->_helpers = NULL;
    helpers->pending--;
    return true;
}

uint32_t helpers_pending(const struct helpers *helpers)
{
    return helpers->pending;
}

bool helper_is_overflow(const void *address)
{
    return guard.size > 0 && (uintptr_t)address - guard.start < guard.size;
}
