"""Goal: whatever happens to PostgreSQL - it stops, hangs, restarts, throws sessions out, refuses - the
host lives on without a restart: what needs no database is answered at once, what does fails within its
limit, is well again afterwards, and nobody gets a neighbour's error."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import time
import urllib.parse

import psycopg2
import pytest

from support import place
from support.client import Client
from support.cluster import Cluster, Database
from support.host import run_weft
from support.proxy import Proxy
from support.wait import wait_until

SERVER = {"request_timeout": "2s"}
POOL = {"queue_timeout": "1s", "connect_timeout": "2s"}


def sections(database, server=None, pool=None):
    return {"server": {**SERVER, **(server or {})},
            "pg.main": {**database.settings, **POOL, **(pool or {})},
            "upstream.thirdparty": {"url": "http://127.0.0.1:1"},
            "plugin.hello": {"path": "hello.so"},
            "plugin.books": {"path": "books.so"},
            "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "database": "main"}}


@pytest.fixture
def host(start_weft, books):
    return start_weft(sections(books))


def sql(text, more="", route="/lab/sql"):
    """The target that has the lab run this statement."""
    return f"{route}?q={urllib.parse.quote(text)}{more}"


def is_well(host):
    return host.get("/books/1").status == 200


def assert_restless(host, workers):
    """The host was not restarted: its workers are the same."""
    assert host.workers() == workers


def wait_for_statement(database, text, count=1, state="active"):
    """Waits until the server has so many sessions in `state` with a statement that begins so."""
    query = "select pid from pg_stat_activity where datname = %s and query like %s and state = %s"

    def found():
        pids = [row[0] for row in database.cluster.run(query, database.name, text + "%", state)]
        return (pids,) if len(pids) == count else None

    return wait_until(found, what=f"{count} of {text!r} {state}")[0]


def assert_fails_beside_hello(host, target="/books/1"):
    """A request of the database fails within its limit, and /hello is answered while it waits."""
    with host.connect() as waiting, host.connect() as other:
        waiting.request("GET", target)
        for _ in range(3):
            assert other.ask("GET", "/hello").body == b"Hello, World!\n"
        answer = waiting.read_answer()
    assert answer.status in (503, 504), answer
    assert answer.header("content-type").startswith("application/problem+json")
    if answer.status == 503:
        assert answer.header("retry-after")
    return host.wait_access(path=target, status=answer.status)


# it goes and comes back

@pytest.mark.parametrize("now", [True, False], ids=["immediate", "fast"])
def test_stopped_and_started(host, cluster, now):
    workers = host.workers()
    assert is_well(host)
    cluster.stop(now=now)
    line = assert_fails_beside_hello(host)
    assert line["why"] in ("pg_down", "pg_lost", "pg_queue_timeout"), line
    cluster.start()
    wait_until(lambda: is_well(host))
    assert_restless(host, workers)


def test_stopped_and_started_under_load(host, cluster):
    """Four clients ask without a pause while the database restarts twice. Each request is answered."""
    workers = host.workers()
    going = [True]

    def ask_on():
        statuses = []
        with Client(host.address, timeout=15) as client:
            while going[0]:
                statuses.append(client.ask("GET", "/books/1").status)
                statuses.append(client.ask("GET", "/hello").status)
        return statuses

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ask_on) for _ in range(4)]
        try:
            for _ in range(2):
                cluster.stop()
                assert_fails_beside_hello(host)
                cluster.start()
                wait_until(lambda: is_well(host))
        finally:
            going[0] = False
        statuses = [status for future in futures for status in future.result()]
    assert set(statuses) == {200, 503} or set(statuses) == {200, 503, 504}, set(statuses)
    assert_restless(host, workers)


def test_halted_and_going_on(host, cluster):
    """As a machine that hangs: nothing is closed, nothing answers."""
    workers = host.workers()
    assert is_well(host)
    cluster.pause()
    for target in ("/books/1", "/books", "/books/2"):
        assert_fails_beside_hello(host, target)
    cluster.resume()
    wait_until(lambda: is_well(host))
    assert host.get("/books").status == 200
    assert_restless(host, workers)


def test_halted_before_the_first_session(start_weft, books, cluster):
    cluster.pause()
    host = start_weft(sections(books))
    assert_fails_beside_hello(host)
    cluster.resume()
    wait_until(lambda: is_well(host))


def test_not_there_when_the_host_starts(start_weft, books, cluster):
    cluster.stop()
    host = start_weft(sections(books))
    assert_fails_beside_hello(host)
    cluster.start()
    wait_until(lambda: is_well(host))


def test_the_host_ends_in_order_while_it_is_away(start_weft, books, cluster):
    host = start_weft(sections(books))
    assert is_well(host)
    cluster.pause()
    with host.connect() as waiting:
        waiting.request("GET", "/books/1")
        assert host.get("/hello").status == 200
        host.signal(signal.SIGTERM)
        assert waiting.read_answer().status in (503, 504)
        host.stop()


# sessions that are thrown out

def test_idle_sessions_thrown_out(host, books):
    assert is_well(host)
    for _ in range(3):
        books.cluster.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", books.name)
        wait_until(lambda: is_well(host))


def test_a_running_statement_s_session_thrown_out(host, books):
    with host.connect() as client:
        client.request("GET", sql("select pg_sleep(60)"))
        pid, = wait_for_statement(books, "select pg_sleep(60)")
        books.cluster.run("select pg_terminate_backend(%s)", pid)
        answer = client.read_answer()
    assert answer.status == 503, answer
    assert host.wait_access(status=503, route="/lab/sql")["why"] == "pg_lost"
    assert is_well(host)


def test_a_running_statement_canceled_by_somebody(host, books):
    with host.connect() as client:
        client.request("GET", sql("select pg_sleep(61)"))
        pid, = wait_for_statement(books, "select pg_sleep(61)")
        books.cluster.run("select pg_cancel_backend(%s)", pid)
        assert client.read_answer().status == 504
    assert host.wait_access(status=504, route="/lab/sql")["why"] == "pg_timeout"
    assert is_well(host)


# what a statement does wrong

def test_neighbours_of_failing_statements_are_unharmed(host):
    """800 requests at once from 16 clients, one in a hundred fails, among reads that may share a batch."""
    failing = sql("select 1/0", "&read_only")

    def ask(number):
        targets = [failing if (number * 50 + i) % 100 == 7 else f"/books/{i % 12 + 1}" for i in range(50)]
        with host.connect(timeout=30) as client:
            for target in targets:
                client.request("GET", target)
            answers = [client.read_answer() for _ in targets]
        return list(zip(targets, answers))

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pair for pairs in pool.map(ask, range(16)) for pair in pairs]
    failed = [answer for target, answer in asked if target == failing]
    assert [answer.status for answer in failed] == [500] * 8
    for target, answer in asked:
        if target != failing:
            assert answer.status == 200, (target, answer)
            assert answer.json()["id"] == int(target.rsplit("/", 1)[1])
    host.wait_log("22012")


def test_writes_beside_failing_writes_are_there(host, books):
    """Each write that was answered 201 is there once, each that a constraint refused is not."""
    books.run("alter table books add unique (title)")

    def write(number):
        with host.connect(timeout=30) as client:
            answers = []
            for i in range(25):
                title = "Emma" if i % 5 == 4 else f"book {number}.{i}"
                body = json.dumps({"title": title, "author": "somebody"})
                answers.append((title, client.ask("POST", "/books", body=body).status))
        return answers

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        written = [pair for pairs in pool.map(write, range(8)) for pair in pairs]
    assert sum(status == 201 for title, status in written if title == "Emma") == 1
    assert {status for title, status in written if title == "Emma"} == {201, 409}
    assert {status for title, status in written if title != "Emma"} == {201}
    there = sorted(row[0] for row in books.run("select title from books where author = 'somebody'"))
    assert there == sorted(title for title, status in written if status == 201)


def test_statements_that_would_change_a_session_are_refused(host):
    for text in ("begin", "set search_path = x", "/* hidden */ listen x", "copy books to stdout", ""):
        assert host.get(sql(text)).status == 500, text
    assert is_well(host)


def test_read_only_is_enforced(host, books):
    assert host.get(sql("insert into books(title, author) values ('a', 'b')", "&read_only")).status == 500
    host.wait_log("25006")
    assert books.run("select count(*) from books") == [(12,)]


def test_a_wrong_declaration_is_told_by_its_name(host, books):
    """What was declared to read only, and writes by way of a function, is refused, and nothing is written."""
    books.run("alter table books rename to kept; create function add() returns setof kept language sql volatile as"
              " $$ insert into kept(title, author) values ('a', 'b') returning * $$;"
              "create view books as select * from add(); grant select on books to weft")
    assert host.get("/books").status == 500
    host.wait_log("statement=all_books sqlstate=25006")
    assert books.run("select count(*) from kept") == [(12,)]


def test_a_transaction_is_all_or_nothing(host, books):
    insert = "insert into books(title, author) values ('a', 'b') returning id"
    then = "&then=" + urllib.parse.quote("select 1/0")
    assert host.get(sql(insert, then, "/lab/transaction")).status == 500
    assert books.run("select count(*) from books") == [(12,)]
    then = "&then=" + urllib.parse.quote("select count(*) as n from books")
    answer = host.get(sql(insert, then, "/lab/transaction"))
    assert (answer.status, answer.json()) == (200, [{"n": 13}])
    assert books.run("select count(*) from books") == [(13,)]


def test_a_table_changed_under_prepared_statements(host, books):
    assert is_well(host)
    books.run("alter table books alter column author type varchar(100), add column year int")
    assert host.get("/books/1").json()["author"] == "Homer"
    assert is_well(host)


# limits

def test_queue_full(start_weft, books):
    """One session with one statement at a time, two in the queue: the next one is refused at once."""
    host = start_weft(sections(books, pool={"sessions": 1, "depth": 1, "queue": 2, "queue_timeout": "20s"},
                               server={"request_timeout": "20s"}))
    with hold_lock(books, 7), host.connect() as running, host.connect() as first, host.connect() as second:
        running.request("GET", sql("select pg_advisory_xact_lock(7)"))
        wait_for_statement(books, "select pg_advisory_xact_lock(7)")
        for client in (first, second):
            client.request("GET", "/books/1")
            assert host.get("/hello").status == 200  # by now the other is in the queue
        answer = host.get("/books/2")
        assert answer.status == 503
        assert answer.header("retry-after")
        assert host.wait_access(path="/books/2")["why"] == "pg_queue_full"
        release_lock(books, 7)
        assert running.read_answer().status == 200
        assert first.read_answer().json()["id"] == 1
        assert second.read_answer().json()["id"] == 1
    line = host.wait_access(path="/books/1", status=200, count=2)
    assert float(line["queue_ms"]) > 0


@contextlib.contextmanager
def hold_lock(database, number):
    """Holds an advisory lock until release_lock(), or for the length of the block."""
    env = database.cluster.env
    made = psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres", dbname=database.name)
    try:
        made.cursor().execute("select pg_advisory_lock(%s)", (number,))
        yield
    finally:
        made.close()


def release_lock(database, number):
    """Throws out whoever holds it."""
    database.cluster.run("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
                         " and objid = %s", number)


def test_waiting_too_long(start_weft, books):
    host = start_weft(sections(books, pool={"sessions": 1, "depth": 1, "queue_timeout": "300ms"},
                               server={"request_timeout": "20s"}))
    assert is_well(host)
    with host.connect() as running:
        running.request("GET", sql("select pg_sleep(60)"))
        pid, = wait_for_statement(books, "select pg_sleep(60)")
        answer = host.get("/books/1")
        assert answer.status == 503
        assert host.wait_access(path="/books/1", status=503)["why"] == "pg_queue_timeout"
        books.cluster.run("select pg_terminate_backend(%s)", pid)
        assert running.read_answer().status == 503


def test_a_statement_beyond_the_request_s_budget(start_weft, books):
    """The client has its 504 within the budget, and sessions are there for others: what runs is canceled, since
    statement_timeout is far away."""
    host = start_weft(sections(books, server={"request_timeout": "500ms"}, pool={"statement_timeout": "60s"}))
    for _ in range(6):  # more than there are sessions
        assert host.get(sql("select pg_sleep(50)")).status == 504
    wait_for_statement(books, "select pg_sleep(50)", count=0)
    assert host.wait_access(status=504, count=6)["why"] == "deadline"
    wait_until(lambda: is_well(host))


def test_statement_timeout_of_the_server(start_weft, books):
    host = start_weft(sections(books, pool={"statement_timeout": "200ms"}))
    assert host.get(sql("select pg_sleep(5)")).status == 504
    assert host.wait_access(status=504)["why"] == "pg_timeout"
    assert is_well(host)


# clients that the server looks after by itself

INTERVAL_S = 2  # client_connection_check_interval


def test_a_session_has_the_server_look_for_its_client(start_weft, books):
    """A shared one, and one that comes back from a transaction which has changed it."""
    host = start_weft(sections(books, server={"request_timeout": "10s"}, pool={"sessions": 1}))
    show = "show client_connection_check_interval"
    shown = [{"client_connection_check_interval": f"{INTERVAL_S}s"}]
    assert host.get(sql(show)).json() == shown
    dirty = "select set_config('client_connection_check_interval', '0', false)"
    answer = host.get(sql(dirty, "&then=" + urllib.parse.quote(show), "/lab/transaction"))
    assert answer.json() == [{"client_connection_check_interval": "0"}]
    assert host.get(sql(show)).json() == shown


def test_a_worker_that_is_killed_leaves_nothing_behind_that_runs(start_weft, books):
    """Nobody can cancel its statement any more, and statement_timeout is far away: the server sees by itself that the
    client has gone."""
    host = start_weft(sections(books, server={"request_timeout": "60s"}, pool={"statement_timeout": "60s"}))
    assert is_well(host)
    with host.connect(60) as client:
        client.request("GET", sql("select pg_sleep(50)"))
        pid, = wait_for_statement(books, "select pg_sleep(50)")
        os.kill(host.workers()[0], signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: books.cluster.run("select count(*) from pg_stat_activity where pid = %s", pid) == [(0,)],
                   10 * INTERVAL_S)
    print(f"gone {time.monotonic() - killed:.1f} s after its worker")
    wait_until(lambda: is_well(host))


# answers that are too large

BIG = "select repeat('x', 70 * 1024 * 1024)"


@pytest.mark.parametrize("more", ["", "&copy", "&read_only"])
def test_a_result_beyond_result_max(start_weft, books, more):
    """The statement fails; the worker lives, and the next one is answered."""
    host = start_weft(sections(books, server={"request_timeout": "30s"}))
    workers = host.workers()
    assert host.get(sql(BIG, more), timeout=30).status == 500
    assert host.wait_access(status=500)["why"] == "pg_result_too_big"
    assert is_well(host)
    assert_restless(host, workers)


@pytest.mark.parametrize("more", ["", "&copy"])
@pytest.mark.parametrize("text", [BIG, "select repeat(chr(1), 12 * 1024 * 1024)"], ids=["large", "escaped"])
def test_json_beyond_the_memory_of_a_request(start_weft, books, text, more):
    """What the database may answer and the host may not make of it is the request's end, not the worker's."""
    host = start_weft(sections(books, server={"request_timeout": "30s"}, pool={"result_max": "200m"}))
    workers = host.workers()
    assert host.get(sql(text, more), timeout=60).status == 500
    assert is_well(host)
    assert_restless(host, workers)


# sessions that cannot be opened

def test_an_unknown_role_is_told_once_and_not_flooded(start_weft, books):
    host = start_weft(sections(books, pool={"user": "nobody_of_that_name", "password": "a-secret"}))
    assert_fails_beside_hello(host)
    host.wait_log('role \\\\?"nobody_of_that_name\\\\?" does not exist')
    assert "a-secret" not in host.log
    assert host.log.count("nobody_of_that_name") < 20


def test_fewer_sessions_than_wanted(start_weft, books):
    """The server gives two of four: all are served by these."""
    books.cluster.run("alter role weft connection limit 2")
    try:
        host = start_weft(sections(books))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(lambda _: host.get(sql("select pg_sleep(0.02)")).status, range(40)))
        assert set(statuses) == {200}
    finally:
        books.cluster.run("alter role weft connection limit -1")


def test_a_database_in_another_encoding(start_weft, cluster):
    """What comes out is UTF-8 all the same."""
    cluster.run("create database latin1 encoding 'LATIN1' template template0 owner weft")
    latin1 = Database(cluster, "latin1")
    latin1.run("set role weft; create table books (id bigint, title text, author text)")
    latin1.run("insert into books values (1, 'Señor', 'Ünal')")
    host = start_weft(sections(latin1))
    assert host.get("/books/1").json() == {"id": 1, "title": "Señor", "author": "Ünal"}
    host.stop()
    cluster.drop_database(latin1)


def test_conninfo_instead_of_keys(start_weft, books):
    made = sections(books)
    env = books.cluster.env
    made["pg.main"] = {**POOL, "conninfo": f"host={env['PGHOST']} port={env['PGPORT']} user=weft dbname={books.name}"}
    assert is_well(start_weft(made))


# what libpq would read by itself

ENVIRONMENT = {"PGHOST": "/nowhere", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody", "PGDATABASE": "none",
               "PGPASSWORD": "wrong", "PGOPTIONS": "-c search_path=elsewhere", "PGAPPNAME": "another", "PGSSLMODE": "require",
               "PGSERVICE": "none", "PGCLIENTENCODING": "LATIN1", "PGTARGETSESSIONATTRS": "standby",
               "PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGSSLROOTCERT": "/nowhere", "PGCHANNELBINDING": "require"}


@pytest.fixture
def traps(tmp_path):
    """A home with all the files that libpq looks for, each of which would do harm."""
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    (home / ".pg_service.conf").write_text("[none]\nhost=/nowhere\nhostaddr=192.0.2.1\n")
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / ".postgresql" / name).write_text("no certificate\n")
    (home / ".pgpass").write_text("*:*:*:*:wrong\n")
    for path in (home / ".pgpass", home / ".postgresql" / "postgresql.key"):
        path.chmod(0o600)
    return {"HOME": str(home), "PGPASSFILE": str(home / ".pgpass"), "PGSERVICEFILE": str(home / ".pg_service.conf")}


@pytest.fixture
def cluster_on_tcp():
    made = Cluster(place.BUILD / "tests" / "pg" / f"tcp-{place.free_port()}", "--tcp")
    made.start()
    made.run("set role weft; " + (place.ROOT / "plugins/books/schema.sql").read_text(), database="weft")
    yield made
    made.remove()


def test_the_environment_says_nothing(start_weft, books, traps):
    """No variable counts: what a session is is in the settings alone."""
    host = start_weft(sections(books), env={**ENVIRONMENT, **traps})
    assert is_well(host)
    assert books.run("select distinct application_name from pg_stat_activity where datname = current_database()"
                     " and usename = 'weft'") == [("weft",)]


def test_files_at_home_say_nothing(start_weft, books, traps, cluster_on_tcp):
    """The password is found neither in .pgpass nor in the environment, and with the password it is well, whatever
    else the environment wants: TLS, say, which this server has not (tests/unit/pg/test_tls.c has certificates)."""
    password = cluster_on_tcp.env["PGPASSWORD"]
    pathlib.Path(traps["PGPASSFILE"]).write_text(f"*:*:*:*:{password}\n")
    made = sections(books)
    made["pg.main"] = {"host": "127.0.0.1", "port": cluster_on_tcp.env["PGPORT"], "user": "weft", "dbname": "weft", **POOL}
    env = {**ENVIRONMENT, **traps, "PGPASSWORD": password}
    start_weft(made, env=env).wait_log("cannot open a session: .*no password supplied")
    made["pg.main"]["password"] = password
    assert is_well(start_weft(made, env={**env, "PGPASSWORD": "wrong"}))


# transactions

def test_a_transaction_open_across_a_call_is_told_once_a_route(start_weft, books, peer):
    peer.on("GET", "/slow", lambda exchange: exchange.answer(body="{}"))
    made = sections(books)
    made["upstream.thirdparty"] = {"url": peer.url}
    made["plugin.lab"]["upstream"] = "thirdparty"
    host = start_weft(made)
    for _ in range(3):
        assert host.get("/lab/held?path=/slow").status == 200
        assert host.get("/lab/call?path=/slow").status == 200
    line = host.wait_log("a database transaction is open while an upstream is called.*").group()
    assert "plugin=lab" in line and '"GET /lab/held"' in line and "upstream=thirdparty" in line, line
    assert host.log.count("a database transaction is open") == 1


def test_transactions_that_are_in_each_other_s_way_are_run_again(start_weft, books):
    """Eight clients count to the same row, serializably: each count counts, none is told to come again."""
    books.run("create table counted (n int not null); insert into counted values (0); grant all on counted to weft")
    host = start_weft(sections(books, server={"request_timeout": "30s"}, pool={"queue_timeout": "30s", "sessions": 6}))

    def count(_):
        with host.connect(timeout=40) as client:
            return [client.ask("GET", "/lab/count").status for _ in range(10)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = [status for each in pool.map(count, range(8)) for status in each]
    counted, = books.run("select n from counted")[0]
    assert counted == statuses.count(200)
    assert set(statuses) <= {200, 503} and statuses.count(200) > 60, statuses
    assert int(host.get("/lab/counted").body) > 80  # runs: some were needed more than once


def test_transactions_that_wait_for_each_other_are_run_again(start_weft, books):
    """Each has the row that the other one wants: the server ends one of them, which is run again and counts, too."""
    books.run("create table crossed (id int primary key, n int not null); insert into crossed values (1, 0), (2, 0);"
              "grant all on crossed to weft")
    host = start_weft(sections(books, server={"request_timeout": "20s"}, pool={"statement_timeout": "60s"}))
    with host.connect(30) as one, host.connect(30) as other:
        one.request("GET", "/lab/cross?first=1&then=2")
        other.request("GET", "/lab/cross?first=2&then=1")
        answers = [one.read_answer(), other.read_answer()]
    assert sorted((answer.status, answer.body) for answer in answers) == [(200, b"1 "), (200, b"2 40P01")]
    assert books.run("select id, n from crossed order by id") == [(1, 2), (2, 2)]


def test_a_statement_that_loses_a_race(start_weft, books):
    """weft_race() ends it in the server, and the one session there is serves others."""
    host = start_weft(sections(books, server={"request_timeout": "20s"},
                               pool={"sessions": 1, "statement_timeout": "60s", "queue_timeout": "20s"}))
    served_by = sql("select pg_backend_pid() as pid")
    before = host.get(served_by).json()
    assert host.get(sql("select pg_sleep(50)", "&ms=300", "/lab/race")).body == b"1 -201 1"
    wait_for_statement(books, "select pg_sleep(50)", count=0)
    assert host.get(served_by).json() == before


# a server that is silent

@pytest.fixture
def silent():
    """It takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)
        yield listening


def test_a_silent_server_is_not_in_the_way_of_others(start_weft, books, silent):
    """Two pools hold all the threads that they may, for as long as it goes on; a third one opens a session whenever it
    needs one."""
    lab = place.BUILD / "tests/plugins/lab.so"
    to_silent = {"host": "127.0.0.1", "port": silent.getsockname()[1], "sessions_min": 0, "connect_timeout": "60s",
                 "queue_timeout": "60s"}
    made = sections(books, server={"request_timeout": "60s"}, pool={"sessions_min": 0, "idle_timeout": "10ms"})
    host = start_weft({**made, "pg.one": to_silent, "pg.two": to_silent,
                       "plugin.one": {"path": lab, "database": "one", "mount": "/one"},
                       "plugin.two": {"path": lab, "database": "two", "mount": "/two"}})
    with contextlib.ExitStack() as left:
        for mount in ("/one", "/two") * 4:
            left.enter_context(host.connect()).request("GET", mount + sql("select 1"))
            assert host.get("/hello").status == 200  # a turn of the loop later: it opens one in each
        for _ in range(4):
            left.enter_context(silent.accept()[0])
        for _ in range(3):
            assert is_well(host)
            wait_until(lambda: books.run("select count(*) from pg_stat_activity where datname = current_database()"
                                         " and pid <> pg_backend_pid()") == [(0,)])


# a balancer before several servers

@pytest.fixture
def other_on_tcp(cluster_on_tcp):
    """Another one, where the same password counts."""
    made = Cluster(place.BUILD / "tests" / "pg" / f"other-{place.free_port()}", "--tcp")
    made.start()
    made.run("alter role weft password %s", cluster_on_tcp.env["PGPASSWORD"])
    yield made
    made.remove()


@pytest.fixture
def balancer(cluster_on_tcp, free_port):
    made = Proxy(free_port(), ("127.0.0.1", int(cluster_on_tcp.env["PGPORT"])))
    yield made
    made.end()


@pytest.mark.parametrize("gone_astray", [2, 1000])
def test_a_cancel_behind_a_balancer(start_weft, cluster_on_tcp, other_on_tcp, balancer, gone_astray):
    """It is asked for on the victim's server alone, since elsewhere the process's number is a stranger's; and that
    server is not looked for without end."""
    here, there = (("127.0.0.1", int(one.env["PGPORT"])) for one in (cluster_on_tcp, other_on_tcp))
    database = Database(cluster_on_tcp, "weft")
    host = start_weft(sections(database, server={"request_timeout": "60s"}, pool={
        "host": "127.0.0.1", "port": balancer.port, "password": cluster_on_tcp.env["PGPASSWORD"], "sessions": 1,
        "statement_timeout": "60s"}))
    assert is_well(host)
    with host.connect() as leaving:
        leaving.request("GET", sql("select pg_sleep(3600)"))
        wait_for_statement(database, "select pg_sleep")
        balancer.lead(*[there] * gone_astray, here)
    if gone_astray == 2:
        wait_for_statement(database, "select pg_sleep", count=0)
        assert is_well(host)
    else:
        host.wait_log("cannot be reached to cancel")
        wait_for_statement(database, "select pg_sleep", count=1)
        assert 1000 - balancer.left() < 20
