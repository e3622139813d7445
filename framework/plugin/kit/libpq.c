/* libpq.c - in place of libpq: its functions, as far as pg/ calls them, on a session that server.c
 * answers. A pipeline behaves as libpq 15's: each answer ends with a NULL, but that to a Sync. */
#include "libpq.h"
#include "base/check.h"
#include "base/mem.h"
#include "loop/loop.h"
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { VERSION = 150000, FIRST_PID = 1000 };

struct list kit_conns = {&kit_conns, &kit_conns};

/* Connecting: on a helper's thread, while the loop waits for it. */

static const char *value_of(const char *const *keywords, const char *const *values, const char *key)
{
    for (uint32_t i = 0; keywords[i] != NULL; i++)
        if (strcmp(keywords[i], key) == 0)
            return values[i];
    return "";
}

PGconn *PQconnectStartParams(const char *const *keywords, const char *const *values, int expand)
{
    static int pids = FIRST_PID;
    struct pg_conn *conn = mem_alloc(sizeof *conn);

    (void)expand;
    conn->pool = mem_copy(span_of(value_of(keywords, values, "dbname")));
    conn->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(conn->fd >= 0);
    conn->pid = ++pids;
    conn->state = PQTRANS_IDLE;
    table_init(&conn->prepared);
    table_init(&conn->channels);
    list_init(&conn->notes);
    list_init(&conn->entries);
    list_append(&kit_conns, &conn->link);
    return conn;
}

PostgresPollingStatusType PQconnectPoll(PGconn *conn)
{
    (void)conn;
    return PGRES_POLLING_OK;
}

ConnStatusType PQstatus(const PGconn *conn)
{
    return conn->is_broken ? CONNECTION_BAD : CONNECTION_OK;
}

/* There is one server only. */
char *PQhost(const PGconn *conn)
{
    (void)conn;
    return "";
}

char *PQhostaddr(const PGconn *conn)
{
    (void)conn;
    return "";
}

char *PQport(const PGconn *conn)
{
    (void)conn;
    return "";
}

int PQsocket(const PGconn *conn)
{
    return conn->fd;
}

int PQserverVersion(const PGconn *conn)
{
    (void)conn;
    return 0; /* one that is asked for nothing further */
}

char *PQerrorMessage(const PGconn *conn)
{
    static char lost[] = "server closed the connection unexpectedly\n", none[] = "";

    return conn->is_broken ? lost : none;
}

int PQbackendPID(const PGconn *conn)
{
    return conn->pid;
}

PGTransactionStatusType PQtransactionStatus(const PGconn *conn)
{
    return conn->is_broken ? PQTRANS_UNKNOWN : conn->state;
}

int PQsetnonblocking(PGconn *conn, int is_on)
{
    (void)conn;
    (void)is_on;
    return 0;
}

int PQenterPipelineMode(PGconn *conn)
{
    conn->is_pipeline = true;
    return 1;
}

PQnoticeReceiver PQsetNoticeReceiver(PGconn *conn, PQnoticeReceiver receiver, void *data)
{
    (void)conn;
    (void)receiver;
    (void)data;
    return NULL; /* there are no notices */
}

PGVerbosity PQsetErrorVerbosity(PGconn *conn, PGVerbosity verbosity)
{
    (void)conn;
    (void)verbosity;
    return PQERRORS_DEFAULT; /* a step's message has no parts */
}

const char *PQparameterStatus(const PGconn *conn, const char *name)
{
    (void)conn;
    (void)name;
    return NULL; /* nothing is reported */
}

int PQsslInUse(PGconn *conn)
{
    (void)conn;
    return 0;
}

void *PQgetssl(PGconn *conn)
{
    (void)conn;
    return NULL;
}

static void free_entry(struct entry *entry)
{
    list_remove(&entry->link);
    for (uint32_t i = 0; i < entry->count; i++)
        mem_free(entry->values[i]);
    mem_free(entry->values);
    mem_free(entry->sql);
    PQclear(entry->result);
    buf_release(&entry->written);
    mem_free(entry);
}

void PQfinish(PGconn *conn)
{
    struct list *link;
    uint32_t at = 0;
    void *text;

    if (conn == NULL)
        return;
    kit_server_forget(conn);
    while ((link = list_first(&conn->entries)) != NULL)
        free_entry(CONTAINER_OF(link, struct entry, link));
    while (table_next(&conn->prepared, &at, NULL, &text))
        mem_free(text);
    table_deinit(&conn->prepared);
    kit_listen_end(conn);
    list_remove(&conn->link);
    (void)close(conn->fd);
    mem_free((char *)conn->pool);
    mem_free(conn);
}

PQconninfoOption *PQconninfoParse(const char *conninfo, char **problem)
{
    (void)conninfo;
    (void)problem;
    return mem_alloc(sizeof(PQconninfoOption));
}

PQconninfoOption *PQconndefaults(void)
{
    return mem_alloc(sizeof(PQconninfoOption));
}

void PQconninfoFree(PQconninfoOption *options)
{
    mem_free(options);
}

/* Sending */

static struct entry *send_entry(struct pg_conn *conn, enum entry_kind kind, const char *sql,
                                uint32_t count, const char *const *values)
{
    struct entry *entry = mem_alloc(sizeof *entry);

    entry->kind = kind;
    entry->sql = sql != NULL ? mem_copy(span_of(sql)) : NULL;
    entry->count = count;
    entry->values = mem_calloc(count + 1, sizeof *entry->values);
    for (uint32_t i = 0; i < count; i++)
        entry->values[i] = mem_copy(span_of(values[i]));
    list_append(&conn->entries, &entry->link);
    return entry;
}

/* The plugin's own are those that it was seen starting. Outside of a pipeline nothing further tells
 * the server to begin. */
static int run(struct pg_conn *conn, const char *sql, int count, const char *const *values,
               bool is_binary)
{
    struct entry *entry = send_entry(conn, ENTRY_RUN, sql, (uint32_t)count, values);

    entry->start = kit_start_of_query(kit_here, sql, values);
    entry->is_binary = is_binary;
    if (!conn->is_pipeline && !conn->is_broken)
        kit_server_work(conn);
    return !conn->is_broken;
}

int PQsendQueryParams(PGconn *conn, const char *sql, int count, const Oid *types,
                      const char *const *values, const int *sizes, const int *formats,
                      int result_format)
{
    (void)types;
    (void)sizes;
    (void)formats;
    return run(conn, sql, count, values, result_format == 1);
}

int PQsendQuery(PGconn *conn, const char *sql)
{
    return run(conn, sql, 0, NULL, false);
}

int PQsendPrepare(PGconn *conn, const char *name, const char *sql, int count, const Oid *types)
{
    (void)count;
    (void)types;
    mem_free(table_set(&conn->prepared, span_of(name), mem_copy(span_of(sql))));
    (void)send_entry(conn, ENTRY_PREPARE, sql, 0, NULL);
    return !conn->is_broken;
}

int PQsendQueryPrepared(PGconn *conn, const char *name, int count, const char *const *values,
                        const int *sizes, const int *formats, int result_format)
{
    const char *sql = table_get(&conn->prepared, span_of(name));

    (void)sizes;
    (void)formats;
    CHECK(sql != NULL);
    return run(conn, sql, count, values, result_format == 1);
}

/* Only a rehearsal wants that, which tests have none of. */
int PQsendDescribePrepared(PGconn *conn, const char *name)
{
    (void)conn;
    (void)name;
    return 0;
}

int PQpipelineSync(PGconn *conn)
{
    (void)send_entry(conn, ENTRY_SYNC, NULL, 0, NULL);
    if (conn->is_broken)
        return 0;
    kit_server_work(conn);
    return 1;
}

int PQflush(PGconn *conn)
{
    return conn->is_broken ? -1 : 0;
}

/* Receiving */

void kit_conn_signal(struct pg_conn *conn)
{
    const uint64_t one = 1;

    CHECK(write(conn->fd, &one, sizeof one) == sizeof one);
}

int PQconsumeInput(PGconn *conn)
{
    uint64_t count;

    (void)!read(conn->fd, &count, sizeof count);
    conn->is_broken |= conn->is_breaking;
    return !conn->is_broken;
}

static struct entry *first_of(const struct pg_conn *conn)
{
    struct list *link = list_first(&conn->entries);

    return link != NULL ? CONTAINER_OF(link, struct entry, link) : NULL;
}

int PQisBusy(PGconn *conn)
{
    const struct entry *entry = first_of(conn);

    return !conn->is_broken && entry != NULL && !entry->is_done;
}

/* The next of its rows as a result of its own, and at the end one without. */
static PGresult *take_row(struct entry *entry)
{
    struct pg_result *all = entry->result, *row;

    if (!entry->is_row_by_row || all->status != PGRES_TUPLES_OK || all->rows == 0) {
        entry->result = NULL;
        entry->is_told = true;
        return all;
    }
    row = kit_result(PGRES_SINGLE_TUPLE);
    row->step = all->step;
    row->is_binary = all->is_binary;
    row->first = all->first++;
    row->rows = 1;
    all->rows--;
    return row;
}

/* That a COPY has begun. Its end is another result; for one that is written to, that comes
 * later. */
static PGresult *take_copy(struct pg_conn *conn, struct entry *entry)
{
    struct pg_result *opened = entry->result;

    entry->is_copy_told = true;
    entry->result = NULL;
    if (opened->status != PGRES_COPY_IN)
        return opened;
    entry->is_done = false;
    conn->current = entry;
    return opened;
}

static PGresult *lose(struct pg_conn *conn)
{
    if (conn->is_loss_told)
        return NULL;
    conn->is_loss_told = true;
    return kit_result_error("FATAL", "", "server closed the connection unexpectedly");
}

PGresult *PQgetResult(PGconn *conn)
{
    struct entry *entry = first_of(conn);

    if (entry == NULL)
        return NULL;
    if (!entry->is_done)
        return conn->is_broken ? lose(conn) : NULL;
    if (entry->is_told) {
        free_entry(entry);
        return NULL;
    }
    if (entry->copy != NULL && !entry->is_copy_told)
        return take_copy(conn, entry);
    if (entry->kind != ENTRY_SYNC)
        return take_row(entry);
    free_entry(entry);
    return kit_result(PGRES_PIPELINE_SYNC);
}

int PQsetSingleRowMode(PGconn *conn)
{
    struct entry *entry = first_of(conn);

    if (entry == NULL || entry->kind != ENTRY_RUN)
        return 0;
    entry->is_row_by_row = true;
    return 1;
}

void PQfreemem(void *ptr)
{
    mem_free(ptr);
}

int PQexitPipelineMode(PGconn *conn)
{
    conn->is_pipeline = false;
    return 1;
}

int PQsendFlushRequest(PGconn *conn)
{
    kit_server_work(conn);
    return !conn->is_broken;
}

char *PQescapeIdentifier(PGconn *conn, const char *text, size_t size)
{
    char *made = mem_alloc(2 * size + 3), *at = made;

    (void)conn;
    *at++ = '"';
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            *at++ = '"';
        *at++ = text[i];
    }
    *at = '"';
    return made;
}

/* Results */

struct pg_result *kit_result(ExecStatusType status)
{
    struct pg_result *result = mem_alloc(sizeof *result);

    result->status = status;
    result->size = sizeof *result;
    return result;
}

struct pg_result *kit_result_error(const char *severity, const char *sqlstate, const char *message)
{
    struct pg_result *result = kit_result(PGRES_FATAL_ERROR);

    result->severity = severity;
    snprintf(result->sqlstate, sizeof result->sqlstate, "%s", sqlstate);
    result->message = mem_copy(span_of(message != NULL ? message : "refused by a step"));
    return result;
}

/* Its columns, without a row. */
PGresult *PQcopyResult(const PGresult *result, int flags)
{
    struct pg_result *copy = kit_result(PGRES_TUPLES_OK);

    (void)flags;
    copy->step = result->step;
    copy->is_binary = result->is_binary;
    return copy;
}

void PQclear(PGresult *result)
{
    if (result == NULL)
        return;
    mem_free(result->message);
    mem_free(result);
}

ExecStatusType PQresultStatus(const PGresult *result)
{
    return result != NULL ? result->status : PGRES_FATAL_ERROR;
}

size_t PQresultMemorySize(const PGresult *result)
{
    return result != NULL ? result->size : 0;
}

char *PQresultErrorField(const PGresult *result, int field)
{
    if (result == NULL || result->message == NULL)
        return NULL;
    switch (field) {
    case PG_DIAG_SEVERITY:
    case PG_DIAG_SEVERITY_NONLOCALIZED:
        return (char *)result->severity;
    case PG_DIAG_SQLSTATE:
        return result->sqlstate[0] != '\0' ? (char *)result->sqlstate : NULL;
    case PG_DIAG_MESSAGE_PRIMARY:
        return result->message;
    default:
        return NULL;
    }
}

char *PQresultErrorMessage(const PGresult *result)
{
    return result != NULL && result->message != NULL ? result->message : (char *)"";
}

char *PQcmdStatus(PGresult *result)
{
    return result != NULL ? result->tag : NULL;
}

char *PQcmdTuples(PGresult *result)
{
    return result != NULL ? result->affected : (char *)"";
}

int PQntuples(const PGresult *result)
{
    return result != NULL ? (int)result->rows : 0;
}

int PQnfields(const PGresult *result)
{
    return result != NULL && result->step != NULL ? (int)result->step->columns : 0;
}

char *PQfname(const PGresult *result, int column)
{
    return column < PQnfields(result) ? result->step->column_names[column] : NULL;
}

Oid PQftype(const PGresult *result, int column)
{
    return column < PQnfields(result) ? result->step->column_types[column] : 0;
}

int PQfformat(const PGresult *result, int column)
{
    (void)column;
    return result != NULL && result->is_binary;
}

static char *cell(const PGresult *result, int row, int column)
{
    CHECK(row < PQntuples(result));
    CHECK(column < PQnfields(result));
    return result->step->cells[result->first + (uint32_t)row][column];
}

int PQgetisnull(const PGresult *result, int row, int column)
{
    return cell(result, row, column) == NULL;
}

char *PQgetvalue(const PGresult *result, int row, int column)
{
    char *text = cell(result, row, column);

    if (text != NULL && result->is_binary)
        return (char *)result->step->binary[result->first + (uint32_t)row][column].ptr;
    return text != NULL ? text : (char *)"";
}

int PQgetlength(const PGresult *result, int row, int column)
{
    if (cell(result, row, column) != NULL && result->is_binary)
        return (int)result->step->binary[result->first + (uint32_t)row][column].len;
    return (int)strlen(PQgetvalue(result, row, column));
}
