/* lib/dns_server.c - a name server on the test's own loop, over UDP and TCP on a free port. */
#include "lib/dns_server.h"
#include "base/check.h"
#include "lib/loop_driver.h"
#include "lib/test.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_SIZE = 4096, HEADER_SIZE = 12, TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28 };

/* A message that is being written. */
struct message {
    uint8_t bytes[MESSAGE_SIZE];
    size_t len;
};

static void put16(struct message *message, uint32_t value)
{
    assert_true(message->len + 2 <= sizeof message->bytes);
    message->bytes[message->len++] = (uint8_t)(value >> 8);
    message->bytes[message->len++] = (uint8_t)value;
}

static void put32(struct message *message, uint32_t value)
{
    put16(message, value >> 16);
    put16(message, value & 0xffff);
}

static void put_bytes(struct message *message, const void *bytes, size_t size)
{
    assert_true(message->len + size <= sizeof message->bytes);
    memcpy(message->bytes + message->len, bytes, size);
    message->len += size;
}

/* "a.b" as labels with their lengths. */
static void put_name(struct message *message, const char *name)
{
    while (*name != '\0') {
        size_t len = strcspn(name, ".");
        uint8_t size = (uint8_t)len;

        put_bytes(message, &size, 1);
        put_bytes(message, name, len);
        name += len + (name[len] == '.');
    }
    put_bytes(message, "", 1);
}

/* The name that is asked for; the offset behind it. */
static size_t get_name(const uint8_t *query, size_t size, char name[64])
{
    size_t at = HEADER_SIZE;
    size_t len = 0;

    while (at < size && query[at] != 0) {
        size_t label = query[at++];

        assert_true(at + label < size && len + label + 1 < 64);
        if (len > 0)
            name[len++] = '.';
        memcpy(name + len, query + at, label);
        len += label;
        at += label;
    }
    name[len] = '\0';
    return at + 1;
}

static struct dns_record *find(struct dns_server *server, const char *name)
{
    for (uint32_t i = 0; i < server->records_count; i++) {
        if (strcasecmp(server->records[i].name, name) == 0)
            return &server->records[i];
    }
    return NULL;
}

static uint32_t put_addrs(struct message *message, const struct dns_record *record,
                          const char *name, uint32_t type)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < record->count; i++) {
        const struct sockaddr_storage *storage = &record->addrs[i].storage;
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)storage;
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)storage;
        bool is_ipv4 = storage->ss_family == AF_INET;

        if (is_ipv4 != (type == TYPE_A))
            continue;
        put_name(message, name);
        put16(message, type);
        put16(message, 1);
        put32(message, record->ttl_s);
        put16(message, is_ipv4 ? 4 : 16);
        if (is_ipv4)
            put_bytes(message, &ipv4->sin_addr, 4);
        else
            put_bytes(message, &ipv6->sin6_addr, 16);
        count++;
    }
    return count;
}

static uint32_t put_alias(struct message *message, const struct dns_record *record)
{
    struct message target = {.len = 0};

    put_name(&target, record->alias_of);
    put_name(message, record->name);
    put16(message, TYPE_CNAME);
    put16(message, 1);
    put32(message, record->alias_ttl_s);
    put16(message, (uint32_t)target.len);
    put_bytes(message, target.bytes, target.len);
    return 1;
}

static void answer(struct dns_server *server, const uint8_t *query, size_t size, bool is_cut,
                   struct message *message)
{
    char name[64];
    size_t end = get_name(query, size, name);
    struct dns_record *record = find(server, name);
    uint32_t type = (uint32_t)query[end] << 8 | query[end + 1];
    uint32_t code = record != NULL ? (uint32_t)record->code : DNS_NXDOMAIN;
    uint32_t count = 0;

    message->len = 0;
    put_bytes(message, query, 2);
    put16(message, 0x8180u | code | (is_cut ? 0x0200u : 0));
    put16(message, 1);
    put16(message, 0); /* how many answers: set below */
    put32(message, 0);
    put_bytes(message, query + HEADER_SIZE, end + 4 - HEADER_SIZE);
    if (record != NULL && code == DNS_OK && !is_cut) {
        const char *owner = name;

        if (record->alias_of[0] != '\0') {
            count += put_alias(message, record);
            owner = record->alias_of;
            record = find(server, owner);
            assert_non_null(record);
        }
        count += put_addrs(message, record, owner, type);
    }
    message->bytes[7] = (uint8_t)count;
}

static void on_query(struct io *io, uint32_t events)
{
    struct dns_server *server = CONTAINER_OF(io, struct dns_server, udp);
    struct sockaddr_storage from;
    socklen_t len = sizeof from;
    uint8_t query[512];
    struct message message;
    ssize_t got;

    (void)events;
    while ((got = recvfrom(server->udp_fd, query, sizeof query, MSG_DONTWAIT,
                           (struct sockaddr *)&from, &len)) > 0) {
        server->queries++;
        if (server->is_silent)
            continue;
        answer(server, query, (size_t)got, server->is_brief, &message);
        assert_int_equal(
            sendto(server->udp_fd, message.bytes, message.len, 0, (struct sockaddr *)&from, len),
            message.len);
    }
}

/* Each query comes whole: c-ares writes it at once. */
static void on_client(struct io *io, uint32_t events)
{
    struct dns_server *server = CONTAINER_OF(io, struct dns_server, client);
    uint8_t bytes[2048];
    struct message message;
    ssize_t got = recv(server->client_fd, bytes, sizeof bytes, MSG_DONTWAIT);

    (void)events;
    if (got <= 0) {
        io_stop(io);
        close_fd(&server->client_fd);
        return;
    }
    for (size_t at = 0; at + 2 < (size_t)got;) {
        size_t size = (size_t)bytes[at] << 8 | bytes[at + 1];
        uint8_t prefix[2];

        assert_true(at + 2 + size <= (size_t)got);
        server->queries++;
        server->tcp_queries++;
        answer(server, bytes + at + 2, size, false, &message);
        prefix[0] = (uint8_t)(message.len >> 8);
        prefix[1] = (uint8_t)message.len;
        assert_int_equal(send(server->client_fd, prefix, 2, MSG_NOSIGNAL | MSG_MORE), 2);
        assert_int_equal(send(server->client_fd, message.bytes, message.len, MSG_NOSIGNAL),
                         message.len);
        at += 2 + size;
    }
}

static void on_connection(struct io *io, uint32_t events)
{
    struct dns_server *server = CONTAINER_OF(io, struct dns_server, tcp);

    (void)events;
    if (server->client_fd >= 0)
        return;
    server->client_fd = accept4(server->tcp_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(server->client_fd >= 0);
    io_start(server->loop, &server->client, server->client_fd, IO_READ, on_client);
}

/* A port that is free for both; another one where somebody has it for TCP already. */
static void bind_both(struct dns_server *server)
{
    for (;;) {
        struct addr addr;

        server->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        server->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(server->udp_fd >= 0 && server->tcp_fd >= 0);
        assert_true(addr_parse(SPAN("127.0.0.1:0"), &addr));
        assert_int_equal(bind(server->udp_fd, (struct sockaddr *)&addr.storage, addr.len), 0);
        assert_true(addr_of_socket(server->udp_fd, &addr));
        (void)addr_format(&addr, server->servers);
        if (bind(server->tcp_fd, (struct sockaddr *)&addr.storage, addr.len) == 0)
            break;
        close_fd(&server->udp_fd);
        close_fd(&server->tcp_fd);
    }
    assert_int_equal(listen(server->tcp_fd, 16), 0);
}

void dns_server_start(struct dns_server *server, struct loop *loop)
{
    memset(server, 0, sizeof *server);
    server->loop = loop;
    server->client_fd = -1;
    bind_both(server);
    io_start(loop, &server->udp, server->udp_fd, IO_READ, on_query);
    io_start(loop, &server->tcp, server->tcp_fd, IO_READ, on_connection);
}

void dns_server_stop(struct dns_server *server)
{
    if (server->loop == NULL)
        return;
    io_stop(&server->udp);
    io_stop(&server->tcp);
    io_stop(&server->client);
    close_fd(&server->udp_fd);
    close_fd(&server->tcp_fd);
    close_fd(&server->client_fd);
    server->loop = NULL;
}

/* An empty record of `name`, the one there was or a new one. */
static struct dns_record *renew(struct dns_server *server, const char *name)
{
    struct dns_record *record = find(server, name);

    if (record == NULL) {
        assert_true(server->records_count < 32);
        record = &server->records[server->records_count++];
    }
    memset(record, 0, sizeof *record);
    (void)snprintf(record->name, sizeof record->name, "%s", name);
    return record;
}

void dns_server_set(struct dns_server *server, const char *name, const char *addrs, uint32_t ttl_s)
{
    struct dns_record *record = renew(server, name);

    record->ttl_s = ttl_s;
    while (*addrs != '\0') {
        size_t len = strcspn(addrs, " ");

        assert_true(record->count < 20);
        assert_true(addr_from_ip((struct span){addrs, len}, 0, &record->addrs[record->count++]));
        addrs += len + (addrs[len] == ' ');
    }
}

void dns_server_set_code(struct dns_server *server, const char *name, int code)
{
    renew(server, name)->code = code;
}

void dns_server_set_alias(struct dns_server *server, const char *name, const char *target,
                          uint32_t ttl_s)
{
    struct dns_record *record = renew(server, name);

    (void)snprintf(record->alias_of, sizeof record->alias_of, "%s", target);
    record->alias_ttl_s = ttl_s;
}
