/* upstream/options.c - the settings of an [upstream.NAME] section. */
#include "upstream/options.h"
#include <stddef.h>

/* A day, and the largest sizes that are still sane: a body is held in memory. */
#define DAY_MS         (24u * 60 * 60 * 1000)
#define HEAD_BYTES_MAX (1ull << 20)
#define BODY_BYTES_MAX (1ull << 30)

#define MEMBER(name) offsetof(struct upstream_options, name)

static const struct field fields[] = {
    {.key = "url",
     .type = FIELD_TEXT,
     .offset = MEMBER(url),
     .min = 1,
     .max = 1024,
     .scope = FIELD_PER_HOST,
     .help = "Where it is: http://host[:port][/prefix], or http://unix:/path[:/prefix] for a Unix "
             "socket. The prefix goes before the path of every call. Required."},
    {.key = "addresses",
     .type = FIELD_TEXT,
     .offset = MEMBER(addresses),
     .fallback = "",
     .max = 4096,
     .scope = FIELD_PER_HOST,
     .help =
         "Where to connect instead of the url's host, which stays in the Host field: host:port, "
         "[IPv6]:port or unix:/path, several with blanks between them. Calls are spread over "
         "all addresses, those of names too, which are looked up again when their TTL is "
         "over."},
    {.key = "connections",
     .type = FIELD_UINT,
     .offset = MEMBER(connections_max),
     .fallback = "64",
     .min = 1,
     .max = 65536,
     .scope = FIELD_PER_WORKER,
     .help = "The most connections at once. They are opened as needed and kept for further calls."},
    {.key = "connections_per_address",
     .type = FIELD_UINT,
     .offset = MEMBER(connections_per_address_max),
     .fallback = "0",
     .max = 65536,
     .scope = FIELD_PER_WORKER,
     .help = "The most of them to one address; 0 sets no limit of its own."},
    {.key = "queue",
     .type = FIELD_UINT,
     .offset = MEMBER(waiting_max),
     .fallback = "4096",
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "The most calls that wait for one of the connections. One more fails at once: 503, "
             "upstream_queue_full."},
    {.key = "queue_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(queue_timeout_ms),
     .fallback = "2s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that a call waits for one of the connections: 503, "
             "upstream_queue_timeout."},
    {.key = "resolve_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(resolve_timeout_ms),
     .fallback = "2s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that a call waits for a name's first answer: 502, "
             "upstream_resolve_timeout. Later ones are fetched in the background."},
    {.key = "connect_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(connect_timeout_ms),
     .fallback = "2s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that connecting to an address may take: 502, upstream_connect_timeout. "
             "Another address is tried after 250ms."},
    {.key = "first_byte_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(first_byte_timeout_ms),
     .fallback = "4s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest wait for the first byte of an answer, and for the peer to take some more "
             "of a long request: 504, upstream_first_byte_timeout."},
    {.key = "between_bytes_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(between_bytes_timeout_ms),
     .fallback = "4s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest pause within an answer: 504, upstream_between_bytes_timeout."},
    {.key = "timeout",
     .type = FIELD_MS,
     .offset = MEMBER(timeout_ms),
     .fallback = "30s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that a call takes in all, waiting and connecting too: 504, "
             "upstream_timeout. What is left of the request's own budget is a limit besides."},
    {.key = "idle_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(idle_timeout_ms),
     .fallback = "4s",
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "How long an unused connection is kept; 0 keeps none. It should be less than the "
             "peer's own limit, which is 5s in many servers: a peer that names its limit in a "
             "Keep-Alive field can only shorten it."},
    {.key = "age_max",
     .type = FIELD_MS,
     .offset = MEMBER(age_max_ms),
     .fallback = "5m",
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "A connection older than this is not used again, so that a change of the name's "
             "addresses is noticed; 0 sets no limit."},
    {.key = "head_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(head_bytes_max),
     .fallback = "64k",
     .min = 256,
     .max = HEAD_BYTES_MAX,
     .scope = FIELD_PER_WORKER,
     .help = "The largest head of an answer: 502, upstream_too_big."},
    {.key = "body_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(body_bytes_max),
     .fallback = "8m",
     .max = BODY_BYTES_MAX,
     .scope = FIELD_PER_WORKER,
     .help = "The largest body of an answer, all of which is held in memory: 502, "
             "upstream_too_big."},
};

enum err upstream_options_check(const struct upstream_options *options, const char **key,
                                char problem[INI_PROBLEM_SIZE])
{
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    struct upstream_url url;
    uint32_t count;
    enum err err;

    *key = "url";
    err = upstream_url_parse(options->url, &url, problem);
    if (err != ERR_OK)
        return err;
    *key = "addresses";
    return upstream_places_parse(options->addresses, &url, places, &count, problem);
}

const struct field_table upstream_option_table = {
    .kind = "upstream",
    .example = "[upstream.partner]",
    .help = "An HTTP server that handlers call, by the name behind the dot. There may be many. "
            "Connections are kept open and used again.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};
