"""Goal: the helpers of weft_web.h read requests and make answers as their RFCs say, through a plugin in the real
host: pairs, forms, cookies, preferences, dates, conditions, ranges."""
import calendar
import email.utils
import itertools
import time
import urllib.parse

import pytest

from support import place

PLUGIN = place.BUILD / "tests" / "plugins" / "web.so"
NEWER, OLDER = "Sat, 01 Jan 2022 00:00:01 GMT", "Fri, 31 Dec 2021 23:59:59 GMT"
MODIFIED = calendar.timegm((2022, 1, 1, 0, 0, 0))


@pytest.fixture
def host(start_weft):
    return start_weft({"plugin.web": {"path": PLUGIN}})


def text(host, target, **more):
    answer = host.get(target, **more)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def test_pairs_of_a_query(host):
    cases = {
        "/query": "(absent)",
        "/query?": "[]",
        "/query?a=1&b=2": "[a=1&b=2] [a]=[1] [b]=[2]",
        "/query?a=1&&a=2&": "[a=1&&a=2&] [a]=[1] [a]=[2]",
        "/query?a&=x&b=": "[a&=x&b=] [a]=[] []=[x] [b]=[]",
        "/query?a=b=c": "[a=b=c] [a]=[b=c]",
        "/query?a+b=%41%2b%zz%4": "[a+b=%41%2b%zz%4] [a b]=[A+%zz%4]",
    }
    for target, expected in cases.items():
        assert text(host, target) == expected, target


def test_forms(host):
    def post(body, kind="application/x-www-form-urlencoded"):
        headers = [("Content-Type", kind)] if kind else []
        return host.ask("POST", "/form", headers=headers, body=body).body.decode()

    form = "application/x-www-form-urlencoded"
    assert post(b"a=1&b=two+words") == f"[{form}] [1] [two words]"
    assert post(b"b=&a=%C3%BC&a=2") == f"[{form}] [ü] []"
    assert post(b"c=1") == f"[{form}] (absent) (absent)"
    assert post(b"a=1", f"{form.upper()} ; charset=utf-8") == f"[{form.upper()}] [1] (absent)"
    assert post(b"a=1", "text/plain") == "[text/plain] (absent) (absent)"
    assert post(b"a=1", None) == "[] (absent) (absent)"


def test_all_fields_in_their_order(host):
    answer = host.get("/fields", headers=[("X-B", "1"), ("x-a", "2"), ("X-B", "3")])
    assert answer.body == b"X-B: 1;x-a: 2;X-B: 3;"


COOKIES = [
    (None, "(absent)"), ("", "(absent)"), ("user=jo", "[jo]"), ("a=1; user=jo; user=al", "[jo]"),
    ("User=x;user=y", "[y]"), ('user="jo"', "[jo]"), ("user=", "[]"), ("user", "(absent)"), ("users=1", "(absent)"),
    ("xuser=1; user=a=b", "[a=b]"), ('user="', '["]'),
]


def test_cookies(host):
    for field, expected in COOKIES:
        assert text(host, "/cookie", headers=[] if field is None else [("Cookie", field)]) == expected


COOKIES_THAT_ARE_SET = [
    ("name=a&value=1&plain", "a=1; Path=/; HttpOnly; SameSite=Lax"),
    ("name=a&value=&age=60&path=/x&domain=example.org",
     "a=; Path=/x; Domain=example.org; Max-Age=60; HttpOnly; SameSite=Lax"),
    ("name=a&value=1&age=-1&flags=7", "a=1; Path=/; Max-Age=0; Secure; SameSite=Strict"),
    ("name=a&value=1&flags=9", "a=1; Path=/; Secure; HttpOnly; SameSite=None"),
    ("name=__Host-a&value=1&flags=1", "__Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ("name=a&value=1&flags=8", None), ("name=__Host-a&value=1", None), ("name=__Host-a&value=1&flags=1&path=/x", None),
    ("name=__Host-a&value=1&flags=1&domain=x", None), ("name=__Secure-a&value=1", None), ("name=&value=1", None),
    ("name=a%20b&value=1", None), ("name=a%3db&value=1", None), ("name=a&value=1%3b2", None),
    ("name=a&value=%22", None),
    ("name=a&value=%0d%0ax:1", None), ("name=a&value=1&path=/%3bx", None), ("name=a&value=1&domain=a%0db", None),
    ("name=a&value=" + "x" * 4096, None),
]


def test_cookies_that_are_set(host):
    for query, expected in COOKIES_THAT_ARE_SET:
        answer = host.get("/set-cookie?" + query)
        assert answer.header("Set-Cookie") == expected
        assert answer.body == (b"0" if expected else b"-101")


PREFERENCES = [
    ("Accept", None, "text/html,application/json", 0),
    ("Accept", "application/json", "text/html,application/json", 1),
    ("Accept", "text/*;q=0.5, application/json;q=0.4", "application/json,text/html", 1),
    ("Accept", "text/*, text/html;q=0.1", "text/html,text/plain", 1),
    ("Accept", "*/*;q=0.1, TEXT/HTML;level=1;q=0.2", "application/json,text/html", 1),
    ("Accept", "image/png", "text/html,application/json", -1),
    ("Accept", "text/html;q=0, */*", "text/html", -1),
    ("Accept", "text/html;q=2, text/plain;q=x, a/b;q=0.1234", "text/html,text/plain,a/b", -1),
    ("Accept", 'text/html;a=",text/plain", a/b;q=0.1', "text/plain,a/b", 1),
    ("Accept", "", "text/html", -1),
    ("Accept-Encoding", "gzip;q=1.0, identity;q=0.5", "gzip,identity", 0),
    ("Accept-Encoding", "br", "gzip,identity", 1),
    ("Accept-Encoding", "", "gzip,identity", 1),
    ("Accept-Encoding", "gzip, identity;q=0", "identity,gzip", 1),
    ("Accept-Encoding", "br, *;q=0", "gzip,identity", -1),
    ("Accept-Encoding", "*", "gzip,identity", 0),
    ("Accept-Language", "de-CH, en;q=0.8", "fr,en-GB,de", 1),
    ("Accept-Language", "de;q=0.3, *;q=0.1", "fr,de-AT", 1),
]


def test_preferences(host):
    for header, field, offers, expected in PREFERENCES:
        headers = [] if field is None else [(header, field)]
        assert text(host, f"/prefers?header={header}&offers={offers}", headers=headers) == str(expected)


def test_dates_there_and_back(host):
    for seconds in itertools.chain(range(0, 4 * 366 * 86400, 86400 * 37 + 3601), [
            951782399, 951782400, 951868800, 4107542399, 4107542400, 253402300799]):
        expected = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))
        assert text(host, f"/date?of={seconds}") == expected
        assert text(host, f"/time?of={urllib.parse.quote(expected)}") == str(seconds)
    assert text(host, "/date?of=-1") == text(host, "/date?of=253402300800") == ""


DATES_OF_CLIENTS = [
    ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777), ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
    ("Sun Nov  6 08:49:37 1994", 784111777), ("Sun, 06 Nov 1994 08:49:37 GMT ", -1), ("", -1), ("yesterday", -1),
    ("Sun, 06 anF 1994 08:49:37 GMT", -1), ("Sun, 32 Nov 1994 08:49:37 GMT", -1), ("Sun, 06 Nov 1994 24:49:37 GMT", -1),
    ("Sun, 06 Nov 1994 08:49:37", -1), ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 40, -1),
    ("Sun, 06 Nov 19944 08:49:37 GMT", -1),
]


def test_dates_of_clients(host):
    for date, expected in DATES_OF_CLIENTS:
        assert text(host, f"/time?of={urllib.parse.quote(date)}") == str(expected)
        if expected >= 0:
            assert calendar.timegm(email.utils.parsedate(date)) == expected


CONDITIONS = [
    ({}, 0, 0),
    ({"If-None-Match": '"a"'}, 304, 412), ({"If-None-Match": 'W/"a"'}, 304, 412),
    ({"If-None-Match": '"b", "a"'}, 304, 412),
    ({"If-None-Match": "*"}, 304, 412), ({"If-None-Match": '"b"'}, 0, 0), ({"If-None-Match": "a"}, 0, 0),
    ({"If-None-Match": '"b"', "If-Modified-Since": NEWER}, 0, 0),   # the former goes before the latter
    ({"If-Modified-Since": NEWER}, 304, 0), ({"If-Modified-Since": OLDER}, 0, 0), ({"If-Modified-Since": "x"}, 0, 0),
    ({"If-Match": '"a"'}, 0, 0), ({"If-Match": '"b"'}, 412, 412), ({"If-Match": 'W/"a"'}, 412, 412),
    ({"If-Match": "*"}, 0, 0),
    ({"If-Unmodified-Since": OLDER}, 412, 412), ({"If-Unmodified-Since": NEWER}, 0, 0),
    ({"If-Match": '"a"', "If-Unmodified-Since": OLDER}, 0, 0),
    ({"If-Match": '"a"', "If-None-Match": '"a"'}, 304, 412),
]


def test_conditions(host):
    for headers, get, post in CONDITIONS:
        target = f"/condition?etag=%22a%22&modified={MODIFIED}"
        assert text(host, target, headers=list(headers.items())) == str(get)
        assert host.ask("POST", target, headers=list(headers.items())).body.decode() == str(post)


def test_a_condition_on_what_is_not_there(host):
    assert text(host, "/condition?modified=-1", headers=[("If-Match", "*")]) == "412"
    assert text(host, "/condition?modified=-1", headers=[("If-None-Match", "*")]) == "0"
    assert text(host, "/condition?modified=-1", headers=[("If-Modified-Since", NEWER)]) == "0"


RANGES = [
    ("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"), ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=9-99", 206, b"9", "bytes 9-9/10"), ("bytes=10-", 416, None, "bytes */10"),
    ("bytes=-0", 416, None, "bytes */10"), ("bytes=0-1,3-4", 200, b"0123456789", None),
    ("bytes=5-4", 200, b"0123456789", None), ("bytes=a-b", 200, b"0123456789", None),
    ("bytes=", 200, b"0123456789", None),
    ("bytes=-", 200, b"0123456789", None), ("lines=0-1", 200, b"0123456789", None),
    ("bytes=0-99999999999999999999", 200, b"0123456789", None), ("bytes=999999999999999999-", 416, None, "bytes */10"),
]


def test_ranges(host):
    for field, status, body, where in RANGES:
        answer = host.get("/content", headers=[("Range", field)])
        assert (answer.status, answer.header("Content-Range")) == (status, where)
        assert body is None or answer.body == body
        assert answer.header("Accept-Ranges") == "bytes"


def test_ranges_and_conditions(host):
    whole = host.get("/content")
    etag = whole.header("ETag")
    assert (whole.status, whole.body) == (200, b"0123456789") and etag.startswith('"')
    fresh = host.get("/content", headers=[("If-None-Match", etag)])
    assert (fresh.status, fresh.body, fresh.header("ETag"), fresh.header("Content-Length")) == (304, b"", etag, None)
    assert host.get("/content", headers=[("If-Match", '"x"')]).status == 412
    assert host.get("/content", headers=[("Range", "bytes=0-1"), ("If-Range", etag)]).status == 206
    for other in ['"x"', f"W/{etag}", NEWER]:
        assert host.get("/content", headers=[("Range", "bytes=0-1"), ("If-Range", other)]).status == 200, other
    head = host.ask("HEAD", "/content", headers=[("Range", "bytes=0-1")])
    assert (head.status, head.header("Content-Length")) == (200, "10")


def test_no_quote_hides_a_cookie(host):
    """One that opens and does not close swallows nothing (RFC 6265: a ';' is in no value)."""
    assert text(host, "/cookie", headers=[("Cookie", 'a="x; user=7; b="')]) == "[7]"
