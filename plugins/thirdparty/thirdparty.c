/* thirdparty - a stand-in for somebody else's API, which the library of plugins/books calls.
 *
 *   GET  /quote          {"text", "author"}, another one each time
 *   GET  /book           {"title", "author"}, another one each time
 *   POST /announcements  takes a book, answers {"announced", "number"}
 *   GET  /slow?ms=N      the same as /quote after N milliseconds, at most a minute: for trials
 */
#include "weft_jansson.h"
#include "weft_json.h"
#include <stdlib.h>

enum { SLOW_MS_MAX = 60000 };

struct pair {
    const char *what; /* a quote, or a title */
    const char *author;
};

static const struct pair quotes[] = {
    {"A room without books is like a body without a soul.", "Cicero"},
    {"I cannot live without books.", "Thomas Jefferson"},
    {"Some books are to be tasted, others to be swallowed.", "Francis Bacon"},
    {"There is no friend as loyal as a book.", "Ernest Hemingway"},
};

static const struct pair books[] = {
    {"Persuasion", "Jane Austen"},      {"Jane Eyre", "Charlotte Brontë"},
    {"Bleak House", "Charles Dickens"}, {"The Moonstone", "Wilkie Collins"},
    {"Kusamakura", "Natsume Sōseki"},
};

enum { QUOTES = sizeof quotes / sizeof quotes[0], BOOKS = sizeof books / sizeof books[0] };

/* What the next one gets, in this worker. */
static size_t next_quote, next_book;
static int64_t announcements;

static weft_status reply_pair(weft_ctx *ctx, const char *key, const struct pair *pair)
{
    weft_json json;

    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, key);
    weft_json_string(&json, weft_cstr(pair->what));
    weft_json_key(&json, "author");
    weft_json_string(&json, weft_cstr(pair->author));
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

static weft_status get_quote(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_pair(ctx, "text", &quotes[next_quote++ % QUOTES]);
}

static weft_status get_book(weft_ctx *ctx, void *self)
{
    (void)self;
    return reply_pair(ctx, "title", &books[next_book++ % BOOKS]);
}

static weft_status get_slowly(weft_ctx *ctx, void *self)
{
    weft_str text = weft_query(ctx, "ms");
    long ms = text.ptr != NULL ? strtol(text.ptr, NULL, 10) : 0;

    if (ms < 0 || ms > SLOW_MS_MAX)
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "ms: expected 0 to %d", (int)SLOW_MS_MAX);
    WEFT_TRY(weft_await(weft_sleep(ctx, (uint32_t)ms)));
    return get_quote(ctx, self);
}

static weft_status announce(weft_ctx *ctx, void *self)
{
    json_t *book;
    const json_t *title;
    weft_json json;

    (void)self;
    WEFT_TRY(weft_jansson_body(ctx, &book));
    title = json_object_get(book, "title");
    if (!json_is_string(title))
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "expected an object with a title");
    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, "announced");
    weft_json_string(&json, weft_cstr(json_string_value(title)));
    weft_json_key(&json, "number");
    weft_json_int(&json, ++announcements);
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}

static weft_status init(weft_host *host, void **self)
{
    const weft_route_options slow = {sizeof slow, 0, SLOW_MS_MAX + 5000, 0, 0};

    (void)self;
    WEFT_TRY(weft_route(host, "GET", "/quote", get_quote));
    WEFT_TRY(weft_route(host, "GET", "/book", get_book));
    WEFT_TRY(weft_route(host, "POST", "/announcements", announce));
    return weft_route_with(host, "GET", "/slow", get_slowly, NULL, &slow);
}

WEFT_PLUGIN("thirdparty", "1.0", init, NULL, NULL);
