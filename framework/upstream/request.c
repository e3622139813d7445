/* upstream/request.c - a call to the bytes of its request. */
#include "upstream/request.h"
#include "base/check.h"
#include "base/number.h"
#include "http/request.h"
#include "task/scope.h"
#include "upstream/url.h"
#include <stdio.h>

/* Milliseconds left that are told: as many digits, the rest blanks, which belong to no value. */
#define BUDGET_MS_MAX 9999999999ull
enum { BUDGET_DIGITS = 10 };

/* Ours (Host, framing), of one connection (RFC 9110 section 7.6.1), or promises that we do not keep
 * (Expect). */
static const struct span refused_fields[] = {
    {"host", 4},
    {"content-length", 14},
    {"transfer-encoding", 17},
    {"connection", 10},
    {"keep-alive", 10},
    {"proxy-connection", 16},
    {"proxy-authenticate", 18},
    {"proxy-authorization", 19},
    {"te", 2},
    {"trailer", 7},
    {"upgrade", 7},
    {"http2-settings", 14},
    {"expect", 6},
};

static struct span method_of(const struct upstream_call *call)
{
    return call->method.ptr != NULL ? call->method : SPAN("GET");
}

static bool is_refused(struct span name)
{
    for (size_t i = 0; i < sizeof refused_fields / sizeof refused_fields[0]; i++)
        if (span_equal_nocase(name, refused_fields[i]))
            return true;
    return false;
}

/* NULL, or what is wrong with it. */
static const char *field_problem(const struct http_field *field)
{
    if (!http_is_token(field->name))
        return "has a name that is no token";
    if (is_refused(field->name))
        return "is not the handler's to set";
    if (!http_is_field_value(field->value))
        return "has a control byte in its value";
    return NULL;
}

bool upstream_request_check(const struct upstream_call *call, char problem[UPSTREAM_PROBLEM_SIZE])
{
    struct span method = method_of(call);
    const char *wrong;

    if (!http_is_token(method) || span_equal(method, SPAN("CONNECT"))) {
        snprintf(problem, UPSTREAM_PROBLEM_SIZE, "method: no token, or CONNECT");
        return false;
    }
    if ((call->flags & UPSTREAM_UPLOAD) != 0 && call->body.len > 0) {
        snprintf(problem, UPSTREAM_PROBLEM_SIZE, "body: it is to be written, and was given too");
        return false;
    }
    if (!upstream_is_path(call->path)) {
        snprintf(problem, UPSTREAM_PROBLEM_SIZE,
                 "path: expected one that begins with '/' and is percent-encoded");
        return false;
    }
    for (uint32_t i = 0; i < call->field_count; i++) {
        wrong = field_problem(&call->fields[i]);
        if (wrong == NULL)
            continue;
        snprintf(problem, UPSTREAM_PROBLEM_SIZE, "field %u (%.*s) %s", i + 1,
                 call->fields[i].name.len < 64 ? (int)call->fields[i].name.len : 64,
                 call->fields[i].name.ptr != NULL ? call->fields[i].name.ptr : "", wrong);
        return false;
    }
    return true;
}

/* Fields that make sense before a body alone (RFC 9110 section 6.5.1), beside those refused. */
static const struct span untrailing[] = {
    {"authorization", 13}, {"content-encoding", 16}, {"content-range", 13}, {"content-type", 12},
    {"cookie", 6},         {"max-forwards", 12},     {"range", 5},
};

bool upstream_trailers_check(const struct http_field *fields, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (field_problem(&fields[i]) != NULL)
            return false;
        for (size_t j = 0; j < sizeof untrailing / sizeof untrailing[0]; j++)
            if (span_equal_nocase(fields[i].name, untrailing[j]))
                return false;
    }
    return true;
}

/* Does the request say how long its body is, even where it has none (RFC 9110 section 8.6)? */
static bool has_length(struct span method, const struct upstream_call *call)
{
    return call->body.len > 0 || (call->flags & UPSTREAM_UPLOAD) != 0 ||
           span_equal(method, SPAN("POST")) || span_equal(method, SPAN("PUT")) ||
           span_equal(method, SPAN("PATCH"));
}

static char *put(char *at, struct span bytes)
{
    if (bytes.len > 0)
        memcpy(at, bytes.ptr, bytes.len);
    return at + bytes.len;
}

static char *put_field(char *at, struct span name, struct span value)
{
    at = put(at, name);
    at = put(at, SPAN(": "));
    at = put(at, value);
    return put(at, SPAN("\r\n"));
}

static char *put_framing(char *at, struct span method, const struct upstream_call *call)
{
    char length[NUMBER_TEXT_SIZE];
    size_t digits;

    if ((call->flags & UPSTREAM_UPLOAD) != 0 && call->length == 0)
        return put_field(at, SPAN("Transfer-Encoding"), SPAN("chunked"));
    if (!has_length(method, call))
        return at;
    digits =
        number_format((call->flags & UPSTREAM_UPLOAD) != 0 ? call->length : call->body.len, length);
    return put_field(at, SPAN("Content-Length"), (struct span){length, digits});
}

/* Enough for the head and the body. */
static size_t size_of(const struct upstream_url *url, const struct upstream_call *call)
{
    size_t size = method_of(call).len + url->prefix.len + call->path.len + call->body.len +
                  url->authority.len;

    size += SPAN("  HTTP/1.1\r\nHost: \r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n"
                 "Connection: TE\r\n\r\n")
                .len +
            NUMBER_TEXT_SIZE;
    for (uint32_t i = 0; i < call->field_count; i++)
        size += call->fields[i].name.len + call->fields[i].value.len + SPAN(": \r\n").len;
    return size;
}

/* ---- what goes along ---- */

static bool is_hex(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
}

/* As https://www.w3.org/TR/trace-context/ has it for version 00. */
static bool is_traceparent(struct span value)
{
    static const char form[] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";

    if (value.len != sizeof form - 1)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (form[i] == 'x' ? !is_hex(value.ptr[i]) : value.ptr[i] != form[i])
            return false;
    return true;
}

bool upstream_is_field_name(struct span name)
{
    return http_is_token(name) && !is_refused(name);
}

struct upstream_extras upstream_extras_of(const struct scope *scope,
                                          const struct upstream_options *options,
                                          const struct upstream_call *call)
{
    const struct http_fields own = {(struct http_field *)(uintptr_t)call->fields,
                                    call->field_count};
    const struct http_request *request = options->passes_trace ? http_request_of(scope) : NULL;
    struct upstream_extras extras = {.decodes =
                                         (call->flags & UPSTREAM_DECODE) != 0 &&
                                         http_field_count(&own, SPAN("Accept-Encoding")) == 0};
    uint64_t budget_ms = scope_budget_ms(scope);

    if (request != NULL && http_field_count(&own, SPAN("traceparent")) == 0) {
        extras.traceparent = http_request_header(request, SPAN("traceparent"));
        if (is_traceparent(extras.traceparent))
            extras.tracestate = http_request_header(request, SPAN("tracestate"));
        else
            extras.traceparent = (struct span){NULL, 0};
        if (!http_is_field_value(extras.tracestate))
            extras.tracestate = (struct span){NULL, 0};
    }
    if (options->budget_field[0] != '\0' && budget_ms != UINT64_MAX)
        extras.budget_field = span_of(options->budget_field);
    return extras;
}

void upstream_request_set_budget(const struct upstream_request *request, uint64_t ms)
{
    char text[NUMBER_TEXT_SIZE];
    size_t digits;

    if (request->budget == NULL)
        return;
    digits = number_format(ms < BUDGET_MS_MAX ? ms : BUDGET_MS_MAX, text);
    CHECK(digits <= BUDGET_DIGITS);
    memcpy(request->budget, text, digits);
    memset(request->budget + digits, ' ', BUDGET_DIGITS - digits);
}

static char *put_extras(char *at, const struct upstream_extras *extras, char **budget)
{
    static const struct span blank = {"          ", BUDGET_DIGITS};

    if (extras->traceparent.ptr != NULL)
        at = put_field(at, SPAN("traceparent"), extras->traceparent);
    if (extras->tracestate.ptr != NULL)
        at = put_field(at, SPAN("tracestate"), extras->tracestate);
    if (extras->decodes)
        at = put_field(at, SPAN("Accept-Encoding"), SPAN("gzip"));
    if (extras->budget_field.ptr == NULL)
        return at;
    at = put_field(at, extras->budget_field, blank);
    *budget = at - BUDGET_DIGITS - 2;
    return at;
}

static size_t size_of_extras(const struct upstream_extras *extras)
{
    return extras->traceparent.len + extras->tracestate.len + extras->budget_field.len +
           BUDGET_DIGITS +
           SPAN("traceparent: \r\ntracestate: \r\nAccept-Encoding: gzip\r\n: \r\n").len;
}

struct upstream_request upstream_request_render(struct scope *scope, const struct upstream_url *url,
                                                const struct upstream_call *call,
                                                const struct upstream_extras *extras)
{
    struct span method = method_of(call);
    size_t size = size_of(url, call) + size_of_extras(extras);
    char *bytes, *at, *budget = NULL;

    if (size > scope_room(scope)) {
        scope_cancel(scope, SCOPE_MEMORY);
        return (struct upstream_request){{NULL, 0}, NULL};
    }
    bytes = at = scope_alloc(scope, size);
    at = put(at, method);
    at = put(at, SPAN(" "));
    at = put(at, url->prefix);
    at = put(at, call->path);
    at = put(at, SPAN(" HTTP/1.1\r\n"));
    at = put_field(at, SPAN("Host"), url->authority);
    for (uint32_t i = 0; i < call->field_count; i++)
        at = put_field(at, call->fields[i].name, call->fields[i].value);
    at = put_extras(at, extras, &budget);
    if ((call->flags & UPSTREAM_TRAILERS) != 0)
        at = put(at, SPAN("TE: trailers\r\nConnection: TE\r\n"));
    at = put_framing(at, method, call);
    at = put(at, SPAN("\r\n"));
    at = put(at, call->body);
    CHECK((size_t)(at - bytes) <= size);
    return (struct upstream_request){{bytes, (size_t)(at - bytes)}, budget};
}
