"""Goal: `weft status` tells the truth about workers, routes, pools, statements, upstreams and what is under way,
also of workers that hang or have died; what took long is in the log if that was asked for."""
import itertools
import json
import os
import re
import signal
import threading

import pytest

from support import logs, place
from support.client import Closed
from support.host import run_weft
from support.wait import wait_until

CRASH = place.BUILD / "tests/plugins/crash.so"
LAB = place.BUILD / "tests/plugins/lab.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0:use_sigaltstack=0"}


@pytest.fixture
def start(start_weft, tmp_path):
    """A function that starts a host with hello, crash and lab, and further sections."""
    def begin(server=None, **sections):
        host = start_weft({"server": server or {}, "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB},
                           "plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"}, **sections}, env=ENV)
        host.wait_log("serving: ")
        return host
    return begin


def ask(host, *options):
    done = run_weft("status", "-c", host.config, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def status(host, *options):
    return json.loads(ask(host, "--json", *options))


def row(rows, **wanted):
    """The one row with these values."""
    found, = [each for each in rows if wanted.items() <= each.items()]
    return found


def under_way(host):
    return status(host, "--requests")["requests_under_way"]


def wait_for_request(host, route, awaits):
    """Waits until a request of that route waits for what matches the pattern."""
    def look():
        return [each for each in under_way(host) if each["route"] == route and re.search(awaits, each["awaits"])]
    return wait_until(look, what=f"{route} that awaits {awaits}: {under_way(host)}")[0]


def test_the_deepest_stack_is_shown(start):
    host = start({"workers": 1})
    assert host.get("/hello").status == 200
    before, = status(host)["workers"]
    assert 0 < before["fiber_stack_high_bytes"] < before["fiber_stack_bytes"]
    assert host.get("/lab/dig/90000").status == 200
    wait_until(lambda: status(host)["workers"][0]["fiber_stack_high_bytes"] >= 90000)
    assert re.search(r" (9\d|1\d\d)k of (128|256)k ", ask(host))


def test_workers_and_routes_are_counted(start):
    host = start({"workers": 2})
    for _ in range(5):
        assert host.get("/hello").status == 200
    assert host.get("/lab/status/-502").status == 404
    assert host.get("/lab/status/500").status == 500
    assert host.get("/none").status == 404
    host.get("/lab/burn/50")
    found = status(host)
    assert (found["pid"], found["state"], found["generation"]) == (host.pid, "serving", 1)
    assert [worker["state"] for worker in found["workers"]] == ["serving"] * 2
    assert sorted(worker["pid"] for worker in found["workers"]) == sorted(host.workers())
    assert all(worker["memory"] > 1 << 20 and worker["generation"] == 1 for worker in found["workers"])
    assert found["requests"] == sum(worker["requests"] for worker in found["workers"]) >= 9
    hello = row(found["routes"], plugin="hello", route="GET /hello")
    assert (hello["requests"], hello["status_4xx"], hello["status_5xx"]) == (5, 0, 0)
    assert 0 < hello["p50_us"] <= hello["p99_us"] and hello["busy_us"] > 0
    answered = row(found["routes"], route="GET /lab/status/:code")
    assert (answered["requests"], answered["status_4xx"], answered["status_5xx"]) == (2, 1, 1)
    burn = row(found["routes"], route="GET /lab/burn/:ms")
    assert 40000 < burn["longest_us"] <= burn["busy_us"] + 100    # each is converted at its own moment
    assert row(found["routes"], plugin="")["status_4xx"] >= 1
    assert found["under_way"] == 0 and "requests_under_way" not in found


def test_the_tables(start):
    host = start()
    host.get("/hello")
    text = ask(host)
    assert text.startswith(f"weft 0.1.0, process {host.pid}, serving, generation 1, up ")
    assert re.search(r"^WORKER +PID +GEN +STATE", text, re.MULTILINE)
    assert re.search(r"^hello +GET /hello +1 +0 +0 +0 ", text, re.MULTILINE)
    assert all(not line.endswith(" ") for line in text.splitlines())


def test_a_request_that_waits_is_told(start):
    host = start()
    with host.connect() as client:
        client.request("GET", "/lab/sleep/60000")
        found = wait_for_request(host, "GET /lab/sleep/:ms", r"^timer: \d+ ms left$")
        assert found["plugin"] == "lab" and found["age_us"] > 0
        live = row(status(host)["routes"], route="GET /lab/sleep/:ms")
        assert live["ctx"] == 1 and live["ctx_bytes"] > 0 and live["ops"] == 1
        line = re.search(rf"^.*{found['request']}.*$", ask(host, "--requests"), re.MULTILINE).group()
        assert "GET /lab/sleep/:ms" in line and "timer: " in line
    wait_until(lambda: under_way(host) == [])
    live = row(status(host)["routes"], route="GET /lab/sleep/:ms")
    assert (live["ctx"], live["ops"], live["gone"]) == (0, 0, 1)


def test_a_body_that_does_not_come_is_told(start):
    host = start()
    with host.connect() as client:
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        wait_for_request(host, "POST /echo", "^body")


def test_statements_and_calls_are_told(start, books, peer):
    """What is awaited is named: the statement with its backend, the upstream with its address."""
    host = start({"request_timeout": "50s"}, **{
        "pg.main": {**books.settings, "slow_query": "1ms"},
        "upstream.thirdparty": {"url": peer.url, "slow_call": "1ms", "first_byte_timeout": "50s", "timeout": "50s"},
        "plugin.books": {"path": "books.so"}})
    assert host.get("/books/1").status == 200
    pid = books.cluster.run("select pid from pg_stat_activity where application_name like 'weft%%' or usename = 'weft'")
    assert pid
    books.cluster.pause()
    with host.connect() as client:
        client.request("GET", "/books/1")
        found = wait_for_request(host, "GET /books/:id", r"^statement \S+ of main, backend \d+$")
        backend = int(found["awaits"].rsplit(" ", 1)[1])
        assert (backend,) in [tuple(each) for each in pid]
        books.cluster.resume()
        assert client.read_answer().status == 200
    peer.on("GET", "/quote", lambda exchange: exchange.stall())
    with host.connect() as client:
        client.request("GET", "/quote")
        wait_for_request(host, "GET /quote", rf"^upstream thirdparty, 127\.0\.0\.1:{peer.port}$")
    host.wait_log(r'msg="slow query: [\d.]+ ms" pool=main statement=\S+ .*plugin=books route="GET /books/:id" request=')
    host.wait_log(r'msg="slow call: [\d.]+ ms" upstream=thirdparty .*plugin=books route="GET /quote" request=')
    found = status(host)
    assert row(found["pools"], pool="main")["statements"] >= 2
    runs = [each for each in found["statements"] if each["runs"] > 0]
    assert runs and all(each["pool"] == "main" and each["p99_us"] >= each["p50_us"] for each in runs)
    assert row(found["upstreams"], upstream="thirdparty")["calls"] + \
        row(found["upstreams"], upstream="thirdparty")["waiting"] >= 0


def test_shared_and_hedged_calls_are_told(start, peer, make_peer):
    """Two clients want the same, the first address says nothing, and the other one's answer is for both."""
    both_wait = threading.Event()
    asked = itertools.count()

    def answer(exchange):
        if next(asked) == 0:
            exchange.stall()
        elif both_wait.wait(30):
            exchange.answer(body="from the other")

    peers = [peer, make_peer()]
    for each in peers:
        each.on("GET", "/x", answer)
    host = start(**{
        "plugin.lab": {"path": LAB, "upstream": "partner"},
        "upstream.partner": {"url": peer.url, "addresses": " ".join(f"127.0.0.1:{each.port}" for each in peers),
                             "single_flight": "on", "hedge": "100ms", "first_byte_timeout": "30s"}})
    with host.connect(timeout=30) as first, host.connect(timeout=30) as second:
        for client in (first, second):
            client.request("GET", "/lab/call?path=/x")
        wait_until(lambda: len(under_way(host)) == 2)
        wait_until(lambda: len(peers[0].requests) + len(peers[1].requests) == 2)
        both_wait.set()
        assert [client.read_answer().body for client in (first, second)] == [b"from the other"] * 2
    found = row(status(host)["upstreams"], upstream="partner")
    assert [found[key] for key in ("shared", "hedged", "hedges_won", "retried")] == [1, 1, 1, 0]
    names, values = re.search(r"^(UPSTREAM.*)\n(.*)$", ask(host), re.MULTILINE).groups()
    shown = dict(zip(re.split(r"\s{2,}", names), values.split()))
    assert (shown["UPSTREAM"], shown["SHARED"], shown["HEDGED"]) == ("partner", "1", "1")


def test_slow_requests_are_logged(start):
    host = start({"slow_request": "100ms"})
    assert host.get("/hello").status == 200
    assert host.get("/lab/sleep/150").status == 200
    line = host.wait_log(r"^.*slow request: .*$").group()
    found = logs.fields(line)
    assert (found["plugin"], found["route"], found["level"]) == ("lab", "GET /lab/sleep/:ms", "warn")
    assert re.fullmatch(r"slow request: 1[5-9]\d\.\d{3} ms, answered 200|slow request: \d+\.\d{3} ms, answered 200",
                        found["msg"])
    assert len(re.findall("slow request: ", host.log)) == 1


def test_a_worker_that_hangs_does_not_hang_the_command(start, tmp_path):
    host = start({"workers": 2, "stall_warn": "100ms", "stall_kill": 0})
    client = host.connect(timeout=30)
    client.request("GET", "/block/loop")
    host.wait_log("hangs: in one turn")
    found = wait_until(lambda: status(host, "--requests")["hanging"])
    assert (found[0]["plugin"], found[0]["route"]) == ("crash", "GET /block/:how")
    assert found[0]["turn_ms"] >= 100
    assert "hangs" in ask(host) and "GET /block/:how" in ask(host, "--requests")
    assert row(status(host)["routes"], route="GET /block/:how")["stalls"] == 1
    (tmp_path / "flag").touch()
    assert client.read_answer().status == 200


def test_what_dead_workers_did_is_kept(start):
    """Counters do not go back, and the last reason stays."""
    host = start({"crash_limit": 1})
    for _ in range(3):
        assert host.get("/hello").status == 200
    with pytest.raises((Closed, ConnectionError)):
        host.get("/crash/segv")
    host.wait_log("is back")
    assert host.get("/hello").status == 200
    found = status(host)
    assert row(found["routes"], route="GET /hello")["requests"] == 4
    crashed = row(found["routes"], route="GET /crash/:how")
    assert (crashed["crashes"], crashed["quarantined"]) == (1, True)
    slot = row(found["slots"], worker=0)
    assert slot["deaths"] == 1 and "signal 11" in slot["why"] and "plugin=crash" in slot["why"]
    assert "[QUARANTINE]" in ask(host) and "signal 11" in ask(host)


def test_a_worker_that_came_later_stands_in_its_place(start):
    host = start({"workers": 3})
    first = status(host)["workers"][0]["pid"]
    os.kill(first, signal.SIGKILL)
    host.wait_log("worker 0 is back")
    found = status(host)["workers"]
    assert [each["worker"] for each in found] == [0, 1, 2]
    assert found[0]["pid"] != first


def test_a_worker_that_is_killed_while_it_is_asked(start):
    host = start({"workers": 2})
    os.kill(host.workers()[0], signal.SIGKILL)
    assert status(host)["state"] == "serving"
    host.wait_log("is back")
    assert len(status(host)["workers"]) == 2


def test_no_host_no_status(tmp_path):
    config = tmp_path / "server.ini"
    config.write_text(f"[server]\nruntime_dir = {tmp_path}/run\n")
    done = run_weft("status", "-c", config)
    assert done.returncode == 3 and "no host runs" in done.stderr


def test_secrets_are_not_told(start, database):
    """Neither the status nor the log nor the process's title has a password."""
    host = start({"log_level": "trace"}, **{"pg.main": {**database.settings, "password": "hunter2-secret"}})
    host.get("/hello")
    told = ask(host) + ask(host, "--json", "--requests") + host.log
    for pid in [host.pid, *host.workers()]:
        told += open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/comm").read()
    assert "hunter2" not in told
