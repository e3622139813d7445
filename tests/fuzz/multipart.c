/* Goal: a form is read within its bytes and limits, and tells the same however its bytes come. The
 * first line is the Content-Type; where that has no boundary, it is "x". */
#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "weft_multipart.h"
#include <stdbool.h>

enum { HEAD_BYTES = 256, PARTS = 8, NAME_BYTES = 32 };

/* What came of a form. */
struct told {
    uint32_t parts;   /* begun */
    uint32_t ends;    /* of parts */
    uint64_t bytes;   /* of data */
    uint64_t sum;     /* of all that was told, in order */
    const char *last; /* the problem, "end", or "" */
};

static void add(struct told *told, weft_str s)
{
    told->sum = told->sum * 31 + (s.ptr != NULL);
    for (size_t i = 0; i < s.len; i++)
        told->sum = told->sum * 31 + (unsigned char)s.ptr[i];
}

static void add_part(struct told *told, const weft_multipart_parser *parser)
{
    const weft_part *part = &parser->part;

    MUST(told->parts == told->ends);
    MUST(part->name.ptr != NULL && part->name.len <= NAME_BYTES);
    MUST(part->name.ptr >= parser->head &&
         part->name.ptr + part->name.len <= parser->head + HEAD_BYTES);
    MUST(part->filename.len <= HEAD_BYTES && part->type.len <= HEAD_BYTES);
    told->parts++;
    add(told, part->name);
    add(told, part->filename);
    add(told, part->type);
}

/* False: nothing more comes. */
static bool take(struct told *told, weft_multipart_parser *parser, weft_str in)
{
    const char *end = in.ptr + in.len;

    for (;;) {
        weft_str data;
        int event = weft_multipart_step(parser, &in, &data);

        MUST(in.ptr + in.len == end);
        if (event == WEFT_MULTIPART_MORE) {
            MUST(in.len == 0);
            return true;
        }
        if (event == WEFT_MULTIPART_BAD || event == WEFT_MULTIPART_END) {
            told->last = event == WEFT_MULTIPART_BAD ? parser->problem : "end";
            MUST(told->last != NULL);
            MUST(event == WEFT_MULTIPART_BAD || told->parts == told->ends);
            return false;
        }
        if (event == WEFT_MULTIPART_PART)
            add_part(told, parser);
        told->ends += event == WEFT_MULTIPART_PART_END;
        for (size_t i = 0; event == WEFT_MULTIPART_DATA && i < data.len; i++)
            told->sum = told->sum * 31 + (unsigned char)data.ptr[i];
        told->bytes += data.len;
    }
}

/* In pieces of 1 + i % `sizes` bytes, each at a place of its own. */
static struct told read_form(weft_str boundary, weft_str form, size_t sizes)
{
    struct told told = {.last = ""};
    weft_multipart_parser parser;
    char head[HEAD_BYTES];
    size_t count = 0;

    weft_multipart_init(&parser, boundary, head, sizeof head, PARTS, NAME_BYTES);
    for (size_t at = 0, size; at < form.len; at += size) {
        char *piece;
        bool goes_on;

        size = sizes == 0 ? form.len : 1 + count++ % sizes;
        if (size > form.len - at)
            size = form.len - at;
        piece = mem_alloc(size);
        memcpy(piece, form.ptr + at, size);
        goes_on = take(&told, &parser, (weft_str){piece, size});
        mem_free(piece);
        if (!goes_on)
            break;
    }
    MUST(told.bytes <= form.len);
    MUST(told.parts <= PARTS && told.ends <= told.parts);
    return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t ways[] = {1, 2, 3, 17};
    weft_str all = {(const char *)data, size}, type = all, boundary = {"x", 1}, form = all;
    const char *line = size > 0 ? memchr(data, '\n', size) : NULL;
    char room[WEFT_MULTIPART_BOUNDARY_MAX];
    struct told whole;
    size_t len;

    if (line == NULL)
        return 0;
    type.len = (size_t)(line - all.ptr);
    form.ptr = line + 1;
    form.len = size - type.len - 1;
    if (weft_multipart_boundary(type, room, &len) == NULL) {
        MUST(len >= 1 && len <= sizeof room);
        boundary = (weft_str){room, len};
    }
    whole = read_form(boundary, form, 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct told other = read_form(boundary, form, ways[i]);

        MUST(other.parts == whole.parts && other.ends == whole.ends && other.bytes == whole.bytes);
        MUST(other.sum == whole.sum && strcmp(other.last, whole.last) == 0);
    }
    return 0;
}
