/* upstream/answer.c - what a call has brought. */
#include "base/check.h"
#include "upstream/call.h"

/* The call of `op` if there is an answer; NULL. */
static const struct call *answered(const struct op *op)
{
    if (!op_is_upstream(op) || op->state == OP_PENDING || op->status != ERR_OK)
        return NULL;
    return CONTAINER_OF(op, const struct call, op);
}

uint32_t upstream_code(const struct op *op)
{
    const struct call *call = answered(op);

    return call != NULL ? call->code : 0;
}

const struct http_fields *upstream_fields(const struct op *op)
{
    static const struct http_fields none;
    const struct call *call = answered(op);

    return call != NULL ? &call->fields : &none;
}

struct span upstream_body(const struct op *op)
{
    const struct call *call = answered(op);

    if (call == NULL || call->flow != NULL)
        return (struct span){NULL, 0};
    return call->body.len > 0 ? buf_span(&call->body) : SPAN("");
}

int64_t upstream_time_us(const struct op *op, uint32_t which)
{
    const struct call *call = answered(op);

    return call != NULL && which < UPSTREAM_TIME_COUNT ? call->times_us[which] : -1;
}

struct span upstream_address(const struct op *op)
{
    const struct call *call = answered(op);

    return call != NULL ? call->address : (struct span){NULL, 0};
}

bool upstream_is_reused(const struct op *op)
{
    const struct call *call = answered(op);

    return call != NULL && call->is_reused;
}
