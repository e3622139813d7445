/* Goal: sections become instances of their own with their settings and mounts; each way in which
 * loading or init() fails is one line with the ini file's line and the reason, and takes the routes
 * back; start, stop and fini run in their order. */
#include "http/router.h"
#include "lib/plugin_world.h"
#include "lib/test.h"

#include <stdlib.h>
#include <string.h>

/* A world with this ini, not loaded yet. */
static struct plugin_world *make(const char *ini)
{
    struct plugin_world *world = calloc(1, sizeof *world);

    plugin_world_init(world, ini, TEST_PLUGINS, NULL);
    return world;
}

static void end(struct plugin_world *world)
{
    plugin_world_deinit(world);
    free(world);
}

static uint32_t count_routes(const struct plugin_world *world)
{
    uint32_t at = 0, count = 0;

    while (router_next(world->router, &at) != NULL)
        count++;
    return count;
}

/* Loading fails with a line that has both texts, and no route is left. */
static void assert_refused(const char *ini, const char *begin, const char *reason)
{
    struct plugin_world *world = make(ini);
    enum err err = plugin_world_load(world);

    if (err == ERR_OK || strncmp(world->problem, begin, strlen(begin)) != 0 ||
        strstr(world->problem, reason) == NULL || strchr(world->problem, '\n') != NULL)
        fail_msg("wanted %s ... %s, got %s: %s", begin, reason, err_name(err), world->problem);
    assert_int_equal(count_routes(world), 0);
    end(world);
}

static void test_two_instances_of_one_file(void **state)
{
    struct plugin_world *world = make("[plugin.one]\npath = probe.so\nnumber = 1\n"
                                      "[plugin.two]\npath = probe.so\nmount = /two\nnumber = 2\n");

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    assert_int_equal(plugins_count(world->plugins), 2);
    plugin_world_serve(world);
    assert_non_null(
        strstr(plugin_world_ask(world, "GET /request/1"), "mount= body= greeting=hello number=1"));
    assert_non_null(strstr(plugin_world_ask(world, "GET /two/request/1"),
                           "mount=/two body= greeting=hello number=2"));
    end(world);
}

/* Each reaches its own function and variable, though the other plugin, the host and a library of
 * the host have some of these names too; the host, which parses each request, its own as well. */
static void test_plugins_with_the_same_names(void **state)
{
    struct plugin_world *world = make("[plugin.one]\npath = names_one.so\nmount = /one\n"
                                      "[plugin.two]\npath = names_two.so\nmount = /two\n"
                                      "[plugin.three]\npath = names_one.so\nmount = /three\n"
                                      "[plugin.own_llhttp]\npath = own_llhttp.so\n");

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    plugin_world_serve(world);
    assert_string_equal(plugin_world_body(world, "GET /one/names"), "1 1 1");
    assert_string_equal(plugin_world_body(world, "GET /two/names"), "2 2 2");
    assert_string_equal(plugin_world_body(world, "GET /three/names"), "1 1 1");
    assert_string_equal(plugin_world_body(world, "POST /parse\n\nHTTP/1.1 204 No Content\r\n"),
                        "HPE_OK 204");
    assert_string_equal(plugin_world_body(world, "POST /parse\n\nHTTP/9 x\r\n"),
                        "HPE_INVALID_VERSION 0");
    end(world);
}

static void test_refuses_files(void **state)
{
    (void)state;
    assert_refused("\n[plugin.x]\npath = nowhere.so\n", "server.ini:2: [plugin.x]: /",
                   "/nowhere.so cannot be opened: No such file");
    assert_refused("[plugin.x]\npath = refused_major.so\n", "server.ini:1: [plugin.x]: /",
                   "needs ABI 2.0, and this host has 1.0");
    assert_refused("[plugin.x]\npath = refused_minor.so\n", "server.ini:1: [plugin.x]: /",
                   "needs ABI 1.7, and this host has 1.0");
    assert_refused("[plugin.x]\npath = refused_symbol.so\n", "server.ini:1: [plugin.x]: /",
                   "undefined symbol: weft_test_that_nobody_has");
    assert_refused("[plugin.x]\npath = refused_no_note.so\n", "server.ini:1: [plugin.x]: /",
                   "no note of the ABI");
    assert_refused("[plugin.x]\npath = refused_no_descriptor.so\n", "server.ini:1: [plugin.x]: /",
                   "does not export weft_plugin_1");
    assert_refused("[plugin.x]\npath = refused_short.so\n", "server.ini:1: [plugin.x]: /",
                   "descriptor that is none, or is cut short");
    assert_refused("[plugin.x]\npath = refused_init.so\n", "server.ini:1: [plugin.x]: /",
                   "its init() returned -103: not supported");
}

static void test_refuses_options(void **state)
{
    (void)state;
    assert_refused("[plugin.x]\nmount = /a\n", "server.ini:1: ", "path");
    assert_refused("[plugin.x]\npath = probe.so\nmount = a\n",
                   "server.ini:3: [plugin.x]: mount = a",
                   "expected nothing, or a path such as /then");
    assert_refused("[plugin.x]\npath = probe.so\nmount = /a/\n", "server.ini:3: ", "mount = /a/");
    assert_refused("[plugin.x]\npath = probe.so\nmount = /:a\n", "server.ini:3: ", "mount = /:a");
    assert_refused("[plugin.x]\npath = probe.so\nrequired = perhaps\n",
                   "server.ini:3: ", "required");
}

#define PROBE "[plugin.x]\npath = probe.so\n"

static void test_refuses_what_init_finds_wrong(void **state)
{
    (void)state;
    assert_refused(PROBE "fail = twice\n", "server.ini:1: [plugin.x]: route GET /sleep: ",
                   "plugin x has GET /sleep already");
    assert_refused(PROBE "fail = pattern\n", "server.ini:1: [plugin.x]: route GET /a/*rest/b: ",
                   "expected a method, and segments");
    assert_refused(PROBE "fail = no-handler\n", "server.ini:1: [plugin.x]: ", "without method");
    assert_refused(PROBE "fail = missing\n",
                   "server.ini:1: [plugin.x]: ", "the key 'surely' is missing");
    assert_refused(PROBE "fail = key\n", "server.ini:1: [plugin.x]: setting path: ", "own key");
    assert_refused(PROBE "fail = bool\ngreeting = perhaps\n",
                   "server.ini:4: [plugin.x]: greeting = perhaps: ", "expected on, off, yes or no");
    assert_refused(PROBE "number = 101\n", "server.ini:3: [plugin.x]: number = 101: ",
                   "expected a whole number from -5 to 100");
    assert_refused(PROBE "number = 1x\n", "server.ini:3: [plugin.x]: number = 1x: ", "number");
    assert_refused(PROBE "fail = pool\n", "server.ini:1: [plugin.x]: ", "no section [pg.nowhere]");
    assert_refused(PROBE "fail = upstream\n",
                   "server.ini:1: [plugin.x]: ", "no section [upstream.nowhere]");
    assert_refused(PROBE "fail = await\n", "server.ini:1: [plugin.x]: /",
                   "its init() returned -102");
    assert_refused(PROBE "fail = other\n", "server.ini:1: [plugin.x]: /",
                   "its init() returned -103");
}

static void test_one_route_of_two_plugins(void **state)
{
    struct plugin_world *world = make("[plugin.one]\npath = probe.so\n"
                                      "[plugin.two]\npath = probe.so\n");

    (void)state;
    assert_int_not_equal(plugin_world_load(world), ERR_OK);
    assert_string_equal(world->problem,
                        "server.ini:3: [plugin.two]: route GET /request/:id: plugin "
                        "one has GET /request/:id already");
    assert_int_equal(plugins_count(world->plugins), 1);
    end(world);
}

static void test_goes_on_without_one_that_is_not_required(void **state)
{
    struct plugin_world *world =
        make("[plugin.gone]\npath = nowhere.so\nrequired = no\nown = 1\n"
             "[plugin.broken]\npath = probe.so\nrequired = no\nfail = pool\n"
             "[plugin.probe]\npath = probe.so\n");
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    assert_int_equal(plugins_count(world->plugins), 1);
    assert_non_null(strstr(plugin_world_log(world), "left out, since it is not required"));
    assert_false(ini_unused(world->file, problem));
    plugin_world_serve(world);
    assert_non_null(strstr(plugin_world_ask(world, "GET /sleep?ms=1"), "slept"));
    end(world);
}

static void test_a_failure_that_init_ignores(void **state)
{
    struct plugin_world *world = make(PROBE "fail = ignored\n");

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    assert_non_null(strstr(plugin_world_log(world), "its init() went on nevertheless"));
    end(world);
}

static void test_start_stop_and_fini(void **state)
{
    struct plugin_world *world = make(PROBE);

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    plugin_world_serve(world);
    assert_false(plugins_are_stopped(world->plugins));
    fake_clock_walk(&world->clock, world->loop, 50);
    plugins_stop(world->plugins);
    plugins_stop(world->plugins);
    assert_false(plugins_are_stopped(world->plugins));
    run_turns(world->loop, 10);
    assert_true(plugins_are_stopped(world->plugins));
    plugins_destroy(world->plugins);
    world->plugins = NULL;
    assert_non_null(strstr(plugin_world_log(world), "msg=\"fini after 1 turns\" plugin=x"));
    end(world);
}

static void test_a_start_that_fails(void **state)
{
    struct plugin_world *world =
        make("[plugin.a]\npath = probe.so\nmount = /a\n" PROBE "start_fails = yes\n");

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    assert_int_not_equal(plugins_start(world->plugins, world->problem), ERR_OK);
    assert_non_null(strstr(world->problem, "server.ini:4: [plugin.x]: /"));
    assert_non_null(strstr(world->problem, "its start() returned -302: no session"));
    end(world);
}

static void test_unknown_keys_stay_unused(void **state)
{
    struct plugin_world *world = make(PROBE "number = 5\nnobody_asks = 1\n");
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    assert_int_equal(plugin_world_load(world), ERR_OK);
    assert_true(ini_unused(world->file, problem));
    assert_non_null(strstr(problem, "server.ini:4:"));
    end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_instances_of_one_file),
        cmocka_unit_test(test_plugins_with_the_same_names),
        cmocka_unit_test(test_refuses_files),
        cmocka_unit_test(test_refuses_options),
        cmocka_unit_test(test_refuses_what_init_finds_wrong),
        cmocka_unit_test(test_one_route_of_two_plugins),
        cmocka_unit_test(test_goes_on_without_one_that_is_not_required),
        cmocka_unit_test(test_a_failure_that_init_ignores),
        cmocka_unit_test(test_start_stop_and_fini),
        cmocka_unit_test(test_a_start_that_fails),
        cmocka_unit_test(test_unknown_keys_stay_unused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
