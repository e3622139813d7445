/* pg/decode.c - bytes and arrays from the text that the server writes. */
#include "pg/decode.h"
#include <string.h>

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct span text, char *out, size_t *len)
{
    if (text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_of(text.ptr[i]), low = hex_of(text.ptr[i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i / 2] = (char)(high << 4 | low);
    }
    *len = text.len / 2;
    return true;
}

static bool is_octal(struct span text, size_t at)
{
    if (text.len - at < 3 || text.ptr[at] > '3')
        return false;
    for (size_t i = at; i < at + 3; i++)
        if (text.ptr[i] < '0' || text.ptr[i] > '7')
            return false;
    return true;
}

/* "a\\b\000": a backslash is written twice, what is no printable ASCII in octal. */
static bool read_escaped(struct span text, char *out, size_t *len)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '\\') {
            out[count++] = text.ptr[i];
        } else if (i + 1 < text.len && text.ptr[i + 1] == '\\') {
            out[count++] = '\\';
            i++;
        } else if (is_octal(text, i + 1)) {
            out[count++] = (char)((text.ptr[i + 1] - '0') << 6 | (text.ptr[i + 2] - '0') << 3 |
                                  (text.ptr[i + 3] - '0'));
            i += 3;
        } else {
            return false;
        }
    }
    *len = count;
    return true;
}

bool pg_bytes_read(struct span text, char *out, size_t *len)
{
    if (text.len >= 2 && text.ptr[0] == '\\' && text.ptr[1] == 'x')
        return read_hex((struct span){text.ptr + 2, text.len - 2}, out, len);
    return read_escaped(text, out, len);
}

uint32_t pg_array_count_max(struct span text)
{
    uint32_t count = 1;

    for (size_t i = 0; i < text.len && count < UINT32_MAX; i++)
        count += text.ptr[i] == ',';
    return count;
}

/* What is being read, and where it goes. */
struct reader {
    struct span text; /* what is left */
    char *store;      /* what is left of the room */
};

static char peek(const struct reader *reader)
{
    return reader->text.len > 0 ? reader->text.ptr[0] : '\0';
}

static void skip(struct reader *reader, size_t size)
{
    reader->text = (struct span){reader->text.ptr + size, reader->text.len - size};
}

static bool read_quoted(struct reader *reader, struct span *item)
{
    char *start = reader->store;

    skip(reader, 1);
    while (reader->text.len > 0 && peek(reader) != '"') {
        if (peek(reader) == '\\')
            skip(reader, 1);
        if (reader->text.len == 0)
            return false;
        *reader->store++ = peek(reader);
        skip(reader, 1);
    }
    if (reader->text.len == 0)
        return false;
    skip(reader, 1);
    *item = (struct span){start, (size_t)(reader->store - start)};
    *reader->store++ = '\0';
    return true;
}

static bool read_plain(struct reader *reader, struct span *item)
{
    size_t len = 0;

    while (len < reader->text.len && memchr(",{}\"\\", reader->text.ptr[len], 5) == NULL)
        len++;
    if (len == 0)
        return false;
    *item = (struct span){reader->store, len};
    memcpy(reader->store, reader->text.ptr, len);
    if (span_equal_nocase(*item, SPAN("null"))) {
        *item = (struct span){NULL, 0};
    } else {
        reader->store[len] = '\0';
        reader->store += len + 1;
    }
    skip(reader, len);
    return true;
}

/* "[0:1]=" stands before an array that does not begin at 1. */
static bool skip_bounds(struct reader *reader)
{
    const char *equal;

    if (peek(reader) != '[')
        return true;
    equal = memchr(reader->text.ptr, '=', reader->text.len);
    if (equal == NULL)
        return false;
    skip(reader, (size_t)(equal + 1 - reader->text.ptr));
    return true;
}

bool pg_array_read(struct span text, char *store, struct span *items, uint32_t *count)
{
    struct reader reader = {.text = text, .store = store};
    uint32_t found = 0;

    if (!skip_bounds(&reader) || peek(&reader) != '{')
        return false;
    skip(&reader, 1);
    while (peek(&reader) != '}' || found > 0) {
        bool is_fine = peek(&reader) == '"' ? read_quoted(&reader, &items[found])
                                            : read_plain(&reader, &items[found]);

        if (!is_fine)
            return false;
        found++;
        if (peek(&reader) == '}')
            break;
        if (peek(&reader) != ',')
            return false;
        skip(&reader, 1);
    }
    if (peek(&reader) != '}' || reader.text.len != 1)
        return false;
    *count = found;
    return true;
}
