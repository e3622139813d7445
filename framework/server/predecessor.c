/* server/predecessor.c - the master that this one follows in an upgrade. */
#include "server/predecessor.h"
#include "base/check.h"
#include "server/heritage.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(int channel, enum successor_says what, const char *text)
{
    char message[INI_PROBLEM_SIZE + 1];

    snprintf(message, sizeof message, "%c%s", what, text);
    (void)send(channel, message, strlen(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void on_channel(struct io *io, uint32_t events)
{
    struct predecessor *predecessor = CONTAINER_OF(io, struct predecessor, _io);
    char what;
    ssize_t got = recv(predecessor->_channel, &what, 1, MSG_DONTWAIT);

    (void)events;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        predecessor_stop(predecessor);
        predecessor->_fn(predecessor, PREDECESSOR_GONE);
    } else if (what == PREDECESSOR_GO || what == PREDECESSOR_TAKE || what == PREDECESSOR_GIVE_UP) {
        predecessor->_fn(predecessor, (enum predecessor_says)what);
    }
}

void predecessor_start(struct predecessor *predecessor, struct loop *loop, int channel,
                       predecessor_fn *fn)
{
    CHECK(fn != NULL);
    *predecessor = (struct predecessor){._channel = channel, ._fn = fn, .is_there = true};
    io_start(loop, &predecessor->_io, channel, IO_READ, on_channel);
}

void predecessor_tell(const struct predecessor *predecessor, enum successor_says what,
                      const char *text)
{
    if (predecessor->is_there)
        say(predecessor->_channel, what, text);
}

void predecessor_stop(struct predecessor *predecessor)
{
    io_stop(&predecessor->_io);
    if (predecessor->is_there)
        close(predecessor->_channel);
    predecessor->is_there = false;
}

void predecessor_abandon(const struct predecessor *predecessor)
{
    if (predecessor->is_there)
        close(predecessor->_channel);
}

void predecessor_refuse(const char *problem)
{
    int channel = heritage_channel();

    if (channel >= 0)
        say(channel, SUCCESSOR_FAILED, problem);
}
