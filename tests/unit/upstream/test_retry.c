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
    const struct span none = {NULL, 0};
    uint64_t ms = 7;

    (void)state;
    assert_false(retry_after_ms(none, none, &ms));
    assert_false(retry_after_ms(SPAN("-1"), none, &ms));
    assert_false(retry_after_ms(SPAN("18446744073709551615"), none, &ms));
    assert_false(retry_after_ms(SPAN("1000001"), none, &ms));
    assert_int_equal(ms, 7);
    assert_true(retry_after_ms(SPAN("0"), none, &ms));
    assert_int_equal(ms, 0);
    assert_true(retry_after_ms(SPAN("120"), SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), &ms));
    assert_int_equal(ms, 120000);
}

/* Dates are told by the peer's clock, and by ours only where it does not say what it shows. */
static void test_retry_after_a_date(void **state)
{
    static const struct {
        struct span value, date;
        uint64_t ms;
    } good[] = {
        {SPAN("Sat, 01 Jan 2000 00:00:09 GMT"), SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), 10000},
        {SPAN("Wed, 01 Mar 2000 00:00:00 GMT"), SPAN("Mon, 28 Feb 2000 23:59:59 GMT"), 86401000},
        {SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), SPAN("Sat, 01 Jan 2000 00:00:09 GMT"), 0},
        {SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), {NULL, 0}, 0},
        {SPAN("Fri, 31 Dec 1999 23:59:59 GMT"), SPAN("whenever"), 0},
    };
    static const struct span bad[] = {
        SPAN("Fri, 31 Dec 1999 23:59:59"),      SPAN("Fri, 31 Dec 1999 23:59:59 UTC"),
        SPAN("Fri, 31 dec 1999 23:59:59 GMT"),  SPAN("Fri, 3x Dec 1999 23:59:59 GMT"),
        SPAN("Fri, 31 Dec 1999 23:59:-9 GMT"),  SPAN("Friday, 31-Dec-99 23:59:59 GMT"),
        SPAN("Fri Dec 31 23:59:59 1999"),       SPAN("Fri, 31 Dec 199x 23:59:59 GMT"),
        SPAN("Fri, 31 Dec 1999 23:59:59 GMTx"),
    };
    uint64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(retry_after_ms(good[i].value, good[i].date, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(retry_after_ms(bad[i], bad[i], &ms));
    assert_false(
        retry_after_ms(SPAN("Fri, 31 Dec 9999 23:59:59 GMT"), (struct span){NULL, 0}, &ms));
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
        cmocka_unit_test(test_retry_after_a_date),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
