/* Goal: headers of the PROXY protocol, of both versions, are read as the specification has them, in
 * whatever pieces they come; nothing else is one, and what follows is left alone. */
#include "http/proxy_line.h"
#include "lib/test.h"

#include <string.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(s)         \
    {                    \
        s, sizeof(s) - 1 \
    }

struct header {
    struct span bytes;
    enum proxy_line outcome;
    const char *client; /* NULL: nobody is named */
};

static const struct header headers[] = {
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), PROXY_LINE_DONE, "192.0.2.1:56324"},
    {BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), PROXY_LINE_DONE,
     "255.255.255.255:65535"},
    {BYTES("PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), PROXY_LINE_DONE, "[2001:db8::1]:1"},
    {BYTES("PROXY UNKNOWN\r\n"), PROXY_LINE_DONE, NULL},
    {BYTES("PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535\r\n"), PROXY_LINE_DONE, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 x\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 70000 443\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 2001:db8::1 ::1 1 2\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 name 198.51.100.1 1 2\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY \r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("proxy TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("GET / HTTP/1.1\r\n"), PROXY_LINE_BAD, NULL},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.1 1 2 "
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
           "xxxxxxxxxxxxxxxxxxxxxxxxxxx"),
     PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1\xbb"), PROXY_LINE_DONE,
     "192.0.2.1:56324"},
    {BYTES(V2 "\x21\x11\0\x10\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1\xbb\4\0\1x"), PROXY_LINE_DONE,
     "192.0.2.1:56324"},
    {BYTES(V2 "\x21\x21\0\x24\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
              "\0\1\0\2"),
     PROXY_LINE_DONE, "[2001:db8::1]:1"},
    {BYTES(V2 "\x20\0\0\0"), PROXY_LINE_DONE, NULL},
    {BYTES(V2 "\x20\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1\xbb"), PROXY_LINE_DONE, NULL},
    {BYTES(V2 "\x21\0\0\0"), PROXY_LINE_DONE, NULL},
    {BYTES(V2 "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x21\x21\0\x0c\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1\xbb"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\1\xdc\4\1\xbb"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x21\x31\0\1x"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x11\x11\0\0"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x22\x11\0\0"), PROXY_LINE_BAD, NULL},
    {BYTES(V2 "\x21\x11\x08\x01"), PROXY_LINE_BAD, NULL},
    {BYTES("\r\n\r\n\0\r\nQUIX\n\x21\x11"), PROXY_LINE_BAD, NULL},
};

static void is_client(const struct addr *client, const char *expected)
{
    char text[ADDR_TEXT_SIZE];

    addr_format(client, text);
    assert_string_equal(text, expected != NULL ? expected : "none");
}

static void test_each_in_every_piece(void **state)
{
    struct addr client;
    char bytes[512];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        const struct header *header = &headers[i];

        for (size_t size = 0; size < header->bytes.len; size++) {
            enum proxy_line found =
                proxy_line_parse((struct span){header->bytes.ptr, size}, &len, &client);
            /* What is bad may show before its end; what is good never does. */
            assert_true(found == PROXY_LINE_MORE ||
                        (found == PROXY_LINE_BAD && header->outcome == PROXY_LINE_BAD));
        }
        memcpy(bytes, header->bytes.ptr, header->bytes.len);
        memcpy(bytes + header->bytes.len, "GET / HTTP/1.1\r\n", 16);
        for (size_t behind = 0; behind <= 16; behind++) {
            assert_int_equal(
                proxy_line_parse((struct span){bytes, header->bytes.len + behind}, &len, &client),
                header->outcome);
            if (header->outcome == PROXY_LINE_DONE) {
                assert_int_equal(len, header->bytes.len);
                is_client(&client, header->client);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_in_every_piece)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
