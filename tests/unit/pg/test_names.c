/* Goal: of a name with several addresses one that is silent costs its connect_timeout, and the next
 *       one is tried; one that refuses costs nothing. */
#include "base/mem.h"
#include "lib/pg_server.h"
#include "lib/test.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pg_server server;
static struct pg_world world;

/* The addresses of "db.test"; the last one is NULL. */
static const char *addresses[4];

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);
int __real_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found);

int __wrap_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                       struct addrinfo **found)
{
    struct addrinfo **end = found;

    if (strcmp(name, "db.test") != 0)
        return __real_getaddrinfo(name, service, hints, found);
    for (uint32_t i = 0; addresses[i] != NULL; i++) {
        assert_int_equal(__real_getaddrinfo(addresses[i], service, hints, end), 0);
        end = &(*end)->ai_next;
    }
    return 0;
}

static int start_server(void **state)
{
    (void)state;
    pg_server_init(&server, "--tcp");
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    pg_server_deinit(&server);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    if (server.is_missing)
        return 0;
    pg_world_init(&world, &server);
    mem_free(world.options.conninfo);
    world.options.conninfo = mem_format("host=db.test port=%s user=%s dbname=%s password=%s",
                                        server.port, server.user, server.dbname, server.password);
    world.options.sessions_max = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!server.is_missing)
        pg_world_deinit(&world);
    return 0;
}

/* Listens beside the server, and never answers: connections stay in the kernel's queue. */
static int listen_silently(const char *address)
{
    struct sockaddr_in own = {.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atoi(server.port))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(inet_pton(AF_INET, address, &own.sin_addr), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof own), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static void test_the_address_behind_a_silent_one(void **state)
{
    int fd;

    (void)state;
    pg_server_need(&server);
    fd = listen_silently("127.0.0.2");
    addresses[0] = "127.0.0.2";
    addresses[1] = "127.0.0.1";
    addresses[2] = NULL;
    world.options.connect_timeout_ms = 1000; /* the server itself needs some of that */
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select host(inet_server_addr())"), "127.0.0.1");
    (void)close(fd);
}

static void test_the_address_behind_one_that_refuses(void **state)
{
    (void)state;
    pg_server_need(&server);
    addresses[0] = "127.0.0.3";
    addresses[1] = "127.0.0.4";
    addresses[2] = "127.0.0.1";
    addresses[3] = NULL;
    pg_world_start(&world);
    pg_world_check(pg_world_run(&world, "select 'there'"), "there");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_the_address_behind_a_silent_one),
        TEST(test_the_address_behind_one_that_refuses),
    };

    return cmocka_run_group_tests(tests, start_server, stop_server);
}
