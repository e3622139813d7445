/* Goal: the heap is trimmed once behind a crowd, when what it held stands still; not for less than
 * is worth it, not while more goes, and not for what is needed again and again. Pools say what they
 * take and give, and nothing that they keep. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/heap.h"
#include "lib/dies.h"
#include "lib/test.h"

enum { MB = 1 << 20 };

/* How often the heap was trimmed: the linker sends all calls here. */
static uint32_t trimmed;

/* NOLINTBEGIN(bugprone-reserved-identifier): the linker's name */
void __wrap_mem_trim(void);
/* NOLINTEND(bugprone-reserved-identifier) */

void __wrap_mem_trim(void)
{
    trimmed++;
}

static void on_free(void *data)
{
    ++*(uint32_t *)data;
}

struct fixture {
    struct heap heap;
    uint32_t asked; /* how often heap_look() was asked for */
};

static int setup(void **state)
{
    static struct fixture f;

    f.asked = 0;
    trimmed = 0;
    heap_init(&f.heap, on_free, &f.asked);
    *state = &f;
    return 0;
}

/* Looks until nothing is left to be done; how often. */
static uint32_t look_all(struct fixture *f)
{
    uint32_t count = 1;

    while (heap_look(&f->heap)) {
        assert_true(count < 100);
        count++;
    }
    return count;
}

static void test_once_when_a_crowd_has_gone(void **state)
{
    struct fixture *f = *state;

    for (uint32_t round = 1; round <= 3; round++) {
        heap_took(&f->heap, 50 * MB);
        heap_gave(&f->heap, 50 * MB);
        assert_int_equal(f->asked, round);
        assert_true(heap_look(&f->heap)); /* it may come back */
        assert_true(heap_look(&f->heap)); /* it was there a moment ago */
        assert_int_equal(trimmed, round - 1);
        assert_false(heap_look(&f->heap));
        assert_int_equal(trimmed, round);
        assert_false(heap_look(&f->heap));
        assert_int_equal(trimmed, round);
    }
}

static void test_little_is_not_worth_it(void **state)
{
    struct fixture *f = *state;

    heap_took(&f->heap, 50 * MB);
    heap_gave(&f->heap, HEAP_FREE_MIN - 1);
    assert_int_equal(f->asked, 0);
    for (int i = 0; i < 10; i++)
        assert_false(heap_look(&f->heap));
    assert_int_equal(trimmed, 0);
    heap_gave(&f->heap, 1); /* with what went before it is */
    assert_int_equal(f->asked, 1);
    (void)look_all(f);
    assert_int_equal(trimmed, 1);
}

static void test_not_while_more_goes(void **state)
{
    struct fixture *f = *state;

    heap_took(&f->heap, 50 * MB);
    for (int i = 0; i < 40; i++) {
        heap_gave(&f->heap, MB);
        assert_int_equal(heap_look(&f->heap), i >= 3);
        assert_int_equal(trimmed, 0);
    }
    assert_true(look_all(f) < 5);
    assert_int_equal(trimmed, 1);
}

/* A few that go each second keep nobody from it; there is a trim for each HEAP_FREE_MIN of them. */
static void test_a_trickle_is_no_reason_to_wait(void **state)
{
    struct fixture *f = *state;

    heap_took(&f->heap, 50 * MB);
    heap_gave(&f->heap, 20 * MB);
    for (int i = 0; i < 3; i++) {
        heap_gave(&f->heap, 100 << 10);
        (void)heap_look(&f->heap);
    }
    assert_int_equal(trimmed, 1);
    for (int i = 0; i < 100; i++) {
        heap_gave(&f->heap, 100 << 10);
        (void)heap_look(&f->heap);
    }
    assert_int_equal(trimmed, 3);
}

/* Large bodies come and go in each second. */
static void test_what_is_needed_again_stays(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < 100; i++) {
        heap_took(&f->heap, 20 * MB);
        heap_gave(&f->heap, 20 * MB);
        (void)heap_look(&f->heap);
        assert_int_equal(trimmed, 0);
    }
    assert_true(f->asked >= 100);
    (void)look_all(f);
    assert_int_equal(trimmed, 1);
}

/* A crowd has gone, and others are served as before. */
static void test_a_crowd_is_found_beside_steady_work(void **state)
{
    struct fixture *f = *state;

    heap_took(&f->heap, 40 * MB);
    for (int i = 0; i < 20; i++) {
        if (i == 10)
            heap_gave(&f->heap, 40 * MB);
        for (int k = 0; k < 100; k++) {
            heap_took(&f->heap, 6 * MB);
            heap_gave(&f->heap, 6 * MB);
        }
        (void)heap_look(&f->heap);
        assert_int_equal(trimmed, i >= 12);
    }
}

static void test_arenas_are_counted(void **state)
{
    struct fixture *f = *state;
    struct arena_pool pool;
    struct arena arena;

    arena_pool_init(&pool, 1, &f->heap);
    arena_init(&arena, &pool);
    (void)arena_alloc(&arena, 100);
    assert_int_equal(f->heap._held, ARENA_BLOCK_SIZE);
    (void)arena_alloc(&arena, 100000);
    assert_in_range(f->heap._held, ARENA_BLOCK_SIZE + 100000, ARENA_BLOCK_SIZE + 100100);
    for (int i = 0; i < 9; i++)
        (void)arena_alloc(&arena, 900);
    arena_deinit(&arena);
    assert_int_equal(f->heap._held, ARENA_BLOCK_SIZE); /* which the pool keeps */
    (void)arena_alloc(&arena, 100);
    assert_int_equal(f->heap._held, ARENA_BLOCK_SIZE);
    arena_deinit(&arena);
    arena_pool_deinit(&pool);
    assert_int_equal(f->heap._held, 0);
}

static void test_buffers_are_counted(void **state)
{
    struct fixture *f = *state;
    struct buf_pool pool;
    struct buf one;
    struct buf other;

    buf_pool_init(&pool, 1, &f->heap);
    buf_init(&one, &pool);
    buf_init(&other, &pool);
    (void)buf_reserve(&one, 1);
    (void)buf_reserve(&other, 1);
    assert_int_equal(f->heap._held, 2 * BUF_PIECE_SIZE);
    buf_release(&one);
    buf_release(&other);
    assert_int_equal(f->heap._held, BUF_PIECE_SIZE); /* which the pool keeps */
    (void)buf_reserve(&one, 1);
    assert_int_equal(f->heap._held, BUF_PIECE_SIZE);
    (void)buf_reserve(&one, 100000);
    assert_int_equal(f->heap._held, BUF_PIECE_SIZE + 131072);
    (void)buf_reserve(&one, 200000);
    assert_int_equal(f->heap._held, BUF_PIECE_SIZE + 262144);
    buf_release(&one);
    buf_pool_deinit(&pool);
    assert_int_equal(f->heap._held, 0);
}

static void give_too_much(void *arg)
{
    heap_gave(arg, 1);
}

static void test_no_more_is_given_than_taken(void **state)
{
    struct fixture *f = *state;
    char output[DIES_OUTPUT_SIZE];

    assert_true(dies(give_too_much, &f->heap, output));
    assert_non_null(strstr(output, "_held >= size"));
    heap_took(NULL, 1);
    heap_gave(NULL, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_once_when_a_crowd_has_gone, setup),
        cmocka_unit_test_setup(test_little_is_not_worth_it, setup),
        cmocka_unit_test_setup(test_not_while_more_goes, setup),
        cmocka_unit_test_setup(test_a_trickle_is_no_reason_to_wait, setup),
        cmocka_unit_test_setup(test_what_is_needed_again_stays, setup),
        cmocka_unit_test_setup(test_a_crowd_is_found_beside_steady_work, setup),
        cmocka_unit_test_setup(test_arenas_are_counted, setup),
        cmocka_unit_test_setup(test_buffers_are_counted, setup),
        cmocka_unit_test_setup(test_no_more_is_given_than_taken, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
