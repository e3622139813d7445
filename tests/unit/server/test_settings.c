/* Goal: all of server.ini arrives where it belongs, each mistake is one line with file, line and
 * key, and the manual that is printed is the truth: read back with every key set to what it shows,
 * it gives the defaults. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "server/settings.h"
#include <stdlib.h>
#include <string.h>

static struct temp_dir dir;

static int set_up(void **state)
{
    (void)state;
    temp_dir_init(&dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_deinit(&dir);
    return 0;
}

static struct settings *load(const char *text)
{
    char problem[INI_PROBLEM_SIZE];
    struct settings *settings = NULL;
    const char *path = temp_dir_write(&dir, "server.ini", text, strlen(text));

    if (settings_load(path, NULL, &settings, problem) != ERR_OK)
        fail_msg("%s", problem);
    return settings;
}

/* The text is refused with `expected` behind the file's path. */
static void refused(const char *text, const char *expected)
{
    char problem[INI_PROBLEM_SIZE];
    struct settings *settings = NULL;
    const char *path = temp_dir_write(&dir, "server.ini", text, strlen(text));

    assert_int_not_equal(settings_load(path, NULL, &settings, problem), ERR_OK);
    assert_memory_equal(problem, path, strlen(path));
    assert_string_equal(problem + strlen(path), expected);
}

static void test_defaults(void **state)
{
    struct settings *settings = load("");

    (void)state;
    assert_int_equal(settings->listen_count, 1);
    assert_int_equal(addr_port(&settings->listen[0]), 8080);
    assert_true(settings->workers >= 1);
    assert_false(settings->server.reuseport);
    assert_int_equal(settings->server.drain_timeout_ms, 30000);
    assert_int_equal(settings->http.body_bytes_max, 1 << 20);
    assert_int_equal(settings->http.fields_max, 100);
    assert_int_equal(settings->http.request_line_bytes_max, 8192);
    assert_int_equal(settings->http.head_bytes_max, 32768);
    assert_int_equal(settings->http.request_timeout_ms, 5000);
    assert_non_null(strstr(settings->server.plugin_dir, "/plugins"));
    assert_null(settings_next_plugin(settings, NULL));
    settings_free(settings);
}

static void test_a_socket_lies_beside_the_file(void **state)
{
    struct settings *settings = load("[server]\nlisten = unix:weft.sock unix:/run/weft.sock\n");
    char text[ADDR_TEXT_SIZE], expected[ADDR_TEXT_SIZE];

    (void)state;
    addr_format(&settings->listen[0], text);
    snprintf(expected, sizeof expected, "unix:%s", temp_dir_path(&dir, "weft.sock"));
    assert_string_equal(text, expected);
    addr_format(&settings->listen[1], text);
    assert_string_equal(text, "unix:/run/weft.sock");
    settings_free(settings);
}

static void test_every_section(void **state)
{
    struct settings *settings = load("[server]\n"
                                     "listen = 127.0.0.1:1234 [::1]:5678\n"
                                     "workers = 3\n"
                                     "access_log = logs/access\n"
                                     "plugin_dir = plugins\n"
                                     "[plugin.b]\npath = b.so\n"
                                     "[pg.main]\nhost = /tmp\n"
                                     "[pg.other]\nconninfo = host=/tmp dbname=x\n"
                                     "[upstream.api]\nurl = http://127.0.0.1:81/v1\n"
                                     "[plugin.a]\npath = a.so\n");
    struct ini_section *plugin = settings_next_plugin(settings, NULL);

    (void)state;
    assert_int_equal(settings->workers, 3);
    assert_int_equal(settings->listen_count, 2);
    assert_int_equal(addr_port(&settings->listen[1]), 5678);
    assert_string_equal(settings->server.access_log, temp_dir_path(&dir, "logs/access"));
    assert_string_equal(settings->server.plugin_dir, temp_dir_path(&dir, "plugins"));
    assert_int_equal(settings->pg_count, 2);
    assert_string_equal(settings->pgs[1].name, "other");
    assert_int_equal(settings->pgs[0].options.sessions_max, 4);
    assert_int_equal(settings->pgs[0].options.queue_max, 4096);
    assert_int_equal(settings->pgs[0].options.queue_timeout_ms, 2000);
    assert_int_equal(settings->upstream_count, 1);
    assert_int_equal(settings->upstreams[0].options.connections_max, 64);
    assert_int_equal(settings->upstreams[0].options.waiting_max, 4096);
    assert_string_equal(plugin->name, "b");
    plugin = settings_next_plugin(settings, plugin);
    assert_string_equal(plugin->name, "a");
    assert_null(settings_next_plugin(settings, plugin));
    settings_free(settings);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("[server]\nlisten = 8080\n",
            ":2: listen: \"8080\", expected 1 to 8 addresses with their ports, such as "
            "127.0.0.1:8080 or [::1]:80");
    refused("[server]\nlisten = 127.0.0.1:1 127.0.0.1:2 127.0.0.1:3 127.0.0.1:4 127.0.0.1:5 "
            "127.0.0.1:6 127.0.0.1:7 127.0.0.1:8 127.0.0.1:9\n",
            ":2: listen: \"127.0.0.1:9\", expected 1 to 8 addresses with their ports, such as "
            "127.0.0.1:8080 or [::1]:80");
    refused("[upstream.api]\n\nurl = ftp://x\n",
            ":3: url = ftp://x is of another kind, expected http://host[:port][/prefix] or "
            "http://unix:/path[:/prefix]");
    refused("[upstream.api]\nurl = http://x\naddresses = a:b\n",
            ":3: addresses: \"a:b\", expected 1 to 64 of host:port, [IPv6]:port or unix:/path, "
            "with blanks between them");
    refused("[server]\nresolver = 127.0.0.1:53,ns1\n",
            ":2: resolver: \"ns1\", expected addresses of name servers with their ports, such as "
            "127.0.0.1:53 or [::1]:53");
    refused("[upstream.api]\nurl = https://x\ntls_ca = /nonexistent/ca.pem\n",
            ":2: TLS: /nonexistent/ca.pem: no certificates of authorities: No such file or "
            "directory");
    refused("[pg]\nhost = x\n", ":1: [pg]: unknown section, expected [server], [pg.NAME], "
                                "[upstream.NAME] or [plugin.NAME]");
    refused("[server.x]\n", ":1: [server.x]: unknown section, expected [server], [pg.NAME], "
                            "[upstream.NAME] or [plugin.NAME]");
}

/* With -o: the file's value, or none, gives way, and a mistake is the option's. */
static void test_overrides(void **state)
{
    static const char *const good[] = {"server.listen=127.0.0.1:99", "pg.main.host=/tmp/x",
                                       "plugin.a.path=c.so", NULL};
    static const char *const bad[] = {"server.workers=2", "server.workers=many", NULL};
    static const char *const both[] = {"server.listen=127.0.0.1:99", "server.workers=1", NULL};
    static const char *const unknown[] = {"servers.listen=127.0.0.1:99", NULL};
    const char *text = "[server]\nlisten = nonsense\n[plugin.a]\npath = a.so\n";
    const char *path = temp_dir_write(&dir, "server.ini", text, strlen(text));
    char problem[INI_PROBLEM_SIZE];
    struct settings *settings = NULL;

    (void)state;
    assert_int_equal(settings_load(path, good, &settings, problem), ERR_OK);
    assert_int_equal(addr_port(&settings->listen[0]), 99);
    assert_int_equal(settings->pg_count, 1);
    assert_string_equal(settings->pgs[0].options.host, "/tmp/x");
    settings_free(settings);
    assert_int_not_equal(settings_load(path, bad, &settings, problem), ERR_OK);
    assert_string_equal(problem, "-o server.workers: workers: expected a number from 1 to 256, or "
                                 "auto");
    text = "[server]\nlisten = ${WEFT_TEST_UNSET}\nworkers = ${file:/none}\n";
    path = temp_dir_write(&dir, "server.ini", text, strlen(text));
    assert_int_not_equal(settings_load(path, good, &settings, problem), ERR_OK);
    assert_non_null(strstr(problem, ":3: workers: ${file:/none}: No such file"));
    assert_int_equal(settings_load(path, both, &settings, problem), ERR_OK);
    settings_free(settings);
    text = "";
    path = temp_dir_write(&dir, "server.ini", text, strlen(text));
    assert_int_not_equal(settings_load(path, unknown, &settings, problem), ERR_OK);
    assert_string_equal(problem, "-o servers.listen: [servers]: unknown section, expected "
                                 "[server], [pg.NAME], [upstream.NAME] or [plugin.NAME]");
}

/* The settings of `weft check FILE.so`: the defaults and one section, whatever the file is
 * named. */
static void test_one_plugin(void **state)
{
    static const char *const options[] = {"plugin.books_and.more=x", NULL};
    static const char *const bad[] = {"server.workers=none", NULL};
    char problem[INI_PROBLEM_SIZE];
    struct settings *settings = NULL;
    struct ini_section *plugin;

    (void)state;
    assert_int_equal(settings_for_plugin("/x/$y/books and.v1.so", options, &settings, problem),
                     ERR_OK);
    plugin = settings_next_plugin(settings, NULL);
    assert_true(settings->is_of_one_plugin);
    assert_string_equal(plugin->name, "books_and");
    assert_string_equal(ini_entry(plugin, "path")->value, "/x/$y/books and.v1.so");
    assert_string_equal(ini_entry(plugin, "more")->value, "x");
    assert_null(settings_next_plugin(settings, plugin));
    settings_free(settings);
    assert_int_equal(settings_for_plugin("-.so", NULL, &settings, problem), ERR_OK);
    plugin = settings_next_plugin(settings, NULL);
    assert_string_equal(plugin->name, "-");
    assert_int_equal(ini_entry(plugin, "path")->value[0], '/');
    settings_free(settings);
    assert_int_not_equal(settings_for_plugin("/x.so", bad, &settings, problem), ERR_OK);
    assert_memory_equal(problem, "-o server.workers: ", 19);
}

static char *manual(size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    assert_non_null(out);
    settings_print_defaults(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

/* Does the line of the manual show a section or a key (required ones, which have no default, left
 * out)? */
static bool is_setting(const char *line)
{
    if (strcmp(line, "[server]") == 0)
        return true;
    if (line[0] != '#' || strcmp(line, "#url =") == 0 || strcmp(line, "#path =") == 0)
        return false;
    return line[1] == '[' || (line[1] >= 'a' && line[1] <= 'z' && strstr(line, " =") != NULL);
}

/* Texts lie elsewhere in each. */
static void is_same_http(const struct http_options *a, const struct http_options *b)
{
    struct http_options one, other;

    memcpy(&one, a, sizeof one);
    memcpy(&other, b, sizeof other);
    assert_string_equal(one.trusted_proxies, other.trusted_proxies);
    assert_string_equal(one.request_id, other.request_id);
    one.trusted_proxies = other.trusted_proxies = NULL;
    one.request_id = other.request_id = NULL;
    assert_memory_equal(&one, &other, sizeof one);
}

/* Each section and key of the manual, set as it stands, is read and means the default. */
static void test_the_manual_is_true(void **state)
{
    size_t size;
    char *text = manual(&size), *out = calloc(1, size + 64), *to = out;
    struct settings *plain, *set;

    (void)state;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        if (is_setting(line))
            to += sprintf(to, "%s\n", line[0] == '#' ? line + 1 : line);
        if (strcmp(line, "#[upstream.partner]") == 0)
            to += sprintf(to, "url = http://127.0.0.1\n");
    }
    set = load(out);
    plain = load("[pg.main]\n[upstream.partner]\nurl = http://127.0.0.1\n");
    is_same_http(&set->http, &plain->http);
    assert_int_equal(set->server.fibers_max, plain->server.fibers_max);
    assert_int_equal(set->server.fiber_stack, plain->server.fiber_stack);
    assert_int_equal(set->workers, plain->workers);
    assert_string_equal(set->server.error_log, plain->server.error_log);
    assert_int_equal(set->pgs[0].options.sessions_max, plain->pgs[0].options.sessions_max);
    assert_int_equal(set->upstreams[0].options.timeout_ms, plain->upstreams[0].options.timeout_ms);
    settings_free(set);
    settings_free(plain);
    free(out);
    free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_every_section),
        TEST(test_a_socket_lies_beside_the_file),
        TEST(test_refusals),
        TEST(test_overrides),
        TEST(test_one_plugin),
        TEST(test_the_manual_is_true),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
