/* Goal: a signal that was asked for arrives as a callback with its number and sender, others are
 * left alone, and afterwards the process is as it was before. */
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "loop/signals.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What came. */
struct fixture {
    struct loop *loop;
    struct signals signals;
    uint32_t count;
    int numbers[8];
    int pid;    /* of the last one */
    bool stops; /* the callback stops the signals */
};

static void on_signal(struct signals *signals, int number, int pid)
{
    struct fixture *fixture = CONTAINER_OF(signals, struct fixture, signals);

    assert_true(fixture->count < 8);
    fixture->numbers[fixture->count++] = number;
    fixture->pid = pid;
    if (fixture->stops)
        signals_stop(signals);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    sigset_t set;

    memset(&fixture, 0, sizeof fixture);
    fixture.loop = loop_create(NULL);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigaddset(&set, SIGUSR2);
    (void)sigaddset(&set, SIGCHLD);
    signals_start(fixture.loop, &fixture.signals, &set, on_signal);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    signals_stop(&fixture->signals);
    signals_stop(&fixture->signals);
    loop_destroy(fixture->loop);
    return 0;
}

static void test_a_signal_is_a_callback(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(fixture->count, 0);
    run_until_count(fixture->loop, &fixture->count, 1);
    assert_int_equal(fixture->numbers[0], SIGUSR1);
    assert_int_equal(fixture->pid, getpid());
    run_turns(fixture->loop, 2);
    assert_int_equal(fixture->count, 1);
}

static void test_several_at_once(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(raise(SIGUSR2), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(raise(SIGUSR1), 0); /* one of a kind is kept */
    run_until_count(fixture->loop, &fixture->count, 2);
    run_turns(fixture->loop, 2);
    assert_int_equal(fixture->count, 2);
    assert_int_equal(fixture->numbers[0] + fixture->numbers[1], SIGUSR1 + SIGUSR2);
}

static void test_a_child_that_ends(void **state)
{
    struct fixture *fixture = *state;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(7);
    run_until_count(fixture->loop, &fixture->count, 1);
    assert_int_equal(fixture->numbers[0], SIGCHLD);
    assert_int_equal(fixture->pid, pid);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_stopped_by_its_own_callback(void **state)
{
    struct fixture *fixture = *state;
    sigset_t mask;

    fixture->stops = true;
    (void)signal(SIGUSR2, SIG_IGN); /* read together with the first, so it is lost, not pending */
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(raise(SIGUSR2), 0);
    run_until_count(fixture->loop, &fixture->count, 1);
    run_turns(fixture->loop, 2);
    assert_int_equal(fixture->count, 1);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    assert_false(sigismember(&mask, SIGUSR1));
    (void)signal(SIGUSR2, SIG_DFL);
}

static void test_a_child_leaves_the_parent_s_loop_alone(void **state)
{
    struct fixture *fixture = *state;
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        signals_abandon(&fixture->signals);
        loop_abandon(fixture->loop);
        _exit(fixture->signals._fd == -1 ? 0 : 1);
    }
    run_until_count(fixture->loop, &fixture->count, 1); /* here it still arrives */
    assert_int_equal(fixture->numbers[0], SIGCHLD);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_the_mask_is_put_back(void **state)
{
    struct fixture *fixture = *state;
    sigset_t mask;

    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    assert_true(sigismember(&mask, SIGUSR1));
    assert_false(sigismember(&mask, SIGTERM));
    signals_stop(&fixture->signals);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    assert_false(sigismember(&mask, SIGUSR1));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_signal_is_a_callback), TEST(test_several_at_once),
        TEST(test_a_child_that_ends),      TEST(test_stopped_by_its_own_callback),
        TEST(test_the_mask_is_put_back),   TEST(test_a_child_leaves_the_parent_s_loop_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
