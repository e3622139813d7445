/* Goal: the same name and size is the same memory in every process, whoever asks first; another is
 * another; there is an end to it; and neither a worker that dies under the lock nor one that writes
 * over the list takes others along. */
#include "lib/test.h"
#include "server/shared.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 1 << 20, CHILDREN = 8, TIMES = 20000 };

static struct shared *shared;

static int set_up(void **state)
{
    (void)state;
    shared = shared_create(SIZE);
    return shared == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    shared_destroy(shared);
    return 0;
}

static void *find(const char *name, size_t size)
{
    void *block = NULL;

    assert_int_equal(shared_find(shared, name, size, &block), ERR_OK);
    assert_non_null(block);
    assert_int_equal((uintptr_t)block % 64, 0);
    return block;
}

static void join(pid_t pid, int expected)
{
    int status = 0;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, expected);
}

static void test_by_name_and_size(void **state)
{
    unsigned char *first = find("rates", 100), *other = find("rates", 200),
                  *third = find("limits", 100);

    (void)state;
    assert_ptr_equal(find("rates", 100), first);
    assert_true(other >= first + 100);
    assert_true(third >= other + 200);
    for (int i = 0; i < 100; i++)
        assert_int_equal(first[i], 0);
    memset(first, 0xff, 100);
    assert_int_equal(other[0], 0);
}

/* Processes that were forked before the block was there find one and the same. */
static void test_of_all_processes(void **state)
{
    pid_t children[CHILDREN];

    (void)state;
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            void *block = NULL;
            if (shared_find(shared, "count", sizeof(atomic_uint), &block) != ERR_OK)
                _exit(1);
            for (int k = 0; k < TIMES; k++)
                atomic_fetch_add((atomic_uint *)block, 1);
            _exit(0);
        }
    }
    for (int i = 0; i < CHILDREN; i++)
        join(children[i], 0);
    assert_int_equal(*(atomic_uint *)find("count", sizeof(atomic_uint)), CHILDREN * TIMES);
}

static void test_what_is_refused(void **state)
{
    char longest[SHARED_NAME_MAX + 1], longer[SHARED_NAME_MAX + 2];
    void *block = NULL;

    (void)state;
    memset(longest, 'n', sizeof longest);
    longest[SHARED_NAME_MAX] = '\0';
    memset(longer, 'n', sizeof longer);
    longer[SHARED_NAME_MAX + 1] = '\0';
    find(longest, 1);
    assert_int_equal(shared_find(shared, longer, 1, &block), ERR_INVALID);
    assert_int_equal(shared_find(shared, "", 1, &block), ERR_INVALID);
    assert_int_equal(shared_find(shared, "none", 0, &block), ERR_INVALID);
    assert_int_equal(shared_find(shared, "all", SIZE + 1, &block), ERR_TOO_BIG);
    assert_int_equal(shared_find(shared, "all", SIZE_MAX, &block), ERR_TOO_BIG);
    find("rest", SIZE - 64);
    assert_int_equal(shared_find(shared, "more", 1, &block), ERR_TOO_BIG);
    find("rest", SIZE - 64);
    assert_null(block);
}

static void test_the_list_is_full(void **state)
{
    char name[16];
    void *block = NULL;

    (void)state;
    for (int i = 0; i < SHARED_BLOCKS_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        find(name, 8);
    }
    assert_int_equal(shared_find(shared, "one more", 8, &block), ERR_TOO_BIG);
    find("n7", 8);
}

/* Killed at any point of a call: those that come after are served. */
static void test_killed_in_it(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            void *block;
            char name[16];
            for (uint32_t k = 0;; k++) {
                snprintf(name, sizeof name, "k%u", k % 200);
                if (shared_find(shared, name, 64, &block) != ERR_OK)
                    _exit(1);
            }
        }
        usleep((unsigned)(i * 37 % 500));
        kill(pid, SIGKILL);
        join(pid, SIGKILL);
        find("after", 64);
    }
}

/* The list lies before the blocks, where an index below 0 of a plugin's array leads. */
static void test_written_over(void **state)
{
    unsigned char *block = find("block", 64);
    void *found = NULL;

    (void)state;
    memset(block - 4096, 0xff, 4096);
    for (int i = 0; i < 4; i++) {
        enum err err = shared_find(shared, i % 2 != 0 ? "block" : "new", 64, &found);
        assert_true(err == ERR_OK || err == ERR_IO || err == ERR_TOO_BIG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_by_name_and_size, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_all_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_list_is_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_in_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_written_over, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
