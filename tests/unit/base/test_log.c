/* Goal: a line says what happened in one write, whatever bytes are in it; levels are kept; a call
 * site that fires too often is held back, counted and told about; a sink that does not take it
 * stops nobody. */
#include "base/log.h"
#include "lib/random.h"
#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static char text[65536]; /* what was logged since the last call of caught() */
static int fds[2];

static int setup(void **state)
{
    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_set_process(NULL);
    log_setup(fds[1], LOG_INFO, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    log_setup(STDERR_FILENO, LOG_INFO, false);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}

static const char *caught(void)
{
    ssize_t len = read(fds[0], text, sizeof text - 1);

    text[len > 0 ? len : 0] = '\0';
    return text;
}

static uint32_t lines(const char *of)
{
    uint32_t count = 0;

    for (; *of != '\0'; of++)
        count += *of == '\n';
    return count;
}

static void test_a_line_is_keys_and_values(void **state)
{
    char pid[32];

    (void)state;
    log_set_process("worker 2");
    log_fields(LOG_WARN,
               LOG_FIELDS({"peer", SPAN("10.0.0.1:80")}, {"none", {NULL, 0}},
                          {"reason", SPAN("say \"no\"")}),
               "pg %s: session lost", "main");
    snprintf(pid, sizeof pid, " pid=%d ", getpid());
    assert_memory_equal(caught(), "time=20", 7);
    assert_non_null(strstr(text, "Z level=warn pid="));
    assert_non_null(strstr(text, pid));
    assert_non_null(strstr(text, " process=\"worker 2\" msg=\"pg main: session lost\" "
                                 "peer=10.0.0.1:80 reason=\"say \\\"no\\\"\"\n"));
    assert_int_equal(lines(text), 1);
    log_info("ready");
    assert_non_null(strstr(caught(), " msg=ready\n"));
}

static void test_a_line_as_json(void **state)
{
    (void)state;
    log_setup(fds[1], LOG_INFO, true);
    log_fields(LOG_ERROR, LOG_FIELDS({"reason", SPAN("a\nb\x01 \xc3\xa4 \xff")}), "it \"broke\"");
    assert_memory_equal(caught(), "{\"time\":\"20", 11);
    assert_non_null(strstr(text, "Z\",\"level\":\"error\",\"pid\":"));
    assert_non_null(strstr(text, ",\"msg\":\"it \\\"broke\\\"\","
                                 "\"reason\":\"a\\nb\\u0001 \xc3\xa4 \\u00ff\"}\n"));
}

static void test_levels(void **state)
{
    (void)state;
    log_debug("not said");
    assert_string_equal(caught(), "");
    log_setup(fds[1], LOG_TRACE, false);
    log_trace("said");
    assert_non_null(strstr(caught(), "level=trace"));
    log_setup(fds[1], LOG_ERROR, false);
    assert_true(log_is_on(LOG_ERROR));
    assert_false(log_is_on(LOG_WARN));
}

static void test_repeats_are_counted(void **state)
{
    struct log_site site = {.second = 0};

    (void)state;
    /* All in one second, unless the clock just turned: begin again then. */
    do {
        site = (struct log_site){.second = 0};
        (void)caught();
        for (int i = 0; i < LOG_BURST + 7; i++)
            log_write(&site, LOG_WARN, "lost %d", i);
        if (site.held != 7)
            log_flush_repeats();
    } while (site.held != 7);
    assert_int_equal(lines(caught()), LOG_BURST);
    log_flush_repeats(); /* the second is not over */
    assert_string_equal(caught(), "");
    site.second--;
    log_flush_repeats();
    assert_non_null(strstr(caught(), "level=warn"));
    assert_non_null(strstr(text, " msg=\"lost 16\" repeated=7\n"));
    log_flush_repeats();
    assert_string_equal(caught(), "");
}

static void test_the_next_line_tells_of_repeats_before_it(void **state)
{
    struct log_site site = {.second = 0};
    struct log_site other = {.second = 0};

    (void)state;
    do {
        site = other = (struct log_site){.second = 0};
        (void)caught();
        for (int i = 0; i < LOG_BURST + 2; i++) {
            log_write(&site, LOG_WARN, "one");
            log_write(&other, LOG_WARN, "two");
        }
        if (site.held != 2 || other.held != 2)
            log_flush_repeats();
    } while (site.held != 2 || other.held != 2);
    (void)caught();
    site.second--;
    log_write(&site, LOG_INFO, "three");
    assert_non_null(strstr(caught(), " msg=one repeated=2\n"));
    assert_non_null(strstr(text, " msg=three\n"));
    other.second--;
    log_flush_repeats();
    assert_non_null(strstr(caught(), " msg=two repeated=2\n"));
    assert_int_equal(lines(text), 1);
}

static void test_long_lines_are_cut_and_whole(void **state)
{
    static char big[8000];

    (void)state;
    memset(big, '\x01', sizeof big - 1);
    log_setup(fds[1], LOG_INFO, true);
    log_fields(LOG_INFO, LOG_FIELDS({"a", span_of(big)}, {"b", span_of(big)}), "%s", big);
    (void)caught();
    assert_int_equal(strlen(text), strcspn(text, "\n") + 1);
    assert_true(strlen(text) <= 4096);
    assert_non_null(strstr(text, "\"}\n"));
    log_setup(fds[1], LOG_INFO, false);
    memset(big, 'x', sizeof big - 1);
    log_fields(LOG_INFO, LOG_FIELDS({"a", span_of(big)}, {"b", span_of(big)}), "%s", big);
    (void)caught();
    assert_int_equal(strlen(text), strcspn(text, "\n") + 1);
    assert_true(strlen(text) <= 4096);
}

static void test_a_full_sink_stops_nobody(void **state)
{
    char page[4096] = {0};

    (void)state;
    while (write(fds[1], page, sizeof page) > 0)
        continue;
    errno = 17;
    log_info("lost");
    assert_int_equal(errno, 17);
    assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0); /* a pipe that would block: ctest ends a hang */
    log_info("lost as well");
    (void)close(fds[0]);
    fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    log_setup(-1, LOG_INFO, false);
    log_info("lost too");
}

static void test_what_was_lost_is_told(void **state)
{
    static char all[1 << 20];
    char page[4096] = {0};
    uint64_t before = log_lost();

    (void)state;
    while (write(fds[1], page, sizeof page) > 0)
        continue;
    log_info("lost");
    log_info("lost too");
    assert_int_equal(log_lost(), before + 2);
    assert_true(read(fds[0], all, sizeof all) > 0);
    log_info("written");
    assert_non_null(strstr(caught(), " msg=written\n"));
    assert_non_null(strstr(text, " level=warn "));
    assert_non_null(
        strstr(text, " msg=\"lines before this one could not be written to this log\" lost="));
    assert_int_equal(lines(text), 2);
    log_info("again");
    assert_int_equal(lines(caught()), 1); /* it was told once */
    assert_int_equal(log_lost(), before + 2);
}

/* A file that takes only the beginning of a line: the next one does not go on in it. */
static void test_a_torn_line_is_ended(void **state)
{
    FILE *file = tmpfile();
    struct rlimit limit, before;

    (void)state;
    assert_non_null(file);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){20, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    log_setup(fileno(file), LOG_INFO, false);
    log_info("torn");
    log_info("lost");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    log_info("whole");
    log_setup(STDERR_FILENO, LOG_INFO, false);
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    assert_int_equal(strcspn(text, "\n"), 20);
    assert_memory_equal(text + 21, "time=", 5);
    assert_non_null(strstr(text, " msg=whole\n"));
    assert_int_equal(lines(text), 3);
    (void)fclose(file);
}

static void test_priorities(void **state)
{
    (void)state;
    log_set_priorities(true);
    log_error("a");
    log_warn("b");
    log_info("c");
    log_setup(fds[1], LOG_TRACE, true);
    log_debug("d");
    log_trace("e");
    log_set_priorities(false);
    log_info("f");
    assert_memory_equal(caught(), "<3>time=20", 10);
    assert_non_null(strstr(text, "\n<4>time=20"));
    assert_non_null(strstr(text, "\n<6>time=20"));
    assert_non_null(strstr(text, "\n<7>{\"time\":\"20"));
    assert_non_null(strstr(text, "\n{\"time\":\"20"));
    assert_int_equal(lines(text), 6);
}

static void test_escape(void **state)
{
    static const struct {
        const char *text;
        const char *plain;
        const char *json;
    } cases[] = {
        {"", "\"\"", "\"\""},
        {"plain-1.2/3", "plain-1.2/3", "\"plain-1.2/3\""},
        {"a b", "\"a b\"", "\"a b\""},
        {"a=b", "\"a=b\"", "\"a=b\""},
        {"\"\\", "\"\\\"\\\\\"", "\"\\\"\\\\\""},
        {"\r\n\t\x1b", "\"\\r\\n\\t\\x1b\"", "\"\\r\\n\\t\\u001b\""},
        {"\x7f", "\"\\x7f\"", "\"\\u007f\""},
        {"\xe2\x82\xac", "\"\xe2\x82\xac\"", "\"\xe2\x82\xac\""},
        {"\xf0\x9f\x8e\x89", "\"\xf0\x9f\x8e\x89\"", "\"\xf0\x9f\x8e\x89\""},
        {"\xc0\xaf", "\"\\xc0\\xaf\"", "\"\\u00c0\\u00af\""},
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"\\u00ed\\u00a0\\u0080\""},
        {"\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"", "\"\\u00f4\\u0090\\u0080\\u0080\""},
        {"\xe2\x82", "\"\\xe2\\x82\"", "\"\\u00e2\\u0082\""},
        {"\xc2\x85", "\"\\xc2\\x85\"", "\"\\u00c2\\u0085\""},
    };
    char out[128];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        len = log_escape(out, sizeof out, span_of(cases[i].text), false);
        assert_int_equal(len, strlen(out));
        assert_string_equal(out, cases[i].plain);
        len = log_escape(out, sizeof out, span_of(cases[i].text), true);
        assert_int_equal(len, strlen(out));
        assert_string_equal(out, cases[i].json);
    }
}

static void test_escape_of_random_bytes_stays_inside(void **state)
{
    uint64_t random = 8;
    char in[64];

    (void)state;
    for (int i = 0; i < 50000; i++) {
        struct span span = {in, random_below(&random, sizeof in)};
        uint32_t size = random_below(&random, 100);
        char *out = malloc(size + 1); /* of its own, for ASan */
        size_t len;

        assert_non_null(out);
        for (size_t k = 0; k < span.len; k++)
            in[k] = (char)random_next(&random);
        len = log_escape(out, size, span, i % 2);
        assert_true(size == 0 || len < size);
        for (size_t k = 0; k < len; k++)
            assert_true((unsigned char)out[k] >= ' ');
        if (size > 0)
            assert_int_equal(out[len], '\0');
        if (i % 2 && size >= 3)
            assert_true(out[0] == '"' && out[len - 1] == '"');
        free(out);
    }
}

static void *log_some(void *arg)
{
    for (int i = 0; i < 200; i++) {
        log_warn("from thread %d", *(int *)arg);
        log_flush_repeats();
    }
    return NULL;
}

static void test_any_thread_may_log(void **state)
{
    int numbers[4] = {0, 1, 2, 3};
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_some, &numbers[i]), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(lines(caught()) >= LOG_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_line_is_keys_and_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_line_as_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeats_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_next_line_tells_of_repeats_before_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_long_lines_are_cut_and_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_sink_stops_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_lost_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_torn_line_is_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_priorities, setup, teardown),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_escape_of_random_bytes_stays_inside),
        cmocka_unit_test_setup_teardown(test_any_thread_may_log, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
