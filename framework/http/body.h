/* http/body.h - the body of a request: received up to its limit, pulled as it comes.
 *
 * A route that does not stream finds all of it in request->body. One that does (STREAM_BODY) pulls:
 * each pull is an op that brings some bytes, and none at the end. What was received and not pulled
 * is bounded: from HTTP_BODY_HIGH on the connection is not read, below it it is again.
 * Loop:   of the request's.
 * Memory: what a pull brought is good until the next one, or the scope's end; a body takes no more
 *         memory the longer it is.
 * Limits: body_bytes_max of the route or the server, inclusive.
 */
#ifndef WEFT_HTTP_BODY_H
#define WEFT_HTTP_BODY_H

#include "http/request.h"

/* Bytes that may wait for a pull before the connection is no longer read. */
enum { HTTP_BODY_HIGH = 65536 };

/* Pulls up to `bytes_max` (at least 1) bytes of the request that `scope` serves, or its root: they
 * are op->piece, which is absent at the body's end; a NUL stands behind one that is all there was.
 * A client that waits for our word (100-continue) gets it with the first pull. One at a time: a
 * second one fails with ERR_STATE, and so does one where there is no request. ERR_CANCELED: the
 * client left; ERR_BODY_SLOW: it sent nothing, or too little, for too long; ERR_BODY_TOO_BIG;
 * ERR_BAD_REQUEST: the body is malformed or cut off. What is pulled is no longer part of
 * http_request_body(). The op is good until the next pull. While a pull waits, the request's budget
 * does not count, and with each piece it begins anew, until the answer has begun. */
struct op *http_body_read(struct scope *scope, size_t bytes_max);

/* ---- for conn_read.c ---- */

/* Some of it came: never more than the limit, which its length or each chunk's was held against. */
void http_body_receive(struct http_request *request, struct span bytes);

/* All of it came. */
void http_body_complete(struct http_request *request);

/* It will never be complete: a pull that waits, and every later one, fails. `why` is for the access
 * log; NULL: derived. */
void http_body_fail(struct http_request *request, enum err err, const char *why);

/* Is so much waiting that the connection should not be read? */
bool http_body_is_full(const struct http_request *request);

#endif
