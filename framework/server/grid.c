/* server/grid.c - a table for people. */
#include "server/grid.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { CELL_SIZE = 640, GAP = 2 };

static const char row_end = 1;

void grid_row(struct grid *grid)
{
    if (grid->row > 0)
        buf_append(&grid->cells, (struct span){&row_end, 1});
    else
        memset(grid->is_number, 1, sizeof grid->is_number);
    grid->row++;
    grid->column = 0;
}

/* Bytes that continue a UTF-8 character take no room. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void grid_cell(struct grid *grid, const char *format, ...)
{
    char text[CELL_SIZE];
    va_list args;
    size_t width;

    if (grid->column == GRID_COLUMNS_MAX)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < ' ') /* of a name that somebody chose, and our own marks */
            *at = '?';
    width = width_of(text);
    if (width > grid->widths[grid->column])
        grid->widths[grid->column] = width;
    if (grid->row > 1 && strcmp(text, "-") != 0 && !isdigit((unsigned char)text[0]))
        grid->is_number[grid->column] = 0;
    buf_append(&grid->cells, (struct span){text, strlen(text) + 1});
    grid->column++;
}

/* One cell, without blanks behind the last of a row. */
static void print_cell(const struct grid *grid, unsigned column, const char *text, struct buf *out,
                       size_t *owed)
{
    size_t pad = grid->widths[column] - width_of(text);
    bool is_right = grid->is_number[column] != 0;

    buf_format(out, "%*s%s", (int)(*owed + (is_right ? pad : 0)), "", text);
    *owed = GAP + (is_right ? 0 : pad);
}

void grid_print(struct grid *grid, struct buf *out)
{
    const char *at = grid->cells.data, *end = at + grid->cells.len;
    unsigned column = 0;
    size_t owed = 0;

    while (grid->row > 1 && at < end) {
        if (*at == row_end) {
            buf_append(out, SPAN("\n"));
            column = 0;
            owed = 0;
            at++;
            continue;
        }
        print_cell(grid, column++, at, out, &owed);
        at += strlen(at) + 1;
    }
    if (grid->row > 1)
        buf_append(out, SPAN("\n\n"));
    buf_release(&grid->cells);
    *grid = (struct grid){.row = 0};
}
