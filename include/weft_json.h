/* weft_json.h - writes JSON into a ctx's memory.
 *
 *     weft_json json;
 *     weft_json_begin(&json, ctx);
 *     weft_json_object(&json);
 *     weft_json_key(&json, "id");
 *     weft_json_int(&json, 17);
 *     weft_json_key(&json, "title");
 *     weft_json_string(&json, title);
 *     weft_json_end(&json);
 *     return weft_json_reply(&json, 200);
 *
 * Nesting is checked: a value in an object without a key, a key elsewhere, an end too many or too
 * few, a second value behind the first, or WEFT_JSON_DEPTH_MAX levels. The first such mistake makes
 * everything after it nothing, and weft_json_finish() answers WEFT_E_STATE.
 *
 * Strings may hold any bytes: what is not UTF-8 becomes U+FFFD, one a byte that fits nowhere.
 * Threads: [loop], all of it, since the memory is the ctx's.
 * Memory:  the text lives until the ctx ends; strings are copied.
 *
 * Header-only; C99 or later, C++11 or later.
 */
#ifndef WEFT_JSON_H
#define WEFT_JSON_H

#include "weft.h"
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/* So many objects and arrays within one another are too many. */
#define WEFT_JSON_DEPTH_MAX 64u

/* One text that is being written. The members are not for others. */
typedef struct weft_json {
    weft_ctx *ctx;      /* whose memory */
    char *text;         /* `size` bytes, the first `len` written */
    size_t len;         /* written */
    size_t size;        /* there is */
    uint64_t is_object; /* bit n: level n is an object, not an array */
    uint64_t has_items; /* bit n: level n is not empty */
    uint32_t depth;     /* levels that are open */
    uint32_t has_key;   /* 1: a key waits for its value */
    weft_status status; /* WEFT_E_STATE after the first mistake */
} weft_json;

/* An empty text. [loop] */
static inline void weft_json_begin(weft_json *json, weft_ctx *ctx)
{
    memset(json, 0, sizeof *json);
    json->ctx = ctx;
}

/* Room for `bytes` more. */
static inline char *weft_json__room(weft_json *json, size_t bytes)
{
    if (json->size - json->len < bytes) {
        size_t size = json->size < 256 ? 256 : json->size * 2;
        char *text;
        while (size - json->len < bytes)
            size *= 2;
        text = (char *)weft_alloc(json->ctx, size);
        if (json->len > 0)
            memcpy(text, json->text, json->len);
        json->text = text;
        json->size = size;
    }
    return json->text + json->len;
}

static inline void weft_json__put(weft_json *json, const char *bytes, size_t len)
{
    memcpy(weft_json__room(json, len), bytes, len);
    json->len += len;
}

/* Before a value: is there a place for one? Writes the comma. */
static inline int weft_json__value(weft_json *json)
{
    uint64_t level = (uint64_t)1 << json->depth % 64;

    if (json->status != WEFT_OK)
        return 0;
    if (json->depth == 0 ? json->len > 0 : (json->is_object & level) != 0 && !json->has_key) {
        json->status = WEFT_E_STATE;
        return 0;
    }
    if (json->depth > 0 && !json->has_key && (json->has_items & level) != 0)
        weft_json__put(json, ",", 1);
    json->has_items |= level;
    json->has_key = 0;
    return 1;
}

/* How many bytes the UTF-8 character at `at` has; 0: none begins there. Overlong forms, surrogates
 * and what is beyond U+10FFFF are none. */
static inline size_t weft_json__utf8(const unsigned char *at, size_t left)
{
    static const unsigned char lowest[5] = {0, 0, 0x80, 0xa0, 0x90};
    size_t len = *at < 0x80   ? 1
                 : *at < 0xc2 ? 0
                 : *at < 0xe0 ? 2
                 : *at < 0xf0 ? 3
                 : *at < 0xf5 ? 4
                              : 0;
    size_t i;

    if (len < 2)
        return len;
    if (len > left || ((*at == 0xe0 || *at == 0xf0) && at[1] < lowest[len]) ||
        (*at == 0xed && at[1] > 0x9f) || (*at == 0xf4 && at[1] > 0x8f))
        return 0;
    for (i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* Writes one character that cannot stand in a string as it is; how many bytes of it were used. */
static inline size_t weft_json__escape(weft_json *json, const unsigned char *at, size_t left)
{
    static const char digits[] = "0123456789abcdef";
    static const char shorts[] = "btn?fr"; /* of 0x08 to 0x0d */
    char code[6] = {'\\', 'u', '0', '0', '0', '0'};
    size_t len = weft_json__utf8(at, left);

    if (len != 1) {
        weft_json__put(json, len > 0 ? (const char *)at : "\xef\xbf\xbd", len > 0 ? len : 3);
        return len > 0 ? len : 1;
    }
    if (*at == '"' || *at == '\\' || (*at >= 0x08 && *at <= 0x0d && *at != 0x0b)) {
        code[1] = *at >= ' ' ? (char)*at : shorts[*at - 0x08];
        weft_json__put(json, code, 2);
    } else {
        code[4] = digits[*at >> 4];
        code[5] = digits[*at & 15];
        weft_json__put(json, code, 6);
    }
    return 1;
}

/* `s` in quotes. */
static inline void weft_json__quoted(weft_json *json, weft_str s)
{
    const unsigned char *at = (const unsigned char *)s.ptr, *end = at + s.len;

    weft_json__put(json, "\"", 1);
    while (at < end) {
        const unsigned char *plain = at;
        while (at < end && *at >= ' ' && *at < 0x7f && *at != '"' && *at != '\\')
            at++;
        weft_json__put(json, (const char *)plain, (size_t)(at - plain));
        if (at < end)
            at += weft_json__escape(json, at, (size_t)(end - at));
    }
    weft_json__put(json, "\"", 1);
}

static inline void weft_json__open(weft_json *json, const char *bracket, uint64_t is_object)
{
    if (!weft_json__value(json))
        return;
    if (json->depth + 1 >= WEFT_JSON_DEPTH_MAX) {
        json->status = WEFT_E_STATE;
        return;
    }
    json->depth++;
    json->has_items &= ~((uint64_t)1 << json->depth);
    json->is_object &= ~((uint64_t)1 << json->depth);
    json->is_object |= is_object << json->depth;
    weft_json__put(json, bracket, 1);
}

/* Opens an object: keys and values follow, then weft_json_end(). [loop] */
static inline void weft_json_object(weft_json *json) { weft_json__open(json, "{", 1); }

/* Opens an array: values follow, then weft_json_end(). [loop] */
static inline void weft_json_array(weft_json *json) { weft_json__open(json, "[", 0); }

/* Closes the innermost object or array. [loop] */
static inline void weft_json_end(weft_json *json)
{
    if (json->status != WEFT_OK)
        return;
    if (json->depth == 0 || json->has_key) {
        json->status = WEFT_E_STATE;
        return;
    }
    weft_json__put(json, (json->is_object >> json->depth & 1) != 0 ? "}" : "]", 1);
    json->depth--;
}

/* The key of the value that follows. [loop] */
static inline void weft_json_key(weft_json *json, const char *key)
{
    uint64_t level = (uint64_t)1 << json->depth % 64;

    if (json->status != WEFT_OK)
        return;
    if (json->depth == 0 || (json->is_object & level) == 0 || json->has_key) {
        json->status = WEFT_E_STATE;
        return;
    }
    if ((json->has_items & level) != 0)
        weft_json__put(json, ",", 1);
    json->has_items |= level;
    weft_json__quoted(json, weft_cstr(key));
    weft_json__put(json, ":", 1);
    json->has_key = 1;
}

/* A string; null where it is absent. [loop] */
static inline void weft_json_string(weft_json *json, weft_str s)
{
    if (!weft_json__value(json))
        return;
    if (s.ptr != NULL)
        weft_json__quoted(json, s);
    else
        weft_json__put(json, "null", 4);
}

/* A whole number. [loop] */
static inline void weft_json_int(weft_json *json, int64_t i)
{
    char digits[24];
    size_t at = sizeof digits;
    uint64_t rest = i < 0 ? (uint64_t)0 - (uint64_t)i : (uint64_t)i;

    if (!weft_json__value(json))
        return;
    do
        digits[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (i < 0)
        digits[--at] = '-';
    weft_json__put(json, digits + at, sizeof digits - at);
}

/* A number that reads back as the same one; null for a NaN and for the infinite ones. [loop] */
static inline void weft_json_double(weft_json *json, double d)
{
    char text[40];
    double again;
    int digits = 15, len, i;

    if (!weft_json__value(json))
        return;
    if (!(d - d >= 0)) { /* NaN: of NaN, and of infinite ones */
        weft_json__put(json, "null", 4);
        return;
    }
    do {
        len = snprintf(text, sizeof text, "%.*g", digits, d);
        again = strtod(text, NULL);
    } while (memcmp(&again, &d, sizeof d) != 0 && (digits += 2) <= 17);
    for (i = 0; i < len; i++) /* a locale may have put another point */
        if (strchr("+-0123456789e", text[i]) == NULL)
            text[i] = '.';
    weft_json__put(json, text, (size_t)len);
}

/* true (not 0) or false. [loop] */
static inline void weft_json_bool(weft_json *json, int is_true)
{
    if (weft_json__value(json))
        weft_json__put(json, is_true ? "true" : "false", is_true ? 4 : 5);
}

/* null. [loop] */
static inline void weft_json_null(weft_json *json)
{
    if (weft_json__value(json))
        weft_json__put(json, "null", 4);
}

/* A value that is JSON already, and not checked; null where it is absent or empty. [loop] */
static inline void weft_json_raw(weft_json *json, weft_str value)
{
    if (value.len == 0)
        value = weft_cstr("null");
    if (weft_json__value(json))
        weft_json__put(json, value.ptr, value.len);
}

/* The text, whole, with a NUL behind it. WEFT_E_STATE: the calls did not nest, or there was no
 * value; `*text` is absent then. [loop] */
static inline WEFT_MUST_USE weft_status weft_json_finish(weft_json *json, weft_str *text)
{
    text->ptr = NULL;
    text->len = 0;
    if (json->status == WEFT_OK && (json->depth > 0 || json->len == 0))
        json->status = WEFT_E_STATE;
    if (json->status != WEFT_OK) {
        weft_log(json->ctx, WEFT_LOG_ERROR, "weft_json: the calls do not nest");
        return json->status;
    }
    *weft_json__room(json, 1) = '\0';
    text->ptr = json->text;
    text->len = json->len;
    return WEFT_OK;
}

/* Answers with it, as weft_json_finish() and weft_reply_json(). [loop] */
static inline weft_status weft_json_reply(weft_json *json, uint32_t code)
{
    weft_str text;

    WEFT_TRY(weft_json_finish(json, &text));
    return weft_reply_json(json->ctx, code, text);
}

#ifdef __cplusplus
}
#endif

#endif
