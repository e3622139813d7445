/* script.c - steps: written by the test, met by the plugin. */
#include "base/check.h"
#include "base/number.h"
#include "libpq.h"
#include "pg/encode.h"
#include "pg/query.h"
#include "plugin/inside.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_MAX = 1024, NUMBER_MAX = 40, FIELDS_MAX = 8 };

/* Writing */

static weft_test_step *add(weft_test *t, const char *file, int line, const char *name)
{
    weft_test_step *step = arena_alloc(&t->arena, sizeof *step);

    step->t = t;
    step->file = kit_copy(t, file);
    step->line = line;
    step->name = kit_copy(t, name);
    step->times = 1;
    step->code = 200;
    list_append(&t->steps, &step->link);
    return step;
}

static bool is_begin(const char *sql)
{
    return strncasecmp(sql, "begin", 5) == 0 && (sql[5] == '\0' || sql[5] == ' ');
}

static bool is_end(const char *sql)
{
    return strcasecmp(sql, "commit") == 0 || strcasecmp(sql, "rollback") == 0;
}

/* As it is sent; NULL: SQL NULL, also for one that the host refuses. */
static char *text_of(weft_test *t, const weft_value *value)
{
    struct pg_value taken;
    const char *why;
    char *text;

    if (abi_take_values(value, 1, &taken, &why) != ERR_OK || pg_value_is_null(&taken))
        return NULL;
    text = arena_bytes(&t->arena, pg_value_size(&taken));
    pg_value_write(&taken, text);
    return text;
}

weft_test_step *weft_test_query_at(weft_test *t, const char *file, int line, const char *statement,
                                   uint32_t count, const weft_value *values)
{
    weft_test_step *step = add(t, file, line, statement);

    step->count = count;
    if (count != UINT32_MAX)
        step->values = arena_alloc(&t->arena, (count + 1) * sizeof *step->values);
    for (uint32_t i = 0; i < count && count != UINT32_MAX; i++)
        step->values[i] = text_of(t, &values[i]);
    step->begin = t->in_transaction;
    step->is_nested = t->depth > 1 || (t->depth == 1 && is_begin(statement));
    if (is_begin(statement) && t->depth++ == 0)
        t->in_transaction = step;
    else if (is_end(statement) && t->depth > 0 && --t->depth == 0)
        t->in_transaction = NULL;
    return step;
}

weft_test_step *weft_test_call_at(weft_test *t, const char *file, int line, const char *upstream,
                                  const char *method, const char *path)
{
    weft_test_step *step = add(t, file, line, upstream);

    step->is_call = true;
    step->method = kit_copy(t, method);
    step->path = kit_copy(t, path);
    return step;
}

/* What a test says that its step cannot do. */
static bool is_query(const weft_test_step *step, const char *what)
{
    if (step->is_call)
        kit_fail(step->t, step->file, step->line, "%s: a call has no such answer", what);
    return !step->is_call;
}

static bool is_call(const weft_test_step *step, const char *what)
{
    if (!step->is_call)
        kit_fail(step->t, step->file, step->line, "%s: a statement has no such answer", what);
    return step->is_call;
}

static uint32_t oid_of(const char *type)
{
    static const struct {
        const char *name;
        uint32_t oid;
    } types[] = {
        {"bool", 16},    {"boolean", 16},     {"bytea", 17},         {"bigint", 20},
        {"int8", 20},    {"smallint", 21},    {"int2", 21},          {"int", 23},
        {"int4", 23},    {"integer", 23},     {"text", 25},          {"oid", 26},
        {"json", 114},   {"real", 700},       {"float4", 700},       {"float", 701},
        {"float8", 701}, {"double", 701},     {"varchar", 1043},     {"date", 1082},
        {"time", 1083},  {"timestamp", 1114}, {"timestamptz", 1184}, {"numeric", 1700},
        {"uuid", 2950},  {"jsonb", 3802},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, type) == 0)
            return types[i].oid;
    return 0;
}

/* "id int": its name, and the OID of its type. */
static void add_column(weft_test_step *step, const char *text, size_t len)
{
    char *copy = (char *)arena_copy(&step->t->arena, (struct span){text, len}).ptr;
    char *rest, *name = strtok_r(copy, " \t\n", &rest), *type = strtok_r(NULL, " \t\n", &rest);

    if (name == NULL)
        return;
    step->column_names[step->columns] = name;
    step->column_types[step->columns] = type != NULL ? oid_of(type) : oid_of("text");
    if (step->column_types[step->columns++] == 0)
        kit_fail(step->t, step->file, step->line, "column %s: no type '%s' is known here", name,
                 type);
}

void weft_test_columns(weft_test_step *step, const char *columns)
{
    size_t count_max = 1;

    if (!is_query(step, "weft_test_columns()"))
        return;
    for (const char *at = columns; *at != '\0'; at++)
        count_max += *at == ',';
    step->column_names = arena_alloc(&step->t->arena, count_max * sizeof *step->column_names);
    step->column_types = arena_alloc(&step->t->arena, count_max * sizeof *step->column_types);
    while (*columns != '\0') {
        size_t len = strcspn(columns, ",");

        add_column(step, columns, len);
        columns += len + (columns[len] != '\0');
    }
}

void weft_test_row_of(weft_test_step *step, uint32_t count, const char *const *values)
{
    struct arena *arena = &step->t->arena;
    char ***cells = arena_alloc(arena, (step->rows + 1) * sizeof *cells);

    if (!is_query(step, "weft_test_row()"))
        return;
    if (count > step->columns) {
        kit_fail(step->t, step->file, step->line, "a row of %u values, and %u columns", count,
                 step->columns);
        return;
    }
    if (step->rows > 0)
        memcpy(cells, step->cells, step->rows * sizeof *cells);
    cells[step->rows] = arena_alloc(arena, step->columns * sizeof **cells);
    for (uint32_t i = 0; i < count; i++)
        cells[step->rows][i] = kit_copy(step->t, values[i]);
    step->cells = cells;
    step->rows++;
}

void weft_test_affected(weft_test_step *step, uint64_t count)
{
    if (!is_query(step, "weft_test_affected()"))
        return;
    step->has_affected = true;
    step->affected = count;
}

void weft_test_refuse(weft_test_step *step, const char *sqlstate, const char *message)
{
    if (!is_query(step, "weft_test_refuse()"))
        return;
    if (strlen(sqlstate) != 5)
        kit_fail(step->t, step->file, step->line, "%s: a SQLSTATE has five characters", sqlstate);
    step->sqlstate = kit_copy(step->t, sqlstate);
    step->message = kit_copy(step->t, message);
}

void weft_test_answer(weft_test_step *step, uint32_t code, const char *type, const char *body)
{
    if (!is_call(step, "weft_test_answer()"))
        return;
    if (code < 200 || code > 599)
        kit_fail(step->t, step->file, step->line, "%u: an answer's status is 200 to 599", code);
    step->code = code < 200 || code > 599 ? 500 : code;
    step->type = kit_copy(step->t, type);
    step->body = kit_copy(step->t, body);
}

static struct http_field field_of(weft_test *t, const char *name, const char *value)
{
    return (struct http_field){span_of(kit_copy(t, name)), span_of(kit_copy(t, value))};
}

void weft_test_answer_field(weft_test_step *step, const char *name, const char *value)
{
    if (!is_call(step, "weft_test_answer_field()"))
        return;
    if (step->field_count < FIELDS_MAX)
        step->fields[step->field_count++] = field_of(step->t, name, value);
    else
        kit_fail(step->t, step->file, step->line, "more than %d fields", FIELDS_MAX);
}

void weft_test_wants_body(weft_test_step *step, const char *body)
{
    if (is_call(step, "weft_test_wants_body()"))
        step->wants_body = kit_copy(step->t, body);
}

void weft_test_wants_field(weft_test_step *step, const char *name, const char *value)
{
    if (is_call(step, "weft_test_wants_field()"))
        step->wants_field = field_of(step->t, name, value);
}

void weft_test_after(weft_test_step *step, uint32_t ms)
{
    step->after_ms = ms;
}

void weft_test_times(weft_test_step *step, uint32_t times)
{
    step->times = times;
}

void weft_test_fault(weft_test_step *step, uint32_t fault)
{
    bool is_copy = !step->is_call && kit_copy_of(step->name) != KIT_COPY_NONE;
    bool is_known = fault <= (step->is_call ? WEFT_TEST_GARBAGE : WEFT_TEST_TOO_BIG) &&
                    !(is_copy && fault == WEFT_TEST_TOO_BIG);

    if (!is_known)
        kit_fail(step->t, step->file, step->line, "fault %u: not one that can happen here", fault);
    step->fault = is_known ? fault : WEFT_TEST_FINE;
}

/* Meeting */

static bool is_left(const weft_test_step *step)
{
    return step->times == 0 || step->met < step->times;
}

void kit_meet(weft_test_step *step)
{
    step->met++;
}

static bool is_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool has_values(const weft_test_step *step, const struct kit_statement *statement)
{
    if (step->count == UINT32_MAX)
        return true;
    if (step->count != statement->count)
        return false;
    for (uint32_t i = 0; i < step->count; i++)
        if (!is_same(step->values[i], statement->values[i]))
            return false;
    return true;
}

/* What the host sends for a transaction within another one: a savepoint's. */
static bool is_of_nested(const char *sql, const char *name)
{
    if (is_begin(name))
        return strncmp(sql, "savepoint ", 10) == 0;
    if (strcasecmp(name, "commit") == 0)
        return strncmp(sql, "release ", 8) == 0;
    return strncmp(sql, "rollback to ", 12) == 0;
}

static bool has_name(const weft_test_step *step, const struct kit_statement *statement)
{
    const char *name = kit_statement_name(step->t, statement->pool, statement->sql);

    if (step->is_call)
        return false;
    if (step->is_nested && (is_begin(step->name) || is_end(step->name)))
        return is_of_nested(statement->sql, step->name);
    if (is_begin(step->name))
        return is_begin(statement->sql);
    return (name != NULL && strcmp(step->name, name) == 0) ||
           strcasecmp(step->name, statement->sql) == 0;
}

weft_test_step *kit_find_query(weft_test *t, const struct kit_statement *statement)
{
    LIST_EACH (&t->steps, link) {
        weft_test_step *step = CONTAINER_OF(link, weft_test_step, link);

        if (step->is_call || step->begin != statement->begin || !is_left(step))
            continue;
        if (has_name(step, statement) && has_values(step, statement))
            return step;
        if (step->begin != NULL && step->times != 0)
            return NULL; /* in a transaction this one is next */
    }
    return NULL;
}

static void append(char text[TEXT_MAX], const char *more, size_t len_max)
{
    size_t used = strlen(text), len = strnlen(more, len_max);

    if (len > TEXT_MAX - 1 - used)
        len = TEXT_MAX - 1 - used;
    memcpy(text + used, more, len);
    text[used + len] = '\0';
}

/* "book_by_id ('1', NULL)" */
static void describe(char text[TEXT_MAX], const char *name, uint32_t count,
                     const char *const *values)
{
    text[0] = '\0';
    append(text, name, TEXT_MAX);
    append(text, count == UINT32_MAX ? " (any" : " (", 8);
    for (uint32_t i = 0; i < count && count != UINT32_MAX; i++) {
        append(text, i > 0 ? ", " : "", 2);
        append(text, values[i] != NULL ? "'" : "NULL", 4);
        append(text, values[i] != NULL ? values[i] : "", 60);
        append(text, values[i] != NULL ? "'" : "", 1);
    }
    append(text, ")", 1);
}

/* The step that was most likely meant; NULL: there is none. */
static const weft_test_step *nearest(weft_test *t, const struct kit_statement *statement)
{
    LIST_EACH (&t->steps, link) {
        const weft_test_step *step = CONTAINER_OF(link, weft_test_step, link);

        if (!step->is_call && is_left(step) &&
            (has_name(step, statement) ||
             (statement->begin != NULL && step->begin == statement->begin)))
            return step;
    }
    return NULL;
}

static void fail_query(weft_test *t, const struct kit_statement *statement, const char *where)
{
    const char *name = kit_statement_name(t, statement->pool, statement->sql);
    const weft_test_step *meant = nearest(t, statement);
    char came[TEXT_MAX], wanted[TEXT_MAX];

    describe(came, name != NULL ? name : statement->sql, statement->count, statement->values);
    if (meant == NULL) {
        kit_fail(t, NULL, 0, "%s: runs %s on %s, for which there is no step (left)", where, came,
                 statement->pool);
        return;
    }
    describe(wanted, meant->name, meant->count, (const char *const *)meant->values);
    if (meant->begin != statement->begin && meant->begin != NULL)
        kit_fail(t, meant->file, meant->line,
                 "%s: runs %s outside of the transaction that begins at line %d", where, came,
                 meant->begin->line);
    else if (meant->begin != statement->begin)
        kit_fail(t, meant->file, meant->line,
                 "%s: runs %s in the transaction that begins at line %d", where, came,
                 statement->begin->line);
    else
        kit_fail(t, meant->file, meant->line, "%s: runs %s, and this step wants %s", where, came,
                 wanted);
}

weft_test_step *kit_take_query(weft_test *t, const struct kit_statement *statement,
                               const char *where)
{
    weft_test_step *step = kit_find_query(t, statement);

    if (step != NULL)
        step->met++;
    else if (!t->is_swept)
        fail_query(t, statement, where);
    return step;
}

static bool is_this_call(const weft_test_step *step, const struct kit_call *call)
{
    return step->is_call && strcmp(step->name, call->upstream) == 0 &&
           span_equal(span_of(step->method), call->method) &&
           span_equal(span_of(step->path), call->path);
}

static bool is_wanted(const weft_test_step *step, const struct kit_call *call)
{
    const struct http_field *field = &step->wants_field;

    if (step->wants_body != NULL && !span_equal(span_of(step->wants_body), call->body))
        return false;
    return field->name.ptr == NULL ||
           span_equal(http_field_get(call->fields, field->name), field->value);
}

weft_test_step *kit_find_call(weft_test *t, const struct kit_call *call)
{
    LIST_EACH (&t->steps, link) {
        weft_test_step *step = CONTAINER_OF(link, weft_test_step, link);

        if (is_left(step) && is_this_call(step, call) && is_wanted(step, call))
            return step;
    }
    return NULL;
}

static void fail_call(weft_test *t, const struct kit_call *call, const char *where)
{
    LIST_EACH (&t->steps, link) {
        const weft_test_step *step = CONTAINER_OF(link, weft_test_step, link);

        if (!is_left(step) || !is_this_call(step, call))
            continue;
        kit_fail(t, step->file, step->line,
                 "%s: calls %s: %.*s %.*s with a body or fields that this step does not want: "
                 "%.*s",
                 where, call->upstream, SPAN_ARG(call->method), SPAN_ARG(call->path),
                 SPAN_ARG(call->body));
        return;
    }
    kit_fail(t, NULL, 0, "%s: calls %s: %.*s %.*s, for which there is no step (left)", where,
             call->upstream, SPAN_ARG(call->method), SPAN_ARG(call->path));
}

weft_test_step *kit_take_call(weft_test *t, const struct kit_call *call, const char *where)
{
    weft_test_step *step = kit_find_call(t, call);

    if (step != NULL)
        step->met++;
    else if (!t->is_swept)
        fail_call(t, call, where);
    return step;
}

void kit_end_steps(weft_test *t)
{
    LIST_EACH (&t->steps, link) {
        const weft_test_step *step = CONTAINER_OF(link, weft_test_step, link);

        if (step->times <= step->met || t->is_swept)
            continue;
        if (step->is_call)
            kit_fail(t, step->file, step->line, "%s was not called: %s %s, %u of %u times",
                     step->name, step->method, step->path, step->met, step->times);
        else
            kit_fail(t, step->file, step->line, "%s was not run, %u of %u times", step->name,
                     step->met, step->times);
    }
    list_init(&t->steps);
    t->in_transaction = NULL;
    t->depth = 0;
}
