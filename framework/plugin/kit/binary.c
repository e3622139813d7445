/* binary.c - a step's values in the binary form of WEFT_STMT_BINARY. */
#include "base/number.h"
#include "libpq.h"
#include "pg/calendar.h"
#include "pg/decode.h"
#include "pg/number.h"
#include "pg/types.h"

enum { GROUP = 4 }; /* decimal digits in one of a numeric's */

#define DAY_US  86400000000ll
#define US_2000 (10957 * DAY_US)

/* The `size` low bytes, the highest first. */
static struct span number(weft_test *t, uint64_t value, size_t size)
{
    char *out = arena_bytes(&t->arena, size);

    for (size_t i = 0; i < size; i++)
        out[i] = (char)(value >> (8 * (size - 1 - i)));
    return (struct span){out, size};
}

static bool whole(weft_test *t, struct span text, size_t size, struct span *bytes)
{
    int64_t value;

    if (!number_int(text, &value))
        return false;
    *bytes = number(t, (uint64_t)value, size);
    return true;
}

static bool fraction(weft_test *t, struct span text, size_t size, struct span *bytes)
{
    double value;
    float single;
    uint64_t bits;
    uint32_t half;

    if (!pg_double_read(text, &value))
        return false;
    single = (float)value;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&half, &single, sizeof half);
    *bytes = number(t, size == sizeof half ? half : bits, size);
    return true;
}

static bool time_of(weft_test *t, struct span text, uint32_t type, struct span *bytes)
{
    bool is_date = type == PG_OID_DATE;
    int64_t us;

    if (!pg_time_read(text, &us))
        return false;
    if (us == INT64_MAX || us == INT64_MIN)
        us = !is_date ? us : us > 0 ? INT32_MAX : INT32_MIN;
    else
        us = is_date ? us / DAY_US - (us % DAY_US < 0) - US_2000 / DAY_US : us - US_2000;
    *bytes = number(t, (uint64_t)us, is_date ? sizeof(int32_t) : sizeof us);
    return true;
}

static bool bytea(weft_test *t, struct span text, struct span *bytes)
{
    char *out = arena_bytes(&t->arena, text.len + 1);

    bytes->ptr = out;
    return pg_bytes_read(text, out, &bytes->len);
}

/* As a bytea without its dashes. */
static bool uuid(weft_test *t, struct span text, struct span *bytes)
{
    char *hex = arena_bytes(&t->arena, text.len + 3);
    size_t len = 2;

    memcpy(hex, "\\x", 2);
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] != '-')
            hex[len++] = text.ptr[i];
    return len == 34 && bytea(t, (struct span){hex, len}, bytes);
}

static struct span jsonb(weft_test *t, struct span text)
{
    char *out = arena_bytes(&t->arena, text.len + 1);

    out[0] = 1;
    memcpy(out + 1, text.ptr, text.len);
    return (struct span){out, text.len + 1};
}

/* "-12.50": where its digits are. */
struct decimal {
    bool is_negative;
    struct span before, behind; /* the point */
};

static bool is_digits(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
    return true;
}

static bool read_decimal(struct span text, struct decimal *decimal)
{
    const char *point;

    decimal->is_negative = text.len > 0 && text.ptr[0] == '-';
    if (decimal->is_negative)
        text = (struct span){text.ptr + 1, text.len - 1};
    point = memchr(text.ptr, '.', text.len);
    decimal->before =
        (struct span){text.ptr, point != NULL ? (size_t)(point - text.ptr) : text.len};
    decimal->behind = (struct span){"", 0};
    if (point != NULL)
        decimal->behind = (struct span){point + 1, text.len - decimal->before.len - 1};
    return decimal->before.len + decimal->behind.len > 0 && is_digits(decimal->before) &&
           is_digits(decimal->behind);
}

/* Four digits from `at` on; what lies outside is 0. */
static uint64_t group_at(struct span digits, ptrdiff_t at)
{
    uint64_t value = 0;

    for (ptrdiff_t i = at; i < at + GROUP; i++)
        value = 10 * value +
                (i >= 0 && i < (ptrdiff_t)digits.len ? (uint64_t)(digits.ptr[i] - '0') : 0);
    return value;
}

static void put(struct buf *out, weft_test *t, uint64_t value)
{
    buf_append(out, number(t, value, sizeof(uint16_t)));
}

/* Zeros at either end are allowed. */
static bool numeric(weft_test *t, struct span text, struct span *bytes)
{
    struct decimal decimal;
    struct buf out = {0};
    size_t before, behind;

    if (!read_decimal(text, &decimal))
        return false;
    before = (decimal.before.len + GROUP - 1) / GROUP;
    behind = (decimal.behind.len + GROUP - 1) / GROUP;
    put(&out, t, before + behind);
    put(&out, t, before - 1);
    put(&out, t, decimal.is_negative ? PG_NUMERIC_MINUS : PG_NUMERIC_PLUS);
    put(&out, t, decimal.behind.len);
    for (size_t i = 0; i < before; i++)
        put(&out, t,
            group_at(decimal.before,
                     (ptrdiff_t)decimal.before.len - (ptrdiff_t)((before - i) * GROUP)));
    for (size_t i = 0; i < behind; i++)
        put(&out, t, group_at(decimal.behind, (ptrdiff_t)(i * GROUP)));
    *bytes = arena_copy(&t->arena, buf_span(&out));
    buf_release(&out);
    return true;
}

static bool special(weft_test *t, uint64_t sign, struct span *bytes)
{
    *bytes = number(t, sign << 16, 8);
    return true;
}

static bool encode(weft_test *t, uint32_t type, struct span text, struct span *bytes)
{
    *bytes = text;
    switch (type) {
    case PG_OID_BOOL:
        *bytes = (struct span){span_equal(text, SPAN("t")) ? "\1" : "\0", 1};
        return true;
    case PG_OID_INT2:
        return whole(t, text, 2, bytes);
    case PG_OID_INT4:
    case PG_OID_OID:
        return whole(t, text, 4, bytes);
    case PG_OID_INT8:
        return whole(t, text, 8, bytes);
    case PG_OID_FLOAT4:
        return fraction(t, text, 4, bytes);
    case PG_OID_FLOAT8:
        return fraction(t, text, 8, bytes);
    case PG_OID_NUMERIC:
        if (span_equal(text, SPAN("NaN")))
            return special(t, PG_NUMERIC_NAN, bytes);
        return numeric(t, text, bytes);
    case PG_OID_DATE:
    case PG_OID_TIMESTAMP:
    case PG_OID_TIMESTAMPTZ:
        return time_of(t, text, type, bytes);
    case PG_OID_BYTEA:
        return bytea(t, text, bytes);
    case PG_OID_UUID:
        return uuid(t, text, bytes);
    case PG_OID_JSONB:
        *bytes = jsonb(t, text);
        return true;
    default:
        return true;
    }
}

static struct span *encode_row(weft_test_step *step, uint32_t row)
{
    struct span *cells = arena_alloc(&step->t->arena, step->columns * sizeof *cells);

    for (uint32_t i = 0; i < step->columns; i++) {
        const char *text = step->cells[row][i];

        if (text == NULL || encode(step->t, step->column_types[i], span_of(text), &cells[i]))
            continue;
        kit_fail(step->t, step->file, step->line, "column %s: '%s' is no value of its type",
                 step->column_names[i], text);
        cells[i] = (struct span){"", 0};
    }
    return cells;
}

void kit_encode(weft_test_step *step)
{
    if (step->binary != NULL || step->rows == 0)
        return;
    step->binary = arena_alloc(&step->t->arena, step->rows * sizeof *step->binary);
    for (uint32_t i = 0; i < step->rows; i++)
        step->binary[i] = encode_row(step, i);
}
