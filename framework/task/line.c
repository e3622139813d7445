/* task/line.c - a line in front of something scarce.
 *
 *   window by window:  even the shortest wait was too long ────────────▶ standing
 *                      it was not, nor was anybody sent away lately ───▶ not standing
 *                      somebody hardly waited: there is no line ───────▶ not standing
 *                      nobody was served: that is no overload ─────────▶ not standing
 *
 * A window is a tenth of a second, or longer until enough were served to judge by. Nobody is served
 * where a server is away, or stands still: then all wait for it as long as they may, and once it is
 * back, what they have waited for it before does not count.
 */
#include "task/line.h"
#include "base/check.h"
#include "base/log.h"
#include "loop/loop.h"
#include "task/tasks.h"

enum {
    WINDOW_US = 100000,
    WINDOW_US_MAX = 1000000,
    ENOUGH = 8,      /* to judge by */
    GAPS = 8,        /* nobody is served for so many times as long as usual: it is away */
    TELL_MS = 10000, /* between two lines in the log */
    ROUNDS = 4, /* who waits for so many times what one service takes has nothing to complain of */
    STRICTER = 4, /* a line that stands may be so many times shorter than what makes it stand */
    EMPTY = 16,   /* who waits for that part of what is too long found hardly anybody before him */
    /* So long must nobody have been sent away. Where little more comes than is served, it happens
     * that for a window hardly anybody does: and the line would grow to its full length anew. */
    CALM_US = 1000000
};

#define NONE UINT64_MAX

/* The shortest wait that is too long. A service takes as long as it takes until all places have had
 * their next: where that is half a second, a wait of half a second is none that others cause. */
static uint64_t after_us(const struct line *line)
{
    uint64_t limit_us = line->_tasks->line_after_ms * 1000ull;
    uint64_t rounds_us = ROUNDS * line->_each_us * line->places;

    return limit_us > rounds_us ? limit_us : rounds_us;
}

static void begin_window(struct line *line, uint64_t now_us)
{
    line->_window_us = now_us;
    line->_wait_us_min = NONE;
    line->_begun = 0;
}

static void enroll(struct line *line, struct tasks *tasks)
{
    line->_tasks = tasks;
    begin_window(line, loop_now_us(tasks->loop));
    for (uint32_t i = 0; i < LINES_MAX; i++) {
        if (tasks->lines[i] != NULL)
            continue;
        tasks->lines[i] = line;
        line->bit = 1u << i;
        return;
    }
}

void line_deinit(struct line *line)
{
    CHECK(line->waiting == 0);
    for (uint32_t i = 0; line->bit != 0 && i < LINES_MAX; i++) {
        if (line->_tasks->lines[i] == line)
            line->_tasks->lines[i] = NULL;
    }
    line->bit = 0;
    line->_tasks = NULL;
}

/* ---- judging ---- */

static void tell(struct line *line)
{
    uint64_t now_ms = loop_now_ms(line->_tasks->loop);

    if (line->_told_ms > 0 && now_ms - line->_told_ms < TELL_MS)
        return;
    line->_told_ms = now_ms;
    log_warn(
        "%s %s: overload: whoever was served lately has waited for %.1f ms or longer, %u wait: "
        "new requests that want it are answered with 503 while that lasts",
        line->kind, line->name, (double)line->_wait_us_min / 1000, line->waiting);
}

static void judge(struct line *line)
{
    uint64_t now_us = loop_now_us(line->_tasks->loop), span_us = now_us - line->_window_us;

    if (span_us < WINDOW_US || (line->_begun < ENOUGH && span_us < WINDOW_US_MAX))
        return;
    if (line->_begun > 0)
        line->_each_us = span_us / line->_begun;
    if (line->_begun == 0 || line->_tasks->line_after_ms == 0) {
        line->is_standing = false;
    } else if (line->_wait_us_min > after_us(line)) {
        if (!line->is_standing)
            tell(line);
        line->is_standing = true;
    } else if (line->_wait_us_min <= after_us(line) / EMPTY ||
               now_us - line->_refused_us >= CALM_US) {
        line->is_standing = false;
    }
    begin_window(line, now_us);
}

void line_join(struct line *line, struct tasks *tasks)
{
    if (line->_tasks == NULL)
        enroll(line, tasks);
    CHECK(line->_tasks == tasks);
    line->waiting++;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Was it away until now? Then all begins anew. */
static void look_for_a_gap(struct line *line, uint64_t now_us)
{
    uint64_t gap_us = now_us - line->_begun_us;

    line->_begun_us = now_us;
    if (gap_us <= WINDOW_US || gap_us <= GAPS * line->_each_us)
        return;
    line->_moves_us = now_us;
    line->is_standing = false;
    line->_each_us = least(gap_us, WINDOW_US_MAX) / GAPS; /* it may be just slow: then this grows */
    begin_window(line, now_us);
}

void line_begin(struct line *line, uint64_t waited_us)
{
    uint64_t now_us = loop_now_us(line->_tasks->loop);

    CHECK(line->waiting > 0);
    look_for_a_gap(line, now_us);
    waited_us = least(waited_us, now_us - line->_moves_us);
    line->waiting--;
    line->_begun++;
    if (waited_us < line->_wait_us_min)
        line->_wait_us_min = waited_us;
    judge(line);
}

void line_quit(struct line *line)
{
    CHECK(line->waiting > 0);
    line->waiting--;
}

bool line_is_long(struct line *line)
{
    if (line->_tasks == NULL)
        return false;
    judge(line);
    if (!line->is_standing || line->waiting < line->places ||
        line->waiting * line->_each_us <= after_us(line) / STRICTER)
        return false;
    line->_refused_us = loop_now_us(line->_tasks->loop);
    return true;
}

bool line_is_any_long(struct tasks *tasks, uint32_t bits)
{
    while (bits != 0) {
        struct line *line = tasks->lines[__builtin_ctz(bits)];

        if (line != NULL && line_is_long(line))
            return true;
        bits &= bits - 1;
    }
    return false;
}
