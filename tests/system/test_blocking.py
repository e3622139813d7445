"""Goal: no call that could block is made on a worker's loop thread, under load, while database and third
party come and go. tests/lib/watch.c, preloaded, notes such calls; that it would is tested first."""
import concurrent.futures
import json

import pytest

from support import place
from support.client import Client
from support.peer import fixed
from support.wait import wait_until

WATCH = place.BUILD / "tests" / "watch.so"


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


@pytest.mark.parametrize("how", ["poll", "read", "connect", "recv", "getaddrinfo", "nanosleep"])
def test_the_watcher_sees_a_plugin_that_blocks(watched, how):
    host = watched({"plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so"}})
    assert host.get("/lab/text").status == 200
    assert blocking_calls(host) == []
    assert host.get(f"/lab/block/{how}").status == 200
    assert any(line.startswith(f"blocks: {how}") for line in blocking_calls(host)), host.watch.read_text()
    assert "lab.so" in host.watch.read_text()


TARGETS = [("GET", "/hello", None), ("POST", "/echo", "x" * 5000), ("GET", "/books", None), ("GET", "/books/1", None),
           ("POST", "/books", json.dumps({"title": "Emma", "author": "Jane Austen"})), ("GET", "/quote", None),
           ("POST", "/books/import", ""), ("POST", "/books/1/announce", ""), ("GET", "/summary", None)]


def ask_all(address, going, number):
    """All flows in both styles, over and over, on a connection for each round."""
    statuses = []
    while going[0] or len(statuses) < 100:
        with Client(address, timeout=20) as client:
            for method, target, body in TARGETS:
                mount = "/then" if number % 2 and target not in ("/hello", "/echo") else ""
                statuses.append(client.ask(method, mount + target, body=body).status)
    return statuses


@pytest.mark.limit(120)
def test_no_call_blocks(watched, books, cluster, peer):
    """Six clients with all flows; meanwhile PostgreSQL is stopped, started and halted, the third party
    refuses and resets, is a name that must be looked up; clients leave; and the host drains."""
    book = json.dumps({"title": "Emma", "author": "Jane Austen"})
    peer.on("GET", None, fixed(body=book)).on("POST", None, fixed(body="{}"))
    host = watched({
        "server": {"request_timeout": "2s", "access_log": "access.log"},
        "pg.main": {**books.settings, "queue_timeout": "1s"},
        "upstream.thirdparty": {"url": peer.url.replace("127.0.0.1", "localhost"), "first_byte_timeout": "1s"},
        "plugin.hello": {"path": "hello.so"}, "plugin.books": {"path": "books.so"},
        "plugin.books_then": {"path": "books_then.so", "mount": "/then"}})
    going = [True]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(ask_all, host.address, going, number) for number in range(6)]
        try:
            trouble(host, cluster, peer, book)
        finally:
            going[0] = False
        statuses = [status for future in futures for status in future.result()]
    assert set(statuses) <= {200, 201, 502, 503, 504}
    assert statuses.count(200) > 100 and statuses.count(201) > 20
    host.stop()
    assert blocking_calls(host) == [], host.watch.read_text()
    last = host.watch.read_text().splitlines()[-1]
    counts = dict(pair.split("=") for pair in last.removeprefix("watched: ").split())
    assert int(counts["turns"]) > 500 and int(counts["calls"]) > 2000, last


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
    for _ in range(20):
        host.connect().send("GET /summary HTTP/1.1\r\nHost: a\r\n\r\n").reset()
