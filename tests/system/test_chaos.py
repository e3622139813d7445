"""Goal: everything at once and at random: clients that pipeline, leave, dawdle and break the protocol, in all
flows, while the database restarts and the third party misbehaves. Whoever stays is answered, answers are
right, nothing is left when it is over, and a drain in the middle of it ends in order.

WEFT_CHAOS_SECONDS says for how long (6), WEFT_CHAOS_SEED which one of all the courses that it can take."""
import collections
import json
import os
import random
import signal
import threading
import time

import pytest

from support import place
from support.client import Client, Closed
from support.wait import wait_until

SECONDS = float(os.environ.get("WEFT_CHAOS_SECONDS", "6"))
SEED = int(os.environ.get("WEFT_CHAOS_SEED", random.randrange(1 << 32)))
BOOK = json.dumps({"title": "Emma", "author": "Jane Austen"})
FAULTS = {502, 503, 504}

# Method, target, body, and what status it has where nothing goes wrong.
REQUESTS = [
    ("GET", "/hello", None, 200), ("POST", "/echo", "x" * 3000, 200), ("GET", "/nowhere", None, 404),
    ("GET", "/books", None, 200), ("GET", "/books/1", None, 200), ("GET", "/books/x", None, 400),
    ("GET", "/books/99999", None, 404), ("POST", "/books", BOOK, 201), ("POST", "/books", "{", 400),
    ("GET", "/quote", None, 200), ("POST", "/books/import", "", 201), ("POST", "/books/1/announce", "", 200),
    ("GET", "/summary", None, 200), ("GET", "/then/books/1", None, 200), ("GET", "/then/quote", None, 200),
    ("POST", "/then/books/import", "", 201), ("POST", "/then/books/1/announce", "", 200),
    ("GET", "/then/summary", None, 200), ("GET", "/lab/sleep/5", None, 200), ("GET", "/lab/finish/20", None, 200),
    ("GET", "/lab/sql?q=select%20pg_sleep(0.05)", None, 200), ("GET", "/lab/sql?q=select%201/0", None, 500),
    ("GET", "/lab/sql?q=select%201/0&read_only", None, 500), ("GET", "/lab/nothing", None, 500),
    ("GET", "/lab/sql?q=select%201&read_only", None, 200), ("GET", "/lab/big/200000", None, 200),
    ("GET", "/lab/transaction?q=select%201&then=select%202", None, 200), ("GET", "/lab/call?path=/x", None, 200),
]
BROKEN = [b"\r\n\r\n?", b"GET / HTTP/1.1\r\n\r\n", b"GET /hello HTTP/9.9\r\nHost: a\r\n\r\n", b"\x00" * 100,
          b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]


class Crowd:
    """The clients, each in a thread of its own; `faults` gathers what was wrong. `may_break`: a connection
    that is closed on them is no fault."""

    def __init__(self, address, count, may_break=False):
        self.address = address
        self.may_break = may_break
        self.is_ending = threading.Event()   # from then on a closed connection is no fault
        self.seen = collections.Counter()
        self.faults = []
        self.asked = {}                      # by thread: what it waits for
        self.threads = [threading.Thread(target=self._run, args=(SEED + number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.is_ending.set()
        for thread in self.threads:
            thread.join()
        assert not self.faults, f"seed {SEED}: {self.faults[:5]}"

    def _run(self, seed):
        dice = random.Random(seed)
        while not self.is_ending.is_set():
            try:
                with Client(self.address, timeout=30) as client:
                    self._play(dice, client)
            except TimeoutError:
                self.faults.append(f"not answered: {self.asked.get(threading.get_ident())}")
            except (Closed, OSError) as error:
                if self.may_break and not isinstance(error, ConnectionRefusedError):
                    continue
                if not self.is_ending.is_set():
                    self.faults.append(repr(error))
                return

    def _play(self, dice, client):
        for _ in range(dice.randrange(1, 10)):
            move = dice.random()
            if move < 0.85:
                self._ask(dice, client)
            elif move < 0.95:
                self._leave(dice, client)
                return
            else:
                client.send(dice.choice(BROKEN))
                answer = client.read_answer()
                self._check(("", "broken", None, 400), answer, {400, 505})
                assert client.read_rest() is not None
                return

    def _ask(self, dice, client):
        """Some requests in a pipeline, in pieces of any size."""
        asked = [dice.choice(REQUESTS) for _ in range(dice.choice([1, 1, 1, 2, 5, 20]))]
        text = b"".join(request_bytes(dice, *request[:3]) for request in asked)
        if dice.random() < 0.2:
            for at in range(0, len(text), 700):
                client.send(text[at:at + 700])
        else:
            client.send(text)
        for request in asked:
            self.asked[threading.get_ident()] = request, client.socket.getsockname(), len(asked)
            self._check(request, client.read_answer(request[0]), {request[3]} | FAULTS)

    def _leave(self, dice, client):
        """In the middle of something."""
        text = b"".join(request_bytes(dice, *dice.choice(REQUESTS)[:3]) for _ in range(dice.choice([1, 2, 10])))
        client.send(text[:dice.randrange(len(text) + 1)])
        if dice.random() < 0.3:
            time.sleep(dice.random() * 0.03)
        dice.choice([client.close, client.reset, client.finish])()

    def _check(self, request, answer, statuses):
        self.seen[answer.status] += 1
        if self.is_ending.is_set():
            return
        if answer.status not in statuses:
            self.faults.append((request, answer))
        elif answer.status == 200 and request[1].endswith("books/1") and answer.json()["id"] != 1:
            self.faults.append((request, answer))
        elif answer.status == 200 and request[1] == "/echo" and answer.body != request[2].encode():
            self.faults.append((request, answer))


def request_bytes(dice, method, target, body):
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    if body and dice.random() < 0.3:
        return f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


class Mood:
    """How the third party answers: mostly well."""

    def __init__(self, peer):
        self.dice = random.Random(SEED)
        peer.on("GET", None, self.answer).on("POST", None, self.answer)

    def answer(self, exchange):
        move = self.dice.random()
        if move < 0.9:
            exchange.answer(body=BOOK, framing=self.dice.choice(["length", "chunked", "length", "close"]))
        elif move < 0.92:
            exchange.reset()
        elif move < 0.94:
            exchange.close()
        elif move < 0.95:
            exchange.stall()
        elif move < 0.97:
            exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            exchange.close()
        elif move < 0.98:
            exchange.send(b"nonsense\r\n\r\n")
            exchange.close()
        else:
            exchange.answer(status=503, body="{}")


@pytest.fixture
def start(start_weft, books, peer):
    def begin(workers=1):
        Mood(peer)
        host = start_weft({
            "server": {"workers": workers, "request_timeout": "3s", "access_log": "access.log", "drain_timeout": "10s"},
            "pg.main": {**books.settings, "queue_timeout": "1s", "connect_timeout": "2s"},
            "upstream.thirdparty": {"url": peer.url, "first_byte_timeout": "500ms"},
            "plugin.hello": {"path": "hello.so"}, "plugin.books": {"path": "books.so"},
            "plugin.books_then": {"path": "books_then.so", "mount": "/then"},
            "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so", "database": "main", "upstream": "thirdparty"}})
        host.wait_log("serving: ")
        return host
    return begin


def trouble_database(dice, cluster, books, until):
    """What happens to PostgreSQL meanwhile."""
    while time.monotonic() < until:
        move = dice.random()
        if move < 0.3:
            cluster.stop(now=dice.random() < 0.5)
            time.sleep(dice.random() * 0.5)
            cluster.start()
        elif move < 0.6:
            cluster.run("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", books.name)
        elif move < 0.8:
            cluster.run("select pg_cancel_backend(pid) from pg_stat_activity where datname = %s", books.name)
        else:
            cluster.pause()
            time.sleep(dice.random() * 0.5)
            cluster.resume()
        time.sleep(dice.random() * 0.5)


@pytest.mark.limit(int(SECONDS) * 2 + 60)
def test_all_at_once(start, cluster, books):
    host = start()
    worker, = host.workers()
    crowd = Crowd(host.address, 12)
    try:
        trouble_database(random.Random(SEED), cluster, books, time.monotonic() + SECONDS)
    finally:
        crowd.end()
    assert {200, 201, 400, 404, 500} <= set(crowd.seen), crowd.seen
    assert host.workers() == [worker], host.log
    wait_until(lambda: host.get("/summary").status == 200)
    wait_until(lambda: connections(host) == 0)


@pytest.mark.limit(int(SECONDS) * 2 + 60)
def test_workers_killed_meanwhile(start, books):
    """Nobody is refused, nobody waits in vain, and the dead leave no sessions behind."""
    host = start(workers=3)
    crowd = Crowd(host.address, 8, may_break=True)
    dice = random.Random(SEED)
    try:
        for _ in range(int(SECONDS)):
            time.sleep(dice.random() * 0.6)
            for worker in dice.sample(host.workers(), min(len(host.workers()), dice.choice([1, 1, 2]))):
                os.kill(worker, signal.SIGKILL)
    finally:
        crowd.end()
    wait_until(lambda: len(host.workers()) == 3, 40)
    wait_until(lambda: host.get("/summary").status == 200)
    count = "select count(*) from pg_stat_activity where datname = current_database() and usename = 'weft'"
    wait_until(lambda: books.run(count)[0][0] <= 3 * 5)


def connections(host):
    """How many clients the host has, as the kernel knows."""
    port = f":{host.port:04X} "
    lines = open("/proc/net/tcp", encoding="ascii").read().splitlines()
    return len([line for line in lines if port in line.split("st")[0][:30] and line.split()[3] in ("01", "08")])


@pytest.mark.limit(120)
def test_drain_in_the_middle(start):
    """Four times: whatever is under way, the end comes in time and in order."""
    for _ in range(4):
        host = start(workers=2)
        crowd = Crowd(host.address, 8)
        wait_until(lambda: sum(crowd.seen.values()) > 200)
        crowd.is_ending.set()
        host.signal(signal.SIGTERM)
        host.stop()
        crowd.end()
