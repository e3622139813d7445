/* server/sockets.c - makes, retires and closes the host's listening sockets. */
#include "server/sockets.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/listener.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void sockets_init(struct sockets *sockets, const struct settings *settings)
{
    CHECK(settings->workers > 0);
    sockets->_settings = settings;
    sockets->_fds = mem_calloc(settings->workers, sizeof *sockets->_fds);
    for (uint32_t slot = 0; slot < settings->workers; slot++)
        for (uint32_t a = 0; a < SETTINGS_LISTEN_MAX; a++)
            sockets->_fds[slot][a] = -1;
}

static bool is_unix(const struct addr *addr)
{
    return addr->storage.ss_family == AF_UNIX;
}

/* A Unix socket cannot be bound once a slot: the slots share the first one's. */
static enum err open_one(const struct sockets *sockets, uint32_t slot, uint32_t a, int *fd)
{
    const struct settings *settings = sockets->_settings;
    const struct addr *addr = &settings->listen[a];
    bool may_share = settings->server.reuseport || slot > 0;

    if (!is_unix(addr))
        return listener_socket(addr, settings->server.backlog,
                               may_share ? LISTENER_REUSEPORT : LISTENER_REUSEPORT_LATER, fd);
    if (slot == 0)
        return listener_socket(addr, settings->server.backlog, 0, fd);
    int copy = fcntl(sockets->_fds[0][a], F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return ERR_IO;
    *fd = copy;
    return ERR_OK;
}

static void log_failure(const struct addr *addr, enum err err)
{
    const char *why = strerror(errno), *hint = "";
    char text[ADDR_TEXT_SIZE];

    if (err == ERR_EXISTS)
        hint = is_unix(addr) ? "; is another host running?"
                             : "; is another host running? (reuseport = on lets hosts "
                               "share an address)";
    addr_format(addr, text);
    log_error("listen: %s: %s%s", text, why, hint);
}

enum err sockets_open(struct sockets *sockets)
{
    const struct settings *settings = sockets->_settings;

    for (uint32_t slot = 0; slot < settings->workers; slot++)
        for (uint32_t a = 0; a < settings->listen_count; a++) {
            enum err err = open_one(sockets, slot, a, &sockets->_fds[slot][a]);
            if (err != ERR_OK) {
                log_failure(&settings->listen[a], err);
                return err;
            }
        }
    return ERR_OK;
}

const int *sockets_of(const struct sockets *sockets, uint32_t slot)
{
    CHECK(slot < sockets->_settings->workers);
    return sockets->_fds[slot];
}

uint32_t sockets_of_others(const struct sockets *sockets, uint32_t slot, int *others)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sockets->_settings->workers; i++)
        for (uint32_t a = 0; a < sockets->_settings->listen_count && i != slot; a++)
            others[count++] = sockets->_fds[i][a];
    return count;
}

void sockets_retire(struct sockets *sockets, uint32_t slot)
{
    const struct settings *settings = sockets->_settings;

    CHECK(slot < settings->workers);
    for (uint32_t a = 0; a < settings->listen_count; a++)
        if (!is_unix(&settings->listen[a])) /* the slots share one */
            shutdown(sockets->_fds[slot][a], SHUT_RD);
}

static void close_one(const struct addr *addr, bool is_first, int *fd)
{
    const struct sockaddr_un *name = (const struct sockaddr_un *)&addr->storage;

    listener_deafen(*fd);
    if (is_first && is_unix(addr) && name->sun_path[0] != '\0')
        unlink(name->sun_path);
    close(*fd);
    *fd = -1;
}

void sockets_close(struct sockets *sockets)
{
    const struct settings *settings = sockets->_settings;

    for (uint32_t slot = 0; slot < settings->workers; slot++)
        for (uint32_t a = 0; a < settings->listen_count; a++)
            if (sockets->_fds[slot][a] >= 0)
                close_one(&settings->listen[a], slot == 0, &sockets->_fds[slot][a]);
}

void sockets_deinit(struct sockets *sockets)
{
    sockets_close(sockets);
    mem_free(sockets->_fds);
    sockets->_fds = NULL;
}
