/* lib/pg_fixture.h - the server and the world of a test of the pg room, as most of them have them,
 * and what many of them do there.
 *
 * Loop:   the world's.
 * Memory: one of each a program.
 * Limits: what waits fails the test after DRIVER_SECONDS of real time.
 */
#ifndef WEFT_TESTS_LIB_PG_FIXTURE_H
#define WEFT_TESTS_LIB_PG_FIXTURE_H

#include "lib/pg_server.h"
#include "pg/transaction.h"

extern struct pg_server server; /* of the whole group; missing where PostgreSQL is */
extern struct pg_world world;   /* of one test */

/* The group's set-up: a cluster on a Unix socket. */
int pg_start_server(void **state);

/* The same, on TCP as well. */
int pg_start_tcp_server(void **state);

/* Its tear-down. */
int pg_stop_server(void **state);

/* A test's set-up: a world without a pool. */
int pg_set_up(void **state);

/* The same for a test that lets time pass by pg_world_jump(). */
int pg_set_up_ahead(void **state);

/* Its tear-down. */
int pg_tear_down(void **state);

/* Another world in the place of this one, which is ahead, and has a pool of so many sessions whose
 * statements may take as long as they like. */
void start_patiently(uint32_t sessions);

/* Of the world's pool. */
const struct pg_pool_counts *counts(void);

/* Turns until nothing is in flight in the pool. */
void until_idle(void);

/* How many sessions of the world's run a statement that begins so, or wait within it; good until
 * the next pg_server_run(). */
const char *count_running(const char *text);

/* Turns until these are `count`. */
void until_running(const char *text, const char *count);

/* Turns until a session of the world's is within the pg_sleep() of a statement that begins so: from
 * then on a cancel ends it. While a statement is prepared for, the server forgets one. */
void until_asleep(const char *text);

/* A transaction of the world's pool. */
struct pg_transaction *begin_transaction(void);

/* Starts a statement in it. */
struct op *start_on(struct pg_transaction *transaction, const char *sql);

/* Gives up what sleeps, and lets so much time pass that it is canceled; then time stands still
 * until until_idle(): however slow the machine is, it is canceled once. A world that is ahead. */
void give_up(struct op *op);

#endif
