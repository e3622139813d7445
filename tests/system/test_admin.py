"""Goal: the admin listener tells load balancers, Prometheus and people the truth, from SIGTERM on too, also while a
worker hangs; it is off unless it is set, and never where clients come in."""
import json
import os
import re
import signal
import stat

import pytest

from support import place
from support.client import Client, Closed
from support.files import open_files
from support.host import run_weft
from support.peer import fixed
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"
CRASH = place.BUILD / "tests/plugins/crash.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0:use_sigaltstack=0"}
SERIES = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? ([0-9.]+)')


@pytest.fixture
def start(start_weft, tmp_path, free_port):
    """A function that starts a host with an admin listener (host.admin), hello, lab and crash."""
    def begin(server=None, **sections):
        address = ("127.0.0.1", free_port())
        host = start_weft({"server": {"admin": f"127.0.0.1:{address[1]}", **(server or {})},
                           "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB},
                           "plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"}, **sections}, env=ENV)
        host.wait_log("serving: ")
        host.admin = address
        return host
    return begin


def ask(host, target, method="GET"):
    with Client(host.admin) as client:
        return client.ask(method, target)


def metrics(host):
    """All series as {(name, frozenset of labels): value}; checks the form as Prometheus does."""
    answer = ask(host, "/metrics")
    assert answer.status == 200 and answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    found, types, last = {}, {}, None
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, last, types[last] = line.split(" ")
            assert types[last] in ("counter", "gauge", "histogram")
        elif not line.startswith("# HELP "):
            name, labels, value = SERIES.fullmatch(line).groups()
            assert re.sub("_(bucket|sum|count)$", "", name) == last or name == last, f"{name} among those of {last}"
            key = name, frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels or ""))
            assert key not in found, f"{key} twice"
            assert types[last] != "counter" or name.endswith("_total"), name
            found[key] = float(value)
    return found


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


def test_it_is_off_unless_it_is_set(start_weft):
    host = start_weft({"plugin.hello": {"path": "hello.so"}})
    for path in ("/livez", "/readyz", "/metrics", "/status"):
        assert host.get(path).status == 404
    assert "admin listener" not in host.log


@pytest.mark.parametrize("admin, wanted", [
    ("127.0.0.1:@PORT@", 'admin: "127.0.0.1:PORT", expected an address that `listen` has not'),
    ("0.0.0.0:@PORT@", 'admin: "0.0.0.0:PORT", expected an address that `listen` has not'),
    ("here", 'admin: "here", expected an address with its port, such as 127.0.0.1:9090, or unix:/path')])
def test_it_is_refused_on_the_public_port(tmp_path, free_port, admin, wanted):
    port = free_port()
    config = tmp_path / "server.ini"
    config.write_text(f"[server]\nlisten = 127.0.0.1:{port}\nadmin = {admin.replace('@PORT@', str(port))}\n")
    done = run_weft("check", "-c", config)
    assert done.returncode == 1 and f"server.ini:3: {wanted.replace('PORT', str(port))}" in done.stderr


def test_an_address_that_is_taken(start, start_weft):
    host = start()
    other = start_weft({"server": {"admin": "127.0.0.1:%d" % host.admin[1]}, "plugin.hello": {"path": "hello.so"}},
                       wait=False)
    assert other.wait() == 1
    assert f"admin: 127.0.0.1:{host.admin[1]}: Address already in use" in other.log
    other.process = None


def test_alive_and_ready(start):
    host = start()
    assert (ask(host, "/livez").status, ask(host, "/livez").body) == (200, b"alive\n")
    ready = ask(host, "/readyz")
    assert (ready.status, ready.body, ready.header("cache-control")) == (200, b"serving\n", "no-store")
    assert ask(host, "/readyz", "HEAD").status == 200
    assert ask(host, "/none").status == 404
    assert ask(host, "/livez", "POST").status == 405
    for path in ("/livez", "/readyz", "/metrics", "/status"):
        assert host.get(path).status == 404


def test_a_unix_socket(start_weft):
    host = start_weft({"server": {"admin": "unix:admin.sock"}, "plugin.hello": {"path": "hello.so"}})
    host.wait_log("serving: ")
    host.admin = str(host.folder / "admin.sock")
    assert ask(host, "/readyz").status == 200
    assert stat.S_IMODE(os.stat(host.admin).st_mode) == 0o660
    host.stop()
    assert not os.path.exists(host.admin)


def test_metrics(start, books, peer):
    peer.on("GET", "/quote", fixed(body='{"author": "Jane", "quote": "x"}'))
    host = start({"workers": 2, "body_max": "10"}, **{
        "pg.main": books.settings, "upstream.thirdparty": {"url": peer.url}, "plugin.books": {"path": "books.so"}})
    for _ in range(3):
        assert host.get("/hello").status == 200
    assert host.get("/books/1").status == 200
    assert host.get("/books/99999").status == 404
    assert host.get("/quote").status == 200
    assert host.get("/lab/status/500").status == 500
    assert host.post("/echo", b"x" * 11).status == 413
    found = metrics(host)
    assert value(found, "weft_ready") == 1 and value(found, "weft_generation") == 1
    assert value(found, "weft_build_info", version="0.1.0") == 1
    hello = {"plugin": "hello", "route": "GET /hello"}
    assert value(found, "weft_requests_total", answer="ok", **hello) == 3
    assert value(found, "weft_request_duration_seconds_count", **hello) == 3
    assert value(found, "weft_request_duration_seconds_bucket", le="+Inf", **hello) == 3
    assert 0 < value(found, "weft_request_duration_seconds_sum", **hello) < 30
    assert 0 < value(found, "weft_busy_seconds_total", **hello) < 30
    book = {"plugin": "books", "route": "GET /books/:id"}
    assert (value(found, "weft_requests_total", answer="4xx", **book),
            value(found, "weft_requests_total", answer="ok", **book)) == (1, 1)
    assert value(found, "weft_http_errors_total", reason="handler") == 1
    assert value(found, "weft_http_errors_total", reason="body_too_big") == 1
    assert value(found, "weft_pg_statements_total", pool="main") == 2
    assert value(found, "weft_pg_statement_duration_seconds_count", pool="main", statement="book_by_id") == 2
    assert value(found, "weft_upstream_calls_total", upstream="thirdparty") == 1
    assert value(found, "weft_upstream_errors_total", upstream="thirdparty", reason="upstream_queue_full") == 0
    memory = [amount for (name, _), amount in found.items() if name == "weft_worker_memory_bytes"]
    assert len(memory) == 2 and min(memory) > 1 << 20


def test_counters_never_go_back(start):
    """What a dead worker counted stays counted."""
    host = start()
    for _ in range(3):
        host.get("/hello")
    before = metrics(host)
    with pytest.raises(Closed):
        host.get("/crash/segv")
    host.wait_log("is back as process")
    host.get("/hello")
    after = metrics(host)
    hello = {"plugin": "hello", "route": "GET /hello", "answer": "ok"}
    assert (value(before, "weft_requests_total", **hello), value(after, "weft_requests_total", **hello)) == (3, 4)
    assert value(after, "weft_worker_deaths_total", worker="0") == 1
    assert value(after, "weft_crashes_total", plugin="crash", route="GET /crash/:how") == 1
    fell = [key for key in before if key[0].endswith("_total") and after.get(key, 0) < before[key]]
    assert fell == []


def test_status_is_json(start):
    host = start()
    host.get("/hello")
    with host.connect() as client:
        client.request("GET", "/lab/sleep/60000")
        wait_until(lambda: ask(host, "/status").json()["under_way"] == 1)
        found = ask(host, "/status?requests").json()
        assert found["pid"] == host.pid and found["state"] == "serving"
        assert [each["route"] for each in found["requests_under_way"]] == ["GET /lab/sleep/:ms"]
        printed = json.loads(run_weft("status", "-c", host.config, "--json").stdout)
        assert set(printed) == set(found) - {"requests_under_way"}


def test_it_answers_while_a_worker_hangs(start):
    host = start({"stall_warn": 0, "stall_kill": 0})
    with host.connect() as client:
        client.request("GET", "/block/loop")
        wait_until(lambda: ask(host, "/status").json()["hanging"] != [])
        assert ask(host, "/livez").status == 200
        assert metrics(host)
        os.kill(host.workers()[0], signal.SIGKILL)


def test_not_ready_from_sigterm_on_while_all_is_served(start):
    """pre_stop_delay: clients are served as before until it is over; the second SIGTERM does not wait."""
    host = start({"pre_stop_delay": "50s"})
    with Client(host.admin) as kept:
        assert kept.ask("GET", "/readyz").status == 200
        host.signal(signal.SIGTERM)
        host.wait_log("not ready any more; the drain begins in 50000 ms")
        answer = kept.ask("GET", "/readyz")
        assert (answer.status, answer.body) == (503, b"draining\n")
        assert kept.ask("GET", "/livez").status == 200
        assert host.get("/hello").status == 200
        assert host.get("/hello").header("connection") is None
        assert run_weft("reload", "-c", host.config).returncode == 1
        host.signal(signal.SIGTERM)
        assert host.wait() == 0
    host.process = None


def test_the_delay_ends_by_itself(start):
    host = start({"pre_stop_delay": "300ms"})
    host.signal(signal.SIGTERM)
    host.wait_log("the drain begins in 300 ms")
    assert host.wait() == 0
    assert "draining" in host.log
    host.process = None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_other_signals_do_not_wait(start, number):
    host = start({"pre_stop_delay": "50s"})
    host.signal(number)
    assert host.wait() == 0
    host.process = None


def test_readyz_is_503_during_the_drain(start):
    host = start()
    with host.connect() as client:
        client.request("GET", "/lab/sleep/1500")
        wait_until(lambda: ask(host, "/status").json()["under_way"] == 1)
        host.signal(signal.SIGTERM)
        wait_until(lambda: ask(host, "/readyz").status == 503)
        assert client.read_answer().status == 200
    assert host.wait() == 0
    host.process = None


def test_readyz_is_503_where_no_worker_serves(start):
    host = start()
    (host.folder / "flag").write_text("")
    os.kill(host.workers()[0], signal.SIGSTOP)
    assert ask(host, "/readyz").status == 200    # who is stopped has said last that it serves
    os.kill(host.workers()[0], signal.SIGKILL)
    wait_until(lambda: ask(host, "/readyz").status == 503 or "is back as" in host.log)
    host.wait_log("is back as process")
    wait_until(lambda: ask(host, "/readyz").status == 200)


def test_a_client_that_leaves_and_many_that_stay(start):
    """Whoever leaves while the workers are asked is forgotten; more than the limit wait for their turn."""
    host = start({"stall_warn": 0, "stall_kill": 0})
    with host.connect() as client:
        client.request("GET", "/block/loop")       # so that an answer takes its half second
        wait_until(lambda: ask(host, "/status").json()["hanging"] != [])
        for _ in range(20):
            with Client(host.admin) as leaver:
                leaver.request("GET", "/metrics")
        kept = [Client(host.admin) for _ in range(80)]
        for one in kept[:64]:
            assert one.ask("GET", "/livez").status == 200
        kept[70].request("GET", "/livez")
        for one in kept[:64]:
            one.close()
        assert kept[70].read_answer().status == 200
        for one in kept[64:]:
            one.close()
        os.kill(host.workers()[0], signal.SIGKILL)
    host.wait_log("is back as process")
    assert host.get("/hello").status == 200


def test_workers_that_are_forked_keep_no_connection(start):
    """A worker that comes while somebody is connected does not keep the connection open."""
    host = start()
    with Client(host.admin) as client:
        assert client.ask("GET", "/livez").status == 200
        os.kill(host.workers()[0], signal.SIGKILL)
        host.wait_log("is back as process")
        wait_until(lambda: ask(host, "/readyz").status == 200)
        worker, = host.workers()
        both = set(open_files(worker)) & set(open_files(host.pid))
        shared = {name for name in both if name.startswith("socket:")}
        assert len(shared) == 1, shared            # the socket that clients come to, of one slot


def test_the_readme_lists_every_metric(start, books, peer):
    """Written as weft_{a,b}_total there; nothing is listed that is not there either."""
    text = (place.ROOT / "README.md").read_text()
    listed = set()
    for name in re.findall(r"`(weft_[a-z_{},]+)`", text[text.index("## Watch it"):text.index("## Where to read on")]):
        head, names, tail = re.fullmatch(r"([a-z_]+?)(?:\{([a-z_,]+)\}([a-z_]*))?", name).groups()
        listed |= {f"{head}{each}{tail or ''}" for each in (names or "").split(",")}
    host = start({}, **{"pg.main": books.settings, "upstream.thirdparty": {"url": peer.url},
                        "plugin.books": {"path": "books.so"}})
    host.get("/lab/status/500")
    types = re.findall(r"^# TYPE (\S+)", ask(host, "/metrics").body.decode(), re.MULTILINE)
    assert sorted(listed) == sorted(types)
