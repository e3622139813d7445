/* Goal: requests and answers come out of the parser as RFC 9112 says, whatever could be read in two
 * ways is refused with its rule, and neither depends on where the bytes were cut: each case is
 * delivered whole, byte by byte, and split at every position. */
#include "base/check.h"
#include "base/error.h"
#include "http/parser.h"
#include "lib/random.h"
#include "lib/test.h"

#include <stdio.h>

enum { LINE_MAX_BYTES = 64, HEAD_MAX_BYTES = 256, FIELDS_MAX = 6, TRACE_SIZE = 1024 };

/* What is fed, and what is to come of it. The trace: "[GET /]" a head, "C" chunked, "=4" a length,
 * "U" until close, "x" not persistent, "e" expects 100-continue, "E" something else, "(abc)" a
 * body, "." the end of a message, "!rule" refused, "~" within a message when the bytes end. */
struct sample {
    const char *name;   /* of the case */
    struct span bytes;  /* what comes */
    const char *wanted; /* the trace */
};

static const struct http_parser_limits limits = {LINE_MAX_BYTES, HEAD_MAX_BYTES, HEAD_MAX_BYTES,
                                                 HTTP_EXCESS_BYTES};

#define B(literal) SPAN(literal)
#define H          "Host: a\r\n"

static const struct sample requests[] = {
    /* RFC 9112 section 2 and 3: what is right */
    {"plain", B("GET / HTTP/1.1\r\n" H "\r\n"), "[GET /]."},
    {"pipelined", B("GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n"),
     "[GET /a].[GET /b]."},
    {"close", B("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\nGET /"), "[GET /]x."},
    {"close among others", B("GET / HTTP/1.1\r\n" H "Connection: foo, Close\r\n\r\n"), "[GET /]x."},
    {"1.0", B("GET / HTTP/1.0\r\n\r\n"), "[GET /]x."},
    {"1.0 keep-alive", B("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), "[GET /]."},
    {"1.0 with a body", B("POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"), "[POST /]=2x(ab)."},
    {"length",
     B("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]=5(hello).[GET /]."},
    {"length 0", B("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"), "[POST /]=0."},
    {"length 0004", B("POST / HTTP/1.1\r\n" H "Content-Length: 0004\r\n\r\nabcd"),
     "[POST /]=4(abcd)."},
    {"length, blank behind", B("POST / HTTP/1.1\r\n" H "Content-Length: 4 \r\n\r\nabcd"),
     "[POST /]=4(abcd)."},
    {"length with GET", B("GET / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx"), "[GET /]=1(x)."},
    {"body short", B("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhel"), "[POST /]=5(hel)~"},
    {"head short", B("GET / HTTP/1.1\r\nHos"), "~"},
    {"chunked",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
       "4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n"),
     "[POST /]C(abcdefg)."},
    {"chunked, then another",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n"
       "1\r\na\r\n0\r\n\r\nGET /b HTTP/1.1\r\n" H "\r\n"),
     "[POST /]C(a).[GET /b]."},
    {"chunked, empty", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "[POST /]C."},
    {"chunked, 000",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
       "01\r\na\r\n000\r\n\r\n"),
     "[POST /]C(a)."},
    {"chunk extension",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
       "1;a=b\r\nx\r\n0\r\n\r\n"),
     "[POST /]C(x)."},
    {"trailers are dropped",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
       "1\r\nx\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]C(x).[GET /]."},
    {"one empty line", B("\r\nGET / HTTP/1.1\r\n" H "\r\n"), "[GET /]."},
    {"two empty lines", B("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), "[GET /]."},
    {"empty line after a body",
     B("POST / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\na\r\nGET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]=1(a).[GET /]."},
    {"empty value", B("GET / HTTP/1.1\r\n" H "X:\r\n\r\n"), "[GET /]."},
    {"latin-1 in a value", B("GET / HTTP/1.1\r\n" H "X: \xe9\r\n\r\n"), "[GET /]."},
    {"expect", B("POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"),
     "[POST /]=1e~"},
    {"expect more", B("POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
     "[POST /]=1E~"},
    {"expect in 1.0", B("POST / HTTP/1.0\r\nExpect: foo\r\nContent-Length: 1\r\n\r\nx"),
     "[POST /]=1x(x)."},
    {"upgrade is ignored",
     B("GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
       "GET /b HTTP/1.1\r\n" H "\r\n"),
     "[GET /].[GET /b]."},
    {"upgrade with a body is ignored",
     B("POST / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n"
       "aGET /b HTTP/1.1\r\n" H "\r\n"),
     "[POST /]=1(a).[GET /b]."},
    {"absolute form", B("GET http://b:80/x?y HTTP/1.1\r\n" H "\r\n"), "[GET http://b:80/x?y]."},
    {"OPTIONS *", B("OPTIONS * HTTP/1.1\r\n" H "\r\n"), "[OPTIONS *]."},
    {"empty host", B("GET / HTTP/1.1\r\nHost:\r\n\r\n"), "[GET /]."},
    {"1.0 without host", B("GET / HTTP/1.0\r\n\r\n"), "[GET /]x."},
    {"six fields", B("GET / HTTP/1.1\r\n" H "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n\r\n"),
     "[GET /]."},
    /* facts 4.4.1: bare LF */
    {"lf after the request line", B("GET / HTTP/1.1\n" H "\r\n"), "!bare_lf"},
    {"lf after a field", B("GET / HTTP/1.1\r\nHost: a\n\r\n"), "!bare_lf"},
    {"lf as the empty line", B("GET / HTTP/1.1\r\n" H "\n"), "!bare_lf"},
    {"lf only", B("GET / HTTP/1.1\nHost: a\n\n"), "!bare_lf"},
    {"lf before a request", B("\nGET / HTTP/1.1\r\n" H "\r\n"), "!bare_lf"},
    {"lf ends the trailer", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\n"),
     "[POST /]C!bare_lf"},
    {"lf in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n"),
     "[POST /]C!bare_lf"},
    {"lf after a chunk size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"lf after an extension",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;a\na\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"lf after chunk data",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n"),
     "[POST /]C(a)!bad_chunk"},
    {"lf after the last size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\n\r\n"), "[POST /]C!bad_chunk"},
    /* 4.3: what llhttp's strict mode is for, and bare CR */
    {"cr hides a field", B("GET / HTTP/1.1\r\n" H "X-Abc:\rxTransfer-Encoding: chunked\r\n\r\n"),
     "!bare_cr"},
    {"crlfcr ends no head", B("GET / HTTP/1.1\r\n" H "\r\rX: y\r\n\r\n"), "!bare_cr"},
    {"cr in a value", B("GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n"), "!bare_cr"},
    {"cr in the request line", B("GET /\r HTTP/1.1\r\n" H "\r\n"), "!bare_cr"},
    {"two crs", B("GET / HTTP/1.1\r\n" H "\r\r\n"), "!bare_cr"},
    {"cr before a request", B("\rGET / HTTP/1.1\r\n" H "\r\n"), "!bare_cr"},
    {"cr after a chunk size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n4\rXabcd\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"any two bytes for crlf",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n4\r\nabcdXX0\r\n\r\n"),
     "[POST /]C(abcd)!bad_chunk"},
    {"blank before the colon", B("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), "!bad_field"},
    {"blank in a name", B("GET / HTTP/1.1\r\n" H "X Y: v\r\n\r\n"), "!bad_field"},
    {"no colon", B("GET / HTTP/1.1\r\n" H "X\r\n\r\n"), "!bad_field"},
    {"latin-1 in a name", B("GET / HTTP/1.1\r\n" H "X\xe9: v\r\n\r\n"), "!bad_field"},
    {"nul in a value", B("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), "!bad_field"},
    {"nul in a name", B("GET / HTTP/1.1\r\n" H "X\0: b\r\n\r\n"), "!bad_field"},
    {"escape in a value", B("GET / HTTP/1.1\r\n" H "X: a\x1b[0m\r\n\r\n"), "!bad_field"},
    {"raw utf-8 in the target", B("GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"nul in the target", B("GET /a\0 HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"tab before the version", B("GET /\tHTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    /* 4.4.2: folds */
    {"fold", B("GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"), "!obs_fold"},
    {"fold with a tab", B("GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"), "!obs_fold"},
    {"folded coding", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
     "!obs_fold"},
    {"fold before the first field", B("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), "!obs_fold"},
    {"fold in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n"),
     "[POST /]C!obs_fold"},
    /* 4.4.3 and 4: transfer codings */
    {"coding empty", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"), "!bad_coding"},
    {"coding empty, with length",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na"),
     "!coding_and_length"},
    {"coding, then length",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n"),
     "!coding_and_length"},
    {"length, then coding",
     B("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"),
     "!coding_and_length"},
    {"coding in 1.0", B("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "!coding_in_1_0"},
    {"gzip, chunked", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"),
     "!unknown_coding"},
    {"identity, chunked", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity, chunked\r\n\r\n"),
     "!unknown_coding"},
    {"gzip", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"), "!bad_coding"},
    {"identity", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"), "!bad_coding"},
    {"xchunked", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), "!bad_coding"},
    {"chunked, identity", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n"),
     "!bad_coding"},
    {",chunked", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: ,chunked\r\n\r\n"), "!bad_coding"},
    {"chunked,", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked,\r\n\r\n"), "!bad_coding"},
    {"chunked twice", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n"),
     "!bad_coding"},
    {"coding over two fields",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
     "!coding_twice"},
    {"coding over two fields, gzip first",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"),
     "!coding_twice"},
    {"chunked in quotes", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"),
     "!bad_coding"},
    {"vertical tab before chunked",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
       "chunked\r\n\r\n"),
     "!bad_field"},
    /* 4.4.5 */
    {"empty name", B("GET / HTTP/1.1\r\n" H ": b\r\n\r\n"), "!empty_name"},
    {"empty name in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n: b\r\n\r\n"),
     "[POST /]C!empty_name"},
    /* 4.4.6: versions */
    {"0.9", B("GET /\r\n"), "!bad_request_line"},
    {"0.9 with fields", B("GET /\r\nHost: a\r\n\r\n"), "!bad_request_line"},
    {"HTTP/0.9", B("GET / HTTP/0.9\r\n\r\n"), "!unknown_version"},
    {"HTTP/1.2", B("GET / HTTP/1.2\r\n" H "\r\n"), "!unknown_version"},
    {"HTTP/2.0", B("GET / HTTP/2.0\r\n" H "\r\n"), "!unknown_version"},
    {"h2 preface", B("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "!unknown_version"},
    {"RTSP", B("GET / RTSP/1.0\r\n\r\n"), "!bad_version"},
    {"ICE", B("GET / ICE/1.0\r\n\r\n"), "!bad_version"},
    {"HTTP/1", B("GET / HTTP/1\r\n\r\n"), "!bad_version"},
    {"HTTP/1.10", B("GET / HTTP/1.10\r\n\r\n"), "!bad_version"},
    {"http/1.1", B("GET / http/1.1\r\n" H "\r\n"), "!bad_version"},
    /* 4.4.7: the request line */
    {"two blanks before the target", B("GET  / HTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    {"two blanks before the version", B("GET /  HTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    {"blank behind the version", B("GET / HTTP/1.1 \r\n" H "\r\n"), "!bad_request_line"},
    {"blank in the target", B("GET /a b HTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    {"blank before the method", B(" GET / HTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    {"fragment", B("GET /a#b HTTP/1.1\r\n" H "\r\n"), "!fragment"},
    {"tls hello", B("\x16\x03\x01\x02"), "!bad_request_line"},
    /* 4.4.8 */
    {"three empty lines", B("\r\n\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), "!empty_lines"},
    /* 4.4.9: host and target */
    {"no host", B("GET / HTTP/1.1\r\n\r\n"), "!no_host"},
    {"two hosts", B("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "!host_twice"},
    {"two hosts in 1.0", B("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), "!host_twice"},
    {"host with a blank", B("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), "!bad_host"},
    {"host with a path", B("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), "!bad_host"},
    {"host with a user", B("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), "!bad_host"},
    {"host with a comma", B("GET / HTTP/1.1\r\nHost: a:80,b\r\n\r\n"), "!bad_host"},
    {"host with a large port", B("GET / HTTP/1.1\r\nHost: a:99999999\r\n\r\n"), "!bad_host"},
    {"absolute form needs a host too", B("GET http://a/ HTTP/1.1\r\n\r\n"), "!no_host"},
    {"http://", B("GET http:// HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"http:///x", B("GET http:///x HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"user in the target", B("GET http://u@a/ HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"gopher", B("GET gopher://a/ HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"no slash", B("GET a HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"GET *", B("GET * HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    {"angle brackets in the path", B("GET /<a> HTTP/1.1\r\n" H "\r\n"), "!bad_target"},
    /* 4.4.10: lengths */
    {"length 2^63", B("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"),
     "!length_out_of_range"},
    {"length 2^64-1", B("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551615\r\n\r\n"),
     "!length_out_of_range"},
    {"length 2^64", B("POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551616\r\n\r\n"),
     "!bad_length"},
    {"length twice", B("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nContent-Length: 4\r\n\r\n"),
     "!bad_length"},
    {"length 4, 4", B("POST / HTTP/1.1\r\n" H "Content-Length: 4, 4\r\n\r\n"), "!bad_length"},
    {"length +4", B("POST / HTTP/1.1\r\n" H "Content-Length: +4\r\n\r\n"), "!bad_length"},
    {"length -4", B("POST / HTTP/1.1\r\n" H "Content-Length: -4\r\n\r\n"), "!bad_length"},
    {"length 0x4", B("POST / HTTP/1.1\r\n" H "Content-Length: 0x4\r\n\r\n"), "!bad_length"},
    {"length 4 4", B("POST / HTTP/1.1\r\n" H "Content-Length: 4 4\r\n\r\n"), "!bad_length"},
    {"length empty", B("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), "!bad_length"},
    /* 4.4.11: a length in the trailer must not count */
    {"coding in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: x\r\n"
       "\r\nGET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]C.[GET /]."},
    {"close in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n"
       "\r\nGET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]C.[GET /]."},
    {"no field in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nfoo\r\nA: b\r\n\r\n"),
     "[POST /]C!bad_field"},
    {"blank before the colon in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n"),
     "[POST /]C!bad_field"},
    {"nul in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nA: \0\r\n\r\n"),
     "[POST /]C!bad_field"},
    {"length in the trailer",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 4\r\n\r\n"
       "GET / HTTP/1.1\r\n" H "\r\n"),
     "[POST /]C.[GET /]."},
    /* 4.4.12: methods */
    {"CONNECT", B("CONNECT a:80 HTTP/1.1\r\n" H "\r\n"), "!unknown_method"},
    {"QUERY", B("QUERY / HTTP/1.1\r\n" H "\r\n"), "!unknown_method"},
    {"DESCRIBE", B("DESCRIBE / HTTP/1.1\r\n" H "\r\n"), "!unknown_method"},
    {"get", B("get / HTTP/1.1\r\n" H "\r\n"), "!unknown_method"},
    {"no token", B("G(T / HTTP/1.1\r\n" H "\r\n"), "!bad_request_line"},
    /* 4.4.13: limits */
    {"request line of 64 bytes",
     B("GET /01234567890123456789012345678901234567890123456789 HTTP/1.1\r\n" H "\r\n"),
     "[GET /01234567890123456789012345678901234567890123456789]."},
    {"request line of 65 bytes",
     B("GET /012345678901234567890123456789012345678901234567890 HTTP/1.1\r\n" H "\r\n"),
     "!line_too_long"},
    {"request line without an end",
     B("GET /0123456789012345678901234567890123456789012345678901234567890"), "!line_too_long"},
    {"seven fields",
     B("GET / HTTP/1.1\r\n" H "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\n\r\n"),
     "!too_many_fields"},
    {"head of 256 bytes",
     B("GET / HTTP/1.1\r\n" H "A: "
       "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
       "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
       "0123456789012345678901234567890123456789012345678901234567890123"
       "\r\n\r\n"),
     "[GET /]."},
    {"head of 257 bytes",
     B("GET / HTTP/1.1\r\n" H "A: "
       "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
       "01234567890123456789012345678901234567890123456789012345678901234567890123456789"
       "01234567890123456789012345678901234567890123456789012345678901234"
       "\r\n\r\n"),
     "!head_too_big"},
    {"trailer too big",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n"
       "A: 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
       "7890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
       "8"
       "90123456789012345678901234567890123456789012345678901234567890123456789012345678\r\n\r\n"),
     "[POST /]C!trailer_too_big"},
    /* chunks */
    {"chunk size 0x4",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n0x4\r\nabcd\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"chunk size of 17 digits",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n"),
     "[POST /]C!bad_chunk"},
    {"chunk size -1", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n-1\r\n"),
     "[POST /]C!bad_chunk"},
    {"chunk size none", B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"blank before a chunk size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n 4\r\nabcd\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"blank behind a chunk size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n4 \r\nabcd\r\n0\r\n\r\n"),
     "[POST /]C!bad_chunk"},
    {"chunk longer than its size",
     B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"),
     "[POST /]C(ab)!bad_chunk"},
};

static const struct sample answers[] = {
    {"plain", B("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), "[200]=2(ok)."},
    {"no reason", B("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"), "[200]=0."},
    {"no blank either", B("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), "[200]=0."},
    {"two",
     B("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 1\r\n"
       "\r\nb"),
     "[200]=1(a).[404]=1(b)."},
    {"chunked", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
     "[200]C(abc)."},
    {"until close", B("HTTP/1.1 200 OK\r\n\r\nall of it"), "[200]Ux(all of it)."},
    {"until close, empty", B("HTTP/1.1 200 OK\r\n\r\n"), "[200]Ux."},
    {"until close, 1.0", B("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc"),
     "[200]Ux(abc)."},
    {"1.0 kept alive", B("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na"),
     "[200]=1(a)."},
    {"1.0", B("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na"), "[200]=1x(a)."},
    {"close", B("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\naHTTP"),
     "[200]=1x(a)."},
    {"interim",
     B("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
       "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
     "[100].[103].[200]=1(a)."},
    {"interim with a length",
     B("HTTP/1.1 102 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 204 x\r\n\r\n"), "[102]=3.[204]."},
    {"204 with a length",
     B("HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n"
       "Content-Length: 0\r\n\r\n"),
     "[204]=3.[200]=0."},
    {"304 with a length",
     B("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n"
       "Content-Length: 0\r\n\r\n"),
     "[304]=3.[200]=0."},
    {"304 chunked",
     B("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\n"
       "Content-Length: 0\r\n\r\n"),
     "[304]C.[200]=0."},
    {"101", B("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "!unasked_101"},
    {"status 99", B("HTTP/1.1 099 x\r\n\r\n"), "!bad_status_line"},
    {"status 999", B("HTTP/1.1 999 x\r\n\r\n"), "!bad_status_line"},
    {"status 600", B("HTTP/1.1 600 x\r\n\r\n"), "!bad_status_line"},
    {"status 20", B("HTTP/1.1 20 x\r\n\r\n"), "!bad_status_line"},
    {"status 2000", B("HTTP/1.1 2000 x\r\n\r\n"), "!bad_status_line"},
    {"no status", B("HTTP/1.1\r\n\r\n"), "!bad_status_line"},
    {"two blanks", B("HTTP/1.1  200 OK\r\n\r\n"), "!bad_status_line"},
    {"HTTP/2", B("HTTP/2.0 200 OK\r\n\r\n"), "!unknown_version"},
    {"no HTTP", B("SSH-2.0-OpenSSH\r\n\r\n"), "!bad_status_line"},
    {"empty line first", B("\r\nHTTP/1.1 200 OK\r\n\r\n"), "!bad_status_line"},
    {"lf", B("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"), "!bare_lf"},
    {"cr in the reason", B("HTTP/1.1 200 O\rK\r\n\r\n"), "!bare_cr"},
    {"fold", B("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"), "!obs_fold"},
    {"lf as the empty line", B("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"), "!bare_lf"},
    {"lf ends the trailer", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n"),
     "[200]C!bare_lf"},
    {"fold in the trailer",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n c\r\n\r\n"),
     "[200]C!obs_fold"},
    {"a trailer that lies",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n"
       "Connection: close\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
     "[200]C.[204]."},
    {"cr hides a coding", B("HTTP/1.1 200 OK\r\nX:\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
     "!bare_cr"},
    {"folded coding", B("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
     "!obs_fold"},
    {"empty name", B("HTTP/1.1 200 OK\r\n: x\r\n\r\n"), "!empty_name"},
    {"blank before the colon", B("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na"), "!bad_field"},
    {"nul in a value", B("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"), "!bad_field"},
    {"coding empty", B("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n"), "!bad_coding"},
    {"coding empty, and a length",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 1\r\n\r\na"),
     "!coding_and_length"},
    {"chunked twice",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
     "!coding_twice"},
    {"identity, until close", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc"),
     "!bad_coding"},
    {"length 2^63", B("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n"),
     "!length_out_of_range"},
    {"length in a list", B("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na"), "!bad_length"},
    {"204 chunked", B("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
     "[204]C.[204]."},
    {"interim chunked",
     B("HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
     "[103]C.[204]."},
    {"RTSP", B("RTSP/1.0 200 OK\r\n\r\n"), "!bad_version"},
    {"HTTP/0.9", B("HTTP/0.9 200 OK\r\n\r\n"), "!unknown_version"},
    {"reason glued on", B("HTTP/1.1 200OK\r\n\r\n"), "!bad_status_line"},
    {"cr first", B("\rHTTP/1.1 200 OK\r\n\r\n"), "!bare_cr"},
    {"coding and length",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
     "!coding_and_length"},
    {"gzip, chunked", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
     "!unknown_coding"},
    {"coding in 1.0", B("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "!coding_in_1_0"},
    {"length twice", B("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
     "!bad_length"},
    {"cut off in the head", B("HTTP/1.1 200 OK\r\nCon"), "!cut_off"},
    {"cut off in the body", B("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"),
     "[200]=3(ab)!cut_off"},
    {"cut off in a chunk", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"),
     "[200]C(ab)!cut_off"},
    {"cut off before the last chunk",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "[200]C(abc)!cut_off"},
    {"cut off in the trailer",
     B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"),
     "[200]C(abc)!cut_off"},
};

static const struct sample head_answers[] = {
    {"length without a body", B("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "[200]=5."},
    {"nothing said", B("HTTP/1.1 200 OK\r\n\r\n"), "[200]."},
    {"chunked", B("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "[200]C."},
    {"interim first", B("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
     "[100].[200]=5."},
};

/* ---- the trace ---- */

struct trace {
    char text[TRACE_SIZE]; /* so far, with a NUL */
    size_t len;            /* of it */
    bool is_in_body;       /* a '(' is open */
};

static void put(struct trace *trace, const char *text, size_t len)
{
    assert_true(trace->len + len < TRACE_SIZE);
    memcpy(trace->text + trace->len, text, len);
    trace->len += len;
    trace->text[trace->len] = '\0';
}

static void put_text(struct trace *trace, const char *text)
{
    put(trace, text, strlen(text));
}

static void close_body(struct trace *trace)
{
    if (trace->is_in_body)
        put_text(trace, ")");
    trace->is_in_body = false;
}

static void put_head(struct trace *trace, const struct http_head *head)
{
    char text[256];

    if (head->is_request)
        snprintf(text, sizeof(text), "[%.*s %.*s]", SPAN_ARG(head->method), SPAN_ARG(head->target));
    else
        snprintf(text, sizeof(text), "[%u]", head->code);
    put_text(trace, text);
    if (head->length >= 0) {
        snprintf(text, sizeof(text), "=%d", (int)head->length);
        put_text(trace, text);
    }
    put_text(trace, head->is_chunked ? "C" : "");
    put_text(trace, head->is_until_close ? "U" : "");
    put_text(trace, head->is_persistent ? "" : "x");
    put_text(trace, head->expect == HTTP_EXPECT_CONTINUE ? "e" : "");
    put_text(trace, head->expect == HTTP_EXPECT_OTHER ? "E" : "");
}

static void put_event(struct trace *trace, const struct http_parser *parser, enum http_event event,
                      struct span body)
{
    if (event != HTTP_EVENT_BODY && event != HTTP_EVENT_MORE)
        close_body(trace);
    switch (event) {
    case HTTP_EVENT_MORE:
        break;
    case HTTP_EVENT_HEAD:
        put_head(trace, parser->head);
        break;
    case HTTP_EVENT_BODY:
        assert_true(body.len > 0);
        put_text(trace, trace->is_in_body ? "" : "(");
        put(trace, body.ptr, body.len);
        trace->is_in_body = true;
        break;
    case HTTP_EVENT_END:
        put_text(trace, ".");
        break;
    case HTTP_EVENT_REFUSED:
        put_text(trace, "!");
        put_text(trace, guard_rule(parser->refused)->token);
        break;
    }
}

/* ---- driving ---- */

enum { REQUESTS, ANSWERS, HEAD_ANSWERS };

/* Asks until there is no more. False: refused. */
static bool drain(struct http_parser *parser, struct buf *in, struct trace *trace)
{
    enum http_event event;
    struct span body = {NULL, 0};

    do {
        event = http_parser_next(parser, in, &body);
        put_event(trace, parser, event, body);
    } while (event != HTTP_EVENT_MORE && event != HTTP_EVENT_REFUSED);
    return event == HTTP_EVENT_MORE;
}

/* The end of what comes. */
static void finish(struct http_parser *parser, int kind, struct trace *trace)
{
    enum http_event event;

    if (kind != REQUESTS) {
        event = http_parser_finish(parser);
        put_event(trace, parser, event, (struct span){NULL, 0});
        return;
    }
    event = http_parser_finish(parser);
    close_body(trace);
    put_text(trace, event == HTTP_EVENT_REFUSED ? "~" : "");
}

/* Feeds the bytes in two pieces, or in pieces of one byte where `at` is 0; what comes of it. */
static void trace_of(struct span bytes, int kind, size_t at, struct trace *trace)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser parser;
    struct buf in;
    size_t done = 0;
    bool is_alive = true;

    trace->len = 0;
    trace->text[0] = '\0';
    trace->is_in_body = false;
    buf_init(&in, NULL);
    http_parser_init(&parser, kind == REQUESTS ? HTTP_PARSE_REQUESTS : HTTP_PARSE_ANSWERS, head,
                     &limits);
    if (kind == HEAD_ANSWERS)
        http_parser_answers_head(&parser, true);
    while (is_alive && done < bytes.len) {
        size_t size = at == 0 ? 1 : done == 0 ? at : bytes.len - done;
        struct buf next = {0}; /* elsewhere, so that ASan sees who still looks at the old one */

        buf_append(&next, buf_span(&in));
        buf_append(&next, (struct span){bytes.ptr + done, size});
        buf_release(&in);
        in = next;
        done += size;
        is_alive = drain(&parser, &in, trace);
    }
    if (is_alive)
        finish(&parser, kind, trace);
    buf_release(&in);
    http_head_destroy(head);
}

static bool run(const struct sample *sample, int kind, size_t at)
{
    struct trace trace;

    trace_of(sample->bytes, kind, at, &trace);
    if (strcmp(trace.text, sample->wanted) == 0)
        return true;
    print_error("%s (split at %zu): %s, wanted %s\n", sample->name, at, trace.text, sample->wanted);
    return false;
}

static bool run_ways(const struct sample *sample, int kind)
{
    for (size_t at = sample->bytes.len; at > 0; at--) {
        if (!run(sample, kind, at))
            return false;
    }
    return run(sample, kind, 0);
}

static void run_all(const struct sample *samples, size_t count, int kind)
{
    size_t good = 0;

    for (size_t i = 0; i < count; i++)
        good += run_ways(&samples[i], kind);
    assert_int_equal(good, count);
}

static void test_requests(void **state)
{
    (void)state;
    run_all(requests, sizeof(requests) / sizeof(requests[0]), REQUESTS);
}

static void test_answers(void **state)
{
    (void)state;
    run_all(answers, sizeof(answers) / sizeof(answers[0]), ANSWERS);
    run_all(head_answers, sizeof(head_answers) / sizeof(head_answers[0]), HEAD_ANSWERS);
}

/* ---- what the table cannot say ---- */

static void test_fields_are_slices_without_blanks(void **state)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser parser;
    struct buf in = {0};
    struct span body;

    (void)state;
    buf_append(&in, B("GET http://b:81/x?y=1 HTTP/1.1\r\nHost: a\r\nX-A:\t one two \t\r\nX-E:\r\n"
                      "x-a: second\r\n\r\nrest"));
    http_parser_init(&parser, HTTP_PARSE_REQUESTS, head, &limits);
    assert_true(http_parser_is_idle(&parser));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_HEAD);
    assert_int_equal(head->fields.count, 4);
    assert_true(span_equal(http_field_get(&head->fields, SPAN("X-a")), SPAN("one two")));
    assert_int_equal(http_field_count(&head->fields, SPAN("X-A")), 2);
    assert_non_null(http_field_get(&head->fields, SPAN("x-e")).ptr);
    assert_int_equal(http_field_get(&head->fields, SPAN("x-e")).len, 0);
    assert_null(http_field_get(&head->fields, SPAN("x-f")).ptr);
    assert_true(span_equal(head->host, SPAN("b:81")));
    assert_true(span_equal(head->uri.path, SPAN("/x")));
    assert_true(span_equal(head->uri.query, SPAN("y=1")));
    assert_false(http_parser_is_idle(&parser));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_END);
    assert_true(http_parser_is_idle(&parser));
    assert_true(span_equal(buf_span(&in), SPAN("rest")));
    buf_release(&in);
    http_head_destroy(head);
}

/* Two parsers share a head, and their messages are interleaved. */
static void test_parsers_share_a_head(void **state)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser one, two;
    struct buf in_one = {0}, in_two = {0};
    struct span body;

    (void)state;
    http_parser_init(&one, HTTP_PARSE_ANSWERS, head, &limits);
    http_parser_init(&two, HTTP_PARSE_ANSWERS, head, &limits);
    buf_append(&in_one, B("HTTP/1.1 200 OK\r\n\r\nuntil"));
    buf_append(&in_two, B("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb"));
    assert_int_equal(http_parser_next(&one, &in_one, &body), HTTP_EVENT_HEAD);
    assert_int_equal(http_parser_next(&two, &in_two, &body), HTTP_EVENT_HEAD);
    assert_int_equal(http_parser_next(&two, &in_two, &body), HTTP_EVENT_END);
    assert_int_equal(http_parser_next(&one, &in_one, &body), HTTP_EVENT_BODY);
    assert_true(span_equal(body, SPAN("until")));
    assert_int_equal(http_parser_next(&one, &in_one, &body), HTTP_EVENT_MORE);
    assert_int_equal(http_parser_next(&two, &in_two, &body), HTTP_EVENT_HEAD);
    assert_int_equal(http_parser_finish(&one), HTTP_EVENT_END);
    assert_int_equal(http_parser_next(&two, &in_two, &body), HTTP_EVENT_BODY);
    assert_int_equal(http_parser_next(&two, &in_two, &body), HTTP_EVENT_END);
    buf_release(&in_one);
    buf_release(&in_two);
    http_head_destroy(head);
}

/* Feeds the same piece over and over; returns how many bytes it took to be refused, or
 * `bytes_max`. */
static size_t feed_until_refused(struct span start, struct span piece, size_t bytes_max,
                                 enum guard *refused)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser parser;
    struct buf in = {0};
    struct span body;
    enum http_event event = HTTP_EVENT_MORE;
    size_t total = 0;

    http_parser_init(&parser, HTTP_PARSE_REQUESTS, head, &limits);
    buf_append(&in, start);
    while (event != HTTP_EVENT_REFUSED && total < bytes_max) {
        event = http_parser_next(&parser, &in, &body);
        if (event == HTTP_EVENT_MORE) {
            buf_append(&in, piece);
            total += piece.len;
        }
    }
    *refused = parser.refused;
    buf_release(&in);
    http_head_destroy(head);
    return total;
}

static void test_chunk_framing_is_bounded(void **state)
{
    struct span start = B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
    struct span extension = B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;");
    enum guard refused;

    (void)state;
    /* one extension without an end; zeros without an end; many extensions; tiny chunks are fine */
    assert_true(feed_until_refused(extension, B("abcdefgh"), 1 << 20, &refused) < 20000);
    assert_int_equal(refused, GUARD_CHUNK_EXCESS);
    assert_true(feed_until_refused(start, B("00000000"), 1 << 20, &refused) < 20000);
    assert_int_equal(refused, GUARD_CHUNK_EXCESS);
    assert_true(feed_until_refused(start, B("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=b\r\nx\r\n"),
                                   1 << 20, &refused) < 40000);
    assert_int_equal(refused, GUARD_CHUNK_EXCESS);
    assert_int_equal(feed_until_refused(start, B("1\r\nx\r\n"), 60000, &refused), 60000);
    assert_int_equal(refused, GUARD_OK);
}

/* Both messages have a limit of 4 bytes; neither's chunks count for the other. */
static void test_a_chunk_beyond_the_limit_is_refused_unseen(void **state)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser parser;
    struct buf in = {0};
    struct span body;

    (void)state;
    http_parser_init(&parser, HTTP_PARSE_REQUESTS, head, &limits);
    for (int i = 0; i < 2; i++) {
        buf_append(&in,
                   B("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"));
        assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_HEAD);
        http_parser_limit_chunks(&parser, 4);
        assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_BODY);
        assert_true(span_equal(body, SPAN("abc")));
        if (i == 0) {
            buf_append(&in, B("1\r\nd\r\n0\r\n\r\n"));
            assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_BODY);
            assert_true(span_equal(body, SPAN("d")));
            assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_END);
        }
    }
    buf_append(&in, B("2\r"));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_MORE);
    buf_append(&in, B("\n"));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_REFUSED);
    assert_int_equal(parser.refused, GUARD_BODY_BYTES);
    buf_release(&in);
    http_head_destroy(head);
}

/* One to four bytes are replaced by ones that mean something, or any. */
static void mutate(char *bytes, size_t len, uint64_t *random)
{
    static const char telling[] = "\r\n\t :;,/.0123456789abcdefGET#%*\0";

    for (uint32_t count = 1 + random_below(random, 4); count > 0; count--) {
        char byte = (char)random_below(random, 256);

        if (random_below(random, 4) > 0)
            byte = telling[random_below(random, sizeof(telling))];
        bytes[random_below(random, (uint32_t)len)] = byte;
    }
}

/* How far a trace goes without its last word, which may be said of a line that is whole, or
 * earlier: a refusal is one in any pieces, with whatever rule. */
static size_t agreed(const struct trace *trace)
{
    const char *refused = strrchr(trace->text, '!');

    return refused != NULL ? (size_t)(refused + 1 - trace->text) : trace->len;
}

static void mutations_of(const struct sample *samples, size_t count, int kind, uint64_t *random)
{
    for (int i = 0; i < 40000; i++) {
        struct span bytes = samples[random_below(random, (uint32_t)count)].bytes;
        char text[1024];
        struct trace whole, split;
        size_t at = random_below(random, (uint32_t)bytes.len);

        assert_true(bytes.len <= sizeof(text));
        memcpy(text, bytes.ptr, bytes.len);
        bytes.ptr = text;
        mutate(text, bytes.len, random);
        trace_of(bytes, kind, bytes.len, &whole);
        trace_of(bytes, kind, at, &split);
        if (agreed(&whole) != agreed(&split) || memcmp(whole.text, split.text, agreed(&whole)) != 0)
            fail_msg("%.*s: split at %zu %s, whole %s", SPAN_ARG(bytes), at, split.text,
                     whole.text);
    }
}

/* Whatever the bytes: no crash, and where they are cut makes no difference. */
static void test_mutations(void **state)
{
    uint64_t random = 20260131;

    (void)state;
    mutations_of(requests, sizeof(requests) / sizeof(requests[0]), REQUESTS, &random);
    mutations_of(answers, sizeof(answers) / sizeof(answers[0]), ANSWERS, &random);
}

static void test_refused_stays_refused(void **state)
{
    struct http_head *head = http_head_create(FIELDS_MAX);
    struct http_parser parser;
    struct buf in = {0};
    struct span body;

    (void)state;
    http_parser_init(&parser, HTTP_PARSE_REQUESTS, head, &limits);
    buf_append(&in, B("GET /\n"));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_REFUSED);
    buf_append(&in, B("GET / HTTP/1.1\r\n" H "\r\n"));
    assert_int_equal(http_parser_next(&parser, &in, &body), HTTP_EVENT_REFUSED);
    assert_int_equal(http_parser_finish(&parser), HTTP_EVENT_REFUSED);
    assert_int_equal(parser.refused, GUARD_BARE_LF);
    buf_release(&in);
    http_head_destroy(head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_fields_are_slices_without_blanks),
        cmocka_unit_test(test_parsers_share_a_head),
        cmocka_unit_test(test_chunk_framing_is_bounded),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_a_chunk_beyond_the_limit_is_refused_unseen),
        cmocka_unit_test(test_refused_stays_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
