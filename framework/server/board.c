/* server/board.c - what a worker shows of itself. */
#include "server/board.h"
#include "base/check.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct board *board_create(void)
{
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (board == MAP_FAILED) {
        log_error("no memory for a page shared with a worker: %s", strerror(errno));
        abort();
    }
    return board;
}

void board_destroy(struct board *board)
{
    if (board != NULL)
        CHECK(munmap(board, sizeof *board) == 0);
}

void board_reset(struct board *board)
{
    /* As in observe/blame.c: what nobody wrote stays free of charge. */
    if (board != NULL && madvise(board, sizeof *board, MADV_REMOVE) != 0)
        memset(board, 0, sizeof *board);
}
