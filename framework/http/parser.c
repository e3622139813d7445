/* http/parser.c - bytes to messages.
 *
 *   START ──▶ HEAD ──▶ BODY ──▶ START            an empty line or two before a request are skipped
 *                        ├──▶ TRAILER ──▶ BODY   the last chunk is there, the trailers are not
 *                        └──▶ LAST               the peer said that nothing follows
 *   any ──▶ FAILED
 *
 * llhttp is fed a head only once it is whole and the guard has passed it, and never beyond its end.
 * After that it is fed what there is, and stops behind each run of body bytes, before a trailer and
 * behind the message: its callbacks only note what they are told. A trailer it never sees, but an
 * empty one: fields there would change what it thinks of the connection.
 */
#include "http/parser.h"
#include "base/check.h"
#include "base/mem.h"
#include <assert.h>
#include <llhttp.h>

enum { START, HEAD, BODY, TRAILER, LAST, FAILED };

enum {
    EMPTY_LINES_MAX = 2,
    CHUNK_WARRANTS = 16,    /* framing bytes for any chunk, and twice its size besides */
    CHUNK_SIZE_SEEN = 65536 /* of the size; what is larger warrants no more */
};

static_assert(sizeof(llhttp_t) <= HTTP_PARSER_MACHINE_SIZE, "room for llhttp");
static_assert(_Alignof(llhttp_t) <= 8, "alignment of llhttp");

static llhttp_t *machine_of(struct http_parser *parser)
{
    return (llhttp_t *)(void *)parser->_machine;
}

static struct http_parser *parser_of(llhttp_t *machine)
{
    return CONTAINER_OF(machine, struct http_parser, _machine);
}

/* ---- what llhttp calls ---- */

static int on_url(llhttp_t *machine, const char *at, size_t size)
{
    parser_of(machine)->head->target = (struct span){at, size};
    return 0;
}

static int on_method(llhttp_t *machine, const char *at, size_t size)
{
    parser_of(machine)->head->method = (struct span){at, size};
    return 0;
}

static int on_header_field(llhttp_t *machine, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(machine);
    struct http_head *head = parser->head;

    if (head->fields.count == head->fields_max) {
        parser->refused = GUARD_FIELD_COUNT;
        return HPE_USER;
    }
    head->fields.at[head->fields.count++] =
        (struct http_field){.name = {at, size}, .value = {at + size, 0}};
    return 0;
}

static int on_header_value(llhttp_t *machine, const char *at, size_t size)
{
    struct http_fields *fields = &parser_of(machine)->head->fields;

    CHECK(fields->count > 0);
    fields->at[fields->count - 1].value = span_trim((struct span){at, size});
    return 0;
}

static bool is_persistent(const llhttp_t *machine)
{
    if (machine->flags & F_CONNECTION_CLOSE)
        return false;
    return machine->http_minor == 1 || (machine->flags & F_CONNECTION_KEEP_ALIVE) != 0;
}

static int on_headers_complete(llhttp_t *machine)
{
    struct http_parser *parser = parser_of(machine);
    struct http_head *head = parser->head;
    bool is_bodyless;

    head->is_request = parser->_is_request;
    head->minor = machine->http_minor;
    head->code = parser->_is_request ? 0 : machine->status_code;
    parser->refused = guard_head(head);
    if (parser->refused != GUARD_OK)
        return -1;
    is_bodyless = parser->_is_request ? !head->is_chunked && head->length <= 0
                                      : parser->_answers_head || http_is_bodyless(head->code);
    head->is_until_close =
        !parser->_is_request && !is_bodyless && !head->is_chunked && head->length < 0;
    head->has_body = !is_bodyless && (head->length != 0 || head->is_until_close);
    head->is_persistent =
        head->code / 100 == 1 || (is_persistent(machine) && !head->is_until_close);
    parser->_is_interim = head->code / 100 == 1;
    parser->_is_persistent = head->is_persistent;
    parser->_is_until_close = head->is_until_close;
    machine->upgrade = 0; /* no other protocol is spoken: an offer of one changes nothing */
    return is_bodyless ? 1 : 0;
}

static int on_chunk_header(llhttp_t *machine)
{
    struct http_parser *parser = parser_of(machine);
    uint64_t size = machine->content_length;

    if (size == 0) {
        parser->_is_at_trailer = true;
        return HPE_PAUSED;
    }
    if (size > parser->_chunked_left) {
        parser->refused = GUARD_BODY_BYTES;
        return HPE_USER;
    }
    parser->_chunked_left -= size;
    if (size > CHUNK_SIZE_SEEN)
        size = CHUNK_SIZE_SEEN;
    parser->_warranted += CHUNK_WARRANTS + 2 * size;
    return 0;
}

static int on_body(llhttp_t *machine, const char *at, size_t size)
{
    if (size == 0) /* llhttp repeats itself after a pause */
        return 0;
    parser_of(machine)->_body = (struct span){at, size};
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *machine)
{
    parser_of(machine)->_is_complete = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_method = on_method,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- steps ---- */

static enum http_event refuse(struct http_parser *parser, enum guard rule)
{
    CHECK(rule != GUARD_OK);
    parser->refused = rule;
    parser->_state = FAILED;
    return HTTP_EVENT_REFUSED;
}

/* Which rule about framing llhttp found broken, by the fields up to the one that broke it. */
static enum guard framing_rule(const struct http_fields *fields)
{
    uint32_t codings = http_field_count(fields, SPAN("Transfer-Encoding"));
    uint32_t lengths = http_field_count(fields, SPAN("Content-Length"));

    if (codings > 1)
        return GUARD_CODING_TWICE;
    if (codings == 1)
        return lengths > 0 ? GUARD_CODING_LENGTH : GUARD_CODING_FINAL;
    return GUARD_LENGTH;
}

/* The rule that llhttp found broken. */
static enum guard rule_of(const struct http_parser *parser, llhttp_errno_t err)
{
    if (parser->refused != GUARD_OK)
        return parser->refused; /* it was one of ours */
    switch ((int)err) {
    case HPE_INVALID_METHOD:
        return GUARD_METHOD;
    case HPE_INVALID_URL:
        return GUARD_TARGET;
    case HPE_INVALID_VERSION:
        return GUARD_VERSION;
    case HPE_INVALID_STATUS:
        return GUARD_STATUS_LINE;
    case HPE_INVALID_HEADER_TOKEN:
        return GUARD_FIELD;
    case HPE_INVALID_CHUNK_SIZE:
        return GUARD_CHUNK;
    case HPE_UNEXPECTED_CONTENT_LENGTH:
    case HPE_INVALID_CONTENT_LENGTH:
    case HPE_INVALID_TRANSFER_ENCODING:
        return parser->_state == HEAD ? framing_rule(&parser->head->fields) : GUARD_FIELD;
    default:
        return parser->_state == BODY ? GUARD_CHUNK : GUARD_SYNTAX;
    }
}

/* Feeds llhttp `bytes` until it stops. False: they are wrong. */
static bool feed(struct http_parser *parser, struct span bytes, size_t *taken)
{
    llhttp_t *machine = machine_of(parser);
    llhttp_errno_t err = llhttp_execute(machine, bytes.ptr, bytes.len);

    *taken = bytes.len;
    if (err == HPE_PAUSED) {
        *taken = (size_t)(llhttp_get_error_pos(machine) - bytes.ptr);
        llhttp_resume(machine);
        err = HPE_OK;
    }
    if (err == HPE_OK)
        return true;
    refuse(parser, rule_of(parser, err));
    return false;
}

/* How long the section is that `in` starts with; 0: `*event` says why it is not to be had. */
static size_t scan(struct http_parser *parser, enum guard_section section, const struct buf *in,
                   enum http_event *event)
{
    const struct http_parser_limits *given = parser->limits;
    struct guard_limits limits = {given->request_line_bytes_max, section == GUARD_TRAILER
                                                                     ? given->trailer_bytes_max
                                                                     : given->head_bytes_max};
    size_t size;
    enum guard rule = guard_scan(&parser->_scan, section, buf_span(in), &limits, &size);

    *event = rule == GUARD_OK ? HTTP_EVENT_MORE : refuse(parser, rule);
    return rule == GUARD_OK ? size : 0;
}

static enum http_event read_head(struct http_parser *parser, struct buf *in)
{
    struct http_head *head = parser->head;
    enum http_event event;
    size_t taken,
        size = scan(parser, parser->_is_request ? GUARD_REQUEST : GUARD_RESPONSE, in, &event);

    if (size == 0)
        return event;
    parser->_chunked_left = UINT64_MAX;
    head->fields.count = 0;
    head->method = head->target = (struct span){NULL, 0};
    head->bytes = (struct span){in->data, size};
    if (!feed(parser, head->bytes, &taken))
        return HTTP_EVENT_REFUSED;
    if (taken != size) /* llhttp sees another end than the guard */
        return refuse(parser, GUARD_SYNTAX);
    buf_consume(in, size);
    parser->_state = BODY;
    return HTTP_EVENT_HEAD;
}

static enum http_event end_message(struct http_parser *parser)
{
    parser->_is_complete = false;
    if (!parser->_is_persistent) {
        parser->_state = LAST;
        return HTTP_EVENT_END;
    }
    if (!parser->_is_interim)
        parser->_answers_head = false;
    parser->_excess = parser->_warranted = 0;
    parser->_empty_lines = 0;
    parser->_state = START;
    return HTTP_EVENT_END;
}

/* `framing` bytes were taken that are no body. */
static bool is_excessive(struct http_parser *parser, size_t framing)
{
    parser->_excess += framing;
    parser->_excess -= parser->_excess < parser->_warranted ? parser->_excess : parser->_warranted;
    parser->_warranted = 0;
    return parser->_excess > parser->limits->excess_bytes_max;
}

static enum http_event read_body(struct http_parser *parser, struct buf *in, struct span *body)
{
    struct span bytes = in->len > 0 ? buf_span(in) : SPAN("");
    size_t taken;

    if (parser->_is_complete)
        return end_message(parser);
    parser->_body = (struct span){NULL, 0};
    if (!feed(parser, bytes, &taken)) /* without bytes too: it may have stopped before an end */
        return HTTP_EVENT_REFUSED;
    CHECK(taken <= bytes.len);
    buf_consume(in, taken);
    if (is_excessive(parser, taken - parser->_body.len))
        return refuse(parser, GUARD_CHUNK_EXCESS);
    if (parser->_body.len > 0) {
        *body = parser->_body;
        return HTTP_EVENT_BODY;
    }
    if (parser->_is_complete)
        return end_message(parser);
    if (parser->_is_at_trailer)
        parser->_state = TRAILER;
    return HTTP_EVENT_MORE;
}

static enum http_event read_trailer(struct http_parser *parser, struct buf *in)
{
    enum http_event event;
    size_t taken, size = scan(parser, GUARD_TRAILER, in, &event);

    if (size == 0)
        return event;
    if (!guard_trailer((struct span){in->data, size}))
        return refuse(parser, GUARD_FIELD);
    if (!feed(parser, SPAN("\r\n"), &taken))
        return HTTP_EVENT_REFUSED;
    if (!parser->_is_complete)
        return refuse(parser, GUARD_CHUNK);
    parser->trailer = (struct span){in->data, size};
    buf_consume(in, size);
    parser->_is_at_trailer = false;
    return end_message(parser);
}

/* Empty lines before a request (RFC 9112 section 2.2). */
static enum http_event read_start(struct http_parser *parser, struct buf *in)
{
    while (parser->_is_request && in->len > 0 && in->data[0] == '\r') {
        if (in->len == 1)
            return HTTP_EVENT_MORE;
        if (in->data[1] != '\n')
            return refuse(parser, GUARD_BARE_CR);
        if (parser->_empty_lines == EMPTY_LINES_MAX)
            return refuse(parser, GUARD_EMPTY_LINES);
        parser->_empty_lines++;
        buf_consume(in, 2);
    }
    if (in->len == 0)
        return HTTP_EVENT_MORE;
    parser->_state = HEAD;
    return read_head(parser, in);
}

/* ---- public ---- */

struct http_head *http_head_create(uint32_t fields_max)
{
    struct http_head *head = mem_alloc(sizeof(*head));

    CHECK(fields_max > 0);
    head->fields_max = fields_max;
    head->fields.at = mem_calloc(fields_max, sizeof(*head->fields.at));
    return head;
}

void http_head_destroy(struct http_head *head)
{
    if (head == NULL)
        return;
    mem_free(head->fields.at);
    mem_free(head);
}

void http_parser_init(struct http_parser *parser, enum http_parser_kind kind,
                      struct http_head *head, const struct http_parser_limits *limits)
{
    CHECK(head != NULL);
    CHECK(limits != NULL);
    *parser = (struct http_parser){.head = head,
                                   .limits = limits,
                                   ._state = START,
                                   ._is_request = kind == HTTP_PARSE_REQUESTS};
    llhttp_init(machine_of(parser), parser->_is_request ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
}

void http_parser_answers_head(struct http_parser *parser, bool is_head)
{
    CHECK(!parser->_is_request);
    CHECK(parser->_state == START || parser->_state == LAST);
    parser->_answers_head = is_head;
}

void http_parser_limit_chunks(struct http_parser *parser, uint64_t bytes_max)
{
    CHECK(parser->_state == BODY);
    parser->_chunked_left = bytes_max;
}

enum http_event http_parser_next(struct http_parser *parser, struct buf *in, struct span *body)
{
    enum http_event event;

    CHECK(in != NULL);
    CHECK(body != NULL);
    switch (parser->_state) {
    case START:
        return read_start(parser, in);
    case HEAD:
        return read_head(parser, in);
    case BODY:
        event = read_body(parser, in, body);
        if (event == HTTP_EVENT_MORE && parser->_state == TRAILER)
            return read_trailer(parser, in);
        return event;
    case TRAILER:
        return read_trailer(parser, in);
    case LAST:
        return HTTP_EVENT_MORE;
    default:
        return HTTP_EVENT_REFUSED;
    }
}

enum http_event http_parser_finish(struct http_parser *parser)
{
    switch (parser->_state) {
    case START:
    case LAST:
        return HTTP_EVENT_MORE;
    case BODY:
        if (parser->_is_until_close)
            return end_message(parser);
        return refuse(parser, GUARD_CUT_OFF);
    case HEAD:
    case TRAILER:
        return refuse(parser, GUARD_CUT_OFF);
    default:
        return HTTP_EVENT_REFUSED;
    }
}

bool http_parser_is_idle(const struct http_parser *parser)
{
    return parser->_state == START && parser->_empty_lines == 0;
}
