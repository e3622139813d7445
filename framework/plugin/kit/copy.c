/* copy.c - COPY, LISTEN and NOTIFY on a made-up session.
 *
 *   COPY:  opened ──▶ pieces of the step (out), or bytes of the plugin's (in) ──▶ answered
 *
 * What a step has go wrong happens behind its pieces, or once all bytes are there: by then the
 * plugin has begun to rely on it. */
#include "base/check.h"
#include "base/mem.h"
#include "libpq.h"
#include <stdio.h>
#include <stdlib.h>

/* COPY */

static bool has_words(const char *sql, const char *words)
{
    return strcasestr(sql, words) != NULL;
}

enum kit_copy kit_copy_of(const char *sql)
{
    sql += strspn(sql, " \t\n");
    if (strncasecmp(sql, "copy ", 5) != 0)
        return KIT_COPY_NONE;
    return has_words(sql, "from stdin")  ? KIT_COPY_IN
           : has_words(sql, "to stdout") ? KIT_COPY_OUT
                                         : KIT_COPY_NONE;
}

struct pg_result *kit_copy_open(struct entry *entry, const weft_test_step *step)
{
    bool is_in = kit_copy_of(entry->sql) == KIT_COPY_IN;

    entry->copy = step;
    return kit_result(is_in ? PGRES_COPY_IN : PGRES_COPY_OUT);
}

static uint64_t lines_of(struct span text)
{
    uint64_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.ptr[i] == '\n';
    return count;
}

static struct pg_result *copied(const struct entry *entry)
{
    struct pg_result *result = kit_result(PGRES_COMMAND_OK);
    uint64_t count = entry->copy->affected;

    if (!entry->copy->has_affected) {
        count = lines_of(buf_span(&entry->written));
        for (uint32_t i = 0; i < entry->copy->piece_count; i++)
            count += lines_of(entry->copy->pieces[i]);
    }
    snprintf(result->affected, sizeof result->affected, "%llu", (unsigned long long)count);
    snprintf(result->tag, sizeof result->tag, "COPY %llu", (unsigned long long)count);
    return result;
}

static void compare(const struct entry *entry)
{
    const weft_test_step *step = entry->copy;

    if (!step->has_wants || kit_here->is_swept ||
        span_equal(buf_span(&entry->written), step->wants))
        return;
    kit_fail(kit_here, step->file, step->line, "%s: was written \"%.*s\", and is to be \"%.*s\"",
             step->name, SPAN_ARG(buf_span(&entry->written)), SPAN_ARG(step->wants));
}

static void end(struct pg_conn *conn, struct entry *entry, const char *problem)
{
    const weft_test_step *step = entry->copy;
    char text[256];

    if (problem != NULL) {
        snprintf(text, sizeof text, "COPY from stdin failed: %s", problem);
        kit_server_end_copy(conn, entry, kit_result_error("ERROR", "57014", text));
        return;
    }
    if (kit_copy_of(entry->sql) == KIT_COPY_IN)
        compare(entry);
    if (step->fault == WEFT_TEST_LOST)
        kit_server_end_copy(conn, entry, NULL);
    else if (step->sqlstate != NULL)
        kit_server_end_copy(conn, entry, kit_result_error("ERROR", step->sqlstate, step->message));
    else
        kit_server_end_copy(conn, entry, copied(entry));
}

static struct entry *copying(const struct pg_conn *conn)
{
    struct list *link = list_first(&conn->entries);
    struct entry *entry = link != NULL ? CONTAINER_OF(link, struct entry, link) : NULL;

    return entry != NULL && entry->copy != NULL && !conn->is_broken ? entry : NULL;
}

int PQputCopyData(PGconn *conn, const char *bytes, int size)
{
    struct entry *entry = copying(conn);

    if (entry == NULL)
        return -1;
    buf_append(&entry->written, (struct span){bytes, (size_t)size});
    return 1;
}

int PQputCopyEnd(PGconn *conn, const char *problem)
{
    struct entry *entry = copying(conn);

    if (entry == NULL)
        return -1;
    if (!entry->is_done)
        end(conn, entry, problem);
    return 1;
}

/* A plugin that does not read on leaves the rest where it is, as the host does with a socket. */
int PQgetCopyData(PGconn *conn, char **bytes, int is_async)
{
    struct entry *entry = copying(conn);
    struct span piece;

    (void)is_async;
    *bytes = NULL;
    if (entry == NULL)
        return -2;
    if (entry->pieces_told == entry->copy->piece_count) {
        if (entry->result == NULL && !conn->is_breaking)
            end(conn, entry, NULL);
        return entry->result != NULL ? -1 : 0;
    }
    piece = entry->copy->pieces[entry->pieces_told++];
    *bytes = mem_copy(piece);
    return (int)piece.len;
}

void weft_test_copy_out(weft_test_step *step, weft_str bytes)
{
    struct arena *arena = &step->t->arena;
    struct span *pieces = arena_alloc(arena, (step->piece_count + 1) * sizeof *pieces);

    if (kit_copy_of(step->name) != KIT_COPY_OUT)
        kit_fail(step->t, step->file, step->line, "weft_test_copy_out(): no COPY ... TO STDOUT");
    if (bytes.len == 0)
        return;
    if (step->piece_count > 0)
        memcpy(pieces, step->pieces, step->piece_count * sizeof *pieces);
    pieces[step->piece_count++] = arena_copy(arena, (struct span){bytes.ptr, bytes.len});
    step->pieces = pieces;
}

void weft_test_copy_in(weft_test_step *step, weft_str bytes)
{
    if (kit_copy_of(step->name) != KIT_COPY_IN)
        kit_fail(step->t, step->file, step->line, "weft_test_copy_in(): no COPY ... FROM STDIN");
    step->has_wants = true;
    step->wants = arena_copy(&step->t->arena, (struct span){bytes.ptr, bytes.len});
}

/* LISTEN and NOTIFY */

/* One that was not told. */
struct note {
    struct list link; /* among the session's */
    char *channel;    /* on the heap */
    char *payload;    /* the same */
};

/* "listen "a""b"": a"b, as PostgreSQL reads it. */
static size_t read_name(const char *sql, char *name)
{
    const char *at = strchr(sql, '"');
    size_t len = 0;

    for (at++; *at != '\0' && (*at != '"' || at[1] == '"'); at++) {
        at += *at == '"';
        name[len++] = *at;
    }
    return len;
}

void kit_listen(struct pg_conn *conn, const char *sql)
{
    char *name;
    struct span channel;

    if (strchr(sql, '"') == NULL) { /* unlisten * */
        table_deinit(&conn->channels);
        table_init(&conn->channels);
        return;
    }
    name = mem_alloc(strlen(sql) + 1);
    channel = (struct span){name, read_name(sql, name)};
    if (strncmp(sql, "listen ", 7) == 0)
        (void)table_set(&conn->channels, channel, conn);
    else
        (void)table_remove(&conn->channels, channel);
    mem_free(name);
}

static void free_note(struct note *note)
{
    list_remove(&note->link);
    mem_free(note->channel);
    mem_free(note->payload);
    mem_free(note);
}

void kit_listen_end(struct pg_conn *conn)
{
    struct list *link;

    while ((link = list_first(&conn->notes)) != NULL)
        free_note(CONTAINER_OF(link, struct note, link));
    table_deinit(&conn->channels);
}

PGnotify *PQnotifies(PGconn *conn)
{
    struct list *link = list_first(&conn->notes);
    struct note *note;
    PGnotify *told;
    size_t len;

    if (link == NULL)
        return NULL;
    note = CONTAINER_OF(link, struct note, link);
    len = strlen(note->channel) + 1;
    told = mem_alloc(sizeof *told + len + strlen(note->payload) + 1);
    told->relname = strcpy((char *)(told + 1), note->channel);
    told->extra = strcpy(told->relname + len, note->payload);
    free_note(note);
    return told;
}

static bool is_of_pool(const struct pg_conn *conn, const char *pool)
{
    return strcmp(conn->pool, pool) == 0 && !conn->is_breaking;
}

void weft_test_notify(weft_test *t, const char *pool, const char *channel, const char *payload)
{
    uint32_t heard = 0;

    LIST_EACH (&kit_conns, link) {
        struct pg_conn *conn = CONTAINER_OF(link, struct pg_conn, link);
        struct note *note;

        if (!is_of_pool(conn, pool) || table_get(&conn->channels, span_of(channel)) == NULL)
            continue;
        note = mem_alloc(sizeof *note);
        note->channel = mem_copy(span_of(channel));
        note->payload = mem_copy(span_of(payload != NULL ? payload : ""));
        list_append(&conn->notes, &note->link);
        kit_conn_signal(conn);
        heard++;
    }
    if (heard == 0)
        kit_fail(t, NULL, 0, "weft_test_notify(): nobody listens to %s on %s", channel, pool);
    kit_settle(t);
    kit_tell(t);
}

void weft_test_disconnect(weft_test *t, const char *pool)
{
    LIST_EACH (&kit_conns, link) {
        struct pg_conn *conn = CONTAINER_OF(link, struct pg_conn, link);

        if (!is_of_pool(conn, pool))
            continue;
        kit_server_forget(conn);
        conn->is_breaking = true;
        kit_conn_signal(conn);
    }
    kit_settle(t);
    kit_tell(t);
}
