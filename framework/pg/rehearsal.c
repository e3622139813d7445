/* pg/rehearsal.c - tries a pool's database and its declared statements.
 *
 *   CONNECTING ──▶ PREPARING (one after the other) ──▶ told, freed
 *        └──────────────┴── no session, lost, too slow ──▶ told, freed
 *
 * Cancelled: the attempt is abandoned, or the session closed; nobody is told.
 */
#include "pg/rehearsal.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "loop/timer.h"
#include "pg/connect.h"
#include "pg/private.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_SIZE = 512, NAME_SHOWN_MAX = 64 };

struct pg_rehearsal {
    struct pg_pool *pool;       /* whose statements */
    struct pg_connect *opening; /* under way; NULL: not */
    PGconn *conn;               /* NULL: not yet */
    struct io io;               /* of its socket */
    struct timer timer;         /* of the statement that is being prepared */
    uint32_t at;                /* which one that is */
    bool is_refused;            /* and the server did not want it */
    bool is_described;          /* and its columns were asked for */
    uint32_t refused;           /* so far */
    char problem[TEXT_SIZE];    /* of the first one that was; "": none was */
    pg_rehearsal_fn *fn;        /* whom to tell */
    void *data;                 /* for fn */
};

static void release(struct pg_rehearsal *rehearsal)
{
    pg_connect_abandon(rehearsal->opening);
    timer_stop(&rehearsal->timer);
    io_stop(&rehearsal->io);
    if (rehearsal->conn != NULL)
        PQfinish(rehearsal->conn);
    mem_free(rehearsal);
}

static void tell(struct pg_rehearsal *rehearsal, enum err err, const char *problem)
{
    timer_stop(&rehearsal->timer);
    io_stop(&rehearsal->io);
    rehearsal->fn(rehearsal->data, rehearsal, err, problem);
    release(rehearsal);
}

static const struct pg_statement *current(const struct pg_rehearsal *rehearsal)
{
    return rehearsal->pool->statements.list[rehearsal->at];
}

/* It cannot be found out. */
static void give_up(struct pg_rehearsal *rehearsal, const char *why)
{
    char text[TEXT_SIZE];

    snprintf(text, sizeof text, "statement %.*s could not be tried: %.*s", NAME_SHOWN_MAX,
             current(rehearsal)->name, (int)strcspn(why, "\n"), why);
    tell(rehearsal, ERR_DB_DOWN, text);
}

static void tell_all(struct pg_rehearsal *rehearsal)
{
    size_t len = strlen(rehearsal->problem);

    if (rehearsal->refused > 1)
        snprintf(rehearsal->problem + len, sizeof rehearsal->problem - len,
                 "; so are %u other statements", rehearsal->refused - 1);
    tell(rehearsal, rehearsal->refused > 0 ? ERR_DB : ERR_OK, rehearsal->problem);
}

/* Does it say something of the server's state, and nothing of the statement? */
static bool is_passing(struct span sqlstate)
{
    static const char *const classes[] = {"08", "25", "40", "53", "55", "57", "58", "XX"};

    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++)
        if (sqlstate.len < 2 || memcmp(sqlstate.ptr, classes[i], 2) == 0)
            return true;
    return false;
}

/* False: it was no refusal, and has been told. */
static bool note_refusal(struct pg_rehearsal *rehearsal, const PGresult *result)
{
    struct span sqlstate = pg_result_sqlstate(result), message = pg_result_message(result);
    char text[TEXT_SIZE];

    if (is_passing(sqlstate)) {
        snprintf(text, sizeof text, "%.*s", SPAN_ARG(message));
        give_up(rehearsal, text);
        return false;
    }
    if (rehearsal->refused++ == 0)
        snprintf(rehearsal->problem, sizeof rehearsal->problem - NAME_SHOWN_MAX,
                 "statement %.*s is refused: %.*s (%.*s)", NAME_SHOWN_MAX, current(rehearsal)->name,
                 SPAN_ARG(message), SPAN_ARG(sqlstate));
    return true;
}

/* Of a statement whose rows are to come in binary form: are its columns such that can be read? */
static void look_at_columns(struct pg_rehearsal *rehearsal, const PGresult *result)
{
    char problem[PG_MISFIT_SIZE];

    if (!pg_result_fits(result, problem) && rehearsal->refused++ == 0)
        snprintf(rehearsal->problem, sizeof rehearsal->problem - NAME_SHOWN_MAX,
                 "statement %.*s is refused: %s", NAME_SHOWN_MAX, current(rehearsal)->name,
                 problem);
}

static void on_too_slow(struct timer *timer)
{
    give_up(CONTAINER_OF(timer, struct pg_rehearsal, timer), "the server took too long to answer");
}

/* The unnamed statement: there is nothing to take back, on a pooler's session either. False: it
 * has been told. */
static bool prepare_next(struct pg_rehearsal *rehearsal)
{
    if (rehearsal->at == rehearsal->pool->statements.count) {
        tell_all(rehearsal);
        return false;
    }
    if (PQsendPrepare(rehearsal->conn, "", current(rehearsal)->sql.ptr, 0, NULL) == 0) {
        give_up(rehearsal, PQerrorMessage(rehearsal->conn));
        return false;
    }
    timer_start(rehearsal->pool->loop, &rehearsal->timer,
                rehearsal->pool->options->connect_timeout_ms, on_too_slow);
    return true;
}

/* The end of an answer. False: it has been told. */
static bool go_on(struct pg_rehearsal *rehearsal)
{
    if ((current(rehearsal)->flags & PG_BINARY) != 0 && !rehearsal->is_described &&
        !rehearsal->is_refused) {
        rehearsal->is_described = true;
        if (PQsendDescribePrepared(rehearsal->conn, "") == 1)
            return true;
        give_up(rehearsal, PQerrorMessage(rehearsal->conn));
        return false;
    }
    rehearsal->is_described = rehearsal->is_refused = false;
    rehearsal->at++;
    return prepare_next(rehearsal);
}

/* What has come of the current statement's answer, and the next one behind its end. False: it has
 * been told. */
static bool take(struct pg_rehearsal *rehearsal)
{
    while (!PQisBusy(rehearsal->conn)) {
        PGresult *result = PQgetResult(rehearsal->conn);
        bool goes_on = true;

        if (result == NULL) {
            goes_on = go_on(rehearsal);
        } else if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            rehearsal->is_refused = true;
            goes_on = note_refusal(rehearsal, result);
        } else if (rehearsal->is_described) {
            look_at_columns(rehearsal, result);
        }
        PQclear(result);
        if (!goes_on)
            return false;
    }
    return true;
}

static void step(struct pg_rehearsal *rehearsal)
{
    int left;

    if (!take(rehearsal))
        return;
    left = PQflush(rehearsal->conn);
    if (left < 0 || PQstatus(rehearsal->conn) != CONNECTION_OK)
        give_up(rehearsal, PQerrorMessage(rehearsal->conn));
    else
        io_update(&rehearsal->io, left > 0 ? IO_READ | IO_WRITE : IO_READ);
}

/* What the loop calls: note what happened, hand on. No policy below this line. */

static void on_socket(struct io *io, uint32_t events)
{
    struct pg_rehearsal *rehearsal = CONTAINER_OF(io, struct pg_rehearsal, io);

    if ((events & ~(uint32_t)IO_WRITE) != 0 && PQconsumeInput(rehearsal->conn) == 0) {
        give_up(rehearsal, PQerrorMessage(rehearsal->conn));
        return;
    }
    step(rehearsal);
}

static void on_connected(void *data, struct pg_connect *connect, struct pg_conn *conn,
                         const char *problem)
{
    struct pg_rehearsal *rehearsal = data;

    CHECK(rehearsal->opening == connect);
    rehearsal->opening = NULL;
    rehearsal->conn = conn;
    if (conn == NULL) {
        tell(rehearsal, ERR_DB_DOWN, problem);
        return;
    }
    CHECK(PQsetnonblocking(conn, 1) == 0);
    io_start(rehearsal->pool->loop, &rehearsal->io, PQsocket(conn), IO_READ, on_socket);
    if (prepare_next(rehearsal))
        step(rehearsal);
}

/* ---- life ---- */

struct pg_rehearsal *pg_rehearsal_start(struct pg_pool *pool, pg_rehearsal_fn *fn, void *data)
{
    struct pg_rehearsal *rehearsal = mem_alloc(sizeof *rehearsal);

    CHECK_OBJ(pool, PG_POOL_MAGIC);
    CHECK(fn != NULL);
    rehearsal->pool = pool;
    rehearsal->fn = fn;
    rehearsal->data = data;
    rehearsal->opening = pg_connect_start(pool->helpers, pool->options,
                                          &(struct pg_wish){.first = 0}, on_connected, rehearsal);
    return rehearsal;
}

void pg_rehearsal_cancel(struct pg_rehearsal *rehearsal)
{
    if (rehearsal != NULL)
        release(rehearsal);
}
