/* pg/page.h - a page of rows, copied out of what libpq hands over one row at a time.
 *
 * libpq makes a result of 2 KB and more for each row of a stream; a page holds the values side by
 * side instead, a NUL behind each, so that its memory is what was said below.
 * Loop:   any thread, one at a time.
 * Memory: its own storage, kept for the next rows unless it grew large.
 * Limits: it is full from PG_PAGE_SIZE bytes on; the last row may be as large as rows may.
 */
#ifndef WEFT_PG_PAGE_H
#define WEFT_PG_PAGE_H

#include "base/buf.h"
#include "base/span.h"
#include <stdbool.h>
#include <stdint.h>

struct pg_result; /* libpq's PGresult */

/* Bytes of values, of the columns' names once for each row (as JSON has them) and of what a page
 * itself needs for them. */
enum { PG_PAGE_SIZE = 64 * 1024 };

/* A value. */
struct pg_cell {
    uint32_t at;  /* where it lies in the text; PG_CELL_NULL: NULL */
    uint32_t len; /* bytes */
};

#define PG_CELL_NULL UINT32_MAX

/* Embed it; zeroed is an empty one. */
struct pg_page {
    uint32_t rows;          /* in it */
    uint32_t columns;       /* of each */
    size_t size;            /* bytes, counted as PG_PAGE_SIZE says */
    struct buf _text;       /* the values */
    struct pg_cell *_cells; /* row by row */
    uint32_t _cells_max;    /* room for so many */
};

/* Copies the first row of `row`, which has as many columns as those before it (checked). */
void pg_page_add(struct pg_page *page, const struct pg_result *row);

/* Is there to be no further row? */
bool pg_page_is_full(const struct pg_page *page);

/* The value; absent: NULL, or no such row or column. Good until the page is changed. */
struct span pg_page_text(const struct pg_page *page, uint32_t row, uint32_t column);

/* No rows any more. */
void pg_page_clear(struct pg_page *page);

/* Frees its storage; it is an empty one again. Twice is fine. */
void pg_page_deinit(struct pg_page *page);

#endif
