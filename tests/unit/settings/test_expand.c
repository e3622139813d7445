/* Goal: variables are replaced once, from the environment or their default, files by their text,
 * and everything else that has a dollar in it is refused with what was expected. */
#include "base/buf.h"
#include "lib/random.h"
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "settings/expand.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

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
    {"${file:-no}", "no"}, /* a variable that has this name */
    {"a$$b$$", "a$b$"},
    {"$${WEFT_TEST_SET}", "${WEFT_TEST_SET}"},
};

#define LONE "a lone \"$\", expected ${NAME}, ${NAME:-default}, ${file:/path}, or $$ for a dollar"

static const struct {
    const char *value;
    enum err err;
    const char *problem;
} bad[] = {
    {"x${WEFT_TEST_UNSET}", ERR_NOT_FOUND,
     "variable WEFT_TEST_UNSET is not set, expected it in the environment, or "
     "${WEFT_TEST_UNSET:-default}"},
    {"$", ERR_SYNTAX, LONE},
    {"$HOME", ERR_SYNTAX, LONE},
    {"$$$", ERR_SYNTAX, LONE},
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
    {"${file:}", ERR_SYNTAX,
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
        assert_int_equal(expand_value(span_of(good[i].value), "/", &out, problem), ERR_OK);
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
        assert_int_equal(expand_value(span_of(bad[i].value), "/", &out, problem), bad[i].err);
        assert_string_equal(problem, bad[i].problem);
        buf_release(&out);
    }
}

/* What `value` becomes; a problem is the text, too. `value` may hold one %s, for the folder. */
static const char *expand_in(struct temp_dir *dir, const char *value, enum err wanted)
{
    static char text[(64 << 10) + 1], problem[EXPAND_PROBLEM_SIZE];
    char full[512];
    struct buf out;

    snprintf(full, sizeof full, value, dir->path);
    buf_init(&out, NULL);
    assert_int_equal(expand_value(span_of(full), dir->path, &out, problem), wanted);
    assert_true(out.len < sizeof text);
    memcpy(text, out.data != NULL ? out.data : "", out.len);
    text[out.len] = '\0';
    buf_release(&out);
    return wanted == ERR_OK ? text : problem;
}

static void test_files(void **state)
{
    struct temp_dir dir;
    char *big = calloc(1, (64 << 10) + 1);

    (void)state;
    memset(big, 'x', (64 << 10) + 1);
    temp_dir_init(&dir);
    temp_dir_write(&dir, "secret", "a ${HOME} ;\nb\n\n", 15);
    temp_dir_write(&dir, "windows", "word\r\n", 6);
    temp_dir_write(&dir, "bare", "word", 4);
    temp_dir_write(&dir, "empty", "\n", 1);
    temp_dir_write(&dir, "nul", "a\0b", 3);
    temp_dir_write(&dir, "full", big, 64 << 10);
    temp_dir_write(&dir, "big", big, (64 << 10) + 1);
    assert_int_equal(mkfifo(temp_dir_path(&dir, "fifo"), 0600), 0);
    assert_string_equal(expand_in(&dir, "<${file:%s/secret}>", ERR_OK), "<a ${HOME} ;\nb\n>");
    assert_string_equal(expand_in(&dir, "${file:secret}", ERR_OK), "a ${HOME} ;\nb\n");
    assert_string_equal(expand_in(&dir, "${file:windows}${file:bare}", ERR_OK), "wordword");
    assert_string_equal(expand_in(&dir, "${file:empty}", ERR_OK), "");
    assert_int_equal(strlen(expand_in(&dir, "${file:full}", ERR_OK)), 64 << 10);
    assert_non_null(strstr(expand_in(&dir, "${file:%s/none}", ERR_NOT_FOUND),
                           "/none}: No such file or directory, expected a file that can be read"));
    assert_non_null(strstr(expand_in(&dir, "${file:%s}", ERR_IO), "}: is no file, expected"));
    assert_non_null(strstr(expand_in(&dir, "${file:fifo}", ERR_IO), "}: is no file, expected"));
    assert_non_null(strstr(expand_in(&dir, "${file:nul}", ERR_SYNTAX), "has a NUL byte"));
    assert_non_null(strstr(expand_in(&dir, "${file:big}", ERR_TOO_BIG), "expected at most 64 KiB"));
    temp_dir_deinit(&dir);
    free(big);
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
        if (expand_value((struct span){value, len}, "/", &out, problem) != ERR_OK)
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
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_random_values_stay_inside),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
