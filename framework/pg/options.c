/* pg/options.c - the settings of a [pg.NAME] section. */
#include "pg/options.h"
#include "base/check.h"
#include "pg/files.h"
#include "pg/parameters.h"
#include <assert.h>
#include <stdio.h>

static const char *const sslmodes[] = {"disable",   "prefer",      "require",
                                       "verify-ca", "verify-full", NULL};

static const char *const targets[] = {"any",     "read-write",     "read-only", "primary",
                                      "standby", "prefer-standby", NULL};

static_assert(sizeof targets / sizeof targets[0] == PG_TARGET_PREFER_STANDBY + 2, "one word each");
static_assert(sizeof sslmodes / sizeof sslmodes[0] == PG_SSL_VERIFY_FULL + 2, "one word each");

enum { PORT_DEFAULT = 5432 };

#define AT(member) offsetof(struct pg_options, member)

static const struct field fields[] = {
    {"host", FIELD_TEXT, AT(host), "", 0, 1023, NULL, FIELD_PER_HOST,
     "Name or address of the server, or the folder of its Unix socket. Several, with commas "
     "between, are tried in order. Unset: the socket in the usual place."},
    {"target_session_attrs", FIELD_CHOICE, AT(target), "any", 0, 0, targets, FIELD_PER_HOST,
     "Which of several servers it may be: any, read-write, read-only, primary, standby, or "
     "prefer-standby. With read-write and primary, sessions move to the new primary after a "
     "failover, also where the old one goes on as a standby; read-write leaves one, too, that "
     "default_transaction_read_only has refuse writes, and primary does not. With the others "
     "that only read, sessions are spread over the servers that host names; several addresses of "
     "one name are "
     "one of these, and the first that answers has all of its sessions."},
    {"port", FIELD_UINT, AT(port), "5432", 1, 65535, NULL, FIELD_PER_HOST,
     "TCP port, or the number in the Unix socket's name."},
    {"user", FIELD_TEXT, AT(user), "", 0, 255, NULL, FIELD_PER_HOST,
     "Role to log in as. Unset: named like the user that the process runs as."},
    {"password", FIELD_TEXT, AT(password), "", 0, 1023, NULL, FIELD_PER_HOST,
     "Its password; best taken from the environment: ${NAME}. Neither PGPASSWORD nor a .pgpass "
     "file is looked at."},
    {"dbname", FIELD_TEXT, AT(dbname), "", 0, 255, NULL, FIELD_PER_HOST,
     "The database. Unset: named like the role."},
    {"sslmode", FIELD_CHOICE, AT(sslmode), "prefer", 0, 0, sslmodes, FIELD_PER_HOST,
     "TLS: disable, prefer (if the server has it), require (but trust anybody), verify-ca, or "
     "verify-full (the certificate is the server's, and the name in it is the host's)."},
    {"sslrootcert", FIELD_PATH, AT(sslrootcert), "", 0, 1023, NULL, FIELD_PER_HOST,
     "File with the authorities that verify-ca and verify-full trust. Unset: the system's."},
    {"conninfo", FIELD_TEXT, AT(conninfo), "", 0, 4095, NULL, FIELD_PER_HOST,
     "Instead of all of the above: a connection string or URI as libpq knows it, "
     "\"host=a,b port=5432,5433 target_session_attrs=read-write\". Refused in it are service, "
     "what has a key below, as connect_timeout, and what would have no effect."},
    {"sessions", FIELD_UINT, AT(sessions_max), "4", 1, 1024, NULL, FIELD_PER_WORKER,
     "Sessions, opened as needed, one ahead of need; up to two more cancel what nobody waits for, "
     "and listen. Two to four for each core of the database server, over all workers, is plenty; "
     "its max_connections is the limit."},
    {"sessions_min", FIELD_UINT, AT(sessions_min), "1", 0, 1024, NULL, FIELD_PER_WORKER,
     "So many of these are opened at the start and kept open."},
    {"idle_timeout", FIELD_MS, AT(idle_timeout_ms), "5m", 0, 86400000, NULL, FIELD_PER_WORKER,
     "Sessions beyond sessions_min are closed when nobody has needed them for so long. 0: never."},
    {"session_age", FIELD_MS, AT(session_age_ms), "1h", 0, 604800000, NULL, FIELD_PER_WORKER,
     "A session that is so old (a quarter less, by chance, so that not all go at once) is closed "
     "when it is idle, and another one opened. 0: never."},
    {"depth", FIELD_UINT, AT(depth_max), "32", 1, 1024, NULL, FIELD_PER_WORKER,
     "Statements on their way on one session."},
    {"queue", FIELD_UINT, AT(queue_max), "4096", 1, 1000000, NULL, FIELD_PER_WORKER,
     "Statements that wait for a session. Beyond that they are refused: 503."},
    {"queue_timeout", FIELD_MS, AT(queue_timeout_ms), "2s", 1, 3600000, NULL, FIELD_PER_WORKER,
     "The longest that a statement waits for a session; then 503."},
    {"connect_timeout", FIELD_MS, AT(connect_timeout_ms), "5s", 10, 3600000, NULL, FIELD_PER_WORKER,
     "The longest that one attempt to open a session may take, for each host, and each of the "
     "first 8 addresses of its name; the one that answered last is begun with. A server that "
     "refuses the login is asked no more, nor is another one, as with libpq."},
    {"statement_timeout", FIELD_MS, AT(statement_timeout_ms), "5s", 0, 86400000, NULL,
     FIELD_PER_WORKER,
     "The longest that a statement may run; the server ends it then: 504. A session that has not "
     "answered 5 s later is given up, but for one whose transaction has set another limit. 0: no "
     "limit."},
    {"idle_transaction_timeout", FIELD_MS, AT(idle_transaction_timeout_ms), "60s", 0, 86400000,
     NULL, FIELD_PER_WORKER,
     "The longest that a transaction may do nothing; the server ends its session then, and so "
     "frees "
     "what is locked by one that it cannot know to be gone, as with a network that falls silent. "
     "0: no limit."},
    {"stream_timeout", FIELD_MS, AT(stream_timeout_ms), "60s", 10, 86400000, NULL, FIELD_PER_WORKER,
     "The longest that a stream of rows or a COPY may stand still, whoever it waits for: the "
     "server, the client, the plugin; then it is given up. Neither is bound by "
     "statement_timeout; but behind a pooler (prepared = off) the role's own ends it, unless it is "
     "on a transaction."},
    {"notify_queue", FIELD_UINT, AT(notify_queue), "1000", 1, 100000, NULL, FIELD_PER_WORKER,
     "Notifications of a channel (NOTIFY) that are kept for who listens and has not come to them. "
     "Beyond that the oldest go, and who has missed them is told."},
    {"result_max", FIELD_SIZE, AT(result_max), "16m", 1024, 1024 * 1024 * 1024, NULL,
     FIELD_PER_HOST,
     "The largest result of a statement; beyond it the statement fails: 500. One that is seen to "
     "be "
     "larger while it comes ends its session, too; what else was on its way there and is not read "
     "only fails then: 503."},
    {"slow_query", FIELD_MS, AT(slow_query_ms), "0", 0, 86400000, NULL, FIELD_PER_WORKER,
     "A statement that takes so long, its wait for a session included, is logged with its name, "
     "plugin, route and "
     "request. 0: none."},
    {"prepared", FIELD_BOOL, AT(is_prepared), "on", 0, 0, NULL, FIELD_PER_WORKER,
     "Prepare statements. Off for a pooler that hands each transaction to another session of the "
     "server; the server then gets no settings from weft: neither statement_timeout (but for "
     "transactions, which set it for themselves) nor DateStyle, and times are read in style ISO "
     "alone. What transactions leave in a session (settings, advisory locks) is the pooler's to "
     "clean; one that does so only when its client leaves (pool_mode = session) will not do. A "
     "session that owes an answer 10 s "
     "after the deadline of whoever asked is closed then."},
};

const struct field_table pg_option_table = {
    .kind = "pg",
    .example = "[pg.main]",
    .help = "A PostgreSQL database that plugins know by the name behind the point.",
    .fields = fields,
    .count = FIELD_COUNT(fields),
};

const char *pg_option_sslmode(uint32_t sslmode)
{
    CHECK(sslmode <= PG_SSL_VERIFY_FULL);
    return sslmodes[sslmode];
}

const char *pg_option_target(uint32_t target)
{
    CHECK(target <= PG_TARGET_PREFER_STANDBY);
    return targets[target];
}

enum err pg_options_check(const struct pg_options *options, char problem[INI_PROBLEM_SIZE])
{
    const struct {
        const char *key, *value;
    } replaced[] = {
        {"host", options->host},
        {"user", options->user},
        {"password", options->password},
        {"dbname", options->dbname},
        {"sslrootcert", options->sslrootcert},
        {"port", options->port != PORT_DEFAULT ? "set" : ""},
        {"sslmode", options->sslmode != PG_SSL_PREFER ? "set" : ""},
        {"target_session_attrs", options->target != PG_TARGET_ANY ? "set" : ""},
    };

    CHECK(options->conninfo != NULL);
    if (options->sessions_min > options->sessions_max) {
        (void)snprintf(problem, INI_PROBLEM_SIZE,
                       "sessions_min is %u, expected at most sessions: %u", options->sessions_min,
                       options->sessions_max);
        return ERR_INVALID;
    }
    for (size_t i = 0; options->conninfo[0] != '\0' && i < sizeof replaced / sizeof replaced[0];
         i++) {
        if (replaced[i].value[0] == '\0')
            continue;
        (void)snprintf(problem, INI_PROBLEM_SIZE,
                       "conninfo stands beside %s, expected one or the other", replaced[i].key);
        return ERR_INVALID;
    }
    return pg_parameters_parse(options, problem) ? ERR_OK : ERR_INVALID;
}

enum err pg_options_check_files(const struct pg_options *options, const char **key,
                                char problem[INI_PROBLEM_SIZE])
{
    struct pg_parameters parameters;
    bool can;

    pg_parameters_init(&parameters, options);
    can = pg_files_check(&parameters, problem);
    pg_parameters_deinit(&parameters);
    *key = options->conninfo[0] != '\0' ? "conninfo" : "sslrootcert";
    return can ? ERR_OK : ERR_IO;
}
