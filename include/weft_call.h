/* weft_call.h - the plugin ABI's chapter on upstreams: calls to other servers over HTTP. Included
 * by weft.h, which has the rules for all chapters.
 */
#ifndef WEFT_CALL_H
#define WEFT_CALL_H

#ifndef WEFT_H
#error "include weft.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- at init -------------------------------------------------------------------------------- */

/* The upstream of section [upstream.NAME]. WEFT_E_INVALID: there is none. [init] */
static inline WEFT_MUST_USE weft_status weft_find_upstream(weft_host *host, const char *name,
                                                           weft_upstream **upstream)
{
    return weft__api->call->upstream(host, name, upstream);
}

/* ---- upstreams ------------------------------------------------------------------------------ */

/* Of a call to an upstream. */
struct weft_call {
    uint32_t size;      /* sizeof(weft_call) */
    uint32_t flags;     /* WEFT_CALL_... */
    const char *method; /* NULL: GET */
    weft_str path;      /* with its query, percent-encoded; begins with '/' */
    weft_str body;      /* may be absent */
    const weft_field
        *fields;          /* `field_count` of them; Host, framing and hop-by-hop are the host's */
    uint32_t field_count; /* of fields */
    uint32_t timeout_ms;  /* 0: the upstream's; only ever shortens the ctx's budget */
};

/* May be sent again, whatever its method (it carries an Idempotency-Key, say). */
#define WEFT_CALL_IDEMPOTENT 1u

/* Calls. An answer of any status, 4xx and 5xx too, is WEFT_OK with that code. A field must have a
 * name and a value. [loop] */
static inline weft_op *weft_call_start(weft_ctx *ctx, weft_upstream *upstream,
                                       const weft_call *call)
{
    return weft__api->call->start(ctx, upstream, call);
}

/* The answer's status; 0: no answer. [loop] */
static inline uint32_t weft_call_code(weft_op *op) { return weft__api->call->code(op); }

/* The answer's first field `name`, in any case; absent. [loop] */
static inline weft_str weft_call_field(weft_op *op, const char *name)
{
    return weft__api->call->field(op, name);
}

/* The answer's body; absent: no answer. [loop] */
static inline weft_str weft_call_body(weft_op *op) { return weft__api->call->body(op); }

/* GETs `path`, a constant or encoded text. [loop] */
static inline weft_op *weft_call_get(weft_ctx *ctx, weft_upstream *upstream, const char *path)
{
    weft_call call = {sizeof call, 0, NULL, weft_cstr(path), {NULL, 0}, NULL, 0, 0};
    return weft_call_start(ctx, upstream, &call);
}

/* POSTs `json` to `path`. [loop] */
static inline weft_op *weft_call_post_json(weft_ctx *ctx, weft_upstream *upstream, const char *path,
                                           weft_str json)
{
    weft_field type = {WEFT_S("Content-Type"), WEFT_S("application/json")};
    weft_call call = {sizeof call, 0, "POST", weft_cstr(path), json, &type, 1, 0};
    return weft_call_start(ctx, upstream, &call);
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
