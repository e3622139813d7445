/* server/fetch.c - `weft fetch`: a small client over the upstream room.
 *
 * `concurrency` jobs, each with one request after the other until all were made:
 *
 *   start ──▶ OPENING (the head) ──▶ PULLING, again and again ──▶ next, or idle
 *
 * Each request has a root scope of its own. Nothing is sent again: what a server does is to be
 * seen.
 */
#include "server/fetch.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "http/message.h"
#include "net/resolve.h"
#include "task/op.h"
#include "task/scope.h"
#include "task/tasks.h"
#include "upstream/upstream.h"
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIELDS_MAX = 64, STATUS_MAX = 600, SETTLE_TURNS_MAX = 1000 };

struct fetch;

/* One of those that run at once. */
struct job {
    struct fetch *fetch; /* whose */
    struct scope *scope; /* of the request under way; NULL: idle */
    struct op *answer;   /* its stream */
    uint64_t body_bytes; /* so far */
};

struct fetch {
    /* as asked for */
    struct upstream_call call;            /* what is sent */
    struct http_field fields[FIELDS_MAX]; /* of it */
    struct upstream_options options;      /* where to */
    const char *url;                      /* as given */
    char *where;                          /* scheme and authority; ours */
    uint32_t count;                       /* requests */
    uint32_t concurrency;                 /* at once */
    bool shows_fields;                    /* -i */
    bool is_one;                          /* its body is wanted */
    /* what goes on */
    struct loop *loop;
    struct tasks *tasks;
    struct resolver *resolver;
    struct upstream *upstream;
    uint32_t started, ended; /* requests */
    uint64_t begun_us;       /* of the first */
    /* what came of it */
    uint32_t failed;
    uint32_t statuses[STATUS_MAX]; /* by code */
    uint64_t body_bytes;
    uint32_t *times_us; /* of those that were answered */
    uint32_t time_count;
    char problem[800]; /* of the first that failed */
};

/* ---- the requests ---- */

static void start_next(struct job *job);

static void end_request(struct job *job)
{
    struct fetch *fetch = job->fetch;

    fetch->ended++;
    scope_finish(job->scope, SCOPE_REPLIED);
    job->scope = NULL;
    start_next(job);
}

static void fail(struct job *job, const struct op *op)
{
    struct fetch *fetch = job->fetch;

    if (fetch->failed++ == 0)
        snprintf(fetch->problem, sizeof fetch->problem, "%.*s",
                 op->error.ptr != NULL ? (int)op->error.len : 0,
                 op->error.ptr != NULL ? op->error.ptr : "");
    end_request(job);
}

static double ms_of(int64_t us)
{
    return (double)us / 1000;
}

static void tell_one(const struct job *job)
{
    const struct op *op = job->answer;

    (void)fflush(stdout);
    fprintf(
        stderr,
        "%u, %llu bytes from %.*s in %.3f ms (connected in %.3f ms, first byte after %.3f ms)\n",
        upstream_code(op), (unsigned long long)job->body_bytes, SPAN_ARG(upstream_address(op)),
        ms_of(upstream_time_us(op, UPSTREAM_TIME_TOTAL)),
        ms_of(upstream_time_us(op, UPSTREAM_TIME_CONNECT)),
        ms_of(upstream_time_us(op, UPSTREAM_TIME_FIRST_BYTE)));
}

static void succeed(struct job *job)
{
    struct fetch *fetch = job->fetch;
    int64_t us = upstream_time_us(job->answer, UPSTREAM_TIME_TOTAL);

    fetch->statuses[upstream_code(job->answer)]++;
    fetch->body_bytes += job->body_bytes;
    fetch->times_us[fetch->time_count++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
    if (fetch->is_one)
        tell_one(job);
    end_request(job);
}

static void listen_to(struct op *op, op_fn *fn, struct job *job)
{
    enum err err = op_notify(op, fn, job);

    CHECK(err == ERR_OK);
}

static void on_pulled(struct op *op, void *data)
{
    struct job *job = data;

    if (op->status != ERR_OK) {
        fail(job, op);
        return;
    }
    if (op->piece.ptr == NULL) {
        succeed(job);
        return;
    }
    job->body_bytes += op->piece.len;
    if (job->fetch->is_one)
        (void)fwrite(op->piece.ptr, 1, op->piece.len, stdout);
    listen_to(upstream_read(job->answer), on_pulled, job);
}

static void show_fields(const struct op *op)
{
    const struct http_fields *fields = upstream_fields(op);

    printf("%u %s\n", upstream_code(op), http_reason(upstream_code(op)));
    for (uint32_t i = 0; i < fields->count; i++)
        printf("%.*s: %.*s\n", SPAN_ARG(fields->at[i].name), SPAN_ARG(fields->at[i].value));
    putchar('\n');
}

static void on_answered(struct op *op, void *data)
{
    struct job *job = data;

    if (op->status != ERR_OK) {
        fail(job, op);
        return;
    }
    if (job->fetch->shows_fields && job->fetch->is_one)
        show_fields(op);
    listen_to(upstream_read(op), on_pulled, job);
}

static void start_next(struct job *job)
{
    struct fetch *fetch = job->fetch;

    if (fetch->started == fetch->count)
        return;
    fetch->started++;
    job->body_bytes = 0;
    job->scope = scope_create(fetch->tasks, NULL, NULL, 0);
    job->answer = upstream_stream(job->scope, fetch->upstream, &fetch->call);
    listen_to(job->answer, on_answered, job);
}

/* ---- the summary ---- */

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

static double percentile_ms(const struct fetch *fetch, uint32_t permille)
{
    uint64_t at = (uint64_t)fetch->time_count * permille / 1000;

    return ms_of(fetch->times_us[at < fetch->time_count ? at : fetch->time_count - 1]);
}

static void summarize(struct fetch *fetch, uint64_t us)
{
    double seconds = us > 0 ? (double)us / 1000000 : 0.000001;
    const struct upstream_counts *counts = upstream_counts(fetch->upstream);

    printf("requests  %u in %.3f s, %u at once\n", fetch->count, seconds, fetch->concurrency);
    printf("answered  %u, %.1f a second\n", fetch->time_count, fetch->time_count / seconds);
    printf("failed    %u\n", fetch->failed);
    for (uint32_t code = 0; code < STATUS_MAX; code++)
        if (fetch->statuses[code] > 0)
            printf("status    %u: %u\n", code, fetch->statuses[code]);
    printf("bodies    %llu bytes, %.3f MB a second\n", (unsigned long long)fetch->body_bytes,
           (double)fetch->body_bytes / seconds / 1e6);
    printf("connects  %llu\n", (unsigned long long)counts->connects);
    if (fetch->time_count == 0)
        return;
    qsort(fetch->times_us, fetch->time_count, sizeof *fetch->times_us, compare);
    printf("time      p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, longest %.3f ms\n",
           percentile_ms(fetch, 500), percentile_ms(fetch, 900), percentile_ms(fetch, 990),
           percentile_ms(fetch, 999), percentile_ms(fetch, 1000));
}

/* ---- all of it ---- */

static bool set_up(struct fetch *fetch)
{
    char problem[INI_PROBLEM_SIZE];
    const char *key;

    if (upstream_options_check(&fetch->options, &key, problem) != ERR_OK) {
        fprintf(stderr, "weft fetch: %s\n", problem);
        return false;
    }
    fetch->loop = loop_create(NULL);
    fetch->tasks = tasks_create(fetch->loop, NULL, NULL);
    fetch->resolver = resolver_create(fetch->loop, NULL);
    fetch->upstream =
        upstream_create(fetch->tasks, fetch->resolver, fetch->where, &fetch->options, problem);
    if (fetch->upstream == NULL)
        fprintf(stderr, "weft fetch: %s\n", problem);
    return fetch->upstream != NULL;
}

static void tear_down(struct fetch *fetch)
{
    /* Scopes end from the ready list, once all of theirs is told. */
    for (int i = 0; fetch->tasks != NULL && fetch->tasks->scopes_count > 0 && i < SETTLE_TURNS_MAX;
         i++)
        loop_turn(fetch->loop, 0);
    upstream_destroy(fetch->upstream);
    resolver_destroy(fetch->resolver);
    tasks_destroy(fetch->tasks);
    loop_destroy(fetch->loop);
}

static int run(struct fetch *fetch)
{
    struct job *jobs = mem_calloc(fetch->concurrency, sizeof *jobs);

    fetch->times_us = mem_calloc(fetch->count, sizeof *fetch->times_us);
    loop_turn(fetch->loop, 0); /* the loop's time is that of its last turn */
    fetch->begun_us = loop_refresh_us(fetch->loop);
    for (uint32_t i = 0; i < fetch->concurrency; i++) {
        jobs[i].fetch = fetch;
        start_next(&jobs[i]);
    }
    while (fetch->ended < fetch->count)
        loop_turn(fetch->loop, UINT32_MAX);
    if (!fetch->is_one)
        summarize(fetch, loop_refresh_us(fetch->loop) - fetch->begun_us);
    if (fetch->failed > 0)
        fprintf(stderr, "weft fetch: %s%s\n",
                fetch->is_one ? "" : "the first that failed: ", fetch->problem);
    mem_free(fetch->times_us);
    mem_free(jobs);
    return fetch->failed > 0 || fflush(stdout) != 0;
}

/* ---- the command line ---- */

static const char usage[] =
    "weft fetch [options] URL       asks a server, once or again and again\n"
    "\n"
    "  -X METHOD        GET, or POST with -d\n"
    "  -H 'NAME: VALUE' a header field; again and again\n"
    "  -d BODY          the request's body\n"
    "  -n COUNT         so many requests: what came of them, rates and percentiles\n"
    "  -c COUNT         at once; 1\n"
    "  -m SECONDS       the longest that one may take; 30\n"
    "  -i               the answer's header fields before its body\n"
    "  -k               any certificate will do\n"
    "  --ca FILE        with the authorities that are trusted\n"
    "\n"
    "URL: http[s]://host[:port][/path], or http://unix:/socket:/path. Exits 0 where each\n"
    "request was answered.\n";

static int refuse(const char *what)
{
    fprintf(stderr, "weft fetch: %s (see weft fetch --help)\n", what);
    return 2;
}

/* Splits the url behind its authority. */
static void split(struct fetch *fetch)
{
    const char *authority = strstr(fetch->url, "://");
    const char *path;
    size_t len;

    authority = authority != NULL ? authority + 3 : fetch->url;
    if (strncmp(authority, "unix:", 5) == 0) {
        path = strstr(authority + 5, ":/");
        len = path != NULL ? (size_t)(path - fetch->url) : strlen(fetch->url);
        path = path != NULL ? path + 1 : "/";
    } else {
        len = (size_t)(authority - fetch->url) + strcspn(authority, "/?#");
        path = fetch->url[len] == '/' ? fetch->url + len : "/";
    }
    fetch->where = mem_copy((struct span){fetch->url, len});
    fetch->call.path = span_of(path);
}

static bool add_field(struct fetch *fetch, const char *text)
{
    const char *colon = strchr(text, ':');

    if (colon == NULL || fetch->call.field_count == FIELDS_MAX)
        return false;
    fetch->fields[fetch->call.field_count++] =
        (struct http_field){{text, (size_t)(colon - text)}, span_trim(span_of(colon + 1))};
    return true;
}

static bool take_number(const char *text, uint32_t max, uint32_t *number)
{
    uint64_t value;

    if (!number_uint(span_of(text), &value) || value < 1 || value > max)
        return false;
    *number = (uint32_t)value;
    return true;
}

/* Takes one option. NULL, or what is wrong with it. */
static const char *take_option(struct fetch *fetch, int option, char *value)
{
    uint32_t seconds;

    switch (option) {
    case 'X':
        fetch->call.method = span_of(value);
        return NULL;
    case 'H':
        return add_field(fetch, value) ? NULL : "-H: expected 'Name: value', at most 64 of them";
    case 'd':
        fetch->call.body = span_of(value);
        return NULL;
    case 'n':
        fetch->is_one = false;
        return take_number(value, FETCH_COUNT_MAX, &fetch->count) ? NULL : "-n: expected a count";
    case 'c':
        return take_number(value, FETCH_CONCURRENCY_MAX, &fetch->concurrency)
                   ? NULL
                   : "-c: expected a count from 1 to 10000";
    case 'm':
        if (!take_number(value, 86400, &seconds))
            return "-m: expected seconds, from 1 to 86400";
        fetch->call.timeout_ms = seconds * 1000;
        return NULL;
    case 'i':
        fetch->shows_fields = true;
        return NULL;
    case 'k':
        fetch->options.tls_verify = false;
        return NULL;
    case 'a':
        mem_free(fetch->options.tls_ca);
        fetch->options.tls_ca = mem_copy(span_of(value));
        return NULL;
    default:
        return "no such option";
    }
}

/* -1: go on; else the exit code. */
static int parse(struct fetch *fetch, int argc, char **argv)
{
    static const struct option options[] = {
        {"help", no_argument, NULL, 'h'}, {"ca", required_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    const char *problem;
    int option;

    optind = 1;
    while ((option = getopt_long(argc, argv, "X:H:d:n:c:m:ikh", options, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        problem = take_option(fetch, option, optarg);
        if (problem != NULL)
            return refuse(problem);
    }
    if (optind != argc - 1)
        return refuse("expected one URL");
    fetch->url = argv[optind];
    return -1;
}

/* What differs from an upstream of a host. */
static void prepare(struct fetch *fetch)
{
    struct upstream_options *options = &fetch->options;
    uint32_t limit_ms = fetch->call.timeout_ms;

    split(fetch);
    if (fetch->concurrency > fetch->count)
        fetch->concurrency = fetch->count;
    if (fetch->call.method.ptr == NULL && fetch->call.body.ptr != NULL)
        fetch->call.method = SPAN("POST");
    fetch->call.fields = fetch->fields;
    mem_free(options->url);
    options->url = mem_copy(span_of(fetch->where));
    options->connections_max = fetch->concurrency;
    options->waiting_max = fetch->concurrency;
    options->queue_timeout_ms = limit_ms;
    options->resolve_timeout_ms = options->connect_timeout_ms = limit_ms;
    options->tls_timeout_ms = options->write_timeout_ms = limit_ms;
    options->first_byte_timeout_ms = options->between_bytes_timeout_ms = limit_ms;
    options->retries_max = 0;
    options->eject_failures = 0;
    options->breaker_percent = 0;
}

int fetch_run(int argc, char **argv)
{
    struct fetch *fetch = mem_alloc(sizeof *fetch);
    int code;

    log_setup(STDERR_FILENO, LOG_ERROR, false);
    (void)signal(SIGPIPE, SIG_IGN);
    field_defaults(&upstream_option_table, &fetch->options);
    fetch->count = fetch->concurrency = 1;
    fetch->is_one = true;
    fetch->call.timeout_ms = 30000;
    code = parse(fetch, argc, argv);
    if (code < 0) {
        prepare(fetch);
        code = set_up(fetch) ? run(fetch) : 2;
        tear_down(fetch);
    }
    field_clear(&upstream_option_table, &fetch->options);
    mem_free(fetch->where);
    mem_free(fetch);
    return code;
}
