/* server/nearby.c - Unix sockets by a path of any length, through the folder's descriptor. */
#include "server/nearby.h"
#include "base/check.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 16, CONNECT_S = 5 };

/* The address of `path`, by way of its folder, which is open as *folder until it was used. */
static bool address_of(const char *path, struct sockaddr_un *address, int *folder)
{
    char parent[PATH_MAX];
    const char *name = strrchr(path, '/');
    int len;

    *folder = -1;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) < sizeof address->sun_path) {
        memcpy(address->sun_path, path, strlen(path) + 1);
        return true;
    }
    errno = ENAMETOOLONG;
    if (name == NULL || strlen(path) >= sizeof parent)
        return false;
    snprintf(parent, sizeof parent, "%.*s", (int)(name - path + 1), path);
    *folder = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*folder < 0)
        return false;
    len = snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", *folder,
                   name + 1);
    if (len > 0 && (size_t)len < sizeof address->sun_path)
        return true;
    close(*folder);
    *folder = -1;
    errno = ENAMETOOLONG;
    return false;
}

/* Binds or connects a socket of `type`. */
static int make(const char *path, int type,
                int (*verb)(int fd, const struct sockaddr *address, socklen_t len))
{
    const struct timeval patience = {.tv_sec = CONNECT_S};
    struct sockaddr_un address;
    int folder, fd, saved;

    CHECK(path != NULL);
    if (!address_of(path, &address, &folder))
        return -1;
    fd = socket(AF_UNIX, type, 0);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (fd >= 0 && verb(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        saved = errno;
        close(fd);
        fd = -1;
        errno = saved;
    }
    saved = errno;
    if (folder >= 0)
        close(folder);
    errno = saved;
    return fd;
}

int nearby_listen(const char *path)
{
    mode_t before = umask(0177);
    int fd = make(path, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, bind);

    umask(before);
    if (fd < 0 || listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int nearby_connect(const char *path)
{
    return make(path, SOCK_STREAM | SOCK_CLOEXEC, connect);
}
