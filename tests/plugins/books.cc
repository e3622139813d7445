/* Goal: the flows of plugins/books as C++20 coroutines, and what weft.hpp does with exceptions and
 * with coroutines that are not waited for to their end. */
#include "weft.hpp"

extern "C" {
#include "../../plugins/books/common.h"
}

#include <array>
#include <stdexcept>
#include <string>

namespace
{

struct library library;
int alive; /* objects of a coroutine's frame that live */

struct counted {
    counted()
    {
        alive++;
    }
    counted(const counted &) = delete;
    counted &operator=(const counted &) = delete;
    ~counted()
    {
        alive--;
    }
};

/* client -> database */
weft::task<> list_books(weft_ctx *ctx, void *)
{
    weft_op *found = weft_run(ctx, library.db, library.all_books, WEFT_ARGS());

    co_await found;
    weft::check(weft_reply_rows(ctx, 200, found));
}

/* The route's book; a coroutine that another one awaits. */
weft::task<weft_op *> find_book(weft_ctx *ctx)
{
    int64_t id;

    weft::check(book_id(ctx, &id));
    weft_op *found = weft_run(ctx, library.db, library.book_by_id, WEFT_ARGS(weft_int(id)));
    co_await found;
    if (weft_rows(found) == 0)
        throw weft::failure(WEFT_E_NOT_FOUND);
    co_return found;
}

weft::task<> get_book(weft_ctx *ctx, void *)
{
    weft_op *found = co_await find_book(ctx);

    weft::check(weft_reply_row(ctx, 200, found));
}

weft::task<> add(weft_ctx *ctx, struct book book)
{
    weft::transaction tx = co_await weft::begin(ctx, library.db);
    weft_op *added = weft_run(ctx, tx.get(), library.add_book,
                              WEFT_ARGS(weft_text(book.title), weft_text(book.author)));

    co_await added;
    co_await tx.commit();
    weft::check(reply_created(ctx, added));
}

weft::task<> add_book(weft_ctx *ctx, void *)
{
    struct book book;

    weft::check(book_from_body(ctx, &book));
    co_await add(ctx, book);
}

/* client -> API */
weft::task<> get_quote(weft_ctx *ctx, void *)
{
    weft_op *answer = weft_call_get(ctx, library.thirdparty, "/quote");
    weft_str quote;

    co_await answer;
    weft::check(object_from_answer(ctx, answer, &quote));
    weft::check(weft_reply_json(ctx, 200, quote));
}

/* client -> API -> database */
weft::task<> import_book(weft_ctx *ctx, void *)
{
    weft_op *answer = weft_call_get(ctx, library.thirdparty, "/book");
    struct book book;

    co_await answer;
    weft::check(book_from_answer(ctx, answer, &book));
    co_await add(ctx, book);
}

/* client -> database -> API */
weft::task<> announce_book(weft_ctx *ctx, void *)
{
    weft_op *found = co_await find_book(ctx);
    weft_op *answer =
        weft_call_post_json(ctx, library.thirdparty, "/announcements", weft_row_json(ctx, found));
    weft_str receipt;

    co_await answer;
    weft::check(object_from_answer(ctx, answer, &receipt));
    weft::check(weft_reply_json(ctx, 200, receipt));
}

/* both at once, awaited on the handler's own stack */
void get_summary(weft_ctx *ctx, void *)
{
    std::array<weft_op *, 2> both = {weft_run(ctx, library.db, library.count_books, WEFT_ARGS()),
                                     weft_call_get(ctx, library.thirdparty, "/quote")};

    weft::await(weft_all(ctx, 2, both.data()));
    weft::check(reply_summary(ctx, both[0], both[1]));
}

/* ---- exceptions and ends ---- */

weft::task<> throw_late(weft_ctx *ctx, void *)
{
    counted here;

    co_await weft_sleep(ctx, 1);
    throw std::runtime_error("late");
}

weft_status throw_at_once(weft_ctx *, void *)
{
    throw std::string("no exception");
}

weft::task<> throw_after_reply(weft_ctx *ctx, void *)
{
    counted here;

    weft::check(weft_reply_text(ctx, 200, "replied"));
    throw std::runtime_error("too late");
    co_return;
}

weft::task<> catch_failure(weft_ctx *ctx, void *)
{
    weft_op *canceled = weft_sleep(ctx, 60000), *seen = weft_sleep(ctx, 60000);
    std::string caught = "nothing";

    weft_op_cancel(canceled);
    weft_op_cancel(seen);
    try {
        co_await canceled;
    } catch (const weft::failure &failed) {
        caught = failed.what();
    }
    caught += " " + std::to_string(co_await weft::status(seen));
    try {
        co_await canceled; /* which has had its consumer */
    } catch (const weft::failure &failed) {
        caught += " " + std::to_string(failed.status());
    }
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(caught)));
}

/* Waits longer than the route may take. */
weft::task<> wait_too_long(weft_ctx *ctx, void *)
{
    counted here;
    weft::child child(ctx, 0);

    weft::make<counted>(ctx);
    co_await weft_sleep(child.get(), 60000);
}

/* Replies while another coroutine's op is pending; that one ends with the ctx. */
weft::task<> leave_one_behind(weft_ctx *ctx, void *)
{
    counted here;

    weft::check(weft_reply_text(ctx, 200, "left"));
    co_await weft_sleep(ctx, 60000);
}

/* A transaction that goes out of scope is rolled back. */
weft::task<> leave_transaction(weft_ctx *ctx, void *)
{
    {
        weft::transaction tx = co_await weft::begin(ctx, library.db);
        co_await weft_run_sql(ctx, tx.get(), "delete from books", 0, WEFT_ARGS());
    }
    co_await list_books(ctx, nullptr);
}

/* What is thrown in a transaction rolls it back; it is run again where that may help. */
weft::task<> transact_books(weft_ctx *ctx, void *)
{
    const std::string_view why = weft::view(weft_query(ctx, "why"));
    int runs = 0;

    co_await weft_sleep(ctx, 1);
    weft::transact(ctx, library.db, 0, [&](weft_ctx *run, weft_pg *tx) -> weft::task<> {
        counted here;
        if (++runs == 3)
            co_return;
        co_await weft_run_sql(run, tx, "delete from books", 0, WEFT_ARGS());
        if (why == "failed")
            throw weft::failure(WEFT_E_NOT_FOUND);
        if (why == "thrown")
            throw std::runtime_error("transacted");
        throw weft::failure(WEFT_E_DB_RETRY);
    });
    weft::check(weft_reply_text(ctx, 200, weft_fmt(ctx, "%d", runs).ptr));
}

/* Ends its own session, in ?how=statement, or as the COMMIT runs. */
weft::task<> lose_transaction(weft_ctx *ctx, weft_pg *tx)
{
    static const char *const texts[] = {
        "create temp table lost (a int) on commit drop",
        "create function pg_temp.lose() returns trigger language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); return null; end'",
        "create constraint trigger lost after insert on lost deferrable initially deferred "
        "for each row execute function pg_temp.lose()",
        "insert into lost values (1)",
    };

    for (const char *text : texts)
        co_await weft_run_sql(ctx, tx, text, 0, WEFT_NO_ARGS);
    if (weft_query(ctx, "how").ptr != nullptr)
        co_await weft_run_sql(ctx, tx, "set constraints all immediate", 0, WEFT_NO_ARGS);
}

/* A transaction whose end nobody knows is told apart from one that was rolled back. */
void lose_books(weft_ctx *ctx, void *)
{
    const auto lose = [](weft_ctx *run, weft_pg *tx) { return lose_transaction(run, tx); };

    if (weft_query(ctx, "caught").ptr == nullptr) {
        weft::transact(ctx, library.db, 0, lose);
        return;
    }
    weft_status status = WEFT_OK;
    bool is_in_doubt = false;
    try {
        weft::transact(ctx, library.db, 0, lose);
    } catch (const weft::in_doubt &failed) {
        status = failed.status();
        is_in_doubt = true;
    } catch (const weft::failure &failed) {
        status = failed.status();
    }
    weft::check(weft_reply_text(ctx, 200, weft_fmt(ctx, "%d %d", is_in_doubt, (int)status).ptr));
}

/* Rows page by page, to their end, and some more that are left behind. */
weft::task<> stream_books(weft_ctx *ctx, void *)
{
    weft_op *some = weft_stream_sql(ctx, library.db, "select generate_series(1, $1::int)", 0,
                                    WEFT_ARGS(weft_int(20000)));
    weft_op *many =
        weft_stream_sql(ctx, library.db, "select generate_series(1, 10000000)", 0, WEFT_NO_ARGS);
    weft::rows rows = co_await weft::stream(some), left = co_await weft::stream(many);
    std::int64_t sum = 0;

    co_await left.next();
    while (co_await rows.next())
        for (uint32_t i = 0; i < weft_rows(rows.page()); i++)
            sum += weft_col_int(rows.page(), i, 0);
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(std::to_string(sum))));
}

/* Books in, which take effect with their end, and others, which do not; then all of them out. */
weft::task<> copy_books(weft_ctx *ctx, void *)
{
    static const char in_sql[] = "copy books (title, author) from stdin (format csv)";
    {
        weft::copy_in left =
            co_await weft::stream<weft::copy_in>(weft_copy_in(ctx, library.db, in_sql));
        co_await left.write(weft_cstr("never,nobody\n"));
    }
    weft::copy_in in = co_await weft::stream<weft::copy_in>(weft_copy_in(ctx, library.db, in_sql));
    co_await in.write(weft_cstr("copied,"));
    co_await in.write(weft_cstr("me\n"));
    co_await in.end();
    weft::copy_out out = co_await weft::stream<weft::copy_out>(
        weft_copy_out(ctx, library.db,
                      "copy (select title from books where author in ('me', 'nobody')) to stdout"));
    std::string text;

    while (co_await out.next())
        text += weft::view(out.piece());
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(text)));
}

/* A body that is written in pieces, and one that is read so; and one that is left behind. */
weft::task<> upload_books(weft_ctx *ctx, void *)
{
    weft_call call{};
    std::string text;

    call.size = sizeof call;
    call.flags = WEFT_CALL_UPLOAD;
    call.method = "POST";
    call.path = weft_cstr("/upload");
    weft::call_stream answer(weft_call_stream(ctx, library.thirdparty, &call));
    weft::call_stream left(weft_call_stream(ctx, library.thirdparty, &call));

    for (int i = 0; i < 3; i++)
        co_await answer.write(std::to_string(i));
    weft::check(weft_call_write_end(answer.get()));
    co_await answer.answered();
    while (co_await answer.next())
        text += answer.piece();
    call.method = "GET";
    call.flags = 0;
    call.path = weft_cstr("/quote");
    weft::call_stream quote =
        co_await weft::stream_call(weft_call_stream(ctx, library.thirdparty, &call));
    co_await quote.next();
    text += quote.piece();
    weft::check(weft_reply(ctx, weft_call_code(answer.get()), "text/plain", weft::str(text)));
}

/* ---- several at once ---- */

weft::task<int> add_slowly(weft_ctx *ctx, int a, int b)
{
    counted here;

    co_await weft_sleep(ctx, 2);
    co_return a + b;
}

/* Coroutines that are ops: two that end, and one that loses while it waits. */
weft::task<> spawn_some(weft_ctx *ctx, void *)
{
    int sum = 0;
    uint32_t why = 0;
    std::string text = "captured";
    auto adding = [&sum, text](weft_ctx *child) -> weft::task<> {
        counted here;
        sum += co_await add_slowly(child, 1, 2);
        sum += static_cast<int>(text.size());
    };
    weft_op *first = weft::spawn(ctx, adding), *second = weft::spawn(ctx, adding);

    co_await weft::all(ctx, first, second);
    weft_op *loser = weft::spawn(ctx, [&why](weft_ctx *child) -> weft::task<> {
        counted here;
        weft_status status = co_await weft::status(weft_sleep(child, 60000));
        why = weft_why(child);
        weft::check(status);
    });
    co_await weft::any(ctx, loser, weft_sleep(ctx, 5));
    weft_status lost = weft_op_status(loser);
    weft_op *failed = weft::spawn(ctx, [](weft_ctx *child) -> weft::task<> {
        co_await weft_sleep(child, 1);
        throw weft::failure(WEFT_E_TOO_BIG);
    });
    weft_op *thrown = weft::spawn(ctx, [](weft_ctx *) { throw std::runtime_error("spawned"); });
    weft_op *plain = weft::spawn(ctx, [](weft_ctx *) { return weft_status{WEFT_E_NOT_FOUND}; });
    weft_op *never = weft::spawn(ctx, adding);
    weft_op_cancel(never);
    std::string found = std::to_string(sum) + " " + std::to_string(lost);
    const std::array<weft_op *, 5> rest = {failed, thrown, plain, never, weft::race(ctx)};
    for (weft_op *op : rest)
        found += " " + std::to_string(co_await weft::status(op));
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(found + " " + std::to_string(why))));
}

weft::task<> hedge_one(weft_ctx *ctx, void *)
{
    weft_op *late = weft::hedge(ctx, weft_sleep(ctx, 60000), 5,
                                [](weft_ctx *here) { return weft_sleep(here, 1); });
    weft_op *bad = weft::spawn(ctx, [](weft_ctx *) { return weft_status{WEFT_E_TOO_BIG}; });
    weft_op *none = weft::hedge(ctx, bad, 5,
                                [](weft_ctx *) -> weft_op * { throw std::runtime_error("hedge"); });

    co_await late;
    std::string found =
        std::to_string(weft_winner(late)) + " " + std::to_string(co_await weft::status(none));
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(found)));
}

weft::task<> offload_some(weft_ctx *ctx, void *)
{
    auto text = weft::offload(ctx, [size = 3U] { return std::string(size * 10000, 'x'); });
    auto thrown = weft::offload(ctx, []() -> int { throw std::runtime_error("offloaded"); });
    auto failed = weft::offload(ctx, [] { throw weft::failure(WEFT_E_TOO_SLOW); });

    co_await text.op;
    std::string found = std::to_string(text.get().size());
    found += " " + std::to_string(co_await weft::status(thrown.op));
    found += " " + std::to_string(co_await weft::status(failed.op));
    try {
        (void)thrown.get();
    } catch (const weft::failure &caught) {
        found += " " + std::to_string(caught.status());
    }
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(found)));
}

weft_inbox *inbox;
int posted;

weft::task<> on_post(weft_ctx *background, void *data)
{
    counted here;

    co_await weft_sleep(background, 1);
    posted += *static_cast<int *>(data);
}

weft::task<> post_one(weft_ctx *ctx, void *)
{
    static int seven = 7;
    int before = posted;

    weft::check(weft_post(inbox, weft::handler<on_post>, &seven));
    while (posted == before)
        co_await weft_sleep(ctx, 1);
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(std::to_string(posted - before))));
}

/* What comes of a body goes back as it comes. */
weft::task<> echo_pieces(weft_ctx *ctx, void *)
{
    weft::check(weft_reply_begin(ctx, 200, "text/plain"));
    for (;;) {
        weft_str piece = co_await weft::pull(weft_body_read(ctx));
        if (piece.ptr == nullptr)
            break;
        co_await weft_write(ctx, piece);
    }
    weft::check(weft_reply_end(ctx));
}

weft::task<> hear_books(weft_ctx *ctx, void *)
{
    weft::notifications news =
        co_await weft::stream<weft::notifications>(weft_listen(ctx, library.db, "books"));

    co_await weft_run_sql(ctx, library.db, "select pg_notify('books', 'a new one')", 0,
                          WEFT_NO_ARGS);
    if (!co_await news.next())
        throw std::runtime_error("missed");
    weft::check(weft_reply(ctx, 200, "text/plain", news.payload()));
}

void show_alive(weft_ctx *ctx, void *)
{
    weft::check(weft_reply(ctx, 200, "text/plain", weft::str(std::to_string(alive))));
}

/* Lets in who has a key; others get what they ask for, after a while. */
weft::task<> guard(weft_ctx *ctx, void *)
{
    co_await weft_sleep(ctx, 1);
    if (weft_header(ctx, "X-Key").ptr != nullptr)
        co_return;
    if (weft::view(weft_query(ctx, "why")) == "thrown")
        throw std::runtime_error("guarded");
    if (weft::view(weft_query(ctx, "why")) == "replied")
        weft::check(weft_problem(ctx, 401, nullptr));
    else
        throw weft::failure(WEFT_E_NOT_FOUND);
}

weft_status shout(weft_ctx *ctx, void *, weft_str in, uint32_t, weft_str *out)
{
    if (weft::view(weft_query(ctx, "how")) == "thrown")
        throw std::runtime_error("changed");
    *out = in.len > 0 ? weft_cstr("LET IN") : in;
    return WEFT_OK;
}

weft_status see_guarded(weft_ctx *ctx, void *)
{
    return weft_query(ctx, "how").ptr != nullptr
               ? weft_transform(ctx, weft::transform<shout>, nullptr)
               : WEFT_OK;
}

weft_status be_guarded(weft_ctx *ctx, void *)
{
    return weft_reply_text(ctx, 200, "let in");
}

weft_status add_routes(weft_host *host)
{
    const weft_filter_options guarded = {
        sizeof guarded, 0, "/guarded", weft::before<guard>, weft::handler<see_guarded>, nullptr};
    const weft_route_options hasty = {sizeof hasty, 0, 100, 0, 0};
    const weft_route_options streaming = {sizeof streaming, WEFT_ROUTE_STREAM, 0, 0, 0};

    WEFT_TRY(weft_open_inbox(host, &inbox));
    WEFT_TRY(weft_filter(host, &guarded));
    WEFT_TRY(weft_route(host, "GET", "/guarded", weft::handler<be_guarded>));
    WEFT_TRY(weft_route(host, "GET", "/spawn", weft::handler<spawn_some>));
    WEFT_TRY(weft_route(host, "GET", "/hedge", weft::handler<hedge_one>));
    WEFT_TRY(weft_route(host, "GET", "/offload", weft::handler<offload_some>));
    WEFT_TRY(weft_route(host, "GET", "/post", weft::handler<post_one>));
    WEFT_TRY(
        weft_route_with(host, "POST", "/echo", weft::handler<echo_pieces>, nullptr, &streaming));
    WEFT_TRY(weft_route(host, "GET", "/throw-late", weft::handler<throw_late>));
    WEFT_TRY(weft_route(host, "GET", "/throw-at-once", weft::handler<throw_at_once>));
    WEFT_TRY(weft_route(host, "GET", "/throw-after-reply", weft::handler<throw_after_reply>));
    WEFT_TRY(weft_route(host, "GET", "/catch", weft::handler<catch_failure>));
    WEFT_TRY(weft_route(host, "GET", "/left-behind", weft::handler<leave_one_behind>));
    WEFT_TRY(weft_route(host, "GET", "/transaction", weft::handler<leave_transaction>));
    WEFT_TRY(weft_route(host, "GET", "/transact", weft::handler<transact_books>));
    WEFT_TRY(weft_route(host, "GET", "/lose", weft::handler<lose_books>));
    WEFT_TRY(weft_route(host, "GET", "/stream", weft::handler<stream_books>));
    WEFT_TRY(weft_route(host, "POST", "/copy", weft::handler<copy_books>));
    WEFT_TRY(weft_route(host, "GET", "/upload", weft::handler<upload_books>));
    WEFT_TRY(weft_route(host, "GET", "/news", weft::handler<hear_books>));
    WEFT_TRY(weft_route(host, "GET", "/alive", weft::handler<show_alive>));
    return weft_route_with(host, "GET", "/too-long", weft::handler<wait_too_long>, nullptr, &hasty);
}

weft_status find(weft_host *host, void **)
{
    weft_str fail;

    WEFT_TRY(library_find(host, &library));
    WEFT_TRY(weft_setting(host, "fail", "", &fail));
    if (weft::view(fail) == "throw")
        throw std::runtime_error("thrown by init");
    if (weft::view(fail) == "fail")
        throw weft::failure(WEFT_E_UNSUPPORTED);
    WEFT_TRY(weft_route(host, "GET", "/books", weft::handler<list_books>));
    WEFT_TRY(weft_route(host, "GET", "/books/:id", weft::handler<get_book>));
    WEFT_TRY(weft_route(host, "POST", "/books", weft::handler<add_book>));
    WEFT_TRY(weft_route(host, "GET", "/quote", weft::handler<get_quote>));
    WEFT_TRY(weft_route(host, "POST", "/books/import", weft::handler<import_book>));
    WEFT_TRY(weft_route(host, "POST", "/books/:id/announce", weft::handler<announce_book>));
    WEFT_TRY(weft_route(host, "GET", "/summary", weft::handler<get_summary>));
    return add_routes(host);
}

} /* namespace */

WEFT_PLUGIN("books_cpp", "1.0", weft::init<find>, nullptr, nullptr);
