/* Goal: a turn does what loop.h says, in that order and within its budgets; an io that was stopped
 * is never told of anything again, whatever lay in the batch of events; the kernel is asked for
 * nothing that it knows already. */
#include "base/check.h"
#include "lib/dies.h"
#include "lib/fault.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "loop/loop.h"
#include "loop/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What every test starts with: a loop on a fake clock. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
};

static int set_up(void **state)
{
    static struct fixture fixture;

    memset(&fixture, 0, sizeof fixture);
    fault_reset();
    fixture.loop = fake_clock_loop(&fixture.clock);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    loop_destroy(fixture->loop);
    return 0;
}

/* One end of a pair of sockets that is watched, and what it does when something comes. */
struct end {
    struct io io;
    int fds[2];          /* the watched one, its peer */
    uint32_t count;      /* times called */
    uint32_t events;     /* of the last time */
    struct end *to_stop; /* stopped when this one is called */
    struct end *to_open; /* started when this one is called */
};

static void on_end(struct io *io, uint32_t events)
{
    struct end *end = CONTAINER_OF(io, struct end, io);

    end->count++;
    end->events = events;
    if (end->to_stop != NULL) {
        io_stop(&end->to_stop->io);
        close_fd(&end->to_stop->fds[0]);
    }
    if (end->to_open != NULL && !io_is_on(&end->to_open->io)) {
        struct loop *loop = end->io._loop;

        pair_unix(end->to_open->fds);
        io_start(loop, &end->to_open->io, end->to_open->fds[0], IO_WRITE, on_end);
    }
}

static void open_end(struct loop *loop, struct end *end, uint32_t events)
{
    memset(end, 0, sizeof *end);
    pair_unix(end->fds);
    io_start(loop, &end->io, end->fds[0], events, on_end);
}

static void close_end(struct end *end)
{
    io_stop(&end->io);
    close_fd(&end->fds[0]);
    close_fd(&end->fds[1]);
}

static void test_events_come_while_they_last(void **state)
{
    struct fixture *fixture = *state;
    struct end end;
    char text[8];

    open_end(fixture->loop, &end, IO_READ);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 0);
    peer_send(end.fds[1], "x");
    run_turns(fixture->loop, 2);
    assert_int_equal(end.count, 2); /* level-triggered: it was not read */
    assert_int_equal(end.events, IO_READ);
    (void)peer_read(end.fds[0], text, sizeof text, NULL);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 2);
    io_update(&end.io, IO_READ | IO_WRITE);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.events, IO_WRITE);
    close_end(&end);
    close_end(&end);
}

static void test_fin_and_hang_up_are_told_apart(void **state)
{
    struct fixture *fixture = *state;
    struct end end;

    open_end(fixture->loop, &end, 0);
    assert_int_equal(shutdown(end.fds[1], SHUT_WR), 0);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 0); /* nobody asked */
    io_update(&end.io, IO_PEER_CLOSED);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.events, IO_PEER_CLOSED);
    io_update(&end.io, 0);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 1);
    close_fd(&end.fds[1]);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.events, IO_HANGUP); /* unasked */
    close_end(&end);
}

static void test_reset_comes_unasked(void **state)
{
    struct fixture *fixture = *state;
    struct end end = {0};

    pair_tcp(end.fds);
    io_start(fixture->loop, &end.io, end.fds[0], 0, on_end);
    close_with_reset(&end.fds[1]);
    run_until_count(fixture->loop, &end.count, 1);
    assert_int_equal(end.events & IO_ERROR, IO_ERROR);
    close_end(&end);
}

static void test_stopped_within_a_batch_is_never_called(void **state)
{
    struct fixture *fixture = *state;
    struct end ends[2];

    for (uint32_t i = 0; i < 2; i++)
        open_end(fixture->loop, &ends[i], IO_WRITE);
    /* Whichever comes first stops the other. */
    ends[0].to_stop = &ends[1];
    ends[1].to_stop = &ends[0];
    run_turns(fixture->loop, 1);
    assert_int_equal(ends[0].count + ends[1].count, 1);
    close_end(&ends[0]);
    close_end(&ends[1]);
}

static void test_new_io_in_an_old_place_gets_no_old_event(void **state)
{
    struct fixture *fixture = *state;
    struct end ends[2];
    struct end heirs[2] = {{.fds = {-1, -1}}, {.fds = {-1, -1}}};

    /* The first one called stops the other and opens an io that gets its slot and its
     * descriptor. */
    for (uint32_t i = 0; i < 2; i++)
        open_end(fixture->loop, &ends[i], IO_WRITE);
    for (uint32_t i = 0; i < 2; i++) {
        ends[i].to_stop = &ends[1 - i];
        ends[i].to_open = &heirs[i];
    }
    run_turns(fixture->loop, 1);
    assert_int_equal(ends[0].count + ends[1].count, 1);
    assert_int_equal(heirs[0].count + heirs[1].count, 0);
    run_turns(fixture->loop, 1);
    assert_int_equal(heirs[0].count + heirs[1].count, 1);
    for (uint32_t i = 0; i < 2; i++) {
        close_end(&ends[i]);
        close_end(&heirs[i]);
    }
}

static void restart_other(struct io *io, uint32_t events)
{
    struct end *end = CONTAINER_OF(io, struct end, io);
    struct end *other = end->to_stop;

    (void)events;
    end->count++;
    io_stop(&other->io);
    io_start(io->_loop, &other->io, other->fds[0], IO_READ, on_end);
}

static void test_restarted_within_a_batch_waits_for_new_events(void **state)
{
    struct fixture *fixture = *state;
    struct end ends[2];

    for (uint32_t i = 0; i < 2; i++)
        open_end(fixture->loop, &ends[i], IO_WRITE);
    for (uint32_t i = 0; i < 2; i++) {
        ends[i].io._fn = restart_other;
        ends[i].to_stop = &ends[1 - i];
    }
    run_turns(fixture->loop, 3);
    assert_int_equal(ends[0].count + ends[1].count, 3); /* one of them each turn, the other never */
    assert_true(ends[0].count == 0 || ends[1].count == 0);
    close_end(&ends[0]);
    close_end(&ends[1]);
}

static void mute_other(struct io *io, uint32_t events)
{
    struct end *end = CONTAINER_OF(io, struct end, io);

    end->count++;
    end->events = events;
    io_update(&end->to_stop->io, IO_READ);
}

static void test_event_no_longer_asked_for_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    struct end ends[2];

    for (uint32_t i = 0; i < 2; i++)
        open_end(fixture->loop, &ends[i], IO_WRITE);
    for (uint32_t i = 0; i < 2; i++) {
        ends[i].io._fn = mute_other;
        ends[i].to_stop = &ends[1 - i];
    }
    run_turns(fixture->loop, 1);
    assert_int_equal(ends[0].count + ends[1].count, 1);
    close_end(&ends[0]);
    close_end(&ends[1]);
}

static void test_the_kernel_is_not_asked_twice(void **state)
{
    struct fixture *fixture = *state;
    struct end end;

    open_end(fixture->loop, &end, IO_READ);
    fault_reset();
    io_update(&end.io, IO_READ);
    assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 0);
    io_update(&end.io, IO_WRITE);
    assert_int_equal(fault_calls(FAULT_EPOLL_CTL), 1);
    close_end(&end);
}

static void test_descriptor_closed_behind_our_back(void **state)
{
    struct fixture *fixture = *state;
    struct end end;

    open_end(fixture->loop, &end, IO_READ);
    close_fd(&end.fds[0]);
    io_stop(&end.io);
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 0);
    close_end(&end);
}

/* A library closes what is still watched, and the number goes to who comes next. */
static void test_a_number_that_is_used_again_is_whose_it_is_now(void **state)
{
    struct fixture *fixture = *state;
    struct end old = {0}, new = {0};
    int number;

    open_end(fixture->loop, &old, IO_READ);
    number = old.fds[0];
    close_fd(&old.fds[0]);
    pair_unix(new.fds);
    if (new.fds[0] != number) {
        assert_int_equal(dup2(new.fds[0], number), number);
        close_fd(&new.fds[0]);
        new.fds[0] = number;
    }
    io_start(fixture->loop, &new.io, number, IO_READ, on_end);
    io_update(&old.io, IO_WRITE);
    io_stop(&old.io);
    peer_send(new.fds[1], "x");
    run_turns(fixture->loop, 1);
    assert_int_equal(new.count, 1);
    assert_int_equal(new.events, IO_READ);
    assert_int_equal(old.count, 0);
    close_fd(&old.fds[1]);
    close_end(&new);
}

static void test_a_forked_child_leaves_the_parents_alone(void **state)
{
    struct fixture *fixture = *state;
    struct end end;
    uint32_t fds;
    int status;
    pid_t pid;

    open_end(fixture->loop, &end, IO_READ);
    fds = open_fds();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        loop_abandon(fixture->loop);
        _exit(open_fds() == fds - 1 ? 0 : 1); /* the epoll set's */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    peer_send(end.fds[1], "x");
    run_turns(fixture->loop, 1);
    assert_int_equal(end.count, 1);
    close_end(&end);
}

static void test_many_and_in_any_order(void **state)
{
    enum { COUNT = 200 };
    struct fixture *fixture = *state;
    static struct end ends[COUNT];

    for (uint32_t i = 0; i < COUNT; i++)
        open_end(fixture->loop, &ends[i], IO_READ);
    for (uint32_t i = 0; i < COUNT; i += 2)
        close_end(&ends[i]);
    for (uint32_t i = 0; i < COUNT; i += 4)
        open_end(fixture->loop, &ends[i], IO_READ);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (io_is_on(&ends[i].io))
            peer_send(ends[i].fds[1], "x");
    }
    run_turns(fixture->loop, 1);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(ends[i].count, io_is_on(&ends[i].io) ? 1 : 0);
        if (io_is_on(&ends[i].io))
            close_end(&ends[i]);
    }
}

/* What ran, in order: a letter each. */
struct trace {
    char text[32];
    uint32_t len;
};

static void note(struct trace *trace, char letter)
{
    trace->text[trace->len++] = letter;
}

/* A ready entry, a hook and a timer that leave their letter. */
struct step {
    struct ready ready;
    struct hook hook;
    struct timer timer;
    struct trace *trace;
    char letter;
    struct loop *loop;
    uint32_t again;       /* times that it puts itself back */
    struct step *to_stop; /* stopped when this one runs */
};

static void on_ready(struct ready *ready)
{
    struct step *step = CONTAINER_OF(ready, struct step, ready);

    note(step->trace, step->letter);
    if (step->to_stop != NULL)
        ready_stop(&step->to_stop->ready);
    if (step->again > 0) {
        step->again--;
        ready_start(step->loop, ready, on_ready);
    }
}

static void on_hook(struct hook *hook)
{
    struct step *step = CONTAINER_OF(hook, struct step, hook);

    note(step->trace, step->letter);
    if (step->to_stop != NULL)
        hook_stop(&step->to_stop->hook);
    if (step->again > 0) {
        step->again--;
        hook_start(step->loop, hook, on_hook);
    }
}

static void on_timer(struct timer *timer)
{
    struct step *step = CONTAINER_OF(timer, struct step, timer);

    note(step->trace, step->letter);
    ready_start(step->loop, &step->ready, on_ready);
    hook_start(step->loop, &step->hook, on_hook);
}

static void test_order_of_a_turn(void **state)
{
    struct fixture *fixture = *state;
    struct trace trace = {0};
    struct step a = {.trace = &trace, .letter = 'a', .loop = fixture->loop};
    struct step b = {.trace = &trace, .letter = 'b', .loop = fixture->loop};

    hook_start(fixture->loop, &a.hook, on_hook);
    ready_start(fixture->loop, &b.ready, on_ready);
    timer_start(fixture->loop, &a.timer, 0, on_timer);
    run_turns(fixture->loop, 1);
    /* the timer; the ready list in its order; the hook, armed once though asked for twice */
    assert_string_equal(trace.text, "abaa");
    run_turns(fixture->loop, 1);
    assert_string_equal(trace.text, "abaa");
}

static void test_ready_entry_put_back_runs_within_the_budget(void **state)
{
    struct trace trace = {0};
    struct step busy = {.trace = &trace, .letter = 'r', .again = 9};
    struct step hook = {.trace = &trace, .letter = '|', .again = 9};
    struct loop_options options = {.ready_max = 4};

    (void)state;
    busy.loop = hook.loop = loop_create(&options);
    ready_start(busy.loop, &busy.ready, on_ready);
    hook_start(hook.loop, &hook.hook, on_hook);
    loop_turn(busy.loop, UINT32_MAX); /* none of these sleeps: something is ready */
    loop_turn(busy.loop, UINT32_MAX);
    assert_true(ready_is_on(&busy.ready));
    loop_turn(busy.loop, UINT32_MAX);
    assert_string_equal(trace.text, "rrrr|rrrr|rr|");
    hook_stop(&hook.hook);
    loop_destroy(busy.loop);
}

static void test_hook_armed_by_a_hook_comes_with_the_next_turn(void **state)
{
    struct trace trace = {0};
    struct step step = {.trace = &trace, .letter = 'h', .again = 1};

    (void)state;
    step.loop = loop_create(NULL);
    hook_start(step.loop, &step.hook, on_hook);
    loop_turn(step.loop, UINT32_MAX);
    assert_string_equal(trace.text, "h");
    assert_true(hook_is_on(&step.hook));
    loop_turn(step.loop, UINT32_MAX); /* at once, though there is nothing else to wake it */
    assert_string_equal(trace.text, "hh");
    loop_destroy(step.loop);
}

static void test_stopped_before_its_turn_came(void **state)
{
    struct fixture *fixture = *state;
    struct trace trace = {0};
    struct step a = {.trace = &trace, .letter = 'a', .loop = fixture->loop};
    struct step b = {.trace = &trace, .letter = 'b', .loop = fixture->loop};

    a.to_stop = &b;
    ready_start(fixture->loop, &a.ready, on_ready);
    ready_start(fixture->loop, &b.ready, on_ready);
    hook_start(fixture->loop, &a.hook, on_hook);
    hook_start(fixture->loop, &b.hook, on_hook);
    run_turns(fixture->loop, 2);
    assert_string_equal(trace.text, "aa");
    ready_stop(&b.ready);
    hook_stop(&b.hook);
}

static void test_one_time_a_turn(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(loop_now_us(fixture->loop), 1000000);
    fixture->clock.now_us += 2700;
    assert_int_equal(loop_now_us(fixture->loop), 1000000);
    run_turns(fixture->loop, 1);
    assert_int_equal(loop_now_us(fixture->loop), 1002700);
    assert_int_equal(loop_now_ms(fixture->loop), 1002);
    assert_int_equal(loop_now_ms_up(fixture->loop), 1003);
    fixture->clock.now_us += 300;
    assert_int_equal(loop_refresh_us(fixture->loop), 1003000);
    assert_int_equal(loop_now_ms(fixture->loop), 1003);
    assert_int_equal(loop_now_ms_up(fixture->loop), 1003);
}

/* Ends loop_run() from a timer. */
struct ending {
    struct timer timer;
    struct loop *loop;
};

static void on_ending(struct timer *timer)
{
    loop_stop(CONTAINER_OF(timer, struct ending, timer)->loop);
}

static void count_turn(void *data)
{
    ++*(uint32_t *)data;
}

static void test_run_sleeps_until_its_timer_and_not_longer(void **state)
{
    uint32_t turns = 0;
    struct loop_options options = {.on_turn = count_turn, .on_turn_data = &turns};
    struct ending ending = {.loop = loop_create(&options)};
    uint64_t begin_us = loop_refresh_us(ending.loop);

    (void)state;
    timer_start(ending.loop, &ending.timer, 30, on_ending);
    fault_plan(FAULT_EPOLL_WAIT, 0, 1, EINTR); /* a turn like any other */
    loop_run(ending.loop);
    assert_true(loop_now_us(ending.loop) - begin_us >= 30000);
    /* Interrupted once, once for each level that a timer of 30 ms can lie at, and the last. */
    assert_in_range(turns, 2, 4);
    loop_stop(ending.loop);
    loop_run(ending.loop); /* stopped before it began: returns, and forgets that */
    timer_start(ending.loop, &ending.timer, 1, on_ending);
    loop_run(ending.loop);
    loop_destroy(ending.loop);
}

/* Takes 3 ms of the loop's time each time that it is called. */
struct slow {
    struct io io;
    int fds[2];
    struct fixture *fixture;
    uint32_t count; /* times called */
};

static void on_slow(struct io *io, uint32_t events)
{
    struct slow *slow = CONTAINER_OF(io, struct slow, io);

    (void)events;
    slow->count++;
    slow->fixture->clock.now_us += 3000;
}

static uint32_t called(const struct slow *slow, uint32_t count, uint32_t times)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        assert_in_range(slow[i].count, times - 1, times);
        sum += slow[i].count == times;
    }
    return sum;
}

/* After 10 ms a turn comes to its end; those who were left over go before all others in the next
 * one, but for who was stopped meanwhile. */
static void test_long_callbacks_end_a_turn(void **state)
{
    enum { COUNT = 40, A_TURN = 8 };
    struct fixture *fixture = *state;
    static struct slow slow[COUNT];

    for (uint32_t i = 0; i < COUNT; i++) {
        slow[i] = (struct slow){.fixture = fixture};
        pair_unix(slow[i].fds);
        peer_send(slow[i].fds[1], "x");
        io_start(fixture->loop, &slow[i].io, slow[i].fds[0], IO_READ, on_slow);
    }
    for (uint32_t turn = 1; turn <= COUNT / A_TURN; turn++) {
        run_turns(fixture->loop, 1);
        assert_int_equal(called(slow, COUNT, 1), turn * A_TURN);
        assert_true(loop_has_work(fixture->loop));
    }
    run_turns(fixture->loop, 1);
    assert_int_equal(called(slow, COUNT, 2), A_TURN);
    for (uint32_t i = 0; i < COUNT; i++) {
        if (slow[i].count == 1) /* left over */
            io_stop(&slow[i].io);
    }
    run_turns(fixture->loop, COUNT / A_TURN);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_true(slow[i].count == 1 || slow[i].count >= 2);
        assert_int_equal(slow[i].count > 1, io_is_on(&slow[i].io));
        io_stop(&slow[i].io);
        close_fd(&slow[i].fds[0]);
        close_fd(&slow[i].fds[1]);
    }
    assert_false(loop_has_work(fixture->loop));
}

/* What waits for no timer is seen before the turn that does it, and looking changes nothing. */
static void test_work_is_seen_before_it_is_done(void **state)
{
    struct fixture *fixture = *state;
    struct end end;

    assert_false(loop_has_work(fixture->loop));
    open_end(fixture->loop, &end, IO_READ);
    assert_false(loop_has_work(fixture->loop));
    assert_int_equal(write(end.fds[1], "x", 1), 1);
    assert_true(loop_has_work(fixture->loop));
    assert_true(loop_has_work(fixture->loop));
    close_end(&end);
    assert_false(loop_has_work(fixture->loop));
}

static void test_wait_of_a_turn_is_bounded_by_its_caller(void **state)
{
    struct loop *loop = loop_create(NULL);
    struct ending ending = {.loop = loop};

    (void)state;
    timer_start(loop, &ending.timer, 1000000, on_ending);
    loop_turn(loop, 2);
    timer_stop(&ending.timer);
    loop_turn(loop, 2);
    loop_destroy(loop);
    loop_destroy(NULL);
}

/* Mistakes that are found at once */

static void destroy_with_io(void *arg)
{
    struct end *end = arg;

    loop_destroy(end->io._loop);
}

static void start_twice(void *arg)
{
    struct end *end = arg;

    io_start(end->io._loop, &end->io, end->fds[1], IO_READ, on_end);
}

static void watch_twice(void *arg)
{
    struct end *end = arg;
    struct io io = {._loop = NULL};

    io_start(end->io._loop, &io, end->fds[0], IO_READ, on_end);
}

static void turn_in_a_turn(struct io *io, uint32_t events)
{
    (void)events;
    loop_turn(io->_loop, 0);
}

static void turn_twice(void *arg)
{
    struct end *end = arg;

    end->io._fn = turn_in_a_turn;
    peer_send(end->fds[1], "x");
    loop_turn(end->io._loop, 0);
}

static void test_mistakes_end_the_process(void **state)
{
    void (*const mistakes[])(void *arg) = {destroy_with_io, start_twice, watch_twice, turn_twice};
    struct fixture *fixture = *state;
    char output[DIES_OUTPUT_SIZE];
    struct end end;

    open_end(fixture->loop, &end, IO_READ);
    for (uint32_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
        assert_true(dies(mistakes[i], &end, output));
        assert_non_null(strstr(output, "loop.c:"));
    }
    close_end(&end);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_events_come_while_they_last),
        TEST(test_fin_and_hang_up_are_told_apart),
        TEST(test_reset_comes_unasked),
        TEST(test_stopped_within_a_batch_is_never_called),
        TEST(test_new_io_in_an_old_place_gets_no_old_event),
        TEST(test_restarted_within_a_batch_waits_for_new_events),
        TEST(test_event_no_longer_asked_for_is_dropped),
        TEST(test_the_kernel_is_not_asked_twice),
        TEST(test_descriptor_closed_behind_our_back),
        TEST(test_a_number_that_is_used_again_is_whose_it_is_now),
        TEST(test_a_forked_child_leaves_the_parents_alone),
        TEST(test_many_and_in_any_order),
        TEST(test_order_of_a_turn),
        TEST(test_ready_entry_put_back_runs_within_the_budget),
        TEST(test_hook_armed_by_a_hook_comes_with_the_next_turn),
        TEST(test_stopped_before_its_turn_came),
        TEST(test_one_time_a_turn),
        TEST(test_run_sleeps_until_its_timer_and_not_longer),
        TEST(test_wait_of_a_turn_is_bounded_by_its_caller),
        TEST(test_long_callbacks_end_a_turn),
        TEST(test_work_is_seen_before_it_is_done),
        TEST(test_mistakes_end_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
