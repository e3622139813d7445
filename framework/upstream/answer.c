/* upstream/answer.c - what a call has brought. */
#include "base/check.h"
#include "task/scope.h"
#include "upstream/call.h"
#include <string.h>

/* Taking it */

/* One copy of the head's bytes; names and values lie in it and get their NULs, each in place of a
 * byte that belongs to none of them. */
static void copy_fields(struct call *call, const struct http_head *head)
{
    struct arena *arena = &call->op.scope->arena;
    char *bytes = arena_bytes(arena, head->bytes.len);
    struct http_field *to = arena_alloc(arena, head->fields.count * sizeof *to);

    memcpy(bytes, head->bytes.ptr, head->bytes.len);
    for (uint32_t i = 0; i < head->fields.count; i++) {
        const struct http_field *from = &head->fields.at[i];
        char *name = bytes + (from->name.ptr - head->bytes.ptr);
        char *value = bytes + (from->value.ptr - head->bytes.ptr);

        name[from->name.len] = '\0';
        value[from->value.len] = '\0';
        to[i] = (struct http_field){{name, from->name.len}, {value, from->value.len}};
    }
    call->fields = (struct http_fields){to, head->fields.count};
}

/* Who answered, and when. */
static void note_answer(struct call *call, const struct origin_conn *conn)
{
    call->is_reused = conn->uses > 1;
    call->times_us[UPSTREAM_TIME_CONNECT] =
        call->is_reused ? 0 : (int64_t)(conn->connected_us - conn->asked_us);
    call->times_us[UPSTREAM_TIME_FIRST_BYTE] =
        (int64_t)(loop_now_us(call->upstream->loop) - call->begun_us);
    call->address = arena_copy(&call->op.scope->arena, span_of(conn->target->text));
}

/* Where the answer is gzip, its fields are those of what comes out. */
static void begin_decoding(struct call *call)
{
    struct http_fields *fields = &call->fields;
    struct span coding = http_field_get(fields, SPAN("Content-Encoding"));
    uint32_t kept = 0;

    if (!span_equal_nocase(coding, SPAN("gzip")) && !span_equal_nocase(coding, SPAN("x-gzip")))
        return;
    if (http_field_count(fields, SPAN("Content-Encoding")) != 1)
        return;
    if (call->flow != NULL)
        flow_decode(call->flow);
    else
        call->inflate = inflate_create();
    for (uint32_t i = 0; i < fields->count; i++) {
        if (span_equal_nocase(fields->at[i].name, SPAN("Content-Encoding")) ||
            span_equal_nocase(fields->at[i].name, SPAN("Content-Length")))
            continue;
        fields->at[kept++] = fields->at[i];
    }
    fields->count = kept;
}

void call_take_head(struct call *call, const struct origin_conn *conn, const struct http_head *head)
{
    copy_fields(call, head);
    note_answer(call, conn);
    call->code = head->code;
    if (call->decodes && head->has_body)
        begin_decoding(call);
}

/* Showing it */

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
