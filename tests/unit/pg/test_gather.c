/* Goal: answers that come fast are awaited several at a time, never for longer than a millisecond,
 *       and never where there is nothing to gain; whatever answers come or do not, none is lost,
 *       and one that is stuck does not hold those before it. */
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/gather.h"
#include "pg/private.h"
#include "pg/session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER = 64, MANY = 20 };

/* A gathering end of a connection, on a fake clock. */
static struct fake_clock clock_now;
static struct loop *loop;
static struct pg_gather gather;
static struct io io;
static int fds[2]; /* the end that gathers, its peer */
static uint32_t woken;

static struct pg_server server;
static struct pg_world world;

static void on_readable(struct io *readable, uint32_t events)
{
    (void)readable;
    (void)events;
    woken++;
}

static void begin(void pair(int fds[2]))
{
    loop = fake_clock_loop(&clock_now);
    woken = 0;
    pair(fds);
    pg_gather_init(&gather, loop, fds[0]);
    io = (struct io){0};
    io_start(loop, &io, fds[0], IO_READ, on_readable);
}

static void end(void)
{
    pg_gather_deinit(&gather);
    io_stop(&io);
    close_fd(&fds[0]);
    close_fd(&fds[1]);
    loop_destroy(loop);
}

static void answer(uint32_t count)
{
    static const char bytes[ANSWER];

    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(write(fds[1], bytes, ANSWER), ANSWER);
}

/* Reads what is there, which leaves `in_flight`. */
static void take(uint32_t before, uint32_t in_flight)
{
    char bytes[ANSWER * MANY];

    pg_gather_look(&gather, before);
    assert_true(read(fds[0], bytes, sizeof bytes) > 0);
    pg_gather_next(&gather, in_flight);
    run_turns(loop, 1);
    woken = 0;
}

/* It has seen four answers of ten come, within 100 us each. */
static void teach(void)
{
    pg_gather_sent(&gather, 10);
    clock_now.now_us += 400;
    answer(4);
    run_turns(loop, 1);
    assert_true(woken > 0); /* nothing is known yet: the first wakes */
    take(10, 6);
    assert_int_equal(gather.size, ANSWER);
    assert_int_equal(gather.pace_us, 100);
}

static void test_half_of_what_is_in_flight_is_awaited(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    answer(2); /* of six: not yet half */
    run_turns(loop, 3);
    assert_int_equal(woken, 0);
    answer(1);
    run_turns(loop, 1);
    assert_true(woken > 0);
    end();
}

static void test_a_wait_ends_after_a_millisecond(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    answer(1);
    run_turns(loop, 3);
    assert_int_equal(woken, 0);
    fake_clock_walk(&clock_now, loop, 3);
    assert_true(woken > 0);
    assert_int_equal(gather.low, 1);
    end();
}

static void test_sends_do_not_put_the_end_off(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    answer(1);
    for (int i = 0; i < 10 && woken == 0; i++) {
        pg_gather_sent(&gather, 6);
        clock_now.now_us += 500;
        run_turns(loop, 1);
    }
    assert_true(woken > 0);
    end();
}

static void test_an_end_wakes_at_once(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    answer(1);
    close_fd(&fds[1]);
    run_turns(loop, 1);
    assert_true(woken > 0);
    end();
}

static void test_few_are_read_one_by_one(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    answer(4);
    take(6, 2);
    assert_int_equal(gather.low, 1);
    answer(1);
    run_turns(loop, 1);
    assert_true(woken > 0);
    end();
}

static void test_those_that_take_long_are_read_one_by_one(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    for (int i = 0; i < 20; i++) { /* 5 ms each from now on */
        clock_now.now_us += 5000;
        answer(1);
        take(10, 9);
    }
    assert_int_equal(gather.low, 1);
    end();
}

static void test_whoever_has_the_session_alone_waits_for_nothing(void **state)
{
    (void)state;
    begin(pair_tcp);
    teach();
    assert_true(gather.low > 1);
    pg_gather_sent(&gather, 0);
    assert_int_equal(gather.low, 1);
    assert_false(timer_is_on(&gather._timer));
    end();
}

static void test_however_large_answers_are_the_mark_is_not(void **state)
{
    int low = 0;
    socklen_t size = sizeof low;

    (void)state;
    begin(pair_tcp);
    teach();
    gather.size = 1000000;
    pg_gather_sent(&gather, 10);
    assert_int_equal(getsockopt(fds[0], SOL_SOCKET, SO_RCVLOWAT, &low, &size), 0);
    assert_int_equal(low, 8192);
    end();
}

static void test_a_unix_socket_has_no_mark(void **state)
{
    (void)state;
    begin(pair_unix);
    assert_true(gather.is_off);
    pg_gather_sent(&gather, 10);
    answer(4);
    take(10, 6);
    answer(1);
    run_turns(loop, 1);
    assert_true(woken > 0);
    end();
}

/* From here on the kernel knows no such mark at that number; what is there stays in `kept`. */
static int hide_socket(void)
{
    int kept = dup(fds[0]), others[2];

    assert_true(kept >= 0);
    assert_int_equal(pipe(others), 0);
    assert_int_equal(dup2(others[0], fds[0]), fds[0]);
    close_fd(&others[0]);
    close_fd(&others[1]);
    return kept;
}

static void show_socket(int kept)
{
    assert_int_equal(dup2(kept, fds[0]), fds[0]);
    close_fd(&kept);
}

static void test_a_mark_that_stays_is_lowered_later(void **state)
{
    int kept;

    (void)state;
    begin(pair_tcp);
    teach();
    answer(1);
    kept = hide_socket();
    fake_clock_walk(&clock_now, loop, 5);
    assert_true(gather.low > 1); /* as the kernel has it */
    assert_int_equal(woken, 0);
    show_socket(kept);
    fake_clock_walk(&clock_now, loop, 2);
    assert_int_equal(gather.low, 1);
    assert_true(woken > 0);
    woken = 0;
    assert_true(gather.is_off); /* and it is not tried again */
    take(10, 6);
    assert_int_equal(gather.low, 1);
    assert_false(timer_is_on(&gather._timer));
    end();
}

static void test_a_mark_that_cannot_be_set_is_none(void **state)
{
    int kept;

    (void)state;
    begin(pair_tcp);
    teach();
    pg_gather_sent(&gather, 0);
    kept = hide_socket();
    pg_gather_sent(&gather, 10);
    show_socket(kept);
    assert_true(gather.is_off);
    assert_int_equal(gather.low, 1);
    assert_false(timer_is_on(&gather._timer));
    answer(1);
    run_turns(loop, 1);
    assert_true(woken > 0);
    end();
}

/* ASan would see the timer. */
static void test_one_that_ends_while_it_waits(void **state)
{
    struct pg_gather *other;

    (void)state;
    begin(pair_tcp);
    teach();
    other = malloc(sizeof *other);
    assert_non_null(other);
    pg_gather_init(other, loop, fds[0]);
    other->size = ANSWER;
    pg_gather_sent(other, 10);
    assert_true(timer_is_on(&other->_timer));
    pg_gather_deinit(other);
    memset(other, 0xee, sizeof *other);
    free(other);
    fake_clock_walk(&clock_now, loop, 3);
    end();
}

/* The number may be a client's by then, which would not be heard for so many bytes. */
static void test_a_socket_that_was_given_up_is_not_touched(void **state)
{
    socklen_t size = sizeof(int);
    int low = 0;

    (void)state;
    begin(pair_tcp);
    teach();
    pg_gather_deinit(&gather);
    assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_RCVLOWAT, &(int){1}, sizeof(int)), 0);
    pg_gather_sent(&gather, 10);
    pg_gather_look(&gather, 10);
    pg_gather_next(&gather, 8);
    assert_int_equal(getsockopt(fds[0], SOL_SOCKET, SO_RCVLOWAT, &low, &size), 0);
    assert_int_equal(low, 1);
    assert_false(timer_is_on(&gather._timer));
    end();
}

/* With the real server */

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    if (!server.is_missing)
        (void)pg_server_run(&server, "create table t (id int primary key)");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    (void)pg_server_run(&server, "truncate t");
    pg_world_init(&world, &server);
    world.options.sessions_max = 1;
    world.options.depth_max = 2 * MANY;
    pg_world_set(&world.options.host, "127.0.0.1");
    pg_world_set(&world.options.password, server.password);
    pg_world_start(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static struct op *start_insert(int id)
{
    struct pg_value value = pg_world_int(id);

    return pg_world_start_sql(&world, "insert into t values ($1::int)", 1, &value);
}

/* A turn's inserts, some of them twice: those fail, and nobody else feels it. */
static void insert_many(int first)
{
    struct op *ops[MANY];

    for (int i = 0; i < MANY; i++)
        ops[i] = start_insert(i % 5 == 4 ? first : first + i);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), i % 5 == 4 ? ERR_DB_CONSTRAINT : ERR_OK);
}

static void test_each_of_many_gets_its_own_answer(void **state)
{
    (void)state;
    pg_server_need(&server);
    for (int i = 0; i < 10; i++)
        insert_many(i * 100);
    assert_true(world.pool->sessions[0]->gather.size > 0);
    assert_string_equal(pg_server_run(&server, "select count(*) from t"), "160");
}

static void test_one_that_is_stuck_does_not_hold_those_before_it(void **state)
{
    struct op *before[2], *stuck, *behind[3];

    (void)state;
    pg_server_need(&server);
    insert_many(0);
    before[0] = start_insert(100);
    before[1] = start_insert(101);
    stuck = pg_world_start_sql(&world, "select pg_sleep(3600)", 0, NULL);
    for (int i = 0; i < 3; i++)
        behind[i] = start_insert(200 + i);
    assert_int_equal(pg_world_await(&world, before[0]), ERR_OK);
    assert_int_equal(pg_world_await(&world, before[1]), ERR_OK);
    assert_string_equal(
        pg_server_run_as(&server, "postgres",
                         "select count(pg_terminate_backend(pid)) from pg_stat_activity where "
                         "query like '%pg_sleep(3600)%' and pid <> pg_backend_pid()"),
        "1");
    assert_int_equal(pg_world_await(&world, stuck), ERR_DB_DOWN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pg_world_await(&world, behind[i]), ERR_DB_DOWN);
}

/* A turn's inserts are under way, and their answers awaited for a millisecond. */
static void start_and_wait(struct op *ops[MANY], int first)
{
    struct pg_gather *waiting;

    insert_many(first);
    waiting = &world.pool->sessions[0]->gather;
    waiting->pace_us = 10; /* whatever the machine does beside this */
    for (int i = 0; i < MANY; i++)
        ops[i] = start_insert(first + 50 + i);
    loop_turn(world.loop, 0);
    assert_true(timer_is_on(&waiting->_timer));
    assert_true(waiting->low > 1);
}

static void test_a_session_that_goes_while_it_waits(void **state)
{
    struct op *ops[MANY];

    (void)state;
    pg_server_need(&server);
    start_and_wait(ops, 0);
    for (int i = 0; i < MANY; i++)
        op_cancel(ops[i]);
    assert_true(timer_is_on(&world.pool->sessions[0]->gather._timer));
    pg_pool_destroy(world.pool);
    world.pool = NULL;
    run_for(world.loop, 10); /* ASan would see what is left */
}

/* Nothing is read meanwhile, whatever the timer does, and nothing is lost. */
static void test_a_session_that_pauses_while_it_waits(void **state)
{
    struct op *ops[MANY];
    struct pg_session *session;

    (void)state;
    pg_server_need(&server);
    start_and_wait(ops, 0);
    session = world.pool->sessions[0];
    pg_session_pause(session);
    run_for(world.loop, 20);
    assert_int_equal(session->gather.low, 1);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(ops[i]->state, OP_PENDING);
    pg_session_resume(session);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_half_of_what_is_in_flight_is_awaited),
        cmocka_unit_test(test_a_wait_ends_after_a_millisecond),
        cmocka_unit_test(test_sends_do_not_put_the_end_off),
        cmocka_unit_test(test_an_end_wakes_at_once),
        cmocka_unit_test(test_few_are_read_one_by_one),
        cmocka_unit_test(test_those_that_take_long_are_read_one_by_one),
        cmocka_unit_test(test_whoever_has_the_session_alone_waits_for_nothing),
        cmocka_unit_test(test_however_large_answers_are_the_mark_is_not),
        cmocka_unit_test(test_a_unix_socket_has_no_mark),
        cmocka_unit_test(test_a_mark_that_stays_is_lowered_later),
        cmocka_unit_test(test_a_mark_that_cannot_be_set_is_none),
        cmocka_unit_test(test_one_that_ends_while_it_waits),
        cmocka_unit_test(test_a_socket_that_was_given_up_is_not_touched),
        cmocka_unit_test_setup_teardown(test_each_of_many_gets_its_own_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_session_that_goes_while_it_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_session_that_pauses_while_it_waits, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_one_that_is_stuck_does_not_hold_those_before_it,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
