/* pg/result.c - what the server answered to a statement.
 *
 * A result stays as libpq made it; values are handed out where they lie. */
#include "pg/result.h"
#include "base/check.h"
#include "base/number.h"
#include "pg/binary.h"
#include "pg/number.h"
#include "pg/private.h"
#include <libpq-fe.h>
#include <stdio.h>

enum { MESSAGE_MAX = 2048 }; /* bytes; a server may say as much as it likes */

enum pg_result_kind pg_result_kind(const struct pg_result *result)
{
    const char *severity;

    CHECK(result != NULL);
    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
    case PGRES_EMPTY_QUERY:
        return PG_RESULT_OK;
    case PGRES_PIPELINE_ABORTED:
        return PG_RESULT_ABORTED;
    case PGRES_PIPELINE_SYNC:
        return PG_RESULT_SYNC;
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_FATAL_ERROR:
        severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
        return severity != NULL && strcmp(severity, "ERROR") == 0 ? PG_RESULT_ERROR
                                                                  : PG_RESULT_FATAL;
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_COPY_BOTH:
        return PG_RESULT_UNWANTED;
    case PGRES_SINGLE_TUPLE:
        return PG_RESULT_ROW;
    }
    return PG_RESULT_UNWANTED; /* of a newer libpq */
}

size_t pg_result_size(const struct pg_result *result)
{
    return PQresultMemorySize(result);
}

void pg_result_clear(struct pg_result *result)
{
    PQclear(result);
}

struct pg_result *pg_result_shape(const struct pg_result *result)
{
    PGresult *shape = PQcopyResult(result, PG_COPYRES_ATTRS);

    CHECK(shape != NULL); /* else out of memory */
    return shape;
}

struct span pg_result_sqlstate(const struct pg_result *result)
{
    return span_of(PQresultErrorField(result, PG_DIAG_SQLSTATE));
}

/* One line, cut where it is very long, and not within a character. What is no UTF-8 loses no more
 * than the longest character has. */
static struct span cut(struct span text)
{
    size_t len = 0;

    while (len < text.len && len < MESSAGE_MAX && text.ptr[len] != '\n')
        len++;
    if (len == MESSAGE_MAX && len < text.len) {
        while (len > MESSAGE_MAX - 3 && ((unsigned char)text.ptr[len] & 0xc0) == 0x80)
            len--;
    }
    text.len = len;
    return text;
}

/* Raised by a statement itself, all of these have another source, or a context. */
enum pg_plan_fault pg_result_plan_fault(const struct pg_result *result)
{
    static const struct {
        const char *sqlstate, *source;
    } faults[] = {
        {"0A000", "RevalidateCachedQuery"},
        {"26000", "FetchPreparedStatement"},
        {"42P05", "StorePreparedStatement"},
    };
    struct span sqlstate = pg_result_sqlstate(result);
    const char *source = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);

    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (!span_equal(sqlstate, span_of(faults[i].sqlstate)))
            continue;
        return source != NULL && strcmp(source, faults[i].source) == 0 &&
                       PQresultErrorField(result, PG_DIAG_CONTEXT) == NULL
                   ? PG_PLAN_STALE
                   : PG_PLAN_SUSPECT;
    }
    return PG_PLAN_FINE;
}

size_t pg_result_notice_size(const struct pg_result *notice)
{
    static const char fields[] = {
        PG_DIAG_SEVERITY,           PG_DIAG_SEVERITY_NONLOCALIZED,
        PG_DIAG_SQLSTATE,           PG_DIAG_MESSAGE_PRIMARY,
        PG_DIAG_MESSAGE_DETAIL,     PG_DIAG_MESSAGE_HINT,
        PG_DIAG_STATEMENT_POSITION, PG_DIAG_INTERNAL_POSITION,
        PG_DIAG_INTERNAL_QUERY,     PG_DIAG_CONTEXT,
        PG_DIAG_SCHEMA_NAME,        PG_DIAG_TABLE_NAME,
        PG_DIAG_COLUMN_NAME,        PG_DIAG_DATATYPE_NAME,
        PG_DIAG_CONSTRAINT_NAME,    PG_DIAG_SOURCE_FILE,
        PG_DIAG_SOURCE_LINE,        PG_DIAG_SOURCE_FUNCTION,
    };
    size_t size = 6; /* a type, a length, and the end of the fields */

    for (size_t i = 0; i < sizeof fields; i++) {
        const char *text = PQresultErrorField(notice, fields[i]);

        if (text != NULL)
            size += strlen(text) + 2; /* its code, and its end */
    }
    return size;
}

struct span pg_result_message(const struct pg_result *result)
{
    struct span message = span_of(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));

    if (message.ptr == NULL)
        message = span_of(PQresultErrorMessage(result));
    return cut(message);
}

struct span pg_result_context(const struct pg_result *result)
{
    return cut(span_of(PQresultErrorField(result, PG_DIAG_CONTEXT)));
}

struct span pg_result_tag(const struct pg_result *result)
{
    return span_of(PQcmdStatus((PGresult *)result));
}

/* Codes that are exceptions within their class, and then whole classes. Class 08 and 57P0x are not
 * among them: with the severity ERROR the session lives (08P01: a wrong number of parameters, or a
 * foreign server that is down), and with FATAL it is lost before anybody asks. */
enum err pg_sqlstate_error(struct span sqlstate)
{
    static const struct {
        const char *prefix;
        enum err err;
    } meanings[] = {
        {"22P02", ERR_DB_VALUE}, /* not of its type: a text that is no number */
        {"22003", ERR_DB_VALUE}, /* out of range */
        {"22007", ERR_DB_VALUE}, /* no date or time */
        {"22008", ERR_DB_VALUE}, /* a date out of range */
        {"22021", ERR_DB_VALUE}, /* bytes that are not of the encoding */
        {"22P04", ERR_DB_VALUE}, /* a line of a COPY that has another form than it should */
        {"23", ERR_DB_CONSTRAINT}, {"40", ERR_DB_RETRY},
        {"57014", ERR_DEADLINE}, /* canceled, which the server's own limit does, too */
    };

    for (size_t i = 0; i < sizeof meanings / sizeof meanings[0]; i++) {
        size_t len = strlen(meanings[i].prefix);

        if (sqlstate.len >= len && memcmp(sqlstate.ptr, meanings[i].prefix, len) == 0)
            return meanings[i].err;
    }
    return ERR_DB;
}

/* Accessors */

/* Of a pull: the columns of its stream; the rows are in a page. */
static const PGresult *result_of(const struct op *op)
{
    const struct pg_query *query = pg_query_behind(op);

    return query != NULL ? query->result : NULL;
}

uint32_t pg_rows(const struct op *op)
{
    if (op_is_pg_pull(op))
        return pg_stream_page(op) != NULL ? pg_stream_page(op)->rows : 0;
    return (uint32_t)PQntuples(result_of(op));
}

uint32_t pg_columns(const struct op *op)
{
    return (uint32_t)PQnfields(result_of(op));
}

uint64_t pg_affected(const struct op *op)
{
    PGresult *result = (PGresult *)result_of(op);
    uint64_t count = 0;

    if (result != NULL)
        (void)number_uint(span_of(PQcmdTuples(result)), &count);
    return count;
}

/* PQfnumber() would fold its case. */
int32_t pg_column(const struct op *op, const char *name)
{
    const PGresult *result = result_of(op);
    int count = PQnfields(result);

    CHECK(name != NULL);
    for (int i = 0; i < count; i++) {
        if (strcmp(PQfname(result, i), name) == 0)
            return i;
    }
    return -1;
}

struct span pg_column_name(const struct op *op, uint32_t column)
{
    if (column >= pg_columns(op))
        return (struct span){NULL, 0};
    return span_of(PQfname(result_of(op), (int)column));
}

uint32_t pg_column_type(const struct op *op, uint32_t column)
{
    if (column >= pg_columns(op))
        return 0;
    return PQftype(result_of(op), (int)column);
}

static bool is_binary(const PGresult *result, uint32_t column)
{
    return column < (uint32_t)PQnfields(result) && PQfformat(result, (int)column) == 1;
}

bool pg_is_binary(const struct op *op, uint32_t column)
{
    return is_binary(result_of(op), column);
}

/* `result` is that of `op`, which is looked for once a value. */
static struct span raw_of(const struct op *op, const PGresult *result, uint32_t row,
                          uint32_t column)
{
    if (op_is_pg_pull(op)) {
        const struct pg_page *page = pg_stream_page(op);

        return page != NULL ? pg_page_text(page, row, column) : (struct span){NULL, 0};
    }
    if (row >= (uint32_t)PQntuples(result) || column >= (uint32_t)PQnfields(result) ||
        PQgetisnull(result, (int)row, (int)column))
        return (struct span){NULL, 0};
    return (struct span){PQgetvalue(result, (int)row, (int)column),
                         (size_t)PQgetlength(result, (int)row, (int)column)};
}

struct span pg_raw(const struct op *op, uint32_t row, uint32_t column)
{
    return raw_of(op, result_of(op), row, column);
}

struct span pg_text(const struct op *op, uint32_t row, uint32_t column)
{
    const PGresult *result = result_of(op);
    struct span raw = raw_of(op, result, row, column), text;

    if (raw.ptr == NULL || !is_binary(result, column))
        return raw;
    (void)pg_binary_text(PQftype(result, (int)column), raw, &text);
    return text;
}

bool pg_is_null(const struct op *op, uint32_t row, uint32_t column)
{
    return pg_raw(op, row, column).ptr == NULL;
}

int64_t pg_int(const struct op *op, uint32_t row, uint32_t column)
{
    const PGresult *result = result_of(op);
    struct span raw = raw_of(op, result, row, column);
    int64_t value = 0;

    if (raw.ptr == NULL)
        return 0;
    if (is_binary(result, column))
        (void)pg_binary_int(PQftype(result, (int)column), raw, &value);
    else
        (void)number_int(raw, &value);
    return value;
}

double pg_double(const struct op *op, uint32_t row, uint32_t column)
{
    const PGresult *result = result_of(op);
    struct span raw = raw_of(op, result, row, column);
    double value = 0;
    bool is_number;

    if (raw.ptr == NULL)
        return 0;
    is_number = is_binary(result, column)
                    ? pg_binary_double(PQftype(result, (int)column), raw, &value)
                    : pg_double_read(raw, &value);
    return is_number ? value : 0;
}

bool pg_bool(const struct op *op, uint32_t row, uint32_t column)
{
    const PGresult *result = result_of(op);
    struct span raw = raw_of(op, result, row, column);

    if (raw.ptr != NULL && is_binary(result, column))
        return pg_binary_bool(PQftype(result, (int)column), raw);
    return span_equal(raw, SPAN("t"));
}

/* Rows in binary form */

static bool is_fine_column(const PGresult *result, int column, char problem[PG_MISFIT_SIZE])
{
    int rows = PQntuples(result);
    uint32_t type = PQftype(result, column);

    for (int row = 0; row < rows; row++) {
        struct span bytes = {PQgetvalue(result, row, column),
                             (size_t)PQgetlength(result, row, column)};

        if (PQgetisnull(result, row, column) || pg_binary_is_fine(type, bytes))
            continue;
        (void)snprintf(problem, PG_MISFIT_SIZE,
                       "column %.64s: %zu bytes that are no value of type %u",
                       PQfname(result, column), bytes.len, type);
        return false;
    }
    return true;
}

bool pg_result_fits(const struct pg_result *result, char problem[PG_MISFIT_SIZE])
{
    int columns = PQnfields(result);

    for (int i = 0; i < columns; i++) {
        uint32_t type = PQftype(result, i);

        if (!pg_binary_is_known(type)) {
            (void)snprintf(
                problem, PG_MISFIT_SIZE,
                "column %.64s is of a type (%u) that is not read in binary form: cast it "
                "(::text), or ask for text",
                PQfname(result, i), type);
            return false;
        }
        if (PQfformat(result, i) == 1 && !is_fine_column(result, i, problem))
            return false;
    }
    return true;
}
