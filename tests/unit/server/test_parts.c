/* Goal: what [server] says of a worker's loop is what it is made with. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "loop/loop.h"
#include "observe/blame.h"
#include "server/parts.h"
#include "server/worker.h"

#include <string.h>

static struct temp_dir dir;
static struct blame *blame;
static struct settings *settings;
static struct parts parts;

static int set_up(void **state)
{
    (void)state;
    temp_dir_init(&dir);
    blame = blame_create();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    blame_destroy(blame);
    temp_dir_deinit(&dir);
    return 0;
}

/* The parts of a worker with these settings, as a start makes them. */
static void make(const char *text)
{
    char problem[INI_PROBLEM_SIZE] = "";
    const char *path = temp_dir_write(&dir, "server.ini", text, strlen(text));
    struct worker_setup setup = {
        .copy_dir = dir.path, .blame = blame, .generation = 1, .channel = -1};

    if (settings_load(path, NULL, &settings, problem) != ERR_OK)
        fail_msg("%s", problem);
    setup.settings = settings;
    if (parts_init(&parts, &setup, problem) != ERR_OK)
        fail_msg("%s", problem);
}

static void let_go(void)
{
    parts_deinit(&parts);
    settings_free(settings);
}

static void test_the_loop_puts_its_wakes_together(void **state)
{
    (void)state;
    make("[server]\n");
    assert_true(loop_coalesces(parts.loop));
    let_go();
    make("[server]\ncoalesce = on\n");
    assert_true(loop_coalesces(parts.loop));
    let_go();
}

static void test_it_does_not_where_it_shall_not(void **state)
{
    (void)state;
    make("[server]\ncoalesce = off\n");
    assert_false(loop_coalesces(parts.loop));
    let_go();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_loop_puts_its_wakes_together),
        TEST(test_it_does_not_where_it_shall_not),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
