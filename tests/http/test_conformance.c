/* Goal: what a server of RFC 9110 and 9112 does with each of these bytes, from the first recv to
 * the last send: answers, their order and framing, and whether the connection stays. Each case is
 * sent whole, byte by byte, and split at every position, and must come to the same. */
#include "base/log.h"
#include "lib/http_world.h"
#include "lib/test.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a client sends, and the answers as http_world_answers() has them. */
struct sample {
    const char *name;    /* and where it is written */
    struct span bytes;   /* sent */
    const char *answers; /* wanted */
    uint32_t heads;      /* which answers are to a HEAD */
};

#define B(literal) SPAN(literal)
#define G(path)    "GET " path " HTTP/1.1\r\nHost: a\r\n"
#define P(path)    "POST " path " HTTP/1.1\r\nHost: a\r\n"
#define END        "\r\n"
#define CHUNKED    "Transfer-Encoding: chunked\r\n\r\n"

static const struct sample samples[] = {
    /* 9112 2, 3: requests as they should be */
    {"GET", B(G("/hello") END), "200(hello)", 0},
    {"absolute form, 9112 3.2.2", B("GET http://b/host HTTP/1.1\r\nHost: a\r\n\r\n"), "200(b)", 0},
    {"host", B(G("/host") END), "200(a)", 0},
    {"host with port", B("GET /host HTTP/1.1\r\nHost: a:8080\r\n\r\n"), "200(a:8080)", 0},
    {"empty host", B("GET /host HTTP/1.1\r\nHost:\r\n\r\n"), "200(none)", 0},
    {"field names in any case", B("GET /host HTTP/1.1\r\nhOST: a\r\n\r\n"), "200(a)", 0},
    {"blanks around values", B("GET /host HTTP/1.1\r\nHost:\t a \t\r\n\r\n"), "200(a)", 0},
    {"empty line before a request, 9112 2.2", B("\r\n" G("/hello") END), "200(hello)", 0},
    {"OPTIONS *, 9110 9.3.7", B("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "200()", 0},
    {"other fields", B(G("/type") "Accept: */*\r\nX: y\r\n\r\n"), "200({})", 0},
    {"204, 9110 8.6", B(G("/empty") END G("/hello") END), "204200(hello)", 0},
    {"chunked answer", B(G("/chunked") END G("/hello") END), "200(abcd)200(hello)", 0},

    /* 9110 9.3.2: HEAD */
    {"HEAD", B("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END), "200200(hello)", 1},
    {"HEAD of a chunked answer", B("HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END),
     "200200(hello)", 1},
    {"HEAD of 404", B("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END), "404200(hello)", 1},
    {"HEAD refused", B("HEAD /x HTTP/1.1\r\n\r\n"), "400x$", 1},
    {"HEAD in 1.0", B("HEAD /hello HTTP/1.0\r\n\r\n"), "200x$", 1},

    /* 9112 9.3: persistence and pipelining */
    {"two in line", B(G("/hello") END G("/p/2") END), "200(hello)200(2)", 0},
    {"sixteen in line",
     B(G("/p/1") END G("/p/2") END G("/p/3") END G("/p/4") END G("/p/5") END G("/p/6") END G("/p/7")
           END G("/p/8") END G("/p/9") END G("/p/10") END G("/p/11") END G("/p/12") END G("/p/13")
               END G("/p/14") END G("/p/15") END G("/p/16") END),
     "200(1)200(2)200(3)200(4)200(5)200(6)200(7)200(8)200(9)200(10)200(11)200(12)200(13)200(14)"
     "200(15)200(16)",
     0},
    {"POSTs in line",
     B(P("/echo") "Content-Length: 1\r\n\r\na" P("/echo") CHUNKED
       "1\r\nb\r\n0\r\n\r\n" P("/echo") "Content-Length: 0\r\n\r\n"),
     "200(a)200(b)200()", 0},
    {"close", B(G("/hello") "Connection: close\r\n\r\n"), "200x(hello)$", 0},
    {"close, and more", B(G("/hello") "Connection: close\r\n\r\n" G("/p/2") END), "200x(hello)$",
     0},
    {"close among others", B(G("/hello") "Connection: x, Close\r\n\r\n" G("/p/2") END),
     "200x(hello)$", 0},
    {"close in two fields",
     B(G("/hello") "Connection: x\r\nConnection: close\r\n\r\n" G("/p/2") END), "200x(hello)$", 0},
    {"keep-alive", B(G("/hello") "Connection: keep-alive\r\n\r\n" G("/p/2") END),
     "200(hello)200(2)", 0},
    {"1.0", B("GET /hello HTTP/1.0\r\n\r\n"), "200x(hello)$", 0},
    {"1.0, and more", B("GET /hello HTTP/1.0\r\n\r\nGET /hello HTTP/1.0\r\n\r\n"), "200x(hello)$",
     0},
    {"1.0 kept alive",
     B("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /p/2 HTTP/1.0\r\n\r\n"),
     "200k(hello)200x(2)$", 0},
    {"1.0, length unknown", B("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
     "200x(abcd)$", 0},
    {"1.0 with a body", B("POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"), "200x(ab)$", 0},
    {"1.0 with a host", B("GET /host HTTP/1.0\r\nHost: b\r\n\r\n"), "200x(b)$", 0},
    {"an upgrade that nobody wants, 9110 7.8",
     B(G("/hello") "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
                   "\r\n" G("/p/2") END),
     "200(hello)200(2)", 0},
    {"websocket", B(G("/hello") "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), "200(hello)",
     0},

    /* 9112 6: bodies */
    {"length", B(P("/echo") "Content-Length: 5\r\n\r\nhello"), "200(hello)", 0},
    {"length 0", B(P("/echo") "Content-Length: 0\r\n\r\n"), "200()", 0},
    {"no length", B(P("/echo") END), "200()", 0},
    {"a body that looks like a request",
     B(P("/echo") "Content-Length: 12\r\n\r\nGET / HTTP/1" G("/hello") END),
     "200(GET / HTTP/1)200(hello)", 0},
    {"chunked", B(P("/echo") CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "200(abcde)", 0},
    {"chunk size in capitals", B(P("/echo") CHUNKED "A\r\n0123456789\r\n0\r\n\r\n"),
     "200(0123456789)", 0},
    {"chunk with leading zeros", B(P("/echo") CHUNKED "0001\r\na\r\n0000\r\n\r\n"), "200(a)", 0},
    {"chunk extension, 9112 7.1.1", B(P("/echo") CHUNKED "1;a=b\r\na\r\n0;x=y\r\n\r\n"), "200(a)",
     0},
    {"trailers, 9112 7.1.2",
     B(P("/echo") CHUNKED "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n" G("/hello") END), "200(a)200(hello)",
     0},
    {"trailers that lie",
     B(P("/echo") CHUNKED
       "1\r\na\r\n0\r\nContent-Length: 99\r\nHost: x\r\nConnection: close\r\n\r\n" G("/hello") END),
     "200(a)200(hello)", 0},
    {"body of GET is read", B(G("/hello") "Content-Length: 3\r\n\r\nabc" G("/p/2") END),
     "200(hello)200(2)", 0},
    {"body streamed", B(P("/stream") "Content-Length: 10\r\n\r\n0123456789" G("/hello") END),
     "200(10)200(hello)", 0},
    {"chunks streamed",
     B(P("/stream") CHUNKED "5\r\nabcde\r\n2\r\nfg\r\n0\r\n\r\n" G("/hello") END),
     "200(7)200(hello)", 0},
    {"nothing streamed", B(P("/stream") "Content-Length: 0\r\n\r\n"), "200(0)", 0},

    /* 9110 15.5: what is refused, and the connection stays */
    {"404", B(G("/nothing") END G("/hello") END), "404200(hello)", 0},
    {"404 with a body", B(P("/nothing") "Content-Length: 3\r\n\r\nabc" G("/hello") END),
     "404200(hello)", 0},
    {"404 with chunks", B(P("/nothing") CHUNKED "3\r\nabc\r\n0\r\n\r\n" G("/hello") END),
     "404200(hello)", 0},
    {"404 for a trailing slash", B(G("/hello/") END), "404", 0},
    {"404 for two slashes", B(G("//hello") END), "404", 0},
    {"404 for another case", B(G("/Hello") END), "404", 0},
    {"405", B(P("/hello") END G("/hello") END), "405200(hello)", 0},
    {"405 with a body", B(P("/hello") "Content-Length: 3\r\n\r\nabc" G("/hello") END),
     "405200(hello)", 0},
    {"OPTIONS of a path", B("OPTIONS /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "405", 0},
    {"413 by length, small", B(P("/small") "Content-Length: 5\r\n\r\nabcde" G("/hello") END),
     "413200(hello)", 0},
    {"limit is inclusive", B(P("/small") "Content-Length: 4\r\n\r\nabcd"), "200(abcd)", 0},
    {"413 by length, large", B(P("/echo") "Content-Length: 2000000\r\n\r\nabc"), "413x$", 0},
    {"413 by chunks", B(P("/small") CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "413x$", 0},
    {"413 by the announced chunk", B(P("/small") CHUNKED "5\r\n"), "413x$", 0},
    {"413 by the second announced chunk", B(P("/small") CHUNKED "3\r\nabc\r\n2\r\n"), "413x$", 0},
    {"413 by an absurd chunk", B(P("/echo") CHUNKED "FFFFFFFFFFFFFFFF\r\nabc"), "413x$", 0},
    {"413 by an absurd chunk behind another",
     B(P("/echo") CHUNKED "1\r\na\r\nffffffffffffffff\r\n"), "413x$", 0},
    {"413 by an absurd chunk, streamed",
     B(P("/stream") CHUNKED "1\r\na\r\nFFFFFFFFFFFFFFFF\r\nabc"), "413x$", 0},
    {"chunks up to the limit",
     B(P("/small") CHUNKED "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n" G("/hello") END),
     "200(abcd)200(hello)", 0},
    {"chunks up to the limit", B(P("/small") CHUNKED "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
     "200(abcd)", 0},
    {"417, 9110 10.1.1", B(G("/hello") "Expect: 200-ok\r\n\r\n" G("/hello") END), "417200(hello)",
     0},
    {"417 with a body", B(P("/echo") "Expect: x\r\nContent-Length: 1\r\n\r\na" G("/hello") END),
     "417x$", 0},
    {"417 before the body", B(P("/echo") "Expect: x\r\nContent-Length: 50\r\n\r\n" G("/hello") END),
     "417x$", 0},
    {"417 before chunks", B(P("/echo") "Expect: x\r\n" CHUNKED), "417x$", 0},
    {"expectation in 1.0 is ignored", B("GET /hello HTTP/1.0\r\nExpect: x\r\n\r\n"), "200x(hello)$",
     0},
    {"100-continue without a body", B(G("/hello") "Expect: 100-continue\r\n\r\n"), "200(hello)", 0},
    {"100-continue", B(P("/echo") "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na"), "200(a)",
     0},
    {"100-continue, streamed", B(P("/stream") "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na"),
     "200(1)", 0},

    /* paths: RFC 3986 */
    {"decoded once", B(G("/p/%2541%20%2F") END), "200(%41 /)", 0},
    {"decoded to the route", B(G("/%68ello") END), "200(hello)", 0},
    {"dot segments", B(G("/a/./../hello") END), "200(hello)", 0},
    {"encoded dot segments", B(G("/a/%2e%2e/hello") END), "200(hello)", 0},
    {"rest", B(G("/r/a/b//c%20d/") END), "200(a|b//c d/)", 0},
    {"empty rest", B(G("/r/a/") END), "200(a|)", 0},
    {"query", B(G("/q?x=1&name=a+b%21&name=2") END), "200(a b!)", 0},
    {"query without the name", B(G("/q?x=1") END), "200(absent)", 0},
    {"no query", B(G("/q") END), "200(absent)", 0},
    {"query with odd bytes", B(G("/q?name={}|\\^%zz") END), "200({}|\\^%zz)", 0},
    {"400 for %00", B(G("/p/a%00b") END G("/hello") END), "400200(hello)", 0},
    {"400 for a bad escape", B(G("/p/%4") END), "400", 0},
    {"400 above the root", B(G("/../hello") END), "400", 0},
    {"400 above the root, encoded", B(G("/%2e%2E/hello") END), "400", 0},

    /* what is refused, and the connection ends: each a way to smuggle */
    {"bare LF, 9112 2.2", B("GET /hello HTTP/1.1\nHost: a\n\n"), "400x$", 0},
    {"bare LF ends the head", B(G("/hello") "\n" G("/hello") END), "400x$", 0},
    {"bare CR", B(G("/hello") "X: a\rY: b\r\n\r\n"), "400x$", 0},
    {"CR hides chunked", B(P("/echo") "X: \rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400x$",
     0},
    {"obs-fold, 9112 5.2", B(G("/hello") "X: a\r\n b\r\n\r\n"), "400x$", 0},
    {"folded chunked", B(P("/echo") "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), "400x$", 0},
    {"blank before the colon, 9112 5.1", B("GET /hello HTTP/1.1\r\nHost : a\r\n\r\n"), "400x$", 0},
    {"empty name", B(G("/hello") ": x\r\n\r\n"), "400x$", 0},
    {"name with a blank", B(G("/hello") "X Y: z\r\n\r\n"), "400x$", 0},
    {"no colon", B(G("/hello") "X\r\n\r\n"), "400x$", 0},
    {"NUL in a value", B(G("/hello") "X: \0\r\n\r\n"), "400x$", 0},
    {"control byte in a name", B(G("/hello") "X\x01: y\r\n\r\n"), "400x$", 0},
    {"CL and TE, 9112 6.3", B(P("/echo") "Content-Length: 3\r\n" CHUNKED "0\r\n\r\n"), "400x$", 0},
    {"TE and CL", B(P("/echo") "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE in 1.0, 9112 6.1", B("POST /echo HTTP/1.0\r\n" CHUNKED "0\r\n\r\n"), "400x$", 0},
    {"TE gzip, chunked: 501", B(P("/echo") "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
     "501x$", 0},
    {"TE gzip", B(P("/echo") "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"), "400x$", 0},
    {"TE identity", B(P("/echo") "Transfer-Encoding: identity\r\n\r\n"), "400x$", 0},
    {"TE empty", B(P("/echo") "Transfer-Encoding:\r\n\r\n" G("/hello") END), "400x$", 0},
    {"TE twice",
     B(P("/echo") "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE chunked twice", B(P("/echo") "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE xchunked", B(P("/echo") "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), "400x$", 0},
    {"TE with a tab inside", B(P("/echo") "Transfer-Encoding: chun\tked\r\n\r\n0\r\n\r\n"), "400x$",
     0},
    {"CL twice, the same", B(P("/echo") "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"), "400x$",
     0},
    {"CL twice, different", B(P("/echo") "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
     "400x$", 0},
    {"CL as a list", B(P("/echo") "Content-Length: 1, 1\r\n\r\na"), "400x$", 0},
    {"CL +1", B(P("/echo") "Content-Length: +1\r\n\r\na"), "400x$", 0},
    {"CL -1", B(P("/echo") "Content-Length: -1\r\n\r\n"), "400x$", 0},
    {"CL 0x1", B(P("/echo") "Content-Length: 0x1\r\n\r\na"), "400x$", 0},
    {"CL empty", B(P("/echo") "Content-Length:\r\n\r\n"), "400x$", 0},
    {"CL 2^64", B(P("/echo") "Content-Length: 18446744073709551616\r\n\r\n"), "400x$", 0},
    {"CL 2^64-1", B(P("/echo") "Content-Length: 18446744073709551615\r\n\r\n"), "413x$", 0},
    {"chunk size with 0x", B(P("/echo") CHUNKED "0x1\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size negative", B(P("/echo") CHUNKED "-1\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size too large", B(P("/echo") CHUNKED "10000000000000000\r\na\r\n"), "400x$", 0},
    {"chunk size missing", B(P("/echo") CHUNKED "\r\n\r\n"), "400x$", 0},
    {"chunk without its end", B(P("/echo") CHUNKED "1\r\nab\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk ended by LF", B(P("/echo") CHUNKED "1\r\na\n0\r\n\r\n"), "400x$", 0},
    {"chunk size ended by LF", B(P("/echo") CHUNKED "1\na\r\n0\r\n\r\n"), "400x$", 0},
    {"trailer ended by LF", B(P("/echo") CHUNKED "0\r\n\n" G("/hello") END), "400x$", 0},
    {"folded trailer", B(P("/echo") CHUNKED "0\r\nX: y\r\n z\r\n\r\n"), "400x$", 0},
    {"bad chunk, streamed", B(P("/stream") CHUNKED "1\r\nab\r\n0\r\n\r\n"), "400x$", 0},
    {"no host, 9112 3.2", B("GET /hello HTTP/1.1\r\n\r\n"), "400x$", 0},
    {"two hosts", B(G("/hello") "Host: b\r\n\r\n"), "400x$", 0},
    {"bad host", B("GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n"), "400x$", 0},
    {"host with a user", B("GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n"), "400x$", 0},
    {"two blanks, 9112 3", B("GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"blank in the target", B("GET /hel lo HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"blank behind the version", B("GET /hello HTTP/1.1 \r\nHost: a\r\n\r\n"), "400x$", 0},
    {"fragment", B(G("/hello#x") END), "400x$", 0},
    {"raw UTF-8 in the target", B(G("/p/\xc3\xa9") END), "400x$", 0},
    {"quotes in the path", B(G("/p/\"") END), "400x$", 0},
    {"target without a slash", B(G("hello") END), "400x$", 0},
    {"GET *", B(G("*") END), "400x$", 0},
    {"authority form", B(G("a:80") END), "400x$", 0},
    {"0.9", B("GET /hello\r\n"), "400x$", 0},
    {"version in small letters", B("GET /hello http/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"505 for 2.0", B("GET /hello HTTP/2.0\r\nHost: a\r\n\r\n"), "505x$", 0},
    {"505 for 1.2", B("GET /hello HTTP/1.2\r\nHost: a\r\n\r\n"), "505x$", 0},
    {"505 for the preface of HTTP/2", B("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "505x$", 0},
    {"RTSP", B("GET /hello RTSP/1.0\r\n\r\n"), "400x$", 0},
    {"501 for a method, 9110 9.1", B("BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "501x$", 0},
    {"501 for CONNECT", B("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"), "501x$", 0},
    {"501 for small letters", B("get /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "501x$", 0},
    {"no method", B("(GET) /hello HTTP/1.1\r\n\r\n"), "400x$", 0},
    {"a TLS client", B("\x16\x03\x01\x02\x00\x01\x00"), "400x$", 0},
    {"three empty lines", B("\r\n\r\n\r\n" G("/hello") END), "400x$", 0},
    {"the answers before it still come", B(G("/hello") END G("/p/2") END "GARBAGE\r\n"),
     "200(hello)200(2)400x$", 0},

    /* 9112 2.2, 5: lines and fields, each byte of them */
    {"LF in the request line", B("GET /hel\nlo HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"CR in the request line", B("GET /hel\rlo HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"request line ended by CR CR LF", B("GET /hello HTTP/1.1\r\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"field ended by LF alone", B(G("/hello") "X: a\nY: b\r\n\r\n"), "400x$", 0},
    {"field ended by CR CR LF", B(G("/hello") "X: a\r\r\n\r\n"), "400x$", 0},
    {"LF before a request", B("\n" G("/hello") END), "400x$", 0},
    {"CR before a request", B("\rGET /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"blank before a request", B(" GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"two empty lines before a request", B("\r\n\r\n" G("/hello") END), "200(hello)", 0},
    {"an empty line between two", B(G("/hello") END "\r\n" G("/p/2") END), "200(hello)200(2)", 0},
    {"an empty line behind a body", B(P("/echo") "Content-Length: 1\r\n\r\na\r\n" G("/hello") END),
     "200(a)200(hello)", 0},
    {"blank before the first field, 9112 2.2", B("GET /hello HTTP/1.1\r\n Host: a\r\n\r\n"),
     "400x$", 0},
    {"tab before a field", B(G("/hello") "X: a\r\n\tb\r\n\r\n"), "400x$", 0},
    {"folded with nothing", B(G("/hello") "X: a\r\n \r\n\r\n"), "400x$", 0},
    {"folded Content-Length", B(P("/echo") "Content-Length:\r\n 1\r\n\r\na"), "400x$", 0},
    {"folded Host", B("GET /hello HTTP/1.1\r\nHost:\r\n a\r\n\r\n"), "400x$", 0},
    {"tab before the colon", B(G("/hello") "X\t: a\r\n\r\n"), "400x$", 0},
    {"blank before the colon of CL", B(P("/echo") "Content-Length : 1\r\n\r\na"), "400x$", 0},
    {"blank before the colon of TE", B(P("/echo") "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"NUL in a name", B(G("/hello") "X\0Y: a\r\n\r\n"), "400x$", 0},
    {"DEL in a name", B(G("/hello") "X\x7f: a\r\n\r\n"), "400x$", 0},
    {"UTF-8 in a name", B(G("/hello") "\xc3\xa9: a\r\n\r\n"), "400x$", 0},
    {"slash in a name", B(G("/hello") "X/Y: a\r\n\r\n"), "400x$", 0},
    {"at in a name", B(G("/hello") "X@Y: a\r\n\r\n"), "400x$", 0},
    {"brace in a name", B(G("/hello") "{X}: a\r\n\r\n"), "400x$", 0},
    {"every mark of a token in a name", B(G("/hello") "!#$%&'*+-.^_`|~: a\r\n\r\n"), "200(hello)",
     0},
    {"BEL in a value", B(G("/hello") "X: \x07\r\n\r\n"), "400x$", 0},
    {"ESC in a value", B(G("/hello") "X: a\x1b[0m\r\n\r\n"), "400x$", 0},
    {"DEL in a value", B(G("/hello") "X: \x7f\r\n\r\n"), "400x$", 0},
    {"obs-text in a value, 9110 5.5", B(G("/hello") "X: \xc3\xa9\r\n\r\n"), "200(hello)", 0},
    {"tab in a value", B(G("/hello") "X: a\tb\r\n\r\n"), "200(hello)", 0},
    {"empty value", B(G("/hello") "X:\r\n\r\n"), "200(hello)", 0},
    {"value of blanks", B(G("/hello") "X: \t \r\n\r\n"), "200(hello)", 0},
    {"no blank behind the colon", B("GET /host HTTP/1.1\r\nHost:a\r\n\r\n"), "200(a)", 0},
    {"colons in a value", B(G("/hello") "X: a:b:c\r\n\r\n"), "200(hello)", 0},
    {"the same field often", B(G("/hello") "X: a\r\nX: b\r\nX: c\r\n\r\n"), "200(hello)", 0},

    /* 9112 3: request lines */
    {"only a method", B("GET\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"method and blank", B("GET \r\nHost: a\r\n\r\n"), "400x$", 0},
    {"no version", B("GET /hello\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"blank instead of a version", B("GET /hello \r\nHost: a\r\n\r\n"), "400x$", 0},
    {"tab between", B("GET\t/hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"tab before the version", B("GET /hello\tHTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"two blanks before the version", B("GET /hello  HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"version without a dot", B("GET /hello HTTP/11\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"version with two digits", B("GET /hello HTTP/1.10\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"version with a zero before", B("GET /hello HTTP/01.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"version with a sign", B("GET /hello HTTP/+1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"version of letters", B("GET /hello HTTP/a.b\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"505 for 0.9", B("GET /hello HTTP/0.9\r\n\r\n"), "505x$", 0},
    {"505 for 3.0", B("GET /hello HTTP/3.0\r\nHost: a\r\n\r\n"), "505x$", 0},
    {"ICE", B("SOURCE /hello ICE/1.0\r\n\r\n"), "400x$", 0},
    {"method with a NUL", B("GE\0T /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"method with a colon", B("GET: /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"501 for a longer method", B("GETS /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "501x$", 0},
    {"501 for QUERY", B("QUERY /hello HTTP/1.1\r\nHost: a\r\n\r\n"), "501x$", 0},
    {"405 for DELETE", B("DELETE /hello HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END),
     "405200(hello)", 0},
    {"405 for TRACE, which is served by nobody", B("TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
     "405", 0},
    {"PUT", B("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na"), "200(a)", 0},
    {"NUL in the target", B("GET /p/\0 HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"DEL in the target", B(G("/p/\x7f") END), "400x$", 0},
    {"less-than in the path", B(G("/p/<") END), "400x$", 0},
    {"backslash in the path", B(G("/p\\x") END), "400x$", 0},
    {"caret in the path", B(G("/p/^") END), "400x$", 0},
    {"back-tick in the path", B(G("/p/`") END), "400x$", 0},
    {"bar in the path", B(G("/p/|") END), "400x$", 0},
    {"braces in the path", B(G("/p/{}") END), "400x$", 0},
    {"sub-delims in the path", B(G("/p/!$&'()*+,;=:@") END), "200(!$&'()*+,;=:@)", 0},
    {"unreserved in the path", B(G("/p/-._~aZ09") END), "200(-._~aZ09)", 0},
    {"fragment behind a query", B(G("/q?a#b") END), "400x$", 0},
    {"only a query", B(G("?a") END), "400x$", 0},
    {"only a fragment", B(G("#") END), "400x$", 0},

    /* 9112 3.2: forms of the target, and hosts */
    {"absolute form in capitals", B("GET HTTP://b/host HTTP/1.1\r\nHost: a\r\n\r\n"), "200(b)", 0},
    {"absolute form, https", B("GET https://b/host HTTP/1.1\r\nHost: a\r\n\r\n"), "200(b)", 0},
    {"absolute form with a port", B("GET http://b:81/host HTTP/1.1\r\nHost: a\r\n\r\n"),
     "200(b:81)", 0},
    {"absolute form without a path", B("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "404", 0},
    {"absolute form with a query alone", B("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n"), "404", 0},
    {"absolute form without a host", B("GET http:///host HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"absolute form of nothing", B("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"absolute form with a user", B("GET http://u@b/host HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"absolute form, absurd port", B("GET http://b:99999/host HTTP/1.1\r\nHost: a\r\n\r\n"),
     "400x$", 0},
    {"absolute form, another scheme", B("GET gopher://b/host HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$",
     0},
    {"absolute form, without Host", B("GET http://b/host HTTP/1.1\r\n\r\n"), "400x$", 0},
    {"OPTIONS * with a query", B("OPTIONS *?a HTTP/1.1\r\nHost: a\r\n\r\n"), "400x$", 0},
    {"POST *", B(P("*") "Content-Length: 0\r\n\r\n"), "400x$", 0},
    {"IPv6 host", B("GET /host HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), "200([::1]:80)", 0},
    {"bad IPv6 host", B("GET /host HTTP/1.1\r\nHost: [::1\r\n\r\n"), "400x$", 0},
    {"IPv6 host that is none", B("GET /host HTTP/1.1\r\nHost: [x]\r\n\r\n"), "400x$", 0},
    {"host with a bad port", B("GET /host HTTP/1.1\r\nHost: a:b\r\n\r\n"), "400x$", 0},
    {"host with two ports", B("GET /host HTTP/1.1\r\nHost: a:1:2\r\n\r\n"), "400x$", 0},
    {"host with a blank", B("GET /host HTTP/1.1\r\nHost: a b\r\n\r\n"), "400x$", 0},
    {"host as a list", B("GET /host HTTP/1.1\r\nHost: a, b\r\n\r\n"), "400x$", 0},
    {"host with a query", B("GET /host HTTP/1.1\r\nHost: a?b\r\n\r\n"), "400x$", 0},
    {"two equal hosts", B(G("/host") "Host: a\r\n\r\n"), "400x$", 0},
    {"two hosts in 1.0", B("GET /host HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"), "400x$", 0},
    {"empty and other host", B("GET /host HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n"), "400x$", 0},

    /* 9112 6: framing, in every spelling that somebody may read otherwise */
    {"TE in capitals", B(P("/echo") "TRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n"),
     "200(a)", 0},
    {"TE with blanks before", B(P("/echo") "Transfer-Encoding: \t chunked\r\n\r\n0\r\n\r\n"),
     "200()", 0},
    {"TE with a blank behind", B(P("/echo") "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n"),
     "200()", 0},
    {"TE with a tab behind, stricter than need be",
     B(P("/echo") "Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"), "400x$", 0},
    {"TE in quotes", B(P("/echo") "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), "400x$", 0},
    {"TE with a comma before", B(P("/echo") "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE with a comma behind", B(P("/echo") "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE with a parameter", B(P("/echo") "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE chunked, identity", B(P("/echo") "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE with a vertical tab",
     B(P("/echo") "Transfer-Encoding: \x0b"
                  "chunked\r\n\r\n0\r\n\r\n"),
     "400x$", 0},
    {"TE and CL 0", B(P("/echo") "Content-Length: 0\r\n" CHUNKED "0\r\n\r\n"), "400x$", 0},
    {"TE of a GET", B(G("/hello") CHUNKED "1\r\na\r\n0\r\n\r\n" G("/p/2") END), "200(hello)200(2)",
     0},
    {"CL with blanks around", B(P("/echo") "Content-Length: \t1 \r\n\r\na"), "200(a)", 0},
    {"CL with zeros before", B(P("/echo") "Content-Length: 0001\r\n\r\na"), "200(a)", 0},
    {"CL with a blank inside", B(P("/echo") "Content-Length: 1 1\r\n\r\na"), "400x$", 0},
    {"CL with a dot", B(P("/echo") "Content-Length: 1.0\r\n\r\na"), "400x$", 0},
    {"CL with an exponent", B(P("/echo") "Content-Length: 1e0\r\n\r\na"), "400x$", 0},
    {"CL with an underscore", B(P("/echo") "Content-Length: 1_0\r\n\r\na"), "400x$", 0},
    {"CL in quotes", B(P("/echo") "Content-Length: \"1\"\r\n\r\na"), "400x$", 0},
    {"CL of letters", B(P("/echo") "Content-Length: abc\r\n\r\n"), "400x$", 0},
    {"Content_Length is no CL", B(P("/echo") "Content_Length: 1\r\n\r\n" G("/hello") END),
     "200()200(hello)", 0},
    {"chunk size with a blank before", B(P("/echo") CHUNKED " 1\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size with a sign", B(P("/echo") CHUNKED "+1\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size with an underscore", B(P("/echo") CHUNKED "1_0\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size of no hex", B(P("/echo") CHUNKED "g\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk size with CR alone", B(P("/echo") CHUNKED "1\ra\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk extension with LF", B(P("/echo") CHUNKED "1;a\nb\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk extension with CR", B(P("/echo") CHUNKED "1;a\rb\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk extension in quotes", B(P("/echo") CHUNKED "1;a=\"b\"\r\na\r\n0\r\n\r\n"), "200(a)", 0},
    {"chunk longer than its size", B(P("/echo") CHUNKED "1\r\nabc\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk shorter than its size", B(P("/echo") CHUNKED "3\r\na\r\n0\r\n\r\n"), "400x$", 0},
    {"chunk ended by CR CR LF", B(P("/echo") CHUNKED "1\r\na\r\r\n0\r\n\r\n"), "400x$", 0},
    {"last chunk with a body", B(P("/echo") CHUNKED "0\r\nabc\r\n\r\n"), "400x$", 0},
    {"trailer without a name", B(P("/echo") CHUNKED "0\r\n: a\r\n\r\n"), "400x$", 0},
    {"trailer with a bare CR", B(P("/echo") CHUNKED "0\r\nX: a\rb\r\n\r\n"), "400x$", 0},
    {"trailer with a blank before the colon", B(P("/echo") CHUNKED "0\r\nX : a\r\n\r\n"), "400x$",
     0},
    {"trailer with a NUL", B(P("/echo") CHUNKED "0\r\nX: \0\r\n\r\n"), "400x$", 0},
    {"trailer that says chunked",
     B(P("/echo") CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n" G("/hello") END),
     "200()200(hello)", 0},

    /* 9112 9: one behind another, whatever the first was */
    {"400 in the middle ends it", B(G("/hello") END "GET /p/2 HTTP/1.1\r\n\r\n" G("/p/3") END),
     "200(hello)400x$", 0},
    {"404s in line", B(G("/a") END G("/b") END G("/c") END G("/hello") END), "404404404200(hello)",
     0},
    {"bodies of refused ones are no requests",
     B(P("/nothing") "Content-Length: 35\r\n\r\n" G("/hello") "12345" G("/p/2") END), "404200(2)",
     0},
    {"close behind others", B(G("/p/1") END G("/p/2") "Connection: close\r\n\r\n" G("/p/3") END),
     "200(1)200x(2)$", 0},
    {"1.0 behind 1.1", B(G("/p/1") END "GET /p/2 HTTP/1.0\r\n\r\n" G("/p/3") END), "200(1)200x(2)$",
     0},
    {"keep-alive and close", B(G("/hello") "Connection: keep-alive, close\r\n\r\n" G("/p/2") END),
     "200x(hello)$", 0},
    {"HEADs in line",
     B("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\nHEAD /p/2 HTTP/1.1\r\nHost: a\r\n\r\n" G("/p/3")
           END),
     "200200200(3)", 3},
    {"HEAD of 204", B("HEAD /empty HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END), "204200(hello)",
     1},
    {"HEAD of 405", B("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n" G("/hello") END), "405200(hello)",
     1},
    {"100-continue in line",
     B(P("/echo") "Expect: 100-continue\r\nContent-Length: 1\r\n\r\na" G("/hello") END),
     "200(a)200(hello)", 0},
    {"100-continue in capitals", B(P("/echo") "Expect: 100-CONTINUE\r\nContent-Length: 1\r\n\r\na"),
     "200(a)", 0},

    /* limits */
    {"414", B(G("/p/0123456789012345678901234567890123456789012345678901234567890123456789") END),
     "414x$", 0},
    {"431 for a long head",
     B(G("/hello") "A: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
                   "B: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
                   "C: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
                   "D: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
                   "\r\n"),
     "431x$", 0},
    {"431 for many fields",
     B(G("/hello") "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\nH: 1\r\n\r\n"), "431x$",
     0},

    /* incomplete */
    {"half a head", B("GET /hello HTTP/1.1\r\nHos"), "", 0},
    {"half a body", B(P("/echo") "Content-Length: 5\r\n\r\nhel"), "", 0},
    {"half a chunk", B(P("/echo") CHUNKED "5\r\nhel"), "", 0},
};

/* Sends in two pieces, or in pieces of one byte where `at` is 0. */
static bool run(struct http_world *http, const struct sample *sample, size_t at)
{
    int fd = http_world_connect(http);
    size_t done = 0;
    const char *trace;
    bool is_good;

    while (done < sample->bytes.len) {
        size_t size = at == 0 ? 1 : done == 0 ? at : sample->bytes.len - done;

        http_world_send(http, fd, (struct span){sample->bytes.ptr + done, size});
        done += size;
    }
    trace = http_world_answers(http, fd, sample->heads);
    is_good = strcmp(trace, sample->answers) == 0;
    if (!is_good)
        print_error("%s (split at %zu): %s, wanted %s\n", sample->name, at, trace, sample->answers);
    close_fd(&fd);
    http_world_settle(http);
    if (http_server_counts(http->server)->connections_open == 0)
        return is_good;
    print_error("%s (split at %zu): the connection is still there\n", sample->name, at);
    return false;
}

static bool run_ways(struct http_world *http, const struct sample *sample)
{
    for (size_t at = sample->bytes.len; at > 0; at--) {
        if (!run(http, sample, at))
            return false;
    }
    return run(http, sample, 0);
}

static void test_samples(void **state)
{
    size_t count = sizeof(samples) / sizeof(samples[0]), good = 0;
    struct http_world http;

    (void)state;
    http_world_init(&http);
    http.options.request_line_bytes_max = 64;
    http.options.head_bytes_max = 256;
    http.options.fields_max = 8;
    http_world_start(&http);
    for (size_t i = 0; i < count; i++)
        good += run_ways(&http, &samples[i]);
    assert_int_equal(good, count);
    http_world_deinit(&http);
}

/* Each ends in the middle of something: FIN behind the bytes must neither cost an answer to what
 * was whole before, nor leave anything behind. */
static void test_samples_with_fin(void **state)
{
    size_t count = sizeof(samples) / sizeof(samples[0]), good = 0;
    struct http_world http;

    (void)state;
    http_world_init(&http);
    http.options.request_line_bytes_max = 64;
    http.options.head_bytes_max = 256;
    http.options.fields_max = 8;
    http_world_start(&http);
    for (size_t i = 0; i < count; i++) {
        const struct sample *sample = &samples[i];
        int fd = http_world_connect(&http);
        char wanted[HTTP_TEXT_SIZE];
        const char *trace;
        size_t len = strlen(sample->answers);

        assert_int_equal(send(fd, sample->bytes.ptr, sample->bytes.len, MSG_NOSIGNAL),
                         sample->bytes.len);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        http_world_settle(&http);
        snprintf(wanted, sizeof(wanted), "%s%s", sample->answers,
                 len > 0 && sample->answers[len - 1] == '$' ? "" : "$");
        trace = http_world_answers(&http, fd, sample->heads);
        if (strcmp(trace, wanted) == 0)
            good++;
        else
            print_error("%s, FIN: %s, wanted %s\n", sample->name, trace, wanted);
        assert_int_equal(http_server_counts(http.server)->connections_open, 0);
        close_fd(&fd);
    }
    assert_int_equal(good, count);
    http_world_deinit(&http);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_samples_with_fin),
    };

    log_setup(STDERR_FILENO, LOG_ERROR, false); /* each refusal has its line */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
