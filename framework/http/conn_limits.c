/* http/conn_limits.c - how long a client may take: for a head, a body, an answer, and for nothing.
 *
 * There is one timer. It is never later than the limit that is next, and often earlier: then it
 * finds nothing wrong and is set anew, so that activity costs no more than a number.
 */
#include "base/check.h"
#include "http/body.h"
#include "http/inside.h"

enum {
    LINGER_MS = 5000,      /* in all */
    LINGER_IDLE_MS = 1000, /* without a byte */
    RATE_GRACE_MS = 5000   /* before body_rate_min counts */
};

#define NEVER UINT64_MAX

static uint64_t now_us(const struct http_conn *conn)
{
    return loop_now_us(conn->server->loop);
}

static uint64_t after(uint64_t since_us, uint32_t ms)
{
    return (since_us + 999) / 1000 + ms;
}

static uint64_t soonest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When the client has been idle for too long. */
static uint64_t idle_due_ms(const struct http_conn *conn)
{
    const struct http_server *server = conn->server;
    uint64_t due = after(conn->since_us, server->options->idle_timeout_ms);

    if (conn->must_introduce)
        return after(conn->since_us, server->options->header_timeout_ms);
    if (!list_is_empty(&conn->pipeline))
        return NEVER;
    if (!server->is_draining)
        return due;
    uint64_t since_ms = after(conn->since_us, 0); /* it may have come while the server drains */
    if (since_ms < server->draining_since_ms)
        since_ms = server->draining_since_ms;
    return soonest(due, since_ms + server->options->drain_idle_ms);
}

static uint64_t pause_due_ms(const struct http_conn *conn)
{
    return after(conn->intake->heard_us, conn->server->options->body_timeout_ms);
}

/* When more of a body than what has come will have been due. */
static uint64_t rate_due_ms(const struct http_conn *conn)
{
    uint64_t rate = conn->server->options->body_rate_min;

    if (rate == 0)
        return NEVER;
    return after(conn->intake->body_since_us, RATE_GRACE_MS) +
           conn->intake->body_bytes * 1000 / rate;
}

/* When the rest of a body has been due for too long; not while it is us who don't take it. */
static uint64_t body_due_ms(const struct http_conn *conn)
{
    const struct http_request *reading = conn->reading;

    if (reading != NULL && (reading->_expects_word || http_body_is_full(reading)))
        return NEVER;
    return soonest(pause_due_ms(conn), rate_due_ms(conn));
}

void http_conn_time_body(struct http_conn *conn)
{
    struct http_intake *intake = conn->intake;
    uint64_t now = now_us(conn);

    intake->body_since_us =
        intake->body_bytes == 0 ? now : intake->body_since_us + now - intake->heard_us;
    intake->heard_us = now;
}

bool http_conn_is_trickling(const struct http_conn *conn)
{
    return pause_due_ms(conn) > loop_now_ms(conn->server->loop);
}

/* When the limit of the state is reached. */
static uint64_t state_due_ms(const struct http_conn *conn)
{
    switch ((enum http_conn_state)conn->state) {
    case CONN_IDLE:
        return idle_due_ms(conn);
    case CONN_HEAD:
        return after(conn->since_us, conn->server->options->header_timeout_ms);
    case CONN_BODY:
    case CONN_DISCARD:
        return body_due_ms(conn);
    case CONN_LAST:
        return NEVER;
    case CONN_LINGER:
        return soonest(after(conn->since_us, LINGER_MS),
                       after(conn->intake->heard_us, LINGER_IDLE_MS));
    }
    return NEVER;
}

static uint64_t write_due_ms(const struct http_conn *conn)
{
    if (!stream_is_sending(&conn->stream))
        return NEVER;
    return conn->stream.progress_ms + conn->server->options->write_timeout_ms;
}

static void on_timer(struct timer *timer);

/* Has the timer run at `due_ms` or before. */
static void arm(struct http_conn *conn, uint64_t due_ms)
{
    if (due_ms != NEVER && (!timer_is_on(&conn->timer) || due_ms < conn->timer.deadline_ms))
        timer_start_at(conn->server->loop, &conn->timer, due_ms, on_timer);
}

/* The client did not take a byte for too long: what it is owed it will not get. */
static void give_up_writing(struct http_conn *conn)
{
    LIST_EACH (&conn->pipeline, link) {
        struct http_request *request = CONTAINER_OF(link, struct http_request, _link);

        if (request->why == NULL)
            request->why = "write_timeout";
    }
    http_conn_close(conn, SCOPE_CLIENT_GONE);
}

/* The limit of the state is reached. */
static void expire(struct http_conn *conn)
{
    if (conn->state == CONN_IDLE || conn->state == CONN_LINGER) {
        http_conn_close(conn, SCOPE_CLIENT_GONE);
        return;
    }
    http_conn_expire_reading(conn);
    http_conn_settle(conn);
}

static void on_timer(struct timer *timer)
{
    struct http_conn *conn = CONTAINER_OF(timer, struct http_conn, timer);
    uint64_t now_ms = loop_now_ms(conn->server->loop);

    CHECK_OBJ(conn, HTTP_CONN_MAGIC);
    if (conn->state == CONN_IDLE && stream_is_sending(&conn->stream))
        conn->since_us = now_us(conn); /* one that is still taking an answer is not idle */
    if (write_due_ms(conn) <= now_ms)
        stream_flush_now(&conn->stream); /* perhaps it was written a moment ago */
    if (write_due_ms(conn) <= now_ms)
        give_up_writing(conn);
    else if (state_due_ms(conn) <= now_ms)
        expire(conn);
    else
        arm(conn, soonest(write_due_ms(conn), state_due_ms(conn)));
}

void http_conn_arm(struct http_conn *conn)
{
    arm(conn, state_due_ms(conn));
}

void http_conn_arm_write(struct http_conn *conn)
{
    arm(conn, after(now_us(conn), conn->server->options->write_timeout_ms));
}
