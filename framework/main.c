/* main.c - the life of the process on one page. */
#include "base/mem.h"
#include "server/ask.h"
#include "server/error_log.h"
#include "server/fetch.h"
#include "server/master.h"
#include "server/predecessor.h"
#include "server/settings.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "weft " WEFT_VERSION " - a host for web handlers written in C\n"
    "\n"
    "  weft -c FILE          run the host in the foreground with the settings in FILE\n"
    "  weft check -c FILE    load settings and plugins, list the routes, and exit 0;\n"
    "                        or say what is wrong\n"
    "  weft check FILE.so    load a plugin without a server: its name, version and\n"
    "                        ABI, what settings it reads, its pools, statements,\n"
    "                        upstreams and routes, and exit 0; or say what is wrong\n"
    "  weft reload -c FILE   have the host that runs with FILE read settings and\n"
    "                        plugins anew; exit 0 when they serve, 1 with the reason\n"
    "                        when nothing has changed\n"
    "  weft upgrade -c FILE  have a new master take over from the host that runs with\n"
    "                        FILE, of the program as it is installed now; exit codes\n"
    "                        as of reload\n"
    "  weft stop -c FILE     end the host that runs with FILE, when its requests are\n"
    "                        done; --now: at once\n"
    "  weft status -c FILE   what the host that runs with FILE does: workers, routes,\n"
    "                        pools, upstreams; --requests: what is under way and what\n"
    "                        it waits for; --json: as JSON\n"
    "  weft fetch URL        ask a server, once or again and again; see its own --help\n"
    "  weft defaults         print every setting at its default, with what it is for\n"
    "  weft --version\n"
    "  weft --help\n"
    "\n"
    "  -o section.key=value  a setting in place of the file's; again and again:\n"
    "                        -o server.listen=127.0.0.1:80 -o plugin.hello.greeting=hi\n"
    "\n"
    "SIGTERM and SIGINT finish the requests under way and exit 0, SIGQUIT does not\n"
    "wait for them; SIGHUP reloads, SIGUSR2 upgrades, SIGUSR1 reopens the logs.\n";

struct arguments {
    const char *command;  /* "run", "check", "reload", ... */
    const char *settings; /* the file of -c, or NULL */
    const char *plugin;   /* the file that `check` is about, or NULL: -c */
    bool is_now;          /* --now */
    bool is_json;         /* --json */
    bool wants_requests;  /* --requests */
    const char **options; /* each -o, NULL at their end; on the heap */
    size_t option_count;  /* of them */
    char *const *argv;    /* a copy of main()'s */
};

/* Takes one of getopt()'s. False: nothing is left to do, and `code` is the exit code. */
static bool take_option(struct arguments *arguments, int option, int *code)
{
    switch (option) {
    case 'c':
        arguments->settings = optarg;
        return true;
    case 'o':
        arguments->options[arguments->option_count++] = optarg;
        return true;
    case 'n':
        arguments->is_now = true;
        return true;
    case 'j':
        arguments->is_json = true;
        return true;
    case 'r':
        arguments->wants_requests = true;
        return true;
    case 'h':
        fputs(usage, stdout);
        return false;
    case 'V':
        puts("weft " WEFT_VERSION);
        return false;
    default:
        *code = 2;
        return false;
    }
}

/* False: nothing is left to do, and `code` is the exit code. */
static bool parse_arguments(int argc, char **argv, struct arguments *arguments, int *code)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"option", required_argument, NULL, 'o'},
        {"json", no_argument, NULL, 'j'},         {"requests", no_argument, NULL, 'r'},
        {"now", no_argument, NULL, 'n'},          {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    int option;

    *arguments = (struct arguments){
        .command = "run",
        .options = mem_calloc((size_t)argc + 1, sizeof *arguments->options),
        .argv = argv,
    };
    *code = 0;
    while ((option = getopt_long(argc, argv, "c:o:hV", options, NULL)) != -1)
        if (!take_option(arguments, option, code))
            return false;
    if (optind < argc)
        arguments->command = argv[optind++];
    if (optind < argc && strcmp(arguments->command, "check") == 0 && arguments->settings == NULL)
        arguments->plugin = argv[optind++];
    if (optind == argc)
        return true;
    fprintf(stderr, "weft: %s: unexpected argument (see weft --help)\n", argv[optind]);
    *code = 2;
    return false;
}

/* Runs the host; where its log is a file, who started it is told at least that it failed. */
static int run(struct settings *settings, const struct arguments *arguments)
{
    int terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    char *log = mem_copy(span_of(settings->server.error_log));
    int code = 1;

    if (error_log_open(settings) == ERR_OK) {
        code = master_run(settings, arguments->settings, arguments->options, arguments->argv);
        if (code != 0 && terminal >= 0 && strcmp(log, "stderr") != 0)
            dprintf(terminal, "weft: failed; %s says why\n", log);
    } else {
        fprintf(stderr, "weft: error_log: %s: %s\n", log, strerror(errno));
        predecessor_refuse("error_log cannot be opened");
        settings_free(settings);
    }
    close(terminal);
    mem_free(log);
    return code;
}

static int check(struct settings *settings, const struct arguments *arguments)
{
    int code = master_check(settings);

    (void)arguments;
    settings_free(settings);
    return code;
}

/* Where a standard stream is closed, a socket or the pid file would get its number, and the log's
 * lines. */
static void fill_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
}

static int which_settings(void)
{
    fputs("weft: which settings? weft -c server.ini (see weft --help)\n", stderr);
    return 2;
}

/* A command for the host that runs. */
static int ask(const struct arguments *arguments, const char *line)
{
    if (arguments->settings == NULL)
        return which_settings();
    return ask_host(arguments->settings, arguments->options, line);
}

static int ask_status(const struct arguments *arguments)
{
    char line[64];

    snprintf(line, sizeof line, "status%s%s", arguments->is_json ? " --json" : "",
             arguments->wants_requests ? " --requests" : "");
    return ask(arguments, line);
}

/* `verb` takes over the settings. */
static int with_settings(const struct arguments *arguments,
                         int (*verb)(struct settings *settings, const struct arguments *arguments))
{
    char problem[INI_PROBLEM_SIZE];
    struct settings *settings;
    enum err err;

    if (arguments->settings == NULL && arguments->plugin == NULL)
        return which_settings();
    err = arguments->plugin != NULL
              ? settings_for_plugin(arguments->plugin, arguments->options, &settings, problem)
              : settings_load(arguments->settings, arguments->options, &settings, problem);
    if (err != ERR_OK) {
        fprintf(stderr, "weft: %s\n", problem);
        predecessor_refuse(problem);
        return 1;
    }
    return verb(settings, arguments);
}

static int obey(const struct arguments *arguments)
{
    if (strcmp(arguments->command, "run") == 0)
        return with_settings(arguments, run);
    if (strcmp(arguments->command, "check") == 0)
        return with_settings(arguments, check);
    if (strcmp(arguments->command, "reload") == 0)
        return ask(arguments, "reload");
    if (strcmp(arguments->command, "upgrade") == 0)
        return ask(arguments, "upgrade");
    if (strcmp(arguments->command, "stop") == 0)
        return ask(arguments, arguments->is_now ? "stop now" : "stop");
    if (strcmp(arguments->command, "status") == 0)
        return ask_status(arguments);
    if (strcmp(arguments->command, "defaults") == 0) {
        settings_print_defaults(stdout);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    fprintf(stderr, "weft: %s: no such command (see weft --help)\n", arguments->command);
    return 2;
}

/* Everybody on the machine may read a process's command line: of the settings in ours only those of
 * [server] stay, where there are no secrets. `copy` has the same words, which getopt() has put in
 * another order, and `options` point into it. */
static void hide_values(char **argv, char **copy, int argc, const char *const *options)
{
    for (; *options != NULL; options++) {
        size_t len = strcspn(*options, "=");

        for (int i = 0; i < argc && strncmp(*options, "server.", 7) != 0; i++) {
            size_t whole = strlen(copy[i]);
            size_t at = (size_t)((uintptr_t)*options - (uintptr_t)copy[i]);

            if (at > whole)
                continue;
            for (int k = 0; k < argc; k++)
                if (strcmp(argv[k], copy[i]) == 0 && at + len < whole)
                    memset(argv[k] + at + len + 1, '*', whole - at - len - 1);
        }
    }
}

static char **copy_words(int argc, char **argv)
{
    char **copy = mem_calloc((size_t)argc + 1, sizeof *copy);

    for (int i = 0; i < argc; i++)
        copy[i] = mem_copy(span_of(argv[i]));
    return copy;
}

int main(int argc, char **argv)
{
    char **copy;
    struct arguments arguments;
    int code;

    fill_streams();
    if (argc > 1 && strcmp(argv[1], "fetch") == 0)
        return fetch_run(argc - 1, argv + 1);
    copy = copy_words(argc, argv);
    if (parse_arguments(argc, copy, &arguments, &code)) {
        hide_values(argv, copy, argc, arguments.options);
        code = obey(&arguments);
    }
    mem_free(arguments.options);
    for (int i = 0; i < argc; i++)
        mem_free(copy[i]);
    mem_free(copy);
    return code;
}
