/* Goal: addresses go from text and back without loss, what is none is refused and leaves the result
 * alone, and two are equal only where they lead to the same place. */
#include "lib/loop_driver.h"
#include "lib/test.h"
#include "net/addr.h"

#include <string.h>
#include <unistd.h>

static void test_text_and_back(void **state)
{
    static const struct {
        const char *text; /* whole */
        const char *host; /* alone */
        uint16_t port;
        int family;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1", 80, AF_INET},
        {"0.0.0.0:0", "0.0.0.0", 0, AF_INET},
        {"255.255.255.255:65535", "255.255.255.255", 65535, AF_INET},
        {"[::1]:8080", "::1", 8080, AF_INET6},
        {"[::]:1", "::", 1, AF_INET6},
        {"[2001:db8::ff]:443", "2001:db8::ff", 443, AF_INET6},
        {"[::ffff:192.0.2.1]:5", "192.0.2.1", 5, AF_INET6},
        {"unix:/run/weft.sock", "unix:/run/weft.sock", 0, AF_UNIX},
        {"unix:relative", "unix:relative", 0, AF_UNIX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr addr;
        char text[ADDR_TEXT_SIZE];

        assert_true(addr_parse(span_of(cases[i].text), &addr));
        assert_int_equal(addr.storage.ss_family, cases[i].family);
        assert_int_equal(addr_port(&addr), cases[i].port);
        assert_int_equal(addr_format(&addr, text), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_int_equal(addr_format_host(&addr, text), strlen(cases[i].host));
        assert_string_equal(text, cases[i].host);
    }
}

static void test_what_is_none_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        ":",
        ":80",
        "80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.1:80",
        "::1:80",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[]:80",
        "host:80",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4:65536",
        "1.2.3.4:80 ",
        " 1.2.3.4:80",
        "[1.2.3.4:]",
        "unix:",
        "1.2.3.4:0x50",
        "[127.0.0.1",
        "1.2.3.4:99999999999999999999",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
    };
    const struct span nul_in_path = {"unix:/a\0b", 9};
    const struct span nul_in_ip = {"127.0.0.1\0:80", 13};
    struct addr addr = {.len = 77};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(addr_parse(span_of(texts[i]), &addr));
    assert_false(addr_parse(nul_in_path, &addr));
    assert_false(addr_parse(nul_in_ip, &addr));
    assert_false(addr_parse((struct span){NULL, 0}, &addr));
    assert_int_equal(addr.len, 77);
}

static void test_a_path_may_be_as_long_as_the_kernel_takes(void **state)
{
    char text[200] = "unix:/";
    struct addr addr;
    char again[ADDR_TEXT_SIZE];

    (void)state;
    memset(text + 6, 'x', sizeof text - 6);
    assert_true(addr_parse((struct span){text, 5 + 107}, &addr));
    assert_int_equal(addr_format(&addr, again), 5 + 107);
    assert_false(addr_parse((struct span){text, 5 + 108}, &addr));
}

static void test_literal_hosts(void **state)
{
    struct addr addr;

    (void)state;
    assert_true(addr_from_ip(SPAN("192.0.2.7"), 5432, &addr));
    assert_int_equal(addr_port(&addr), 5432);
    addr_set_port(&addr, 99);
    assert_int_equal(addr_port(&addr), 99);
    assert_true(addr_from_ip(SPAN("fe80::1"), 1, &addr));
    addr_set_port(&addr, 98);
    assert_int_equal(addr_port(&addr), 98);
    assert_false(addr_from_ip(SPAN("localhost"), 1, &addr));
    assert_false(addr_from_ip(SPAN("[::1]"), 1, &addr));
    assert_false(addr_from_ip(SPAN(""), 1, &addr));
}

static void test_equal_is_the_same_place(void **state)
{
    static const char *const texts[] = {"127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80", "[::1]:80",
                                        "[::2]:80",     "unix:/a",      "unix:/ab"};
    enum { COUNT = sizeof texts / sizeof texts[0] };
    struct addr addrs[COUNT];
    struct addr none = {.len = 0};

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        assert_true(addr_parse(span_of(texts[i]), &addrs[i]));
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t j = 0; j < COUNT; j++)
            assert_int_equal(addr_equal(&addrs[i], &addrs[j]), i == j);
        assert_false(addr_equal(&addrs[i], &none));
    }
    assert_true(addr_equal(&none, &none));
}

static void test_sockets_without_a_name(void **state)
{
    struct addr addr = {.len = 0};
    char text[ADDR_TEXT_SIZE];
    int fds[2];

    (void)state;
    assert_int_equal(addr_format(&addr, text), 4);
    assert_string_equal(text, "none");
    (void)addr_format_host(&addr, text);
    assert_string_equal(text, "none");
    addr_set_port(&addr, 1);
    assert_int_equal(addr_port(&addr), 0);
    assert_false(addr_of_socket(-1, &addr));

    pair_unix(fds);
    assert_true(addr_of_socket(fds[0], &addr));
    assert_int_equal(addr_format(&addr, text), 5);
    assert_string_equal(text, "unix:");
    close_fd(&fds[0]);
    close_fd(&fds[1]);

    pair_tcp(fds);
    assert_true(addr_of_socket(fds[0], &addr));
    assert_int_not_equal(addr_port(&addr), 0);
    (void)addr_format_host(&addr, text);
    assert_string_equal(text, "127.0.0.1");
    close_fd(&fds[0]);
    close_fd(&fds[1]);
}

static void test_abstract_names(void **state)
{
    struct addr addr = {.len = offsetof(struct sockaddr_un, sun_path) + 5};
    struct sockaddr_un unix_addr = {.sun_family = AF_UNIX, .sun_path = "\0name"};
    char text[ADDR_TEXT_SIZE];

    (void)state;
    memcpy(&addr.storage, &unix_addr, sizeof unix_addr);
    (void)addr_format(&addr, text);
    assert_string_equal(text, "unix:@name");
}

static void test_private(void **state)
{
    static const char *const private[] = {"127.0.0.1",
                                          "10.0.0.1",
                                          "172.16.0.1",
                                          "172.31.255.255",
                                          "192.168.1.1",
                                          "169.254.169.254",
                                          "100.64.0.1",
                                          "0.0.0.0",
                                          "224.0.0.1",
                                          "255.255.255.255",
                                          "198.18.0.1",
                                          "192.0.0.1",
                                          "::",
                                          "::1",
                                          "fe80::1",
                                          "fc00::1",
                                          "fd12::1",
                                          "ff02::1",
                                          "::ffff:127.0.0.1",
                                          "::ffff:10.1.1.1",
                                          "64:ff9b::10.0.0.1",
                                          "2002:7f00:1::",
                                          "2001:db8::1",
                                          "2001::1",
                                          "::127.0.0.1",
                                          "fec0::1"};
    static const char *const public[] = {"1.1.1.1",         "172.32.0.1",        "172.15.255.255",
                                         "11.0.0.0",        "100.128.0.1",       "192.169.0.1",
                                         "223.255.255.255", "2606:4700::1111",   "64:ff9b::1.1.1.1",
                                         "2001:4860::8888", "2002:0101:0101::1", "::ffff:1.1.1.1"};
    struct addr addr;

    (void)state;
    for (size_t i = 0; i < sizeof private / sizeof private[0]; i++) {
        assert_true(addr_from_ip(span_of(private[i]), 80, &addr));
        if (!addr_is_private(&addr))
            fail_msg("%s is private", private[i]);
    }
    for (size_t i = 0; i < sizeof public / sizeof public[0]; i++) {
        assert_true(addr_from_ip(span_of(public[i]), 80, &addr));
        if (addr_is_private(&addr))
            fail_msg("%s is for everybody", public[i]);
    }
    assert_true(addr_parse(SPAN("unix:/run/a.sock"), &addr));
    assert_true(addr_is_private(&addr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_and_back),
        cmocka_unit_test(test_what_is_none_is_refused),
        cmocka_unit_test(test_a_path_may_be_as_long_as_the_kernel_takes),
        cmocka_unit_test(test_literal_hosts),
        cmocka_unit_test(test_equal_is_the_same_place),
        cmocka_unit_test(test_sockets_without_a_name),
        cmocka_unit_test(test_abstract_names),
        cmocka_unit_test(test_private),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
