/* pg/binary.c - values in the binary form in which the server sends them.
 *
 * Numbers have the highest byte first; times count microseconds, dates days, since 2000. */
#include "pg/binary.h"
#include "base/number.h"
#include "pg/calendar.h"
#include "pg/decode.h"
#include "pg/number.h"
#include "pg/types.h"
#include <math.h>
#include <string.h>

enum {
    DAYS_TO_2000 = 10957, /* from 1970 */
    ITEM_SIZE_MAX = 40    /* of what is not text: a UUID, a number */
};

#define DAY_US  86400000000ll
#define US_2000 (DAYS_TO_2000 * DAY_US)

/* What the bytes are. */
enum form {
    FORM_NONE, /* not known here */
    FORM_TEXT,
    FORM_JSONB, /* a version, and the text */
    FORM_BYTES,
    FORM_BOOL,
    FORM_INT,
    FORM_OID,
    FORM_FLOAT,
    FORM_NUMERIC,
    FORM_DATE,
    FORM_TIMESTAMP,
    FORM_TIMESTAMPTZ,
    FORM_UUID,
    FORM_ARRAY
};

/* Of a type. */
struct shape {
    enum form form; /* see above */
    uint32_t len;   /* bytes of each value; 0: of various lengths */
    uint32_t item;  /* ARRAY: the items' type */
};

/* By OID, ascending. */
static const struct {
    uint32_t type;
    struct shape shape;
} shapes[] = {
    {PG_OID_BOOL, {FORM_BOOL, 1, 0}},
    {PG_OID_BYTEA, {FORM_BYTES, 0, 0}},
    {PG_OID_CHAR, {FORM_TEXT, 1, 0}},
    {PG_OID_NAME, {FORM_TEXT, 0, 0}},
    {PG_OID_INT8, {FORM_INT, 8, 0}},
    {PG_OID_INT2, {FORM_INT, 2, 0}},
    {PG_OID_INT4, {FORM_INT, 4, 0}},
    {PG_OID_TEXT, {FORM_TEXT, 0, 0}},
    {PG_OID_OID, {FORM_OID, 4, 0}},
    {PG_OID_JSON, {FORM_TEXT, 0, 0}},
    {PG_OID_XML, {FORM_TEXT, 0, 0}},
    {PG_OID_FLOAT4, {FORM_FLOAT, 4, 0}},
    {PG_OID_FLOAT8, {FORM_FLOAT, 8, 0}},
    {PG_OID_UNKNOWN, {FORM_TEXT, 0, 0}},
    {PG_OID_BOOLS, {FORM_ARRAY, 0, PG_OID_BOOL}},
    {PG_OID_CHARS, {FORM_ARRAY, 0, PG_OID_CHAR}},
    {PG_OID_NAMES, {FORM_ARRAY, 0, PG_OID_NAME}},
    {PG_OID_INT2S, {FORM_ARRAY, 0, PG_OID_INT2}},
    {PG_OID_INT4S, {FORM_ARRAY, 0, PG_OID_INT4}},
    {PG_OID_TEXTS, {FORM_ARRAY, 0, PG_OID_TEXT}},
    {PG_OID_BPCHARS, {FORM_ARRAY, 0, PG_OID_BPCHAR}},
    {PG_OID_VARCHARS, {FORM_ARRAY, 0, PG_OID_VARCHAR}},
    {PG_OID_INT8S, {FORM_ARRAY, 0, PG_OID_INT8}},
    {PG_OID_FLOAT4S, {FORM_ARRAY, 0, PG_OID_FLOAT4}},
    {PG_OID_FLOAT8S, {FORM_ARRAY, 0, PG_OID_FLOAT8}},
    {PG_OID_OIDS, {FORM_ARRAY, 0, PG_OID_OID}},
    {PG_OID_BPCHAR, {FORM_TEXT, 0, 0}},
    {PG_OID_VARCHAR, {FORM_TEXT, 0, 0}},
    {PG_OID_DATE, {FORM_DATE, 4, 0}},
    {PG_OID_TIMESTAMP, {FORM_TIMESTAMP, 8, 0}},
    {PG_OID_TIMESTAMPTZ, {FORM_TIMESTAMPTZ, 8, 0}},
    {PG_OID_NUMERIC, {FORM_NUMERIC, 0, 0}},
    {PG_OID_VOID, {FORM_TEXT, 0, 0}},
    {PG_OID_UUID, {FORM_UUID, 16, 0}},
    {PG_OID_UUIDS, {FORM_ARRAY, 0, PG_OID_UUID}},
    {PG_OID_JSONB, {FORM_JSONB, 0, 0}},
};

static struct shape shape_of(uint32_t type)
{
    size_t low = 0, high = sizeof shapes / sizeof shapes[0];

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (shapes[middle].type < type)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < sizeof shapes / sizeof shapes[0] && shapes[low].type == type)
        return shapes[low].shape;
    return (struct shape){FORM_NONE, 0, 0};
}

/* The one byte of a "char" is its text only where it is of ASCII: else the server writes \200, or
 * nothing. */
static bool is_odd_char(uint32_t type, struct span bytes)
{
    return type == PG_OID_CHAR && ((unsigned char)bytes.ptr[0] - 1u > 126u);
}

/* The shape of a type of which a value may be that; FORM_NONE else. */
static struct shape shape_for(uint32_t type, struct span bytes)
{
    struct shape shape = shape_of(type);

    if (bytes.ptr == NULL || (shape.len > 0 && shape.len != bytes.len) || is_odd_char(type, bytes))
        shape.form = FORM_NONE;
    return shape;
}

/* At most 8 bytes. */
static uint64_t number_of(struct span bytes)
{
    uint64_t number = 0;

    for (size_t i = 0; i < bytes.len; i++)
        number = number << 8 | (unsigned char)bytes.ptr[i];
    return number;
}

static int64_t signed_of(struct span bytes)
{
    unsigned shift = 64 - 8 * (unsigned)bytes.len;

    return (int64_t)(number_of(bytes) << shift) >> shift;
}

static double float_of(struct span bytes)
{
    uint64_t number = number_of(bytes);
    uint32_t half = (uint32_t)number;
    double value;
    float single;

    if (bytes.len == sizeof single) {
        memcpy(&single, &half, sizeof single);
        return single;
    }
    memcpy(&value, &number, sizeof value);
    return value;
}

/* What is not a number of the type's bytes, or text, has a rule of its own. */
static bool is_fine_array(uint32_t type, struct span bytes)
{
    struct pg_items items;
    struct span item;

    if (!pg_items_open(type, bytes, &items))
        return false;
    for (uint32_t i = 0; i < items.count; i++)
        if (!pg_items_next(&items, &item))
            return false;
    return items.rest.len == 0;
}

static struct span jsonb_text(struct span bytes)
{
    if (bytes.len < 1 || bytes.ptr[0] != 1)
        return (struct span){NULL, 0};
    return (struct span){bytes.ptr + 1, bytes.len - 1};
}

bool pg_binary_is_known(uint32_t type)
{
    return shape_of(type).form != FORM_NONE;
}

bool pg_binary_is_fine(uint32_t type, struct span bytes)
{
    struct pg_numeric numeric;

    switch (shape_for(type, bytes).form) {
    case FORM_NONE:
        return false;
    case FORM_BOOL:
        return (unsigned char)bytes.ptr[0] <= 1;
    case FORM_JSONB:
        return jsonb_text(bytes).ptr != NULL;
    case FORM_NUMERIC:
        return pg_numeric_open(bytes, &numeric);
    case FORM_ARRAY:
        return is_fine_array(type, bytes);
    case FORM_TEXT:
    case FORM_BYTES:
    case FORM_INT:
    case FORM_OID:
    case FORM_FLOAT:
    case FORM_DATE:
    case FORM_TIMESTAMP:
    case FORM_TIMESTAMPTZ:
    case FORM_UUID:
        return true;
    }
    return false;
}

bool pg_binary_text(uint32_t type, struct span bytes, struct span *text)
{
    enum form form = shape_for(type, bytes).form;

    *text = form == FORM_TEXT ? bytes : (struct span){NULL, 0};
    if (form == FORM_JSONB)
        *text = jsonb_text(bytes);
    return text->ptr != NULL;
}

bool pg_binary_int(uint32_t type, struct span bytes, int64_t *value)
{
    enum form form = shape_for(type, bytes).form;
    struct pg_numeric numeric;

    if (form == FORM_INT)
        *value = signed_of(bytes);
    else if (form == FORM_OID)
        *value = (int64_t)number_of(bytes);
    else if (form == FORM_FLOAT)
        return pg_float_int(float_of(bytes), bytes.len == sizeof(float), value);
    else if (form == FORM_NUMERIC)
        return pg_numeric_open(bytes, &numeric) && pg_numeric_int(&numeric, value);
    else
        return form == FORM_TEXT && number_int(bytes, value);
    return true;
}

bool pg_binary_double(uint32_t type, struct span bytes, double *value)
{
    enum form form = shape_for(type, bytes).form;
    struct pg_numeric numeric;

    if (form == FORM_FLOAT)
        *value = float_of(bytes);
    else if (form == FORM_INT)
        *value = (double)signed_of(bytes);
    else if (form == FORM_OID)
        *value = (double)number_of(bytes);
    else if (form == FORM_NUMERIC)
        return pg_numeric_open(bytes, &numeric) && pg_numeric_double(&numeric, value);
    else
        return form == FORM_TEXT && pg_double_read(bytes, value);
    return true;
}

bool pg_binary_bool(uint32_t type, struct span bytes)
{
    enum form form = shape_for(type, bytes).form;

    if (form == FORM_BOOL)
        return bytes.ptr[0] == 1;
    return form == FORM_TEXT && span_equal(bytes, SPAN("t"));
}

static bool is_infinite(struct shape shape, int64_t number)
{
    return shape.len == sizeof(int32_t) ? number == INT32_MAX || number == INT32_MIN
                                        : number == INT64_MAX || number == INT64_MIN;
}

bool pg_binary_time(uint32_t type, struct span bytes, int64_t *us)
{
    struct shape shape = shape_for(type, bytes);
    int64_t number;

    if (shape.form == FORM_TEXT)
        return pg_time_read(bytes, us);
    if (shape.form != FORM_DATE && shape.form != FORM_TIMESTAMP && shape.form != FORM_TIMESTAMPTZ)
        return false;
    number = signed_of(bytes);
    if (is_infinite(shape, number)) {
        *us = number > 0 ? INT64_MAX : INT64_MIN;
        return true;
    }
    if (shape.form == FORM_DATE && __builtin_mul_overflow(number, DAY_US, &number))
        return false;
    return !__builtin_add_overflow(number, US_2000, us) && *us != INT64_MAX;
}

bool pg_binary_bytes(uint32_t type, struct span bytes, char *out, size_t *len)
{
    enum form form = shape_for(type, bytes).form;

    if (form == FORM_TEXT)
        return pg_bytes_read(bytes, out, len);
    if (form != FORM_BYTES)
        return false;
    memcpy(out, bytes.ptr, bytes.len);
    *len = bytes.len;
    return true;
}

/* Writing */

static void write_hex(struct span bytes, size_t from, size_t count, struct buf *out)
{
    static const char digits[] = "0123456789abcdef";
    char *at = buf_reserve(out, 2 * count);

    for (size_t i = 0; i < count; i++) {
        unsigned char byte = (unsigned char)bytes.ptr[from + i];

        at[2 * i] = digits[byte >> 4];
        at[2 * i + 1] = digits[byte & 15];
    }
    buf_commit(out, 2 * count);
}

static void write_uuid(struct span bytes, struct buf *out)
{
    static const unsigned char lens[] = {4, 2, 2, 2, 6};
    size_t at = 0;

    for (size_t i = 0; i < sizeof lens; i++) {
        if (i > 0)
            buf_append(out, SPAN("-"));
        write_hex(bytes, at, lens[i], out);
        at += lens[i];
    }
}

/* "2024-02-29 12:00:00.500000+00 BC", without what the type has not, and without zeros at the end
 * of its fraction. */
static void write_parts(const char *text, enum form form, struct buf *out)
{
    size_t date = strcspn(text, " "), zone = strcspn(text, "+"), end = zone;

    buf_append(out, (struct span){text, date});
    if (form != FORM_DATE) {
        while (text[end - 1] == '0')
            end--;
        end -= text[end - 1] == '.';
        buf_append(out, (struct span){text + date, end - date});
    }
    if (form == FORM_TIMESTAMPTZ)
        buf_append(out, SPAN("+00"));
    buf_append(out, span_of(text + zone + strlen("+00")));
}

static void write_time(struct shape shape, struct span bytes, struct buf *out)
{
    int64_t number = signed_of(bytes), days = number, rest = 0;
    char text[PG_TIME_SIZE];

    if (is_infinite(shape, number)) {
        buf_append(out, number > 0 ? SPAN("infinity") : SPAN("-infinity"));
        return;
    }
    if (shape.form != FORM_DATE) {
        days = number / DAY_US - (number % DAY_US < 0);
        rest = (number % DAY_US + DAY_US) % DAY_US;
    }
    pg_time_write_day(days + DAYS_TO_2000, rest, text);
    write_parts(text, shape.form, out);
}

static void write_int(int64_t number, struct buf *out)
{
    char digits[NUMBER_TEXT_SIZE];
    size_t len = number_format(number < 0 ? -(uint64_t)number : (uint64_t)number, digits);

    if (number < 0)
        buf_append(out, SPAN("-"));
    buf_append(out, (struct span){digits, len});
}

/* Is it an item that could be taken for something else? */
static bool wants_quotes(struct span text)
{
    if (text.len == 0 || span_equal_nocase(text, SPAN("null")))
        return true;
    for (size_t i = 0; i < text.len; i++)
        if (memchr("{}\",\\ \t\n\r\v\f", text.ptr[i], 11) != NULL)
            return true;
    return false;
}

static void write_quoted(struct span text, struct buf *out)
{
    buf_append(out, SPAN("\""));
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            buf_append(out, SPAN("\\"));
        buf_append(out, (struct span){text.ptr + i, 1});
    }
    buf_append(out, SPAN("\""));
}

static void write_item(uint32_t type, struct span item, struct buf *out)
{
    if (item.ptr == NULL)
        buf_append(out, SPAN("NULL"));
    else if (shape_of(type).form == FORM_TEXT && wants_quotes(item))
        write_quoted(item, out);
    else
        pg_binary_write(type, item, out);
}

/* "[0:1]=", where an index does not begin at 1. */
static void write_bounds(const struct pg_items *items, struct buf *out)
{
    bool is_usual = true;

    for (uint32_t i = 0; i < items->dimensions; i++)
        is_usual = is_usual && items->firsts[i] == 1;
    for (uint32_t i = 0; i < items->dimensions && !is_usual; i++) {
        buf_append(out, SPAN("["));
        write_int(items->firsts[i], out);
        buf_append(out, SPAN(":"));
        write_int((int64_t)items->firsts[i] + items->sizes[i] - 1, out);
        buf_append(out, SPAN("]"));
    }
    if (!is_usual)
        buf_append(out, SPAN("="));
}

/* A brace for each dimension that begins, or ends, at item number `at`. */
static void write_braces(const struct pg_items *items, uint32_t at, struct span brace,
                         struct buf *out)
{
    uint32_t span = 1;

    for (uint32_t i = items->dimensions; i > 0; i--) {
        span *= items->sizes[i - 1];
        if (at % span == 0)
            buf_append(out, brace);
    }
}

static void write_array(uint32_t type, struct span bytes, struct buf *out)
{
    struct pg_items items;
    struct span item;

    if (!pg_items_open(type, bytes, &items))
        return;
    if (items.count == 0) {
        buf_append(out, SPAN("{}"));
        return;
    }
    write_bounds(&items, out);
    for (uint32_t i = 0; i < items.count && pg_items_next(&items, &item); i++) {
        if (i > 0)
            buf_append(out, SPAN(","));
        write_braces(&items, i, SPAN("{"), out);
        write_item(items.type, item, out);
        write_braces(&items, i + 1, SPAN("}"), out);
    }
}

static void write_number(enum form form, struct span bytes, struct buf *out)
{
    struct pg_numeric numeric;

    if (form == FORM_INT)
        write_int(signed_of(bytes), out);
    else if (form == FORM_OID)
        write_int((int64_t)number_of(bytes), out);
    else if (form == FORM_FLOAT)
        pg_float_write(float_of(bytes), bytes.len == sizeof(float), out);
    else if (pg_numeric_open(bytes, &numeric))
        pg_numeric_write(&numeric, out);
}

static void write_bytes(struct span bytes, struct buf *out)
{
    buf_append(out, SPAN("\\x"));
    write_hex(bytes, 0, bytes.len, out);
}

void pg_binary_write(uint32_t type, struct span bytes, struct buf *out)
{
    struct shape shape = shape_for(type, bytes);

    switch (shape.form) {
    case FORM_NONE:
        return;
    case FORM_TEXT:
        buf_append(out, bytes);
        return;
    case FORM_JSONB:
        buf_append(out, jsonb_text(bytes));
        return;
    case FORM_BYTES:
        write_bytes(bytes, out);
        return;
    case FORM_BOOL:
        buf_append(out, bytes.ptr[0] == 1 ? SPAN("t") : SPAN("f"));
        return;
    case FORM_INT:
    case FORM_OID:
    case FORM_FLOAT:
    case FORM_NUMERIC:
        write_number(shape.form, bytes, out);
        return;
    case FORM_DATE:
    case FORM_TIMESTAMP:
    case FORM_TIMESTAMPTZ:
        write_time(shape, bytes, out);
        return;
    case FORM_UUID:
        write_uuid(bytes, out);
        return;
    case FORM_ARRAY:
        write_array(type, bytes, out);
        return;
    }
}

/* Arrays */

static bool take(struct span *rest, size_t len, struct span *part)
{
    if (rest->len < len)
        return false;
    *part = (struct span){rest->ptr, len};
    *rest = (struct span){rest->ptr + len, rest->len - len};
    return true;
}

static bool take_number(struct span *rest, int64_t min, int64_t max, int64_t *number)
{
    struct span part;

    if (!take(rest, sizeof(int32_t), &part))
        return false;
    *number = signed_of(part);
    return *number >= min && *number <= max;
}

/* Items have a length each, so there cannot be more of them than a quarter of the bytes. */
static bool take_dimensions(struct pg_items *items)
{
    uint64_t count = items->dimensions > 0, count_max;
    int64_t size, first;

    for (uint32_t i = 0; i < items->dimensions; i++) {
        if (!take_number(&items->rest, 1, INT32_MAX, &size) ||
            !take_number(&items->rest, INT32_MIN, INT32_MAX, &first))
            return false;
        items->sizes[i] = (uint32_t)size;
        items->firsts[i] = (int32_t)first;
    }
    count_max = items->rest.len / sizeof(int32_t);
    for (uint32_t i = 0; i < items->dimensions; i++) {
        count *= items->sizes[i];
        if (count > count_max || count > UINT32_MAX)
            return false;
    }
    items->count = (uint32_t)count;
    return true;
}

bool pg_items_open(uint32_t type, struct span bytes, struct pg_items *items)
{
    struct shape shape = shape_for(type, bytes);
    int64_t dimensions, has_nulls, item;

    *items = (struct pg_items){.rest = bytes, .type = shape.item};
    if (shape.form != FORM_ARRAY || !take_number(&items->rest, 0, PG_DIMENSIONS_MAX, &dimensions) ||
        !take_number(&items->rest, 0, 1, &has_nulls) ||
        !take_number(&items->rest, shape.item, shape.item, &item))
        return false;
    items->dimensions = (uint32_t)dimensions;
    return take_dimensions(items);
}

bool pg_items_next(struct pg_items *items, struct span *item)
{
    int64_t len;

    *item = (struct span){NULL, 0};
    if (!take_number(&items->rest, -1, INT32_MAX, &len))
        return false;
    if (len < 0)
        return true;
    return take(&items->rest, (size_t)len, item) && pg_binary_is_fine(items->type, *item);
}

size_t pg_item_size(size_t len)
{
    return len < ITEM_SIZE_MAX ? ITEM_SIZE_MAX + 1 : len + 1;
}
