/* fuzz/input.h - a target's input, taken from its front bit by bit. Behind its end all is zero and
 * empty. */
#ifndef WEFT_TESTS_FUZZ_INPUT_H
#define WEFT_TESTS_FUZZ_INPUT_H

#include "base/span.h"
#include <stddef.h>
#include <stdint.h>

/* What is left of it. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* `len` bytes, or as many as there are. */
static inline struct span take(struct input *input, size_t len)
{
    struct span bytes = {(const char *)input->at, len < input->left ? len : input->left};

    input->at += bytes.len;
    input->left -= bytes.len;
    return bytes;
}

#endif
