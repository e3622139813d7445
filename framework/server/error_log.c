/* server/error_log.c - opens the error log in place of standard error. */
#include "server/error_log.h"
#include "base/check.h"
#include "base/log.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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
    log_setup(STDERR_FILENO, (enum log_level)settings->server.log_level,
              settings->server.log_format == 1);
    return ERR_OK;
}
