"""Goal: no call that could block is made on a worker's loop thread, under load, in all that a handler can do, while
database and third party come and go and the host reloads: statements, rows and COPY in pieces, notifications,
transactions, cancels, with the database on a Unix socket, on TCP and behind TLS. tests/lib/watch.c, preloaded, notes
such calls; that it would is tested first, for each function that it watches."""
import concurrent.futures
import json
import re
import shutil
import signal
import threading

import pytest

from support import place
from support.client import Client, Closed
from support.cluster import Cluster
from support.peer import fixed
from support.wait import wait_until

WATCH = place.BUILD / "tests" / "watch.so"
PLUGINS = place.BUILD / "tests" / "plugins"
NEWS = "/copies/news/letters"


@pytest.fixture(scope="module")
def shared_cluster():
    """One that listens on TCP, with TLS where there is an openssl to make certificates."""
    cluster = Cluster(place.BUILD / "tests" / "pg" / "blocking", "--port", str(place.free_port()))
    cluster.start()
    if shutil.which("openssl") is not None:
        cluster.speak_tls()
    yield cluster
    cluster.remove()


@pytest.fixture
def watched(start_weft, tmp_path):
    """A function that starts a host under watch; its `watch` is the file of what was noted."""
    def start(sections):
        path = tmp_path / "watch"
        host = start_weft(sections, env={
            "LD_PRELOAD": str(WATCH), "WEFT_WATCH": str(path),
            "ASAN_OPTIONS": "detect_stack_use_after_return=0:verify_asan_link_order=0"})
        host.watch = path
        return host
    return start


def blocking_calls(host):
    return [line for line in host.watch.read_text().splitlines() if line.startswith("blocks: ")]


def test_the_watcher_sees_each_call_that_blocks(watched):
    """A plugin makes one after the other; it has one for each function that is watched."""
    host = watched({"plugin.hello": {"path": "hello.so"}, "plugin.blocks": {"path": PLUGINS / "blocks.so"}})
    names = host.get("/blocks").body.decode().split()
    source = (place.ROOT / "tests/lib/watch.c").read_text()
    assert {*names} - {"nested_epoll_wait"} == {*re.findall(r"NEXT\((\w+)\);", source)}
    assert blocking_calls(host) == []
    for name in names:
        before = len(host.watch.read_text().splitlines())
        assert host.get(f"/blocks/{name}").status == 200
        noted = host.watch.read_text().splitlines()[before:]
        called = name.removeprefix("nested_")
        assert any(re.match(rf"blocks: {called}( of|$)", line) for line in noted), (name, noted)
        assert any("blocks.so" in line for line in noted), (name, noted)


TARGETS = [("GET", "/hello", None), ("POST", "/echo", "x" * 5000), ("GET", "/books", None), ("GET", "/books/1", None),
           ("POST", "/books", json.dumps({"title": "Emma", "author": "Jane Austen"})), ("GET", "/quote", None),
           ("POST", "/books/import", ""), ("POST", "/books/1/announce", ""), ("GET", "/summary", None)]
FORMS = "from=1&to=2&amount=3", "from=2&to=1&amount=3"
STREAMS = [("GET", "/copies/rows/3000", None), ("GET", "/copies/out/3000", None),
           ("POST", "/copies/in", b"x" * 63 + b"\n" + b"y" * 200000 + b"\n"), ("POST", "/bank/transfers", FORMS[0]),
           ("POST", "/bank/transfers", FORMS[1]),
           ("GET", "/bank/transfers", None), ("GET", "/bank/transfers.csv", None),
           ("GET", "/lab/hasty-sql?q=select%20pg_sleep(5)", None),
           ("GET", "/lab/sql?q=select%20repeat('x',300000)", None),
           ("GET", "/lab/transaction?q=select%201&then=select%202", None)]


class Askers:
    """Clients that ask for all targets, over and over; `statuses` is what they were told."""

    def __init__(self, address):
        self.address = address
        self.statuses = []
        self.cut = 0                        # answers that broke off: their head was sent when the database went
        self.is_ending = threading.Event()

    def ask(self, targets, mount=""):
        rounds = 0
        while not self.is_ending.is_set() or rounds < 10:
            rounds += 1
            for method, target, body in targets:
                where = mount if target not in ("/hello", "/echo") else ""
                headers = {"Content-Type": "application/x-www-form-urlencoded"} if body in FORMS else {}
                try:
                    with Client(self.address, timeout=30) as client:
                        self.statuses.append((target, client.ask(method, where + target, headers, body).status))
                except (Closed, ConnectionError):
                    self.cut += 1

    def leave(self):
        """Each soon after the database has begun with what they asked for."""
        while not self.is_ending.is_set():
            with Client(self.address, timeout=30) as client:
                client.request("GET", "/lab/sql?q=select%20pg_sleep(5)")
                self.is_ending.wait(0.1)


def sections(books, cluster, peer):
    tcp = {**books.settings, "host": "localhost", "password": cluster.env["PGPASSWORD"]}
    secure = {**tcp, "sslmode": "verify-full", "sslrootcert": cluster.authority} if cluster.authority else tcp
    return {
        "server": {"request_timeout": "2s", "access_log": "access.log", "drain_timeout": "5s"},
        "pg.main": {**books.settings, "queue_timeout": "1s"},
        "pg.tcp": {**tcp, "queue_timeout": "1s", "sslmode": "disable"},
        "pg.secure": {**secure, "queue_timeout": "1s"},
        "upstream.thirdparty": {"url": peer.url.replace("127.0.0.1", "localhost"), "first_byte_timeout": "1s"},
        "plugin.hello": {"path": "hello.so"}, "plugin.books": {"path": "books.so"},
        "plugin.books_then": {"path": "books_then.so", "mount": "/then", "database": "tcp"},
        "plugin.bank": {"path": "bank.so", "database": "secure"},
        "plugin.lab": {"path": PLUGINS / "lab.so", "database": "secure"},
        "plugin.copies": {"path": PLUGINS / "copies.so", "database": "secure"},
        "plugin.copies_tcp": {"path": PLUGINS / "copies.so", "database": "tcp", "mount": "/tcp"}}


@pytest.mark.limit(180)
def test_no_call_blocks(watched, books, cluster, peer):
    """Clients with all flows and streams; meanwhile PostgreSQL is stopped, started and halted, the third party
    refuses and resets, is a name that must be looked up; clients leave; the host reloads, and drains."""
    book = json.dumps({"title": "Emma", "author": "Jane Austen"})
    books.run("set role weft; " + (place.ROOT / "plugins/bank/schema.sql").read_text())
    books.run("create table lines (line text); alter table lines owner to weft")
    peer.on("GET", None, fixed(body=book)).on("POST", None, fixed(body="{}"))
    host = watched(sections(books, cluster, peer))
    askers = Askers(host.address)
    jobs = [(askers.ask, TARGETS), (askers.ask, TARGETS, "/then"), (askers.ask, TARGETS), (askers.ask, STREAMS),
            (askers.ask, STREAMS), (askers.ask, STREAMS[:3], "/tcp"), (askers.leave,)]
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        futures = [pool.submit(*job) for job in jobs]
        try:
            follow(host, books)
            reload(host)
            trouble(host, cluster, peer, book)
            follow(host, books)
            reload(host)
        finally:
            askers.is_ending.set()
        for future in futures:
            future.result()
    check_answers(askers)
    if cluster.authority:
        assert books.run("select count(*) from pg_stat_ssl where ssl")[0][0] > 0
    host.stop()
    assert blocking_calls(host) == [], host.watch.read_text()
    lines = [line for line in host.watch.read_text().splitlines() if line.startswith("watched: ")]
    counts = [dict(pair.split("=") for pair in line.removeprefix("watched: ").split()) for line in lines]
    assert len(counts) == 3, lines     # a worker of each generation
    assert all(int(count["turns"]) > 50 for count in counts), lines
    assert sum(int(count["turns"]) for count in counts) > 500 and sum(int(count["calls"]) for count in counts) > 2000


def check_answers(askers):
    statuses = [status for _, status in askers.statuses]
    maybe = ("/bank/transfers", 500)    # whose COMMIT was under way when the database went
    assert {status for told in askers.statuses if told != maybe for status in told[1:]} <= {
        200, 201, 204, 303, 502, 503, 504}, askers.statuses
    assert statuses.count(200) > 100 and statuses.count(201) > 5
    served = {target for target, status in askers.statuses if status < 400}
    hasty = STREAMS[7][1]
    assert served == {target for _, target, _ in TARGETS + STREAMS} - {hasty}
    assert (hasty, 504) in askers.statuses


def follow(host, database):
    """One who listens is told."""
    with host.connect(30) as client:
        client.request("GET", NEWS)
        read_until(client, b"(listening)\n")
        database.run("notify letters, 'one'")
        read_until(client, b"one")


def read_until(client, text):
    seen = b""
    while text not in seen:
        got = client.socket.recv(4096)
        assert got, seen
        seen += got


def reload(host):
    workers = host.workers()
    host.signal(signal.SIGHUP)
    wait_until(lambda: host.workers() and not {*host.workers()} & {*workers}, 60)


def trouble(host, cluster, peer, book):
    for now in (True, False):
        cluster.stop(now=now)
        assert host.get("/books/1", timeout=20).status in (503, 504)
        cluster.start()
        wait_until(lambda: host.get("/books/1").status == 200)
    cluster.pause()
    assert host.get("/books/1", timeout=20).status in (503, 504)
    cluster.resume()
    wait_until(lambda: host.get("/books/1").status == 200)
    peer.on("GET", None, lambda exchange: exchange.reset())
    assert host.get("/quote").status == 502
    peer.refuse()
    assert host.get("/quote").status == 502
    peer.listen()
    peer.on("GET", None, fixed(body=book, framing="chunked"))
    wait_until(lambda: host.get("/quote").status == 200)
    wait_until(lambda: host.get("/copies/rows/1").status == host.get("/tcp/copies/rows/1").status == 200)
    for _ in range(20):
        host.connect().send("GET /summary HTTP/1.1\r\nHost: a\r\n\r\n").reset()
