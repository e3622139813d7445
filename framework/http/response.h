/* http/response.h - answering a request.
 *
 * An answer is begin, write, end; http_reply() is the three in one, and writes a Content-Length.
 * Without a length a body is chunked (HTTP/1.1) or ends with the connection (1.0). Date, Server,
 * Connection and framing are the server's. The first reply stands: a second one is refused. With
 * its end the request's scope is canceled (SCOPE_REPLIED).
 * Loop:   of the worker's loop. Bytes leave at the end of the turn, in the order of the pipeline.
 * Memory: everything is copied before a call returns.
 */
#ifndef WEFT_HTTP_RESPONSE_H
#define WEFT_HTTP_RESPONSE_H

#include "http/request.h"

/* Adds a field to the reply. ERR_INVALID: no token, or a control byte or blanks around it in the
 * value, or one of the server's own (Content-Length, Transfer-Encoding, Connection, Date, ...);
 * ERR_STATE: the reply has begun. A Content-Type gives way to the reply's `type`. */
enum err http_reply_field(struct http_request *request, struct span name, struct span value)
    __attribute__((warn_unused_result));

/* A whole answer. `type` may be absent. ERR_STATE: there is one already; ERR_INVALID: the code is
 * not 200 to 599, or the type no field value; ERR_CLOSED: the client has left (the reply counts as
 * sent); ERR_IO: a filter could not change the body (http/filter.h), the reply is broken off. */
enum err http_reply(struct http_request *request, uint32_t code, struct span type, struct span body)
    __attribute__((warn_unused_result));

/* An application/problem+json of RFC 9457: {"type":"about:blank","title":...,"status":...,
 * "detail":...}. `detail` may be absent; what is not UTF-8 in it is replaced. Retry-After: 1 goes
 * with 503 unless such a field is there. The errors are http_reply()'s. */
enum err http_problem(struct http_request *request, uint32_t code, struct span detail)
    __attribute__((warn_unused_result));

/* The head. `length` of the body, or -1: unknown. The errors are http_reply()'s. */
enum err http_reply_begin(struct http_request *request, uint32_t code, struct span type,
                          int64_t length) __attribute__((warn_unused_result));

/* Some of the body. ERR_STATE: not begun, ended, or beyond the declared length; ERR_CLOSED: the
 * client has left; ERR_IO: a filter could not change it, and the reply will end broken off. */
enum err http_reply_write(struct http_request *request, struct span bytes)
    __attribute__((warn_unused_result));

/* Its end. ERR_STATE: not begun, ended, or short of the declared length (the answer ends all the
 * same, and the connection with it); ERR_CLOSED: the client has left; ERR_IO: as above, and now it
 * has ended. */
enum err http_reply_end(struct http_request *request) __attribute__((warn_unused_result));

#endif
