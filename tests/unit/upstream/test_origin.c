/* Goal: connections are lent last used first, never one that the peer touched while nobody used it,
 *       never more than allowed; who waits is served in order, and no place is ever lost. Of
 *       several addresses none is a reason to fail while there is another, and they may change. */
#include "lib/dns_server.h"
#include "lib/loop_driver.h"
#include "lib/peer.h"
#include "lib/random.h"
#include "lib/test.h"
#include "net/resolve.h"
#include "upstream/origin.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOANS = 6 };

/* One who wants a connection, and what it got. */
struct borrower {
    struct origin_loan loan;
    uint32_t told;
    char reason[40]; /* "": there is one */
    char problem[CONN_PROBLEM_SIZE];
    struct origin_conn *conn;
    struct place *place;
};

/* An origin whose server is a scripted peer. */
struct place {
    struct fake_clock clock;
    struct loop *loop;
    struct dns_server dns;
    struct resolver *resolver;
    struct buf_pool buffers;
    struct upstream_options options;
    struct exchange_shared shared;
    struct upstream_url url;
    char *addresses; /* for restart(); NULL: the url's */
    struct upstream_counts counts;
    struct origin origin;
    struct peer peer;
    char name_url[64]; /* by a name that needs the name server */
    struct borrower borrowers[LOANS];
    uint32_t order[LOANS * 2]; /* of those who were told, by their index */
    uint32_t told;
};

static void on_loan(struct origin_loan *loan, const struct conn_failure *failure,
                    struct origin_conn *conn)
{
    struct borrower *borrower = CONTAINER_OF(loan, struct borrower, loan);
    struct place *place = borrower->place;

    borrower->told++;
    strcpy(borrower->reason, failure != NULL ? upstream_failure_reason(failure->what) : "");
    strcpy(borrower->problem, failure != NULL ? failure->problem : "");
    borrower->conn = conn;
    place->order[place->told++] = (uint32_t)(borrower - place->borrowers);
}

/* Begins anew with the options as they are, and the peer by its address or by its name. */
static void restart(struct place *place, const char *url)
{
    char problem[INI_PROBLEM_SIZE];
    struct upstream_place places[UPSTREAM_PLACES_MAX];
    uint32_t count = 0;

    origin_deinit(&place->origin);
    assert_int_equal(upstream_url_parse(url, &place->url, problem), ERR_OK);
    assert_int_equal(upstream_places_parse(place->addresses != NULL ? place->addresses : "",
                                           &place->url, places, &count, problem),
                     ERR_OK);
    memset(&place->counts, 0, sizeof place->counts);
    origin_init(&place->origin, &(struct origin_setup){
                                    .resolver = place->resolver,
                                    .buffers = &place->buffers,
                                    .exchanges = &place->shared,
                                    .name = "partner",
                                    .places = places,
                                    .place_count = count,
                                    .counts = &place->counts,
                                });
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);

    place->loop = fake_clock_loop(&place->clock);
    dns_server_start(&place->dns, place->loop);
    dns_server_set(&place->dns, "api.test", "127.0.0.1", 60);
    place->resolver = resolver_create(place->loop, place->dns.servers);
    buf_pool_init(&place->buffers, 4, NULL);
    peer_init(&place->peer, place->loop);
    snprintf(place->name_url, sizeof place->name_url, "http://api.test:%u", place->peer.port);
    field_defaults(&upstream_option_table, &place->options);
    place->options.connections_max = 2;
    place->options.waiting_max = 3;
    place->options.resolve_timeout_ms = 800;
    place->options.connect_timeout_ms = 500;
    place->options.idle_timeout_ms = 1000;
    place->options.age_max_ms = 60000;
    place->shared.loop = place->loop;
    place->shared.options = &place->options;
    place->shared.head = http_head_create(EXCHANGE_FIELDS_MAX);
    place->shared.limits = (struct http_parser_limits){
        .head_bytes_max = 1024, .trailer_bytes_max = 1024, .excess_bytes_max = HTTP_EXCESS_BYTES};
    for (int i = 0; i < LOANS; i++)
        place->borrowers[i].place = place;
    restart(place, place->peer.url);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;

    for (int i = 0; i < LOANS; i++) {
        origin_withdraw(&place->borrowers[i].loan);
        if (place->borrowers[i].conn != NULL)
            origin_drop(place->borrowers[i].conn);
    }
    origin_deinit(&place->origin);
    origin_deinit(&place->origin);
    assert_int_equal(place->counts.connections, 0);
    assert_int_equal(place->counts.idle, 0);
    assert_int_equal(place->counts.waiting, 0);
    field_clear(&upstream_option_table, &place->options);
    peer_deinit(&place->peer);
    http_head_destroy(place->shared.head);
    buf_pool_deinit(&place->buffers);
    resolver_destroy(place->resolver);
    dns_server_stop(&place->dns);
    loop_destroy(place->loop);
    free(place);
    return 0;
}

/* Has borrower `i` wait; nothing may be told before the loop turns. */
static bool wait_for(struct place *place, int i)
{
    uint32_t told = place->told;
    bool is_waiting = origin_wait(&place->origin, &place->borrowers[i].loan, on_loan);

    assert_int_equal(place->told, told);
    return is_waiting;
}

static void run_until_told(struct place *place, int i)
{
    run_until_count(place->loop, &place->borrowers[i].told, 1);
}

/* Borrower `i` waits until it has a connection; the peer's end of it. */
static int borrow(struct place *place, int i)
{
    place->borrowers[i].told = 0;
    assert_true(wait_for(place, i));
    run_until_told(place, i);
    assert_string_equal(place->borrowers[i].reason, "");
    assert_non_null(place->borrowers[i].conn);
    return peer_accept(&place->peer);
}

static void keep(struct place *place, int i)
{
    struct origin_conn *conn = place->borrowers[i].conn;

    place->borrowers[i].conn = NULL;
    origin_keep(conn, UINT32_MAX);
}

static void drop(struct place *place, int i)
{
    struct origin_conn *conn = place->borrowers[i].conn;

    place->borrowers[i].conn = NULL;
    origin_drop(conn);
}

static void test_last_used_first(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);
    struct origin_conn *conn = place->borrowers[0].conn;

    assert_int_equal(conn->uses, 1);
    assert_null(origin_take(&place->origin, 0));
    keep(place, 1);
    keep(place, 0);
    assert_int_equal(place->counts.idle, 2);
    assert_ptr_equal(origin_take(&place->origin, 0), conn);
    assert_int_equal(conn->uses, 2);
    assert_int_equal(place->counts.reused, 1);
    assert_int_equal(place->counts.idle, 1);
    assert_int_equal(place->counts.connects, 2);
    assert_int_equal(place->counts.connections, 2);
    origin_drop(conn);
    peer_wait_closed(&place->peer, &first);
    assert_false(peer_is_closed(second));
    close_fd(&second);
}

static void test_closed_while_idle(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);

    keep(place, 0);
    close_fd(&fd);
    run_turns(place->loop, 3);
    assert_int_equal(place->counts.connections, 0);
    assert_null(origin_take(&place->origin, 0));
}

static void test_reset_while_idle(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);

    keep(place, 0);
    close_with_reset(&fd);
    run_turns(place->loop, 3);
    assert_int_equal(place->counts.connections, 0);
}

static void test_unasked_bytes_while_idle(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);

    keep(place, 0);
    peer_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    run_turns(place->loop, 3);
    assert_int_equal(place->counts.connections, 0);
    peer_wait_closed(&place->peer, &fd);
}

/* What the loop has not seen yet is found when the connection is to be lent. */
static void test_touched_just_before_lending(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);

    keep(place, 0);
    keep(place, 1);
    peer_send(first, "H");
    close_fd(&second);
    assert_null(origin_take(&place->origin, 0));
    assert_int_equal(place->counts.connections, 0);
    close_fd(&first);
}

static void test_touched_just_before_being_handed_on(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);
    int third;

    assert_true(wait_for(place, 2));
    peer_send(first, "H");
    keep(place, 0); /* closed, and another one opened for who waits */
    peer_wait_closed(&place->peer, &first);
    run_until_told(place, 2);
    assert_int_equal(place->borrowers[2].conn->uses, 1);
    third = peer_accept(&place->peer);
    close_fd(&second);
    close_fd(&third);
}

static void test_idle_for_too_long(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);

    keep(place, 0);
    fake_clock_walk(&place->clock, place->loop, 999);
    assert_int_equal(place->counts.idle, 1);
    place->borrowers[0].conn = origin_take(&place->origin, 0);
    fake_clock_walk(&place->clock, place->loop, 2000); /* in use: as long as it likes */
    assert_int_equal(place->counts.connections, 1);
    keep(place, 0);
    fake_clock_walk(&place->clock, place->loop, 999);
    assert_int_equal(place->counts.idle, 1);
    fake_clock_walk(&place->clock, place->loop, 3);
    assert_int_equal(place->counts.idle, 0);
    peer_wait_closed(&place->peer, &fd);
}

static void test_peer_keeps_it_for_less(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);
    struct origin_conn *conn = place->borrowers[0].conn;

    origin_keep(conn, 300);
    assert_ptr_equal(origin_take(&place->origin, 0), conn);
    origin_keep(conn, 300);
    fake_clock_walk(&place->clock, place->loop, 299);
    assert_int_equal(place->counts.idle, 1);
    fake_clock_walk(&place->clock, place->loop, 3);
    assert_int_equal(place->counts.idle, 0);
    close_fd(&fd);

    fd = borrow(place, 0);
    origin_keep(place->borrowers[0].conn, 0); /* it says that it closes it now */
    place->borrowers[0].conn = NULL;
    assert_int_equal(place->counts.connections, 0);
    close_fd(&fd);
}

static void test_none_is_kept_where_so_set(void **state)
{
    struct place *place = *state;
    int fd;

    place->options.idle_timeout_ms = 0;
    fd = borrow(place, 0);
    keep(place, 0);
    assert_int_equal(place->counts.connections, 0);
    close_fd(&fd);
}

static void test_too_old(void **state)
{
    struct place *place = *state;
    int first;
    int second;

    place->options.idle_timeout_ms = 100000;
    first = borrow(place, 0);
    second = borrow(place, 1);
    keep(place, 0);
    fake_clock_jump(&place->clock, place->loop, 60000);
    assert_null(origin_take(&place->origin, 0)); /* the one that is kept */
    keep(place, 1);                              /* the one that comes back */
    assert_int_equal(place->counts.connections, 0);
    close_fd(&first);
    close_fd(&second);
}

static void test_of_any_age(void **state)
{
    struct place *place = *state;
    int fd;

    place->options.age_max_ms = 0;
    place->options.idle_timeout_ms = 86400000;
    fd = borrow(place, 0);
    keep(place, 0);
    fake_clock_jump(&place->clock, place->loop, 80000000);
    place->borrowers[0].conn = origin_take(&place->origin, 0);
    assert_non_null(place->borrowers[0].conn);
    close_fd(&fd);
}

static void test_line_is_served_in_order(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);

    place->told = 0;
    for (int i = 2; i < 5; i++) {
        assert_true(wait_for(place, i));
        assert_true(origin_is_in_line(&place->borrowers[i].loan));
    }
    assert_false(wait_for(place, 5)); /* three may wait */
    assert_int_equal(place->counts.waiting, 3);

    keep(place, 1);
    keep(place, 0);
    assert_int_equal(place->told, 2);
    assert_int_equal(place->order[0], 2);
    assert_int_equal(place->order[1], 3);
    assert_int_equal(place->borrowers[2].conn->uses, 2);
    assert_int_equal(place->counts.waiting, 1);
    keep(place, 3);
    assert_int_equal(place->order[2], 4);
    assert_false(origin_is_in_line(&place->borrowers[4].loan));
    assert_false(peer_has_client(&place->peer));
    close_fd(&first);
    close_fd(&second);
}

static void test_place_of_a_dropped_one(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);
    int third;

    assert_true(wait_for(place, 2));
    drop(place, 0);
    assert_false(origin_is_in_line(&place->borrowers[2].loan));
    third = peer_accept(&place->peer);
    run_until_told(place, 2);
    assert_int_equal(place->borrowers[2].conn->uses, 1);
    close_fd(&first);
    close_fd(&second);
    close_fd(&third);
}

static void test_withdrawn_in_line(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);

    assert_true(wait_for(place, 2));
    assert_true(wait_for(place, 3));
    origin_withdraw(&place->borrowers[2].loan);
    origin_withdraw(&place->borrowers[2].loan);
    assert_int_equal(place->counts.waiting, 1);
    keep(place, 0);
    assert_int_equal(place->borrowers[2].told, 0);
    assert_int_equal(place->borrowers[3].told, 1);
    close_fd(&first);
    close_fd(&second);
}

static void test_withdrawn_while_resolving(void **state)
{
    struct place *place = *state;
    int fd;

    place->dns.is_silent = true;
    restart(place, place->name_url);
    assert_true(wait_for(place, 0));
    assert_true(wait_for(place, 1));
    run_turns(place->loop, 3);
    assert_int_not_equal(place->dns.queries, 0);
    assert_true(origin_is_nowhere(&place->origin));
    assert_true(origin_is_in_line(&place->borrowers[0].loan));
    origin_withdraw(&place->borrowers[0].loan);
    origin_withdraw(&place->borrowers[1].loan);
    fake_clock_walk(&place->clock, place->loop, 802);
    assert_int_equal(place->told, 0);

    restart(place, place->peer.url);
    fd = borrow(place, 3);
    close_fd(&fd);
}

/* Its connection goes on, and is there for the next one. */
static void test_withdrawn_while_connecting(void **state)
{
    struct place *place = *state;
    int fd;

    assert_true(wait_for(place, 0));
    origin_withdraw(&place->borrowers[0].loan);
    fd = peer_accept(&place->peer);
    run_until_count(place->loop, &place->counts.idle, 1);
    assert_int_equal(place->borrowers[0].told, 0);
    place->borrowers[1].conn = origin_take(&place->origin, 0);
    assert_non_null(place->borrowers[1].conn);
    assert_int_equal(place->borrowers[1].conn->uses, 1);
    assert_int_equal(place->counts.reused, 0);
    close_fd(&fd);
}

/* A connection that comes free serves who waits for a new one; the new one serves the next. */
static void test_free_before_the_new_one_is_there(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second;

    assert_true(wait_for(place, 1)); /* is being connected */
    assert_false(origin_is_in_line(&place->borrowers[1].loan));
    assert_true(wait_for(place, 2)); /* in line */
    keep(place, 0);
    assert_int_equal(place->borrowers[1].told, 1);
    assert_int_equal(place->borrowers[1].conn->uses, 2);
    assert_int_equal(place->borrowers[2].told, 0);
    second = peer_accept(&place->peer);
    run_until_told(place, 2);
    assert_int_equal(place->borrowers[2].conn->uses, 1);
    close_fd(&first);
    close_fd(&second);
}

static void test_refused(void **state)
{
    struct place *place = *state;

    peer_deinit(&place->peer);
    for (int i = 0; i < 4; i++)
        assert_true(wait_for(place, i));
    for (int i = 0; i < 4; i++) {
        run_until_told(place, i);
        assert_string_equal(place->borrowers[i].reason, "upstream_connect");
        assert_non_null(strstr(place->borrowers[i].problem, "Connection refused"));
        assert_null(place->borrowers[i].conn);
    }
    assert_int_equal(place->counts.connects, 0);
}

static void test_no_such_name(void **state)
{
    struct place *place = *state;

    restart(place, "http://nobody.test");
    assert_true(wait_for(place, 0));
    run_until_told(place, 0);
    assert_string_equal(place->borrowers[0].reason, "upstream_resolve");
}

/* The limit of the first answer; the name is asked for in the background all the same. */
static void test_name_is_too_slow(void **state)
{
    struct place *place = *state;
    int fd;

    place->dns.is_silent = true;
    restart(place, place->name_url);
    for (int i = 0; i < 3; i++)
        assert_true(wait_for(place, i));
    fake_clock_walk(&place->clock, place->loop, 799);
    assert_int_equal(place->told, 0);
    fake_clock_walk(&place->clock, place->loop, 3);
    assert_int_equal(place->told, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(place->borrowers[i].reason, "upstream_resolve_timeout");
    place->dns.is_silent = false;
    fake_clock_walk(&place->clock, place->loop, 9000);
    fd = borrow(place, 3);
    close_fd(&fd);
}

/* ---- several addresses ---- */

/* A second peer at the same port of another loopback address. */
static int listen_beside(const struct place *place, const char *host)
{
    struct addr addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_true(addr_from_ip(span_of(host), place->peer.port, &addr));
    assert_int_equal(bind(fd, (const struct sockaddr *)&addr.storage, addr.len), 0);
    assert_int_equal(listen(fd, 16), 0);
    return fd;
}

static bool has_client(int listener)
{
    struct pollfd wanted = {.fd = listener, .events = POLLIN};

    return poll(&wanted, 1, 0) == 1;
}

static bool is_to(const struct borrower *borrower, const char *host)
{
    return strncmp(borrower->conn->target->text, host, strlen(host)) == 0;
}

/* Each call goes to the address with fewer of them. */
static void test_spread_over_addresses(void **state)
{
    struct place *place = *state;
    int other = listen_beside(place, "127.0.0.2");
    int first = 0;

    place->options.connections_max = LOANS;
    place->addresses = (char[]){"127.0.0.1 127.0.0.2 127.0.0.1"};
    restart(place, place->peer.url);
    for (int i = 0; i < LOANS; i++) {
        assert_true(wait_for(place, i));
        run_until_told(place, i);
        first += is_to(&place->borrowers[i], "127.0.0.1:");
    }
    assert_int_equal(first, LOANS / 2);
    assert_true(peer_has_client(&place->peer));
    assert_true(has_client(other));
    close(other);
}

static void test_refused_by_one_of_two(void **state)
{
    struct place *place = *state;

    place->options.connections_max = LOANS;
    place->addresses = (char[]){"127.0.0.3 127.0.0.1"};
    restart(place, place->peer.url);
    for (int i = 0; i < LOANS; i++) {
        assert_true(wait_for(place, i));
        run_until_told(place, i);
        assert_string_equal(place->borrowers[i].reason, "");
        assert_true(is_to(&place->borrowers[i], "127.0.0.1:"));
    }
}

/* One address accepts nobody: after a while the other one is tried beside it. */
static void test_slow_to_connect(void **state)
{
    struct place *place = *state;
    int other = listen_beside(place, "127.0.0.2");
    int fillers[2];
    struct addr addr;

    assert_int_equal(listen(other, 0), 0);
    assert_true(addr_from_ip(SPAN("127.0.0.2"), place->peer.port, &addr));
    for (int i = 0; i < 2; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (const struct sockaddr *)&addr.storage, addr.len);
    }
    place->addresses = (char[]){"127.0.0.2"};
    restart(place, place->peer.url);
    assert_true(wait_for(place, 0));
    run_turns(place->loop, 3);
    fake_clock_walk(&place->clock, place->loop, 498);
    assert_int_equal(place->told, 0);
    fake_clock_walk(&place->clock, place->loop, 4);
    assert_string_equal(place->borrowers[0].reason, "upstream_connect_timeout");

    place->addresses = (char[]){"127.0.0.2 127.0.0.1"};
    restart(place, place->peer.url);
    for (int i = 1; i < 3; i++) {
        assert_true(wait_for(place, i));
        for (int ms = 0; ms < 260 && place->borrowers[i].told == 0; ms++)
            fake_clock_walk(&place->clock, place->loop, 1);
        run_until_told(place, i);
        assert_true(is_to(&place->borrowers[i], "127.0.0.1:"));
        drop(place, i);
    }
    close_fd(&fillers[0]);
    close_fd(&fillers[1]);
    close(other);
}

static void test_limit_per_address(void **state)
{
    struct place *place = *state;
    int other = listen_beside(place, "127.0.0.2");

    place->options.connections_max = 10;
    place->options.connections_per_address_max = 2;
    place->addresses = (char[]){"127.0.0.1 127.0.0.2"};
    restart(place, place->peer.url);
    for (int i = 0; i < 5; i++)
        assert_true(wait_for(place, i));
    assert_true(origin_is_in_line(&place->borrowers[4].loan));
    for (int i = 0; i < 4; i++)
        run_until_told(place, i);
    assert_int_equal(place->counts.connections, 4);
    keep(place, 2);
    assert_int_equal(place->borrowers[4].told, 1);
    close(other);
}

/* ---- names that change ---- */

static void test_changed_addresses(void **state)
{
    struct place *place = *state;
    int other = listen_beside(place, "127.0.0.2");
    int kept, used;

    place->options.idle_timeout_ms = 60000;
    dns_server_set(&place->dns, "api.test", "127.0.0.1", 5);
    restart(place, place->name_url);
    kept = borrow(place, 0);
    used = borrow(place, 1);
    keep(place, 0);
    dns_server_set(&place->dns, "api.test", "127.0.0.2", 5);
    fake_clock_walk(&place->clock, place->loop, 500); /* the answer still holds */
    assert_int_equal(place->counts.connections, 2);
    for (int i = 0; i < 1000 && place->counts.idle > 0; i++)
        fake_clock_walk(&place->clock, place->loop, 10);
    peer_wait_closed(&place->peer, &kept); /* at once, while the other is let finish */
    assert_false(peer_is_closed(used));
    assert_int_equal(place->counts.connections, 1);
    keep(place, 1);
    peer_wait_closed(&place->peer, &used);
    assert_true(wait_for(place, 2));
    run_until_told(place, 2);
    assert_true(is_to(&place->borrowers[2], "127.0.0.2:"));
    close(other);
}

/* A server that fails, says nonsense or is silent changes nothing. */
static void test_stale_addresses(void **state)
{
    struct place *place = *state;
    int fd;

    dns_server_set(&place->dns, "api.test", "127.0.0.1", 0);
    restart(place, place->name_url);
    fd = borrow(place, 0);
    close_fd(&fd);
    drop(place, 0);
    dns_server_set_code(&place->dns, "api.test", DNS_SERVFAIL);
    fake_clock_walk(&place->clock, place->loop, 6000);
    fd = borrow(place, 1);
    close_fd(&fd);
    drop(place, 1);
    place->dns.is_silent = true;
    fake_clock_walk(&place->clock, place->loop, 12000);
    fd = borrow(place, 2);
    close_fd(&fd);
}

/* One that says that the name is gone is believed. */
static void test_name_is_gone(void **state)
{
    struct place *place = *state;
    int fd;

    dns_server_set(&place->dns, "api.test", "127.0.0.1", 0);
    restart(place, place->name_url);
    fd = borrow(place, 0);
    dns_server_set_code(&place->dns, "api.test", DNS_NXDOMAIN);
    fake_clock_walk(&place->clock, place->loop, 3000);
    assert_true(wait_for(place, 1));
    run_until_told(place, 1);
    assert_string_equal(place->borrowers[1].reason, "upstream_resolve");
    keep(place, 0);
    assert_int_equal(place->counts.connections, 0);
    dns_server_set(&place->dns, "api.test", "127.0.0.1", 0);
    fake_clock_walk(&place->clock, place->loop, 6000);
    close_fd(&fd);
    fd = borrow(place, 2);
    close_fd(&fd);
}

static void test_dial_again(void **state)
{
    struct place *place = *state;
    int first = borrow(place, 0);
    int second = borrow(place, 1);
    int third;
    struct origin_conn *conn = place->borrowers[0].conn;

    assert_true(wait_for(place, 2));
    keep(place, 1);
    assert_int_equal(place->borrowers[2].told, 1);
    assert_true(wait_for(place, 3));

    /* In the same place, before those in line, and only a new one will do. */
    place->borrowers[0].conn = NULL;
    place->borrowers[0].told = 0;
    origin_dial_again(conn, &place->borrowers[0].loan, on_loan);
    assert_int_equal(place->borrowers[0].told, 0);
    peer_wait_closed(&place->peer, &first);
    keep(place, 2);
    assert_int_equal(place->borrowers[3].told, 1);
    third = peer_accept(&place->peer);
    run_until_told(place, 0);
    assert_int_equal(place->borrowers[0].conn->uses, 1);
    assert_int_equal(place->counts.connects, 3);
    assert_int_equal(place->counts.connections, 2);
    close_fd(&second);
    close_fd(&third);
}

static void test_dial_again_is_refused(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);
    struct origin_conn *conn = place->borrowers[0].conn;

    peer_deinit(&place->peer);
    place->borrowers[0].conn = NULL;
    place->borrowers[0].told = 0;
    origin_dial_again(conn, &place->borrowers[0].loan, on_loan);
    run_until_told(place, 0);
    assert_string_equal(place->borrowers[0].reason, "upstream_connect");
    assert_int_equal(place->counts.connections, 0);
    close_fd(&fd);
}

static void test_ended_in_each_state(void **state)
{
    struct place *place = *state;
    int fd = borrow(place, 0);

    keep(place, 0); /* idle */
    assert_true(wait_for(place, 1));
    origin_withdraw(&place->borrowers[1].loan); /* connecting, for nobody */
    restart(place, place->name_url);
    peer_wait_closed(&place->peer, &fd);

    place->dns.is_silent = true;
    assert_true(wait_for(place, 2));
    run_turns(place->loop, 2);
    origin_withdraw(&place->borrowers[2].loan); /* resolving, for nobody */
    restart(place, place->peer.url);
    fake_clock_walk(&place->clock, place->loop, 1000);
    assert_int_equal(place->borrowers[1].told + place->borrowers[2].told, 0);
}

static void test_over_a_unix_socket(void **state)
{
    struct place *place = *state;

    restart(place, "http://unix:/nonexistent/weft.sock");
    assert_true(wait_for(place, 0));
    run_until_told(place, 0);
    assert_string_equal(place->borrowers[0].reason, "upstream_connect");
    assert_non_null(strstr(place->borrowers[0].problem, "No such file"));
}

/* An exchange that lasts until the peer closes the connection, or the test gives it back. */

static enum err on_head(struct exchange *exchange, const struct http_head *head)
{
    (void)exchange;
    (void)head;
    return ERR_OK;
}

static enum err on_body(struct exchange *exchange, struct span bytes)
{
    (void)exchange;
    (void)bytes;
    return ERR_OK;
}

static void on_done(struct exchange *exchange, enum err err)
{
    struct borrower *borrower = exchange->user;

    (void)err;
    drop(borrower->place, (int)(borrower - borrower->place->borrowers));
}

static void ask(struct borrower *borrower)
{
    static const struct exchange_handler handler = {
        .on_head = on_head, .on_body = on_body, .on_done = on_done};

    exchange_start(&borrower->conn->exchange, SPAN("GET / HTTP/1.1\r\n\r\n"), false, &handler,
                   borrower);
}

static void on_random_loan(struct origin_loan *loan, const struct conn_failure *failure,
                           struct origin_conn *conn)
{
    struct borrower *borrower = CONTAINER_OF(loan, struct borrower, loan);

    assert_null(failure);
    assert_null(borrower->conn);
    borrower->conn = conn;
    borrower->told++;
    ask(borrower);
}

static bool waits(const struct borrower *borrower)
{
    return borrower->loan._link.next != NULL && !list_is_empty(&borrower->loan._link);
}

static void random_step(struct place *place, struct borrower *borrower, uint32_t dice)
{
    if (borrower->conn != NULL && dice % 3 == 0) {
        drop(place, (int)(borrower - place->borrowers));
    } else if (borrower->conn != NULL) {
        exchange_stop(&borrower->conn->exchange);
        keep(place, (int)(borrower - place->borrowers));
    } else if (waits(borrower)) {
        if (dice % 4 == 0)
            origin_withdraw(&borrower->loan);
    } else if ((borrower->conn = origin_take(&place->origin, 0)) != NULL) {
        ask(borrower);
    } else {
        (void)!origin_wait(&place->origin, &borrower->loan, on_random_loan);
    }
}

/* Whatever happens in whatever order, there are never too many, and in the end all are served. */
static void test_at_random(void **state)
{
    struct place *place = *state;
    uint64_t seed = 4711;
    int fds[1024];
    uint32_t count = 0;

    for (int step = 0; step < 2000; step++) {
        random_step(place, &place->borrowers[random_below(&seed, LOANS)], random_below(&seed, 100));
        run_turns(place->loop, random_below(&seed, 3));
        while (peer_has_client(&place->peer) && count < 1024)
            fds[count++] = peer_accept(&place->peer);
        if (random_below(&seed, 7) == 0 && count > 0)
            close_fd(&fds[--count]);
        assert_true(place->counts.connections <= 2);
        assert_true(place->counts.waiting <= 3);
        assert_true(place->counts.waiting == 0 || place->counts.idle == 0);
    }
    for (int i = 0; i < LOANS; i++) {
        while (waits(&place->borrowers[i])) {
            for (int j = 0; j < LOANS; j++)
                if (place->borrowers[j].conn != NULL)
                    random_step(place, &place->borrowers[j], 1);
            run_turns(place->loop, 1);
        }
    }
    while (count > 0)
        close_fd(&fds[--count]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_last_used_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reset_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unasked_bytes_while_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_touched_just_before_lending, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_touched_just_before_being_handed_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_idle_for_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_peer_keeps_it_for_less, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none_is_kept_where_so_set, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_any_age, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_line_is_served_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_place_of_a_dropped_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_withdrawn_in_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_withdrawn_while_resolving, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_withdrawn_while_connecting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_free_before_the_new_one_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_such_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_name_is_too_slow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_spread_over_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_by_one_of_two, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_to_connect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit_per_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stale_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_name_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dial_again_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ended_in_each_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_over_a_unix_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_random, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
