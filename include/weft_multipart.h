/* weft_multipart.h - uploads: multipart/form-data (RFC 7578, RFC 2046) part by part, as it comes.
 *
 *     static weft_status upload(weft_ctx *ctx, void *self)      a route with WEFT_ROUTE_STREAM
 *     {
 *         weft_multipart *form;
 *         weft_part part;
 *         weft_saved file;
 *         WEFT_TRY(weft_multipart_begin(ctx, NULL, &form));
 *         for (;;) {
 *             WEFT_TRY(weft_multipart_next(form, &part));
 *             if (part.name.ptr == NULL)
 *                 return weft_reply_text(ctx, 201, "thanks");
 *             if (part.filename.ptr != NULL) {
 *                 WEFT_TRY(weft_part_save(form, "/srv/uploads", 1 << 30, &file));
 *                 WEFT_TRY(weft_saved_keep(ctx, &file, path_for(ctx, &part)));
 *             }
 *         }
 *     }
 *
 * Whatever its size, an upload takes the memory of a piece, and its client is held back while the
 * handler does something else: the disk is written on the worker's helper threads. What is no such
 * form is refused: WEFT_E_BAD_REQUEST, with the reason in the answer.
 *
 * Strict: lines end with CRLF; a part has one Content-Disposition: form-data with a name, no field
 * twice, none folded, no filename* (RFC 7578 section 4.2) and no transfer coding; a line that
 * begins like the boundary is one. Preamble and epilogue are passed over.
 * Names and filenames are the client's own words: never a path, perhaps not UTF-8; browsers write
 * %22, %0D and %0A for quotes and line ends in them.
 * Threads: [loop], but where it says [any]. On a fiber, since they wait.
 * Memory:  what is handed out lives until the ctx ends, but where it says else.
 * Limits:  weft_multipart_options, and the route's body_bytes_max for all of it (413).
 *
 * Header-only; C99 or later, C++11 or later. weft_part_save() and weft_saved_keep() want
 * _GNU_SOURCE.
 */
#ifndef WEFT_MULTIPART_H
#define WEFT_MULTIPART_H

#include "weft.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the parser: bytes in, events out; it knows no ctx and waits for nothing -----------------
 * */

/* Bytes of a boundary, at most (RFC 2046 section 5.1.1). */
#define WEFT_MULTIPART_BOUNDARY_MAX 70u

/* What a step came to. */
#define WEFT_MULTIPART_MORE     0 /* all bytes are used: give some more */
#define WEFT_MULTIPART_PART     1 /* a part begins: parser->part */
#define WEFT_MULTIPART_DATA     2 /* some of its bytes */
#define WEFT_MULTIPART_PART_END 3 /* that was all of it */
#define WEFT_MULTIPART_END      4 /* that was all of the form; bytes behind it are nobody's */
#define WEFT_MULTIPART_BAD      5 /* parser->problem; and so is every step from here on */

/* What is said of a part. */
typedef struct weft_part {
    weft_str name;     /* of the field */
    weft_str filename; /* what the client calls the file; absent: it is none */
    weft_str type;     /* its Content-Type as it came; absent: text/plain */
} weft_part;

/* How far it is. The members are not for others, but part and problem. */
typedef struct weft_multipart_parser {
    weft_part part;         /* the last one, in `head` */
    const char *problem;    /* what is wrong, a sentence without its end; NULL: nothing */
    char delimiter[4 + 71]; /* CR LF "--" boundary NUL */
    uint32_t delimiter_len; /* without the NUL */
    uint32_t matched;       /* bytes of it that stood at the end of what was given */
    uint32_t unreal;        /* bytes of these that are no data, should it be none */
    uint32_t state;         /* WEFT_MULTIPART__... */
    uint32_t parts;         /* so far */
    uint32_t parts_max;     /* as given */
    uint32_t name_max;      /* as given */
    size_t head_len;        /* bytes of head */
    size_t head_max;        /* as given */
    char *head;             /* room for a part's fields */
} weft_multipart_parser;

#define WEFT_MULTIPART__PREAMBLE 0u
#define WEFT_MULTIPART__BEHIND   1u /* right behind a boundary */
#define WEFT_MULTIPART__DASH     2u /* "-" stood there */
#define WEFT_MULTIPART__PADDING  3u /* a blank did */
#define WEFT_MULTIPART__CR       4u
#define WEFT_MULTIPART__HEAD     5u
#define WEFT_MULTIPART__DATA     6u
#define WEFT_MULTIPART__END      7u
#define WEFT_MULTIPART__BAD      8u

static inline int weft_multipart__lower(char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

static inline int weft_multipart__is(weft_str s, const char *text)
{
    size_t i;

    for (i = 0; i < s.len && text[i] != '\0'; i++)
        if (weft_multipart__lower(s.ptr[i]) != weft_multipart__lower(text[i]))
            return 0;
    return i == s.len && text[i] == '\0';
}

static inline int weft_multipart__is_tchar(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* Takes `count` bytes off its front. */
static inline void weft_multipart__skip(weft_str *s, size_t count)
{
    s->ptr += count;
    s->len -= count;
}

static inline void weft_multipart__blanks(weft_str *s)
{
    while (s->len > 0 && (*s->ptr == ' ' || *s->ptr == '\t'))
        weft_multipart__skip(s, 1);
}

/* Takes a token off; it may be empty. */
static inline weft_str weft_multipart__token(weft_str *s)
{
    weft_str token = *s;

    for (token.len = 0; s->len > 0 && weft_multipart__is_tchar(*s->ptr); token.len++)
        weft_multipart__skip(s, 1);
    return token;
}

/* Takes a quoted string off, from behind its first quote; `room` gets it, without the backslashes
 * before quotes and backslashes. It may be the same bytes. 0: it has no end. */
static inline int weft_multipart__quoted(weft_str *s, char *room, weft_str *value)
{
    size_t len = 0;

    while (s->len > 0 && *s->ptr != '"') {
        if (*s->ptr == '\\' && s->len > 1 && (s->ptr[1] == '"' || s->ptr[1] == '\\'))
            weft_multipart__skip(s, 1);
        room[len++] = *s->ptr;
        weft_multipart__skip(s, 1);
    }
    value->ptr = room;
    value->len = len;
    if (s->len == 0)
        return 0;
    weft_multipart__skip(s, 1);
    return 1;
}

/* Takes `; name=value` off, blanks included. 1: there was one, 0: nothing is left, -1: it is none.
 * A quoted value goes to its place in `room`, which is as long as `s` and may be the same bytes.
 * */
static inline int weft_multipart__parameter(weft_str *s, char *room, weft_str *name,
                                            weft_str *value)
{
    const char *begin = s->ptr;

    weft_multipart__blanks(s);
    if (s->len == 0)
        return 0;
    if (*s->ptr != ';')
        return -1;
    weft_multipart__skip(s, 1);
    weft_multipart__blanks(s);
    *name = weft_multipart__token(s);
    if (name->len == 0 || s->len < 2 || *s->ptr != '=')
        return -1;
    weft_multipart__skip(s, 1);
    if (*s->ptr == '"') {
        weft_multipart__skip(s, 1);
        return weft_multipart__quoted(s, room + (s->ptr - begin), value) ? 1 : -1;
    }
    *value = weft_multipart__token(s);
    return value->len > 0 ? 1 : -1;
}

/* The boundary of a Content-Type, which goes to `room`. NULL: all is well; else what is wrong, a
 * sentence without its end. [any] */
static inline const char *
weft_multipart_boundary(weft_str type, char room[WEFT_MULTIPART_BOUNDARY_MAX], size_t *len)
{
    char bytes[512];
    weft_str rest = type, token, name, value;
    size_t i;
    int found;

    *len = 0;
    token = weft_multipart__token(&rest);
    if (!weft_multipart__is(token, "multipart") || rest.len == 0 || *rest.ptr != '/')
        return "the body is not multipart/form-data";
    weft_multipart__skip(&rest, 1);
    if (!weft_multipart__is(weft_multipart__token(&rest), "form-data"))
        return "the body is not multipart/form-data";
    if (type.len > sizeof bytes)
        return "the Content-Type is too long";
    while ((found = weft_multipart__parameter(&rest, bytes, &name, &value)) > 0) {
        if (!weft_multipart__is(name, "boundary"))
            continue;
        if (*len > 0 || value.len == 0 || value.len > WEFT_MULTIPART_BOUNDARY_MAX)
            return "the Content-Type has no boundary, two, or one that is too long";
        for (i = 0; i < value.len; i++)
            if (value.ptr[i] == '\0' || (strchr("'()+_,-./:=? ", value.ptr[i]) == NULL &&
                                         (!weft_multipart__is_tchar(value.ptr[i]) ||
                                          strchr("!#$%&*^`|~", value.ptr[i]) != NULL)))
                return "the boundary has bytes that none can have";
        memcpy(room, value.ptr, value.len);
        *len = value.len;
    }
    if (found < 0)
        return "the Content-Type has a bad parameter";
    if (*len == 0 || room[*len - 1] == ' ')
        return "the Content-Type has no boundary, two, or one that is too long";
    return NULL;
}

/* Begins with a form of this boundary. `head` has room for the `head_max` bytes of a part's
 * fields, and lives as long as the parser; more than `parts_max` parts, or a name of more than
 * `name_max` bytes, are refused. [any] */
static inline void weft_multipart_init(weft_multipart_parser *parser, weft_str boundary, char *head,
                                       size_t head_max, uint32_t parts_max, uint32_t name_max)
{
    memset(parser, 0, sizeof *parser);
    memcpy(parser->delimiter, "\r\n--", 4);
    if (boundary.len > WEFT_MULTIPART_BOUNDARY_MAX)
        boundary.len = WEFT_MULTIPART_BOUNDARY_MAX;
    memcpy(parser->delimiter + 4, boundary.ptr, boundary.len);
    parser->delimiter_len = (uint32_t)boundary.len + 4;
    parser->matched = parser->unreal = 2; /* the first one stands at the beginning of a line, too */
    parser->head = head;
    parser->head_max = head_max;
    parser->parts_max = parts_max;
    parser->name_max = name_max;
}

static inline int weft_multipart__bad(weft_multipart_parser *parser, const char *problem)
{
    parser->problem = problem;
    parser->state = WEFT_MULTIPART__BAD;
    return WEFT_MULTIPART_BAD;
}

/* The value of Content-Disposition. NULL: it is well. */
static inline const char *weft_multipart__disposition(weft_multipart_parser *parser, weft_str value)
{
    weft_str name, given;
    int found;

    if (parser->part.name.ptr != NULL)
        return "a part has two Content-Disposition";
    if (!weft_multipart__is(weft_multipart__token(&value), "form-data"))
        return "a part is not form-data";
    while ((found = weft_multipart__parameter(&value, parser->head + (value.ptr - parser->head),
                                              &name, &given)) > 0) {
        weft_str *to = weft_multipart__is(name, "name")       ? &parser->part.name
                       : weft_multipart__is(name, "filename") ? &parser->part.filename
                                                              : NULL;
        if (weft_multipart__is(name, "filename*") || weft_multipart__is(name, "name*"))
            return "a part has a filename*, which forms have not";
        if (to == NULL)
            continue;
        if (to->ptr != NULL)
            return "a part has two names";
        *to = given;
    }
    if (found < 0)
        return "a part has a bad Content-Disposition";
    if (parser->part.name.ptr == NULL)
        return "a part has no name";
    return parser->part.name.len > parser->name_max ? "a part's name is too long" : NULL;
}

static inline const char *weft_multipart__field(weft_multipart_parser *parser, weft_str line)
{
    weft_str name = weft_multipart__token(&line);
    size_t i;

    if (name.len == 0 || line.len == 0 || *line.ptr != ':')
        return "a part has a line that is no field";
    weft_multipart__skip(&line, 1);
    weft_multipart__blanks(&line);
    while (line.len > 0 && (line.ptr[line.len - 1] == ' ' || line.ptr[line.len - 1] == '\t'))
        line.len--;
    for (i = 0; i < line.len; i++)
        if (((unsigned char)line.ptr[i] < ' ' && line.ptr[i] != '\t') || line.ptr[i] == 0x7f)
            return "a part has a field with a control byte";
    if (weft_multipart__is(name, "Content-Disposition"))
        return weft_multipart__disposition(parser, line);
    if (weft_multipart__is(name, "Content-Type")) {
        if (parser->part.type.ptr != NULL)
            return "a part has two Content-Type";
        parser->part.type = line;
    }
    if (weft_multipart__is(name, "Content-Transfer-Encoding") &&
        !weft_multipart__is(line, "binary") && !weft_multipart__is(line, "8bit") &&
        !weft_multipart__is(line, "7bit"))
        return "a part has a transfer coding";
    return NULL;
}

/* A part's fields are there, with the empty line behind them. */
static inline int weft_multipart__begin(weft_multipart_parser *parser)
{
    char *at = parser->head, *end = parser->head + parser->head_len - 2;
    const char *problem = NULL;

    memset(&parser->part, 0, sizeof parser->part);
    while (problem == NULL && at < end) {
        weft_str line;
        char *cr = (char *)memchr(at, '\r', (size_t)(end - at));
        line.ptr = at;
        line.len = (size_t)(cr - at);
        problem = weft_multipart__field(parser, line);
        at = cr + 2;
    }
    if (problem == NULL && parser->part.name.ptr == NULL)
        problem = "a part has no Content-Disposition";
    if (problem != NULL)
        return weft_multipart__bad(parser, problem);
    parser->state = WEFT_MULTIPART__DATA;
    parser->matched = parser->unreal = 2; /* the empty line's end may begin the boundary */
    return WEFT_MULTIPART_PART;
}

/* Takes bytes of a part's fields. */
static inline int weft_multipart__take_head(weft_multipart_parser *parser, weft_str *in)
{
    char *head = parser->head;

    while (in->len > 0) {
        size_t len = parser->head_len;
        char c = *in->ptr;
        if (len == parser->head_max)
            return weft_multipart__bad(parser, "a part's fields are too long");
        if (c == '\0' || (c == '\n') != (len > 0 && head[len - 1] == '\r'))
            return weft_multipart__bad(parser, "a part has a line that does not end with CRLF");
        head[len] = c;
        parser->head_len = ++len;
        weft_multipart__skip(in, 1);
        if (c == '\n' && (len == 2 || (len >= 4 && head[len - 3] == '\n')))
            return weft_multipart__begin(parser);
    }
    return WEFT_MULTIPART_MORE;
}

/* Takes the bytes between a boundary and the end of its line. */
static inline int weft_multipart__take_line(weft_multipart_parser *parser, weft_str *in)
{
    char c = *in->ptr;

    weft_multipart__skip(in, 1);
    if (parser->state == WEFT_MULTIPART__DASH && c == '-') {
        parser->state = WEFT_MULTIPART__END;
        return WEFT_MULTIPART_END;
    }
    if (parser->state == WEFT_MULTIPART__CR && c == '\n') {
        if (parser->parts == parser->parts_max)
            return weft_multipart__bad(parser, "the form has too many parts");
        parser->parts++;
        parser->head_len = 0;
        parser->state = WEFT_MULTIPART__HEAD;
        return WEFT_MULTIPART_MORE;
    }
    if (parser->state == WEFT_MULTIPART__BEHIND && c == '-')
        parser->state = WEFT_MULTIPART__DASH;
    else if (parser->state < WEFT_MULTIPART__CR && parser->state != WEFT_MULTIPART__DASH &&
             c == '\r')
        parser->state = WEFT_MULTIPART__CR;
    else if (parser->state < WEFT_MULTIPART__CR && parser->state != WEFT_MULTIPART__DASH &&
             (c == ' ' || c == '\t'))
        parser->state = WEFT_MULTIPART__PADDING;
    else
        return weft_multipart__bad(parser, "a boundary's line goes on behind it");
    return WEFT_MULTIPART_MORE;
}

/* The boundary was found: what it ends, if anything. */
static inline int weft_multipart__found(weft_multipart_parser *parser)
{
    uint32_t before = parser->state;

    parser->matched = parser->unreal = 0;
    parser->state = WEFT_MULTIPART__BEHIND;
    return before == WEFT_MULTIPART__DATA ? WEFT_MULTIPART_PART_END : WEFT_MULTIPART_MORE;
}

/* Goes on with a boundary that has begun. What it had matched is data where it is none: only its
 * first byte is a CR, so it can begin nowhere else in there. */
static inline int weft_multipart__go_on(weft_multipart_parser *parser, weft_str *in, weft_str *data)
{
    while (in->len > 0 && parser->matched < parser->delimiter_len &&
           *in->ptr == parser->delimiter[parser->matched]) {
        parser->matched++;
        weft_multipart__skip(in, 1);
    }
    if (parser->matched == parser->delimiter_len)
        return weft_multipart__found(parser);
    if (in->len == 0)
        return WEFT_MULTIPART_MORE;
    data->ptr = parser->delimiter + parser->unreal;
    data->len = parser->matched - parser->unreal;
    parser->matched = parser->unreal = 0;
    return data->len > 0 ? WEFT_MULTIPART_DATA : WEFT_MULTIPART_MORE;
}

/* Takes data up to the next boundary, or what may be the beginning of one. */
static inline int weft_multipart__take_data(weft_multipart_parser *parser, weft_str *in,
                                            weft_str *data)
{
    const char *at = in->ptr, *end = in->ptr + in->len;
    size_t count = 0;

    if (parser->matched > 0)
        return weft_multipart__go_on(parser, in, data);
    while ((at = (const char *)memchr(at, '\r', (size_t)(end - at))) != NULL) {
        count = (size_t)(end - at);
        if (count > parser->delimiter_len)
            count = parser->delimiter_len;
        if (memcmp(at, parser->delimiter, count) == 0)
            break;
        at++;
    }
    data->ptr = in->ptr;
    data->len = at != NULL ? (size_t)(at - in->ptr) : in->len;
    weft_multipart__skip(in, data->len);
    if (data->len > 0)
        return WEFT_MULTIPART_DATA;
    parser->matched = (uint32_t)count;
    weft_multipart__skip(in, count);
    return count == parser->delimiter_len ? weft_multipart__found(parser) : WEFT_MULTIPART_MORE;
}

/* Takes bytes off `*in` up to the next event, and says which: WEFT_MULTIPART_... . `*data` is some
 * of `in`, or of the parser, and good until the next step; absent but for WEFT_MULTIPART_DATA.
 * [any] */
static inline int weft_multipart_step(weft_multipart_parser *parser, weft_str *in, weft_str *data)
{
    weft_str none = {NULL, 0};
    int event = WEFT_MULTIPART_MORE;

    *data = none;
    while (event == WEFT_MULTIPART_MORE && in->len > 0 && parser->state != WEFT_MULTIPART__END &&
           parser->state != WEFT_MULTIPART__BAD) {
        if (parser->state == WEFT_MULTIPART__HEAD)
            event = weft_multipart__take_head(parser, in);
        else if (parser->state != WEFT_MULTIPART__PREAMBLE && parser->state != WEFT_MULTIPART__DATA)
            event = weft_multipart__take_line(parser, in);
        else
            event = weft_multipart__take_data(parser, in, data);
        if (event == WEFT_MULTIPART_DATA && parser->state == WEFT_MULTIPART__PREAMBLE)
            event = WEFT_MULTIPART_MORE;
    }
    if (event != WEFT_MULTIPART_DATA)
        *data = none;
    if (parser->state == WEFT_MULTIPART__BAD)
        return WEFT_MULTIPART_BAD;
    return parser->state == WEFT_MULTIPART__END ? WEFT_MULTIPART_END : event;
}

/* ---- a request's form ------------------------------------------------------------------------
 * */

/* Limits of a form; 0 is the default. */
typedef struct weft_multipart_options {
    uint32_t parts_max;      /* 64 */
    uint32_t name_bytes_max; /* of a part's name; 256 */
    uint32_t head_bytes_max; /* of a part's fields in all; 4,096 */
} weft_multipart_options;

/* One that is being read. The members are not for others. */
typedef struct weft_multipart {
    weft_ctx *ctx;                /* whose request */
    weft_multipart_parser parser; /* of its body */
    weft_str in;                  /* of the last piece, not taken yet */
    int is_in_part;               /* its data are not read to their end */
} weft_multipart;

/* Begins to read the request's body as a form; `options` may be NULL. WEFT_E_BAD_REQUEST: it is no
 * multipart/form-data. The route has WEFT_ROUTE_STREAM. [loop] */
static inline weft_status weft_multipart_begin(weft_ctx *ctx, const weft_multipart_options *options,
                                               weft_multipart **form)
{
    static const weft_multipart_options defaults = {64, 256, 4096};
    const weft_multipart_options *use = options != NULL ? options : &defaults;
    char room[WEFT_MULTIPART_BOUNDARY_MAX];
    weft_str boundary;
    size_t head_max = use->head_bytes_max > 0 ? use->head_bytes_max : defaults.head_bytes_max;
    const char *problem =
        weft_multipart_boundary(weft_header(ctx, "Content-Type"), room, &boundary.len);

    *form = NULL;
    if (problem != NULL)
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "%s", problem);
    boundary.ptr = room;
    *form = (weft_multipart *)weft_alloc(ctx, sizeof **form);
    memset(*form, 0, sizeof **form);
    (*form)->ctx = ctx;
    weft_multipart_init(&(*form)->parser, boundary, (char *)weft_alloc(ctx, head_max), head_max,
                        use->parts_max > 0 ? use->parts_max : defaults.parts_max,
                        use->name_bytes_max > 0 ? use->name_bytes_max : defaults.name_bytes_max);
    return WEFT_OK;
}

/* The next event but MORE; waits for bytes. */
static inline weft_status weft_multipart__event(weft_multipart *form, int *event, weft_str *data)
{
    for (;;) {
        weft_op *read;
        *event = weft_multipart_step(&form->parser, &form->in, data);
        if (*event == WEFT_MULTIPART_BAD)
            return weft_explain(form->ctx, WEFT_E_BAD_REQUEST, "%s", form->parser.problem);
        if (*event != WEFT_MULTIPART_MORE)
            return WEFT_OK;
        read = weft_body_read(form->ctx);
        WEFT_TRY(weft_await(read));
        form->in = weft_piece(read);
        if (form->in.ptr == NULL)
            return weft_explain(form->ctx, WEFT_E_BAD_REQUEST, "the form ends before its end");
    }
}

/* The next part; its name is absent behind the last one. What was not read of the part before it
 * is passed over. WEFT_E_BAD_REQUEST: it is no form from here on; others are weft_body_read()'s.
 * [loop] */
static inline weft_status weft_multipart_next(weft_multipart *form, weft_part *part)
{
    weft_str data;
    int event;

    memset(part, 0, sizeof *part);
    do
        WEFT_TRY(weft_multipart__event(form, &event, &data));
    while (event != WEFT_MULTIPART_PART && event != WEFT_MULTIPART_END);
    form->is_in_part = event == WEFT_MULTIPART_PART;
    if (event == WEFT_MULTIPART_END)
        return WEFT_OK;
    part->name = weft_dup(form->ctx, form->parser.part.name);
    if (form->parser.part.filename.ptr != NULL)
        part->filename = weft_dup(form->ctx, form->parser.part.filename);
    if (form->parser.part.type.ptr != NULL)
        part->type = weft_dup(form->ctx, form->parser.part.type);
    return WEFT_OK;
}

/* Some of the part's bytes, good until the next call for this form; absent behind the last. The
 * status is as of weft_multipart_next(). [loop] */
static inline weft_status weft_part_read(weft_multipart *form, weft_str *piece)
{
    weft_str none = {NULL, 0};
    int event;

    *piece = none;
    if (!form->is_in_part)
        return WEFT_OK;
    WEFT_TRY(weft_multipart__event(form, &event, piece));
    form->is_in_part = event == WEFT_MULTIPART_DATA;
    return WEFT_OK;
}

/* All that is left of the part, which is short, with a NUL behind it. WEFT_E_TOO_BIG: it is more
 * than `bytes_max`; others as of weft_multipart_next(). [loop] */
static inline weft_status weft_part_text(weft_multipart *form, size_t bytes_max, weft_str *text)
{
    char *bytes = (char *)weft_alloc(form->ctx, bytes_max + 1);
    size_t len = 0;
    weft_str piece;

    text->ptr = NULL;
    text->len = 0;
    for (;;) {
        WEFT_TRY(weft_part_read(form, &piece));
        if (piece.ptr == NULL)
            break;
        if (piece.len > bytes_max - len)
            return weft_explain(form->ctx, WEFT_E_TOO_BIG, "a part of the form is too long");
        memcpy(bytes + len, piece.ptr, piece.len);
        len += piece.len;
    }
    bytes[len] = '\0';
    text->ptr = bytes;
    text->len = len;
    return WEFT_OK;
}

/* ---- files: on the disk, but under no name until they are kept -------------------------------
 * */

#if defined(O_TMPFILE) && defined(AT_SYMLINK_FOLLOW)

/* A part that was saved. */
typedef struct weft_saved {
    int fd;        /* open for reading and writing; the ctx's, which closes it */
    uint64_t size; /* bytes */
} weft_saved;

/* What a helper thread does for one. */
typedef struct weft_saved__work {
    int fd;           /* -1: not open */
    int error;        /* errno; 0: it went well */
    const char *path; /* of a folder to make it in, or its name to be */
    weft_str bytes;   /* to be written */
} weft_saved__work;

static inline void weft_saved__close(void *data)
{
    weft_saved__work *work = (weft_saved__work *)data;

    if (work->fd >= 0)
        (void)close(work->fd);
    work->fd = -1;
}

static inline weft_status weft_saved__open(void *data)
{
    weft_saved__work *work = (weft_saved__work *)data;

    work->fd = open(work->path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
    work->error = work->fd < 0 ? errno : 0;
    return WEFT_OK;
}

static inline weft_status weft_saved__write(void *data)
{
    weft_saved__work *work = (weft_saved__work *)data;

    while (work->bytes.len > 0 && work->error == 0) {
        ssize_t count = write(work->fd, work->bytes.ptr, work->bytes.len);
        if (count >= 0)
            weft_multipart__skip(&work->bytes, (size_t)count);
        else if (errno != EINTR)
            work->error = errno;
    }
    return WEFT_OK;
}

static inline weft_status weft_saved__link(void *data)
{
    weft_saved__work *work = (weft_saved__work *)data;
    char self[40];

    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", work->fd);
    work->error = 0;
    if (fsync(work->fd) != 0 ||
        linkat(AT_FDCWD, self, AT_FDCWD, work->path, AT_SYMLINK_FOLLOW) != 0)
        work->error = errno;
    return WEFT_OK;
}

/* Has a helper thread do it, and says what went wrong. */
static inline weft_status weft_saved__do(weft_ctx *ctx, weft_work_fn *fn, weft_saved__work *work)
{
    weft_ctx *turn = weft_child(ctx, 0, 0); /* a file has thousands of them */
    weft_status status = weft_await(weft_offload(turn, fn, work));

    (void)weft_end(turn);
    WEFT_TRY(status);
    if (work->error == 0)
        return WEFT_OK;
    weft_log(ctx, WEFT_LOG_ERROR, "%s: %s", work->path, strerror(work->error));
    if (work->error == EEXIST)
        return WEFT_E_INVALID;
    return work->error == ENOSPC || work->error == EDQUOT ? WEFT_E_OVERLOAD : WEFT_E_UNSUPPORTED;
}

/* Saves what is left of the part in a file without a name in `folder`, whose file system has
 * O_TMPFILE. At its end the ctx closes it, and with that it is gone, unless it was kept.
 * WEFT_E_TOO_BIG: it is more than `bytes_max`; WEFT_E_OVERLOAD: the disk is full;
 * WEFT_E_UNSUPPORTED: the folder takes no such file (these two with a line in the log); others as
 * of weft_multipart_next(). [loop] */
static inline weft_status weft_part_save(weft_multipart *form, const char *folder,
                                         uint64_t bytes_max, weft_saved *saved)
{
    weft_saved__work *work = (weft_saved__work *)weft_alloc(form->ctx, sizeof *work);

    memset(work, 0, sizeof *work);
    work->fd = saved->fd = -1;
    work->path = weft_dup(form->ctx, weft_cstr(folder)).ptr;
    saved->size = 0;
    WEFT_TRY(weft_defer(form->ctx, weft_saved__close, work));
    WEFT_TRY(weft_saved__do(form->ctx, weft_saved__open, work));
    for (;;) {
        WEFT_TRY(weft_part_read(form, &work->bytes));
        if (work->bytes.ptr == NULL)
            break;
        if (work->bytes.len > bytes_max - saved->size)
            return weft_explain(form->ctx, WEFT_E_TOO_BIG, "a file of the form is too large");
        saved->size += work->bytes.len;
        WEFT_TRY(weft_saved__do(form->ctx, weft_saved__write, work));
    }
    saved->fd = work->fd;
    return WEFT_OK;
}

/* Gives it the name `path`, on the same file system, once its bytes are on the disk. The name of
 * the client is none for that. WEFT_E_INVALID: there is one of this name; others as of
 * weft_part_save(). [loop] */
static inline weft_status weft_saved_keep(weft_ctx *ctx, const weft_saved *saved, const char *path)
{
    weft_saved__work *work = (weft_saved__work *)weft_alloc(ctx, sizeof *work);

    memset(work, 0, sizeof *work);
    work->fd = saved->fd;
    work->path = weft_dup(ctx, weft_cstr(path)).ptr;
    return weft_saved__do(ctx, weft_saved__link, work);
}

#endif

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif
