/* plugin/loader.c - copies, checks and loads one plugin.
 *
 *   file ──▶ copy ──▶ note read and compared ──▶ dlopen ──▶ descriptor
 *
 * A copy that is refused is removed again by who made it.
 */
#include "plugin/loader.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "plugin/elf.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_SIZE = 1 << 20 };

#define SETTING "plugins_writable_by_all = on in [server]"

struct load {
    const struct loader_request *request; /* the caller's */
    char *problem;                        /* the caller's, INI_PROBLEM_SIZE bytes */
    char copy[PATH_MAX];                  /* the copy's path */
    char draft[PATH_MAX];                 /* the same while it is being written, for us alone */
    bool is_ours;                         /* we made the copy */
};

__attribute__((format(printf, 3, 4))) static enum err fail(struct load *load, enum err err,
                                                           const char *format, ...)
{
    int len = snprintf(load->problem, INI_PROBLEM_SIZE, "%s ", load->request->file);
    va_list args;

    va_start(args, format);
    if (len < INI_PROBLEM_SIZE)
        vsnprintf(load->problem + len, (size_t)(INI_PROBLEM_SIZE - len), format, args);
    va_end(args);
    return err;
}

/* A name becomes a file's: one that could lead elsewhere is refused. */
static bool is_file_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL;
}

static enum err name_files(struct load *load)
{
    const struct loader_request *request = load->request;
    int len;

    if (!is_file_name(request->instance))
        return fail(load, ERR_INVALID, "cannot be loaded as '%s': the name must be fit for a file",
                    request->instance);
    len = snprintf(load->copy, sizeof load->copy, "%s/%s.so", request->copy_dir, request->instance);
    if (len >= (int)sizeof load->copy)
        return fail(load, ERR_INVALID, "cannot be copied: the path of its copy is too long");
    len = snprintf(load->draft, sizeof load->draft, "%s/.%s.%ld", request->copy_dir,
                   request->instance, (long)getpid());
    if (len >= (int)sizeof load->draft)
        return fail(load, ERR_INVALID, "cannot be copied: the path of its copy is too long");
    return ERR_OK;
}

static enum err copy_bytes(struct load *load, int from, int to)
{
    ssize_t count;

    do
        count = sendfile(to, from, NULL, CHUNK_SIZE);
    while (count > 0 || (count < 0 && errno == EINTR));
    if (count < 0)
        return fail(load, ERR_IO, "cannot be copied to %s: %s", load->draft, strerror(errno));
    return ERR_OK;
}

static enum err write_draft(struct load *load, int from)
{
    int to = open(load->draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0500);
    enum err err;

    if (to < 0)
        return fail(load, ERR_IO, "cannot be copied to %s: %s", load->draft, strerror(errno));
    err = copy_bytes(load, from, to);
    if (close(to) != 0 && err == ERR_OK)
        err = fail(load, ERR_IO, "cannot be copied to %s: %s", load->draft, strerror(errno));
    return err;
}

static bool is_trusted(uid_t owner)
{
    return owner == 0 || owner == geteuid();
}

/* Code that runs as the host must not be everybody's to change. `path` is a file of `owner`, for
 * whose folder this is asked too. In a sticky one, such as /tmp, only the owner can put another
 * file in its place. */
static enum err check_folder(struct load *load, const char *path, uid_t owner)
{
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    struct stat status;

    if (slash == NULL || slash - path >= (int)sizeof folder)
        return fail(load, ERR_INVALID, "cannot be loaded: expected an absolute path");
    snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (stat(folder, &status) != 0)
        return fail(load, ERR_IO, "cannot be loaded: %s: %s", folder, strerror(errno));
    bool is_safe =
        (status.st_mode & S_ISVTX) != 0 && is_trusted(status.st_uid) && is_trusted(owner);
    if ((status.st_mode & S_IWOTH) != 0 && !is_safe)
        return fail(load, ERR_INVALID,
                    "cannot be loaded: its folder %s can be written by everybody, expected chmod "
                    "o-w, or " SETTING,
                    folder);
    return ERR_OK;
}

/* `status` is of the open file; the folders are that of its name and that which a link leads to. */
static enum err check_writers(struct load *load, const struct stat *status)
{
    const char *file = load->request->file;
    char real[PATH_MAX];
    enum err err;

    if (load->request->writable_by_all)
        return ERR_OK;
    if ((status->st_mode & S_IWOTH) != 0)
        return fail(load, ERR_INVALID,
                    "cannot be loaded: it can be written by everybody, expected chmod o-w, "
                    "or " SETTING);
    err = check_folder(load, file, status->st_uid);
    if (err == ERR_OK && realpath(file, real) != NULL)
        err = check_folder(load, real, status->st_uid);
    return err;
}

/* Whole or not at all: a draft of our own that gets its name at the end. Who comes second uses what
 * the first one made. */
static enum err make_copy(struct load *load)
{
    int from = open(load->request->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    enum err err;

    if (from < 0)
        return fail(load, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot be opened: %s",
                    strerror(errno));
    if (fstat(from, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(from);
        return fail(load, ERR_SYNTAX, "is no file");
    }
    unlink(load->draft); /* of a process that had our number and was killed */
    err = check_writers(load, &status);
    if (err == ERR_OK)
        err = write_draft(load, from);
    close(from);
    if (err == ERR_OK) {
        load->is_ours = link(load->draft, load->copy) == 0;
        if (!load->is_ours && errno != EEXIST)
            err = fail(load, ERR_IO, "cannot be copied to %s: %s", load->copy, strerror(errno));
    }
    unlink(load->draft);
    return err;
}

static enum err check_note(struct load *load)
{
    const struct loader_request *request = load->request;
    int fd = open(load->copy, O_RDONLY | O_CLOEXEC);
    char problem[ELF_PROBLEM_SIZE];
    struct elf_note note;
    enum err err;

    if (fd < 0)
        return fail(load, ERR_IO, "cannot be read from %s: %s", load->copy, strerror(errno));
    err = elf_read_note(fd, &note, problem);
    close(fd);
    if (err != ERR_OK)
        return fail(load, err, "%s", problem);
    if (note.major != request->major || note.minor > request->minor)
        return fail(load, ERR_UNSUPPORTED, "needs ABI %u.%u, and this host has %u.%u", note.major,
                    note.minor, request->major, request->minor);
    return ERR_OK;
}

/* dlerror() begins with the path that it was given, which is the copy's. */
static const char *link_error(const struct load *load)
{
    const char *text = dlerror();
    size_t len = strlen(load->copy);

    if (text == NULL)
        return "no reason was given";
    if (strncmp(text, load->copy, len) == 0 && strncmp(text + len, ": ", 2) == 0)
        return text + len + 2;
    return text;
}

static enum err link_copy(struct load *load, const void **descriptor)
{
    void *library = dlopen(load->copy, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const void *symbol;

    if (library == NULL)
        return fail(load, ERR_INVALID, "cannot be loaded: %s", link_error(load));
    symbol = dlsym(library, load->request->symbol);
    if (symbol == NULL)
        return fail(load, ERR_NOT_FOUND, "is no plugin of weft: it does not export %s",
                    load->request->symbol);
    *descriptor = symbol;
    return ERR_OK;
}

enum err loader_load(const struct loader_request *request, const void **descriptor,
                     char problem[INI_PROBLEM_SIZE])
{
    struct load *load = mem_alloc(sizeof *load);
    enum err err;

    CHECK(request->file != NULL);
    CHECK(request->copy_dir != NULL);
    CHECK(request->instance != NULL);
    CHECK(request->symbol != NULL);
    load->request = request;
    load->problem = problem;
    err = name_files(load);
    if (err == ERR_OK &&
        access(load->copy, R_OK) != 0) /* else it is this generation's, and stays */
        err = make_copy(load);
    if (err == ERR_OK)
        err = check_note(load);
    if (err == ERR_OK)
        err = link_copy(load, descriptor);
    if (err != ERR_OK && load->is_ours)
        unlink(load->copy);
    if (err == ERR_OK)
        log_debug("plugin %s: %s runs as %s", request->instance, request->file, load->copy);
    mem_free(load);
    return err;
}
