/* plugin/abi_copy.c - the part of the table `pg` that copies and listens: COPY, LISTEN. */
#include "pg/copy.h"
#include "pg/listen.h"
#include "plugin/inside.h"
#include "task/tasks.h"

static weft_op *open(weft_ctx *ctx, weft_pg *db, const char *sql, const char *entry,
                     struct op *(*fn)(struct scope *, const struct pg_call *))
{
    struct scope *scope = abi_scope(ctx, entry);
    struct pg_call call = {.sql = span_of(sql), .is_copy = true};

    if (scope == NULL)
        return NULL;
    if (!abi_database(db, &call, entry))
        return abi_handle(op_failed(scope, ERR_STATE, NULL, SPAN("no such database")));
    if (sql != NULL)
        return abi_handle(fn(scope, &call));
    abi_misuse(entry, "no text");
    return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("no text")));
}

weft_op *abi_copy_out(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return open(ctx, db, sql, "copy_out", pg_copy_out);
}

weft_op *abi_copy_in(weft_ctx *ctx, weft_pg *db, const char *sql)
{
    return open(ctx, db, sql, "copy_in", pg_copy_in);
}

weft_op *abi_copy_read(weft_op *handle)
{
    struct op *op = abi_op(handle, "copy_read");

    return op != NULL ? abi_handle(pg_copy_read(op)) : NULL;
}

weft_op *abi_copy_write(weft_op *handle, weft_str bytes)
{
    struct op *op = abi_op(handle, "copy_write");

    return op != NULL ? abi_handle(pg_copy_write(op, abi_span(bytes))) : NULL;
}

weft_op *abi_copy_end(weft_op *handle)
{
    struct op *op = abi_op(handle, "copy_end");

    return op != NULL ? abi_handle(pg_copy_end(op)) : NULL;
}

weft_op *abi_listen(weft_ctx *ctx, weft_pg *db, const char *channel)
{
    struct scope *scope = abi_scope(ctx, "listen");
    struct pg_call call = {0};

    if (scope == NULL)
        return NULL;
    if (!abi_database(db, &call, "listen"))
        return abi_handle(op_failed(scope, ERR_STATE, NULL, SPAN("no such database")));
    if (call.pool != NULL)
        return abi_handle(pg_listen(scope, call.pool, channel != NULL ? channel : ""));
    abi_misuse("listen", "on a transaction: notifications come to a pool");
    return abi_handle(op_failed(scope, ERR_INVALID, NULL, SPAN("on a transaction")));
}

weft_op *abi_listen_next(weft_op *handle)
{
    struct op *op = abi_op(handle, "listen_next");

    return op != NULL ? abi_handle(pg_listen_next(op)) : NULL;
}
