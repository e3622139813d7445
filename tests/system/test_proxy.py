"""Goal: the proxy plugin hands requests on and answers back, either body as it comes and in constant memory, without
what is of one connection alone; what goes wrong on either side is told to the other one, and nothing of one request
gets into another. A gigabyte each way in a soak."""
import contextlib
import gzip
import json
import os
import socket

import pytest

from support import place, soak
from support.client import Closed
from support.memory import Memory, give, take
from support.peer import fixed

MUCH = 1 << 30 if soak.IS_ON else 64 << 20
GROWTH_KB = 8 * 1024
STREAMS = place.BUILD / "tests/plugins/streams.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}


@pytest.fixture
def start(start_weft):
    def begin(url, upstream=None, server=None, **settings):
        return start_weft({"server": server or {}, "upstream.behind": {"url": url, **(upstream or {})},
                           "plugin.hello": {"path": "hello.so"},
                           "plugin.proxy": {"path": "proxy.so", "mount": "/api", "upstream": "behind", **settings}},
                          env=ENV)
    return begin


class Raw:
    """A server whose connections the test takes, and reads and writes itself."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.got = b""

    def accept(self):
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(10)
        self.got = b""
        return self.connection

    def expect(self, wanted):
        """Reads until `wanted` is there."""
        while wanted not in self.got:
            some = self.connection.recv(65536)
            assert some, f"closed after {self.got}"
            self.got += some
        return self.got

    def is_closed(self):
        """Waits until the other side has closed or reset it."""
        try:
            while self.connection.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True


@pytest.fixture
def raw():
    made = Raw()
    yield made
    made.listener.close()
    with contextlib.suppress(AttributeError):
        made.connection.close()


def show(exchange):
    """What came, as JSON."""
    request = exchange.request
    exchange.answer(body=json.dumps({"method": request.method, "target": request.target, "headers": request.headers,
                                     "body": request.body.decode(), "trailers": request.trailers}))


# requests

def test_a_request_goes_on_without_what_is_of_its_connection(start, peer):
    peer.on("POST", None, show)
    host = start(peer.url)
    answer = host.ask("POST", "/api/a%20b/c?d=%31&e", [
        ("Host", "front.test"), ("Connection", "close, X-Secret"), ("X-Secret", "1"), ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "Basic x"), ("TE", "gzip"), ("Upgrade", "h2c"), ("Expect", "100-continue"),
        ("X_Forwarded_For", "6.6.6.6"), ("Content_Length", "5"), ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "gopher"), ("Forwarded", "for=1.1.1.1"), ("Cookie", "a=b"), ("X-Own", "kept")],
        body=b"a body")
    assert answer.status == 200, answer.body
    got = answer.json()
    assert (got["method"], got["target"], got["body"]) == ("POST", "/api/a%20b/c?d=%31&e", "a body")
    assert got["headers"] == {
        "host": f"127.0.0.1:{peer.port}", "content-length": "6", "cookie": "a=b", "x-own": "kept",
        "x-forwarded-for": "127.0.0.1", "x-forwarded-host": "front.test", "x-forwarded-proto": "http",
        "via": "1.1 weft"}


def test_who_is_behind_another_proxy_adds_to_what_that_said(start, peer):
    peer.on("GET", None, show)
    host = start(peer.url, trust_forwarded="on", strip_mount="on", forwarded_proto="https")
    got = host.get("/api/x", headers=[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2"),
                                      ("X-Forwarded-Host", "outer.test"), ("Forwarded", "for=1.1.1.1")]).json()
    assert got["target"] == "/x"
    assert got["headers"]["x-forwarded-for"] == "1.1.1.1, 2.2.2.2, 127.0.0.1"
    assert got["headers"]["x-forwarded-host"] == "outer.test"
    assert got["headers"]["x-forwarded-proto"] == "https"
    assert got["headers"]["forwarded"] == "for=1.1.1.1"
    assert host.get("/api/").json()["target"] == "/"
    assert host.get("/api").json()["target"] == "/"
    assert host.get("/api/?a=b").json()["target"] == "/?a=b"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_each_method(start, peer, method):
    peer.on(method, None, show)
    host = start(peer.url)
    with host.connect() as client:
        for body in (None, b"", b"some"):
            got = client.ask(method, "/api/x", body=body).json()
            assert (got["method"], got["body"]) == (method, (body or b"").decode())
    assert peer.connections == 1


def test_a_chunked_body_with_trailers(start, peer):
    peer.on("PUT", None, show)
    host = start(peer.url)
    with host.connect() as client:
        client.request("PUT", "/api/x", {"Transfer-Encoding": "chunked", "Trailer": "X-Sum, X-Not, Content-Length"})
        client.send(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\nContent-Length: 7\r\nX-Other: 1\r\n\r\n")
        got = client.read_answer().json()
        assert (got["body"], got["trailers"]) == ("hello", {"x-sum": "42", "x-other": "1"})
        assert got["headers"]["transfer-encoding"] == "chunked"


BARRED = ("Authorization", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Range",
          "Content-Type", "Cookie", "Date", "Expect", "Forwarded", "Host", "Keep-Alive", "Location", "Max-Forwards",
          "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Range", "Server", "Set-Cookie", "TE",
          "Trailer", "Transfer-Encoding", "Upgrade", "Via", "WWW-Authenticate", "X-Forwarded-For", "X_Sum", "HTTP2-Settings")


def test_trailers_either_way(start, raw):
    """Each of them, in several Trailer fields or none, repeated ones too; none that would be another header; and nobody
    fills the log with those."""
    barred = "".join(f"{name}: chunked\r\n" for name in BARRED).encode()
    host = start(raw.url)
    with host.connect() as client:
        for announced in (b"Trailer: X-A\r\nTrailer: X-B, X-C\r\n",
                          b"Trailer: " + ", ".join(BARRED).encode() + b"\r\n", b""):
            behind = b"0\r\nX-A: 1\r\n" + barred + b"X-B: 2\r\nX-C: \r\nx-a: 3\r\n\r\n"
            framing = b"Transfer-Encoding: chunked\r\n" + announced + b"\r\n"
            client.send(b"POST /api/x HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n" + framing + b"2\r\nup\r\n" + behind)
            if announced.startswith(b"Trailer: X-A"):
                raw.accept()
            raw.got = b""
            got = raw.expect(b"x-a: 3\r\n\r\n")
            assert got.endswith(b"2\r\nup\r\n0\r\nX-A: 1\r\nX-B: 2\r\nX-C: \r\nx-a: 3\r\n\r\n")
            raw.connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"4\r\ndown\r\n" + behind)
            answer = client.read_answer()
            assert answer.body == b"down"
            assert answer.trailers == [("X-A", "1"), ("X-B", "2"), ("X-C", ""), ("x-a", "3")]
            assert answer.header("trailer") is None
    assert [line for line in host.log.splitlines() if "plugin=proxy" in line and "level=" in line] == []


@pytest.mark.parametrize("path", ["/api/../hello", "/api/%2e%2e/hello", "/api/a/./b", "/api/a/%2E", "/x/../api/y",
                                  "/api/.%2e/%2e./etc"])
def test_a_path_that_means_another_place_goes_nowhere(start, peer, path):
    peer.on("GET", None, show)
    host = start(peer.url)
    assert host.get(path).status in (200, 400, 404)
    assert peer.requests == []


@pytest.mark.parametrize("path", ["/api//x/y", "/api/x//y", "/api/x%2Fy", "/api/x%2fy", "/api/x%5Cy", "/api/x//"])
def test_no_filter_is_passed_by_with_odd_slashes(start, peer, path):
    """What a filter of /api/x would not see, and the upstream may take for it."""
    peer.on("GET", None, show)
    host = start(peer.url)
    assert host.get(path).status == 400
    assert peer.requests == []
    host = start(peer.url, odd_slashes="on")
    assert host.get(path + "?//%2F").json()["target"] == path + "?//%2F"


def test_a_slash_at_the_end_goes_on(start, peer):
    peer.on("GET", None, show)
    host = start(peer.url)
    for path in ("/api", "/api/", "/api/x/", "/api/x?//%2F"):
        assert host.get(path).json()["target"] == path


# answers

def test_an_answer_comes_back_without_what_is_of_its_connection(start, peer):
    peer.on("GET", None, lambda exchange: exchange.send(
        b"HTTP/1.1 418 X\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nX-Late: 1\r\nConnection: x, x-late\r\nKeep-Alive: timeout=9\r\n"
        b"Server: other\r\nDate: never\r\nVia: 1.0 x\r\nX-Bad_Name: 1\r\nETag: \"e\"\r\n\r\nhi"))
    host = start(peer.url)
    answer = host.get("/api/x")
    assert (answer.status, answer.body) == (418, b"hi")
    names = [name.lower() for name, _ in answer.headers]
    assert sorted(names) == ["content-length", "content-type", "date", "etag", "server", "set-cookie", "set-cookie",
                             "via", "via"]
    assert [value for name, value in answer.headers if name.lower() == "set-cookie"] == ["a=1", "b=2"]
    assert answer.header("server") == "weft" and answer.header("date") != "never"


def test_each_framing(start, peer):
    peer.on("GET", "/api/length", fixed(body="by length"))
    peer.on("GET", "/api/chunked", fixed(body="in chunks of some", framing="chunked"))
    peer.on("GET", "/api/close", fixed(body="up to the end", framing="close"))
    peer.on("GET", "/api/empty", fixed(body=""))
    peer.on("GET", "/api/none", fixed(status=204))
    peer.on("GET", "/api/same", lambda exchange: exchange.send(
        b"HTTP/1.1 304 X\r\nETag: \"e\"\r\nContent-Length: 99\r\n\r\n"))
    peer.on("HEAD", "/api/length", lambda exchange: exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"))
    peer.on("GET", "/api/trailers", lambda exchange: exchange.send(
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n"))
    host = start(peer.url)
    with host.connect() as client:
        for path, body in (("length", b"by length"), ("chunked", b"in chunks of some"), ("close", b"up to the end"),
                           ("empty", b"")):
            answer = client.ask("GET", f"/api/{path}")
            assert (answer.status, answer.body) == (200, body), path
        assert client.ask("GET", "/api/none").status == 204
        assert client.ask("GET", "/api/same").header("etag") == '"e"'
        answer = client.ask("HEAD", "/api/length")
        assert (answer.status, answer.header("content-length")) == (200, "1234")
        answer = client.ask("GET", "/api/trailers", {"TE": "trailers"})
        assert (answer.body, answer.trailers) == (b"abc", [("X-Sum", "42")])
        assert peer.requests[-1].headers["te"] == "trailers"


def test_gzip_goes_through_as_it_is(start, peer):
    """Nobody has asked the proxy to decode anything: not a byte and no field of it changes."""
    packed = gzip.compress(b"some text " * 10000)
    peer.on("GET", None, lambda exchange: exchange.answer(
        body=packed, headers={"Content-Encoding": "gzip", "Vary": "Accept-Encoding"},
        framing=exchange.request.target.split("/")[-1]))
    host = start(peer.url)
    for framing in ("length", "chunked", "close"):
        answer = host.ask("GET", f"/api/{framing}", {"Accept-Encoding": "gzip, br"})
        assert answer.body == packed
        assert (answer.header("content-encoding"), answer.header("vary")) == ("gzip", "Accept-Encoding")
        assert answer.header("content-length") == (str(len(packed)) if framing == "length" else None)
        assert peer.requests[-1].headers["accept-encoding"] == "gzip, br"
    host.ask("GET", "/api/length")
    assert "accept-encoding" not in peer.requests[-1].headers


# both ways, as it comes

def test_both_bodies_go_as_they_come(start, raw):
    host = start(raw.url)
    with host.connect() as client:
        client.request("POST", "/api/x", {"Transfer-Encoding": "chunked"}).send(b"4\r\nping\r\n")
        raw.accept()
        raw.expect(b"4\r\nping\r\n")
        raw.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n")
        assert b"pong" in client._take_until(b"pong")
        client.send(b"5\r\nagain\r\n0\r\n\r\n")
        raw.expect(b"5\r\nagain\r\n0\r\n\r\n")
        raw.connection.sendall(b"5\r\nbooks\r\n0\r\n\r\n")
        assert b"books" in client._take_until(b"0\r\n\r\n")
        assert client.ask("GET", "/hello").status == 200


def test_a_refusal_comes_before_the_body_went(start, raw):
    host = start(raw.url, body_max=-1)
    with host.connect() as client:
        client.request("POST", "/api/x", {"Content-Length": 1 << 40}).send(b"some")
        raw.accept()
        raw.expect(b"some")
        raw.connection.sendall(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nno!")
        answer = client.read_answer()
        assert (answer.status, answer.body) == (413, b"no!")
        assert raw.is_closed()


def test_a_slow_client_holds_the_upstream_up(start, raw):
    host = start(raw.url)
    with host.connect() as client:
        client.request("GET", "/api/x")
        raw.accept()
        raw.expect(b"\r\n\r\n")
        raw.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 << 20))
        memory, sent = Memory(host.workers()[0]), 0
        raw.connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while sent < 256 << 20:
                sent += raw.connection.send(b"x" * 65536)
        assert sent < 64 << 20   # what the sockets of two connections hold
        assert memory.look() < GROWTH_KB


@pytest.fixture
def behind(start_weft):
    """A host that takes and gives much."""
    return start_weft({"plugin.streams": {"path": STREAMS}}, env=ENV)


def through(start, behind):
    host = start(behind.url, body_max=-1, strip_mount="on", upstream={"write_timeout": "60s"},
                 server={"write_timeout": "60s"})
    assert len(host.get("/api/streams/down/4000000").body) == 4000000
    assert host.post("/api/streams/up", b"u" * 4000000).body == b"4000000"
    return host, Memory(host.workers()[0])


@pytest.mark.limit(1200 if soak.IS_ON else 120)
def test_much_comes_down(start, behind):
    host, memory = through(start, behind)
    with host.connect(timeout=60) as client:
        client.request("GET", f"/api/streams/down/{MUCH}?length")
        client._take_until(b"\r\n\r\n")
        take(client, MUCH - len(client.pending), memory)
        assert memory.look() < GROWTH_KB
        client.pending = b""
        assert client.ask("GET", "/hello").status == 200


@pytest.mark.limit(1200 if soak.IS_ON else 120)
def test_much_goes_up(start, behind):
    host, memory = through(start, behind)
    with host.connect(timeout=60) as client:
        client.request("POST", "/api/streams/up", {"Content-Length": MUCH})
        give(client, MUCH, memory)
        assert client.read_answer().body == str(MUCH).encode()
        assert memory.look() < GROWTH_KB


# what goes wrong

def test_an_upstream_that_fails_is_a_problem(start, peer):
    peer.on("GET", "/api/slow", lambda exchange: exchange.stall())
    peer.on("GET", "/api/reset", lambda exchange: exchange.reset())
    for number, answer in enumerate((
            b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", b"HTTP/1.1 101 X\r\n\r\n")):
        peer.on("GET", f"/api/bad{number}", lambda exchange, answer=answer: exchange.send(answer))
    host = start(peer.url, upstream={"first_byte_timeout": "300ms", "retries": 0})
    with host.connect() as client:
        answer = client.ask("GET", "/api/slow")
        assert (answer.status, answer.header("content-type")) == (504, "application/problem+json")
        assert client.ask("GET", "/api/reset").status == 502
        for number in range(7):
            answer = client.ask("GET", f"/api/bad{number}")
            assert (answer.status, answer.header("content-type")) == (502, "application/problem+json"), number
        peer.refuse()
        assert client.ask("GET", "/api/x").status == 502
        assert client.ask("GET", "/hello").status == 200


@pytest.mark.parametrize("half", [b"Content-Length: 10\r\n\r\nhalf",
                                  b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"])
def test_an_answer_that_breaks_off_looks_broken(start, peer, half):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\n" + half)
        exchange.reset() if exchange.request.target.endswith("reset") else exchange.close()

    peer.on("GET", None, answer)
    host = start(peer.url)
    for path in ("/api/close", "/api/reset"):
        with host.connect() as client, pytest.raises(Closed):
            client.ask("GET", path)
    assert host.get("/hello").status == 200
    host.wait_log("its answer is broken off", count=2)


def test_a_client_that_leaves_takes_its_call_along(start, raw):
    host = start(raw.url)
    for say in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"):
        with host.connect() as client:
            client.request("GET", "/api/x")
            raw.accept()
            raw.expect(b"\r\n\r\n")
            raw.connection.sendall(say)
            if say:
                client._take_until(b"half")
        assert raw.is_closed()
    with host.connect() as client:
        client.request("POST", "/api/x", {"Content-Length": 10}).send(b"half")
        raw.accept()
        raw.expect(b"half")
        client.reset()
    assert raw.is_closed()


def test_a_body_that_is_wrong_is_the_clients_fault(start, raw):
    host = start(raw.url)
    with host.connect() as client:
        client.request("POST", "/api/x", {"Transfer-Encoding": "chunked"}).send(b"4\r\nhalf\r\n")
        raw.accept()
        raw.expect(b"half")
        client.send(b"no chunk\r\n")
        assert client.read_answer().status == 400
    assert raw.is_closed()
    with host.connect() as client:
        client.request("POST", "/api/x", {"Content-Length": 1 << 30})
        assert client.read_answer().status == 413


def test_an_upstream_that_does_not_exist_stops_the_start(start_weft):
    host = start_weft({"plugin.proxy": {"path": "proxy.so", "upstream": "nowhere"}}, wait=False)
    host.wait()
    host.stop(code=1)
    assert "there is no section [upstream.nowhere]" in host.log
