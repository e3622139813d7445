/* server/parts.c - makes a worker's parts and lets them go. */
#include "server/parts.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "loop/helper.h"
#include "loop/loop.h"
#include "net/resolve.h"
#include "observe/access.h"
#include "observe/blame.h"
#include "pg/parameters.h"
#include "pg/pool.h"
#include "pg/sizing.h"
#include "server/board.h"
#include "server/inspect.h"
#include "server/quarantine.h"
#include "server/shared.h"
#include "server/worker.h"
#include "task/fiber.h"
#include "task/tasks.h"
#include "upstream/upstream.h"
#include <errno.h>
#include <sys/resource.h>

enum {
    SIZING_HELPERS_MAX = 1,  /* threads: it asks one server after the other */
    OFFLOAD_HELPERS_MAX = 4, /* threads of their own, lest a plugin's work keeps sessions out */
    FILES_RESERVED = 64,     /* descriptors for logs, plugins, helpers and the host itself */
};

static struct pg_pool *find_pool(void *data, const char *name)
{
    const struct parts *parts = data;

    for (uint32_t i = 0; i < parts->settings->pg_count; i++)
        if (strcmp(parts->settings->pgs[i].name, name) == 0)
            return parts->pools[i];
    if (parts->inspection != NULL)
        return inspection_pool(parts->inspection, parts->loop, parts->sizing_helpers, name);
    return NULL;
}

static struct upstream *find_upstream(void *data, const char *name)
{
    const struct parts *parts = data;

    for (uint32_t i = 0; i < parts->settings->upstream_count; i++)
        if (strcmp(parts->settings->upstreams[i].name, name) == 0)
            return parts->upstreams[i];
    if (parts->inspection != NULL)
        return inspection_upstream(parts->inspection, parts->tasks, parts->resolver, name);
    return NULL;
}

static enum err find_shared(void *data, const char *name, size_t size, void **block)
{
    const struct parts *parts = data;

    return shared_find(parts->shared, name, size, block);
}

/* A try has its own: what it counts is nobody's business. */
static enum err make_shared(struct parts *parts, const struct worker_setup *setup, char *problem)
{
    parts->shared = setup->shared;
    parts->is_shared_own = setup->shared == NULL;
    if (!parts->is_shared_own)
        return ERR_OK;
    parts->shared = shared_create(setup->settings->server.shared_memory);
    if (parts->shared != NULL)
        return ERR_OK;
    snprintf(problem, INI_PROBLEM_SIZE, "[server] shared_memory: cannot be had: %s",
             strerror(errno));
    return ERR_IO;
}

static enum err make_peers(struct parts *parts, char problem[INI_PROBLEM_SIZE])
{
    const struct settings *settings = parts->settings;

    parts->pools = mem_calloc(settings->pg_count + 1, sizeof *parts->pools);
    parts->pool_helpers = mem_calloc(settings->pg_count + 1, sizeof *parts->pool_helpers);
    for (uint32_t i = 0; i < settings->pg_count; i++) {
        parts->pool_helpers[i] = helpers_create(parts->loop, PG_POOL_HELPERS);
        parts->pools[i] = pg_pool_create(parts->loop, parts->pool_helpers[i], settings->pgs[i].name,
                                         &settings->pgs[i].options);
    }
    parts->upstreams = mem_calloc(settings->upstream_count + 1, sizeof *parts->upstreams);
    for (uint32_t i = 0; i < settings->upstream_count; i++) {
        parts->upstreams[i] =
            upstream_create(parts->tasks, parts->resolver, settings->upstreams[i].name,
                            &settings->upstreams[i].options, problem);
        if (parts->upstreams[i] == NULL)
            return ERR_INVALID;
    }
    return ERR_OK;
}

static void add_claims(struct pg_claim *claims, const struct settings *settings, bool is_beside)
{
    for (uint32_t i = 0; i < settings->pg_count; i++)
        claims[i] = (struct pg_claim){.name = settings->pgs[i].name,
                                      .options = &settings->pgs[i].options,
                                      .workers = settings->workers,
                                      .is_beside = is_beside};
}

/* One worker asks for all of them. */
static void start_sizing(struct parts *parts)
{
    uint32_t count = parts->settings->pg_count;
    uint32_t count_beside = parts->beside != NULL ? parts->beside->pg_count : 0;
    struct pg_claim *claims = mem_calloc(count + count_beside + 1, sizeof *claims);

    add_claims(claims, parts->settings, false);
    if (parts->beside != NULL)
        add_claims(claims + count, parts->beside, true);
    parts->sizing =
        pg_sizing_start(parts->loop, parts->sizing_helpers, claims, count + count_beside);
    mem_free(claims);
}

static void stop_sizing(struct parts *parts)
{
    pg_sizing_destroy(parts->sizing);
    parts->sizing = NULL;
}

static enum err load_plugins(struct parts *parts, const struct worker_setup *setup, char *problem)
{
    const struct plugin_services services = {
        .tasks = parts->tasks,
        .helpers = parts->offload_helpers,
        .router = parts->router,
        .blame = setup->blame,
        .file = parts->settings->file,
        .plugin_dir = parts->settings->server.plugin_dir,
        .writable_by_all = parts->settings->server.plugins_writable_by_all,
        .copy_dir = setup->copy_dir,
        .pool = find_pool,
        .upstream = find_upstream,
        .shared = find_shared,
        .data = parts,
        .watch = inspection_watch(setup->inspection),
    };
    struct ini_section *section = NULL;

    parts->plugins = plugins_create(&services);
    while ((section = settings_next_plugin(parts->settings, section)) != NULL) {
        enum err err = plugins_load(parts->plugins, section, problem);
        if (err != ERR_OK)
            return err;
    }
    return ini_unused(parts->settings->file, problem) ? ERR_SYNTAX : ERR_OK;
}

/* Lines are not kept longer than the turn: a crash in the next one must not take them along. */
static void on_turn_end(struct hook *hook)
{
    access_flush(CONTAINER_OF(hook, struct parts, flush)->access);
}

static void on_turn(void *data)
{
    struct parts *parts = data;

    blame_turn(parts->tasks->blame, loop_now_us(parts->loop));
    quarantine_apply(parts->quarantine, &parts->quarantine_version, parts->router);
    if (parts->access != NULL)
        hook_start(parts->loop, &parts->flush, on_turn_end);
}

static void on_sleep(void *data)
{
    const struct parts *parts = data;

    blame_sleep(parts->tasks->blame);
}

enum err parts_init(struct parts *parts, const struct worker_setup *setup,
                    char problem[INI_PROBLEM_SIZE])
{
    const struct settings *settings = setup->settings;
    const struct fiber_options fibers = {
        .stack_size = settings->server.fiber_stack,
        .count_max = settings->server.fibers_max,
    };

    enum err err;

    *parts = (struct parts){.settings = settings,
                            .beside = setup->beside,
                            .is_first = setup->slot == 0,
                            .inspection = setup->inspection,
                            .board = setup->board,
                            .quarantine = setup->quarantine};
    quarantine_seal(setup->quarantine);
    pg_forget_environment();
    parts->loop = loop_create(&(struct loop_options){.on_turn = on_turn,
                                                     .on_sleep = on_sleep,
                                                     .on_turn_data = parts,
                                                     .coalesces = settings->server.coalesce});
    parts->sizing_helpers = helpers_create(parts->loop, SIZING_HELPERS_MAX);
    parts->offload_helpers = helpers_create(parts->loop, OFFLOAD_HELPERS_MAX);
    parts->tasks = tasks_create(parts->loop, &fibers, setup->blame);
    parts->resolver = resolver_create(
        parts->loop, settings->server.resolver[0] != '\0' ? settings->server.resolver : NULL);
    parts->router = router_create();
    err = make_shared(parts, setup, problem);
    if (err == ERR_OK)
        err = make_peers(parts, problem);
    return err == ERR_OK ? load_plugins(parts, setup, problem) : err;
}

/* Every connection needs a descriptor, and so does every session and every connection to an
 * upstream. */
static void check_files(const struct settings *settings)
{
    struct rlimit limit;
    uint64_t needed = FILES_RESERVED + settings->http.connections_max;

    for (uint32_t i = 0; i < settings->pg_count; i++)
        needed += settings->pgs[i].options.sessions_max + 1; /* and how its helpers wake us */
    for (uint32_t i = 0; i < settings->upstream_count; i++)
        needed += settings->upstreams[i].options.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < needed)
        log_warn("a worker may open %llu files, its limits of connections and sessions add up to "
                 "%llu: accepting "
                 "pauses where they run out",
                 (unsigned long long)limit.rlim_cur, (unsigned long long)needed);
}

enum err parts_serve(struct parts *parts, uint64_t id_base, void (*on_room)(void *data), void *data,
                     char problem[INI_PROBLEM_SIZE])
{
    const struct settings *settings = parts->settings;
    const char *path = settings->server.access_log;

    if (strcmp(path, "off") != 0) {
        enum err err = access_open(path, settings->server.log_format == 1, &parts->access);
        if (err != ERR_OK) {
            snprintf(problem, INI_PROBLEM_SIZE, "access_log: %s: %s", path, strerror(errno));
            return err;
        }
    }
    parts->http = http_server_create(&(struct http_server_setup){
        .tasks = parts->tasks,
        .options = &settings->http,
        .router = parts->router,
        .access = parts->access,
        .id_base = id_base,
        .on_room = on_room,
        .data = data,
        .counts = parts->board != NULL ? &parts->board->http : NULL,
    });
    for (uint32_t i = 0; i < settings->pg_count; i++)
        pg_pool_start(parts->pools[i]);
    if (parts->is_first && settings->pg_count > 0)
        start_sizing(parts);
    for (uint32_t i = 0; i < settings->upstream_count; i++)
        upstream_start(parts->upstreams[i]);
    check_files(settings);
    return plugins_start(parts->plugins, problem);
}

void parts_wind_up(struct parts *parts, bool is_so)
{
    stop_sizing(parts);
    for (uint32_t i = 0; i < parts->settings->pg_count; i++)
        pg_pool_wind_up(parts->pools[i], is_so);
}

bool parts_are_busy(const struct parts *parts)
{
    return parts->tasks->scopes_count > 0 || !plugins_are_stopped(parts->plugins);
}

/* All that they did has been given up by now: none is waited for longer than another. */
static void destroy_helpers(struct parts *parts)
{
    helpers_destroy(parts->sizing_helpers);
    for (uint32_t i = 0; parts->pool_helpers != NULL && i < parts->settings->pg_count; i++)
        helpers_destroy(parts->pool_helpers[i]);
}

void parts_deinit(struct parts *parts)
{
    http_server_destroy(parts->http);
    plugins_destroy(parts->plugins);
    inspection_destroy(parts->inspection);
    stop_sizing(parts);
    for (uint32_t i = 0; parts->pools != NULL && i < parts->settings->pg_count; i++)
        pg_pool_destroy(parts->pools[i]);
    destroy_helpers(parts);
    for (uint32_t i = 0; parts->upstreams != NULL && i < parts->settings->upstream_count; i++)
        upstream_destroy(parts->upstreams[i]);
    mem_free(parts->pools);
    mem_free(parts->pool_helpers);
    mem_free(parts->upstreams);
    router_destroy(parts->router);
    if (parts->is_shared_own)
        shared_destroy(parts->shared);
    resolver_destroy(parts->resolver);
    tasks_destroy(parts->tasks);
    helpers_destroy(parts->offload_helpers);
    access_close(parts->access);
    hook_stop(&parts->flush);
    loop_destroy(parts->loop);
    *parts = (struct parts){0};
}
