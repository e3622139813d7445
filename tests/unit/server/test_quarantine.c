/* Goal: a route is closed after as many crashes as configured within the window, whoever else
 * crashes beside it; workers that share the list learn of it, cannot write to it, and open it
 * again. */
#include "http/router.h"
#include "lib/test.h"
#include "server/quarantine.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct quarantine book;

static struct blame_culprit who(const char *plugin, const char *route)
{
    struct blame_culprit culprit = {.request = 1};

    snprintf(culprit.plugin, sizeof culprit.plugin, "%s", plugin);
    snprintf(culprit.route, sizeof culprit.route, "%s", route);
    return culprit;
}

static bool note(const char *plugin, const char *route, uint64_t now_ms)
{
    const struct blame_culprit culprit = who(plugin, route);

    return quarantine_note_crash(&book, &culprit, now_ms);
}

static int set_up(void **state)
{
    (void)state;
    quarantine_init(&book, 3, 1000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    quarantine_deinit(&book);
    quarantine_deinit(&book);
    return 0;
}

static void test_the_limit_within_the_window(void **state)
{
    (void)state;
    assert_false(note("a", "GET /", 10000));
    assert_false(note("a", "GET /", 10400));
    assert_false(note("a", "GET /", 11100)); /* the first is 1,100 ms old */
    assert_true(note("a", "GET /", 11400));
    assert_int_equal(book.list->count, 1);
    assert_string_equal(book.list->routes[0].route, "GET /");
    assert_false(note("a", "GET /", 11401)); /* closed already */
    assert_int_equal(book.list->count, 1);
}

static void test_others_do_not_count(void **state)
{
    (void)state;
    assert_false(note("a", "GET /", 1));
    assert_false(note("b", "GET /", 2));
    assert_false(note("a", "POST /", 3));
    assert_false(note("a", "GET /", 4));
    assert_false(note("", "", 5)); /* the host's own */
    for (int i = 0; i < 9; i++)
        assert_false(note("a", "(background)", 6)); /* no route: nothing can be closed */
    assert_int_equal(book.list->count, 0);
    assert_true(note("a", "GET /", 7));
}

static void test_a_limit_of_none(void **state)
{
    (void)state;
    quarantine_clear(&book, 0, 1000);
    for (int i = 0; i < 100; i++)
        assert_false(note("a", "GET /", 1));
    quarantine_clear(&book, 1, 1000);
    assert_true(note("a", "GET /", 1));
}

static void test_many_culprits(void **state)
{
    char plugin[16];

    (void)state;
    quarantine_clear(&book, 2, 1000000);
    assert_false(note("first", "GET /", 1));
    for (unsigned i = 0; i < 3 * QUARANTINE_MAX; i++) {
        snprintf(plugin, sizeof plugin, "p%u", i);
        assert_false(note(plugin, "GET /", 2 + i));
    }
    assert_false(note("first", "GET /", 5000)); /* it was forgotten */
    quarantine_clear(&book, 1, 1000000);
    for (unsigned i = 0; i < QUARANTINE_MAX; i++) {
        snprintf(plugin, sizeof plugin, "p%u", i);
        assert_true(note(plugin, "GET /", i));
    }
    assert_false(note("more", "GET /", 9999)); /* no place is left */
    assert_int_equal(book.list->count, QUARANTINE_MAX);
}

static void serve(struct http_request *request, void *data)
{
    (void)request;
    (void)data;
}

static struct http_route *add(struct router *router, const char *owner, const char *pattern)
{
    struct http_route *added;
    const struct http_route route = {
        .method = (char *)"GET", .pattern = (char *)pattern, .fn = serve, .owner = owner};

    assert_int_equal(router_add(router, &route, &added, NULL), ERR_OK);
    return added;
}

static void test_the_router_follows_the_list(void **state)
{
    struct router *router = router_create();
    const struct http_route *bad = add(router, "a", "/bad/:id");
    const struct http_route *good = add(router, "a", "/good");
    const struct http_route *other = add(router, "b", "/other");
    const struct http_route *hosts = add(router, NULL, "/own");
    uint32_t version = 0;

    (void)state;
    quarantine_apply(book.list, &version, router);
    assert_null(bad->closed);
    for (int i = 0; i < 3; i++)
        (void)note("a", "GET /bad/:id", 1);
    quarantine_apply(book.list, &version, router);
    assert_non_null(strstr(bad->closed, "quarantine"));
    assert_null(good->closed);
    assert_null(other->closed);
    assert_null(hosts->closed);
    quarantine_clear(&book, 3, 1000);
    quarantine_apply(book.list, &version, router);
    assert_null(bad->closed);
    quarantine_apply(NULL, &version, router);
    router_destroy(router);
}

/* A name longer than the page of blame holds is cut on both sides alike. */
static void test_a_long_pattern(void **state)
{
    char pattern[200] = "/", text[BLAME_ROUTE_SIZE];
    struct router *router = router_create();
    const struct http_route *route;
    uint32_t version = 0;

    (void)state;
    memset(pattern + 1, 'x', sizeof pattern - 2);
    route = add(router, "a", pattern);
    snprintf(text, sizeof text, "GET %.75s", pattern);
    for (int i = 0; i < 3; i++)
        (void)note("a", text, 1);
    quarantine_apply(book.list, &version, router);
    assert_non_null(route->closed);
    router_destroy(router);
}

static void test_a_worker_cannot_write_there(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        quarantine_seal(NULL);
        quarantine_seal(book.list);
        book.list->count = 7;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(book.list->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_limit_within_the_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_do_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_limit_of_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_culprits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_router_follows_the_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_pattern, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_cannot_write_there, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
