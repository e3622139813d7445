/* server/rights.c - what a process of the host may do. */
#include "server/rights.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "server/settings.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENTRY_SIZE = 65536, ID_MAX = INT32_MAX };

/* ---- who ---- */

/* A number, where the text is one that an id can be. */
static bool is_id(const char *text, uint32_t *id)
{
    uint64_t value;

    if (!number_uint(span_of(text), &value) || value > ID_MAX)
        return false;
    *id = (uint32_t)value;
    return true;
}

static bool find_user(const char *name, struct rights *rights)
{
    char *entry = mem_alloc(ENTRY_SIZE);
    struct passwd passwd, *found = NULL;
    uint32_t id;

    if (is_id(name, &id))
        (void)getpwuid_r(id, &passwd, entry, ENTRY_SIZE, &found);
    else
        (void)getpwnam_r(name, &passwd, entry, ENTRY_SIZE, &found);
    if (found != NULL) {
        rights->uid = found->pw_uid;
        if (!rights->has_group)
            rights->gid = found->pw_gid;
        rights->has_user = rights->has_group = true;
    }
    mem_free(entry);
    return found != NULL;
}

static bool find_group(const char *name, struct rights *rights)
{
    char *entry = mem_alloc(ENTRY_SIZE);
    struct group group, *found = NULL;
    uint32_t id;

    if (is_id(name, &id))
        (void)getgrgid_r(id, &group, entry, ENTRY_SIZE, &found);
    else
        (void)getgrnam_r(name, &group, entry, ENTRY_SIZE, &found);
    if (found != NULL) {
        rights->gid = found->gr_gid;
        rights->has_group = true;
    }
    mem_free(entry);
    return found != NULL;
}

/* Who is not root can stay who they are, and no more. */
static bool may_become(const struct rights *rights)
{
    return geteuid() == 0 || ((!rights->has_user || rights->uid == geteuid()) &&
                              (!rights->has_group || rights->gid == getegid()));
}

enum err rights_find(const struct server_options *options, struct rights *rights, const char **key,
                     char problem[RIGHTS_PROBLEM_SIZE])
{
    *rights = (struct rights){.has_user = false};
    *key = "group";
    if (options->group[0] != '\0' && !find_group(options->group, rights)) {
        snprintf(problem, RIGHTS_PROBLEM_SIZE, "\"%.64s\", expected a group of this machine",
                 options->group);
        return ERR_INVALID;
    }
    if (options->group[0] != '\0' && options->user[0] == '\0' && may_become(rights))
        return ERR_OK;
    if (options->user[0] != '\0')
        *key = "user";
    if (options->user[0] != '\0' && !find_user(options->user, rights)) {
        snprintf(problem, RIGHTS_PROBLEM_SIZE, "\"%.64s\", expected a user of this machine",
                 options->user);
        return ERR_INVALID;
    }
    if (may_become(rights))
        return ERR_OK;
    snprintf(problem, RIGHTS_PROBLEM_SIZE,
             "workers can become another user or group only where the host is started as root");
    return ERR_INVALID;
}

/* ---- the master ---- */

static void set_file_limit(uint32_t files)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = files != 0 ? files : limit.rlim_max;
    if (limit.rlim_cur > limit.rlim_max)
        limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn("[server] files_max: %llu cannot be had: %s", (unsigned long long)limit.rlim_cur,
                 strerror(errno));
}

void rights_start(const struct server_options *options)
{
    set_file_limit(options->files_max);
}

void rights_warn(const struct rights *rights)
{
    if (geteuid() == 0 && !rights->has_user)
        log_warn("plugins run as root, since [server] has no user; user = root says that it is "
                 "meant so");
}

static void own_log(const char *path, const struct rights *rights)
{
    struct stat stat;

    if (path[0] != '/' || !rights->has_group)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    if (fd < 0 || fstat(fd, &stat) != 0 ||
        (S_ISREG(stat.st_mode) &&
         fchown(fd, rights->has_user ? rights->uid : (uid_t)-1, rights->gid) != 0))
        log_warn("%s: cannot be made the workers': %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

void rights_own_logs(const struct server_options *options, const struct rights *rights)
{
    if (geteuid() != 0)
        return;
    own_log(options->error_log, rights);
    own_log(options->access_log, rights);
}

/* ---- the worker ---- */

/* A change of the user makes a process one that dumps no core, and whose files in /proc are
 * root's. */
static void set_dumpable(const struct server_options *options)
{
    (void)prctl(PR_SET_DUMPABLE, options->core_dumps == RIGHTS_CORES_OFF ? 0 : 1);
}

void rights_limit(const struct server_options *options)
{
    struct rlimit limit;

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    if (options->core_dumps == RIGHTS_CORES_INHERIT || getrlimit(RLIMIT_CORE, &limit) != 0)
        return;
    limit.rlim_cur = options->core_dumps == RIGHTS_CORES_ON ? limit.rlim_max : 0;
    (void)setrlimit(RLIMIT_CORE, &limit);
    set_dumpable(options);
}

static enum err refuse(const char *what, char problem[RIGHTS_PROBLEM_SIZE])
{
    snprintf(problem, RIGHTS_PROBLEM_SIZE, "%s: %s", what, strerror(errno));
    return ERR_IO;
}

/* Of the user, and of nobody else's. */
static bool take_groups(const struct server_options *options, const struct rights *rights)
{
    uint32_t id;

    if (!rights->has_user || is_id(options->user, &id))
        return setgroups(1, &rights->gid) == 0;
    return initgroups(options->user, rights->gid) == 0;
}

enum err rights_drop(const struct server_options *options, const struct rights *rights,
                     char problem[RIGHTS_PROBLEM_SIZE])
{
    bool is_root = geteuid() == 0;

    if (!rights->has_group || !is_root)
        return ERR_OK;
    if (!take_groups(options, rights))
        return refuse("cannot take the groups of [server] user", problem);
    if (setresgid(rights->gid, rights->gid, rights->gid) != 0)
        return refuse("cannot become [server] group", problem);
    if (rights->has_user && setresuid(rights->uid, rights->uid, rights->uid) != 0)
        return refuse("cannot become [server] user", problem);
    /* Nothing else in this program may be trusted to say so. */
    CHECK(!rights->has_user || rights->uid == 0 || (setuid(0) != 0 && seteuid(0) != 0));
    set_dumpable(options);
    return ERR_OK;
}
