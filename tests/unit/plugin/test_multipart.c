/* Goal: weft_multipart.h's parser tells the same of a form however its bytes come, whole, in two
 * pieces split at every place, or one by one; and what is no form is refused, at the same place. */
#include "lib/test.h"
#include "weft_multipart.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRACE_SIZE = 4096, HEAD_MAX = 200, PARTS_MAX = 3, NAME_BYTES = 10 };

/* A form by the boundary "AaB". */
#define PART(head, body) "--AaB\r\n" head "\r\n\r\n" body "\r\n"
#define NAMED(more)      "Content-Disposition: form-data; name=\"f\"" more
#define END              "--AaB--\r\n"

/* What came of a form: "[name|filename|type]data" for each part, then "." or "!", and why. */
struct trace {
    char text[TRACE_SIZE];
    size_t len;
    bool is_in_part;
};

static void add(struct trace *trace, const char *bytes, size_t len)
{
    assert_true(trace->len + len < TRACE_SIZE);
    memcpy(trace->text + trace->len, bytes, len);
    trace->len += len;
    trace->text[trace->len] = '\0';
}

static void add_str(struct trace *trace, weft_str s, const char *end)
{
    add(trace, s.ptr != NULL ? s.ptr : "-", s.ptr != NULL ? s.len : 1);
    add(trace, end, strlen(end));
}

/* Takes `in`; true: that was all. */
static bool take(struct trace *trace, weft_multipart_parser *parser, weft_str in)
{
    for (;;) {
        weft_str data;
        int event = weft_multipart_step(parser, &in, &data);

        assert_true((event == WEFT_MULTIPART_DATA) == (data.ptr != NULL));
        switch (event) {
        case WEFT_MULTIPART_MORE:
            assert_int_equal(in.len, 0);
            return false;
        case WEFT_MULTIPART_PART:
            assert_false(trace->is_in_part);
            trace->is_in_part = true;
            add(trace, "[", 1);
            add_str(trace, parser->part.name, "|");
            add_str(trace, parser->part.filename, "|");
            add_str(trace, parser->part.type, "]");
            break;
        case WEFT_MULTIPART_DATA:
            assert_true(trace->is_in_part);
            assert_true(data.len > 0);
            add_str(trace, data, "");
            break;
        case WEFT_MULTIPART_PART_END:
            assert_true(trace->is_in_part);
            trace->is_in_part = false;
            break;
        case WEFT_MULTIPART_END:
            assert_false(trace->is_in_part);
            add(trace, ".", 1);
            return true;
        default:
            assert_int_equal(event, WEFT_MULTIPART_BAD);
            assert_int_equal(weft_multipart_step(parser, &in, &data), WEFT_MULTIPART_BAD);
            add(trace, "!", 1);
            add(trace, parser->problem, strlen(parser->problem));
            return true;
        }
    }
}

static void begin(weft_multipart_parser *parser, char head[HEAD_MAX])
{
    weft_multipart_init(parser, weft_cstr("AaB"), head, HEAD_MAX, PARTS_MAX, NAME_BYTES);
}

/* In pieces of `first` bytes, and then `rest` each. On the heap, so that ASan sees a byte too
 * far. */
static void run(struct trace *trace, const char *form, size_t len, size_t first, size_t rest)
{
    weft_multipart_parser parser;
    char head[HEAD_MAX];
    bool is_over = false;

    *trace = (struct trace){.len = 0};
    begin(&parser, head);
    for (size_t at = 0; at < len && !is_over;) {
        size_t size = at == 0 ? first : rest;
        char *piece;

        if (size > len - at || size == 0)
            size = size == 0 ? 1 : len - at;
        piece = malloc(size);
        memcpy(piece, form + at, size);
        is_over = take(trace, &parser, (weft_str){piece, size});
        free(piece);
        at += size;
    }
    if (!is_over)
        add(trace, "?", 1);
}

static void expect(const char *form, size_t len, const char *wanted)
{
    struct trace trace;

    for (size_t split = 1; split <= len; split++) {
        run(&trace, form, len, split, len);
        if (strcmp(trace.text, wanted) != 0)
            fail_msg("%s\nsplit at %zu: %s\nnot: %s", form, split, trace.text, wanted);
    }
    for (size_t size = 1; size <= 9; size++) {
        run(&trace, form, len, size, size);
        if (strcmp(trace.text, wanted) != 0)
            fail_msg("%s\nin pieces of %zu: %s\nnot: %s", form, size, trace.text, wanted);
    }
}

static const struct {
    const char *form, *wanted;
} forms[] = {
    {PART(NAMED(""), "data") END, "[f|-|-]data."},
    {PART(NAMED(""), "") END, "[f|-|-]."},
    {PART(NAMED(""), "a") PART(NAMED("; filename=\"x.txt\"\r\nContent-Type: text/plain"), "b") END,
     "[f|-|-]a[f|x.txt|text/plain]b."},
    {END, "."},
    {"--AaB--", "."},
    {"--AaB-- \t\r\nepilogue\r\n--AaB\r\n", "."},
    {"preamble\r\n--AaB-\r\n\r\n" PART(NAMED(""), "d") END, "!a boundary's line goes on behind it"},
    {"preamble --AaB\r\nmore\r\n" PART(NAMED(""), "d") END, "[f|-|-]d."},
    {"\r\n" PART(NAMED(""), "d") END, "[f|-|-]d."},
    {"--AaB \t \r\n" NAMED("") "\r\n\r\nd\r\n--AaB\t--",
     "[f|-|-]d!a boundary's line goes on behind it"},
    {"--AaB \t \r\n" NAMED("") "\r\n\r\nd\r\n" END, "[f|-|-]d."},
    /* data that look like a boundary */
    {PART(NAMED(""), "\r\n--Aa\r\n--\r\n\r\r\n--AaC\n--AaB") END,
     "[f|-|-]\r\n--Aa\r\n--\r\n\r\r\n--AaC\n--AaB."},
    {PART(NAMED(""), "\r\r\n-\r\n--A\r") END, "[f|-|-]\r\r\n-\r\n--A\r."},
    {PART(NAMED(""), "--Aa") END, "[f|-|-]--Aa."},
    {PART(NAMED(""), "-") END, "[f|-|-]-."},
    /* an empty line's end that begins a boundary: a part without data */
    {"--AaB\r\n" NAMED("") "\r\n\r\n--AaB--", "[f|-|-]."},
    {PART(NAMED(""), "x\r\n--AaBC") END, "[f|-|-]x!a boundary's line goes on behind it"},
    {PART(NAMED(""), "x\r\n--AaB-x") END, "[f|-|-]x!a boundary's line goes on behind it"},
    {PART(NAMED(""), "x\r\n--AaB\rx") END, "[f|-|-]x!a boundary's line goes on behind it"},
    /* fields */
    {PART("content-disposition:form-data;name=f", "d") END, "[f|-|-]d."},
    {PART("X-Other: 1\r\n" NAMED(" ; filename=\"\""), "d") END, "[f||-]d."},
    {PART(NAMED("; filename=\"a\\\"b\\\\c\\d\""), "d") END, "[f|a\"b\\c\\d|-]d."},
    {PART(NAMED("; filename=\"a;b=c\"; x=y"), "d") END, "[f|a;b=c|-]d."},
    {PART("Content-Disposition: form-data; filename=\"F\"; name=\"N\"", "d") END, "[N|F|-]d."},
    {PART(NAMED("\r\nContent-Transfer-Encoding: binary"), "d") END, "[f|-|-]d."},
    {PART(NAMED("\r\nContent-Transfer-Encoding: base64"), "d") END,
     "!a part has a transfer coding"},
    {PART(NAMED("\r\nContent-Type: a/b\r\nContent-Type: a/b"), "d") END,
     "!a part has two Content-Type"},
    {PART(NAMED("\r\n" NAMED("")), "d") END, "!a part has two Content-Disposition"},
    {PART(NAMED("; name=\"g\""), "d") END, "!a part has two names"},
    {PART(NAMED("; filename*=utf-8''x"), "d") END, "!a part has a filename*, which forms have not"},
    {PART(NAMED("; filename=\"x"), "d") END, "!a part has a bad Content-Disposition"},
    {PART(NAMED("; filename="), "d") END, "!a part has a bad Content-Disposition"},
    {PART(NAMED(";"), "d") END, "!a part has a bad Content-Disposition"},
    {PART(NAMED(" x"), "d") END, "!a part has a bad Content-Disposition"},
    {PART("Content-Disposition: form-data", "d") END, "!a part has no name"},
    {PART("Content-Disposition: attachment; name=f", "d") END, "!a part is not form-data"},
    {PART("Content-Disposition: form-data; name=01234567890", "d") END,
     "!a part's name is too long"},
    {PART("X: y", "d") END, "!a part has no Content-Disposition"},
    {"--AaB\r\n\r\nd\r\n" END, "!a part has no Content-Disposition"},
    {PART(NAMED("") "\r\n folded", "d") END, "!a part has a line that is no field"},
    {PART(NAMED("") "\r\nX : y", "d") END, "!a part has a line that is no field"},
    {PART(NAMED("") "\r\nX", "d") END, "!a part has a line that is no field"},
    {PART(NAMED("") "\r\nX: \x01", "d") END, "!a part has a field with a control byte"},
    {PART(NAMED("") "\nX: y", "d") END, "!a part has a line that does not end with CRLF"},
    {PART(NAMED("") "\rX: y", "d") END, "!a part has a line that does not end with CRLF"},
    /* what ends early */
    {"--AaB\r\n" NAMED("") "\r\n\r\nd\r\n--AaB", "[f|-|-]d?"},
    {"--AaB\r\n" NAMED("") "\r\n\r\nd\r\n--Aa", "[f|-|-]d?"},
    {"no form", "?"},
    /* limits */
    {PART(NAMED(""), "1") PART(NAMED(""), "2") PART(NAMED(""), "3") END,
     "[f|-|-]1[f|-|-]2[f|-|-]3."},
    {PART(NAMED(""), "1") PART(NAMED(""), "2") PART(NAMED(""), "3") PART(NAMED(""), "4") END,
     "[f|-|-]1[f|-|-]2[f|-|-]3!the form has too many parts"},
};

static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        expect(forms[i].form, strlen(forms[i].form), forms[i].wanted);
}

static void test_bytes_of_every_kind(void **state)
{
    static const char form[] = "--AaB\r\n" NAMED("") "\r\n\r\n\0\r\n\xff\0--AaB\r\n--AaB--";
    weft_multipart_parser parser;
    char head[HEAD_MAX];
    weft_str in = {form, sizeof form - 1}, data;
    size_t count = 0;

    (void)state;
    begin(&parser, head);
    assert_int_equal(weft_multipart_step(&parser, &in, &data), WEFT_MULTIPART_PART);
    while (weft_multipart_step(&parser, &in, &data) == WEFT_MULTIPART_DATA)
        count += data.len;
    assert_int_equal(count, 10);
    assert_int_equal(weft_multipart_step(&parser, &in, &data), WEFT_MULTIPART_END);
}

static void test_a_head_that_is_too_long(void **state)
{
    char form[2 * HEAD_MAX];

    (void)state;
    for (size_t len = HEAD_MAX - 60; len < HEAD_MAX + 60; len++) {
        size_t of_head;

        (void)snprintf(form, sizeof form, PART(NAMED("\r\nX: %0*d"), "d") END, 120, 0);
        of_head = strlen(form) - strlen("--AaB\r\n") - strlen("d\r\n" END);
        (void)snprintf(form, sizeof form, PART(NAMED("\r\nX: %0*d"), "d") END,
                       (int)(120 + len - of_head), 0);
        expect(form, strlen(form), len <= HEAD_MAX ? "[f|-|-]d." : "!a part's fields are too long");
    }
}

static void test_boundaries(void **state)
{
    static const struct {
        const char *type, *boundary; /* NULL: refused */
    } types[] = {
        {"multipart/form-data; boundary=AaB", "AaB"},
        {"Multipart/Form-Data;boundary=\"a b:c\" ; charset=utf-8", "a b:c"},
        {"multipart/form-data; charset=utf-8; BOUNDARY=----WebKitFormBoundary7MA4YWxkTrZu0gW",
         "----WebKitFormBoundary7MA4YWxkTrZu0gW"},
        {"multipart/form-data", NULL},
        {"multipart/form-data; boundary=", NULL},
        {"multipart/form-data; boundary=\"\"", NULL},
        {"multipart/form-data; boundary=\"a ", NULL},
        {"multipart/form-data; boundary=\"a \"", NULL},
        {"multipart/form-data; boundary=a; boundary=b", NULL},
        {"multipart/form-data; boundary=a*b", NULL},
        {"multipart/form-data; boundary=\"a\\\"b\"", NULL},
        {"multipart/form-data boundary=a", NULL},
        {"multipart/form-data; boundary=a b", NULL},
        {"multipart/mixed; boundary=a", NULL},
        {"application/x-www-form-urlencoded", NULL},
        {"", NULL},
        {"multipart/form-data; boundary="
         "1234567890123456789012345678901234567890123456789012345678901234567890",
         "1234567890123456789012345678901234567890123456789012345678901234567890"},
        {"multipart/form-data; boundary="
         "12345678901234567890123456789012345678901234567890123456789012345678901",
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char room[WEFT_MULTIPART_BOUNDARY_MAX];
        size_t len;
        const char *problem = weft_multipart_boundary(weft_cstr(types[i].type), room, &len);

        if ((problem == NULL) != (types[i].boundary != NULL))
            fail_msg("%s: %s", types[i].type, problem != NULL ? problem : "taken");
        if (problem != NULL)
            continue;
        assert_int_equal(len, strlen(types[i].boundary));
        assert_memory_equal(room, types[i].boundary, len);
    }
    assert_non_null(weft_multipart_boundary((weft_str){NULL, 0}, (char[70]){0}, &(size_t){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_bytes_of_every_kind),
        cmocka_unit_test(test_a_head_that_is_too_long),
        cmocka_unit_test(test_boundaries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
