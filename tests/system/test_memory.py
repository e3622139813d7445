"""Goal: valgrind finds neither an error nor a leak in a run of all flows and a drain, in a build without
sanitizers. (What AddressSanitizer finds fails every other test: see support/host.py.)"""
import fcntl
import json
import shutil
import signal
import subprocess

import pytest

from support import place, plugin
from support.peer import fixed

TREE = place.ROOT / "build" / "valgrind"
TARGETS = ["weft", "hello", "books", "books_then", "lab"]
BOOK = json.dumps({"title": "Emma", "author": "Jane Austen"})


@pytest.fixture(scope="module")
def build():
    """The folder of the preset valgrind, up to date."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    TREE.mkdir(parents=True, exist_ok=True)
    with open(TREE / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["cmake", "--preset", "valgrind"], ["cmake", "--build", TREE, "--target", *TARGETS]):
            done = subprocess.run(command, cwd=place.ROOT, capture_output=True, text=True, timeout=400)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return TREE


@pytest.fixture
def start_checked(build, start_weft, tmp_path):
    """A function that starts a host under valgrind; end() ends it and returns what valgrind said."""
    def start(sections):
        report = tmp_path / "valgrind.%p"
        server = {"plugin_dir": build / "plugins", "start_timeout": "300s", **sections.pop("server", {})}
        return start_weft({"server": server, **sections}, build=build, wrapper=[
            "valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=definite", f"--log-file={report}",
            "--errors-for-leak-kinds=definite", "--num-callers=30"])

    def end(host):
        host.stop()
        reports = list(tmp_path.glob("valgrind.*"))
        assert len(reports) == 2, "of the master and a worker"
        return "".join(path.read_text() for path in reports)

    start.end = end
    return start


@pytest.mark.limit(600)
def test_valgrind_sees_a_plugin_that_leaks_and_one_that_reads_what_is_gone(start_checked, tmp_path):
    made = plugin.build(tmp_path, "bad", """
#include <stdlib.h>
#include <weft.h>
static weft_status bad(weft_ctx *ctx, void *self)
{
    char *volatile text = malloc(100);
    (void)self;
    text[0] = 'a';
    if (weft_equal(weft_param(ctx, "how"), weft_cstr("leak")))
        text = NULL;
    free(text);
    return weft_reply_text(ctx, 200, text != NULL && text[0] == 'a' ? "a" : "b");
}
static weft_status init(weft_host *host, void **self)
{
    (void)self;
    return weft_route(host, "GET", "/:how", bad);
}
WEFT_PLUGIN("bad", "1.0", init, NULL, NULL);
""", ["-g", "-Wno-use-after-free"])
    host = start_checked({"plugin.bad": {"path": made}})
    assert host.get("/leak", timeout=60).status == 200
    assert host.get("/read", timeout=60).status == 200
    said = start_checked.end(host)
    assert "Invalid read of size 1" in said and "100 bytes in 1 blocks are definitely lost" in said, said


@pytest.mark.limit(600)
def test_all_flows_and_a_drain(start_checked, build, books, peer):
    peer.on("GET", None, fixed(body=BOOK)).on("POST", None, fixed(body="{}"))
    host = start_checked({
        "server": {"request_timeout": "30s"},
        "pg.main": {**books.settings, "queue_timeout": "30s", "connect_timeout": "30s"},
        "upstream.thirdparty": {"url": peer.url, "first_byte_timeout": "30s", "connect_timeout": "30s"},
        "plugin.hello": {"path": "hello.so"}, "plugin.books": {"path": "books.so"},
        "plugin.books_then": {"path": "books_then.so", "mount": "/then"},
        "plugin.lab": {"path": build / "tests/plugins/lab.so", "database": "main", "upstream": "thirdparty"}})
    for mount in ("", "/then"):
        ask_all(host, mount)
    ask_odd(host, peer)
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/1000")
        assert host.get("/hello", timeout=60).status == 200
        host.signal(signal.SIGTERM)
        assert client.read_answer().status == 200
    assert start_checked.end(host) == ""


def ask_all(host, mount):
    with host.connect(timeout=60) as client:
        for method, target, body, status in [
                ("GET", "/books", None, 200), ("GET", "/books/1", None, 200), ("GET", "/books/x", None, 400),
                ("GET", "/books/999", None, 404), ("POST", "/books", BOOK, 201), ("POST", "/books", "{", 400),
                ("GET", "/quote", None, 200), ("POST", "/books/import", "", 201),
                ("POST", "/books/1/announce", "", 200), ("GET", "/summary", None, 200)]:
            assert client.ask(method, mount + target, body=body).status == status
        assert client.ask("GET", "/hello").status == 200
        assert client.ask("POST", "/echo", body="x" * 100000).body == b"x" * 100000


def ask_odd(host, peer):
    """Failures, clients that leave, statements and calls that are given up."""
    for target, status in (("/nowhere", 404), ("/lab/nothing", 500), ("/lab/twice", 200), ("/lab/status/-301", 503),
                           ("/lab/sql?q=select%201/0", 500), ("/lab/big/300000", 200)):
        assert host.get(target, timeout=60).status == status
    peer.on("GET", "/reset", lambda exchange: exchange.reset())
    peer.on("GET", "/stall", lambda exchange: exchange.stall())
    assert host.get("/lab/call?path=/reset", timeout=60).status == 502
    for target in ("/lab/call?path=/stall", "/lab/sleep/50000", "/lab/sql?q=select%20pg_sleep(20)"):
        client = host.connect(timeout=60).send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        assert host.get("/hello", timeout=60).status == 200
        client.close()
        host.wait_access(path=target, why="client_gone", timeout=60)
    with host.connect(timeout=60) as client:
        client.send("BROKEN\r\n\r\n")
        assert client.read_answer().status in (400, 501)
