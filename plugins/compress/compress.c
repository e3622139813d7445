/* compress - answers in gzip, for clients that take it (RFC 9110 section 8.4.1.3).
 *
 *     [plugin.gzip]
 *     path = compress.so
 *     mount = /api            what it is for; everything where it is left out
 *
 * By type and size, in pieces as the answer comes, never twice. What a page mixes with what a
 * client sent must not be compressed where it holds a secret (the BREACH attack): leave such paths
 * out.
 */
#include "weft.h"
#include "weft_web.h"

#include <stdlib.h>
#include <zlib.h>

enum { GZIP = 16, WINDOW_MIN = 9, WINDOW_MAX = 15, OUT_MIN = 512 };

static weft_str types;
static int64_t min_bytes, max_bytes, level, order;

struct stream {
    z_stream z;
    unsigned char *out; /* what came of the last piece */
    size_t size;        /* room in it */
};

static void end(void *data)
{
    struct stream *stream = data;

    deflateEnd(&stream->z);
    free(stream->out);
}

/* Twice the room. */
static int grow(struct stream *stream)
{
    size_t size = stream->size > 0 ? 2 * stream->size : OUT_MIN;
    unsigned char *out = realloc(stream->out, size);

    if (out == NULL)
        return 0;
    stream->out = out;
    stream->size = size;
    return 1;
}

static weft_status change(weft_ctx *ctx, void *data, weft_str in, uint32_t flags, weft_str *out)
{
    struct stream *stream = data;
    int flush = (flags & WEFT_PIECE_LAST) != 0    ? Z_FINISH
                : (flags & WEFT_PIECE_FLUSH) != 0 ? Z_SYNC_FLUSH
                                                  : Z_NO_FLUSH;
    size_t made = 0;
    int status;

    (void)ctx;
    stream->z.next_in = (Bytef *)(uintptr_t)in.ptr;
    stream->z.avail_in = (uInt)in.len;
    do {
        if (made == stream->size && !grow(stream))
            return WEFT_E_UNSUPPORTED;
        stream->z.next_out = stream->out + made;
        stream->z.avail_out = (uInt)(stream->size - made);
        status = deflate(&stream->z, flush);
        made = stream->size - stream->z.avail_out;
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
            return WEFT_E_UNSUPPORTED;
    } while (stream->z.avail_out == 0 || (flush == Z_FINISH && status != Z_STREAM_END));
    *out = (weft_str){(const char *)stream->out, made};
    return WEFT_OK;
}

/* A window that is larger than the body is memory for nothing. */
static int window_for(int64_t length)
{
    int bits = WINDOW_MIN;

    while (bits < WINDOW_MAX && (length < 0 || (int64_t)1 << bits < length))
        bits++;
    return bits;
}

static weft_status start(weft_ctx *ctx, int64_t length)
{
    struct stream *stream = weft_alloc(ctx, sizeof *stream);
    int bits = window_for(length);

    if (deflateInit2(&stream->z, (int)level, Z_DEFLATED, bits + GZIP, bits > 8 ? bits - 7 : 1,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return WEFT_E_UNSUPPORTED;
    if (weft_defer(ctx, end, stream) != WEFT_OK) {
        end(stream);
        return WEFT_E_STATE;
    }
    return weft_transform(ctx, change, stream);
}

/* ---- whether ---- */

/* Is its type one of `types`: "text/html", or of "text/ *" without the blank? */
static int is_type(weft_str type)
{
    weft_str list = types, word, rest = type;

    if (!weft_web__part(&rest, ';', &type))
        return 0;
    while (weft_web__part(&list, ' ', &word)) {
        if (word.len > 0 && weft_web__closeness(word, type) > 0)
            return 1;
    }
    return 0;
}

/* Has a word of the comma list `field` this name? */
static int says(weft_str field, const char *name)
{
    weft_str word;

    while (weft_web__part(&field, ',', &word)) {
        if (weft_equal_nocase(word, weft_cstr(name)))
            return 1;
    }
    return 0;
}

/* What could be compressed for a client that takes it. */
static int is_worth_it(weft_ctx *ctx)
{
    uint32_t code = weft_reply_code(ctx);
    int64_t length = weft_reply_length(ctx);

    return code >= 200 && code != 204 && code != 205 && code != 206 && code != 304 &&
           (length < 0 || (length >= min_bytes && length <= max_bytes)) &&
           weft_reply_header(ctx, "Content-Encoding").ptr == NULL &&
           weft_reply_header(ctx, "Content-Range").ptr == NULL &&
           !says(weft_reply_header(ctx, "Cache-Control"), "no-transform") &&
           is_type(weft_reply_header(ctx, "Content-Type"));
}

static int is_taken(weft_ctx *ctx)
{
    static const char *const offers[] = {"gzip", "identity"};

    return weft_header(ctx, "Accept-Encoding").ptr != NULL &&
           weft_prefers(ctx, "Accept-Encoding", 2, offers) == 0;
}

/* The bytes are others now: the tag is of what they mean (RFC 9110 section 8.8.3.3). */
static weft_status weaken_etag(weft_ctx *ctx)
{
    weft_str etag = weft_reply_header(ctx, "ETag");

    if (etag.ptr == NULL || (etag.len > 2 && memcmp(etag.ptr, "W/", 2) == 0))
        return WEFT_OK;
    etag = weft_fmt(ctx, "W/%.*s", (int)etag.len, etag.ptr);
    WEFT_TRY(weft_remove_header(ctx, "ETag"));
    return weft_set_header(ctx, "ETag", etag);
}

static weft_status after(weft_ctx *ctx, void *self)
{
    weft_status status;

    (void)self;
    if (!is_worth_it(ctx))
        return WEFT_OK;
    WEFT_TRY(weft_set_header(ctx, "Vary", weft_cstr("Accept-Encoding")));
    if (!is_taken(ctx))
        return WEFT_OK;
    status = start(ctx, weft_reply_length(ctx));
    if (status != WEFT_OK) /* a large file: it goes as it is */
        return status == WEFT_E_UNSUPPORTED ? WEFT_OK : status;
    WEFT_TRY(weft_set_header(ctx, "Content-Encoding", weft_cstr("gzip")));
    WEFT_TRY(weft_remove_header(ctx, "Accept-Ranges"));
    return weaken_etag(ctx);
}

static weft_status init(weft_host *host, void **self)
{
    weft_filter_options options = {sizeof options, 0, NULL, NULL, after, NULL};

    (void)self;
    WEFT_TRY(weft_setting(host, "types",
                          "text/* application/json application/problem+json application/javascript "
                          "application/xml application/xhtml+xml image/svg+xml",
                          &types));
    WEFT_TRY(weft_setting_int(host, "min", 0, INT64_MAX, 1024, &min_bytes));
    WEFT_TRY(weft_setting_int(host, "max", 0, INT64_MAX, 1 << 20, &max_bytes));
    WEFT_TRY(weft_setting_int(host, "level", 1, 9, 5, &level));
    WEFT_TRY(weft_setting_int(host, "order", INT32_MIN, INT32_MAX, -1000, &order));
    options.order = (int32_t)order;
    return weft_filter(host, &options);
}

WEFT_PLUGIN("compress", "1.0", init, NULL, NULL);
