/* http/parser.h - bytes to messages: requests of clients, and answers of upstreams.
 *
 * A parser is asked for the next event until it wants more bytes:
 *
 *   MORE ──▶ HEAD ──▶ BODY ──▶ BODY ... ──▶ END ──▶ the next message
 *     └────────┴────────┴──▶ REFUSED, for good: parser->refused says why
 *
 * A head is buffered whole before any of it is parsed, and it and the trailers pass the guard
 * (http/guard.h). It stops behind each message: what follows stays in the buffer until it is asked
 * again. This is the one file that knows llhttp.
 * Loop:   of one loop; calls nothing back.
 * Memory: embedded, holds no storage: spans are slices of the buffer's bytes, and good until bytes
 *         are added to it or it is released. The head is shared by the parsers of a loop: good
 *         until the next call of any of them.
 * Limits: struct http_parser_limits. Besides: 2 empty lines before a request.
 */
#ifndef WEFT_HTTP_PARSER_H
#define WEFT_HTTP_PARSER_H

#include "base/buf.h"
#include "http/guard.h"
#include "http/message.h"
#include "http/uri.h"
#include <stdbool.h>
#include <stdint.h>

/* What a parser has to say. */
enum http_event {
    HTTP_EVENT_MORE,   /* nothing, before there are more bytes */
    HTTP_EVENT_HEAD,   /* parser->head is the next message's */
    HTTP_EVENT_BODY,   /* some of its body */
    HTTP_EVENT_END,    /* it is complete */
    HTTP_EVENT_REFUSED /* it is wrong: the connection is of no use any more */
};

enum http_parser_kind { HTTP_PARSE_REQUESTS, HTTP_PARSE_ANSWERS };

/* What a request expects of us before it goes on (RFC 9110 section 10.1.1). */
enum http_expect { HTTP_EXPECT_NOTHING, HTTP_EXPECT_CONTINUE, HTTP_EXPECT_OTHER };

/* A parsed head. */
struct http_head {
    struct span bytes;         /* all of it, with the empty line */
    struct span method;        /* of a request */
    struct span target;        /* of a request, as it came */
    struct uri uri;            /* its parts */
    struct span host;          /* of the absolute target or the Host field; may be empty */
    uint32_t code;             /* of an answer: 100 to 599, never 101 */
    struct http_fields fields; /* in their order; room for fields_max */
    uint32_t fields_max;       /* more are refused */
    uint8_t minor;             /* HTTP/1.0 or 1.1 */
    bool is_request;           /* or an answer */
    bool is_chunked;           /* the body's length is not known before its end */
    bool is_until_close;       /* of an answer: its body ends with the connection */
    bool has_body;             /* an HTTP_EVENT_BODY may come; else HTTP_EVENT_END is next */
    bool is_persistent;        /* as far as the peer is concerned, another message may follow */
    enum http_expect expect;   /* of a request */
    int64_t length;            /* Content-Length, of a HEAD's answer too; -1: none */
};

enum { HTTP_EXCESS_BYTES = 16384 }; /* as much as Go's net/http allows */

/* How much a peer may send; shared by many parsers, and the caller's. */
struct http_parser_limits {
    size_t request_line_bytes_max; /* without its end; answers have head_bytes_max alone */
    size_t head_bytes_max;         /* with the empty line */
    size_t trailer_bytes_max;      /* the same of a trailer */
    size_t excess_bytes_max;       /* of chunk sizes and extensions, beyond what the body's size
                                    * warrants; HTTP_EXCESS_BYTES is fine */
};

/* Room for llhttp's own struct. */
enum { HTTP_PARSER_MACHINE_SIZE = 96 };

/* One direction of one connection. */
struct http_parser {
    struct http_head *head;                  /* shared by the loop's parsers; the caller's */
    const struct http_parser_limits *limits; /* the caller's */
    struct guard_scan _scan;                 /* of the section that is being received */
    struct span _body;                       /* what on_body said last */
    uint64_t _excess;                        /* framing bytes beyond what chunks warrant */
    uint64_t _warranted;                     /* by chunks since _excess was counted */
    uint64_t _chunked_left;                  /* bytes that further chunks may announce */
    struct span trailer;                     /* the section behind the last chunk, with its empty
                                              * line: set with HTTP_EVENT_END, good as long as a
                                              * body's bytes. Who takes it, clears it */
    enum guard refused;                      /* why; GUARD_OK */
    uint8_t _state;                          /* see parser.c */
    uint8_t _empty_lines;                    /* before the request line, so far */
    bool _is_request;                        /* it parses requests */
    bool _answers_head;                      /* the answer that is next is a HEAD's */
    bool _is_interim;                        /* the message under way is a 1xx */
    bool _is_persistent;                     /* of the message under way */
    bool _is_until_close;                    /* of the message under way */
    bool _is_complete;                       /* llhttp saw the end of the message */
    bool _is_at_trailer;                     /* llhttp saw the last chunk's size */
    _Alignas(8) unsigned char _machine[HTTP_PARSER_MACHINE_SIZE]; /* llhttp's */
};

/* A head with room for `fields_max` fields, for all the parsers of a loop. */
struct http_head *http_head_create(uint32_t fields_max);

/* Frees it; NULL is fine. */
void http_head_destroy(struct http_head *head);

/* Starts at the beginning of a connection. */
void http_parser_init(struct http_parser *parser, enum http_parser_kind kind,
                      struct http_head *head, const struct http_parser_limits *limits);

/* The answer that is parsed next belongs to a HEAD (or does not), so that its Content-Length has no
 * body behind it. To be said again for each; interim answers (1xx) do not count. */
void http_parser_answers_head(struct http_parser *parser, bool is_head);

/* The message whose head came last may have `bytes_max` bytes of body: a chunk that announces more
 * than is left is refused (GUARD_BODY_BYTES) before any of it comes. To be said right after each
 * head; else there is no such limit. A Content-Length is the caller's to look at. */
void http_parser_limit_chunks(struct http_parser *parser, uint64_t bytes_max);

/* The next event. Takes what it has understood from the front of `in`; `*body` is set for
 * HTTP_EVENT_BODY only, and never empty. HTTP_EVENT_HEAD comes for interim answers too, with
 * HTTP_EVENT_END behind. Behind a message that is not persistent nothing more is taken:
 * HTTP_EVENT_MORE. */
enum http_event http_parser_next(struct http_parser *parser, struct buf *in, struct span *body);

/* The peer closed, and all of its bytes were asked for: HTTP_EVENT_END where that is how the
 * message ends, HTTP_EVENT_MORE between messages, HTTP_EVENT_REFUSED within one. */
enum http_event http_parser_finish(struct http_parser *parser);

/* Is it between two messages, with not a byte of the next one taken or seen? */
bool http_parser_is_idle(const struct http_parser *parser);

#endif
