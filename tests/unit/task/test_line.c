/* Goal: a line says that it is long where it stands, to as many as are too many and to nobody else:
 * what serves it is never idle, and nobody who is let in waits for long. */
#include "lib/task_world.h"
#include "lib/test.h"
#include "task/line.h"

#include <string.h>

enum { AFTER_MS = 40, MOST = 4096 };

/* A line with who waits in it, in their order, and what serves them. */
struct counter {
    struct world world;
    struct line line;
    uint64_t since_us[MOST]; /* of who waits, a ring */
    uint32_t first;          /* in it */
    uint64_t longest_us;     /* that one who was served has waited */
    uint32_t served;
    uint32_t idle; /* times that somebody might have been served, and nobody was there */
    uint32_t refused;
};

static void open_counter(struct counter *counter, uint32_t places)
{
    memset(counter, 0, sizeof *counter);
    world_init(&counter->world, NULL, NULL);
    counter->world.tasks->line_after_ms = AFTER_MS;
    counter->line = (struct line){.kind = "test", .name = "main", .places = places};
}

static void close_counter(struct counter *counter)
{
    while (counter->line.waiting > 0)
        line_quit(&counter->line);
    line_deinit(&counter->line);
    line_deinit(&counter->line);
    world_deinit(&counter->world);
}

static uint64_t now_us(struct counter *counter)
{
    return loop_now_us(counter->world.loop);
}

static void join(struct counter *counter)
{
    uint32_t last = counter->first + counter->line.waiting;

    assert_true(counter->line.waiting < MOST);
    counter->since_us[last % MOST] = now_us(counter);
    line_join(&counter->line, counter->world.tasks);
}

static void come(struct counter *counter)
{
    if (line_is_long(&counter->line))
        counter->refused++;
    else
        join(counter);
}

static void serve(struct counter *counter)
{
    uint64_t waited_us;

    if (counter->line.waiting == 0) {
        counter->idle++;
        return;
    }
    waited_us = now_us(counter) - counter->since_us[counter->first++ % MOST];
    if (waited_us > counter->longest_us)
        counter->longest_us = waited_us;
    counter->served++;
    line_begin(&counter->line, waited_us);
}

/* So long: `come_each` a millisecond, and one is served each `serve_ms`. */
static void pass(struct counter *counter, uint32_t ms, uint32_t come_each, uint32_t serve_ms)
{
    counter->longest_us = 0;
    counter->served = counter->idle = counter->refused = 0;
    for (uint32_t i = 0; i < ms; i++) {
        counter->world.clock.now_us += 1000;
        run_turns(counter->world.loop, 1);
        for (uint32_t k = 0; k < come_each; k++)
            come(counter);
        if (i % serve_ms == 0)
            serve(counter);
    }
}

static void test_a_burst_is_no_overload(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    for (uint32_t i = 0; i < 120; i++) /* of whom the last wait three times as long as allowed */
        join(&counter);
    pass(&counter, 110, 0, 1);
    pass(&counter, 500, 1, 1); /* as many as can be */
    assert_int_equal(counter.refused, 0);
    close_counter(&counter);
}

/* Twice as many as can be served: half of them are, after a quarter of the limit, and the rest is
 * sent away. Where fewer come, all are let in again. */
static void test_too_many(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    pass(&counter, 400, 2, 1); /* it is noticed */
    assert_true(counter.line.is_standing);
    pass(&counter, 200, 2, 1);
    pass(&counter, 3000, 2, 1);
    assert_int_equal(counter.served, 3000);
    assert_in_range(counter.refused, 2950, 3050);
    assert_in_range(counter.longest_us, 1000, (AFTER_MS / 4 + 3) * 1000);
    pass(&counter, 500, 10, 1); /* ten times as many */
    assert_int_equal(counter.served, 500);
    assert_in_range(counter.longest_us, 1000, (AFTER_MS / 4 + 12) * 1000);
    pass(&counter, 400, 0, 1);
    pass(&counter, 1200, 1, 1);
    assert_int_equal(counter.refused, 0);
    assert_false(counter.line.is_standing);
    close_counter(&counter);
}

/* A little more than can be served, and unevenly: that for a while nobody had to be sent away is no
 * reason to let the line grow to its full length again. */
static void test_a_little_too_many(void **state)
{
    static struct counter counter;
    uint32_t refused = 0;

    (void)state;
    open_counter(&counter, 1);
    pass(&counter, 600, 2, 1);
    assert_true(counter.line.is_standing);
    for (int i = 0; i < 20; i++) {
        pass(&counter, 50, 2, 1);
        assert_in_range(counter.longest_us, 0, (AFTER_MS / 4 + 3) * 1000);
        refused += counter.refused;
        pass(&counter, 300, 1, 1);
        assert_int_equal(counter.refused, 0);
    }
    assert_true(refused > 0);
    assert_true(counter.line.is_standing);
    pass(&counter, 1200, 1, 1);
    assert_false(counter.line.is_standing);
    close_counter(&counter);
}

/* What was an overload is none once the line is gone: a burst now and then, of more than might wait
 * in a line that stands, is served like any other. */
static void test_bursts_behind_an_overload(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    pass(&counter, 600, 2, 1);
    assert_true(counter.line.is_standing);
    for (int i = 0; i < 100 && counter.line.is_standing; i++) {
        pass(&counter, 19, 0, 1);
        pass(&counter, 1, 1, 1); /* one in 20 ms */
    }
    assert_false(counter.line.is_standing);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 30; k++)
            come(&counter);
        assert_int_equal(counter.refused, 0);
        pass(&counter, 800, 0, 1);
    }
    close_counter(&counter);
}

/* Each takes half a second: one may wait for each place, whatever the limit says. */
static void test_as_many_as_places_may_wait(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 4);
    for (uint32_t i = 0; i < 40; i++)
        join(&counter);
    pass(&counter, 4000, 0, 125);
    assert_true(counter.line.is_standing);
    assert_true(line_is_long(&counter.line));
    while (counter.line.waiting > 3)
        serve(&counter);
    assert_false(line_is_long(&counter.line));
    join(&counter);
    assert_false(line_is_long(&counter.line)); /* who waits for as long as he is served */
    join(&counter);
    assert_true(line_is_long(&counter.line));
    close_counter(&counter);
}

/* Each takes a third of a second, and two are before whoever comes: nobody is quicker for it where
 * he is sent away. */
static void test_what_is_slow_by_nature_is_no_overload(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 3);
    for (uint32_t i = 0; i < 6; i++)
        join(&counter);
    for (uint32_t i = 0; i < 50; i++) { /* whoever is served comes back: nine in all */
        pass(&counter, 100, 0, 100);
        assert_false(line_is_long(&counter.line));
        join(&counter);
    }
    assert_false(counter.line.is_standing);
    close_counter(&counter);
}

/* A server that is away: who waits for it does so as long as he may. */
static void test_nobody_is_served(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    pass(&counter, 3000, 1, 5000);
    assert_int_equal(counter.refused, 0);
    pass(&counter, 1000, 1, 1); /* it is back, with all of them before it */
    assert_true(counter.line.is_standing);
    pass(&counter, 2500, 1, 5000); /* and away again: that is seen within a second or two */
    assert_false(counter.line.is_standing);
    assert_true(counter.refused > 0);
    pass(&counter, 500, 1, 5000);
    assert_int_equal(counter.refused, 0);
    close_counter(&counter);
}

/* What was waited for a server that was away says nothing about the line before it. */
static void test_a_server_comes_back(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    pass(&counter, 500, 1, 1);
    for (uint32_t i = 0; i < 35; i++)
        join(&counter);
    pass(&counter, 1000, 0, 5000);
    pass(&counter, 1000, 1, 1);
    assert_true(counter.longest_us > 900000);
    assert_int_equal(counter.refused, 0);
    close_counter(&counter);
}

static void test_without_a_limit(void **state)
{
    static struct counter counter;

    (void)state;
    open_counter(&counter, 1);
    counter.world.tasks->line_after_ms = 0;
    pass(&counter, 1000, 2, 1);
    assert_int_equal(counter.refused, 0);
    close_counter(&counter);
}

/* ---- ops ---- */

static void test_ops_wait_until_they_begin_or_settle(void **state)
{
    static struct counter counter;
    struct scope *scope, *child;
    struct op *ops[4];

    (void)state;
    open_counter(&counter, 1);
    scope = scope_create(counter.world.tasks, NULL, NULL, 0);
    child = scope_child(scope, 0, 0);
    for (uint32_t i = 0; i < 4; i++) {
        ops[i] = fake_start(i < 2 ? scope : child, NULL, false);
        op_line_up(ops[i], &counter.line);
        op_line_up(ops[i], &counter.line);
    }
    assert_int_equal(counter.line.waiting, 4);
    assert_int_equal(scope->lines, counter.line.bit); /* the root's, for all below */
    assert_int_equal(child->lines, 0);
    op_begin(ops[0]);
    op_begin(ops[0]);
    assert_int_equal(counter.line.waiting, 3);
    op_line_up(ops[0], &counter.line); /* it has begun: it is sent again without a line */
    assert_int_equal(counter.line.waiting, 3);
    op_finish(ops[0], ERR_OK, NULL);
    op_finish(ops[1], ERR_DB_BUSY, NULL);
    op_cancel(ops[2]);
    assert_int_equal(counter.line.waiting, 1);
    op_line_up(ops[1], &counter.line);
    scope_finish(scope, SCOPE_CLIENT_GONE);
    world_settle(&counter.world);
    assert_int_equal(counter.line.waiting, 0);
    close_counter(&counter);
}

static void test_more_lines_than_are_watched(void **state)
{
    static struct counter counter;
    static struct line lines[LINES_MAX + 1];

    (void)state;
    open_counter(&counter, 1);
    for (uint32_t i = 0; i <= LINES_MAX; i++) {
        lines[i] = (struct line){.kind = "test", .name = "main", .places = 1};
        assert_false(line_is_long(&lines[i]));
        line_join(&lines[i], counter.world.tasks);
        assert_int_equal(lines[i].bit, i < LINES_MAX ? 1u << i : 0);
    }
    assert_false(line_is_any_long(counter.world.tasks, UINT32_MAX));
    lines[7].is_standing = true;
    lines[7]._each_us = AFTER_MS * 1000;
    line_join(&lines[7], counter.world.tasks);
    assert_true(line_is_any_long(counter.world.tasks, 1u << 7 | 1u << 3));
    assert_false(line_is_any_long(counter.world.tasks, 1u << 8 | 1u << 3));
    line_quit(&lines[7]);
    for (uint32_t i = 0; i <= LINES_MAX; i++) {
        line_quit(&lines[i]);
        line_deinit(&lines[i]);
    }
    assert_false(line_is_any_long(counter.world.tasks, UINT32_MAX));
    join(&counter); /* the place of another one is free */
    assert_int_equal(counter.line.bit, 1);
    close_counter(&counter);
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_burst_is_no_overload),
        TEST(test_too_many),
        TEST(test_a_little_too_many),
        TEST(test_bursts_behind_an_overload),
        TEST(test_as_many_as_places_may_wait),
        TEST(test_what_is_slow_by_nature_is_no_overload),
        TEST(test_nobody_is_served),
        TEST(test_a_server_comes_back),
        TEST(test_without_a_limit),
        TEST(test_ops_wait_until_they_begin_or_settle),
        TEST(test_more_lines_than_are_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
