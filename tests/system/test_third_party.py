"""Goal: whatever a third party does - refuse, reset, stall, talk nonsense, answer in any framing that the
protocol knows - the client gets the answer or a 502, 503 or 504 within the limit, the access log says why,
everybody else is served meanwhile, and all is well once the third party is."""
import os
import pathlib
import signal
import socket
import threading
import time
import urllib.parse

import pytest

from support import place
from support.peer import fixed
from support.wait import wait_until

LIMITS = {"connect_timeout": "1s", "first_byte_timeout": "700ms", "between_bytes_timeout": "700ms", "timeout": "4s"}


@pytest.fixture(scope="module")
def module_books(shared_cluster):
    """One database for all of these tests, which only read it."""
    made = shared_cluster.create_database()
    made.run("set role weft; " + (place.ROOT / "plugins/books/schema.sql").read_text())
    yield made
    shared_cluster.drop_database(made)


@pytest.fixture
def start(start_weft, module_books):
    """A function that starts a host with all the flows, whose third party is at `url`."""
    def begin(url, **limits):
        return start_weft({
            "server": {"request_timeout": "10s"},
            "pg.main": module_books.settings,
            "upstream.thirdparty": {"url": url, **LIMITS, **limits},
            "plugin.hello": {"path": "hello.so"},
            "plugin.books": {"path": "books.so"},
            "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "upstream": "thirdparty"}})
    return begin


@pytest.fixture
def host(start, peer):
    return start(peer.url)


def call(path="/x"):
    return "/lab/call?path=" + urllib.parse.quote(path)


def assert_fails(host, status, why, target=None):
    """The call fails so, and what needs no third party is answered while it waits."""
    target = target or call()
    count = len(host.accesses(path=target, status=status, why=why))
    with host.connect() as waiting, host.connect() as other:
        waiting.request("GET", target)
        for _ in range(3):
            assert other.ask("GET", "/hello").status == 200
            assert other.ask("GET", "/books/1").status == 200
        answer = waiting.read_answer()
    assert answer.status == status, answer
    assert answer.header("content-type").startswith("application/problem+json")
    host.wait_access(path=target, status=status, why=why, count=count + 1)


def assert_well(host, peer):
    peer.on("GET", "/x", fixed(body="well"))
    answer = host.get(call())
    assert (answer.status, answer.body) == (200, b"well")


# what fails

def test_refusing(host, peer):
    peer.refuse()
    assert_fails(host, 502, "upstream_connect")
    assert_fails(host, 502, "upstream_connect", "/quote")
    peer.listen()
    assert_well(host, peer)


def test_resetting(host, peer):
    peer.on("GET", "/x", lambda exchange: exchange.reset())
    assert_fails(host, 502, "upstream_reset")
    assert_well(host, peer)


def test_closing_without_an_answer(host, peer):
    peer.on("GET", "/x", lambda exchange: exchange.close())
    assert_fails(host, 502, "upstream_reset")
    assert_well(host, peer)


@pytest.mark.parametrize("part", [
    b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n5\r\nha",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
], ids=["head", "length", "chunk", "chunks"])
def test_breaking_off(host, peer, part):
    def break_off(exchange):
        exchange.send(part)
        exchange.keep = False

    peer.on("GET", "/x", break_off)
    assert_fails(host, 502, "upstream_reset")
    assert_well(host, peer)


def test_stalling(host, peer):
    peer.on("GET", "/x", lambda exchange: exchange.stall())
    assert_fails(host, 504, "upstream_first_byte_timeout")
    assert_well(host, peer)


def test_stalling_in_the_middle(host, peer):
    def begin(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        exchange.stall()

    peer.on("GET", "/x", begin)
    assert_fails(host, 504, "upstream_between_bytes_timeout")
    assert_well(host, peer)


def test_dripping(start, peer):
    """Always within the limit between two bytes, but never done."""
    def drip(exchange):
        exchange.keep = False
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            exchange.send(b".")
            time.sleep(0.05)

    host = start(peer.url, timeout="1s")
    peer.on("GET", "/x", drip)
    assert_fails(host, 504, "upstream_timeout")
    assert_well(host, peer)


@pytest.mark.parametrize("answer", [
    b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"\r\n" * 50 + b"?",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nA b: c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
], ids=range(9))
def test_garbage(host, peer, answer):
    def answer_so(exchange):
        exchange.send(answer)
        exchange.stall()

    peer.on("GET", "/x", answer_so)
    assert_fails(host, 502, "upstream_protocol")
    assert_well(host, peer)


def test_too_much(start, peer):
    host = start(peer.url, body_max="10k", head_max="1k")
    for what, answer in (("body", {"body": "x" * 10241}), ("body", {"body": "x" * 10241, "framing": "chunked"}),
                         ("body", {"body": "x" * 10241, "framing": "close"}),
                         ("head", {"headers": {"X-Long": "y" * 2000}})):
        peer.on("GET", "/x", fixed(**answer))
        assert_fails(host, 502, f"upstream_{what}_too_big")
    peer.on("GET", "/x", fixed(body="x" * 10240))
    assert len(host.get(call()).body) == 10240


def test_no_such_name(start):
    """Names are looked up without blocking: others are served as long as it takes."""
    host = start("http://no-such-host.invalid")
    with host.connect() as waiting, host.connect() as other:
        waiting.request("GET", call())
        for _ in range(3):
            assert other.ask("GET", "/hello").status == 200
        assert waiting.read_answer().status == 502
    assert host.wait_access(path=call())["why"] in ("upstream_resolve", "upstream_connect_timeout")


def test_an_address_that_swallows_connects(start):
    """A listener whose backlog is full drops what asks to be connected."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        while len(fillers) < 10:
            filler = socket.socket()
            filler.settimeout(0.3)
            fillers.append(filler)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                break
        host = start(f"http://127.0.0.1:{listener.getsockname()[1]}")
        assert_fails(host, 502, "upstream_connect_timeout")
        for filler in fillers:
            filler.close()


def test_no_place(start, peer):
    """One connection, one call that may wait for it: the third is refused at once."""
    host = start(peer.url, connections=1, queue=1, first_byte_timeout="20s", timeout="20s", queue_timeout="20s")
    held = []
    peer.on("GET", "/held", lambda exchange: (held.append(exchange), exchange.peer.wait_for_end(exchange.socket)))
    with host.connect() as first, host.connect() as second:
        first.request("GET", call("/held"))
        peer.wait_requests(1)
        second.request("GET", call("/x"))
        assert host.get("/hello").status == 200  # by now the second one waits
        assert_fails(host, 503, "upstream_queue_full", call("/third"))
        peer.on("GET", "/x", fixed(body="well"))
        held[0].answer(body="held")
        assert first.read_answer().body == b"held"
        peer.drop()
        assert second.read_answer().body == b"well"


def test_waiting_too_long_for_a_place(start, peer):
    host = start(peer.url, connections=1, first_byte_timeout="20s", timeout="20s", queue_timeout="200ms")
    peer.on("GET", "/held", lambda exchange: exchange.stall())
    with host.connect() as first:
        first.request("GET", call("/held"))
        peer.wait_requests(1)
        assert_fails(host, 503, "upstream_queue_timeout")


def test_the_request_s_budget_is_shorter(start_weft, peer):
    host = start_weft({"server": {"request_timeout": "300ms"}, "upstream.thirdparty": {"url": peer.url},
                       "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "upstream": "thirdparty"}})
    peer.on("GET", "/x", lambda exchange: exchange.stall())
    assert host.get(call()).status == 504
    host.wait_access(path=call(), status=504, why="deadline")


# what is well

@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_framings(host, peer, framing):
    body = "0123456789" * 2000
    peer.on("GET", "/x", fixed(body=body, framing=framing))
    for _ in range(3):
        answer = host.get(call())
        assert (answer.status, answer.body) == (200, body.encode())
    assert peer.connections == (3 if framing == "close" else 1)


def test_interim_answers_are_skipped(host, peer):
    def answer(exchange):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        exchange.answer(body="at last")

    peer.on("GET", "/x", answer)
    for _ in range(2):
        assert host.get(call()).body == b"at last"
    assert peer.connections == 1


@pytest.mark.parametrize("answer, body", [
    (b"HTTP/1.0 200 OK\r\n\r\nold and until the end", b"old and until the end"),
    (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nok\r\n0\r\nTrailer: x\r\n\r\n", b"ok"),
], ids=["http-1.0", "no-reason", "trailers"])
def test_odd_but_right(host, peer, answer, body):
    def answer_so(exchange):
        exchange.send(answer)
        exchange.keep = False

    peer.on("GET", "/x", answer_so)
    found = host.get(call())
    assert (found.status, found.body) == (200, body)


@pytest.mark.parametrize("status", [201, 404, 500, 503])
def test_any_status_is_an_answer(host, peer, status):
    peer.on("GET", "/x", fixed(status=status, body="what it said"))
    answer = host.get(call())
    assert (answer.status, answer.body) == (status, b"what it said")
    why = host.wait_access(path=call(), status=status)["why"]
    assert why == ("done" if status < 500 else "handler")


def test_a_kept_connection_that_was_closed_meanwhile(host, peer):
    """The next call goes out on a new one, and nobody notices."""
    peer.on("GET", "/x", fixed(body="well"))
    for count in range(1, 6):
        assert host.get(call()).body == b"well"
        assert peer.connections == count
        peer.drop()


def test_a_kept_connection_that_talks_unasked(host, peer):
    """It is closed at once: what came is nobody's answer."""
    closed = threading.Semaphore(0)

    def answer(exchange):
        exchange.answer(body="well")
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned")
        exchange.stall()
        closed.release()

    peer.on("GET", "/x", answer)
    for _ in range(5):
        assert host.get(call()).body == b"well"
        assert closed.acquire(timeout=10)


# the demo's third party, which is a host itself, halted

def test_halted_and_going_on(start, start_weft):
    """SIGSTOP to all of it: /quote is a 504 within its limit, /hello and /books answer; SIGCONT: well."""
    thirdparty = start_weft({"plugin.thirdparty": {"path": "thirdparty.so"}})
    host = start(thirdparty.url)
    assert host.get("/quote").status == 200
    processes = [thirdparty.pid, *thirdparty.workers()]
    try:
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        for pid in processes:
            wait_until(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        assert_fails(host, 504, "upstream_first_byte_timeout", "/quote")
        assert_fails(host, 504, "upstream_first_byte_timeout", "/summary")
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: host.get("/quote").status == 200)
    assert host.get("/summary").status == 200
