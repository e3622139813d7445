"""Goal: behind PgBouncer, which hands each transaction to whatever session of the server is free, everything that can
work does, with prepared = off: statements in pipelines, transactions, savepoints, deadlines, streams, COPY, the flows
with a third party, clients that leave. What cannot, LISTEN, says so."""
import concurrent.futures
import json
import random
import urllib.parse

import pytest

from support import place
from support.peer import fixed
from support.pooler import PROGRAM, Pooler
from support.wait import wait_until

SESSIONS = 2    # of the server: fewer than the host's, so that none of these stays the same one
ACCOUNTS = 10
EACH = 1000
BOOK = {"title": "Emma", "author": "Jane Austen"}
BUSY = "select count(*)::int from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()" \
       " and state <> 'idle'"


@pytest.fixture
def pooler(cluster, free_port):
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    made = Pooler(free_port(), cluster, SESSIONS)
    yield made
    made.end()


@pytest.fixture
def tables(books):
    books.cluster.run("set role weft; " + (place.ROOT / "plugins/bank/schema.sql").read_text(), database=books.name)
    return books


@pytest.fixture
def partner(make_peer):
    """The third party: it answers every GET with a book, every POST with what it got."""
    made = make_peer()
    made.on("GET", None, fixed(body=json.dumps(BOOK)))
    made.on("POST", None, lambda exchange: exchange.answer(body=json.dumps({"got": exchange.request.json()})))
    return made


@pytest.fixture
def sections(pooler, tables, partner):
    return {"server": {"request_timeout": "20s"},
            "pg.main": {"host": "127.0.0.1", "port": pooler.port, "user": "weft", "dbname": tables.name,
                        "prepared": "off", "sessions": 6, "queue_timeout": "15s"},
            "upstream.thirdparty": {"url": partner.url},
            "plugin.hello": {"path": "hello.so"},
            "plugin.books": {"path": "books.so"},
            "plugin.bank": {"path": "bank.so"},
            "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "database": "main"}}


@pytest.fixture
def host(start_weft, sections):
    return start_weft(sections)


def form(**fields):
    return "&".join(f"{name}={value}" for name, value in fields.items()).encode()


def test_statements_in_a_pipeline(host, tables):
    """Many at once on few sessions, failing ones among them, and each has its own answer."""
    dice = random.Random(1)
    with host.connect(30) as client:
        asked = [dice.choice(["1", "2", "3", "999", "x"]) for _ in range(300)]
        client.send(b"".join(f"GET /books/{key} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for key in asked))
        for key in asked:
            answer = client.read_answer()
            assert answer.status == {"999": 404, "x": 400}.get(key, 200), answer
            if answer.status == 200:
                assert answer.json()["id"] == int(key)
    added = host.post("/books", json.dumps({"title": "A", "author": "B"}).encode(),
                      {"Content-Type": "application/json"})
    assert added.status == 201
    assert tables.run("select count(*) from books where title = 'A'") == [(1,)]


def test_read_only_is_enforced(host, tables):
    """By a setting of the transaction, which no other one sees."""
    answer = host.get("/lab/sql?read_only=1&q=delete+from+books")
    assert answer.status == 500
    assert tables.run("select count(*) > 0 from books") == [(True,)]
    assert host.get("/lab/sql?q=create+table+made()").status == 200


def test_transactions(host, tables):
    """Of many clients at once, some of which the balance refuses: not a coin is lost."""
    def transfer(_):
        source, target = random.sample([1, 2, 3], 2)
        return host.post("/bank/transfers", form(**{"from": source, "to": target, "amount": random.randrange(1, 200)}),
                         {"Content-Type": "application/x-www-form-urlencoded"}, timeout=60).status

    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        told = list(clients.map(transfer, range(240)))
    assert set(told) <= {200, 201, 409}, told
    done = sum(status in (200, 201) for status in told)
    assert done > 20
    assert tables.run("select sum(balance) from accounts") == [(3000,)]
    assert tables.run("select count(*) from transfers") == [(done,)]


def test_streams_and_copy(host, tables):
    """Each on its transaction, whoever else comes meanwhile."""
    lines = b"".join(b"1,2,1\n2,1,1\n" for _ in range(1000))
    assert host.post("/bank/transfers.csv", lines, {"Content-Type": "text/csv"}).status in (200, 201, 204)
    assert host.post("/bank/transfers.csv", b"1,2,no number\n", {"Content-Type": "text/csv"}).status == 400
    assert tables.run("select count(*), sum(amount) from transfers") == [(2000, 2000)]
    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        pages = [clients.submit(host.get, "/bank/transfers", timeout=60) for _ in range(8)]
        files = [clients.submit(host.get, "/bank/transfers.csv", timeout=60) for _ in range(4)]
        assert all(len(one.result().json()) == 2000 for one in pages)
        assert all(one.result().body.count(b"\n") >= 2000 for one in files)


def test_flows_with_a_third_party(host, tables, partner):
    assert host.get("/quote").json() == BOOK
    assert host.post("/books/import").status == 201
    assert tables.run("select count(*)::int from books where title = 'Emma' and author = 'Jane Austen'") == [(1,)]
    announced = host.post("/books/1/announce")
    assert announced.status in (200, 201, 202), announced
    assert [request.method for request in partner.requests].count("POST") == 1
    summary = host.get("/summary").json()
    assert summary["quote"] == BOOK
    assert (summary["books"],) == tables.run("select count(*)::int from books")[0]


def in_transaction(route="transaction", **texts):
    return f"/lab/{route}?" + urllib.parse.urlencode(texts, quote_via=urllib.parse.quote)


def test_savepoints(host, tables):
    """Of many at once: each undoes what is its own."""
    tables.run("set role weft; create table made (a int)")

    def make(number):
        return host.get(in_transaction(q=f"insert into made values ({number})",
                                       undone=f"insert into made values ({-number})",
                                       then=f"select count(*)::int as n from made where abs(a) = {number}"), timeout=30)

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        assert all(answer.json() == [{"n": 1}] for answer in clients.map(make, range(1, 41)))
    assert tables.run("select count(*)::int, min(a) from made") == [(40, 1)]


def test_a_deadline_in_a_transaction(host, tables):
    """The server itself ends the statement, as nothing else could here, and nobody else has that limit afterwards."""
    tables.run("set role weft; create table made (a int)")
    for _ in range(2 * SESSIONS):
        assert host.get(in_transaction("hasty-transaction", q="insert into made values (1)",
                                       then="select pg_sleep(3600)")).status == 504
    wait_until(lambda: tables.run(BUSY) == [(0,)])
    assert tables.run("select count(*)::int from made") == [(0,)]
    for _ in range(2 * SESSIONS):
        assert host.get("/lab/sql?q=show%20statement_timeout").json() == [{"statement_timeout": "0"}]


def test_clients_that_leave(host, tables):
    """A statement comes to its end, a stream ends at once; the sessions are there for others again."""
    tables.run("insert into transfers (source, target, amount) select 1, 2, 1 from generate_series(1, 200000)")
    running = host.connect().send(b"GET /lab/sql?q=select%20pg_sleep(1) HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_until(lambda: tables.run(BUSY) == [(1,)])
    running.close()
    assert host.get("/books/1").status == 200
    wait_until(lambda: tables.run(BUSY) == [(0,)])
    for path in ("/bank/transfers", "/bank/transfers.csv") * SESSIONS:
        reading = host.connect().send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: tables.run(BUSY) == [(1,)])
        reading.reset()
        wait_until(lambda: tables.run(BUSY) == [(0,)])
    assert host.get("/books/1").status == 200


def test_what_cannot_work_says_so(host):
    assert host.get("/bank/events").status == 500
    host.wait_log("prepared = off.*LISTEN")


def test_sessions_that_the_pooler_closes(host, pooler, tables):
    """It is there again at once, as if it had been the server."""
    for pid, in tables.run("select pid from pg_stat_activity where datname = current_database()"
                           " and pid <> pg_backend_pid()"):
        tables.run("select pg_terminate_backend(%s)", pid)
    wait_until(lambda: host.get("/books/1").status == 200)


def test_without_prepared_off_the_log_says_what_to_do(start_weft, sections):
    """1.18 does not know of prepared statements, nor of settings that come with the start of a session."""
    sections["pg.main"]["prepared"] = "on"
    host = start_weft(sections)
    assert host.get("/books/1", timeout=30).status == 503
    host.wait_log("cannot open a session: .*prepared = off")


def test_nor_does_a_pooler_that_says_nothing_stay_unnoticed(start_weft, sections, cluster, free_port):
    """It takes the settings that come with a session's start, and throws them away: what is prepared would be on
    another session of the server, nothing could be canceled, and nobody would hear what he listens to."""
    pooler = Pooler(free_port(), cluster, SESSIONS, "ignore_startup_parameters = options")
    try:
        sections["pg.main"].update(prepared="on", port=pooler.port, queue_timeout="2s")
        host = start_weft(sections)
        assert host.get("/books/1", timeout=30).status == 503
        host.wait_log("cannot open a session: a pooler wants prepared = off")
    finally:
        pooler.end()
