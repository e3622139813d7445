/* test.c - a test's life: a worker's inside is made and let go as a worker does it.
 *
 *   started ──▶ serving ──▶ stopped (the plugin's background is over) ──▶ quiet ──▶ gone
 *      └── refused: init() or start() failed; weft_test_problem()
 */
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/router.h"
#include "http/server.h"
#include "kit.h"
#include "loop/helper.h"
#include "loop/loop.h"
#include "net/resolve.h"
#include "observe/blame.h"
#include "pg/private.h"
#include "plugin/abi.h"
#include "settings/ini.h"
#include "task/scope.h"
#include "task/tasks.h"
#include "upstream/upstream.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HEAD_FIELDS_MAX = 100,
    HEAD_BYTES_MAX = 1 << 20,
    STOP_MS_MAX = 10 * 60 * 1000, /* of virtual time, for what the plugin still has to finish */
};

struct weft_test *kit_here;

/* Failures */

void kit_fail(weft_test *t, const char *file, int line, const char *format, ...)
{
    const char *sweep = kit_sweep_text(t);
    char place[512] = "", text[4096];
    struct kit_failure *failure;
    va_list args;
    size_t size;

    if (file != NULL)
        snprintf(place, sizeof place, "%s:%d: ", file, line);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size = strlen(place) + strlen(text) + strlen(sweep) + 1;
    failure = mem_alloc(sizeof *failure + size);
    snprintf(failure->text, size, "%s%s%s", place, text, sweep);
    list_append(&t->untold, &failure->link);
    t->failures++;
}

static void tell_all(struct list *untold, weft_test_failure_fn *fn, void *data)
{
    struct list *link;

    while ((link = list_first(untold)) != NULL) {
        struct kit_failure *failure = CONTAINER_OF(link, struct kit_failure, link);
        char *text = mem_copy(span_of(failure->text));

        list_remove(link);
        mem_free(failure);
        if (fn == NULL)
            fprintf(stderr, "weft_test: %s\n", text);
        else
            fn(data, text);
        mem_free(text);
    }
}

void kit_tell(weft_test *t)
{
    tell_all(&t->untold, t->on_failure, t->on_failure_data);
}

void weft_test_on_failure(weft_test *t, weft_test_failure_fn *fn, void *data)
{
    t->on_failure = fn;
    t->on_failure_data = data;
}

int weft_test_failures(const weft_test *t)
{
    return t->failures;
}

char *kit_copy(weft_test *t, const char *text)
{
    return (char *)arena_copy(&t->arena, span_of(text)).ptr;
}

/* Starting */

static uint64_t now_us(void *data)
{
    return ((const weft_test *)data)->now_us;
}

static void refuse(weft_test *t, const char *problem)
{
    if (t->problem == NULL)
        t->problem = kit_copy(t, problem);
}

static struct kit_peer *find_peer(const weft_test *t, const char *name, bool is_pool)
{
    struct kit_peer *peer = t->peers;

    while (peer != NULL && (strcmp(peer->name, name) != 0 || (peer->pool != NULL) != is_pool))
        peer = peer->next;
    return peer;
}

/* A peer with the options of [`table`.`name`], or with the defaults. */
static struct kit_peer *add_peer(weft_test *t, const char *name, const struct field_table *table,
                                 bool is_pool)
{
    struct kit_peer *peer = arena_alloc(&t->arena, sizeof *peer);
    struct ini_section *section = ini_section(t->file, table->kind, name);
    void *options = is_pool ? (void *)&peer->pg_options : (void *)&peer->upstream_options;
    char problem[INI_PROBLEM_SIZE];

    peer->name = kit_copy(t, name);
    peer->number = ++t->peers_count;
    if (section == NULL) {
        field_defaults(table, options);
    } else if (field_bind(table, t->file, section, options, problem) != ERR_OK) {
        refuse(t, problem);
        field_clear(table, options);
        return NULL;
    }
    peer->next = t->peers;
    t->peers = peer;
    return peer;
}

static void replace(char **text, char *with)
{
    mem_free(*text);
    *text = with;
}

static struct pg_pool *find_pool(void *data, const char *name)
{
    weft_test *t = data;
    struct kit_peer *peer = find_peer(t, name, true);

    if (peer != NULL)
        return peer->pool;
    peer = add_peer(t, name, &pg_option_table, true);
    if (peer == NULL)
        return NULL;
    replace(&peer->pg_options.conninfo, mem_copy(SPAN("")));
    replace(&peer->pg_options.dbname, mem_copy(span_of(name)));
    peer->pool = pg_pool_create(t->loop, t->helpers, peer->name, &peer->pg_options);
    peer->pool->random = 1; /* the same back-off each time */
    return peer->pool;
}

static struct upstream *find_upstream(void *data, const char *name)
{
    weft_test *t = data;
    struct kit_peer *peer = find_peer(t, name, false);
    char problem[INI_PROBLEM_SIZE];

    if (peer != NULL)
        return peer->upstream;
    peer = add_peer(t, name, &upstream_option_table, false);
    if (peer == NULL)
        return NULL;
    if (peer->upstream_options.url == NULL)
        peer->upstream_options.url = mem_format("http://%s.test", name);
    peer->upstream_options.idle_timeout_ms = 0; /* a connection a call */
    replace(&peer->upstream_options.addresses, mem_copy(SPAN("")));
    if (upstream_url_parse(peer->upstream_options.url, &peer->url, problem) != ERR_OK) {
        refuse(t, problem);
        return NULL;
    }
    peer->upstream =
        upstream_create(t->tasks, t->resolver, peer->name, &peer->upstream_options, problem);
    if (peer->upstream == NULL)
        refuse(t, problem);
    return peer->upstream;
}

static bool read_settings(weft_test *t, const char *name, const char *path, const char *settings)
{
    char problem[INI_PROBLEM_SIZE];
    char *text =
        mem_format("[plugin.%s]\npath = %s\n%s", name, path, settings != NULL ? settings : "");
    enum err err = ini_parse_text("settings", text, &t->file, problem);

    mem_free(text);
    if (err == ERR_OK)
        err = field_bind(&http_option_table, t->file, ini_section(t->file, "http", ""),
                         &t->http_options, problem);
    if (err != ERR_OK)
        refuse(t, problem);
    return err == ERR_OK;
}

static void load(weft_test *t, const weft_plugin *linked)
{
    const struct plugin_services services = {.tasks = t->tasks,
                                             .helpers = t->helpers,
                                             .router = t->router,
                                             .blame = t->blame,
                                             .file = t->file,
                                             .plugin_dir = ".",
                                             .writable_by_all = true,
                                             .copy_dir = t->folder,
                                             .pool = find_pool,
                                             .upstream = find_upstream,
                                             .data = t,
                                             .linked = linked};
    char problem[INI_PROBLEM_SIZE];

    t->abi = abi_create(&services);
    t->instance = instance_create(t->abi, t->file->sections, &t->arenas, problem);
    if (t->instance == NULL) {
        refuse(t, problem);
        return;
    }
    if (instance_load(t->instance, problem) != ERR_OK) {
        instance_destroy(t->instance);
        t->instance = NULL;
        refuse(t, problem);
        return;
    }
    kit_watch(t->instance->descriptor);
    if (ini_unused(t->file, problem))
        refuse(t, problem);
}

static void serve(weft_test *t)
{
    char problem[INI_PROBLEM_SIZE];

    if (instance_start(t->instance, problem) != ERR_OK) {
        refuse(t, problem);
        return;
    }
    t->http = http_server_create(&(struct http_server_setup){
        .tasks = t->tasks, .options = &t->http_options, .router = t->router});
    kit_settle(t);
    t->scopes_at_start = t->tasks->scopes_count;
}

static void make_parts(weft_test *t)
{
    t->begin_us = t->now_us = 1000ull * 1000 * 1000;
    arena_pool_init(&t->arenas, 0, NULL);
    arena_init(&t->arena, &t->arenas);
    list_init(&t->untold);
    list_init(&t->requests);
    list_init(&t->steps);
    list_init(&t->starts);
    kit_log_open(t);
    t->on_pipe_before = signal(SIGPIPE, SIG_IGN);
    t->limits = (struct http_parser_limits){HEAD_BYTES_MAX, HEAD_BYTES_MAX, HEAD_BYTES_MAX,
                                            HTTP_EXCESS_BYTES};
    t->head = http_head_create(HEAD_FIELDS_MAX);
    t->loop = loop_create(&(struct loop_options){.now_us = now_us, .data = t});
    t->helpers = helpers_create(t->loop, 1);
    t->resolver = resolver_create(t->loop, NULL);
    t->blame = blame_create();
    t->tasks = tasks_create(t->loop, NULL, t->blame);
    t->router = router_create();
    kit_calls_init(t);
}

static weft_test *start(const weft_plugin *linked, const char *name, const char *path,
                        const char *settings)
{
    weft_test *t = mem_alloc(sizeof *t);
    char folder[] = "/tmp/weft_test.XXXXXX";

    if (kit_here != NULL) {
        fprintf(stderr, "weft_test: the test before was not ended: it is now\n");
        (void)weft_test_end(kit_here);
    }
    kit_here = t;
    t->magic = KIT_MAGIC;
    make_parts(t);
    if (linked == NULL) {
        CHECK(mkdtemp(folder) != NULL);
        t->folder = mem_copy(span_of(folder));
    }
    if (read_settings(t, name, path, settings))
        load(t, linked);
    if (t->problem == NULL)
        serve(t);
    return t;
}

weft_test *weft_test_start_of(const weft_plugin *plugin, const char *settings)
{
    return start(plugin, plugin->name != NULL ? plugin->name : "plugin", "linked", settings);
}

weft_test *weft_test_load(const char *path, const char *settings)
{
    const char *slash = strrchr(path, '/');
    char *file = slash != NULL ? mem_copy(span_of(path)) : mem_format("./%s", path);
    const char *begin = strrchr(file, '/') + 1;
    char *name = mem_copy((struct span){begin, strcspn(begin, ".")});
    weft_test *t = start(NULL, name, file, settings);

    mem_free(name);
    mem_free(file);
    return t;
}

const char *weft_test_problem(weft_test *t)
{
    t->is_problem_known = true;
    return t->problem;
}

/* Ending */

static bool is_stopped(weft_test *t, void *data)
{
    (void)data;
    return (t->instance == NULL || instance_is_stopped(t->instance)) && t->tasks->scopes_count == 0;
}

/* What the plugin has made since it started, and nothing will ever end. */
static void look_for_left_over(weft_test *t)
{
    const struct scope *background = t->instance->background;

    if (background == NULL || background->why != SCOPE_ALIVE)
        return;
    LIST_EACH (&background->children, link) {
        const struct scope *child = CONTAINER_OF(link, struct scope, _link);

        if (scope_is_idle(child) && t->tasks->scopes_count > t->scopes_at_start)
            kit_fail(t, NULL, 0,
                     "a child of the plugin's background ctx lives on, with nothing under way in "
                     "it: weft_end()");
    }
}

static void stop(weft_test *t)
{
    kit_settle(t);
    if (t->instance != NULL) {
        look_for_left_over(t);
        instance_stop(t->instance);
    }
    kit_settle(t);
    kit_clients_close(t);
    if (!kit_run_until(t, is_stopped, NULL, STOP_MS_MAX))
        kit_fail(t, NULL, 0, "%u of the plugin's ctx do not end, though they are canceled",
                 t->tasks->scopes_count);
    kit_log_read(t);
}

static void free_all(weft_test *t)
{
    http_server_destroy(t->http);
    instance_destroy(t->instance);
    abi_destroy(t->abi);
    kit_calls_deinit(t);
    for (struct kit_peer *peer = t->peers; peer != NULL; peer = peer->next) {
        pg_pool_destroy(peer->pool);
        upstream_destroy(peer->upstream);
        field_clear(&pg_option_table, &peer->pg_options);
        field_clear(&upstream_option_table, &peer->upstream_options);
    }
    router_destroy(t->router);
    tasks_destroy(t->tasks);
    helpers_destroy(t->helpers);
    blame_destroy(t->blame);
    resolver_destroy(t->resolver);
    loop_destroy(t->loop);
    ini_free(t->file);
    field_clear(&http_option_table, &t->http_options);
    http_head_destroy(t->head);
    kit_log_close(t);
    (void)signal(SIGPIPE, t->on_pipe_before);
    arena_deinit(&t->arena);
    arena_pool_deinit(&t->arenas);
    t->magic = 0;
    mem_free(t);
}

/* What does not end cannot be taken apart. */
static void leave_as_it_is(weft_test *t)
{
    static weft_test *left;

    abi_destroy(t->abi);
    kit_log_close(t);
    (void)signal(SIGPIPE, t->on_pipe_before);
    t->left_before = left;
    left = t;
}

static void remove_folder(weft_test *t)
{
    char *file;

    if (t->folder == NULL)
        return;
    if (t->file != NULL && t->file->sections != NULL) {
        file = mem_format("%s/%s.so", t->folder, t->file->sections->name);
        (void)unlink(file);
        mem_free(file);
    }
    (void)rmdir(t->folder);
    mem_free(t->folder);
}

int weft_test_end(weft_test *t)
{
    weft_test_failure_fn *fn;
    struct list untold;
    void *data;
    int failures;

    if (t == NULL)
        return 0;
    CHECK_OBJ(t, KIT_MAGIC);
    stop(t);
    if (t->problem != NULL && !t->is_problem_known)
        kit_fail(t, NULL, 0, "the plugin was not started: %s", t->problem);
    kit_end_steps(t);
    remove_folder(t);
    fn = t->on_failure;
    data = t->on_failure_data;
    failures = t->failures;
    list_init(&untold);
    list_move_all(&untold, &t->untold);
    kit_here = NULL;
    if (is_stopped(t, NULL))
        free_all(t);
    else
        leave_as_it_is(t);
    tell_all(&untold, fn, data);
    return failures;
}
