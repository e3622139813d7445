/* lib/plugin_world.c - a worker's inside, made and let go as a worker does it. */
#include "lib/plugin_world.h"
#include "base/log.h"
#include "http/router.h"
#include "lib/test.h"
#include "loop/helper.h"
#include "net/addr.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURNS_MAX = 20000 }; /* of a millisecond each: far more than any answer takes */

static struct pg_pool *no_pool(void *data, const char *name)
{
    (void)data;
    (void)name;
    return NULL;
}

static struct upstream *no_upstream(void *data, const char *name)
{
    (void)data;
    (void)name;
    return NULL;
}

static void open_log(struct plugin_world *world)
{
    world->log_fd =
        open(temp_dir_path(&world->dir, "log"), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(world->log_fd >= 0);
    log_setup(world->log_fd, LOG_DEBUG, false);
}

void plugin_world_init(struct plugin_world *world, const char *ini, const char *plugin_dir,
                       const struct fiber_options *fibers)
{
    memset(world, 0, sizeof *world);
    temp_dir_init(&world->dir);
    open_log(world);
    if (ini_parse_text("server.ini", ini, &world->file, world->problem) != ERR_OK)
        fail_msg("%s", world->problem);
    world->loop = fake_clock_loop(&world->clock);
    world->blame = blame_create();
    world->helpers = helpers_create(world->loop, 4);
    world->tasks = tasks_create(world->loop, fibers, world->blame);
    world->router = router_create();
    field_defaults(&http_option_table, &world->http_options);
    const struct plugin_services services = {.tasks = world->tasks,
                                             .helpers = world->helpers,
                                             .router = world->router,
                                             .blame = world->blame,
                                             .file = world->file,
                                             .plugin_dir = plugin_dir,
                                             .copy_dir = world->dir.path,
                                             .pool = no_pool,
                                             .upstream = no_upstream};
    world->plugins = plugins_create(&services);
}

enum err plugin_world_load(struct plugin_world *world)
{
    for (struct ini_section *section = world->file->sections; section != NULL;
         section = section->next) {
        enum err err = plugins_load(world->plugins, section, world->problem);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

void plugin_world_serve(struct plugin_world *world)
{
    const struct http_server_setup setup = {
        .tasks = world->tasks, .options = &world->http_options, .router = world->router};

    world->http = http_server_create(&setup);
    if (plugins_start(world->plugins, world->problem) != ERR_OK)
        fail_msg("%s", world->problem);
}

int plugin_world_connect(struct plugin_world *world)
{
    struct addr peer = {0};
    int fds[2];

    assert_true(addr_from_ip(SPAN("127.0.0.1"), 1234, &peer));
    pair_unix(fds);
    http_server_accept(world->http, fds[0], &peer);
    return fds[1];
}

/* "GET /x" with fields and perhaps a body as HTTP; the connection ends behind it. */
static void send_request(int fd, const char *target)
{
    const char *body = strstr(target, "\n\n");
    size_t line = strcspn(target, "\n"),
           head = body != NULL ? (size_t)(body - target) : strlen(target);
    char text[8192];
    int len = snprintf(text, sizeof text, "%.*s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n",
                       (int)line, target);

    for (size_t at = line; at < head;) {
        size_t next = strcspn(target + at + 1, "\n");
        len +=
            snprintf(text + len, sizeof text - (size_t)len, "%.*s\r\n", (int)next, target + at + 1);
        at += next + 1;
    }
    if (body != NULL)
        len += snprintf(text + len, sizeof text - (size_t)len, "Content-Length: %zu\r\n",
                        strlen(body + 2));
    len += snprintf(text + len, sizeof text - (size_t)len, "\r\n%s", body != NULL ? body + 2 : "");
    assert_in_range(len, 1, sizeof text - 1);
    peer_send(fd, text);
}

/* A turn, and a millisecond later. */
static void turn_once(struct plugin_world *world, uint32_t *turn)
{
    bool has_to_wait = helpers_pending(world->helpers) > 0;

    fake_clock_jump(&world->clock, world->loop, has_to_wait ? 0 : 1);
    if (has_to_wait)
        sched_yield();
    else
        (*turn)++;
}

const char *plugin_world_ask(struct plugin_world *world, const char *target)
{
    int fd = plugin_world_connect(world);
    bool is_end = false;
    size_t len = 0;

    send_request(fd, target);
    for (uint32_t turn = 0; turn < TURNS_MAX && !is_end;) {
        turn_once(world, &turn);
        len += peer_read(fd, world->text + len, sizeof world->text - len, &is_end);
    }
    close(fd);
    if (!is_end)
        fail_msg("no end of the answer to %s: %s", target, world->text);
    return world->text;
}

const char *plugin_world_body(struct plugin_world *world, const char *target)
{
    const char *body = strstr(plugin_world_ask(world, target), "\r\n\r\n");

    assert_non_null(body);
    return body + 4;
}

const char *plugin_world_log(struct plugin_world *world)
{
    ssize_t len = pread(world->log_fd, world->log, sizeof world->log - 1, 0);

    assert_true(len >= 0);
    world->log[len] = '\0';
    assert_int_equal(ftruncate(world->log_fd, 0), 0);
    return world->log;
}

static bool is_quiet(const struct plugin_world *world)
{
    return world->tasks->scopes_count == 0 && plugins_are_stopped(world->plugins);
}

void plugin_world_deinit(struct plugin_world *world)
{
    plugins_stop(world->plugins);
    if (world->http != NULL)
        http_server_abort(world->http);
    for (uint32_t turn = 0; turn < TURNS_MAX && !is_quiet(world);)
        turn_once(world, &turn);
    run_turns(world->loop, 4);
    if (!is_quiet(world))
        fail_msg("%u scopes live on", world->tasks->scopes_count);
    http_server_destroy(world->http);
    field_clear(&http_option_table, &world->http_options);
    plugins_destroy(world->plugins);
    router_destroy(world->router);
    tasks_destroy(world->tasks);
    helpers_destroy(world->helpers);
    blame_destroy(world->blame);
    loop_destroy(world->loop);
    ini_free(world->file);
    log_setup(2, LOG_INFO, false);
    close(world->log_fd);
    temp_dir_deinit(&world->dir);
}
