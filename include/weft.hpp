/* weft.hpp - weft.h for C++20: handlers as coroutines, failures as exceptions, what must be let go
 * of as objects.
 *
 *     weft::task<> get_book(weft_ctx *ctx, void *)
 *     {
 *         weft_op *found = weft_run(ctx, db, book_by_id, WEFT_ARGS(weft_int(17)));
 *         co_await found;
 *         if (weft_rows(found) == 0)
 *             throw weft::failure(WEFT_E_NOT_FOUND);
 *         weft::check(weft_reply_row(ctx, 200, found));
 *     }
 *     ... weft_route(host, "GET", "/book", weft::handler<get_book>)
 *
 * No exception gets into the host from what it is handed through this header, and none may from a
 * function that it is handed as it is: weft::failure becomes its status, any other one a line in
 * the log with its what() and a 500. Neither await nor co_await may stand in a catch block or in a
 * destructor that an exception runs: other requests use the thread meanwhile, and the runtime's
 * record of exceptions with it.
 *
 * Threads: [loop], all of it but for weft::view() and weft::str().
 * Memory:  a coroutine's frame goes before its ctx ends: each op in it settles, and a co_await in a
 *          canceled ctx throws WEFT_E_CANCELED. So co_await only ops of the handler's ctx and of
 *          children of it: for another ctx's op nobody keeps the frame.
 * Since:   1.0.
 *
 * Header-only; g++ 11 or clang++ 14, and later. Link with -Wl,--version-script=plugin.map, which
 * lies in weft's cmake/ (installed: pkg-config --variable=pluginmap weft), so that one symbol is
 * exported, or use weft_plugin() of CMake; and with -static-libstdc++ for a host with sanitizers,
 * which wants no C++ library that comes later than it.
 */
#ifndef WEFT_HPP
#define WEFT_HPP

#include "weft.h"
#include <coroutine>
#include <cstddef>
#include <exception>
#include <new>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

namespace weft
{

/* ---- failures ------------------------------------------------------------------------------- */

/* A status that is no WEFT_OK, on its way to the host. */
class failure : public std::exception
{
  public:
    explicit failure(weft_status status) noexcept : status_(status) {}

    /* WEFT_E_.... [loop] */
    weft_status status() const noexcept { return status_; }

    /* weft_status_text() of it. [any] */
    const char *what() const noexcept override { return weft_status_text(status_); }

  private:
    weft_status status_;
};

/* Throws a failure unless `status` is WEFT_OK. [loop] */
inline void check(weft_status status)
{
    if (status != WEFT_OK)
        throw failure(status);
}

/* weft_await(), which throws a failure: in a handler that is no coroutine. [loop] */
inline void await(weft_op *op) { check(weft_await(op)); }

/* The bytes of `s`; none where it is absent. [any] */
inline std::string_view view(weft_str s) noexcept
{
    return s.ptr != nullptr ? std::string_view(s.ptr, s.len) : std::string_view();
}

/* `text` for a call; there is no NUL behind it, and it is not copied. [any] */
inline weft_str str(std::string_view text) noexcept
{
    return {text.data() != nullptr ? text.data() : "", text.size()};
}

/* ---- coroutines ----------------------------------------------------------------------------- */

template <typename Value = void> class task;

namespace detail
{

/* What a handler's or callback's coroutine is, as long as the ctx: in the ctx's memory. */
struct root {
    weft_ctx *ctx;                       /* of the request, or of the spawned one */
    task<void> *body;                    /* the outermost coroutine; NULL: it has ended */
    bool on_fiber = false;               /* of a spawn(): its fiber does the waiting */
    class op_awaiter *waiting = nullptr; /* what that fiber is to wait for */
};

/* Hands on to who waits, when a coroutine has ended. */
struct hand_back {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> ended) const noexcept
    {
        return ended.promise().waiter;
    }
    void await_resume() const noexcept {}
};

inline weft_status resume(weft_ctx *ctx, weft_op *op, void *data) noexcept;
inline void wait_on_fiber(root *origin);

/* Waits for an op in a coroutine; lives in its frame. */
class op_awaiter
{
  public:
    op_awaiter(weft_op *op, bool throws) noexcept : op_(op), throws_(throws) {}

    bool await_ready() const noexcept { return false; }

    template <typename Promise> bool await_suspend(std::coroutine_handle<Promise> here) noexcept
    {
        root_ = here.promise().origin;
        here_ = here;
        if (root_->on_fiber) {
            root_->waiting = this;
            return true;
        }
        status_ = weft_then(op_, resume, this);
        return status_ == WEFT_OK; /* else nobody would wake us: go on, with that status */
    }

    weft_status await_resume() const
    {
        if (throws_)
            check(status_);
        return status_;
    }

  private:
    friend weft_status resume(weft_ctx *ctx, weft_op *op, void *data) noexcept;
    friend void wait_on_fiber(root *origin);

    weft_op *op_;                       /* that is waited for */
    bool throws_;                       /* a status that is no WEFT_OK is thrown */
    weft_status status_ = WEFT_PENDING; /* what it settled with */
    root *root_ = nullptr;              /* of the coroutine that waits */
    std::coroutine_handle<> here_ = {}; /* the coroutine that waits */
};

/* An op whose status is wanted, not thrown. */
struct status_of {
    weft_op *op; /* to wait for */
};

/* A pull of a stream whose piece is wanted. */
struct piece_of {
    weft_op *op; /* to wait for */
};

/* Waits for one. */
class piece_awaiter : public op_awaiter
{
  public:
    explicit piece_awaiter(weft_op *pulled) noexcept : op_awaiter(pulled, true), pulled_(pulled) {}

    std::optional<std::string_view> await_resume() const
    {
        weft_str piece;

        (void)op_awaiter::await_resume();
        piece = weft_piece(pulled_);
        if (piece.ptr == nullptr)
            return std::nullopt;
        return std::string_view(piece.ptr, piece.len);
    }

  private:
    weft_op *pulled_;
};

/* What the promises of all tasks have. */
struct promise_base {
    std::coroutine_handle<> waiter = std::noop_coroutine(); /* goes on when this has ended */
    root *origin = nullptr;                                 /* set when it is started */
    std::exception_ptr failure;                             /* what it ended with */

    std::suspend_always initial_suspend() const noexcept { return {}; }
    hand_back final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept { failure = std::current_exception(); }

    op_awaiter await_transform(weft_op *op) noexcept { return {op, true}; }
    op_awaiter await_transform(status_of wanted) noexcept { return {wanted.op, false}; }
    piece_awaiter await_transform(piece_of wanted) noexcept { return piece_awaiter(wanted.op); }
    template <typename Value> task<Value> &&await_transform(task<Value> &&other) noexcept
    {
        return std::move(other);
    }
};

template <typename Value> struct promise : promise_base {
    std::optional<Value> value; /* what was returned */

    task<Value> get_return_object() noexcept;
    template <typename From> void return_value(From &&from)
    {
        value.emplace(std::forward<From>(from));
    }
    Value take() { return std::move(*value); }
};

template <> struct promise<void> : promise_base {
    task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() const noexcept {}
};

} /* namespace detail */

/* A coroutine that gives a Value: begins when it is awaited, and belongs to who holds it. What it
 * throws is thrown at the co_await. co_await takes an op, too, and throws a failure unless that
 * settles OK. */
template <typename Value> class [[nodiscard]] task
{
  public:
    using promise_type = detail::promise<Value>;

    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    task(task &&other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task &operator=(task &&) = delete;
    ~task()
    {
        if (frame_)
            frame_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> waiter) noexcept
    {
        frame_.promise().waiter = waiter;
        frame_.promise().origin = waiter.promise().origin;
        return frame_;
    }
    Value await_resume()
    {
        if (frame_.promise().failure)
            std::rethrow_exception(frame_.promise().failure);
        return frame_.promise().take();
    }

    /* For detail::run(): begins the outermost one. */
    void begin(detail::root *origin)
    {
        frame_.promise().origin = origin;
        frame_.resume();
    }

    /* For detail::outcome(): has it ended? */
    bool is_done() const noexcept { return frame_.done(); }

  private:
    std::coroutine_handle<promise_type> frame_;
};

/* co_await weft::status(op): its status, whatever it is. [loop] */
inline detail::status_of status(weft_op *op) noexcept { return {op}; }

/* co_await weft::piece(weft_body_read(ctx)), or of another pull: std::optional<std::string_view>,
 * nothing at the stream's end; throws a failure. Good until the next pull. [loop] */
inline detail::piece_of piece(weft_op *op) noexcept { return {op}; }

/* weft_write() of `bytes`: to be awaited. [loop] */
inline weft_op *write(weft_ctx *ctx, std::string_view bytes) noexcept
{
    return weft_write(ctx, str(bytes));
}

namespace detail
{

template <typename Value> task<Value> promise<Value>::get_return_object() noexcept
{
    return task<Value>(std::coroutine_handle<promise>::from_promise(*this));
}

inline task<void> promise<void>::get_return_object() noexcept
{
    return task<void>(std::coroutine_handle<promise>::from_promise(*this));
}

/* Calls `code`, which returns a status; what it throws becomes one, or a line and a 500. */
template <typename Code> weft_status guarded(weft_ctx *ctx, const Code &code) noexcept
{
    char text[256];

    try {
        return code();
    } catch (const failure &failed) {
        return failed.status();
    } catch (const std::exception &thrown) {
        snprintf(text, sizeof text, "%s", thrown.what());
    } catch (...) {
        snprintf(text, sizeof text, "of no known type");
    }
    weft_log(ctx, WEFT_LOG_ERROR, "an exception: %s", text);
    if (weft_why(ctx) != WEFT_WHY_REPLIED)
        (void)weft_problem(ctx, 500, nullptr);
    return WEFT_OK;
}

/* Lets go of a coroutine that has ended, or, when its ctx ends, of one that has not. */
inline void finish(void *data) noexcept
{
    root *origin = static_cast<root *>(data);

    if (origin->body != nullptr)
        std::exchange(origin->body, nullptr)->~task();
}

/* WEFT_OK while the coroutine waits; else what it ended with. */
inline weft_status outcome(root *origin)
{
    if (origin->body == nullptr || !origin->body->is_done())
        return WEFT_OK;
    struct end {
        root *origin; /* whose frame goes, whatever it ended with */
        ~end() { finish(origin); }
    } last = {origin};
    origin->body->await_resume();
    return WEFT_OK;
}

/* The op has settled: goes on where the coroutine waits. */
inline weft_status resume(weft_ctx *, weft_op *op, void *data) noexcept
{
    op_awaiter *awaiter = static_cast<op_awaiter *>(data);
    root *origin = awaiter->root_;

    awaiter->status_ = weft_op_status(op);
    return guarded(origin->ctx, [&] {
        awaiter->here_.resume();
        return outcome(origin);
    });
}

/* Waits in the coroutine's place, and goes on with it. */
inline void wait_on_fiber(root *origin)
{
    op_awaiter *awaiter = std::exchange(origin->waiting, nullptr);

    awaiter->status_ = weft_await(awaiter->op_);
    awaiter->here_.resume();
}

/* Calls `code`, which returns a status; what it throws becomes one, or a line in the log, which
 * names `where`. */
template <typename Code>
weft_status settled(weft_ctx *ctx, const char *where, const Code &code) noexcept
{
    try {
        return code();
    } catch (const failure &failed) {
        return failed.status();
    } catch (const std::exception &thrown) {
        weft_log(ctx, WEFT_LOG_ERROR, "an exception in %s: %s", where, thrown.what());
    } catch (...) {
        weft_log(ctx, WEFT_LOG_ERROR, "an exception in %s, of no known type", where);
    }
    return WEFT_E_STATE;
}

/* Begins a coroutine in `ctx`. */
inline weft_status run(weft_ctx *ctx, task<void> body)
{
    char *memory = static_cast<char *>(weft_alloc(ctx, sizeof(root) + sizeof(task<void>)));
    root *origin = new (memory) root{ctx, nullptr};

    check(weft_defer(ctx, finish, origin));
    origin->body = new (memory + sizeof(root)) task<void>(std::move(body));
    origin->body->begin(origin);
    return outcome(origin);
}

/* Runs a coroutine to its end, on the fiber of who calls. */
inline void run_on_fiber(weft_ctx *ctx, task<void> body)
{
    root origin = {ctx, nullptr, true};

    body.begin(&origin);
    while (!body.is_done())
        wait_on_fiber(&origin);
    body.await_resume();
}

template <auto fn> weft_status call(weft_ctx *ctx, void *self)
{
    if constexpr (std::is_same_v<decltype(fn(ctx, self)), weft_status>) {
        return fn(ctx, self);
    } else if constexpr (std::is_same_v<decltype(fn(ctx, self)), void>) {
        fn(ctx, self);
        return WEFT_OK;
    } else {
        return run(ctx, fn(ctx, self));
    }
}

} /* namespace detail */

/* A weft_handler of fn(weft_ctx *, void *), which is a task<>, or returns a weft_status or nothing:
 * for weft_route(), weft_post() and WEFT_PLUGIN()'s start. Not where somebody goes on when it
 * returns, which such a task does when it first waits: for weft_spawn() there is spawn() below, for
 * weft_filter() before(). [loop] */
template <auto fn> weft_status handler(weft_ctx *ctx, void *self) noexcept
{
    return detail::guarded(ctx, [&] { return detail::call<fn>(ctx, self); });
}

/* The `before` of a weft_filter() of the same functions: a task<> is waited for to its end, and the
 * request goes on only then. What is thrown is answered: a failure as its status, any other
 * exception with 500 and a line in the log. [loop] */
template <auto fn> weft_status before(weft_ctx *ctx, void *self) noexcept
{
    return detail::settled(ctx, "a filter's before()", [&]() -> weft_status {
        using result = decltype(fn(ctx, self));
        if constexpr (std::is_same_v<result, weft_status> || std::is_void_v<result>)
            return detail::call<fn>(ctx, self);
        else
            detail::run_on_fiber(ctx, fn(ctx, self));
        return WEFT_OK;
    });
}

/* A weft_transform_fn for weft_transform() of the same function, or of one that returns nothing:
 * what it throws breaks the answer off, any other exception than a failure with a line in the log.
 * [loop] */
template <auto fn>
weft_status transform(weft_ctx *ctx, void *data, weft_str in, uint32_t flags,
                      weft_str *out) noexcept
{
    return detail::settled(ctx, "a weft::transform()", [&]() -> weft_status {
        if constexpr (std::is_void_v<decltype(fn(ctx, data, in, flags, out))>)
            fn(ctx, data, in, flags, out);
        else
            return fn(ctx, data, in, flags, out);
        return WEFT_OK;
    });
}

/* An init() for WEFT_PLUGIN() of fn(weft_host *, void **), which returns a weft_status or nothing:
 * a failure becomes its status, any other exception a line in the log and WEFT_E_STATE. [loop] */
template <auto fn> weft_status init(weft_host *host, void **self) noexcept
{
    return detail::settled(nullptr, "init()", [&]() -> weft_status {
        if constexpr (std::is_same_v<decltype(fn(host, self)), void>)
            fn(host, self);
        else
            return fn(host, self);
        return WEFT_OK;
    });
}

/* ---- objects that let go -------------------------------------------------------------------- */

/* A Value in the ctx's memory, destroyed when the ctx ends; its destructor cannot wait. [loop] */
template <typename Value, typename... Arguments>
Value &make(weft_ctx *ctx, Arguments &&...arguments)
{
    static_assert(alignof(Value) <= alignof(std::max_align_t));
    Value *made = new (weft_alloc(ctx, sizeof(Value))) Value(std::forward<Arguments>(arguments)...);
    weft_status status = weft_defer(
        ctx, [](void *data) { static_cast<Value *>(data)->~Value(); }, made);

    if (status != WEFT_OK) {
        made->~Value();
        throw failure(status);
    }
    return *made;
}

/* A child ctx, ended with the object. */
class child
{
  public:
    /* As weft_child(); throws WEFT_E_STATE where that is NULL. [loop] */
    child(weft_ctx *ctx, uint32_t ms, uint32_t flags = 0) : ctx_(weft_child(ctx, ms, flags))
    {
        if (ctx_ == nullptr)
            throw failure(WEFT_E_STATE);
    }
    child(const child &) = delete;
    child &operator=(const child &) = delete;
    ~child() { (void)weft_end(ctx_); }

    /* The ctx. Good as long as the object. [loop] */
    weft_ctx *get() const noexcept { return ctx_; }

  private:
    weft_ctx *ctx_;
};

/* A transaction, rolled back with the object unless commit() was asked for. */
class transaction
{
  public:
    /* Of a weft_begin() that has settled OK. [loop] */
    explicit transaction(weft_op *begun) noexcept : begun_(begun) {}
    transaction(transaction &&other) noexcept : begun_(std::exchange(other.begun_, nullptr)) {}
    transaction &operator=(transaction &&) = delete;
    ~transaction()
    {
        if (begun_ != nullptr)
            (void)weft_op_release(begun_);
    }

    /* To run statements on. NULL once it has ended. [loop] */
    weft_pg *get() const noexcept { return begun_ != nullptr ? weft_tx(begun_) : nullptr; }

    /* As weft_commit(): to be awaited. [loop] */
    weft_op *commit() noexcept { return weft_commit(weft_tx(std::exchange(begun_, nullptr))); }

  private:
    weft_op *begun_;
};

/* co_await weft::begin(ctx, db): a transaction. [loop] */
inline task<transaction> begin(weft_ctx *ctx, weft_pg *db, uint32_t flags = 0)
{
    weft_op *begun = weft_begin(ctx, db, flags);

    co_await begun;
    co_return transaction(begun);
}

namespace detail
{

/* What a transact() runs. */
template <typename Code> struct attempt {
    Code &code;                /* the caller's */
    std::exception_ptr thrown; /* what it has thrown that is no failure */
};

template <typename Code> weft_status run_attempt(weft_ctx *run, weft_pg *tx, void *data) noexcept
{
    attempt<Code> *self = static_cast<attempt<Code> *>(data);

    try {
        using result = std::invoke_result_t<Code &, weft_ctx *, weft_pg *>;
        if constexpr (std::is_same_v<result, weft_status>)
            return self->code(run, tx);
        else if constexpr (std::is_void_v<result>)
            self->code(run, tx);
        else
            run_on_fiber(run, self->code(run, tx));
        return WEFT_OK;
    } catch (const failure &failed) {
        return failed.status();
    } catch (...) {
        self->thrown = std::current_exception();
    }
    return WEFT_E_STATE;
}

} /* namespace detail */

/* What transact() throws where the transaction may have been applied all the same, since the answer
 * to its COMMIT was lost. A handler that lets it through answers 500: its status is WEFT_E_DB where
 * it would be WEFT_E_DB_DOWN, whose 503 says to try again at once. */
class in_doubt : public failure
{
  public:
    explicit in_doubt(weft_status status) noexcept
        : failure(status == WEFT_E_DB_DOWN ? WEFT_E_DB : status)
    {
    }
};

/* weft_transact() of `code(run, tx)`, which is a task<>, or returns a weft_status or nothing; what
 * it throws rolls back, and is thrown on, unless it is a failure for which it is run again. Throws
 * in_doubt where weft_transact_told() would tell of that. Has come to its end when it returns: it
 * is called, also by a coroutine, not awaited.
 *
 *     weft::transact(ctx, db, 0, [&](weft_ctx *run, weft_pg *tx) -> weft::task<> {
 *         co_await weft_run(run, tx, take, WEFT_ARGS(weft_int(from)));
 *         co_await weft_run(run, tx, give, WEFT_ARGS(weft_int(to)));
 *     });
 * [loop] */
template <typename Code> void transact(weft_ctx *ctx, weft_pg *db, uint32_t flags, Code code)
{
    detail::attempt<Code> attempt = {code, nullptr};
    uint32_t maybe_applied;
    weft_status status =
        weft_transact_told(ctx, db, flags, detail::run_attempt<Code>, &attempt, &maybe_applied);

    if (attempt.thrown)
        std::rethrow_exception(attempt.thrown);
    if (maybe_applied != 0)
        throw in_doubt(status);
    check(status);
}

namespace detail
{

/* A stream's op, released with the object. */
class held
{
  public:
    explicit held(weft_op *opened) noexcept : opened_(opened) {}
    held(held &&other) noexcept : opened_(std::exchange(other.opened_, nullptr)) {}
    held &operator=(held &&) = delete;
    ~held()
    {
        if (opened_ != nullptr)
            (void)weft_op_release(opened_);
    }

    /* The stream itself, for weft_columns() and weft_affected(). [loop] */
    weft_op *stream() const noexcept { return opened_; }

  private:
    weft_op *opened_;
};

} /* namespace detail */

/* Rows, pulled page by page; given up with the object unless they were read to their end.
 *
 *     weft_op *opened = weft_stream(ctx, db, stmt, WEFT_NO_ARGS);
 *     weft::rows rows = co_await weft::stream(opened);
 *     while (co_await rows.next())
 *         for (uint32_t i = 0; i < weft_rows(rows.page()); i++)
 *             use(weft_col_text(rows.page(), i, 0));
 */
class rows : public detail::held
{
  public:
    /* Of a weft_stream() that has settled OK. [loop] */
    explicit rows(weft_op *opened) noexcept : held(opened) {}

    /* Pulls the next page; false: the end. Throws the stream's failure. [loop] */
    task<bool> next()
    {
        page_ = weft_stream_next(stream());
        co_await page_;
        co_return weft_rows(page_) > 0;
    }

    /* What next() has pulled, for weft_rows() and its like; good until the next one. [loop] */
    weft_op *page() const noexcept { return page_; }

  private:
    weft_op *page_ = nullptr;
};

/* What a COPY TO STDOUT brings, piece by piece; given up with the object unless it was read to its
 * end.
 *
 *     weft::copy_out books = co_await weft::stream<weft::copy_out>(
 *         weft_copy_out(ctx, db, "copy books to stdout"));
 *     while (co_await books.next())
 *         use(weft::view(books.piece()));
 */
class copy_out : public detail::held
{
  public:
    /* Of a weft_copy_out() that has settled OK. [loop] */
    explicit copy_out(weft_op *opened) noexcept : held(opened) {}

    /* Pulls the next piece; false: the end. Throws the stream's failure. [loop] */
    task<bool> next()
    {
        weft_op *read = weft_copy_read(stream());

        co_await read;
        piece_ = weft_piece(read);
        co_return piece_.ptr != nullptr;
    }

    /* What next() has pulled; good until the next one. [loop] */
    weft_str piece() const noexcept { return piece_; }

  private:
    weft_str piece_ = {nullptr, 0};
};

/* A COPY FROM STDIN to write to; without end(), nothing of it has happened. */
class copy_in : public detail::held
{
  public:
    /* Of a weft_copy_in() that has settled OK. [loop] */
    explicit copy_in(weft_op *opened) noexcept : held(opened) {}

    /* As weft_copy_write(): to be awaited. [loop] */
    weft_op *write(weft_str bytes) noexcept { return weft_copy_write(stream(), bytes); }

    /* As weft_copy_end(): to be awaited. [loop] */
    weft_op *end() noexcept { return weft_copy_end(stream()); }
};

/* What is notified, until the object goes.
 *
 *     weft::notifications orders = co_await weft::stream<weft::notifications>(
 *         weft_listen(ctx, db, "orders"));
 *     for (;;) {
 *         if (co_await orders.next())
 *             use(weft::view(orders.payload()));
 *         else
 *             co_await read_all_anew();
 *     }
 */
class notifications : public detail::held
{
  public:
    /* Of a weft_listen() that has settled OK. [loop] */
    explicit notifications(weft_op *listening) noexcept : held(listening) {}

    /* Waits for the next one; false: some may have been missed. [loop] */
    task<bool> next()
    {
        weft_op *next = weft_listen_next(stream());

        co_await next;
        payload_ = weft_piece(next);
        co_return payload_.ptr != nullptr;
    }

    /* What next() has brought; good until the next one. [loop] */
    weft_str payload() const noexcept { return payload_; }

  private:
    weft_str payload_ = {nullptr, 0};
};

/* co_await weft::stream(opened), what weft_stream() has returned: its rows; copy_out, copy_in or
 * notifications of what weft_copy_out(), weft_copy_in() or weft_listen() has. [loop] */
template <typename Stream = rows> inline task<Stream> stream(weft_op *opened)
{
    co_await opened;
    co_return Stream(opened);
}

/* A call with its bodies in pieces; given up with the object unless the answer was read to its end.
 *
 *     weft::call_stream answer = co_await weft::stream_call(weft_call_stream(ctx, partner, &call));
 *     while (co_await answer.next())
 *         use(answer.piece());
 */
class call_stream
{
  public:
    /* Of a weft_call_stream(), whether it has settled or not. [loop] */
    explicit call_stream(weft_op *opened) noexcept : opened_(opened) {}
    call_stream(call_stream &&other) noexcept
        : opened_(std::exchange(other.opened_, nullptr)), pulled_(other.pulled_)
    {
    }
    call_stream &operator=(call_stream &&) = delete;
    ~call_stream()
    {
        if (opened_ == nullptr)
            return;
        weft_op_cancel(opened_);
        (void)weft_op_release(opened_);
    }

    /* As weft_call_write(), of WEFT_CALL_UPLOAD: to be awaited. [loop] */
    weft_op *write(std::string_view bytes) noexcept { return weft_call_write(opened_, str(bytes)); }

    /* To be awaited, once: the answer's head. [loop] */
    weft_op *answered() const noexcept { return opened_; }

    /* Pulls the next piece of the answer; false: the end. Throws a failure. [loop] */
    task<bool> next()
    {
        pulled_ = weft_call_read(opened_);
        co_await pulled_;
        co_return weft_piece(pulled_).ptr != nullptr;
    }

    /* What next() has pulled; good until the next one. [loop] */
    std::string_view piece() const noexcept
    {
        weft_str piece = weft_piece(pulled_);

        return piece.ptr != nullptr ? std::string_view(piece.ptr, piece.len) : std::string_view();
    }

    /* The stream itself, for weft_call_code(), weft_call_write_end() and their like. [loop] */
    weft_op *get() const noexcept { return opened_; }

  private:
    weft_op *opened_;
    weft_op *pulled_ = nullptr;
};

/* co_await weft::stream_call(opened), what weft_call_stream() has returned, once its head is there:
 * for calls without an upload. [loop] */
inline task<call_stream> stream_call(weft_op *opened)
{
    co_await opened;
    co_return call_stream(opened);
}

/* co_await weft::pull(weft_body_read(ctx)): the piece that a pull of a stream brings, absent at the
 * stream's end; good until the next pull. Throws the pull's failure. [loop] */
inline task<weft_str> pull(weft_op *op)
{
    co_await op;
    co_return weft_piece(op);
}

/* ---- several at once ------------------------------------------------------------------------ */

/* weft_all() of these ops. [loop] */
template <typename... Ops> weft_op *all(weft_ctx *ctx, Ops... ops) noexcept
{
    weft_op *const list[] = {ops..., nullptr};

    return weft_all(ctx, sizeof...(ops), list);
}

/* weft_any() of these ops. [loop] */
template <typename... Ops> weft_op *any(weft_ctx *ctx, Ops... ops) noexcept
{
    weft_op *const list[] = {ops..., nullptr};

    return weft_any(ctx, sizeof...(ops), list);
}

/* weft_race() of these ops. [loop] */
template <typename... Ops> weft_op *race(weft_ctx *ctx, Ops... ops) noexcept
{
    weft_op *const list[] = {ops..., nullptr};

    return weft_race(ctx, sizeof...(ops), list);
}

namespace detail
{

template <typename Code> weft_op *start_second(weft_ctx *ctx, void *data) noexcept
{
    weft_op *second = nullptr;

    (void)settled(ctx, "the second of a hedge", [&] {
        second = (*static_cast<Code *>(data))(ctx);
        return WEFT_OK;
    });
    return second;
}

template <typename Code> weft_status run_spawned(weft_ctx *child, void *data) noexcept
{
    return settled(child, "a weft::spawn()", [&]() -> weft_status {
        Code &code = *static_cast<Code *>(data); /* stays as long as its coroutine */

        using result = std::invoke_result_t<Code &, weft_ctx *>;
        if constexpr (std::is_same_v<result, weft_status>)
            return code(child);
        else if constexpr (std::is_void_v<result>)
            code(child);
        else
            run_on_fiber(child, code(child));
        return WEFT_OK;
    });
}

template <typename Code, typename Value> struct work {
    explicit work(Code &&given) : code(std::move(given)) {}

    Code code;
    std::optional<Value> value = std::nullopt; /* what it returned */
};

template <typename Code> struct work<Code, void> {
    explicit work(Code &&given) : code(std::move(given)) {}

    Code code;
};

template <typename Code, typename Value> weft_status run_work(void *data) noexcept
{
    return settled(nullptr, "a weft::offload()", [&] {
        work<Code, Value> *self = static_cast<work<Code, Value> *>(data);

        if constexpr (std::is_void_v<Value>)
            self->code();
        else
            self->value.emplace(self->code());
        return WEFT_OK;
    });
}

} /* namespace detail */

/* weft_hedge() whose second op is what `code(ctx)` returns: a lambda, say, kept in the ctx. One
 * that throws has none. [loop] */
template <typename Code> weft_op *hedge(weft_ctx *ctx, weft_op *first, uint32_t ms, Code code)
{
    Code &kept = make<Code>(ctx, std::move(code));

    return weft_hedge(ctx, first, ms, detail::start_second<Code>, &kept);
}

/* weft_spawn() of `code(child)`, which is a task<>, or returns a weft_status or nothing; the op has
 * settled when that has come to its end, with the failure that it threw, or WEFT_E_STATE and a line
 * in the log for any other exception. `code` may be a lambda that captures, also where it is a
 * coroutine: it is kept in the ctx.
 *
 *     weft_op *slept = weft::spawn(ctx, [&](weft_ctx *child) -> weft::task<> {
 *         co_await weft_sleep(child, 10);
 *     });
 *     co_await weft::all(ctx, slept, weft_call_get(ctx, api, "/quote"));
 * [loop] */
template <typename Code> weft_op *spawn(weft_ctx *ctx, Code code)
{
    Code &kept = make<Code>(ctx, std::move(code));

    return weft_spawn(ctx, detail::run_spawned<Code>, &kept);
}

/* What an offload() returns: the op, to be awaited or put into a group, and what the work gave. */
template <typename Value> struct offloaded {
    weft_op *op; /* settles when the work has returned; what it threw as spawn()'s */
    std::optional<Value> *value; /* where get() finds it; lives as long as the ctx */

    /* What the work returned; throws the op's failure. Once the op has settled. [loop] */
    Value &get() const
    {
        check(weft_op_status(op));
        return **value;
    }
};

/* The same of work that returns nothing. */
template <> struct offloaded<void> {
    weft_op *op; /* the same */
};

/* weft_offload() of `code()`, which may block, on another thread: it calls nothing of the host's
 * but what is [any], and what it captures by reference must live as long as the ctx. [loop] */
template <typename Code> auto offload(weft_ctx *ctx, Code code)
{
    using value = std::invoke_result_t<Code &>;
    auto &kept = make<detail::work<Code, value>>(ctx, std::move(code));
    weft_op *op = weft_offload(ctx, detail::run_work<Code, value>, &kept);

    if constexpr (std::is_void_v<value>)
        return offloaded<void>{op};
    else
        return offloaded<value>{op, &kept.value};
}

} /* namespace weft */

#endif
