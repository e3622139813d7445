/* Goal: with TLS everything works as without, however large the answers are, and a server is trusted
 *       only as far as sslmode says. */
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"

#include <stdlib.h>
#include <string.h>

static struct pg_server server;
static struct pg_world world;
static char *certificate; /* the server's, and its own authority; NULL: no openssl here */

/* A certificate for the name localhost, and a server that uses it. */
static void make_certificate(void)
{
    char *link = mem_format("%s/pg", server.dir.path);
    char *folder = realpath(link, NULL);
    char *command = mem_format(
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout tls.key "
        "-out tls.crt >/dev/null 2>&1 && chown --reference=data tls.key tls.crt && "
        "chmod 600 tls.key",
        folder);
    char *arguments =
        mem_format("--set ssl=on --set ssl_cert_file=%s/tls.crt --set ssl_key_file=%s/tls.key",
                   folder, folder);

    if (system(command) == 0) {
        pg_server_stop(&server);
        pg_server_start_with(&server, arguments);
        certificate = mem_format("%s/tls.crt", folder);
    }
    mem_free(arguments);
    mem_free(command);
    free(folder);
    mem_free(link);
}

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    if (!server.is_missing)
        make_certificate();
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    mem_free(certificate);
    return 0;
}

static void set_text(char **option, const char *text)
{
    mem_free(*option);
    *option = mem_copy(span_of(text));
}

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init(&world, &server);
    set_text(&world.options.host, "localhost");
    set_text(&world.options.password, server.password);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

static void need_tls(void)
{
    pg_server_need(&server);
    if (certificate == NULL)
        test_skip("openssl is not installed");
}

static void expect_trust(void)
{
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select ssl from pg_stat_ssl "
                                        "where pid = pg_backend_pid()"),
                   "t");
}

static void expect_distrust(void)
{
    struct op *op;

    world.options.queue_timeout_ms = 300;
    world.pool = pg_pool_create(world.loop, world.helpers, "test", &world.options);
    pg_pool_start(world.pool);
    world.scope = scope_create(world.tasks, NULL, NULL, 0);
    op = pg_world_start_sql(&world, "select 1", 0, NULL);
    assert_int_equal(pg_world_await(&world, op), ERR_DB_DOWN);
    for (int i = 0; i < 1000 && pg_pool_counts(world.pool)->sessions_refused == 0; i++)
        loop_turn(world.loop, 10);
    assert_true(pg_pool_counts(world.pool)->sessions_refused > 0);
    assert_int_equal(pg_pool_counts(world.pool)->sessions_opened, 0);
}

static void test_anybody_is_trusted_where_nothing_else_is_asked(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_REQUIRE;
    expect_trust();
}

static void test_the_authority_is_verified(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_VERIFY_FULL;
    set_text(&world.options.sslrootcert, certificate);
    expect_trust();
}

static void test_the_name_is_verified(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_VERIFY_FULL;
    set_text(&world.options.sslrootcert, certificate);
    set_text(&world.options.host, "127.0.0.1");
    expect_distrust();
}

static void test_the_systems_authorities_do_not_know_it(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_VERIFY_CA;
    expect_distrust();
}

/* Records of TLS end in the middle of answers; what is left decrypted must not be forgotten. */
static void test_answers_of_all_sizes_arrive(void **state)
{
    enum { COUNT = 300 };
    struct op *ops[COUNT];

    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_REQUIRE;
    world.options.sessions_max = 2;
    pg_world_start(&world);
    for (int i = 0; i < COUNT; i++) {
        const struct pg_value size = pg_world_int(i * i);

        ops[i] = pg_world_start_sql(&world, "select repeat('x', $1)", 1, &size);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
        assert_int_equal(pg_text(ops[i], 0, 0).len, i * i);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_anybody_is_trusted_where_nothing_else_is_asked),
        TEST(test_the_authority_is_verified),
        TEST(test_the_name_is_verified),
        TEST(test_the_systems_authorities_do_not_know_it),
        TEST(test_answers_of_all_sizes_arrive),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
