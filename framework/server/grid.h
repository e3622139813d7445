/* server/grid.h - a table for people: columns as wide as they must be.
 *
 *   grid_row(&grid);  grid_cell(&grid, "%u", 7);  ...  grid_print(&grid, &text);
 *
 * Memory: embedded; grid_deinit() frees the cells.
 */
#ifndef WEFT_SERVER_GRID_H
#define WEFT_SERVER_GRID_H

#include "base/buf.h"
#include <stdbool.h>

enum { GRID_COLUMNS_MAX = 24 };

/* Zeroed: empty. */
struct grid {
    struct buf cells;                 /* texts, each with a NUL; rows end with a byte of 1 */
    size_t widths[GRID_COLUMNS_MAX];  /* of the widest cell of each column */
    char is_number[GRID_COLUMNS_MAX]; /* all cells below the first row are: set to the right */
    unsigned column;                  /* of the next cell */
    unsigned row;                     /* from 1 */
};

/* Begins a row; the first one is the header: texts of columns. */
void grid_row(struct grid *grid);

/* The row's next cell; beyond GRID_COLUMNS_MAX they are dropped. */
void grid_cell(struct grid *grid, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Appends the table and an empty line to `out`, and empties the grid. A table that has only its
 * header is left out. */
void grid_print(struct grid *grid, struct buf *out);

#endif
