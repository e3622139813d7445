"""Goal: forms that are uploaded to the real process get to the disk whole and in constant memory, whatever their size
and however their bytes come; one that breaks off, or whose client leaves, leaves nothing. A gigabyte in a soak."""
import hashlib
import os

import pytest

from support import soak
from support.memory import Memory
from support.wait import wait_until

MUCH = 1 << 30 if soak.IS_ON else 64 << 20
GROWTH_KB = 8 * 1024
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
TYPE = {"Content-Type": "multipart/form-data; boundary=AaB"}
HEAD = b'--AaB\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
END = b"\r\n--AaB--\r\n"


@pytest.fixture
def start(start_weft, tmp_path):
    def begin(server=None, **settings):
        (tmp_path / "up").mkdir()
        uploads = {"path": "uploads.so", "mount": "/up", "folder": tmp_path / "up", **settings}
        return start_weft({"server": server or {}, "plugin.hello": {"path": "hello.so"}, "plugin.uploads": uploads},
                          env=ENV)
    return begin


def test_a_form_in_any_pieces(start, tmp_path):
    host = start()
    data = os.urandom(3000) + b"\r\n--Aa\r\n" * 50
    form = HEAD + data + b"\r\n" + HEAD + b"" + END
    for size in (1, 7, 1000, len(form)):
        with host.connect() as client:
            client.send(f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: {TYPE['Content-Type']}\r\n"
                        "Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(form), size):
                piece = form[at:at + size]
                client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
            answer = client.read_answer()
        assert answer.status == 201
        first, second = answer.json()
        assert (first["field"], first["filename"], first["size"], second["size"]) == ("f", "x", len(data), 0)
        assert (tmp_path / "up" / first["name"]).read_bytes() == data


def test_constant_memory(start, tmp_path):
    host = start(server={"workers": 1}, file_max=1 << 40)
    assert host.post("/up", HEAD + b"u" * 4000000 + END, TYPE).status == 201
    memory, piece, told = Memory(host.workers()[0]), os.urandom(1 << 20), hashlib.sha256()
    with host.connect(timeout=120) as client:
        client.send(f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: {TYPE['Content-Type']}\r\n"
                    f"Content-Length: {len(HEAD) + MUCH + len(END)}\r\n\r\n".encode() + HEAD)
        for _ in range(MUCH >> 20):
            client.send(piece)
            told.update(piece)
            memory.look()
        client.send(END)
        saved, = client.read_answer().json()
    assert saved["size"] == MUCH and memory.most < GROWTH_KB
    found = hashlib.sha256()
    with open(tmp_path / "up" / saved["name"], "rb") as file:
        while some := file.read(1 << 20):
            found.update(some)
    assert found.digest() == told.digest()


def test_what_breaks_off_leaves_nothing(start, tmp_path):
    host = start(server={"workers": 1})
    pid = host.workers()[0]
    host.get("/hello")
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for leave in ("close", "reset", "finish"):
        with host.connect() as client:
            client.send(f"POST /up HTTP/1.1\r\nHost: a\r\nContent-Type: {TYPE['Content-Type']}\r\n"
                        "Content-Length: 1000000\r\n\r\n".encode() + HEAD + b"u" * 100000)
            getattr(client, leave)()
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= before, what="as few descriptors as before")
    assert os.listdir(tmp_path / "up") == []
    assert host.post("/up", HEAD + b"whole" + END, TYPE).status == 201
    assert len(os.listdir(tmp_path / "up")) == 1


def test_a_file_that_is_too_large(start, tmp_path):
    host = start(file_max=1000)
    answer = host.post("/up", HEAD + b"u" * 1001 + END, TYPE)
    assert answer.status == 413 and "too large" in answer.json()["detail"]
    assert host.post("/up", HEAD + b"u" * 1000 + END, TYPE).status == 201
    assert len(os.listdir(tmp_path / "up")) == 1
