/* proxy - a reverse proxy, made of nothing but the plugin ABI: what comes below its mount goes to
 * an upstream, and the answer back, either body as it comes and no faster than the other side takes
 * it.
 *
 *     [plugin.api]
 *     path = proxy.so
 *     mount = /api
 *     upstream = backend        an [upstream.NAME]; required
 *     strip_mount = off         on: /api/x is asked for as /x
 *     odd_slashes = off         on: paths with // or with %2F or %5C go on, too. Filters of other
 *                               plugins don't take those for what the upstream may take them for,
 *                               so whoever relies on filters of paths below the mount leaves it off
 *     trust_forwarded = off     on: the X-Forwarded-... of who calls us are kept and added to, as
 *                               behind another proxy; else they are replaced
 *     forwarded_proto = http    what X-Forwarded-Proto says
 *     body_max = 0              bytes of a request's body; 0: the server's body_max, -1: no limit
 *     timeout = 0               milliseconds until an answer begins; 0: the server's
 *                               request_timeout
 *
 * Fields of one connection, and what we have to say of framing, do not go through (RFC 9110 section
 * 7.6.1); nor do names with an underscore, which CGI and its heirs take for others. Trailers go
 * through, announced or not, but for those that mean something before a body only: who takes what
 * comes behind it for a header must not be told another story there. An upstream that fails is a
 * 502, 503 or 504 with application/problem+json; once an answer has begun, it is broken off.
 */
#include "weft.h"
#include <strings.h>

/* Fields that we add to those of the client. */
enum { FIELDS_ADDED = 5 };

struct proxy {
    weft_upstream *upstream; /* who answers */
    weft_str proto;          /* of our clients, as far as the upstream is told */
    uint32_t strips;         /* the mount does not go on */
    uint32_t takes_odd;      /* slashes, of a path */
    uint32_t trusts;         /* X-Forwarded-... of a client */
};

/* A body on its way to the upstream. */
struct upload {
    weft_op *answer;     /* the stream */
    weft_status failure; /* of the client's side */
};

/* ---- fields ---- */

static int equals(weft_str a, const char *b)
{
    return a.len == strlen(b) && strncasecmp(a.ptr, b, a.len) == 0;
}

/* The next item of a list with commas, without blanks around it; absent behind the last. */
static weft_str next_item(weft_str *list)
{
    weft_str item = {NULL, 0};

    while (list->len > 0 && item.len == 0) {
        const char *comma = (const char *)memchr(list->ptr, ',', list->len);
        size_t len = comma != NULL ? (size_t)(comma - list->ptr) : list->len;
        size_t used = comma != NULL ? len + 1 : len;

        item.ptr = list->ptr;
        item.len = len;
        list->ptr += used;
        list->len -= used;
        while (item.len > 0 && (item.ptr[0] == ' ' || item.ptr[0] == '\t')) {
            item.ptr++;
            item.len--;
        }
        while (item.len > 0 && (item.ptr[item.len - 1] == ' ' || item.ptr[item.len - 1] == '\t'))
            item.len--;
    }
    if (item.len == 0)
        item.ptr = NULL;
    return item;
}

static int has_item(weft_str list, weft_str wanted)
{
    weft_str item;

    while ((item = next_item(&list)).ptr != NULL)
        if (item.len == wanted.len && strncasecmp(item.ptr, wanted.ptr, item.len) == 0)
            return 1;
    return 0;
}

/* Is it of one connection, or ours to say? `connection` is what the Connection field lists. */
static int is_hop_by_hop(weft_str name, weft_str connection)
{
    static const char *const names[] = {
        "Connection",
        "Content-Length",
        "Expect",
        "Host",
        "HTTP2-Settings",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (equals(name, names[i]))
            return 1;
    return memchr(name.ptr, '_', name.len) != NULL || has_item(connection, name);
}

/* All values of `name` that the client sent, with commas between them; absent. */
static weft_str joined(weft_ctx *ctx, const char *name)
{
    weft_str all = {NULL, 0};
    weft_field field;

    for (uint32_t i = 0; (field = weft_header_at(ctx, i)).name.ptr != NULL; i++) {
        if (!equals(field.name, name))
            continue;
        all = all.ptr == NULL ? field.value
                              : weft_fmt(ctx, "%.*s, %.*s", (int)all.len, all.ptr,
                                         (int)field.value.len, field.value.ptr);
    }
    return all;
}

static int is_forwarded(weft_str name)
{
    return equals(name, "Forwarded") || equals(name, "X-Forwarded-For") ||
           equals(name, "X-Forwarded-Host") || equals(name, "X-Forwarded-Proto");
}

static void put(weft_call *call, weft_field *fields, const char *name, weft_str value)
{
    if (value.ptr == NULL)
        return;
    fields[call->field_count].name = weft_cstr(name);
    fields[call->field_count++].value = value;
}

/* `added` behind what the client says of `name`, where that is trusted. */
static weft_str behind(weft_ctx *ctx, const struct proxy *proxy, const char *name, weft_str added)
{
    weft_str before = joined(ctx, name);

    if (!proxy->trusts || before.ptr == NULL)
        return added;
    if (added.ptr == NULL)
        return before;
    return weft_fmt(ctx, "%.*s, %.*s", (int)before.len, before.ptr, (int)added.len, added.ptr);
}

/* What another proxy has said of the client's own request, where that is trusted, or else ours. */
static weft_str first_of(weft_ctx *ctx, const struct proxy *proxy, const char *name, weft_str ours)
{
    weft_str theirs = weft_header(ctx, name);

    return proxy->trusts && theirs.ptr != NULL ? theirs : ours;
}

static void copy_fields(weft_ctx *ctx, const struct proxy *proxy, weft_call *call)
{
    weft_str connection = joined(ctx, "Connection");
    weft_field field, *fields;
    uint32_t count = 0;

    while (weft_header_at(ctx, count).name.ptr != NULL)
        count++;
    fields = (weft_field *)weft_alloc(ctx, (count + FIELDS_ADDED) * sizeof *fields);
    for (uint32_t i = 0; i < count; i++) {
        field = weft_header_at(ctx, i);
        if (!is_hop_by_hop(field.name, connection) && !is_forwarded(field.name))
            fields[call->field_count++] = field;
    }
    if (proxy->trusts)
        put(call, fields, "Forwarded", joined(ctx, "Forwarded"));
    put(call, fields, "X-Forwarded-For", behind(ctx, proxy, "X-Forwarded-For", weft_peer(ctx)));
    put(call, fields, "X-Forwarded-Host",
        first_of(ctx, proxy, "X-Forwarded-Host", weft_header(ctx, "Host")));
    put(call, fields, "X-Forwarded-Proto", first_of(ctx, proxy, "X-Forwarded-Proto", proxy->proto));
    put(call, fields, "Via", weft_cstr("1.1 weft"));
    call->fields = fields;
}

/* ---- the path ---- */

/* The length of the dot that `text` begins with, encoded or not; 0: none. */
static size_t dot_at(weft_str text)
{
    if (text.len >= 1 && text.ptr[0] == '.')
        return 1;
    if (text.len >= 3 && strncasecmp(text.ptr, "%2e", 3) == 0)
        return 3;
    return 0;
}

/* A segment of dots means one place to us, and may mean another one to the upstream. */
static int has_dot_segment(weft_str path)
{
    while (path.len > 0) {
        const char *slash = (const char *)memchr(path.ptr, '/', path.len);
        weft_str segment = {path.ptr, slash != NULL ? (size_t)(slash - path.ptr) : path.len};
        size_t used = segment.len + (slash != NULL), dots = 0, dot;

        while (dots < 3 && (dot = dot_at(segment)) > 0) {
            dots++;
            segment.ptr += dot;
            segment.len -= dot;
        }
        if (segment.len == 0 && (dots == 1 || dots == 2))
            return 1;
        path.ptr += used;
        path.len -= used;
    }
    return 0;
}

/* Slashes that mean no boundary, or an empty segment, to filters, and may mean another path to the
 * upstream. */
static int has_odd_slash(weft_str path)
{
    for (size_t i = 0; i + 1 < path.len; i++) {
        if (path.ptr[i] == '/' && path.ptr[i + 1] == '/')
            return 1;
        if (path.len - i >= 3 &&
            (strncasecmp(path.ptr + i, "%2f", 3) == 0 || strncasecmp(path.ptr + i, "%5c", 3) == 0))
            return 1;
    }
    return 0;
}

static weft_status make_path(weft_ctx *ctx, const struct proxy *proxy, weft_str *made)
{
    weft_str path = weft_path(ctx), query = weft_query_string(ctx), mount = weft_mount(ctx);

    if (has_dot_segment(path))
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "the path has a segment of dots");
    if (!proxy->takes_odd && has_odd_slash(path))
        return weft_explain(ctx, WEFT_E_BAD_REQUEST,
                            "the path has an empty segment, or an encoded slash");
    if (proxy->strips) {
        if (path.len < mount.len || memcmp(path.ptr, mount.ptr, mount.len) != 0)
            return weft_explain(ctx, WEFT_E_BAD_REQUEST, "%.*s is encoded in the path",
                                (int)mount.len, mount.ptr);
        path.ptr += mount.len;
        path.len -= mount.len;
    }
    *made =
        weft_fmt(ctx, "%s%.*s%s%.*s", path.len == 0 ? "/" : "", (int)path.len, path.ptr,
                 query.ptr != NULL ? "?" : "", (int)query.len, query.ptr != NULL ? query.ptr : "");
    return WEFT_OK;
}

/* ---- the request's body ---- */

/* Whether there is one, and of which length. */
static void announce_body(weft_ctx *ctx, weft_call *call)
{
    weft_str length = weft_header(ctx, "Content-Length");
    uint64_t size = 0;

    for (size_t i = 0; i < length.len; i++) /* the host has checked it */
        size = size * 10 + (uint64_t)(length.ptr[i] - '0');
    if (size > 0 || weft_header(ctx, "Transfer-Encoding").ptr != NULL)
        call->flags |= WEFT_CALL_UPLOAD;
    call->length = size;
}

/* May it stand behind a body? What says how to read that, where it goes, who sends it or for whom,
 * may not (RFC 9110 section 6.5.1); nor may what we say ourselves. */
static int may_trail(weft_str name)
{
    static const char *const barred[] = {
        "Age",           "Authorization", "Cache-Control", "Content-Encoding",
        "Content-Range", "Content-Type",  "Cookie",        "Date",
        "Expires",       "If-Match",      "If-None-Match", "If-Modified-Since",
        "If-Range",      "Location",      "Max-Forwards",  "If-Unmodified-Since",
        "Pragma",        "Range",         "Retry-After",   "Server",
        "Set-Cookie",    "Vary",          "Via",           "WWW-Authenticate",
        "X-Real-IP",
    };

    for (size_t i = 0; i < sizeof barred / sizeof barred[0]; i++)
        if (equals(name, barred[i]))
            return 0;
    return !is_forwarded(name) && !is_hop_by_hop(name, weft_cstr(""));
}

/* Ends the body, with what the client has sent behind it. */
static weft_status end_body(weft_ctx *ctx, const struct upload *upload)
{
    weft_field field, *trailers;
    uint32_t count = 0, kept = 0;

    while (weft_trailer_at(ctx, count).name.ptr != NULL)
        count++;
    trailers = (weft_field *)weft_alloc(ctx, (count + 1) * sizeof *trailers);
    for (uint32_t i = 0; i < count; i++) {
        field = weft_trailer_at(ctx, i);
        if (may_trail(field.name))
            trailers[kept++] = field;
    }
    return weft_call_write_end_with(upload->answer, kept, trailers);
}

/* Runs beside who waits for the answer, which may come before the body's end. */
static weft_status send_body(weft_ctx *ctx, void *data)
{
    struct upload *upload = (struct upload *)data;
    weft_status status = WEFT_OK;

    while (status == WEFT_OK && weft_call_wants(upload->answer)) {
        weft_op *pulled = weft_body_read(ctx);

        status = weft_await(pulled);
        if (status == WEFT_OK && weft_piece(pulled).ptr == NULL)
            return end_body(ctx, upload);
        if (status != WEFT_OK)
            break;
        if (weft_await(weft_call_write(upload->answer, weft_piece(pulled))) != WEFT_OK)
            return WEFT_OK; /* who waits for the answer is told, too */
    }
    if (status == WEFT_OK)
        return WEFT_OK;
    upload->failure = status;
    weft_op_cancel(upload->answer);        /* before the answer's head */
    (void)weft_op_release(upload->answer); /* behind it */
    return WEFT_OK;
}

/* ---- the answer ---- */

/* -1: not known. */
static int64_t length_of(weft_op *answer)
{
    weft_str text = weft_call_header(answer, "Content-Length");
    int64_t length = 0;

    if (text.ptr == NULL || text.len > 18)
        return -1;
    for (size_t i = 0; i < text.len; i++)
        length = length * 10 + (text.ptr[i] - '0');
    return length;
}

/* Does one of the answer's Connection fields list it? */
static int is_of_connection(weft_op *answer, weft_str name)
{
    weft_field field;

    for (uint32_t i = 0; (field = weft_call_header_at(answer, i)).name.ptr != NULL; i++) {
        if (equals(field.name, "Connection") && has_item(field.value, name))
            return 1;
    }
    return 0;
}

static weft_status copy_answer_fields(weft_ctx *ctx, weft_op *answer)
{
    weft_field field;

    for (uint32_t i = 0; (field = weft_call_header_at(answer, i)).name.ptr != NULL; i++) {
        if (is_hop_by_hop(field.name, weft_cstr("")) || is_of_connection(answer, field.name) ||
            equals(field.name, "Content-Type") || equals(field.name, "Date") ||
            equals(field.name, "Server"))
            continue;
        WEFT_TRY(weft_set_header(ctx, field.name.ptr, field.value));
    }
    return weft_set_header(ctx, "Via", weft_cstr("1.1 weft"));
}

static weft_status copy_trailers(weft_ctx *ctx, weft_op *answer)
{
    weft_field field;

    for (uint32_t i = 0; (field = weft_call_trailer_at(answer, i)).name.ptr != NULL; i++)
        if (may_trail(field.name) && !is_of_connection(answer, field.name))
            WEFT_TRY(weft_set_trailer(ctx, field.name.ptr, field.value));
    return WEFT_OK;
}

static weft_status send_answer(weft_ctx *ctx, weft_op *answer)
{
    const char *type = weft_call_header(answer, "Content-Type").ptr;
    int64_t length = length_of(answer);
    weft_reply_options options;

    WEFT_TRY(copy_answer_fields(ctx, answer));
    if (length == 0)
        return weft_reply(ctx, weft_call_code(answer), type, weft_cstr(""));
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.length = length > 0 ? (uint64_t)length : 0;
    WEFT_TRY(weft_reply_begin_with(ctx, weft_call_code(answer), type, &options));
    WEFT_TRY(weft_call_download(ctx, answer));
    WEFT_TRY(copy_trailers(ctx, answer));
    return weft_reply_end(ctx);
}

/* ---- all of it ---- */

static weft_status pass(weft_ctx *ctx, void *self)
{
    const struct proxy *proxy = (const struct proxy *)self;
    struct upload *upload = (struct upload *)weft_alloc(ctx, sizeof *upload);
    weft_status status;
    weft_call call;

    memset(&call, 0, sizeof call);
    call.size = sizeof call;
    call.method = weft_dup(ctx, weft_method(ctx)).ptr;
    WEFT_TRY(make_path(ctx, proxy, &call.path));
    copy_fields(ctx, proxy, &call);
    announce_body(ctx, &call);
    if (has_item(joined(ctx, "TE"), weft_cstr("trailers")))
        call.flags |= WEFT_CALL_TRAILERS;
    upload->answer = weft_call_stream(ctx, proxy->upstream, &call);
    if ((call.flags & WEFT_CALL_UPLOAD) != 0)
        (void)weft_spawn(ctx, send_body, upload);
    status = weft_await(upload->answer);
    if (status == WEFT_OK)
        status = send_answer(ctx, upload->answer);
    return upload->failure != WEFT_OK ? upload->failure : status;
}

static weft_status add_routes(weft_host *host, struct proxy *proxy,
                              const weft_route_options *options)
{
    static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        WEFT_TRY(weft_route_with(host, methods[i], "/*rest", pass, proxy, options));
        WEFT_TRY(weft_route_with(host, methods[i], "", pass, proxy, options));
    }
    return WEFT_OK;
}

static weft_status init(weft_host *host, void **self)
{
    static struct proxy proxy;
    weft_route_options options;
    int64_t body_max, timeout_ms;
    weft_str name;

    *self = &proxy;
    WEFT_TRY(weft_setting(host, "upstream", NULL, &name));
    WEFT_TRY(weft_find_upstream(host, name.ptr, &proxy.upstream));
    WEFT_TRY(weft_setting_bool(host, "strip_mount", 0, &proxy.strips));
    WEFT_TRY(weft_setting_bool(host, "odd_slashes", 0, &proxy.takes_odd));
    WEFT_TRY(weft_setting_bool(host, "trust_forwarded", 0, &proxy.trusts));
    WEFT_TRY(weft_setting(host, "forwarded_proto", "http", &proxy.proto));
    WEFT_TRY(weft_setting_int(host, "body_max", -1, UINT32_MAX - 1, 0, &body_max));
    WEFT_TRY(weft_setting_int(host, "timeout", 0, 86400000, 0, &timeout_ms));
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.flags = WEFT_ROUTE_STREAM;
    options.timeout_ms = (uint32_t)timeout_ms;
    options.body_bytes_max = body_max < 0 ? UINT32_MAX : (uint32_t)body_max;
    return add_routes(host, &proxy, &options);
}

WEFT_PLUGIN("proxy", "1.0", init, NULL, NULL);
