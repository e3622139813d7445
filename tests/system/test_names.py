"""Goal: whatever a name server does - silent, slow, lying, brief, changing its mind - calls go to the addresses that
the name has, or fail as the settings say; and who has no use for the name never notices."""
import struct
import threading
import time

import pytest

from support import place
from support.names import NO_NAME, SERVER_FAILURE, NameServer, question
from support.peer import Peer, fixed
from support.wait import wait_until

NAME = "api.test"
TARGET = "/lab/call?path=/x"


@pytest.fixture
def names():
    """A scripted name server, which knows no name yet."""
    made = NameServer()
    yield made
    made.end()


@pytest.fixture
def pair():
    """Two upstreams on one port, at 127.0.0.1 and 127.0.0.2, which say who they are."""
    port = place.free_port()
    made = [Peer(port, address) for address in ("127.0.0.1", "127.0.0.2")]
    for number, one in enumerate(made, 1):
        one.on("GET", "/x", fixed(body=f"the {number}"))
    yield made
    for one in made:
        one.end()


@pytest.fixture
def start(start_weft, names, pair):
    """A function that starts a host whose upstream is a name, with the server's keys and the upstream's."""
    def begin(server=None, **settings):
        return start_weft({
            "server": {"resolver": names.address, "request_timeout": "30s", **(server or {})},
            "upstream.named": {"url": f"http://{NAME}:{pair[0].port}", "resolve_timeout": "20s", **settings},
            "plugin.hello": {"path": "hello.so"},
            "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "upstream": "named"}})
    return begin


def ask(host):
    answer = host.get(TARGET, timeout=30)
    return answer.status, answer.body


def assert_others_are_served(host):
    with host.connect() as other:
        for _ in range(5):
            assert other.ask("GET", "/hello").status == 200


def assert_fails(host, why):
    """The call fails so, and others are served while it waits."""
    count = len(host.accesses(path=TARGET, why=why))
    with host.connect(timeout=30) as waiting:
        waiting.request("GET", TARGET)
        assert_others_are_served(host)
        assert waiting.read_answer().status == 502
    host.wait_access(path=TARGET, status=502, why=why, count=count + 1)


def wait_answer(host, wanted):
    """Until a call is answered by that one."""
    wait_until(lambda: ask(host) == (200, wanted), timeout=20)


# the first answer

def test_slow(start, names):
    """The calls wait for it, all for the same one, and nobody else does."""
    go_on = threading.Event()

    def slow(query):
        assert go_on.wait(30)
        return query.answer("127.0.0.1")

    names.on(NAME, slow)
    host = start()
    with host.connect(timeout=30) as first, host.connect(timeout=30) as second:
        first.request("GET", TARGET)
        names.wait_asked(NAME, 1)
        second.request("GET", TARGET)
        assert_others_are_served(host)
        go_on.set()
        assert first.read_answer().body == b"the 1"
        assert second.read_answer().body == b"the 1"


def test_silent(start, names):
    """The call fails when its time for that is over, not the server's; and all is well once there is an answer."""
    names.on(NAME, lambda query: None)
    host = start(resolve_timeout="300ms")
    assert_fails(host, "upstream_resolve_timeout")
    names.hold(NAME, "127.0.0.1")
    wait_answer(host, b"the 1")


def test_silent_for_one_name_only(start_weft, names, pair):
    """Upstreams with other names, or none, are as well as ever."""
    names.on("mute.test", lambda query: None).hold(NAME, "127.0.0.2")
    urls = {"mute": "http://mute.test", "named": f"http://{NAME}:{pair[0].port}", "literal": pair[0].url}
    sections = {"server": {"resolver": names.address}}
    for name, url in urls.items():
        sections[f"upstream.{name}"] = {"url": url, "resolve_timeout": "20s"}
        sections[f"plugin.{name}"] = {"path": "proxy.so", "mount": f"/{name}", "upstream": name, "strip_mount": "on"}
    host = start_weft(sections)
    with host.connect() as waiting:
        waiting.request("GET", "/mute/x")
        names.wait_asked("mute.test", 1)
        for _ in range(5):
            assert host.get("/named/x").body == b"the 2"
            assert host.get("/literal/x").body == b"the 1"


WRONG = {
    "id": lambda query: query.answer("127.0.0.2", number=query.id ^ 1),
    "name": lambda query: query.answer("127.0.0.2", question=question("other.test", query.type)),
    "type": lambda query: query.answer("127.0.0.2", question=question(NAME, 16)),
    "empty": lambda query: b"\0",
    "noise": lambda query: struct.pack(">H", query.id) + b"\xff" * 40,
    "endless name": lambda query: query.answer()[:6] + struct.pack(">HHH", 1, 0, 0) + query.question + b"\xc0" * 2,
    "short": lambda query: query.answer("127.0.0.2")[:-3],
    "loop": lambda query: struct.pack(">HHHHHH", query.id, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c" + query.question[-4:],
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong(start, names, pair, what):
    """What is no answer to the question is not believed; the right one is, when it comes: right behind it, or to the
    next question, where the wrong one was damaged."""
    def answer(query):
        right = query.answer("127.0.0.1")
        return [WRONG[what](query), right] if query.before == 0 else right

    names.on(NAME, answer)
    host = start()
    wait_answer(host, b"the 1")
    assert pair[1].connections == 0


@pytest.mark.parametrize("what", ["id", "name", "type", "short"])
def test_never_right(start, names, pair, what):
    names.on(NAME, WRONG[what])
    host = start(resolve_timeout="300ms")
    count = 0
    while count < 3:   # the time for it may be over sooner than the server is given up, or later
        assert ask(host)[0] == 502
        count += 1
    wait_until(lambda: len(host.accesses(path=TARGET, status=502)) == count)
    assert {line["why"] for line in host.accesses(path=TARGET)} <= {"upstream_resolve_timeout", "upstream_resolve"}
    assert pair[1].connections == 0


def test_truncated(start, names):
    """It is asked again over TCP."""
    names.on(NAME, lambda query: query.answer("127.0.0.1") if query.is_tcp else query.answer(is_cut=True))
    host = start()
    assert ask(host) == (200, b"the 1")
    assert any(query.is_tcp for query in names.queries)


def test_no_such_name(start, names):
    """The call fails at once, and calls are well soon after there is one."""
    host = start()
    assert_fails(host, "upstream_resolve")
    count = names.asked(NAME)
    assert_fails(host, "upstream_resolve")
    assert names.asked(NAME) <= count + 1   # not for each call
    names.hold(NAME, "127.0.0.1")
    wait_answer(host, b"the 1")


def test_no_name_server(start, names):
    names.end()
    host = start()
    assert_fails(host, "upstream_resolve")


# later ones

def test_ttl_of_zero(start, names):
    """It is asked for again all the time, but once in a second and not for each call."""
    names.hold(NAME, "127.0.0.1", ttl=0)
    host = start()
    began = time.monotonic()
    with host.connect() as client:
        while names.asked(NAME) < 3:
            assert client.ask("GET", TARGET).body == b"the 1"
            assert time.monotonic() < began + 30
    assert time.monotonic() - began >= 1.9
    names.hold(NAME, "127.0.0.2", ttl=0)
    wait_answer(host, b"the 2")


@pytest.mark.parametrize("failing", [lambda query: query.answer(code=SERVER_FAILURE), lambda query: None],
                         ids=["failure", "silence"])
def test_the_old_answer_is_better_than_none(start, names, failing):
    """Calls go on while the server fails, without a pause."""
    names.hold(NAME, "127.0.0.1", ttl=0)
    host = start(resolve_timeout="300ms")
    assert ask(host) == (200, b"the 1")
    names.on(NAME, failing)
    count = names.asked(NAME)
    while names.asked(NAME) < count + 3:   # both tries of one look-up, and another one begun
        assert ask(host) == (200, b"the 1")
    names.hold(NAME, "127.0.0.2")
    wait_answer(host, b"the 2")


def test_gone_for_certain(start, names):
    """No name: no call goes to where it was."""
    names.hold(NAME, "127.0.0.1", ttl=0)
    host = start()
    assert ask(host) == (200, b"the 1")
    names.on(NAME, lambda query: query.answer(code=NO_NAME))
    wait_until(lambda: ask(host)[0] == 502, timeout=20)
    assert_fails(host, "upstream_resolve")


def test_moved(start, names, pair):
    """Calls under way end where they are; nothing new goes there, and no connection is kept there."""
    go_on = threading.Event()

    def held(exchange):
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfrom")
        assert go_on.wait(30)
        exchange.send(b" old")

    pair[0].on("GET", "/held", held)
    names.hold(NAME, "127.0.0.1", ttl=0)
    host = start(idle_timeout="1h", between_bytes_timeout="30s")
    assert ask(host) == (200, b"the 1")
    with host.connect(timeout=30) as client:
        client.request("GET", "/lab/call?path=/held")
        pair[0].wait_requests(2)
        assert ask(host) == (200, b"the 1")   # a second connection, which is idle then
        assert pair[0].connections == 2
        names.hold(NAME, "127.0.0.2", ttl=0)
        wait_answer(host, b"the 2")
        wait_until(lambda: pair[0].open == 1)
        count = len(pair[0].requests)
        for _ in range(20):
            assert ask(host) == (200, b"the 2")
        assert len(pair[0].requests) == count
        go_on.set()
        answer = client.read_answer()
        assert (answer.status, answer.body) == (200, b"from old")
    wait_until(lambda: pair[0].open == 0)
    names.hold(NAME, "127.0.0.1", "127.0.0.2", ttl=0)
    wait_answer(host, b"the 1")


def test_several_and_fewer(start, names, pair):
    """All addresses have their share; one that is left out gets no more."""
    names.hold(NAME, "127.0.0.1", "127.0.0.2", ttl=0)
    host = start()
    seen = set()
    wait_until(lambda: seen.add(ask(host)) or seen == {(200, b"the 1"), (200, b"the 2")}, timeout=20)
    names.hold(NAME, "127.0.0.2", ttl=0)
    count = names.asked(NAME)
    names.wait_asked(NAME, count + 2)   # the first of these may have been on its way
    wait_until(lambda: pair[0].open == 0)
    for _ in range(20):
        assert ask(host) == (200, b"the 2")


def test_names_of_others_lead_to_no_private_place(start, names, pair):
    """private = off: neither with the first answer nor with one that follows."""
    names.hold(NAME, "127.0.0.1", ttl=0)
    host = start(private="off")
    assert_fails(host, "upstream_private")
    names.hold(NAME, "0.0.0.0", "127.0.0.2", "127.0.0.1", ttl=0)
    names.wait_asked(NAME, names.asked(NAME) + 2)
    assert_fails(host, "upstream_private")
    assert "private = off" in host.get(TARGET).json().get("detail", "") + host.log
    assert pair[0].connections == pair[1].connections == 0
