/* tls.c - in place of net/tls.c: an upstream of a test speaks plain HTTP, whatever its url says,
 * and no certificate is read or refused. */
#include "net/tls.h"
#include "base/mem.h"
#include <string.h>
#include <sys/socket.h>

struct tls_context {
    char unused; /* nothing is kept */
};

struct tls {
    int fd; /* the stream's */
};

struct tls_context *tls_context_create(const struct tls_options *options,
                                       char problem[TLS_PROBLEM_SIZE])
{
    (void)options;
    (void)problem;
    return mem_alloc(sizeof(struct tls_context));
}

void tls_context_destroy(struct tls_context *context)
{
    mem_free(context);
}

void tls_sessions_clear(struct tls_sessions *sessions)
{
    memset(sessions, 0, sizeof *sessions);
}

struct tls *tls_create(struct tls_context *context, int fd, struct span name,
                       struct tls_sessions *sessions)
{
    struct tls *tls = mem_alloc(sizeof *tls);

    (void)context;
    (void)name;
    (void)sessions;
    tls->fd = fd;
    return tls;
}

void tls_destroy(struct tls *tls)
{
    mem_free(tls);
}

enum tls_step tls_handshake(struct tls *tls)
{
    (void)tls;
    return TLS_DONE;
}

const char *tls_problem(const struct tls *tls)
{
    (void)tls;
    return NULL;
}

bool tls_is_distrusted(const struct tls *tls)
{
    (void)tls;
    return false;
}

ssize_t tls_recv(struct tls *tls, void *bytes, size_t size)
{
    return recv(tls->fd, bytes, size, MSG_DONTWAIT);
}

ssize_t tls_send(struct tls *tls, const void *bytes, size_t size)
{
    return send(tls->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool tls_has_unread(const struct tls *tls)
{
    (void)tls;
    return false;
}

bool tls_is_quiet(struct tls *tls)
{
    char byte;

    return recv(tls->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0;
}
