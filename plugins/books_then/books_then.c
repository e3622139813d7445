/* books_then - the library of plugins/books once more, with callbacks: a handler starts an op, says
 * what is to run when it has settled, and returns.
 *
 * What a later step needs beside its op goes into a struct in the ctx's memory.
 */
#include "../books/common.h"

static struct library library;

/* client -> database */
static weft_status on_books(weft_ctx *ctx, weft_op *found, void *data)
{
    (void)data;
    WEFT_TRY(weft_op_status(found));
    return weft_reply_rows(ctx, 200, found);
}

static weft_status list_books(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_run(ctx, library.db, library.all_books, WEFT_NO_ARGS), on_books, NULL);
}

/* Starts looking for the route's book; `fn` is told. */
static weft_status find_book(weft_ctx *ctx, weft_then_fn *fn)
{
    int64_t id;

    WEFT_TRY(book_id(ctx, &id));
    return weft_then(weft_run(ctx, library.db, library.book_by_id, WEFT_ARGS(weft_int(id))), fn,
                     NULL);
}

static weft_status on_book(weft_ctx *ctx, weft_op *found, void *data)
{
    (void)data;
    WEFT_TRY(weft_op_status(found));
    return weft_rows(found) > 0 ? weft_reply_row(ctx, 200, found) : WEFT_E_NOT_FOUND;
}

static weft_status get_book(weft_ctx *ctx, void *self)
{
    (void)self;
    return find_book(ctx, on_book);
}

static weft_status on_added(weft_ctx *ctx, weft_op *added, void *data)
{
    (void)data;
    WEFT_TRY(weft_op_status(added));
    return reply_created(ctx, added);
}

static weft_status add(weft_ctx *ctx, const struct book *book)
{
    return weft_then(weft_run(ctx, library.db, library.add_book,
                              WEFT_ARGS(weft_text(book->title), weft_text(book->author))),
                     on_added, NULL);
}

static weft_status add_book(weft_ctx *ctx, void *self)
{
    struct book book;

    (void)self;
    WEFT_TRY(book_from_body(ctx, &book));
    return add(ctx, &book);
}

/* client -> API; the last step of announce, too */
static weft_status on_answer(weft_ctx *ctx, weft_op *answer, void *data)
{
    weft_str object;

    (void)data;
    WEFT_TRY(weft_op_status(answer));
    WEFT_TRY(object_from_answer(ctx, answer, &object));
    return weft_reply_json(ctx, 200, object);
}

static weft_status get_quote(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_call_get(ctx, library.thirdparty, "/quote"), on_answer, NULL);
}

/* client -> API -> database */
static weft_status on_offer(weft_ctx *ctx, weft_op *answer, void *data)
{
    struct book book;

    (void)data;
    WEFT_TRY(weft_op_status(answer));
    WEFT_TRY(book_from_answer(ctx, answer, &book));
    return add(ctx, &book);
}

static weft_status import_book(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_then(weft_call_get(ctx, library.thirdparty, "/book"), on_offer, NULL);
}

/* client -> database -> API */
static weft_status on_book_to_announce(weft_ctx *ctx, weft_op *found, void *data)
{
    (void)data;
    WEFT_TRY(weft_op_status(found));
    if (weft_rows(found) == 0)
        return WEFT_E_NOT_FOUND;
    return weft_then(
        weft_call_post_json(ctx, library.thirdparty, "/announcements", weft_row_json(ctx, found)),
        on_answer, NULL);
}

static weft_status announce_book(weft_ctx *ctx, void *self)
{
    (void)self;
    return find_book(ctx, on_book_to_announce);
}

/* both at once */
struct summary {
    weft_op *both[2]; /* the count, the quote */
};

static weft_status on_both(weft_ctx *ctx, weft_op *all, void *data)
{
    const struct summary *summary = data;

    WEFT_TRY(weft_op_status(all));
    return reply_summary(ctx, summary->both[0], summary->both[1]);
}

static weft_status get_summary(weft_ctx *ctx, void *self)
{
    struct summary *summary = weft_alloc(ctx, sizeof *summary);

    (void)self;
    summary->both[0] = weft_run(ctx, library.db, library.count_books, WEFT_NO_ARGS);
    summary->both[1] = weft_call_get(ctx, library.thirdparty, "/quote");
    return weft_then(weft_all(ctx, 2, summary->both), on_both, summary);
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

WEFT_PLUGIN("books_then", "1.0", init, NULL, NULL);
