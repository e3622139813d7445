/* lib/pg_server.c - a private PostgreSQL server of a test's own, and a worker's insides on it. */
#include "lib/pg_server.h"
#include "base/clock.h"
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/test.h"

#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The server */

static void take_line(struct pg_server *server, const char *line)
{
    const struct {
        const char *key;
        char *text;
        size_t size;
    } texts[] = {
        {"PGHOST=", server->host, sizeof server->host},
        {"PGPORT=", server->port, sizeof server->port},
        {"PGUSER=", server->user, sizeof server->user},
        {"PGDATABASE=", server->dbname, sizeof server->dbname},
        {"PGPASSWORD=", server->password, sizeof server->password},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t len = strlen(texts[i].key);

        if (strncmp(line, texts[i].key, len) == 0)
            (void)snprintf(texts[i].text, texts[i].size, "%.*s", (int)strcspn(line + len, "\n"),
                           line + len);
    }
    if (strncmp(line, "PGPID=", 6) == 0)
        server->pid = atoi(line + 6);
}

/* Runs tests/tools/pgcluster; its exit status. */
static int run_tool(struct pg_server *server, const char *verb, const char *arguments)
{
    char command[2048], line[512];
    FILE *out;

    (void)snprintf(command, sizeof command, "exec %s/pgcluster %s %s %s 2>&1", WEFT_TEST_TOOLS,
                   verb, server->dir.path, arguments);
    out = popen(command, "re");
    assert_non_null(out);
    while (fgets(line, sizeof line, out) != NULL) {
        take_line(server, line);
        if (strncmp(line, "pgcluster:", 10) == 0)
            print_message("%s", line);
    }
    return pclose(out);
}

static void start(struct pg_server *server, const char *arguments)
{
    char all[1200];

    (void)snprintf(all, sizeof all, "--with %d %s", (int)getpid(), arguments);
    if (run_tool(server, "start", all) != 0)
        fail_msg("the PostgreSQL server does not start");
    server->is_running = true;
}

void pg_server_init(struct pg_server *server, const char *arguments)
{
    *server = (struct pg_server){.has_tcp = strstr(arguments, "--tcp") != NULL};
    pg_forget_environment();
    server->is_missing = system("command -v pg_ctl psql >/dev/null 2>&1 ||"
                                " ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1") != 0;
    if (server->is_missing)
        return;
    temp_dir_init(&server->dir);
    start(server, arguments);
}

void pg_server_deinit(struct pg_server *server)
{
    if (server->is_missing)
        return;
    (void)run_tool(server, "remove", "");
    temp_dir_deinit(&server->dir);
}

void pg_server_stop(struct pg_server *server)
{
    assert_int_equal(run_tool(server, "stop", "--now"), 0);
    server->is_running = false;
}

void pg_server_start_with(struct pg_server *server, const char *arguments)
{
    char all[1024];

    (void)snprintf(all, sizeof all, "%s%s %s", server->has_tcp ? "--port " : "",
                   server->has_tcp ? server->port : "", arguments);
    start(server, all);
}

void pg_server_start(struct pg_server *server)
{
    pg_server_start_with(server, "");
}

void pg_server_need(const struct pg_server *server)
{
    if (server->is_missing)
        test_skip("PostgreSQL is not installed");
}

static void ignore_notice(void *data, const char *message)
{
    (void)data;
    (void)message;
}

const char *pg_server_run_as(const struct pg_server *server, const char *user, const char *sql)
{
    static char text[256];
    const char *const keywords[] = {"host", "port", "user", "dbname", "application_name", NULL};
    const char *const values[] = {server->host, server->port, user, server->dbname, "test", NULL};
    PGconn *conn = PQconnectdbParams(keywords, values, 0);
    PGresult *result;
    ExecStatusType status;

    (void)PQsetNoticeProcessor(conn, ignore_notice, NULL);
    result = PQexec(conn, sql);
    status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(conn));
    text[0] = '\0';
    if (PQntuples(result) > 0 && PQnfields(result) > 0)
        (void)snprintf(text, sizeof text, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(conn);
    return text;
}

const char *pg_server_run(const struct pg_server *server, const char *sql)
{
    return pg_server_run_as(server, server->user, sql);
}

/* The world */

static uint64_t read_clock(void *data)
{
    const struct pg_world *world = data;

    return world->still_us > 0 ? world->still_us : clock_monotonic_us() + world->ahead_us;
}

static void init(struct pg_world *world, struct pg_server *server,
                 const struct loop_options *options)
{
    *world = (struct pg_world){.server = server};
    field_defaults(&pg_option_table, &world->options);
    free(world->options.host);
    free(world->options.user);
    free(world->options.dbname);
    world->options.host = strdup(server->host);
    world->options.user = strdup(server->user);
    world->options.dbname = strdup(server->dbname);
    world->options.port = (uint32_t)atoi(server->port);
    world->loop = loop_create(options);
    world->helpers = helpers_create(world->loop, 2);
    world->tasks = tasks_create(world->loop, NULL, NULL);
}

void pg_world_init(struct pg_world *world, struct pg_server *server)
{
    init(world, server, NULL);
}

void pg_world_init_ahead(struct pg_world *world, struct pg_server *server)
{
    init(world, server, &(struct loop_options){.now_us = read_clock, .data = world});
}

void pg_world_stand_still(struct pg_world *world)
{
    world->still_us = loop_now_us(world->loop);
}

void pg_world_go_on(struct pg_world *world)
{
    if (world->still_us > 0)
        world->ahead_us = world->still_us - clock_monotonic_us();
    world->still_us = 0;
}

void pg_world_jump(struct pg_world *world, uint32_t ms)
{
    if (world->still_us > 0)
        world->still_us += ms * 1000ull;
    else
        world->ahead_us += ms * 1000ull;
    loop_turn(world->loop, 0);
}

void pg_world_set(char **option, const char *text)
{
    mem_free(*option);
    *option = mem_copy(span_of(text));
}

void pg_world_start(struct pg_world *world)
{
    world->pool = pg_pool_create(world->loop, world->helpers, "test", &world->options);
    pg_pool_start(world->pool);
    world->scope = scope_create(world->tasks, NULL, NULL, 0);
    pg_world_until_sessions(world, 1);
}

static void end_scope(struct pg_world *world)
{
    scope_finish(world->scope, SCOPE_REPLIED);
    for (uint32_t i = 0; i < 10 && world->tasks->scopes_count > 0; i++)
        loop_turn(world->loop, 0);
    assert_int_equal(world->tasks->scopes_count, 0);
}

void pg_world_renew(struct pg_world *world)
{
    end_scope(world);
    world->scope = scope_create(world->tasks, NULL, NULL, 0);
}

void pg_world_deinit(struct pg_world *world)
{
    if (world->scope != NULL)
        end_scope(world);
    pg_pool_destroy(world->pool);
    helpers_destroy(world->helpers);
    tasks_destroy(world->tasks);
    loop_destroy(world->loop);
    field_clear(&pg_option_table, &world->options);
}

void pg_world_again(struct pg_world *world)
{
    pg_world_deinit(world);
    pg_world_init(world, world->server);
}

struct op *pg_world_start_sql(struct pg_world *world, const char *sql, uint32_t count,
                              const struct pg_value *values)
{
    const struct pg_call call = {
        .pool = world->pool, .sql = span_of(sql), .values = values, .count = count};

    return pg_query_start(world->scope, &call);
}

static uint64_t give_up_us(void)
{
    return clock_monotonic_us() + DRIVER_SECONDS * 1000000ull;
}

enum err pg_world_await(struct pg_world *world, struct op *op)
{
    uint64_t end_us = give_up_us();

    while (op->state == OP_PENDING) {
        if (clock_monotonic_us() > end_us)
            fail_msg("an op did not settle in %d seconds", DRIVER_SECONDS);
        loop_turn(world->loop, 10);
    }
    return op->status;
}

struct op *pg_world_run(struct pg_world *world, const char *sql)
{
    struct op *op = pg_world_start_sql(world, sql, 0, NULL);
    enum err err = pg_world_await(world, op);

    if (err != ERR_OK)
        fail_msg("%s: %s: %.*s", sql, err_name(err), SPAN_ARG(op->error));
    return op;
}

struct pg_value pg_world_text(const char *text)
{
    return (struct pg_value){.kind = PG_TEXT, .as.text = span_of(text)};
}

struct pg_value pg_world_int(int64_t number)
{
    return (struct pg_value){.kind = PG_INT, .as.i = number};
}

void pg_world_check(const struct op *op, const char *text)
{
    assert_int_equal(op->status, ERR_OK);
    assert_true(pg_rows(op) > 0);
    assert_non_null(pg_text(op, 0, 0).ptr);
    assert_string_equal(pg_text(op, 0, 0).ptr, text);
}

void pg_world_until_sessions(struct pg_world *world, uint32_t count)
{
    uint64_t end_us = give_up_us();

    while (pg_pool_counts(world->pool)->sessions < count) {
        if (clock_monotonic_us() > end_us)
            fail_msg("no %u sessions in %d seconds", count, DRIVER_SECONDS);
        loop_turn(world->loop, 10);
    }
}
