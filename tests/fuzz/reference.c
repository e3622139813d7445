/* fuzz/reference.c - see reference.h. Each function takes one production from the front of what is
 * left; it returns false where that does not begin there, and says whether the bytes ended before
 * that was known. */
#include "fuzz/reference.h"

#include "fuzz/messages.h"

#include <string.h>
#include <strings.h>

/* What is left of the bytes. */
struct rest {
    const uint8_t *at;  /* the next one */
    const uint8_t *end; /* behind the last */
    bool is_cut;        /* a production ended with the bytes: more could make it good */
    const char *why;    /* the section that something broke */
};

/* The framing that the fields say. */
struct framing {
    uint32_t hosts;   /* Host fields */
    uint32_t lengths; /* Content-Length fields */
    uint64_t length;  /* of the last */
    uint32_t codings; /* Transfer-Encoding fields */
    bool is_chunked;  /* they are "chunked" */
    bool is_1_1;      /* the version */
};

static bool refuse(struct rest *rest, const char *why)
{
    if (rest->why == NULL)
        rest->why = why;
    return false;
}

/* Takes one byte that is `wanted`. */
static bool byte(struct rest *rest, char wanted, const char *why)
{
    if (rest->at == rest->end) {
        rest->is_cut = true;
        return false;
    }
    if (*rest->at != (uint8_t)wanted)
        return refuse(rest, why);
    rest->at++;
    return true;
}

static bool crlf(struct rest *rest, const char *why)
{
    return byte(rest, '\r', why) && byte(rest, '\n', why);
}

/* RFC 9110 5.6.2: tchar */
static bool is_tchar(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* RFC 9110 5.5: field-vchar, SP, HTAB */
static bool is_text(uint8_t c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* How many bytes from here on are good for `is_good`; marks where the bytes ended. */
static size_t run_of(struct rest *rest, bool (*is_good)(uint8_t))
{
    const uint8_t *begin = rest->at;

    while (rest->at < rest->end && is_good(*rest->at))
        rest->at++;
    rest->is_cut = rest->is_cut || rest->at == rest->end;
    return (size_t)(rest->at - begin);
}

static bool is_target(uint8_t c)
{
    return c > 0x20 && c < 0x7f;
}

static bool is_hex(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* RFC 9112 3: method SP request-target SP HTTP-version CRLF */
static bool request_line(struct rest *rest, struct framing *framing)
{
    static const char version[] = "HTTP/1.";

    if (run_of(rest, is_tchar) == 0)
        return refuse(rest, "3.1");
    if (!byte(rest, ' ', "3.1"))
        return false;
    if (run_of(rest, is_target) == 0)
        return refuse(rest, "3.2");
    if (!byte(rest, ' ', "3.2"))
        return false;
    for (const char *c = version; *c != '\0'; c++)
        if (!byte(rest, *c, "2.3"))
            return false;
    if (rest->at < rest->end && *rest->at != '0' && *rest->at != '1')
        return refuse(rest, "2.3");
    framing->is_1_1 = rest->at < rest->end && *rest->at == '1';
    if (rest->at < rest->end)
        rest->at++;
    return crlf(rest, "3");
}

/* RFC 9112 6.2: Content-Length = 1*DIGIT. No list is taken: a server may refuse one, and we do. */
static bool take_length(struct framing *framing, const char *value, size_t len)
{
    framing->length = 0;
    for (; len > 1 && *value == '0'; len--) /* as many as they like */
        value++;
    if (len == 0 || len > 18)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return false;
        framing->length = framing->length * 10 + (uint64_t)(value[i] - '0');
    }
    return true;
}

static bool is_name(const uint8_t *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && strncasecmp((const char *)name, wanted, len) == 0;
}

/* RFC 9112 5: field-name ":" OWS field-value OWS CRLF */
static bool field_line(struct rest *rest, struct framing *framing)
{
    const uint8_t *name = rest->at, *value;
    size_t name_len = run_of(rest, is_tchar), len;

    if (name_len == 0)
        return refuse(rest, "5.1");
    if (!byte(rest, ':', "5.1"))
        return false;
    value = rest->at;
    len = run_of(rest, is_text);
    if (!crlf(rest, "5.5"))
        return false;
    for (; len > 0 && (*value == ' ' || *value == '\t'); len--)
        value++;
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
        len--;
    if (framing == NULL)
        return true;
    framing->hosts += is_name(name, name_len, "Host");
    if (is_name(name, name_len, "Content-Length")) {
        uint64_t before = framing->length;
        if (!take_length(framing, (const char *)value, len) ||
            (framing->lengths++ > 0 && framing->length != before))
            return refuse(rest, "6.3");
    }
    if (is_name(name, name_len, "Transfer-Encoding")) {
        framing->codings++;
        framing->is_chunked = is_name(value, len, "chunked");
    }
    return true;
}

/* Field lines up to the empty one. */
static bool fields(struct rest *rest, struct framing *framing)
{
    while (rest->at == rest->end || *rest->at != '\r')
        if (rest->at == rest->end) {
            rest->is_cut = true;
            return false;
        } else if (!field_line(rest, framing)) {
            return false;
        }
    return crlf(rest, "5");
}

static bool data(struct rest *rest, uint64_t bytes, struct reference *found)
{
    uint64_t left = (uint64_t)(rest->end - rest->at);

    if (left < bytes) {
        rest->is_cut = true;
        return false;
    }
    found->body_hash = messages_hash(found->body_hash, rest->at, (size_t)bytes);
    found->body_bytes += bytes;
    rest->at += bytes;
    return true;
}

/* RFC 9112 7.1: chunk-size [chunk-ext] CRLF; of an extension only that its bytes are text. */
static bool chunk_size(struct rest *rest, uint64_t *size)
{
    const uint8_t *begin = rest->at;
    size_t digits = run_of(rest, is_hex);

    if (digits == 0)
        return rest->at == rest->end ? false : refuse(rest, "7.1");
    *size = 0;
    for (size_t i = 0; i < digits; i++) {
        uint8_t c = begin[i];
        if (*size >> 56 != 0)
            return refuse(rest, "7.1");
        *size = *size * 16 + (uint64_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    if (rest->at < rest->end && *rest->at != '\r' && *rest->at != ';' && *rest->at != ' ' &&
        *rest->at != '\t')
        return refuse(rest, "7.1");
    (void)run_of(rest, is_text);
    return crlf(rest, "7.1.1");
}

static bool chunked(struct rest *rest, struct reference *found)
{
    uint64_t size;

    do {
        if (!chunk_size(rest, &size))
            return false;
        if (size > 0 && (!data(rest, size, found) || !crlf(rest, "7.1")))
            return false;
    } while (size > 0);
    return fields(rest, NULL);
}

static bool request(struct rest *rest, struct reference *found)
{
    struct framing framing = {0};

    /* RFC 9112 2.2: a server should ignore at least one empty line before a request */
    for (uint32_t lines = 0; lines < 2 && rest->at < rest->end && *rest->at == '\r'; lines++)
        if (!crlf(rest, "2.2"))
            return false;
    if (!request_line(rest, &framing) || !fields(rest, &framing))
        return false;
    if (framing.hosts > 1 || (framing.is_1_1 && framing.hosts == 0))
        return refuse(rest, "3.2");
    /* RFC 9112 6.1: both, or a coding in 1.0, is an attempt at smuggling or a broken peer */
    if (framing.codings > 0 &&
        (framing.codings > 1 || !framing.is_chunked || framing.lengths > 0 || !framing.is_1_1))
        return refuse(rest, "6.1");
    return framing.codings > 0 ? chunked(rest, found) : data(rest, framing.length, found);
}

enum reference_outcome reference_request(const uint8_t *bytes, size_t size, struct reference *found)
{
    struct rest rest = {.at = bytes, .end = bytes + size};

    *found = (struct reference){.body_hash = MESSAGES_HASH};
    if (request(&rest, found)) {
        found->end = (size_t)(rest.at - bytes);
        return REFERENCE_COMPLETE;
    }
    found->why = rest.why;
    return rest.why != NULL ? REFERENCE_REFUSED : REFERENCE_MORE;
}
