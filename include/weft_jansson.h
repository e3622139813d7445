/* weft_jansson.h - bodies as jansson values, released with the ctx.
 *
 * A body that is no JSON gives a status to hand on, with the reason, line and column in the
 * reply's detail: 400 for the request's, 502 for an upstream's.
 * Threads: [loop].
 * Memory:  a value lives until the ctx ends; json_incref() what is to live longer.
 * Limits:  WEFT_JANSSON_DEPTH_MAX levels: jansson goes one call deeper for each, 2,048 of them at
 *          most, for which a handler's stack has no room.
 *
 * Header-only; link with -ljansson. C99 or later, C++11 or later.
 */
#ifndef WEFT_JANSSON_H
#define WEFT_JANSSON_H

#include "weft.h"
#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Levels of a text, at most: more are refused as no JSON is. */
#define WEFT_JANSSON_DEPTH_MAX 128u

/* Is `text` nested no deeper than the limit? What is no JSON may get either answer. [any] */
static inline int weft_jansson__is_flat(weft_str text)
{
    uint32_t depth = 0;
    int in_string = 0;
    size_t i;

    for (i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '[' || c == '{') {
            if (++depth > WEFT_JANSSON_DEPTH_MAX)
                return 0;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return 1;
}

/* Lets go of a value when the ctx ends. */
static inline void weft_jansson__release(void *value) { json_decref((json_t *)value); }

/* Parses `text`; a value of any kind. On failure returns `status` with "`what` ...: reason, line
 * and column" as the reply's detail, and `*value` is NULL. [loop] */
static inline WEFT_MUST_USE weft_status weft_jansson_parse(weft_ctx *ctx, weft_str text,
                                                           const char *what, weft_status status,
                                                           json_t **value)
{
    json_error_t error;

    *value = NULL;
    if (text.len == 0)
        return weft_explain(ctx, status, "%s is empty, not JSON", what);
    if (!weft_jansson__is_flat(text))
        return weft_explain(ctx, status, "%s is nested deeper than %u levels", what,
                            WEFT_JANSSON_DEPTH_MAX);
    *value = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
    if (*value == NULL)
        return weft_explain(ctx, status, "%s is no JSON: line %d, column %d: %s", what, error.line,
                            error.column, error.text);
    if (weft_defer(ctx, weft_jansson__release, *value) != WEFT_OK) {
        json_decref(*value);
        *value = NULL;
        return WEFT_E_STATE;
    }
    return WEFT_OK;
}

/* The request's body; WEFT_E_BAD_REQUEST: it is no JSON. [loop] */
static inline WEFT_MUST_USE weft_status weft_jansson_body(weft_ctx *ctx, json_t **value)
{
    return weft_jansson_parse(ctx, weft_body(ctx), "the body", WEFT_E_BAD_REQUEST, value);
}

/* The body of an upstream's answer, of a call that settled OK; WEFT_E_UP_RESET, which is a 502: it
 * is no JSON. [loop] */
static inline WEFT_MUST_USE weft_status weft_jansson_answer(weft_ctx *ctx, weft_op *call,
                                                            json_t **value)
{
    return weft_jansson_parse(ctx, weft_call_body(call), "the upstream's answer", WEFT_E_UP_RESET,
                              value);
}

#ifdef __cplusplus
}
#endif

#endif
