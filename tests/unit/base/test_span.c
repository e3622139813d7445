/* Goal: bytes are compared without case as a loop over them would, whatever they are, wherever they
 * differ, and whatever the locale says of letters. */
#include "base/span.h"
#include "lib/test.h"

enum { LEN_MAX = 40 };

static unsigned char lower(unsigned char byte)
{
    return byte >= 'A' && byte <= 'Z' ? (unsigned char)(byte + 32) : byte;
}

/* Every pair of bytes, at each place of each length, the rest being the same. */
static void test_each_pair_of_bytes(void **state)
{
    static const size_t lens[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17};

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        for (size_t at = 0; at < lens[i]; at++) {
            char a[LEN_MAX], b[LEN_MAX];

            memset(a, 'x', sizeof a);
            memset(b, 'X', sizeof b);
            for (unsigned pair = 0; pair < 0x10000; pair++) {
                a[at] = (char)(pair >> 8);
                b[at] = (char)(pair & 0xff);
                assert_int_equal(span_is_nocase(a, b, lens[i]),
                                 lower((unsigned char)(pair >> 8)) ==
                                     lower((unsigned char)(pair & 0xff)));
            }
        }
    }
}

static void test_lengths(void **state)
{
    char a[LEN_MAX], b[LEN_MAX];

    (void)state;
    for (size_t len = 0; len < LEN_MAX; len++) {
        for (size_t i = 0; i < sizeof a; i++) {
            a[i] = (char)('a' + i % 26);
            b[i] = (char)(i < len ? 'A' + i % 26 : '-'); /* what is behind does not count */
        }
        assert_true(span_equal_nocase((struct span){a, len}, (struct span){b, len}));
        assert_false(span_equal_nocase((struct span){a, len}, (struct span){b, len + 1}));
    }
    assert_true(span_equal_nocase((struct span){NULL, 0}, SPAN("")));
    assert_true(span_equal_nocase(SPAN("Content-Length"), SPAN("content-lengtH")));
    assert_false(span_equal_nocase(SPAN("Content-Length"), SPAN("content-lengti")));
    assert_false(span_equal_nocase(SPAN("[@`{"), SPAN("{`@[")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_pair_of_bytes),
        cmocka_unit_test(test_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
