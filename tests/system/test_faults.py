"""Goal: a ledger that stays true whatever becomes of PostgreSQL. Clients transfer money between accounts without
a pause while sessions are thrown out, the server restarts, hangs, is full, is read only, and the network loses
connections, under 2,000 requests a second that come whatever the host does. Each request that was sent is answered
within its deadline; what the clients were told is what the database has, transfer by transfer, and what may have been
applied is found out afterwards; the host recovers by itself and keeps nothing: no context, op, session or descriptor,
nor memory beyond what a warm host has.
That all of those requests were sent is checked in a soak, and there each answer's time counts from when its request
was to be sent: a machine that does other things, too, may carry fewer, and is held to those that it has sent.

WEFT_SOAK=1 troubles it for longer, WEFT_SEED says which of all courses is taken."""
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time

import psycopg2
import pytest

from support import place
from support.client import Client, Closed
from support.cluster import Cluster, children, halt
from support.gone import Watch
from support.kept import Kept, gauges, handlers_high
from support.proxy import Proxy
from support.wait import wait_until

ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}
IS_SOAK = os.environ.get("WEFT_SOAK") == "1"
SECONDS = 30 if IS_SOAK else 3
SEED = int(os.environ.get("WEFT_SEED", random.randrange(1 << 32)))
ACCOUNTS = 20
EACH = 1000
SESSIONS = 4      # of each worker
CLIENTS = 6
BUDGET_S = 2
LATE_S = 4        # what the machine may be late by: it is slow, and busy with other tests
MAX_CONNECTIONS = 24
RATE = 2000       # requests a second beside those of the clients
CROWD = 5000 if IS_SOAK else 1000   # connections for them: in a soak enough for all of them to wait for BUDGET_S
SENT = 0.2        # share of them that is sent at least, on a machine that does other things, too
BUFFERS = 300           # connections that hold one at once: more than a worker keeps of them
HEAP_BYTES = 1 << 20    # how much more a warm worker may have allocated after the load, whatever came,
HANDLER_BYTES = 8192    # and so much for each handler more than ever lived at once before: arenas are kept
GROWN_KIB = 32 * 1024   # what its memory may grow by: there are stacks, too, and holes in the heap,
EACH_KIB = 64           # and by this for each of those handlers


@pytest.fixture(scope="session")
def shared_cluster():
    """One that listens on TCP, always on the same port, and has few connections."""
    cluster = Cluster(place.BUILD / "tests" / "pg" / os.environ.get("WEFT_TEST_NAME", f"by-hand-{os.getpid()}"),
                      "--port", str(place.free_port()), "--set", f"max_connections={MAX_CONNECTIONS}",
                      "--set", "deadlock_timeout=100ms")
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def ledger(database):
    """A database with accounts that have EACH."""
    database.run("create table accounts (id int primary key, balance bigint not null);"
                 "create table transfers (id int not null, source int, target int, amount bigint);"
                 f"insert into accounts select n, {EACH} from generate_series(1, {ACCOUNTS}) n;"
                 "grant all on accounts, transfers to weft")
    return database


@pytest.fixture
def proxy(cluster, free_port):
    made = Proxy(free_port(), ("127.0.0.1", int(cluster.env["PGPORT"])))
    yield made
    made.end()


@pytest.fixture
def start(start_weft, ledger, proxy, free_port):
    """A function that starts the host, warm if wanted, with further settings of its pool; its `keeps` is what it has
    while idle."""
    def begin(is_warm=False, **pool):
        env = ledger.cluster.env
        admin = "127.0.0.1", free_port()
        host = start_weft({
            "server": {"request_timeout": f"{BUDGET_S}s", "access_log": "access.log",
                       "admin": f"{admin[0]}:{admin[1]}"},
            "pg.main": {"host": "127.0.0.1", "port": proxy.port, "user": "weft", "password": env["PGPASSWORD"],
                        "dbname": ledger.name, "statement_timeout": "1s", "queue_timeout": "1s",
                        "connect_timeout": "2s", "idle_timeout": "1s", "idle_transaction_timeout": "3s",
                        "sessions": SESSIONS, **pool},
            "plugin.ledger": {"path": place.BUILD / "tests/plugins/ledger.so"}}, env=ENV)
        host.admin = admin
        wait_until(lambda: is_quite_well(host, ledger))
        if is_warm:
            warm_up(host, ledger)
        wait_until(lambda: Kept(host, proxy.port).is_idle())
        host.keeps = Kept(host, proxy.port)
        return host
    return begin


@pytest.fixture
def host(start):
    return start(is_warm=True)


class Crowd:
    """So many requests a second, whatever becomes of them."""

    def __init__(self, host, path="/ledger/balance/3", rate=RATE):
        self._process = subprocess.Popen(
            [place.BUILD / "tests" / "openloop", "-r", str(rate), "-d", "600", "-c", str(CROWD), "-s", str(SEED), "-t",
             str(BUDGET_S * 1000), "-a", str((BUDGET_S + LATE_S) * 3000), f"127.0.0.1:{host.port}", path],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self):
        """What came of them."""
        self._process.terminate()
        out, errors = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, errors
        return json.loads(out)["total"]

    def end(self, is_served):
        """None lost its connection, and each that was sent has its answer, in its time."""
        total = self.stop()
        answers = {name: total[name]["count"] for name in ("2xx", "503", "other")}
        longest_s, meant_s = (max(total[name]["max_us"] for name in names) / 1e6
                              for names in (["held"], ["2xx", "503", "other"]))
        print(f"{total['offered']:.0f} requests/s offered, {total['answered']:.0f} answered, {answers}; unsent"
              f" {total['unsent']} of {total['requests']}, unanswered {total['unanswered']}; the slowest answer after"
              f" {longest_s:.2f} s, {meant_s:.2f} s after its request was to be sent")
        assert total["offered"] > RATE * 0.97, total
        assert total["errors"] == 0 and total["unanswered"] == 0, total
        assert total["requests"] == total["unsent"] + total["held"]["count"] == total["unsent"] + sum(answers.values())
        assert answers["2xx"] > 0
        assert longest_s <= BUDGET_S + LATE_S, total
        assert total["unsent"] <= total["requests"] * (1 - SENT), total
        if IS_SOAK:
            assert total["unsent"] == 0 and meant_s <= BUDGET_S + LATE_S, total
        if IS_SOAK and is_served:
            assert total["answered"] > RATE * 0.9, total

    def kill(self):
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def held(ledger, sql):
    """What the statement locks, until the block ends or somebody calls the function that it gets."""
    env = ledger.cluster.env
    with contextlib.closing(psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres",
                                             dbname=ledger.name)) as connection:
        connection.cursor().execute(sql)
        yield connection.rollback


def warm_up(host, ledger):
    """Fills what the worker keeps for later, of which it has a maximum: buffers, with requests that all have begun, and
    arenas, as the whole crowd waits, for no longer than a statement may take. What it allocates afterwards is told
    from that."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(host.connect(BUDGET_S + LATE_S)) for _ in range(BUFFERS)]
        for part in (b"GET /ledger/ping HT", b"TP/1.1\r\nHost: a\r\n\r\n"):
            for client in clients:
                client.send(part)
            assert host.get("/ledger/ping").status in (200, 503)
        for client in clients:
            assert client.read_answer().status in (200, 503)
    crowd = Crowd(host)
    try:
        with held(ledger, "lock accounts in access exclusive mode"):
            end = time.monotonic() + 0.8
            while handlers_high(host) < CROWD and time.monotonic() < end:
                time.sleep(0.02)
        crowd.stop()
    finally:
        crowd.kill()


def was_shed(answer):
    """Turned away at the door: the worker had more to do than it could, as with the sanitizers on a busy machine."""
    return answer.status == 503 and b"too much to do" in answer.body


class Load:
    """The clients, what they asked for, and what they were told: by a transfer's number, `asked` has its accounts and
    amount, `told` done, no, maybe or unknown."""

    def __init__(self, host):
        self.host = host
        self.asked = {}
        self.told = {}
        self.seen = collections.Counter()
        self.reconciled = collections.Counter()  # (maybe or unknown, whether it is in the table)
        self.faults = []
        self.slowest_s = 0
        self.numbers = iter(range(1, 1 << 30))
        self.is_ending = threading.Event()
        self.lock = threading.Lock()
        self.started = time.monotonic()
        self.threads = [threading.Thread(target=self._run, args=(random.Random(SEED + each),))
                        for each in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.is_ending.set()
        for thread in self.threads:
            thread.join()
        seconds = time.monotonic() - self.started
        print(f"seed {SEED}: {sum(self.seen.values()) / seconds:.0f} requests/s, the slowest took"
              f" {self.slowest_s:.2f} s, {dict(self.seen)}, {collections.Counter(self.told.values())}")
        assert not self.faults, f"seed {SEED}: {self.faults[:5]}\n{self.host.log[-3000:]}"

    def _run(self, dice):
        try:
            with Client(self.host.address, timeout=BUDGET_S + LATE_S + 10) as client:
                while not self.is_ending.is_set():
                    self._ask(dice, client)
        except (Closed, OSError) as error:
            self.faults.append(repr(error))

    def _ask(self, dice, client):
        """Some requests in one piece, and their answers. A transfer begins once all before it are answered."""
        asked = [dice.choice([self._transfer, self._balance, self._balance, self._ping])(dice)
                 for _ in range(dice.choice([1, 4, 16]))]
        start = time.monotonic()
        client.send(b"".join(text for text, _ in asked))
        for _, check in asked:
            answer = client.read_answer()
            took_s, start = time.monotonic() - start, time.monotonic()
            self.slowest_s = max(self.slowest_s, took_s)
            if took_s > BUDGET_S + LATE_S:
                self.faults.append((f"after {took_s} s", answer))
            check(answer)

    def _transfer(self, dice):
        with self.lock:
            number = next(self.numbers)
        source, target = dice.sample(range(1, ACCOUNTS + 1), 2)
        amount = dice.randrange(1, 9)
        self.asked[number] = source, target, amount
        self.told[number] = "unknown"
        pipe = "&pipe" if number % 2 else ""
        text = (f"POST /ledger/transfer?id={number}&from={source}&to={target}&amount={amount}{pipe}"
                " HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")

        def check(answer):
            self.seen["transfer", answer.status] += 1
            what = answer.body.split()[0].decode()
            if what in ("done", "no", "maybe"):
                self.told[number] = what
            elif was_shed(answer):
                self.told[number] = "no"
            elif answer.status != 504:
                self.faults.append(("transfer", answer))
        return text.encode(), check

    def _balance(self, dice):
        account = dice.randrange(1, ACCOUNTS + 1)

        def check(answer):
            self.seen["balance", answer.status] += 1
            if answer.status == 200 and answer.json()["id"] != account:
                self.faults.append((f"another account than {account}", answer))
            elif answer.status not in (200, 503, 504):
                self.faults.append(("balance", answer))
        return f"GET /ledger/balance/{account} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), check

    def _ping(self, _):
        def check(answer):
            self.seen["ping", answer.status] += 1
            if answer.status != 200 and not was_shed(answer):
                self.faults.append(("ping", answer))
        return b"GET /ledger/ping HTTP/1.1\r\nHost: a\r\n\r\n", check


def reconcile(ledger, load):
    """The database has what the clients were told, and not a coin more or less: each transfer that is done once, with
    its accounts and amount, none that is not; what may have been applied is there, or it is not. These are counted in
    load.reconciled."""
    there = collections.defaultdict(list)
    for number, *what in ledger.run("select id, source, target, amount from transfers"):
        there[number].append(tuple(what))
    expected = {account: EACH for account in range(1, ACCOUNTS + 1)}
    for number, asked in load.asked.items():
        told, rows = load.told[number], there.pop(number, [])
        about = f"seed {SEED}: transfer {number} of {asked}, told {told}, is {rows}"
        assert rows in ([], [asked]), about
        assert told not in ("done", "no") or bool(rows) == (told == "done"), about
        for source, target, amount in rows:
            expected[source] -= amount
            expected[target] += amount
        if told in ("maybe", "unknown"):
            load.reconciled[told, bool(rows)] += 1
    assert not there, f"seed {SEED}: nobody asked for {there}"
    balances = dict(ledger.run("select id, balance from accounts"))
    assert balances == expected and sum(balances.values()) == ACCOUNTS * EACH
    print(f"reconciled, and whether it is there: {dict(load.reconciled)}")


def is_well(host):
    answers = [host.get("/ledger/balance/1"), host.post("/ledger/transfer?id=0&from=1&to=1&amount=0")]
    return answers[0].status == 200 and answers[1].status in (200, 503) and b"-302" not in answers[1].body


def is_quite_well(host, ledger):
    """Several at once are served, and transfers too."""
    ledger.run("delete from transfers where id = 0")
    with host.connect() as client:
        for _ in range(30):
            client.request("GET", "/ledger/balance/2")
        if any(client.read_answer().status != 200 for _ in range(30)):
            return False
    return host.post("/ledger/transfer?id=0&from=1&to=2&amount=0").body.startswith(b"done")


def sessions_of_workers(host):
    """How many sessions each worker's pool has open."""
    return [number for series, number in gauges(host).items() if series.startswith("weft_pg_sessions{")]


def has_all_its_sessions(host, ledger):
    """Transfers that wait for one row, each on a session of its own, until each worker has opened as many sessions as
    it may have: none of those that were lost is missed for ever."""
    counts = []
    with contextlib.ExitStack() as stack:
        let_go = stack.enter_context(held(ledger, "select from accounts where id = 1 for update"))
        clients = [stack.enter_context(host.connect(BUDGET_S + LATE_S + 10)) for _ in range(SESSIONS * 4)]
        for client in clients:
            client.request("POST", "/ledger/transfer?id=0&from=1&to=2&amount=0")
        end = time.monotonic() + BUDGET_S / 2
        while time.monotonic() < end:
            counts = sessions_of_workers(host)
            if all(number == SESSIONS for number in counts):
                break
            time.sleep(0.02)
        let_go()
        for client in clients:
            client.read_answer()
    assert all(number <= SESSIONS for number in counts), counts
    return all(number == SESSIONS for number in counts)


@contextlib.contextmanager
def measured(host):
    """In a soak: how a route that needs no database does meanwhile, and how it did before, with the load and without
    faults."""
    if not IS_SOAK:
        yield
        return
    quiet = Crowd(host, "/ledger/ping", 200)
    time.sleep(SECONDS / 3)
    before = quiet.stop()
    troubled = Crowd(host, "/ledger/ping", 200)
    try:
        yield
        after = troubled.stop()
    finally:
        troubled.kill()
    times = [f"{total['2xx']['p99_us'] / 1000:.1f} ms" for total in (before, after)]
    print(f"/ledger/ping: p99 {times[0]} without faults, {times[1]} with them;"
          f" {after['requests'] - after['2xx']['count']} of {after['requests']} failed")


def keeps_nothing(host):
    """It is as it was before anybody came. (What nobody can reach any more, the sanitizer tells at its end.)"""
    try:
        wait_until(host.keeps.is_again, 20)
    finally:
        heap_grown, grown_kib = host.keeps.heap_grown(), host.keeps.grown_kib()
        handlers = host.keeps.handlers_more()
        print(f"the heap grew by {heap_grown / 1024:.0f} KiB, memory by {grown_kib / 1024:.1f} MiB, there were up to"
              f" {handlers:.0f} handlers more than before; not as before: {host.keeps.differences()}")
    assert heap_grown < HEAP_BYTES + HANDLER_BYTES * handlers
    assert grown_kib < GROWN_KIB + EACH_KIB * handlers


@contextlib.contextmanager
def under_load(host, ledger, wants=("done",), is_served=True):
    """The load goes on during the block, and for a while before and after it; then all is compared."""
    wait_until(lambda: is_quite_well(host, ledger))
    workers = host.workers()
    crowd = Crowd(host)
    load = Load(host)
    try:
        wait_until(lambda: list(load.told.values()).count("done") > 20)
        with measured(host):
            yield load
        wait_until(lambda: is_quite_well(host, ledger), 30, "recovery under load")
        crowd.end(is_served)
    finally:
        crowd.kill()
        load.end()
    assert host.workers() == workers, host.log
    wait_until(lambda: is_quite_well(host, ledger))
    wait_until(lambda: has_all_its_sessions(host, ledger), 60, "as many sessions as before")
    ledger.run("delete from transfers where id = 0")
    reconcile(ledger, load)
    for what in wants:
        assert what in load.told.values(), f"seed {SEED}: none was told {what}"
    keeps_nothing(host)


def sessions(ledger):
    """The server's processes of the host's sessions."""
    return [pid for pid, in ledger.cluster.run("select pid from pg_stat_activity where application_name = 'weft'"
                                               " and datname = %s", ledger.name)]


def each(seconds, pause_s):
    """Goes on for so long, with a pause at random between."""
    dice = random.Random(SEED)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield dice
        time.sleep(dice.random() * pause_s)


@pytest.mark.limit(150)
def test_sessions_thrown_out_at_random(host, ledger):
    with under_load(host, ledger, ("done", "no")):
        for dice in each(SECONDS, 0.1):
            pids = sessions(ledger)
            if pids:
                ledger.cluster.run("select pg_terminate_backend(%s)", dice.choice(pids))


@pytest.mark.limit(150)
def test_the_server_restarts(host, ledger, cluster):
    with under_load(host, ledger, ("done", "no")):
        for _ in each(SECONDS, 2):
            cluster.stop(now=True)
            cluster.start()
            wait_until(lambda: is_well(host), 30)


@pytest.mark.limit(150)
def test_a_backend_hangs(host, ledger, cluster):
    """One, then all of them, for a while. Nothing is lost on the way, so all of it is well afterwards."""
    with under_load(host, ledger):
        for dice in each(SECONDS, 0.5):
            pids = [pid for pid in sessions(ledger) if pid in children(int(cluster.env["PGPID"]))]
            chosen = pids if dice.random() < 0.3 else pids[:1]
            try:
                for pid in chosen:
                    halt(pid)
                time.sleep(dice.random() * 2)
            finally:
                for pid in chosen:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)


@pytest.mark.limit(150)
def test_connections_are_reset(host, ledger, proxy):
    with under_load(host, ledger, ("done", "no")):
        for _ in each(SECONDS, 0.2):
            proxy.reset()


@pytest.mark.limit(150)
def test_answers_of_commits_are_lost(host, ledger, proxy):
    """What was committed, and nobody was told: each such transfer may have been applied, and was."""
    with under_load(host, ledger, ("done", "maybe")) as load:
        losses = 0
        for _ in each(SECONDS, 0.2):
            assert proxy.lose(b"COMMIT\0").wait(15)
            losses += 1
    assert load.reconciled["maybe", True] >= losses - load.reconciled["unknown", True]


@pytest.mark.parametrize("pipe", ["", "&pipe"])
@pytest.mark.parametrize("text, of_client", [(b"COMMIT\0", False), (b"commit\0", True)])
def test_a_commit_is_lost(start, ledger, proxy, pipe, text, of_client):
    """On its way to the server, or the answer on its way back: the client is told the same, which is true of both."""
    host = start(prepared="off", sessions=1)
    lost = proxy.lose(text, of_client)
    answer = host.post(f"/ledger/transfer?id=7&from=1&to=2&amount=5{pipe}")
    assert lost.is_set() and answer.status == 503 and answer.body.startswith(b"maybe"), answer
    there = ledger.run("select id, source, target, amount from transfers where id = 7")
    balances = dict(ledger.run("select id, balance from accounts where id in (1, 2)"))
    if of_client:
        assert there == [] and balances == {1: EACH, 2: EACH}
    else:
        assert there == [(7, 1, 2, 5)] and balances == {1: EACH - 5, 2: EACH + 5}
    wait_until(lambda: is_well(host))
    keeps_nothing(host)


@pytest.mark.limit(150)
def test_connections_fall_silent(host, ledger, proxy):
    """Half-open: no byte comes any more, and no end. Each such session is given up, and others are opened. While all of
    them are silent each request waits out its time, so that CROWD connections carry fewer than RATE."""
    with under_load(host, ledger, ("done",), is_served=False):
        for _ in range(3 if IS_SOAK else 1):
            wait_until(lambda: is_well(host), 30)
            proxy.fall_silent()
            assert host.get("/ledger/balance/1", timeout=20).status in (503, 504)
            wait_until(lambda: is_well(host), 30)


@pytest.mark.limit(150)
def test_no_connection_is_left_on_the_server(host, ledger, cluster):
    """Others have them all, and ours are thrown out; then they are free again."""
    env = cluster.env
    with under_load(host, ledger, ("done", "no")):
        for _ in each(SECONDS, 1):
            others = []
            try:
                for _ in range(MAX_CONNECTIONS - 2):
                    with contextlib.suppress(psycopg2.OperationalError):
                        others.append(psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres",
                                                       dbname="postgres"))
                    with contextlib.suppress(psycopg2.OperationalError):
                        for pid in sessions(ledger):
                            ledger.cluster.run("select pg_terminate_backend(%s)", pid)
                time.sleep(0.3)
            finally:
                for one in others:
                    one.close()
            wait_until(lambda: is_well(host), 30)
    assert "too many clients" in host.log or "remaining connection slots" in host.log


@pytest.mark.limit(150)
def test_the_disk_is_full(host, ledger):
    """Now and then: as far as a client can see, a SQLSTATE."""
    ledger.run("create function full_disk() returns trigger language plpgsql as $$ begin"
               " if random() < 0.2 then raise 'could not extend file' using errcode = '53100'; end if;"
               " return new; end $$;"
               "create trigger full_disk before update on accounts for each row execute function full_disk()")
    with under_load(host, ledger, ("done", "no")):
        time.sleep(SECONDS)
        ledger.run("drop trigger full_disk on accounts")


@pytest.mark.limit(150)
def test_the_server_is_in_recovery(host, ledger, cluster):
    """It comes back as a standby: it is read only until somebody promotes it."""
    with under_load(host, ledger, ("done", "no")):
        cluster.stop(now=False)
        cluster.be_standby()
        cluster.start()
        wait_until(lambda: host.get("/ledger/balance/1").status == 200, 30)
        answer = host.post("/ledger/transfer?id=0&from=1&to=2&amount=1")
        assert answer.status == 503 and answer.body.startswith(b"no"), answer
        cluster.run("select pg_promote()")
        wait_until(lambda: is_well(host), 30)


def test_who_leaves_is_canceled_in_the_server(host, ledger):
    """Within 300 ms each time, also in a transaction, whose session is its own; others are served afterwards, perhaps
    by that session. (Those that share it: test_copies.py.)"""
    ledger.run("create function sleepy() returns int language sql as 'select 1 from pg_sleep(20)'")
    ledger.run("create rule slow as on update to accounts where new.balance = old.balance do also select sleepy()")
    running = "select count(*) from pg_stat_activity where state = 'active' and query like 'update accounts%' and" \
              " datname = current_database() and pid <> pg_backend_pid()"
    with Watch(host, ledger, running) as watch:
        for number in range(5):
            client = host.connect()
            client.request("POST", f"/ledger/transfer?id={number}&from=1&to=2&amount=0")
            wait_until(watch.count)
            watch.gone_since(client.close)
            with host.connect() as other:
                assert all(other.ask("GET", "/ledger/balance/3").status == 200 for _ in range(5))
        print(watch)
