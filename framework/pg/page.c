/* pg/page.c - a page of rows, copied out of what libpq hands over one row at a time. */
#include "pg/page.h"
#include "base/check.h"
#include "base/mem.h"
#include <libpq-fe.h>
#include <string.h>

enum {
    CELLS_MIN = 64,
    KEPT_MAX = 4 * PG_PAGE_SIZE, /* bytes of storage that are kept for the next rows */
    CELL_COST = 16               /* bytes that a value counts for beside its text */
};

static void reserve_cells(struct pg_page *page)
{
    uint32_t count = (page->rows + 1) * page->columns;

    if (count <= page->_cells_max)
        return;
    while (page->_cells_max < count)
        page->_cells_max = page->_cells_max > 0 ? page->_cells_max * 2 : CELLS_MIN;
    page->_cells = mem_realloc(page->_cells, page->_cells_max * sizeof *page->_cells);
}

static struct pg_cell add_cell(struct pg_page *page, const PGresult *row, int column)
{
    struct pg_cell cell = {.at = (uint32_t)page->_text.len,
                           .len = (uint32_t)PQgetlength(row, 0, column)};

    page->size += CELL_COST + strlen(PQfname(row, column));
    if (PQgetisnull(row, 0, column))
        return (struct pg_cell){.at = PG_CELL_NULL};
    buf_append(&page->_text, (struct span){PQgetvalue(row, 0, column), (size_t)cell.len + 1});
    page->size += cell.len;
    return cell;
}

void pg_page_add(struct pg_page *page, const struct pg_result *row)
{
    struct pg_cell *cells;

    CHECK(PQntuples(row) == 1);
    CHECK(page->rows == 0 || page->columns == (uint32_t)PQnfields(row));
    CHECK(!pg_page_is_full(page));
    page->columns = (uint32_t)PQnfields(row);
    reserve_cells(page);
    cells = page->_cells + page->rows * page->columns;
    for (uint32_t i = 0; i < page->columns; i++)
        cells[i] = add_cell(page, row, (int)i);
    page->size += CELL_COST; /* a row may have no columns */
    page->rows++;
}

bool pg_page_is_full(const struct pg_page *page)
{
    return page->size >= PG_PAGE_SIZE;
}

struct span pg_page_text(const struct pg_page *page, uint32_t row, uint32_t column)
{
    struct pg_cell cell;

    if (row >= page->rows || column >= page->columns)
        return (struct span){NULL, 0};
    cell = page->_cells[row * page->columns + column];
    if (cell.at == PG_CELL_NULL)
        return (struct span){NULL, 0};
    return (struct span){page->_text.data + cell.at, cell.len};
}

void pg_page_clear(struct pg_page *page)
{
    page->rows = 0;
    page->size = 0;
    if (page->_text._size > KEPT_MAX)
        buf_release(&page->_text);
    else
        buf_consume(&page->_text, page->_text.len);
}

void pg_page_deinit(struct pg_page *page)
{
    buf_release(&page->_text);
    mem_free(page->_cells);
    *page = (struct pg_page){0};
}
