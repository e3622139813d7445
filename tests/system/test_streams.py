"""Goal: bodies and replies in pieces, on the real process and through the ABI: whole, in constant memory however long
they are, as fast as the slower side and no faster; what breaks off looks broken; and thousands who follow events are
told at once, and let go of in order when the worker ends. A gigabyte each way and 10,000 followers in a soak."""
import contextlib
import os
import resource
import signal
import socket
import threading
import time

import psycopg2
import pytest

from support import place, soak
from support.client import Closed
from support.memory import Memory, give, memory_of, stuff, take
from support.wait import wait_until

MUCH = 1 << 30 if soak.IS_ON else 96 << 20
FOLLOWERS = 10000 if soak.IS_ON else 1500
GROWTH_KB = 8 * 1024
LIMIT_S = 1200 if soak.IS_ON else 120
STREAMS = place.BUILD / "tests/plugins/streams.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}


@pytest.fixture
def start(start_weft):
    def begin(server=None, **more):
        return start_weft({"server": server or {}, "plugin.hello": {"path": "hello.so"},
                           **({"plugin.streams": {"path": STREAMS}} | more)}, env=ENV)
    return begin


def warm(host):
    """Has everything that is made once made."""
    assert len(host.get("/streams/down/4000000", timeout=60).body) == 4000000
    assert host.post("/streams/up", b"u" * 4000000, timeout=60).body == b"4000000"
    return Memory(host.workers()[0])


@contextlib.contextmanager
def hold_lock(database):
    """What POST /streams/slow waits for, until the connection is closed."""
    held = psycopg2.connect(connect_timeout=10, **database.settings)
    try:
        held.cursor().execute("select pg_advisory_lock(1)")
        yield held
    finally:
        held.close()


# framing

def test_chunked_and_by_length(start):
    host = start()
    with host.connect(60) as client:
        answer = client.ask("GET", "/streams/down/100000", {"TE": "trailers"})
        assert (answer.header("transfer-encoding"), answer.header("content-length")) == ("chunked", None)
        assert (answer.body, answer.trailers) == (b"d" * 100000, [("X-Whole", "yes")])
        answer = client.ask("GET", "/streams/down/100000?length")
        assert (answer.header("transfer-encoding"), answer.header("content-length")) == (None, "100000")
        assert (answer.body, answer.trailers) == (b"d" * 100000, [])
        answer = client.ask("HEAD", "/streams/down/100000?length")
        assert (answer.status, answer.header("content-length")) == (200, "100000")
        assert client.ask("GET", "/hello").status == 200
    host.wait_access(path="/streams/down/100000?length", method="HEAD", why="done", timeout=60)


def test_a_client_of_1_0_gets_it_up_to_the_end(start):
    host = start()
    with host.connect(60) as client:
        client.send("GET /streams/down/100000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = client.read_answer()
        assert answer.header("transfer-encoding") is None and answer.header("connection") == "close"
        assert answer.body == b"d" * 100000


@pytest.mark.parametrize("how, logged", [
    ("fails", "its answer is broken off"), ("late", "its answer is broken off"),
    ("stops", "left its answer unfinished")])
def test_what_breaks_off_looks_broken(start, how, logged):
    host = start()
    with host.connect(60) as client:
        client.request("GET", f"/streams/half/{how}")
        with pytest.raises(Closed) as closed:
            client.read_answer()
        assert b"0\r\n\r\n" not in closed.value.got
    with host.connect(60) as client:
        client.send(f"GET /streams/half/{how} HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.socket.recv(1000):
                pass
    host.wait_access(count=2, path=f"/streams/half/{how}", status=200, timeout=60)
    lines = [line for line in host.log.splitlines() if logged in line]
    assert len([line for line in lines if "/streams/half/:how" in line and "streams" in line]) == 2, host.log
    assert host.get("/hello", timeout=60).status == 200


# long ones, in constant memory

@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("query", ["", "?length"])
def test_a_download_costs_no_memory(start, query):
    host = start()
    memory = warm(host)
    with host.connect(60) as client:
        client.request("GET", f"/streams/down/{MUCH}{query}")
        head = client._take_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        framing = 0 if query else MUCH // 32768 * 8 + 5   # each piece is "8000", its data and two ends of lines
        take(client, MUCH + framing - len(client.pending), memory)
        # Whoever leaves at the last byte of a declared length may be gone before the handler says that it was all.
        line = host.wait_access(path=f"/streams/down/{MUCH}{query}", why="done", timeout=60)
    assert memory.look() < GROWTH_KB
    assert int(line["bytes"]) == MUCH + framing + len(head)


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_costs_no_memory(start, framing):
    host = start()
    memory = warm(host)
    with host.connect(60) as client:
        if framing == "length":
            client.send(f"POST /streams/up HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n")
            give(client, MUCH, memory)
        else:
            client.send("POST /streams/up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for sent in range(0, MUCH, 1 << 16):
                client.send(b"10000\r\n" + b"u" * (1 << 16) + b"\r\n")
                if sent % (1 << 23) == 0:
                    memory.look()
            client.send("0\r\n\r\n")
        assert client.read_answer().body == str(MUCH).encode()
    assert memory.look() < GROWTH_KB


@pytest.mark.limit(LIMIT_S)
def test_both_ways_at_once(start):
    """What comes is sent back while it comes; a client that does not read is not read from."""
    host = start()
    memory = warm(host)
    with host.connect(60) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.send(f"POST /streams/echo HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n")
        given = stuff(client, MUCH)
        assert given < MUCH, "it was held back"
        giver = threading.Thread(target=give, args=(client, MUCH - given))
        giver.start()
        answer, total = client._take_until(b"\r\n\r\n"), 0
        assert b"chunked" in answer
        while (size := int(client._take_until(b"\r\n"), 16)) > 0:
            assert client._take(size).strip(b"u") == b"" and client._take(2) == b"\r\n"
            total += size
            if total % (1 << 23) < size:
                memory.look()
        giver.join()
        assert total == MUCH
    assert memory.look() < GROWTH_KB


# the slower side says how fast

def test_who_never_reads_is_given_up(start):
    host = start({"write_timeout": "1s"})
    memory = warm(host)
    clients = [host.connect(60).request("GET", f"/streams/down/{1 << 30}") for _ in range(30)]
    for _ in range(10):
        assert host.get("/hello", timeout=60).status == 200
        memory.look()
    host.wait_access(count=len(clients), path=f"/streams/down/{1 << 30}", status=499, why="write_timeout",
                     timeout=60)
    assert memory.look() < GROWTH_KB
    for client in clients:
        client.close()


@pytest.mark.limit(LIMIT_S)
def test_a_handler_that_waits_for_the_database_holds_its_client_back(start, database):
    host = start({"body_timeout": "60s"}, **{
        "pg.main": {**database.settings, "statement_timeout": "60s"},
        "plugin.streams": {"path": STREAMS, "database": "main"}})
    memory = warm(host)
    with hold_lock(database) as held, host.connect(60) as client:
        client.send(f"POST /streams/slow HTTP/1.1\r\nHost: a\r\nContent-Length: {MUCH}\r\n\r\n")
        given = stuff(client, MUCH)
        assert given < MUCH // 2, "what the kernel's buffers take, and no more"
        assert memory.look() < GROWTH_KB
        assert host.get("/hello", timeout=60).status == 200
        held.close()
        give(client, MUCH - given, memory)
        assert client.read_answer().body == str(MUCH).encode()
    assert memory.look() < GROWTH_KB


# events

@pytest.fixture
def many_followers():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FOLLOWERS + 500:
        pytest.skip(f"only {hard} open files are allowed here, not {FOLLOWERS + 500}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FOLLOWERS + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def follow(host, headers=()):
    client = host.connect(60)
    client.request("GET", "/streams/events", headers)
    return client


def events_of(client):
    """The text of the next chunk."""
    size = int(client._take_until(b"\r\n"), 16)
    return client._take(size + 2)[:-2].decode()


def test_events_as_a_browser_sees_them(start):
    host = start()
    with follow(host, {"Last-Event-ID": "41"}) as client:
        head = client._take_until(b"\r\n\r\n").decode()
        assert "Content-Type: text/event-stream\r\n" in head and "Cache-Control: no-store\r\n" in head
        assert events_of(client) == "event: resumed\ndata: 41\n\n"
        assert host.post("/streams/events", "one\r\ntwo\n", timeout=60).body == b"1"
        assert events_of(client) == "event: news\nid: 1\ndata: one\ndata: two\ndata: \n\n"
    wait_until(lambda: host.get("/streams/followers", timeout=60).body == b"0")
    host.wait_access(path="/streams/events", method="GET", status=499, why="client_gone", timeout=60)


def test_no_event_is_sent_by_half(start):
    """One that never reads loses events; where a part of one has gone, it loses the stream, and sees so."""
    host = start()
    long = "".join(f"{number:04} {'x' * 900}\n" for number in range(150))
    with follow(host) as client:
        assert client._take_until(b"\r\n\r\n")
        for _ in range(500):
            if host.post("/streams/events?stubborn", long, timeout=30).body == b"0":
                break
        wait_until(lambda: host.get("/streams/followers", timeout=60).body == b"0")
        events = b""
        with pytest.raises(Closed):
            while True:
                size = int(client._take_until(b"\r\n"), 16)
                events += client._take(size + 2)[:-2]
    whole = events.split(b"\n\n")
    assert len(whole) > 1
    for number, event in enumerate(whole[:-1], 1):
        lines = event.decode().split("\n")
        assert lines[:2] == ["event: news", f"id: {number}"] and lines[-1] == "data: "
        assert [line[6:10] for line in lines[2:-1]] == [f"{line:04}" for line in range(150)]


@pytest.mark.limit(LIMIT_S)
def test_thousands_follow(start, many_followers):
    """All get each event; who leaves is forgotten; an idle one is cheap; SIGTERM ends the others in order, at once."""
    host = start({"access_log": "off", "drain_idle": "1s"})
    worker, = host.workers()
    with follow(host):
        before = memory_of(worker)
        clients = [follow(host) for _ in range(FOLLOWERS)]
        for client in clients:
            assert client._take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: int(host.get("/streams/followers", timeout=60).body) == FOLLOWERS, timeout=60)
    each_kb = (memory_of(worker) - before) / FOLLOWERS
    for number in range(1, 4):
        began = time.monotonic()
        assert int(host.post("/streams/events", f"event {number}", timeout=60).body) == FOLLOWERS
        for client in clients:
            assert events_of(client) == f"event: news\nid: {number}\ndata: event {number}\n\n"
        print(f"{FOLLOWERS} followers: told within {time.monotonic() - began:.2f} s, {each_kb:.1f} KiB each")
    assert each_kb < 24
    gone, clients = clients[:FOLLOWERS // 3], clients[FOLLOWERS // 3:]
    for number, client in enumerate(gone):
        client.reset() if number % 2 else client.close()
    wait_until(lambda: int(host.get("/streams/followers", timeout=60).body) == len(clients), timeout=60)
    began = time.monotonic()
    host.signal(signal.SIGTERM)
    for client in clients:
        assert client._take_until(b"0\r\n\r\n") == b"0\r\n\r\n"
        client.close()
    assert host.wait() == 0
    assert time.monotonic() - began < 60
