/* inflate.c - in place of upstream/inflate.c: a test says what comes out, and need not pack it. */
#include "upstream/inflate.h"
#include "base/mem.h"

struct inflate {
    bool is_begun; /* some of it came */
};

struct inflate *inflate_create(void)
{
    return mem_alloc(sizeof(struct inflate));
}

void inflate_destroy(struct inflate *body)
{
    mem_free(body);
}

enum err inflate_feed(struct inflate *body, struct span bytes, struct buf *out, size_t len_max)
{
    body->is_begun = true;
    if (bytes.len > len_max - out->len)
        return ERR_TOO_BIG;
    buf_append(out, bytes);
    return ERR_OK;
}

bool inflate_is_complete(const struct inflate *body)
{
    return body->is_begun;
}
