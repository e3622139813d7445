/* Goal: what was counted is what is written, in the form that Prometheus reads, whatever is in the
 * labels; a histogram's steps have no gap and its quantiles are right to a quarter. */
#include "lib/dies.h"
#include "lib/random.h"
#include "lib/test.h"
#include "observe/metrics.h"

#include <stdlib.h>

#define LABELS(...)                                       \
    .labels = (const struct metric_label[]){__VA_ARGS__}, \
    .labels_count =                                       \
        sizeof((const struct metric_label[]){__VA_ARGS__}) / sizeof(struct metric_label)

static struct metric_name requests = {.name = "weft_requests_total",
                                      .help = "Requests, by \"route\".\nAnd \\code."};

static void is_written(const struct metrics *metrics, const char *expected)
{
    struct buf out;

    buf_init(&out, NULL);
    metrics_text(metrics, &out);
    buf_append(&out, (struct span){"", 1});
    assert_string_equal(out.data, expected);
    buf_release(&out);
}

static void test_counters_and_gauges(void **state)
{
    struct metrics *metrics = metrics_create();
    uint64_t *gauge = metrics_gauge(
        metrics, &(struct metric_name){.name = "weft_open", .help = "Open connections."});
    struct metric_name hello = requests;
    struct metric_name books = requests;
    uint64_t *a;
    uint64_t *b;

    (void)state;
    hello = (struct metric_name){.name = requests.name,
                                 .help = requests.help,
                                 LABELS({"route", SPAN("GET /\"x\"\\\n")}, {"code", SPAN("200")})};
    books = (struct metric_name){
        .name = requests.name, .help = "Ignored.", LABELS({"route", SPAN("GET /books")})};
    a = metrics_counter(metrics, &hello);
    b = metrics_counter(metrics, &books);
    assert_ptr_not_equal(a, b);
    assert_ptr_equal(metrics_counter(metrics, &hello), a);
    ++*a;
    *b += 41;
    *gauge = UINT64_MAX;
    is_written(metrics, "# HELP weft_open Open connections.\n"
                        "# TYPE weft_open gauge\n"
                        "weft_open 18446744073709551615\n"
                        "# HELP weft_requests_total Requests, by \"route\".\\nAnd \\\\code.\n"
                        "# TYPE weft_requests_total counter\n"
                        "weft_requests_total{route=\"GET /\\\"x\\\"\\\\\\n\",code=\"200\"} 1\n"
                        "weft_requests_total{route=\"GET /books\"} 41\n");
    metrics_destroy(metrics);
    metrics_destroy(NULL);
}

static void test_nothing_is_written_of_nothing(void **state)
{
    struct metrics *metrics = metrics_create();

    (void)state;
    is_written(metrics, "");
    metrics_destroy(metrics);
}

static void test_a_histogram_is_written_in_seconds(void **state)
{
    struct metrics *metrics = metrics_create();
    struct histogram *histogram = metrics_histogram(
        metrics, &(struct metric_name){
                     .name = "weft_seconds", .help = "Time.", LABELS({"plugin", SPAN("books")})});
    struct buf out;

    (void)state;
    histogram_add(histogram, 0);
    histogram_add(histogram, 63);
    histogram_add(histogram, 64);
    histogram_add(histogram, 1500000);
    histogram_add(histogram, UINT64_C(1) << 40);
    buf_init(&out, NULL);
    metrics_text(metrics, &out);
    buf_append(&out, (struct span){"", 1});
    assert_non_null(strstr(out.data, "# TYPE weft_seconds histogram\n"
                                     "weft_seconds_bucket{plugin=\"books\",le=\"0.000063\"} 2\n"
                                     "weft_seconds_bucket{plugin=\"books\",le=\"0.000127\"} 3\n"));
    assert_non_null(strstr(out.data, "le=\"1.048575\"} 3\n"));
    assert_non_null(strstr(out.data, "le=\"2.097151\"} 4\n"));
    assert_non_null(strstr(out.data, "le=\"67.108863\"} 4\n"
                                     "weft_seconds_bucket{plugin=\"books\",le=\"+Inf\"} 5\n"
                                     "weft_seconds_sum{plugin=\"books\"} 1099513.127903\n"
                                     "weft_seconds_count{plugin=\"books\"} 5\n"));
    buf_release(&out);
    metrics_destroy(metrics);
}

static void test_a_histogram_without_labels(void **state)
{
    struct metrics *metrics = metrics_create();
    struct buf out;

    (void)state;
    (void)metrics_histogram(metrics,
                            &(struct metric_name){.name = "weft_seconds", .help = "Time."});
    buf_init(&out, NULL);
    metrics_text(metrics, &out);
    buf_append(&out, (struct span){"", 1});
    assert_non_null(strstr(out.data, "\nweft_seconds_bucket{le=\"0.000063\"} 0\n"));
    assert_non_null(strstr(out.data, "\nweft_seconds_sum 0.000000\nweft_seconds_count 0\n"));
    buf_release(&out);
    metrics_destroy(metrics);
}

static void test_steps_have_no_gap(void **state)
{
    uint32_t last = 0;

    (void)state;
    assert_int_equal(histogram_bucket(0), 0);
    for (uint64_t us = 1; us < 1 << 20; us++) {
        uint32_t bucket = histogram_bucket(us);

        assert_in_range(bucket, last, last + 1);
        last = bucket;
    }
    assert_int_equal(histogram_bucket(UINT32_MAX), HISTOGRAM_BUCKETS - 2);
    assert_int_equal(histogram_bucket(UINT64_C(1) << 32), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void test_quantiles(void **state)
{
    static const uint32_t permilles[] = {1, 10, 500, 900, 990, 999, 1000};
    static uint64_t values[1000];
    uint64_t random = 3;

    (void)state;
    for (int round = 0; round < 50; round++) {
        struct histogram histogram = {.count = 0};
        size_t count = random_below(&random, 1000) + 1;

        for (size_t i = 0; i < count; i++) {
            values[i] = random_next(&random) >> (34 + random_below(&random, 30));
            histogram_add(&histogram, values[i]);
        }
        qsort(values, count, sizeof values[0], compare);
        for (size_t i = 0; i < sizeof permilles / sizeof permilles[0]; i++) {
            uint64_t exact = values[(count * permilles[i] + 999) / 1000 - 1];
            uint64_t found = histogram_quantile(&histogram, permilles[i]);

            assert_in_range(found, exact, exact + exact / 4);
        }
    }
}

static void test_quantiles_of_corners(void **state)
{
    struct histogram histogram = {.count = 0};

    (void)state;
    assert_int_equal(histogram_quantile(&histogram, 500), 0);
    histogram_add(&histogram, UINT64_C(1) << 33);
    assert_true(histogram_quantile(&histogram, 500) == UINT64_MAX);
    histogram = (struct histogram){.count = 0};
    histogram_add(&histogram, 3);
    assert_int_equal(histogram_quantile(&histogram, 0), 3);
    assert_int_equal(histogram_quantile(&histogram, 1000), 3);
}

static void register_two_kinds(void *arg)
{
    (void)metrics_counter(arg, &requests);
    (void)metrics_gauge(arg, &requests);
}

static void register_bad_name(void *arg)
{
    (void)metrics_counter(arg, &(struct metric_name){.name = "weft requests", .help = "x"});
}

static void test_misuse_dies(void **state)
{
    struct metrics *metrics = metrics_create();
    char output[DIES_OUTPUT_SIZE];

    (void)state;
    assert_true(dies(register_two_kinds, metrics, output));
    assert_true(dies(register_bad_name, metrics, output));
    metrics_destroy(metrics);
}

static void test_times_are_written_in_seconds(void **state)
{
    struct metrics *metrics = metrics_create();

    (void)state;
    *metrics_counter_us(metrics, &(struct metric_name){.name = "weft_busy_seconds_total",
                                                       .help = "Busy."}) = 1000002;
    *metrics_gauge_us(metrics,
                      &(struct metric_name){.name = "weft_longest_seconds",
                                            .help = "Longest.",
                                            LABELS({"route", SPAN("GET /\xff\xc3\xa4\xc3")})}) = 7;
    is_written(metrics, "# HELP weft_busy_seconds_total Busy.\n"
                        "# TYPE weft_busy_seconds_total counter\n"
                        "weft_busy_seconds_total 1.000002\n"
                        "# HELP weft_longest_seconds Longest.\n"
                        "# TYPE weft_longest_seconds gauge\n"
                        "weft_longest_seconds{route=\"GET /?\xc3\xa4?\"} 0.000007\n");
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),
        cmocka_unit_test(test_nothing_is_written_of_nothing),
        cmocka_unit_test(test_a_histogram_is_written_in_seconds),
        cmocka_unit_test(test_a_histogram_without_labels),
        cmocka_unit_test(test_times_are_written_in_seconds),
        cmocka_unit_test(test_steps_have_no_gap),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_quantiles_of_corners),
        cmocka_unit_test(test_misuse_dies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
