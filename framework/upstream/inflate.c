/* upstream/inflate.c - an answer's body that comes as gzip, decoded as it comes.
 *
 * A body may be several gzip files, one behind the other (RFC 1952 section 2.2).
 */
#include "upstream/inflate.h"
#include "base/check.h"
#include "base/mem.h"
#include <string.h>
#include <zlib.h>

enum { PIECE_SIZE = 16384, WINDOW_BITS = 15, GZIP_ALONE = 16, TAKEN_MAX = 1 << 30 };

struct inflate {
    z_stream stream; /* zlib's */
    bool is_at_end;  /* of a file: the body may end, or another one follow */
    bool is_full;    /* the last step has left no room: there may be more inside */
};

static void *allocate(void *data, unsigned count, unsigned size)
{
    (void)data;
    return mem_calloc(count, size);
}

static void release(void *data, void *at)
{
    (void)data;
    mem_free(at);
}

struct inflate *inflate_create(void)
{
    struct inflate *body = mem_alloc(sizeof *body);
    int status;

    body->stream.zalloc = allocate;
    body->stream.zfree = release;
    status = inflateInit2(&body->stream, WINDOW_BITS + GZIP_ALONE);
    CHECK(status == Z_OK);
    return body;
}

void inflate_destroy(struct inflate *body)
{
    if (body == NULL)
        return;
    (void)inflateEnd(&body->stream);
    mem_free(body);
}

/* Once more, with room for up to `room` bytes. */
static enum err step(struct inflate *body, struct buf *out, size_t room)
{
    z_stream *stream = &body->stream;
    size_t size = room < PIECE_SIZE ? room : PIECE_SIZE;
    int status;

    if (body->is_at_end) {
        (void)inflateReset(stream);
        body->is_at_end = false;
    }
    stream->next_out = (unsigned char *)buf_reserve(out, size);
    stream->avail_out = (unsigned)size;
    status = inflate(stream, Z_NO_FLUSH);
    buf_commit(out, size - stream->avail_out);
    body->is_at_end = status == Z_STREAM_END;
    body->is_full = stream->avail_out == 0 && !body->is_at_end;
    return status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR ? ERR_OK
                                                                             : ERR_PROTOCOL;
}

enum err inflate_some(struct inflate *body, struct span *bytes, struct buf *out, size_t len_max)
{
    z_stream *stream = &body->stream;
    enum err err = ERR_OK;

    CHECK(bytes->len < TAKEN_MAX);
    stream->next_in = (unsigned char *)(uintptr_t)bytes->ptr;
    stream->avail_in = (unsigned)bytes->len;
    while (err == ERR_OK && out->len < len_max && (stream->avail_in > 0 || body->is_full))
        err = step(body, out, len_max - out->len);
    if (stream->avail_in < bytes->len)
        bytes->ptr += bytes->len - stream->avail_in;
    bytes->len = stream->avail_in;
    return err;
}

enum err inflate_feed(struct inflate *body, struct span bytes, struct buf *out, size_t len_max)
{
    enum err err;

    CHECK(out->len <= len_max);
    /* One byte beyond the limit tells that there is more. */
    err = inflate_some(body, &bytes, out, len_max + 1);
    return out->len > len_max ? ERR_TOO_BIG : err; /* too much is that, whatever else is wrong */
}

bool inflate_has_more(const struct inflate *body)
{
    return body->is_full;
}

bool inflate_is_complete(const struct inflate *body)
{
    return body->is_at_end || body->stream.total_in == 0;
}
