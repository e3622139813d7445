/* lib/http_world.c - an HTTP server in the test's process, with clients on socket pairs. */
#include "lib/http_world.h"
#include "base/check.h"
#include "http/body.h"
#include "lib/test.h"
#include "observe/access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- routes ---- */

static void reply(struct http_request *request, struct span body)
{
    assert_int_equal(http_reply(request, 200, SPAN("text/plain"), body), ERR_OK);
}

static void note(void *data)
{
    struct http_world *http = data;

    http->started++;
}

static void serve_hello(struct http_request *request, void *data)
{
    note(data);
    reply(request, SPAN("hello"));
}

static void serve_empty(struct http_request *request, void *data)
{
    note(data);
    assert_int_equal(http_reply(request, 204, (struct span){NULL, 0}, SPAN("")), ERR_OK);
}

static void serve_param(struct http_request *request, void *data)
{
    note(data);
    reply(request, http_request_param(request, SPAN("id")));
}

static void serve_rest(struct http_request *request, void *data)
{
    struct span x = http_request_param(request, SPAN("x"));
    struct span rest = http_request_param(request, SPAN("rest"));

    note(data);
    assert_int_equal(x.ptr[x.len], 0);
    assert_int_equal(rest.ptr[rest.len], 0);
    reply(request, arena_format(&request->scope->arena, "%s|%s", x.ptr, rest.ptr));
}

static void serve_query(struct http_request *request, void *data)
{
    struct span value = http_request_query(request, SPAN("name"));

    note(data);
    reply(request, value.ptr != NULL ? value : SPAN("absent"));
}

static void serve_host(struct http_request *request, void *data)
{
    note(data);
    reply(request, request->host.len > 0 ? request->host : SPAN("none"));
}

static void serve_type(struct http_request *request, void *data)
{
    note(data);
    assert_int_equal(http_reply_field(request, SPAN("X-A"), SPAN("b")), ERR_OK);
    assert_int_equal(http_reply(request, 200, SPAN("application/json"), SPAN("{}")), ERR_OK);
}

static void serve_chunked(struct http_request *request, void *data)
{
    note(data);
    assert_int_equal(http_reply_begin(request, 200, SPAN("text/plain"), -1), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("ab")), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("")), ERR_OK);
    assert_int_equal(http_reply_write(request, SPAN("cd")), ERR_OK);
    assert_int_equal(http_reply_end(request), ERR_OK);
}

static void serve_echo(struct http_request *request, void *data)
{
    struct span body = http_request_body(request);

    note(data);
    assert_int_equal(body.ptr[body.len], 0);
    assert_int_equal(body.len, request->body_bytes);
    reply(request, body);
}

static void serve_later(struct http_request *request, void *data)
{
    struct http_world *http = data;

    note(data);
    assert_true(http->waiting_count < HTTP_WORLD_WAITING_MAX);
    http->waiting[http->waiting_count++] = request;
}

static void pull(struct http_request *request);

static void on_pulled(struct op *op, void *data)
{
    struct http_request *request = data;
    size_t *total = request->user;

    if (op->status != ERR_OK) {
        enum err err = http_problem(request, op->status == ERR_BODY_TOO_BIG ? 413 : 400,
                                    span_of(err_name(op->status)));

        assert_true(err == ERR_OK || err == ERR_CLOSED);
        return;
    }
    *total += op->piece.len;
    if (op->piece.len > 0)
        pull(request);
    else
        reply(request, arena_format(&request->scope->arena, "%zu", *total));
}

static void pull(struct http_request *request)
{
    struct op *op = http_body_read(request->scope, 3);

    assert_int_equal(op_notify(op, on_pulled, request), ERR_OK);
}

static void serve_stream(struct http_request *request, void *data)
{
    note(data);
    request->user = arena_alloc(&request->scope->arena, sizeof(size_t));
    pull(request);
}

struct http_route *http_world_route(struct http_world *http, const char *method,
                                    const char *pattern, http_handler_fn *fn, uint32_t flags)
{
    struct http_route route = {.fn = fn, .data = http, .owner = "test", .flags = flags};
    struct http_route *added;

    route.method = (char *)(uintptr_t)method;
    route.pattern = (char *)(uintptr_t)pattern;
    assert_int_equal(router_add(http->router, &route, &added, NULL), ERR_OK);
    return added;
}

static void add_routes(struct http_world *http)
{
    http_world_route(http, "GET", "/hello", serve_hello, 0);
    http_world_route(http, "GET", "/empty", serve_empty, 0);
    http_world_route(http, "GET", "/p/:id", serve_param, 0);
    http_world_route(http, "GET", "/r/:x/*rest", serve_rest, 0);
    http_world_route(http, "GET", "/q", serve_query, 0);
    http_world_route(http, "GET", "/host", serve_host, 0);
    http_world_route(http, "GET", "/type", serve_type, 0);
    http_world_route(http, "GET", "/chunked", serve_chunked, 0);
    http_world_route(http, "POST", "/echo", serve_echo, 0);
    http_world_route(http, "PUT", "/echo", serve_echo, 0);
    http_world_route(http, "POST", "/small", serve_echo, 0)->body_bytes_max = 4;
    http_world_route(http, "GET", "/wait/:n", serve_later, 0);
    http_world_route(http, "POST", "/wait/:n", serve_later, 0);
    http_world_route(http, "GET", "/finish/:n", serve_later, HTTP_ROUTE_FINISH);
    http_world_route(http, "POST", "/stream", serve_stream, HTTP_ROUTE_STREAM_BODY);
}

/* ---- life ---- */

static void on_room(void *data)
{
    struct http_world *http = data;

    http->rooms++;
}

void http_world_init(struct http_world *http)
{
    memset(http, 0, sizeof(*http));
    world_init(&http->world, NULL, NULL);
    http->router = router_create();
    add_routes(http);
    field_defaults(&http_option_table, &http->options);
    temp_dir_init(&http->dir);
    assert_int_equal(access_open(temp_dir_path(&http->dir, "access"), false, &http->access),
                     ERR_OK);
}

void http_world_start(struct http_world *http)
{
    struct http_server_setup setup = {.tasks = http->world.tasks,
                                      .options = &http->options,
                                      .router = http->router,
                                      .access = http->access,
                                      .id_base = 1000,
                                      .on_room = on_room,
                                      .data = http};

    http->server = http_server_create(&setup);
}

void http_world_deinit(struct http_world *http)
{
    (void)http_server_abort(http->server);
    http_world_settle(http);
    assert_int_equal(http_server_counts(http->server)->requests_open, 0);
    http_server_destroy(http->server);
    field_clear(&http_option_table, &http->options);
    world_deinit(&http->world);
    access_close(http->access);
    router_destroy(http->router);
    temp_dir_deinit(&http->dir);
}

/* ---- clients ---- */

int http_world_connect(struct http_world *http)
{
    struct addr peer;
    int fds[2];

    assert_true(addr_parse(SPAN("10.1.2.3:45"), &peer));
    pair_unix(fds);
    http_server_accept(http->server, fds[0], &peer);
    return fds[1];
}

void http_world_settle(struct http_world *http)
{
    run_turns(http->world.loop, 4);
}

void http_world_send(struct http_world *http, int fd, struct span bytes)
{
    while (bytes.len > 0) {
        ssize_t sent = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            http_world_settle(http);
            continue;
        }
        if (sent < 0)
            break; /* the server has closed: what it said is still there to be read */
        bytes.ptr += sent;
        bytes.len -= (size_t)sent;
    }
    http_world_settle(http);
}

/* Reads what there is; -1 behind it is a reset. */
static size_t receive(struct http_world *http, int fd, bool *is_end)
{
    size_t len = 0;
    ssize_t got;

    *is_end = false;
    while (len < HTTP_TEXT_SIZE - 1) {
        got = recv(fd, http->text + len, HTTP_TEXT_SIZE - 1 - len, MSG_DONTWAIT);
        if (got < 0) {
            assert_int_equal(errno, EAGAIN); /* a reset could cost the client its last answer */
            break;
        }
        *is_end = got == 0;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    http->text[len] = '\0';
    return len;
}

const char *http_world_read(struct http_world *http, int fd)
{
    bool is_end;

    (void)receive(http, fd, &is_end);
    return http->text;
}

const char *http_world_answers(struct http_world *http, int fd, uint32_t heads)
{
    static char trace[HTTP_TEXT_SIZE];
    bool is_end;
    size_t len = receive(http, fd, &is_end);

    http_trace(http->text, len, is_end, heads, trace, sizeof(trace));
    return trace;
}

void http_world_answer(struct http_world *http, uint32_t index)
{
    struct http_request *request = http->waiting[index];
    enum err err;

    assert_non_null(request);
    http->waiting[index] = NULL;
    err = http_reply(request, 200, SPAN("text/plain"), http_request_param(request, SPAN("n")));
    assert_true(err == ERR_OK || err == ERR_CLOSED);
    http_world_settle(http);
}

const char *http_world_log(struct http_world *http)
{
    int fd;
    ssize_t got;

    access_flush(http->access);
    fd = open(temp_dir_path(&http->dir, "access"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    got = read(fd, http->text, HTTP_TEXT_SIZE - 1);
    assert_true(got >= 0);
    http->text[got] = '\0';
    close(fd);
    return http->text;
}

/* ---- answers, read by a parser that shares nothing with the server's ---- */

struct answer {
    const char *head;     /* its first byte */
    const char *head_end; /* behind the empty line */
    int code;             /* of the status line */
};

/* The value of a field, up to its end of line; NULL. */
static const char *field(const struct answer *answer, const char *name)
{
    size_t size = strlen(name);

    for (const char *line = strstr(answer->head, "\r\n") + 2; line < answer->head_end - 2;
         line = strstr(line, "\r\n") + 2) {
        if (strncasecmp(line, name, size) == 0 && line[size] == ':')
            return line + size + 2;
    }
    return NULL;
}

/* Is what every answer must have there? */
static bool is_complete_head(const struct answer *answer)
{
    const char *date = field(answer, "Date");
    const char *server = field(answer, "Server");

    return date != NULL && strstr(date, " GMT\r\n") == date + 25 && server != NULL &&
           strncmp(server, "weft\r\n", 6) == 0;
}

struct output {
    char *at;  /* where the next byte goes */
    char *end; /* room for a NUL behind */
};

static void put(struct output *out, const char *text, size_t len)
{
    assert_true(len < (size_t)(out->end - out->at));
    memcpy(out->at, text, len);
    out->at += len;
    *out->at = '\0';
}

/* The data of chunks; where they end, or NULL. */
static const char *put_chunks(struct output *out, const char *at)
{
    for (;;) {
        char *digits_end;
        unsigned long size = strtoul(at, &digits_end, 16);

        if (digits_end == at || strncmp(digits_end, "\r\n", 2) != 0)
            return NULL;
        at = digits_end + 2;
        if (size == 0)
            return strncmp(at, "\r\n", 2) == 0 ? at + 2 : NULL;
        if (strlen(at) < size + 2 || strncmp(at + size, "\r\n", 2) != 0)
            return NULL;
        put(out, at, size);
        at += size + 2;
    }
}

/* The body, in parentheses but for a problem's; where it ends, or NULL. */
static const char *put_body(struct output *out, const struct answer *answer, bool is_end)
{
    const char *length = field(answer, "Content-Length");
    const char *coding = field(answer, "Transfer-Encoding");
    const char *type = field(answer, "Content-Type");
    bool is_problem = type != NULL && strncmp(type, "application/problem+json\r\n", 26) == 0;
    const char *at = answer->head_end;
    char *start = out->at;

    put(out, "(", 1);
    if (coding != NULL) {
        at = put_chunks(out, at);
    } else if (length != NULL) {
        size_t size = strtoul(length, NULL, 10);

        if (strlen(at) < size)
            return NULL;
        put(out, at, size);
        at += size;
    } else if (is_end) {
        put(out, at, strlen(at));
        at += strlen(at);
    } else {
        return NULL;
    }
    put(out, ")", 1);
    if (is_problem && strncmp(start, "({\"type\":\"about:blank\",\"title\":\"", 31) == 0)
        out->at = start;
    *out->at = '\0';
    return at;
}

/* One answer; where it ends, or NULL. */
static const char *put_answer(struct output *out, const char *at, bool is_end, bool is_head)
{
    struct answer answer = {.head = at};
    const char *connection;
    char code[16];

    answer.head_end = strstr(at, "\r\n\r\n");
    if (answer.head_end == NULL || sscanf(at, "HTTP/1.1 %3d ", &answer.code) != 1)
        return NULL;
    answer.head_end += 4;
    if (answer.code == 100)
        return answer.head_end;
    if (!is_complete_head(&answer))
        return NULL;
    snprintf(code, sizeof(code), "%d", answer.code);
    put(out, code, strlen(code));
    connection = field(&answer, "Connection");
    if (connection != NULL)
        put(out, strncmp(connection, "close\r\n", 7) == 0 ? "x" : "k", 1);
    if (answer.code == 204 || answer.code == 304)
        return field(&answer, "Content-Length") == NULL ? answer.head_end : NULL;
    if (is_head)
        return answer.head_end;
    return put_body(out, &answer, is_end);
}

void http_trace(const char *text, size_t len, bool is_end, uint32_t heads, char *trace, size_t size)
{
    struct output out = {trace, trace + size};
    const char *at = text, *end = text + len;

    *trace = '\0';
    for (uint32_t index = 0; at < end;) {
        char *start = out.at;
        const char *next = put_answer(&out, at, is_end, (heads >> index & 1) != 0);

        if (next == NULL) {
            put(&out, "?", 1);
            break;
        }
        index += out.at > start;
        at = next;
    }
    if (is_end)
        put(&out, "$", 1);
}
