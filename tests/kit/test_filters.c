/* Goal: cors, ratelimit, basicauth and compress, with the test kit: by their files, since each is a
 * plugin of its own; what they do to the host's 404 is what they do to any answer. */
#include "lib/test.h"
#include "weft_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void lets_other_origins_in(void **state)
{
    weft_test *t = weft_test_load(CORS_FILE, "origins = https://shop.example\n");
    weft_test_request *request;

    (void)state;
    request =
        weft_test_ask(t, "OPTIONS", "/x",
                      "Origin: https://shop.example\nAccess-Control-Request-Method: PUT", NULL);
    weft_test_is(request, 204, "");
    assert_string_equal(weft_test_field(request, "Access-Control-Allow-Origin"),
                        "https://shop.example");
    request = weft_test_ask(t, "GET", "/x", "Origin: https://evil.example", NULL);
    weft_test_is(request, 404, NULL);
    assert_null(weft_test_field(request, "Access-Control-Allow-Origin"));
    assert_int_equal(weft_test_end(t), 0);
}

static void limits(void **state)
{
    weft_test *t =
        weft_test_load(RATELIMIT_FILE, "rate = 1\nper = 3600\nburst = 2\nheader = X-Key\n");

    (void)state;
    for (int i = 0; i < 4; i++)
        weft_test_is(weft_test_ask(t, "GET", "/x", "X-Key: one", NULL), i < 2 ? 404 : 429, NULL);
    weft_test_is(weft_test_ask(t, "GET", "/x", "X-Key: two", NULL), 404, NULL);
    assert_int_equal(weft_test_end(t), 0);
}

/* The hash is crypt(3)'s of "open sesame". */
static void knows_who_may(void **state)
{
    char file[] = "/tmp/weft-users-XXXXXX", settings[64];
    int fd = mkstemp(file);
    weft_test *t;

    (void)state;
    assert_true(fd >= 0);
    dprintf(fd, "ali:$5$rounds=1000$salt$fn6nUx.sE0fgz/VX03yrwL05pkenQ/0yTOmQ37f3fd4\n");
    close(fd);
    snprintf(settings, sizeof settings, "users = %s\n", file);
    t = weft_test_load(BASICAUTH_FILE, settings);
    weft_test_is(weft_test_get(t, "/x"), 401, NULL);
    weft_test_is(weft_test_ask(t, "GET", "/x", "Authorization: Basic YWxpOm9wZW4gc2VzYW1l", NULL),
                 404, NULL);
    weft_test_is(weft_test_ask(t, "GET", "/x", "Authorization: Basic YWxpOm9wZW4=", NULL), 401,
                 NULL);
    assert_int_equal(weft_test_end(t), 0);
    unlink(file);
}

static void compresses(void **state)
{
    weft_test *t = weft_test_load(COMPRESS_FILE, "min = 0\n");
    weft_test_request *request = weft_test_ask(t, "GET", "/x", "Accept-Encoding: gzip", NULL);

    (void)state;
    weft_test_is(request, 404, NULL);
    assert_string_equal(weft_test_field(request, "Content-Encoding"), "gzip");
    assert_null(weft_test_field(weft_test_get(t, "/x"), "Content-Encoding"));
    assert_int_equal(weft_test_end(t), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lets_other_origins_in),
                                       cmocka_unit_test(limits), cmocka_unit_test(knows_who_may),
                                       cmocka_unit_test(compresses)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
