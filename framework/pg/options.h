/* pg/options.h - the settings of a [pg.NAME] section. */
#ifndef WEFT_PG_OPTIONS_H
#define WEFT_PG_OPTIONS_H

#include "base/error.h"
#include "settings/field.h"
#include <stdint.h>

struct pg_options {
    char *host, *user, *password, *dbname; /* "" where unset */
    uint32_t port;                         /* TCP, or the number in the Unix socket's name */
    uint32_t sslmode;      /* index into disable, prefer, require, verify-ca, verify-full */
    char *conninfo;        /* instead of all of the above: a libpq connection string or URI */
    uint32_t sessions_max; /* of a worker; opened as needed */
    uint32_t queue_max;    /* statements that wait in a worker; beyond it ERR_DB_BUSY */
    uint32_t
        queue_timeout_ms; /* longest wait; then ERR_DB_BUSY, or ERR_DB_DOWN without any session */
    uint32_t connect_timeout_ms;   /* of one attempt */
    uint32_t statement_timeout_ms; /* the server's, of each statement; 0: none */
    uint32_t depth_max;            /* statements in flight on a session */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table pg_option_table;

/* Contradictions that the table cannot see (conninfo beside host, an unparsable conninfo). On failure `problem` says what,
 * without file and line. */
enum err pg_options_check(const struct pg_options *options, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

#endif
