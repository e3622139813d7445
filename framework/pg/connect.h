/* pg/connect.h - opening a connection on a helper thread.
 *
 * libpq's opening blocks: names are looked up, files are read, and SCRAM computes for 3 ms in one
 * piece. None of that belongs on the loop.
 * Loop:   calls and `done` on the loop; what lies between, on a helper thread.
 * Memory: an attempt frees itself after `done`, or once it was abandoned.
 * Limits: one attempt takes no longer than the options' connect_timeout.
 */
#ifndef WEFT_PG_CONNECT_H
#define WEFT_PG_CONNECT_H

#include "pg/options.h"

/* A net: the server looks now and then whether the client of a running statement is still there. */
#define PG_CLIENT_CHECK_SQL "set client_connection_check_interval = '2s'"

struct helpers;
struct pg_conn; /* libpq's PGconn */
struct pg_connect;

/* Runs once, on the loop, unless the attempt was abandoned: `conn` is the callee's, or NULL where
 * `problem` says why. */
typedef void pg_connect_fn(void *data, struct pg_connect *connect, struct pg_conn *conn,
                           const char *problem);

/* Starts an attempt. `options` are not looked at after the call. */
struct pg_connect *pg_connect_start(struct helpers *helpers, const struct pg_options *options,
                                    pg_connect_fn *done, void *data);

/* Nobody wants it any more: `done` will not run. NULL is fine. */
void pg_connect_abandon(struct pg_connect *connect);

/* Can libpq parse it? Else false, and `problem` says why. */
bool pg_connect_parses(const char *conninfo, char problem[INI_PROBLEM_SIZE]);

#endif
