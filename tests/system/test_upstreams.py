"""Goal: with several addresses and real servers behind: no client notices that a kept connection was closed under it,
nothing that is not idempotent is asked twice, and what one address does, dead, slow, or one after the other, costs no
more than the policy allows; nginx and haproxy, behind and in front, understand what weft says, and it them."""
import collections
import gzip
import os
import random
import shutil
import socket
import subprocess
import threading
import time
import zlib

import pytest

from support import place, soak
from support.client import Client, Closed
from support.load import Load
from support.memory import Memory
from support.peer import fixed
from support.wait import wait_until

ASKED = 3000 if soak.IS_ON else 300


def proxied(start_weft, upstream, server=None, **settings):
    return start_weft({"server": server or {}, "upstream.behind": upstream, "plugin.hello": {"path": "hello.so"},
                       "plugin.proxy": {"path": "proxy.so", "mount": "/api", "upstream": "behind", **settings}})


# kept connections

class Forgetful:
    """A server that closes its connections at random: after an answer, or some milliseconds later, when the next
    request may be on its way."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.seen = collections.Counter()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.closed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        reader = connection.makefile("rb")
        with connection:
            while line := reader.readline():
                method, target, _ = line.decode().split(" ")
                length = 0
                while field := reader.readline().strip():
                    if field.lower().startswith(b"content-length:"):
                        length = int(field.split(b":")[1])
                reader.read(length)
                with self.lock:
                    self.seen[method, target] += 1
                    chance = self.random.random()
                    self.closed += chance < 0.3
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if chance < 0.3:
                    time.sleep(chance / 100)   # up to 3 ms
                    return


def test_connections_that_are_closed_while_they_are_idle(start_weft):
    seed = soak.seed()
    print("WEFT_SEED", seed)
    behind = Forgetful(seed)
    host = proxied(start_weft, {"url": behind.url, "eject_failures": 0})
    outcomes, lock = collections.Counter(), threading.Lock()

    def ask(number):
        with host.connect(timeout=30) as client:
            for i in range(ASKED):
                method = ("GET", "PUT", "POST")[i % 3]
                target = f"/api/{number}/{i}"
                status = client.ask(method, target, body=b"x" if method == "POST" else None).status
                with lock:
                    outcomes[method, status] += 1

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for one in askers:
        one.start()
    for one in askers:
        one.join()
    behind.listener.close()
    assert behind.closed > ASKED / 10
    each = 6 * ASKED / 3
    assert outcomes["GET", 200] == each and outcomes["PUT", 200] == each, outcomes
    # A POST that may have been heard is not asked again: its client is told.
    assert outcomes["POST", 200] + outcomes["POST", 502] == each, outcomes
    twice = [key for key, count in behind.seen.items() if key[0] == "POST" and count > 1]
    assert not twice


# one of three

@pytest.fixture
def three(make_peer):
    made = [make_peer() for _ in range(3)]
    for number, one in enumerate(made):
        one.on("GET", None, fixed(body=str(number)))
    return made


def all_of(peers, **more):
    return {"url": peers[0].url, "addresses": " ".join(f"127.0.0.1:{one.port}" for one in peers),
            "connect_timeout": "500ms", "first_byte_timeout": "400ms", "eject_failures": 3, "eject_time": "300ms",
            **more}


def test_one_of_three_is_dead(start_weft, three):
    host = proxied(start_weft, all_of(three), server={"access_log": "off"})
    with Load(host.address, "/api/x", keeping=3, fresh=1) as load:
        three[1].refuse()
        before = dict(load.bodies)
        load.wait(200)
        assert load.bodies[b"0"] > before[b"0"] and load.bodies[b"2"] > before[b"2"]
        three[1].listen()
        count = load.bodies[b"1"]
        wait_until(lambda: load.bodies[b"1"] > count + 5, timeout=20)
    assert not load.failures, load.failures[:5]


def test_one_of_three_is_slow(start_weft, three):
    """It costs the calls that it takes their time until it is ejected; then nobody's but those that try it."""
    host = proxied(start_weft, all_of(three, eject_time="20s", hedge=0), server={"access_log": "off"})
    three[2].on("GET", None, lambda exchange: exchange.stall())
    statuses = collections.Counter()
    with host.connect(timeout=30) as client:
        for _ in range(60):
            statuses[client.ask("GET", "/api/x").status] += 1
        assert statuses[504] <= 3 and statuses[200] == 60 - statuses[504], statuses
        begun = time.monotonic()
        for _ in range(50):
            assert client.ask("GET", "/api/x").status == 200
        assert time.monotonic() - begun < 10
        assert client.ask("GET", "/hello").status == 200


def test_one_of_three_flaps(start_weft, three):
    host = proxied(start_weft, all_of(three), server={"access_log": "off"})
    with Load(host.address, "/api/x", keeping=3, fresh=1) as load:
        for _ in range(10 if soak.IS_ON else 3):
            three[0].refuse()
            load.wait(40)
            three[0].listen()
            load.wait(40)
    assert not load.failures, load.failures[:5]


def test_a_stalled_upstream_slows_nobody_else(start_weft, peer):
    peer.on("GET", None, lambda exchange: exchange.stall())
    host = proxied(start_weft, {"url": peer.url, "connections": 4, "queue": 64, "queue_timeout": "20s",
                                "first_byte_timeout": "20s"})
    waiting = [host.connect(timeout=30).request("GET", "/api/x") for _ in range(20)]
    peer.wait_requests(4)
    begun = time.monotonic()
    with host.connect() as client:
        for _ in range(200):
            assert client.ask("GET", "/hello").status == 200
    assert time.monotonic() - begun < 10
    for client in waiting:
        client.close()


# real servers

class Server:
    """A program in the foreground that listens on a port."""

    def __init__(self, command, port):
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        end = time.monotonic() + 20
        while True:
            try:
                Client(("127.0.0.1", port)).close()
                return
            except OSError:
                assert self.process.poll() is None, self.process.stdout.read().decode()
                assert time.monotonic() < end
                time.sleep(0.05)

    def end(self):
        self.process.terminate()
        self.process.wait(20)
        self.process.stdout.close()


@pytest.fixture
def start_server():
    made = []

    def start(name, make_text, tmp_path, arguments):
        program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if program is None:
            pytest.skip(f"{name} is not installed")
        port = place.free_port()
        config = tmp_path / f"{name}.conf"
        config.write_text(make_text(port))
        made.append(Server([program, *arguments(config)], port))
        return port

    yield start
    for one in made:
        one.end()


def start_nginx(start_server, tmp_path, locations):
    folders = " ".join(f"{name}_temp_path {tmp_path}/{name};" for name in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return start_server("nginx", lambda port: f"""
daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/nginx.log;
events {{ worker_connections 256; }}
http {{ access_log off; {folders} client_max_body_size 0; keepalive_timeout 2s; keepalive_requests 50;
  upstream up {{ server 127.0.0.1:1; keepalive 4; }}
  server {{ listen 127.0.0.1:{port}; {locations} }} }}""", tmp_path,
                        lambda config: ["-p", str(tmp_path), "-c", str(config)])


def exercise(host, path, big):
    """Bodies of every framing, and more requests than a connection is good for."""
    with host.connect(timeout=30) as client:
        for _ in range(120):
            assert client.ask("GET", f"{path}/small").body == b"small\n"
        answer = client.ask("HEAD", f"{path}/small")
        assert (answer.status, answer.header("content-length")) == (200, "6")
        assert client.ask("GET", f"{path}/big").body == big
        assert client.ask("GET", f"{path}/none").status == 404
        answer = client.ask("GET", f"{path}/big", {"Range": "bytes=10-19"})
        assert (answer.status, answer.body) == (206, big[10:20])


@pytest.fixture
def files(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/small").write_text("small\n")
    big = bytes(random.Random(1).randbytes(3 << 20))
    (tmp_path / "files/big").write_bytes(big)
    return big


def test_nginx_behind(start_weft, start_server, tmp_path, files):
    port = start_nginx(start_server, tmp_path, f"root {tmp_path}/files;")
    exercise(proxied(start_weft, {"url": f"http://127.0.0.1:{port}"}, strip_mount="on"), "/api", files)


def test_haproxy_behind(start_weft, start_server, tmp_path, files):
    """haproxy between, which speaks for nginx, and closes what is idle for a second."""
    nginx = start_nginx(start_server, tmp_path, f"root {tmp_path}/files;")
    port = start_server("haproxy", lambda port: f"""
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
  timeout http-keep-alive 1s
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server one 127.0.0.1:{nginx}
""", tmp_path, lambda config: ["-db", "-f", str(config)])
    host = proxied(start_weft, {"url": f"http://127.0.0.1:{port}"}, strip_mount="on")
    exercise(host, "/api", files)
    time.sleep(1.2)   # its connections are closed now
    exercise(host, "/api", files)


def test_nginx_in_front(start_weft, start_server, tmp_path, peer):
    """Over connections that it keeps, with what it says of its client, and a body that it does not hold back."""
    peer.on("POST", "/api/echo", lambda exchange: exchange.answer(
        body=exchange.request.body, headers={"X-Seen": exchange.request.headers["x-forwarded-for"]}))
    host = proxied(start_weft, {"url": peer.url}, trust_forwarded="on", body_max=-1)
    port = start_nginx(start_server, tmp_path, f"""location / {{ proxy_pass http://127.0.0.1:{host.port};
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; proxy_buffering off;
      proxy_set_header X-Forwarded-For $remote_addr; }}""")
    body = random.Random(2).randbytes(2 << 20)
    with Client(("127.0.0.1", port), 30) as client:
        for _ in range(5):
            answer = client.ask("POST", "/api/echo", body=body)
            assert (answer.status, answer.body) == (200, body)
            assert answer.header("x-seen") == "127.0.0.1, 127.0.0.1"
        answer = client.ask("POST", "/api/echo", {"Transfer-Encoding": "chunked"}, b"4\r\nsome\r\n0\r\n\r\n")
        assert answer.body == b"some"
        assert client.ask("GET", "/hello").status == 200


# what goes along

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("setting, sent, passed", [
    ("on", {"traceparent": TRACE, "tracestate": "a=1"}, {"traceparent": TRACE, "tracestate": "a=1"}),
    ("on", {"traceparent": TRACE}, {"traceparent": TRACE}),
    ("on", {"traceparent": TRACE.upper(), "tracestate": "a=1"}, {}),
    ("on", {"traceparent": TRACE + "x"}, {}),
    ("on", {"tracestate": "a=1"}, {}),
    ("off", {"traceparent": TRACE, "tracestate": "a=1"}, {})])
def test_the_trace_goes_along(start_weft, peer, setting, sent, passed):
    peer.on("GET", "/x", fixed(body="x"))
    host = start_weft({"upstream.partner": {"url": peer.url, "trace": setting, "budget_field": "X-Left-Ms"},
                       "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "upstream": "partner"}})
    assert host.get("/lab/call?path=/x", headers=sent).status == 200
    got = peer.requests[-1].headers
    assert {name: got[name] for name in ("traceparent", "tracestate") if name in got} == passed
    assert 0 < int(got["x-left-ms"]) <= 30000


# gzip that a handler wants decoded as it comes

def start_decoding(start_weft, peer, **upstream):
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
    return start_weft({"upstream.partner": {"url": peer.url, **upstream},
                       "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "upstream": "partner"}}, env=env)


def zipped(exchange, body, behind=b"", length=None):
    packed = gzip.compress(body) + behind
    exchange.answer(body=packed[:length], headers={"Content-Encoding": "gzip"})


@pytest.mark.limit(1200 if soak.IS_ON else 120)
def test_a_bomb_comes_out_as_fast_as_its_client_takes_it(start_weft, peer):
    size = 1 << 30 if soak.IS_ON else 64 << 20
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    peer.on("GET", "/bomb", fixed(body=packed, headers={"Content-Encoding": "gzip"}))
    peer.on("GET", "/small", lambda exchange: zipped(exchange, b"s" * 4000000))
    peer.on("GET", "/plain", fixed(body="plain"))
    host = start_decoding(start_weft, peer, stream_timeout="60s")
    assert host.get("/lab/decoded?path=/small", timeout=60).body == b"s" * 4000000
    assert peer.requests[-1].headers["accept-encoding"] == "gzip"
    memory = Memory(host.workers()[0])
    with host.connect(60) as client:
        client.request("GET", "/lab/decoded?path=/bomb")
        head = client._take_until(b"\r\n\r\n")
        assert b"chunked" in head and b"encoding: gzip" not in head.lower()
        assert host.get("/lab/decoded?path=/plain").body == b"plain"   # nobody else waits for it
        total = 0
        while (length := int(client._take_until(b"\r\n"), 16)) > 0:
            assert client._take(length).count(0) == length and client._take(2) == b"\r\n"
            total += length
            if total % (1 << 22) < length:
                memory.look()
        assert total == size
    assert memory.look() < 8 * 1024


@pytest.mark.parametrize("what, reason", [
    ({"behind": b"more"}, "upstream_protocol"), ({"length": -1}, "upstream_protocol"),
    ({"length": 1000}, "upstream_protocol"), ({"body": b"x" * 5000001}, "upstream_body_too_big")])
def test_gzip_that_is_wrong_breaks_the_answer_off(start_weft, peer, what, reason):
    body = random.Random(1).randbytes(1000) * 5000
    peer.on("GET", "/x", lambda exchange: zipped(exchange, **({"body": body} | what)))
    host = start_decoding(start_weft, peer, decoded_max="5000000")
    with host.connect() as client:
        client.request("GET", "/lab/decoded?path=/x")
        with pytest.raises(Closed):
            client.read_answer()
    host.wait_access(path="/lab/decoded?path=/x")
    assert "its answer is broken off" in host.log and f"reason={reason}" in host.log
