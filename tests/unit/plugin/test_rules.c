/* Goal: what weft.h promises of ops, groups, children, deadlines, fibers and posts holds for a real
 * plugin, in virtual time. The rules themselves are checked where they stand, in
 * tests/plugins/rules.c; tests/unit/task/ has the same at the level of the task room. */
#include "lib/plugin_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int set_up(void **state)
{
    struct plugin_world *world = calloc(1, sizeof *world);

    plugin_world_init(world, "[plugin.rules]\npath = rules.so\n", TEST_PLUGINS, NULL);
    if (plugin_world_load(world) != ERR_OK)
        fail_msg("%s", world->problem);
    plugin_world_serve(world);
    (void)plugin_world_log(world);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    plugin_world_deinit(*state);
    free(*state);
    return 0;
}

static void holds(struct plugin_world *world, const char *target)
{
    const char *body = plugin_world_body(world, target);

    if (strcmp(body, "ok") != 0)
        fail_msg("%s: %s", target, body);
}

static void test_consumers(void **state)
{
    holds(*state, "GET /then-settled");
    holds(*state, "GET /then-then");
    holds(*state, "GET /then-cancel");
}

static void test_callbacks_that_cancel(void **state)
{
    holds(*state, "GET /cancel-sibling");
    holds(*state, "GET /cancel-ctx");
}

static void test_a_reply_while_others_are_pending(void **state)
{
    struct plugin_world *world = *state;
    uint32_t before = world->tasks->scopes_count;

    holds(world, "GET /reply-pending");
    run_turns(world->loop, 5);
    assert_int_equal(world->tasks->scopes_count, before);
    assert_string_equal(plugin_world_body(world, "GET /trail"), "ok hr");
}

static void test_groups(void **state)
{
    holds(*state, "GET /none");
    holds(*state, "GET /one");
    holds(*state, "GET /many");
    holds(*state, "GET /all");
    holds(*state, "GET /groups");
    holds(*state, "GET /two-groups");
    holds(*state, "GET /cancel-group");
    holds(*state, "GET /supervise");
}

static int send_only(struct plugin_world *world, const char *path)
{
    char text[128];
    int fd = plugin_world_connect(world);

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    peer_send(fd, text);
    run_turns(world->loop, 5);
    return fd;
}

static void test_a_shielded_child_goes_on_without_the_client(void **state)
{
    struct plugin_world *world = *state;
    uint32_t before = world->tasks->scopes_count;

    close(send_only(world, "/shield"));
    run_turns(world->loop, 5);
    assert_int_equal(world->tasks->scopes_count, before + 2);
    fake_clock_walk(&world->clock, world->loop, 60);
    assert_int_equal(world->tasks->scopes_count, before);
    assert_string_equal(plugin_world_body(world, "GET /trail"), "ok f");
    assert_null(strstr(plugin_world_log(world), "level=error"));
}

static void test_deadlines(void **state)
{
    holds(*state, "GET /deadline");
    holds(*state, "GET /tighten");
}

static void test_fibers(void **state)
{
    holds(*state, "GET /two-fibers");
    holds(*state, "GET /nested");
    holds(*state, "GET /await-then");
}

static void test_options_of_other_sizes(void **state)
{
    const char *answer = plugin_world_ask(*state, "GET /options");

    if (strstr(answer, "\r\nok\r\n") == NULL)
        fail_msg("%s", answer);
}

/* A second after its deadline: others are served, and it has had a turn a millisecond at most. */
static void test_one_that_hears_of_nothing_does_not_spin(void **state)
{
    struct plugin_world *world = *state;
    int fd = send_only(world, "/endless");

    fake_clock_walk(&world->clock, world->loop, 1020);
    holds(world, "GET /none");
    assert_in_range(strtol(plugin_world_body(world, "GET /may-end"), NULL, 10), 200, 1200);
    run_turns(world->loop, 5);
    close(fd);
}

static void test_posts_without_a_start(void **state)
{
    struct plugin_world *world = *state;

    holds(world, "GET /post");
    fake_clock_walk(&world->clock, world->loop, 5);
    assert_int_equal(world->tasks->scopes_count, 1); /* the background's */
    plugins_stop(world->plugins);
    run_turns(world->loop, 10);
    assert_true(plugins_are_stopped(world->plugins));
    assert_string_equal(plugin_world_body(world, "GET /trail"), "ok q");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_consumers),
        TEST(test_callbacks_that_cancel),
        TEST(test_a_reply_while_others_are_pending),
        TEST(test_groups),
        TEST(test_a_shielded_child_goes_on_without_the_client),
        TEST(test_deadlines),
        TEST(test_fibers),
        TEST(test_options_of_other_sizes),
        TEST(test_one_that_hears_of_nothing_does_not_spin),
        TEST(test_posts_without_a_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
