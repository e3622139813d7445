/* Goal: whatever result a server sends becomes JSON, or nothing: valid, with the values that came,
 *       in pieces the same as in one, and never longer than it may be; and a command's tag is a
 *       count of rows, or none. Values of type JSON stay as they are and are JSON still where bytes
 *       within their strings were no UTF-8.
 *
 * The result is made as libpq makes one, of the input's bytes; what is read back of the JSON is
 * read by a reader of this file's own. */
#include "base/buf.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "fuzz/input.h"
#include "pg/private.h"
#include "pg/types.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <string.h>

enum {
    COLUMNS_MAX = 5,
    ROWS_MAX = 20,
    NAME_SIZE = 24,
    TAG_MAX = 63,
    BYTES_MAX = 1 << 26,
    DEPTH_MAX = 4 /* of what is within a JSON */
};

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Half of them come as texts of any bytes; a number is written by the server itself, and a JSON is
 * one. The seeds have places in it: what comes new comes behind. */
static const struct {
    uint32_t type;
    bool is_number; /* as a text it is one */
} types[] = {
    {PG_OID_TEXT, false},   {PG_OID_BYTEA, false},
    {PG_OID_BOOL, false},   {PG_OID_TEXTS, false},
    {PG_OID_INT8, true},    {PG_OID_INT4, true},
    {PG_OID_FLOAT8, true},  {PG_OID_FLOAT4, true},
    {PG_OID_NUMERIC, true}, {PG_OID_INT4S, false},
    {PG_OID_UUID, false},   {PG_OID_TIMESTAMPTZ, false},
    {PG_OID_DATE, false},   {PG_OID_VARCHARS, false},
    {PG_OID_CHAR, false},   {0, false},
    {PG_OID_JSON, false},   {PG_OID_JSONB, false},
};

/* What the fuzzed op has. */
static struct pg_query query = {.op = {.magic = OP_MAGIC}};

/* The op is a statement's, though no pool has made it. */
bool __wrap_op_is_pg(const struct op *op);

bool __wrap_op_is_pg(const struct op *op)
{
    return op == &query.op;
}

/* ---- the result ---- */

static void set_value(PGresult *result, int row, int column, struct span bytes)
{
    char *copy = mem_copy(bytes); /* libpq wants none that is constant */

    MUST(PQsetvalue(result, row, column, copy, (int)bytes.len));
    mem_free(copy);
}

/* A text that the server may have written for a number; no whole number is infinite. */
static void set_number(PGresult *result, int row, int column, struct span bytes)
{
    bool is_int = PQftype(result, column) == PG_OID_INT4 || PQftype(result, column) == PG_OID_INT8;
    int64_t number = 0;
    char text[32];

    memcpy(&number, bytes.ptr, bytes.len < sizeof number ? bytes.len : sizeof number);
    if (is_int)
        (void)snprintf(text, sizeof text, "%lld", (long long)number);
    else if (bytes.len > sizeof number)
        (void)snprintf(text, sizeof text, "%s", number < 0 ? "-Infinity" : "NaN");
    else
        (void)snprintf(text, sizeof text, "%.9g", (double)number / 1024);
    set_value(result, row, column, span_of(text));
}

static bool is_json(uint32_t type)
{
    return type == PG_OID_JSON || type == PG_OID_JSONB;
}

/* Any bytes, but that the server would have refused a quote, a backslash or a control as it is. */
static void write_json_string(struct buf *out, struct input *input)
{
    struct span bytes = take(input, take_byte(input) % 16);
    char text[sizeof "\\u0000"];

    buf_append(out, SPAN("\""));
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.ptr[i];

        if (c < 0x20)
            (void)snprintf(text, sizeof text, "\\u%04x", c > 0 ? c : 1);
        else
            (void)snprintf(text, sizeof text, c == '"' || c == '\\' ? "\\%c" : "%c", c);
        buf_append(out, span_of(text));
    }
    buf_append(out, SPAN("\""));
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by DEPTH_MAX */
static void write_json(struct buf *out, struct input *input, int depth)
{
    static const char *const plain[] = {"null", "true", "false", "-12.5e+3", "0"};
    uint8_t how = take_byte(input) % 12;
    bool is_object = how == 10;

    if (how < sizeof plain / sizeof plain[0])
        buf_append(out, span_of(plain[how]));
    else if (how < 10 || depth == DEPTH_MAX)
        write_json_string(out, input);
    if (how < 10 || depth == DEPTH_MAX)
        return;
    buf_append(out, is_object ? SPAN("{") : SPAN("["));
    for (int i = 0, count = take_byte(input) % 4; i < count; i++) {
        if (i > 0)
            buf_append(out, SPAN(", "));
        if (is_object) {
            write_json_string(out, input);
            buf_append(out, SPAN(": "));
        }
        write_json(out, input, depth + 1);
    }
    buf_append(out, is_object ? SPAN("}") : SPAN("]"));
}

/* What the server has checked to be JSON; in binary form jsonb has its version before it. */
static void set_json(PGresult *result, int row, int column, struct span bytes)
{
    struct input input = {(const uint8_t *)bytes.ptr, bytes.len};
    struct buf text = {0};

    if (PQftype(result, column) == PG_OID_JSONB && PQfformat(result, column) == 1)
        buf_append(&text, SPAN("\x01"));
    write_json(&text, &input, 0);
    set_value(result, row, column, buf_span(&text));
    buf_release(&text);
}

static void add_row(PGresult *result, int row, struct input *input)
{
    for (int column = 0; column < PQnfields(result); column++) {
        uint8_t size = take_byte(input);
        struct span bytes = take(input, size % 64);
        bool is_number = false;

        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            is_number |= types[i].type == PQftype(result, column) && types[i].is_number;
        if (size == 255)
            MUST(PQsetvalue(result, row, column, NULL, -1));
        else if (is_json(PQftype(result, column)))
            set_json(result, row, column, bytes);
        else if (is_number && PQfformat(result, column) == 0)
            set_number(result, row, column, bytes);
        else
            set_value(result, row, column, bytes);
    }
}

static PGresult *make_result(struct input *input)
{
    PGresult *result = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);
    char names[COLUMNS_MAX][NAME_SIZE];
    PGresAttDesc columns[COLUMNS_MAX] = {0};
    int count = 1 + take_byte(input) % COLUMNS_MAX;

    for (int i = 0; i < count; i++) {
        uint8_t how = take_byte(input);
        struct span name = take(input, take_byte(input) % NAME_SIZE);

        memcpy(names[i], name.ptr, name.len);
        names[i][name.len] = '\0';
        columns[i].name = names[i];
        columns[i].typid = types[how % 128 % (sizeof types / sizeof types[0])].type;
        columns[i].format = how >= 128;
        columns[i].typlen = -1;
    }
    MUST(PQsetResultAttrs(result, count, columns));
    for (int row = 0; row < ROWS_MAX && input->left > 0; row++)
        add_row(result, row, input);
    return result;
}

/* ---- what reads it back ---- */

/* Strict JSON of numbers, strings, true, false and null. */
struct reader {
    const char *at, *end;
    struct buf string; /* the last one that was read */
};

static bool next_is(struct reader *reader, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(reader->end - reader->at) < len || memcmp(reader->at, text, len) != 0)
        return false;
    reader->at += len;
    return true;
}

static void read_escape(struct reader *reader)
{
    static const char from[] = "\"\\nrt", to[] = "\"\\\n\r\t";
    const char *letter;
    char code[5] = "";

    MUST(reader->at < reader->end);
    letter = strchr(from, *reader->at);
    if (*reader->at != 'u') {
        MUST(letter != NULL && *letter != '\0');
        buf_append(&reader->string, (struct span){to + (letter - from), 1});
        reader->at++;
        return;
    }
    MUST(reader->end - reader->at >= 5);
    memcpy(code, reader->at + 1, 4);
    MUST(strspn(code, "0123456789abcdef") == 4);
    MUST(strtoul(code, NULL, 16) < 0x20); /* nothing else has to be */
    buf_append(&reader->string, (struct span){&(char){(char)strtoul(code, NULL, 16)}, 1});
    reader->at += 5;
}

static void read_string(struct reader *reader)
{
    json_t *checked;

    buf_consume(&reader->string, reader->string.len);
    MUST(next_is(reader, "\""));
    while (!next_is(reader, "\"")) {
        MUST(reader->at < reader->end && (unsigned char)*reader->at >= 0x20);
        if (next_is(reader, "\\"))
            read_escape(reader);
        else
            buf_append(&reader->string, (struct span){reader->at++, 1});
    }
    checked = json_stringn(reader->string.len > 0 ? reader->string.data : "", reader->string.len);
    MUST(checked != NULL); /* it is UTF-8 */
    json_decref(checked);
}

/* As RFC 8259 has it. */
static void read_number(struct reader *reader)
{
    (void)next_is(reader, "-");
    MUST(reader->at < reader->end && isdigit((unsigned char)*reader->at));
    if (!next_is(reader, "0"))
        while (reader->at < reader->end && isdigit((unsigned char)*reader->at))
            reader->at++;
    if (next_is(reader, ".")) {
        MUST(reader->at < reader->end && isdigit((unsigned char)*reader->at));
        while (reader->at < reader->end && isdigit((unsigned char)*reader->at))
            reader->at++;
    }
    if (!next_is(reader, "e"))
        return;
    MUST(next_is(reader, "-") || next_is(reader, "+"));
    MUST(reader->at < reader->end && isdigit((unsigned char)*reader->at));
    while (reader->at < reader->end && isdigit((unsigned char)*reader->at))
        reader->at++;
}

/* Is what was read as a string what came? Bytes that are no UTF-8 come as U+FFFD. */
static void check_string(const struct reader *reader, struct span raw)
{
    json_t *whole = json_stringn(raw.ptr, raw.len);

    if (whole != NULL)
        MUST(span_equal(buf_span(&reader->string), raw));
    else
        MUST(memmem(reader->string.data, reader->string.len, REPLACEMENT, 3) != NULL);
    json_decref(whole);
}

/* The value as it came, but that a byte of no UTF-8 has become U+FFFD; and is that JSON? */
static void read_json(struct reader *reader, struct span raw)
{
    const char *begin = reader->at;
    json_t *whole = json_stringn(raw.ptr, raw.len), *json;

    for (size_t at = 0; at < raw.len; at++) {
        bool is_same =
            whole != NULL || (raw.len - at >= 3 && memcmp(raw.ptr + at, REPLACEMENT, 3) == 0);

        if (!is_same && next_is(reader, REPLACEMENT)) {
            MUST((unsigned char)raw.ptr[at] >= 0x80);
        } else {
            MUST(reader->at < reader->end && *reader->at == raw.ptr[at]);
            reader->at++;
        }
    }
    json_decref(whole);
    json = json_loadb(begin, (size_t)(reader->at - begin), JSON_DECODE_ANY, NULL);
    MUST(json != NULL); /* which looks for UTF-8, too */
    json_decref(json);
}

static void read_value(struct reader *reader, uint32_t row, uint32_t column)
{
    struct span raw = pg_raw(&query.op, row, column);
    uint32_t type = pg_column_type(&query.op, column);
    bool is_null;

    if (raw.ptr != NULL && is_json(type)) {
        bool has_version = type == PG_OID_JSONB && pg_is_binary(&query.op, column);

        read_json(reader, (struct span){raw.ptr + has_version, raw.len - has_version});
        return;
    }
    is_null = next_is(reader, "null");
    MUST(is_null == (raw.ptr == NULL));
    if (is_null)
        return;
    if (type == PG_OID_BOOL) {
        bool is_true = next_is(reader, "true");

        MUST(is_true || next_is(reader, "false"));
        MUST(is_true == pg_bool(&query.op, row, column));
    } else if (*reader->at == '"') {
        read_string(reader);
        if (!pg_is_binary(&query.op, column))
            check_string(reader, raw);
    } else {
        read_number(reader);
    }
}

static void read_row(struct reader *reader, uint32_t row)
{
    uint32_t columns = pg_columns(&query.op);

    MUST(next_is(reader, "{"));
    for (uint32_t column = 0; column < columns; column++) {
        MUST(column == 0 || next_is(reader, ","));
        read_string(reader);
        check_string(reader, pg_column_name(&query.op, column));
        MUST(next_is(reader, ":"));
        read_value(reader, row, column);
    }
    MUST(next_is(reader, "}"));
}

static void read_all(struct span text)
{
    struct reader reader = {.at = text.ptr, .end = text.ptr + text.len};
    uint32_t rows = pg_rows(&query.op);

    MUST(next_is(&reader, "["));
    for (uint32_t row = 0; row < rows; row++) {
        MUST(row == 0 || next_is(&reader, ","));
        read_row(&reader, row);
    }
    MUST(next_is(&reader, "]") && reader.at == reader.end);
    buf_release(&reader.string);
}

/* ---- what must hold ---- */

/* One byte less is refused, and nothing is written beyond what may be. */
static void check_limit(struct span whole, size_t max)
{
    struct buf out = {0};

    buf_append(&out, SPAN("before"));
    MUST(pg_json(&query.op, false, max, &out) == (max >= whole.len));
    MUST(out.len <= 6 + max && memcmp(out.data, "before", 6) == 0);
    if (max >= whole.len)
        MUST(out.len == 6 + whole.len && memcmp(out.data + 6, whole.ptr, whole.len) == 0);
    buf_release(&out);
}

static void check_json(size_t some)
{
    struct buf whole = {0}, piece = {0}, row = {0};

    MUST(pg_json(&query.op, false, BYTES_MAX, &whole));
    read_all(buf_span(&whole));
    check_limit(buf_span(&whole), whole.len);
    check_limit(buf_span(&whole), whole.len - 1);
    check_limit(buf_span(&whole), some % whole.len);
    MUST(pg_json(&query.op, true, BYTES_MAX, &row));
    MUST(pg_json_piece(&query.op, true, BYTES_MAX, &piece));
    if (pg_rows(&query.op) == 0) {
        MUST(span_equal(buf_span(&row), SPAN("null")));
        MUST(span_equal(buf_span(&piece), SPAN("[]")));
    } else {
        MUST(row.len + 2 <= whole.len && memcmp(row.data, whole.data + 1, row.len) == 0);
        MUST(piece.len + 1 == whole.len && memcmp(piece.data, whole.data, piece.len) == 0);
        buf_consume(&piece, piece.len);
        MUST(pg_json_piece(&query.op, false, BYTES_MAX, &piece));
        MUST(piece.len + 1 == whole.len && piece.data[0] == ',' &&
             memcmp(piece.data + 1, whole.data + 1, piece.len - 1) == 0);
    }
    buf_release(&whole);
    buf_release(&piece);
    buf_release(&row);
}

/* A command's tag: "INSERT 0 5", "SELECT 3", "CREATE TABLE", or what the input has. */
static void check_tag(PGresult *result, struct span tag)
{
    char *end, *at = PQcmdStatus(result), last[TAG_MAX + 1];
    size_t len = tag.len < TAG_MAX ? tag.len : TAG_MAX;
    uint64_t count;

    memcpy(at, tag.ptr, len);
    at[len] = '\0';
    count = pg_affected(&query.op);
    (void)snprintf(last, sizeof last, "%s", PQcmdTuples(result));
    errno = 0;
    if (strspn(last, "0123456789") != strlen(last) || last[0] == '\0')
        MUST(count == 0);
    else if (strtoull(last, &end, 10) != UINT64_MAX || errno == 0)
        MUST(count == strtoull(last, &end, 10));
    else
        MUST(count == 0); /* more than there can be */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    size_t some = (size_t)take_byte(&input) << 4;
    struct span tag = take(&input, take_byte(&input) % (TAG_MAX + 1));
    PGresult *result = make_result(&input);
    char problem[PG_MISFIT_SIZE];

    query.result = result;
    if (pg_result_fits(result, problem))
        check_json(some);
    check_tag(result, tag);
    query.result = NULL;
    PQclear(result);
    return 0;
}
