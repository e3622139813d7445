/* inflate.c - in place of upstream/inflate.c: a test says what comes out, and need not pack it. */
#include "upstream/inflate.h"
#include "base/mem.h"

struct inflate {
    char nothing; /* C has no empty structs */
};

struct inflate *inflate_create(void)
{
    return mem_alloc(sizeof(struct inflate));
}

void inflate_destroy(struct inflate *body)
{
    mem_free(body);
}

enum err inflate_some(struct inflate *body, struct span *bytes, struct buf *out, size_t len_max)
{
    size_t room = out->len < len_max ? len_max - out->len : 0;
    size_t count = bytes->len < room ? bytes->len : room;

    (void)body;
    if (count == 0)
        return ERR_OK;
    buf_append(out, (struct span){bytes->ptr, count});
    bytes->ptr += count;
    bytes->len -= count;
    return ERR_OK;
}

enum err inflate_feed(struct inflate *body, struct span bytes, struct buf *out, size_t len_max)
{
    if (bytes.len > len_max - out->len)
        return ERR_TOO_BIG;
    return inflate_some(body, &bytes, out, len_max);
}

bool inflate_has_more(const struct inflate *body)
{
    (void)body;
    return false;
}

bool inflate_is_complete(const struct inflate *body)
{
    (void)body;
    return true;
}
