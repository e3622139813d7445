/* plugin/abi_call.c - the table `call`: upstreams, calls and their answers. */
#include "base/check.h"
#include "base/slots.h"
#include "observe/blame.h"
#include "plugin/inside.h"
#include "upstream/upstream.h"
#include <assert.h>

static_assert(sizeof(weft_field) == sizeof(struct http_field) &&
                  offsetof(weft_field, value) == offsetof(struct http_field, value) &&
                  sizeof(weft_str) == sizeof(struct span) &&
                  offsetof(weft_str, len) == offsetof(struct span, len),
              "fields are handed on as they are");
static_assert(WEFT_CALL_IDEMPOTENT == UPSTREAM_IDEMPOTENT && WEFT_CALL_UPLOAD == UPSTREAM_UPLOAD &&
                  WEFT_CALL_TRAILERS == UPSTREAM_TRAILERS && WEFT_CALL_DECODE == UPSTREAM_DECODE &&
                  WEFT_CALL_SHARED == UPSTREAM_SHARED && WEFT_CALL_NO_HEDGE == UPSTREAM_NO_HEDGE,
              "flags of a call");
static_assert((int)WEFT_CALL_TIME_CONNECT == (int)UPSTREAM_TIME_CONNECT &&
                  (int)WEFT_CALL_TIME_FIRST_BYTE == (int)UPSTREAM_TIME_FIRST_BYTE &&
                  (int)WEFT_CALL_TIME_TOTAL == (int)UPSTREAM_TIME_TOTAL,
              "times of a call");

/* Flags that this host knows. */
enum {
    CALL_FLAGS = WEFT_CALL_IDEMPOTENT | WEFT_CALL_UPLOAD | WEFT_CALL_TRAILERS | WEFT_CALL_DECODE |
                 WEFT_CALL_SHARED
};

static const weft_str absent = {NULL, 0};

static weft_status find_upstream(weft_host *host, const char *name, weft_upstream **upstream)
{
    struct instance *instance = abi_init_of(host, "find_upstream");
    const struct plugin_services *services;
    struct upstream *found;

    if (instance == NULL)
        return WEFT_E_STATE;
    services = abi_services(instance->abi);
    found = name != NULL ? services->upstream(services->data, name) : NULL;
    if (found == NULL) {
        instance_fail(instance, 0, "there is no section [upstream.%s], which the plugin wants",
                      name != NULL ? name : "");
        return WEFT_E_INVALID;
    }
    *upstream =
        (weft_upstream *)(uintptr_t)instance_handle(instance, instance->abi->upstreams, found);
    return WEFT_OK;
}

/* Which of the two a call is. */
typedef struct op *start_fn(struct scope *scope, struct upstream *upstream,
                            const struct upstream_call *call);

static weft_op *refuse(struct scope *scope, const char *call, enum err err, const char *why)
{
    abi_misuse(call, why);
    return abi_handle(op_failed(scope, err, NULL, span_of(why)));
}

/* A session and its locks are held for as long as somebody else's server pleases. Once a route. */
static void warn_of_transaction(struct scope *scope, const struct upstream *upstream)
{
    struct abi *abi = abi_here();
    uint32_t index = scope->blame_index;
    struct abi_who who;

    CHECK(index < BLAME_NAMES_MAX);
    if ((abi->warned[index / 8] >> index % 8 & 1) != 0)
        return;
    abi->warned[index / 8] |= (unsigned char)(1u << index % 8);
    abi_who(abi, scope, &who);
    const struct log_field fields[] = {who.fields[0],
                                       who.fields[1],
                                       who.fields[2],
                                       {"upstream", span_of(upstream_name(upstream))}};
    log_write_fields(abi_log_site(SPAN("transaction"), who.fields[1].value), LOG_WARN, fields, 4,
                     "a database transaction is open while an upstream is called: its session and "
                     "its locks are held meanwhile");
}

/* Are all of them there, with names and values? */
static bool has_fields(const weft_call *call)
{
    if (call->field_count > 0 && call->fields == NULL)
        return false;
    for (uint32_t i = 0; i < call->field_count; i++) {
        if (call->fields[i].name.ptr == NULL || call->fields[i].value.ptr == NULL)
            return false;
    }
    return true;
}

static weft_op *begin(weft_ctx *ctx, weft_upstream *handle, const weft_call *given,
                      const char *name, start_fn *fn)
{
    struct scope *scope = abi_scope(ctx, name);
    struct upstream *upstream;
    weft_call call;

    if (scope == NULL)
        return NULL;
    upstream = slots_get(abi_here()->upstreams, abi_number(handle));
    if (upstream == NULL)
        return refuse(scope, name, ERR_STATE, "no upstream of this plugin");
    if (scope->root->held_count > 0)
        warn_of_transaction(scope, upstream);
    if (!abi_take_options(&call, sizeof call, given) || (call.flags & ~(uint32_t)CALL_FLAGS) != 0)
        return refuse(scope, name, ERR_UNSUPPORTED, "options that this host does not know");
    if (!has_fields(&call))
        return refuse(scope, name, ERR_INVALID,
                      "no fields where they should be, or one that is absent");
    {
        const struct upstream_call made = {
            .method = span_of(call.method),
            .path = abi_span(call.path),
            .fields = (const struct http_field *)(const void *)call.fields,
            .field_count = call.field_count,
            .body = abi_span(call.body),
            .flags = call.flags,
            .timeout_ms = call.timeout_ms,
            .length = call.length,
            .hedge_ms = call.hedge_ms,
        };
        return abi_handle(fn(scope, upstream, &made));
    }
}

static weft_op *start(weft_ctx *ctx, weft_upstream *handle, const weft_call *given)
{
    return begin(ctx, handle, given, "call_start", upstream_call);
}

static uint32_t code(weft_op *handle)
{
    const struct op *op = abi_op(handle, "call_code");

    return op != NULL && op_is_upstream(op) ? upstream_code(op) : 0;
}

static weft_str header(weft_op *handle, const char *name)
{
    const struct op *op = abi_op(handle, "call_header");
    const struct http_fields *fields;

    if (op == NULL || name == NULL || !op_is_upstream(op))
        return absent;
    fields = upstream_fields(op);
    return fields != NULL ? abi_str(http_field_get(fields, span_of(name))) : absent;
}

static weft_str body(weft_op *handle)
{
    const struct op *op = abi_op(handle, "call_body");

    return op != NULL && op_is_upstream(op) ? abi_str(upstream_body(op)) : absent;
}

static weft_field header_at(weft_op *handle, uint32_t index)
{
    const struct op *op = abi_op(handle, "call_header_at");
    const struct http_fields *fields =
        op != NULL && op_is_upstream(op) ? upstream_fields(op) : NULL;

    if (fields == NULL || index >= fields->count)
        return (weft_field){absent, absent};
    return (weft_field){abi_str(fields->at[index].name), abi_str(fields->at[index].value)};
}

static int64_t time_us(weft_op *handle, uint32_t which)
{
    const struct op *op = abi_op(handle, "call_time_us");

    return op != NULL && op_is_upstream(op) ? upstream_time_us(op, which) : -1;
}

static weft_str address(weft_op *handle)
{
    const struct op *op = abi_op(handle, "call_address");

    return op != NULL && op_is_upstream(op) ? abi_str(upstream_address(op)) : absent;
}

static uint32_t is_reused(weft_op *handle)
{
    const struct op *op = abi_op(handle, "call_is_reused");

    return op != NULL && op_is_upstream(op) && upstream_is_reused(op);
}

/* Streams */

static weft_op *stream(weft_ctx *ctx, weft_upstream *handle, const weft_call *given)
{
    return begin(ctx, handle, given, "call_stream", upstream_stream);
}

static weft_op *read_piece(weft_op *handle)
{
    struct op *op = abi_op(handle, "call_read");

    return op != NULL ? abi_handle(upstream_read(op)) : NULL;
}

static weft_op *write_piece(weft_op *handle, weft_str bytes)
{
    struct op *op = abi_op(handle, "call_write");

    return op != NULL ? abi_handle(upstream_write(op, abi_span(bytes))) : NULL;
}

static weft_status write_end(weft_op *handle, uint32_t count, const weft_field *trailers)
{
    struct op *op = abi_op(handle, "call_write_end_with");
    enum err err;

    if (op == NULL)
        return WEFT_E_STATE;
    for (uint32_t i = 0; i < count; i++) {
        if (trailers == NULL || trailers[i].name.ptr == NULL || trailers[i].value.ptr == NULL) {
            abi_misuse("call_write_end_with", "no trailers where they should be, or an absent one");
            return WEFT_E_INVALID;
        }
    }
    err = upstream_write_end(op, (const struct http_field *)(const void *)trailers, count);
    if (err != ERR_OK)
        abi_misuse("call_write_end_with",
                   err == ERR_INVALID ? "a field that must not stand behind a body"
                                      : "no body is being written, or it is short of its length");
    return abi_status(err);
}

static uint32_t wants(weft_op *handle)
{
    const struct op *op = abi_op(handle, "call_wants");

    return op != NULL && upstream_wants(op);
}

static weft_str trailer(weft_op *handle, const char *name)
{
    const struct op *op = abi_op(handle, "call_trailer");

    if (op == NULL || name == NULL)
        return absent;
    return abi_str(http_field_get(upstream_trailers(op), span_of(name)));
}

static weft_field trailer_at(weft_op *handle, uint32_t index)
{
    const struct op *op = abi_op(handle, "call_trailer_at");
    const struct http_fields *fields = op != NULL ? upstream_trailers(op) : NULL;

    if (fields == NULL || index >= fields->count)
        return (weft_field){absent, absent};
    return (weft_field){abi_str(fields->at[index].name), abi_str(fields->at[index].value)};
}

const weft_call_api abi_call = {
    .size = sizeof(weft_call_api),
    .upstream = find_upstream,
    .start = start,
    .code = code,
    .header = header,
    .body = body,
    .stream = stream,
    .read = read_piece,
    .write = write_piece,
    .write_end = write_end,
    .wants = wants,
    .trailer = trailer,
    .trailer_at = trailer_at,
    .header_at = header_at,
    .time_us = time_us,
    .address = address,
    .is_reused = is_reused,
};
