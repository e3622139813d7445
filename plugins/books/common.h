/* books/common.h - what books and books_then share: the statements, what a book is, and what goes
 * into a reply. How a flow waits is in the plugins themselves.
 */
#ifndef WEFT_PLUGINS_BOOKS_COMMON_H
#define WEFT_PLUGINS_BOOKS_COMMON_H

#include "weft.h"

/* What the flows need; found once, at init. */
struct library {
    weft_pg *db;               /* setting `database`: a [pg.NAME], main by default */
    weft_upstream *thirdparty; /* setting `upstream`: an [upstream.NAME], thirdparty by default */
    weft_stmt *all_books;      /* id, title, author; by id */
    weft_stmt *book_by_id;     /* the same of $1 */
    weft_stmt *add_book;       /* inserts $1, $2; returns the same */
    weft_stmt *count_books;    /* one number */
};

/* A book that is not in the library yet; both are there and not empty. */
struct book {
    weft_str title;  /* in the ctx's memory */
    weft_str author; /* the same */
};

/* Finds all of it. [init] */
weft_status library_find(weft_host *host, struct library *library);

/* The route's `:id`. WEFT_E_BAD_REQUEST: no whole number, or none that an id can be. */
weft_status book_id(weft_ctx *ctx, int64_t *id);

/* The request's body as a book. WEFT_E_BAD_REQUEST, with a reason for the client. */
weft_status book_from_body(weft_ctx *ctx, struct book *book);

/* The third party's answer as a book. A status that is a 502 where it is none. */
weft_status book_from_answer(weft_ctx *ctx, weft_op *call, struct book *book);

/* The third party's answer, a JSON object, as it came. A status that is a 502 where it is none. */
weft_status object_from_answer(weft_ctx *ctx, weft_op *call, weft_str *object);

/* Answers 201 with the book that `added` has returned, and Location. */
weft_status reply_created(weft_ctx *ctx, weft_op *added);

/* Answers with the count in `counted`'s first row and the quote. */
weft_status reply_summary(weft_ctx *ctx, weft_op *counted, weft_op *quoted);

#endif
