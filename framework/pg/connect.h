/* pg/connect.h - opening a connection on a helper thread.
 *
 * libpq's opening blocks: names are looked up, files are read, and SCRAM computes for 3 ms in one
 * piece. None of that belongs on the loop.
 * Loop:   calls and `done` on the loop; what lies between, on a helper thread.
 * Memory: an attempt frees itself after `done`, or once it was abandoned.
 * Limits: one attempt takes no longer than the options' connect_timeout for each server.
 */
#ifndef WEFT_PG_CONNECT_H
#define WEFT_PG_CONNECT_H

#include "pg/options.h"

/* A net: the server looks now and then whether the client of a running statement is still there. */
#define PG_CLIENT_CHECK_NAME "client_connection_check_interval"
#define PG_CLIENT_CHECK_TIME "2s"
#define PG_CLIENT_CHECK_SQL  "set " PG_CLIENT_CHECK_NAME " = '" PG_CLIENT_CHECK_TIME "'"

struct helpers;
struct pg_addresses;
struct pg_conn; /* libpq's PGconn */
struct pg_connect;

enum { PG_NAME_SIZE = 64, PG_UNLIMITED = UINT32_MAX };

/* What a server says of itself, and of whom it has let in. */
struct pg_limits {
    bool is_known;               /* it was asked, and has answered */
    char server[PG_NAME_SIZE];   /* which one it is, by whatever address; "": it cannot say */
    char role[PG_NAME_SIZE];     /* who we are there */
    char database[PG_NAME_SIZE]; /* and where */
    uint32_t sessions;           /* of all roles together, less those that it reserves for others */
    uint32_t role_sessions;      /* of the role; PG_UNLIMITED: it has no limit */
    uint32_t database_sessions;  /* of the database; the same */
};

/* What was found out about a connection. */
struct pg_traits {
    bool is_direct;     /* it is one session of the server's all the time: no pooler hands it out */
    bool checks_client; /* PG_CLIENT_CHECK_SQL was run on it */
    uint64_t server_us; /* when the server was started, by its own clock; 0: it does not say */
};

/* Which server it is to be. */
struct pg_wish {
    uint32_t first;                 /* index of the one that is tried first, modulo their number */
    bool is_only;                   /* and no other one, whatever target_session_attrs wants */
    bool asks_limits;               /* pg_connect_limits() will be wanted */
    const struct pg_conn *like;     /* whose it is to be, whatever that is now; NULL: any */
    struct pg_addresses *addresses; /* where each name is begun with; brought up to date before
                                       `done`, the caller's until then; NULL: at its first */
};

/* Runs once, on the loop, unless the attempt was abandoned: `conn` is the callee's, or NULL where
 * `problem` says why. */
typedef void pg_connect_fn(void *data, struct pg_connect *connect, struct pg_conn *conn,
                           const char *problem);

/* Starts an attempt: the servers one after the other, and the addresses of each, until one is there
 * and is what target_session_attrs wants. A server that says no has said it for all its addresses,
 * and for all servers, unless what it said is that it is just starting, or stopping. `options` and
 * `wish` are not looked at after the call. */
struct pg_connect *pg_connect_start(struct helpers *helpers, const struct pg_options *options,
                                    const struct pg_wish *wish, pg_connect_fn *done, void *data);

/* In `done`: the attempt's. */
const struct pg_traits *pg_connect_traits(const struct pg_connect *connect);

/* In `done`: the index of the server that it was. */
uint32_t pg_connect_server(const struct pg_connect *connect);

/* In `done`: what the server has answered; the attempt's. */
const struct pg_limits *pg_connect_limits(const struct pg_connect *connect);

/* Nobody wants it any more: `done` will not run. NULL is fine. */
void pg_connect_abandon(struct pg_connect *connect);

#endif
