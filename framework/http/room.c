/* http/room.c - who may come, and who must go for it: how many connections there are.
 *
 *   below connections_soft ──▶ room
 *   from there on          ──▶ room, and the one that has been idle for longest goes
 *   at connections_max     ──▶ room only where one went; else it is looked again, a little later
 *
 * Idle connections are in the order in which they became so; those that are in use stand anywhere,
 * and go to the end where they are met.
 */
#include "base/check.h"
#include "http/inside.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    IDLE_MS_MIN = 1000, /* one that was idle for less is spared: its client may be sending */
    LOOKS_MAX = 64,     /* connections that are looked at for one that comes */
    RETRY_MS = 250      /* while it is full */
};

/* ---- in all ---- */

static uint32_t soft_limit(const struct http_options *options)
{
    uint32_t most = options->connections_max;

    return options->connections_soft > 0 ? options->connections_soft : most - most / 8;
}

static bool is_idle(const struct http_conn *conn)
{
    return conn->state == CONN_IDLE && list_is_empty(&conn->pipeline) && conn->stream.in.len == 0 &&
           stream_unsent(&conn->stream) == 0;
}

/* Closes the connection that has been idle for longest. False: none has been for long enough, or
 * none was found among those that were looked at. */
static bool close_idlest(struct http_server *server)
{
    uint64_t now_us = loop_now_us(server->loop);
    struct list *link;

    for (int i = 0; i < LOOKS_MAX && (link = list_first(&server->conns)) != NULL; i++) {
        struct http_conn *conn = CONTAINER_OF(link, struct http_conn, _link);

        if (is_idle(conn)) {
            if (now_us - conn->since_us < IDLE_MS_MIN * 1000ull)
                return false;
            server->is_making_room = true;
            http_conn_close(conn, SCOPE_CLIENT_GONE);
            server->is_making_room = false;
            return true;
        }
        list_remove(link);
        list_append(&server->conns, link);
    }
    return false;
}

static void on_retry(struct timer *timer)
{
    struct http_server *server = CONTAINER_OF(timer, struct http_server, retry);

    CHECK(server->setup.on_room != NULL);
    if (http_server_has_room(server) || close_idlest(server))
        server->setup.on_room(server->setup.data);
    else
        timer_start(server->loop, timer, RETRY_MS, on_retry);
}

bool http_server_has_room(const struct http_server *server)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    return server->counts->connections_open < server->options->connections_max;
}

bool http_server_make_room(struct http_server *server)
{
    CHECK_OBJ(server, HTTP_SERVER_MAGIC);
    if (server->counts->connections_open < soft_limit(server->options))
        return true;
    if (close_idlest(server) || http_server_has_room(server))
        return true;
    if (server->setup.on_room != NULL && !timer_is_on(&server->retry))
        timer_start(server->loop, &server->retry, RETRY_MS, on_retry);
    return false;
}

/* ---- of one address ---- */

/* What counts as one client: an IPv4 address; the first 64 bits of an IPv6 one, which is what one
 * is given. Absent: it has no address. */
static struct span client_of(const struct sockaddr_storage *address)
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;

    if (address->ss_family == AF_INET)
        return (struct span){(const char *)&v4->sin_addr, 4};
    if (address->ss_family != AF_INET6)
        return (struct span){NULL, 0};
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        return (struct span){(const char *)&v6->sin6_addr + 12, 4};
    return (struct span){(const char *)&v6->sin6_addr, 8};
}

/* Nobody reads what the client sends, so this may be lost to a reset: no more is to be had without
 * keeping the connection. */
static void turn_away(struct http_server *server, int fd, const struct addr *peer)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n"
                                 "Retry-After: 1\r\nConnection: close\r\n\r\n";
    char text[ADDR_TEXT_SIZE];

    addr_format(peer, text);
    log_info("http: a connection of %s is refused: its address has %u", text,
             server->options->address_connections_max);
    server->counts->connections_refused++;
    (void)send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(fd, SHUT_WR);
    (void)close(fd);
}

bool http_server_enter(struct http_server *server, int fd, const struct addr *peer)
{
    struct span client = client_of(&peer->storage);
    uintptr_t count;

    if (server->options->address_connections_max == 0 || client.ptr == NULL)
        return true;
    count = (uintptr_t)table_get(&server->clients, client);
    if (count >= server->options->address_connections_max) {
        turn_away(server, fd, peer);
        return false;
    }
    table_set(&server->clients, client, (void *)(count + 1));
    return true;
}

void http_server_leave(struct http_server *server, const struct http_conn *conn)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    struct span client;
    uintptr_t count;

    if (server->options->address_connections_max == 0)
        return;
    memcpy(&address, conn->peer, conn->peer_len);
    client = client_of(&address);
    if (client.ptr == NULL)
        return;
    count = (uintptr_t)table_get(&server->clients, client);
    CHECK(count > 0);
    if (count == 1)
        table_remove(&server->clients, client);
    else
        table_set(&server->clients, client, (void *)(count - 1));
}
