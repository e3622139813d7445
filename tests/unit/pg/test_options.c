/* Goal: the table's defaults are the documented ones and in order, and what contradicts itself is
 *       said so. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "pg/options.h"
#include "pg/parameters.h"

#include <stdlib.h>
#include <string.h>

/* Binds the text of a section. */
static enum err bind(const char *text, struct pg_options *options, char problem[INI_PROBLEM_SIZE])
{
    struct ini_file *file = NULL;
    enum err err = ini_parse_text("server.ini", text, &file, problem);

    *options = (struct pg_options){0};
    if (err != ERR_OK)
        return err;
    err = field_bind(&pg_option_table, file, ini_section(file, "pg", "main"), options, problem);
    ini_free(file);
    return err;
}

static void test_defaults(void **state)
{
    struct pg_options options;

    (void)state;
    field_defaults(&pg_option_table, &options);
    assert_string_equal(options.host, "");
    assert_int_equal(options.port, 5432);
    assert_int_equal(options.sslmode, PG_SSL_PREFER);
    assert_string_equal(options.conninfo, "");
    assert_int_equal(options.sessions_max, 4);
    assert_int_equal(options.sessions_min, 1);
    assert_int_equal(options.idle_timeout_ms, 300000);
    assert_int_equal(options.session_age_ms, 3600000);
    assert_int_equal(options.queue_max, 4096);
    assert_int_equal(options.queue_timeout_ms, 2000);
    assert_int_equal(options.connect_timeout_ms, 5000);
    assert_int_equal(options.statement_timeout_ms, 5000);
    assert_int_equal(options.result_max, 16 * 1024 * 1024);
    assert_true(options.is_prepared);
    field_clear(&pg_option_table, &options);
}

static void test_a_section_is_read(void **state)
{
    char problem[INI_PROBLEM_SIZE] = "";
    struct pg_options options;

    (void)state;
    assert_int_equal(bind("[pg.main]\nhost = db.example\nport = 6432\nuser = u\npassword = p\n"
                          "dbname = d\nsslmode = verify-full\nsslrootcert = /ca.pem\n"
                          "sessions = 8\nqueue = 10\nqueue_timeout = 1s\nprepared = off\n",
                          &options, problem),
                     ERR_OK);
    assert_string_equal(options.host, "db.example");
    assert_int_equal(options.port, 6432);
    assert_string_equal(pg_option_sslmode(options.sslmode), "verify-full");
    assert_string_equal(options.sslrootcert, "/ca.pem");
    assert_int_equal(options.sessions_max, 8);
    assert_false(options.is_prepared);
    assert_int_equal(pg_options_check(&options, problem), ERR_OK);
    field_clear(&pg_option_table, &options);
}

static void test_what_is_out_of_range_is_refused(void **state)
{
    static const char *const lines[] = {"sessions = 0",    "sessions = 1025", "port = 0",
                                        "sslmode = maybe", "queue = 0",       "depth = 0"};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[64] = "[pg.main]\n", problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        (void)strcat(text, lines[i]);
        assert_int_not_equal(bind(text, &options, problem), ERR_OK);
        assert_non_null(strstr(problem, "server.ini:2"));
        field_clear(&pg_option_table, &options);
    }
}

static void test_conninfo_stands_alone(void **state)
{
    char problem[INI_PROBLEM_SIZE] = "";
    struct pg_options options;

    (void)state;
    assert_int_equal(bind("[pg.main]\nconninfo = postgresql://u@h:1/d\n", &options, problem),
                     ERR_OK);
    assert_int_equal(pg_options_check(&options, problem), ERR_OK);
    field_clear(&pg_option_table, &options);
    assert_int_equal(bind("[pg.main]\nconninfo = host=a\nuser = u\n", &options, problem), ERR_OK);
    assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
    assert_non_null(strstr(problem, "user"));
    field_clear(&pg_option_table, &options);
}

static void test_no_more_are_kept_than_there_may_be(void **state)
{
    char problem[INI_PROBLEM_SIZE] = "";
    struct pg_options options;

    (void)state;
    assert_int_equal(bind("[pg.main]\nsessions = 2\nsessions_min = 3\n", &options, problem),
                     ERR_OK);
    assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
    assert_non_null(strstr(problem, "sessions_min is 3"));
    field_clear(&pg_option_table, &options);
}

static void test_nothing_is_overlooked_beside_a_conninfo(void **state)
{
    static const char *const lines[] = {"port = 5433", "sslmode = verify-full",
                                        "target_session_attrs = primary", "host = a"};

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[128], problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        (void)snprintf(text, sizeof text, "[pg.main]\nconninfo = host=b\n%s\n", lines[i]);
        assert_int_equal(bind(text, &options, problem), ERR_OK);
        assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
        assert_non_null(strstr(problem, "conninfo stands beside"));
        field_clear(&pg_option_table, &options);
    }
}

static void test_servers_that_do_not_fit(void **state)
{
    static const char *const texts[] = {"[pg.main]\nconninfo = host=a,b port=1,2,3\n",
                                        "[pg.main]\nhost = a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\n"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        assert_int_equal(bind(texts[i], &options, problem), ERR_OK);
        assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
        assert_non_null(strstr(problem, "expected"));
        field_clear(&pg_option_table, &options);
    }
}

static void test_a_conninfo_that_libpq_cannot_parse(void **state)
{
    static const char *const texts[] = {"host", "nonsense=1", "postgresql://[", "host='a"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        field_defaults(&pg_option_table, &options);
        free(options.conninfo);
        options.conninfo = strdup(texts[i]);
        assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
        assert_non_null(strstr(problem, "conninfo: "));
        assert_null(strchr(problem, '\n'));
        field_clear(&pg_option_table, &options);
    }
}

/* What libpq knows and would have no effect is refused, and what to write instead is said. */
static void test_nothing_in_a_conninfo_is_without_effect(void **state)
{
    static const struct {
        const char *conninfo, *problem;
    } cases[] = {
        {"service=books", "conninfo: service, expected no service"},
        {"host=a sslmode=verify-full service=books", "conninfo: service, expected no service"},
        {"postgresql://u@h/d?service=books", "conninfo: service, expected no service"},
        {"host=a servicefile=/a", "conninfo: "},            /* old libpq: it does not know it */
        {"host=a load_balance_hosts=random", "conninfo: "}, /* the same */
        {"host=a connect_timeout=1", "conninfo: connect_timeout, expected connect_timeout of this"},
        {"host=a fallback_application_name=b", "expected application_name"},
        {"host=a client_encoding=LATIN1", "client_encoding = LATIN1, expected UTF8"},
        {"options='-c statement_timeout=7s'", "with statement_timeout, expected statement_timeout"},
        {"options='-c a=b -cStatement-Timeout=7'", "with statement_timeout, expected"},
        {"options='-c idle_in_transaction_session_timeout=7'", "expected idle_transaction_timeout"},
        {"options=--statement_timeout=0", "with statement_timeout, expected"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        field_defaults(&pg_option_table, &options);
        free(options.conninfo);
        options.conninfo = strdup(cases[i].conninfo);
        assert_int_equal(pg_options_check(&options, problem), ERR_INVALID);
        if (strstr(problem, cases[i].problem) == NULL)
            fail_msg("%s: %s", cases[i].conninfo, problem);
        field_clear(&pg_option_table, &options);
    }
}

/* Other settings of `options` are the user's, as are all where weft sets none: behind a pooler. */
static void test_what_has_an_effect_in_a_conninfo(void **state)
{
    static const struct {
        const char *conninfo;
        bool is_prepared;
    } cases[] = {
        {"host=a application_name=b client_encoding=utf8 keepalives=0 sslmode=require", true},
        {"host=a options='-c search_path=b -c lock_timeout=5s'", true},
        {"host=a options='-c my.statement_timeout=5 -c log_statement_timeout=1'", true},
        {"host=a options='-c search_path=statement_timeout'", true},
        {"host=a options='-c statement_timeout=5s'", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char problem[INI_PROBLEM_SIZE] = "";
        struct pg_options options;

        field_defaults(&pg_option_table, &options);
        free(options.conninfo);
        options.conninfo = strdup(cases[i].conninfo);
        options.is_prepared = cases[i].is_prepared;
        if (pg_options_check(&options, problem) != ERR_OK)
            fail_msg("%s: %s", cases[i].conninfo, problem);
        field_clear(&pg_option_table, &options);
    }
}

/* Files: each stands in a folder of the test's own as "a file", "a folder" and "a list". */

static struct temp_dir dir;

/* The keyword with that path in a conninfo; what is said of it, "" if nothing. */
static const char *check_file(const char *keyword, const char *path)
{
    static char problem[INI_PROBLEM_SIZE];
    struct pg_options options;
    const char *key = "";
    enum err err;

    field_defaults(&pg_option_table, &options);
    free(options.conninfo);
    assert_true(asprintf(&options.conninfo, "host=a %s='%s'", keyword, path) > 0);
    problem[0] = '\0';
    assert_int_equal(pg_options_check(&options, problem), ERR_OK);
    err = pg_options_check_files(&options, &key, problem);
    assert_string_equal(key, "conninfo");
    assert_int_equal(err, problem[0] == '\0' ? ERR_OK : ERR_IO);
    field_clear(&pg_option_table, &options);
    return problem;
}

static void expect(const char *keyword, const char *path, const char *reason)
{
    const char *problem = check_file(keyword, path);

    if (reason == NULL && problem[0] == '\0')
        return;
    if (reason == NULL || strstr(problem, reason) == NULL || strstr(problem, keyword) != problem ||
        strstr(problem, path) == NULL)
        fail_msg("%s=%s: %s, not %s", keyword, path, problem, reason);
}

static void test_files_that_cannot_be_read(void **state)
{
    static const char *const keywords[] = {"sslrootcert", "sslcert", "sslkey",
                                           "passfile",    "sslcrl",  "sslcrldir"};
    char file[256], nowhere[256];

    (void)state;
    temp_dir_init(&dir);
    (void)snprintf(nowhere, sizeof nowhere, "%s/nowhere", dir.path);
    (void)snprintf(file, sizeof file, "%s/a file", dir.path);
    (void)temp_dir_write(&dir, "a file", "text", 4);
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        bool is_folder = strcmp(keywords[i], "sslcrldir") == 0;
        bool is_list = strcmp(keywords[i], "sslcrl") == 0;

        expect(keywords[i], nowhere, "No such file or directory");
        expect(keywords[i], dir.path, is_folder ? NULL : "it is a folder");
        expect(keywords[i], file,
               is_folder ? "it is no folder"
               : is_list ? "there is no revocation list in it"
                         : NULL);
    }
    expect("sslkey", "engine:key", NULL);
    temp_dir_deinit(&dir);
}

/* By the setting of its own it is said so; and what is not given is not looked for. */
static void test_the_authority_cannot_be_read(void **state)
{
    char problem[INI_PROBLEM_SIZE] = "";
    struct pg_options options;
    const char *key;

    (void)state;
    assert_int_equal(bind("[pg.main]\nsslrootcert = /nowhere/ca.pem\n", &options, problem), ERR_OK);
    assert_int_equal(pg_options_check_files(&options, &key, problem), ERR_IO);
    assert_string_equal(key, "sslrootcert");
    assert_non_null(strstr(problem, "/nowhere/ca.pem: No such file or directory"));
    field_clear(&pg_option_table, &options);
    assert_int_equal(bind("[pg.main]\nsslmode = verify-full\n", &options, problem), ERR_OK);
    assert_int_equal(pg_options_check_files(&options, &key, problem), ERR_OK);
    field_clear(&pg_option_table, &options);
}

/* Of those in somebody's home, one would do for a certificate that was given without its key. */
static void test_no_file_is_looked_for_at_home(void **state)
{
    static const char *const keywords[] = {"sslkey", "sslrootcert", "sslcrl", "passfile"};
    struct pg_parameters parameters;
    char problem[INI_PROBLEM_SIZE] = "";
    struct pg_options options;

    (void)state;
    assert_int_equal(bind("[pg.main]\nconninfo = host=a sslcert=/a.crt\n", &options, problem),
                     ERR_OK);
    pg_parameters_init(&parameters, &options);
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++) {
        uint32_t at = 0;

        while (at < parameters.count && strcmp(parameters.keywords[at], keywords[i]) != 0)
            at++;
        assert_true(at < parameters.count);
        assert_string_equal(parameters.values[at], "/dev/null/none");
    }
    pg_parameters_deinit(&parameters);
    field_clear(&pg_option_table, &options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_no_file_is_looked_for_at_home),
        cmocka_unit_test(test_a_section_is_read),
        cmocka_unit_test(test_what_is_out_of_range_is_refused),
        cmocka_unit_test(test_conninfo_stands_alone),
        cmocka_unit_test(test_no_more_are_kept_than_there_may_be),
        cmocka_unit_test(test_nothing_is_overlooked_beside_a_conninfo),
        cmocka_unit_test(test_servers_that_do_not_fit),
        cmocka_unit_test(test_a_conninfo_that_libpq_cannot_parse),
        cmocka_unit_test(test_nothing_in_a_conninfo_is_without_effect),
        cmocka_unit_test(test_what_has_an_effect_in_a_conninfo),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_the_authority_cannot_be_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
