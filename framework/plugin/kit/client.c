/* client.c - the clients that a test plays: each request has a connection of its own. */
#include "base/check.h"
#include "base/mem.h"
#include "http/server.h"
#include "kit.h"
#include "net/addr.h"
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIECE = 65536, PATIENCE_MS = 10 * 60 * 1000 };

struct weft_test_request {
    struct list link;                /* among the test's */
    weft_test *t;                    /* whose */
    const char *what;                /* "GET /books/1" */
    uint16_t port;                   /* that it comes from */
    int fd;                          /* the client's end; -1: closed */
    struct buf out;                  /* not sent yet */
    struct buf in;                   /* not parsed yet */
    struct http_parser parser;       /* of the answer */
    uint32_t code;                   /* of the answer; 0: no head yet */
    struct http_fields fields;       /* of the answer */
    struct buf body;                 /* of the answer */
    bool is_complete;                /* the answer */
    bool has_left;                   /* the client */
    const weft_test_step *left_open; /* the begin of a transaction that was; NULL: none */
};

/* The answer */

static void take_head(weft_test_request *request, const struct http_head *head)
{
    struct arena *arena = &request->t->arena;
    struct http_field *fields = arena_alloc(arena, head->fields.count * sizeof *fields);

    for (uint32_t i = 0; i < head->fields.count; i++) {
        fields[i].name = arena_copy(arena, head->fields.at[i].name);
        fields[i].value = arena_copy(arena, head->fields.at[i].value);
    }
    request->code = head->code;
    request->fields = (struct http_fields){fields, head->fields.count};
}

/* False: nothing more will come that is of use. */
static bool take(weft_test_request *request, enum http_event event, struct span body)
{
    const struct http_head *head = request->t->head;

    switch (event) {
    case HTTP_EVENT_MORE:
        return true;
    case HTTP_EVENT_HEAD:
        if (head->code >= 200)
            take_head(request, head);
        return true;
    case HTTP_EVENT_BODY:
        buf_append(&request->body, body);
        return true;
    case HTTP_EVENT_END:
        request->is_complete = request->code != 0;
        return true;
    case HTTP_EVENT_REFUSED:
        kit_fail(request->t, NULL, 0, "%s: the answer is no HTTP", request->what);
        return false;
    }
    return false;
}

static void parse(weft_test_request *request)
{
    struct span body = {NULL, 0};
    enum http_event event;

    do {
        event = http_parser_next(&request->parser, &request->in, &body);
        if (!take(request, event, body))
            return;
    } while (event != HTTP_EVENT_MORE);
}

static void look_at_left_open(const weft_test_request *request)
{
    if (request->left_open == NULL || request->code == 0 || request->code >= 400)
        return;
    kit_fail(request->t, request->left_open->file, request->left_open->line,
             "%s: answered %u, and its transaction was neither committed nor rolled back",
             request->what, request->code);
}

void kit_client_left_open(weft_test_request *request, const weft_test_step *begin)
{
    request->left_open = begin;
    if (request->fd < 0)
        look_at_left_open(request);
}

static void close_connection(weft_test_request *request)
{
    if (request->fd < 0)
        return;
    (void)close(request->fd);
    request->fd = -1;
    look_at_left_open(request);
}

/* Sending and receiving */

static bool send_some(weft_test_request *request)
{
    ssize_t len;

    if (request->out.len == 0)
        return false;
    len = send(request->fd, request->out.data, request->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (len > 0)
        buf_consume(&request->out, (size_t)len);
    else if (errno != EAGAIN)
        buf_consume(&request->out, request->out.len); /* nobody reads it any more */
    return len > 0;
}

static bool receive_some(weft_test_request *request)
{
    ssize_t len = recv(request->fd, buf_reserve(&request->in, PIECE), PIECE, MSG_DONTWAIT);

    if (len < 0 && errno == EAGAIN)
        return false;
    if (len > 0) {
        buf_commit(&request->in, (size_t)len);
        parse(request);
        return true;
    }
    if (!request->is_complete && request->code != 0)
        request->is_complete = http_parser_finish(&request->parser) == HTTP_EVENT_END;
    close_connection(request);
    return true;
}

bool kit_clients_run(weft_test *t)
{
    bool has_worked = false;

    LIST_EACH (&t->requests, link) {
        weft_test_request *request = CONTAINER_OF(link, weft_test_request, link);

        has_worked |= request->fd >= 0 && send_some(request);
        has_worked |= request->fd >= 0 && receive_some(request);
    }
    return has_worked;
}

static void free_buffers(weft_test_request *request)
{
    buf_release(&request->out);
    buf_release(&request->in);
    buf_release(&request->body);
}

void kit_clients_close(weft_test *t)
{
    LIST_EACH (&t->requests, link) {
        close_connection(CONTAINER_OF(link, weft_test_request, link));
        free_buffers(CONTAINER_OF(link, weft_test_request, link));
    }
}

weft_test_request *kit_client_of(weft_test *t, uint16_t port)
{
    LIST_EACH (&t->requests, link) {
        weft_test_request *request = CONTAINER_OF(link, weft_test_request, link);

        if (request->port == port)
            return request;
    }
    return NULL;
}

bool kit_client_is_over(const weft_test_request *request)
{
    return request->fd < 0;
}

/* What a test does */

static void write_request(weft_test_request *request, const char *fields, struct span body,
                          bool has_body)
{
    struct buf *out = &request->out;

    buf_format(out, "%s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n", request->what);
    while (fields != NULL && *fields != '\0') {
        size_t len = strcspn(fields, "\n");

        buf_format(out, "%.*s\r\n", (int)len, fields);
        fields += len + (fields[len] != '\0');
    }
    if (has_body)
        buf_format(out, "Content-Length: %zu\r\n", body.len);
    buf_append(out, SPAN("\r\n"));
    if (body.len > 0)
        buf_append(out, body);
}

static weft_test_request *send_request(weft_test *t, const char *method, const char *target,
                                       const char *fields, struct span body)
{
    weft_test_request *request = arena_alloc(&t->arena, sizeof *request);
    struct addr peer = {0};
    int fds[2];

    request->t = t;
    request->what = arena_format(&t->arena, "%s %s", method, target).ptr;
    request->port = ++t->requests_count;
    request->fd = -1;
    list_append(&t->requests, &request->link);
    if (t->http == NULL) {
        kit_fail(t, NULL, 0, "%s: there is no plugin to answer it", request->what);
        return request;
    }
    http_parser_init(&request->parser, HTTP_PARSE_ANSWERS, t->head, &t->limits);
    http_parser_answers_head(&request->parser, strcmp(method, "HEAD") == 0);
    write_request(request, fields, body, body.ptr != NULL);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    CHECK(addr_from_ip(SPAN("127.0.0.1"), request->port, &peer));
    request->fd = fds[1];
    http_server_accept(t->http, fds[0], &peer);
    kit_settle(t);
    return request;
}

weft_test_request *weft_test_send(weft_test *t, const char *method, const char *target,
                                  const char *fields, weft_str body)
{
    weft_test_request *request =
        send_request(t, method, target, fields, (struct span){body.ptr, body.len});

    kit_tell(t);
    return request;
}

static bool is_over(weft_test *t, void *data)
{
    (void)t;
    return kit_client_is_over(data);
}

void kit_client_wait(weft_test_request *request)
{
    weft_test *t = request->t;

    if (t->http == NULL || kit_run_until(t, is_over, request, PATIENCE_MS))
        return;
    if (!request->is_complete)
        kit_fail(t, NULL, 0, "%s: %s", request->what,
                 kit_is_stuck(t) ? "goes on ten seconds after it was canceled"
                                 : "no answer within ten minutes");
    close_connection(request);
    kit_settle(t);
}

void weft_test_wait(weft_test_request *request)
{
    kit_client_wait(request);
    kit_tell(request->t);
}

weft_test_request *weft_test_ask(weft_test *t, const char *method, const char *target,
                                 const char *fields, const char *body)
{
    weft_test_request *request = send_request(t, method, target, fields, span_of(body));

    kit_client_wait(request);
    kit_tell(t);
    return request;
}

void kit_client_leave(weft_test_request *request)
{
    request->has_left = true;
    close_connection(request);
}

void kit_client_check(const weft_test_request *request)
{
    if (!request->has_left && !request->is_complete)
        kit_fail(request->t, NULL, 0, "%s: %s", request->what,
                 request->code == 0 ? "was not answered" : "its answer was broken off");
}

void weft_test_leave(weft_test_request *request)
{
    kit_client_leave(request);
    if (request->t->http != NULL)
        kit_settle(request->t);
    kit_tell(request->t);
}

uint32_t weft_test_code(const weft_test_request *request)
{
    return request->code;
}

const char *weft_test_field(const weft_test_request *request, const char *name)
{
    return http_field_get(&request->fields, span_of(name)).ptr;
}

weft_str weft_test_body(const weft_test_request *request)
{
    struct buf *body = &((weft_test_request *)request)->body;

    *buf_reserve(body, 1) = '\0';
    return (weft_str){body->data, body->len};
}

int weft_test_is_complete(const weft_test_request *request)
{
    return request->is_complete;
}

int weft_test_is_at(weft_test_request *request, const char *file, int line, uint32_t code,
                    const char *body)
{
    weft_test *t = request->t;
    weft_str came = weft_test_body(request);
    bool is_right = request->code == code && (body == NULL || strcmp(came.ptr, body) == 0);

    if (t->is_swept)
        return is_right;
    if (!is_right && body != NULL)
        kit_fail(t, file, line, "%s: answered %u %s, expected %u %s", request->what, request->code,
                 came.ptr, code, body);
    else if (!is_right)
        kit_fail(t, file, line, "%s: answered %u %s, expected %u", request->what, request->code,
                 came.ptr, code);
    kit_tell(t);
    return is_right;
}
