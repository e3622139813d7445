/* observe/metrics.c - what a worker counts: counters, gauges and histograms.
 *
 *   metrics ──▶ family (a name, its kind and help) ──▶ series (labels, a value) ──▶ series ...
 *                 └──▶ family ...
 *
 * Families and series are found by a table when they are registered and walked as lists when they
 * are written.
 */
#include "observe/metrics.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/table.h"
#include <inttypes.h>

enum {
    METRICS_MAGIC = 0x3e7121c5,
    LE_FIRST = 6, /* the first limit that is written: 2^6 us */
    LE_LAST = 26  /* the last one: 2^26 us, 67 s */
};

enum kind { COUNTER, GAUGE, COUNTER_US, GAUGE_US, HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "counter", "gauge", "histogram"};

struct series {
    struct series *next;        /* in the order of registration */
    char *labels;               /* `route="GET /x",code="200"`, or "" */
    uint64_t value;             /* of a counter or a gauge */
    struct histogram histogram; /* of a histogram; the others are allocated without it */
};

struct family {
    struct family *next;  /* in the order of registration */
    enum kind kind;       /* of all of its series */
    char *name;           /* without a histogram's _bucket, _sum, _count */
    char *help;           /* escaped */
    struct series *first; /* never NULL */
    struct series **end;  /* where the next one goes */
    struct table by_labels;
};

struct metrics {
    uint32_t magic;
    struct family *first; /* or NULL */
    struct family **end;  /* where the next one goes */
    struct table by_name; /* to families */
};

struct metrics *metrics_create(void)
{
    struct metrics *metrics = mem_alloc(sizeof(*metrics));

    metrics->magic = METRICS_MAGIC;
    metrics->end = &metrics->first;
    table_init(&metrics->by_name);
    return metrics;
}

static void destroy_family(struct family *family)
{
    struct series *next;

    for (struct series *series = family->first; series != NULL; series = next) {
        next = series->next;
        mem_free(series->labels);
        mem_free(series);
    }
    table_deinit(&family->by_labels);
    mem_free(family->name);
    mem_free(family->help);
    mem_free(family);
}

void metrics_destroy(struct metrics *metrics)
{
    struct family *next;

    if (metrics == NULL)
        return;
    CHECK_OBJ(metrics, METRICS_MAGIC);
    for (struct family *family = metrics->first; family != NULL; family = next) {
        next = family->next;
        destroy_family(family);
    }
    table_deinit(&metrics->by_name);
    metrics->magic = 0;
    mem_free(metrics);
}

static bool is_identifier(const char *text)
{
    if (text == NULL || text[0] == '\0' || (text[0] >= '0' && text[0] <= '9'))
        return false;
    for (; *text != '\0'; text++) {
        if (!((*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') || *text == '_'))
            return false;
    }
    return true;
}

/* Appends `text` with the escapes of the format: \\, \n, and \" within a label. What is not UTF-8
 * becomes a '?': who scrapes would throw all away. */
static void escape(struct buf *out, struct span text, bool is_label)
{
    for (size_t i = 0, taken; i < text.len; i += taken) {
        char c = text.ptr[i];
        size_t len = log_utf8_length((struct span){text.ptr + i, text.len - i});

        taken = len > 0 ? len : 1;
        if (c == '\n')
            buf_append(out, SPAN("\\n"));
        else if (c == '\\' || (c == '"' && is_label))
            buf_append(out, (struct span){(char[]){'\\', c}, 2});
        else if (len == 0)
            buf_append(out, SPAN("?"));
        else
            buf_append(out, (struct span){text.ptr + i, len});
    }
}

/* The labels as they are written, on the heap. */
static char *labels_text(const struct metric_name *name)
{
    struct buf out;
    char *text;

    CHECK(name->labels_count <= METRICS_LABELS_MAX);
    buf_init(&out, NULL);
    for (uint32_t i = 0; i < name->labels_count; i++) {
        CHECK(is_identifier(name->labels[i].key));
        buf_format(&out, "%s%s=\"", i > 0 ? "," : "", name->labels[i].key);
        escape(&out, name->labels[i].value, true);
        buf_append(&out, SPAN("\""));
    }
    buf_append(&out, (struct span){"", 1});
    text = mem_copy((struct span){out.data, out.len - 1});
    buf_release(&out);
    return text;
}

static struct family *find_family(struct metrics *metrics, const struct metric_name *name,
                                  enum kind kind)
{
    struct family *family = table_get(&metrics->by_name, span_of(name->name));
    struct buf help;

    if (family != NULL) {
        CHECK(family->kind == kind);
        return family;
    }
    CHECK(is_identifier(name->name));
    CHECK(name->help != NULL);
    family = mem_alloc(sizeof(*family));
    family->kind = kind;
    family->name = mem_copy(span_of(name->name));
    buf_init(&help, NULL);
    escape(&help, span_of(name->help), false);
    buf_append(&help, (struct span){"", 1});
    family->help = mem_copy((struct span){help.data, help.len - 1});
    buf_release(&help);
    family->end = &family->first;
    table_init(&family->by_labels);
    table_set(&metrics->by_name, span_of(name->name), family);
    *metrics->end = family;
    metrics->end = &family->next;
    return family;
}

static struct series *find_series(struct metrics *metrics, const struct metric_name *name,
                                  enum kind kind)
{
    struct family *family;
    struct series *series;
    char *labels;

    CHECK_OBJ(metrics, METRICS_MAGIC);
    CHECK(name != NULL);
    family = find_family(metrics, name, kind);
    labels = labels_text(name);
    series = table_get(&family->by_labels, span_of(labels));
    if (series != NULL) {
        mem_free(labels);
        return series;
    }
    series = mem_alloc(kind == HISTOGRAM ? sizeof(*series) : offsetof(struct series, histogram));
    series->labels = labels;
    table_set(&family->by_labels, span_of(labels), series);
    *family->end = series;
    family->end = &series->next;
    return series;
}

uint64_t *metrics_counter(struct metrics *metrics, const struct metric_name *name)
{
    return &find_series(metrics, name, COUNTER)->value;
}

uint64_t *metrics_gauge(struct metrics *metrics, const struct metric_name *name)
{
    return &find_series(metrics, name, GAUGE)->value;
}

uint64_t *metrics_counter_us(struct metrics *metrics, const struct metric_name *name)
{
    return &find_series(metrics, name, COUNTER_US)->value;
}

uint64_t *metrics_gauge_us(struct metrics *metrics, const struct metric_name *name)
{
    return &find_series(metrics, name, GAUGE_US)->value;
}

struct histogram *metrics_histogram(struct metrics *metrics, const struct metric_name *name)
{
    return &find_series(metrics, name, HISTOGRAM)->histogram;
}

/* Of `bucket`, the first value that is too long for it. */
static uint64_t bucket_limit(uint32_t bucket)
{
    uint32_t power = (bucket + 4) / HISTOGRAM_STEPS;

    if (bucket < 4)
        return bucket + 1;
    if (bucket == HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    return (uint64_t)(bucket % HISTOGRAM_STEPS + 5) << (power - 2);
}

uint64_t histogram_quantile(const struct histogram *histogram, uint32_t permille)
{
    uint64_t below = 0;

    CHECK(histogram != NULL);
    CHECK(permille <= 1000);
    if (histogram->count == 0)
        return 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        below += histogram->buckets[i];
        if (below > 0 && below >= histogram->count / 1000 * permille +
                                      (histogram->count % 1000 * permille + 999) / 1000)
            return bucket_limit(i) - 1;
    }
    return UINT64_MAX;
}

/* Appends `us` in seconds, exactly. */
static void seconds(struct buf *out, uint64_t us)
{
    buf_format(out, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

static void histogram_text(const struct family *family, const struct series *series,
                           struct buf *out)
{
    const struct histogram *histogram = &series->histogram;
    const char *comma = series->labels[0] != '\0' ? "," : "";
    const char *open = series->labels[0] != '\0' ? "{" : "";
    const char *close = series->labels[0] != '\0' ? "}" : "";
    uint64_t below = 0;
    uint32_t bucket = 0;

    for (uint32_t power = LE_FIRST; power <= LE_LAST; power++) {
        /* A limit is inclusive there and exclusive here: one microsecond less is what it says. */
        while (bucket_limit(bucket) <= UINT64_C(1) << power)
            below += histogram->buckets[bucket++];
        buf_format(out, "%s_bucket{%s%sle=\"", family->name, series->labels, comma);
        seconds(out, (UINT64_C(1) << power) - 1);
        buf_format(out, "\"} %" PRIu64 "\n", below);
    }
    buf_format(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", family->name, series->labels, comma,
               histogram->count);
    buf_format(out, "%s_sum%s%s%s ", family->name, open, series->labels, close);
    seconds(out, histogram->sum_us);
    buf_format(out, "\n%s_count%s%s%s %" PRIu64 "\n", family->name, open, series->labels, close,
               histogram->count);
}

static void number_text(const struct family *family, const struct series *series, struct buf *out)
{
    buf_append(out, span_of(family->name));
    if (series->labels[0] != '\0')
        buf_format(out, "{%s}", series->labels);
    buf_append(out, SPAN(" "));
    if (family->kind == COUNTER_US || family->kind == GAUGE_US)
        seconds(out, series->value);
    else
        buf_format(out, "%" PRIu64, series->value);
    buf_append(out, SPAN("\n"));
}

void metrics_text(const struct metrics *metrics, struct buf *out)
{
    CHECK_OBJ(metrics, METRICS_MAGIC);
    CHECK(out != NULL);
    for (struct family *family = metrics->first; family != NULL; family = family->next) {
        buf_format(out, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
                   kind_names[family->kind]);
        for (struct series *series = family->first; series != NULL; series = series->next) {
            if (family->kind == HISTOGRAM)
                histogram_text(family, series, out);
            else
                number_text(family, series, out);
        }
    }
}
