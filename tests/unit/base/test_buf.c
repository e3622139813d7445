/* Goal: a buffer is a queue of bytes whatever it is made of: none, a piece of the pool or the heap;
 * storage goes back to where it came from, and under ASan nobody touches a free piece. */
#include "base/asan.h"
#include "base/buf.h"
#include "base/mem.h"
#include "lib/dies.h"
#include "lib/random.h"
#include "lib/test.h"

static void test_bytes_come_out_as_they_went_in(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, NULL);
    assert_int_equal(buf_room(&buf), 0);
    buf_append(&buf, (struct span){NULL, 0});
    assert_null(buf.data);
    buf_append(&buf, SPAN("hello "));
    buf_format(&buf, "%s%d", "world", 7);
    assert_true(span_equal(buf_span(&buf), SPAN("hello world7")));
    buf_consume(&buf, 6);
    assert_true(span_equal(buf_span(&buf), SPAN("world7")));
    buf_consume(&buf, 6);
    assert_int_equal(buf.len, 0);
    assert_ptr_equal(buf.data, buf._base);
    buf_release(&buf);
    buf_release(&buf);
    buf_release(NULL);
    assert_null(buf.data);
}

static void test_long_texts_are_formatted_whole(void **state)
{
    struct buf buf;

    (void)state;
    buf_init(&buf, NULL);
    for (int len = 100; len < 3000; len += 13) {
        buf_format(&buf, "%0*d", len, 1);
        assert_int_equal(buf.len, len);
        assert_int_equal(buf.data[len - 1], '1');
        buf_consume(&buf, buf.len);
    }
    buf_release(&buf);
}

static void test_an_idle_buffer_holds_nothing(void **state)
{
    struct buf_pool pool;
    struct buf buf;
    char *piece;

    (void)state;
    buf_pool_init(&pool, 1, NULL);
    buf_init(&buf, &pool);
    piece = buf_reserve(&buf, 1);
    assert_int_equal(buf_room(&buf), BUF_PIECE_SIZE);
    buf_release(&buf);
    assert_int_equal(pool._count, 1);
    assert_ptr_equal(buf_reserve(&buf, BUF_PIECE_SIZE), piece);
    assert_int_equal(pool._count, 0);
    buf_commit(&buf, BUF_PIECE_SIZE);
    (void)buf_reserve(&buf, 1); /* off to the heap: the piece is free again */
    assert_int_equal(pool._count, 1);
    assert_true(buf._size > BUF_PIECE_SIZE);
    buf_release(&buf);
    assert_int_equal(pool._count, 1);
    buf_pool_deinit(&pool);
    buf_pool_deinit(&pool);
}

static void test_a_pool_keeps_no_more_than_told(void **state)
{
    struct buf_pool pool;
    struct buf bufs[4];

    (void)state;
    buf_pool_init(&pool, 2, NULL);
    for (int i = 0; i < 4; i++) {
        buf_init(&bufs[i], &pool);
        buf_append(&bufs[i], SPAN("x"));
    }
    for (int i = 0; i < 4; i++)
        buf_release(&bufs[i]);
    assert_int_equal(pool._count, 2);
    buf_pool_deinit(&pool);
}

static void test_a_consumed_front_is_used_before_growing(void **state)
{
    struct buf_pool pool;
    struct buf buf;
    char *base;

    (void)state;
    buf_pool_init(&pool, 1, NULL);
    buf_init(&buf, &pool);
    base = buf_reserve(&buf, BUF_PIECE_SIZE);
    memset(base, 'x', BUF_PIECE_SIZE);
    buf_commit(&buf, BUF_PIECE_SIZE);
    buf_consume(&buf, 100);
    assert_int_equal(buf_room(&buf), 0);
    assert_ptr_equal(buf_reserve(&buf, 100), base + BUF_PIECE_SIZE - 100);
    assert_ptr_equal(buf.data, base);
    buf_release(&buf);
    buf_pool_deinit(&pool);
}

/* A stream of counted bytes goes through in random steps. */
static void run_random(struct buf_pool *pool, uint64_t random, uint32_t step)
{
    unsigned char in = 0;
    unsigned char out = 0;
    struct buf buf;

    buf_init(&buf, pool);
    for (int i = 0; i < 20000; i++) {
        uint32_t size = random_below(&random, step) + 1;

        switch (random_below(&random, 8)) {
        case 0:
        case 1:
        case 2: {
            char *at = buf_reserve(&buf, size);

            assert_true(buf_room(&buf) >= size);
            for (uint32_t k = 0; k < size; k++)
                at[k] = (char)in++;
            buf_commit(&buf, size);
            break;
        }
        case 7:
            if (random_below(&random, 50) == 0) {
                buf_release(&buf);
                out = in;
            }
            break;
        default:
            size = size < buf.len ? size : (uint32_t)buf.len;
            for (uint32_t k = 0; k < size; k++)
                assert_int_equal((unsigned char)buf.data[k], out++);
            buf_consume(&buf, size);
        }
        assert_int_equal((unsigned char)(in - out), (unsigned char)buf.len);
    }
    buf_release(&buf);
}

static void test_random_steps(void **state)
{
    struct buf_pool pool;

    (void)state;
    buf_pool_init(&pool, 2, NULL);
    run_random(NULL, 1, 40);
    run_random(NULL, 2, 3000);
    run_random(&pool, 3, 40);
    run_random(&pool, 4, 900);
    buf_pool_deinit(&pool);
}

static void touch_free_piece(void *arg)
{
    struct buf_pool pool;
    volatile char *piece;
    struct buf buf;

    (void)arg;
    buf_pool_init(&pool, 1, NULL);
    buf_init(&buf, &pool);
    piece = buf_reserve(&buf, 100);
    buf_release(&buf);
    piece[50] = 1;
}

static void commit_too_much(void *arg)
{
    buf_commit(arg, buf_room(arg) + 1);
}

static void consume_too_much(void *arg)
{
    buf_consume(arg, 2);
}

static void test_misuse_dies(void **state)
{
    char output[DIES_OUTPUT_SIZE];
    struct buf buf;

    (void)state;
    buf_init(&buf, NULL);
    buf_append(&buf, SPAN("x"));
    assert_true(dies(commit_too_much, &buf, output));
    assert_true(dies(consume_too_much, &buf, output));
    buf_release(&buf);
    if (WEFT_ASAN) {
        assert_true(dies(touch_free_piece, NULL, output));
        assert_non_null(strstr(output, "use-after-poison"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_come_out_as_they_went_in),
        cmocka_unit_test(test_long_texts_are_formatted_whole),
        cmocka_unit_test(test_an_idle_buffer_holds_nothing),
        cmocka_unit_test(test_a_pool_keeps_no_more_than_told),
        cmocka_unit_test(test_a_consumed_front_is_used_before_growing),
        cmocka_unit_test(test_random_steps),
        cmocka_unit_test(test_misuse_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
