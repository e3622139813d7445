/* http/body.c - the body of a request: received up to its limit, pulled as it comes.
 *
 *   connection ──receive──▶ body ──(all of it at once)──▶ piece ──▶ pulls
 *
 * A pull is given a slice of the piece, which nothing is added to: what comes meanwhile gathers in
 * the body, and becomes the next piece once this one is used up. So bytes are copied once.
 */
#include "http/body.h"
#include "base/check.h"
#include "http/inside.h"

struct http_body_pull {
    struct op op;                 /* what the handler waits for */
    struct http_request *request; /* whose body; NULL: none */
    size_t bytes_max;             /* no more than these */
    struct span bytes;            /* what came */
};

static void withdraw(struct op *op)
{
    struct http_body_pull *pull = CONTAINER_OF(op, struct http_body_pull, op);

    CHECK(pull->request->_pull == pull);
    pull->request->_pull = NULL;
    op_retire(op);
}

static const struct op_kind kind = {.name = "body", .account = -1, .withdraw = withdraw};

static void finish(struct http_request *request, enum err err)
{
    struct http_body_pull *pull = request->_pull;

    request->_pull = NULL;
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
    }
    if (piece->len > 0) {
        request->_handed = piece->len < pull->bytes_max ? piece->len : pull->bytes_max;
        pull->bytes = (struct span){piece->data, request->_handed};
        finish(request, ERR_OK);
    } else if (request->is_body_complete) {
        pull->bytes = SPAN("");
        finish(request, ERR_OK);
    } else if (request->_body_err != ERR_OK) {
        finish(request, request->_body_err);
    }
}

struct op *http_body_read(struct scope *scope, size_t bytes_max)
{
    struct http_request *request = http_request_of(scope);
    struct http_body_pull *pull;

    CHECK(bytes_max > 0);
    pull = scope_alloc(scope, sizeof(*pull));
    pull->request = request;
    pull->bytes_max = bytes_max;
    if (!op_init(&pull->op, scope, &kind))
        return &pull->op;
    if (request == NULL || request->_pull != NULL) {
        op_finish(&pull->op, ERR_STATE, NULL);
        return &pull->op;
    }
    request->_pull = pull;
    buf_consume(&request->_piece, request->_handed);
    request->_handed = 0;
    if (request->conn != NULL && !request->is_body_complete && request->_body_err == ERR_OK)
        http_conn_want_body(request->conn, request);
    serve(request);
    return &pull->op;
}

struct span http_body_bytes(const struct op *op)
{
    CHECK_OBJ(op, OP_MAGIC);
    CHECK(op->kind == &kind);
    return CONTAINER_OF(op, struct http_body_pull, op)->bytes;
}

void http_body_receive(struct http_request *request, struct span bytes)
{
    CHECK(!request->is_body_complete);
    CHECK(bytes.len > 0);
    CHECK(bytes.len <= request->_body_max - request->body_bytes);
    request->body_bytes += bytes.len;
    buf_append(&request->body, bytes);
    serve(request);
}

void http_body_complete(struct http_request *request)
{
    request->is_body_complete = true;
    if (request->body.len > 0)
        *buf_reserve(&request->body, 1) = '\0';
    serve(request);
}

void http_body_fail(struct http_request *request, enum err err)
{
    CHECK(err != ERR_OK);
    CHECK(!request->is_body_complete);
    if (request->_body_err == ERR_OK)
        request->_body_err = err;
    serve(request);
}

bool http_body_is_full(const struct http_request *request)
{
    const struct http_route *route = request->match.route;

    if (route == NULL || (route->flags & HTTP_ROUTE_STREAM_BODY) == 0)
        return false;
    return request->body.len + request->_piece.len - request->_handed >= HTTP_BODY_HIGH;
}
