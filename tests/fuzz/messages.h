/* fuzz/messages.h - all messages that the host's parser finds in some bytes, however these are cut.
 *
 * Loop:   none.
 * Memory: plain values.
 * Limits: MESSAGES_MAX messages are noted.
 */
#ifndef WEFT_TESTS_FUZZ_MESSAGES_H
#define WEFT_TESTS_FUZZ_MESSAGES_H

#include "http/parser.h"

#include <stdbool.h>
#include <stdint.h>

enum { MESSAGES_MAX = 16, MESSAGE_TEXT_SIZE = 256 };

/* What came of the bytes in the end. */
enum messages_end { MESSAGES_MORE, MESSAGES_REFUSED, MESSAGES_CLOSED };

/* One message. */
struct message {
    char line[MESSAGE_TEXT_SIZE]; /* "GET /" or "200", cut */
    uint64_t body_hash;           /* of the body's bytes */
    uint64_t body_bytes;          /* of it */
    size_t end;                   /* bytes taken up to its end; where delivered whole alone */
    uint32_t fields;              /* of its head */
};

/* All of them. */
struct messages {
    struct message at[MESSAGES_MAX]; /* `count` of them */
    uint32_t count;                  /* complete ones */
    enum messages_end end;           /* behind them */
};

/* FNV-1a of `size` more bytes; begin with MESSAGES_HASH. */
uint64_t messages_hash(uint64_t hash, const void *bytes, size_t size);

#define MESSAGES_HASH 14695981039346656037u

/* Parses the bytes, delivered `cut` first and then the rest, as requests or as answers (of which
 * each third is one to a HEAD). */
void messages_parse(const uint8_t *data, size_t size, size_t cut, enum http_parser_kind kind,
                    struct messages *found);

/* Are they the same but for `end`? */
bool messages_equal(const struct messages *a, const struct messages *b);

#endif
