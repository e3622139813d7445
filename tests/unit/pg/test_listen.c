/* Goal: what is notified is heard once, in order, by everyone who listens, from when the server has
 *       agreed until they leave; who may have missed some is told, whether a session broke or they
 *       were slow; nothing is heard where nothing can be, and that is said; given up in any state,
 *       the server stops listening and the session goes. */
#include "base/clock.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/listen.h"
#include "pg/private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

/* A world whose options a test may change before pg_world_start(). */
static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init(&world, &server);
    world.options.queue_timeout_ms = DRIVER_SECONDS * 1000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static struct op *listen_to(const char *channel)
{
    struct op *op = pg_listen(world.scope, world.pool, channel);
    enum err err = pg_world_await(&world, op);

    if (err != ERR_OK)
        fail_msg("%s: %.*s", err_name(err), SPAN_ARG(op->error));
    return op;
}

static void notify(const char *channel, const char *payload)
{
    char sql[9000];

    (void)snprintf(sql, sizeof sql, "select pg_notify('%s', '%s')", channel, payload);
    (void)pg_server_run(&server, sql);
}

/* The next one is this; NULL: some may have been missed. */
static void expect_next(struct op *listening, const char *payload)
{
    struct op *next = pg_listen_next(listening);

    assert_int_equal(pg_world_await(&world, next), ERR_OK);
    if (payload == NULL) {
        assert_null(next->piece.ptr);
        return;
    }
    assert_non_null(next->piece.ptr);
    assert_string_equal(next->piece.ptr, payload);
    assert_int_equal(next->piece.len, strlen(payload));
}

/* How many sessions said this to the server last. */
static void until_said(const char *query, const char *count)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
    char sql[256];

    (void)snprintf(sql, sizeof sql,
                   "select count(*) from pg_stat_activity where application_name = 'weft' and "
                   "query = '%s'",
                   query);
    while (strcmp(pg_server_run(&server, sql), count) != 0) {
        if (clock_monotonic_us() > end_us)
            fail_msg("%s: %s, expected %s", query, pg_server_run(&server, sql), count);
        run_for(world.loop, 10);
    }
}

static void until_closed(void)
{
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    while (world.pool->control.session != NULL) {
        if (clock_monotonic_us() > end_us)
            fail_msg("the control session stays open");
        loop_turn(world.loop, 50);
    }
}

static void break_control(void)
{
    (void)pg_server_run(&server, "select pg_terminate_backend(pid) from pg_stat_activity where "
                                 "application_name = 'weft' and query like '%listen%'");
}

/* ---- done ---- */

static void test_heard_in_order(void **state)
{
    struct op *listening, *early;
    char payload[32];

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    early = pg_listen_next(listening);
    run_for(world.loop, 20);
    assert_int_equal(early->state, OP_PENDING);
    notify("news", "0");
    assert_int_equal(pg_world_await(&world, early), ERR_OK);
    assert_string_equal(early->piece.ptr, "0");
    (void)pg_server_run(&server,
                        "select pg_notify('news', i::text) from generate_series(1, 500) i");
    for (int i = 1; i <= 500; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        expect_next(listening, payload);
    }
    assert_true(list_is_empty(&world.pool->listener.line));
}

/* Whatever stands in it, to its last byte. */
static void test_any_payload(void **state)
{
    struct op *listening;
    char *large = calloc(1, PG_PAYLOAD_MAX);

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    memset(large, 'x', PG_PAYLOAD_MAX - 1);
    notify("news", large);
    notify("news", "");
    notify("news", "\xc3\xa9 \"quoted\" \\ and a \n");
    expect_next(listening, large);
    expect_next(listening, "");
    expect_next(listening, "\xc3\xa9 \"quoted\" \\ and a \n");
    free(large);
}

/* Also to whom the same channel is another one by its case, and with quotes in it. */
static void test_any_channel(void **state)
{
    static const char *const names[] = {
        "News",   "news",     "a \"b\"; drop",
        "\"\"\"", "\xc3\xa9", "a234567890b234567890c234567890d234567890e234567890f234567890123"};
    struct op *listening[6];

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 0; i < 6; i++)
        listening[i] = listen_to(names[i]);
    for (int i = 0; i < 6; i++)
        notify(names[i], names[i]);
    for (int i = 0; i < 6; i++)
        expect_next(listening[i], names[i]);
}

/* More than fit in the session's ring at once. */
static void test_many_channels(void **state)
{
    struct op *listening[300];
    char name[16];

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "c%d", i);
        listening[i] = pg_listen(world.scope, world.pool, name);
    }
    for (int i = 0; i < 300; i++)
        assert_int_equal(pg_world_await(&world, listening[i]), ERR_OK);
    (void)pg_server_run(&server,
                        "select pg_notify('c' || i, i::text) from generate_series(0, 299) i");
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof name, "%d", i);
        expect_next(listening[i], name);
    }
    break_control();
    for (int i = 0; i < 300; i++)
        expect_next(listening[i], NULL);
}

/* One LISTEN for all, who each hear everything from when they came. */
static void test_many_who_listen(void **state)
{
    struct op *first, *second;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    first = listen_to("news");
    notify("news", "a");
    expect_next(first, "a");
    second = listen_to("news");
    notify("news", "b");
    expect_next(second, "b");
    expect_next(first, "b");
    assert_int_equal(op_release(first), ERR_OK);
    notify("news", "c");
    expect_next(second, "c");
}

/* What a transaction notifies comes with its end, or never. */
static void test_with_the_transaction(void **state)
{
    struct op *listening;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    (void)pg_server_run(&server, "begin; notify news, 'never'; rollback");
    (void)pg_server_run(&server, "begin; notify news, 'once'; notify news, 'once'; commit");
    pg_world_run(&world, "select pg_notify('news', 'ours')");
    expect_next(listening, "once");
    expect_next(listening, "ours");
}

/* Cancels and notifications share a session. */
static void test_cancels_go_on(void **state)
{
    struct op *listening, *op;
    uint64_t end_us = clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;

    (void)state;
    pg_server_need(&server);
    world.options.statement_timeout_ms = 0;
    pg_world_start(&world);
    listening = listen_to("news");
    for (int i = 0; i < 3; i++) {
        op = pg_world_start_sql(&world, "select pg_sleep(60)", 0, NULL);
        run_for(world.loop, 30);
        op_cancel(op);
        notify("news", "meanwhile");
        while (pg_pool_counts(world.pool)->in_flight > 0) {
            if (clock_monotonic_us() > end_us)
                fail_msg("it still runs");
            loop_turn(world.loop, 10);
        }
        expect_next(listening, "meanwhile");
    }
    assert_int_equal(pg_pool_counts(world.pool)->cancels_sent, 3);
}

/* A session that says nothing for long is closed, but not the one that somebody listens on. */
static void test_heard_after_a_long_silence(void **state)
{
    static const char who[] = "select pid from pg_stat_activity where application_name = 'weft' "
                              "and query like 'listen%'";
    struct op *listening;
    char before[32];

    (void)state;
    pg_server_need(&server);
    pg_world_deinit(&world);
    pg_world_init_ahead(&world, &server);
    pg_world_start(&world);
    listening = listen_to("news");
    (void)snprintf(before, sizeof before, "%s", pg_server_run(&server, who));
    assert_string_not_equal(before, "");
    for (int i = 0; i < 60; i++)
        pg_world_jump(&world, 1000);
    notify("news", "at last");
    expect_next(listening, "at last");
    assert_string_equal(pg_server_run(&server, who), before);
}

/* ---- missed ---- */

static void test_after_the_session_broke(void **state)
{
    struct op *listening, *pending, *idle;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    idle = listen_to("other");
    notify("news", "before");
    expect_next(listening, "before");
    pending = pg_listen_next(listening);
    for (int i = 0; i < 2; i++) {
        break_control();
        assert_int_equal(pg_world_await(&world, pending), ERR_OK);
        assert_null(pending->piece.ptr);
        notify("news", "after");
        expect_next(listening, "after");
        pending = pg_listen_next(listening);
    }
    expect_next(idle, NULL); /* once, however often it broke */
    notify("other", "fine");
    expect_next(idle, "fine");
}

static void test_after_the_server_was_gone(void **state)
{
    struct op *listening, *pending;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    pending = pg_listen_next(listening);
    pg_server_stop(&server);
    run_for(world.loop, 1500); /* some attempts fail */
    assert_int_equal(pending->state, OP_PENDING);
    pg_server_start(&server);
    assert_int_equal(pg_world_await(&world, pending), ERR_OK);
    assert_null(pending->piece.ptr);
    notify("news", "again");
    expect_next(listening, "again");
}

/* The oldest go; whoever was fast has all. */
static void test_who_is_slow(void **state)
{
    struct op *slow, *fast;
    char payload[16];

    (void)state;
    pg_server_need(&server);
    world.options.notify_queue = 10;
    pg_world_start(&world);
    slow = listen_to("news");
    fast = listen_to("news");
    for (int i = 1; i <= 25; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        notify("news", payload);
        expect_next(fast, payload);
    }
    expect_next(slow, NULL);
    for (int i = 16; i <= 25; i++) {
        (void)snprintf(payload, sizeof payload, "%d", i);
        expect_next(slow, payload);
    }
    notify("news", "last");
    expect_next(slow, "last");
    expect_next(fast, "last");
}

/* ---- failed ---- */

static void test_refused_at_once(void **state)
{
    static const char too_long[] =
        "a234567890b234567890c234567890d234567890e234567890f2345678901234";
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    assert_int_equal(pg_world_await(&world, pg_listen(world.scope, world.pool, "")), ERR_INVALID);
    assert_int_equal(pg_world_await(&world, pg_listen(world.scope, world.pool, too_long)),
                     ERR_INVALID);
    op = pg_listen(world.scope, world.pool, "\xff\xfe"); /* the server says so */
    assert_int_equal(pg_world_await(&world, op), ERR_DB_VALUE);
    assert_non_null(strstr(op->error.ptr, "UTF8"));
    assert_int_equal(pg_world_await(&world, pg_listen_next(op)), ERR_STATE);
    op = pg_world_run(&world, "select 1");
    assert_int_equal(pg_world_await(&world, pg_listen_next(op)), ERR_STATE);
    op = listen_to("news");
    (void)pg_listen_next(op);
    assert_int_equal(pg_world_await(&world, pg_listen_next(op)), ERR_STATE);
    until_said("listen \"news\"", "1"); /* what failed has harmed nobody */
}

static void test_behind_a_pooler(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.is_prepared = false;
    pg_world_start(&world);
    op = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(pg_world_await(&world, op), ERR_UNSUPPORTED);
    assert_non_null(strstr(op->error.ptr, "prepared = off"));
    assert_null(world.pool->control.session);
}

/* ---- timed out ---- */

static void test_no_server(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    world.options.queue_timeout_ms = 100;
    pg_world_start(&world);
    pg_server_stop(&server);
    op = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(pg_world_await(&world, op), ERR_DB_DOWN);
    assert_true(op->error.len > 0);
    assert_string_equal(op->scope->reason, "pg_down");
    assert_int_equal(pg_world_await(&world, pg_listen_next(op)), ERR_STATE);
    pg_server_start(&server);
    for (int i = 0; i < 100 && op->status != ERR_OK; i++) {
        op = pg_listen(world.scope, world.pool, "news");
        (void)pg_world_await(&world, op);
    }
    assert_int_equal(op->status, ERR_OK);
}

static void test_the_deadline(void **state)
{
    struct op *listening, *pending;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    pending = pg_listen_next(listening);
    scope_tighten(world.scope, 20);
    assert_int_equal(pg_world_await(&world, pending), ERR_DEADLINE);
    assert_int_equal(pg_world_await(&world, pg_listen_next(listening)), ERR_DEADLINE);
    pg_world_renew(&world);
    until_closed();
}

/* ---- given up ---- */

static void test_given_up_before_the_session_is_open(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    op = pg_listen(world.scope, world.pool, "news");
    op_cancel(op);
    assert_int_equal(pg_world_await(&world, op), ERR_CANCELED);
    assert_false(pg_listener_is_wanted(&world.pool->listener));
    op = listen_to("news"); /* while the session may be on its way */
    notify("news", "heard");
    expect_next(op, "heard");
}

static void test_given_up_while_the_server_is_asked(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    (void)listen_to("other"); /* the session is open */
    op = pg_listen(world.scope, world.pool, "news");
    assert_int_equal(world.pool->listener.commands, 1);
    op_cancel(op);
    until_said("unlisten \"news\"", "1");
    op = pg_listen(world.scope, world.pool, "news");
    op_cancel(op);
    op = listen_to("news"); /* it came while the first one was on its way */
    notify("news", "heard");
    expect_next(op, "heard");
}

static void test_come_while_it_leaves(void **state)
{
    struct op *op;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    for (int i = 0; i < 5; i++) {
        op = listen_to("news");
        assert_int_equal(op_release(op), ERR_OK);
    }
    op = listen_to("news");
    notify("news", "heard");
    expect_next(op, "heard");
}

/* A pull that is canceled loses none, and one whose listening goes is told. */
static void test_a_pull_given_up(void **state)
{
    struct op *listening, *pending;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    pending = pg_listen_next(listening);
    op_cancel(pending);
    assert_int_equal(pg_world_await(&world, pending), ERR_CANCELED);
    notify("news", "kept");
    expect_next(listening, "kept");
    pending = pg_listen_next(listening);
    assert_int_equal(op_release(listening), ERR_OK);
    assert_int_equal(pg_world_await(&world, pending), ERR_STATE);
    until_said("unlisten \"news\"", "1");
    until_closed();
    assert_int_equal(pg_pool_counts(world.pool)->sessions_lost, 0);
}

static void count_told(struct op *op, void *count)
{
    (void)op;
    ++*(uint32_t *)count;
}

/* What a pull has brought goes with the next pull and with what it was pulled from, though somebody
 * looks at its op still. */
static void test_what_was_heard_goes(void **state)
{
    struct op *listening, *other, *first, *second;
    uint32_t told = 0;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    other = listen_to("news");
    notify("news", "first");
    notify("news", "second");
    expect_next(other, "first");
    expect_next(other, "second"); /* so both are here */
    first = pg_listen_next(listening);
    assert_string_equal(first->piece.ptr, "first");
    assert_int_equal(op_notify(first, count_told, &told), ERR_OK);
    second = pg_listen_next(listening); /* of other memory, since that was not told yet */
    assert_ptr_not_equal(second, first);
    assert_null(first->piece.ptr);
    assert_int_equal(pg_world_await(&world, second), ERR_OK);
    assert_string_equal(second->piece.ptr, "second");
    run_until_count(world.loop, &told, 1);
    assert_int_equal(op_release(listening), ERR_OK);
    assert_null(second->piece.ptr);
    assert_int_equal(second->piece.len, 0);
    assert_int_equal(second->status, ERR_OK);
}

static void test_given_up_with_news(void **state)
{
    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    (void)listen_to("news");
    notify("news", "never pulled");
    notify("news", "nor this");
    run_for(world.loop, 50);
    pg_world_renew(&world);
    until_said("unlisten \"news\"", "1");
}

static void test_given_up_while_the_session_is_lost(void **state)
{
    struct op *listening;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    pg_server_stop(&server);
    while (world.pool->control.session != NULL)
        loop_turn(world.loop, 10);
    assert_int_equal(op_release(listening), ERR_OK);
    assert_false(pg_listener_is_wanted(&world.pool->listener));
    pg_server_start(&server);
    notify("news", "nobody hears it");
    run_for(world.loop, 50);
}

/* Memory of who pulls on and on does not grow. */
static void test_pulls_for_ever(void **state)
{
    struct op *listening;
    size_t held;

    (void)state;
    pg_server_need(&server);
    pg_world_start(&world);
    listening = listen_to("news");
    for (int i = 0; i < 10; i++) {
        notify("news", "x");
        expect_next(listening, "x");
    }
    held = world.scope->held;
    for (int round = 0; round < 20; round++) {
        (void)pg_server_run(&server,
                            "select pg_notify('news', 'n' || i) from generate_series(1, 100) i");
        for (int i = 0; i < 100; i++)
            assert_int_equal(pg_world_await(&world, pg_listen_next(listening)), ERR_OK);
    }
    assert_int_equal(world.scope->held, held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_heard_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_payload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_channel, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_channels, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_who_listen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_with_the_transaction, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancels_go_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_heard_after_a_long_silence, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_after_the_session_broke, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_after_the_server_was_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_is_slow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_behind_a_pooler, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_before_the_session_is_open, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_while_the_server_is_asked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_come_while_it_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_pull_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_heard_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_with_news, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_while_the_session_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pulls_for_ever, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
