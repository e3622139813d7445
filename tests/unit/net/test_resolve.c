/* Goal: names become addresses without a wait in the loop; answers are kept as long as their server
 * says, within limits; a server that fails or is silent costs at most five seconds, and nothing
 * where an older answer is known; a question can be withdrawn in every state. */
#include "base/check.h"
#include "lib/dns_server.h"
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A resolver with a server of its own, on a fake clock. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
    struct dns_server server;
    struct resolver *resolver;
};

/* A question and what came of it. */
struct question {
    struct resolve request;
    bool is_told;
    enum err err;
    char text[RESOLVE_ADDRS_MAX * ADDR_TEXT_SIZE]; /* the addresses, a blank between */
};

static int set_up(void **state)
{
    static struct fixture fixture;

    fixture.loop = fake_clock_loop(&fixture.clock);
    dns_server_start(&fixture.server, fixture.loop);
    fixture.resolver = resolver_create(fixture.loop, fixture.server.servers);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    resolver_destroy(fixture->resolver);
    resolver_destroy(NULL);
    dns_server_stop(&fixture->server);
    loop_destroy(fixture->loop);
    return 0;
}

static void on_told(struct resolve *request, enum err err)
{
    struct question *question = CONTAINER_OF(request, struct question, request);
    size_t len = 0;

    assert_false(question->is_told);
    question->is_told = true;
    question->err = err;
    assert_int_equal(err == ERR_OK, request->count > 0);
    for (uint32_t i = 0; i < request->count; i++) {
        if (i > 0)
            question->text[len++] = ' ';
        len += addr_format(&request->addrs[i], question->text + len);
    }
}

static void begin(struct fixture *fixture, struct question *question, const char *name)
{
    memset(question, 0, sizeof *question);
    resolve_start(fixture->resolver, &question->request, span_of(name), 80, on_told);
    assert_false(question->is_told); /* never from inside the call */
}

/* Asks and waits. The addresses, or the error's name. */
static const char *ask(struct fixture *fixture, const char *name)
{
    static struct question question;

    begin(fixture, &question, name);
    run_until(fixture->loop, &question.is_told);
    return question.err == ERR_OK ? question.text : err_name(question.err);
}

static void test_both_families_in_turn(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    dns_server_set(&fixture->server, "six.test", "2001:db8::6", 60);
    dns_server_set(&fixture->server, "both.test",
                   "192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::1 2001:db8::2", 60);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.1:80");
    assert_string_equal(ask(fixture, "six.test"), "[2001:db8::6]:80");
    assert_string_equal(ask(fixture, "both.test"), "[2001:db8::1]:80 192.0.2.1:80 "
                                                   "[2001:db8::2]:80 192.0.2.2:80 192.0.2.3:80");
}

static void test_more_addresses_than_are_told(void **state)
{
    struct fixture *fixture = *state;
    struct question question;
    char addrs[400] = "";

    for (uint32_t i = 1; i <= 20; i++)
        (void)snprintf(addrs + strlen(addrs), sizeof addrs - strlen(addrs), "%s192.0.2.%u",
                       i > 1 ? " " : "", i);
    dns_server_set(&fixture->server, "many.test", addrs, 60);
    begin(fixture, &question, "many.test");
    run_until(fixture->loop, &question.is_told);
    assert_int_equal(question.request.count, RESOLVE_ADDRS_MAX);
}

static void test_what_needs_no_server(void **state)
{
    struct fixture *fixture = *state;

    assert_string_equal(ask(fixture, "192.0.2.9"), "192.0.2.9:80");
    assert_string_equal(ask(fixture, "2001:db8::9"), "[2001:db8::9]:80");
    assert_string_equal(ask(fixture, "localhost"), "[::1]:80 127.0.0.1:80");
    assert_string_equal(ask(fixture, "LOCALHOST."), "[::1]:80 127.0.0.1:80");
    assert_string_equal(ask(fixture, "db.localhost"), "[::1]:80 127.0.0.1:80");
    assert_int_equal(fixture->server.queries, 0);
}

static void test_what_is_no_name(void **state)
{
    static const char *const names[] = {"", ".", "a b.test", "a\n.test", "tsch\xc3\xbcss.test"};
    struct fixture *fixture = *state;
    char long_name[300];
    struct question question;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_string_equal(ask(fixture, names[i]), "ERR_UNKNOWN_NAME");
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_string_equal(ask(fixture, long_name), "ERR_UNKNOWN_NAME");
    long_name[250] = '\0'; /* short enough for a name, too long for a label */
    assert_string_equal(ask(fixture, long_name), "ERR_UNKNOWN_NAME");
    memset(&question, 0, sizeof question);
    resolve_start(fixture->resolver, &question.request, (struct span){"a\0b", 3}, 80, on_told);
    run_until(fixture->loop, &question.is_told);
    assert_int_equal(question.err, ERR_UNKNOWN_NAME);
    assert_int_equal(fixture->server.queries, 0);
}

static void test_an_answer_is_kept_for_its_time(void **state)
{
    static const struct {
        uint32_t ttl_s;
        uint32_t kept_ms;
    } cases[] = {{60, 60000}, {0, 1000}, {1, 1000}, {86400, 300000}};
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "n%u.test", i);
        dns_server_set(&fixture->server, name, "192.0.2.1", cases[i].ttl_s);
        (void)ask(fixture, name);
        fixture->server.queries = 0;
        dns_server_set(&fixture->server, name, "192.0.2.2", cases[i].ttl_s);
        fake_clock_jump(&fixture->clock, fixture->loop, cases[i].kept_ms - 1);
        assert_string_equal(ask(fixture, name), "192.0.2.1:80");
        assert_int_equal(fixture->server.queries, 0);
        fake_clock_jump(&fixture->clock, fixture->loop, 1);
        assert_string_equal(ask(fixture, name), "192.0.2.2:80");
        assert_int_equal(fixture->server.queries, 2);
    }
}

static void test_one_name_however_it_is_written(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    assert_string_equal(ask(fixture, "One.TEST"), "192.0.2.1:80");
    fixture->server.queries = 0;
    assert_string_equal(ask(fixture, "one.test."), "192.0.2.1:80");
    assert_int_equal(fixture->server.queries, 0);
}

static void test_an_alias_has_a_time_too(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "real.test", "192.0.2.1", 100);
    dns_server_set_alias(&fixture->server, "alias.test", "real.test", 10);
    assert_string_equal(ask(fixture, "alias.test"), "192.0.2.1:80");
    fixture->server.queries = 0;
    fake_clock_jump(&fixture->clock, fixture->loop, 9999);
    (void)ask(fixture, "alias.test");
    assert_int_equal(fixture->server.queries, 0);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    (void)ask(fixture, "alias.test");
    assert_int_equal(fixture->server.queries, 2);
}

static void test_a_failure_is_kept_for_two_seconds(void **state)
{
    struct fixture *fixture = *state;

    assert_string_equal(ask(fixture, "none.test"), "ERR_UNKNOWN_NAME");
    dns_server_set(&fixture->server, "none.test", "192.0.2.1", 60);
    fake_clock_jump(&fixture->clock, fixture->loop, 1999);
    assert_string_equal(ask(fixture, "none.test"), "ERR_UNKNOWN_NAME");
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    assert_string_equal(ask(fixture, "none.test"), "192.0.2.1:80");

    dns_server_set(&fixture->server, "empty.test", "", 60);
    assert_string_equal(ask(fixture, "empty.test"), "ERR_UNKNOWN_NAME");
    dns_server_set_code(&fixture->server, "bad.test", DNS_SERVFAIL);
    assert_string_equal(ask(fixture, "bad.test"), "ERR_UNREACHABLE");
}

static void test_stale_is_better_than_nothing(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    (void)ask(fixture, "one.test");
    dns_server_set_code(&fixture->server, "one.test", DNS_SERVFAIL);
    fake_clock_jump(&fixture->clock, fixture->loop, 100000);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.1:80");
    fixture->server.queries = 0;
    fake_clock_jump(&fixture->clock, fixture->loop, 1999);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.1:80");
    assert_int_equal(fixture->server.queries, 0);
    dns_server_set(&fixture->server, "one.test", "192.0.2.2", 60);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.2:80");
}

static void test_gone_for_certain_is_gone(void **state)
{
    struct fixture *fixture = *state;

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    (void)ask(fixture, "one.test");
    dns_server_set_code(&fixture->server, "one.test", DNS_NXDOMAIN);
    fake_clock_jump(&fixture->clock, fixture->loop, 60000);
    assert_string_equal(ask(fixture, "one.test"), "ERR_UNKNOWN_NAME");
}

static void test_a_silent_server_costs_five_seconds(void **state)
{
    struct fixture *fixture = *state;
    struct question question;

    fixture->server.is_silent = true;
    begin(fixture, &question, "one.test");
    run_turns(fixture->loop, 3);
    fake_clock_jump(&fixture->clock, fixture->loop, 4999);
    run_turns(fixture->loop, 3);
    assert_false(question.is_told);
    fake_clock_jump(&fixture->clock, fixture->loop, 1);
    run_until(fixture->loop, &question.is_told);
    assert_int_equal(question.err, ERR_TIMED_OUT);

    /* Asked again later, it does not matter that c-ares still waits for the first answer. */
    fixture->server.is_silent = false;
    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    assert_string_equal(ask(fixture, "one.test"), "ERR_TIMED_OUT");
    fake_clock_jump(&fixture->clock, fixture->loop, 2000);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.1:80");
}

static void test_silent_with_an_older_answer(void **state)
{
    struct fixture *fixture = *state;
    struct question question;

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 1);
    (void)ask(fixture, "one.test");
    fixture->server.is_silent = true;
    fake_clock_jump(&fixture->clock, fixture->loop, 1000);
    begin(fixture, &question, "one.test");
    run_turns(fixture->loop, 3);
    fake_clock_jump(&fixture->clock, fixture->loop, 5000);
    run_until(fixture->loop, &question.is_told);
    assert_string_equal(question.text, "192.0.2.1:80");
}

static void test_retried_in_real_time(void **state)
{
    struct fixture *fixture = *state;
    struct loop *loop = loop_create(NULL);
    struct dns_server server;
    struct resolver *resolver;
    struct question question = {.is_told = false};

    /* c-ares has a clock of its own: the first try is lost, the second one a second later is
     * heard. */
    (void)fixture;
    dns_server_start(&server, loop);
    dns_server_set(&server, "one.test", "192.0.2.1", 60);
    server.is_silent = true;
    resolver = resolver_create(loop, server.servers);
    resolve_start(resolver, &question.request, SPAN("one.test"), 80, on_told);
    run_until_count(loop, &server.queries, 2);
    server.is_silent = false;
    run_until(loop, &question.is_told);
    assert_string_equal(question.text, "192.0.2.1:80");
    assert_int_equal(server.queries, 4);
    resolver_destroy(resolver);
    dns_server_stop(&server);
    loop_destroy(loop);
}

static void test_no_server_at_all(void **state)
{
    struct fixture *fixture = *state;

    dns_server_stop(&fixture->server);
    assert_string_equal(ask(fixture, "one.test"), "ERR_UNREACHABLE");
}

static void test_a_cut_answer_is_asked_for_over_tcp(void **state)
{
    struct fixture *fixture = *state;

    fixture->server.is_brief = true;
    dns_server_set(&fixture->server, "big.test", "192.0.2.1 2001:db8::1", 60);
    assert_string_equal(ask(fixture, "big.test"), "[2001:db8::1]:80 192.0.2.1:80");
    assert_int_equal(fixture->server.tcp_queries, 2);
}

static void test_all_who_wait_get_the_same_answer(void **state)
{
    struct fixture *fixture = *state;
    struct question questions[3];

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    for (uint32_t i = 0; i < 3; i++)
        begin(fixture, &questions[i], "one.test");
    for (uint32_t i = 0; i < 3; i++) {
        run_until(fixture->loop, &questions[i].is_told);
        assert_string_equal(questions[i].text, "192.0.2.1:80");
    }
    assert_int_equal(fixture->server.queries, 2);
}

static void test_cancelled_in_each_state(void **state)
{
    struct fixture *fixture = *state;
    struct question questions[3];

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);

    /* waiting: the others are not disturbed, and the answer is kept */
    for (uint32_t i = 0; i < 3; i++)
        begin(fixture, &questions[i], "one.test");
    resolve_cancel(&questions[0].request);
    run_turns(fixture->loop, 1);
    resolve_cancel(&questions[1].request);
    resolve_cancel(&questions[1].request);
    run_until(fixture->loop, &questions[2].is_told);
    run_turns(fixture->loop, 3);
    assert_false(questions[0].is_told);
    assert_false(questions[1].is_told);

    /* ready: a kept answer, a literal address, no name */
    begin(fixture, &questions[0], "one.test");
    begin(fixture, &questions[1], "192.0.2.1");
    begin(fixture, &questions[2], "");
    for (uint32_t i = 0; i < 3; i++)
        resolve_cancel(&questions[i].request);
    run_turns(fixture->loop, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_false(questions[i].is_told);

    /* told, and never asked */
    begin(fixture, &questions[0], "one.test");
    run_until(fixture->loop, &questions[0].is_told);
    resolve_cancel(&questions[0].request);
    memset(&questions[1], 0, sizeof questions[1]);
    resolve_cancel(&questions[1].request);
}

static void test_ended_while_names_are_looked_up(void **state)
{
    struct fixture *fixture = *state;
    struct question question;

    fixture->server.is_silent = true;
    begin(fixture, &question, "one.test");
    run_turns(fixture->loop, 2);
    resolve_cancel(&question.request);
    resolver_destroy(fixture->resolver);
    fixture->resolver = NULL;
    run_turns(fixture->loop, 2);
    fake_clock_jump(&fixture->clock, fixture->loop, 10000);
    assert_false(question.is_told);
}

/* A question that frees itself when told. */
static void free_question(struct resolve *request, enum err err)
{
    struct question *question = CONTAINER_OF(request, struct question, request);

    (void)err;
    free(question);
}

static void test_freed_by_its_callback(void **state)
{
    struct fixture *fixture = *state;
    struct question *question = calloc(1, sizeof *question);

    dns_server_set(&fixture->server, "one.test", "192.0.2.1", 60);
    resolve_start(fixture->resolver, &question->request, SPAN("one.test"), 80, free_question);
    assert_string_equal(ask(fixture, "one.test"), "192.0.2.1:80");
}

static void test_a_limited_number_of_names_is_kept(void **state)
{
    struct fixture *fixture = *state;
    char name[24];

    for (uint32_t i = 0; i < 1030; i++) {
        (void)snprintf(name, sizeof name, "n%u.test", i);
        (void)ask(fixture, name);
        if (i == 500)
            (void)ask(fixture, "n0.test"); /* used again, so it stays */
    }
    fixture->server.queries = 0;
    (void)ask(fixture, "n0.test");
    (void)ask(fixture, "n1029.test");
    assert_int_equal(fixture->server.queries, 0);
    (void)ask(fixture, "n1.test");
    assert_int_equal(fixture->server.queries, 2);
}

static void test_the_machines_own_settings(void **state)
{
    struct fixture *fixture = *state;

    resolver_destroy(fixture->resolver);
    fixture->resolver = resolver_create(fixture->loop, NULL);
    assert_string_equal(ask(fixture, "127.0.0.1"), "127.0.0.1:80");
    assert_string_equal(ask(fixture, "localhost"), "[::1]:80 127.0.0.1:80");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_both_families_in_turn),
        TEST(test_more_addresses_than_are_told),
        TEST(test_what_needs_no_server),
        TEST(test_what_is_no_name),
        TEST(test_an_answer_is_kept_for_its_time),
        TEST(test_one_name_however_it_is_written),
        TEST(test_an_alias_has_a_time_too),
        TEST(test_a_failure_is_kept_for_two_seconds),
        TEST(test_stale_is_better_than_nothing),
        TEST(test_gone_for_certain_is_gone),
        TEST(test_a_silent_server_costs_five_seconds),
        TEST(test_silent_with_an_older_answer),
        TEST(test_retried_in_real_time),
        TEST(test_no_server_at_all),
        TEST(test_a_cut_answer_is_asked_for_over_tcp),
        TEST(test_all_who_wait_get_the_same_answer),
        TEST(test_cancelled_in_each_state),
        TEST(test_ended_while_names_are_looked_up),
        TEST(test_freed_by_its_callback),
        TEST(test_a_limited_number_of_names_is_kept),
        TEST(test_the_machines_own_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
