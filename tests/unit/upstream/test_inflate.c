/* Goal: gzip is decoded however it is cut, up to the limit and not a byte beyond it; what is no
 *       gzip, or not whole, is told. */
#include "base/buf.h"
#include "lib/test.h"
#include "unit/upstream/pack.h"
#include "upstream/inflate.h"

#include <stdlib.h>
#include <string.h>

enum { SIZE = 300000 };

/* Feeds it in steps of `step`. */
static enum err feed(struct span packed, size_t step, size_t len_max, struct buf *out,
                     bool *is_whole)
{
    struct inflate *body = inflate_create();
    enum err err = ERR_OK;

    for (size_t at = 0; at < packed.len && err == ERR_OK; at += step) {
        size_t len = packed.len - at < step ? packed.len - at : step;

        err = inflate_feed(body, (struct span){packed.ptr + at, len}, out, len_max);
    }
    *is_whole = inflate_is_complete(body);
    inflate_destroy(body);
    return err;
}

static void test_each_cut(void **state)
{
    static const size_t steps[] = {1, 7, 1000, 1 << 20};
    char *whole = pack_text(SIZE);
    struct span packed = pack((struct span){whole, SIZE});
    bool is_whole;

    (void)state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct buf out = {0};

        assert_int_equal(feed(packed, steps[i], SIZE, &out, &is_whole), ERR_OK);
        assert_true(is_whole);
        assert_int_equal(out.len, SIZE);
        assert_memory_equal(out.data, whole, SIZE);
        buf_release(&out);
    }
    free((char *)packed.ptr);
    free(whole);
}

static void test_limit(void **state)
{
    char *whole = pack_text(SIZE);
    struct span packed = pack((struct span){whole, SIZE});
    struct buf out = {0};
    bool is_whole;

    (void)state;
    assert_int_equal(feed(packed, 1 << 20, SIZE - 1, &out, &is_whole), ERR_TOO_BIG);
    assert_true(out.len <= SIZE);
    buf_release(&out);
    free((char *)packed.ptr);
    free(whole);
}

/* A few kilobytes that would become hundreds of megabytes. */
static void test_bomb(void **state)
{
    size_t size = 64u << 20;
    char *zeros = calloc(1, size);
    struct span packed = pack((struct span){zeros, size});
    struct buf out = {0};
    bool is_whole;

    (void)state;
    free(zeros);
    assert_true(packed.len < 100000);
    assert_int_equal(feed(packed, 1 << 20, 1000000, &out, &is_whole), ERR_TOO_BIG);
    assert_true(out.len <= 1000001);
    buf_release(&out);
    free((char *)packed.ptr);
}

static void test_several_files(void **state)
{
    struct span one = pack(SPAN("one")), two = pack(SPAN(" two"));
    struct buf both = {0}, out = {0};
    bool is_whole;

    (void)state;
    buf_append(&both, one);
    buf_append(&both, two);
    assert_int_equal(feed(buf_span(&both), 3, 100, &out, &is_whole), ERR_OK);
    assert_true(is_whole);
    assert_int_equal(out.len, 7);
    assert_memory_equal(out.data, "one two", 7);
    buf_release(&out);
    buf_release(&both);
    free((char *)one.ptr);
    free((char *)two.ptr);
}

static void test_what_is_wrong(void **state)
{
    struct span packed = pack(SPAN("some text"));
    char *bytes = (char *)(uintptr_t)packed.ptr;
    struct buf out = {0};
    bool is_whole;

    (void)state;
    assert_int_equal(feed(SPAN("no gzip at all"), 100, 100, &out, &is_whole), ERR_PROTOCOL);
    assert_int_equal(feed((struct span){packed.ptr, packed.len - 1}, 100, 100, &out, &is_whole),
                     ERR_OK);
    assert_false(is_whole); /* cut off */
    buf_release(&out);
    bytes[packed.len - 6] ^= 1; /* its checksum */
    assert_int_equal(feed(packed, 100, 100, &out, &is_whole), ERR_PROTOCOL);
    buf_release(&out);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_cut),      cmocka_unit_test(test_limit),
        cmocka_unit_test(test_bomb),          cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
