/* http/options.c - the settings of [server] that are the http room's. */
#include "http/options.h"
#include <stddef.h>

#define DAY_MS (24u * 60 * 60 * 1000)

#define MEMBER(name) offsetof(struct http_options, name)

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
