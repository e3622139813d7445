/* server/admin.h - the admin listener: /livez, /readyz, /metrics and /status, for those who watch
 * over the host, on an address of its own.
 *
 * The master serves it, with the http room's server: it answers whatever the workers do, and what a
 * plugin does to its worker does not touch it.
 * Loop:   of the master's.
 * Memory: embedded; owns its socket, connections and requests.
 * Limits: ADMIN_CONNECTIONS_MAX connections, no bodies, the times of http/options.h.
 */
#ifndef WEFT_SERVER_ADMIN_H
#define WEFT_SERVER_ADMIN_H

#include "http/server.h"
#include "net/listener.h"
#include "server/fresh.h"
#include "server/settings.h"

struct activation;
struct reload;
struct watch;

enum { ADMIN_CONNECTIONS_MAX = 64 };

/* Zeroed: off. */
struct admin {
    struct fresh_desk *fresh;    /* the master's */
    struct watch *watch;         /* the same */
    const struct reload *reload; /* the same: which generation serves */
    struct http_options options; /* limits of its own */
    struct tasks *tasks;         /* of its requests; NULL: off */
    struct router *router;       /* what it serves */
    struct http_server *http;    /* its connections */
    struct listener listener;    /* of fd */
    struct addr addr;            /* it is bound to */
    int fd;                      /* its socket; -1: off */
    bool is_handed;              /* it is the service manager's */
    int inherited;               /* another master's, to be used if it has the address; -1: none */
    bool is_lent;                /* another master accepts there */
};

/* Off. */
void admin_init(struct admin *admin, struct fresh_desk *fresh, struct watch *watch,
                const struct reload *reload);

/* Serves at the address that the settings name, if they do, on the socket of `handed` (NULL: none)
 * where it has one; or, after admin_lend(), again. ERR_EXISTS: the address is in use; other
 * failures are ERR_IO; `problem` names it. */
enum err admin_own(struct admin *admin, const struct settings *settings, struct activation *handed,
                   char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

/* Another master accepts there from here on; those who are connected get one more
 * answer. Off is fine. */
void admin_lend(struct admin *admin);

/* Closes it, with who is connected. Off is fine. */
void admin_close(struct admin *admin);

/* In a forked child, beside loop_abandon(): closes the descriptors and touches nothing else. */
void admin_abandon(const struct admin *admin);

#endif
