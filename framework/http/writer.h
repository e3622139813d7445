/* http/writer.h - messages to bytes: heads, chunks, dates.
 *
 * Everything is put at the end of a buffer, where it is sent from: no format strings, one room made
 * for a whole head, and a Date that is rendered once a second.
 * Memory: nothing is kept.
 * Limits: what is written was checked before (http/response.c): these functions trust their caller.
 */
#ifndef WEFT_HTTP_WRITER_H
#define WEFT_HTTP_WRITER_H

#include "base/buf.h"
#include "http/message.h"
#include <stdbool.h>
#include <stdint.h>

/* "Server: weft" and the time, as they go into a head. Zeroed: rendered with the first use. */
struct http_date {
    uint64_t until_us; /* on the loop's clock: when the text is no longer true */
    char text[56];     /* "Server: weft\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n" */
};

/* How a body ends. */
enum http_framing {
    HTTP_FRAMED_NOT,       /* there is none, and nothing is said about it */
    HTTP_FRAMED_BY_LENGTH, /* Content-Length */
    HTTP_FRAMED_BY_CHUNKS, /* Transfer-Encoding: chunked */
    HTTP_FRAMED_BY_CLOSE   /* with the connection */
};

/* What Connection says. */
enum http_persistence {
    HTTP_PERSISTS,       /* nothing: HTTP/1.1 */
    HTTP_PERSISTS_IN_10, /* keep-alive */
    HTTP_CLOSES          /* close */
};

/* The head of an answer, but for what the server says in each. */
struct http_answer {
    uint32_t code;                     /* 200 to 599 */
    struct span type;                  /* Content-Type; absent: none */
    const struct http_field *fields;   /* further ones; a Content-Type among them gives way */
    uint32_t field_count;              /* of them */
    enum http_framing framing;         /* see above */
    uint64_t length;                   /* HTTP_FRAMED_BY_LENGTH */
    enum http_persistence persistence; /* see above */
};

/* Renders the text anew where the loop's time says that a second has passed. */
void http_date_refresh(struct http_date *date, uint64_t now_us);

/* A whole head. */
void http_write_head(struct buf *out, const struct http_answer *answer,
                     const struct http_date *date);

/* "HTTP/1.1 100 Continue" and an empty line. */
void http_write_continue(struct buf *out);

/* A chunk; nothing for no bytes, which would be the last one. */
void http_write_chunk(struct buf *out, struct span bytes);

/* What goes before the data of a chunk of `size` bytes, which are not 0; a line's end goes behind
 * it. */
void http_write_chunk_head(struct buf *out, size_t size);

/* The last chunk, without a trailer. */
void http_write_last_chunk(struct buf *out);

/* The last chunk with these fields behind it. */
void http_write_last_chunk_with(struct buf *out, const struct http_fields *trailers);

#endif
