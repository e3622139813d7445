/* Goal: with TLS everything works as without, however large the answers are, and a server is
 *       trusted only as far as sslmode and what is revoked say. */
#include "base/clock.h"
#include "base/mem.h"
#include "lib/loop_driver.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include "pg/connect.h"
#include "pg/private.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEM_SIZE = 512, TLS_OVERHEAD = 22 /* of a record: head, tag, kind */ };

static struct pg_server server;
static struct pg_world world;
static char *folder; /* of the certificates; NULL: no openssl here */

/* Certificates of tests/tools/certificates in the cluster's own folder, which alone it can
 * enter. */
static void make_certificates(void)
{
    char *link = mem_format("%s/pg", server.dir.path);
    char *place = realpath(link, NULL);
    char *command =
        mem_format("%s/certificates %s && cd %s && chown --reference=data *.key *.crt && "
                   "chmod 600 *.key",
                   WEFT_TEST_TOOLS, place, place);
    char *arguments = mem_format("--set ssl=on --set ssl_cert_file=%s/good.crt "
                                 "--set ssl_key_file=%s/good.key",
                                 place, place);

    if (system("command -v openssl >/dev/null") == 0) {
        assert_int_equal(system(command), 0);
        pg_server_stop(&server);
        pg_server_start_with(&server, arguments);
        folder = mem_copy(span_of(place));
    }
    mem_free(arguments);
    mem_free(command);
    free(place);
    mem_free(link);
}

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    if (!server.is_missing)
        make_certificates();
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    mem_free(folder);
    return 0;
}

/* The server shows that certificate from now on. */
static void show(const char *name)
{
    static const char loaded[] = "select pg_conf_load_time()";
    char *command = mem_format("cd %s && cp %s.crt shown.crt && cp %s.key shown.key && "
                               "chown --reference=data shown.* && chmod 600 shown.key",
                               folder, name, name);
    char *certificate = mem_format("alter system set ssl_cert_file = '%s/shown.crt'", folder);
    char *key = mem_format("alter system set ssl_key_file = '%s/shown.key'", folder);

    char *before = mem_copy(span_of(pg_server_run(&server, loaded)));
    uint64_t end_us = clock_monotonic_us() + 20000000;

    assert_int_equal(system(command), 0);
    (void)pg_server_run_as(&server, "postgres", certificate);
    (void)pg_server_run_as(&server, "postgres", key);
    (void)pg_server_run_as(&server, "postgres", "select pg_reload_conf()");
    while (strcmp(pg_server_run(&server, loaded), before) == 0)
        assert_true(clock_monotonic_us() < end_us);
    mem_free(before);
    mem_free(command);
    mem_free(certificate);
    mem_free(key);
}

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init(&world, &server);
    pg_world_set(&world.options.host, "localhost");
    pg_world_set(&world.options.password, server.password);
    if (folder != NULL)
        show("good");
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
    if (folder == NULL)
        test_skip("openssl is not installed");
}

static void trust(const char *authority)
{
    mem_free(world.options.sslrootcert);
    world.options.sslrootcert = mem_format("%s/%s.crt", folder, authority);
}

static void expect_trust(void)
{
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select ssl from pg_stat_ssl "
                                        "where pid = pg_backend_pid()"),
                   "t");
}

/* Nobody logs in, for this reason. */
static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    (void)connect;
    assert_null(conn);
    (void)snprintf(data, PROBLEM_SIZE, "%s", problem);
}

static void expect_reason(const char *reason)
{
    char problem[PROBLEM_SIZE] = "";
    struct pg_wish wish = {.first = 0};

    (void)pg_connect_start(world.helpers, &world.options, &wish, on_connected, problem);
    for (int i = 0; i < 2000 && problem[0] == '\0'; i++)
        loop_turn(world.loop, 10);
    if (strstr(problem, reason) == NULL)
        fail_msg("%s, not %s", problem, reason);
}

static void expect_distrust(const char *reason)
{
    struct op *op;

    expect_reason(reason);

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
    trust("ca");
    expect_trust();
}

/* The name that it is reached by is not in the certificate. */
static void test_the_name_is_verified(void **state)
{
    (void)state;
    need_tls();
    show("wrong");
    world.options.sslmode = PG_SSL_VERIFY_FULL;
    trust("ca");
    expect_distrust("does not match host name");
}

static void test_the_name_does_not_matter_where_only_the_authority_does(void **state)
{
    (void)state;
    need_tls();
    show("wrong");
    world.options.sslmode = PG_SSL_VERIFY_CA;
    trust("ca");
    expect_trust();
}

static void test_the_time_is_verified(void **state)
{
    (void)state;
    need_tls();
    show("expired");
    world.options.sslmode = PG_SSL_VERIFY_CA;
    trust("ca");
    expect_distrust("certificate verify failed");
}

static void test_another_authority_is_none(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_VERIFY_FULL;
    trust("other-ca");
    expect_distrust("certificate verify failed");
}

static void test_the_systems_authorities_do_not_know_it(void **state)
{
    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_VERIFY_CA;
    expect_distrust("certificate verify failed");
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

/* The mark of pg/gather.h is of bytes on the wire, records and all: as without TLS, several answers
 * wake the worker once. What is left of a record in OpenSSL is seen all the same, and whoever is
 * stuck does not hold the answers before it. */
static void test_answers_are_gathered(void **state)
{
    enum { ROUNDS = 10, COUNT = 20, DATA_ROW = 11 };
    struct op *ops[COUNT], *stuck;
    struct pg_gather *gather;
    uint32_t most = 1;

    (void)state;
    need_tls();
    world.options.sslmode = PG_SSL_REQUIRE;
    world.options.sessions_max = 1;
    world.options.depth_max = 2 * COUNT;
    pg_world_start(&world);
    gather = &world.pool->sessions[0]->gather;
    assert_false(gather->is_off);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++)
            ops[i] = pg_world_start_sql(&world, "select 1", 0, NULL);
        while (ops[COUNT - 1]->state == OP_PENDING) {
            loop_turn(world.loop, 10);
            gather->pace_us = 10; /* whatever the machine does beside this */
            most = gather->low > most ? gather->low : most;
        }
        for (int i = 0; i < COUNT; i++)
            pg_world_check(ops[i], "1");
        pg_world_renew(&world);
    }
    assert_false(gather->is_off);
    assert_true(gather->size > DATA_ROW + TLS_OVERHEAD);
    assert_true(most > gather->size);
    for (int i = 0; i < COUNT; i++)
        ops[i] = pg_world_start_sql(&world, "select 1", 0, NULL);
    stuck = pg_world_start_sql(&world, "select pg_sleep(3600)", 0, NULL);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(pg_world_await(&world, ops[i]), ERR_OK);
    assert_int_equal(stuck->state, OP_PENDING);
    op_cancel(stuck);
}

/* Files at home, where libpq looks for them by itself */

/* What `format` makes of the certificates' folder, as a command of the shell that succeeds. */
static void run_there(const char *format)
{
    char *command = mem_format("cd %s && %s", folder, format);

    if (system(command) != 0)
        fail_msg("%s", command);
    mem_free(command);
}

/* A home with one file in it; the environment names it until the test's end. */
static void live_in(const char *file, const char *name)
{
    char *home = mem_format("%s/home", folder);
    char *command = mem_format("rm -rf home && mkdir -p home/.postgresql && "
                               "cp %s home/.postgresql/%s",
                               file, name);

    run_there(command);
    assert_int_equal(setenv("HOME", home, 1), 0);
    mem_free(command);
    mem_free(home);
}

/* Does libpq, which is told nothing of files but this one, log in? */
static bool can_log_in(const char *sslmode, const char *sslrootcert)
{
    char *conninfo =
        mem_format("host=localhost port=%s user=%s password=%s dbname=%s sslmode=%s "
                   "gssencmode=disable %s",
                   server.port, server.user, server.password, server.dbname, sslmode, sslrootcert);
    PGconn *conn = PQconnectdb(conninfo);
    bool can = PQstatus(conn) == CONNECTION_OK;

    PQfinish(conn);
    mem_free(conninfo);
    return can;
}

/* Each would keep libpq from logging in, if it was read: that is seen first. */
static void test_files_at_home_keep_nobody_out(void **state)
{
    static const struct {
        const char *file, *name;
        bool verifies;
    } cases[] = {
        {"other-ca.crt", "root.crt", false},     /* an authority that is not the server's */
        {"client.crt", "postgresql.crt", false}, /* a certificate without its key */
        {"other.crl", "root.crl", true},         /* revocations, and none by its authority */
    };
    char *home = mem_copy(span_of(getenv("HOME") != NULL ? getenv("HOME") : "/"));

    (void)state;
    need_tls();
    run_there(": >index && echo 01 >number && printf '[ca]\\ndefault_ca=it\\n[it]\\n"
              "database=index\\ncrlnumber=number\\ndefault_md=sha256\\ndefault_crl_days=2\\n' "
              ">list.conf && openssl ca -gencrl -config list.conf -keyfile other-ca.key "
              "-cert other-ca.crt -out other.crl 2>list.log");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *authority = mem_format("sslrootcert=%s/ca.crt", folder);
        const char *sslmode = cases[i].verifies ? "verify-ca" : "require";

        live_in("/dev/null", "nothing");
        assert_true(can_log_in(sslmode, cases[i].verifies ? authority : ""));
        live_in(cases[i].file, cases[i].name);
        assert_false(can_log_in(sslmode, cases[i].verifies ? authority : ""));
        world.options.sslmode = cases[i].verifies ? PG_SSL_VERIFY_CA : PG_SSL_REQUIRE;
        if (cases[i].verifies)
            trust("ca");
        expect_trust();
        pg_world_again(&world);
        pg_world_set(&world.options.host, "localhost");
        pg_world_set(&world.options.password, server.password);
        mem_free(authority);
    }
    assert_int_equal(setenv("HOME", home, 1), 0);
    mem_free(home);
}

/* The server's own authority, which libpq would take from there. */
static void test_an_authority_at_home_is_none(void **state)
{
    char *home = mem_copy(span_of(getenv("HOME") != NULL ? getenv("HOME") : "/"));

    (void)state;
    need_tls();
    live_in("ca.crt", "root.crt");
    assert_true(can_log_in("verify-full", ""));
    world.options.sslmode = PG_SSL_VERIFY_FULL;
    expect_distrust("certificate verify failed");
    assert_int_equal(setenv("HOME", home, 1), 0);
    mem_free(home);
}

/* Revocations */

/* A list of the authority's, as a file `ca.crl`, and in a folder `crls` as libpq's OpenSSL wants
 * it, which names that certificate alone. */
static void revoke(const char *name)
{
    char *command =
        mem_format("rm -rf crls && mkdir crls && : >index && echo 01 >number && "
                   "printf '[ca]\\ndefault_ca=it\\n[it]\\ndatabase=index\\ncrlnumber=number\\n"
                   "default_md=sha256\\ndefault_crl_days=2\\n' >list.conf && "
                   "list='openssl ca -config list.conf -keyfile ca.key -cert ca.crt' && "
                   "$list -revoke %s.crt 2>list.log && $list -gencrl -out ca.crl 2>list.log && "
                   "cp ca.crl crls/$(openssl crl -hash -noout -in ca.crl).r0",
                   name);

    run_there(command);
    mem_free(command);
}

/* What is revoked is in that file, and in that folder; NULL: not given. */
static void ask_for(const char *file, const char *crls)
{
    char *in_file = file != NULL ? mem_format("sslcrl=%s/%s", folder, file) : NULL;
    char *in_folder = crls != NULL ? mem_format("sslcrldir=%s/%s", folder, crls) : NULL;

    pg_world_again(&world);
    mem_free(world.options.conninfo);
    world.options.conninfo =
        mem_format("host=localhost port=%s user=%s password=%s dbname=%s "
                   "sslmode=verify-ca sslrootcert=%s/ca.crt %s %s",
                   server.port, server.user, server.password, server.dbname, folder,
                   in_file != NULL ? in_file : "", in_folder != NULL ? in_folder : "");
    mem_free(in_file);
    mem_free(in_folder);
}

static const struct {
    const char *file, *crls;
} lists[] = {{"ca.crl", NULL}, {NULL, "crls"}, {"ca.crl", "crls"}};

static void test_a_revoked_certificate_is_not_trusted(void **state)
{
    (void)state;
    need_tls();
    revoke("good");
    ask_for(NULL, NULL);
    expect_trust();
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ask_for(lists[i].file, lists[i].crls);
        expect_distrust("certificate verify failed");
    }
}

/* It could be read at the start, and libpq would say nothing. */
static void test_a_list_that_goes_keeps_sessions_from_being_opened(void **state)
{
    static const char *const ways[] = {"rm -f ca.crl", ": >ca.crl", "rm -f ca.crl && mkdir ca.crl"};

    (void)state;
    need_tls();
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        revoke("good");
        ask_for("ca.crl", NULL);
        run_there(ways[i]);
        expect_distrust("sslcrl: cannot read ");
        run_there("rm -rf ca.crl");
    }
}

/* The lists can be read, and the one that is shown is not in them. */
static void test_the_revocation_of_another_one_does_not_matter(void **state)
{
    (void)state;
    need_tls();
    revoke("wrong");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ask_for(lists[i].file, lists[i].crls);
        expect_trust();
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_anybody_is_trusted_where_nothing_else_is_asked),
        TEST(test_the_authority_is_verified),
        TEST(test_the_name_is_verified),
        TEST(test_the_name_does_not_matter_where_only_the_authority_does),
        TEST(test_the_time_is_verified),
        TEST(test_another_authority_is_none),
        TEST(test_the_systems_authorities_do_not_know_it),
        TEST(test_answers_of_all_sizes_arrive),
        TEST(test_answers_are_gathered),
        TEST(test_files_at_home_keep_nobody_out),
        TEST(test_an_authority_at_home_is_none),
        TEST(test_a_revoked_certificate_is_not_trusted),
        TEST(test_a_list_that_goes_keeps_sessions_from_being_opened),
        TEST(test_the_revocation_of_another_one_does_not_matter),
    };
#undef TEST

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
