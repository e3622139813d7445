/* http/server.c - the HTTP side of a worker: its connections, limits and routes.
 *
 *   serving ──▶ draining (no connection stays longer than its requests) ──▶ drained, told once
 */
#include "http/server.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/inside.h"
#include <unistd.h>

/* Pieces of 16 KiB that are kept for the next: the most that is at work in a turn, and more. */
enum { BUFFERS_KEPT = 256 };

struct http_server *http_server_create(const struct http_server_setup *setup)
{
    struct http_server *server = mem_alloc(sizeof(*server));
    const struct http_options *options = setup->options;
    struct span bad; /* the settings were checked */

    CHECK(setup->tasks != NULL);
    CHECK(setup->router != NULL);
    CHECK(options->pipelined_max > 0);
    server->magic = HTTP_SERVER_MAGIC;
    server->setup = *setup;
    server->counts = setup->counts != NULL ? setup->counts : &server->own_counts;
    server->loop = setup->tasks->loop;
    server->options = options;
    buf_pool_init(&server->buffers, BUFFERS_KEPT, &setup->tasks->heap);
    server->head = http_head_create(options->fields_max);
    server->limits =
        (struct http_parser_limits){options->request_line_bytes_max, options->head_bytes_max,
                                    options->trailer_bytes_max, options->chunk_excess_bytes_max};
    http_shed_init(&server->shed, server->loop, options->shed_after_ms);
    server->setup.tasks->line_after_ms = options->shed_after_ms;
    (void)addr_ranges_parse(span_of(options->trusted_proxies), &server->trusted, &bad);
    list_init(&server->conns);
    list_init(&server->lost);
    return server;
}

void http_server_destroy(struct http_server *server)
{
    if (server == NULL)
        return;
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    server->on_drained = NULL;
    server->setup.on_room = NULL;
    (void)http_server_abort(server);
    CHECK(server->living == 0);
    ready_stop(&server->drained);
    timer_stop(&server->retry);
    http_shed_deinit(&server->shed);
    table_deinit(&server->clients);
    http_intakes_free(server);
    http_head_destroy(server->head);
    buf_pool_deinit(&server->buffers);
    server->magic = 0;
    mem_free(server);
}

void http_server_accept(struct http_server *server, int fd, const struct addr *peer)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    CHECK(fd >= 0);
    if (http_server_enter(server, fd, peer))
        http_conn_start(server, fd, peer);
}

static void on_drained(struct ready *ready)
{
    struct http_server *server = CONTAINER_OF(ready, struct http_server, drained);
    void (*told)(void *data) = server->on_drained;

    if (told == NULL || server->counts->connections_open > 0 || server->living > 0)
        return;
    server->on_drained = NULL;
    told(server->on_drained_data);
}

void http_server_lost(struct http_server *server)
{
    if (server->on_drained != NULL && server->counts->connections_open == 0 && server->living == 0)
        ready_start(server->loop, &server->drained, on_drained);
}

void http_server_drain(struct http_server *server, void (*drained)(void *data), void *data)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    CHECK(!server->is_draining);
    server->is_draining = true;
    server->draining_since_ms = loop_now_ms(server->loop);
    server->on_drained = drained;
    server->on_drained_data = data;
    LIST_EACH (&server->conns, link) {
        http_conn_drain(CONTAINER_OF(link, struct http_conn, _link));
    }
    http_server_lost(server);
}

void http_server_resume(struct http_server *server)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    server->is_draining = false;
    server->on_drained = NULL;
}

uint32_t http_server_abort(struct http_server *server)
{
    struct list *link;
    uint32_t count;

    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    count = server->counts->requests_open;
    while ((link = list_first(&server->conns)) != NULL)
        http_conn_close(CONTAINER_OF(link, struct http_conn, _link), SCOPE_SHUTDOWN);
    while ((link = list_first(&server->lost)) != NULL) {
        struct http_request *request = CONTAINER_OF(link, struct http_request, _link);

        scope_cancel(request->scope, SCOPE_SHUTDOWN);
        http_request_over(request, SCOPE_SHUTDOWN);
    }
    return count;
}

void http_server_abandon(const struct http_server *server)
{
    if (server == NULL)
        return;
    LIST_EACH (&server->conns, link) {
        close(CONTAINER_OF(link, struct http_conn, _link)->stream.fd);
    }
}

const struct http_server_counts *http_server_counts(const struct http_server *server)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    return server->counts;
}
