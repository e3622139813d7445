/* calls.c - the upstreams' side of calls: an HTTP server of the host's own kind, which answers by
 * steps. Which upstream a call is for is told by the port that it comes from. */
#include "base/check.h"
#include "http/inside.h"
#include "http/response.h"
#include "http/router.h"
#include "http/server.h"
#include "kit.h"
#include "net/addr.h"
#include "task/op.h"
#include "task/tasks.h"
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NEVER_MS = INT32_MAX };

static const struct kit_peer *peer_of(const struct http_request *request)
{
    const struct kit_peer *peer = kit_here->peers;

    while (peer != NULL && peer->number != addr_port(request->peer))
        peer = peer->next;
    CHECK(peer != NULL);
    return peer;
}

/* Bytes past the server, which has sent nothing on this connection. */
static void send_raw(const struct http_request *request, const char *text)
{
    (void)!send(request->conn->stream.fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void hang_up(const struct http_request *request)
{
    (void)shutdown(request->conn->stream.fd, SHUT_RDWR);
}

static void answer(struct http_request *request, const weft_test_step *step)
{
    enum err err = ERR_OK;

    for (uint32_t i = 0; i < step->field_count && err == ERR_OK; i++)
        err = http_reply_field(request, step->fields[i].name, step->fields[i].value);
    if (err != ERR_OK)
        kit_fail(step->t, step->file, step->line, "a field that no server can send");
    err = http_reply(request, step->code, span_of(step->type),
                     step->body != NULL ? span_of(step->body) : SPAN(""));
    CHECK(err == ERR_OK || err == ERR_CLOSED);
}

static void announce(const struct http_request *request, unsigned long long size)
{
    char head[128];

    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %llu\r\n\r\nhalf of it", size);
    send_raw(request, head);
}

static void finish(struct http_request *request, const weft_test_step *step)
{
    switch (step->fault) {
    case WEFT_TEST_LOST:
        hang_up(request);
        return;
    case WEFT_TEST_CUT:
        announce(request, 1000);
        hang_up(request);
        return;
    case WEFT_TEST_TOO_BIG:
        announce(request, peer_of(request)->upstream_options.body_bytes_max + 1);
        return;
    case WEFT_TEST_GARBAGE:
        send_raw(request, "220 not a web server\r\n\r\n");
        return;
    default:
        answer(request, step);
    }
}

static void on_time(struct op *op, void *data)
{
    struct http_request *request = op->scope->owner;

    if (op->status == ERR_OK && request->conn != NULL)
        finish(request, data);
}

static void hold(struct http_request *request, uint32_t ms, const weft_test_step *step)
{
    struct op *op = op_sleep(request->scope, ms);
    enum err err = op_notify(op, on_time, (void *)step);

    CHECK(err == ERR_OK);
}

/* Its path as the plugin wrote it. */
static struct span path_of(const struct http_request *request)
{
    size_t prefix = peer_of(request)->url.prefix.len;

    return (struct span){request->target.ptr + prefix, request->target.len - prefix};
}

static void serve(struct http_request *request, void *data)
{
    const struct kit_call call = {.upstream = peer_of(request)->name,
                                  .method = request->method,
                                  .path = path_of(request),
                                  .body = http_request_body(request),
                                  .fields = &request->fields};
    weft_test *t = data;
    const struct kit_start *start = kit_start_of_call(t, &call);
    const weft_test_step *step =
        kit_take_call(t, &call, start != NULL ? start->where : "the plugin");
    bool is_mute;

    if (step == NULL) {
        enum err err = http_problem(request, 500, SPAN("weft_test: no step answers this call"));

        CHECK(err == ERR_OK || err == ERR_CLOSED);
        return;
    }
    is_mute = step->fault == WEFT_TEST_NEVER || step->fault == WEFT_TEST_TIMEOUT;
    /* Also what breaks off is held: the server must not think that nobody will answer. */
    hold(request, is_mute ? NEVER_MS : step->after_ms, step);
    if (step->fault != WEFT_TEST_FINE && !is_mute)
        hold(request, NEVER_MS, step);
}

const struct kit_peer *kit_calls_peer(const weft_test *t, struct span host, uint16_t port)
{
    const struct kit_peer *peer = t->peers;

    while (peer != NULL &&
           (peer->upstream == NULL || peer->url.port != port || !span_equal(peer->url.host, host)))
        peer = peer->next;
    return peer;
}

void kit_calls_address(const struct kit_peer *peer, struct addr *addr)
{
    CHECK(addr_from_ip(SPAN("127.119.101.1"), peer->number, addr));
}

/* Its address, whether it has a name or not. */
static bool is_at(const struct kit_peer *peer, const struct addr *addr)
{
    struct addr own;

    if (peer->upstream == NULL)
        return false;
    if (!addr_from_ip(peer->url.host, peer->url.port, &own) && !addr_parse(peer->url.host, &own))
        kit_calls_address(peer, &own);
    return addr_equal(&own, addr);
}

int kit_calls_connect(weft_test *t, const struct addr *to)
{
    const struct kit_peer *peer = t->peers;
    struct addr addr = {0};
    int fds[2];

    while (peer != NULL && !is_at(peer, to))
        peer = peer->next;
    if (peer == NULL)
        return -1;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
    kit_calls_address(peer, &addr);
    http_server_accept(t->peer_http, fds[0], &addr);
    return fds[1];
}

void kit_calls_init(weft_test *t)
{
    static const char *const methods[] = {"GET",   "POST",    "PUT",   "DELETE",
                                          "PATCH", "OPTIONS", "TRACE", "HEAD"};

    field_defaults(&http_option_table, &t->peer_options);
    t->peer_options.request_timeout_ms = NEVER_MS;
    t->peer_tasks = tasks_create(t->loop, NULL, NULL);
    t->peer_router = router_create();
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        struct http_route route = {
            .method = (char *)methods[i], .pattern = (char *)"/*rest", .fn = serve, .data = t};

        (void)!router_add(t->peer_router, &route, NULL, NULL);
        route.pattern = (char *)"/";
        (void)!router_add(t->peer_router, &route, NULL, NULL);
    }
    t->peer_http = http_server_create(&(struct http_server_setup){
        .tasks = t->peer_tasks, .options = &t->peer_options, .router = t->peer_router});
}

void kit_calls_deinit(weft_test *t)
{
    (void)http_server_abort(t->peer_http);
    kit_settle(t);
    http_server_destroy(t->peer_http);
    router_destroy(t->peer_router);
    tasks_destroy(t->peer_tasks);
    field_clear(&http_option_table, &t->peer_options);
}
