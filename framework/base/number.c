/* base/number.c - numbers from text and back, strictly: the whole text or nothing. */
#include "base/number.h"
#include "base/check.h"
#include <inttypes.h>
#include <stdio.h>

enum {
    DIGITS_SAFE = 19, /* so many always fit into 64 bits */
    DIGITS_MAX = 20   /* of 2^64 - 1 */
};

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first, so that the first one that divides makes the shortest text. */
static const struct unit durations[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000},
                                        {"s", 1000},     {"ms", 1},      {NULL, 0}};
static const struct unit sizes[] = {
    {"g", 1u << 30}, {"m", 1u << 20}, {"k", 1u << 10}, {"", 1}, {NULL, 0}};

/* How many digits `text` begins with. */
static size_t digits(struct span text)
{
    size_t count = 0;

    while (count < text.len && text.ptr[count] >= '0' && text.ptr[count] <= '9')
        count++;
    return count;
}

/* Digits that may be too many for 64 bits. */
static bool read_long(struct span text, uint64_t *value)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text.ptr[i] - '0';

        if (digit > 9 || __builtin_mul_overflow(sum, 10u, &sum) ||
            __builtin_add_overflow(sum, digit, &sum))
            return false;
    }
    *value = sum;
    return true;
}

static inline bool read_digits(struct span text, uint64_t *value)
{
    uint64_t sum = 0;

    if (text.len == 0)
        return false;
    if (text.len > DIGITS_SAFE)
        return read_long(text, value);
    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text.ptr[i] - '0';

        if (digit > 9)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool number_uint(struct span text, uint64_t *value)
{
    CHECK(value != NULL);
    return read_digits(text, value);
}

bool number_int(struct span text, int64_t *value)
{
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    uint64_t size;

    CHECK(value != NULL);
    if (is_negative)
        text = (struct span){text.ptr + 1, text.len - 1};
    if (!read_digits(text, &size) || size > (uint64_t)INT64_MAX + is_negative)
        return false;
    *value = is_negative ? (int64_t)(0 - size) : (int64_t)size;
    return true;
}

static bool with_unit(struct span text, const struct unit *units, uint64_t *value)
{
    size_t count = digits(text);
    struct span name = {text.ptr + count, text.len - count};
    uint64_t sum;

    if (!number_uint((struct span){text.ptr, count}, &sum))
        return false;
    for (; units->name != NULL; units++) {
        if (span_equal_nocase(name, span_of(units->name)))
            return !__builtin_mul_overflow(sum, units->factor, value);
    }
    return false;
}

bool number_duration_ms(struct span text, uint64_t *ms)
{
    uint64_t value;

    CHECK(ms != NULL);
    if (span_equal(text, SPAN("0"))) {
        *ms = 0;
        return true;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] >= 'A' && text.ptr[i] <= 'Z')
            return false;
    }
    if (text.len == 0 || !with_unit(text, durations, &value))
        return false;
    *ms = value;
    return true;
}

bool number_size(struct span text, uint64_t *bytes)
{
    uint64_t value;

    CHECK(bytes != NULL);
    if (text.len == 0 || !with_unit(text, sizes, &value))
        return false;
    *bytes = value;
    return true;
}

size_t number_format(uint64_t value, char text[NUMBER_TEXT_SIZE])
{
    size_t count = 1;

    CHECK(text != NULL);
    for (uint64_t bound = 10; value >= bound && count < DIGITS_MAX; bound *= 10)
        count++;
    text[count] = '\0';
    for (size_t i = count; i > 0; value /= 10)
        text[--i] = (char)('0' + value % 10);
    return count;
}

static size_t format_unit(uint64_t value, const struct unit *units, char text[NUMBER_TEXT_SIZE])
{
    while (value % units->factor != 0)
        units++;
    return (size_t)snprintf(text, NUMBER_TEXT_SIZE, "%" PRIu64 "%s", value / units->factor,
                            units->name);
}

size_t number_format_duration(uint64_t ms, char text[NUMBER_TEXT_SIZE])
{
    CHECK(text != NULL);
    return ms == 0 ? number_format(0, text) : format_unit(ms, durations, text);
}

size_t number_format_size(uint64_t bytes, char text[NUMBER_TEXT_SIZE])
{
    CHECK(text != NULL);
    return bytes == 0 ? number_format(0, text) : format_unit(bytes, sizes, text);
}
