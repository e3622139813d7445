/* pg/parameters.c - what libpq is told of a server. */
#include "pg/parameters.h"
#include "base/check.h"
#include "base/mem.h"
#include "pg/hosts.h"
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Paths of files that do not exist: libpq then looks for no other. */
static const char no_file[] = "/dev/null/none";
static const char system_authorities[] = "/etc/ssl/certs/ca-certificates.crt";

static const char *find(const struct pg_parameters *parameters, const char *keyword)
{
    for (uint32_t i = 0; i < parameters->count; i++) {
        if (strcmp(parameters->keywords[i], keyword) == 0)
            return parameters->values[i];
    }
    return NULL;
}

static void add(struct pg_parameters *parameters, const char *keyword, const char *value)
{
    CHECK(parameters->count < PG_PARAMETERS_MAX);
    if (value[0] == '\0')
        return;
    parameters->keywords[parameters->count] = mem_copy(span_of(keyword));
    parameters->values[parameters->count++] = mem_copy(span_of(value));
}

/* Unless the user's own conninfo says something else. */
static void add_default(struct pg_parameters *parameters, const char *keyword, const char *value)
{
    if (find(parameters, keyword) == NULL)
        add(parameters, keyword, value);
}

static void remove_parameter(struct pg_parameters *parameters, const char *keyword)
{
    for (uint32_t i = 0; i < parameters->count; i++) {
        if (strcmp(parameters->keywords[i], keyword) != 0)
            continue;
        mem_free(parameters->keywords[i]);
        mem_free(parameters->values[i]);
        parameters->count--;
        parameters->keywords[i] = parameters->keywords[parameters->count];
        parameters->values[i] = parameters->values[parameters->count];
        parameters->keywords[parameters->count] = parameters->values[parameters->count] = NULL;
        return;
    }
}

void pg_parameters_set(struct pg_parameters *parameters, const char *keyword, const char *value)
{
    remove_parameter(parameters, keyword);
    add(parameters, keyword, value);
}

void pg_parameters_deinit(struct pg_parameters *parameters)
{
    for (uint32_t i = 0; i < parameters->count; i++) {
        mem_free(parameters->keywords[i]);
        mem_free(parameters->values[i]);
    }
    *parameters = (struct pg_parameters){0};
}

static void add_conninfo(struct pg_parameters *parameters, const char *conninfo)
{
    char *problem = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &problem);

    CHECK(options != NULL); /* pg_options_check() */
    for (PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val != NULL)
            add(parameters, option->keyword, option->val);
    }
    PQconninfoFree(options);
}

static void add_options(struct pg_parameters *parameters, const struct pg_options *options)
{
    char port[16];

    (void)snprintf(port, sizeof port, "%u", options->port);
    add(parameters, "host", options->host);
    add(parameters, "port", port);
    add(parameters, "user", options->user);
    add(parameters, "password", options->password);
    add(parameters, "dbname", options->dbname);
    add(parameters, "sslmode", pg_option_sslmode(options->sslmode));
    add(parameters, "sslrootcert", options->sslrootcert);
    add(parameters, "target_session_attrs", pg_option_target(options->target));
}

static void collect(struct pg_parameters *parameters, const struct pg_options *options)
{
    if (options->conninfo[0] != '\0')
        add_conninfo(parameters, options->conninfo);
    else
        add_options(parameters, options);
}

/* A folder of them alone is complete, too: libpq looks for no file beside it. Where it is given a
 * file that cannot be read as well, it loads neither, and takes every certificate for valid. */
static void add_no_revocations(struct pg_parameters *parameters)
{
    if (find(parameters, "sslcrldir") == NULL)
        add_default(parameters, "sslcrl", no_file);
}

/* What is not given here, libpq takes from the environment, or from files in somebody's home. */
static void add_defaults(struct pg_parameters *parameters)
{
    const char *sslmode = find(parameters, "sslmode");
    bool verifies = sslmode != NULL && strncmp(sslmode, "verify", 6) == 0;

    add_default(parameters, "sslmode", "prefer");
    add_default(parameters, "sslrootcert", verifies ? system_authorities : no_file);
    add_default(parameters, "sslcert", no_file);
    add_default(parameters, "sslkey", no_file);
    add_no_revocations(parameters);
    add_default(parameters, "passfile", no_file);
    add_default(parameters, "gssencmode", "disable");
    add_default(parameters, "channel_binding", "prefer");
    add_default(parameters, "target_session_attrs", "any");
    add_default(parameters, "application_name", "weft");
    add_default(parameters, "keepalives", "1");
    add_default(parameters, "keepalives_idle", "30");
    add_default(parameters, "keepalives_interval", "10");
    add_default(parameters, "keepalives_count", "3");
    add_default(parameters, "tcp_user_timeout", "30000");
    pg_parameters_set(parameters, "client_encoding", "UTF8");
}

/* Settings of a session that is our own for as long as it lives. */
static void add_session_settings(struct pg_parameters *parameters, const struct pg_options *options)
{
    const char *theirs = find(parameters, "options");
    char *text = mem_format("-c DateStyle=ISO%s%s -c statement_timeout=%u "
                            "-c idle_in_transaction_session_timeout=%u",
                            theirs != NULL ? " " : "", theirs != NULL ? theirs : "",
                            options->statement_timeout_ms, options->idle_transaction_timeout_ms);

    pg_parameters_set(parameters, "options", text);
    mem_free(text);
}

void pg_parameters_init(struct pg_parameters *parameters, const struct pg_options *options)
{
    *parameters = (struct pg_parameters){.count = 0};
    collect(parameters, options);
    add_defaults(parameters);
    if (options->is_prepared)
        add_session_settings(parameters, options);
}

const char *pg_parameters_file(const struct pg_parameters *parameters, const char *keyword)
{
    const char *path = find(parameters, keyword);

    if (path == NULL || strcmp(path, no_file) == 0 || strcmp(path, system_authorities) == 0)
        return NULL;
    /* Libpq 16 knows one word that is no path. */
    return strcmp(keyword, "sslrootcert") == 0 && strcmp(path, "system") == 0 ? NULL : path;
}

void pg_parameters_be_like(struct pg_parameters *parameters, const struct pg_conn *conn)
{
    pg_parameters_set(parameters, "host", PQhost(conn));
    pg_parameters_set(parameters, "hostaddr", PQhostaddr(conn));
    pg_parameters_set(parameters, "port", PQport(conn));
    pg_parameters_set(parameters, "target_session_attrs", "any");
}

bool pg_parameters_hosts(const struct pg_parameters *parameters, struct pg_hosts *hosts,
                         char problem[INI_PROBLEM_SIZE])
{
    return pg_hosts_init(hosts, find(parameters, "host"), find(parameters, "hostaddr"),
                         find(parameters, "port"), problem);
}

static bool can_split(const struct pg_options *options, char problem[INI_PROBLEM_SIZE])
{
    struct pg_parameters parameters = {.count = 0};
    struct pg_hosts hosts = {.count = 0};
    bool can;

    collect(&parameters, options);
    can = pg_parameters_hosts(&parameters, &hosts, problem);
    pg_hosts_deinit(&hosts);
    pg_parameters_deinit(&parameters);
    return can;
}

/* How the server reads the names of settings: either case, "-" as "_". */
static bool is_name(const char *text, const char *name)
{
    for (; *name != '\0'; text++, name++) {
        if (!span_is_nocase(text, name, 1) && !(*text == '-' && *name == '_'))
            return false;
    }
    return *text == '=';
}

/* Does the text of `options` set it: "-c name=...", "-cname=..." or "--name=..."? */
static bool sets(const char *text, const char *name)
{
    for (const char *at = text; *at != '\0'; at++) {
        bool is_glued = at - text >= 2 && memcmp(at - 2, "-c", 2) == 0;

        if ((at == text || is_glued || strchr("- \t\r\n", at[-1]) != NULL) && is_name(at, name))
            return true;
    }
    return false;
}

/* Sessions of our own get these from the section's settings. */
static bool leaves_limits(const char *options, char problem[INI_PROBLEM_SIZE])
{
    static const struct {
        const char *name, *key;
    } limits[] = {{"statement_timeout", "statement_timeout"},
                  {"idle_in_transaction_session_timeout", "idle_transaction_timeout"}};

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (!sets(options, limits[i].name))
            continue;
        (void)snprintf(problem, INI_PROBLEM_SIZE,
                       "conninfo: options with %s, expected %s of this section", limits[i].name,
                       limits[i].key);
        return false;
    }
    return true;
}

static bool is_utf8(struct span encoding)
{
    return span_equal_nocase(encoding, SPAN("UTF8")) || span_equal_nocase(encoding, SPAN("UTF-8"));
}

/* What libpq knows and has no effect here must not look as if it had. Of a service's file only that
 * would count for which there is no default here, so nothing of TLS. */
static bool has_effect(const char *keyword, const char *value, char problem[INI_PROBLEM_SIZE])
{
    static const struct {
        const char *keyword, *instead;
    } others[] = {
        {"service", "no service: the keys of its file themselves"},
        {"servicefile", "no service: the keys of its file themselves"},
        {"connect_timeout", "connect_timeout of this section"},
        {"fallback_application_name", "application_name"},
        {"load_balance_hosts", "target_session_attrs, which spreads sessions where it can"},
    };

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(keyword, others[i].keyword) != 0)
            continue;
        (void)snprintf(problem, INI_PROBLEM_SIZE, "conninfo: %s, expected %s", keyword,
                       others[i].instead);
        return false;
    }
    if (strcmp(keyword, "client_encoding") != 0 || is_utf8(span_of(value)))
        return true;
    (void)snprintf(problem, INI_PROBLEM_SIZE,
                   "conninfo: client_encoding = %s, expected UTF8, as it always is", value);
    return false;
}

static bool have_effect(const PQconninfoOption *parsed, bool is_prepared,
                        char problem[INI_PROBLEM_SIZE])
{
    for (const PQconninfoOption *option = parsed; option->keyword != NULL; option++) {
        if (option->val == NULL)
            continue;
        if (!has_effect(option->keyword, option->val, problem))
            return false;
        if (is_prepared && strcmp(option->keyword, "options") == 0 &&
            !leaves_limits(option->val, problem))
            return false;
    }
    return true;
}

bool pg_parameters_parse(const struct pg_options *options, char problem[INI_PROBLEM_SIZE])
{
    bool is_good;
    char *text = NULL;
    PQconninfoOption *parsed = PQconninfoParse(options->conninfo, &text);

    if (parsed == NULL) {
        (void)snprintf(problem, INI_PROBLEM_SIZE, "conninfo: %.*s",
                       (int)strcspn(text != NULL ? text : "", "\n"), text != NULL ? text : "");
        PQfreemem(text);
        return false;
    }
    is_good = have_effect(parsed, options->is_prepared, problem);
    PQconninfoFree(parsed);
    return is_good && can_split(options, problem);
}

bool pg_parameters_is_target(const struct pg_parameters *parameters, const char *target)
{
    const char *theirs = find(parameters, "target_session_attrs");

    return theirs != NULL && strcmp(theirs, target) == 0;
}

struct pg_aim pg_parameters_aim(const struct pg_options *options)
{
    struct pg_parameters parameters = {.count = 0};
    struct pg_aim aim;

    collect(&parameters, options);
    aim.wants_primary = pg_parameters_is_target(&parameters, "primary");
    aim.wants_writer = aim.wants_primary || pg_parameters_is_target(&parameters, "read-write");
    aim.is_spread = pg_parameters_is_target(&parameters, "read-only") ||
                    pg_parameters_is_target(&parameters, "standby") ||
                    pg_parameters_is_target(&parameters, "prefer-standby");
    pg_parameters_deinit(&parameters);
    return aim;
}

void pg_forget_environment(void)
{
    static const char *const others[] = {"PGDATESTYLE",  "PGTZ",          "PGGEQO",
                                         "PGREQUIRESSL", "PGSERVICEFILE", "PGSYSCONFDIR"};
    PQconninfoOption *options = PQconndefaults();

    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++) {
        if (option->envvar != NULL)
            (void)unsetenv(option->envvar);
    }
    PQconninfoFree(options);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        (void)unsetenv(others[i]);
}
