/* server/runtime.c - chooses, makes and removes the host's own folder. */
#include "server/runtime.h"
#include "base/check.h"
#include "base/span.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { NAMES_MAX = 16 }; /* hosts that may run from one ini file at once */

#define SYSTEM_DIR "/run/weft"

/* FNV-1a: only has to tell two ini files apart. By whichever path a file is called, and through
 * links: a command is given another one than the host was. */
static uint64_t hash_path(const char *path)
{
    uint64_t hash = 0xcbf29ce484222325u;
    char *whole = realpath(path, NULL);

    for (const char *at = whole != NULL ? whole : path; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
    free(whole);
    return hash;
}

/* The name of the host's folder in `base`: the first, or one beside those of others. */
static void name_folder(const char *base, uint64_t hash, int number, char path[PATH_MAX])
{
    int len = snprintf(path, PATH_MAX, "%s/%016llx", base, (unsigned long long)hash);

    if (number > 1 && len > 0 && len < PATH_MAX)
        snprintf(path + len, PATH_MAX - (size_t)len, "-%d", number);
}

/* A folder that is ours alone: in /tmp somebody else may have made it first. */
static bool make_private(const char *path)
{
    struct stat st;

    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return false;
    if (lstat(path, &st) != 0)
        return false;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022) != 0) {
        errno = EPERM;
        return false;
    }
    return true;
}

/* Can files be made there, and plugins be mapped from it? Many systems mount /run noexec. */
static bool is_usable(const char *path)
{
    struct statvfs fs;

    if (access(path, W_OK | X_OK) != 0 || statvfs(path, &fs) != 0)
        return false;
    errno = EACCES;
    return (fs.f_flag & ST_NOEXEC) == 0;
}

/* The parent of all hosts' folders. */
static bool choose_base(const char *configured, char base[PATH_MAX])
{
    const char *user_dir = getenv("XDG_RUNTIME_DIR");

    if (configured[0] != '\0') {
        snprintf(base, PATH_MAX, "%s", configured);
        return make_private(base) && is_usable(base);
    }
    snprintf(base, PATH_MAX, SYSTEM_DIR);
    if (is_usable("/run") && make_private(base))
        return true;
    if (user_dir != NULL && user_dir[0] == '/' && is_usable(user_dir)) {
        snprintf(base, PATH_MAX, "%s/weft", user_dir);
        if (make_private(base))
            return true;
    }
    snprintf(base, PATH_MAX, "/tmp/weft-%u", (unsigned)geteuid());
    return make_private(base) && is_usable(base);
}

/* Is `fd` still the file of that name? Its last owner removes it as it ends: EWOULDBLOCK, as if it
 * were there. */
static bool is_still_there(int fd, const char *file)
{
    struct stat ours, named;

    if (fstat(fd, &ours) == 0 && stat(file, &named) == 0 && ours.st_ino == named.st_ino &&
        ours.st_dev == named.st_dev)
        return true;
    errno = EWOULDBLOCK;
    return false;
}

static bool write_pid(int fd)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    return pwrite(fd, text, (size_t)len, 0) == len && ftruncate(fd, len) == 0;
}

/* Locks the pid file in `path`. -1 with EWOULDBLOCK: another host has it. */
static int lock_folder(const char *path)
{
    char file[PATH_MAX + 16];

    if (!make_private(path))
        return -1;
    snprintf(file, sizeof file, "%s/weft.pid", path);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || !is_still_there(fd, file)) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    if (!write_pid(fd)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static enum err fail(char *problem, const char *path)
{
    snprintf(problem, INI_PROBLEM_SIZE,
             "runtime_dir %.300s: %.80s; expected a folder that is only this user's to "
             "write and that plugins can be run from",
             path, strerror(errno));
    return ERR_IO;
}

enum err runtime_open(struct runtime *runtime, const char *configured, const char *ini_path,
                      uint32_t generation, char problem[INI_PROBLEM_SIZE])
{
    uint64_t hash = hash_path(ini_path);
    char base[PATH_MAX];

    *runtime = (struct runtime){.lock_fd = -1};
    if (!choose_base(configured, base))
        return fail(problem, base);
    for (int i = 1; i <= NAMES_MAX && runtime->lock_fd < 0; i++) {
        name_folder(base, hash, i, runtime->path);
        runtime->lock_fd = lock_folder(runtime->path);
        if (runtime->lock_fd < 0 && errno != EWOULDBLOCK)
            return fail(problem, runtime->path);
    }
    if (runtime->lock_fd < 0)
        return fail(problem, runtime->path);
    runtime_name_generation(runtime, generation, runtime->generation);
    return runtime_make_generation(runtime, generation, problem);
}

enum err runtime_inherit(struct runtime *runtime, const char *path, int lock_fd,
                         uint32_t generation, char problem[INI_PROBLEM_SIZE])
{
    *runtime = (struct runtime){.lock_fd = lock_fd, .is_lent = true};
    snprintf(runtime->path, sizeof runtime->path, "%s", path);
    runtime_name_generation(runtime, generation, runtime->generation);
    return runtime_make_generation(runtime, generation, problem);
}

void runtime_own(struct runtime *runtime, bool is_ours)
{
    runtime->is_lent = !is_ours;
    if (is_ours)
        (void)write_pid(runtime->lock_fd);
}

void runtime_name_generation(const struct runtime *runtime, uint32_t number, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, "%s/%u", runtime->path, number) >= PATH_MAX)
        path[0] = '\0'; /* no folder can be made of it: refused there */
}

enum err runtime_make_generation(const struct runtime *runtime, uint32_t number,
                                 char problem[INI_PROBLEM_SIZE])
{
    char path[PATH_MAX];

    runtime_name_generation(runtime, number, path);
    if (path[0] != '\0')
        remove_tree(path); /* of a host that was killed, or of a try */
    return path[0] != '\0' && make_private(path) ? ERR_OK : fail(problem, path);
}

void runtime_remove_generation(const struct runtime *runtime, uint32_t number)
{
    char path[PATH_MAX];

    runtime_name_generation(runtime, number, path);
    if (path[0] != '\0')
        remove_tree(path);
}

static bool each_in(const char *base, uint64_t hash, bool (*visit)(void *data, const char *folder),
                    void *data)
{
    char path[PATH_MAX];
    bool is_enough = false;

    for (int i = 1; i <= NAMES_MAX && !is_enough; i++) {
        name_folder(base, hash, i, path);
        is_enough = visit(data, path);
    }
    return is_enough;
}

bool runtime_each(const char *configured, const char *ini_path,
                  bool (*visit)(void *data, const char *folder), void *data)
{
    const char *user_dir = getenv("XDG_RUNTIME_DIR");
    uint64_t hash = hash_path(ini_path);
    char base[PATH_MAX];

    if (configured[0] != '\0')
        return each_in(configured, hash, visit, data);
    if (each_in(SYSTEM_DIR, hash, visit, data))
        return true;
    if (user_dir != NULL && user_dir[0] == '/') {
        snprintf(base, sizeof base, "%s/weft", user_dir);
        if (each_in(base, hash, visit, data))
            return true;
    }
    snprintf(base, sizeof base, "/tmp/weft-%u", (unsigned)geteuid());
    return each_in(base, hash, visit, data);
}

static bool is_it(void *data, const char *folder)
{
    return strcmp(data, folder) == 0;
}

bool runtime_may_be(const char *configured, const char *ini_path, const char *folder)
{
    return runtime_each(configured, ini_path, is_it, (void *)(uintptr_t)folder);
}

void runtime_close(struct runtime *runtime)
{
    if (runtime->lock_fd < 0)
        return;
    if (!runtime->is_lent)
        remove_tree(runtime->path);
    close(runtime->lock_fd);
    runtime->lock_fd = -1;
}
