/* Goal: over TLS a call does what it does without, however its bytes are cut into records; a server
 *       is called only if its certificate is what the settings want, and the reason is told; and a
 *       session is used again. */
#include "lib/temp_dir.h"
#include "lib/tls_server.h"
#include "unit/upstream/place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG_SIZE 900000

/* The place's upstream with TLS, and its server. */
struct secure {
    struct place *place;
    struct temp_dir dir;
    struct tls_server server;
    char url[80];
    char ca[300];
    char cert[300];
    char key[300];
};

static struct temp_dir certificates; /* of all tests */

static int make_certificates(void **state)
{
    (void)state;
    temp_dir_init(&certificates);
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    temp_dir_deinit(&certificates);
    return 0;
}

static int set_up(void **state)
{
    struct secure *secure = calloc(1, sizeof *secure);
    void *place;

    assert_int_equal(place_set_up(&place), 0);
    secure->place = place;
    secure->place->options.tls_timeout_ms = 300;
    secure->place->options.body_bytes_max = 1 << 20;
    *state = secure;
    return 0;
}

static void set_text(char **option, const char *text)
{
    free(*option);
    *option = strdup(text);
}

static int tear_down(void **state)
{
    struct secure *secure = *state;
    void *place = secure->place;

    tls_server_deinit(&secure->server);
    place_tear_down(&place);
    free(secure);
    return 0;
}

/* The path of one of the certificates; they are made once. */
static void path_of(char text[300], const char *file)
{
    const char *first = temp_dir_path(&certificates, "client.crt");
    FILE *made = fopen(first, "r");

    if (made == NULL)
        tls_make_certificates(certificates.path);
    else
        fclose(made);
    snprintf(text, 300, "%s/%s", certificates.path, file);
}

/* A server with certificate `name`, and the upstream at `host`, which trusts ca.crt. */
static void begin(struct secure *secure, const char *name, const char *host,
                  const struct tls_server_options *options)
{
    path_of(secure->ca, "ca.crt");
    set_text(&secure->place->options.tls_ca, secure->ca);
    tls_server_init(&secure->server, secure->place->world.loop, certificates.path, name, options);
    dns_server_set(&secure->place->dns, "api.good.test", "127.0.0.1", 60);
    dns_server_set(&secure->place->dns, "api.test", "127.0.0.1", 60);
    snprintf(secure->url, sizeof secure->url, "https://%s:%u", host, secure->place->peer.port);
    place_restart(secure->place, secure->url);
}

static const struct tls_server_options usual;

/* Accepts and reads a request; what the server calls the connection. */
static void *take_call(struct secure *secure)
{
    void *connection = tls_server_accept(&secure->server, peer_accept(&secure->place->peer));

    assert_non_null(connection);
    tls_server_request(&secure->server, connection, secure->place->text,
                       sizeof secure->place->text);
    return connection;
}

static void send_text(struct secure *secure, void *connection, const char *text)
{
    tls_server_send(&secure->server, connection, text, strlen(text));
}

static void test_call(void **state)
{
    struct secure *secure = *state;
    struct op *op;
    void *connection;
    char wanted[128];

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    connection = take_call(secure);
    snprintf(wanted, sizeof wanted, "GET /quote HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n",
             secure->place->peer.port);
    assert_string_equal(secure->place->text, wanted);
    send_text(secure, connection, OK_HI);
    place_assert_answer(secure->place, op, 200, "hi");
    for (int i = 0; i < 3; i++) { /* on the same connection */
        op = place_get(secure->place);
        tls_server_request(&secure->server, connection, secure->place->text,
                           sizeof secure->place->text);
        send_text(secure, connection, OK_HI);
        place_assert_answer(secure->place, op, 200, "hi");
    }
    assert_int_equal(secure->place->counts->connects, 1);
    assert_int_equal(secure->place->counts->reused, 3);
    tls_server_close(connection, true);
    run_turns(secure->place->world.loop, 3);
    assert_int_equal(secure->place->counts->connections, 0);
}

/* More than a record, more than the buffers. */
static void test_large_answer(void **state)
{
    struct secure *secure = *state;
    char *text = malloc(BIG_SIZE + 200);
    int head = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BIG_SIZE);
    struct op *op;
    void *connection;

    for (int i = 0; i < BIG_SIZE; i++)
        text[head + i] = (char)('a' + i % 23);
    text[head + BIG_SIZE] = '\0';
    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    connection = take_call(secure);
    tls_server_send(&secure->server, connection, text, (size_t)(head + BIG_SIZE));
    place_assert_answer(secure->place, op, 200, text + head);
    tls_server_close(connection, true);
    free(text);
}

static void test_large_request(void **state)
{
    struct secure *secure = *state;
    static char body[8 << 20];
    struct op *op;
    void *connection;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_call(secure->place, "POST", (struct span){body, sizeof body}, 0);
    connection = take_call(secure); /* its head, and some more */
    for (int i = 0; i < 200; i++)
        loop_turn(secure->place->world.loop, 1);
    send_text(secure, connection, "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno");
    place_assert_answer(secure->place, op, 413, "no");
    assert_int_equal(secure->place->counts->connections, 0); /* not all was sent */
    tls_server_close(connection, true);
}

static void test_session_is_used_again(void **state)
{
    struct secure *secure = *state;

    for (int version = 0; version < 2; version++) {
        const struct tls_server_options options = {.is_12_only = version == 1};

        tls_server_deinit(&secure->server);
        begin(secure, "good", "127.0.0.1", &options);
        for (int i = 0; i < 3; i++) {
            struct op *op = place_get(secure->place);
            void *connection = take_call(secure);

            assert_int_equal(tls_server_is_resumed(connection), i > 0);
            send_text(secure, connection,
                      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            place_assert_answer(secure->place, op, 200, "");
            tls_server_close(connection, true);
        }
    }
}

/* Whoever holds the connection may cut an answer short: that is no end of it. */
static void test_no_goodbye(void **state)
{
    struct secure *secure = *state;
    static const char answer[] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhel";
    struct op *op;
    void *connection;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    connection = take_call(secure);
    send_text(secure, connection, answer);
    tls_server_close(connection, true);
    place_assert_answer(secure->place, op, 200, "hel");
    op = place_get(secure->place);
    connection = take_call(secure);
    send_text(secure, connection, answer);
    tls_server_close(connection, false);
    place_assert_failed(secure->place, op, ERR_UP_RESET, "upstream_reset");
}

/* ---- whom it trusts ---- */

static void expect_refused(struct secure *secure, const char *why)
{
    struct op *op = place_get(secure->place);
    void *connection = tls_server_accept(&secure->server, peer_accept(&secure->place->peer));

    place_assert_failed(secure->place, op, ERR_UP_CONNECT, "upstream_tls");
    if (strstr(op->error.ptr, why) == NULL)
        fail_msg("%s", op->error.ptr);
    if (connection != NULL)
        tls_server_close(connection, false);
    assert_int_equal(secure->place->counts->connections, 0);
}

static void expect_trusted(struct secure *secure)
{
    struct op *op = place_get(secure->place);
    void *connection = take_call(secure);

    send_text(secure, connection, OK_HI);
    place_assert_answer(secure->place, op, 200, "hi");
    tls_server_close(connection, true);
    run_turns(secure->place->world.loop, 3);
}

static void test_expired(void **state)
{
    struct secure *secure = *state;

    begin(secure, "expired", "127.0.0.1", &usual);
    expect_refused(secure,
                   "TLS with 127.0.0.1: its certificate is refused: certificate has expired");
}

static void test_names(void **state)
{
    struct secure *secure = *state;

    begin(secure, "good", "api.good.test", &usual);
    expect_trusted(secure);
    tls_server_deinit(&secure->server);
    begin(secure, "good", "api.test", &usual);
    expect_refused(secure, "TLS with api.test: its certificate is refused: hostname mismatch");
    set_text(&secure->place->options.tls_name, "other.good.test");
    tls_server_deinit(&secure->server);
    begin(secure, "good", "api.test", &usual);
    expect_trusted(secure);
    set_text(&secure->place->options.tls_name, "");
    tls_server_deinit(&secure->server);
    begin(secure, "wrong", "127.0.0.1", &usual);
    expect_refused(secure, "IP address mismatch");
}

static void test_unknown_authority(void **state)
{
    struct secure *secure = *state;

    begin(secure, "good", "127.0.0.1", &usual);
    path_of(secure->ca, "other-ca.crt");
    set_text(&secure->place->options.tls_ca, secure->ca);
    place_restart(secure->place, secure->url);
    expect_refused(secure, "unable to get local issuer certificate");
    secure->place->options.tls_verify = false;
    place_restart(secure->place, secure->url);
    expect_trusted(secure);
}

static void test_own_certificate(void **state)
{
    const struct tls_server_options options = {.wants_client = true, .is_12_only = true};
    struct secure *secure = *state;

    begin(secure, "good", "127.0.0.1", &options);
    expect_refused(secure, "handshake failure");
    path_of(secure->cert, "client.crt");
    path_of(secure->key, "client.key");
    set_text(&secure->place->options.tls_cert, secure->cert);
    set_text(&secure->place->options.tls_key, secure->key);
    place_restart(secure->place, secure->url);
    expect_trusted(secure);
}

static void test_oldest_version(void **state)
{
    const struct tls_server_options options = {.is_12_only = true};
    struct secure *secure = *state;

    secure->place->options.tls_min = 1;
    begin(secure, "good", "127.0.0.1", &options);
    expect_refused(secure, "version");
}

/* Servers of several protocols are told that we want HTTP/1.1; one that has another one only, or
 * talks that to us all the same, is not called. */
static void test_protocol(void **state)
{
    static const struct tls_server_options cases[] = {
        {.protocol = "http/1.1"},
        {.protocol = "h2"},
        {.protocol = "h2", .insists = true},
        {.protocol = "http/1.0", .insists = true, .is_12_only = true},
    };
    struct secure *secure = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct op *op;
        void *connection;

        begin(secure, "good", "127.0.0.1", &cases[i]);
        op = place_get(secure->place);
        if (i == 0) {
            connection = take_call(secure);
            assert_true(tls_server_has_protocol(connection));
            send_text(secure, connection, OK_HI);
            place_assert_answer(secure->place, op, 200, "hi");
            tls_server_close(connection, true);
        } else {
            connection = tls_server_accept(&secure->server, peer_accept(&secure->place->peer));
            place_assert_failed(secure->place, op, ERR_UP_CONNECT, "upstream_tls");
            if (connection != NULL)
                tls_server_close(connection, false);
        }
        place_renew_scope(secure->place, 0);
        tls_server_deinit(&secure->server);
    }
}

static void test_no_tls_at_all(void **state)
{
    struct secure *secure = *state;
    struct op *op;
    int fd;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    fd = peer_accept(&secure->place->peer);
    peer_send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
    place_assert_failed(secure->place, op, ERR_UP_CONNECT, "upstream_tls");
    close_fd(&fd);
    op = place_get(secure->place);
    fd = peer_accept(&secure->place->peer);
    close_fd(&fd);
    place_assert_failed(secure->place, op, ERR_UP_CONNECT, "upstream_tls");
}

/* ---- time, and giving up ---- */

static void test_too_slow(void **state)
{
    struct secure *secure = *state;
    struct op *op;
    int fd;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    fd = peer_accept(&secure->place->peer);
    run_turns(secure->place->world.loop, 3);
    fake_clock_walk(&secure->place->world.clock, secure->place->world.loop, 298);
    assert_int_equal(op->state, OP_PENDING);
    fake_clock_walk(&secure->place->world.clock, secure->place->world.loop, 4);
    place_assert_failed(secure->place, op, ERR_UP_CONNECT, "upstream_tls_timeout");
    close_fd(&fd);
}

/* The handshake goes on for whoever comes next. */
static void test_canceled(void **state)
{
    struct secure *secure = *state;
    struct op *op;
    void *connection;
    int fd;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    fd = peer_accept(&secure->place->peer);
    op_cancel(op);
    assert_true(op->is_retired);
    connection = tls_server_accept(&secure->server, fd);
    assert_non_null(connection);
    run_until_count(secure->place->world.loop, &secure->place->counts->idle, 1);
    op = place_get(secure->place);
    tls_server_request(&secure->server, connection, secure->place->text,
                       sizeof secure->place->text);
    op_cancel(op); /* sent: its connection goes */
    run_turns(secure->place->world.loop, 2);
    assert_int_equal(secure->place->counts->connections, 0);
    tls_server_close(connection, false);
    op = place_get(secure->place); /* and the whole upstream in the middle of one */
    fd = peer_accept(&secure->place->peer);
    place_restart(secure->place, secure->url);
    close_fd(&fd);
}

/* Something said unasked, behind the last answer, closes the connection. */
static void test_unasked(void **state)
{
    struct secure *secure = *state;
    struct op *op;
    void *connection;

    begin(secure, "good", "127.0.0.1", &usual);
    op = place_get(secure->place);
    connection = take_call(secure);
    send_text(secure, connection, OK_HI);
    place_assert_answer(secure->place, op, 200, "hi");
    assert_int_equal(secure->place->counts->idle, 1);
    send_text(secure, connection, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    op = place_get(secure->place); /* found when it is to be lent */
    assert_int_equal(secure->place->counts->connections, 0);
    tls_server_close(connection, false);
    connection = take_call(secure);
    send_text(secure, connection, OK_HI);
    place_assert_answer(secure->place, op, 200, "hi");
    tls_server_close(connection, true);
}

/* ---- files ---- */

static void test_files(void **state)
{
    struct secure *secure = *state;
    struct upstream_options *options = &secure->place->options;
    char problem[INI_PROBLEM_SIZE];
    char missing[300];

    path_of(secure->ca, "ca.crt");
    path_of(secure->cert, "client.crt");
    path_of(secure->key, "good.key");
    path_of(missing, "missing.crt");
    set_text(&options->tls_ca, missing);
    assert_null(upstream_tls_context(options, problem));
    assert_non_null(strstr(problem, "missing.crt: no certificates of authorities: No such file"));
    set_text(&options->tls_ca, secure->ca);
    set_text(&options->tls_cert, missing);
    assert_null(upstream_tls_context(options, problem));
    assert_non_null(strstr(problem, "missing.crt: no certificate: No such file"));
    set_text(&options->tls_cert, secure->cert);
    set_text(&options->tls_key, secure->key);
    assert_null(upstream_tls_context(options, problem));
    assert_non_null(strstr(problem, "good.key: no key that fits the certificate: key values"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_session_is_used_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_goodbye, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_expired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_authority, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_own_certificate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_oldest_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_protocol, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_tls_at_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_slow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_canceled, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unasked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
