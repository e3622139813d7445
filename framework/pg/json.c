/* pg/json.c - a result as JSON.
 *
 * Rows become objects with the columns in their order. The client encoding is UTF-8, and the server
 * sees to it, unless a function changes the setting: what is not UTF-8 then becomes U+FFFD, so that
 * the text is JSON in every case. One is left: values of type JSON are not parsed, and an encoding
 * that has the byte of a backslash within characters (SJIS, BIG5, GBK) may break their strings. */
#include "base/check.h"
#include "base/mem.h"
#include "pg/binary.h"
#include "pg/private.h"
#include "pg/types.h"
#include <stdio.h>

enum style { AS_STRING, AS_IS, AS_JSON, AS_BOOL, AS_NUMBER };

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* A column, made ready once for all rows. */
struct column {
    enum style style; /* how its values are written */
    uint32_t binary;  /* the type of what comes in binary form; 0: it comes as text */
    size_t key;       /* where its key, with quotes and colon, lies in the text of keys */
    size_t key_len;   /* bytes of it */
};

/* Where the text goes, and how long that may become: what a server has sent may be as JSON many
 * times as large, and is never written beyond this. */
struct writer {
    struct buf *out; /* appended to */
    size_t max;      /* bytes in it, at most */
    bool is_full;    /* something did not fit */
    struct buf text; /* of a value that came in binary form */
};

static enum style style_of(uint32_t type)
{
    switch (type) {
    case PG_OID_BOOL:
        return AS_BOOL;
    case PG_OID_INT2:
    case PG_OID_INT4:
    case PG_OID_INT8:
    case PG_OID_OID:
        return AS_IS;
    case PG_OID_JSON:
    case PG_OID_JSONB:
        return AS_JSON;
    case PG_OID_FLOAT4:
    case PG_OID_FLOAT8:
    case PG_OID_NUMERIC:
        return AS_NUMBER; /* NaN and Infinity are none in JSON */
    default:
        return AS_STRING;
    }
}

/* How many bytes of UTF-8 a character at `text` has; 0: it is none. */
static size_t utf8_len(const unsigned char *text, size_t left)
{
    static const struct {
        unsigned char mask, lead, len;
        uint32_t min;
    } forms[] = {{0xe0, 0xc0, 2, 0x80}, {0xf0, 0xe0, 3, 0x800}, {0xf8, 0xf0, 4, 0x10000}};

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        uint32_t code = text[0] & (unsigned char)~forms[i].mask;

        if ((text[0] & forms[i].mask) != forms[i].lead)
            continue;
        if (left < forms[i].len)
            return 0;
        for (size_t at = 1; at < forms[i].len; at++) {
            if ((text[at] & 0xc0) != 0x80)
                return 0;
            code = code << 6 | (text[at] & 0x3f);
        }
        if (code < forms[i].min || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
            return 0;
        return forms[i].len;
    }
    return 0;
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static void put(struct writer *writer, struct span text)
{
    CHECK(writer->out->len <= writer->max);
    if (text.len > writer->max - writer->out->len)
        writer->is_full = true;
    else
        buf_append(writer->out, text);
}

static void escape(struct writer *out, unsigned char c)
{
    char text[sizeof "\\u0000"];

    switch (c) {
    case '"':
        put(out, SPAN("\\\""));
        return;
    case '\\':
        put(out, SPAN("\\\\"));
        return;
    case '\n':
        put(out, SPAN("\\n"));
        return;
    case '\r':
        put(out, SPAN("\\r"));
        return;
    case '\t':
        put(out, SPAN("\\t"));
        return;
    default:
        (void)snprintf(text, sizeof text, "\\u%04x", c);
        put(out, span_of(text));
    }
}

/* Runs of plain bytes go in one piece. */
static void append_escaped(struct writer *out, struct span text)
{
    const unsigned char *bytes = (const unsigned char *)text.ptr;
    size_t from = 0, at = 0;

    while (at < text.len) {
        size_t len = is_plain(bytes[at]) ? 1 : 0;

        if (len == 0 && bytes[at] >= 0x80)
            len = utf8_len(bytes + at, text.len - at);
        if (len > 0) {
            at += len;
            continue;
        }
        put(out, (struct span){text.ptr + from, at - from});
        if (bytes[at] >= 0x80)
            put(out, SPAN(REPLACEMENT));
        else
            escape(out, bytes[at]);
        from = ++at;
    }
    put(out, (struct span){text.ptr + from, at - from});
}

/* How many of the bytes at `text` are UTF-8, up to the first one that is not. */
static size_t good_len(const unsigned char *text, size_t len)
{
    size_t at = 0;

    while (at < len) {
        uint64_t eight;
        size_t more;

        if (len - at >= sizeof eight) {
            memcpy(&eight, text + at, sizeof eight);
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        more = text[at] < 0x80 ? 1 : utf8_len(text + at, len - at);
        if (more == 0)
            break;
        at += more;
    }
    return at;
}

/* What the server has checked to be JSON, as it is, but for bytes that are not UTF-8: in JSON they
 * are within strings. */
static void append_json(struct writer *out, struct span text)
{
    size_t at = 0;

    while (at < text.len) {
        size_t good = good_len((const unsigned char *)text.ptr + at, text.len - at);

        put(out, (struct span){text.ptr + at, good});
        at += good;
        if (at == text.len)
            break;
        put(out, SPAN(REPLACEMENT));
        at++;
    }
}

static void append_string(struct writer *out, struct span text)
{
    put(out, SPAN("\""));
    append_escaped(out, text);
    put(out, SPAN("\""));
}

static bool is_json_number(struct span text)
{
    return text.len > 0 && ((text.ptr[0] >= '0' && text.ptr[0] <= '9') ||
                            (text.ptr[0] == '-' && text.len > 1 && text.ptr[1] != 'I'));
}

static void append_value(struct writer *out, struct span value, enum style style)
{
    if (value.ptr == NULL) {
        put(out, SPAN("null"));
        return;
    }
    switch (style) {
    case AS_IS:
        put(out, value);
        return;
    case AS_JSON:
        append_json(out, value);
        return;
    case AS_BOOL:
        put(out, span_equal(value, SPAN("t")) ? SPAN("true") : SPAN("false"));
        return;
    case AS_NUMBER:
        if (is_json_number(value))
            put(out, value);
        else
            append_string(out, value);
        return;
    case AS_STRING:
        append_string(out, value);
        return;
    }
}

/* A value that came in binary form, as the text that it would have come as; the writer's. */
static struct span text_of(struct writer *out, uint32_t type, struct span raw)
{
    struct span text;

    if (raw.ptr == NULL || pg_binary_text(type, raw, &text))
        return raw.ptr == NULL ? raw : text;
    buf_consume(&out->text, out->text.len);
    pg_binary_write(type, raw, &out->text);
    return buf_span(&out->text);
}

static void append_row(const struct op *op, uint32_t row, const struct column *columns,
                       const struct buf *keys, struct writer *out)
{
    uint32_t count = pg_columns(op);

    put(out, SPAN("{"));
    for (uint32_t i = 0; i < count; i++) {
        struct span value = pg_raw(op, row, i);

        put(out, (struct span){keys->data + columns[i].key, columns[i].key_len});
        if (columns[i].binary != 0)
            value = text_of(out, columns[i].binary, value);
        append_value(out, value, columns[i].style);
    }
    put(out, SPAN("}"));
}

/* Keys as they stand before each value: `"id":`, and from the second on with a comma. */
static struct column *make_columns(const struct op *op, struct writer *keys)
{
    uint32_t count = pg_columns(op);
    struct column *columns = mem_calloc(count, sizeof *columns);

    for (uint32_t i = 0; i < count; i++) {
        columns[i].style = style_of(pg_column_type(op, i));
        columns[i].binary = pg_is_binary(op, i) ? pg_column_type(op, i) : 0;
        columns[i].key = keys->out->len;
        if (i > 0)
            put(keys, SPAN(","));
        append_string(keys, pg_column_name(op, i));
        put(keys, SPAN(":"));
        columns[i].key_len = keys->out->len - columns[i].key;
    }
    return columns;
}

static void append_rows(const struct op *op, const struct column *columns, const struct buf *keys,
                        struct writer *out)
{
    uint32_t rows = pg_rows(op);

    for (uint32_t row = 0; row < rows && !out->is_full; row++) {
        if (row > 0)
            put(out, SPAN(","));
        append_row(op, row, columns, keys, out);
    }
}

/* What of the result is written. */
enum part { PART_ALL, PART_FIRST_ROW, PART_FIRST_PIECE, PART_PIECE };

static void append_part(const struct op *op, enum part part, const struct column *columns,
                        const struct buf *keys, struct writer *out)
{
    uint32_t rows = pg_rows(op);

    if (part == PART_FIRST_ROW) {
        if (rows > 0)
            append_row(op, 0, columns, keys, out);
        else
            put(out, SPAN("null"));
        return;
    }
    if (part != PART_PIECE)
        put(out, SPAN("["));
    else if (rows > 0)
        put(out, SPAN(","));
    append_rows(op, columns, keys, out);
    if (part == PART_ALL || rows == 0)
        put(out, SPAN("]"));
}

static bool append(const struct op *op, enum part part, size_t size_max, struct buf *out)
{
    struct buf keys = {0};
    struct writer key_writer = {.out = &keys, .max = size_max};
    struct writer writer = {.out = out, .max = out->len + size_max};
    struct column *columns = make_columns(op, &key_writer);

    CHECK(size_max <= SIZE_MAX / 2);
    if (key_writer.is_full && pg_rows(op) > 0)
        writer.is_full = true; /* without rows no key is written */
    else
        append_part(op, part, columns, &keys, &writer);
    mem_free(columns);
    buf_release(&keys);
    buf_release(&writer.text);
    return !writer.is_full;
}

bool pg_json(const struct op *op, bool one_row, size_t size_max, struct buf *out)
{
    return append(op, one_row ? PART_FIRST_ROW : PART_ALL, size_max, out);
}

bool pg_json_piece(const struct op *op, bool is_first, size_t size_max, struct buf *out)
{
    return append(op, is_first ? PART_FIRST_PIECE : PART_PIECE, size_max, out);
}
