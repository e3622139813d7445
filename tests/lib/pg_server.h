/* lib/pg_server.h - a private PostgreSQL server of a test's own, and a worker's insides on it.
 *
 * Loop:   the test's; starting and stopping the server blocks.
 * Memory: the caller owns the structs; the cluster's files lie in a temporary folder.
 */
#ifndef WEFT_TESTS_LIB_PG_SERVER_H
#define WEFT_TESTS_LIB_PG_SERVER_H

#include "lib/temp_dir.h"
#include "loop/helper.h"
#include "loop/loop.h"
#include "pg/parameters.h"
#include "pg/pool.h"
#include "pg/query.h"
#include "task/scope.h"
#include "task/tasks.h"
#include <stdbool.h>
#include <stdint.h>

/* One cluster. */
struct pg_server {
    struct temp_dir dir; /* its files */
    char host[128];      /* folder of its socket */
    char port[16];       /* the number in the socket's name, and the TCP port with --tcp */
    char user[64];       /* owns the database */
    char dbname[64];     /* "weft" */
    char password[64];   /* for TCP */
    int pid;             /* of the postmaster */
    bool has_tcp;        /* it listens on 127.0.0.1, too, always on the same port */
    bool is_running;     /* started */
    bool is_missing;     /* PostgreSQL is not installed */
};

/* Starts a cluster; `arguments` are further ones for tests/tools/pgcluster, or "". It ends with
 * this process at the latest. */
void pg_server_init(struct pg_server *server, const char *arguments);

/* Stops it and removes its files. */
void pg_server_deinit(struct pg_server *server);

/* Stops it at once, as a crash would. */
void pg_server_stop(struct pg_server *server);

/* Starts it again, on the same socket and port. */
void pg_server_start(struct pg_server *server);

/* The same with further arguments for tests/tools/pgcluster. */
void pg_server_start_with(struct pg_server *server, const char *arguments);

/* Skips the running test where PostgreSQL is not there. */
void pg_server_need(const struct pg_server *server);

/* Runs statements on a connection of the test's own and answers the first column of the first row,
 * "" for none; good until the next call. Fails the test where the server refuses them. */
const char *pg_server_run(const struct pg_server *server, const char *sql);

/* The same as another role: "postgres" is the superuser. */
const char *pg_server_run_as(const struct pg_server *server, const char *user, const char *sql);

/* Loop, helpers, tasks, a pool and a scope: what a request of a worker has. */
struct pg_world {
    struct pg_server *server;  /* whose pool */
    struct pg_options options; /* of the pool: may be changed before pg_world_start() */
    struct loop *loop;         /* real time */
    struct helpers *helpers;   /* two threads */
    struct tasks *tasks;       /* with fibers */
    struct pg_pool *pool;      /* started */
    struct scope *scope;       /* without a deadline; renewed by pg_world_renew() */
    uint64_t ahead_us;         /* of real time: pg_world_jump() */
    uint64_t still_us;         /* its time stands still there; 0: it does not */
};

/* Everything but the pool and the scope. */
void pg_world_init(struct pg_world *world, struct pg_server *server);

/* The same for a test that lets time pass by pg_world_jump(): its loop never sleeps. */
void pg_world_init_ahead(struct pg_world *world, struct pg_server *server);

/* From now on time stands still for the world, but for pg_world_jump(). */
void pg_world_stand_still(struct pg_world *world);

/* It goes on from there. Where it did not stand still, nothing changes. */
void pg_world_go_on(struct pg_world *world);

/* Time goes on by `ms` at once for the world, and for nobody else; what is due is done. */
void pg_world_jump(struct pg_world *world, uint32_t ms);

/* Another value for a text among the options, before pg_world_start(). */
void pg_world_set(char **option, const char *text);

/* The pool, with a first session open, and a scope. */
void pg_world_start(struct pg_world *world);

/* Ends the scope, with all its ops, and makes a new one. */
void pg_world_renew(struct pg_world *world);

/* Ends all; fails the test where an op is left. */
void pg_world_deinit(struct pg_world *world);

/* Ends all and begins again: for a test that wants other options, before pg_world_start(). */
void pg_world_again(struct pg_world *world);

/* Starts an ad-hoc statement in the world's scope; `values` are `count` parameters. */
struct op *pg_world_start_sql(struct pg_world *world, const char *sql, uint32_t count,
                              const struct pg_value *values);

/* Turns until the op has settled; its status. */
enum err pg_world_await(struct pg_world *world, struct op *op);

/* Starts and awaits a statement without parameters, which must succeed; its op. */
struct op *pg_world_run(struct pg_world *world, const char *sql);

/* A text parameter. */
struct pg_value pg_world_text(const char *text);

/* A whole number as parameter. */
struct pg_value pg_world_int(int64_t number);

/* Is the text of the first column of the first row this one? Fails the test where not. */
void pg_world_check(const struct op *op, const char *text);

/* Turns until the pool has at least `count` sessions open. */
void pg_world_until_sessions(struct pg_world *world, uint32_t count);

#endif
