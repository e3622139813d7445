/* server/cores.c - processors by affinity, and by the quotas of cgroups version 2. */
#include "server/cores.h"
#include "base/number.h"
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

uint32_t cores_of_quota(struct span text)
{
    const char *blank = text.len > 0 ? memchr(text.ptr, ' ', text.len) : NULL;
    uint64_t quota, period;

    if (blank == NULL)
        return 0;
    struct span first = {text.ptr, (size_t)(blank - text.ptr)};
    struct span second = {blank + 1, text.len - first.len - 1};
    while (second.len > 0 && second.ptr[second.len - 1] == '\n')
        second.len--;
    if (!number_uint(first, &quota) || !number_uint(second, &period) || period == 0 || quota == 0)
        return 0;
    uint64_t cores = quota / period + (quota % period != 0);
    return cores > UINT32_MAX ? 0 : (uint32_t)cores;
}

static struct span read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return (struct span){NULL, 0};
    ssize_t got = read(fd, text, size - 1);
    close(fd);
    if (got < 0)
        return (struct span){NULL, 0};
    text[got] = '\0';
    return (struct span){text, (size_t)got};
}

/* Our group's path below the root of version 2: the line "0::/path" of /proc/self/cgroup. */
static bool own_group(char path[PATH_MAX])
{
    char text[4096];
    struct span all = read_text("/proc/self/cgroup", text, sizeof text);

    if (all.ptr == NULL)
        return false;
    const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (line == NULL)
        return false;
    const char *start = strchr(line, '/');
    if (start == NULL)
        return false;
    return snprintf(path, PATH_MAX, "%.*s", (int)strcspn(start, "\n"), start) < PATH_MAX;
}

/* The smallest quota from our group up to the root; 0: none. */
static uint32_t quota(void)
{
    char group[PATH_MAX], path[PATH_MAX + 64], text[128];
    uint32_t least = 0;

    if (!own_group(group))
        return 0;
    for (;;) {
        snprintf(path, sizeof path, CGROUP_ROOT "%s/cpu.max", strcmp(group, "/") == 0 ? "" : group);
        uint32_t cores = cores_of_quota(read_text(path, text, sizeof text));
        if (cores > 0 && (least == 0 || cores < least))
            least = cores;
        char *slash = strrchr(group, '/');
        if (slash == NULL || (slash == group && group[1] == '\0'))
            return least;
        slash[slash == group ? 1 : 0] = '\0';
    }
}

uint32_t cores_available(void)
{
    cpu_set_t set;
    uint32_t cores = 1, granted = quota();

    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        cores = (uint32_t)CPU_COUNT(&set);
    else if (sysconf(_SC_NPROCESSORS_ONLN) > 0)
        cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    return granted > 0 && granted < cores ? granted : cores;
}
