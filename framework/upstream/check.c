/* upstream/check.c - asks an address again and again whether it is well.
 *
 *   PAUSE ──▶ CONNECTING ──▶ ASKED ──▶ PAUSE        good, bad, or too slow
 */
#include "upstream/check.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "upstream/conn.h"
#include "upstream/target.h"
#include <stdio.h>

struct check {
    const struct check_shared *shared; /* what it stands on */
    struct target *target;             /* whom it asks */
    struct conn_shared conns;          /* of its connection */
    struct origin_conn *conn;          /* CONNECTING, ASKED; else NULL */
    struct timer timer;                /* PAUSE: its end; else the limit of the check */
    struct buf request;                /* what it sends */
    uint32_t code;                     /* of the answer; 0: none yet */
    uint32_t number;                   /* of the check, from 1 */
};

static const struct upstream_options *options_of(const struct check *check)
{
    return check->shared->exchanges->options;
}

static void on_pause_over(struct timer *timer);

/* Ends with the callback. */
static void end(struct check *check, bool is_good, const char *why)
{
    uint32_t interval_ms = options_of(check)->check_interval_ms;
    /* Up to a tenth sooner, so that workers and addresses fall out of step. */
    uint32_t sooner_ms = (check->number * 2654435761u >> 16) % (interval_ms / 10 + 1);

    CHECK(check->conn != NULL);
    conn_close(check->conn);
    check->conn = NULL;
    timer_start(check->shared->exchanges->loop, &check->timer, interval_ms - sooner_ms,
                on_pause_over);
    check->shared->fn(check->target, is_good, why, check->shared->data);
}

/* The exchange */

static enum err on_head(struct exchange *exchange, const struct http_head *head)
{
    ((struct check *)exchange->user)->code = head->code;
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
    struct check *check = exchange->user;
    char why[64];

    if (err != ERR_OK) {
        end(check, false, exchange->problem);
        return;
    }
    snprintf(why, sizeof why, "it answers with %u", check->code);
    end(check, check->code < 400, why);
}

static const struct exchange_handler exchange_handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_done = on_done,
};

/* The connection */

static struct check *check_of(struct origin_conn *conn)
{
    return conn->user;
}

static void on_open(struct origin_conn *conn)
{
    struct check *check = check_of(conn);

    conn_lend(conn);
    check->code = 0;
    exchange_start(&conn->exchange, buf_span(&check->request), false, &exchange_handler, check);
}

static void on_failed(struct origin_conn *conn, const struct conn_failure *failure)
{
    end(check_of(conn), false, failure->problem);
}

static void on_spoiled(struct origin_conn *conn)
{
    CHECK(conn->state == CONN_IDLE); /* it never is */
}

static const struct conn_handler conn_handler = {
    .on_open = on_open,
    .on_failed = on_failed,
    .on_spoiled = on_spoiled,
};

/* Time */

static void on_too_slow(struct timer *timer)
{
    end(CONTAINER_OF(timer, struct check, timer), false, "the check took too long");
}

static void on_pause_over(struct timer *timer)
{
    struct check *check = CONTAINER_OF(timer, struct check, timer);

    CHECK(check->conn == NULL);
    check->number++;
    timer_start(check->shared->exchanges->loop, timer, options_of(check)->check_timeout_ms,
                on_too_slow);
    check->conn = conn_open(&check->conns, check->target);
    check->conn->user = check;
}

struct check *check_create(const struct check_shared *shared, struct target *target)
{
    struct check *check = mem_alloc(sizeof *check);

    check->shared = shared;
    check->target = target;
    check->conns = (struct conn_shared){
        .tls = shared->tls,
        .tls_name = shared->tls_name,
        .buffers = shared->buffers,
        .exchanges = shared->exchanges,
        .handler = &conn_handler,
    };
    buf_init(&check->request, NULL);
    buf_format(&check->request,
               "GET %s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: weft-check\r\nConnection: "
               "close\r\n\r\n",
               options_of(check)->check_path, SPAN_ARG(shared->host));
    timer_start(shared->exchanges->loop, &check->timer, 0, on_pause_over);
    return check;
}

void check_destroy(struct check *check)
{
    if (check == NULL)
        return;
    if (check->conn != NULL)
        conn_close(check->conn);
    timer_stop(&check->timer);
    buf_release(&check->request);
    mem_free(check);
}
