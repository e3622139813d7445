"""Goal: rows and COPY through the real process, in constant memory however much it is, as fast as the slower side and
no faster: what the client does not take, the database is not asked for; who leaves takes what runs for them in the
server along, soon, and harms no neighbour; what is notified reaches each worker, and all who follow there. A million
rows, 200 MB of COPY each way and 10,000 followers in a soak."""
import os
import resource
import socket
import time

import psycopg2
import pytest

from support import place, soak
from support.gone import Watch
from support.kept import gauges
from support.memory import Memory, give, stuff
from support.wait import wait_until

ROWS = 1000000 if soak.IS_ON else 250000       # of some 100 bytes
COPIED = 200 << 20 if soak.IS_ON else 24 << 20  # bytes
FOLLOWERS = 10000 if soak.IS_ON else 1000      # of one notification
LINE = 64                                      # bytes of a line that is copied
GROWTH_KB = 8 * 1024
LIMIT_S = 1200 if soak.IS_ON else 120
PLUGINS = place.BUILD / "tests/plugins"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
RUNNING = "application_name = 'weft' and state = 'active' and pid <> pg_backend_pid()"


@pytest.fixture
def start(start_weft, database):
    """A function that starts a host with settings of the pool and of [server]."""
    database.run("create table lines (line text); alter table lines owner to weft")

    def begin(pool=None, server=None):
        return start_weft({
            "server": server or {}, "pg.main": {**database.settings, **(pool or {})},
            "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": PLUGINS / "lab.so", "database": "main"},
            "plugin.copies": {"path": PLUGINS / "copies.so", "database": "main"}}, env=ENV)
    return begin


def warm(host):
    """Has everything that is made once made."""
    assert len(host.get("/copies/rows/20000").json()) == 20000
    assert len(host.get("/copies/out/20000").body) == 20000 * LINE
    assert host.post("/copies/in", b"x" * 100 + b"\n").body == b"1"
    return Memory(host.workers()[0])


def running(database):
    """Sessions of the host's that run something."""
    return database.run(f"select count(*) from pg_stat_activity where {RUNNING}")[0][0]


def is_held_back(database):
    """Does the server wait for the host to read?"""
    return database.run(f"select wait_event from pg_stat_activity where {RUNNING}") == [("ClientWrite",)]


def take_chunks(client, memory=None):
    """Takes a chunked body to its end; its bytes, one chunk at a time."""
    taken = looked = 0
    while (size := int(client._take_until(b"\r\n"), 16)) > 0:
        yield client._take(size)
        assert client._take(2) == b"\r\n"
        taken += size
        if memory is not None and taken - looked > 1 << 22:
            memory.look()
            looked = taken


# constant memory, and who is slow holds back the other side

@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("target, wanted", [
    (f"/copies/rows/{ROWS}", None), (f"/copies/out/{COPIED // LINE}", COPIED)])
def test_a_client_that_is_slow(start, database, target, wanted):
    """It takes nothing for a while: the server's process waits to write, and nothing is kept but in sockets."""
    host = start()
    memory = warm(host)
    with host.connect(60) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.request("GET", target)
        assert b" 200 " in client._take_until(b"\r\n\r\n")
        wait_until(lambda: is_held_back(database))
        assert host.get("/lab/sql?q=select%201%20as%20x").json() == [{"x": 1}]
        assert memory.look() < GROWTH_KB
        taken, last = 0, b""
        for chunk in take_chunks(client, memory):
            taken += len(chunk)
            last = (last + chunk)[-200:]
    assert memory.look() < GROWTH_KB
    if wanted is not None:
        assert taken == wanted and last.endswith(f"x{wanted // LINE}\n".encode())
    else:
        assert taken > ROWS * 90 and f'"n":{ROWS},'.encode() in last and last.endswith(b"]")
    print(f"{target}: {taken >> 20} MiB, the worker grew by {memory.most} KiB")


@pytest.mark.limit(LIMIT_S)
def test_a_database_that_is_slow(start, database):
    """Somebody holds the table: the client is held back; then all of it goes in."""
    host = start({"statement_timeout": "60s"}, {"body_timeout": "60s"})
    memory = warm(host)
    database.run("truncate lines")
    with psycopg2.connect(connect_timeout=10, **database.settings) as held, host.connect(60) as client:
        held.cursor().execute("lock table lines in access exclusive mode")
        client.send(f"POST /copies/in HTTP/1.1\r\nHost: a\r\nContent-Length: {COPIED}\r\n\r\n")
        line = b"u" * (LINE - 1) + b"\n"
        given = stuff(client, COPIED, line * 1024)
        assert given < COPIED * 3 // 4, "what the kernel's buffers take, and no more"
        assert memory.look() < GROWTH_KB
        held.rollback()
        rest = (-given) % LINE  # a line may have been cut
        client.send(line[LINE - rest:] if rest else b"")
        give(client, COPIED - given - rest, memory, line * 1024)
        assert client.read_answer().body == str(COPIED // LINE).encode()
    assert memory.look() < GROWTH_KB
    assert database.run("select count(*), sum(length(line)) from lines") == [
        (COPIED // LINE, COPIED - COPIED // LINE)]
    print(f"/copies/in: {COPIED >> 20} MiB, the worker grew by {memory.most} KiB")


def test_a_line_that_is_wrong(start, database):
    """It is told which, nothing is kept, and the session serves others."""
    host = start({"sessions": 1})
    database.run("alter table lines alter line type int using 0")
    answer = host.post("/copies/in", b"1\n2\nthree\n4\n")
    assert answer.status == 400
    assert host.post("/copies/in", b"1\n2\n").body == b"2"
    assert database.run("select count(*) from lines") == [(2,)]


def test_what_was_pulled_goes_with_its_stream(start):
    """A plugin that looks at it still finds nothing, and neither reads freed memory nor loses its request."""
    host = start()
    for _ in range(3):
        answer = host.get("/copies/left")
        assert (answer.status, answer.body) == (200, b"1, then 0 rows, no json, no piece")


# who leaves

COUNT = f"select count(*) from pg_stat_activity where {RUNNING}"


def leave_when(watch, condition, host, request):
    """Sends a request, and resets the connection once the condition holds; what runs is gone soon."""
    client = host.connect(60)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.send(request)
    wait_until(condition)
    watch.gone_since(client.reset)


@pytest.mark.limit(LIMIT_S)
@pytest.mark.parametrize("target", [
    "/copies/rows/1000000", "/copies/out/1000000", "/lab/sql?q=select%20pg_sleep(60)",
    "/lab/sql?q=select%20count(*)%20from%20generate_series(1,90000)%20a,generate_series(1,90000)%20b"])
def test_what_nobody_waits_for_ends(start, database, target):
    """Within 300 ms each time. Nothing is compiled for the last one: the server forgets a cancel that comes meanwhile,
    and takes as long for it as it takes."""
    database.run(f"alter database {database.name} set jit = off")
    host = start({"sessions": 2, "statement_timeout": "60s"})
    wait = (lambda: is_held_back(database)) if "copies" in target else (lambda: running(database) == 1)
    with Watch(host, database, COUNT) as watch:
        for _ in range(6):
            leave_when(watch, wait, host, f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
        print(f"{target}: {watch}")
    host.wait_access(count=6, path=target, status=499, why="client_gone")
    assert host.get("/lab/sql?q=select%207%20as%20x").json() == [{"x": 7}]


HEAD = "POST /copies/in HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize("request_, blocked", [(HEAD, False), (HEAD + "x\n" * 1000, False), (HEAD, True)],
                         ids=["head", "lines", "blocked"])
def test_leaving_while_it_is_copied(start, database, request_, blocked):
    """Before the first line, amid them, and while the server cannot even begin: nothing of it has happened."""
    host = start({"sessions": 1, "statement_timeout": "60s"})
    with psycopg2.connect(connect_timeout=10, **database.settings) as held:
        if blocked:
            held.cursor().execute("lock table lines in access exclusive mode")
        with Watch(host, database, COUNT) as watch:
            for _ in range(3):
                leave_when(watch, lambda: running(database) == 1, host, request_)
        held.rollback()
    host.wait_access(count=3, path="/copies/in", status=499, why="client_gone")
    assert database.run("select count(*) from lines") == [(0,)]
    assert host.post("/copies/in", b"x\n").body == b"1"
    assert host.get("/lab/sql?q=show%20statement_timeout").json() == [{"statement_timeout": "1min"}]


def post(line, count):
    """A COPY of the same line, whole."""
    body = f"{line}\n" * count
    return f"POST /copies/in HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"


@pytest.mark.limit(LIMIT_S)
def test_leaving_as_a_copy_ends(start, database):
    """All of it has been sent, and the server is at work on its end: it stops, nothing of it stays, the sessions are as
    they were, and neighbours are served meanwhile."""
    host = start({"sessions": 2, "statement_timeout": "60s"})
    database.run("create table others (n int); alter table others owner to weft; create function late() returns trigger"
                 " language plpgsql as $$ begin perform pg_sleep(50); return null; end $$;"
                 "create trigger late after insert on lines for each statement execute function late()")
    def is_ending():
        return database.run(f"select wait_event from pg_stat_activity where {RUNNING}") == [("PgSleep",)]

    with Watch(host, database, COUNT) as watch:
        for number in range(4):
            leave_when(watch, is_ending, host, post("x", 5000))
            assert host.get(f"/lab/sql?q=insert%20into%20others%20values({number})").status == 200
        print(f"the end of a COPY: {watch}")
    host.wait_access(count=4, path="/copies/in", status=499, why="client_gone")
    assert database.run("select count(*) from lines") == [(0,)]
    assert database.run("select count(distinct n) from others") == [(4,)]
    database.run("drop trigger late on lines")
    assert host.ask("POST", "/copies/in", body=b"x\n" * 5000).body == b"5000"
    assert host.get("/lab/sql?q=show%20statement_timeout").json() == [{"statement_timeout": "1min"}]


@pytest.mark.limit(LIMIT_S)
def test_leaving_about_the_time_when_a_copy_ends(start, database):
    """Whoever leaves at any moment has all of it, or nothing; who stays has all, on the same sessions."""
    host = start({"sessions": 2, "statement_timeout": "60s"})
    stays, leaves = range(0, 60, 3), [number for number in range(60) if number % 3]
    for number in range(60):
        client = host.connect(60).send(post(number, 50))
        if number in stays:
            assert client.read_answer().body == b"50"
            client.close()
        else:
            time.sleep(number / 10000)
            client.reset()
    wait_until(lambda: running(database) == 0)
    wait_until(lambda: len(host.accesses(path="/copies/in")) == 60)
    found = dict(database.run("select line::int, count(*) from lines group by 1"))
    assert set(found.values()) == {50}
    assert set(stays) <= set(found)
    print(f"{len(set(found) & set(leaves))} of {len(leaves)} who left have copied")
    assert host.get("/lab/sql?q=show%20statement_timeout").json() == [{"statement_timeout": "1min"}]


def in_flight(host):
    """Statements that were sent."""
    return sum(number for series, number in gauges(host).items() if series.startswith("weft_pg_in_flight"))


@pytest.mark.limit(LIMIT_S)
def test_neighbours_on_the_same_session(start, database, free_port):
    """All of them go on in one turn of the loop, and are sent, behind one who sleeps in the server, and leaves: that
    one is gone within 300 ms also with them behind it, and they are served, each write once. The sleeper's text is
    another one each time: one that is known as slow has a session of its own."""
    port = free_port()
    host = start({"sessions": 1, "statement_timeout": "60s", "queue_timeout": "60s"},
                 {"request_timeout": "60s", "workers": 1, "admin": f"127.0.0.1:{port}"})
    host.admin = "127.0.0.1", port
    assert host.get("/lab/sql?q=select%201%20as%20x").status == 200
    sleeps = f"{COUNT} and query like '%pg_sleep%'"
    rounds = measured = 0
    with Watch(host, database, sleeps) as watch:
        while measured < 5:
            busy, sleeper = host.connect(60), host.connect(60)
            others = [host.connect(60) for _ in range(8)]
            at = time.monotonic_ns() // 1000000 + 500
            busy.request("GET", f"/lab/burn/100?at={at - 50}")
            sleeper.request("GET", f"/lab/sql?q=select%20pg_sleep(50),{rounds}&at={at}")
            for index, other in enumerate(others):
                line = f"{rounds}.{index}"
                write, read = f"insert%20into%20lines%20values('{line}')", f"select%20{index}%20as%20x&read_only"
                other.request("GET", f"/lab/sql?q={write if index % 2 else read}&at={at + 5}")
            assert busy.read_answer().status == 200
            wait_until(lambda: watch.count() == 1)
            if in_flight(host) == 9:
                watch.gone_since(sleeper.reset)
                measured += 1
            else:
                sleeper.reset()  # the machine was busy, and some came too late to be sent behind it
            assert [other.read_answer().status for other in others] == [200] * 8
            for client in (busy, *others):
                client.close()
            rounds += 1
            assert rounds < 40, "they were never all sent behind it"
        print(f"before eight others: {watch}, in {measured} of {rounds} rounds")
    assert database.run("select count(*), count(distinct line) from lines") == [(4 * rounds, 4 * rounds)]


# notifications

def listen(host, channel="news"):
    client = host.connect(20)
    client.request("GET", f"/copies/news/{channel}")
    assert b" 200 " in client._take_until(b"\r\n\r\n")
    return client, take_chunks(client)


def test_each_worker_hears(start, database):
    host = start(server={"workers": 2})
    clients = [listen(host) for _ in range(8)]
    while database.run("select count(*) from pg_stat_activity where application_name = 'weft' and"
                       " query = 'listen \"news\"'") != [(2,)]:  # the kernel chooses whom they come to
        clients.append(listen(host))
        assert len(clients) < 100
        assert next(clients[-1][1]) == b"(listening)\n"
    for _, lines in clients[:8]:
        assert next(lines) == b"(listening)\n"
    for number in range(20):
        database.run("select pg_notify('news', %s)", str(number))
        for _, lines in clients:
            assert next(lines) == f"{number}\n".encode()
    for client, _ in clients:
        client.reset()
    wait_until(lambda: database.run("select count(*) from pg_stat_activity where application_name = 'weft' and"
                                    " query like '%%listen%%' and pid <> pg_backend_pid()") == [(0,)], 20)


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FOLLOWERS + 500:
        pytest.skip(f"only {hard} open files are allowed here, not {FOLLOWERS + 500}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, FOLLOWERS + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_account_pays_itself(start_weft, database):
    """The bank's transfers, by form and by CSV: refused by the plugin where the table does not, too."""
    database.run("set role weft; " + (place.ROOT / "plugins/bank/schema.sql").read_text())
    host = start_weft({"pg.main": database.settings, "plugin.bank": {"path": "bank.so"}})

    def transfer(source, target):
        return host.post("/bank/transfers", f"from={source}&to={target}&amount=100".encode(),
                         {"Content-Type": "application/x-www-form-urlencoded"})

    def balances():
        return [balance for balance, in database.run("select balance from accounts order by id")]

    assert host.post("/bank/transfers.csv", b"1,2,5\n3,3,100\n", {"Content-Type": "text/csv"}).status == 409
    for table in ("with its check", "without"):
        for source, target in (("1", "1"), ("1", "01"), ("1", "9"), ("9", "1")):
            answer = transfer(source, target)
            assert answer.status == 409, (table, source, target)
            assert "two accounts" in answer.json()["detail"]
            assert balances() == [1000, 1000, 1000], (table, source, target)
        database.run("alter table transfers drop constraint if exists transfers_check")
    assert transfer("1", "2").status == 201
    assert balances() == [900, 1100, 1000]
    assert database.run("select count(*) from transfers") == [(1,)]


@pytest.mark.limit(LIMIT_S)
def test_thousands_hear_one_session(start_weft, database, many_files):
    """The bank's events: all who follow on a worker are told of each transfer, from one LISTEN."""
    database.run("set role weft; " + (place.ROOT / "plugins/bank/schema.sql").read_text())
    host = start_weft({"server": {"access_log": "off", "workers": 1}, "pg.main": database.settings,
                       "plugin.bank": {"path": "bank.so"}}, env=ENV)
    clients = [host.connect(60).request("GET", "/bank/events") for _ in range(FOLLOWERS)]
    try:
        lines = []
        for client in clients:
            assert b" 200 " in client._take_until(b"\r\n\r\n")
            lines.append(take_chunks(client))
            assert next(lines[-1]) == b"event: anew\ndata: \n\n"
        assert database.run("select count(*) from pg_stat_activity where application_name = 'weft' and"
                            " query like 'listen%%'") == [(1,)]
        for number in range(3):
            database.run("select pg_notify('transfers', %s)", str(number))
            for told in lines:
                assert next(told) == f"event: transfer\ndata: {number}\n\n".encode()
    finally:
        for client in clients:
            client.close()


@pytest.mark.limit(120)
def test_heard_again_after_a_restart_and_a_promotion(start, database, cluster):
    """A server that comes back as a standby refuses LISTEN: who listened does so again once it is promoted."""
    host = start({"queue_timeout": "500ms"})
    client, lines = listen(host)
    assert next(lines) == b"(listening)\n"
    cluster.stop(now=False)
    try:
        cluster.be_standby()
        cluster.start()
        host.wait_log("LISTEN .* was refused", timeout=30)
        assert host.get("/copies/news/other").status in (500, 503)
    finally:
        cluster.run("select pg_promote()")
    assert next(lines) == b"(missed)\n"
    database.run("select pg_notify('news', 'again')")
    assert next(lines) == b"again\n"
    client.close()


def test_nobody_is_notified_behind_a_pooler(start):
    host = start({"prepared": "off"})
    answer = host.get("/copies/news/x")
    assert answer.status == 500
    host.wait_log("not supported.*prepared = off")


def test_the_host_ends_while_many_listen(start):
    """They are ended in order."""
    host = start(server={"drain_timeout": "5s"})
    clients = [listen(host, f"c{number % 3}") for number in range(10)]
    for _, lines in clients:
        assert next(lines) == b"(listening)\n"
    host.stop()
    for client, lines in clients:
        assert list(lines) == []
        client.close()
