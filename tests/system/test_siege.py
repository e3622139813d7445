"""Goal: clients by the thousand, and clients that mean harm, on the real process: heads and bodies in drops, idle
connections, connections that come and go, resets in every state, too many of one address, more than there is room for.
Limits hold as configured, memory is bounded, nothing is left behind, and whoever behaves is served meanwhile. 10,000
idle connections and 20,000 that come and go in a soak."""
import os
import pathlib
import re
import resource
import socket
import threading
import time

import pytest

from support import place, soak
from support.client import Client
from support.wait import wait_until

IDLE = 10000 if soak.IS_ON else 2000
COMING = 20000 if soak.IS_ON else 2000
SLOW = 200
LIMIT_S = 600 if soak.IS_ON else 120
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}


@pytest.fixture
def start(start_weft):
    def begin(**server):
        return start_weft({"server": server, "plugin.hello": {"path": "hello.so"},
                           "plugin.streams": {"path": place.BUILD / "tests/plugins/streams.so"}}, env=ENV)
    return begin


@pytest.fixture(autouse=True)
def files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"only {hard} open files are allowed here, not {IDLE + 500}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory_of(pid):
    """KiB, now."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def sockets_of(pid):
    """How many sockets it has."""
    def target(name):
        try:
            return os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            return ""
    return sum(target(name).startswith("socket:") for name in os.listdir(f"/proc/{pid}/fd"))


def connect_from(host, address):
    client = Client.__new__(Client)
    client.pending = b""
    client.socket = socket.socket()
    client.socket.settimeout(60)
    client.socket.bind((address, 0))
    client.socket.connect(host.address)
    return client


def is_served(host):
    return host.get("/hello", timeout=30).status == 200


class Drops:
    """Clients that send a byte of `text` now and then, until they are closed."""

    def __init__(self, host, start, text):
        self.clients = [host.connect(60).send(start) for _ in range(SLOW)]
        self.text = text
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        at = 0
        while not self.is_over.wait(0.1):
            byte = self.text[at % len(self.text):][:1]
            at += 1
            for client in self.clients:
                try:
                    client.socket.send(byte)
                except OSError:
                    pass

    def end(self):
        self.is_over.set()
        self.thread.join()
        for client in self.clients:
            client.close()


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("start_text, drops, why", [
    (b"GET /hello HTTP/1.1\r\nHost: a\r\n", b"X: yyyyyyyyyyyyyy\r\n", "header_timeout"),
    (b"POST /streams/up HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x", "body_rate"),
    (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", b"x", "body_rate"),
], ids=["head", "body-read", "body-gathered"])
def test_who_sends_in_drops_is_given_up(start, start_text, drops, why):
    host = start(header_timeout="2s", body_timeout="60s")
    worker, = host.workers()
    assert is_served(host)
    before, files = memory_of(worker), sockets_of(worker)
    slow = Drops(host, start_text, drops)
    try:
        for _ in range(20):
            assert is_served(host)
        most = memory_of(worker)
        host.wait_access(count=SLOW, status=408, why=why, timeout=60)
        assert is_served(host)
        for client in slow.clients:
            assert client.read_answer().status == 408
    finally:
        slow.end()
    wait_until(lambda: sockets_of(worker) <= files, timeout=60)
    assert max(most, memory_of(worker)) - before < SLOW * 64


@pytest.mark.limit(LIMIT_S)
def test_idle_connections_cost_little(start):
    host = start(idle_timeout="1d", access_log="off")
    worker, = host.workers()
    assert is_served(host)
    before, files = memory_of(worker), sockets_of(worker)
    clients = []
    for _ in range(IDLE):
        client = host.connect(60)
        assert client.ask("GET", "/hello").status == 200
        clients.append(client)
    each = (memory_of(worker) - before) / IDLE
    print(f"{IDLE} idle connections take {each:.2f} KiB each")
    assert each < 4
    for _ in range(50):
        assert is_served(host)
    for client in clients[::IDLE // 100]:
        assert client.ask("GET", "/hello").status == 200
    for client in clients:
        client.close()
    wait_until(lambda: sockets_of(worker) <= files, timeout=60)


@pytest.mark.limit(LIMIT_S)
def test_connections_that_come_and_go(start):
    """From several addresses, each with one request: all are answered, and none of them stays."""
    host = start(access_log="off")
    worker, = host.workers()
    files, failed = sockets_of(worker), []

    def come(address):
        for _ in range(COMING // 8):
            try:
                with connect_from(host, address) as client:
                    client.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    assert client.read_answer().status == 200 and client.is_closed()
            except Exception as problem:  # pylint: disable=broad-except
                failed.append((address, repr(problem)))
                return

    threads = [threading.Thread(target=come, args=(f"127.0.0.{2 + i}",)) for i in range(8)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{COMING / (time.monotonic() - began):.0f} connections a second")
    assert not failed
    wait_until(lambda: sockets_of(worker) <= files, timeout=60)


def test_too_many_of_one_address(start):
    host = start(address_connections_max=5)
    clients = [connect_from(host, "127.0.0.2") for _ in range(5)]
    for client in clients:
        assert client.ask("GET", "/hello").status == 200
    for _ in range(3):
        with connect_from(host, "127.0.0.2") as refused:
            answer = refused.read_answer()
            assert (answer.status, answer.header("retry-after")) == (503, "1")
            assert refused.is_closed()
    with connect_from(host, "127.0.0.3") as other:
        assert other.ask("GET", "/hello").status == 200
    clients.pop().close()

    def is_let_in():
        with connect_from(host, "127.0.0.2") as client:
            return client.ask("GET", "/hello").status == 200
    wait_until(is_let_in)
    for client in clients:
        assert client.ask("GET", "/hello").status == 200
        client.close()


@pytest.mark.limit(LIMIT_S)
def test_the_full_house_makes_room(start):
    """Whoever has been idle for longest goes for one that comes; whoever is busy stays."""
    host = start(connections_max=40, connections_soft=40)
    busy = host.connect(60).request("GET", "/streams/events")
    assert busy._take_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    clients = []
    for _ in range(39):
        clients.append(host.connect(60))
        assert clients[-1].ask("GET", "/hello").status == 200
    for _ in range(10):  # each of them had to wait until one was idle for a second, or found one
        with host.connect(60) as client:
            assert client.ask("GET", "/hello").status == 200
    assert clients[0].is_closed(), "the first was idle for longest"
    assert clients[-1].ask("GET", "/hello").status == 200, "the last was not"
    host.post("/streams/events", b"still there", timeout=30)
    assert b"still there" in busy._take_until(b"\n\n")
    for client in [busy, *clients]:
        client.close()


# resets

PIECES = "POST /streams/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_leaving_in_every_state(start, how):
    """Half-way through a head, a body, an answer of any kind, a refusal's lingering; and the moment does not matter."""
    host = start(access_log="off")
    worker, = host.workers()
    assert is_served(host)
    texts = {
        "nothing": "", "half a head": "GET /hello HTT", "half a body": "POST /echo HTTP/1.1\r\nHost: a\r\n"
        "Content-Length: 9\r\n\r\nab", "pulled": "POST /streams/up HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
        "both ways": PIECES, "unread": "GET /streams/down/100000000 HTTP/1.1\r\nHost: a\r\n\r\n",
        "by length": "GET /streams/down/100000000?length HTTP/1.1\r\nHost: a\r\n\r\n",
        "events": "GET /streams/events HTTP/1.1\r\nHost: a\r\n\r\n",
        "waiting": "GET /streams/half/waits HTTP/1.1\r\nHost: a\r\n\r\n",
        "in line": "GET /streams/half/waits HTTP/1.1\r\nHost: a\r\n\r\n" * 3 + "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "refused": "GET /hello HTTP/9.9\r\n\r\n" + "x" * 1000,
        "discarded": "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nab"}
    before, files = memory_of(worker), sockets_of(worker)
    for turn in range(20):
        clients = []
        for text in texts.values():
            client = host.connect(60).send(text)
            if turn % 4 != 0:  # the server has seen it, or has begun to, or perhaps not
                client.socket.settimeout(0.02 if turn % 4 == 1 else 0.001)
                try:
                    client.socket.recv(1000)
                except (socket.timeout, ConnectionResetError):
                    pass
            clients.append(client)
        for client in clients:
            getattr(client, how)()
    assert is_served(host)
    wait_until(lambda: sockets_of(worker) <= files, timeout=60)
    assert memory_of(worker) - before < 8 * 1024
    assert host.get("/streams/followers").body == b"0"


def test_a_fin_costs_no_answer(start):
    """What was said before it is answered: pipelined, in pieces, with a body."""
    host = start()
    with host.connect(60) as client:
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" * 3).send(PIECES + "0\r\n\r\n")
        client.send("GET /streams/down/1000000 HTTP/1.1\r\nHost: a\r\n\r\n").finish()
        assert [client.read_answer().status for _ in range(3)] == [200] * 3
        assert client.read_answer().body == b"abc"
        assert len(client.read_answer().body) == 1000000
        assert client.is_closed()
