/* books - a small library behind HTTP, in the style that waits: each handler reads from top to
 * bottom.
 *
 * What leaves this process is an op; weft_await() serves others until it has settled.
 */
#include "common.h"

static struct library library;

/* client -> database */
static weft_status list_books(weft_ctx *ctx, void *self)
{
    weft_op *found = weft_run(ctx, library.db, library.all_books, WEFT_NO_ARGS);

    (void)self;
    WEFT_TRY(weft_await(found));
    return weft_reply_rows(ctx, 200, found);
}

static weft_status get_book(weft_ctx *ctx, void *self)
{
    weft_op *found;
    int64_t id;

    (void)self;
    WEFT_TRY(book_id(ctx, &id));
    found = weft_run(ctx, library.db, library.book_by_id, WEFT_ARGS(weft_int(id)));
    WEFT_TRY(weft_await(found));
    return weft_rows(found) > 0 ? weft_reply_row(ctx, 200, found) : WEFT_E_NOT_FOUND;
}

static weft_status add_book(weft_ctx *ctx, void *self)
{
    struct book book;
    weft_op *added;

    (void)self;
    WEFT_TRY(book_from_body(ctx, &book));
    added = weft_run(ctx, library.db, library.add_book,
                     WEFT_ARGS(weft_text(book.title), weft_text(book.author)));
    WEFT_TRY(weft_await(added));
    return reply_created(ctx, added);
}

/* client -> API */
static weft_status get_quote(weft_ctx *ctx, void *self)
{
    weft_op *answer = weft_call_get(ctx, library.thirdparty, "/quote");
    weft_str quote;

    (void)self;
    WEFT_TRY(weft_await(answer));
    WEFT_TRY(object_from_answer(ctx, answer, &quote));
    return weft_reply_json(ctx, 200, quote);
}

/* client -> API -> database */
static weft_status import_book(weft_ctx *ctx, void *self)
{
    weft_op *answer = weft_call_get(ctx, library.thirdparty, "/book"), *added;
    struct book book;

    (void)self;
    WEFT_TRY(weft_await(answer));
    WEFT_TRY(book_from_answer(ctx, answer, &book));
    added = weft_run(ctx, library.db, library.add_book,
                     WEFT_ARGS(weft_text(book.title), weft_text(book.author)));
    WEFT_TRY(weft_await(added));
    return reply_created(ctx, added);
}

/* client -> database -> API */
static weft_status announce_book(weft_ctx *ctx, void *self)
{
    weft_op *found, *answer;
    weft_str receipt;
    int64_t id;

    (void)self;
    WEFT_TRY(book_id(ctx, &id));
    found = weft_run(ctx, library.db, library.book_by_id, WEFT_ARGS(weft_int(id)));
    WEFT_TRY(weft_await(found));
    if (weft_rows(found) == 0)
        return WEFT_E_NOT_FOUND;
    answer =
        weft_call_post_json(ctx, library.thirdparty, "/announcements", weft_row_json(ctx, found));
    WEFT_TRY(weft_await(answer));
    WEFT_TRY(object_from_answer(ctx, answer, &receipt));
    return weft_reply_json(ctx, 200, receipt);
}

/* both at once: the slower one decides */
static weft_status get_summary(weft_ctx *ctx, void *self)
{
    weft_op *both[] = {weft_run(ctx, library.db, library.count_books, WEFT_NO_ARGS),
                       weft_call_get(ctx, library.thirdparty, "/quote")};

    (void)self;
    WEFT_TRY(weft_await(weft_all(ctx, 2, both)));
    return reply_summary(ctx, both[0], both[1]);
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    WEFT_TRY(library_find(host, &library));
    WEFT_TRY(weft_route(host, "GET", "/books", list_books));
    WEFT_TRY(weft_route(host, "GET", "/books/:id", get_book));
    WEFT_TRY(weft_route(host, "POST", "/books", add_book));
    WEFT_TRY(weft_route(host, "GET", "/quote", get_quote));
    WEFT_TRY(weft_route(host, "POST", "/books/import", import_book));
    WEFT_TRY(weft_route(host, "POST", "/books/:id/announce", announce_book));
    return weft_route(host, "GET", "/summary", get_summary);
}

WEFT_PLUGIN("books", "1.0", init, NULL, NULL);
