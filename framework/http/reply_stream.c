/* http/reply_stream.c - an answer in pieces, as fast as its client takes them.
 *
 *   a write:  below HIGH ──▶ settled
 *             else waits ──▶ settled (room: the end of a turn, or on_drained)
 *                        ──▶ canceled (its scope, or the client left)
 *
 * A turn's writes leave at its end; a hook behind that looks what is left. So a handler that writes
 * on and on gets HTTP_STREAM_HIGH bytes a turn, and others get theirs.
 *
 * A write's op goes with a later write, once it has settled and was told, and hands its memory on:
 * an answer takes as many ops as ever waited at once.
 */
#include "http/reply_stream.h"
#include "base/check.h"
#include "http/inside.h"
#include "http/response.h"

/* Of one answer. */
struct http_stream {
    struct http_request *request;     /* whose */
    struct http_stream_options setup; /* as given; idle is a copy */
    struct list waiting;              /* struct http_write, in their order */
    struct list spent;                /* settled ones, the oldest first */
    uint32_t waiting_count;           /* of waiting */
    uint32_t trailer_count;           /* of trailers */
    struct http_field *trailers;      /* room for as many as the power of two above the count */
    struct timer idle;                /* for setup.idle */
    uint64_t wrote_ms;                /* loop time of the last write */
    struct hook room;                 /* looks, at the end of a turn, what is left */
};

struct http_write {
    struct op op;               /* what the handler waits for */
    struct list link;           /* in waiting or spent */
    struct http_stream *stream; /* whose */
};

/* ---- a write's op ---- */

/* It has settled: a later write may take its place. */
static void spend(struct http_write *write)
{
    struct http_stream *stream = write->stream;

    CHECK(stream != NULL);
    list_remove(&write->link);
    list_append(&stream->spent, &write->link);
}

static void withdraw(struct op *op)
{
    struct http_write *write = CONTAINER_OF(op, struct http_write, op);

    CHECK(write->stream->waiting_count > 0);
    write->stream->waiting_count--;
    spend(write);
    op_retire(op);
}

static void release(struct op *op)
{
    list_remove(&CONTAINER_OF(op, struct http_write, op)->link);
}

static const struct op_kind kind = {
    .name = "write", .account = -1, .withdraw = withdraw, .release = release};

/* Memory for a write: the oldest settled one's, where it can be let go of and is of the same
 * scope. */
static struct http_write *take_write(struct scope *scope, struct http_stream *stream)
{
    struct list *link = list_first(&stream->spent);
    struct http_write *oldest;
    bool is_same;

    if (link == NULL)
        return scope_alloc(scope, sizeof(*oldest));
    oldest = CONTAINER_OF(link, struct http_write, link);
    is_same = oldest->op.scope == scope;
    if (op_release(&oldest->op) != ERR_OK || !is_same)
        return scope_alloc(scope, sizeof(*oldest));
    *oldest = (struct http_write){.stream = NULL};
    return oldest;
}

/* ---- room ---- */

static void settle_waiting(struct http_stream *stream, enum err err)
{
    struct list *link;

    while ((link = list_first(&stream->waiting)) != NULL) {
        struct http_write *write = CONTAINER_OF(link, struct http_write, link);

        CHECK(stream->waiting_count > 0);
        stream->waiting_count--;
        spend(write);
        op_finish(&write->op, err, NULL);
    }
}

static void on_room(struct hook *hook)
{
    http_stream_room(CONTAINER_OF(hook, struct http_stream, room)->request);
}

void http_stream_room(struct http_request *request)
{
    struct http_stream *stream = request->_stream;

    if (stream == NULL || stream->waiting_count == 0)
        return;
    switch (http_pipeline_room(request)) {
    case HTTP_ROOM_SOON: /* this turn's bytes are not sent yet */
        hook_start(request->server->loop, &stream->room, on_room);
        return;
    case HTTP_ROOM_LATER: /* we are called again */
        return;
    case HTTP_ROOM_NOW:
        settle_waiting(stream, ERR_OK);
        return;
    }
}

/* ---- writing ---- */

static enum err write_pieces(struct http_request *request, const struct span *pieces,
                             uint32_t count)
{
    const struct http_stream *stream = request->_stream;

    if (request->reply == HTTP_REPLY_BEGUN && request->conn != NULL &&
        (http_pipeline_unsent(request) >= HTTP_STREAM_MAX ||
         stream->waiting_count >= HTTP_STREAM_WRITES_MAX))
        return ERR_OVERLOAD;
    return http_reply_write_all(request, pieces, count);
}

/* There is no room, or others wait for it. */
static bool must_wait(const struct http_request *request)
{
    return request->conn != NULL && (request->_stream->waiting_count > 0 ||
                                     http_pipeline_unsent(request) >= HTTP_STREAM_HIGH);
}

struct op *http_stream_write(struct scope *scope, const struct span *pieces, uint32_t count)
{
    struct http_request *request = http_request_of(scope);
    struct http_stream *stream = request != NULL ? request->_stream : NULL;
    struct http_write *write;
    enum err err;

    if (stream == NULL)
        return op_failed(scope, ERR_STATE, NULL, SPAN("no answer in pieces has begun"));
    write = take_write(scope, stream);
    write->stream = stream;
    list_init(&write->link);
    if (!op_init(&write->op, scope, &kind)) {
        spend(write);
        return &write->op;
    }
    err = write_pieces(request, pieces, count);
    stream->wrote_ms = loop_now_ms(request->server->loop);
    if (err == ERR_OK && must_wait(request)) {
        list_append(&stream->waiting, &write->link);
        stream->waiting_count++;
        hook_start(request->server->loop, &stream->room, on_room);
        return &write->op;
    }
    spend(write);
    op_finish(&write->op, err == ERR_CLOSED ? ERR_CANCELED : err, NULL);
    return &write->op;
}

/* ---- the beginning, and time ---- */

static void on_idle(struct timer *timer)
{
    struct http_stream *stream = CONTAINER_OF(timer, struct http_stream, idle);
    struct http_request *request = stream->request;
    struct loop *loop = request->server->loop;

    if (request->reply != HTTP_REPLY_BEGUN || request->conn == NULL)
        return;
    if (stream->wrote_ms + stream->setup.idle_ms <= loop_now_ms(loop)) {
        if (http_pipeline_unsent(request) == 0 &&
            http_reply_write(request, stream->setup.idle) != ERR_OK)
            return;
        stream->wrote_ms = loop_now_ms(loop);
    }
    timer_start_at(loop, timer, stream->wrote_ms + stream->setup.idle_ms, on_idle);
}

enum err http_stream_begin(struct http_request *request, uint32_t code, struct span type,
                           const struct http_stream_options *options)
{
    struct http_stream *stream;
    enum err err;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply != HTTP_REPLY_NONE)
        return ERR_STATE;
    if (options->idle_ms > 0 && (options->length >= 0 || options->idle.len == 0))
        return ERR_INVALID;
    stream = arena_alloc(&request->scope->arena, sizeof(*stream));
    *stream = (struct http_stream){.request = request, .setup = *options};
    list_init(&stream->waiting);
    list_init(&stream->spent);
    request->_stream = stream;
    err = http_reply_begin(request, code, type, options->length);
    if (err != ERR_OK) {
        request->_stream = err == ERR_CLOSED ? stream : NULL;
        return err;
    }
    stream->wrote_ms = loop_now_ms(request->server->loop);
    scope_renew(request->scope, 0);
    if (options->idle_ms > 0) {
        stream->setup.idle = arena_copy(&request->scope->arena, options->idle);
        timer_start(request->server->loop, &stream->idle, options->idle_ms, on_idle);
    }
    if (request->server->is_draining)
        http_stream_drain(request);
    return ERR_OK;
}

/* ---- trailers ---- */

/* What a recipient must know before the body, or must not take from behind it (RFC 9110 section
 * 6.5.1); framing is refused elsewhere. */
static bool is_barred(struct span name)
{
    static const struct span names[] = {
        {"Authorization", 13},
        {"Cache-Control", 13},
        {"Content-Encoding", 16},
        {"Content-Range", 13},
        {"Content-Type", 12},
        {"Expect", 6},
        {"Host", 4},
        {"Max-Forwards", 12},
        {"Proxy-Authenticate", 18},
        {"Proxy-Authorization", 19},
        {"Set-Cookie", 10},
        {"TE", 2},
        {"WWW-Authenticate", 16},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (span_equal_nocase(name, names[i]))
            return true;
    }
    return false;
}

static struct http_field *next_trailer(struct http_stream *stream)
{
    uint32_t count = stream->trailer_count;
    struct http_field *at;

    if ((count & (count - 1)) == 0) {
        at =
            scope_alloc(stream->request->scope, (count == 0 ? 1 : 2 * (size_t)count) * sizeof(*at));
        if (count > 0)
            memcpy(at, stream->trailers, count * sizeof(*at));
        stream->trailers = at;
    }
    return &stream->trailers[stream->trailer_count++];
}

enum err http_stream_trailer(struct http_request *request, struct span name, struct span value)
{
    struct http_stream *stream;
    struct http_field *field;

    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    stream = request->_stream;
    if (stream == NULL || request->reply != HTTP_REPLY_BEGUN)
        return ERR_STATE;
    if (!http_is_token(name) || !http_is_field_value(value) || http_reply_is_own_field(name) ||
        is_barred(name))
        return ERR_INVALID;
    field = next_trailer(stream);
    field->name = arena_copy(&request->scope->arena, name);
    field->value = value.len > 0 ? arena_copy(&request->scope->arena, value) : SPAN("");
    return ERR_OK;
}

struct http_fields http_stream_trailers(const struct http_request *request)
{
    const struct http_stream *stream = request->_stream;

    if (stream == NULL)
        return (struct http_fields){NULL, 0};
    return (struct http_fields){stream->trailers, stream->trailer_count};
}

/* ---- the end ---- */

void http_stream_break(struct http_request *request, const char *why)
{
    CHECK_OBJ(request, HTTP_REQUEST_MAGIC);
    if (request->reply != HTTP_REPLY_BEGUN)
        return;
    if (request->why == NULL)
        request->why = why;
    http_reply_abandon(request);
}

void http_stream_stop(struct http_request *request)
{
    struct http_stream *stream = request->_stream;

    if (stream == NULL)
        return;
    timer_stop(&stream->idle);
    hook_stop(&stream->room);
    settle_waiting(stream, ERR_CANCELED);
}

bool http_stream_is_live(const struct http_request *request)
{
    return request->_stream != NULL && request->_stream->setup.is_live;
}

void http_stream_end_live(struct http_request *request, const char *why)
{
    enum err err;

    if (request->why == NULL)
        request->why = why;
    CHECK(http_stream_is_live(request));
    err = http_reply_end(request);
    CHECK(err == ERR_OK || err == ERR_CLOSED || err == ERR_IO ||
          request->_stream->setup.length >= 0);
}

void http_stream_drain(struct http_request *request)
{
    if (http_stream_is_live(request) && request->reply == HTTP_REPLY_BEGUN)
        scope_cancel(request->scope, SCOPE_SHUTDOWN);
}
