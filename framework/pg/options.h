/* pg/options.h - the settings of a [pg.NAME] section.
 *
 * Loop:   none; read at start.
 * Memory: texts are the struct's, freed by field_clear(); unset ones are "".
 */
#ifndef WEFT_PG_OPTIONS_H
#define WEFT_PG_OPTIONS_H

#include "base/error.h"
#include "settings/field.h"
#include <stdbool.h>
#include <stdint.h>

/* What `sslmode` indexes. */
enum pg_sslmode {
    PG_SSL_DISABLE,
    PG_SSL_PREFER,
    PG_SSL_REQUIRE,
    PG_SSL_VERIFY_CA,
    PG_SSL_VERIFY_FULL
};

/* Which of several servers it may be; libpq's target_session_attrs. */
enum pg_target {
    PG_TARGET_ANY,
    PG_TARGET_READ_WRITE,
    PG_TARGET_READ_ONLY,
    PG_TARGET_PRIMARY,
    PG_TARGET_STANDBY,
    PG_TARGET_PREFER_STANDBY
};

/* One section. */
struct pg_options {
    char *host;               /* name, address, or folder of a Unix socket; several by comma */
    char *user;               /* role; "": the name of the process's user */
    char *password;           /* "": none */
    char *dbname;             /* "": named like the role */
    uint32_t port;            /* TCP, or the number in the Unix socket's name */
    uint32_t sslmode;         /* an enum pg_sslmode */
    uint32_t target;          /* an enum pg_target */
    char *sslrootcert;        /* file of trusted authorities; "": the system's */
    char *conninfo;           /* instead of all of the above: libpq's string or URI */
    uint32_t sessions_max;    /* of a worker; opened as needed */
    uint32_t sessions_min;    /* these are kept open, others only while they are needed */
    uint32_t idle_timeout_ms; /* a session beyond these is closed when idle for so long; 0: never */
    uint32_t session_age_ms;  /* a session is closed and another opened after this; 0: never */
    uint32_t queue_max;       /* statements that wait in a worker; beyond it ERR_DB_BUSY */
    uint32_t queue_timeout_ms; /* longest wait; then ERR_DB_BUSY, or ERR_DB_DOWN without session */
    uint32_t connect_timeout_ms;          /* of one attempt to open a session */
    uint32_t statement_timeout_ms;        /* the server's, of each statement; 0: none */
    uint32_t idle_transaction_timeout_ms; /* the server's, of a session in a transaction; 0: none */
    uint32_t stream_timeout_ms;           /* the longest that a stream may stand still */
    uint32_t notify_queue;  /* notifications of a channel that somebody has not pulled */
    uint64_t result_max;    /* bytes of an answer, or of a row of a stream; else ERR_DB */
    uint32_t depth_max;     /* statements in flight on a session */
    uint32_t slow_query_ms; /* a statement that takes longer is logged; 0: none */
    bool is_prepared;       /* false: for poolers that lose prepared statements */
};

/* The table of these fields, for server/settings.c. */
extern const struct field_table pg_option_table;

/* The word for an enum pg_sslmode, as libpq has it. */
const char *pg_option_sslmode(uint32_t sslmode);

/* The word for an enum pg_target, as libpq has it. */
const char *pg_option_target(uint32_t target);

/* Contradictions that the table cannot see: conninfo beside what it replaces, one that libpq cannot
 * parse, too many hosts. ERR_INVALID: `problem` says what, without file and line. */
enum err pg_options_check(const struct pg_options *options, char problem[INI_PROBLEM_SIZE])
    __attribute__((warn_unused_result));

/* Can this process, as it is now, read the files that they name? ERR_IO: `key` is the setting's,
 * and `problem` says which file, and why not, without file and line. */
enum err pg_options_check_files(const struct pg_options *options, const char **key,
                                char problem[INI_PROBLEM_SIZE]) __attribute__((warn_unused_result));

#endif
