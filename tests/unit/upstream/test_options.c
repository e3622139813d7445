/* Goal: the section's keys go to their members, the defaults are those that are documented, and a
 *       section without a url is refused. */
#include "lib/test.h"
#include "upstream/options.h"

#include <string.h>

static void test_defaults(void **state)
{
    struct upstream_options options;

    (void)state;
    field_defaults(&upstream_option_table, &options);
    assert_null(options.url);
    assert_string_equal(options.addresses, "");
    assert_int_equal(options.connections_max, 64);
    assert_int_equal(options.connections_per_address_max, 0);
    assert_int_equal(options.resolve_timeout_ms, 2000);
    assert_int_equal(options.waiting_max, 4096);
    assert_int_equal(options.queue_timeout_ms, 2000);
    assert_int_equal(options.connect_timeout_ms, 2000);
    assert_int_equal(options.tls_timeout_ms, 2000);
    assert_string_equal(options.tls_ca, "");
    assert_string_equal(options.tls_cert, "");
    assert_string_equal(options.tls_key, "");
    assert_string_equal(options.tls_name, "");
    assert_true(options.tls_verify);
    assert_int_equal(options.tls_min, 0);
    assert_int_equal(options.write_timeout_ms, 4000);
    assert_int_equal(options.first_byte_timeout_ms, 4000);
    assert_int_equal(options.eject_failures, 5);
    assert_int_equal(options.eject_time_ms, 30000);
    assert_int_equal(options.retries_max, 1);
    assert_int_equal(options.retry_percent, 20);
    assert_int_equal(options.retry_after_max_ms, 1000);
    assert_int_equal(options.breaker_percent, 0);
    assert_int_equal(options.breaker_calls, 20);
    assert_int_equal(options.breaker_window_ms, 10000);
    assert_int_equal(options.breaker_time_ms, 5000);
    assert_string_equal(options.check_path, "");
    assert_int_equal(options.check_interval_ms, 5000);
    assert_int_equal(options.check_timeout_ms, 2000);
    assert_int_equal(options.check_rise, 2);
    assert_int_equal(options.check_fall, 3);
    assert_int_equal(options.between_bytes_timeout_ms, 4000);
    assert_int_equal(options.timeout_ms, 30000);
    assert_int_equal(options.idle_timeout_ms, 4000);
    assert_int_equal(options.age_max_ms, 300000);
    assert_int_equal(options.head_bytes_max, 65536);
    assert_int_equal(options.body_bytes_max, 8 << 20);
    field_clear(&upstream_option_table, &options);
}

/* Binds `text` as a whole file; the section is [upstream.a]. */
static enum err bind(const char *text, struct upstream_options *options,
                     char problem[INI_PROBLEM_SIZE])
{
    struct ini_file *file;
    enum err err;

    assert_int_equal(ini_parse_text("x.ini", text, &file, problem), ERR_OK);
    err = field_bind(&upstream_option_table, file, ini_section(file, "upstream", "a"), options,
                     problem);
    ini_free(file);
    return err;
}

static void test_each_key(void **state)
{
    struct upstream_options options;
    char problem[INI_PROBLEM_SIZE];

    (void)state;
    assert_int_equal(bind("[upstream.a]\n"
                          "url = http://api:81/v1\n"
                          "addresses = 10.0.0.1 b:82\n"
                          "connections = 2\n"
                          "connections_per_address = 1\n"
                          "resolve_timeout = 6ms\n"
                          "queue = 0\n"
                          "queue_timeout = 1ms\n"
                          "connect_timeout = 2ms\n"
                          "tls_timeout = 22ms\n"
                          "tls_ca = /ca\n"
                          "tls_cert = /cert\n"
                          "tls_key = /key\n"
                          "tls_name = name\n"
                          "tls_verify = off\n"
                          "tls_min = 1.3\n"
                          "write_timeout = 7ms\n"
                          "eject_failures = 8\n"
                          "eject_time = 9ms\n"
                          "retries = 3\n"
                          "retry_budget = 11\n"
                          "retry_after_max = 12ms\n"
                          "breaker = 13\n"
                          "breaker_calls = 14\n"
                          "breaker_window = 15ms\n"
                          "breaker_time = 16ms\n"
                          "check_path = /ok\n"
                          "check_interval = 18ms\n"
                          "check_timeout = 19ms\n"
                          "check_rise = 20\n"
                          "check_fall = 21\n"
                          "first_byte_timeout = 3ms\n"
                          "between_bytes_timeout = 4ms\n"
                          "timeout = 5ms\n"
                          "idle_timeout = 0\n"
                          "age_max = 0\n"
                          "head_max = 1k\n"
                          "body_max = 0\n",
                          &options, problem),
                     ERR_OK);
    assert_string_equal(options.url, "http://api:81/v1");
    assert_string_equal(options.addresses, "10.0.0.1 b:82");
    assert_int_equal(options.connections_max, 2);
    assert_int_equal(options.connections_per_address_max, 1);
    assert_int_equal(options.resolve_timeout_ms, 6);
    assert_int_equal(options.waiting_max, 0);
    assert_int_equal(options.queue_timeout_ms, 1);
    assert_int_equal(options.connect_timeout_ms, 2);
    assert_int_equal(options.tls_timeout_ms, 22);
    assert_string_equal(options.tls_ca, "/ca");
    assert_string_equal(options.tls_cert, "/cert");
    assert_string_equal(options.tls_key, "/key");
    assert_string_equal(options.tls_name, "name");
    assert_false(options.tls_verify);
    assert_int_equal(options.tls_min, 1);
    assert_int_equal(options.write_timeout_ms, 7);
    assert_int_equal(options.eject_failures, 8);
    assert_int_equal(options.eject_time_ms, 9);
    assert_int_equal(options.retries_max, 3);
    assert_int_equal(options.retry_percent, 11);
    assert_int_equal(options.retry_after_max_ms, 12);
    assert_int_equal(options.breaker_percent, 13);
    assert_int_equal(options.breaker_calls, 14);
    assert_int_equal(options.breaker_window_ms, 15);
    assert_int_equal(options.breaker_time_ms, 16);
    assert_string_equal(options.check_path, "/ok");
    assert_int_equal(options.check_interval_ms, 18);
    assert_int_equal(options.check_timeout_ms, 19);
    assert_int_equal(options.check_rise, 20);
    assert_int_equal(options.check_fall, 21);
    assert_int_equal(options.first_byte_timeout_ms, 3);
    assert_int_equal(options.between_bytes_timeout_ms, 4);
    assert_int_equal(options.timeout_ms, 5);
    assert_int_equal(options.idle_timeout_ms, 0);
    assert_int_equal(options.age_max_ms, 0);
    assert_int_equal(options.head_bytes_max, 1024);
    assert_int_equal(options.body_bytes_max, 0);
    field_clear(&upstream_option_table, &options);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {
        "[upstream.a]\nconnections = 1\n", /* no url */
        "[upstream.a]\nurl = http://a\nconnections = 0\n",
        "[upstream.a]\nurl = http://a\ntimeout = 0\n",
        "[upstream.a]\nurl = http://a\nconnect_timeout = 10\n",
        "[upstream.a]\nurl = http://a\nbody_max = 2g\n",
        "[upstream.a]\nurl = http://a\nhead_max = 1\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct upstream_options options;
        char problem[INI_PROBLEM_SIZE] = "";

        assert_int_not_equal(bind(texts[i], &options, problem), ERR_OK);
        assert_non_null(strstr(problem, "x.ini:"));
        field_clear(&upstream_option_table, &options);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_each_key),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
