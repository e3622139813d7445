"""Goal: filters are asked before handlers and bodies, in their order, whatever stands at the path; what they answer,
and how they fail, wait or are given up, is the request's answer; each answer's head passes them, and its body
where they change it; and what they must not do is refused and named."""
import re
import socket

import pytest

from support import place
from support.client import Closed
from support.wait import wait_until

FILTERS = place.BUILD / "tests" / "plugins" / "filters.so"


def sections(server=None, **more):
    found = {
        "server": {"workers": 1, **(server or {})},
        "plugin.second": {"path": FILTERS, "name": "second", "order": 20, "routes": "on"},
        "plugin.first": {"path": FILTERS, "name": "first", "order": 10},
        "plugin.inner": {"path": FILTERS, "name": "inner", "order": -5, "prefix": "/in"},
    }
    for name, options in more.items():
        found[f"plugin.{name}"].update(options)
    return found


@pytest.fixture
def host(start_weft):
    return start_weft(sections())


def asked(answer):
    return [value for key, value in answer.headers if key == "X-Asked"]


def seen(answer):
    return [value for key, value in answer.headers if key == "X-Seen"]


# ---- before ----

def test_in_their_order(host):
    answer = host.get("/hello")
    assert (answer.status, answer.body) == (200, b"hello")
    assert asked(answer) == ["first", "second"]
    assert seen(answer) == ["second 200 5 text/plain; charset=utf-8", "first 200 5 text/plain; charset=utf-8"]
    answer = host.get("/in/hello")
    assert (answer.status, asked(answer)) == (200, ["inner", "first", "second"])


@pytest.mark.parametrize("path, is_below", [
    ("/in", True), ("/in/", True), ("/in/x", True), ("/in//x", True), ("/%69n/hello", True), ("/x/../in/y", True),
    ("/in%2Fhello", False), ("/inn", False), ("/i", False), ("//in", False), ("/", False), ("/IN", False),
    ("/in/../x", False), ("/%2e%2e/in", None)])
def test_below_a_prefix(host, path, is_below):
    answer = host.get(path)
    assert answer.status == (400 if is_below is None else 200 if "hello" in path and "%2F" not in path else 404)
    if is_below is not None:
        assert ("inner" in asked(answer)) == is_below


def test_one_answers(host):
    answer = host.get("/hello?first_asks=deny")
    assert (answer.status, answer.json()["detail"]) == (403, "denied")
    assert asked(answer) == ["first"]
    assert [line.split()[0] for line in seen(answer)] == ["second", "first"]
    answer = host.get("/hello?second_asks=fail")
    assert (answer.status, answer.json()["detail"]) == (400, "filtered")


def test_one_decides_too_late(host):
    """A callback is to say no: whoever returns before that has let nobody pass."""
    for target in ("/hello", "/nothing"):
        assert host.get(f"{target}?first_asks=decide_later").status == 500
    host.wait_log(r'weft_filter\(\): before\(\) returned while a callback .* plugin=first route="filter "')
    assert host.get("/hello").status == 200


def test_one_waits(host):
    with host.connect() as client:
        answer = client.ask("GET", "/hello?first_asks=wait&second_asks=wait")
        assert (answer.status, answer.body) == (200, b"hello")
        answer = client.ask("GET", "/hello?second_asks=deny_later")
        assert (answer.status, answer.json()["detail"]) == (403, "denied later")
        assert client.ask("GET", "/hello").body == b"hello"


def test_one_answers_in_pieces(host):
    with host.connect() as client:
        answer = client.ask("POST", "/echo?first_asks=stream", body="x" * 1000)
        assert (answer.status, answer.body) == (200, b"abcdef")
        assert client.ask("GET", "/hello").body == b"hello"


@pytest.mark.parametrize("target, status", [("/nothing", 404), ("/echo", 405), ("/hello?first_asks=deny", 403),
                                            ("/nothing?first_asks=deny", 403), ("/echo?second_asks=wait", 405)])
def test_whatever_stands_there(host, target, status):
    with host.connect() as client:
        answer = client.ask("GET", target)
        assert answer.status == status
        assert asked(answer)[0] == "first"
        assert "first" in seen(answer)[-1]
        if status == 405:
            assert answer.header("Allow") == "POST"
        assert client.ask("GET", "/hello").status == 200


def test_before_the_body(host):
    """A client that waits for the word is told no before it has sent anything."""
    for target, status in [("/echo?first_asks=deny", 403), ("/echo?first_asks=deny_later", 403), ("/none", 404)]:
        with host.connect() as client:
            client.request("POST", target, headers=[("Expect", "100-continue"), ("Content-Length", "5")])
            assert client.read_answer().status == status
    for target in ("/echo", "/echo?first_asks=wait", "/count?second_asks=wait"):
        with host.connect() as client:
            client.request("POST", target, headers=[("Expect", "100-continue"), ("Content-Length", "5")])
            assert client.read_answer().status == 100
            client.send("12345")
            assert client.read_answer().body in (b"12345", b"5")


@pytest.mark.parametrize("path", ["/echo", "/count"])
@pytest.mark.parametrize("asks", ["", "wait"])
def test_bodies_pass(host, path, asks):
    body = bytes(range(256)) * 400
    with host.connect() as client:
        for _ in range(3):
            answer = client.ask("POST", f"{path}?first_asks={asks}&inner_asks={asks}", body=body)
            assert answer.status == 200
            assert answer.body == (body if path == "/echo" else str(len(body)).encode())
        client.request("POST", path, headers=[("Transfer-Encoding", "chunked")])
        client.send("3\r\nabc\r\n").send("2\r\nde\r\n0\r\n\r\n")
        assert client.read_answer().body in (b"abcde", b"5")


def test_pipelined(host):
    """Answers come in the order of their requests, whoever is asked longest."""
    with host.connect() as client:
        for target in ("/hello?first_asks=wait", "/hello", "/nothing", "/hello?second_asks=deny_later", "/hello"):
            client.request("GET", target)
        client.request("POST", "/echo?first_asks=wait", body="body")
        client.request("GET", "/hello")
        got = [client.read_answer() for _ in range(7)]
    assert [answer.status for answer in got] == [200, 200, 404, 403, 200, 200, 200]
    assert got[5].body == b"body"


def test_a_large_body_is_left_unread(start_weft):
    host = start_weft(sections({"request_timeout": "2s"}))
    with host.connect() as client:
        client.request("POST", "/echo?first_asks=never", headers=[("Content-Length", 10 ** 6)])
        client.socket.settimeout(0.2)
        with pytest.raises((socket.timeout, BlockingIOError)):
            for _ in range(2000):
                client.send(b"x" * 65536)  # far beyond: what the host takes ahead is bounded
    host.wait_access(status=504)


def test_a_time_that_passes(start_weft):
    host = start_weft(sections({"request_timeout": "300ms"}))
    answer = host.get("/hello?first_asks=never")
    assert answer.status == 504
    assert host.get("/nothing?first_asks=never").status == 504


def test_the_client_leaves(host):
    client = host.connect()
    client.request("GET", "/hello?first_asks=never")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    host.wait_access(status=499)
    assert host.get("/hello").status == 200


def test_it_half_closes(host):
    """What was asked whole is answered."""
    with host.connect() as client:
        client.request("GET", "/hello?first_asks=wait")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_answer().body == b"hello"
    with host.connect() as client:
        client.request("POST", "/echo?first_asks=wait", headers=[("Content-Length", 10)]).send("half")
        client.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(Closed):
            client.read_answer()


def test_canceled_by_a_filter(host):
    assert host.get("/hello?first_asks=cancel").status == 500
    assert host.get("/hello").status == 200


def test_a_crash_is_the_filters(start_weft):
    host = start_weft(sections())
    with pytest.raises(Closed):
        host.get("/in/hello?inner_asks=crash")
    line = host.wait_log(r"crashed: signal 6.*").group()
    assert 'plugin=inner route="filter /in"' in line
    wait_until(lambda: host.get("/hello").status == 200)
    host.is_told = False
    host.kill()


def test_stopped_meanwhile(host):
    client = host.connect()
    client.request("GET", "/hello?first_asks=never")
    host.wait_log("ready: ")
    host.signal(15)
    host.signal(3)
    host.stop()
    client.close()


# ---- after ----

def test_it_sees_what_the_host_answers(host):
    answer = host.get("/nothing")
    assert answer.status == 404
    assert seen(answer) == [f"{name} 404 {len(answer.body)} application/problem+json" for name in ("second", "first")]
    answer = host.ask("POST", "/echo", headers=[("Content-Length", 10 ** 9)])
    assert answer.status == 413
    assert "second 413" in seen(answer)[0]


def test_it_removes_fields(host):
    answer = host.get("/hello?first_sees=remove")
    assert asked(answer) == []
    assert answer.header("Content-Type") is None
    assert answer.body == b"hello"


@pytest.mark.parametrize("target, body", [
    ("/hello?first_sees=upper", b"HELLO!"), ("/hello?first_sees=upper&second_sees=upper", b"HELLO!!"),
    ("/pieces?first_sees=upper", b"ABCDEF!"), ("/pieces?second_sees=upper&first_sees=upper", b"ABCDEF!!")])
def test_it_changes_bodies(host, target, body):
    with host.connect() as client:
        answer = client.ask("GET", target)
        assert answer.body == body
        assert (answer.header("Content-Length") is None) == target.startswith("/pieces")
        assert int(answer.header("Content-Length") or len(body)) == len(body)
        head = client.ask("HEAD", target)
        assert (head.status, head.header("Content-Length")) == (200, None)
        assert client.ask("GET", "/hello").body == b"hello"


def test_a_change_that_fails(host):
    for target in ("/hello", "/pieces"):
        with host.connect() as client:
            with pytest.raises(Closed):
                client.ask("GET", f"{target}?first_sees=break")
    host.wait_log(r'a filter cannot change an answer, which is broken off: .* plugin=first route="filter "', count=2)
    assert host.get("/hello").status == 200


@pytest.mark.parametrize("how", ["break", "break_end"])
def test_a_change_of_the_host_s_own_answer_that_fails(host, how):
    """A 404, a 405, a 413, a filter's own answer: broken off like any other, and nobody else notices."""
    for method, target in [("GET", "/nothing"), ("GET", "/echo"), ("POST", "/echo"), ("GET", "/hello?first_asks=deny")]:
        with host.connect() as client:
            sign = "&" if "?" in target else "?"
            with pytest.raises(Closed):
                client.ask(method, f"{target}{sign}first_sees={how}",
                           headers=[("Content-Length", 10 ** 9)] if method == "POST" else [])
    assert host.get("/hello").status == 200
    assert "crashed" not in host.log


def test_a_live_answer_whose_end_fails(host):
    """It is ended by the host, as it stops."""
    with host.connect() as client:
        client.request("GET", "/follow?first_sees=break_end")
        client._take_until(b"data: one\n")
        host.stop()
    assert "crashed" not in host.log


@pytest.mark.parametrize("what, line", [
    ("fail", "a filter of an answer failed, which is sent all the same"),
    ("wait", r"weft_await\(\): a filter's after\(\), and a change of a body, cannot wait"),
    ("reply", r"weft_reply\(\): there is a reply already")])
def test_what_it_must_not(host, what, line):
    answer = host.get(f"/hello?second_sees={what}")
    assert (answer.status, answer.body) == (200, b"hello")
    host.wait_log(line + r'.* plugin=second route="filter "')


def test_heads_are_seen_in_their_time_only(host):
    assert host.get("/hello").body == b"hello"
    host.wait_log(r"weft_reply_code\(\): no answer's head is seen.* plugin=second")


# ---- at init ----

@pytest.mark.parametrize("options, reason", [
    ({"prefix": "in"}, "filter in: expected a prefix of exact segments, such as /admin"),
    ({"prefix": "/in/"}, "filter /in/: expected a prefix"),
    ({"prefix": "/a/../b"}, "expected a prefix"),
    ({"name": "none"}, "a filter with neither before() nor after()")])
def test_what_is_refused(start_weft, options, reason):
    host = start_weft(sections(inner=options), wait=False)
    assert host.wait() == 1
    assert re.search(re.escape(reason), host.log), host.log
    host.process = None


def test_a_mount_goes_before(start_weft):
    host = start_weft(sections(inner={"mount": "/deep", "prefix": "/in"}))
    assert "inner" not in asked(host.get("/in/hello"))
    assert "inner" in asked(host.get("/deep/in/x"))
