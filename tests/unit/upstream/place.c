/* upstream/place.c - where tests make calls: an upstream, its scripted server, and a scope. */
#include "unit/upstream/place.h"
#include "base/clock.h"
#include "lib/fault.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

void place_renew_scope(struct place *place, uint64_t budget_ms)
{
    if (place->scope != NULL)
        scope_finish(place->scope, SCOPE_REPLIED);
    world_settle(&place->world);
    place->scope = scope_create(place->world.tasks, NULL, NULL, budget_ms);
}

void place_restart(struct place *place, char *url)
{
    char problem[INI_PROBLEM_SIZE];

    place_renew_scope(place, 0);
    upstream_destroy(place->upstream);
    place->options.url = url;
    place->upstream =
        upstream_create(place->world.tasks, place->resolver, "partner", &place->options, problem);
    if (place->upstream == NULL)
        fail_msg("%s", problem);
    place->counts = upstream_counts(place->upstream);
}

int place_set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);

    fault_reset();
    world_init(&place->world, NULL, NULL);
    dns_server_start(&place->dns, place->world.loop);
    dns_server_set(&place->dns, "api.test", "127.0.0.1", 60);
    place->resolver = resolver_create(place->world.loop, place->dns.servers);
    peer_init(&place->peer, place->world.loop);
    snprintf(place->name_url, sizeof place->name_url, "http://api.test:%u", place->peer.port);
    field_defaults(&upstream_option_table, &place->options);
    place->options.connections_max = 2;
    place->options.waiting_max = 2;
    place->options.queue_timeout_ms = 200;
    place->options.resolve_timeout_ms = 300;
    place->options.connect_timeout_ms = 300;
    place->options.write_timeout_ms = 400;
    place->options.first_byte_timeout_ms = 400;
    place->options.between_bytes_timeout_ms = 100;
    place->options.timeout_ms = 1000;
    place->options.idle_timeout_ms = 5000;
    place->options.body_bytes_max = 1000;
    place_restart(place, place->peer.url);
    *state = place;
    return 0;
}

int place_tear_down(void **state)
{
    struct place *place = *state;

    fault_reset();
    scope_finish(place->scope, SCOPE_REPLIED);
    world_settle(&place->world);
    upstream_destroy(place->upstream);
    place->options.url = NULL; /* the test's */
    field_clear(&upstream_option_table, &place->options);
    peer_deinit(&place->peer);
    resolver_destroy(place->resolver);
    dns_server_stop(&place->dns);
    world_deinit(&place->world);
    free(place);
    return 0;
}

struct op *place_call(struct place *place, const char *method, struct span body, uint32_t flags)
{
    const struct upstream_call what = {
        .method = span_of(method), .path = SPAN("/quote"), .body = body, .flags = flags};

    return upstream_call(place->scope, place->upstream, &what);
}

struct op *place_get(struct place *place)
{
    return place_call(place, NULL, (struct span){NULL, 0}, 0);
}

void place_run(struct place *place, const struct op *op)
{
    uint64_t since_us = clock_monotonic_us();

    while (op->state == OP_PENDING) {
        if (clock_monotonic_us() - since_us > DRIVER_SECONDS * 1000000ull)
            fail_msg("it did not settle in %d seconds", DRIVER_SECONDS);
        loop_turn(place->world.loop, 1);
        (void)sched_yield();
    }
}

int place_take_call(struct place *place)
{
    int fd = peer_accept(&place->peer);

    peer_request(&place->peer, fd, place->text, sizeof place->text);
    return fd;
}

void place_hang(struct place *place, int fillers[2])
{
    const struct sockaddr_in addr = {.sin_family = AF_INET,
                                     .sin_port = htons(place->peer.port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    assert_int_equal(listen(place->peer.fd, 0), 0);
    for (int i = 0; i < 2; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fillers[i] >= 0);
        assert_int_equal(connect(fillers[i], (const struct sockaddr *)&addr, sizeof addr), -1);
    }
}

void place_assert_answer(struct place *place, struct op *op, uint32_t code, const char *body)
{
    place_run(place, op);
    if (op->status != ERR_OK)
        fail_msg("%s: %.*s", err_name(op->status), SPAN_ARG(op->error));
    assert_true(op->is_retired);
    assert_int_equal(upstream_code(op), code);
    assert_int_equal(upstream_body(op).len, strlen(body));
    assert_string_equal(upstream_body(op).ptr, body);
}

void place_assert_failed(struct place *place, struct op *op, enum err err, const char *reason)
{
    place_run(place, op);
    if (op->status != err || strcmp(place->scope->reason, reason) != 0)
        fail_msg("%s, %s: %.*s", err_name(op->status), place->scope->reason, SPAN_ARG(op->error));
    assert_true(op->is_retired);
    assert_int_equal(upstream_code(op), 0);
    assert_int_equal(upstream_fields(op)->count, 0);
    assert_null(upstream_body(op).ptr);
    assert_int_equal(strncmp(op->error.ptr, "upstream partner: ", 18), 0);
}

int place_warm_up(struct place *place)
{
    struct op *op = place_get(place);
    int fd = place_take_call(place);

    peer_send(fd, OK_HI);
    place_assert_answer(place, op, 200, "hi");
    assert_int_equal(place->counts->idle, 1);
    return fd;
}
