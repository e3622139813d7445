/* server/settings.c - lists every room's table, and checks what a table cannot say. */
#include "server/settings.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/message.h"
#include "net/ranges.h"
#include "server/cores.h"
#include "server/filter.h"
#include "server/quarantine.h"
#include "settings/override.h"
#include <limits.h>
#include <stdarg.h>
#include <unistd.h>

static const char *const level_choices[] = {"error", "warn", "info", "debug", "trace", NULL};
static const char *const workers_words[] = {"auto", NULL};
static const char *const core_choices[] = {"inherit", "on", "off", NULL};
static const char *const format_choices[] = {"text", "json", NULL};

#define MEMBER(name) offsetof(struct server_options, name)

static const struct field server_fields[] = {
    {.key = "listen",
     .type = FIELD_TEXT,
     .offset = MEMBER(listen),
     .fallback = "127.0.0.1:8080",
     .min = 1,
     .max = 1024,
     .help =
         "Addresses to listen on, separated by blanks: 127.0.0.1:8080, [::1]:8080, 0.0.0.0:80."},
    {.key = "workers",
     .type = FIELD_UINT,
     .offset = MEMBER(workers),
     .fallback = "auto",
     .min = 1,
     .max = SETTINGS_WORKERS_MAX,
     .choices = workers_words,
     .help = "Worker processes. auto: one for each processor that the host may use; a quota of "
             "processor time (cgroup cpu.max) counts."},
    {.key = "reuseport",
     .type = FIELD_BOOL,
     .offset = MEMBER(reuseport),
     .fallback = "off",
     .help =
         "on: this host may share these addresses with other hosts of the same user. off: it is "
         "refused where another host has one of them."},
    {.key = "backlog",
     .type = FIELD_UINT,
     .offset = MEMBER(backlog),
     .fallback = "4096",
     .min = 1,
     .max = 65535,
     .scope = FIELD_PER_WORKER,
     .help =
         "Connections that the kernel holds until they are accepted (net.core.somaxconn caps it)."},
    {.key = "user",
     .type = FIELD_TEXT,
     .offset = MEMBER(user),
     .fallback = "",
     .max = 64,
     .help = "Who workers become once their plugins are loaded, by name or number; for a host that "
             "is started as root. Empty: nobody else, with a warning where that is root."},
    {.key = "group",
     .type = FIELD_TEXT,
     .offset = MEMBER(group),
     .fallback = "",
     .max = 64,
     .help = "The group they take. Empty: the user's."},
    {.key = "syscall_filter",
     .type = FIELD_BOOL,
     .offset = MEMBER(syscall_filter),
     .fallback = "off",
     .help =
         "on: once their plugins are loaded, workers can no longer start, trace or signal other "
         "processes, mount, load modules, open raw sockets and the like (seccomp): such a call "
         "fails with EPERM and is logged with plugin and route."},
    {.key = "syscalls_allowed",
     .type = FIELD_TEXT,
     .offset = MEMBER(syscalls_allowed),
     .fallback = "",
     .max = 1024,
     .help = "System calls that syscall_filter lets through besides, by name, separated by blanks: "
             "io_uring_setup io_uring_enter."},
    {.key = "core_dumps",
     .type = FIELD_CHOICE,
     .offset = MEMBER(core_dumps),
     .fallback = "inherit",
     .choices = core_choices,
     .help = "Of a worker that crashes. inherit: within the limit that the host was started with; "
             "on: as large as that may be made; off: none, since a core has all secrets in it."},
    {.key = "files_max",
     .type = FIELD_UINT,
     .offset = MEMBER(files_max),
     .fallback = "auto",
     .min = 64,
     .max = 1u << 30,
     .choices = workers_words,
     .scope = FIELD_PER_WORKER,
     .help = "Files and sockets that a process may have open. auto: as many as the host may have "
             "(its hard limit)."},
    {.key = "memory_max",
     .type = FIELD_SIZE,
     .offset = MEMBER(memory_max),
     .fallback = "0",
     .min = 0,
     .max = 1ull << 46,
     .scope = FIELD_PER_WORKER,
     .help = "A worker that uses more memory (RSS) is replaced: it finishes the requests it has, "
             "and another one takes its place. 0: none is."},
    {.key = "plugin_dir",
     .type = FIELD_PATH,
     .offset = MEMBER(plugin_dir),
     .fallback = "",
     .max = PATH_MAX,
     .help = "Where plugins lie whose path has no slash. Empty: the folder `plugins` beside the "
             "binary or, where there is none, the installation's ../lib/weft/plugins."},
    {.key = "plugins_writable_by_all",
     .type = FIELD_BOOL,
     .offset = MEMBER(plugins_writable_by_all),
     .fallback = "off",
     .help = "off: a plugin is refused where everybody on the machine may write its file or the "
             "folder it lies in, since it runs with the host's rights. on: it is loaded."},
    {.key = "shared_memory",
     .type = FIELD_SIZE,
     .offset = MEMBER(shared_memory),
     .fallback = "64M",
     .min = 4096,
     .max = (uint64_t)1 << 40,
     .help = "What plugins may share between workers in all, such as counters of a rate limit; it "
             "is taken from the system as it is used. A change needs a restart."},
    {.key = "runtime_dir",
     .type = FIELD_PATH,
     .offset = MEMBER(runtime_dir),
     .fallback = "",
     .max = PATH_MAX,
     .help = "Where the host keeps its pid file and its own copies of the plugins. Empty: "
             "/run/weft if that can be "
             "written and executed from, else $XDG_RUNTIME_DIR/weft, else /tmp/weft-UID."},
    {.key = "resolver",
     .type = FIELD_TEXT,
     .offset = MEMBER(resolver),
     .fallback = "",
     .max = 1024,
     .scope = FIELD_PER_HOST,
     .help = "Name servers for the names of upstreams: 127.0.0.1:53 or [::1]:53, several with "
             "commas between them. Empty: those of /etc/resolv.conf."},
    {.key = "admin",
     .type = FIELD_TEXT,
     .offset = MEMBER(admin),
     .fallback = "",
     .max = 256,
     .scope = FIELD_PER_HOST,
     .help = "Where /livez, /readyz, /metrics (Prometheus) and /status (JSON) are served: "
             "127.0.0.1:9090, or unix:/path for a socket of mode 0660. Whoever reaches it may read "
             "all of it. Empty: nowhere."},
    {.key = "control",
     .type = FIELD_PATH,
     .offset = MEMBER(control),
     .fallback = "",
     .max = PATH_MAX,
     .help = "The socket on which the host takes commands (weft reload, status, stop, upgrade) of "
             "root and of its own user. Empty: control.sock in the host's folder below "
             "runtime_dir."},
    {.key = "start_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(start_timeout_ms),
     .fallback = "60s",
     .min = 100,
     .max = 3600000,
     .scope = FIELD_PER_WORKER,
     .help = "How long a worker may take to load its plugins before it is given up."},
    {.key = "drain_timeout",
     .type = FIELD_MS,
     .offset = MEMBER(drain_timeout_ms),
     .fallback = "30s",
     .min = 0,
     .max = 3600000,
     .scope = FIELD_PER_WORKER,
     .help =
         "How long requests under way may go on after a reload, SIGTERM or SIGINT before they are "
         "cut off."},
    {.key = "pre_stop_delay",
     .type = FIELD_MS,
     .offset = MEMBER(pre_stop_delay_ms),
     .fallback = "0",
     .min = 0,
     .max = 3600000,
     .scope = FIELD_PER_HOST,
     .help = "How long after SIGTERM or weft stop all is served as before while /readyz answers "
             "503, so that a load balancer sends clients elsewhere; then the drain begins. A "
             "second SIGTERM, SIGINT and SIGQUIT do not wait."},
    {.key = "crash_limit",
     .type = FIELD_UINT,
     .offset = MEMBER(crash_limit),
     .fallback = "3",
     .min = 0,
     .max = QUARANTINE_LIMIT_MAX,
     .help = "A route in which workers died so often within crash_window, by crash, exit() or "
             "stall_kill, is answered 503 until a reload; all else is served. 0: never."},
    {.key = "crash_window",
     .type = FIELD_MS,
     .offset = MEMBER(crash_window_ms),
     .fallback = "60s",
     .min = 1,
     .max = 86400000,
     .help = "The time within which crash_limit counts."},
    {.key = "coalesce",
     .type = FIELD_BOOL,
     .offset = MEMBER(coalesce),
     .fallback = "on",
     .help =
         "A busy worker sleeps for a quarter of a millisecond before it looks for events, so that "
         "more of them come at a time: where it uses a third of a CPU, has 8,000 requests, "
         "statements and calls a second, half of these take more than a millisecond anyway, and "
         "no transaction waits for a session. Off: it is woken for each."},
    {.key = "stall_warn",
     .type = FIELD_MS,
     .offset = MEMBER(stall_warn_ms),
     .fallback = "1s",
     .min = 0,
     .max = 3600000,
     .help =
         "A handler that keeps its worker's loop from turning for so long is logged with plugin, "
         "route, request and a backtrace of where it is. A sleep() in it comes back early by "
         "that. 0: never."},
    {.key = "stall_kill",
     .type = FIELD_MS,
     .offset = MEMBER(stall_kill_ms),
     .fallback = "30s",
     .min = 0,
     .max = 3600000,
     .help = "After so long the worker is killed with SIGABRT and replaced; the route counts as "
             "crashed. 0: never."},
    {.key = "rollback_window",
     .type = FIELD_MS,
     .offset = MEMBER(rollback_window_ms),
     .fallback = "5s",
     .min = 0,
     .max = 3600000,
     .scope = FIELD_PER_HOST,
     .help = "How long after a reload the workers before it stay at hand: where a new worker dies "
             "within this time, they take back over. 0: they end at once."},
    {.key = "fibers",
     .type = FIELD_UINT,
     .offset = MEMBER(fibers_max),
     .fallback = "16384",
     .min = 1,
     .max = 1048576,
     .scope = FIELD_PER_WORKER,
     .help = "Handlers that may wait at once; beyond it a request is answered 503."},
    {.key = "fiber_stack",
     .type = FIELD_SIZE,
     .offset = MEMBER(fiber_stack),
     .fallback = "128k",
     .min = 16384,
     .max = 64u << 20,
     .help = "Stack of a handler. Address space only: a page costs memory once it is touched."},
    {.key = "log_level",
     .type = FIELD_CHOICE,
     .offset = MEMBER(log_level),
     .fallback = "info",
     .choices = level_choices,
     .help = "The least important level that is written to the error log."},
    {.key = "log_format",
     .type = FIELD_CHOICE,
     .offset = MEMBER(log_format),
     .fallback = "text",
     .choices = format_choices,
     .help = "Of both logs. text: key=value; json: one object a line."},
    {.key = "error_log",
     .type = FIELD_TEXT,
     .offset = MEMBER(error_log),
     .fallback = "stderr",
     .min = 1,
     .max = PATH_MAX,
     .help = "stderr, or a file."},
    {.key = "access_log",
     .type = FIELD_TEXT,
     .offset = MEMBER(access_log),
     .fallback = "stderr",
     .min = 1,
     .max = PATH_MAX,
     .help = "One line a request. stderr, off, or a file."},
};

static const struct field_table server_table = {
    .kind = "server",
    .example = "[server]",
    .help = "The process and its HTTP side.",
    .fields = server_fields,
    .count = FIELD_COUNT(server_fields),
};

/* "server.ini:12: ", or "-o server.listen: ", and what went wrong there. */
static enum err refuse(const struct settings *settings, uint32_t line, char *problem,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

static enum err refuse(const struct settings *settings, uint32_t line, char *problem,
                       const char *format, ...)
{
    char place[INI_PLACE_SIZE];
    va_list args;

    int used = snprintf(problem, INI_PROBLEM_SIZE, "%s: ", ini_place(settings->file, line, place));
    if (used < 0 || used >= INI_PROBLEM_SIZE)
        return ERR_SYNTAX;
    va_start(args, format);
    vsnprintf(problem + used, INI_PROBLEM_SIZE - (size_t)used, format, args);
    va_end(args);
    return ERR_SYNTAX;
}

static enum err refuse_listen(const struct settings *settings, char *problem, struct span text)
{
    struct ini_entry *entry = ini_entry(ini_section(settings->file, "server", ""), "listen");

    return refuse(settings, entry != NULL ? entry->line : 0, problem,
                  "listen: \"%.*s\", expected 1 to %d addresses with their ports, such as "
                  "127.0.0.1:8080 or [::1]:80",
                  SPAN_ARG(text), SETTINGS_LISTEN_MAX);
}

/* The path of a Unix socket is relative to the ini's folder, like all paths. */
static bool parse_address(const struct settings *settings, struct span text, struct addr *addr)
{
    static const char prefix[] = "unix:";
    size_t len = sizeof prefix - 1;

    if (text.len < len || memcmp(text.ptr, prefix, len) != 0)
        return addr_parse(text, addr);
    char *given = mem_copy((struct span){text.ptr + len, text.len - len});
    char *path = ini_path(settings->file, given);
    char *whole = mem_format("%s%s", prefix, path);
    bool is_good = addr_parse(span_of(whole), addr);
    mem_free(given);
    mem_free(path);
    mem_free(whole);
    return is_good;
}

static enum err parse_listen(struct settings *settings, char *problem)
{
    const char *at = settings->server.listen;

    for (;;) {
        at += strspn(at, " \t");
        struct span text = {at, strcspn(at, " \t")};
        if (text.len == 0)
            break;
        struct addr *addr = &settings->listen[settings->listen_count];
        if (settings->listen_count == SETTINGS_LISTEN_MAX || !parse_address(settings, text, addr) ||
            (addr->storage.ss_family != AF_UNIX && addr_port(addr) == 0))
            return refuse_listen(settings, problem, text);
        settings->listen_count++;
        at += text.len;
    }
    return settings->listen_count > 0 ? ERR_OK : refuse_listen(settings, problem, SPAN(""));
}

/* The same machine and port, or any machine's address with that port? */
static bool is_shared(const struct addr *a, const struct addr *b)
{
    char host_a[ADDR_TEXT_SIZE], host_b[ADDR_TEXT_SIZE];

    if (a->storage.ss_family == AF_UNIX || b->storage.ss_family == AF_UNIX)
        return addr_equal(a, b);
    (void)addr_format_host(a, host_a);
    (void)addr_format_host(b, host_b);
    return addr_port(a) == addr_port(b) &&
           (strcmp(host_a, host_b) == 0 || strcmp(host_a, "0.0.0.0") == 0 ||
            strcmp(host_b, "0.0.0.0") == 0 || strcmp(host_a, "::") == 0 ||
            strcmp(host_b, "::") == 0);
}

/* What it shows is not for clients. */
static enum err parse_admin(struct settings *settings, char *problem)
{
    struct ini_entry *entry = ini_entry(ini_section(settings->file, "server", ""), "admin");
    const char *text = settings->server.admin;
    uint32_t line = entry != NULL ? entry->line : 0;

    if (text[0] == '\0')
        return ERR_OK;
    if (!parse_address(settings, span_of(text), &settings->admin) ||
        (settings->admin.storage.ss_family != AF_UNIX && addr_port(&settings->admin) == 0))
        return refuse(settings, line, problem,
                      "admin: \"%.100s\", expected an address with its port, such as "
                      "127.0.0.1:9090, or unix:/path",
                      text);
    for (uint32_t i = 0; i < settings->listen_count; i++)
        if (is_shared(&settings->admin, &settings->listen[i]))
            return refuse(settings, line, problem,
                          "admin: \"%.100s\", expected an address that `listen` has not", text);
    return ERR_OK;
}

static uint32_t line_of(const struct settings *settings, const char *key)
{
    struct ini_entry *entry = ini_entry(ini_section(settings->file, "server", ""), key);

    return entry != NULL ? entry->line : 0;
}

static enum err check_rights(struct settings *settings, char *problem)
{
    char what[RIGHTS_PROBLEM_SIZE];
    const char *at = settings->server.syscalls_allowed, *key;

    if (rights_find(&settings->server, &settings->rights, &key, what) != ERR_OK)
        return refuse(settings, line_of(settings, key), problem, "%s: %s", key, what);
    while (*(at += strspn(at, " \t")) != '\0') {
        struct span name = {at, strcspn(at, " \t")};

        if (!filter_knows(name))
            return refuse(settings, line_of(settings, "syscalls_allowed"), problem,
                          "syscalls_allowed: \"%.*s\", expected the name of a system call",
                          SPAN_ARG(name));
        at += name.len;
    }
    return ERR_OK;
}

static enum err check_proxies(const struct settings *settings, char *problem)
{
    const char *name = settings->http.request_id;
    struct addr_ranges ranges;
    struct span bad;

    if (!addr_ranges_parse(span_of(settings->http.trusted_proxies), &ranges, &bad))
        return refuse(settings, line_of(settings, "trusted_proxies"), problem,
                      "trusted_proxies: \"%.*s\", expected at most %d addresses and ranges, such "
                      "as 10.0.0.0/8, ::1 or unix",
                      SPAN_ARG(bad), (int)RANGES_MAX);
    if (name[0] == '\0' || http_is_token(span_of(name)))
        return ERR_OK;
    return refuse(settings, line_of(settings, "request_id"), problem,
                  "request_id: \"%.60s\", expected the name of a header field", name);
}

static enum err check_resolver(const struct settings *settings, char *problem)
{
    const char *at = settings->server.resolver;
    struct ini_entry *entry = ini_entry(ini_section(settings->file, "server", ""), "resolver");
    struct addr addr;

    while (*at != '\0') {
        struct span text = {at, strcspn(at, ",")};

        if (!addr_parse(text, &addr) || addr.storage.ss_family == AF_UNIX || addr_port(&addr) == 0)
            return refuse(settings, entry != NULL ? entry->line : 0, problem,
                          "resolver: \"%.*s\", expected addresses of name servers with their "
                          "ports, such as 127.0.0.1:53 or [::1]:53",
                          SPAN_ARG(text));
        at += text.len + (at[text.len] == ',' ? 1 : 0);
    }
    return ERR_OK;
}

static uint32_t count_workers(const struct settings *settings)
{
    uint32_t cores = cores_available();

    if (settings->server.workers != 0)
        return settings->server.workers;
    return cores < SETTINGS_WORKERS_MAX ? cores : SETTINGS_WORKERS_MAX;
}

/* plugin_dir is by default the folder `plugins` beside the binary, as it is built; else where
 * plugins are installed, seen from the binary, wherever all of it was moved to. */
static void default_plugin_dir(struct settings *settings)
{
    char exe[PATH_MAX], *path;
    ssize_t len;

    if (settings->server.plugin_dir[0] != '\0')
        return;
    len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    CHECK(len > 0);
    exe[len] = '\0';
    *strrchr(exe, '/') = '\0';
    path = mem_format("%s/plugins", exe);
    if (access(path, F_OK) != 0) {
        mem_free(path);
        path = mem_format("%s/" WEFT_PLUGINS_FROM_PROGRAM, exe);
    }
    mem_free(settings->server.plugin_dir);
    settings->server.plugin_dir = path;
}

/* A log's file relative to the ini's folder; its words stay words. */
static void resolve_log(const struct settings *settings, char **path)
{
    if (strcmp(*path, "stderr") == 0 || strcmp(*path, "off") == 0)
        return;
    char *absolute = ini_path(settings->file, *path);
    mem_free(*path);
    *path = absolute;
}

static enum err load_server(struct settings *settings, char *problem)
{
    struct ini_section *section = ini_section(settings->file, "server", "");
    enum err err = field_bind(&server_table, settings->file, section, &settings->server, problem);

    if (err == ERR_OK)
        err = field_bind(&http_option_table, settings->file, section, &settings->http, problem);
    if (err == ERR_OK)
        err = parse_listen(settings, problem);
    if (err == ERR_OK)
        err = parse_admin(settings, problem);
    if (err == ERR_OK)
        err = check_rights(settings, problem);
    if (err == ERR_OK)
        err = check_resolver(settings, problem);
    if (err == ERR_OK)
        err = check_proxies(settings, problem);
    if (err != ERR_OK)
        return err;
    settings->workers = count_workers(settings);
    default_plugin_dir(settings);
    resolve_log(settings, &settings->server.error_log);
    resolve_log(settings, &settings->server.access_log);
    return ERR_OK;
}

static enum err check_files_of(const struct settings *settings, const struct settings_pg *pg,
                               char *problem)
{
    char what[INI_PROBLEM_SIZE];
    const char *key;
    enum err err = pg_options_check_files(&pg->options, &key, what);

    if (err == ERR_OK)
        return ERR_OK;
    struct ini_section *section = ini_section(settings->file, "pg", pg->name);
    struct ini_entry *entry = ini_entry(section, key);
    return refuse(settings, entry != NULL ? entry->line : section->line, problem, "[pg.%s]: %s%s",
                  pg->name, strcmp(key, "conninfo") == 0 ? "conninfo: " : "", what);
}

enum err settings_check_files(const struct settings *settings, char problem[INI_PROBLEM_SIZE])
{
    enum err err = ERR_OK;

    for (uint32_t i = 0; i < settings->pg_count && err == ERR_OK; i++)
        err = check_files_of(settings, &settings->pgs[i], problem);
    return err;
}

static enum err load_pg(struct settings *settings, struct ini_section *section, char *problem)
{
    char what[INI_PROBLEM_SIZE];

    settings->pgs =
        mem_realloc(settings->pgs, (settings->pg_count + 1) * sizeof(struct settings_pg));
    struct settings_pg *pg = &settings->pgs[settings->pg_count++];
    *pg = (struct settings_pg){.name = section->name};
    enum err err = field_bind(&pg_option_table, settings->file, section, &pg->options, problem);
    if (err != ERR_OK)
        return err;
    err = pg_options_check(&pg->options, what);
    if (err != ERR_OK) {
        struct ini_entry *conninfo = ini_entry(section, "conninfo");
        err = refuse(settings, conninfo != NULL ? conninfo->line : section->line, problem,
                     "[pg.%s]: %s", section->name, what);
    }
    return err == ERR_OK ? check_files_of(settings, pg, problem) : err;
}

static enum err load_upstream(struct settings *settings, struct ini_section *section, char *problem)
{
    char what[INI_PROBLEM_SIZE];
    const char *key;

    settings->upstreams = mem_realloc(settings->upstreams, (settings->upstream_count + 1) *
                                                               sizeof(struct settings_upstream));
    struct settings_upstream *upstream = &settings->upstreams[settings->upstream_count++];
    *upstream = (struct settings_upstream){.name = section->name};
    enum err err =
        field_bind(&upstream_option_table, settings->file, section, &upstream->options, problem);
    if (err != ERR_OK)
        return err;
    err = upstream_options_check(&upstream->options, &key, what);
    if (err != ERR_OK) {
        struct ini_entry *entry = ini_entry(section, key);
        err = refuse(settings, entry != NULL ? entry->line : section->line, problem, "%s", what);
    }
    return err;
}

static enum err load_section(struct settings *settings, struct ini_section *section, char *problem)
{
    bool is_named = section->name[0] != '\0';

    if (strcmp(section->kind, "server") == 0 && !is_named)
        return ERR_OK;
    if (is_named && strcmp(section->kind, "plugin") == 0)
        return ERR_OK;
    if (is_named && strcmp(section->kind, "pg") == 0)
        return load_pg(settings, section, problem);
    if (is_named && strcmp(section->kind, "upstream") == 0)
        return load_upstream(settings, section, problem);
    return refuse(settings, section->line, problem,
                  "[%s%s%s]: unknown section, expected [server], [pg.NAME], [upstream.NAME] or "
                  "[plugin.NAME]",
                  section->kind, is_named ? "." : "", section->name);
}

/* Reads what `made`, which has its file, says; it is freed where that fails. */
static enum err bind_all(struct settings *made, struct settings **settings, char *problem)
{
    enum err err = load_server(made, problem);

    for (struct ini_section *at = made->file->sections; at != NULL && err == ERR_OK; at = at->next)
        err = load_section(made, at, problem);
    if (err == ERR_OK)
        *settings = made;
    else
        settings_free(made);
    return err;
}

enum err settings_load(const char *path, const char *const *overrides, struct settings **settings,
                       char problem[INI_PROBLEM_SIZE])
{
    struct settings *made = mem_alloc(sizeof *made);
    enum err err = ini_read(path, overrides, &made->file, problem);

    if (err == ERR_OK)
        return bind_all(made, settings, problem);
    settings_free(made);
    return err;
}

/* "plugin.books.path=/path/of/books.so"; on the heap. What no section can be named is a "_". */
static char *plugin_setting(const char *path)
{
    const char *base = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    char name[32], cwd[PATH_MAX] = "";
    struct buf text;

    snprintf(name, sizeof name, "%.*s", (int)strcspn(base, "."), base);
    for (char *at = name; *at != '\0'; at++)
        if (*at == '.' || !ini_is_name((struct span){at, 1}))
            *at = '_';
    buf_init(&text, NULL);
    if (path[0] != '/' && getcwd(cwd, sizeof cwd) == NULL)
        cwd[0] = '\0';
    buf_format(&text, "plugin.%s.path=%s%s", name[0] != '\0' ? name : "_", cwd,
               path[0] != '/' ? "/" : "");
    for (const char *at = path; *at != '\0'; at++)
        buf_format(&text, *at == '$' ? "$%c" : "%c", *at);
    char *setting = mem_copy(buf_span(&text));
    buf_release(&text);
    return setting;
}

enum err settings_for_plugin(const char *path, const char *const *overrides,
                             struct settings **settings, char problem[INI_PROBLEM_SIZE])
{
    struct settings *made = mem_alloc(sizeof *made);
    enum err err = ini_parse_text(path, "", &made->file, problem);
    char *setting = plugin_setting(path);

    CHECK(err == ERR_OK);
    made->is_of_one_plugin = true;
    err = ini_override(made->file, setting, problem);
    mem_free(setting);
    if (err == ERR_OK) {
        made->file->sections->line = 0;
        made->file->sections->entries->line = 0;
    }
    while (err == ERR_OK && overrides != NULL && *overrides != NULL)
        err = ini_override(made->file, *overrides++, problem);
    if (err == ERR_OK)
        return bind_all(made, settings, problem);
    settings_free(made);
    return err;
}

void settings_free(struct settings *settings)
{
    if (settings == NULL)
        return;
    for (uint32_t i = 0; i < settings->pg_count; i++)
        field_clear(&pg_option_table, &settings->pgs[i].options);
    for (uint32_t i = 0; i < settings->upstream_count; i++)
        field_clear(&upstream_option_table, &settings->upstreams[i].options);
    mem_free(settings->pgs);
    mem_free(settings->upstreams);
    field_clear(&server_table, &settings->server);
    field_clear(&http_option_table, &settings->http);
    ini_free(settings->file);
    mem_free(settings);
}

struct ini_section *settings_next_plugin(const struct settings *settings,
                                         const struct ini_section *section)
{
    struct ini_section *at = section != NULL ? section->next : settings->file->sections;

    while (at != NULL && strcmp(at->kind, "plugin") != 0)
        at = at->next;
    return at;
}

/* The [server] of the manual: the process's keys, then HTTP's, under one header. */
static void print_server(FILE *out)
{
    struct field all[64];
    uint32_t count = server_table.count + http_option_table.count;

    CHECK(count <= FIELD_COUNT(all));
    memcpy(all, server_table.fields, server_table.count * sizeof *all);
    memcpy(all + server_table.count, http_option_table.fields,
           http_option_table.count * sizeof *all);
    field_print(&(struct field_table){.kind = server_table.kind,
                                      .example = server_table.example,
                                      .help = server_table.help,
                                      .fields = all,
                                      .count = count},
                out);
}

void settings_print_defaults(FILE *out)
{
    const struct field_table *const named[] = {&pg_option_table, &upstream_option_table,
                                               &plugin_option_table};

    fputs("# server.ini - every key of weft, commented out at its default. `weft defaults` prints "
          "this file.\n"
          "#\n"
          "# Paths are relative to this file's folder. ${VAR} and ${VAR:-default} take a value "
          "from the environment,\n"
          "# ${file:/path} all of a file but the newline at its end, which is for secrets; $$ is a "
          "dollar. An indented\n"
          "# line continues the value before it. Durations: 250ms, 10s, 5m, 2h. Sizes: 512, 64k, "
          "10m. An unknown key stops\n"
          "# the start: nothing is ignored. weft -o section.key=value sets a key on the command "
          "line instead.\n\n",
          out);
    print_server(out);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        fputc('\n', out);
        field_print(named[i], out);
    }
}
