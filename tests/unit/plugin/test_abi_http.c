/* Goal: a plugin sees its request and answers it; what it returns becomes the reply, once, with a
 * line in the log; no request is left without an answer, whatever a handler does. */
#include "lib/plugin_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ini[] = "[plugin.probe]\n"
                          "path = probe.so\n"
                          "mount = /p\n"
                          "greeting = hi there\n"
                          "number = -5\n"
                          "flag = no\n";

static int start_world(void **state, const struct fiber_options *fibers)
{
    struct plugin_world *world = calloc(1, sizeof *world);

    plugin_world_init(world, ini, TEST_PLUGINS, fibers);
    if (plugin_world_load(world) != ERR_OK)
        fail_msg("%s", world->problem);
    plugin_world_serve(world);
    (void)plugin_world_log(world);
    *state = world;
    return 0;
}

static int set_up(void **state)
{
    return start_world(state, NULL);
}

/* The background job has one, and one is left. */
static int set_up_two_fibers(void **state)
{
    return start_world(state, &(struct fiber_options){.count_max = 2});
}

static int tear_down(void **state)
{
    plugin_world_deinit(*state);
    free(*state);
    return 0;
}

static void assert_answer(struct plugin_world *world, const char *target, const char *status,
                          const char *text)
{
    const char *answer = plugin_world_ask(world, target);

    if (strncmp(answer + 9, status, strlen(status)) != 0 || strstr(answer, text) == NULL)
        fail_msg("%s: not %s with %s but %s", target, status, text, answer);
}

static void assert_log(struct plugin_world *world, const char *text)
{
    if (strstr(plugin_world_log(world), text) == NULL)
        fail_msg("not in the log: %s\n%s", text, world->log);
}

static void test_the_request(void **state)
{
    struct plugin_world *world = *state;

    assert_answer(world, "POST /p/request/a%2Fb%20c?q=1+2&q=3\nX-Probe:  y \n\nthe body", "201",
                  "POST /p/request/a%2Fb%20c id=a/b c q=1 2 x=y peer=127.0.0.1 mount=/p "
                  "body=the body greeting=hi there number=-5 flag=0 self=1");
    assert_non_null(strstr(world->text, "X-Answer: 42\r\n"));
    assert_non_null(strstr(world->text, "Content-Type: text/plain\r\n"));
    assert_answer(world, "GET /p/absent", "200", "\r\n\r\n0");
}

static void test_json_bodies(void **state)
{
    struct plugin_world *world = *state;
    char deep[2048] = "POST /p/json\n\n";

    assert_answer(world, "POST /p/json\n\n{\"a\": [1, 2]}", "200", "\r\n\r\n0");
    assert_answer(world, "POST /p/json\n\n17", "200", "\r\n\r\n3");
    assert_answer(world, "POST /p/json\n\n{\"a\": }", "400",
                  "the body is no JSON: line 1, column ");
    assert_answer(world, "POST /p/json", "400", "the body is empty, not JSON");
    assert_answer(world, "POST /p/json\n\n\"a\\u0000b\"", "400", "is no JSON");
    memset(deep + strlen(deep), '[', 1000);
    assert_answer(world, deep, "400", "nested deeper than 128 levels");
}

static void test_statuses_become_answers(void **state)
{
    struct plugin_world *world = *state;

    assert_answer(world, "GET /p/status?status=-502", "404", "application/problem+json");
    assert_answer(world, "GET /p/status?status=-501&why=no%20%22good%22", "400",
                  "\"detail\":\"no \\\"good\\\"\"");
    assert_answer(world, "GET /p/status?status=-301", "503", "Retry-After: 1");
    assert_answer(world, "GET /p/status?status=-404", "504", "\"status\":504");
    assert_answer(world, "GET /p/status?status=-999", "500", "\"status\":500");
    assert_answer(world, "GET /p/status?status=-201", "500", "\"status\":500");
    (void)plugin_world_log(world);
    assert_non_null(strstr(world->log, "level=error"));
    assert_non_null(strstr(world->log, "status -404, answered 504\" plugin=probe "
                                       "route=\"GET /p/status\" request="));
    assert_non_null(strstr(world->log, "level=debug"));
    assert_non_null(strstr(world->log, "detail=\"no \\\"good\\\"\""));
}

static void test_silence_is_answered(void **state)
{
    struct plugin_world *world = *state;

    assert_answer(world, "GET /p/nothing", "500", "problem+json");
    assert_log(world, "the handler sent no reply, and nothing is pending: answered 500\" "
                      "plugin=probe route=\"GET /p/nothing\"");
    assert_answer(world, "GET /p/then-nothing", "500", "problem+json");
    assert_log(world, "route=\"GET /p/then-nothing\"");
}

static void test_the_first_reply_stands(void **state)
{
    struct plugin_world *world = *state;

    assert_answer(world, "GET /p/twice", "200", "first");
    assert_null(strstr(world->text, "second"));
    assert_log(world,
               "weft_reply(): there is a reply already; the first one stands\" plugin=probe");
    assert_answer(world, "GET /p/recorded", "200", "\r\n\r\n-102");
}

static void test_fields_that_cannot_be_sent(void **state)
{
    struct plugin_world *world = *state;

    assert_answer(world, "GET /p/bad-headers", "200",
                  "\r\n\r\n-101 -101 -101 -101 -101 -101 -101 -101 -101 -101 -101 -101 -101 -101 "
                  "-101 -101 -101");
    assert_null(strstr(world->text, "B"));
    assert_null(strstr(world->text, "Location"));
    assert_null(strstr(world->text, "X-A"));
    assert_log(world,
               "weft_set_header(): a code, type or field that cannot be sent\" plugin=probe");
}

static void test_the_deadline(void **state)
{
    struct plugin_world *world = *state;
    uint64_t begun = loop_now_ms(world->loop);

    assert_answer(world, "GET /p/sleep?ms=60000", "504", "problem+json");
    assert_in_range(loop_now_ms(world->loop) - begun, 190, 260);
    assert_log(world, "the deadline has passed: status -202, answered 504\" plugin=probe");
    assert_answer(world, "GET /p/ignore", "504", "problem+json");
    assert_answer(world, "GET /p/recorded", "200", "\r\n\r\n2");
}

static void leave_early(struct plugin_world *world, const char *target)
{
    char text[256];
    int fd = plugin_world_connect(world);

    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target);
    peer_send(fd, text);
    run_turns(world->loop, 5);
    close(fd);
    run_turns(world->loop, 5);
}

static void test_a_client_that_leaves(void **state)
{
    struct plugin_world *world = *state;
    uint32_t before = world->tasks->scopes_count;

    leave_early(world, "/p/wait");
    assert_int_equal(world->tasks->scopes_count, before);
    leave_early(world, "/p/ignore");
    assert_int_equal(world->tasks->scopes_count, before);
    assert_answer(world, "GET /p/recorded", "200", "\r\n\r\n1");
}

/* The route says that it finishes: the sleep goes on, and its reply has nobody to go to. */
static void test_a_client_that_leaves_what_finishes(void **state)
{
    struct plugin_world *world = *state;
    uint32_t before = world->tasks->scopes_count;

    leave_early(world, "/p/sleep-to-the-end?ms=100");
    assert_int_equal(world->tasks->scopes_count, before + 1);
    fake_clock_walk(&world->clock, world->loop, 120);
    assert_int_equal(world->tasks->scopes_count, before);
    assert_null(strstr(plugin_world_log(world), "level=error"));
}

static void test_no_fiber_is_left(void **state)
{
    struct plugin_world *world = *state;
    int fd = plugin_world_connect(world);

    peer_send(fd, "GET /p/wait HTTP/1.1\r\nHost: x\r\n\r\n");
    run_turns(world->loop, 5);
    assert_answer(world, "GET /p/memory", "503", "Retry-After: 1");
    assert_log(world, "status -203, answered 503\" plugin=probe route=\"GET /p/memory\"");
    close(fd);
    run_turns(world->loop, 5);
    assert_answer(world, "GET /p/memory", "200", "\r\n\r\n0");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_request),
        TEST(test_json_bodies),
        TEST(test_statuses_become_answers),
        TEST(test_silence_is_answered),
        TEST(test_the_first_reply_stands),
        TEST(test_fields_that_cannot_be_sent),
        TEST(test_the_deadline),
        TEST(test_a_client_that_leaves),
        TEST(test_a_client_that_leaves_what_finishes),
        cmocka_unit_test_setup_teardown(test_no_fiber_is_left, set_up_two_fibers, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
