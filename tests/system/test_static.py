"""Goal: the static plugin on the real process: what its folder holds is served whole, at any size, in constant memory
and as fast as its client takes it; nothing that lies outside of it, and nothing that is no file, ever is; and files
that change, shrink or go while they are sent harm nobody. A gigabyte in a soak."""
import gzip
import hashlib
import os
import socket
import threading
import time

import pytest

from support import place, soak
from support.host import run_weft
from support.memory import Memory, take
from support.wait import wait_until

MUCH = 1 << 30 if soak.IS_ON else 96 << 20
GROWTH_KB = 8 * 1024
LARGE = 3 << 20
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}


def put(path, data):
    """A file that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture
def root(tmp_path):
    www = tmp_path / "www"
    put(www / "index.html", b"<p>home")
    put(www / "a.txt", b"0123456789")
    put(www / "sub/b.css", b"b { }")
    put(www / "large", os.urandom(LARGE))
    put(tmp_path / "secret", b"secret")
    return www


@pytest.fixture
def start(start_weft, root):
    def begin(server=None, **settings):
        return start_weft({"server": server or {}, "plugin.hello": {"path": "hello.so"},
                           "plugin.files": {"path": "static.so", "mount": "/files", "root": root, **settings}}, env=ENV)
    return begin


def test_what_a_folder_holds(start, root):
    host = start()
    with host.connect() as client:
        answer = client.ask("GET", "/files/a.txt")
        assert (answer.status, answer.body, answer.header("content-type")) == \
            (200, b"0123456789", "text/plain; charset=utf-8")
        assert client.ask("GET", "/files/").body == b"<p>home"
        assert client.ask("GET", "/files/sub/b.css").body == b"b { }"
        assert client.ask("GET", "/files/large").body == (root / "large").read_bytes()
        part = client.ask("GET", "/files/large", {"Range": "bytes=1000000-1999999"})
        assert (part.status, part.body) == (206, (root / "large").read_bytes()[1000000:2000000])
        head = client.ask("HEAD", "/files/large")
        assert (head.status, head.header("content-length"), head.body) == (200, str(LARGE), b"")
        assert client.ask("GET", "/files/large", {"If-None-Match": head.header("etag")}).status == 304
        for bare in ("/files", "/files/sub"):
            answer = client.ask("GET", bare + "?x=1")
            assert (answer.status, answer.header("location")) == (308, bare + "/?x=1")
        assert client.ask("GET", "/hello").body == b"Hello, World!\n"


def test_no_redirect_leads_to_another_host(start_weft, root):
    """A Location that begins with two slashes names a host."""
    host = start_weft({"plugin.files": {"path": "static.so", "root": root}}, env=ENV)
    assert host.get("/sub").header("location") == "/sub/"
    for path in ("//evil.example/%2e%2e/%2e%2e/sub", "//evil.example/../../sub", "//../sub", "///../../sub"):
        answer = host.get(path)
        assert (answer.status, answer.header("location")) == (404, None), path


def test_precompressed(start, root):
    put(root / "sub/b.css.gz", gzip.compress(b"b { }" * 10000))
    host = start()
    answer = host.get("/files/sub/b.css", headers={"Accept-Encoding": "gzip"})
    assert answer.header("content-encoding") == "gzip" and answer.header("content-type") == "text/css; charset=utf-8"
    assert gzip.decompress(answer.body) == b"b { }" * 10000
    plain = host.get("/files/sub/b.css")
    assert plain.header("content-encoding") is None and plain.header("etag") != answer.header("etag")


def test_behind_the_compress_filter(start_weft, root):
    """A small file is compressed on its way; a large one goes as it is, for which its neighbour is there."""
    put(root / "small.txt", b"small " * 1000)
    put(root / "large.txt", b"large " * 100000)
    host = start_weft({"plugin.hello": {"path": "hello.so"}, "plugin.zip": {"path": "compress.so"},
                       "plugin.files": {"path": "static.so", "mount": "/files", "root": root}}, env=ENV)
    with host.connect() as client:
        answer = client.ask("GET", "/files/small.txt", {"Accept-Encoding": "gzip"})
        assert answer.header("content-encoding") == "gzip" and gzip.decompress(answer.body) == b"small " * 1000
        for method in ("GET", "HEAD"):
            answer = client.ask(method, "/files/large.txt", {"Accept-Encoding": "gzip"})
            assert (answer.header("content-encoding"), answer.header("content-length")) == (None, "600000")
        assert answer.header("etag") == client.ask("GET", "/files/large.txt").header("etag")
        part = client.ask("GET", "/files/small.txt", {"Accept-Encoding": "gzip", "Range": "bytes=0-4"})
        assert (part.status, part.body, part.header("content-encoding")) == (206, b"small", None)
        put(root / "large.txt.gz", gzip.compress(b"large " * 100000))
        answer = client.ask("GET", "/files/large.txt", {"Accept-Encoding": "gzip"})
        assert gzip.decompress(answer.body) == b"large " * 100000
        assert [value for name, value in answer.headers if name.lower() == "content-encoding"] == ["gzip"]


# nothing else

WAYS_OUT = ["/files/../secret", "/files/%2e%2e/secret", "/files/..%2fsecret", "/files/%2e%2e%2fsecret",
            "/files/sub/../../../secret", "/files/sub/%2e%2e/%2e%2e/secret", "/files//../../secret",
            "/files/./../secret",
            "/files/..\\secret", "/files/%5c..%5csecret", "/files/%00", "/files/a.txt%00", "/files/..;/secret",
            "/files/%252e%252e/secret", "/files/.%2e/secret", "/files/%c0%ae%c0%ae/secret", "/files//etc/passwd",
            "/files/%2fetc%2fpasswd", "/files/sub%2fb.css", "/files/%2Fa.txt", "/files/sub//b.css", "/files//a.txt"]


def test_no_way_out(start):
    host = start()
    for way in WAYS_OUT:
        answer = host.get(way)
        assert answer.status in (400, 404) and b"secret" not in answer.body.replace(way.encode(), b""), way
    assert "level=error" not in host.log


def test_symlinks(start, root, tmp_path):
    (root / "inside").symlink_to("sub/b.css")
    (root / "up").symlink_to("../secret")
    (root / "folder").symlink_to("..")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "own").symlink_to(root / "a.txt")
    (root / "round").symlink_to("round")
    (root / "magic").symlink_to("/proc/self/root/etc/passwd")
    host = start()
    assert host.get("/files/inside").body == b"b { }"
    for way in ("up", "folder/secret", "absolute", "own", "round", "magic"):
        assert host.get(f"/files/{way}").status == 404, way
    host.wait_log("leads out of the root", count=4)


def test_no_symlinks_at_all(start, root):
    (root / "inside").symlink_to("sub/b.css")
    (root / "folder").symlink_to("sub")
    host = start(symlinks="no")
    assert [host.get(f"/files/{way}").status for way in ("inside", "folder/b.css", "sub/b.css")] == [404, 404, 200]


def test_what_is_no_file(start, root):
    """Neither is anybody held up by it."""
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(root, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{folder}/socket")
    os.close(folder)
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o20666, os.makedev(1, 3))
    (root / ".env").write_bytes(b"secret")
    host = start()
    for name in ("fifo", "socket", "device", "none", "sub/", ".env", ".git/config", "a.txt/", "a.txt/x", "x" * 300):
        assert host.get(f"/files/{name}").status == 404, name
    listener.close()


# files that change

def test_a_file_that_shrinks(start, root):
    """What was sent is all there is: the client sees that it is not whole, and the log says whose fault it is."""
    put(root / "huge", b"")
    os.truncate(root / "huge", 256 << 20)
    host = start()
    with host.connect() as client:
        client.request("GET", "/files/huge")
        assert b"Content-Length: 268435456" in client.socket.recv(1000)
        os.truncate(root / "huge", 1000)
        with pytest.raises((AssertionError, ConnectionResetError)):
            take(client, 256 << 20)
    host.wait_log("plugin files: route GET /files/.*shorter than it said")
    host.wait_access(path="/files/huge", why="file")
    assert host.get("/files/a.txt").status == 200


def test_a_file_that_is_replaced(start, root):
    """Whoever has begun gets the old one, whole."""
    old, new = os.urandom(64 << 20), os.urandom(1 << 20)
    put(root / "huge", old)
    host = start()
    with host.connect() as client:
        client.request("GET", "/files/huge")
        got = client.socket.recv(100000)
        put(root / "next", new)
        os.rename(root / "next", root / "huge")
        while len(got) < len(old) + got.index(b"\r\n\r\n") + 4:
            some = client.socket.recv(1 << 20)
            assert some
            got += some
        assert hashlib.sha256(got.split(b"\r\n\r\n", 1)[1]).digest() == hashlib.sha256(old).digest()
        assert client.ask("GET", "/files/huge").body == new


def test_renamed_all_the_time(start, root, tmp_path):
    """A folder that turns into a symlink that leads out, and back, while it is asked for: never out."""
    host, ends = start(), time.monotonic() + (60 if soak.IS_ON else 2)
    put(tmp_path / "outside/b.css", b"secret")
    (tmp_path / "link").symlink_to("../outside")
    os.rename(tmp_path / "link", root / "link")
    over = threading.Event()

    def turn():
        while not over.is_set():
            os.rename(root / "sub", root / "kept")
            os.rename(root / "link", root / "sub")
            os.rename(root / "sub", root / "link")
            os.rename(root / "kept", root / "sub")

    turner = threading.Thread(target=turn)
    turner.start()
    seen = set()
    try:
        with host.connect() as client:
            while time.monotonic() < ends:
                answer = client.ask("GET", "/files/sub/b.css")
                assert answer.status in (200, 404) and b"secret" not in answer.body
                seen.add(answer.status)
    finally:
        over.set()
        turner.join()
    assert 200 in seen


# clients

def test_constant_memory(start, root):
    """However long it is, and however many take it at once."""
    put(root / "huge", b"")
    os.truncate(root / "huge", MUCH)
    host = start(server={"workers": 1})
    assert len(host.get("/files/large").body) == LARGE
    memory = Memory(host.workers()[0])
    with host.connect() as client:
        client.request("GET", "/files/huge")
        take(client, MUCH, memory)
    assert memory.look() < GROWTH_KB
    clients = [host.connect() for _ in range(50)]
    for client in clients:
        client.request("GET", "/files/huge")
        client.socket.recv(1000)
    assert host.get("/hello").status == 200
    assert memory.look() < GROWTH_KB
    for client in clients:
        client.close()
    assert host.get("/files/a.txt").status == 200


def test_clients_that_leave_leave_no_descriptor(start, root):
    host = start(server={"workers": 1})
    pid = host.workers()[0]
    host.get("/files/large")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(30):
        with host.connect() as client:
            client.request("GET", "/files/large")
            client.socket.recv(1000)
            client.reset()
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, what="as few descriptors as before")


def test_a_client_that_takes_nothing(start, root):
    put(root / "huge", b"")
    os.truncate(root / "huge", 1 << 30)
    host = start(server={"write_timeout": "300ms"})
    with host.connect() as client:
        client.request("GET", "/files/huge")
        line = host.wait_access(path="/files/huge", why="write_timeout")
        assert line["status"] == 499 or line["status"] == "499"


def test_another_folder_after_a_reload(start, root, tmp_path):
    host = start()
    assert host.get("/files/a.txt").body == b"0123456789"
    os.rename(root, tmp_path / "old")
    put(root / "a.txt", b"new")
    assert host.get("/files/a.txt").body == b"0123456789"
    done = run_weft("reload", "-c", host.config)
    assert done.returncode == 0, done.stderr
    assert host.get("/files/a.txt").body == b"new"


def test_the_sample(root, tmp_path):
    def check(**roots):
        given = {"server.plugin_dir": place.BUILD / "plugins", "server.runtime_dir": tmp_path,
                 **{f"plugin.{name}.root": folder for name, folder in roots.items()}}
        return run_weft("check", "-c", place.ROOT / "config/static.ini",
                        *(part for key, value in given.items() for part in ("-o", f"{key}={value}")))
    done = check(site=root, assets=root / "sub")
    assert done.returncode == 0, done.stderr
    done = check(site=root / "a.txt", assets=root)
    assert done.returncode != 0 and "Not a directory" in done.stderr
