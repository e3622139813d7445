/* Goal: whatever comes as gzip, what comes out is no longer than the limit and one byte, and the
 *       same however the bytes are cut. */
#include "base/buf.h"
#include "fuzz/fuzz.h"
#include "upstream/inflate.h"

#include <string.h>

enum { LEN_MAX = 5000 };

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
    buf_release(&whole);
    buf_release(&cut);
    return 0;
}
