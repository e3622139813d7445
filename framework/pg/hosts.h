/* pg/hosts.h - the servers that host, hostaddr and port name, one by one.
 *
 * libpq would try them in order by itself, but nothing limits the time that it spends on one of
 * them: a machine that is gone would keep it from the others.
 * Loop:   no matter which thread.
 * Memory: the struct owns its texts.
 * Limits: PG_HOSTS_MAX servers.
 */
#ifndef WEFT_PG_HOSTS_H
#define WEFT_PG_HOSTS_H

#include "settings/ini.h"
#include <stdbool.h>
#include <stdint.h>

enum { PG_HOSTS_MAX = 16, PG_ADDRESS_SIZE = 64 };

/* One server, as libpq's parameters of these names have it. */
struct pg_host {
    char *host;     /* name, address or folder; "": not given */
    char *hostaddr; /* address, where the name is not to be looked up; "": not given */
    char *port;     /* "": not given */
};

/* All of them; zeroed: none. */
struct pg_hosts {
    struct pg_host list[PG_HOSTS_MAX]; /* in the order given */
    uint32_t count;                    /* at least 1 */
};

/* What is known of the servers' addresses; zeroed: nothing. */
struct pg_addresses {
    char last[PG_HOSTS_MAX][PG_ADDRESS_SIZE]; /* by server, in digits: the one that answered last,
                                                 where it is not its name's first; "": none */
};

/* Takes libpq's lists, separated by commas, apart; NULL is one that was not given. One port alone
 * is for all. False: there are too many, or not as many in one list as in the other; `problem` says
 * so, and there is nothing to deinit. */
bool pg_hosts_init(struct pg_hosts *hosts, const char *host, const char *hostaddr, const char *port,
                   char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Frees the texts. Twice is fine. */
void pg_hosts_deinit(struct pg_hosts *hosts);

#endif
