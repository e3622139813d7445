/* server/fresh.c - asks every worker to show what it has now, and waits for their answers. */
#include "server/fresh.h"
#include "base/check.h"
#include "loop/loop.h"
#include "server/board.h"
#include "server/watch.h"

enum { LOOK_MS = 10, PATIENCE_MS = 500 };

void fresh_init(struct fresh_desk *desk, struct watch *watch)
{
    *desk = (struct fresh_desk){._watch = watch};
    list_init(&desk->_waiting);
}

void fresh_deinit(struct fresh_desk *desk)
{
    if (desk->_watch == NULL)
        return;
    timer_stop(&desk->_timer);
    list_init(&desk->_waiting);
    desk->_watch = NULL;
}

/* One that has not begun to serve answers nobody. */
static bool is_owing(const struct watched *worker)
{
    return worker->board->state >= BOARD_SERVING &&
           __atomic_load_n(&worker->board->answered, __ATOMIC_ACQUIRE) != worker->board->asked;
}

static bool have_all_answered(const struct watch *watch)
{
    LIST_EACH (&watch->workers, link) {
        if (is_owing(CONTAINER_OF(link, struct watched, _link)))
            return false;
    }
    return true;
}

static void on_look(struct timer *timer)
{
    struct fresh_desk *desk = CONTAINER_OF(timer, struct fresh_desk, _timer);
    uint64_t now_ms = loop_now_ms(desk->_watch->loop);
    bool is_complete = have_all_answered(desk->_watch);
    struct list due, *link;

    list_init(&due);
    LIST_EACH (&desk->_waiting, each) {
        struct fresh *fresh = CONTAINER_OF(each, struct fresh, _link);

        if (is_complete || now_ms >= fresh->_deadline_ms) {
            list_remove(each);
            list_append(&due, each);
        }
    }
    if (!list_is_empty(&desk->_waiting))
        timer_start(desk->_watch->loop, timer, LOOK_MS, on_look);
    while ((link = list_first(&due)) != NULL) {
        struct fresh *fresh = CONTAINER_OF(link, struct fresh, _link);

        list_remove(link);
        fresh->_fn(fresh);
    }
}

void fresh_start(struct fresh_desk *desk, struct fresh *fresh, fresh_fn *fn)
{
    struct watch *watch = desk->_watch;

    CHECK(fn != NULL);
    LIST_EACH (&watch->workers, link) {
        struct board *board = CONTAINER_OF(link, struct watched, _link)->board;

        __atomic_store_n(&board->asked, board->asked + 1, __ATOMIC_RELEASE);
    }
    fresh->_fn = fn;
    fresh->_deadline_ms = loop_now_ms(watch->loop) + PATIENCE_MS;
    list_append(&desk->_waiting, &fresh->_link);
    if (!timer_is_on(&desk->_timer))
        timer_start(watch->loop, &desk->_timer, LOOK_MS, on_look);
}

void fresh_cancel(struct fresh *fresh)
{
    list_remove(&fresh->_link);
}
