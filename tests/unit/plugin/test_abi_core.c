/* Goal: through a real plugin, ops, groups, children and callbacks do what weft.h says, and each
 * wrong call is answered and told in the log with the plugin's name; nothing of it is fatal. */
#include "lib/plugin_world.h"
#include "lib/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ini[] = "[plugin.probe]\npath = probe.so\n";

static int set_up(void **state)
{
    struct plugin_world *world = calloc(1, sizeof *world);

    plugin_world_init(world, ini, TEST_PLUGINS, NULL);
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

static void assert_log(struct plugin_world *world, const char *text)
{
    if (strstr(plugin_world_log(world), text) == NULL)
        fail_msg("not in the log: %s\n%s", text, world->log);
}

static void assert_body(struct plugin_world *world, const char *target, const char *wanted)
{
    assert_string_equal(plugin_world_body(world, target), wanted);
}

static void test_awaits_and_callbacks(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /sleep?ms=30", "slept");
    assert_body(world, "GET /then", "then");
    assert_non_null(strstr(plugin_world_ask(world, "GET /then-fail"), "404 Not Found"));
    assert_non_null(strstr(world->text, "as callbacks say"));
}

static void test_groups(void **state)
{
    struct plugin_world *world = *state;

    /* the failure wins, the sleep is canceled; and the other way round */
    assert_body(world, "GET /group?kind=all", "-503 1 -201");
    assert_body(world, "GET /group?kind=any", "0 0 0");
}

static void test_races_and_hedges(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /race", "-503 1 -201 0 0 -101");
    assert_body(world, "GET /hedges",
                "0 0 -; 0 1 ok; 0 0 canceled; 0 1 ok; 0 1 ok; -503 0 -; -102 -101");
}

/* 3: its sibling won or failed; 4: it was canceled by hand; 0: it never began, or lives. */
static void test_spawned_ones_are_canceled(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /spawns", "0 -503 -201 0 3 3 4 0 0");
}

static void test_children_and_cancel(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /children", "5");
    assert_body(world, "GET /cancel-op", "-201");
    assert_body(world, "GET /cancel-ctx", "-201 -201 4");
    assert_body(world, "GET /release", "-102 0 -102");
    assert_log(world, "weft_op_status(): an op that has gone, or none");
}

static void test_another_request_is_answered(void **state)
{
    struct plugin_world *world = *state;
    char text[1024];
    int fd = plugin_world_connect(world);

    peer_send(fd, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    run_turns(world->loop, 5);
    assert_body(world, "GET /answer-waiting", "0");
    run_turns(world->loop, 5);
    assert_in_range(peer_read(fd, text, sizeof text, NULL), 10, sizeof text);
    assert_non_null(strstr(text, "from another"));
    close(fd);
}

static void test_a_job_of_its_own(void **state)
{
    struct plugin_world *world = *state;

    fake_clock_walk(&world->clock, world->loop, 100);
    assert_in_range(strtol(plugin_world_body(world, "GET /background"), NULL, 10), 5, 12);
}

static void test_memory(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /memory", "0");
    assert_non_null(strstr(plugin_world_ask(world, "GET /much-memory"), "500 Internal"));
    assert_log(world, "why=memory");
    assert_body(world, "GET /memory", "0");
}

static void test_lines_in_the_log(void **state)
{
    struct plugin_world *world = *state;
    const char *id;

    (void)plugin_world_ask(world, "GET /log");
    assert_log(world, "msg=\"number 7 and\\nmore\" plugin=probe route=\"GET /log\" request=");
    /* 16 hex digits, as the access log writes it */
    id = strstr(world->log, "route=\"GET /log\" request=") + strlen("route=\"GET /log\" request=");
    assert_int_equal(strspn(id, "0123456789abcdef"), 16);
    assert_non_null(strstr(world->log, "nobody reads this"));
}

static void test_stale_handles(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /keep", "kept");
    run_turns(world->loop, 10);
    assert_body(world, "GET /stale", "-102 -102 -102 -102 0 0 -102 -102 -102 -102");
    (void)plugin_world_log(world);
    assert_non_null(strstr(world->log, "weft_reply(): a ctx that has ended, or none\" plugin=probe "
                                       "route=\"GET /stale\""));
    assert_non_null(strstr(world->log, "weft_await(): an op that has gone, or none"));
    assert_non_null(strstr(world->log, "weft_await(): no op"));
    assert_non_null(
        strstr(world->log, "weft_find_pool(): a host handle is good during init() only"));
    assert_non_null(strstr(world->log, "weft_end(): no child, or one that was ended already"));
    /* the host is as it was */
    assert_body(world, "GET /sleep?ms=1", "slept");
}

static void test_one_consumer(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /two-consumers", "-102 -102");
    assert_log(world, "weft_await(): the op has a consumer already");
}

static void test_where_nothing_can_wait(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /defer-await", "-102 1");
    assert_log(world, "weft_await(): nothing can wait here");
}

static void test_other_threads(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /thread", "-102");
    assert_log(world, "weft_reply(): called from a thread that is not the loop's\" plugin=probe");
    assert_non_null(strstr(world->log, "from a thread\" plugin=probe"));
}

static void test_offloaded_work(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /offload", "0 -503 -102 -101");
    assert_log(world, "weft_sleep(): called from a thread that is not the loop's\" plugin=probe");
    assert_non_null(strstr(world->log, "\"from its work\" plugin=probe"));
    assert_body(world, "GET /cancel-offload", "-201 -102 -201 0 0");
}

/* The ctx of a request that has its reply stays until its work has returned. */
static void test_work_that_outlives_the_reply(void **state)
{
    struct plugin_world *world = *state;
    uint32_t before;

    run_turns(world->loop, 10);
    before = world->tasks->scopes_count;
    assert_body(world, "GET /leave-work", "left");
    run_turns(world->loop, 10);
    assert_int_equal(world->tasks->scopes_count, before + 1);
    assert_body(world, "GET /let-go", "let go");
    while (world->tasks->scopes_count > before)
        run_turns(world->loop, 1);
}

static void test_posts(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /posts", "0 1 -102 -101");
    assert_log(world, "weft_post(): no inbox");
    assert_body(world, "GET /many-posts", "1024 -203 0");
    assert_body(world, "GET /posts", "0 2 -102 -101"); /* the last one of before, too */
    assert_body(world, "GET /many-posts", "1024 -203 0");
    plugins_stop(world->plugins); /* with one on its way */
    assert_body(world, "GET /many-posts", "0 -102 -102");
}

static void test_databases_that_are_none(void **state)
{
    struct plugin_world *world = *state;

    assert_body(world, "GET /bad-statements", "-102 -102 0 -102 0 -1 -102");
    assert_log(world, "weft_run_sql(): a database that has gone, or none");
    assert_non_null(strstr(world->log, "weft_begin(): no database"));
    assert_non_null(strstr(world->log, "weft_commit(): no transaction"));
    assert_non_null(strstr(world->log, "weft_call_start(): no upstream of this plugin"));
}

/* The page that the master reads names plugin and route, and counts. */
static void test_blame_counts(void **state)
{
    struct plugin_world *world = *state;
    const struct blame_name *name = NULL;

    assert_body(world, "GET /sleep?ms=1", "slept");
    assert_body(world, "GET /sleep?ms=1", "slept");
    for (uint32_t i = 0; i < world->blame->count; i++) {
        if (strcmp(world->blame->names[i].route, "GET /sleep") == 0)
            name = &world->blame->names[i];
    }
    assert_non_null(name);
    assert_string_equal(name->plugin, "probe");
    assert_int_equal(name->entries, 4); /* each was entered and resumed */
    assert_int_equal(world->blame->index, BLAME_HOST);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_awaits_and_callbacks),
        TEST(test_groups),
        TEST(test_races_and_hedges),
        TEST(test_spawned_ones_are_canceled),
        TEST(test_offloaded_work),
        TEST(test_posts),
        TEST(test_work_that_outlives_the_reply),
        TEST(test_children_and_cancel),
        TEST(test_another_request_is_answered),
        TEST(test_a_job_of_its_own),
        TEST(test_memory),
        TEST(test_lines_in_the_log),
        TEST(test_stale_handles),
        TEST(test_one_consumer),
        TEST(test_where_nothing_can_wait),
        TEST(test_other_threads),
        TEST(test_databases_that_are_none),
        TEST(test_blame_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
