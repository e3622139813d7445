/* upstream/exchange.c - one request and its answer on a connection.
 *
 *   RESTING ──▶ WAITING ──▶ HEAD ──▶ BODY ──▶ RESTING     done, or failed: on_done is told
 *                  ▲─────────┘ an interim answer ended
 *
 * WAITING is for the kernel to take the request, and then for a first byte: each has its limit,
 * counted from when the kernel last took some; while more of the request is to follow, nobody waits
 * for a first byte. HEAD and BODY have the one between bytes, but not while they are paused. The
 * timer is left running when the exchange is over, since moving a running one further away costs
 * nothing.
 *
 * An answer may come, and be complete, before all of the request was sent; the rest of that would
 * be taken for the next request, so such a connection is of no more use.
 */
#include "upstream/exchange.h"
#include "base/check.h"
#include "base/number.h"
#include "net/stream.h"

enum { RESTING, WAITING, HEAD, BODY };

enum { INTERIM_MAX = 8, KEEP_MARGIN_MS = 2000 };

static const struct {
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [RESTING] = {1u << WAITING},
    [WAITING] = {1u << HEAD | 1u << RESTING},
    [HEAD] = {1u << WAITING | 1u << BODY | 1u << RESTING},
    [BODY] = {1u << RESTING},
};

static void move(struct exchange *exchange, int state)
{
    CHECK((states[exchange->_state].next & 1u << state) != 0);
    exchange->_state = state;
}

/* Both ends of an exchange: the callee may lend its connection on, or close it. */

static void fail(struct exchange *exchange, enum err err, enum upstream_failure what,
                 const char *problem)
{
    move(exchange, RESTING);
    exchange->failure = what;
    exchange->problem = problem;
    exchange->is_reusable = false;
    exchange->_handler->on_done(exchange, err);
}

static void complete(struct exchange *exchange)
{
    struct stream *stream = exchange->_stream;

    move(exchange, RESTING);
    exchange->is_reusable = exchange->_is_persistent && !exchange->_is_open &&
                            stream->in.len == 0 &&
                            exchange_written(exchange) == exchange->_request_bytes &&
                            !stream_is_ended(stream) && http_parser_is_idle(&exchange->_parser);
    if (exchange->_is_paused)
        stream_resume(stream);
    exchange->_is_paused = false;
    exchange->trailer = exchange->_parser.trailer;
    exchange->_parser.trailer = (struct span){NULL, 0};
    exchange->_handler->on_done(exchange, ERR_OK);
}

static bool is_head_limit(enum guard rule)
{
    return rule == GUARD_HEAD_BYTES || rule == GUARD_FIELD_COUNT || rule == GUARD_TRAILER_BYTES;
}

static bool is_body_limit(enum guard rule)
{
    return rule == GUARD_LENGTH_RANGE || rule == GUARD_BODY_BYTES;
}

static void refused(struct exchange *exchange)
{
    enum guard rule = exchange->_parser.refused;
    const char *problem = guard_rule(rule)->text;

    if (rule == GUARD_CUT_OFF)
        fail(exchange, ERR_CLOSED, UPSTREAM_RESET, problem);
    else if (is_head_limit(rule))
        fail(exchange, ERR_TOO_BIG, UPSTREAM_HEAD_TOO_BIG, problem);
    else if (is_body_limit(rule))
        fail(exchange, ERR_TOO_BIG, UPSTREAM_BODY_TOO_BIG, problem);
    else
        fail(exchange, ERR_PROTOCOL, UPSTREAM_PROTOCOL, problem);
}

static void refused_by_handler(struct exchange *exchange, enum err err)
{
    enum upstream_failure what = err == ERR_TOO_BIG ? UPSTREAM_BODY_TOO_BIG : UPSTREAM_PROTOCOL;
    const char *problem = exchange->problem;

    if (problem == NULL)
        problem = err == ERR_TOO_BIG ? "the body is longer than body_max" : err_text(err);
    fail(exchange, err, what, problem);
}

/* "timeout=5, max=100": how long may we keep it? Something less, as our request must be there
 * before the peer's time is over. */
static uint32_t keep_ms_of(const struct http_head *head)
{
    static const struct span key = {"timeout=", 8};
    struct span rest = http_field_get(&head->fields, SPAN("Keep-Alive"));
    uint64_t seconds;

    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        size_t len = comma != NULL ? (size_t)(comma - rest.ptr) : rest.len;
        struct span item = span_trim((struct span){rest.ptr, len});
        size_t used = comma != NULL ? len + 1 : len;

        rest = (struct span){rest.ptr + used, rest.len - used};
        if (item.len <= key.len || !span_equal_nocase((struct span){item.ptr, key.len}, key))
            continue;
        item = (struct span){item.ptr + key.len, item.len - key.len};
        if (!number_uint(item, &seconds) || seconds > UINT32_MAX / 1000)
            continue;
        return (uint32_t)seconds * 1000 < 2 * KEEP_MARGIN_MS
                   ? (uint32_t)seconds * 1000 / 2
                   : (uint32_t)seconds * 1000 - KEEP_MARGIN_MS;
    }
    return UINT32_MAX;
}

/* Steps: what to do about an event of the parser. True: go on with the next one. */

static bool take_head(struct exchange *exchange)
{
    const struct http_head *head = exchange->_parser.head;
    enum err err;

    if (head->code < 200) {
        if (++exchange->_interim <= INTERIM_MAX)
            return true;
        fail(exchange, ERR_PROTOCOL, UPSTREAM_PROTOCOL, "too many interim answers");
        return false;
    }
    move(exchange, BODY);
    exchange->_is_persistent = head->is_persistent;
    exchange->keep_ms = keep_ms_of(head);
    http_parser_limit_chunks(&exchange->_parser, exchange->body_bytes_max);
    err = exchange->_handler->on_head(exchange, head);
    if (err != ERR_OK)
        refused_by_handler(exchange, err);
    return err == ERR_OK;
}

static bool take_body(struct exchange *exchange, struct span bytes)
{
    enum err err = exchange->_handler->on_body(exchange, bytes);

    if (err != ERR_OK)
        refused_by_handler(exchange, err);
    return err == ERR_OK;
}

static bool take_end(struct exchange *exchange)
{
    if (exchange->_state == BODY) {
        complete(exchange);
        return false;
    }
    move(exchange, WAITING); /* the end of an interim answer */
    exchange->_since_ms = loop_now_ms(exchange->_shared->loop);
    if (exchange->_stream->in.len > 0)
        move(exchange, HEAD);
    return true;
}

static void on_time(struct timer *timer);

/* The sooner of the two limits before an answer: on_time() knows which one counts. */
static uint32_t waiting_ms(const struct upstream_options *options)
{
    return options->write_timeout_ms < options->first_byte_timeout_ms
               ? options->write_timeout_ms
               : options->first_byte_timeout_ms;
}

/* Everything was parsed that is there: how long may it be until there is more? */
static void wait_for_more(struct exchange *exchange)
{
    const struct upstream_options *options = exchange->_shared->options;

    if (exchange->_is_paused)
        return;
    timer_start(exchange->_shared->loop, &exchange->_timer,
                exchange->_state == WAITING ? waiting_ms(options)
                                            : options->between_bytes_timeout_ms,
                on_time);
}

static void parse(struct exchange *exchange)
{
    bool goes_on = true;
    struct span body;

    while (goes_on) {
        switch (http_parser_next(&exchange->_parser, &exchange->_stream->in, &body)) {
        case HTTP_EVENT_MORE:
            wait_for_more(exchange);
            return;
        case HTTP_EVENT_HEAD:
            goes_on = take_head(exchange);
            break;
        case HTTP_EVENT_BODY:
            goes_on = take_body(exchange, body);
            break;
        case HTTP_EVENT_END:
            goes_on = take_end(exchange);
            break;
        case HTTP_EVENT_REFUSED:
            refused(exchange);
            return;
        }
    }
}

/* What the loop calls. */

static void on_time(struct timer *timer)
{
    struct exchange *exchange = CONTAINER_OF(timer, struct exchange, _timer);
    const struct upstream_options *options = exchange->_shared->options;
    uint64_t progress_ms = exchange->_stream->progress_ms;
    uint64_t due_ms;
    bool is_unsent;

    switch (exchange->_state) {
    case RESTING:
        break; /* left running by the exchange before */
    case WAITING:
        is_unsent = stream_unsent(exchange->_stream) > 0;
        due_ms = (progress_ms > exchange->_since_ms ? progress_ms : exchange->_since_ms) +
                 (is_unsent ? options->write_timeout_ms : options->first_byte_timeout_ms);
        if (exchange->_is_open && !is_unsent)
            due_ms = loop_now_ms(exchange->_shared->loop) + waiting_ms(options);
        if (loop_now_ms(exchange->_shared->loop) < due_ms)
            timer_start_at(exchange->_shared->loop, timer, due_ms, on_time);
        else if (is_unsent)
            fail(exchange, ERR_TIMED_OUT, UPSTREAM_WRITE_TIMEOUT, "it does not take the request");
        else
            fail(exchange, ERR_TIMED_OUT, UPSTREAM_FIRST_BYTE_TIMEOUT, "it does not answer");
        break;
    case HEAD:
    case BODY:
        if (exchange->_is_paused)
            break;
        fail(exchange, ERR_TIMED_OUT, UPSTREAM_BETWEEN_BYTES_TIMEOUT,
             "it does not go on with its answer");
        break;
    }
}

void exchange_on_data(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    if (exchange->_state == WAITING)
        move(exchange, HEAD);
    if (exchange_written(exchange) == 0)
        fail(exchange, ERR_PROTOCOL, UPSTREAM_PROTOCOL, "bytes came before the request was sent");
    else
        parse(exchange);
}

void exchange_on_end(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    switch (http_parser_finish(&exchange->_parser)) {
    case HTTP_EVENT_END:
        complete(exchange);
        break;
    case HTTP_EVENT_REFUSED:
        refused(exchange);
        break;
    case HTTP_EVENT_MORE:
    case HTTP_EVENT_HEAD:
    case HTTP_EVENT_BODY:
        fail(exchange, ERR_CLOSED, UPSTREAM_RESET, "it closed the connection without an answer");
        break;
    }
}

void exchange_on_drained(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    if (exchange->_handler->on_drained != NULL)
        exchange->_handler->on_drained(exchange);
}

void exchange_on_fail(struct exchange *exchange, enum err err)
{
    const char *problem = stream_problem(exchange->_stream);

    CHECK(exchange->_state != RESTING);
    fail(exchange, err, UPSTREAM_RESET, problem != NULL ? problem : err_text(err));
}

/* Life and verbs */

void exchange_init(struct exchange *exchange, const struct exchange_shared *shared,
                   struct stream *stream)
{
    CHECK(shared->head != NULL);
    *exchange = (struct exchange){._shared = shared, ._stream = stream, ._state = RESTING};
    http_parser_init(&exchange->_parser, HTTP_PARSE_ANSWERS, shared->head, &shared->limits);
}

void exchange_start(struct exchange *exchange, struct span request, bool is_head,
                    const struct exchange_handler *handler, void *user)
{
    struct stream *stream = exchange->_stream;

    CHECK(request.len > 0);
    CHECK(stream->in.len == 0);
    move(exchange, WAITING);
    exchange->user = user;
    exchange->problem = NULL;
    exchange->is_reusable = false;
    exchange->body_bytes_max = exchange->_shared->options->body_bytes_max;
    exchange->_is_open = false;
    exchange->_is_paused = false;
    exchange->_handler = handler;
    exchange->_since_ms = loop_now_ms(exchange->_shared->loop);
    exchange->_request_bytes = request.len;
    exchange->_sent_before = stream->sent;
    exchange->_received_before = stream->received;
    exchange->_interim = 0;
    http_parser_answers_head(&exchange->_parser, is_head);
    timer_start(exchange->_shared->loop, &exchange->_timer, waiting_ms(exchange->_shared->options),
                on_time);
    stream_write_whole(stream, request);
}

void exchange_open(struct exchange *exchange)
{
    CHECK(exchange->_state == WAITING);
    exchange->_is_open = true;
}

void exchange_write(struct exchange *exchange, struct span bytes)
{
    CHECK(exchange->_state != RESTING);
    CHECK(exchange->_is_open);
    exchange->_request_bytes += bytes.len;
    stream_write(exchange->_stream, bytes);
}

void exchange_close(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    exchange->_is_open = false;
    exchange->_since_ms = loop_now_ms(exchange->_shared->loop);
}

void exchange_pause(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    exchange->_is_paused = true;
    stream_pause(exchange->_stream);
}

void exchange_resume(struct exchange *exchange)
{
    CHECK(exchange->_state != RESTING);
    if (!exchange->_is_paused)
        return;
    exchange->_is_paused = false;
    stream_resume(exchange->_stream);
    wait_for_more(exchange);
}

size_t exchange_unsent(const struct exchange *exchange)
{
    return stream_unsent(exchange->_stream);
}

uint64_t exchange_progress_ms(const struct exchange *exchange)
{
    return exchange->_stream->progress_ms;
}

void exchange_flush(struct exchange *exchange)
{
    stream_flush_now(exchange->_stream);
}

void exchange_stop(struct exchange *exchange)
{
    timer_stop(&exchange->_timer);
    exchange->_state = RESTING;
}

uint64_t exchange_written(const struct exchange *exchange)
{
    return exchange->_stream->sent - exchange->_sent_before;
}

uint64_t exchange_received(const struct exchange *exchange)
{
    return exchange->_stream->received - exchange->_received_before;
}
