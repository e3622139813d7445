/* libpq.h - a made-up session: what PQ...() is called with, and who answers.
 *
 *   libpq.c   the functions of libpq, on entries and results
 *   copy.c    those for COPY and LISTEN
 *   server.c  the server's side: works entries off, by steps, in the test's time
 *   binary.c  a step's values in binary form
 */
#ifndef WEFT_KIT_LIBPQ_H
#define WEFT_KIT_LIBPQ_H

#include "base/list.h"
#include "base/table.h"
#include "kit.h"
#include "loop/timer.h"
#include <libpq-fe.h>

/* libpq's PGresult. */
struct pg_result {
    ExecStatusType status;      /* what it is */
    const weft_test_step *step; /* whose rows it has; NULL: none */
    uint32_t rows;              /* of these */
    uint32_t first;             /* the first of them */
    bool is_binary;             /* in binary form */
    const char *severity;       /* of an error: "ERROR", "FATAL" */
    char sqlstate[6];           /* of an error */
    char *message;              /* of an error; on the heap */
    char tag[40];               /* of a command: "INSERT 0 1" */
    char affected[24];          /* its number; "" : none */
    size_t size;                /* bytes that it is said to have */
};

enum entry_kind { ENTRY_PREPARE, ENTRY_RUN, ENTRY_SYNC };

/* What was sent, and is worked off in order. */
struct entry {
    struct list link;              /* among the session's */
    enum entry_kind kind;          /* what it is */
    char *sql;                     /* its text, on the heap; NULL: a Sync */
    uint32_t count;                /* of values */
    char **values;                 /* texts, on the heap; NULL: SQL NULL */
    const struct kit_start *start; /* who wanted it; NULL: the host itself, or not known */
    bool is_done;                  /* the server has answered */
    bool is_told;                  /* its result was taken: NULL is next */
    bool is_row_by_row;            /* PQsetSingleRowMode(): its rows are results of their own */
    struct pg_result *result;      /* the answer, until it is taken */
    bool is_binary;                /* its rows are to be in binary form */
    const weft_test_step *copy;    /* a COPY that was opened: by which step; NULL: none */
    bool is_copy_told;             /* and that was told */
    uint32_t pieces_told;          /* of the step's */
    struct buf written;            /* what has come for the COPY */
};

/* libpq's PGconn. */
struct pg_conn {
    struct list link;              /* among all of them */
    const char *pool;              /* whose; the peer's name */
    int fd;                        /* an eventfd: something has come */
    int pid;                       /* of the server's process */
    bool is_pipeline;              /* in pipeline mode */
    bool is_breaking;              /* the server has closed it */
    bool is_broken;                /* and that was noticed */
    bool is_loss_told;             /* by a result */
    bool is_read_only;             /* until the next Sync */
    bool is_aborted;               /* nothing is run before the next Sync */
    PGTransactionStatusType state; /* of the transaction */
    weft_test_step *begin;         /* that it began with; NULL: none */
    weft_test_request *owner;      /* who began it; NULL: not known */
    struct table prepared;         /* name -> text, on the heap */
    struct table channels;         /* that it listens to */
    struct list notes;             /* notifications that were not taken */
    struct list entries;           /* sent, not taken */
    struct entry *current;         /* that the server works on; NULL: none */
    weft_test_step *step;          /* by which */
    struct timer timer;            /* when it will be done */
};

/* A result of `status`. */
struct pg_result *kit_result(ExecStatusType status);

/* An error's. `message` is copied. */
struct pg_result *kit_result_error(const char *severity, const char *sqlstate, const char *message);

/* Works off what was sent, as far as that goes at this time. */
void kit_server_work(struct pg_conn *conn);

/* It goes. */
void kit_server_forget(struct pg_conn *conn);

/* A COPY has ended with this result; NULL: the connection breaks. */
void kit_server_end_copy(struct pg_conn *conn, struct entry *entry, struct pg_result *result);

/* ---- copy.c ---- */

enum kit_copy { KIT_COPY_NONE, KIT_COPY_OUT, KIT_COPY_IN };

/* What the statement is. */
enum kit_copy kit_copy_of(const char *sql);

/* The answer to a COPY that begins. */
struct pg_result *kit_copy_open(struct entry *entry, const weft_test_step *step);

/* LISTEN, or UNLISTEN. */
void kit_listen(struct pg_conn *conn, const char *sql);

/* The session goes. */
void kit_listen_end(struct pg_conn *conn);

/* ---- binary.c ---- */

/* Makes step->binary; a failure for each value that its column's type does not have. */
void kit_encode(weft_test_step *step);

/* ---- */

/* Whoever waits for answers is woken. */
void kit_conn_signal(struct pg_conn *conn);

/* All of them. */
extern struct list kit_conns;

#endif
