/* pg/cork.c - TCP_CORK. */
#include "pg/cork.h"
#include "base/check.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

void pg_cork_init(struct pg_cork *cork, int fd)
{
    CHECK(fd >= 0);
    *cork = (struct pg_cork){.fd = fd};
}

static bool set(const struct pg_cork *cork, int is_in)
{
    return setsockopt(cork->fd, IPPROTO_TCP, TCP_CORK, &is_in, sizeof is_in) == 0;
}

void pg_cork_push(struct pg_cork *cork)
{
    if (cork->is_in || cork->is_refused)
        return;
    cork->is_in = set(cork, 1);
    cork->is_refused = !cork->is_in;
}

void pg_cork_pull(struct pg_cork *cork)
{
    if (!cork->is_in)
        return;
    cork->is_in = false;
    (void)set(cork, 0); /* the connection may have ended meanwhile */
}

void pg_cork_deinit(struct pg_cork *cork)
{
    cork->is_in = false;
    cork->is_refused = true;
}
