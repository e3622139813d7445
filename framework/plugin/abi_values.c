/* plugin/abi_values.c - what the table `pg` does with values: parameters in, and out what takes
 * memory or has a form of its own: times, bytes, arrays.
 */
#include "base/number.h"
#include "pg/binary.h"
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

/* The value as it came, for a call that makes something of it in the ctx's memory; *type is its
 * type in binary form, 0: text. Absent: there is none, or no room, which cancels the ctx. */
static struct span raw_of(weft_ctx *ctx, weft_op *handle, const struct cell *cell,
                          struct scope **scope, uint32_t *type)
{
    const struct op *op;
    struct span raw;

    *scope = abi_scope(ctx, cell->call);
    op = *scope != NULL ? abi_op(handle, cell->call) : NULL;
    if (op == NULL)
        return (struct span){NULL, 0};
    *type = pg_is_binary(op, cell->column) ? pg_column_type(op, cell->column) : 0;
    raw = pg_raw(op, cell->row, cell->column);
    if (raw.ptr == NULL || raw.len * cell->cost < scope_room(*scope))
        return raw;
    scope_cancel(*scope, SCOPE_MEMORY);
    return (struct span){NULL, 0};
}

int64_t abi_col_time(weft_op *handle, uint32_t row, uint32_t column)
{
    const struct op *op = abi_op(handle, "col_time");
    struct span raw;
    int64_t us = 0;
    bool is_time;

    if (op == NULL)
        return 0;
    raw = pg_raw(op, row, column);
    is_time = pg_is_binary(op, column) ? pg_binary_time(pg_column_type(op, column), raw, &us)
                                       : pg_time_read(raw, &us);
    return is_time ? us : 0;
}

weft_str abi_col_bytes(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column)
{
    const struct cell cell = {"col_bytes", row, column, 1};
    struct scope *scope;
    uint32_t type;
    struct span raw = raw_of(ctx, handle, &cell, &scope, &type);
    weft_str bytes = {NULL, 0};
    char *out;

    if (raw.ptr == NULL)
        return bytes;
    out = scope_alloc(scope, raw.len + 1);
    if (type != 0 ? !pg_binary_bytes(type, raw, out, &bytes.len)
                  : !pg_bytes_read(raw, out, &bytes.len))
        return (weft_str){NULL, 0};
    bytes.ptr = out;
    out[bytes.len] = '\0';
    return bytes;
}

/* Arrays that came as text */

static struct span *read_texts(struct scope *scope, struct span raw, uint32_t *count)
{
    struct span *items = scope_alloc(scope, pg_array_count_max(raw) * sizeof *items);
    char *store = scope_alloc(scope, 2 * raw.len + 2);

    if (pg_array_read(raw, store, items, count))
        return items;
    *count = 0;
    return NULL;
}

static int64_t *read_ints(struct scope *scope, struct span raw, uint32_t *count)
{
    const struct span *items = read_texts(scope, raw, count);
    int64_t *numbers;

    if (items == NULL)
        return NULL;
    numbers = scope_alloc(scope, (*count + 1) * sizeof *numbers);
    for (uint32_t i = 0; i < *count; i++)
        if (items[i].ptr != NULL)
            (void)number_int(items[i], &numbers[i]);
    return numbers;
}

/* Arrays that came in binary form */

static bool open_items(uint32_t type, struct span raw, struct pg_items *items)
{
    return pg_binary_is_fine(type, raw) && pg_items_open(type, raw, items) &&
           items->dimensions <= 1;
}

/* Room for the texts of all items, each with a NUL. */
static size_t texts_size(struct pg_items items)
{
    size_t size = 0;
    struct span item;

    for (uint32_t i = 0; i < items.count && pg_items_next(&items, &item); i++)
        size += item.ptr != NULL ? pg_item_size(item.len) : 0;
    return size;
}

static struct span *take_texts(struct scope *scope, uint32_t type, struct span raw, uint32_t *count)
{
    struct pg_items items;
    struct span *texts, item;
    struct buf text = {0};
    char *store;

    if (!open_items(type, raw, &items))
        return NULL;
    texts = scope_alloc(scope, (items.count + 1) * sizeof *texts);
    store = scope_alloc(scope, texts_size(items) + 1);
    for (; *count < items.count && pg_items_next(&items, &item); ++*count) {
        if (item.ptr == NULL)
            continue;
        pg_binary_write(items.type, item, &text);
        texts[*count] = (struct span){store, text.len};
        if (text.len > 0)
            memcpy(store, text.data, text.len);
        store += text.len + 1; /* zeroed: there is the NUL */
        buf_consume(&text, text.len);
    }
    buf_release(&text);
    return texts;
}

static int64_t *take_ints(struct scope *scope, uint32_t type, struct span raw, uint32_t *count)
{
    struct pg_items items;
    struct span item;
    int64_t *numbers;

    if (!open_items(type, raw, &items))
        return NULL;
    numbers = scope_alloc(scope, (items.count + 1) * sizeof *numbers);
    for (; *count < items.count && pg_items_next(&items, &item); ++*count)
        if (item.ptr != NULL)
            (void)pg_binary_int(items.type, item, &numbers[*count]);
    return numbers;
}

const weft_str *abi_col_texts(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                              uint32_t *count)
{
    const struct cell cell = {"col_texts", row, column, ITEM_COST};
    struct scope *scope;
    uint32_t type;
    struct span raw = raw_of(ctx, handle, &cell, &scope, &type), *items;

    *count = 0;
    if (raw.ptr == NULL)
        return NULL;
    items = type != 0 ? take_texts(scope, type, raw, count) : read_texts(scope, raw, count);
    return (const weft_str *)(const void *)items;
}

const int64_t *abi_col_ints(weft_ctx *ctx, weft_op *handle, uint32_t row, uint32_t column,
                            uint32_t *count)
{
    const struct cell cell = {"col_ints", row, column, ITEM_COST + sizeof(int64_t)};
    struct scope *scope;
    uint32_t type;
    struct span raw = raw_of(ctx, handle, &cell, &scope, &type);

    *count = 0;
    if (raw.ptr == NULL)
        return NULL;
    return type != 0 ? take_ints(scope, type, raw, count) : read_ints(scope, raw, count);
}
