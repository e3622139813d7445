/* pg/encode.c - parameters as the text that the server reads. */
#include "pg/encode.h"
#include "base/number.h"
#include "pg/calendar.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NUMBER_SIZE = 40,
    ITEM_SIZE = 21,     /* a number in an array, with its comma */
    NULL_ITEM_SIZE = 5, /* NULL in an array, with its comma */
    PLACES_MAX = 6,     /* behind the point, of a number that is written without printf() */
};

/* Numbers below have at most 15 digits, which a double keeps. */
static const uint64_t whole_end = 1000000000000000;

bool pg_value_is_null(const struct pg_value *value)
{
    switch (value->kind) {
    case PG_NULL:
        return true;
    case PG_BOOL:
    case PG_INT:
    case PG_DOUBLE:
    case PG_TIME:
        return false;
    case PG_TEXT:
    case PG_BYTES:
    case PG_JSON:
        return value->as.text.ptr == NULL;
    case PG_INTS:
        return value->as.ints.items == NULL;
    case PG_TEXTS:
        return value->as.texts.items == NULL;
    }
    return true;
}

static bool has_nul(struct span text)
{
    return text.ptr != NULL && text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL;
}

static bool has_nul_within(const struct pg_value *value)
{
    if (value->kind == PG_TEXT || value->kind == PG_JSON)
        return has_nul(value->as.text);
    if (value->kind != PG_TEXTS || value->as.texts.items == NULL)
        return false;
    for (uint32_t i = 0; i < value->as.texts.count; i++)
        if (has_nul(value->as.texts.items[i]))
            return true;
    return false;
}

const char *pg_value_problem(const struct pg_value *value, enum err *err)
{
    if (value->kind > PG_TEXTS) {
        *err = ERR_INVALID;
        return "a parameter of an unknown kind";
    }
    *err = ERR_DB_VALUE;
    return has_nul_within(value) ? "a text with a NUL in it, which PostgreSQL does not have" : NULL;
}

/* Each byte may want a backslash before it. */
static size_t texts_size(const struct pg_value *value)
{
    size_t size = sizeof "{}";

    for (uint32_t i = 0; i < value->as.texts.count; i++)
        size += NULL_ITEM_SIZE + (value->as.texts.items[i].ptr != NULL
                                      ? 2 * value->as.texts.items[i].len
                                      : 0); /* absent, whatever its length says */
    return size;
}

size_t pg_value_size(const struct pg_value *value)
{
    if (pg_value_is_null(value))
        return 0;
    switch (value->kind) {
    case PG_NULL:
        return 0;
    case PG_BOOL:
        return sizeof "t";
    case PG_INT:
    case PG_DOUBLE:
        return NUMBER_SIZE;
    case PG_TIME:
        return PG_TIME_SIZE;
    case PG_TEXT:
    case PG_JSON:
        return value->as.text.len + 1;
    case PG_BYTES:
        return sizeof "\\x" + 2 * value->as.text.len;
    case PG_INTS:
        return sizeof "{}" + (size_t)value->as.ints.count * ITEM_SIZE;
    case PG_TEXTS:
        return texts_size(value);
    }
    return 0;
}

/* Returns where its NUL stands. */
static char *write_int(int64_t number, char *out)
{
    uint64_t size = (uint64_t)number;

    if (number < 0) {
        *out++ = '-';
        size = -size;
    }
    return out + number_format(size, out);
}

/* Most numbers have few digits: moved by some decimal places they are whole. Below 10 ** 15 that
 * and the power of ten are exact, so dividing them gives what reading the text would. Writes the
 * same as printf() does, which takes more time, and 2.5 KiB of a stack that stays in memory for as
 * long as a handler waits. False: this one has more digits, or an exponent. */
static bool write_short_double(double number, char *out)
{
    double size = fabs(number), power = 1;
    uint64_t whole = (uint64_t)size, scale = 1;

    for (int places = 0; (double)whole / power != size; places++) {
        if (places == PLACES_MAX)
            return false;
        power *= 10;
        scale *= 10;
        whole = (uint64_t)(size * power + 0.5);
        if (whole >= whole_end)
            return false;
    }
    if (signbit(number))
        *out++ = '-';
    out += number_format(whole / scale, out);
    if (scale > 1) {
        (void)number_format(scale + whole % scale, out); /* with a digit before the places */
        *out = '.';
    }
    return true;
}

/* The shortest of the usual precisions that is read back as the same number. A plugin may have
 * called setlocale(): the server wants a point. */
static void write_double(double number, char *out)
{
    if (isnan(number) || isinf(number)) { /* a numeric takes no "-nan", which printf() may write */
        (void)strcpy(out, isnan(number) ? "NaN" : number > 0 ? "Infinity" : "-Infinity");
        return;
    }
    if ((number == 0 || fabs(number) >= 1e-4) && fabs(number) < (double)whole_end &&
        write_short_double(number, out))
        return;
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(out, NUMBER_SIZE, "%.*g", precision, number);
        if (strtod(out, NULL) == number)
            break;
    }
    out[strcspn(out, ",")] = strchr(out, ',') != NULL ? '.' : '\0';
}

static void write_bytes(struct span bytes, char *out)
{
    static const char digits[] = "0123456789abcdef";

    *out++ = '\\';
    *out++ = 'x';
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char byte = (unsigned char)bytes.ptr[i];

        *out++ = digits[byte >> 4];
        *out++ = digits[byte & 15];
    }
    *out = '\0';
}

static void write_ints(const struct pg_value *value, char *out)
{
    *out++ = '{';
    for (uint32_t i = 0; i < value->as.ints.count; i++) {
        char number[NUMBER_SIZE]; /* number_format() wants more room than there may be */
        size_t len = (size_t)(write_int(value->as.ints.items[i], number) - number);

        if (i > 0)
            *out++ = ',';
        memcpy(out, number, len);
        out += len;
    }
    (void)strcpy(out, "}");
}

static char *write_item(struct span text, char *out)
{
    if (text.ptr == NULL) {
        memcpy(out, "NULL", 4);
        return out + 4;
    }
    *out++ = '"';
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            *out++ = '\\';
        *out++ = text.ptr[i];
    }
    *out++ = '"';
    return out;
}

static void write_texts(const struct pg_value *value, char *out)
{
    *out++ = '{';
    for (uint32_t i = 0; i < value->as.texts.count; i++) {
        if (i > 0)
            *out++ = ',';
        out = write_item(value->as.texts.items[i], out);
    }
    (void)strcpy(out, "}");
}

void pg_value_write(const struct pg_value *value, char *out)
{
    switch (value->kind) {
    case PG_NULL:
        break;
    case PG_BOOL:
        (void)strcpy(out, value->as.i != 0 ? "t" : "f");
        break;
    case PG_INT:
        (void)write_int(value->as.i, out);
        break;
    case PG_DOUBLE:
        write_double(value->as.d, out);
        break;
    case PG_TEXT:
    case PG_JSON:
        memcpy(out, value->as.text.ptr, value->as.text.len);
        out[value->as.text.len] = '\0';
        break;
    case PG_BYTES:
        write_bytes(value->as.text, out);
        break;
    case PG_TIME:
        pg_time_write(value->as.i, out);
        break;
    case PG_INTS:
        write_ints(value, out);
        break;
    case PG_TEXTS:
        write_texts(value, out);
        break;
    }
}
