/* http/guard.c - what is refused before, and after, llhttp has looked.
 *
 * One pass over a section: every LF has a CR before it, there is no other CR, no line starts with a
 * blank or a colon, and the first line has the form of the RFC. llhttp 8.1 accepts each of these
 * sins, and each is one that another parser reads differently.
 */
#include "http/guard.h"
#include "base/check.h"
#include "base/number.h"
#include "http/message.h"
#include "http/parser.h"

#define GUARD_RULE(rule, status, token, section, text) [rule] = {status, token, section, text},
static const struct guard_rule rules[GUARD_COUNT] = {GUARD_TABLE(GUARD_RULE)};
#undef GUARD_RULE

const struct guard_rule *guard_rule(enum guard rule)
{
    CHECK(rule < GUARD_COUNT);
    return &rules[rule];
}

/* ---- lines ---- */

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static enum guard check_version(struct span version)
{
    if (span_equal(version, SPAN("HTTP/1.1")))
        return GUARD_OK;
    if (version.len != 8 || memcmp(version.ptr, "HTTP/", 5) != 0 || !is_digit(version.ptr[5]) ||
        version.ptr[6] != '.' || !is_digit(version.ptr[7]))
        return GUARD_VERSION_SYNTAX;
    if (version.ptr[5] != '1' || version.ptr[7] > '1')
        return GUARD_VERSION;
    return GUARD_OK;
}

/* What is before the next blank; `line` starts behind it afterwards. Absent: there is no blank. */
static struct span take_word(struct span *line)
{
    const char *blank = memchr(line->ptr, ' ', line->len);
    struct span word = {NULL, 0};

    if (blank == NULL)
        return word;
    word = (struct span){line->ptr, (size_t)(blank - line->ptr)};
    line->len -= word.len + 1;
    line->ptr = blank + 1;
    return word;
}

static enum guard check_request_line(struct span line)
{
    struct span method = take_word(&line);
    bool is_served = http_is_method(method);
    struct span target;
    enum guard rule;

    if (!is_served && !http_is_token(method)) /* those served are tokens */
        return GUARD_REQUEST_LINE;
    target = take_word(&line);
    if (target.len == 0 || memchr(line.ptr, ' ', line.len) != NULL)
        return GUARD_REQUEST_LINE;
    rule = check_version(line);
    if (rule != GUARD_OK)
        return rule;
    if (!is_served)
        return GUARD_METHOD;
    return memchr(target.ptr, '#', target.len) != NULL ? GUARD_FRAGMENT : GUARD_OK;
}

static enum guard check_status_line(struct span line)
{
    struct span version = take_word(&line);
    enum guard rule;

    if (version.len == 0)
        return GUARD_STATUS_LINE;
    rule = check_version(version);
    if (rule != GUARD_OK)
        return rule;
    if (line.len < 3 || line.ptr[0] < '1' || line.ptr[0] > '5' || !is_digit(line.ptr[1]) ||
        !is_digit(line.ptr[2]) || (line.len > 3 && line.ptr[3] != ' '))
        return GUARD_STATUS_LINE;
    return GUARD_OK;
}

/* The first line of a head, without its end. */
static enum guard check_first_line(enum guard_section section, struct span line)
{
    return section == GUARD_REQUEST ? check_request_line(line) : check_status_line(line);
}

/* A field line, without its end and not empty; or the start of one. */
static enum guard check_field_line(struct span line)
{
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return GUARD_FOLD;
    return line.ptr[0] == ':' ? GUARD_EMPTY_NAME : GUARD_OK;
}

/* The end of a line is at `lf`: it is CR LF, and there is no other CR. */
static enum guard check_line_end(const char *start, const char *lf)
{
    if (lf == start || lf[-1] != '\r')
        return GUARD_BARE_LF;
    return memchr(start, '\r', (size_t)(lf - start) - 1) != NULL ? GUARD_BARE_CR : GUARD_OK;
}

static enum guard too_long(enum guard_section section)
{
    return section == GUARD_TRAILER ? GUARD_TRAILER_BYTES : GUARD_HEAD_BYTES;
}

static bool is_first_line(const struct guard_scan *scan, enum guard_section section)
{
    return scan->lines == 0 && section != GUARD_TRAILER;
}

/* The section is not complete: what can be said already? */
static enum guard check_rest(const struct guard_scan *scan, enum guard_section section,
                             struct span bytes, const struct guard_limits *limits)
{
    struct span line = {bytes.ptr + scan->line_at, bytes.len - scan->line_at};
    enum guard rule = GUARD_OK;

    if (line.len > 0 && is_first_line(scan, section)) {
        /* A TLS client's hello, for one, has no LF for a long time. */
        if (section == GUARD_REQUEST && !http_is_token((struct span){line.ptr, 1}))
            return GUARD_REQUEST_LINE;
        if (section == GUARD_REQUEST && line.len - 1 > limits->line_bytes_max)
            return GUARD_LINE_BYTES;
    } else if (line.len > 0) {
        rule = check_field_line(line);
    }
    return rule == GUARD_OK && bytes.len >= limits->section_bytes_max ? too_long(section) : rule;
}

/* A whole line, from `start` to its LF. */
static enum guard check_line(const struct guard_scan *scan, enum guard_section section,
                             const struct guard_limits *limits, const char *start, const char *lf)
{
    bool is_first = is_first_line(scan, section);
    struct span line = {start, (size_t)(lf - start) - 1};
    enum guard rule;

    if (is_first && section == GUARD_REQUEST && lf - start > 1 && line.len > limits->line_bytes_max)
        return GUARD_LINE_BYTES;
    rule = check_line_end(start, lf);
    if (rule != GUARD_OK)
        return rule;
    if (is_first)
        return check_first_line(section, line);
    return line.len > 0 ? check_field_line(line) : GUARD_OK;
}

enum guard guard_scan(struct guard_scan *scan, enum guard_section section, struct span bytes,
                      const struct guard_limits *limits, size_t *size)
{
    const char *start = bytes.ptr + scan->line_at, *lf;

    CHECK(scan->line_at <= scan->seen);
    CHECK(scan->seen <= bytes.len);
    *size = 0;
    while (scan->seen < bytes.len &&
           (lf = memchr(bytes.ptr + scan->seen, '\n', bytes.len - scan->seen)) != NULL) {
        enum guard rule = check_line(scan, section, limits, start, lf);

        if (rule != GUARD_OK)
            return rule;
        scan->seen = (size_t)(lf + 1 - bytes.ptr);
        if (scan->seen > limits->section_bytes_max)
            return too_long(section);
        if (lf - start == 1) {
            *size = scan->seen;
            *scan = (struct guard_scan){0};
            return GUARD_OK;
        }
        scan->line_at = scan->seen;
        scan->lines++;
        start = lf + 1;
    }
    scan->seen = bytes.len;
    return bytes.len > 0 ? check_rest(scan, section, bytes, limits) : GUARD_OK;
}

/* ---- fields ---- */

bool guard_trailer(struct span section)
{
    while (section.len > 2) {
        const char *end = memchr(section.ptr, '\r', section.len);
        const char *colon = memchr(section.ptr, ':', section.len);
        size_t size;

        CHECK(end != NULL); /* the scan saw to it */
        if (colon == NULL || colon > end)
            return false;
        size = (size_t)(end - colon) - 1;
        if (!http_is_token((struct span){section.ptr, (size_t)(colon - section.ptr)}) ||
            !http_is_field_value(span_trim((struct span){colon + 1, size})))
            return false;
        section.len -= (size_t)(end - section.ptr) + 2;
        section.ptr = end + 2;
    }
    return true;
}

/* What a head says about itself, while its fields are gone through. */
struct claims {
    struct span host;   /* the last one's value */
    struct span length; /* the last one's */
    struct span coding; /* the last one's */
    uint32_t hosts;     /* how many there are */
    uint32_t lengths;   /* how many */
    uint32_t codings;   /* how many */
};

static void note_expect(struct http_head *head, struct span value)
{
    bool is_continue = span_equal_nocase(value, SPAN("100-continue"));

    if (head->minor == 0) /* RFC 9110 section 10.1.1: to be ignored there */
        return;
    if (!is_continue)
        head->expect = HTTP_EXPECT_OTHER;
    else if (head->expect == HTTP_EXPECT_NOTHING)
        head->expect = HTTP_EXPECT_CONTINUE;
}

static void note_field(struct claims *claims, struct http_head *head,
                       const struct http_field *field)
{
    switch (field->name.len) { /* most fields are told apart by that alone */
    case sizeof("Host") - 1:
        if (span_equal_nocase(field->name, SPAN("Host"))) {
            claims->hosts++;
            claims->host = field->value;
        }
        break;
    case sizeof("Expect") - 1:
        if ((field->name.ptr[0] | 0x20) == 'e' && head->is_request &&
            span_equal_nocase(field->name, SPAN("Expect")))
            note_expect(head, field->value);
        break;
    case sizeof("Content-Length") - 1:
        if (span_equal_nocase(field->name, SPAN("Content-Length"))) {
            claims->lengths++;
            claims->length = field->value;
        }
        break;
    case sizeof("Transfer-Encoding") - 1:
        if (span_equal_nocase(field->name, SPAN("Transfer-Encoding"))) {
            claims->codings++;
            claims->coding = field->value;
        }
        break;
    default:
        break;
    }
}

/* Of a coding that is not "chunked" alone: is it a list that ends with it, and has it once? Then it
 * is merely not known here. */
static enum guard judge_coding(struct span coding)
{
    bool is_chunked = false;

    while (coding.len > 0) {
        const char *comma = memchr(coding.ptr, ',', coding.len);
        size_t size = comma != NULL ? (size_t)(comma - coding.ptr) : coding.len;
        struct span name = span_trim((struct span){coding.ptr, size});

        if (is_chunked || !http_is_token(name))
            return GUARD_CODING_FINAL;
        is_chunked = span_equal_nocase(name, SPAN("chunked"));
        coding.ptr += size + (comma != NULL);
        coding.len -= size + (comma != NULL);
    }
    return is_chunked ? GUARD_CODING : GUARD_CODING_FINAL;
}

static enum guard check_framing(const struct claims *claims, struct http_head *head)
{
    uint64_t length;

    if (claims->codings > 1)
        return GUARD_CODING_TWICE;
    if (claims->codings == 1 && claims->lengths > 0)
        return GUARD_CODING_LENGTH;
    if (claims->codings == 1 && head->minor == 0)
        return GUARD_CODING_VERSION;
    if (claims->codings == 1) {
        head->is_chunked = span_equal_nocase(claims->coding, SPAN("chunked"));
        return head->is_chunked ? GUARD_OK : judge_coding(claims->coding);
    }
    if (claims->lengths == 0)
        return GUARD_OK;
    if (claims->lengths > 1 || !number_uint(claims->length, &length))
        return GUARD_LENGTH;
    if (length > INT64_MAX)
        return GUARD_LENGTH_RANGE;
    head->length = (int64_t)length;
    return GUARD_OK;
}

static enum guard check_target(const struct claims *claims, struct http_head *head)
{
    if (claims->hosts > 1)
        return GUARD_HOST_TWICE;
    if (claims->hosts == 0 && head->minor == 1)
        return GUARD_HOST_MISSING;
    if (claims->host.len > 0 && !uri_is_host(claims->host))
        return GUARD_HOST;
    if (!uri_split(head->target, &head->uri))
        return GUARD_TARGET;
    if (head->uri.path.ptr[0] == '*' && !span_equal(head->method, SPAN("OPTIONS")))
        return GUARD_TARGET;
    head->host = head->uri.authority.ptr != NULL ? head->uri.authority : claims->host;
    return GUARD_OK;
}

enum guard guard_head(struct http_head *head)
{
    struct claims claims = {0};
    enum guard rule;

    CHECK(head->minor <= 1);
    head->is_chunked = false;
    head->length = -1;
    head->expect = HTTP_EXPECT_NOTHING;
    head->host = (struct span){NULL, 0};
    for (uint32_t i = 0; i < head->fields.count; i++)
        note_field(&claims, head, &head->fields.at[i]);
    rule = check_framing(&claims, head);
    if (rule != GUARD_OK)
        return rule;
    if (!head->is_request)
        return head->code == 101 ? GUARD_SWITCH : GUARD_OK;
    return check_target(&claims, head);
}
