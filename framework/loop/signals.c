/* loop/signals.c - signals as events of the loop, through a signalfd. */
#include "loop/signals.h"
#include "base/check.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { BATCH_MAX = 16 };

static void on_readable(struct io *io, uint32_t events)
{
    struct signals *signals = CONTAINER_OF(io, struct signals, _io);
    struct signalfd_siginfo infos[BATCH_MAX];
    ssize_t got;

    CHECK(events == IO_READ);
    got = read(signals->_fd, infos, sizeof infos);
    if (got < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
    for (ssize_t i = 0; i < got / (ssize_t)sizeof infos[0]; i++) {
        if (signals->_fd < 0)
            return; /* stopped by the callback */
        signals->_fn(signals, (int)infos[i].ssi_signo, (int)infos[i].ssi_pid);
    }
}

void signals_start(struct loop *loop, struct signals *signals, const sigset_t *set, signals_fn *fn)
{
    CHECK(fn != NULL);
    *signals = (struct signals){._fn = fn};
    CHECK(pthread_sigmask(SIG_BLOCK, set, &signals->_before) == 0);
    signals->_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(signals->_fd >= 0);
    io_start(loop, &signals->_io, signals->_fd, IO_READ, on_readable);
}

void signals_abandon(struct signals *signals)
{
    CHECK(signals->_fd >= 0);
    (void)close(signals->_fd);
    signals->_fd = -1;
}

void signals_stop(struct signals *signals)
{
    if (signals->_fd < 0)
        return;
    io_stop(&signals->_io);
    (void)close(signals->_fd);
    signals->_fd = -1;
    CHECK(pthread_sigmask(SIG_SETMASK, &signals->_before, NULL) == 0);
}
