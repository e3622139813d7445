/* Goal: a call is sent once more only where nobody can have acted on it, or twice is as good as
 *       once; every other failure stands. */
#include "lib/test.h"
#include "upstream/retry.h"

/* The one that may always be tried again: a kept connection that was gone. */
static const struct retry_facts gone = {
    .err = ERR_CLOSED,
    .tries = 1,
    .was_reused = true,
};

static void test_gone_while_idle(void **state)
{
    static const enum err broken[] = {ERR_CLOSED, ERR_RESET, ERR_IO};

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct retry_facts facts = gone;

        facts.err = broken[i];
        assert_true(retry_is_safe(&facts)); /* nothing was written: even a POST */
        facts.written = 100;
        assert_false(retry_is_safe(&facts));
        facts.is_idempotent = true;
        assert_true(retry_is_safe(&facts));
    }
}

static void test_not_on_a_new_connection(void **state)
{
    struct retry_facts facts = gone;

    (void)state;
    facts.was_reused = false;
    facts.is_idempotent = true;
    assert_false(retry_is_safe(&facts));
}

static void test_not_after_a_byte_of_the_answer(void **state)
{
    struct retry_facts facts = gone;

    (void)state;
    facts.received = 1;
    facts.is_idempotent = true;
    assert_false(retry_is_safe(&facts));
}

static void test_only_once(void **state)
{
    struct retry_facts facts = gone;

    (void)state;
    facts.tries = 2;
    facts.is_idempotent = true;
    assert_false(retry_is_safe(&facts));
}

static void test_not_what_was_slow_or_wrong(void **state)
{
    (void)state;
    for (int err = ERR_OK; err < ERR_COUNT; err++) {
        struct retry_facts facts = gone;

        facts.err = (enum err)err;
        facts.is_idempotent = true;
        assert_int_equal(retry_is_safe(&facts),
                         err == ERR_CLOSED || err == ERR_RESET || err == ERR_IO);
    }
}

static void test_methods(void **state)
{
    (void)state;
    assert_true(retry_is_idempotent(SPAN("GET")));
    assert_true(retry_is_idempotent(SPAN("HEAD")));
    assert_true(retry_is_idempotent(SPAN("PUT")));
    assert_true(retry_is_idempotent(SPAN("DELETE")));
    assert_true(retry_is_idempotent(SPAN("OPTIONS")));
    assert_true(retry_is_idempotent(SPAN("TRACE")));
    assert_false(retry_is_idempotent(SPAN("POST")));
    assert_false(retry_is_idempotent(SPAN("PATCH")));
    assert_false(retry_is_idempotent(SPAN("get"))); /* methods are case-sensitive: another one */
    assert_false(retry_is_idempotent(SPAN("GETS")));
    assert_false(retry_is_idempotent(SPAN("")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_while_idle),
        cmocka_unit_test(test_not_on_a_new_connection),
        cmocka_unit_test(test_not_after_a_byte_of_the_answer),
        cmocka_unit_test(test_only_once),
        cmocka_unit_test(test_not_what_was_slow_or_wrong),
        cmocka_unit_test(test_methods),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
