/* Goal: pieces of an arena are aligned, zeroed, apart from one another and good until it is
 * emptied; blocks are used again; under ASan a step beyond a piece, or after the end, is found. */
#include "base/arena.h"
#include "base/asan.h"
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/random.h"
#include "lib/test.h"

#include <stdalign.h>
#include <stdlib.h>

struct fixture {
    struct arena_pool pool;
    struct arena arena;
};

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof(*f));

    arena_pool_init(&f->pool, 8, NULL);
    arena_init(&f->arena, &f->pool);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    arena_deinit(&f->arena);
    arena_deinit(&f->arena);
    arena_pool_deinit(&f->pool);
    arena_pool_deinit(&f->pool);
    mem_free(f);
    return 0;
}

static void test_pieces_are_aligned_and_zeroed(void **state)
{
    struct fixture *f = *state;

    for (size_t size = 0; size < 3000; size += 7) {
        unsigned char *piece = arena_alloc(&f->arena, size);

        assert_int_equal((uintptr_t)piece % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(piece[i], 0);
            piece[i] = 0xff;
        }
        (void)arena_bytes(&f->arena, 1);
    }
}

static void test_random_pieces_keep_their_bytes(void **state)
{
    struct fixture *f = *state;
    uint64_t random = 20260131;
    char *pieces[600];
    size_t sizes[600];

    for (int round = 0; round < 20; round++) {
        size_t sum = 0;

        for (int i = 0; i < 600; i++) {
            uint32_t kind = random_below(&random, 20);

            sizes[i] = random_below(&random, kind == 0 ? 20000 : kind < 4 ? 2000 : 100);
            sum += sizes[i];
            pieces[i] =
                kind % 2 ? arena_alloc(&f->arena, sizes[i]) : arena_bytes(&f->arena, sizes[i]);
            memset(pieces[i], i & 0x7f, sizes[i]);
        }
        assert_int_equal(f->arena.bytes, sum);
        for (int i = 0; i < 600; i++) {
            for (size_t at = 0; at < sizes[i]; at++)
                assert_int_equal(pieces[i][at], i & 0x7f);
        }
        arena_deinit(&f->arena);
        assert_int_equal(f->arena.bytes, 0);
        assert_int_equal(f->pool._count, 8);
    }
}

static void test_blocks_are_used_again(void **state)
{
    struct fixture *f = *state;
    void *first = arena_alloc(&f->arena, 10);

    assert_int_equal(f->pool._count, 0);
    arena_deinit(&f->arena);
    assert_int_equal(f->pool._count, 1);
    assert_ptr_equal(arena_alloc(&f->arena, 10), first);
    assert_int_equal(f->pool._count, 0);
}

static void test_copy_and_format(void **state)
{
    struct fixture *f = *state;
    struct span copy = arena_copy(&f->arena, (struct span){"abcdef", 3});
    struct span absent = arena_copy(&f->arena, (struct span){NULL, 0});
    struct span text = arena_format(&f->arena, "%d/%s", 7, "x");
    struct span longer = arena_format(&f->arena, "%0*d", 9000, 5);

    assert_int_equal(copy.len, 3);
    assert_string_equal(copy.ptr, "abc");
    assert_null(absent.ptr);
    assert_string_equal(text.ptr, "7/x");
    assert_int_equal(longer.len, 9000);
    assert_int_equal(strlen(longer.ptr), 9000);
    assert_int_equal(longer.ptr[8999], '5');
    for (int len = 254; len <= 258; len++) {
        text = arena_format(&f->arena, "%0*d", len, 5);
        assert_int_equal(strlen(text.ptr), len);
    }
    assert_string_equal(arena_copy(&f->arena, SPAN("")).ptr, "");
}

static void step_beyond(void *arg)
{
    struct fixture *f = arg;
    volatile char *piece = arena_alloc(&f->arena, 24);

    (void)arena_alloc(&f->arena, 24);
    piece[24] = 1;
}

static void use_after_the_end(void *arg)
{
    struct fixture *f = arg;
    volatile char *piece = arena_alloc(&f->arena, 24);

    arena_deinit(&f->arena);
    piece[0] = 1;
}

static void test_asan_sees_what_is_not_ours(void **state)
{
    char output[DIES_OUTPUT_SIZE];

    if (!WEFT_ASAN)
        skip();
    assert_true(dies(step_beyond, *state, output));
    assert_non_null(strstr(output, "use-after-poison"));
    assert_true(dies(use_after_the_end, *state, output));
    assert_non_null(strstr(output, "use-after-poison"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pieces_are_aligned_and_zeroed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_pieces_keep_their_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_are_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copy_and_format, setup, teardown),
        cmocka_unit_test_setup_teardown(test_asan_sees_what_is_not_ours, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
