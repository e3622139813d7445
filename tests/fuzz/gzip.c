/* Goal: whatever comes as gzip, what comes out is no longer than the limit and one byte, and the
 *       same however the bytes are cut, and however little of it is taken at once. */
#include "base/buf.h"
#include "fuzz/fuzz.h"
#include "upstream/inflate.h"
#include "upstream/unpack.h"

#include <string.h>

enum { LEN_MAX = 5000, ROOM = 100 };

static enum err feed(const uint8_t *data, size_t size, size_t cut, struct buf *out, bool *is_whole)
{
    struct inflate *body = inflate_create();
    enum err err = inflate_feed(body, (struct span){(const char *)data, cut}, out, LEN_MAX);

    if (err == ERR_OK)
        err = inflate_feed(body, (struct span){(const char *)data + cut, size - cut}, out, LEN_MAX);
    *is_whole = inflate_is_complete(body);
    inflate_destroy(body);
    return err;
}

/* The same by unpack, which is to come to the same. */
static void feed_slowly(const uint8_t *data, size_t size, enum err err, const struct buf *whole,
                        bool is_whole)
{
    size_t expected = whole->len < LEN_MAX ? whole->len : LEN_MAX, at = 0;
    struct span bytes = {(const char *)data, size};
    struct buf out = {0};
    struct unpack unpack = {0};
    enum err slow;

    unpack_start(&unpack, NULL, LEN_MAX);
    do {
        slow = unpack_more(&unpack, bytes, &out, ROOM);
        bytes.len = 0;
        MUST(out.len <= ROOM);
        MUST(out.len <= expected - at);
        MUST(out.len == 0 || memcmp(out.data, whole->data + at, out.len) == 0);
        at += out.len;
        buf_consume(&out, out.len);
    } while (slow == ERR_OK && !unpack_is_hungry(&unpack));
    MUST(slow == err);
    MUST(at == expected);
    MUST(err != ERR_OK || unpack_is_complete(&unpack) == is_whole);
    unpack_stop(&unpack);
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = {0}, cut = {0};
    bool is_whole, is_whole_cut;
    enum err err = feed(data, size, size, &whole, &is_whole);

    MUST(whole.len <= LEN_MAX + 1);
    MUST(err == ERR_OK || err == ERR_TOO_BIG || err == ERR_PROTOCOL);
    MUST(feed(data, size, size / 2, &cut, &is_whole_cut) == err);
    if (err == ERR_OK) {
        MUST(is_whole == is_whole_cut);
        MUST(whole.len == cut.len);
        MUST(whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0);
    }
    feed_slowly(data, size, err, &whole, is_whole);
    buf_release(&whole);
    buf_release(&cut);
    return 0;
}
