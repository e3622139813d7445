/* upstream/options.c - the settings of an [upstream.NAME] section. */
#include "upstream/options.h"
#include "net/tls.h"
#include "upstream/request.h"
#include <stddef.h>
#include <stdio.h>

/* A day, and the largest sizes that are still sane: a body is held in memory. */
#define DAY_MS         (24u * 60 * 60 * 1000)
#define HEAD_BYTES_MAX (1ull << 20)
#define BODY_BYTES_MAX (1ull << 30)
/* Where nothing is held in memory. */
#define DECODED_BYTES_MAX (1ull << 50)

#define MEMBER(name) offsetof(struct upstream_options, name)

static const char *const tls_versions[] = {"1.2", "1.3", NULL};

static const struct field fields[] = {
    {.key = "url",
     .type = FIELD_TEXT,
     .offset = MEMBER(url),
     .min = 1,
     .max = 1024,
     .scope = FIELD_PER_HOST,
     .help = "Where it is: http://host[:port][/prefix], or http://unix:/path[:/prefix] for a Unix "
             "socket; https likewise. The prefix goes before the path of every call. Required."},
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
    {.key = "tls_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(tls_timeout_ms),
     .fallback = "2s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that the TLS handshake with an https upstream may take, once connected: "
             "502, upstream_tls_timeout."},
    {.key = "tls_ca",
     .type = FIELD_PATH,
     .offset = MEMBER(tls_ca),
     .fallback = "",
     .max = 4096,
     .scope = FIELD_PER_WORKER,
     .help = "File with the authorities (PEM) whose certificates are trusted. Empty: the "
             "system's."},
    {.key = "tls_cert",
     .type = FIELD_PATH,
     .offset = MEMBER(tls_cert),
     .fallback = "",
     .max = 4096,
     .scope = FIELD_PER_WORKER,
     .help = "File with the certificate (PEM, and its chain) that we show. Empty: none."},
    {.key = "tls_key",
     .type = FIELD_PATH,
     .offset = MEMBER(tls_key),
     .fallback = "",
     .max = 4096,
     .scope = FIELD_PER_WORKER,
     .help = "File with its key (PEM, not encrypted). Empty: it is in tls_cert."},
    {.key = "tls_name",
     .type = FIELD_TEXT,
     .offset = MEMBER(tls_name),
     .fallback = "",
     .max = 253,
     .scope = FIELD_PER_WORKER,
     .help = "The name or address that the server's certificate must be for. Empty: the url's "
             "host."},
    {.key = "tls_verify",
     .type = FIELD_BOOL,
     .offset = MEMBER(tls_verify),
     .fallback = "on",
     .scope = FIELD_PER_WORKER,
     .help = "off: any certificate will do, which protects from nobody who can reach the "
             "connection."},
    {.key = "tls_min",
     .type = FIELD_CHOICE,
     .offset = MEMBER(tls_min),
     .fallback = "1.2",
     .choices = tls_versions,
     .scope = FIELD_PER_WORKER,
     .help = "The oldest version of TLS: 1.2 or 1.3."},
    {.key = "write_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(write_timeout_ms),
     .fallback = "4s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest wait for the peer to take some more of a request: 504, "
             "upstream_write_timeout."},
    {.key = "first_byte_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(first_byte_timeout_ms),
     .fallback = "4s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest wait for the first byte of an answer, once the request was sent: 504, "
             "upstream_first_byte_timeout."},
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
             "upstream_timeout. What is left of the request's own budget is a limit besides. It is "
             "not for calls whose bodies are streamed."},
    {.key = "slow_call",
     .type = FIELD_MS,
     .offset = MEMBER(slow_call_ms),
     .fallback = "0",
     .min = 0,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "A call that takes so long in all is logged with plugin, route and request. 0: none."},
    {.key = "stream_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(stream_timeout_ms),
     .fallback = "60s",
     .min = 10,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that a call whose bodies are streamed may stand still, whoever it waits "
             "for: the client, the plugin; then it is given up: upstream_stream_timeout."},
    {.key = "hedge",
     .type = FIELD_MS,
     .offset = MEMBER(hedge_ms),
     .fallback = "0",
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "A GET that is not answered by then is sent once more, to another address where there "
             "is one, and the first answer counts; these are paid like retries (retry_percent). "
             "0: never."},
    {.key = "single_flight",
     .type = FIELD_BOOL,
     .offset = MEMBER(is_single_flight),
     .fallback = "off",
     .scope = FIELD_PER_WORKER,
     .help = "on: GETs that are the same in each byte, at the same time, share one call and its "
             "answer, each with its own deadline."},
    {.key = "private",
     .type = FIELD_BOOL,
     .offset = MEMBER(allows_private),
     .fallback = "on",
     .scope = FIELD_PER_WORKER,
     .help = "off: addresses that are private, loopback, link-local, shared or reserved, and Unix "
             "sockets, are not connected to, whatever the name says now or later: 502, "
             "upstream_private. For names that others have a say in."},
    {.key = "trace",
     .type = FIELD_BOOL,
     .offset = MEMBER(passes_trace),
     .fallback = "on",
     .scope = FIELD_PER_WORKER,
     .help = "The traceparent and tracestate of the request that is served go along with its "
             "calls, unless the handler sets them."},
    {.key = "budget_field",
     .type = FIELD_TEXT,
     .offset = MEMBER(budget_field),
     .fallback = "",
     .max = 64,
     .scope = FIELD_PER_WORKER,
     .help = "The header field that tells the upstream how many milliseconds are left for a call, "
             "such as X-Budget-Ms. Empty: none."},
    {.key = "eject_failures",
     .type = FIELD_UINT,
     .offset = MEMBER(eject_failures),
     .fallback = "5",
     .max = 1000,
     .scope = FIELD_PER_WORKER,
     .help = "So many calls in a row that failed (no connection, no answer, 502, 503 or 504) take "
             "an address out for a while, unless it is the last one. Then one call tries it. 0: "
             "never."},
    {.key = "eject_time",
     .type = FIELD_MS,
     .offset = MEMBER(eject_time_ms),
     .fallback = "30s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "How long an address is out for the first time; twice that the second time in a row, "
             "and so on, up to ten times."},
    {.key = "retries",
     .type = FIELD_UINT,
     .offset = MEMBER(retries_max),
     .fallback = "1",
     .max = 3,
     .scope = FIELD_PER_WORKER,
     .help = "How often a call is sent again to another address where that is safe: no byte of "
             "the answer came, and nothing was sent or the request is idempotent. A kept "
             "connection that the peer closed meanwhile is renewed besides."},
    {.key = "retry_budget",
     .type = FIELD_UINT,
     .offset = MEMBER(retry_percent),
     .fallback = "20",
     .max = 100,
     .scope = FIELD_PER_WORKER,
     .help = "The most of these retries, in percent of all calls, lest an overloaded upstream "
             "gets more of them. Ten are always saved up."},
    {.key = "retry_after_max",
     .type = FIELD_MS,
     .offset = MEMBER(retry_after_max_ms),
     .fallback = "1s",
     .max = 60000,
     .scope = FIELD_PER_WORKER,
     .help = "An idempotent call that is answered 429 or 503 with a Retry-After is sent again "
             "after that time if it is not longer than this, or at once to another address; 0: "
             "never."},
    {.key = "breaker",
     .type = FIELD_UINT,
     .offset = MEMBER(breaker_percent),
     .fallback = "0",
     .max = 100,
     .scope = FIELD_PER_WORKER,
     .help = "When at least so many percent of the calls fail, calls fail at once for a while: "
             "503, upstream_breaker_open. Then one call tries. 0: never."},
    {.key = "breaker_calls",
     .type = FIELD_UINT,
     .offset = MEMBER(breaker_calls),
     .fallback = "20",
     .min = 1,
     .max = 1000000,
     .scope = FIELD_PER_WORKER,
     .help = "Fewer calls than this within the window never open it."},
    {.key = "breaker_window",
     .type = FIELD_MS,
     .offset = MEMBER(breaker_window_ms),
     .fallback = "10s",
     .min = 2,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The time over which calls are counted."},
    {.key = "breaker_time",
     .type = FIELD_MS,
     .offset = MEMBER(breaker_time_ms),
     .fallback = "5s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "How long it stays open."},
    {.key = "check_path",
     .type = FIELD_TEXT,
     .offset = MEMBER(check_path),
     .fallback = "",
     .max = 1024,
     .scope = FIELD_PER_WORKER,
     .help = "Path that is asked of every address again and again, on a connection of its own: "
             "one that does not answer with 2xx or 3xx gets no calls. The url's prefix does not "
             "go before it. Empty: no checks."},
    {.key = "check_interval",
     .type = FIELD_MS,
     .offset = MEMBER(check_interval_ms),
     .fallback = "5s",
     .min = 10,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The time between two checks of an address."},
    {.key = "check_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(check_timeout_ms),
     .fallback = "2s",
     .min = 1,
     .max = DAY_MS,
     .scope = FIELD_PER_WORKER,
     .help = "The longest that a check may take."},
    {.key = "check_rise",
     .type = FIELD_UINT,
     .offset = MEMBER(check_rise),
     .fallback = "2",
     .min = 1,
     .max = 100,
     .scope = FIELD_PER_WORKER,
     .help = "Good checks in a row that bring an address back."},
    {.key = "check_fall",
     .type = FIELD_UINT,
     .offset = MEMBER(check_fall),
     .fallback = "3",
     .min = 1,
     .max = 100,
     .scope = FIELD_PER_WORKER,
     .help = "Bad checks in a row that take an address out."},
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
     .help = "The largest head of an answer: 502, upstream_head_too_big."},
    {.key = "body_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(body_bytes_max),
     .fallback = "8m",
     .max = BODY_BYTES_MAX,
     .scope = FIELD_PER_WORKER,
     .help = "The largest body of an answer, all of which is held in memory: 502, "
             "upstream_body_too_big."},
    {.key = "decoded_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(decoded_bytes_max),
     .fallback = "1g",
     .min = 1,
     .max = DECODED_BYTES_MAX,
     .scope = FIELD_PER_WORKER,
     .help = "The most that comes out of an answer in gzip that is decoded as it is streamed "
             "(WEFT_CALL_DECODE): 502, upstream_body_too_big. It is never held in memory, but a "
             "few bytes can become very many."},
};

struct tls_context *upstream_tls_context(const struct upstream_options *options,
                                         char problem[INI_PROBLEM_SIZE])
{
    const struct tls_options how = {
        .ca_path = options->tls_ca,
        .cert_path = options->tls_cert,
        .key_path = options->tls_key,
        .is_13_only = options->tls_min == 1,
        .trusts_anybody = !options->tls_verify,
    };
    char what[TLS_PROBLEM_SIZE];
    struct tls_context *made = tls_context_create(&how, what);

    if (made == NULL)
        snprintf(problem, INI_PROBLEM_SIZE, "TLS: %s", what);
    return made;
}

enum err upstream_options_check(const struct upstream_options *options, const char **key,
                                char problem[INI_PROBLEM_SIZE])
{
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    struct upstream_url url;
    struct tls_context *tls;
    uint32_t count;
    enum err err;

    *key = "url";
    err = upstream_url_parse(options->url, &url, problem);
    if (err != ERR_OK)
        return err;
    *key = "check_path";
    if (options->check_path[0] != '\0' && !upstream_is_path(span_of(options->check_path))) {
        snprintf(problem, INI_PROBLEM_SIZE,
                 "check_path: \"%.200s\", expected a path that begins with '/' and is "
                 "percent-encoded",
                 options->check_path);
        return ERR_SYNTAX;
    }
    *key = "budget_field";
    if (options->budget_field[0] != '\0' &&
        !upstream_is_field_name(span_of(options->budget_field))) {
        snprintf(problem, INI_PROBLEM_SIZE,
                 "budget_field: \"%s\", expected the name of a header field that is not the host's",
                 options->budget_field);
        return ERR_SYNTAX;
    }
    *key = "addresses";
    err = upstream_places_parse(options->addresses, &url, places, &count, problem);
    if (err != ERR_OK || !url.is_tls)
        return err;
    *key = "url";
    tls = upstream_tls_context(options, problem);
    tls_context_destroy(tls);
    return tls != NULL ? ERR_OK : ERR_INVALID;
}

const struct field_table upstream_option_table = {
    .kind = "upstream",
    .example = "[upstream.partner]",
    .help = "An HTTP server that handlers call, by the name behind the dot. There may be many. "
            "Connections are kept open and used again.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};
