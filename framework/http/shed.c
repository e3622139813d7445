/* http/shed.c - has the worker more to do than it can do in time?
 *
 *   window by window:  even the shortest delay was too long ───────────▶ on
 *                      it was not, nor was anybody refused lately ─────▶ off
 *                      somebody has hardly waited ─────────────────────▶ off
 *                      next to nothing to do ──────────────────────────▶ off
 *
 * A window is a tenth of a second, or longer until enough was measured to judge by: where one
 * handler keeps the loop for long, who came meanwhile has waited, and that alone is no overload.
 */
#include "http/shed.h"
#include "base/check.h"
#include "base/log.h"
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

enum {
    WINDOW_US = 100000,
    WINDOW_US_MAX = 1000000,
    ENOUGH = 8,      /* delays to judge by */
    GAP_US = 250000, /* nothing was measured for so long: what was before says nothing of now */
    PAUSE_US = 4000, /* between two that are asked about; the kernel's own clock is no finer */
    STRICTER = 4,    /* once it is on, the delay may be so many times shorter than what began it */
    EMPTY = 16,      /* one that has waited for that part of what is too long found no line */
    CALM_US = 1000000, /* so long must nobody have been refused, as in task/line.c */
    TELL_MS = 10000    /* between two lines in the log */
};

#define NONE UINT64_MAX

static void begin_window(struct http_shed *shed)
{
    shed->_window_us = loop_now_us(shed->_loop);
    shed->_delay_us_min = NONE;
    shed->_count = 0;
}

void http_shed_init(struct http_shed *shed, struct loop *loop, uint32_t after_ms)
{
    *shed = (struct http_shed){.after_ms = after_ms, ._loop = loop};
    begin_window(shed);
}

void http_shed_deinit(struct http_shed *shed)
{
    hook_stop(&shed->_turn_end);
}

/* ---- judging ---- */

static void tell(struct http_shed *shed)
{
    uint64_t now_ms = loop_now_ms(shed->_loop);

    if (shed->_told_ms > 0 && now_ms - shed->_told_ms < TELL_MS)
        return;
    shed->_told_ms = now_ms;
    log_warn("http: overload: the shortest delay of the last %u ms was %.1f ms: requests that have "
             "waited for long are answered with 503 while that lasts (%llu so far)",
             (unsigned)((loop_now_us(shed->_loop) - shed->_window_us) / 1000),
             (double)shed->_delay_us_min / 1000, (unsigned long long)shed->count);
}

static void judge(struct http_shed *shed)
{
    uint64_t span_us = loop_now_us(shed->_loop) - shed->_window_us;

    if (span_us < WINDOW_US || (shed->_count < ENOUGH && span_us < WINDOW_US_MAX))
        return;
    if (shed->_count < ENOUGH) {
        shed->is_on = false;
    } else if (shed->_delay_us_min > shed->after_ms * 1000ull) {
        if (!shed->is_on)
            tell(shed);
        shed->is_on = true;
    } else if (shed->_delay_us_min <= shed->after_ms * 1000ull / EMPTY ||
               loop_now_us(shed->_loop) - shed->_refused_us >= CALM_US) {
        shed->is_on = false;
    }
    begin_window(shed);
}

/* ---- measuring ---- */

static void note(struct http_shed *shed, uint64_t delay_us)
{
    shed->_count++;
    shed->_noted_us = loop_now_us(shed->_loop);
    shed->_delay_us = delay_us;
    if (delay_us < shed->_delay_us_min)
        shed->_delay_us_min = delay_us;
}

static void on_turn_end(struct hook *hook)
{
    struct http_shed *shed = CONTAINER_OF(hook, struct http_shed, _turn_end);

    if (shed->_is_blind)
        note(shed, loop_refresh_us(shed->_loop) - shed->_turn_us);
}

/* Asks the kernel when the last bytes came: how long ago, to the tick of its clock. */
static void look(struct http_shed *shed, int fd)
{
    struct tcp_info info;
    socklen_t len = offsetof(struct tcp_info, tcpi_last_ack_recv);

    shed->_fd = fd;
    shed->_is_blind = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 ||
                      len < offsetof(struct tcp_info, tcpi_last_ack_recv);
    if (!shed->_is_blind)
        note(shed, info.tcpi_last_data_recv * 1000ull);
}

/* Has the last one waited for longer than is aimed at? */
static bool is_late(const struct http_shed *shed)
{
    return shed->_delay_us > shed->after_ms * 1000ull / STRICTER;
}

/* Is this one asked about? Where it matters, each is, but for what came by the same read. */
static bool is_due(const struct http_shed *shed, int fd)
{
    uint64_t since_us = loop_now_us(shed->_loop) - shed->_noted_us;

    return since_us >= PAUSE_US ||
           ((shed->is_on || is_late(shed)) && (since_us > 0 || fd != shed->_fd));
}

bool http_shed_ask(struct http_shed *shed, int fd)
{
    if (loop_now_us(shed->_loop) - shed->_noted_us > GAP_US)
        begin_window(shed); /* the worker stood still: who waited meanwhile is served at once */
    judge(shed);
    if (fd >= 0 && is_due(shed, fd))
        look(shed, fd);
    if (shed->_is_blind && !hook_is_on(&shed->_turn_end)) {
        shed->_turn_us = loop_now_us(shed->_loop);
        hook_start(shed->_loop, &shed->_turn_end, on_turn_end);
    }
    if (!shed->is_on || !is_late(shed) || loop_now_us(shed->_loop) - shed->_noted_us > WINDOW_US)
        return false;
    shed->_refused_us = loop_now_us(shed->_loop);
    return true;
}
