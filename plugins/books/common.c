/* books/common.c - statements, books from JSON, and replies. */
#include "common.h"
#include "weft_jansson.h"
#include "weft_json.h"
#include <errno.h>
#include <stdlib.h>

weft_status library_find(weft_host *host, struct library *library)
{
    weft_str database, upstream;

    WEFT_TRY(weft_setting(host, "database", "main", &database));
    WEFT_TRY(weft_setting(host, "upstream", "thirdparty", &upstream));
    WEFT_TRY(weft_find_pool(host, database.ptr, &library->db));
    WEFT_TRY(weft_find_upstream(host, upstream.ptr, &library->thirdparty));
    WEFT_TRY(weft_declare(host, library->db, "all_books",
                          "select id, title, author from books order by id", WEFT_STMT_READ_ONLY,
                          &library->all_books));
    WEFT_TRY(weft_declare(host, library->db, "book_by_id",
                          "select id, title, author from books where id = $1", WEFT_STMT_READ_ONLY,
                          &library->book_by_id));
    WEFT_TRY(weft_declare(host, library->db, "add_book",
                          "insert into books (title, author) values ($1, $2)"
                          " returning id, title, author",
                          0, &library->add_book));
    return weft_declare(host, library->db, "count_books", "select count(*) from books",
                        WEFT_STMT_READ_ONLY, &library->count_books);
}

weft_status book_id(weft_ctx *ctx, int64_t *id)
{
    weft_str text = weft_param(ctx, "id");
    size_t sign = text.ptr[0] == '-';
    size_t digits = strspn(text.ptr + sign, "0123456789");

    errno = 0;
    *id = strtoll(text.ptr, NULL, 10);
    if (digits == 0 || sign + digits != text.len || errno != 0)
        return weft_explain(ctx, WEFT_E_BAD_REQUEST, "id: expected a whole number, not '%.40s'",
                            text.ptr);
    return WEFT_OK;
}

/* The string of `key` in a JSON object; `status` with a reason where there is none. */
static weft_status read_text(weft_ctx *ctx, const json_t *object, const char *key, const char *what,
                             weft_status status, weft_str *text)
{
    const json_t *value = json_object_get(object, key);

    if (value == NULL)
        return weft_explain(ctx, status, "%s: %s is missing", what, key);
    if (!json_is_string(value))
        return weft_explain(ctx, status, "%s: %s must be a string", what, key);
    if (json_string_length(value) == 0)
        return weft_explain(ctx, status, "%s: %s must not be empty", what, key);
    text->ptr = json_string_value(value);
    text->len = json_string_length(value);
    return WEFT_OK;
}

static weft_status read_book(weft_ctx *ctx, const json_t *value, const char *what,
                             weft_status status, struct book *book)
{
    if (!json_is_object(value))
        return weft_explain(ctx, status, "%s must be an object with title and author", what);
    WEFT_TRY(read_text(ctx, value, "title", what, status, &book->title));
    return read_text(ctx, value, "author", what, status, &book->author);
}

weft_status book_from_body(weft_ctx *ctx, struct book *book)
{
    json_t *value;

    WEFT_TRY(weft_jansson_body(ctx, &value));
    return read_book(ctx, value, "the body", WEFT_E_BAD_REQUEST, book);
}

/* An answer of 200 with JSON. */
static weft_status read_answer(weft_ctx *ctx, weft_op *call, json_t **value)
{
    uint32_t code = weft_call_code(call);

    if (code != 200)
        return weft_explain(ctx, WEFT_E_UP_RESET, "the third party answered %u", code);
    return weft_jansson_answer(ctx, call, value);
}

weft_status book_from_answer(weft_ctx *ctx, weft_op *call, struct book *book)
{
    json_t *value;

    WEFT_TRY(read_answer(ctx, call, &value));
    return read_book(ctx, value, "the third party's book", WEFT_E_UP_RESET, book);
}

weft_status object_from_answer(weft_ctx *ctx, weft_op *call, weft_str *object)
{
    json_t *value;

    WEFT_TRY(read_answer(ctx, call, &value));
    if (!json_is_object(value))
        return weft_explain(ctx, WEFT_E_UP_RESET, "the third party's answer is no object");
    *object = weft_call_body(call);
    return WEFT_OK;
}

weft_status reply_created(weft_ctx *ctx, weft_op *added)
{
    weft_str location =
        weft_fmt(ctx, "%s/books/%s", weft_mount(ctx).ptr, weft_col_text(added, 0, 0).ptr);

    WEFT_TRY(weft_set_header(ctx, "Location", location));
    return weft_reply_row(ctx, 201, added);
}

weft_status reply_summary(weft_ctx *ctx, weft_op *counted, weft_op *quoted)
{
    weft_json json;
    weft_str quote;

    WEFT_TRY(object_from_answer(ctx, quoted, &quote));
    weft_json_begin(&json, ctx);
    weft_json_object(&json);
    weft_json_key(&json, "books");
    weft_json_int(&json, weft_col_int(counted, 0, 0));
    weft_json_key(&json, "quote");
    weft_json_raw(&json, quote);
    weft_json_end(&json);
    return weft_json_reply(&json, 200);
}
