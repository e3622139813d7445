/* Goal: variables are replaced once, from the environment or their default, and everything else
 *       that
 * has a dollar in it is refused with what was expected. */
#include "base/buf.h"
#include "lib/random.h"
#include "lib/test.h"
#include "settings/expand.h"

#include <stdlib.h>

static int setup(void **state)
{
    (void)state;
    setenv("WEFT_TEST_SET", "a ${WEFT_TEST_EMPTY} ;$x", 1);
    setenv("WEFT_TEST_EMPTY", "", 1);
    unsetenv("WEFT_TEST_UNSET");
    return 0;
}

static const struct {
    const char *value;
    const char *expanded;
} good[] = {
    {"", ""},
    {"plain }{ text", "plain }{ text"},
    {"${WEFT_TEST_SET}", "a ${WEFT_TEST_EMPTY} ;$x"},
    {"<${WEFT_TEST_EMPTY}>", "<>"},
    {"${WEFT_TEST_EMPTY:-b}", "b"},
    {"${WEFT_TEST_UNSET:-b c:-d}e", "b c:-de"},
    {"${WEFT_TEST_UNSET:-}", ""},
    {"${WEFT_TEST_EMPTY}${WEFT_TEST_UNSET:-1}${WEFT_TEST_UNSET:-2}", "12"},
    {"a$$b$$", "a$b$"},
    {"$${WEFT_TEST_SET}", "${WEFT_TEST_SET}"},
};

static const struct {
    const char *value;
    enum err err;
    const char *problem;
} bad[] = {
    {"x${WEFT_TEST_UNSET}", ERR_NOT_FOUND,
     "variable WEFT_TEST_UNSET is not set, expected it in the environment, or "
     "${WEFT_TEST_UNSET:-default}"},
    {"$", ERR_SYNTAX, "a lone \"$\", expected ${NAME}, ${NAME:-default}, or $$ for a dollar"},
    {"$HOME", ERR_SYNTAX, "a lone \"$\", expected ${NAME}, ${NAME:-default}, or $$ for a dollar"},
    {"$$$", ERR_SYNTAX, "a lone \"$\", expected ${NAME}, ${NAME:-default}, or $$ for a dollar"},
    {"${", ERR_SYNTAX, "\"${\" without its end, expected a \"}\""},
    {"${HOME", ERR_SYNTAX, "\"${\" without its end, expected a \"}\""},
    {"${}", ERR_SYNTAX,
     "a bad variable, expected ${NAME} or ${NAME:-default} with a name of letters, digits and "
     "\"_\""},
    {"${1A}", ERR_SYNTAX,
     "a bad variable, expected ${NAME} or ${NAME:-default} with a name of letters, digits and "
     "\"_\""},
    {"${A-b}", ERR_SYNTAX,
     "a bad variable, expected ${NAME} or ${NAME:-default} with a name of letters, digits and "
     "\"_\""},
    {"${A:}", ERR_SYNTAX,
     "a bad variable, expected ${NAME} or ${NAME:-default} with a name of letters, digits and "
     "\"_\""},
    {"${A:-${B}}", ERR_SYNTAX, "a \"$\" in a variable's default, expected plain text"},
};

static void test_good_values(void **state)
{
    char problem[EXPAND_PROBLEM_SIZE];
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        buf_init(&out, NULL);
        assert_int_equal(expand_value(span_of(good[i].value), &out, problem), ERR_OK);
        assert_int_equal(out.len, strlen(good[i].expanded));
        if (out.len > 0)
            assert_memory_equal(out.data, good[i].expanded, out.len);
        buf_release(&out);
    }
}

static void test_bad_values(void **state)
{
    char problem[EXPAND_PROBLEM_SIZE];
    struct buf out;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buf_init(&out, NULL);
        assert_int_equal(expand_value(span_of(bad[i].value), &out, problem), bad[i].err);
        assert_string_equal(problem, bad[i].problem);
        buf_release(&out);
    }
}

static void test_random_values_stay_inside(void **state)
{
    static const char alphabet[] = "${}:-A_1 b";
    char problem[EXPAND_PROBLEM_SIZE];
    uint64_t random = 33;

    (void)state;
    for (int i = 0; i < 30000; i++) {
        uint32_t len = random_below(&random, 90);
        char *value = malloc(len + 1); /* of its own and without a NUL, for ASan */
        struct buf out;

        assert_non_null(value);
        for (uint32_t k = 0; k < len; k++)
            value[k] = alphabet[random_below(&random, sizeof alphabet - 1)];
        buf_init(&out, NULL);
        problem[0] = '\0';
        if (expand_value((struct span){value, len}, &out, problem) != ERR_OK)
            assert_true(strstr(problem, "expected") != NULL);
        buf_release(&out);
        free(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_values),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_random_values_stay_inside),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
