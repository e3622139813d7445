/* weft_test.h - unit tests of a plugin: its handlers run in the test's own process and thread,
 * without a host, a network or a database, in a time that the test moves.
 *
 *   weft_test *t = weft_test_start(NULL);
 *   weft_test_step *s = weft_test_query(t, "book_by_id", WEFT_ARGS(weft_int(1)));
 *   weft_test_columns(s, "id int, title text");
 *   weft_test_row(s, "1", "Emma");
 *   weft_test_is(weft_test_get(t, "/books/1"), 200, "{\"id\":1,\"title\":\"Emma\"}");
 *   return weft_test_end(t);
 *
 * What a plugin meets here is the host's own code (its router, its contexts and ops, its pool, its
 * HTTP), so that nothing behaves differently from a server; made up are only the clock, the bytes
 * of the database and those of the upstreams.
 *
 * Linking:  with the plugin's sources in the test's program (weft_test_start()), or with its shared
 *           object (weft_test_load()); cc ... $(pkg-config --cflags --libs weft-test), or
 *           weft::test and weft_plugin_test() of the CMake package. Any test framework, or none.
 * Steps:    what the plugin is expected to ask of others, with the answer. A statement or a call
 *           without a step is a failure of the test, and so is a step that nobody met.
 * Failures: of the test are counted, and told at once (standard error, or weft_test_on_failure()),
 *           each with the route and, where a step is meant, its file and line. Besides those of
 *           steps there are: calls that the host answers with WEFT_E_STATE or WEFT_E_INVALID and a
 *           line in its log (a second reply, a stale ctx or op, a call from init(), a clean-up or
 *           another thread that may not make it), no reply, a reply while a started op has nobody
 *           who waits for it, a transaction that was neither committed nor rolled back although the
 *           reply was a success, a ctx that is never ended, a plugin that cannot be stopped.
 * Time:     stands still while anything can go on, and then jumps to the next thing that is due.
 *           weft_sleep(), timeouts and deadlines cost none of the test's time.
 * Threads:  weft_offload() runs its work on another thread and waits for it, so that the order of
 *           things is always the same. All functions here are of the test's thread.
 * Limits:   one weft_test at a time.
 * Memory:   all that is returned lives until weft_test_end(); texts that are given are copied.
 * Stable:   sources that compile today do so in later releases of the same major; the library is
 *           not part of the binary ABI: use it with the header that it came with.
 *
 * C99 or later, C++11 or later; gcc or clang.
 */
#ifndef WEFT_TEST_H
#define WEFT_TEST_H

#include "weft.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the library exports. */
#define WEFT_TEST_API __attribute__((__visibility__("default")))

/* A worker with one plugin in it. */
typedef struct weft_test weft_test;
/* A request of a client that the test plays, and its answer. */
typedef struct weft_test_request weft_test_request;
/* One thing that the plugin is to ask of a database or an upstream, and what it is told. */
typedef struct weft_test_step weft_test_step;

/* ---- a test -------------------------------------------------------------------------------- */

/* Told of each failure as it is found: one line without its end, with where it was. */
typedef void weft_test_failure_fn(void *data, const char *text);

/* A worker with the plugin that `plugin` describes, which is in the test's own program: init() and
 * start() have run. `settings` is what stands in the ini file, or NULL: first the plugin's own keys
 * ("page = 20\n"), then, if there is need for them, sections [pg.NAME], [upstream.NAME] and [http].
 * A pool or upstream that the plugin asks for and that has no section is there with its defaults.
 * Never NULL: where init() or start() fails, weft_test_problem() says why. */
WEFT_TEST_API weft_test *weft_test_start_of(const weft_plugin *plugin, const char *settings);

/* The same with the one plugin of the test's program. */
static inline weft_test *weft_test_start(const char *settings)
{
    return weft_test_start_of(&weft_plugin_1, settings);
}

/* The same with a shared object, loaded and checked as the host does it: each time another copy of
 * its statics. */
WEFT_TEST_API weft_test *weft_test_load(const char *path, const char *settings);

/* Why the plugin could not be loaded or started, in the words that the host would use; NULL: it
 * was. A test that has not asked fails for it. */
WEFT_TEST_API const char *weft_test_problem(weft_test *t);

/* From here on `fn` is told of failures, instead of standard error. One that does not return
 * (longjmp, as an assertion of cmocka does) is fine where it goes to code that calls
 * weft_test_end(). */
WEFT_TEST_API void weft_test_on_failure(weft_test *t, weft_test_failure_fn *fn, void *data);

/* How many failures there were so far. */
WEFT_TEST_API int weft_test_failures(const weft_test *t);

/* Stops the plugin as a worker's end does, looks for what was not met or not ended, frees all of
 * the test. How many failures there were: 0 is a test that has passed. NULL is 0. */
WEFT_TEST_API int weft_test_end(weft_test *t);

/* ---- requests ------------------------------------------------------------------------------- */

/* Sends a request and returns when it was answered, or the connection ended. `target` is a path
 * with its query, `fields` NULL or lines of header fields ("Accept: text/html\nX-Trace: 1"),
 * `body` NULL or text. */
WEFT_TEST_API weft_test_request *weft_test_ask(weft_test *t, const char *method, const char *target,
                                               const char *fields, const char *body);

/* GETs `target`. */
static inline weft_test_request *weft_test_get(weft_test *t, const char *target)
{
    return weft_test_ask(t, "GET", target, NULL, NULL);
}

/* POSTs JSON. */
static inline weft_test_request *weft_test_post(weft_test *t, const char *target, const char *json)
{
    return weft_test_ask(t, "POST", target, "Content-Type: application/json", json);
}

/* Sends a request as weft_test_ask() does, with a body of any bytes, and returns when all has been
 * done that can be done before time goes on: for tests of what happens meanwhile. */
WEFT_TEST_API weft_test_request *weft_test_send(weft_test *t, const char *method,
                                                const char *target, const char *fields,
                                                weft_str body);

/* Lets time go on until it was answered; a failure where it is not within ten minutes. */
WEFT_TEST_API void weft_test_wait(weft_test_request *request);

/* The client closes its connection; returns when the plugin was told and has done what it can. */
WEFT_TEST_API void weft_test_leave(weft_test_request *request);

/* Time goes on by `ms`; everything that is due by then is done. */
WEFT_TEST_API void weft_test_advance(weft_test *t, uint32_t ms);

/* Milliseconds since the test's start. */
WEFT_TEST_API uint64_t weft_test_now_ms(const weft_test *t);

/* The answer's status; 0: there is none (yet). */
WEFT_TEST_API uint32_t weft_test_code(const weft_test_request *request);

/* Its first header field `name`, in any case; NULL: none. */
WEFT_TEST_API const char *weft_test_field(const weft_test_request *request, const char *name);

/* What has come of its body, with a NUL behind it; never absent. */
WEFT_TEST_API weft_str weft_test_body(const weft_test_request *request);

/* 1: it is complete; 0: it is under way, or was broken off. */
WEFT_TEST_API int weft_test_is_complete(const weft_test_request *request);

/* A failure, told with file and line, unless it is answered with `code` and, where `body` is not
 * NULL, exactly that text; 1: it is. */
WEFT_TEST_API int weft_test_is_at(weft_test_request *request, const char *file, int line,
                                  uint32_t code, const char *body);
#define weft_test_is(request, code, body) \
    weft_test_is_at((request), __FILE__, __LINE__, (code), (body))

/* The lines of the host's error log since the last call, down to debug; never NULL. */
WEFT_TEST_API const char *weft_test_log(weft_test *t);

/* ---- steps: the database. A step is met once, unless weft_test_times() says else, and is
 * answered at once, unless weft_test_after() says else. Steps may be met in any order, but for
 * those written between one of "begin" and one of "commit" or "rollback": they are met on that
 * transaction, and in that order. ---- */

/* The plugin is to run `statement`: the name that it was declared by, or its text, or "begin",
 * "commit" or "rollback"; with parameters WEFT_ARGS(...), WEFT_NO_ARGS or WEFT_TEST_ANY_ARGS, which
 * are compared as texts: weft_int(1) is '1'. */
WEFT_TEST_API weft_test_step *weft_test_query_at(weft_test *t, const char *file, int line,
                                                 const char *statement, uint32_t count,
                                                 const weft_value *values);
#define weft_test_query(t, ...) weft_test_query_at((t), __FILE__, __LINE__, __VA_ARGS__)
#define WEFT_TEST_ANY_ARGS      UINT32_MAX, NULL

/* It is answered with rows (none, unless weft_test_row() adds some) of these columns: names, each
 * with a type of PostgreSQL's or none, which is text: "id int, title text, price numeric". The type
 * says how a value looks as JSON. */
WEFT_TEST_API void weft_test_columns(weft_test_step *step, const char *columns);

/* Adds a row: `count` texts as PostgreSQL writes them ("t" for true), NULL for SQL NULL. With fewer
 * values than columns the others are NULL. */
WEFT_TEST_API void weft_test_row_of(weft_test_step *step, uint32_t count,
                                    const char *const *values);
#ifndef __cplusplus
#define weft_test_row(step, ...)                                                              \
    weft_test_row_of((step),                                                                  \
                     (uint32_t)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)), \
                     (const char *const[]){__VA_ARGS__})
#endif

/* It is answered with this number of rows inserted, updated or deleted. Unsaid: as many as there
 * are rows in the answer. */
WEFT_TEST_API void weft_test_affected(weft_test_step *step, uint64_t count);

/* The database refuses it: "23505", and its message. A transaction is aborted by that, as usual. */
WEFT_TEST_API void weft_test_refuse(weft_test_step *step, const char *sqlstate,
                                    const char *message);

/* ---- COPY, and notifications -------------------------------------------------------------------
 *
 * A COPY is a step of its text: weft_test_query(t, "copy books to stdout", WEFT_NO_ARGS). What goes
 * wrong with it (weft_test_refuse(), WEFT_TEST_LOST) does behind the bytes that it brings, or once
 * the plugin has ended what it writes; WEFT_TEST_BUSY, _DOWN, _TIMEOUT and _NEVER as it is opened.
 * LISTEN needs no step. ---- */

/* A COPY ... TO STDOUT brings these bytes, and then those of further calls. Without any it brings
 * nothing. weft_affected() is the number of their lines, unless weft_test_affected() says else. */
WEFT_TEST_API void weft_test_copy_out(weft_test_step *step, weft_str bytes);

/* A COPY ... FROM STDIN is to be written exactly these bytes: a failure where it is ended with
 * others. Without a call it takes what comes. weft_affected() as above. */
WEFT_TEST_API void weft_test_copy_in(weft_test_step *step, weft_str bytes);

/* Somebody notifies `channel` of the database of [pg.NAME], `pool`; a `payload` of NULL is empty.
 * Returns when the plugin was told and has done what it can; a failure where it does not listen. */
WEFT_TEST_API void weft_test_notify(weft_test *t, const char *pool, const char *channel,
                                    const char *payload);

/* The server of `pool` closes all of its sessions: what is under way is lost, and who listens hears
 * that something may have been missed once the next session is open, some seconds later. */
WEFT_TEST_API void weft_test_disconnect(weft_test *t, const char *pool);

/* ---- steps: upstreams ----------------------------------------------------------------------- */

/* The plugin is to call [upstream.NAME] of `upstream` with this method and path (with its query).
 * It is answered with 200 and no body, unless weft_test_answer() says else. */
WEFT_TEST_API weft_test_step *weft_test_call_at(weft_test *t, const char *file, int line,
                                                const char *upstream, const char *method,
                                                const char *path);
#define weft_test_call(t, ...) weft_test_call_at((t), __FILE__, __LINE__, __VA_ARGS__)

/* What it is answered with; `type` is the Content-Type or NULL, `body` may be NULL. */
WEFT_TEST_API void weft_test_answer(weft_test_step *step, uint32_t code, const char *type,
                                    const char *body);

/* A further header field of the answer. */
WEFT_TEST_API void weft_test_answer_field(weft_test_step *step, const char *name,
                                          const char *value);

/* A call with another body does not meet the step. */
WEFT_TEST_API void weft_test_wants_body(weft_test_step *step, const char *body);

/* A call without this header field does not meet the step. */
WEFT_TEST_API void weft_test_wants_field(weft_test_step *step, const char *name, const char *value);

/* ---- steps: when, how often, and what may go wrong ------------------------------------------ */

/* The answer, or what goes wrong, comes `ms` after the plugin has asked. */
WEFT_TEST_API void weft_test_after(weft_test_step *step, uint32_t ms);

/* It is met exactly `times`; 0: as often as it comes, never too. */
WEFT_TEST_API void weft_test_times(weft_test_step *step, uint32_t times);

/* What can go wrong. */
enum {
    WEFT_TEST_FINE,    /* nothing */
    WEFT_TEST_BUSY,    /* the pool, or the line for the upstream, is full: WEFT_E_DB_BUSY,
                        * WEFT_E_UP_BUSY */
    WEFT_TEST_DOWN,    /* nobody is there: WEFT_E_DB_DOWN, WEFT_E_UP_CONNECT */
    WEFT_TEST_LOST,    /* it was sent, and the connection broke: WEFT_E_DB_DOWN, for a write with
                        * weft_maybe_applied(); WEFT_E_UP_RESET */
    WEFT_TEST_TIMEOUT, /* too slow: the server's statement_timeout ends it (WEFT_E_DEADLINE), the
                        * upstream's first_byte_timeout (WEFT_E_UP_TIMEOUT); 5 and 4 seconds,
                        * unless settings say else; the request's own time, 5 seconds, may be
                        * over before */
    WEFT_TEST_NEVER,   /* no answer at all: whoever waits runs into a limit of its own */
    WEFT_TEST_TOO_BIG, /* the answer is larger than result_max (WEFT_E_DB) or body_max
                        * (WEFT_E_UP_TOO_BIG) */
    WEFT_TEST_CUT,     /* of a call: it breaks off within the answer's body: WEFT_E_UP_RESET */
    WEFT_TEST_GARBAGE  /* of a call: what comes is not HTTP: WEFT_E_UP_RESET */
};

/* It goes wrong that way, instead of being answered. A failure where the step cannot. */
WEFT_TEST_API void weft_test_fault(weft_test_step *step, uint32_t fault);

/* ---- every fault in every place ------------------------------------------------------------- */

/* Writes steps and makes requests; sees nothing of whether they succeed. */
typedef void weft_test_scene_fn(weft_test *t, void *data);

/* Plays `scene` once as it is, and then, for each op that it started, once for each way in which
 * that op can end badly: it fails (as an op of its kind does), it is too slow, it is canceled, the
 * client leaves meanwhile, or the request's time is over meanwhile. A failure, with what was done
 * to which op, wherever a request then is not answered exactly once (or, its client having left,
 * does not end), something goes on for ever, or the plugin makes a mistake. Steps that a fault
 * keeps from being met are no failure, and a statement or call without a step is answered with an
 * error. How many times the scene was played. */
WEFT_TEST_API uint32_t weft_test_sweep(weft_test *t, weft_test_scene_fn *scene, void *data);

#ifdef __cplusplus
} /* extern "C" */

/* The same for WEFT_ARGS(...), which is a list in C++. */
inline weft_test_step *weft_test_query_at(weft_test *t, const char *file, int line,
                                          const char *statement,
                                          std::initializer_list<weft_value> values)
{
    return weft_test_query_at(t, file, line, statement, static_cast<uint32_t>(values.size()),
                              values.begin());
}

/* The same as a function. */
template <typename... Texts> inline void weft_test_row(weft_test_step *step, Texts... texts)
{
    const char *const values[] = {texts...};
    weft_test_row_of(step, static_cast<uint32_t>(sizeof...(texts)), values);
}
#endif

#endif
