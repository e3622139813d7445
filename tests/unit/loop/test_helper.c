/* Goal: work runs on threads and its end on the loop, once, without holding the loop up; a job that
 * has not begun can be taken back, one that has cannot; when the helpers go, nothing of theirs runs
 * any more and no thread is left. */
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "loop/helper.h"
#include "loop/loop.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { JOBS = 200 };

/* A job that counts, and that can be held up. */
struct task {
    struct job job;
    struct board *board;
    sem_t *gate;      /* NULL, or waited for by work */
    pthread_t worker; /* who worked */
    uint32_t worked;  /* times */
    uint32_t done;    /* times */
};

/* What the tasks of a test share. */
struct board {
    struct loop *loop;
    struct helpers *helpers;
    atomic_uint begun;   /* tasks that a thread has taken */
    atomic_uint running; /* at this moment */
    atomic_uint running_max;
    uint32_t done;
};

static int set_up(void **state)
{
    static struct board board;

    memset(&board, 0, sizeof board);
    board.loop = loop_create(NULL);
    board.helpers = helpers_create(board.loop, 3);
    *state = &board;
    return 0;
}

static int tear_down(void **state)
{
    struct board *board = *state;

    helpers_destroy(board->helpers);
    helpers_destroy(NULL);
    loop_destroy(board->loop);
    return 0;
}

static void work(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);
    uint32_t running = atomic_fetch_add(&task->board->running, 1) + 1;
    uint32_t most = atomic_load(&task->board->running_max);

    while (running > most &&
           !atomic_compare_exchange_weak(&task->board->running_max, &most, running))
        ;
    atomic_fetch_add(&task->board->begun, 1);
    task->worker = pthread_self();
    if (task->gate != NULL)
        assert_int_equal(sem_wait(task->gate), 0);
    task->worked++;
    atomic_fetch_sub(&task->board->running, 1);
}

static void done(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);

    assert_int_equal(task->worked, task->done + 1);
    task->done++;
    task->board->done++;
}

static void wait_for_begun(struct board *board, uint32_t count)
{
    while (atomic_load(&board->begun) < count)
        run_turns(board->loop, 1);
}

static void test_many_jobs_on_few_threads(void **state)
{
    struct board *board = *state;
    static struct task tasks[JOBS];

    memset(tasks, 0, sizeof tasks);
    for (uint32_t i = 0; i < JOBS; i++) {
        tasks[i].board = board;
        helper_run(board->helpers, &tasks[i].job, work, done);
    }
    assert_int_equal(helpers_pending(board->helpers), JOBS);
    run_until_count(board->loop, &board->done, JOBS);
    assert_int_equal(helpers_pending(board->helpers), 0);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_int_equal(tasks[i].done, 1);
        assert_false(pthread_equal(tasks[i].worker, pthread_self()));
    }
    assert_in_range(atomic_load(&board->running_max), 1, 3);
}

static void test_one_that_is_held_up_holds_nobody_up(void **state)
{
    struct board *board = *state;
    struct task slow = {.board = board};
    struct task quick = {.board = board};
    sem_t gate;

    assert_int_equal(sem_init(&gate, 0, 0), 0);
    slow.gate = &gate;
    helper_run(board->helpers, &slow.job, work, done);
    wait_for_begun(board, 1);
    helper_run(board->helpers, &quick.job, work, done);
    run_until_count(board->loop, &board->done, 1);
    assert_int_equal(quick.done, 1);
    assert_int_equal(slow.done, 0);
    assert_false(helper_take_back(board->helpers, &slow.job));
    assert_int_equal(sem_post(&gate), 0);
    run_until_count(board->loop, &board->done, 2);
    assert_false(helper_take_back(board->helpers, &slow.job));
    assert_int_equal(sem_destroy(&gate), 0);
}

static void test_taken_back_before_it_began(void **state)
{
    struct board *board = *state;
    struct task tasks[5] = {{.board = board}};
    sem_t gate;

    assert_int_equal(sem_init(&gate, 0, 0), 0);
    for (uint32_t i = 0; i < 5; i++) {
        tasks[i] = (struct task){.board = board, .gate = &gate};
        helper_run(board->helpers, &tasks[i].job, work, done);
    }
    wait_for_begun(board, 3);
    assert_true(helper_take_back(board->helpers, &tasks[3].job));
    assert_false(helper_take_back(board->helpers, &tasks[3].job));
    assert_int_equal(helpers_pending(board->helpers), 4);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(sem_post(&gate), 0);
    run_until_count(board->loop, &board->done, 4);
    run_turns(board->loop, 3);
    assert_int_equal(tasks[3].worked + tasks[3].done, 0);
    assert_int_equal(tasks[4].done, 1);
    assert_int_equal(sem_destroy(&gate), 0);
}

static void run_again(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);

    done(job);
    if (task->done < 3)
        helper_run(task->board->helpers, job, work, run_again);
}

static void free_task(struct job *job)
{
    struct task *task = CONTAINER_OF(job, struct task, job);

    task->board->done++;
    free(task);
}

static void test_done_may_run_it_again_or_free_it(void **state)
{
    struct board *board = *state;
    struct task again = {.board = board};
    struct task *freed = calloc(1, sizeof *freed);

    helper_run(board->helpers, &again.job, work, run_again);
    run_until_count(board->loop, &board->done, 3);
    freed->board = board;
    helper_run(board->helpers, &freed->job, work, free_task);
    run_until_count(board->loop, &board->done, 4);
}

static void *open_gate(void *data)
{
    /* helpers_destroy() waits for those who work, so somebody else has to let them go on: the three
     * that have begun, and others that begin if this runs before it. */
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(sem_post(data), 0);
    return NULL;
}

static void test_destroyed_with_jobs_in_every_state(void **state)
{
    struct board *board = *state;
    struct task finished = {.board = board};
    struct task tasks[6];
    pthread_t opener;
    sem_t gate;

    assert_int_equal(sem_init(&gate, 0, 0), 0);
    helper_run(board->helpers, &finished.job, work, done);
    while (atomic_load(&board->begun) < 1 || atomic_load(&board->running) > 0)
        ; /* finished, or just about to be, while the loop does not turn */
    for (uint32_t i = 0; i < 6; i++) {
        tasks[i] = (struct task){.board = board, .gate = &gate};
        helper_run(board->helpers, &tasks[i].job, work, done);
    }
    while (atomic_load(&board->begun) < 4)
        ;
    /* Three run, three wait and are dropped, unless the gates open first. */
    for (uint32_t i = 3; i < 6; i++)
        assert_false(tasks[i].job._has_begun);
    assert_int_equal(pthread_create(&opener, NULL, open_gate, &gate), 0);
    helpers_destroy(board->helpers);
    board->helpers = NULL;
    assert_int_equal(pthread_join(opener, NULL), 0);
    assert_int_equal(finished.done, 1);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(tasks[i].done, 1);
    assert_in_range(board->done, 4, 7);
    run_turns(board->loop, 2);
    assert_int_equal(sem_destroy(&gate), 0);
}

static void look_at_signals(struct job *job)
{
    sigset_t mask;

    (void)job;
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    assert_true(sigismember(&mask, SIGTERM));
    assert_true(sigismember(&mask, SIGCHLD));
    assert_false(sigismember(&mask, SIGSEGV)); /* a crash report wants to see it */
    CONTAINER_OF(job, struct task, job)->worked++;
}

static void test_signals_are_the_loops_business(void **state)
{
    struct board *board = *state;
    struct task task = {.board = board};
    sigset_t mask;

    helper_run(board->helpers, &task.job, look_at_signals, done);
    run_until_count(board->loop, &board->done, 1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    assert_false(sigismember(&mask, SIGTERM));
}

static void look_at_stacks(struct job *job)
{
    stack_t signals;
    int here = 0;

    assert_int_equal(sigaltstack(NULL, &signals), 0);
    assert_int_equal(signals.ss_flags & SS_DISABLE, 0); /* a full stack can be reported */
    assert_false(helper_is_overflow(&here));
    CONTAINER_OF(job, struct task, job)->worked++;
}

/* That an overflow is known as one is seen in tests/system/test_crash.py. */
static void test_threads_have_a_stack_for_signals(void **state)
{
    struct board *board = *state;
    struct task task = {.board = board};

    helper_run(board->helpers, &task.job, look_at_stacks, done);
    run_until_count(board->loop, &board->done, 1);
    assert_int_equal(task.worked, 1);
    assert_false(helper_is_overflow(NULL));
    assert_false(helper_is_overflow(&task));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_many_jobs_on_few_threads),
        TEST(test_one_that_is_held_up_holds_nobody_up),
        TEST(test_taken_back_before_it_began),
        TEST(test_done_may_run_it_again_or_free_it),
        TEST(test_destroyed_with_jobs_in_every_state),
        TEST(test_signals_are_the_loops_business),
        TEST(test_threads_have_a_stack_for_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
