/* upstream/conn.c - one connection to an address: opened, lent, kept, closed.
 *
 *   OPENING ──▶ LENT ◀──▶ IDLE ◀── OPENING
 *      │          │         │
 *      └──────────┴─────────┴──▶ gone     refused, too slow, closed by us or by the peer: told, and
 *                                         closed by the owner
 *
 * OPENING is a connect and, with TLS, a handshake, each with its limit. Canceled in either: closed.
 *
 * Idle connections are being read: whatever comes on one spoils it, since nothing was asked for.
 * What comes between the read part of a turn and the lending in it is found by conn_is_quiet().
 */
#include "upstream/conn.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/dial.h"
#include "net/tls.h"
#include "upstream/target.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [CONN_OPENING] = {"opening", 1u << CONN_IDLE | 1u << CONN_LENT},
    [CONN_IDLE] = {"idle", 1u << CONN_LENT},
    [CONN_LENT] = {"lent", 1u << CONN_IDLE},
};

static_assert(CONN_STATE_COUNT == sizeof states / sizeof states[0], "a name for each state");

/* A connection on its way: much larger than one that is there, so it is apart. */
struct origin_dial {
    struct dial dial;         /* of the socket */
    struct origin_conn *conn; /* whose */
    struct tls *tls;          /* the handshake under way; NULL: not yet */
    struct io io;             /* what it waits for */
    struct timer timer;       /* for how long */
    int fd;                   /* with `tls`: the socket */
};

/* A head is parsed when it is whole: so much is buffered, and what came with its last bytes. */
enum { IN_BEHIND_HEAD = BUF_PIECE_SIZE };

static struct loop *loop_of(const struct origin_conn *conn)
{
    return conn->_shared->exchanges->loop;
}

static void move(struct origin_conn *conn, enum conn_state state)
{
    CHECK((states[conn->state].next & 1u << state) != 0);
    log_trace("upstream %s: connection %d %s -> %s", conn->target->text, conn->stream.fd,
              states[conn->state].name, states[state].name);
    conn->state = state;
}

/* What the loop calls. */

static void on_idle_over(struct timer *timer)
{
    struct origin_conn *conn = CONTAINER_OF(timer, struct origin_conn, _timer);

    /* It is not stopped when the connection is lent: moving it further away later costs less. */
    if (conn->state == CONN_IDLE)
        conn->_shared->handler->on_spoiled(conn);
}

static void on_data(struct stream *stream)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->state == CONN_LENT) {
        exchange_on_data(&conn->exchange);
        return;
    }
    CHECK(conn->state == CONN_IDLE);
    log_debug("upstream %s: bytes came unasked, closed", conn->target->text);
    conn->_shared->handler->on_spoiled(conn);
}

static void on_end(struct stream *stream)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->state == CONN_LENT)
        exchange_on_end(&conn->exchange);
    else
        conn->_shared->handler->on_spoiled(conn);
}

static void on_fail(struct stream *stream, enum err err)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->state == CONN_LENT)
        exchange_on_fail(&conn->exchange, err);
    else
        conn->_shared->handler->on_spoiled(conn);
}

static void on_drained(struct stream *stream)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->state == CONN_LENT)
        exchange_on_drained(&conn->exchange);
}

static const struct stream_handler stream_handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_fail = on_fail,
    .on_drained = on_drained,
};

static void refused(struct origin_conn *conn, enum err err, int os_error)
{
    const char *where = conn->target->text;
    struct conn_failure failure = {.what = UPSTREAM_CONNECT};

    if (err == ERR_TIMED_OUT) {
        failure.what = UPSTREAM_CONNECT_TIMEOUT;
        snprintf(failure.problem, sizeof failure.problem, "%s: no connection in %u ms", where,
                 conn->_shared->exchanges->options->connect_timeout_ms);
    } else {
        snprintf(failure.problem, sizeof failure.problem, "%s: %s", where,
                 os_error != 0 ? strerrordesc_np(os_error) : err_text(err));
    }
    conn->_shared->handler->on_failed(conn, &failure);
}

/* Lets go of what was needed to open it, and of the socket where it is still there. */
static void end_dial(struct origin_conn *conn)
{
    struct origin_dial *dial = conn->_dial;

    if (dial == NULL)
        return;
    conn->_dial = NULL;
    dial_cancel(&dial->dial);
    io_stop(&dial->io);
    timer_stop(&dial->timer);
    tls_destroy(dial->tls);
    if (dial->fd >= 0)
        (void)close(dial->fd);
    mem_free(dial);
}

static void connected(struct origin_conn *conn, int fd, struct tls *tls)
{
    const struct exchange_shared *exchanges = conn->_shared->exchanges;
    uint32_t age_max_ms = exchanges->options->age_max_ms;

    CHECK(conn->state == CONN_OPENING);
    CHECK(conn->_dial == NULL);
    CHECK(fd >= 0);
    stream_start(exchanges->loop, &conn->stream, fd, conn->_shared->buffers,
                 (uint32_t)exchanges->options->head_bytes_max + IN_BEHIND_HEAD, &stream_handler);
    if (tls != NULL)
        stream_set_tls(&conn->stream, tls);
    exchange_init(&conn->exchange, exchanges, &conn->stream);
    conn->connected_us = loop_now_us(exchanges->loop);
    conn->old_at_ms = age_max_ms != 0 ? loop_now_ms(exchanges->loop) + age_max_ms : UINT64_MAX;
    conn->_shared->handler->on_open(conn);
}

/* TLS */

static void tls_failed(struct origin_conn *conn, enum upstream_failure what, const char *problem)
{
    struct conn_failure failure = {.what = what};
    const char *about = tls_is_distrusted(conn->_dial->tls) ? "its certificate is refused: " : "";

    snprintf(failure.problem, sizeof failure.problem, "%s: TLS with %.*s: %s%.150s",
             conn->target->text, SPAN_ARG(conn->_shared->tls_name), about, problem);
    end_dial(conn);
    conn->_shared->handler->on_failed(conn, &failure);
}

static void on_tls_too_slow(struct timer *timer)
{
    struct origin_conn *conn = CONTAINER_OF(timer, struct origin_dial, timer)->conn;

    tls_failed(conn, UPSTREAM_TLS_TIMEOUT, "the handshake took too long");
}

static void on_handshake(struct io *io, uint32_t events);

static void wait_for(struct origin_dial *dial, uint32_t events)
{
    if (io_is_on(&dial->io))
        io_update(&dial->io, events);
    else
        io_start(loop_of(dial->conn), &dial->io, dial->fd, events, on_handshake);
}

static void shake_hands(struct origin_conn *conn)
{
    struct origin_dial *dial = conn->_dial;
    struct tls *tls = dial->tls;
    int fd = dial->fd;

    CHECK(tls != NULL);
    switch (tls_handshake(tls)) {
    case TLS_DONE:
        dial->tls = NULL;
        dial->fd = -1;
        end_dial(conn);
        connected(conn, fd, tls);
        break;
    case TLS_WANTS_READ:
        wait_for(dial, IO_READ);
        break;
    case TLS_WANTS_WRITE:
        wait_for(dial, IO_WRITE);
        break;
    case TLS_FAILED:
        tls_failed(conn, UPSTREAM_TLS, tls_problem(tls));
        break;
    }
}

static void on_handshake(struct io *io, uint32_t events)
{
    (void)events;
    shake_hands(CONTAINER_OF(io, struct origin_dial, io)->conn);
}

static void start_tls(struct origin_conn *conn, int fd)
{
    const struct conn_shared *shared = conn->_shared;
    struct origin_dial *dial = conn->_dial;

    dial->fd = fd;
    dial->tls = tls_create(shared->tls, fd, shared->tls_name, &conn->target->sessions);
    timer_start(loop_of(conn), &dial->timer, shared->exchanges->options->tls_timeout_ms,
                on_tls_too_slow);
    shake_hands(conn);
}

static void on_dialed(struct dial *dial, enum err err, int fd)
{
    struct origin_conn *conn = CONTAINER_OF(dial, struct origin_dial, dial)->conn;
    int os_error = dial->os_error;

    CHECK(conn->state == CONN_OPENING);
    if (err == ERR_OK && conn->_shared->tls != NULL) {
        start_tls(conn, fd);
        return;
    }
    end_dial(conn);
    if (err != ERR_OK)
        refused(conn, err, os_error);
    else
        connected(conn, fd, NULL);
}

/* Life and verbs */

struct origin_conn *conn_open(const struct conn_shared *shared, struct target *target)
{
    struct origin_conn *conn = mem_alloc(sizeof *conn);
    const struct dial_target where = {
        .addr = &target->addr,
        .timeout_ms = shared->exchanges->options->connect_timeout_ms,
    };

    conn->_shared = shared;
    conn->target = target;
    conn->stream.fd = -1;
    conn->state = CONN_OPENING;
    conn->asked_us = loop_now_us(shared->exchanges->loop);
    conn->_dial = mem_alloc(sizeof *conn->_dial);
    conn->_dial->conn = conn;
    conn->_dial->fd = -1;
    dial_start(shared->exchanges->loop, NULL, &conn->_dial->dial, &where, on_dialed);
    return conn;
}

void conn_close(struct origin_conn *conn)
{
    exchange_stop(&conn->exchange);
    stream_close(&conn->stream);
    timer_stop(&conn->_timer);
    end_dial(conn);
    mem_free(conn);
}

void conn_lend(struct origin_conn *conn)
{
    conn->was_kept = conn->state == CONN_IDLE || conn->uses > 0;
    if (conn->state != CONN_LENT) /* else it goes from hand to hand */
        move(conn, CONN_LENT);
    conn->uses++;
}

void conn_keep(struct origin_conn *conn, uint32_t idle_ms)
{
    move(conn, CONN_IDLE);
    timer_start(loop_of(conn), &conn->_timer, idle_ms, on_idle_over);
}

bool conn_is_quiet(struct origin_conn *conn)
{
    return stream_is_quiet(&conn->stream);
}
