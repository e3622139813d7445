/* http/options.c - the settings of [server] that are the http room's. */
#include "http/options.h"
#include <stddef.h>

#define DAY_MS (24u * 60 * 60 * 1000)

#define MEMBER(name) offsetof(struct http_options, name)

static const char *const client_address_words[] = {"x-forwarded-for", "forwarded", "off", NULL};

static const struct field fields[] = {
    {.key = "body_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(body_bytes_max),
     .fallback = "1m",
     .max = 1ull << 40,
     .scope = FIELD_PER_WORKER,
     .help =
         "The largest body of a request, inclusive; a larger one is answered with 413. A route "
         "may have a limit of its own. A body is held in memory until its request ends, but on a "
         "route that reads it in pieces."},
    {.key = "fields_max",
     .type = FIELD_UINT,
     .offset = MEMBER(fields_max),
     .fallback = "100",
     .min = 1,
     .max = 10000,
     .scope = FIELD_PER_WORKER,
     .help = "The most header fields of a request: 431."},
    {.key = "request_line_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(request_line_bytes_max),
     .fallback = "8k",
     .min = 64,
     .max = 1 << 20,
     .scope = FIELD_PER_WORKER,
     .help = "The longest request line: method, target and version. A longer one: 414."},
    {.key = "head_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(head_bytes_max),
     .fallback = "32k",
     .min = 256,
     .max = 1 << 20,
     .scope = FIELD_PER_WORKER,
     .help = "The largest head of a request, with its request line and the empty line: 431."},
    {.key = "trailer_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(trailer_bytes_max),
     .fallback = "8k",
     .min = 2,
     .max = 1 << 20,
     .scope = FIELD_PER_WORKER,
     .help = "The largest section of fields behind a chunked body, with the empty line: 431. It "
             "may have as many fields as a head."},
    {.key = "chunk_excess_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(chunk_excess_bytes_max),
     .fallback = "16k",
     .min = 256,
     .max = 1 << 30,
     .scope = FIELD_PER_WORKER,
     .help =
         "How much of the sizes and extensions of chunks may come beyond what the body that they "
         "carry warrants: 400. Chunks of a byte, and extensions without end, meet this limit."},
    {.key = "header_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(header_timeout_ms),
     .fallback = "10s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help =
         "The longest time from the first byte of a head to its end, however many bytes come in "
         "between: 408."},
    {.key = "body_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(body_timeout_ms),
     .fallback = "20s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest pause within the body of a request: 408."},
    {.key = "body_rate_min",
     .type = FIELD_SIZE,
     .offset = MEMBER(body_rate_min),
     .fallback = "240",
     .max = 1 << 30,
     .scope = FIELD_PER_WORKER,
     .help = "The least that must come of the body of a request, in bytes a second from its "
             "beginning, after a grace of 5 s: 408. Time in which the server itself does not read "
             "does not count. 0: none."},
    {.key = "idle_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(idle_timeout_ms),
     .fallback = "75s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "A connection on which no request is under way is closed after this time."},
    {.key = "drain_idle",
     .type = FIELD_MS,
     .offset = MEMBER(drain_idle_ms),
     .fallback = "2s",
     .min = 0,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help =
         "The same once the worker is to end, after a reload or SIGTERM: a kept connection gets "
         "one more answer, with Connection: close, or is closed after this time."},
    {.key = "write_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(write_timeout_ms),
     .fallback = "30s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help =
         "A client that takes not a byte of an answer for this time is given up: the connection "
         "is closed."},
    {.key = "request_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(request_timeout_ms),
     .fallback = "5s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The budget of a request, from when its handler is called: everything that it waits "
             "for is canceled then, and the client gets a 504. A route may have a budget of its "
             "own."},
    {.key = "slow_request",
     .type = FIELD_MS,
     .offset = MEMBER(slow_request_ms),
     .fallback = "0",
     .min = 0,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "A request that takes so long, from its first byte to the last of its answer, is "
             "logged with plugin, route and where its time went; not one whose reply is live. 0: "
             "none."},
    {.key = "connections_max",
     .type = FIELD_UINT,
     .offset = MEMBER(connections_max),
     .fallback = "16384",
     .min = 1,
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "The most connections of clients at once; beyond it nothing is accepted until one "
             "goes."},
    {.key = "connections_soft",
     .type = FIELD_UINT,
     .offset = MEMBER(connections_soft),
     .fallback = "0",
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "From so many connections on, the one that has been idle for longest, a second at "
             "least, is closed for each that comes. 0: seven eighths of connections_max."},
    {.key = "address_connections_max",
     .type = FIELD_UINT,
     .offset = MEMBER(address_connections_max),
     .fallback = "0",
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "The most connections at once from one address, or from one /64 of IPv6 addresses: "
             "another one is answered with 503 and closed. 0: any number. Not for clients behind "
             "one proxy."},
    {.key = "connection_requests_max",
     .type = FIELD_UINT,
     .offset = MEMBER(connection_requests_max),
     .fallback = "0",
     .max = 4294967295,
     .scope = FIELD_PER_WORKER,
     .help = "The most requests of one connection: the answer of the last one says Connection: "
             "close. 0: any number."},
    {.key = "requests_max",
     .type = FIELD_UINT,
     .offset = MEMBER(requests_max),
     .fallback = "16384",
     .min = 1,
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "The most requests under way at once; another one is answered with 503 and "
             "Retry-After as soon as its head is there. A route may have a limit of its own."},
    {.key = "shed_after",
     .type = FIELD_MS,
     .offset = MEMBER(shed_after_ms),
     .fallback = "200ms",
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help =
         "Where for a tenth of a second every request has waited for its worker for longer than "
         "this, new ones are answered with 503 and Retry-After, so many that the others wait for "
         "a quarter of it at most. The same of the line for a pool's sessions, or an upstream's "
         "connections, and the routes that use them, where it is more than four times as long as "
         "what is done there takes. Routes that their plugin calls vital are "
         "served in any case. Well below request_timeout. 0: never."},
    {.key = "trusted_proxies",
     .type = FIELD_TEXT,
     .offset = MEMBER(trusted_proxies),
     .fallback = "",
     .max = 4096,
     .help = "Addresses and ranges of proxies and balancers in front of this host, with blanks "
             "between them: 10.0.0.0/8 ::1 unix. What they say of a client's address counts; what "
             "anybody else says does not."},
    {.key = "client_address",
     .type = FIELD_CHOICE,
     .offset = MEMBER(client_address),
     .fallback = "x-forwarded-for",
     .choices = client_address_words,
     .help = "The field in which trusted proxies say whose request it is. It is read from its "
             "end, as far as those who wrote are trusted. off: the address that connects counts."},
    {.key = "proxy_protocol",
     .type = FIELD_BOOL,
     .offset = MEMBER(proxy_protocol),
     .fallback = "off",
     .help = "on: each connection begins with the PROXY protocol (version 1 or 2), from an "
             "address of trusted_proxies, if there are any; one that does not is closed. Its "
             "client's address counts."},
    {.key = "request_id",
     .type = FIELD_TEXT,
     .offset = MEMBER(request_id),
     .fallback = "",
     .max = 64,
     .help = "Name of a field that has a request's id, such as X-Request-Id: taken from trusted "
             "proxies, made where there is none, and sent with the answer. Empty: none."},
    {.key = "pipelined_max",
     .type = FIELD_UINT,
     .offset = MEMBER(pipelined_max),
     .fallback = "32",
     .min = 1,
     .max = 10000,
     .scope = FIELD_PER_WORKER,
     .help = "The most requests of one connection that are under way at once. A client that sends "
             "more is not read from meanwhile: never an error."},
};

const struct field_table http_option_table = {
    .kind = "server",
    .example = "[server]",
    .help = "What clients may ask for, and how long.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};
