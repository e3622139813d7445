/* golden - a plugin of the ABI 1.0: it calls every function of the frozen header, is compiled
 * against that alone, and must get the same answers from every later host. It is never changed;
 * what is appended to 1.0 before its release is called here, too. */
#include "weft.h"

#include <stdlib.h>
#include <unistd.h>

static weft_pg *db;
static weft_upstream *partner;
static weft_stmt *add, *count;
static weft_inbox *inbox;
static uint32_t *shared;
static weft_str greeting;
static int64_t number;
static uint32_t flag, cleanups, turns;

/* GET /golden/request/:id */
static weft_status show_request(weft_ctx *ctx, void *self)
{
    weft_str text = weft_fmt(
        ctx, "%s %s %s %s %s %s [%s] %s %d %u %u %s %s", weft_method(ctx).ptr, weft_path(ctx).ptr,
        weft_param(ctx, "id").ptr, weft_query(ctx, "q").ptr, weft_header(ctx, "x-golden").ptr,
        weft_peer(ctx).ptr, weft_mount(ctx).ptr, greeting.ptr, (int)number, flag,
        self == (void *)&number, weft_query_string(ctx).ptr, weft_header_at(ctx, 0).name.ptr);

    if (weft_request_id(ctx).len != 16)
        return WEFT_E_STATE;
    WEFT_TRY(weft_set_header(ctx, "X-Golden", weft_dup(ctx, greeting)));
    return weft_reply(ctx, 201, "text/plain", text);
}

static weft_status ask(weft_ctx *ctx, void *self)
{
    if (self == (void *)&number && weft_query(ctx, "refused").ptr != NULL)
        return weft_reply_text(ctx, 403, "refused");
    return WEFT_OK;
}

static weft_status double_up(weft_ctx *ctx, void *data, weft_str in, uint32_t flags, weft_str *out)
{
    *out = weft_fmt(ctx, "%.*s%.*s%s", (int)in.len, in.ptr, (int)in.len, in.ptr,
                    flags == WEFT_PIECE_LAST ? (const char *)data : "");
    return flags == WEFT_PIECE_FLUSH ? WEFT_E_INVALID : WEFT_OK;
}

/* Below /golden/echo: each answer of 200 twice, with what is known of it. */
static weft_status see(weft_ctx *ctx, void *self)
{
    (void)self;
    if (weft_reply_code(ctx) != 200 || weft_reply_length(ctx) != 8 ||
        !weft_equal(weft_reply_header(ctx, "content-type"), weft_cstr("application/json")))
        return WEFT_OK;
    WEFT_TRY(weft_remove_header(ctx, "X-None"));
    return weft_transform(ctx, double_up, (void *)".");
}

/* POST /golden/echo */
static weft_status echo(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_json(ctx, 200, weft_body(ctx));
}

static weft_status go_elsewhere(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_redirect(ctx, 303, weft_cstr("/golden/elsewhere"));
}

static weft_status problem(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_problem(ctx, 418, "a teapot");
}

static weft_status explain(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_explain(ctx, WEFT_E_NOT_FOUND, "no number %d", 17);
}

static weft_status log_lines(weft_ctx *ctx, void *self)
{
    (void)self;
    weft_log(ctx, WEFT_LOG_WARN, "golden says %d", 17);
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%s %d", weft_status_text(WEFT_E_DB_BUSY), weft_log_level() <= WEFT_LOG_DEBUG)
            .ptr);
}

static void count_cleanup(void *data) { cleanups += (uint32_t)(uintptr_t)data; }

/* GET /golden/scopes: children, clean-ups, budgets, shields, cancels */
static weft_status use_scopes(weft_ctx *ctx, void *self)
{
    weft_ctx *child = weft_child(ctx, 500, 0);
    weft_ctx *shielded = weft_child(ctx, 500, WEFT_CHILD_SHIELD | WEFT_CHILD_SUPERVISE);
    char *zeroed = weft_alloc(child, 100);
    weft_status ended, twice;
    weft_op *op;
    uint32_t why;
    int64_t budget;

    (void)self;
    WEFT_TRY(weft_shield(ctx, 100));
    WEFT_TRY(weft_defer(child, count_cleanup, (void *)1));
    cleanups = (uint32_t)zeroed[99];
    budget = weft_budget_ms(child);
    op = weft_sleep(child, 60000);
    weft_cancel(child);
    why = weft_why(child);
    ended = weft_await(op);
    WEFT_TRY(weft_end(child));
    WEFT_TRY(weft_end(shielded));
    twice = weft_end(shielded);
    WEFT_TRY(weft_await(weft_sleep(ctx, 1)));
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %u %d %d %u %u", budget > 400 && budget < 600, why,
                                    (int)ended, (int)twice, cleanups, weft_why(ctx))
                               .ptr);
}

static weft_status fail(weft_ctx *ctx, void *self)
{
    (void)ctx;
    (void)self;
    return WEFT_E_TOO_BIG;
}

static weft_status on_slept(weft_ctx *ctx, weft_op *op, void *data)
{
    WEFT_TRY(weft_op_status(op));
    return weft_reply_text(ctx, 200, data);
}

static weft_op *start_second(weft_ctx *ctx, void *data)
{
    return weft_sleep(ctx, *(const uint32_t *)data);
}

/* GET /golden/races: the first that settles; a second one for one that is slow */
static weft_status use_races(weft_ctx *ctx, void *self)
{
    uint32_t ms = 1;
    weft_op *ops[] = {weft_sleep(ctx, 60000), weft_spawn(ctx, fail, NULL)};
    weft_op *race = weft_race(ctx, 2, ops);
    weft_op *hedge = weft_hedge(ctx, weft_sleep(ctx, 60000), 1, start_second, &ms);
    weft_status raced = weft_await(race), hedged = weft_await(hedge);

    (void)self;
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %d %d %d", (int)raced, (int)weft_winner(race),
                                    (int)hedged, (int)weft_winner(hedge))
                               .ptr);
}

static weft_status work(void *data)
{
    return *(const uint32_t *)data == 1 ? WEFT_E_TOO_BIG : WEFT_OK;
}

static weft_status on_post(weft_ctx *background, void *data)
{
    *(uint32_t *)data = weft_why(background) == WEFT_WHY_NONE;
    return WEFT_OK;
}

/* GET /golden/post: what other threads do, from this one */
static weft_status use_inbox(weft_ctx *ctx, void *self)
{
    static uint32_t ran;

    (void)self;
    WEFT_TRY(weft_post(inbox, on_post, &ran));
    WEFT_TRY(weft_await(weft_sleep(ctx, 20)));
    return weft_reply_text(ctx, 200, ran ? "ran" : "did not run");
}

/* GET /golden/work: on another thread */
static weft_status use_threads(weft_ctx *ctx, void *self)
{
    uint32_t *fails = weft_alloc(ctx, 2 * sizeof *fails);
    weft_status status;

    (void)self;
    fails[1] = 1;
    WEFT_TRY(weft_await(weft_offload(ctx, work, fails)));
    status = weft_await(weft_offload(ctx, work, fails + 1));
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d", (int)status).ptr);
}

/* GET /golden/ops: groups, spawned ones, cancel, release; replies from a callback */
static weft_status use_ops(weft_ctx *ctx, void *self)
{
    weft_op *all[] = {weft_sleep(ctx, 60000), weft_spawn(ctx, fail, NULL)};
    weft_op *any[] = {weft_spawn(ctx, fail, NULL), weft_sleep(ctx, 1)};
    weft_op *both = weft_all(ctx, 2, all), *first = weft_any(ctx, 2, any);
    weft_op *canceled = weft_sleep(ctx, 60000), *end = weft_sleep(ctx, 1);
    weft_status statuses[5];
    weft_str text;

    (void)self;
    statuses[0] = weft_op_status(canceled);
    weft_op_cancel(canceled);
    statuses[1] = weft_await(canceled);
    statuses[2] = weft_await(both);
    statuses[3] = weft_await(first);
    statuses[4] = weft_op_release(canceled);
    text = weft_fmt(ctx, "%d %d %d %d %d %d %d", (int)statuses[0], (int)statuses[1],
                    (int)statuses[2], (int)statuses[3], (int)statuses[4], (int)weft_winner(both),
                    (int)weft_winner(first));
    return weft_then(end, on_slept, (void *)(uintptr_t)text.ptr);
}

/* GET /golden/pieces: none of what is no pull of a stream */
static weft_status use_pieces(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_sleep(ctx, 1);

    (void)self;
    WEFT_TRY(weft_await(op));
    return weft_reply_text(ctx, 200, weft_piece(op).ptr == NULL ? "absent" : "there");
}

/* POST /golden/upload: a body in pieces, and what stands behind it */
static weft_status read_body(weft_ctx *ctx, void *self)
{
    size_t bytes = 0;
    weft_op *read;

    (void)self;
    do {
        read = weft_body_read(ctx);
        WEFT_TRY(weft_await(read));
        bytes += weft_piece(read).len;
    } while (weft_piece(read).ptr != NULL);
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %d %d", (int)bytes, (int)weft_body(ctx).len,
                                    weft_trailer(ctx, "X-None").ptr == NULL &&
                                        weft_trailer_at(ctx, 0).name.ptr == NULL)
                               .ptr);
}

/* GET /golden/export: a reply in pieces, with something behind it */
static weft_status write_pieces(weft_ctx *ctx, void *self)
{
    const weft_reply_options options = {sizeof options, 0, 11, 0, 0, {NULL, 0}};
    weft_str pieces[] = {weft_cstr("of "), weft_cstr("pieces")};

    (void)self;
    if (weft_query(ctx, "length").ptr != NULL)
        WEFT_TRY(weft_reply_begin_with(ctx, 200, "text/plain", &options));
    else
        WEFT_TRY(weft_reply_begin(ctx, 200, "text/plain"));
    WEFT_TRY(weft_await(weft_write(ctx, weft_cstr("2 "))));
    WEFT_TRY(weft_await(weft_write_all(ctx, 2, pieces)));
    WEFT_TRY(weft_set_trailer(ctx, "X-Golden", weft_cstr("behind")));
    return weft_reply_end(ctx);
}

/* GET /golden/file: a reply that is a part of a file */
static weft_status send_file(weft_ctx *ctx, void *self)
{
    weft_file file = {sizeof file, -1, 3, 9};
    FILE *text = tmpfile();

    (void)self;
    if (text == NULL || fputs("it is a part of a file", text) < 0 || fflush(text) != 0)
        return WEFT_E_STATE;
    file.fd = dup(fileno(text));
    (void)fclose(text);
    return weft_reply_file(ctx, 200, "text/plain", &file);
}

/* GET /golden/values: parameters and columns of every kind */
static weft_status use_values(weft_ctx *ctx, void *self)
{
    static const weft_str bytes = WEFT_S("\x00\xff");
    weft_op *op =
        weft_run_sql(ctx, db,
                     "select $1::int8 i, $2::text t, $3::bool b, $4::float8 d, $5::bytea x, "
                     "$6::json j, $7::text n",
                     WEFT_STMT_READ_ONLY,
                     WEFT_ARGS(weft_int(-7), weft_text(greeting), weft_bool(1), weft_double(0.5),
                               weft_bytes(bytes), weft_value_json(weft_cstr("[1]")), weft_null()));

    (void)self;
    WEFT_TRY(weft_await(op));
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%u %u %u %d %s %s %d %u %d %s %u %s", weft_rows(op),
                                    weft_columns(op), (uint32_t)weft_affected(op),
                                    (int)weft_column(op, "d"), weft_column_name(op, 1).ptr,
                                    weft_col_text(op, 0, 1).ptr, (int)weft_col_int(op, 0, 0),
                                    weft_col_bool(op, 0, 2), (int)(weft_col_double(op, 0, 3) * 10),
                                    weft_col_text(op, 0, 4).ptr, weft_col_is_null(op, 0, 6),
                                    weft_row_json(ctx, op).ptr)
                               .ptr);
}

/* GET /golden/more-values: times, bytes and arrays, as text or with ?binary */
static weft_status use_more_values(weft_ctx *ctx, void *self)
{
    static const int64_t numbers[] = {3, -4};
    static const weft_str texts[] = {WEFT_S("a,b"), {NULL, 0}, WEFT_S("\"")};
    static const weft_str bytes = WEFT_S("xyz");
    uint32_t number_count, text_count;
    uint32_t form = weft_query(ctx, "binary").ptr != NULL ? WEFT_STMT_BINARY : 0;
    weft_op *op = weft_run_sql(ctx, db, "select $1::timestamptz, $2::bytea, $3::int[], $4::text[]",
                               WEFT_STMT_READ_ONLY | form,
                               WEFT_ARGS(weft_time(1000001), weft_bytes(bytes),
                                         weft_ints(2, numbers), weft_texts(3, texts)));

    (void)self;
    WEFT_TRY(weft_await(op));
    const int64_t *ints = weft_col_ints(ctx, op, 0, 2, &number_count);
    const weft_str *strs = weft_col_texts(ctx, op, 0, 3, &text_count);
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %s %u %d %u %s %d %s", (int)weft_col_time(op, 0, 0),
                                    weft_col_bytes(ctx, op, 0, 1).ptr, number_count, (int)ints[1],
                                    text_count, strs[0].ptr, strs[1].ptr == NULL, strs[2].ptr)
                               .ptr);
}

static weft_status list_names(weft_ctx *ctx, void *self)
{
    weft_op *op = weft_run_sql(ctx, db, "select name from names order by 1", 0, WEFT_NO_ARGS);

    (void)self;
    WEFT_TRY(weft_await(op));
    if (weft_query(ctx, "first").ptr != NULL)
        return weft_reply_row(ctx, 200, op);
    return weft_equal(weft_rows_json(ctx, op), weft_cstr("[]")) ? WEFT_E_NOT_FOUND
                                                                : weft_reply_rows(ctx, 200, op);
}

/* POST /golden/names: commits one name and rolls another one back, then fails to add the first */
static weft_status add_names(weft_ctx *ctx, void *self)
{
    weft_op *kept = weft_begin(ctx, db, WEFT_TX_SERIALIZABLE);
    weft_op *undone = weft_begin(ctx, db, 0), *counted, *failed;
    weft_status status;

    (void)self;
    WEFT_TRY(weft_await(kept));
    WEFT_TRY(
        weft_await(weft_run(ctx, weft_tx(kept), add, WEFT_ARGS(weft_text(weft_cstr("golden"))))));
    WEFT_TRY(weft_await(weft_commit(weft_tx(kept))));
    WEFT_TRY(weft_await(undone));
    WEFT_TRY(
        weft_await(weft_run(ctx, weft_tx(undone), add, WEFT_ARGS(weft_text(weft_cstr("undone"))))));
    WEFT_TRY(weft_await(weft_rollback(weft_tx(undone))));
    counted = weft_run(ctx, db, count, WEFT_NO_ARGS);
    WEFT_TRY(weft_await(counted));
    failed = weft_run(ctx, db, add, WEFT_ARGS(weft_text(weft_cstr("golden"))));
    status = weft_await(failed);
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%d %d %s %u %d", (int)weft_col_int(counted, 0, 0),
                                    (int)status, weft_sqlstate(failed).ptr,
                                    weft_maybe_applied(failed), weft_op_error(failed).len > 0)
                               .ptr);
}

/* Fails once as if another transaction had been in the way, then adds what `data` says, and undoes
 * what it adds in a nested one. */
static weft_status add_in_turns(weft_ctx *ctx, weft_pg *tx, void *data)
{
    weft_op *nested = weft_begin(ctx, tx, 0);
    int *runs = data;

    if (++*runs == 1)
        return WEFT_E_DB_RETRY;
    WEFT_TRY(weft_await(nested));
    WEFT_TRY(
        weft_await(weft_run(ctx, weft_tx(nested), add, WEFT_ARGS(weft_text(weft_cstr("nested"))))));
    WEFT_TRY(weft_await(weft_rollback(weft_tx(nested))));
    return weft_await(weft_run(ctx, tx, add, WEFT_ARGS(weft_text(weft_cstr("turns")))));
}

/* POST /golden/turns: the transaction that is run again */
static weft_status run_turns(weft_ctx *ctx, void *self)
{
    uint32_t maybe = 7;
    int runs = 0, more = 1;

    (void)self;
    WEFT_TRY(weft_transact(ctx, db, 0, add_in_turns, &runs));
    weft_status twice = weft_transact_told(ctx, db, 0, add_in_turns, &more, &maybe);
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%d %d %u", runs, (int)twice, maybe).ptr);
}

/* GET /golden/calls: one of each kind */
static weft_status use_calls(weft_ctx *ctx, void *self)
{
    weft_field field = {WEFT_S("X-Golden"), WEFT_S("17")};
    weft_call call = {sizeof call,
                      WEFT_CALL_IDEMPOTENT,
                      "PUT",
                      WEFT_S("/put"),
                      WEFT_S("a body"),
                      &field,
                      1,
                      1000,
                      0,
                      0,
                      0};
    weft_op *ops[] = {weft_call_start(ctx, partner, &call), weft_call_get(ctx, partner, "/get"),
                      weft_call_post_json(ctx, partner, "/post", weft_cstr("{}"))};

    (void)self;
    WEFT_TRY(weft_await(weft_all(ctx, 3, ops)));
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%u %s %s, %u %s, %u %s", weft_call_code(ops[0]),
                                    weft_call_header(ops[0], "x-theirs").ptr,
                                    weft_call_body(ops[0]).ptr, weft_call_code(ops[1]),
                                    weft_call_body(ops[1]).ptr, weft_call_code(ops[2]),
                                    weft_call_body(ops[2]).ptr)
                               .ptr);
}

/* GET /golden/streams: rows page by page, of a declared statement and of a text */
static weft_status use_streams(weft_ctx *ctx, void *self)
{
    weft_op *counted = weft_stream(ctx, db, count, WEFT_NO_ARGS), *page;
    weft_op *listed = weft_stream_sql(ctx, db, "select generate_series($1::int, 3) n",
                                      WEFT_STMT_READ_ONLY, WEFT_ARGS(weft_int(1)));
    weft_str text = weft_cstr("");
    uint32_t rows;

    (void)self;
    WEFT_TRY(weft_await(counted));
    page = weft_stream_next(counted);
    WEFT_TRY(weft_await(page));
    rows = weft_rows(page);
    WEFT_TRY(weft_await(listed));
    do {
        page = weft_stream_next(listed);
        WEFT_TRY(weft_await(page));
        text = weft_fmt(ctx, "%s%s", text.ptr, weft_stream_json(page).ptr);
    } while (weft_rows(page) > 0);
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%u %s %d", rows, text.ptr, (int)weft_op_status(weft_stream_next(page))).ptr);
}

/* GET /golden/copies: a row in, and out again */
static weft_status use_copies(weft_ctx *ctx, void *self)
{
    weft_op *in = weft_copy_in(ctx, db, "copy names from stdin"), *end, *out, *read;
    weft_status status;

    (void)self;
    WEFT_TRY(weft_await(in));
    WEFT_TRY(weft_await(weft_copy_write(in, weft_cstr("copied\n"))));
    end = weft_copy_end(in);
    status = weft_await(end);
    out = weft_copy_out(ctx, db, "copy (select name from names where name = 'copied') to stdout");
    WEFT_TRY(weft_await(out));
    read = weft_copy_read(out);
    WEFT_TRY(weft_await(read));
    return weft_reply_text(
        ctx, 200,
        weft_fmt(ctx, "%d %u %s", (int)status, (uint32_t)weft_affected(end), weft_piece(read).ptr)
            .ptr);
}

/* GET /golden/bodies: written and read in pieces */
static weft_status use_bodies(weft_ctx *ctx, void *self)
{
    weft_field sum = {WEFT_S("X-Sum"), WEFT_S("42")};
    weft_call call = {sizeof call,
                      WEFT_CALL_UPLOAD | WEFT_CALL_TRAILERS,
                      "PUT",
                      WEFT_S("/bodies"),
                      {NULL, 0},
                      NULL,
                      0,
                      0,
                      0,
                      0,
                      0};
    weft_op *answer = weft_call_stream(ctx, partner, &call), *pulled;
    weft_str text = weft_cstr("");

    (void)self;
    WEFT_TRY(weft_await(weft_call_write(answer, weft_cstr("a "))));
    WEFT_TRY(weft_await(weft_call_write(answer, weft_cstr("body"))));
    text = weft_fmt(ctx, "%u ", weft_call_wants(answer));
    WEFT_TRY(weft_call_write_end_with(answer, 1, &sum));
    text = weft_fmt(ctx, "%s%d ", text.ptr, (int)weft_call_write_end(answer));
    WEFT_TRY(weft_await(answer));
    for (;;) {
        pulled = weft_call_read(answer);
        WEFT_TRY(weft_await(pulled));
        if (weft_piece(pulled).ptr == NULL)
            break;
        text = weft_fmt(ctx, "%s%s", text.ptr, weft_piece(pulled).ptr);
    }
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%s %u %s %s %s", text.ptr, weft_call_code(answer),
                                    weft_call_header_at(answer, 0).name.ptr,
                                    weft_call_trailer(answer, "x-theirs").ptr,
                                    weft_call_trailer_at(answer, 0).name.ptr)
                               .ptr);
}

/* POST /golden/through: the client's body to the upstream */
static weft_status pass_through(weft_ctx *ctx, void *self)
{
    weft_call call = {
        sizeof call, WEFT_CALL_UPLOAD, "PUT", WEFT_S("/put"), {NULL, 0}, NULL, 0, 0, 0, 0, 0};
    weft_op *answer = weft_call_stream(ctx, partner, &call);

    (void)self;
    WEFT_TRY(weft_call_upload(ctx, answer));
    WEFT_TRY(weft_await(answer));
    WEFT_TRY(weft_reply_begin(ctx, weft_call_code(answer), "text/plain"));
    WEFT_TRY(weft_call_download(ctx, answer));
    return weft_reply_end(ctx);
}

/* GET /golden/news: a notification of our own */
static weft_status use_news(weft_ctx *ctx, void *self)
{
    weft_op *news = weft_listen(ctx, db, "news"), *next;

    (void)self;
    WEFT_TRY(weft_await(news));
    WEFT_TRY(
        weft_await(weft_run_sql(ctx, db, "select pg_notify('news', 'heard')", 0, WEFT_NO_ARGS)));
    next = weft_listen_next(news);
    WEFT_TRY(weft_await(next));
    return weft_reply(ctx, 200, "text/plain", weft_piece(next));
}

/* GET /golden/more-calls: what is known of a call */
static weft_status tell_of_calls(weft_ctx *ctx, void *self)
{
    weft_str path =
        weft_query_add(ctx, weft_query_add(ctx, weft_cstr("/get"), "a b", weft_cstr("ä&c")), "d",
                       weft_encode(ctx, weft_cstr("~")));
    weft_op *op = weft_call_get(ctx, partner, path.ptr);

    (void)self;
    WEFT_TRY(weft_await(op));
    return weft_reply_text(ctx, 200,
                           weft_fmt(ctx, "%s %d %d %d %u", path.ptr,
                                    weft_call_time_us(op, WEFT_CALL_TIME_TOTAL) >=
                                        weft_call_time_us(op, WEFT_CALL_TIME_FIRST_BYTE),
                                    weft_call_time_us(op, WEFT_CALL_TIME_CONNECT) >= 0,
                                    strncmp(weft_call_address(op).ptr, "127.0.0.1:", 10),
                                    weft_call_is_reused(op))
                               .ptr);
}

static weft_status show_turns(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, turns > 0 && *shared == 0 ? "started" : "not yet");
}

static weft_status find(weft_host *host)
{
    WEFT_TRY(weft_setting(host, "greeting", NULL, &greeting));
    WEFT_TRY(weft_setting_int(host, "number", 0, 100, 17, &number));
    WEFT_TRY(weft_setting_bool(host, "flag", 0, &flag));
    WEFT_TRY(weft_shared(host, weft_instance(host).ptr, sizeof *shared, (void **)&shared));
    WEFT_TRY(weft_find_pool(host, "main", &db));
    WEFT_TRY(weft_find_upstream(host, "partner", &partner));
    WEFT_TRY(weft_declare(host, db, "add", "insert into names values ($1)", 0, &add));
    return weft_declare(host, db, "count", "select count(*) from names",
                        WEFT_STMT_READ_ONLY | WEFT_STMT_SLOW, &count);
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options options = {sizeof options, WEFT_ROUTE_FINISH, 5000, 100, 1000};
    const weft_filter_options filter = {sizeof filter, 5, "/echo", ask, see, NULL};
    const weft_route_options streams = {sizeof streams, WEFT_ROUTE_STREAM | WEFT_ROUTE_VITAL, 5000,
                                        UINT32_MAX, 0};

    *self = &number;
    WEFT_TRY(find(host));
    WEFT_TRY(weft_route(host, "GET", "/request/:id", show_request));
    WEFT_TRY(weft_route_with(host, "POST", "/echo", echo, NULL, &options));
    WEFT_TRY(weft_filter(host, &filter));
    WEFT_TRY(weft_route(host, "GET", "/redirect", go_elsewhere));
    WEFT_TRY(weft_route(host, "GET", "/problem", problem));
    WEFT_TRY(weft_route(host, "GET", "/explain", explain));
    WEFT_TRY(weft_route(host, "GET", "/log", log_lines));
    WEFT_TRY(weft_route(host, "GET", "/scopes", use_scopes));
    WEFT_TRY(weft_route(host, "GET", "/ops", use_ops));
    WEFT_TRY(weft_open_inbox(host, &inbox));
    WEFT_TRY(weft_route(host, "GET", "/post", use_inbox));
    WEFT_TRY(weft_route(host, "GET", "/races", use_races));
    WEFT_TRY(weft_route(host, "GET", "/work", use_threads));
    WEFT_TRY(weft_route(host, "GET", "/pieces", use_pieces));
    WEFT_TRY(weft_route_with(host, "POST", "/upload", read_body, NULL, &streams));
    WEFT_TRY(weft_route(host, "GET", "/export", write_pieces));
    WEFT_TRY(weft_route(host, "GET", "/file", send_file));
    WEFT_TRY(weft_route(host, "GET", "/values", use_values));
    WEFT_TRY(weft_route(host, "GET", "/more-values", use_more_values));
    WEFT_TRY(weft_route(host, "GET", "/names", list_names));
    WEFT_TRY(weft_route(host, "POST", "/names", add_names));
    WEFT_TRY(weft_route(host, "POST", "/turns", run_turns));
    WEFT_TRY(weft_route(host, "GET", "/calls", use_calls));
    WEFT_TRY(weft_route(host, "GET", "/streams", use_streams));
    WEFT_TRY(weft_route(host, "GET", "/copies", use_copies));
    WEFT_TRY(weft_route(host, "GET", "/bodies", use_bodies));
    WEFT_TRY(weft_route(host, "GET", "/more-calls", tell_of_calls));
    WEFT_TRY(weft_route_with(host, "POST", "/through", pass_through, NULL, &streams));
    WEFT_TRY(weft_route(host, "GET", "/news", use_news));
    return weft_route(host, "GET", "/turns", show_turns);
}

static weft_status start(weft_ctx *background, void *self)
{
    (void)self;
    turns++;
    return weft_await(weft_sleep(background, 3600000)) == WEFT_E_CANCELED ? WEFT_OK : WEFT_E_STATE;
}

static void fini(void *self)
{
    weft_log(NULL, WEFT_LOG_INFO, "golden ends %d", self == (void *)&number);
}

WEFT_PLUGIN("golden", "1.0", init, start, fini);
