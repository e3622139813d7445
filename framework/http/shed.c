/* http/shed.c - is there more to do than can be done in time?
 *
 *   window by window:  both minima below the limit, or nothing measured ──▶ off
 *                      one of them above it ─────────────────────────────▶ on
 */
#include "http/shed.h"
#include "base/check.h"
#include "base/log.h"

enum {
    WINDOW_MS = 100,
    TELL_MS = 10000 /* between two lines in the log */
};

#define NONE UINT64_MAX

static void clear(struct http_shed *shed)
{
    shed->_turn_us_min = shed->_line_us_min = NONE;
    shed->_window_ms = loop_now_ms(shed->_loop) + WINDOW_MS;
}

void http_shed_init(struct http_shed *shed, struct loop *loop, uint32_t after_ms)
{
    *shed = (struct http_shed){.after_ms = after_ms, ._loop = loop};
    clear(shed);
}

void http_shed_deinit(struct http_shed *shed)
{
    hook_stop(&shed->_turn_end);
}

/* ---- judging ---- */

static void begin(struct http_shed *shed, uint64_t delay_us)
{
    uint64_t now_ms = loop_now_ms(shed->_loop);

    shed->is_on = true;
    if (shed->_told_ms > 0 && now_ms - shed->_told_ms < TELL_MS)
        return;
    shed->_told_ms = now_ms;
    log_warn("http: overload: the shortest delay of the last %u ms was %.1f ms: new requests are "
             "answered with 503 while that lasts (%llu so far)",
             (unsigned)WINDOW_MS, (double)delay_us / 1000, (unsigned long long)shed->count);
}

static bool is_long(const struct http_shed *shed, uint64_t us)
{
    return us != NONE && us > shed->after_ms * 1000ull;
}

static void judge(struct http_shed *shed)
{
    uint64_t now_ms = loop_now_ms(shed->_loop);

    if (now_ms < shed->_window_ms)
        return;
    if (now_ms - shed->_window_ms >= WINDOW_MS) /* what was measured is long ago */
        shed->is_on = false;
    else if (is_long(shed, shed->_turn_us_min))
        begin(shed, shed->_turn_us_min);
    else if (is_long(shed, shed->_line_us_min))
        begin(shed, shed->_line_us_min);
    else
        shed->is_on = false;
    clear(shed);
}

/* ---- measuring ---- */

static void on_turn_end(struct hook *hook)
{
    struct http_shed *shed = CONTAINER_OF(hook, struct http_shed, _turn_end);
    uint64_t spent_us = loop_refresh_us(shed->_loop) - shed->_turn_us;

    if (spent_us < shed->_turn_us_min)
        shed->_turn_us_min = spent_us;
}

bool http_shed_ask(struct http_shed *shed)
{
    judge(shed);
    if (!hook_is_on(&shed->_turn_end)) {
        shed->_turn_us = loop_now_us(shed->_loop);
        hook_start(shed->_loop, &shed->_turn_end, on_turn_end);
    }
    return shed->is_on;
}

void http_shed_note(struct http_shed *shed, uint64_t line_us)
{
    judge(shed);
    if (line_us < shed->_line_us_min)
        shed->_line_us_min = line_us;
}
