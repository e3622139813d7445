/* upstream/upstream.c - a named HTTP server that handlers call: its life. Calls are in call.c. */
#include "upstream/upstream.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/parser.h"
#include "net/tls.h"
#include "task/tasks.h"
#include "upstream/inside.h"

/* Storage that is kept for the next answers. */
enum { BUFFERS_KEPT = 256 };

static void init_exchanges(struct upstream *upstream)
{
    size_t head_bytes_max = (size_t)upstream->options->head_bytes_max;

    upstream->exchanges = (struct exchange_shared){
        .loop = upstream->loop,
        .options = upstream->options,
        .head = http_head_create(EXCHANGE_FIELDS_MAX),
        .limits = {.head_bytes_max = head_bytes_max,
                   .trailer_bytes_max = head_bytes_max,
                   .excess_bytes_max = HTTP_EXCESS_BYTES},
    };
}

/* The name that the certificate must have: as it is set, else the host of the url. */
static struct span tls_name(const struct upstream *upstream)
{
    if (upstream->options->tls_name[0] != '\0')
        return span_of(upstream->options->tls_name);
    return upstream->url.port != 0 ? upstream->url.host : upstream->url.authority;
}

static void init_origin(struct upstream *upstream, struct resolver *resolver,
                        const struct upstream_place *places, uint32_t count)
{
    struct origin_setup setup = {
        .resolver = resolver,
        .buffers = &upstream->buffers,
        .exchanges = &upstream->exchanges,
        .name = upstream->name,
        .host = upstream->url.authority,
        .tls = upstream->tls,
        .tls_name = tls_name(upstream),
        .places = places,
        .place_count = count,
        .counts = &upstream->counts,
    };

    origin_init(&upstream->origin, &setup);
}

struct upstream *upstream_create(struct tasks *tasks, struct resolver *resolver, const char *name,
                                 const struct upstream_options *options,
                                 char problem[INI_PROBLEM_SIZE])
{
    struct upstream *upstream = mem_alloc(sizeof *upstream);
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    uint32_t count = 0;
    enum err err = upstream_url_parse(options->url, &upstream->url, problem);

    CHECK(err == ERR_OK);
    err = upstream_places_parse(options->addresses, &upstream->url, places, &count, problem);
    CHECK(err == ERR_OK);
    if (upstream->url.is_tls) {
        upstream->tls = upstream_tls_context(options, problem);
        if (upstream->tls == NULL) {
            mem_free(upstream);
            return NULL;
        }
    }
    upstream->magic = UPSTREAM_MAGIC;
    upstream->name = mem_copy(span_of(name));
    upstream->loop = tasks->loop;
    upstream->options = options;
    list_init(&upstream->flights);
    upstream->line = (struct line){
        .kind = "upstream", .name = upstream->name, .places = options->connections_max};
    retry_budget_init(&upstream->budget);
    buf_pool_init(&upstream->buffers, BUFFERS_KEPT, &tasks->heap);
    init_exchanges(upstream);
    init_origin(upstream, resolver, places, count);
    return upstream;
}

void upstream_start(struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    origin_start(&upstream->origin);
}

void upstream_destroy(struct upstream *upstream)
{
    if (upstream == NULL)
        return;
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    CHECK(upstream->alive == 0);
    origin_deinit(&upstream->origin);
    line_deinit(&upstream->line);
    tls_context_destroy(upstream->tls);
    http_head_destroy(upstream->exchanges.head);
    buf_pool_deinit(&upstream->buffers);
    mem_free(upstream->name);
    upstream->magic = 0;
    mem_free(upstream);
}

const char *upstream_name(const struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return upstream->name;
}

const struct upstream_counts *upstream_counts(const struct upstream *upstream)
{
    CHECK_OBJ(upstream, UPSTREAM_MAGIC);
    return &upstream->counts;
}
