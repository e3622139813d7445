/* Goal: plugins/static, with the test kit: what it answers for which path and which fields, what it
 * refuses to be set to, and that it answers once, whatever goes wrong. */
#include "lib/temp_dir.h"
#include "lib/test.h"
#include "weft_test.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONG_AGO = 1000000000 };

static struct temp_dir dir;

/* A file that was written long ago, so that its tag is strong. */
static void put(const char *name, const char *text)
{
    const struct timespec times[2] = {{.tv_sec = LONG_AGO}, {.tv_sec = LONG_AGO}};

    (void)temp_dir_write(&dir, name, text, strlen(text));
    assert_int_equal(utimensat(AT_FDCWD, temp_dir_path(&dir, name), times, 0), 0);
}

static int set_up(void **state)
{
    (void)state;
    temp_dir_init(&dir);
    put("a.txt", "0123456789");
    put("index.html", "<p>");
    put("x.js", "plain");
    put("x.js.gz", "zipped");
    put("x.js.br", "brotli");
    put(".env", "secret");
    assert_int_equal(mkdir(temp_dir_path(&dir, "sub"), 0755), 0);
    put("sub/b", "b");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_deinit(&dir);
    return 0;
}

static weft_test *start(const char *more)
{
    char settings[512];
    weft_test *t;

    snprintf(settings, sizeof settings, "root = %s\n%s", dir.path, more);
    t = weft_test_start(settings);
    assert_null(weft_test_problem(t));
    return t;
}

static void end(weft_test *t)
{
    assert_int_equal(weft_test_end(t), 0);
}

static weft_test_request *get(weft_test *t, const char *path, const char *fields)
{
    return weft_test_ask(t, "GET", path, fields, NULL);
}

static void files_and_folders(void **state)
{
    weft_test *t = start("");
    weft_test_request *request = get(t, "/a.txt", NULL);

    (void)state;
    weft_test_is(request, 200, "0123456789");
    assert_string_equal(weft_test_field(request, "Content-Type"), "text/plain; charset=utf-8");
    assert_string_equal(weft_test_field(request, "Last-Modified"), "Sun, 09 Sep 2001 01:46:40 GMT");
    weft_test_is(get(t, "/", NULL), 200, "<p>");
    weft_test_is(get(t, "/sub/b", NULL), 200, "b");
    request = get(t, "/sub?x=1", NULL);
    weft_test_is(request, 308, "");
    assert_string_equal(weft_test_field(request, "Location"), "/sub/?x=1");
    weft_test_is(get(t, "/sub/", NULL), 404, NULL);
    weft_test_is(weft_test_ask(t, "HEAD", "/a.txt", NULL, NULL), 200, "");
    weft_test_is(weft_test_ask(t, "POST", "/a.txt", NULL, NULL), 405, NULL);
    end(t);
}

static void what_is_not_served(void **state)
{
    static const char *const paths[] = {"/none",    "/a.txt/",     "/a.txt/x", "/.env",
                                        "/sub%2fb", "/sub%2Fb",    "/sub//b",  "//sub/b",
                                        "/./.env",  "/sub/../.env"};
    weft_test *t = start("");

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        weft_test_is(get(t, paths[i], NULL), 404, NULL);
    weft_test_is(get(t, "/../a.txt", NULL), 400, NULL);
    weft_test_is(get(t, "/a%00.txt", NULL), 400, NULL);
    end(t);
    t = start("hidden = yes\nindex =\n");
    weft_test_is(get(t, "/.env", NULL), 200, "secret");
    weft_test_is(get(t, "/", NULL), 404, NULL);
    end(t);
}

static void conditions_and_ranges(void **state)
{
    weft_test *t = start("cache_control = max-age=60\n");
    weft_test_request *request = get(t, "/a.txt", NULL);
    char field[128];

    (void)state;
    snprintf(field, sizeof field, "If-None-Match: %s", weft_test_field(request, "ETag"));
    request = get(t, "/a.txt", field);
    weft_test_is(request, 304, "");
    assert_string_equal(weft_test_field(request, "Cache-Control"), "max-age=60");
    weft_test_is(get(t, "/a.txt", "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT"), 304, "");
    weft_test_is(get(t, "/a.txt", "If-Match: \"other\""), 412, NULL);
    request = get(t, "/a.txt", "Range: bytes=2-4");
    weft_test_is(request, 206, "234");
    assert_string_equal(weft_test_field(request, "Content-Range"), "bytes 2-4/10");
    weft_test_is(get(t, "/a.txt", "Range: bytes=-3"), 206, "789");
    request = get(t, "/a.txt", "Range: bytes=10-");
    weft_test_is(request, 416, NULL);
    assert_string_equal(weft_test_field(request, "Content-Range"), "bytes */10");
    assert_null(weft_test_field(request, "Cache-Control"));
    weft_test_is(get(t, "/a.txt", "Range: bytes=2-4\nIf-Range: \"other\""), 200, "0123456789");
    end(t);
}

/* One that is so fresh that it may change without its time doing so. */
static void a_fresh_file_has_a_weak_tag(void **state)
{
    weft_test *t = start("");
    weft_test_request *request;
    char fields[160];

    (void)state;
    (void)temp_dir_write(&dir, "fresh", "fresh", 5);
    request = get(t, "/fresh", NULL);
    weft_test_is(request, 200, "fresh");
    assert_int_equal(strncmp(weft_test_field(request, "ETag"), "W/\"", 3), 0);
    snprintf(fields, sizeof fields, "Range: bytes=0-1\nIf-Range: %s",
             weft_test_field(request, "Last-Modified"));
    weft_test_is(get(t, "/fresh", fields), 200, "fresh");
    end(t);
}

static void expect_encoding(weft_test *t, const char *accepted, const char *encoding,
                            const char *body)
{
    weft_test_request *request = get(t, "/x.js", accepted);
    const char *found = weft_test_field(request, "Content-Encoding");

    weft_test_is(request, 200, body);
    assert_string_equal(found != NULL ? found : "-", encoding);
    assert_string_equal(weft_test_field(request, "Vary"), "Accept-Encoding");
    assert_string_equal(weft_test_field(request, "Content-Type"), "text/javascript; charset=utf-8");
}

static void neighbours(void **state)
{
    weft_test *t = start("");

    (void)state;
    expect_encoding(t, NULL, "-", "plain");
    expect_encoding(t, "Accept-Encoding: gzip, deflate", "gzip", "zipped");
    expect_encoding(t, "Accept-Encoding: gzip, br", "br", "brotli");
    expect_encoding(t, "Accept-Encoding: gzip, br;q=0.5", "gzip", "zipped");
    expect_encoding(t, "Accept-Encoding: zstd, gzip;q=0.1, identity;q=0.5", "-", "plain");
    expect_encoding(t, "Accept-Encoding: gzip;q=0", "-", "plain");
    end(t);
    t = start("precompressed = gzip\n");
    expect_encoding(t, "Accept-Encoding: gzip;q=0.1, br", "gzip", "zipped");
    end(t);
    (void)temp_dir_write(&dir, "x.js", "newer", 5); /* than its neighbours */
    t = start("precompressed = gzip\n");
    expect_encoding(t, "Accept-Encoding: gzip", "-", "newer");
    end(t);
}

static void types_as_set(void **state)
{
    weft_test *t = start("types = js application/x-mine, odd text/odd\ncharset =\n");
    weft_test_request *request = get(t, "/x.js", NULL);

    (void)state;
    assert_string_equal(weft_test_field(request, "Content-Type"), "application/x-mine");
    put("an.ODD", "x");
    assert_string_equal(weft_test_field(get(t, "/an.ODD", NULL), "Content-Type"), "text/odd");
    assert_string_equal(weft_test_field(get(t, "/sub/b", NULL), "Content-Type"),
                        "application/octet-stream");
    end(t);
}

static void settings_that_are_refused(void **state)
{
    static const struct {
        const char *settings, *expected;
    } cases[] = {
        {"", "root"},
        {"root = www\n", "root = www: expected an absolute path"},
        {"root = /none/there\n", "root = /none/there: No such file"},
        {"root = /etc/passwd\n", "root = /etc/passwd: Not a directory"},
        {"root = /etc\nindex = a/b\n", "expected a name without a slash"},
        {"root = /etc\nprecompressed = lzma\n", "expected some of br, zstd and gzip"},
        {"root = /etc\ntypes = md\n", "expected at most 64 of ENDING TYPE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        weft_test *t = weft_test_start(cases[i].settings);
        const char *problem = weft_test_problem(t);

        assert_non_null(problem);
        if (strstr(problem, cases[i].expected) == NULL &&
            strstr(weft_test_log(t), cases[i].expected) == NULL)
            fail_msg("%s: %s", cases[i].settings, problem);
        end(t);
    }
}

static void play(weft_test *t, void *data)
{
    (void)data;
    (void)get(t, "/a.txt", "Accept-Encoding: gzip");
    (void)get(t, "/none", NULL);
}

static void whatever_goes_wrong(void **state)
{
    weft_test *t = start("");

    (void)state;
    assert_true(weft_test_sweep(t, play, NULL) > 0);
    end(t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_and_folders),           TEST(what_is_not_served),  TEST(conditions_and_ranges),
        TEST(a_fresh_file_has_a_weak_tag), TEST(neighbours),          TEST(types_as_set),
        TEST(settings_that_are_refused),   TEST(whatever_goes_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
