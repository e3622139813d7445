/* upstream/unpack.c - a body that comes as gzip, decoded as fast as somebody takes what comes
 * out. */
#include "upstream/unpack.h"
#include "base/check.h"
#include "upstream/inflate.h"

void unpack_start(struct unpack *unpack, struct buf_pool *pool, uint64_t bytes_max)
{
    CHECK(unpack->_inflate == NULL);
    *unpack = (struct unpack){._inflate = inflate_create(), ._left = bytes_max};
    buf_init(&unpack->_packed, pool);
}

void unpack_stop(struct unpack *unpack)
{
    inflate_destroy(unpack->_inflate);
    unpack->_inflate = NULL;
    buf_release(&unpack->_packed);
}

bool unpack_is_hungry(const struct unpack *unpack)
{
    return unpack->_inflate == NULL || unpack->_err != ERR_OK ||
           (unpack->_packed.len == 0 && !inflate_has_more(unpack->_inflate));
}

/* The limit is reached: would any more come out? */
static enum err probe(struct unpack *unpack, struct span *bytes)
{
    struct buf one = {0};
    enum err err = inflate_some(unpack->_inflate, bytes, &one, 1);

    if (one.len > 0)
        err = ERR_TOO_BIG; /* whatever else is wrong */
    buf_release(&one);
    return err;
}

static enum err decode(struct unpack *unpack, struct span *bytes, struct buf *out, size_t len_max)
{
    size_t before = out->len;
    size_t room = before < len_max ? len_max - before : 0;
    enum err err;

    if (room == 0)
        return ERR_OK;
    if (room > unpack->_left)
        room = (size_t)unpack->_left;
    err = inflate_some(unpack->_inflate, bytes, out, before + room);
    unpack->_left -= out->len - before;
    return err == ERR_OK && unpack->_left == 0 ? probe(unpack, bytes) : err;
}

enum err unpack_more(struct unpack *unpack, struct span bytes, struct buf *out, size_t len_max)
{
    struct span waiting;
    size_t count;

    CHECK(unpack->_inflate != NULL);
    if (unpack->_err != ERR_OK)
        return unpack->_err;
    if (unpack->_packed.len > 0 || bytes.len == 0) {
        waiting = buf_span(&unpack->_packed);
        count = waiting.len;
        unpack->_err = decode(unpack, &waiting, out, len_max);
        if (count > waiting.len)
            buf_consume(&unpack->_packed, count - waiting.len);
    }
    if (unpack->_packed.len == 0 && bytes.len > 0 && unpack->_err == ERR_OK)
        unpack->_err = decode(unpack, &bytes, out, len_max);
    if (unpack->_err != ERR_OK || unpack->_packed.len == 0)
        buf_release(&unpack->_packed);
    if (bytes.len > 0 && unpack->_err == ERR_OK)
        buf_append(&unpack->_packed, bytes);
    return unpack->_err;
}

const char *unpack_problem(enum err err)
{
    if (err == ERR_TOO_BIG)
        return "more than decoded_max comes out of its body, which is gzip";
    if (err == ERR_CLOSED)
        return "its body is gzip that was cut off";
    return "its body should be gzip, and is none, or was damaged";
}

bool unpack_is_complete(const struct unpack *unpack)
{
    return unpack->_inflate == NULL ||
           (unpack->_err == ERR_OK && inflate_is_complete(unpack->_inflate));
}
