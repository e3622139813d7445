/* task/line.h - a line in front of something scarce: the sessions of a pool, the connections of an
 * upstream. Does it stand?
 *
 * A line that is long now and then is a burst, and harmless. Where even who waited least of all in
 * the last tenth of a second has waited for too long, there is more to do than can be done, and
 * whoever joins makes everybody later (as CoDel has it, RFC 8289). From then on a newcomer is told,
 * at once, that the line is long, where he would wait for more than a quarter of that: as many join
 * as are served, so what is scarce is never idle, and nobody waits long, for his turn or for his
 * no. That ends where for a second nobody had to be told so, or somebody hardly had to wait. Too
 * long is what the setting says, or four times what serving one takes: who is slow by nature has no
 * overload for that.
 * Loop:   of one loop.
 * Memory: embedded by who serves it; the tasks outlive it.
 * Limits: the first LINES_MAX lines of a worker are watched; the others are never long.
 */
#ifndef WEFT_TASK_LINE_H
#define WEFT_TASK_LINE_H

#include <stdbool.h>
#include <stdint.h>

struct tasks;

enum { LINES_MAX = 32 };

/* Zeroed but for `kind`, `name` and `places`: nobody has joined it. */
struct line {
    const char *kind;      /* of what it stands before: "pg", "upstream"; constant */
    const char *name;      /* of that, for the log; who embeds the line keeps it */
    uint32_t places;       /* how many are served at once: as many may always wait */
    uint32_t waiting;      /* who has joined and was not served yet */
    uint32_t bit;          /* its place in masks of lines; 0: it is not watched */
    bool is_standing;      /* newcomers are counted against what is served */
    uint32_t _begun;       /* served in this window */
    uint64_t _wait_us_min; /* of these; UINT64_MAX: there was none */
    uint64_t _window_us;   /* loop time: when it began */
    uint64_t _each_us;     /* from one who is served to the next, lately */
    uint64_t _begun_us;    /* loop time: when the last one was served */
    uint64_t _moves_us;    /* loop time: since when one after the other is served */
    uint64_t _refused_us;  /* loop time: when somebody was sent away */
    uint64_t _told_ms;     /* loop time of the last line in the log about it */
    struct tasks *_tasks;  /* whose; NULL: nobody has joined it */
};

/* One more waits. */
void line_join(struct line *line, struct tasks *tasks);

/* One is served, who has waited for `waited_us`. */
void line_begin(struct line *line, uint64_t waited_us);

/* One gave up, or was given up. */
void line_quit(struct line *line);

/* Should who has not come yet stay away? To be asked for each newcomer, who is taken to obey. */
bool line_is_long(struct line *line);

/* The same of all lines in a mask of bits. */
bool line_is_any_long(struct tasks *tasks, uint32_t bits);

/* Nobody waits any more (checked): it goes. */
void line_deinit(struct line *line);

#endif
