/* bench - the workloads that weft is compared by, in the style that waits.
 *
 *   /plaintext  /json      no I/O
 *   /db                    a random row of world
 *   /queries?n=20          n rows, a statement each, all at once
 *   /fortunes              a table as HTML
 *   /updates?n=20          n rows, a statement each; changed; written back by one
 *   /api                   an upstream's answer, passed on
 *   /api-db                the same, then an upsert
 *   /db-api                a row, then the upstream
 *   /work?us=200           so much CPU, in microseconds
 *   /wait?ms=5             a statement that takes so long
 */
#include "weft_json.h"
#include <stdlib.h>
#include <time.h>

enum { ROWS = 10000, N_MAX = 500, MS_MAX = 1000 };

struct row {
    int64_t id;
    int64_t number;
};

struct fortune {
    int64_t id;
    weft_str message;
};

static weft_pg *db;
static weft_upstream *upstream;
static weft_stmt *world, *fortunes, *update, *upsert, *sleeping;
static uint64_t random_state;

/* One of 1 to ROWS (xorshift64*). */
static int64_t random_row(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return 1 + (int64_t)((random_state * 0x2545f4914f6cdd1du >> 33) % ROWS);
}

static weft_op *find_row(weft_ctx *ctx)
{
    return weft_run(ctx, db, world, WEFT_ARGS(weft_int(random_row())));
}

static struct row read_row(weft_op *found)
{
    struct row row = {weft_col_int(found, 0, 0), weft_col_int(found, 0, 1)};

    return row;
}

static void write_row(weft_json *json, const struct row *row)
{
    weft_json_object(json);
    weft_json_key(json, "id");
    weft_json_int(json, row->id);
    weft_json_key(json, "randomNumber");
    weft_json_int(json, row->number);
    weft_json_end(json);
}

static weft_status reply_list(weft_ctx *ctx, const struct row *list, uint32_t count)
{
    weft_json json;

    weft_json_begin(&json, ctx);
    weft_json_array(&json);
    for (uint32_t i = 0; i < count; i++)
        write_row(&json, &list[i]);
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

/* A number of the query, brought into 1 to `most`. */
static uint32_t number_wanted(weft_ctx *ctx, const char *name, long most)
{
    weft_str text = weft_query(ctx, name);
    long n = text.ptr != NULL ? strtol(text.ptr, NULL, 10) : 1;

    return n < 1 ? 1 : n > most ? (uint32_t)most : (uint32_t)n;
}

static uint32_t count_wanted(weft_ctx *ctx)
{
    return number_wanted(ctx, "n", N_MAX);
}

static weft_status plaintext(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply(ctx, 200, "text/plain", weft_cstr("Hello, World!"));
}

static weft_status json(weft_ctx *ctx, void *self)
{
    weft_json json;

    (void)self;
    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, "message");
    weft_json_string(&json, weft_cstr("Hello, World!"));
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

static weft_status one_query(weft_ctx *ctx, void *self)
{
    weft_op *found = find_row(ctx);
    struct row row;
    weft_json json;

    (void)self;
    WEFT_TRY(weft_await(found));
    row = read_row(found);
    weft_json_begin(&json, ctx);
    write_row(&json, &row);
    return weft_json_reply(&json, 200);
}

/* Reads `count` random rows, a statement each, all under way at once. */
static weft_status read_rows(weft_ctx *ctx, struct row *list, uint32_t count)
{
    weft_op *found[N_MAX] = {NULL};

    for (uint32_t i = 0; i < count; i++)
        found[i] = find_row(ctx);
    WEFT_TRY(weft_await(weft_all(ctx, count, found)));
    for (uint32_t i = 0; i < count; i++)
        list[i] = read_row(found[i]);
    return WEFT_OK;
}

static weft_status many_queries(weft_ctx *ctx, void *self)
{
    struct row list[N_MAX];
    uint32_t count = count_wanted(ctx);

    (void)self;
    WEFT_TRY(read_rows(ctx, list, count));
    return reply_list(ctx, list, count);
}

static int compare_rows(const void *left, const void *right)
{
    const struct row *a = left, *b = right;

    return (a->id > b->id) - (a->id < b->id);
}

/* Sorted, so that two of us lock rows in the same order; the same row twice gets one number. */
static void change_rows(struct row *list, uint32_t count)
{
    qsort(list, count, sizeof *list, compare_rows);
    for (uint32_t i = 0; i < count; i++)
        list[i].number = i > 0 && list[i].id == list[i - 1].id ? list[i - 1].number : random_row();
}

/* An array as PostgreSQL reads it: {1,2,3}. */
static weft_str array_of(weft_ctx *ctx, const struct row *list, uint32_t count, int of_numbers)
{
    char *text = weft_alloc(ctx, count * 6u + 3), *at = text;
    weft_str made;

    *at++ = '{';
    for (uint32_t i = 0; i < count; i++) {
        int64_t number = of_numbers ? list[i].number : list[i].id;
        at += snprintf(at, 8, "%s%d", i > 0 ? "," : "", (int)number);
    }
    *at++ = '}';
    made.ptr = text;
    made.len = (size_t)(at - text);
    return made;
}

static weft_status update_rows(weft_ctx *ctx, void *self)
{
    struct row list[N_MAX];
    uint32_t count = count_wanted(ctx);

    (void)self;
    WEFT_TRY(read_rows(ctx, list, count));
    change_rows(list, count);
    WEFT_TRY(weft_await(weft_run(ctx, db, update,
                                 WEFT_ARGS(weft_text(array_of(ctx, list, count, 0)),
                                           weft_text(array_of(ctx, list, count, 1))))));
    return reply_list(ctx, list, count);
}

static int compare_fortunes(const void *left, const void *right)
{
    const struct fortune *a = left, *b = right;
    size_t len = a->message.len < b->message.len ? a->message.len : b->message.len;
    int order = memcmp(a->message.ptr, b->message.ptr, len);

    return order != 0 ? order
                      : (a->message.len > b->message.len) - (a->message.len < b->message.len);
}

/* Appends to a page that has room for it. */
static char *put(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_text(char *at, const char *text)
{
    return put(at, text, strlen(text));
}

/* At most six bytes a byte. */
static char *put_escaped(char *at, weft_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        switch (text.ptr[i]) {
        case '&':
            at = put_text(at, "&amp;");
            break;
        case '<':
            at = put_text(at, "&lt;");
            break;
        case '>':
            at = put_text(at, "&gt;");
            break;
        case '"':
            at = put_text(at, "&quot;");
            break;
        case '\'':
            at = put_text(at, "&#39;");
            break;
        default:
            *at++ = text.ptr[i];
        }
    }
    return at;
}

static weft_status reply_table(weft_ctx *ctx, const struct fortune *list, uint32_t count)
{
    size_t size = 256;
    char *page, *at;
    weft_str html;

    for (uint32_t i = 0; i < count; i++)
        size += 64 + list[i].message.len * 6;
    page = at = weft_alloc(ctx, size);
    at = put_text(at, "<!DOCTYPE html><html><head><title>Fortunes</title></head><body><table>"
                      "<tr><th>id</th><th>message</th></tr>");
    for (uint32_t i = 0; i < count; i++) {
        at += snprintf(at, 32, "<tr><td>%d</td><td>", (int)list[i].id);
        at = put_escaped(at, list[i].message);
        at = put_text(at, "</td></tr>");
    }
    at = put_text(at, "</table></body></html>");
    html.ptr = page;
    html.len = (size_t)(at - page);
    return weft_reply(ctx, 200, "text/html; charset=utf-8", html);
}

static weft_status tell_fortunes(weft_ctx *ctx, void *self)
{
    weft_op *found = weft_run(ctx, db, fortunes, WEFT_NO_ARGS);
    struct fortune *list;
    uint32_t count;

    (void)self;
    WEFT_TRY(weft_await(found));
    count = weft_rows(found);
    list = weft_alloc(ctx, (count + 1) * sizeof *list);
    for (uint32_t i = 0; i < count; i++) {
        list[i].id = weft_col_int(found, i, 0);
        list[i].message = weft_col_text(found, i, 1);
    }
    list[count].message = weft_cstr("Additional fortune added at request time.");
    qsort(list, count + 1, sizeof *list, compare_fortunes);
    return reply_table(ctx, list, count + 1);
}

/* Awaits a call that is to answer 200. */
static weft_status await_quote(weft_ctx *ctx, weft_op *quote)
{
    WEFT_TRY(weft_await(quote));
    if (weft_call_code(quote) != 200)
        return weft_explain(ctx, WEFT_E_UP_RESET, "the upstream answered %u",
                            weft_call_code(quote));
    return WEFT_OK;
}

static weft_status api(weft_ctx *ctx, void *self)
{
    weft_op *quote = weft_call_get(ctx, upstream, "/quote");

    (void)self;
    WEFT_TRY(await_quote(ctx, quote));
    return weft_reply_json(ctx, 200, weft_call_body(quote));
}

static weft_status api_db(weft_ctx *ctx, void *self)
{
    weft_op *quote = weft_call_get(ctx, upstream, "/quote"), *saved;
    int64_t id = random_row();
    weft_json json;

    (void)self;
    WEFT_TRY(await_quote(ctx, quote));
    saved = weft_run(ctx, db, upsert, WEFT_ARGS(weft_int(id), weft_text(weft_call_body(quote))));
    WEFT_TRY(weft_await(saved));
    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, "id");
    weft_json_int(&json, id);
    weft_json_key(&json, "hits");
    weft_json_int(&json, weft_col_int(saved, 0, 0));
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

static weft_status db_api(weft_ctx *ctx, void *self)
{
    weft_op *found = find_row(ctx), *quote;
    struct row row;
    weft_json json;

    (void)self;
    WEFT_TRY(weft_await(found));
    row = read_row(found);
    quote = weft_call_get(ctx, upstream, "/quote");
    WEFT_TRY(await_quote(ctx, quote));
    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, "world");
    write_row(&json, &row);
    weft_json_key(&json, "quote");
    weft_json_raw(&json, weft_call_body(quote));
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static weft_status work(weft_ctx *ctx, void *self)
{
    uint64_t end_ns = cpu_ns() + number_wanted(ctx, "us", MS_MAX * 1000L) * 1000ull;

    (void)self;
    while (cpu_ns() < end_ns)
        ;
    return weft_reply(ctx, 200, "text/plain", weft_cstr("done"));
}

static weft_status wait_there(weft_ctx *ctx, void *self)
{
    double seconds = number_wanted(ctx, "ms", MS_MAX) / 1e3;
    weft_op *waited = weft_run(ctx, db, sleeping, WEFT_ARGS(weft_double(seconds)));

    (void)self;
    WEFT_TRY(weft_await(waited));
    return weft_reply(ctx, 200, "text/plain", weft_cstr("done"));
}

static weft_status find_statements(weft_host *host)
{
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_upstream(host, "quotes", &upstream));
    WEFT_TRY(weft_declare(host, db, "world", "select id, randomnumber from world where id = $1",
                          WEFT_STMT_READ_ONLY, &world));
    WEFT_TRY(weft_declare(host, db, "fortunes", "select id, message from fortune",
                          WEFT_STMT_READ_ONLY, &fortunes));
    WEFT_TRY(weft_declare(host, db, "update",
                          "update world set randomnumber = v.r"
                          " from unnest($1::int[], $2::int[]) v(id, r) where world.id = v.id",
                          0, &update));
    WEFT_TRY(weft_declare(host, db, "sleeping", "select pg_sleep($1::float8)", WEFT_STMT_READ_ONLY,
                          &sleeping));
    return weft_declare(host, db, "upsert",
                        "insert into quote (id, body, hits) values ($1, $2, 1) on conflict (id)"
                        " do update set body = excluded.body, hits = quote.hits + 1"
                        " returning hits",
                        0, &upsert);
}

static weft_status init(weft_host *host, void **self)
{
    struct timespec now;

    (void)self;
    clock_gettime(CLOCK_MONOTONIC, &now);
    random_state = (uint64_t)now.tv_nsec << 20 | 1;
    WEFT_TRY(find_statements(host));
    WEFT_TRY(weft_route(host, "GET", "/plaintext", plaintext));
    WEFT_TRY(weft_route(host, "GET", "/json", json));
    WEFT_TRY(weft_route(host, "GET", "/db", one_query));
    WEFT_TRY(weft_route(host, "GET", "/queries", many_queries));
    WEFT_TRY(weft_route(host, "GET", "/fortunes", tell_fortunes));
    WEFT_TRY(weft_route(host, "GET", "/updates", update_rows));
    WEFT_TRY(weft_route(host, "GET", "/work", work));
    WEFT_TRY(weft_route(host, "GET", "/wait", wait_there));
    WEFT_TRY(weft_route(host, "GET", "/api", api));
    WEFT_TRY(weft_route(host, "GET", "/api-db", api_db));
    return weft_route(host, "GET", "/db-api", db_api);
}

WEFT_PLUGIN("bench", "1.0", init, NULL, NULL);
