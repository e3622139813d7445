/* http/reply_file.h - an answer that is a file, or a part of one.
 *
 * A small one is read at once and goes out as any other body. A larger one is sent by the stream
 * (stream_send_file()), when its turn in the pipeline has come: the handler is done with it, the
 * request is over with its last byte.
 *
 * Reading a file blocks where the kernel does not have it in memory: at most HTTP_FILE_COPY_MAX
 * bytes here, and a piece a turn later. Who serves files from slow disks has them read ahead, on a
 * helper thread, before it answers.
 * Loop:   of the worker's loop.
 * Memory: constant, whatever the size.
 * Limits: none but the client's (write_timeout).
 */
#ifndef WEFT_HTTP_REPLY_FILE_H
#define WEFT_HTTP_REPLY_FILE_H

#include "http/request.h"

enum { HTTP_FILE_COPY_MAX = 16384 };

/* What is sent. */
struct http_file {
    int fd;          /* readable at any place */
    uint64_t offset; /* of the first byte */
    uint64_t length; /* bytes from there on: the body's length */
};

/* A whole answer, after which the scope is canceled (SCOPE_REPLIED). Takes over `fd`, whatever
 * comes of it. The errors are http_reply()'s; ERR_IO: a small file cannot be read, or ends before
 * its end, and there is no answer yet. A larger one that turns out so breaks the answer off. */
enum err http_reply_file(struct http_request *request, uint32_t code, struct span type,
                         const struct http_file *file) __attribute__((warn_unused_result));

/* ---- for the other files of the room ---- */

/* Is the answer of `request`, which is complete but for it, waiting for its file? */
bool http_file_is_pending(const struct http_request *request);

/* Its answer is the first in line: the file goes out, unless it does already. */
void http_file_send(struct http_request *request);

/* It was sent; or could not be (`err`), which ends the connection. */
void http_file_sent(struct http_request *request, enum err err);

/* The connection goes: counts what was sent of it. */
void http_file_count(struct http_request *request);

/* Its request is over. */
void http_file_stop(struct http_request *request);

#endif
