/* plugin/abi_values.c - what the table `pg` does with values: parameters in, and out what takes
 * memory or has a form of its own: times, bytes, arrays.
 */
#include "base/number.h"
#include "pg/calendar.h"
#include "pg/decode.h"
#include "pg/encode.h"
#include "pg/query.h"
#include "plugin/inside.h"
#include <assert.h>

static_assert((int)WEFT_V_NULL == PG_NULL && (int)WEFT_V_BOOL == PG_BOOL &&
                  (int)WEFT_V_INT == PG_INT && (int)WEFT_V_DOUBLE == PG_DOUBLE &&
                  (int)WEFT_V_TEXT == PG_TEXT && (int)WEFT_V_BYTES == PG_BYTES &&
                  (int)WEFT_V_JSON == PG_JSON && (int)WEFT_V_TIME == PG_TIME &&
                  (int)WEFT_V_INTS == PG_INTS && (int)WEFT_V_TEXTS == PG_TEXTS,
              "kinds of values");
static_assert(sizeof(weft_str) == sizeof(struct span) &&
                  offsetof(weft_str, len) == offsetof(struct span, len),
              "texts are handed on as they are");

enum { ITEM_COST = sizeof(struct span) + 2 }; /* bytes for each of an array's text, at most */

/* A value of a result, and who asks for it. */
struct cell {
    const char *call;     /* the entry */
    uint32_t row, column; /* of the result */
    size_t cost;          /* bytes that are made of each byte of it, at most */
};

/* Parameters */

static void take(const weft_value *from, struct pg_value *to)
{
    to->kind = (enum pg_kind)from->kind;
    switch (to->kind) {
    case PG_NULL:
        break;
    case PG_BOOL:
    case PG_INT:
    case PG_TIME:
        to->as.i = from->as.i;
        break;
    case PG_DOUBLE:
        to->as.d = from->as.d;
        break;
    case PG_TEXT:
    case PG_BYTES:
    case PG_JSON:
        to->as.text = (struct span){from->as.p, from->len};
        break;
    case PG_INTS:
        to->as.ints.items = from->as.p;
        to->as.ints.count = from->len;
        break;
    case PG_TEXTS:
        to->as.texts.items = from->as.p;
        to->as.texts.count = from->len;
        break;
    }
}

/* Of arrays: UBSan, and some processors, stop at an address that no array of these can have. */
static bool is_aligned(const weft_value *value)
{
    if (value->kind == WEFT_V_INTS)
        return (uintptr_t)value->as.p % _Alignof(int64_t) == 0;
    return value->kind != WEFT_V_TEXTS || (uintptr_t)value->as.p % _Alignof(struct span) == 0;
}

enum err abi_take_values(const weft_value *from, uint32_t count, struct pg_value *to,
                         const char **why)
{
    if (count > PG_PARAMS_MAX || (count > 0 && from == NULL)) {
        *why = "too many parameters, or none where they should be";
        return ERR_INVALID;
    }
    for (uint32_t i = 0; i < count; i++) {
        enum err err;

        if (from[i].kind > WEFT_V_TEXTS || from[i].len == UINT32_MAX) {
            *why = "a parameter of no known kind, or too large";
            return ERR_INVALID;
        }
        if (!is_aligned(&from[i])) {
            *why = "an array at an address that is none of its items'";
            return ERR_INVALID;
        }
        take(&from[i], &to[i]);
        *why = pg_value_problem(&to[i], &err);
        if (*why != NULL)
            return err;
    }
    return ERR_OK;
}

/* Columns */

/* The value's text, for a call that makes something of it in the ctx's memory. Absent: there is
 * none, or no room, which cancels the ctx. */
static struct span text_of(weft_ctx *ctx, weft_op *handle, const struct cell *cell,
                           struct scope **scope)
{
    const struct op *op;
    struct span text;

    *scope = abi_scope(ctx, cell->call);
    op = *scope != NULL ? abi_op(handle, cell->call) : NULL;
    if (op == NULL)
        return (struct span){NULL, 0};
    text = pg_text(op, cell->row, cell->column);
    if (text.ptr == NULL || text.len * cell->cost < scope_room(*scope))
        return text;
    scope_cancel(*scope, SCOPE_MEMORY);
    return (struct span){NULL, 0};
}

int64_t abi_col_time(weft_op *handle, uint32_t row, uint32_t column)
{
    const struct op *op = abi_op(handle, "col_time");
    int64_t us = 0;

    if (op != NULL)
        (void)pg_time_read(pg_text(op, row, column), &us);
    return us;
}

weft_str abi_col_bytes(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column)
{
    const struct cell cell = {"col_bytes", row, column, 1};
    struct scope *scope;
    struct span text = text_of(ctx, handle, &cell, &scope);
    weft_str bytes = {NULL, 0};
    char *out;

    if (text.ptr == NULL)
        return bytes;
    out = scope_alloc(scope, text.len + 1);
    if (pg_bytes_read(text, out, &bytes.len))
        bytes.ptr = out;
    else
        bytes.len = 0;
    if (bytes.ptr != NULL)
        out[bytes.len] = '\0';
    return bytes;
}

/* NULL: no array. */
static struct span *array_of(weft_ctx *ctx, weft_op *handle, const struct cell *cell,
                             uint32_t *count)
{
    struct scope *scope;
    struct span text = text_of(ctx, handle, cell, &scope), *items;
    char *store;

    *count = 0;
    if (text.ptr == NULL)
        return NULL;
    items = scope_alloc(scope, pg_array_count_max(text) * sizeof *items);
    store = scope_alloc(scope, 2 * text.len + 2);
    return pg_array_read(text, store, items, count) ? items : NULL;
}

const weft_str *abi_col_texts(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                              uint32_t *count)
{
    const struct cell cell = {"col_texts", row, column, ITEM_COST};

    return (const weft_str *)(const void *)array_of(ctx, handle, &cell, count);
}

const int64_t *abi_col_ints(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                            uint32_t *count)
{
    const struct cell cell = {"col_ints", row, column, ITEM_COST + sizeof(int64_t)};
    const struct span *items = array_of(ctx, handle, &cell, count);
    int64_t *numbers;

    if (items == NULL)
        return NULL;
    numbers = scope_alloc(scope_of(abi_here()->services.tasks, abi_number(ctx)),
                          (*count + 1) * sizeof *numbers);
    for (uint32_t i = 0; i < *count; i++)
        if (items[i].ptr != NULL)
            (void)number_int(items[i], &numbers[i]);
    return numbers;
}
