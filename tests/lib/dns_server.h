/* lib/dns_server.h - a name server on the test's own loop, over UDP and TCP on a free port.
 *
 * Loop:   of the test's loop; it answers while that turns.
 * Memory: embedded; owns its sockets from dns_server_start() to dns_server_stop().
 * Limits: 32 names, 20 addresses each.
 */
#ifndef WEFT_TESTS_LIB_DNS_SERVER_H
#define WEFT_TESTS_LIB_DNS_SERVER_H

#include "loop/loop.h"
#include "net/addr.h"
#include <stdbool.h>
#include <stdint.h>

/* What a name is answered with. */
enum { DNS_OK = 0, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3 };

/* What the server knows of a name. */
struct dns_record {
    char name[64];         /* as it is asked for */
    char alias_of[64];     /* CNAME, "": none */
    uint32_t alias_ttl_s;  /* of it */
    struct addr addrs[20]; /* of both families */
    uint32_t count;        /* of addrs */
    uint32_t ttl_s;        /* of the addresses */
    int code;              /* DNS_* */
};

/* The server. Zeroed: stopped. */
struct dns_server {
    struct loop *loop;             /* its loop */
    struct io udp;                 /* of udp_fd */
    int udp_fd;                    /* where queries come */
    struct io tcp;                 /* of tcp_fd */
    int tcp_fd;                    /* listens on the same port */
    struct io client;              /* of client_fd */
    int client_fd;                 /* one connection at a time; -1: none */
    char servers[ADDR_TEXT_SIZE];  /* "127.0.0.1:PORT", for resolver_create() */
    struct dns_record records[32]; /* what it knows */
    uint32_t records_count;        /* of records */
    uint32_t queries;              /* that came, A and AAAA counted apart */
    uint32_t tcp_queries;          /* of them, those over TCP */
    bool is_silent;                /* does not answer */
    bool is_brief;                 /* answers over UDP are cut: ask over TCP */
};

/* Starts it, knowing no name: all are answered with DNS_NXDOMAIN. */
void dns_server_start(struct dns_server *server, struct loop *loop);

/* Stops it. Zeroed is fine. */
void dns_server_stop(struct dns_server *server);

/* From now on `name` has `addrs`, such as "192.0.2.1 2001:db8::1", or none with "". */
void dns_server_set(struct dns_server *server, const char *name, const char *addrs, uint32_t ttl_s);

/* From now on `name` is answered with `code`, one of DNS_*. */
void dns_server_set_code(struct dns_server *server, const char *name, int code);

/* From now on `name` is another name of `target`. */
void dns_server_set_alias(struct dns_server *server, const char *name, const char *target,
                          uint32_t ttl_s);

#endif
