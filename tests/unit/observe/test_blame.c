/* Goal: the master reads in the page what its worker was running, also after the worker has died in
 * it or has scribbled over it, and a page can be used again for the next worker. */
#include "lib/random.h"
#include "lib/test.h"
#include "observe/blame.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[BLAME_TEXT_SIZE];

static void test_entries_are_noted(void **state)
{
    struct blame *page = blame_create();
    uint32_t books = blame_name(page, SPAN("books"), SPAN("GET /books/:id"));
    uint32_t hello = blame_name(page, SPAN("hello"), SPAN("GET /hello"));
    size_t len;

    (void)state;
    assert_int_not_equal(books, BLAME_HOST);
    assert_int_not_equal(books, hello);
    blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=- route=- request=-");
    blame_enter(page, books, 17);
    len = blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=books route=\"GET /books/:id\" request=0000000000000011");
    assert_int_equal(len, strlen(text));
    blame_leave(page);
    blame_enter(page, hello, 18);
    blame_leave(page);
    blame_enter(page, books, 19);
    blame_leave(page);
    blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=- route=- request=-");
    assert_int_equal(page->entries, 3);
    assert_int_equal(page->names[books].entries, 2);
    assert_int_equal(page->names[hello].entries, 1);
    blame_turn(page, 1000);
    blame_turn(page, 2000);
    assert_int_equal(page->turn, 2);
    assert_int_equal(page->turn_start_us, 2000);
    blame_destroy(page);
}

static void test_a_dead_worker_leaves_its_note(void **state)
{
    struct blame *page = blame_create();
    struct blame_culprit culprit;
    int status;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) {
        uint32_t route = blame_name(page, SPAN("crash"), SPAN("GET /crash"));

        blame_enter(page, route, UINT64_MAX);
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    blame_read(page, &culprit);
    assert_string_equal(culprit.plugin, "crash");
    assert_string_equal(culprit.route, "GET /crash");
    assert_true(culprit.request == UINT64_MAX);
    blame_destroy(page);
}

static void test_the_next_worker_starts_anew(void **state)
{
    struct blame *page = blame_create();
    uint32_t route = blame_name(page, SPAN("a"), SPAN("GET /a"));

    (void)state;
    blame_enter(page, route, 1);
    blame_turn(page, 5);
    blame_reset(page);
    assert_int_equal(page->turn, 0);
    assert_int_equal(page->entries, 0);
    assert_int_equal(page->names[route].entries, 0);
    assert_string_equal(page->names[route].plugin, "");
    blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=- route=- request=-");
    assert_int_equal(blame_name(page, SPAN("b"), SPAN("GET /b")), route);
    blame_enter(page, route, 2);
    blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=b route=\"GET /b\" request=0000000000000002");
    blame_destroy(page);
}

static void test_long_names_are_cut(void **state)
{
    struct blame *page = blame_create();
    char plugin[200];
    char route[200];

    (void)state;
    memset(plugin, 'p', sizeof plugin);
    memset(route, '\n', sizeof route);
    blame_enter(page, blame_name(page, (struct span){plugin, 200}, (struct span){route, 200}), 1);
    assert_true(blame_describe(page, text, sizeof text) < sizeof text);
    assert_int_equal(strspn(text + strlen("plugin="), "p"), BLAME_PLUGIN_SIZE - 1);
    assert_non_null(strstr(text, " route=\"\\n\\n"));
    assert_non_null(strstr(text, "\\n\\n\" request=0000000000000001"));
    assert_int_equal(blame_describe(page, text, 10), 9);
    assert_string_equal(text, "plugin=pp");
    assert_int_not_equal(blame_name(page, (struct span){NULL, 0}, SPAN("")), BLAME_HOST);
    blame_destroy(page);
}

static void test_a_full_page_says_so(void **state)
{
    struct blame *page = blame_create();
    uint32_t index = 0;
    char name[32];

    (void)state;
    for (uint32_t i = 1; i < BLAME_NAMES_MAX - 1; i++) {
        snprintf(name, sizeof name, "GET /%u", i);
        index = blame_name(page, SPAN("p"), span_of(name));
        assert_int_equal(index, i);
    }
    blame_enter(page, index, 3);
    blame_describe(page, text, sizeof text);
    assert_string_equal(text, "plugin=p route=\"GET /16382\" request=0000000000000003");
    for (int i = 0; i < 3; i++)
        assert_int_equal(blame_name(page, SPAN("p"), SPAN("GET /x")), BLAME_NAMES_MAX - 1);
    blame_enter(page, BLAME_NAMES_MAX - 1, 4);
    blame_describe(page, text, sizeof text);
    assert_string_equal(text,
                        "plugin=many route=\"one of too many to note\" request=0000000000000004");
    blame_destroy(page);
}

static void test_without_a_page_nothing_happens(void **state)
{
    (void)state;
    blame_enter(NULL, blame_name(NULL, SPAN("a"), SPAN("b")), 1);
    blame_leave(NULL);
    blame_turn(NULL, 1);
    blame_reset(NULL);
    blame_destroy(NULL);
    blame_describe(NULL, text, sizeof text);
    assert_string_equal(text, "plugin=- route=- request=-");
}

/* What a plugin that ran wild may have left there. */
static void test_scribbles_are_read_without_harm(void **state)
{
    struct blame *page = blame_create();
    uint64_t random = 77;

    (void)state;
    for (int i = 0; i < 300; i++) {
        unsigned char *bytes = (unsigned char *)page;

        for (size_t at = 0; at < 4096; at++)
            bytes[at] = (unsigned char)random_next(&random);
        if (i % 2)
            page->index %= 20;
        assert_true(blame_describe(page, text, sizeof text) < sizeof text);
        assert_non_null(strstr(text, " request="));
    }
    blame_destroy(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_noted),
        cmocka_unit_test(test_a_dead_worker_leaves_its_note),
        cmocka_unit_test(test_the_next_worker_starts_anew),
        cmocka_unit_test(test_long_names_are_cut),
        cmocka_unit_test(test_a_full_page_says_so),
        cmocka_unit_test(test_without_a_page_nothing_happens),
        cmocka_unit_test(test_scribbles_are_read_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
