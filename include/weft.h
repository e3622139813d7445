/* weft.h - the plugin ABI of weft, version 1.0 (draft). This is its manual: read on.
 *
 * A plugin is a shared object with one exported symbol, made by WEFT_PLUGIN(). It reaches the host
 * through tables of functions, one a room, append-only for ever; plugin code calls the inline
 * functions (weft_...) and imports nothing from the host. One that is whole:
 *
 *     #include "weft.h"
 *
 *     static weft_status greet(weft_ctx *ctx, void *self)
 *     {
 *         (void)self;
 *         WEFT_TRY(weft_await(weft_sleep(ctx, 10)));
 *         return weft_reply_text(ctx, 200, "Hello!");
 *     }
 *
 *     static weft_status init(weft_host *host, void **self)
 *     {
 *         (void)self;
 *         return weft_route(host, "GET", "/greet", greet);
 *     }
 *
 *     WEFT_PLUGIN("greet", "1.0", init, NULL, NULL);
 *
 * The README says how to build and list it. init() runs once in each worker; then a handler runs
 * for each request, starts operations (ops) and waits for them, while its worker serves others, and
 * replies, or returns why not.
 *
 * Threads:  [init] only from init(); [loop] only on the worker's loop, where init(), handlers,
 *           callbacks and clean-ups run; [any] from any thread.
 * Memory:   the host copies every input before a call returns. What it returns lives until its ctx
 *           ends (a setting: until the worker ends), a result at most until weft_op_release(). A
 *           plugin never frees anything of the host's.
 * Strings:  every weft_str from the host has a NUL behind it; absent, and SQL NULL, is ptr == NULL.
 *           Text from clients, databases and upstreams may have a NUL within, too.
 * Handles:  pointers to weft_host, weft_ctx, weft_op, weft_pg, weft_stmt and weft_upstream are
 *           numbers in fact: slot and generation, checked at every use. A stale one, NULL among
 *           them, is never followed: the host logs it with the plugin's name and answers
 *           WEFT_E_STATE, or an empty value where the call returns no status.
 * Mistakes: what a plugin does wrong with them is answered and logged, not fatal: a stale handle, a
 *           call from another thread or at the wrong time, a second reply. Addresses (of texts,
 *           options, functions) and sizes must be right: the host cannot check them.
 * Time:     milliseconds; 0 is the default.
 * Since:    1.0, where a comment says no later minor.
 *
 * Chapters: here the nouns, the statuses, settings and routes, scopes (ctx) and ops; weft_http.h,
 *           weft_filter.h, weft_pg.h and weft_call.h, which this header includes, have requests and
 *           replies, filters, databases and upstreams. Made of these, for who includes them:
 *           weft_web.h, weft_json.h, weft_jansson.h, weft_multipart.h and weft_sse.h; weft.hpp for
 *           C++20; weft_test.h for unit tests.
 *
 * C99 or later, C++11 or later; gcc or clang.
 */
#ifndef WEFT_H
#define WEFT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Plain digits: the ELF note is made of them. */
#define WEFT_ABI_MAJOR 1
#define WEFT_ABI_MINOR 0 /* the newest that this header describes */
#ifndef WEFT_ABI_TARGET
/* The minor that this plugin needs; newer calls stay hidden until it is raised. */
#define WEFT_ABI_TARGET 0
#endif
#if WEFT_ABI_TARGET > WEFT_ABI_MINOR
#error "WEFT_ABI_TARGET: this weft.h is older than what the plugin needs"
#endif
#define WEFT_MUST_USE __attribute__((__warn_unused_result__))
#define WEFT_PRINTF(text, args) \
    __attribute__((__format__(__printf__, text, args), __nonnull__(text)))

/* ---- nouns ----------------------------------------------------------------------------------- */

/* One configured instance of the plugin: a section of the ini file. Good during init() only. */
typedef struct weft_host weft_host;
/* A scope: memory, deadline, cancel, the ops in it, perhaps a request. Good until it has ended. */
typedef struct weft_ctx weft_ctx;
/* One asynchronous operation: settles exactly once. Good until its ctx ends or it is released. */
typedef struct weft_op weft_op;
/* A database to run statements on: a pool by its name in the ini file (good as long as the plugin),
 * or a transaction (as long as the op that began it). */
typedef struct weft_pg weft_pg;
/* A statement declared at init: prepared, named in metrics. Good as long as the plugin. */
typedef struct weft_stmt weft_stmt;
/* An HTTP upstream by its name in the ini file. Good as long as the plugin. */
typedef struct weft_upstream weft_upstream;
/* Where threads of the plugin's own leave work for the loop. An address, not a handle: good until
 * fini() has returned, by when those threads have ended. */
typedef struct weft_inbox weft_inbox;

/* Bytes that somebody else owns. Frozen. */
typedef struct weft_str {
    const char *ptr; /* the first byte; NULL: absent */
    size_t len;      /* bytes, the NUL behind them not counted */
} weft_str;

/* Initializes a weft_str from a literal: static const weft_str unit = WEFT_S("kg"); */
/* clang-format off */
#define WEFT_S(literal) {"" literal, sizeof(literal) - 1}
/* clang-format on */

/* A header field. Frozen. */
typedef struct weft_field {
    weft_str name;  /* compared without case */
    weft_str value; /* without blanks around it */
} weft_field;

/* Options: a struct that begins with its `size`, which is to be set; zero is the default of all
 * else. The host takes shorter and longer ones, but a longer one only where what it does not know
 * is zero; else, and where the size is 0: WEFT_E_UNSUPPORTED. Each stands beside its function. */
typedef struct weft_route_options weft_route_options;
typedef struct weft_filter_options weft_filter_options;
typedef struct weft_call weft_call;
typedef struct weft_reply_options weft_reply_options;
typedef struct weft_file weft_file;

/* A parameter of a statement: see weft_pg.h. */
typedef struct weft_value weft_value;

/* ---- status: what a handler returns, and what the client then gets -------------------------- */

/* 0 or one of the codes below; new ones are appended, the hundreds are the class. */
typedef int32_t weft_status;
#define WEFT_OK      0
#define WEFT_PENDING 1 /* of an op that has not settled */
/* 1xx: the plugin */
#define WEFT_E_INVALID     (-101) /* 500: a wrong argument */
#define WEFT_E_STATE       (-102) /* 500: second reply, stale handle, wrong place or thread */
#define WEFT_E_UNSUPPORTED (-103) /* 500: this host cannot do that */
/* 2xx: given up */
#define WEFT_E_CANCELED (-201) /* nobody waits any more (499 in the log); see weft_why() */
#define WEFT_E_DEADLINE (-202) /* 504: the budget is used up */
#define WEFT_E_OVERLOAD (-203) /* 503, Retry-After: shed */
/* 3xx: the database */
#define WEFT_E_DB_BUSY       (-301) /* 503, Retry-After: queue full, or waited too long */
#define WEFT_E_DB_DOWN       (-302) /* 503, Retry-After: no session, or it broke */
#define WEFT_E_DB            (-303) /* 500: the statement failed, see weft_sqlstate() */
#define WEFT_E_DB_CONSTRAINT (-304) /* 409: SQLSTATE class 23 */
#define WEFT_E_DB_RETRY      (-305) /* 503, Retry-After: run the transaction again */
#define WEFT_E_DB_VALUE      (-306) /* 400: 22P02, 22P04, 22003, 22007, 22008, 22021 */
/* 4xx: an upstream */
#define WEFT_E_UP_BUSY    (-401) /* 503, Retry-After: a limit was reached */
#define WEFT_E_UP_CONNECT (-402) /* 502: its name or its port does not answer */
#define WEFT_E_UP_RESET   (-403) /* 502: it broke off, or broke the protocol */
#define WEFT_E_UP_TIMEOUT (-404) /* 504: it was too slow */
#define WEFT_E_UP_TOO_BIG (-405) /* 502: its answer is larger than the limit */
/* 5xx: the client */
#define WEFT_E_BAD_REQUEST (-501) /* 400: see weft_explain() */
#define WEFT_E_NOT_FOUND   (-502) /* 404 */
#define WEFT_E_TOO_BIG     (-503) /* 413 */
#define WEFT_E_TOO_SLOW    (-504) /* 408: its body does not come */

/* ---- functions of the plugin ----------------------------------------------------------------
 *
 * WEFT_PLUGIN(name, version, init, start, fini); once, at the end of a source file, makes a plugin
 * of three functions:
 *
 *     weft_status init(weft_host *host, void **self)
 *         Once in each worker for each section of the ini file that lists the plugin; statics are
 *         the instance's own. Finds settings, pools and upstreams, declares statements, adds
 *         routes; cannot wait. `*self` is then what handlers get. Not 0: the plugin is refused,
 *         what it registered is taken back.
 *     weft_status start(weft_ctx *background, void *self), or NULL
 *         Begins jobs of its own in `background`, a ctx without a deadline that is canceled and
 *         awaited when the worker ends. May wait; not 0 without having waited stops the worker's
 *         start.
 *     void fini(void *self), or NULL
 *         Lets go of `self`, once every ctx has ended; not where init() failed. Cannot wait.
 *
 * Others are handed to the host by address: */

/* Serves a request, on a stack of its own (128 KiB: fiber_stack of server.ini; large arrays belong
 * into weft_alloc()), so that it may wait. `self` is what was given with the route, or what init()
 * made. Not 0: the host answers as the table above says, as application/problem+json, unless a
 * reply was sent. [loop] */
typedef weft_status weft_handler(weft_ctx *ctx, void *self);

/* Told that `op` settled, whatever its status; never from inside the call that took it; may wait.
 * `ctx` is the op's. What it returns counts as a handler's. [loop] */
typedef weft_status weft_then_fn(weft_ctx *ctx, weft_op *op, void *data);

/* Lets go of `data`; cannot wait. [loop] */
typedef void weft_cleanup_fn(void *data);

/* Work that blocks, on a thread of the host's: calls nothing of the host's but what is [any]. What
 * it returns is its op's status. [any] */
typedef weft_status weft_work_fn(void *data);

/* Starts an op, of `ctx` or of the same request, and returns it; may wait. NULL: there is none. Who
 * wants its result notes it in `data`. [loop] */
typedef weft_op *weft_start_fn(weft_ctx *ctx, void *data);

/* Changes an answer's body on its way out (weft_transform()): `*out` is sent in the place of `in`,
 * whose `flags` are WEFT_PIECE_...; it may be empty, and is to stay until the next call. Runs once
 * a piece, in their order; cannot wait. Not WEFT_OK: the answer is broken off. [loop] */
typedef weft_status weft_transform_fn(weft_ctx *ctx, void *data, weft_str in, uint32_t flags,
                                      weft_str *out);

/* How these functions reach the host: the tables, and the descriptor with WEFT_PLUGIN(). */
#include "weft_tables.h"

/* ---- small helpers: no call of the host ------------------------------------------------------ */

/* Hands a failure on: WEFT_TRY(weft_await(op)); returns from the function unless it is WEFT_OK. */
#define WEFT_TRY(call)                     \
    do {                                   \
        weft_status weft_status_ = (call); \
        if (weft_status_ != WEFT_OK)       \
            return weft_status_;           \
    } while (0)

/* A C string as a weft_str; absent for NULL. [any] */
static inline weft_str weft_cstr(const char *text)
{
    weft_str s;
    s.ptr = text;
    s.len = text != NULL ? strlen(text) : 0;
    return s;
}

/* Are the bytes the same? Absent equals nothing but absent. [any] */
static inline int weft_equal(weft_str a, weft_str b)
{
    return (a.ptr == NULL) == (b.ptr == NULL) && a.len == b.len &&
           (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ---- at init: what fails is told with the ini file's line and the reason, when init() hands the
 * status on ------------------------------------------------------------------------------------ */

/* Of a route. */
struct weft_route_options {
    uint32_t size;           /* sizeof(weft_route_options) */
    uint32_t flags;          /* WEFT_ROUTE_... */
    uint32_t timeout_ms;     /* the request's whole budget, queues included; 0: the host's. For
                              * streams see weft_http.h */
    uint32_t body_bytes_max; /* of the request's body; more: 413; 0: the host's; UINT32_MAX: none */
    uint32_t requests_max; /* under way at once in a worker; more: 503; 0: the host's limit alone */
};

/* The handler runs as soon as the head is there, and reads the body with weft_body_read(). */
#define WEFT_ROUTE_STREAM 1u
/* The client's leaving does not cancel the handler. */
#define WEFT_ROUTE_FINISH 2u
/* Served whatever the load: limits of requests and shed_after of server.ini do not count. For what
 * says how well a service is, and costs next to nothing. */
#define WEFT_ROUTE_VITAL 4u

/* Adds a route: `pattern` is segments, each exact, `:param` (one segment, not empty) or, as the
 * last, `*rest`; the instance's mount goes before it, and "" is the mount itself ("/" without
 * one). Exact goes before `:param` before `*rest`; HEAD is implied by GET. `self` is for the
 * handler, NULL: what init() made. `options` may be NULL. WEFT_E_INVALID: no pattern or method, or
 * the route is taken (also by another plugin). [init] */
static inline WEFT_MUST_USE weft_status weft_route_with(weft_host *host, const char *method,
                                                        const char *pattern, weft_handler *handler,
                                                        void *self,
                                                        const weft_route_options *options)
{
    return weft__api->core->route(host, method, pattern, handler, self, options);
}

/* The same with default options. [init] */
static inline WEFT_MUST_USE weft_status weft_route(weft_host *host, const char *method,
                                                   const char *pattern, weft_handler *handler)
{
    return weft__api->core->route(host, method, pattern, handler, NULL, NULL);
}

/* The instance's name: "shop" of [plugin.shop]; never empty. Lives as long as the plugin. [init] */
static inline weft_str weft_instance(weft_host *host) { return weft__api->core->instance(host); }

/* The text of `key` in the instance's section, or `fallback`; NULL: the key is required. Keys
 * `path`, `mount`, `required` and host_... are the host's: WEFT_E_INVALID. Lives as long as the
 * plugin. [init] */
static inline WEFT_MUST_USE weft_status weft_setting(weft_host *host, const char *key,
                                                     const char *fallback, weft_str *value)
{
    return weft__api->core->setting(host, key, fallback, value);
}

/* The whole number of `key`, or `fallback` where the key is not there. WEFT_E_INVALID: none from
 * `min` to `max`, or a key of the host's. [init] */
static inline WEFT_MUST_USE weft_status weft_setting_int(weft_host *host, const char *key,
                                                         int64_t min, int64_t max, int64_t fallback,
                                                         int64_t *value)
{
    return weft__api->core->setting_int(host, key, min, max, fallback, value);
}

/* `key` as on, off, yes or no: 1 or 0; `fallback` where it is not there. WEFT_E_INVALID: another
 * word, or a key of the host's. [init] */
static inline WEFT_MUST_USE weft_status weft_setting_bool(weft_host *host, const char *key,
                                                          uint32_t fallback, uint32_t *value)
{
    return weft__api->core->setting_bool(host, key, fallback, value);
}

/* The instance's one inbox, for weft_post(). WEFT_E_INVALID: `inbox` is NULL. [init] */
static inline WEFT_MUST_USE weft_status weft_open_inbox(weft_host *host, weft_inbox **inbox)
{
    return weft__api->core->open_inbox(host, inbox);
}

/* `bytes` of memory that all workers share, those after a reload too, under a name that is the
 * whole host's: the same name and size is the same memory, zeroed at first, aligned to 64. Use it
 * with atomic operations; a worker may die at any point of what it does there. `*memory` is good as
 * long as the plugin. WEFT_E_INVALID: no name, one of more than 63 bytes,
 * or no size; WEFT_E_OVERLOAD: [server] shared_memory is used up. [init] */
static inline WEFT_MUST_USE weft_status weft_shared(weft_host *host, const char *name, size_t bytes,
                                                    void **memory)
{
    return weft__api->core->shared(host, name, bytes, memory);
}

/* ---- anywhere ------------------------------------------------------------------------------- */

/* Levels of weft_log(). */
enum { WEFT_LOG_ERROR, WEFT_LOG_WARN, WEFT_LOG_INFO, WEFT_LOG_DEBUG };

/* The last level that is written, WEFT_LOG_ERROR to WEFT_LOG_DEBUG. [any] */
static inline uint32_t weft_log_level(void) { return weft__api->core->log_level(); }

/* A line in the error log, printf's way, at most 2,047 bytes; the host adds plugin, route and
 * request id. `ctx` may be NULL, and must be on other threads than the loop's, where the line names
 * the plugin alone. [any] */
WEFT_PRINTF(3, 4)
static inline void weft_log(weft_ctx *ctx, uint32_t level, const char *format, ...)
{
    char text[2048];
    va_list args;

    if (level > weft_log_level())
        return;
    va_start(args, format);
    weft__api->core->log(ctx, level, weft__print(text, sizeof text, format, args));
    va_end(args);
}

/* Has `fn(background, data)` run on the loop, after start(), in the ctx that start() gets (there is
 * one without a start(), too); it may wait. WEFT_E_STATE: the plugin stops: neither this nor what
 * still waits will run; WEFT_E_OVERLOAD: 1,024 wait or run; WEFT_E_INVALID: no `fn`. [any] */
static inline WEFT_MUST_USE weft_status weft_post(weft_inbox *inbox, weft_handler *fn, void *data)
{
    return weft__api->core->post(inbox, fn, data);
}

/* A status in words: constant, never NULL, also for a code that the host does not know. [any] */
static inline const char *weft_status_text(weft_status status)
{
    return weft__api->core->status_text(status);
}

/* ---- a ctx: a scope, with memory, a deadline and the ops that were started in it. A request has
 * one, a plugin's own jobs have one (start()), and each may have children. Once it is canceled, for
 * whatever reason, every op in it settles, with WEFT_E_CANCELED or WEFT_E_DEADLINE, and so does
 * each that is started from then on: a handler that hands failures on comes to its end by itself
 * (one that does not is held up at each wait, so that others have their turns). It ends, with its
 * clean-ups and its memory, when nothing in it runs any more ----------------------------------- */

/* Why a ctx was canceled: weft_why(). */
enum {
    WEFT_WHY_NONE,        /* it was not */
    WEFT_WHY_CLIENT_GONE, /* the client left */
    WEFT_WHY_DEADLINE,    /* its budget is used up */
    WEFT_WHY_SIBLING,     /* of a weft_spawn() in a group: it lost, or another one failed */
    WEFT_WHY_EXPLICIT,    /* weft_cancel() or weft_end() */
    WEFT_WHY_REPLIED,     /* the reply was sent */
    WEFT_WHY_SHUTDOWN,    /* the worker ends */
    WEFT_WHY_MEMORY,      /* it took more memory than its limit */
    WEFT_WHY_ENDED        /* it is no more: a stale ctx */
};

/* Of a child ctx: its parent's being canceled does not cancel it, and its budget is its own. */
#define WEFT_CHILD_SHIELD 1u
/* Of a child ctx: where one op of a weft_all() in it fails, the others go on. */
#define WEFT_CHILD_SUPERVISE 2u

/* `bytes` zeroed bytes, aligned for any type, that live until the ctx ends. Never NULL. Beyond
 * 16 MiB in a request's ctx and its children, this succeeds and the request is canceled
 * (WEFT_WHY_MEMORY); beyond 64 MiB in any ctx and its children the worker aborts, and its log names
 * plugin and route: compare sizes from outside with a limit of your own first. Ops and children
 * count (a child some 5 KiB), so a loop without end releases them. What the host makes for you
 * never aborts: results as JSON and copies of parameters are then not made, results that are kept
 * go to 64 MiB, and the ctx is canceled. [loop] */
static inline void *weft_alloc(weft_ctx *ctx, size_t bytes)
{
    return weft__api->core->alloc(ctx, bytes);
}

/* A text made printf's way, in the ctx's memory. Never absent. [loop] */
WEFT_PRINTF(2, 3)
static inline weft_str weft_fmt(weft_ctx *ctx, const char *format, ...)
{
    weft_str made;
    va_list args;
    size_t size;
    char *text;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size = len < 0 ? 1 : (size_t)len + 1;
    text = (char *)weft_alloc(ctx, size);
    va_start(args, format);
    made = weft__print(text, size, format, args);
    va_end(args);
    return made;
}

/* A copy of the text in the ctx's memory, with a NUL behind it; absent stays absent. [loop] */
static inline weft_str weft_dup(weft_ctx *ctx, weft_str s)
{
    if (s.ptr != NULL) {
        char *text = (char *)weft_alloc(ctx, s.len + 1);
        memcpy(text, s.ptr, s.len);
        s.ptr = text;
    }
    return s;
}

/* Has `fn(data)` run when the ctx ends, the newest first: for what was not allocated here. It
 * cannot wait. WEFT_E_STATE: the ctx is stale, and `fn` will not run; WEFT_E_INVALID: no `fn`.
 * [loop] */
static inline WEFT_MUST_USE weft_status weft_defer(weft_ctx *ctx, weft_cleanup_fn *fn, void *data)
{
    return weft__api->core->defer(ctx, fn, data);
}

/* A child: memory, deadline (the sooner of `ms` from now and the parent's; 0: the parent's) and ops
 * of its own; canceled with its parent, which does not end before it. With WEFT_CHILD_SHIELD its
 * parent's end only lets it finish within `ms`, which must be above 0 then. End it with weft_end();
 * else it ends with its parent. NULL for a stale `ctx`, one that is ending, unknown flags or a
 * shield without time. [loop] */
static inline weft_ctx *weft_child(weft_ctx *ctx, uint32_t ms, uint32_t flags)
{
    return weft__api->core->child(ctx, ms, flags);
}

/* Lets go of a child: what runs in it is canceled, its memory goes when that has stopped.
 * WEFT_E_STATE: it is no child, or was ended. [loop] */
static inline weft_status weft_end(weft_ctx *child) { return weft__api->core->end(child); }

/* For the next `ms` the client's leaving does not cancel: "charged, now finish". WEFT_E_STATE: the
 * ctx is stale. [loop] */
static inline weft_status weft_shield(weft_ctx *ctx, uint32_t ms)
{
    return weft__api->core->shield(ctx, ms);
}

/* Cancels it, with WEFT_WHY_EXPLICIT; nothing changes where it was canceled already. [loop] */
static inline void weft_cancel(weft_ctx *ctx) { weft__api->core->cancel(ctx); }

/* Why it was canceled, WEFT_WHY_...; WEFT_WHY_NONE: it was not. WEFT_WHY_ENDED for a stale one.
 * [loop] */
static inline uint32_t weft_why(weft_ctx *ctx) { return weft__api->core->why(ctx); }

/* Milliseconds left of its budget; 0: used up; -1: it has none. [loop] */
static inline int64_t weft_budget_ms(weft_ctx *ctx) { return weft__api->core->budget_ms(ctx); }

/* ---- an op: something that takes time. It settles exactly once: OK, failed or canceled. Starting
 * one never fails: what fails at once is an op that has already settled. A stale ctx, which cannot
 * have one, gives NULL, and that answers as a stale op. An op has one consumer, weft_then() or
 * weft_await(); a group that it is in does not count ------------------------------------------- */

/* Has `fn(ctx, op, data)` run once it has settled, in the op's ctx. WEFT_E_STATE: it has a consumer
 * already; WEFT_E_INVALID: no `fn`. [loop] */
static inline WEFT_MUST_USE weft_status weft_then(weft_op *op, weft_then_fn *fn, void *data)
{
    return weft__api->core->then(op, fn, data);
}

/* Waits until it has settled and returns its status; other requests are served meanwhile.
 * WEFT_E_STATE: it has a consumer already, is of another request, or nothing can wait here (init(),
 * a clean-up, a filter's after()). [loop] */
static inline WEFT_MUST_USE weft_status weft_await(weft_op *op)
{
    return weft__api->core->await(op);
}

/* Its status; WEFT_PENDING while it runs. [loop] */
static inline WEFT_MUST_USE weft_status weft_op_status(weft_op *op)
{
    return weft__api->core->op_status(op);
}

/* What went wrong, for a log: the database's or the host's message; absent where there is none.
 * [loop] */
static inline weft_str weft_op_error(weft_op *op) { return weft__api->core->op_error(op); }

/* What a pull of a stream (a body, rows, ...) brought, once it has settled; absent: the stream has
 * ended, or the pull failed or still runs. It lives until the next pull of that stream, or until
 * the op that opened the stream is released: absent then. [loop] */
static inline weft_str weft_piece(weft_op *op) { return weft__api->core->piece(op); }

/* Settles it with WEFT_E_CANCELED, unless it has settled. [loop] */
static inline void weft_op_cancel(weft_op *op) { weft__api->core->op_cancel(op); }

/* Lets go of a settled op and its result before its ctx ends; its handle is stale then.
 * WEFT_E_STATE: it runs, or its consumer was not told yet. [loop] */
static inline weft_status weft_op_release(weft_op *op) { return weft__api->core->op_release(op); }

/* Of a group. */
enum { WEFT_ALL, WEFT_ANY, WEFT_RACE };

/* An op for all of `count` ops: OK when every one is; else the first error in their order, the
 * others are canceled; it settles after all have. OK at once for none. WEFT_E_STATE: one of them is
 * stale, or of another request; WEFT_E_INVALID: there are more than 65,536, or more than 64 groups
 * within one another. [loop] */
static inline weft_op *weft_all(weft_ctx *ctx, uint32_t count, weft_op *const *ops)
{
    return weft__api->core->group(ctx, WEFT_ALL, count, ops);
}

/* An op for any of them: OK with the first that succeeds, the others are canceled; else the first
 * error in their order. WEFT_E_INVALID for none, and errors as of weft_all(). [loop] */
static inline weft_op *weft_any(weft_ctx *ctx, uint32_t count, weft_op *const *ops)
{
    return weft__api->core->group(ctx, WEFT_ANY, count, ops);
}

/* An op for the first of `count` ops that settles, whatever its status, which is its own, too; the
 * others are canceled. WEFT_E_INVALID for none, and errors as of weft_all(). [loop] */
static inline weft_op *weft_race(weft_ctx *ctx, uint32_t count, weft_op *const *ops)
{
    return weft__api->core->group(ctx, WEFT_RACE, count, ops);
}

/* An op for `first` and, where that has not succeeded `ms` from now (or fails before), for the op
 * that `second(ctx, data)` starts then: OK with the first that succeeds, the other one is canceled;
 * else the first one's error. For a call that may be made twice. WEFT_E_STATE: `first` has gone,
 * or is of another request; WEFT_E_INVALID: there is no `second`. [loop] */
static inline weft_op *weft_hedge(weft_ctx *ctx, weft_op *first, uint32_t ms, weft_start_fn *second,
                                  void *data)
{
    return weft__api->core->hedge(ctx, first, ms, second, data);
}

/* The index of the op that won a weft_any(), weft_race() or weft_hedge() (0: the first, 1: the
 * second), or failed a weft_all(); -1: none. [loop] */
static inline int32_t weft_winner(weft_op *group) { return weft__api->core->winner(group); }

/* An op that settles OK after `ms`; with no error of its own. [loop] */
static inline weft_op *weft_sleep(weft_ctx *ctx, uint32_t ms)
{
    return weft__api->core->sleep(ctx, ms);
}

/* Runs `fn(child, self)` on a stack of its own, from the loop; the op's status is what it returns.
 * `child` is a ctx for it alone: canceled with the op (which loses in a group, say), and ended when
 * `ctx` ends or the op is released; what it allocates there lives as long. WEFT_E_OVERLOAD: too
 * many stacks are in use; WEFT_E_INVALID: no `fn`. [loop] */
static inline weft_op *weft_spawn(weft_ctx *ctx, weft_handler *fn, void *self)
{
    return weft__api->core->spawn(ctx, fn, self);
}

/* Runs `fn(data)`, which may block, on one of the worker's few threads for that; the op's status is
 * what it returns. `data` must live as long as the ctx: weft_alloc(), no local variable. Canceled
 * before it began, it never begins; later, the op settles at once, and the ctx's memory stays until
 * it has returned. WEFT_E_OVERLOAD: 1,024 of the worker's wait or run; WEFT_E_INVALID: no `fn`.
 * [loop] */
static inline weft_op *weft_offload(weft_ctx *ctx, weft_work_fn *fn, void *data)
{
    return weft__api->core->offload(ctx, fn, data);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

/* The other chapters: request and reply, filters, databases, upstreams. */
/* clang-format off */
#include "weft_http.h"
#include "weft_filter.h"
#include "weft_pg.h"
#include "weft_call.h"
/* clang-format on */

#endif
