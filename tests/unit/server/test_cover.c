/* Goal: a neighbour that does not accept is stood in for: at once where the worker is told to look,
 * at its next tick else, and by nobody who does not accept himself; until the neighbour is back. */
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "server/cover.h"

#include <sys/socket.h>
#include <unistd.h>

enum { NEIGHBOUR, OURS, WORKERS }; /* a slot each */

/* Worker OURS of a host with two, each with a socket at an address of its own, so that a client can
 * choose. */
struct fixture {
    struct fake_clock clock;
    struct loop *loop;
    struct roster roster;
    struct settings settings;
    struct sockets sockets;
    struct sockets_row row;
    struct addr addrs[WORKERS];
    struct cover cover;
    uint32_t accepted;
    int clients[8];
    uint32_t clients_count;
};

static struct fixture fixture;

static void on_connection(struct listener *listener, int fd, const struct addr *peer)
{
    (void)peer;
    assert_ptr_equal(cover_data(listener), &fixture);
    fixture.accepted++;
    close(fd);
}

static bool yes(void *data)
{
    (void)data;
    return true;
}

static void on_tick(void *data)
{
    (void)data;
}

static void make_sockets(void)
{
    fixture.row = (struct sockets_row){0};
    for (uint32_t slot = 0; slot < WORKERS; slot++) {
        assert_true(addr_parse(SPAN("127.0.0.1:0"), &fixture.addrs[slot]));
        assert_int_equal(listener_socket(&fixture.addrs[slot], 16, 0, &fixture.row.fds[slot]),
                         ERR_OK);
        assert_true(addr_of_socket(fixture.row.fds[slot], &fixture.addrs[slot]));
    }
    fixture.row.addr = fixture.addrs[NEIGHBOUR];
    fixture.settings.listen[0] = fixture.row.addr;
    fixture.settings.listen_count = 1;
    fixture.settings.workers = WORKERS;
    fixture.sockets = (struct sockets){._rows[0] = &fixture.row, .row_count = 1, .slots = WORKERS};
}

/* The neighbour says that it accepts, as it does again at each tick. */
static void neighbour_beats(void)
{
    roster_beat(&fixture.roster, NEIGHBOUR, fixture.clock.now_us);
}

static int set_up(void **state)
{
    (void)state;
    fixture = (struct fixture){0};
    fixture.loop = fake_clock_loop(&fixture.clock);
    roster_init(&fixture.roster);
    roster_say(&fixture.roster, ROSTER_GO, NULL, 0);
    make_sockets();
    cover_init(&fixture.cover, &(struct cover_setup){.loop = fixture.loop,
                                                     .roster = &fixture.roster,
                                                     .sockets = &fixture.sockets,
                                                     .settings = &fixture.settings,
                                                     .index = OURS,
                                                     .on_connection = on_connection,
                                                     .has_room = yes,
                                                     .make_room = yes,
                                                     .on_tick = on_tick,
                                                     .data = &fixture});
    neighbour_beats();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cover_deinit(&fixture.cover);
    cover_deinit(&fixture.cover);
    for (uint32_t i = 0; i < fixture.clients_count; i++)
        close_fd(&fixture.clients[i]);
    roster_deinit(&fixture.roster);
    loop_destroy(fixture.loop);
    return 0;
}

/* A client is queued at the slot. */
static void connect_to(uint32_t slot)
{
    const struct addr *addr = &fixture.addrs[slot];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&addr->storage, addr->len), 0);
    fixture.clients[fixture.clients_count++] = fd;
}

/* Who is accepted although no time passes? */
static uint32_t accepted_now(void)
{
    run_turns(fixture.loop, 3);
    return fixture.accepted;
}

static void test_each_has_its_own(void **state)
{
    (void)state;
    cover_go(&fixture.cover);
    cover_look(&fixture.cover);
    connect_to(NEIGHBOUR);
    assert_int_equal(accepted_now(), 0);
    connect_to(OURS);
    assert_int_equal(accepted_now(), 1);
}

static void test_a_neighbour_that_died_at_once(void **state)
{
    (void)state;
    cover_go(&fixture.cover);
    connect_to(NEIGHBOUR);
    assert_int_equal(accepted_now(), 0);
    roster_leave(&fixture.roster, NEIGHBOUR);
    assert_int_equal(accepted_now(), 0);
    cover_look(&fixture.cover);
    assert_int_equal(accepted_now(), 1);
}

static void test_a_neighbour_that_died_at_the_next_tick(void **state)
{
    (void)state;
    cover_go(&fixture.cover);
    connect_to(NEIGHBOUR);
    roster_leave(&fixture.roster, NEIGHBOUR);
    fake_clock_walk(&fixture.clock, fixture.loop, ROSTER_TICK_MS);
    assert_int_equal(accepted_now(), 1);
}

static void test_a_neighbour_that_is_silent(void **state)
{
    (void)state;
    cover_go(&fixture.cover);
    connect_to(NEIGHBOUR);
    fake_clock_walk(&fixture.clock, fixture.loop, ROSTER_STALE_MS - 1);
    assert_int_equal(accepted_now(), 0);
    fake_clock_walk(&fixture.clock, fixture.loop, ROSTER_TICK_MS);
    assert_int_equal(accepted_now(), 1);
}

static void test_a_neighbour_that_is_back(void **state)
{
    (void)state;
    cover_go(&fixture.cover);
    roster_leave(&fixture.roster, NEIGHBOUR);
    cover_look(&fixture.cover);
    neighbour_beats();
    cover_look(&fixture.cover);
    connect_to(NEIGHBOUR);
    assert_int_equal(accepted_now(), 0);
}

static void test_who_does_not_accept_stands_in_for_nobody(void **state)
{
    (void)state;
    connect_to(NEIGHBOUR);
    roster_leave(&fixture.roster, NEIGHBOUR);
    cover_look(&fixture.cover); /* has not begun */
    assert_int_equal(accepted_now(), 0);
    cover_go(&fixture.cover);
    cover_hold(&fixture.cover);
    cover_look(&fixture.cover);
    assert_int_equal(accepted_now(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_each_has_its_own),
        TEST(test_a_neighbour_that_died_at_once),
        TEST(test_a_neighbour_that_died_at_the_next_tick),
        TEST(test_a_neighbour_that_is_silent),
        TEST(test_a_neighbour_that_is_back),
        TEST(test_who_does_not_accept_stands_in_for_nobody),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
