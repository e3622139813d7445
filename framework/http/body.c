/* http/body.c - the body of a request: received up to its limit, pulled as it comes.
 *
 *   connection ──receive──▶ body ──(all of it at once)──▶ piece ──▶ pulls
 *
 * A pull is given a slice of the piece, which nothing is added to: what comes meanwhile gathers in
 * the body, and becomes the next piece once this one is used up. So bytes are copied once.
 *
 * A pull's op goes with the next pull, which takes over its memory: however long a body is, its
 * pulls take no more than one.
 */
#include "http/body.h"
#include "base/check.h"
#include "http/inside.h"

struct http_body_pull {
    struct op op;                 /* what the handler waits for */
    struct http_request *request; /* whose body; NULL: none */
    size_t bytes_max;             /* no more than these */
};

static void withdraw(struct op *op)
{
    struct http_body_pull *pull = CONTAINER_OF(op, struct http_body_pull, op);

    CHECK(pull->request->_pull == pull);
    pull->request->_pull = NULL;
    http_request_renew(pull->request);
    op_retire(op);
}

static void release(struct op *op)
{
    struct http_body_pull *pull = CONTAINER_OF(op, struct http_body_pull, op);

    if (pull->request != NULL && pull->request->_last_pull == pull)
        pull->request->_last_pull = NULL;
}

static const struct op_kind kind = {
    .name = "body", .account = -1, .withdraw = withdraw, .release = release};

static void finish(struct http_request *request, enum err err)
{
    struct http_body_pull *pull = request->_pull;

    CHECK(pull->request == request);
    request->_pull = NULL;
    http_request_renew(request);
    op_finish(&pull->op, err, NULL);
}

/* Gives the pull that waits what there is, or its end. */
static void serve(struct http_request *request)
{
    struct http_body_pull *pull = request->_pull;
    struct buf *piece = &request->_piece;

    if (pull == NULL)
        return;
    if (piece->len == 0 && request->body.len > 0) {
        buf_release(piece);
        *piece = request->body;
        buf_init(&request->body, &request->server->buffers);
        *buf_reserve(piece, 1) = '\0'; /* there is room: see http_body_receive() */
    }
    if (piece->len > 0) {
        request->_handed = piece->len < pull->bytes_max ? piece->len : pull->bytes_max;
        pull->op.piece = (struct span){piece->data, request->_handed};
        finish(request, ERR_OK);
    } else if (request->is_body_complete) {
        finish(request, ERR_OK);
    } else if (request->_body_err != ERR_OK) {
        finish(request, request->_body_err);
    }
}

/* Memory for a pull: the last one's, where it can be let go of and is of the same scope. */
static struct http_body_pull *take_pull(struct scope *scope, struct http_request *request)
{
    struct http_body_pull *last = request != NULL ? request->_last_pull : NULL;
    bool is_same = last != NULL && last->op.scope == scope;

    if (last == NULL)
        return scope_alloc(scope, sizeof(*last));
    last->op.piece = (struct span){NULL, 0};
    if (op_release(&last->op) != ERR_OK || !is_same)
        return scope_alloc(scope, sizeof(*last));
    *last = (struct http_body_pull){.request = NULL};
    return last;
}

struct op *http_body_read(struct scope *scope, size_t bytes_max)
{
    struct http_request *request = http_request_of(scope);
    struct http_body_pull *pull;
    bool was_full;

    CHECK(bytes_max > 0);
    if (request != NULL && request->_pull != NULL)
        return op_failed(scope, ERR_STATE, NULL, SPAN("a pull of this body waits already"));
    pull = take_pull(scope, request);
    pull->request = request;
    pull->bytes_max = bytes_max;
    if (request != NULL)
        request->_last_pull = pull;
    if (!op_init(&pull->op, scope, &kind))
        return &pull->op;
    if (request == NULL) {
        op_finish(&pull->op, ERR_STATE, NULL);
        return &pull->op;
    }
    was_full = http_body_is_full(request);
    CHECK(request->_handed <= request->_piece.len);
    request->_pull = pull;
    buf_consume(&request->_piece, request->_handed);
    request->_handed = 0;
    serve(request);
    if (request->_pull == pull)
        scope_renew(request->scope, 0); /* the client's time is not the handler's */
    if (request->conn != NULL && !request->is_body_complete && request->_body_err == ERR_OK)
        http_conn_want_body(request->conn, request, was_full);
    return &pull->op;
}

void http_body_receive(struct http_request *request, struct span bytes)
{
    CHECK(!request->is_body_complete);
    CHECK(bytes.len > 0);
    CHECK(bytes.len <= request->_body_max - request->body_bytes);
    request->body_bytes += bytes.len;
    memcpy(buf_reserve(&request->body, bytes.len + 1), bytes.ptr, bytes.len); /* and a NUL */
    buf_commit(&request->body, bytes.len);
    serve(request);
}

void http_body_complete(struct http_request *request)
{
    CHECK(request->_body_err == ERR_OK);
    request->is_body_complete = true;
    if (request->body.len > 0)
        *buf_reserve(&request->body, 1) = '\0';
    serve(request);
}

void http_body_fail(struct http_request *request, enum err err, const char *why)
{
    CHECK(err != ERR_OK);
    CHECK(!request->is_body_complete);
    if (request->_body_err == ERR_OK)
        request->_body_err = err;
    if (request->why == NULL)
        request->why = why;
    serve(request);
}

bool http_body_is_full(const struct http_request *request)
{
    if (request->_is_asked)
        return true; /* nobody knows whether it is wanted */
    if (!http_request_streams(request))
        return false;
    return request->body.len + request->_piece.len - request->_handed >= HTTP_BODY_HIGH;
}
