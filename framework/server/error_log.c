/* server/error_log.c - opens the error log in place of standard error. */
#include "server/error_log.h"
#include "base/check.h"
#include "base/log.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The journal says which socket is its own, lest one that was put in its place is taken for it. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat stat;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &stat) == 0 && stat.st_dev == device && stat.st_ino == inode;
}

enum err error_log_open(const struct settings *settings)
{
    const char *path = settings->server.error_log;

    CHECK(path != NULL);
    if (strcmp(path, "stderr") != 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
        if (fd < 0)
            return ERR_IO;
        int moved = dup2(fd, STDERR_FILENO);
        close(fd);
        if (moved < 0)
            return ERR_IO;
    }
    log_set_priorities(is_journal());
    log_setup(STDERR_FILENO, (enum log_level)settings->server.log_level,
              settings->server.log_format == 1);
    return ERR_OK;
}
