"""Goal: clients of every kind, on the real process: those that leave early, at every stage, those that are
slow, those that send much at once, two thousand at a time, more than there is room or descriptors for.
Everyone who stays is answered, nothing is leaked, and nothing spins."""
import json
import os
import pathlib
import re
import resource
import select
import socket
import threading
import time
import urllib.parse

import pytest

from support import place
from support.client import Client, Closed
from support.host import run_weft
from support.peer import fixed
from support.wait import wait_until

MANY = 2000
THREADS = 4     # of a worker, for offloaded work
LAB = place.BUILD / "tests/plugins/lab.so"


def sections(server=None, **more):
    return {"server": server or {}, "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB}, **more}


@pytest.fixture
def host(start_weft):
    return start_weft(sections())


@pytest.fixture(scope="module")
def module_database(shared_cluster):
    made = shared_cluster.create_database()
    yield made
    shared_cluster.drop_database(made)


@pytest.fixture
def whole(start_weft, module_database, peer):
    """A host with database and third party."""
    return start_weft(sections(
        {"request_timeout": "30s"}, **{
            "pg.main": {**module_database.settings, "queue_timeout": "30s", "statement_timeout": "60s"},
            "upstream.thirdparty": {"url": peer.url, "first_byte_timeout": "30s", "timeout": "30s"},
            "plugin.lab": {"path": LAB, "database": "main", "upstream": "thirdparty"}}))


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    """Processor time of a process so far."""
    values = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def ask(target, more=""):
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n"


# leaving early

def leave(client, how):
    getattr(client, how)()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [
    "", "GE", "GET /hello HTTP/1.1\r\nHos", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
    "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwh",
], ids=["nothing", "word", "head", "no-body", "body", "chunk"])
def test_leaving_before_the_request_is_whole(host, how, sent):
    worker, = host.workers()
    before = open_files(worker)
    leave(host.connect().send(sent), how)
    assert host.get("/hello").status == 200
    wait_until(lambda: open_files(worker) == before)


@pytest.mark.parametrize("how", ["close", "reset", "finish"])
def test_leaving_while_the_handler_waits(host, how):
    worker, = host.workers()
    before = open_files(worker)
    client = host.connect().send(ask("/lab/sleep/60000"))
    assert host.get("/hello").status == 200  # the other one is being handled by now
    leave(client, how)
    line = host.wait_access(path="/lab/sleep/60000", status=499, why="client_gone")
    assert float(line["total_ms"]) < 50000
    if how != "finish":
        client = None
    else:
        assert client.read_rest() == b""
        client.close()
    assert host.get("/hello").status == 200
    wait_until(lambda: open_files(worker) == before)


def test_leaving_a_route_that_finishes(host):
    """WEFT_ROUTE_FINISH: the handler comes to its end whatever the client does."""
    host.connect().send(ask("/lab/finish/200")).close()
    host.wait_log("finished whatever the client did")
    host.wait_access(path="/lab/finish/200")
    assert host.get("/hello").status == 200


def test_leaving_while_a_statement_runs(whole, module_database):
    """It is canceled in the server, where it would sleep for longer than the test waits and statement_timeout is far
    away, and the session is there for others again."""
    count = "select count(*) from pg_stat_activity where datname = current_database() and state = 'active'" \
            " and query like 'select pg_sleep%%'"
    text = "/lab/sql?q=" + urllib.parse.quote("select pg_sleep(50)")
    for _ in range(6):  # more than there are sessions
        client = whole.connect().send(ask(text))
        wait_until(lambda: module_database.run(count) != [(0,)])
        client.close()
        wait_until(lambda: module_database.run(count) == [(0,)], 10)
    whole.wait_access(count=6, path=text, status=499, why="client_gone")
    assert whole.get("/lab/sql?q=select%207%20as%20x", timeout=5).json() == [{"x": 7}]


def test_leaving_while_a_statement_is_queued(start_weft, module_database):
    host = start_weft(sections(**{
        "pg.main": {**module_database.settings, "sessions": 1, "depth": 1},
        "plugin.lab": {"path": LAB, "database": "main"}}))
    running = host.connect().send(ask("/lab/sql?q=select%20pg_sleep(0.5)"))
    queued = host.connect().send(ask("/lab/sql?q=create%20table%20must_not_be()"))
    assert host.get("/hello").status == 200
    queued.close()
    host.wait_access(status=499, why="client_gone")
    assert running.read_answer().status == 200
    running.close()
    assert host.get("/lab/sql?q=select%201%20as%20x").json() == [{"x": 1}]
    assert module_database.run("select to_regclass('must_not_be')") == [(None,)]


def test_time_in_a_queue_counts(start_weft, module_database):
    """Who waits for a session has the same budget as one who has it; what was not sent by then never is."""
    host = start_weft(sections({"request_timeout": "30s"}, **{
        "pg.main": {**module_database.settings, "sessions": 1, "depth": 1, "queue_timeout": "30s"},
        "plugin.lab": {"path": LAB, "database": "main"}}))
    running = host.connect().send(ask("/lab/sql?q=select%20pg_sleep(3)"))
    assert host.get("/hello").status == 200     # so that one has the session
    answer = host.get("/lab/hasty-sql?q=create%20table%20must_not_be_either()")
    assert answer.status == 504
    line = host.wait_access(route="/lab/hasty-sql", status=504, why="deadline")
    assert 300 <= float(line["total_ms"]) < 3000
    assert running.read_answer().status == 200
    assert host.get("/lab/sql?q=select%201%20as%20x").json() == [{"x": 1}]
    assert module_database.run("select to_regclass('must_not_be_either')") == [(None,)]


def test_leaving_while_a_call_runs(whole, peer):
    """The third party sees that nobody waits any more."""
    gone = threading.Event()

    def stall(exchange):
        exchange.stall()
        gone.set()

    peer.on("GET", "/x", stall)
    peer.on("GET", "/y", fixed(body="well"))
    client = whole.connect().send(ask("/lab/call?path=/x"))
    peer.wait_requests(1)
    client.close()
    whole.wait_access(path="/lab/call?path=/x", status=499, why="client_gone")
    assert gone.wait(10)
    assert whole.get("/lab/call?path=/y").body == b"well"


def test_leaving_while_offloaded_work_runs(start_weft, tmp_path):
    """Its op is canceled at once; the work goes on, with the request's memory, which goes when it has returned. Work
    that has no thread yet never begins."""
    host = start_weft(sections({"request_timeout": "60s"}))
    gate = tmp_path / "gate"
    clients = [host.connect().send(ask(f"/lab/offload?path={gate}&mark=run-{number}")) for number in range(THREADS)]
    for number in range(THREADS):
        host.wait_log(f"work begins: run-{number}")
    queued = host.connect().send(ask(f"/lab/offload?path={gate}&mark=queued"))
    assert host.get("/hello").status == 200     # so the queued one is in line by now
    queued.close()
    clients[0].close()
    host.wait_access(count=2, route="/lab/offload", status=499, why="client_gone")
    wait_until(lambda: living(host) == THREADS)     # that of the queued one has gone, that of the first has not
    assert "work ends" not in host.log
    gate.touch()
    host.wait_log("work ends: run-0")
    assert [client.read_answer().body for client in clients[1:]] == [b"worked\n"] * (THREADS - 1)
    wait_until(lambda: living(host) == 0)
    assert "queued" not in re.findall(r"work begins: (\S+?)\"", host.log)


def living(host):
    """How many ctx of /lab/offload live."""
    found = json.loads(run_weft("status", "-c", host.config, "--json").stdout)
    return sum(row["ctx"] for row in found["routes"] if row["route"] == "GET /lab/offload")


def test_leaving_while_the_answer_is_sent(host):
    """Much more than the socket takes, of which little is read."""
    worker, = host.workers()
    before = open_files(worker)
    for how in ("close", "reset"):
        client = host.connect().send(ask("/lab/big/20000000"))
        client.socket.recv(1000)
        leave(client, how)
        assert host.get("/hello").status == 200
        wait_until(lambda: open_files(worker) == before)
    host.wait_access(count=2, path="/lab/big/20000000")


def test_leaving_with_requests_in_the_pipeline(host):
    worker, = host.workers()
    before = open_files(worker)
    host.connect().send(ask("/lab/sleep/60000") + ask("/hello") * 10).reset()
    host.wait_access(path="/lab/sleep/60000", why="client_gone")
    assert host.get("/hello").status == 200
    wait_until(lambda: open_files(worker) == before)


def test_half_closed(host):
    """Who has asked and then says that nothing more will come still gets answers that are ready."""
    with host.connect() as client:
        client.send(ask("/hello") * 3).finish()
        for _ in range(3):
            assert client.read_answer().body == b"Hello, World!\n"
        assert client.is_closed()


# many

def test_two_thousand_at_once(many_files, host):
    """All are connected before the first one asks, each is answered twice, and all go at once."""
    worker, = host.workers()
    before = open_files(worker)
    clients = [Client(host.address, timeout=40) for _ in range(MANY)]
    try:
        wait_until(lambda: open_files(worker) >= before + MANY, 30)
        for _ in range(2):
            for client in clients:
                client.send(ask("/hello"))
            for client in clients:
                assert client.read_answer().body == b"Hello, World!\n"
    finally:
        for client in clients:
            client.close()
    wait_until(lambda: open_files(worker) == before, 30)


def test_two_thousand_handlers_that_wait(many_files, host):
    clients = [Client(host.address, timeout=40) for _ in range(MANY)]
    try:
        for client in clients:
            client.send(ask("/lab/sleep/500"))
        for client in clients:
            assert client.read_answer().body == b"slept\n"
    finally:
        for client in clients:
            client.close()


def test_more_than_there_are_fibers(start_weft):
    """Handlers that wait beyond the limit are refused at once, and told when to come back."""
    host = start_weft(sections({"fibers": 10}))
    clients = [host.connect() for _ in range(15)]
    for client in clients:
        client.send(ask("/lab/sleep/1000"))
    answers = [client.read_answer() for client in clients]
    assert sorted(answer.status for answer in answers) == [200] * 10 + [503] * 5
    assert all(answer.header("retry-after") for answer in answers if answer.status == 503)
    host.wait_access(count=5, status=503, why="fibers")
    for client in clients:
        client.close()
    assert host.get("/lab/sleep/1").status == 200


def test_beyond_the_limit_of_connections(start_weft):
    """The others wait in the kernel's queue, and are served as soon as there is room."""
    host = start_weft(sections({"connections_max": 20}))
    inside = [host.connect() for _ in range(20)]
    for client in inside:
        assert client.ask("GET", "/hello").status == 200
    outside = host.connect().send(ask("/hello"))
    assert not select.select([outside.socket], [], [], 0.3)[0]
    assert inside[1].ask("GET", "/hello").status == 200
    inside[0].close()
    assert outside.read_answer().status == 200
    for client in [outside, *inside]:
        client.close()


def test_out_of_descriptors(host):
    """EMFILE: those who are in are served, others are turned away, the processor is idle, and it recovers."""
    worker, = host.workers()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    inside = host.connect()
    assert inside.ask("GET", "/hello").status == 200
    # Numbers of descriptors are below the limit, and the lowest free one is taken.
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_files(worker), before[1]))
    outside = [host.connect() for _ in range(20)]
    for client in outside:
        assert client.is_closed()
    start, waiting = cpu_seconds(worker), host.connect()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        time.sleep(0.1)
        assert inside.ask("GET", "/hello").status == 200
    assert cpu_seconds(worker) - start < 0.5
    lines = re.findall(r"no descriptor for new connections", host.log)
    assert 1 <= len(lines) <= 30
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    wait_until(lambda: is_served(host))
    assert inside.ask("GET", "/hello").status == 200
    for client in [inside, waiting, *outside]:
        client.close()


def is_served(host):
    try:
        return host.get("/hello").status == 200
    except (Closed, OSError):
        return False


# pipelining

def test_pipelined_requests_are_answered_in_order(host):
    """The first ones take longest."""
    with host.connect(timeout=30) as client:
        client.send(ask("/lab/sleep/300") + ask("/hello") + ask("/lab/sleep/50") + ask("/nowhere") + ask("/lab/text"))
        assert [client.read_answer().status for _ in range(5)] == [200, 200, 200, 404, 200]
        client.send("".join(f"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{i:05}" for i in range(500)))
        assert [client.read_answer().body for _ in range(500)] == [b"%05d" % i for i in range(500)]


def test_a_long_pipeline_is_not_an_error(host):
    """Beyond the limit reading stops: the rest waits in the kernel until there is room."""
    count = 5000
    with host.connect(timeout=40) as client:
        sender = threading.Thread(target=client.send, args=(ask("/hello") * count,))
        sender.start()
        for _ in range(count):
            assert client.read_answer().status == 200
        sender.join()


def test_one_that_closes_ends_the_pipeline(host):
    with host.connect() as client:
        client.send(ask("/hello", "Connection: close\r\n") + ask("/hello"))
        answer = client.read_answer()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert client.is_closed()


# slow ones

def test_a_slow_head_is_408(start_weft):
    """The limit is absolute: a byte now and then does not extend it."""
    host = start_weft(sections({"header_timeout": "500ms"}))
    with host.connect() as client:
        client.send("GET /hello HTTP/1.1\r\nX: ")
        while not select.select([client.socket], [], [], 0.1)[0]:
            client.send("y")
        answer = client.read_answer()
        assert answer.status == 408
        assert answer.header("connection") == "close"
        assert client.is_closed()
    assert host.get("/hello").status == 200


def test_a_slow_body_is_408(start_weft):
    host = start_weft(sections({"body_timeout": "500ms"}))
    with host.connect() as client:
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        assert client.read_answer().status == 408
        assert client.is_closed()
    host.wait_access(path="/echo", status=408)


def test_a_slow_but_steady_body_is_taken(start_weft):
    host = start_weft(sections({"body_timeout": "1s"}))
    with host.connect() as client:
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            assert not select.select([client.socket], [], [], 0.1)[0]
            client.send("y")
        assert client.read_answer().body == b"y" * 12


def test_an_idle_connection_is_closed(start_weft):
    host = start_weft(sections({"idle_timeout": "300ms"}))
    with host.connect() as never, host.connect() as once:
        assert once.ask("GET", "/hello").status == 200
        assert never.is_closed()
        assert once.is_closed()


def test_a_client_that_does_not_read_is_closed(start_weft):
    host = start_weft(sections({"write_timeout": "500ms"}))
    worker, = host.workers()
    before = open_files(worker)
    client = host.connect().send(ask("/lab/big/20000000"))
    assert host.get("/hello").status == 200
    wait_until(lambda: host.accesses(path="/lab/big/20000000") and open_files(worker) == before)
    client.close()


def test_a_slow_reader_gets_all_of_it(host):
    with host.connect(timeout=30) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(ask("/lab/big/5000000"))
        for _ in range(5):  # meanwhile others are served
            client.socket.recv(10, socket.MSG_PEEK)
            assert host.get("/hello").status == 200
        assert client.read_answer().body == b"x" * 5000000


# rest of the protocol, on the real process

def test_expect_100_continue(host):
    with host.connect() as client:
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert client.read_answer().status == 100
        client.send("body")
        assert client.read_answer().body == b"body"
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
        assert client.read_answer().status == 413


@pytest.mark.parametrize("head, status", [
    ("GET /hello HTTP/1.1\r\n", 400),                                         # no Host
    ("GET /hello HTTP/1.1\nHost: a\n", 400),                                  # bare LF
    ("GET /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
    ("GET /" + "x" * 9000 + " HTTP/1.1\r\nHost: a\r\n", 414),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nX: " + "x" * 40000 + "\r\n", 431),
    ("GET /hello HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 101, 431),
    ("BREW /hello HTTP/1.1\r\nHost: a\r\n", 501),
    ("GET /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n", 413),
], ids=["no-host", "bare-lf", "smuggling", "414", "431-bytes", "431-fields", "501-method", "501-coding", "413"])
def test_refused(host, head, status):
    with host.connect() as client:
        client.send(head + "\r\n")
        answer = client.read_answer()
        assert answer.status == status
        assert answer.header("content-type").startswith("application/problem+json")
    assert host.get("/hello").status == 200


def test_http_1_0(host):
    with host.connect() as client:
        client.send("GET /hello HTTP/1.0\r\n\r\n")
        answer = client.read_answer()
        assert (answer.status, answer.body) == (200, b"Hello, World!\n")
        assert client.is_closed()
    with host.connect() as client:
        client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.read_answer().status == 200
        assert client.ask("GET", "/hello").status == 200


# what a handler does wrong

@pytest.mark.parametrize("code, status", [
    (-101, 500), (-102, 500), (-103, 500), (-202, 504), (-203, 503), (-301, 503), (-302, 503), (-303, 500),
    (-304, 409), (-305, 503), (-306, 400), (-401, 503), (-402, 502), (-403, 502), (-404, 504), (-405, 502),
    (-501, 400), (-502, 404), (-503, 413), (-999, 500), (7, 500),
])
def test_a_status_that_is_handed_on(host, code, status):
    answer = host.get(f"/lab/status/{code}")
    assert answer.status == status
    assert answer.header("content-type").startswith("application/problem+json")
    assert (answer.header("retry-after") is not None) == (status == 503)


def test_no_reply_and_two_replies(host):
    assert host.get("/lab/nothing").status == 500
    host.wait_log(r"plugin=lab.*/lab/nothing|/lab/nothing.*plugin=lab")
    answer = host.get("/lab/twice")
    assert (answer.status, answer.body) == (200, b"first\n")
    host.wait_log(r"/lab/twice")


def test_a_request_beyond_its_budget(start_weft):
    host = start_weft(sections({"request_timeout": "200ms"}))
    answer = host.get("/lab/sleep/60000")
    assert answer.status == 504
    assert host.wait_access(path="/lab/sleep/60000")["why"] == "deadline"
    assert host.get("/hello").status == 200
