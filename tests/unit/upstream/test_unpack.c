/* Goal: gzip is decoded only as far as there is room, at constant memory, whatever is fed and
 *       taken; no byte more than allowed comes out; what is wrong is told once it is met, and for
 *       good. */
#include "lib/test.h"
#include "unit/upstream/pack.h"
#include "upstream/unpack.h"

#include <string.h>

enum { SIZE = 50000, ROOM = 4096, PLENTY = 1 << 30 };

/* Feeds `packed` in steps of `step`, never while any waits, and takes ROOM bytes at a time. */
static enum err run(struct unpack *unpack, struct span packed, size_t step, struct buf *all)
{
    struct buf out = {0};
    enum err err = ERR_OK;
    size_t at = 0;

    while (err == ERR_OK && (at < packed.len || !unpack_is_hungry(unpack))) {
        struct span piece = {NULL, 0};

        if (unpack_is_hungry(unpack)) {
            piece.ptr = packed.ptr + at;
            piece.len = packed.len - at < step ? packed.len - at : step;
            at += piece.len;
        }
        err = unpack_more(unpack, piece, &out, ROOM);
        assert_in_range(out.len, 0, ROOM);
        buf_append(all, buf_span(&out));
        buf_consume(&out, out.len);
    }
    buf_release(&out);
    return err;
}

static enum err run_once(struct span packed, size_t step, uint64_t bytes_max, struct buf *all,
                         bool *is_complete)
{
    struct unpack unpack = {0};
    enum err err;

    unpack_start(&unpack, NULL, bytes_max);
    assert_true(unpack_is_started(&unpack));
    err = run(&unpack, packed, step, all);
    *is_complete = unpack_is_complete(&unpack);
    if (err != ERR_OK) { /* for good */
        assert_int_equal(unpack_more(&unpack, SPAN("x"), all, PLENTY), err);
        assert_false(*is_complete);
    }
    unpack_stop(&unpack);
    unpack_stop(&unpack);
    return err;
}

static void test_each_step(void **state)
{
    static const size_t steps[] = {1, 7, 1000, 1 << 20};
    char *text = pack_text(SIZE);
    struct span packed = pack((struct span){text, SIZE});
    bool is_complete;

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct buf all = {0};

        assert_int_equal(run_once(packed, steps[i], SIZE, &all, &is_complete), ERR_OK);
        assert_true(is_complete);
        assert_int_equal(all.len, SIZE);
        assert_memory_equal(all.data, text, SIZE);
        buf_release(&all);
    }
    free((char *)packed.ptr);
    free(text);
}

/* The limit in each place, also where all of the room has been used up just before. */
static void test_limit(void **state)
{
    static const size_t limits[] = {1, 100, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM, SIZE - 1};
    static const size_t steps[] = {1, 1 << 20};
    char *text = pack_text(SIZE);
    struct span packed = pack((struct span){text, SIZE});
    bool is_complete;

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct buf all = {0};

            assert_int_equal(run_once(packed, steps[k], limits[i], &all, &is_complete),
                             ERR_TOO_BIG);
            assert_int_equal(all.len, limits[i]);
            assert_memory_equal(all.data, text, limits[i]);
            buf_release(&all);
        }
    }
    free((char *)packed.ptr);
    free(text);
}

static void test_cut_off_anywhere(void **state)
{
    struct span packed = pack(SPAN("some text some text some text"));
    bool is_complete;

    (void)state;
    for (size_t len = 0; len < packed.len; len++) {
        struct buf all = {0};

        assert_int_equal(run_once((struct span){packed.ptr, len}, 1, 100, &all, &is_complete),
                         ERR_OK);
        assert_int_equal(is_complete, len == 0); /* nothing at all is an empty body */
        buf_release(&all);
    }
    free((char *)packed.ptr);
}

static void test_several_files(void **state)
{
    struct span one = pack(SPAN("one")), none = pack(SPAN("")), two = pack(SPAN(" two"));
    struct buf both = {0};
    bool is_complete;

    (void)state;
    buf_append(&both, none);
    buf_append(&both, one);
    buf_append(&both, none);
    buf_append(&both, two);
    for (size_t step = 1; step <= both.len; step++) {
        struct buf all = {0};

        assert_int_equal(run_once(buf_span(&both), step, 7, &all, &is_complete), ERR_OK);
        assert_true(is_complete);
        assert_int_equal(all.len, 7);
        assert_memory_equal(all.data, "one two", 7);
        buf_release(&all);
    }
    buf_release(&both);
    free((char *)one.ptr);
    free((char *)none.ptr);
    free((char *)two.ptr);
}

static void test_what_is_wrong(void **state)
{
    struct span packed = pack(SPAN("some text"));
    char *bytes = (char *)(uintptr_t)packed.ptr;
    struct buf behind = {0}, all = {0};
    bool is_complete;

    (void)state;
    buf_append(&behind, packed);
    buf_append(&behind, SPAN("more"));
    bytes[packed.len - 6] ^= 1; /* its checksum */
    for (size_t step = 1; step < 40; step += 13) {
        assert_int_equal(run_once(SPAN("no gzip"), step, 99, &all, &is_complete), ERR_PROTOCOL);
        assert_int_equal(all.len, 0);
        assert_int_equal(run_once(packed, step, 99, &all, &is_complete), ERR_PROTOCOL);
        assert_int_equal(all.len, 9);
        buf_release(&all);
        assert_int_equal(run_once(buf_span(&behind), step, 99, &all, &is_complete), ERR_PROTOCOL);
        assert_int_equal(all.len, 9); /* what was good */
        buf_release(&all);
    }
    buf_release(&behind);
    free(bytes);
}

/* Bytes that come while others wait are decoded behind them. */
static void test_fed_while_some_waits(void **state)
{
    char *text = pack_text(SIZE);
    struct span packed = pack((struct span){text, SIZE});
    struct buf out = {0};
    struct unpack unpack = {0};
    size_t half = packed.len / 2;

    (void)state;
    assert_true(unpack_is_hungry(&unpack));
    assert_true(unpack_is_complete(&unpack));
    unpack_start(&unpack, NULL, SIZE);
    assert_int_equal(unpack_more(&unpack, (struct span){packed.ptr, half}, &out, 1), ERR_OK);
    assert_int_equal(out.len, 1);
    assert_false(unpack_is_hungry(&unpack));
    packed.ptr += half;
    packed.len -= half;
    assert_int_equal(unpack_more(&unpack, packed, &out, 1), ERR_OK); /* no room at all */
    assert_int_equal(out.len, 1);
    assert_int_equal(unpack_more(&unpack, (struct span){NULL, 0}, &out, SIZE), ERR_OK);
    assert_int_equal(out.len, SIZE);
    assert_memory_equal(out.data, text, SIZE);
    assert_true(unpack_is_hungry(&unpack));
    assert_true(unpack_is_complete(&unpack));
    unpack_stop(&unpack);
    buf_release(&out);
    free((char *)packed.ptr - half);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_step),        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_cut_off_anywhere), cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_what_is_wrong),    cmocka_unit_test(test_fed_while_some_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
