"""Goal: behind proxies that are trusted, and behind no others, a request is the client's that they tell, in the log
and for plugins; the PROXY protocol is taken where it is asked for, and nothing else there; requests keep their id."""
import re
import struct

import pytest

from support import plugin
from support.client import Closed
from support.host import run_weft

WHO = r"""
#include <weft.h>

static weft_status who(weft_ctx *ctx, void *self)
{
    (void)self;
    return weft_reply_text(ctx, 200, weft_fmt(ctx, "%s %s", weft_peer(ctx).ptr, weft_request_id(ctx).ptr).ptr);
}

static weft_status init(weft_host *host, void **self)
{
    (void)self;
    return weft_route(host, "GET", "/who", who);
}

WEFT_PLUGIN("who", "1.0", init, NULL, NULL);
"""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.fixture(scope="module")
def who(tmp_path_factory):
    return plugin.build(tmp_path_factory.mktemp("plugins"), "who", WHO)


@pytest.fixture
def start(start_weft, who):
    def begin(**server):
        return start_weft({"server": {"workers": 1, **server}, "plugin.who": {"path": who}})
    return begin


def peer_of(answer):
    assert answer.status == 200
    return answer.body.decode().split()[0]


def test_only_those_that_are_trusted(start):
    field = [("X-Forwarded-For", "6.6.6.6, 1.2.3.4")]
    assert peer_of(start().get("/who", headers=field)) == "127.0.0.1"
    assert peer_of(start(trusted_proxies="10.0.0.0/8").get("/who", headers=field)) == "127.0.0.1"
    host = start(trusted_proxies="127.0.0.0/8")
    assert peer_of(host.get("/who", headers=field)) == "1.2.3.4"
    assert peer_of(host.get("/who")) == "127.0.0.1"
    host.wait_access(peer="1.2.3.4", path="/who")
    assert peer_of(host.get("/who", headers=[("X-Forwarded-For", "no address")])) == "127.0.0.1"
    host = start(trusted_proxies="127.0.0.1", client_address="forwarded")
    assert peer_of(host.get("/who", headers=[*field, ("Forwarded", 'for="[2a00::1]:1";proto=https')])) == "2a00::1"
    assert peer_of(start(trusted_proxies="127.0.0.1", client_address="off").get("/who", headers=field)) == "127.0.0.1"


@pytest.mark.parametrize("options, reason", [
    ({"trusted_proxies": "10.0.0.0/8 proxy.example"}, 'trusted_proxies: "proxy.example", expected'),
    ({"trusted_proxies": "10.0.0.0/64"}, 'trusted_proxies: "10.0.0.0/64", expected'),
    ({"client_address": "x-real-ip"}, "client_address: expected one of x-forwarded-for"),
    ({"request_id": "not a name"}, 'request_id: "not a name", expected the name of a header field')])
def test_settings(tmp_path, options, reason):
    file = tmp_path / "server.ini"
    file.write_text("[server]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()))
    done = run_weft("check", "-c", file)
    assert done.returncode != 0
    assert "server.ini:2" in done.stderr and reason.split(",")[0] in done.stderr, done.stderr


V1 = b"PROXY TCP4 192.0.2.9 127.0.0.1 4711 80\r\n"
V2 = SIGNATURE + b"\x21\x11" + struct.pack(">H4s4sHH", 12, bytes([192, 0, 2, 9]), bytes([127, 0, 0, 1]), 4711, 80)
LOCAL = SIGNATURE + b"\x20\0\0\0"


@pytest.mark.parametrize("header, peer", [(V1, "192.0.2.9"), (V2, "192.0.2.9"), (LOCAL, "127.0.0.1"),
                                          (b"PROXY UNKNOWN\r\n", "127.0.0.1")])
def test_proxy_protocol(start, header, peer):
    for trusted in ("", "10.0.0.0/8 127.0.0.1"):
        host = start(proxy_protocol="on", trusted_proxies=trusted)
        with host.connect() as client:
            client.send(header)
            for _ in range(2):
                assert peer_of(client.ask("GET", "/who")) == peer
    with host.connect() as client:   # byte by byte
        for i in range(len(header)):
            client.send(header[i:i + 1])
        assert peer_of(client.ask("GET", "/who")) == peer
    with host.connect() as client:   # with its request
        client.send(header + b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer_of(client.read_answer()) == peer


@pytest.mark.parametrize("bytes_", [b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 x y 1 2\r\n", b"PROXY " * 40,
                                    SIGNATURE + b"\x31\x11\0\0", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"])
def test_nothing_else_there(start, bytes_):
    host = start(proxy_protocol="on")
    with host.connect() as client:
        with pytest.raises(Closed):
            client.send(bytes_)
            client.read_answer()
    host.wait_log(r"a connection is closed: it does not begin with a header of the PROXY protocol")


def test_not_from_a_balancer(start):
    host = start(proxy_protocol="on", trusted_proxies="10.0.0.0/8")
    with host.connect() as client:
        with pytest.raises(Closed):
            client.send(V1)
            client.ask("GET", "/who")
    host.wait_log(r"a connection is closed: it is not from a trusted proxy")


def test_a_balancer_that_says_nothing(start):
    host = start(proxy_protocol="on", header_timeout="200ms", idle_timeout="1h")
    for begun in (b"", V1[:10], V2[:20]):
        with host.connect() as client:
            client.send(begun)
            assert client.socket.recv(1) == b""
    with host.connect() as client:
        client.send(V1[:10])
        client.socket.shutdown(1)
        assert client.socket.recv(1) == b""


def test_both(start):
    """A balancer of connections before a proxy of requests."""
    host = start(proxy_protocol="on", trusted_proxies="127.0.0.1 192.0.2.9")
    with host.connect() as client:
        client.send(V1)
        assert peer_of(client.ask("GET", "/who", headers=[("X-Forwarded-For", "1.2.3.4")])) == "1.2.3.4"


def test_ids(start):
    host = start(request_id="X-Request-Id", trusted_proxies="127.0.0.1")
    answer = host.get("/who", headers=[("X-Request-Id", "front-7/a")])
    assert answer.body.decode().split()[1] == answer.header("X-Request-Id") == "front-7/a"
    host.wait_log(r"path=/who .* why=done request_id=front-7/a")
    for bad in ("", "a b", "x" * 129, "a\"b"):
        answer = host.get("/who", headers=[("X-Request-Id", bad)])
        made = answer.body.decode().split()[1]
        assert re.fullmatch(r"[0-9a-f]{16}", made) and answer.header("X-Request-Id") == made
        host.wait_access(id=made)
    assert host.get("/nothing").header("X-Request-Id") is not None
    host = start(request_id="X-Request-Id")
    answer = host.get("/who", headers=[("X-Request-Id", "front-7")])
    assert answer.header("X-Request-Id") != "front-7"   # anybody could say that
    assert start().get("/who").header("X-Request-Id") is None
