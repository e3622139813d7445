/* pg/connect.c - opening a connection on a helper thread.
 *
 *   in line ──▶ WORKING (helper thread) ──▶ done (loop) ──▶ freed
 *      │ abandoned: freed        │ abandoned: ends soon, and `done` throws it all away
 *
 * A thread tries one server after the other; where any will do, but one that only reads is
 * preferred, all of them twice. What a server answers to a login counts as in libpq: "not now"
 * (57P03) leads to the next server, any other refusal ends the attempt. Only silence, and a
 * connection that ends without a word, lead to the next address of a name.
 *
 * Between pg_connect_start() and `done` the helper thread alone touches the attempt, but for
 * `is_abandoned`.
 */
#include "pg/connect.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "loop/helper.h"
#include "pg/files.h"
#include "pg/hosts.h"
#include "pg/parameters.h"
#include <errno.h>
#include <libpq-fe.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ADDRESSES_MAX = 8, /* of a name, that are tried */
    SQLSTATE_LEN = 5,
    GLANCE_MS = 50,               /* how often a thread looks whether it is still wanted */
    VERSION_CLIENT_CHECK = 140000 /* the first that can look whether its client is there */
};

#define CONNECT_MAGIC 0x7067636eu

static const char pooler_problem[] = "a pooler wants prepared = off";

/* Where an attempt goes on that has failed with an address. */
enum course { TO_NEXT_ADDRESS, TO_NEXT_SERVER, TO_NOBODY };

struct pg_connect {
    uint32_t magic;                  /* CONNECT_MAGIC */
    struct job job;                  /* on the helper thread */
    struct helpers *helpers;         /* whose thread */
    atomic_bool is_abandoned;        /* nobody wants it */
    struct pg_parameters parameters; /* of the connection */
    struct pg_hosts hosts;           /* that are tried */
    uint32_t server;                 /* index of the one that is tried */
    enum course course;              /* after the last failure */
    struct pg_addresses *addresses;  /* the caller's, see struct pg_wish; only on the loop */
    struct pg_addresses answering;   /* first a copy of that, then what was found */
    uint32_t heard;                  /* bits: servers by name of which an address has answered */
    uint32_t timeout_ms;             /* of each */
    bool is_prepared;                /* the session is our own, and so are its settings */
    bool is_only;                    /* see struct pg_wish */
    bool asks_limits;                /* the same */
    struct pg_limits limits;         /* the answer */
    struct pg_traits traits;         /* of the connection */
    PGconn *conn;                    /* made by the thread */
    char problem[512];               /* why it failed, for each server; "" else */
    pg_connect_fn *done;             /* whom to tell */
    void *data;                      /* for done */
};

/* On the helper thread */

/* Adds why it failed with this server. */
static bool fail(struct pg_connect *connect, const char *problem)
{
    size_t len = strlen(connect->problem);

    (void)snprintf(connect->problem + len, sizeof connect->problem - len, "%s%.*s",
                   len > 0 ? "; " : "", (int)strcspn(problem, "\n"), problem);
    return false;
}

/* Waits for the socket, and now and then looks whether anybody still waits for us. */
static bool wait_for(struct pg_connect *connect, short events, uint64_t end_us)
{
    struct pollfd pollfd = {.fd = PQsocket(connect->conn), .events = events};
    uint64_t now_us;

    while ((now_us = clock_monotonic_us()) < end_us) {
        uint64_t left_ms = (end_us - now_us) / 1000 + 1;
        int count = poll(&pollfd, 1, left_ms < GLANCE_MS ? (int)left_ms : GLANCE_MS);

        if (count > 0)
            return true;
        if (count < 0 && errno != EINTR)
            return fail(connect, "poll() failed");
        if (atomic_load(&connect->is_abandoned))
            return fail(connect, "given up");
    }
    return fail(connect, "the server took too long to answer");
}

/* The SQLSTATE in a verbose message, "FATAL:  28P01: ...", in whatever language; NULL: the server
 * has not said it. libpq has no other way to ask for that of a login. */
static const char *find_sqlstate(const char *message)
{
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == SQLSTATE_LEN &&
            at[3 + SQLSTATE_LEN] == ':')
            return at + 3;
    }
    return NULL;
}

static bool fail_login(struct pg_connect *connect)
{
    const char *problem = PQerrorMessage(connect->conn);
    const char *sqlstate = find_sqlstate(problem);

    if (sqlstate != NULL)
        connect->course =
            strncmp(sqlstate, "57P03", SQLSTATE_LEN) == 0 ? TO_NEXT_SERVER : TO_NOBODY;
    return fail(connect, problem);
}

static bool log_in(struct pg_connect *connect, uint64_t end_us)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        if (status == PGRES_POLLING_FAILED)
            return fail_login(connect);
        if (!wait_for(connect, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, end_us))
            return false;
        status = PQconnectPoll(connect->conn);
    }
    return true;
}

/* Runs a text; *result is its last result, or NULL. */
static bool ask(struct pg_connect *connect, const char *sql, uint64_t end_us, PGresult **result)
{
    PGresult *next;

    *result = NULL;
    if (PQsendQuery(connect->conn, sql) == 0)
        return fail(connect, PQerrorMessage(connect->conn));
    while (PQisBusy(connect->conn)) {
        if (!wait_for(connect, POLLIN, end_us))
            return false;
        if (PQconsumeInput(connect->conn) == 0)
            return fail(connect, PQerrorMessage(connect->conn));
    }
    while ((next = PQgetResult(connect->conn)) != NULL) {
        PQclear(*result);
        *result = next;
    }
    if (PQstatus(connect->conn) == CONNECTION_OK)
        return true;
    PQclear(*result);
    return fail(connect, PQerrorMessage(connect->conn));
}

static void copy_text(char text[PG_NAME_SIZE], const PGresult *result, int column)
{
    (void)snprintf(text, PG_NAME_SIZE, "%s", PQgetvalue(result, 0, column));
}

/* NULL is no limit. */
static uint32_t limit_of(const PGresult *result, int column)
{
    if (PQgetisnull(result, 0, column))
        return PG_UNLIMITED;
    return (uint32_t)strtoul(PQgetvalue(result, 0, column), NULL, 10);
}

/* Every role may ask for all of that. A server is known by the microsecond of its start: its
 * address depends on who asks, and its system identifier is that of its standbys, too. Superusers
 * have what is reserved, and no limits. */
static bool ask_limits(struct pg_connect *connect, uint64_t end_us)
{
    static const char sql[] =
        "select extract(epoch from pg_postmaster_start_time())::text || ' '"
        " || current_setting('port'), rolname, datname, current_setting('max_connections')::int"
        " - case when rolsuper then 0 else current_setting('superuser_reserved_connections')::int"
        " + case when exists (select from pg_roles where rolname = 'pg_use_reserved_connections'"
        " and pg_has_role(session_user, oid, 'usage')) then 0"
        " else coalesce(current_setting('reserved_connections', true), '0')::int end end,"
        " case when rolconnlimit >= 0 and not rolsuper then rolconnlimit end,"
        " case when datconnlimit >= 0 and not rolsuper then datconnlimit end"
        " from pg_roles, pg_database where rolname = session_user and datname = current_database()";
    struct pg_limits *limits = &connect->limits;
    PGresult *result;

    if (!ask(connect, sql, end_us, &result))
        return false;
    if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1) {
        copy_text(limits->server, result, 0);
        copy_text(limits->role, result, 1);
        copy_text(limits->database, result, 2);
        limits->sessions = limit_of(result, 3);
        limits->role_sessions = limit_of(result, 4);
        limits->database_sessions = limit_of(result, 5);
    }
    limits->is_known = true;
    PQclear(result);
    return true;
}

/* Is it answered by the process that the login has told of? */
static bool is_same_process(const struct pg_connect *connect, const PGresult *result)
{
    return strtol(PQgetvalue(result, 0, 0), NULL, 10) == PQbackendPID(connect->conn);
}

/* Who answers, when its server was started, and the net is put up, all in one round trip; not for
 * the session of others that a pooler has lent for this. */
static bool look_behind(struct pg_connect *connect, uint64_t end_us, PGresult **result)
{
    bool may_check = connect->is_prepared && PQserverVersion(connect->conn) >= VERSION_CLIENT_CHECK;
    char sql[512];

    (void)snprintf(sql, sizeof sql,
                   "select pg_catalog.pg_backend_pid(), (extract(epoch from"
                   " pg_catalog.pg_postmaster_start_time()) * 1000000)::bigint,"
                   " case pg_catalog.pg_backend_pid() when %d then"
                   " pg_catalog.set_config('%s', '%s', false) is not null end",
                   may_check ? PQbackendPID(connect->conn) : 0, PG_CLIENT_CHECK_NAME,
                   PG_CLIENT_CHECK_TIME);
    if (!ask(connect, sql, end_us, result))
        return false;
    if (PQresultStatus(*result) != PGRES_TUPLES_OK || PQntuples(*result) != 1)
        return true;
    connect->traits.server_us = strtoull(PQgetvalue(*result, 0, 1), NULL, 10);
    connect->traits.checks_client = strcmp(PQgetvalue(*result, 0, 2), "t") == 0;
    return true;
}

/* A server on another system may refuse the setting, which is only a net, or not know when it was
 * started: it is asked for the least then. */
static bool find_traits(struct pg_connect *connect, uint64_t end_us)
{
    PGresult *result;
    bool is_told;

    if (!look_behind(connect, end_us, &result))
        return false;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        PQclear(result);
        if (!ask(connect, "select pg_catalog.pg_backend_pid()", end_us, &result))
            return false;
    }
    is_told = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
    connect->traits.is_direct = is_told ? is_same_process(connect, result) : connect->is_prepared;
    PQclear(result);
    return true;
}

/* A pooler tells of a process that there is not: what is prepared would be on another session the
 * next time, a cancel would hit nobody, and what is listened to would be heard by nobody. */
static bool set_up(struct pg_connect *connect, uint64_t end_us)
{
    connect->traits.is_direct = connect->is_prepared;
    if (connect->is_prepared && connect->asks_limits)
        return ask_limits(connect, end_us); /* and is not used for more */
    if (PQserverVersion(connect->conn) == 0)
        return true; /* the test kit's, which answers to plugins only */
    if (!find_traits(connect, end_us))
        return false;
    if (connect->traits.is_direct || !connect->is_prepared)
        return true;
    connect->course = TO_NOBODY;
    return fail(connect, pooler_problem);
}

static void ignore_notice(void *data, const PGresult *result)
{
    (void)data;
    (void)result;
}

static bool open_conn(struct pg_connect *connect, const struct pg_parameters *parameters)
{
    uint64_t end_us = clock_monotonic_us() + connect->timeout_ms * 1000ull;

    connect->conn = PQconnectStartParams((const char *const *)parameters->keywords,
                                         (const char *const *)parameters->values, 0);
    CHECK(connect->conn != NULL); /* else out of memory */
    (void)PQsetNoticeReceiver(connect->conn, ignore_notice, NULL);
    (void)PQsetErrorVerbosity(connect->conn, PQERRORS_VERBOSE);
    if (PQstatus(connect->conn) == CONNECTION_BAD)
        return fail(connect, PQerrorMessage(connect->conn));
    if (log_in(connect, end_us)) {
        (void)PQsetErrorVerbosity(connect->conn, PQERRORS_DEFAULT);
        return set_up(connect, end_us);
    }
    /* PgBouncer before 1.20. */
    if (strstr(connect->problem, "unsupported startup parameter") != NULL)
        return fail(connect, pooler_problem);
    return false;
}

static bool try_address(struct pg_connect *connect, const char *address)
{
    CHECK(connect->conn == NULL);
    connect->course = TO_NEXT_ADDRESS;
    pg_parameters_set(&connect->parameters, "hostaddr", address);
    if (open_conn(connect, &connect->parameters))
        return true;
    PQfinish(connect->conn);
    connect->conn = NULL;
    return false;
}

/* Is it the one of its name that answered last? */
static bool is_known(const struct pg_connect *connect, const char *address)
{
    return strcmp(connect->answering.last[connect->server], address) == 0;
}

/* Those to be tried, in digits; how many. */
static uint32_t list_addresses(const struct pg_connect *connect, const struct addrinfo *found,
                               char list[ADDRESSES_MAX][PG_ADDRESS_SIZE])
{
    char address[PG_ADDRESS_SIZE];
    uint32_t count = 0;

    for (; found != NULL; found = found->ai_next) {
        if (getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0,
                        NI_NUMERICHOST) != 0)
            continue;
        if (count < ADDRESSES_MAX)
            memcpy(list[count++], address, sizeof address);
        else if (is_known(connect, address)) /* the first ones were silent, then */
            memcpy(list[ADDRESSES_MAX - 1], address, sizeof address);
    }
    return count;
}

/* One that is the first anyway need not be known: where a resolver turns its answers about, all of
 * them get their share again once the first is not silent any more. */
static void note_answer(struct pg_connect *connect, const char *address, bool is_first)
{
    char *last = connect->answering.last[connect->server];

    connect->heard |= 1u << connect->server;
    (void)snprintf(last, PG_ADDRESS_SIZE, "%s", is_first ? "" : address);
}

/* Each address gets its time, as the manual has it (connect_timeout): libpq itself, waited for from
 * outside, would spend all of it on the first that is silent. */
static bool try_addresses(struct pg_connect *connect, const struct addrinfo *found)
{
    char list[ADDRESSES_MAX][PG_ADDRESS_SIZE];
    uint32_t count = list_addresses(connect, found, list), begin = 0;

    for (uint32_t i = 0; i < count; i++)
        begin = is_known(connect, list[i]) ? i : begin;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i == 0 ? begin : i <= begin ? i - 1 : i; /* the others in their order */
        bool is_there;

        if (atomic_load(&connect->is_abandoned))
            return fail(connect, "given up");
        is_there = try_address(connect, list[at]);
        if (is_there || connect->course != TO_NEXT_ADDRESS) {
            note_answer(connect, list[at], at == 0);
            return is_there;
        }
    }
    return false;
}

/* A name that is not found is left to libpq, which says so. */
static bool try_server(struct pg_connect *connect, uint32_t server)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    const struct pg_host *host = &connect->hosts.list[server];
    struct addrinfo *found;
    bool is_there;

    CHECK(server < connect->hosts.count);
    connect->server = server;
    pg_parameters_set(&connect->parameters, "host", host->host);
    pg_parameters_set(&connect->parameters, "port", host->port);
    if (host->hostaddr[0] != '\0' || host->host[0] == '\0' || host->host[0] == '/' ||
        host->host[0] == '@' || getaddrinfo(host->host, NULL, &hints, &found) != 0)
        return try_address(connect, host->hostaddr);
    is_there = try_addresses(connect, found);
    freeaddrinfo(found);
    return is_there;
}

static bool try_all(struct pg_connect *connect, uint32_t first)
{
    for (uint32_t i = 0; i < connect->hosts.count; i++) {
        if (atomic_load(&connect->is_abandoned))
            return fail(connect, "given up");
        if (try_server(connect, (first + i) % connect->hosts.count))
            return true;
        if (connect->course == TO_NOBODY)
            return false;
    }
    return false;
}

static void on_thread(struct job *job)
{
    struct pg_connect *connect = CONTAINER_OF(job, struct pg_connect, job);
    struct pg_parameters *parameters = &connect->parameters;
    uint32_t first = connect->server;
    bool is_picky =
        connect->hosts.count > 1 && pg_parameters_is_target(parameters, "prefer-standby");
    char problem[INI_PROBLEM_SIZE];

    if (!pg_files_check(parameters, problem)) { /* they were there at the start */
        (void)fail(connect, problem);
        return;
    }
    if (connect->is_only) {
        pg_parameters_set(parameters, "target_session_attrs", "any");
        (void)try_server(connect, first);
        return;
    }
    if (is_picky)
        pg_parameters_set(parameters, "target_session_attrs", "standby");
    if (try_all(connect, first) || !is_picky || connect->course == TO_NOBODY)
        return;
    pg_parameters_set(parameters, "target_session_attrs", "any");
    connect->problem[0] = '\0';
    (void)try_all(connect, first);
}

/* On the loop */

static void free_connect(struct pg_connect *connect)
{
    pg_parameters_deinit(&connect->parameters);
    pg_hosts_deinit(&connect->hosts);
    connect->magic = 0;
    mem_free(connect);
}

/* Others may have learnt of other servers meanwhile. */
static void tell_addresses(const struct pg_connect *connect)
{
    for (uint32_t i = 0; connect->addresses != NULL && i < PG_HOSTS_MAX; i++) {
        if ((connect->heard >> i & 1) != 0)
            memcpy(connect->addresses->last[i], connect->answering.last[i], PG_ADDRESS_SIZE);
    }
}

static void on_done(struct job *job)
{
    struct pg_connect *connect = CONTAINER_OF(job, struct pg_connect, job);

    CHECK_OBJ(connect, CONNECT_MAGIC);
    if (atomic_load(&connect->is_abandoned)) {
        PQfinish(connect->conn);
    } else {
        tell_addresses(connect);
        connect->done(connect->data, connect, connect->conn, connect->problem);
    }
    free_connect(connect);
}

static struct pg_connect *make(struct helpers *helpers, const struct pg_options *options)
{
    struct pg_connect *connect = mem_alloc(sizeof *connect);

    connect->magic = CONNECT_MAGIC;
    connect->helpers = helpers;
    connect->timeout_ms = options->connect_timeout_ms;
    connect->is_prepared = options->is_prepared;
    atomic_init(&connect->is_abandoned, false);
    pg_parameters_init(&connect->parameters, options);
    return connect;
}

struct pg_connect *pg_connect_start(struct helpers *helpers, const struct pg_options *options,
                                    const struct pg_wish *wish, pg_connect_fn *done, void *data)
{
    struct pg_connect *connect = make(helpers, options);
    char problem[INI_PROBLEM_SIZE];
    bool can;

    CHECK(done != NULL);
    if (wish->like != NULL)
        pg_parameters_be_like(&connect->parameters, wish->like);
    can = pg_parameters_hosts(&connect->parameters, &connect->hosts, problem);
    CHECK(can); /* pg_options_check() */
    CHECK(connect->hosts.count > 0);
    connect->is_only = wish->is_only;
    connect->asks_limits = wish->asks_limits;
    connect->server = wish->first % connect->hosts.count;
    connect->addresses = wish->addresses;
    if (wish->addresses != NULL)
        connect->answering = *wish->addresses;
    connect->done = done;
    connect->data = data;
    helper_run(helpers, &connect->job, on_thread, on_done);
    return connect;
}

uint32_t pg_connect_server(const struct pg_connect *connect)
{
    CHECK_OBJ(connect, CONNECT_MAGIC);
    return connect->server;
}

const struct pg_traits *pg_connect_traits(const struct pg_connect *connect)
{
    CHECK_OBJ(connect, CONNECT_MAGIC);
    return &connect->traits;
}

const struct pg_limits *pg_connect_limits(const struct pg_connect *connect)
{
    CHECK_OBJ(connect, CONNECT_MAGIC);
    return &connect->limits;
}

void pg_connect_abandon(struct pg_connect *connect)
{
    if (connect == NULL)
        return;
    CHECK_OBJ(connect, CONNECT_MAGIC);
    if (helper_take_back(connect->helpers, &connect->job))
        free_connect(connect);
    else
        atomic_store(&connect->is_abandoned, true);
}
