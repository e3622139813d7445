/* dial.c - in place of net/dial.c: an upstream is a server in the test's process. */
#include "net/dial.h"
#include "base/check.h"
#include "kit.h"
#include <unistd.h>

enum { DONE, WAITING };

static void on_ready(struct ready *ready)
{
    struct dial *dial = CONTAINER_OF(ready, struct dial, _ready);
    int fd = dial->_attempts[0].fd;

    dial->_state = DONE;
    dial->_attempts[0].fd = -1;
    dial->_done(dial, fd >= 0 ? ERR_OK : ERR_UNKNOWN_NAME, fd);
}

void dial_start(struct loop *loop, struct resolver *resolver, struct dial *dial,
                const struct dial_target *target, dial_fn *done)
{
    (void)resolver;
    CHECK(dial->_state == DONE);
    dial->_loop = loop;
    dial->_done = done;
    dial->_state = WAITING;
    dial->os_error = 0;
    dial->_attempts[0].fd = kit_calls_connect(kit_here, target->addr);
    ready_start(loop, &dial->_ready, on_ready);
}

void dial_cancel(struct dial *dial)
{
    if (dial->_state == DONE)
        return;
    dial->_state = DONE;
    ready_stop(&dial->_ready);
    if (dial->_attempts[0].fd >= 0)
        (void)close(dial->_attempts[0].fd);
    dial->_attempts[0].fd = -1;
}
