/* pg/hosts.c - the servers that host, hostaddr and port name, one by one. */
#include "pg/hosts.h"
#include "base/mem.h"
#include "base/span.h"
#include <stdio.h>
#include <string.h>

/* How many items a list has; 0: it was not given. */
static uint32_t count_items(const char *list)
{
    uint32_t count = 1;

    if (list == NULL || list[0] == '\0')
        return 0;
    for (const char *comma = strchr(list, ','); comma != NULL; comma = strchr(comma + 1, ','))
        count++;
    return count;
}

/* The item of that index, or an empty one; a copy. */
static char *item(const char *list, uint32_t index)
{
    if (list == NULL)
        return mem_copy(SPAN(""));
    while (index-- > 0)
        list = strchr(list, ',') + 1;
    return mem_copy((struct span){list, strcspn(list, ",")});
}

static uint32_t most(uint32_t one, uint32_t other)
{
    return one > other ? one : other;
}

/* Libpq's rules. */
static bool is_right(uint32_t hosts, uint32_t addresses, uint32_t ports,
                     char problem[INI_PROBLEM_SIZE])
{
    uint32_t count = most(most(hosts, addresses), 1);

    if (count > PG_HOSTS_MAX)
        (void)snprintf(problem, INI_PROBLEM_SIZE, "%u hosts, expected at most %d", count,
                       PG_HOSTS_MAX);
    else if (hosts > 0 && addresses > 0 && hosts != addresses)
        (void)snprintf(problem, INI_PROBLEM_SIZE, "%u in host and %u in hostaddr, expected as many",
                       hosts, addresses);
    else if (ports > 1 && ports != count)
        (void)snprintf(problem, INI_PROBLEM_SIZE, "%u ports for %u hosts, expected one or as many",
                       ports, count);
    else
        return true;
    return false;
}

bool pg_hosts_init(struct pg_hosts *hosts, const char *host, const char *hostaddr, const char *port,
                   char problem[INI_PROBLEM_SIZE])
{
    uint32_t names = count_items(host), addresses = count_items(hostaddr),
             ports = count_items(port);

    if (!is_right(names, addresses, ports, problem))
        return false;
    hosts->count = most(most(names, addresses), 1);
    for (uint32_t i = 0; i < hosts->count; i++) {
        hosts->list[i].host = item(names > 0 ? host : NULL, i);
        hosts->list[i].hostaddr = item(addresses > 0 ? hostaddr : NULL, i);
        hosts->list[i].port = item(ports > 0 ? port : NULL, ports > 1 ? i : 0);
    }
    return true;
}

void pg_hosts_deinit(struct pg_hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        mem_free(hosts->list[i].host);
        mem_free(hosts->list[i].hostaddr);
        mem_free(hosts->list[i].port);
    }
    *hosts = (struct pg_hosts){.count = 0};
}
