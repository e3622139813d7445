/* upstream/origin.c - one server: its keep-alive connections, and the line before them.
 *
 *   OPENING ──▶ LENT ◀──▶ IDLE        refused, too slow, closed by us or by the peer: its place is
 *      ▲────────┘ │         │         free, and the first in line gets it
 *                 ▼─────────▼
 *                    (gone)
 *
 * A connection that is opened for somebody who got another one meanwhile, or gave up, goes on: it
 * serves whoever waits longest by then, or is kept.
 *
 * Nobody is in line while there is a place, and nobody waits while a connection is idle (but for
 * one that wants a fresh connection, for which one is on its way).
 *
 * Idle connections are being read: whatever comes on one closes it, since nothing was asked for.
 * What comes between the read part of a turn and the lending in it is found by a look of our own.
 */
#include "upstream/origin.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/dial.h"
#include <assert.h>
#include <errno.h>
#include <sys/socket.h>

enum { OPENING, IDLE, LENT };

static const struct {
    const char *name;
    unsigned next; /* the states that may follow, one bit each */
} states[] = {
    [OPENING] = {"opening", 1u << IDLE | 1u << LENT},
    [IDLE] = {"idle", 1u << LENT},
    [LENT] = {"lent", 1u << IDLE | 1u << OPENING},
};

/* A connection on its way: much larger than one that is there, so it is apart. */
struct origin_dial {
    struct dial dial;         /* first the name, then the socket */
    struct origin_conn *conn; /* whose */
};

/* A head is parsed when it is whole: so much is buffered, and what came with its last bytes. */
enum { IN_BEHIND_HEAD = BUF_PIECE_SIZE };

static_assert(ORIGIN_STATE_COUNT == sizeof states / sizeof states[0], "a list for each state");

/* The end of one state and the start of another; those used last come first. */
static void move(struct origin_conn *conn, int state)
{
    struct origin *origin = conn->origin;

    CHECK((states[conn->_state].next & 1u << state) != 0);
    log_trace("upstream %.*s: connection %d %s -> %s", SPAN_ARG(origin->_url->authority),
              conn->stream.fd, states[conn->_state].name, states[state].name);
    if (conn->_state == IDLE)
        origin->_counts->idle--;
    if (state == IDLE)
        origin->_counts->idle++;
    conn->_state = state;
    list_remove(&conn->_link);
    list_prepend(&origin->_conns[state], &conn->_link);
}

static void close_stream(struct origin_conn *conn)
{
    exchange_stop(&conn->exchange);
    stream_close(&conn->stream);
    timer_stop(&conn->_timer);
    conn->origin->_counts->connections--;
}

/* Lets go of all that `conn` holds, whatever its state, its place too. */
static void release(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;

    if (conn->_state == IDLE)
        origin->_counts->idle--;
    if (conn->_state != OPENING)
        close_stream(conn);
    if (conn->_dial != NULL)
        dial_cancel(&conn->_dial->dial);
    mem_free(conn->_dial);
    list_remove(&conn->_link);
    origin->_places--;
    mem_free(conn);
}

static void leave_line(struct origin *origin, struct origin_loan *loan)
{
    list_remove(&loan->_link);
    origin->_counts->waiting--;
}

static void on_dialed(struct dial *dial, enum err err, int fd);

/* Dials for `loan`, in a place that was taken. */
static void start_dial(struct origin_conn *conn, struct origin_loan *loan)
{
    struct origin *origin = conn->origin;
    const struct dial_target target = {
        .host = origin->_url->host,
        .port = origin->_url->port,
        .timeout_ms = origin->_options->connect_timeout_ms,
    };

    loan->_conn = conn;
    conn->_loan = loan;
    conn->_dial = mem_alloc(sizeof *conn->_dial);
    conn->_dial->conn = conn;
    dial_start(origin->_loop, origin->_resolver, &conn->_dial->dial, &target, on_dialed);
}

/* Opens one more connection, for `loan`. */
static void open_conn(struct origin *origin, struct origin_loan *loan)
{
    struct origin_conn *conn = mem_alloc(sizeof *conn);

    CHECK(origin->_places < origin->_options->connections_max);
    origin->_places++;
    conn->origin = origin;
    conn->stream.fd = -1;
    conn->_state = OPENING;
    list_prepend(&origin->_conns[OPENING], &conn->_link);
    list_append(&origin->_dialing, &loan->_link);
    start_dial(conn, loan);
}

/* Ends `conn` and gives its place to the first in line. */
static void discard(struct origin_conn *conn)
{
    struct origin *origin = conn->origin;
    struct list *first = list_first(&origin->_line);
    struct origin_loan *loan;

    release(conn);
    if (first == NULL)
        return;
    loan = CONTAINER_OF(first, struct origin_loan, _link);
    leave_line(origin, loan);
    open_conn(origin, loan);
}

/* Is there nothing to be read: neither bytes nor an end nor an error? */
static bool is_quiet(const struct origin_conn *conn)
{
    char byte;

    return recv(conn->stream.fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

static bool is_too_old(const struct origin_conn *conn)
{
    const struct origin *origin = conn->origin;

    return origin->_options->age_max_ms != 0 &&
           loop_now_ms(origin->_loop) - conn->connected_ms >= origin->_options->age_max_ms;
}

static void lend(struct origin_conn *conn)
{
    if (conn->_state != LENT)
        move(conn, LENT);
    if (conn->uses++ > 0)
        conn->origin->_counts->reused++;
}

/* Who waits longest and would take a connection that is not new? Those for whom is being dialed
 * came before those in line. */
static struct origin_loan *next_borrower(struct origin *origin)
{
    struct list *first = list_first(&origin->_line);

    LIST_EACH (&origin->_dialing, link) {
        struct origin_loan *loan = CONTAINER_OF(link, struct origin_loan, _link);

        if (!loan->_is_fresh)
            return loan;
    }
    return first != NULL ? CONTAINER_OF(first, struct origin_loan, _link) : NULL;
}

/* Takes `loan` out of wherever it waits. */
static void settle(struct origin *origin, struct origin_loan *loan)
{
    if (loan->_conn == NULL) {
        leave_line(origin, loan);
        return;
    }
    list_remove(&loan->_link);
    loan->_conn->_loan = NULL;
    loan->_conn = NULL;
}

static void on_idle_over(struct timer *timer);

static void keep_idle(struct origin_conn *conn, uint32_t idle_ms)
{
    move(conn, IDLE);
    timer_start(conn->origin->_loop, &conn->_timer, idle_ms, on_idle_over);
}

/* A connection is free: for `loan`, or to be kept. Ends with a callback. */
static void hand_on(struct origin_conn *conn, struct origin_loan *loan, uint32_t idle_ms)
{
    if (loan == NULL) {
        keep_idle(conn, idle_ms);
        return;
    }
    settle(conn->origin, loan);
    lend(conn);
    loan->_fn(loan, ERR_OK, 0, conn);
}

/* What the loop calls. */

static void on_idle_over(struct timer *timer)
{
    struct origin_conn *conn = CONTAINER_OF(timer, struct origin_conn, _timer);

    /* It is not stopped when the connection is lent: moving it further away later costs less. */
    if (conn->_state == IDLE)
        discard(conn);
}

static void on_data(struct stream *stream)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->_state == LENT) {
        exchange_on_data(&conn->exchange);
        return;
    }
    log_debug("upstream %.*s: bytes came unasked, closed", SPAN_ARG(conn->origin->_url->authority));
    discard(conn);
}

static void on_end(struct stream *stream)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->_state == LENT)
        exchange_on_end(&conn->exchange);
    else
        discard(conn);
}

static void on_fail(struct stream *stream, enum err err)
{
    struct origin_conn *conn = CONTAINER_OF(stream, struct origin_conn, stream);

    if (conn->_state == LENT)
        exchange_on_fail(&conn->exchange, err);
    else
        discard(conn);
}

static const struct stream_handler stream_handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_fail = on_fail,
};

static void dial_failed(struct origin_conn *conn, enum err err, int os_error)
{
    struct origin_loan *loan = conn->_loan;

    if (loan != NULL)
        settle(conn->origin, loan);
    discard(conn);
    if (loan != NULL)
        loan->_fn(loan, err, os_error, NULL);
}

static void connected(struct origin_conn *conn, int fd)
{
    struct origin *origin = conn->origin;

    stream_start(origin->_loop, &conn->stream, fd, origin->_buffers,
                 (size_t)origin->_options->head_bytes_max + IN_BEHIND_HEAD, &stream_handler);
    exchange_init(&conn->exchange, origin->_exchanges, &conn->stream);
    conn->connected_ms = loop_now_ms(origin->_loop);
    conn->uses = 0;
    origin->_counts->connects++;
    origin->_counts->connections++;
    hand_on(conn, conn->_loan != NULL ? conn->_loan : next_borrower(origin),
            origin->_options->idle_timeout_ms);
}

static void on_dialed(struct dial *dial, enum err err, int fd)
{
    struct origin_conn *conn = CONTAINER_OF(dial, struct origin_dial, dial)->conn;
    int os_error = dial->os_error;

    CHECK(conn->_state == OPENING);
    mem_free(conn->_dial);
    conn->_dial = NULL;
    if (err != ERR_OK)
        dial_failed(conn, err, os_error);
    else
        connected(conn, fd);
}

/* Life and verbs */

void origin_init(struct origin *origin, const struct origin_setup *setup)
{
    CHECK(setup->exchanges->options->connections_max > 0);
    *origin = (struct origin){
        ._loop = setup->exchanges->loop,
        ._resolver = setup->resolver,
        ._buffers = setup->buffers,
        ._options = setup->exchanges->options,
        ._exchanges = setup->exchanges,
        ._url = setup->url,
        ._counts = setup->counts,
    };
    for (int state = 0; state < ORIGIN_STATE_COUNT; state++)
        list_init(&origin->_conns[state]);
    list_init(&origin->_dialing);
    list_init(&origin->_line);
}

void origin_deinit(struct origin *origin)
{
    if (origin->_loop == NULL)
        return;
    CHECK(list_is_empty(&origin->_line));
    CHECK(list_is_empty(&origin->_dialing));
    CHECK(list_is_empty(&origin->_conns[LENT]));
    for (int state = 0; state < ORIGIN_STATE_COUNT; state++)
        LIST_EACH (&origin->_conns[state], link)
            release(CONTAINER_OF(link, struct origin_conn, _link));
    CHECK(origin->_places == 0);
    origin->_loop = NULL;
}

struct origin_conn *origin_take(struct origin *origin)
{
    struct list *first;

    while ((first = list_first(&origin->_conns[IDLE])) != NULL) {
        struct origin_conn *conn = CONTAINER_OF(first, struct origin_conn, _link);

        if (!is_too_old(conn) && is_quiet(conn)) {
            lend(conn);
            return conn;
        }
        discard(conn);
    }
    return NULL;
}

bool origin_wait(struct origin *origin, struct origin_loan *loan, origin_loan_fn *fn)
{
    CHECK(loan->_conn == NULL);
    *loan = (struct origin_loan){._fn = fn, ._origin = origin};
    if (origin->_places < origin->_options->connections_max) {
        open_conn(origin, loan);
        return true;
    }
    if (origin->_counts->waiting >= origin->_options->waiting_max)
        return false;
    origin->_counts->waiting++;
    list_append(&origin->_line, &loan->_link);
    return true;
}

void origin_dial_again(struct origin_conn *conn, struct origin_loan *loan, origin_loan_fn *fn)
{
    CHECK(loan->_conn == NULL);
    close_stream(conn);
    move(conn, OPENING);
    *loan = (struct origin_loan){._fn = fn, ._origin = conn->origin, ._is_fresh = true};
    list_prepend(&conn->origin->_dialing, &loan->_link);
    start_dial(conn, loan);
}

void origin_withdraw(struct origin_loan *loan)
{
    if (loan->_link.next != NULL && !list_is_empty(&loan->_link))
        settle(loan->_origin, loan);
}

bool origin_is_in_line(const struct origin_loan *loan)
{
    return loan->_conn == NULL && loan->_link.next != NULL && !list_is_empty(&loan->_link);
}

void origin_keep(struct origin_conn *conn, uint32_t idle_ms_max)
{
    struct origin *origin = conn->origin;
    uint32_t idle_ms = origin->_options->idle_timeout_ms;
    struct origin_loan *loan;

    CHECK(conn->_state == LENT);
    if (idle_ms > idle_ms_max)
        idle_ms = idle_ms_max;
    loan = next_borrower(origin);
    if (idle_ms == 0 || is_too_old(conn) || (loan != NULL && !is_quiet(conn)))
        discard(conn);
    else
        hand_on(conn, loan, idle_ms);
}

void origin_drop(struct origin_conn *conn)
{
    CHECK(conn->_state == LENT);
    discard(conn);
}
