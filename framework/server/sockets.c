/* server/sockets.c - makes and closes the host's listening sockets. */
#include "server/sockets.h"
#include "base/check.h"
#include "base/mem.h"
#include "net/listener.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void sockets_init(struct sockets *sockets)
{
    *sockets = (struct sockets){0};
}

static bool is_unix(const struct addr *addr)
{
    return addr->storage.ss_family == AF_UNIX;
}

static bool is_wanted(const struct settings *settings, const struct addr *addr)
{
    for (uint32_t i = 0; settings != NULL && i < settings->listen_count; i++)
        if (addr_equal(&settings->listen[i], addr))
            return true;
    return false;
}

static bool take_handed(const struct sockets *sockets, struct sockets_row *row)
{
    int fd = sockets->handed != NULL ? activation_take(sockets->handed, &row->addr) : -1;

    if (fd < 0)
        return false;
    row->fds[0] = fd;
    row->is_handed = true;
    return true;
}

/* A Unix socket cannot be bound once a slot: the slots share the first one's. The same goes for one
 * that was handed over, whose queue is to outlive us. */
static enum err open_one(const struct sockets *sockets, struct sockets_row *row, uint32_t slot,
                         const struct settings *settings)
{
    bool may_share = settings->server.reuseport || slot > 0;

    if (slot == 0 && take_handed(sockets, row))
        return ERR_OK;
    if (!is_unix(&row->addr) && !row->is_handed)
        return listener_socket(&row->addr, settings->server.backlog,
                               may_share ? LISTENER_REUSEPORT : LISTENER_REUSEPORT_LATER,
                               &row->fds[slot]);
    if (slot == 0)
        return listener_socket(&row->addr, settings->server.backlog, 0, &row->fds[slot]);
    int copy = fcntl(row->fds[0], F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return ERR_IO;
    row->fds[slot] = copy;
    return ERR_OK;
}

static void explain(const struct addr *addr, enum err err, char *problem)
{
    const char *why = strerror(errno), *hint = "";
    char text[ADDR_TEXT_SIZE];

    if (err == ERR_EXISTS)
        hint = is_unix(addr) ? "; is another host running?"
                             : "; is another host running? (reuseport = on lets hosts "
                               "share an address)";
    addr_format(addr, text);
    snprintf(problem, INI_PROBLEM_SIZE, "listen: %s: %s%s", text, why, hint);
}

static void deafen_row(struct sockets_row *row, uint32_t slots)
{
    const struct sockaddr_un *name = (const struct sockaddr_un *)&row->addr.storage;

    if (row->is_leaving)
        return;
    row->is_leaving = true;
    if (row->is_handed)
        return;
    for (uint32_t slot = 0; slot < slots; slot++)
        if (row->fds[slot] >= 0)
            listener_deafen(row->fds[slot]);
    if (is_unix(&row->addr) && name->sun_path[0] != '\0' && row->fds[0] >= 0)
        unlink(name->sun_path);
}

static void close_row(struct sockets_row *row, uint32_t from)
{
    for (uint32_t slot = from; slot < SETTINGS_WORKERS_MAX; slot++) {
        if (row->fds[slot] >= 0)
            close(row->fds[slot]);
        row->fds[slot] = -1;
    }
}

static struct sockets_row *make_row(const struct addr *addr)
{
    struct sockets_row *row = mem_alloc(sizeof *row);

    row->addr = *addr;
    for (uint32_t slot = 0; slot < SETTINGS_WORKERS_MAX; slot++)
        row->fds[slot] = -1;
    return row;
}

static struct sockets_row *find(const struct sockets *sockets, const struct addr *addr)
{
    for (uint32_t i = 0; i < sockets->row_count; i++)
        if (!sockets->_rows[i]->is_leaving && addr_equal(&sockets->_rows[i]->addr, addr))
            return sockets->_rows[i];
    return NULL;
}

const struct sockets_row *sockets_row(const struct sockets *sockets, const struct addr *addr)
{
    return find(sockets, addr);
}

/* Opens what is missing in each row, up to `slots` of them. */
static enum err fill(struct sockets *sockets, const struct settings *settings, uint32_t slots,
                     char *problem)
{
    for (uint32_t i = 0; i < sockets->row_count; i++) {
        struct sockets_row *row = sockets->_rows[i];
        for (uint32_t slot = 0; slot < slots && !row->is_leaving; slot++) {
            enum err err = row->fds[slot] < 0 ? open_one(sockets, row, slot, settings) : ERR_OK;
            if (err == ERR_OK)
                continue;
            explain(&row->addr, err, problem);
            return err;
        }
    }
    return ERR_OK;
}

/* Back to `count` rows and the slots of before. */
static void take_back(struct sockets *sockets, uint32_t count)
{
    while (sockets->row_count > count) {
        struct sockets_row *row = sockets->_rows[--sockets->row_count];
        deafen_row(row, SETTINGS_WORKERS_MAX);
        close_row(row, 0);
        mem_free(row);
    }
    for (uint32_t i = 0; i < count; i++)
        close_row(sockets->_rows[i], sockets->slots);
}

enum err sockets_open(struct sockets *sockets, const struct settings *settings,
                      char problem[INI_PROBLEM_SIZE])
{
    uint32_t slots = settings->workers > sockets->slots ? settings->workers : sockets->slots;
    uint32_t before = sockets->row_count;

    CHECK(settings->workers > 0);
    for (uint32_t i = 0; i < settings->listen_count; i++)
        if (find(sockets, &settings->listen[i]) == NULL) {
            CHECK(sockets->row_count < SOCKETS_ROWS_MAX);
            sockets->_rows[sockets->row_count++] = make_row(&settings->listen[i]);
        }
    enum err err = fill(sockets, settings, slots, problem);
    if (err != ERR_OK) {
        take_back(sockets, before);
        return err;
    }
    sockets->slots = slots;
    for (uint32_t i = 0; i < before; i++)
        for (uint32_t slot = 0; slot < slots && !sockets->_rows[i]->is_leaving; slot++)
            (void)listen(sockets->_rows[i]->fds[slot], (int)settings->server.backlog);
    return ERR_OK;
}

uint32_t sockets_only_of(const struct sockets *sockets, const struct settings *settings,
                         const struct settings *others, int *fds)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sockets->row_count; i++) {
        const struct sockets_row *row = sockets->_rows[i];
        if (is_wanted(settings, &row->addr) && !is_wanted(others, &row->addr))
            for (uint32_t slot = 0; slot < sockets->slots; slot++)
                fds[count++] = row->fds[slot];
    }
    return count;
}

void sockets_deafen(struct sockets *sockets, const struct settings *settings)
{
    for (uint32_t i = 0; i < sockets->row_count; i++)
        if (!is_wanted(settings, &sockets->_rows[i]->addr))
            deafen_row(sockets->_rows[i], sockets->slots);
}

void sockets_prune(struct sockets *sockets, const struct settings *settings,
                   const struct settings *others)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < sockets->row_count; i++) {
        struct sockets_row *row = sockets->_rows[i];
        bool stays =
            !row->is_leaving && (is_wanted(settings, &row->addr) || is_wanted(others, &row->addr));
        if (stays || (row->is_leaving && is_wanted(others, &row->addr))) {
            sockets->_rows[left++] = row;
            continue;
        }
        deafen_row(row, sockets->slots);
        close_row(row, 0);
        mem_free(row);
    }
    sockets->row_count = left;
}

void sockets_close_others(const struct sockets *sockets, const struct settings *settings)
{
    for (uint32_t i = 0; i < sockets->row_count; i++) {
        const struct sockets_row *row = sockets->_rows[i];
        if (!row->is_leaving && is_wanted(settings, &row->addr))
            continue;
        for (uint32_t slot = 0; slot < SETTINGS_WORKERS_MAX; slot++)
            if (row->fds[slot] >= 0)
                close(row->fds[slot]);
    }
}

/* ---- for a master that follows another one ---- */

static_assert(SOCKETS_ROWS_MAX <= 32, "a bit for each row");

void sockets_describe(const struct sockets *sockets, struct buf *text)
{
    char address[ADDR_TEXT_SIZE];

    for (uint32_t i = 0; i < sockets->row_count; i++) {
        const struct sockets_row *row = sockets->_rows[i];
        buf_append(text, row->is_handed ? SPAN("handed ") : SPAN("listen "));
        for (uint32_t slot = 0; slot < sockets->slots; slot++)
            buf_format(text, slot > 0 ? ",%d" : "%d", row->fds[slot]);
        addr_format(&row->addr, address);
        buf_format(text, " %s\n", address);
    }
}

void sockets_keep(const struct sockets *sockets, bool (*keep)(int fd, bool is_kept))
{
    for (uint32_t i = 0; i < sockets->row_count; i++)
        for (uint32_t slot = 0; slot < sockets->slots; slot++)
            CHECK(keep(sockets->_rows[i]->fds[slot], true));
}

static bool is_listening(int fd)
{
    int is_on = 0;
    socklen_t len = sizeof is_on;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_on, &len) == 0 && is_on == 1;
}

/* The sockets up to the blank; returns what follows it, or NULL. */
static const char *inherit_fds(struct sockets_row *row, const char *at, uint32_t *slots,
                               bool (*keep)(int fd, bool is_kept))
{
    for (*slots = 0; *slots < SETTINGS_WORKERS_MAX;) {
        char *end;
        long fd = strtol(at, &end, 10);

        if (end == at || fd < 0 || fd > INT_MAX || !is_listening((int)fd) || !keep((int)fd, false))
            return NULL;
        row->fds[(*slots)++] = (int)fd;
        if (*end != ',')
            return *end == ' ' ? end + 1 : NULL;
        at = end + 1;
    }
    return NULL;
}

bool sockets_inherit(struct sockets *sockets, const char *line, bool (*keep)(int fd, bool is_kept))
{
    struct addr none = {.len = 0};
    bool is_handed = strncmp(line, "handed ", 7) == 0;
    struct sockets_row *row;
    uint32_t slots;

    if (sockets->row_count == SOCKETS_ROWS_MAX || (!is_handed && strncmp(line, "listen ", 7) != 0))
        return false;
    row = make_row(&none);
    row->is_handed = is_handed;
    sockets->_rows[sockets->row_count++] = row;
    line = inherit_fds(row, line + 7, &slots, keep);
    if (line == NULL || !addr_parse(span_of(line), &row->addr) ||
        (sockets->row_count > 1 && slots != sockets->slots))
        return false;
    sockets->slots = slots;
    return true;
}

uint32_t sockets_decline(struct sockets *sockets, const struct settings *settings)
{
    uint32_t rows = 0, left = 0;

    for (uint32_t i = 0; i < sockets->row_count; i++) {
        struct sockets_row *row = sockets->_rows[i];
        if (is_wanted(settings, &row->addr)) {
            sockets->_rows[left++] = row;
            continue;
        }
        rows |= 1u << i;
        close_row(row, 0);
        mem_free(row);
    }
    sockets->row_count = left;
    return rows;
}

uint32_t sockets_of_rows(const struct sockets *sockets, uint32_t rows, int *fds)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sockets->row_count; i++)
        for (uint32_t slot = 0; slot < sockets->slots && (rows >> i & 1) != 0; slot++)
            fds[count++] = sockets->_rows[i]->fds[slot];
    return count;
}

void sockets_deafen_rows(struct sockets *sockets, uint32_t rows)
{
    for (uint32_t i = 0; i < sockets->row_count; i++)
        if ((rows >> i & 1) != 0)
            deafen_row(sockets->_rows[i], sockets->slots);
}

void sockets_deinit(struct sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->row_count; i++) {
        close_row(sockets->_rows[i], 0);
        mem_free(sockets->_rows[i]);
    }
    sockets_init(sockets);
}
