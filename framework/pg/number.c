/* pg/number.c - numbers with a fraction, as the server sends and writes them. */
#include "pg/number.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TEXT_SIZE = 64,     /* of a float */
    LOCAL_SIZE = 512,   /* of a number that is read with another point */
    BASE = 10000,       /* of a numeric's digits */
    DIGITS_OF_BASE = 4, /* decimal ones */
    HEAD_SIZE = 8,      /* bytes of a numeric before its digits */
    SCALE_MAX = 0x3fff
};

/* The server writes a point; a plugin may have called setlocale(), and then strtod() wants what
 * that country writes. */
static bool read_with_locale(struct span text, double *value)
{
    const char *point = localeconv()->decimal_point;
    char local[LOCAL_SIZE];
    char *end;
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (len + strlen(point) + 1 >= sizeof local)
            return false;
        if (text.ptr[i] == '.') {
            memcpy(local + len, point, strlen(point));
            len += strlen(point);
        } else {
            local[len++] = text.ptr[i];
        }
    }
    local[len] = '\0';
    *value = strtod(local, &end);
    return end == local + len;
}

bool pg_double_read(struct span text, double *value)
{
    char *end;

    if (text.len == 0)
        return false;
    *value = strtod(text.ptr, &end);
    return end == text.ptr + text.len || read_with_locale(text, value);
}

static double read_back(const char *text, bool is_single)
{
    return is_single ? (double)strtof(text, NULL) : strtod(text, NULL);
}

/* The fewest digits that are read back as the same number; with an exponent from 1e+06, or 1e+15,
 * on, where "%g" with more digits than these would have none. */
static void write_shortest(double value, bool is_single, char text[TEXT_SIZE])
{
    const int digits_min = is_single ? 6 : 15, digits_max = is_single ? 9 : 17;
    bool is_large = fabs(value) >= (is_single ? 1e6 : 1e15);

    for (int digits = digits_min; digits <= digits_max; digits++) {
        if (is_large && digits > digits_min)
            (void)snprintf(text, TEXT_SIZE, "%.*e", digits - 1, value);
        else
            (void)snprintf(text, TEXT_SIZE, "%.*g", digits, value);
        if (read_back(text, is_single) == value)
            break;
    }
}

void pg_float_write(double value, bool is_single, struct buf *out)
{
    const char *point = localeconv()->decimal_point, *at;
    char text[TEXT_SIZE];

    if (isnan(value) || isinf(value)) {
        buf_append(out, isnan(value) ? SPAN("NaN")
                        : value > 0  ? SPAN("Infinity")
                                     : SPAN("-Infinity"));
        return;
    }
    write_shortest(value, is_single, text);
    at = strstr(text, point);
    if (at == NULL) {
        buf_append(out, span_of(text));
        return;
    }
    buf_append(out, (struct span){text, (size_t)(at - text)});
    buf_append(out, SPAN("."));
    buf_append(out, span_of(at + strlen(point)));
}

bool pg_float_int(double value, bool is_single, int64_t *number)
{
    if (!(fabs(value) < (is_single ? 1e6 : 1e15)) || value != floor(value))
        return false;
    *number = (int64_t)value;
    return true;
}

/* Numeric */

static int32_t pair_at(struct span bytes, size_t at)
{
    return (unsigned char)bytes.ptr[at] << 8 | (unsigned char)bytes.ptr[at + 1];
}

/* The digit that counts 10000 ** (weight - index); 0 before the first and behind the last. */
static int32_t digit_at(const struct pg_numeric *numeric, int32_t index)
{
    if (index < 0 || index >= numeric->count)
        return 0;
    return pair_at(numeric->bytes, 2 * (size_t)index);
}

bool pg_numeric_open(struct span bytes, struct pg_numeric *numeric)
{
    if (bytes.len < HEAD_SIZE)
        return false;
    *numeric = (struct pg_numeric){
        .count = pair_at(bytes, 0),
        .weight = (int16_t)pair_at(bytes, 2),
        .sign = (uint32_t)pair_at(bytes, 4),
        .scale = pair_at(bytes, 6),
        .bytes = {bytes.ptr + HEAD_SIZE, bytes.len - HEAD_SIZE},
    };
    if (numeric->bytes.len != 2 * (size_t)numeric->count || numeric->scale > SCALE_MAX)
        return false;
    for (int32_t i = 0; i < numeric->count; i++)
        if (digit_at(numeric, i) >= BASE)
            return false;
    switch (numeric->sign) {
    case PG_NUMERIC_PLUS:
    case PG_NUMERIC_MINUS:
        return true;
    case PG_NUMERIC_NAN:
    case PG_NUMERIC_PLUS_INFINITY:
    case PG_NUMERIC_MINUS_INFINITY:
        return numeric->count == 0;
    default:
        return false;
    }
}

/* "NaN" and its like; absent: a number. */
static struct span special_of(const struct pg_numeric *numeric)
{
    switch (numeric->sign) {
    case PG_NUMERIC_NAN:
        return SPAN("NaN");
    case PG_NUMERIC_PLUS_INFINITY:
        return SPAN("Infinity");
    case PG_NUMERIC_MINUS_INFINITY:
        return SPAN("-Infinity");
    default:
        return (struct span){NULL, 0};
    }
}

/* What stands before the point; no zero in front of more, which JSON has not, whatever came. */
static void write_whole(const struct pg_numeric *numeric, struct buf *out)
{
    bool has_begun = false;

    if (numeric->weight < 0)
        buf_append(out, SPAN("0"));
    for (int32_t i = 0; i <= numeric->weight; i++) {
        int32_t digit = digit_at(numeric, i);

        if (!has_begun && digit == 0 && i < numeric->weight)
            continue;
        buf_format(out, has_begun ? "%04d" : "%d", (int)digit);
        has_begun = true;
    }
}

static void write_fraction(const struct pg_numeric *numeric, struct buf *out)
{
    char digits[TEXT_SIZE];

    buf_append(out, SPAN("."));
    for (int32_t done = 0; done < numeric->scale; done += DIGITS_OF_BASE) {
        int32_t digit = digit_at(numeric, numeric->weight + 1 + done / DIGITS_OF_BASE);
        int32_t left = numeric->scale - done;

        (void)snprintf(digits, sizeof digits, "%04d", (int)digit);
        buf_append(out, (struct span){digits, left < DIGITS_OF_BASE ? (size_t)left
                                                                    : (size_t)DIGITS_OF_BASE});
    }
}

void pg_numeric_write(const struct pg_numeric *numeric, struct buf *out)
{
    struct span special = special_of(numeric);

    if (special.ptr != NULL) {
        buf_append(out, special);
        return;
    }
    if (numeric->sign == PG_NUMERIC_MINUS)
        buf_append(out, SPAN("-"));
    write_whole(numeric, out);
    if (numeric->scale > 0)
        write_fraction(numeric, out);
}

/* Counts down, since there is one number more below 0 than above. */
bool pg_numeric_int(const struct pg_numeric *numeric, int64_t *value)
{
    int64_t number = 0;

    if (special_of(numeric).ptr != NULL || numeric->scale > 0)
        return false;
    for (int32_t i = 0; i <= numeric->weight; i++)
        if (__builtin_mul_overflow(number, (int64_t)BASE, &number) ||
            __builtin_sub_overflow(number, (int64_t)digit_at(numeric, i), &number))
            return false;
    if (numeric->sign != PG_NUMERIC_MINUS && number == INT64_MIN)
        return false;
    *value = numeric->sign == PG_NUMERIC_MINUS ? number : -number;
    return true;
}

bool pg_numeric_double(const struct pg_numeric *numeric, double *value)
{
    struct buf text = {0};
    char point;
    bool is_read;

    pg_numeric_write(numeric, &text);
    buf_append(&text, (struct span){"", 1});
    point = localeconv()->decimal_point[0];
    for (size_t i = 0; point != '.' && i < text.len; i++)
        if (text.data[i] == '.')
            text.data[i] = point;
    is_read = pg_double_read((struct span){text.data, text.len - 1}, value);
    buf_release(&text);
    return is_read;
}
