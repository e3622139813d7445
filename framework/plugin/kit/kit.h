/* kit.h - what the files of the test kit share.
 *
 *   test.c     a test's life          client.c   the clients that it plays
 *   script.c   steps                  libpq.c    the database's side: libpq's functions
 *   copy.c     the same: COPY, LISTEN binary.c   the same: values in binary form
 *   calls.c    the upstreams' side    watch.c    what the plugin calls, noted on its way
 *   turn.c     the loop and its time  log.c      the host's log, and the mistakes told there
 *   sweep.c    every fault            clock.c helper.c dial.c pending.c: in place of the host's
 *
 * The rooms of framework/ are linked as they are, but for what clock.c, helper.c, dial.c, pending.c
 * and libpq.c have in their place. So what a room gets in addition is there for tests, too.
 * Memory: of the test's arena, but where it says else; all of it goes with the test.
 */
#ifndef WEFT_KIT_H
#define WEFT_KIT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/list.h"
#include "http/message.h"
#include "http/options.h"
#include "http/parser.h"
#include "pg/options.h"
#include "plugin/instance.h"
#include "upstream/options.h"
#include "weft_test.h"

struct addr;
struct op;
struct http_request;
struct http_server;

/* A database or an upstream that the plugin has found. */
struct kit_peer {
    struct kit_peer *next;                    /* found before */
    const char *name;                         /* of the section */
    uint16_t number;                          /* from 1: the port that its calls come from */
    struct pg_pool *pool;                     /* NULL: it is an upstream */
    struct upstream *upstream;                /* NULL: it is a pool */
    struct pg_options pg_options;             /* the pool's */
    struct upstream_options upstream_options; /* the upstream's */
    struct upstream_url url;                  /* the same's */
};

/* One that was not told. */
struct kit_failure {
    struct list link; /* among these */
    char text[];      /* with its NUL */
};

/* Who started a statement or a call, for messages. */
struct kit_start {
    struct list link;         /* of a call: among those that have not arrived */
    const char *call;         /* "partner GET /quote"; NULL: it is a statement */
    const char *where;        /* "GET /books/:id" */
    weft_test_request *owner; /* the request that it is for; NULL: none */
};

struct weft_test {
    uint32_t magic;                /* KIT_MAGIC */
    struct weft_test *left_before; /* of those that could not be ended */
    uint64_t now_us;               /* the loop's time */
    uint64_t stuck_us;             /* for how long something canceled has been going on */
    uint64_t begin_us;             /* at the start */
    const char *problem;           /* why it could not be started; NULL: it was */
    bool is_problem_known;         /* the test asked for it */
    struct kit_sweep *sweep;       /* while a scene is played; NULL: none is */
    bool is_swept;      /* with a fault: what steps and weft_test_is() want does not count */
    int failures;       /* so far */
    struct list untold; /* struct kit_failure */
    weft_test_failure_fn *on_failure; /* NULL: standard error */
    void *on_failure_data;            /* for it */

    struct arena_pool arenas;         /* of the arena and the instance */
    struct arena arena;               /* all that lives as long as the test */
    char *folder;                     /* a copy of a loaded plugin, on the heap; NULL: none */
    struct loop *loop;                /* on now_us */
    struct helpers *helpers;          /* for sessions and offloaded work */
    struct resolver *resolver;        /* of the upstreams' names */
    struct blame *blame;              /* a page that nobody reads */
    struct tasks *tasks;              /* the plugin's */
    struct router *router;            /* its routes */
    struct ini_file *file;            /* its settings */
    struct abi *abi;                  /* what it calls */
    struct instance *instance;        /* it; NULL: none */
    struct http_options http_options; /* of the server */
    struct http_server *http;         /* it */
    uint32_t scopes_at_start;         /* that lived when start() had returned */

    struct kit_peer *peers;           /* the newest first */
    uint16_t peers_count;             /* of them */
    struct tasks *peer_tasks;         /* of the server that plays upstreams */
    struct router *peer_router;       /* of it */
    struct http_options peer_options; /* of it */
    struct http_server *peer_http;    /* it */

    struct list requests;             /* struct weft_test_request, the oldest first */
    uint16_t requests_count;          /* of them */
    struct http_head *head;           /* of the answers being parsed */
    struct http_parser_limits limits; /* of answers */

    struct list steps;              /* struct weft_test_step, as written */
    weft_test_step *in_transaction; /* the "begin" after which steps are written; NULL: none */
    uint32_t depth;                 /* of transactions in one another there */
    struct list starts; /* struct kit_start: of calls that have not arrived, the oldest first */

    int log_fd;                   /* where the host logs */
    struct buf log;               /* what the test has not read of it */
    void (*on_abort_before)(int); /* what SIGABRT did before */
    void (*on_pipe_before)(int);  /* what SIGPIPE did before: the host ignores it */
    uint64_t misuses;             /* of the instance, that were told as failures */
};

#define KIT_MAGIC 0x6b697421u

/* The test that lives; NULL: none. */
extern struct weft_test *kit_here;

/* Counts a failure, to be told by kit_tell(); `file` may be NULL. */
void kit_fail(weft_test *t, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Tells of failures. What it calls may not come back, so it is the last thing that a function of
 * the kit does, on the test's own stack. */
void kit_tell(weft_test *t);

/* `text` in the test's memory; NULL for NULL. */
char *kit_copy(weft_test *t, const char *text);

/* ---- turn.c ---- */

/* Turns the loop until nothing more can be done before time goes on. */
void kit_settle(weft_test *t);

/* Lets time go on, and settles each time, until `is_done(t, data)` or `ms` have passed. False:
 * these have passed, or something goes on ten seconds after it was canceled (kit_is_stuck()). */
bool kit_run_until(weft_test *t, bool (*is_done)(weft_test *t, void *data), void *data,
                   uint64_t ms);

/* Does something go on ten seconds after it was canceled, when nothing can be waited for? It would
 * for ever. */
bool kit_is_stuck(const weft_test *t);

/* ---- helper.c ---- */

/* Runs what waits, each on a thread that is waited for. False: there was nothing. */
bool kit_helpers_run(struct helpers *helpers);

/* ---- clock.c ---- */

/* The next second begins for whoever measures real time, such as the log, which holds back repeats;
 * people's clock stands at `us` since the test's start. */
void kit_clock_set(uint64_t us);

/* ---- client.c ---- */

/* Sends and receives what can be. False: there was nothing. */
bool kit_clients_run(weft_test *t);

/* Closes them all. */
void kit_clients_close(weft_test *t);

/* The request that the test has sent from `port`; NULL: none. */
weft_test_request *kit_client_of(weft_test *t, uint16_t port);

/* Has its connection ended? */
bool kit_client_is_over(const weft_test_request *request);

/* Lets time go on until it is over, ten minutes at most. */
void kit_client_wait(weft_test_request *request);

/* Closes its connection. */
void kit_client_leave(weft_test_request *request);

/* A failure unless it was answered, or its client has left. */
void kit_client_check(const weft_test_request *request);

/* Its transaction, begun at `begin`, was left open: as it should be where something failed, but a
 * failure where the client was told that all is well. */
void kit_client_left_open(weft_test_request *request, const weft_test_step *begin);

/* ---- script.c ---- */

struct weft_test_step {
    struct list link;              /* among the test's */
    weft_test *t;                  /* whose */
    const char *file;              /* where it was written */
    int line;                      /* the same */
    bool is_call;                  /* or a query */
    const char *name;              /* statement, or upstream */
    const char *method;            /* of a call */
    const char *path;              /* of a call */
    const char *wants_body;        /* of a call; NULL: any */
    struct http_field wants_field; /* of a call; name absent: none */
    uint32_t count;                /* parameters; UINT32_MAX: any */
    char **values;                 /* as texts; NULL: SQL NULL */
    weft_test_step *begin;         /* the transaction that it belongs to; NULL: none */
    bool is_nested;                /* in one within that, or the begin of such */
    uint32_t times;                /* how often it is to be met; 0: any number */
    uint32_t met;                  /* how often it was */
    uint32_t after_ms;             /* before it is answered */
    uint32_t fault;                /* WEFT_TEST_... */
    uint32_t columns;              /* of the result; 0: none */
    char **column_names;           /* of them */
    uint32_t *column_types;        /* their OIDs */
    uint32_t rows;                 /* of the result */
    char ***cells;                 /* by row and column; NULL: SQL NULL */
    struct span **binary;          /* the same in binary form; NULL: nobody has asked for that */
    struct span *pieces;           /* that a COPY brings */
    uint32_t piece_count;          /* of them */
    bool has_wants;                /* `wants` was said */
    struct span wants;             /* what is to be written to a COPY */
    bool has_affected;             /* `affected` was said */
    uint64_t affected;             /* of the command's tag */
    const char *sqlstate;          /* it is refused; NULL: it is not */
    const char *message;           /* with that */
    uint32_t code;                 /* of a call's answer */
    const char *type;              /* of the same */
    const char *body;              /* of the same */
    struct http_field fields[8];   /* of the same */
    uint32_t field_count;          /* of them */
};

/* A statement as it reaches the database. */
struct kit_statement {
    const char *pool;          /* the pool's name */
    const char *sql;           /* its text */
    uint32_t count;            /* of values */
    const char *const *values; /* texts; NULL: SQL NULL */
    weft_test_step *begin;     /* on this transaction; NULL: on none that a step began */
};

/* The step that answers it, not counted as met yet; NULL: none. */
weft_test_step *kit_find_query(weft_test *t, const struct kit_statement *statement);

/* The same, with a failure that says what came, from `where`, and what would have been right. */
weft_test_step *kit_take_query(weft_test *t, const struct kit_statement *statement,
                               const char *where);

/* A call as it reaches the upstream. */
struct kit_call {
    const char *upstream;             /* its name */
    struct span method;               /* "GET" */
    struct span path;                 /* with its query */
    struct span body;                 /* all of it */
    const struct http_fields *fields; /* its fields */
};

/* As with statements. */
weft_test_step *kit_find_call(weft_test *t, const struct kit_call *call);
weft_test_step *kit_take_call(weft_test *t, const struct kit_call *call, const char *where);

/* Counts it as met, for a fault before anything reaches the edge. */
void kit_meet(weft_test_step *step);

/* A failure for each step that was not met; then there are none. */
void kit_end_steps(weft_test *t);

/* ---- libpq.c ---- */

/* The name under which the pool knows a statement by this text; NULL: none. */
const char *kit_statement_name(const weft_test *t, const char *pool, const char *sql);

/* ---- calls.c ---- */

/* Makes the server that plays upstreams, and lets it go. */
void kit_calls_init(weft_test *t);
void kit_calls_deinit(weft_test *t);

/* The upstream that is at `host`:`port` by its settings; NULL: none. */
const struct kit_peer *kit_calls_peer(const weft_test *t, struct span host, uint16_t port);

/* A connection to an upstream's address; -1: none is there. */
int kit_calls_connect(weft_test *t, const struct addr *addr);

/* The address that the name of an upstream stands for. */
void kit_calls_address(const struct kit_peer *peer, struct addr *addr);

/* ---- watch.c ---- */

/* From here on the plugin's calls go through us. */
void kit_watch(const weft_plugin *plugin);

/* Who has started the statement that is being sent; NULL: the host itself. */
const struct kit_start *kit_start_of_query(weft_test *t, const char *sql,
                                           const char *const *values);

/* Who has started the call that arrived; NULL: not known. */
const struct kit_start *kit_start_of_call(weft_test *t, const struct kit_call *call);

/* ---- sweep.c ---- */

/* Looks for ops that were started since, and does what is to be done to one of them. */
void kit_sweep_look(weft_test *t);

/* "[op 2 of the scene, a pg query of GET /books/:id, is too slow]", or "". */
const char *kit_sweep_text(const weft_test *t);

/* ---- log.c ---- */

/* Opens and closes it. */
void kit_log_open(weft_test *t);
void kit_log_close(weft_test *t);

/* Reads what was logged; a failure for each mistake of the plugin's that was told there. */
void kit_log_read(weft_test *t);

#endif
