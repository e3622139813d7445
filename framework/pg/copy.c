/* pg/copy.c - COPY in and out as streams; pg/stream.c has what they share with rows.
 *
 *   write: PENDING ──▶ OK, with all others, when nothing is unsent     the stream ends: with that
 *   end:   PENDING ──▶ answered by the server
 *
 * A write that is canceled leaves its bytes where they are; an end that is canceled gives the
 * stream up, and nobody knows then.
 */
#include "pg/copy.h"
#include "base/check.h"
#include "pg/private.h"
#include "task/scope.h"

struct pg_write {
    struct op op;             /* first */
    struct pg_stream *stream; /* to which; NULL: it has gone, or there was a later write */
    struct list link;         /* among the stream's pending ones; an end is in no list */
};

static struct pg_write *write_of(const struct op *op)
{
    return CONTAINER_OF(op, struct pg_write, op);
}

/* Opening, and reading */

static struct op *open(struct scope *scope, const struct pg_call *call, enum pg_stream_kind kind)
{
    CHECK(call->is_copy);
    CHECK(call->statement == NULL);
    CHECK(call->count == 0);
    return pg_stream_open(scope, call, kind);
}

struct op *pg_copy_out(struct scope *scope, const struct pg_call *call)
{
    return open(scope, call, PG_STREAM_COPY_OUT);
}

struct op *pg_copy_in(struct scope *scope, const struct pg_call *call)
{
    struct pg_call in = *call;

    in.is_copy_in = true;
    return open(scope, &in, PG_STREAM_COPY_IN);
}

struct op *pg_copy_read(struct op *open)
{
    return pg_stream_pull(open, PG_STREAM_COPY_OUT);
}

/* The ops */

static void withdraw(struct op *op)
{
    struct pg_write *write = write_of(op);
    struct pg_stream *stream = write->stream;
    bool is_end;

    CHECK(stream != NULL);
    CHECK(stream->kind == PG_STREAM_COPY_IN);
    is_end = stream->close == write;
    list_remove(&write->link);
    if (is_end)
        stream->close = NULL;
    if (is_end || op->scope->why != SCOPE_ALIVE)
        pg_stream_give_up(stream, scope_error(op->scope), NULL, (struct span){NULL, 0});
    op_retire(op);
}

static void release(struct op *op)
{
    struct pg_write *write = write_of(op);

    if (write->stream != NULL && write->stream->write == write)
        write->stream->write = NULL;
}

static const struct op_kind write_kind = {
    .name = "pg copy",
    .account = SCOPE_TIME_PG,
    .withdraw = withdraw,
    .release = release,
};

const struct pg_query *pg_copy_query(const struct op *op)
{
    if (op->kind != &write_kind || write_of(op)->stream == NULL)
        return NULL;
    return &write_of(op)->stream->query;
}

static void settle(struct pg_stream *stream, struct pg_write *write)
{
    list_remove(&write->link);
    if (stream->err != ERR_OK)
        op_explain(&write->op, stream->error);
    op_finish(&write->op, stream->err, stream->reason);
}

static void settle_writes(struct pg_stream *stream)
{
    struct list *link;

    while ((link = list_first(&stream->writes)) != NULL)
        settle(stream, CONTAINER_OF(link, struct pg_write, link));
}

void pg_copy_space(struct pg_stream *stream)
{
    CHECK(stream->state == PG_STREAM_FLOWING);
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    settle_writes(stream);
}

void pg_copy_ended(struct pg_stream *stream)
{
    struct pg_write *close = stream->close;

    CHECK(stream->state == PG_STREAM_ENDED);
    settle_writes(stream);
    stream->close = NULL;
    if (close != NULL)
        settle(stream, close);
}

void pg_copy_release(struct pg_stream *stream)
{
    CHECK(list_is_empty(&stream->writes));
    CHECK(stream->close == NULL);
    if (stream->write != NULL)
        stream->write->stream = NULL;
    stream->write = NULL;
}

/* Writing */

/* Memory for the next one: that of the last write, where nobody looks at it any more. */
static struct pg_write *make(struct pg_stream *stream)
{
    struct pg_write *last = stream->write;

    stream->write = NULL;
    if (last != NULL && last->op.state != OP_PENDING) {
        last->stream = NULL;
        if (op_release(&last->op) == ERR_OK) {
            memset(last, 0, sizeof *last);
            return last;
        }
    }
    return scope_alloc(stream->query.op.scope, sizeof *last);
}

/* The stream behind `open`, where it is one to write to that has not ended; NULL, with *refused, or
 * an op with the stream's error. */
static struct pg_stream *find(struct op *open, struct op **refused)
{
    struct pg_stream *stream = op_is_pg(open) ? pg_query_of(open)->stream : NULL;

    if (stream != NULL && stream->kind == PG_STREAM_COPY_IN && open->state != OP_PENDING &&
        open->status == ERR_OK && !stream->is_closing) {
        if (stream->state == PG_STREAM_FLOWING)
            return stream;
        if (stream->err != ERR_OK) {
            *refused = op_failed(open->scope, stream->err, stream->reason, stream->error);
            return NULL;
        }
    }
    *refused = op_failed(open->scope, ERR_STATE, "pg_error",
                         SPAN("no COPY FROM STDIN, or none that is open"));
    return NULL;
}

/* Begins an op. False: it is born canceled. */
static bool begin(struct pg_stream *stream, struct pg_write *write)
{
    list_init(&write->link);
    if (!op_init(&write->op, stream->query.op.scope, &write_kind))
        return false;
    op_begin(&write->op);
    write->stream = stream;
    stream->moved_ms = loop_now_ms(stream->query.pool->loop);
    return true;
}

struct op *pg_copy_write(struct op *open, struct span bytes)
{
    struct op *refused = NULL;
    struct pg_stream *stream = find(open, &refused);
    struct pg_write *write;
    size_t unsent;

    if (stream == NULL)
        return refused;
    unsent = stream->query.session->_copying.unsent.len;
    if (unsent > 0 && unsent + bytes.len > PG_COPY_UNSENT_MAX)
        return op_failed(open->scope, ERR_OVERLOAD, "pg_copy_full",
                         SPAN("more was written than the database takes: await the writes"));
    write = make(stream);
    if (!begin(stream, write))
        return &write->op;
    stream->write = write;
    list_append(&stream->writes, &write->link);
    pg_copying_write(stream->query.session, bytes);
    return &write->op;
}

struct op *pg_copy_end(struct op *open)
{
    struct op *refused = NULL;
    struct pg_stream *stream = find(open, &refused);
    struct pg_write *close;

    if (stream == NULL)
        return refused;
    close = scope_alloc(open->scope, sizeof *close);
    if (!begin(stream, close))
        return &close->op;
    stream->close = close;
    stream->is_closing = true;
    pg_copying_end(stream->query.session);
    return &close->op;
}
