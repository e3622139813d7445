/* Goal: a call is sent once more only where nobody can have acted on it, or twice is as good as
 *       once, and no more often than its budget has it; every other failure stands. */
#include "lib/test.h"
#include "upstream/retry.h"

/* The one that may always be tried again: a kept connection that was gone. */
static const struct retry_facts gone = {.err = ERR_CLOSED, .was_kept = true, .retries_max = 1};

/* One whose new connection broke, with another address. */
static const struct retry_facts broken = {
    .err = ERR_RESET, .has_other = true, .is_idempotent = true, .written = 100, .retries_max = 1};

static void test_gone_while_idle(void **state)
{
    static const enum err errors[] = {ERR_CLOSED, ERR_RESET, ERR_IO};

    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct retry_facts facts = gone;

        facts.err = errors[i];
        assert_int_equal(retry_decide(&facts), RETRY_RENEW); /* nothing was written: even a POST */
        facts.written = 100;
        assert_int_equal(retry_decide(&facts), RETRY_NOT);
        facts.is_idempotent = true;
        assert_int_equal(retry_decide(&facts), RETRY_RENEW);
        facts.was_renewed = true;
        assert_int_equal(retry_decide(&facts), RETRY_NOT);
    }
}

static void test_another_address(void **state)
{
    struct retry_facts facts = broken;

    (void)state;
    assert_int_equal(retry_decide(&facts), RETRY_PAID);
    facts.is_idempotent = false;
    assert_int_equal(retry_decide(&facts), RETRY_NOT);
    facts.written = 0;
    assert_int_equal(retry_decide(&facts), RETRY_PAID);
    facts.retries = 1;
    assert_int_equal(retry_decide(&facts), RETRY_NOT);
    facts.retries_max = 2;
    assert_int_equal(retry_decide(&facts), RETRY_PAID);
    facts.has_other = false;
    assert_int_equal(retry_decide(&facts), RETRY_NOT);
    facts = broken;
    facts.was_kept = facts.was_renewed = true;
    assert_int_equal(retry_decide(&facts), RETRY_PAID);
}

static void test_not_after_a_byte_of_the_answer(void **state)
{
    struct retry_facts facts = gone;

    (void)state;
    facts.received = 1;
    facts.is_idempotent = facts.has_other = true;
    assert_int_equal(retry_decide(&facts), RETRY_NOT);
}

static void test_not_what_was_slow_or_wrong(void **state)
{
    (void)state;
    for (int err = ERR_OK + 1; err < ERR_COUNT; err++) {
        struct retry_facts facts = gone;

        if (err == ERR_CLOSED || err == ERR_RESET || err == ERR_IO)
            continue;
        facts.err = (enum err)err;
        facts.is_idempotent = facts.has_other = true;
        assert_int_equal(retry_decide(&facts), RETRY_NOT);
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
    assert_false(retry_is_idempotent(SPAN("get")));
    assert_false(retry_is_idempotent(SPAN("")));
}

/* However many calls went well before, a hundred that all fail get a fifth of retries and ten. */
static void test_budget(void **state)
{
    struct retry_budget budget;
    uint32_t count = 0;

    (void)state;
    retry_budget_init(&budget);
    for (int i = 0; i < 1000; i++)
        retry_budget_add(&budget, 20);
    for (int i = 0; i < 100; i++) {
        retry_budget_add(&budget, 20);
        count += retry_budget_take(&budget);
    }
    assert_in_range(count, RETRY_RESERVE + 19, RETRY_RESERVE + 20);
    budget = (struct retry_budget){0};
    retry_budget_add(&budget, 99);
    assert_false(retry_budget_take(&budget));
    retry_budget_add(&budget, 1);
    assert_true(retry_budget_take(&budget));
    assert_false(retry_budget_take(&budget));
}

static void test_retry_after(void **state)
{
    uint64_t ms = 7;

    (void)state;
    assert_false(retry_after_ms((struct span){NULL, 0}, &ms));
    assert_false(retry_after_ms(SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), &ms));
    assert_false(retry_after_ms(SPAN("-1"), &ms));
    assert_false(retry_after_ms(SPAN("18446744073709551615"), &ms));
    assert_int_equal(ms, 7);
    assert_true(retry_after_ms(SPAN("0"), &ms));
    assert_int_equal(ms, 0);
    assert_true(retry_after_ms(SPAN("120"), &ms));
    assert_int_equal(ms, 120000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone_while_idle),
        cmocka_unit_test(test_another_address),
        cmocka_unit_test(test_not_after_a_byte_of_the_answer),
        cmocka_unit_test(test_not_what_was_slow_or_wrong),
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_retry_after),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
