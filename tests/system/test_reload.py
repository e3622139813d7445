"""Goal: a reload brings new settings and plugins in without losing a request, or changes nothing and says why; what
crashes at once is taken back."""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

from support import place, plugin
from support.client import Closed
from support.host import run_weft
from support.load import Load
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"
ROUNDS = 1000 if os.environ.get("WEFT_SOAK") == "1" else 50

CRASHES = "static weft_status init(weft_host *host, void **self) { (void)host; (void)self; __builtin_trap(); }"
REFUSES = ("static weft_status init(weft_host *host, void **self)"
           " { (void)host; (void)self; return WEFT_E_INVALID; }")
HANGS = ("#include <unistd.h>\nstatic weft_status init(weft_host *host, void **self)"
         " { (void)host; (void)self; for (;;) pause(); }")
LATE = ("#include <unistd.h>\n"
        "static weft_status it(weft_ctx *c, void *s) { (void)s; return weft_reply_text(c, 200, \"late\"); }\n"
        "static weft_status init(weft_host *host, void **self)"
        " { (void)self; usleep(700000); return weft_route(host, \"GET\", \"/late\", it); }")
FATAL = """
static weft_status it(weft_ctx *ctx, void *self)
{
    (void)self;
    if (weft_param(ctx, "how").ptr[0] == 'x')
        __builtin_trap();
    return weft_reply_text(ctx, 200, "new");
}
static weft_status init(weft_host *host, void **self)
{
    (void)self;
    return weft_route(host, "GET", "/it/:how", it);
}
"""


def sections(text="one", server=None, **more):
    return {"server": {"workers": 2, **(server or {})}, "plugin.lab": {"path": LAB, "text": text}, **more}


@pytest.fixture
def start(start_weft):
    """start_weft, and all workers are there."""
    def begin(*given, **named):
        host = start_weft(*given, **named)
        host.wait_log("serving: ")
        return host
    return begin


def tell(host, *arguments, timeout=60):
    return run_weft(*arguments, "-c", host.config, timeout=timeout)


def reload(host, *given, **named):
    """New settings, and the reload; it must succeed."""
    if given or named:
        host.configure(sections(*given, **named))
    done = tell(host, "reload")
    assert done.returncode == 0, done.stderr + host.log
    return done


def source(init, name="it"):
    return f'#include <weft.h>\n{init}\nWEFT_PLUGIN("{name}", "1.0", init, NULL, NULL);\n'


def text_of(host):
    return host.get("/lab/text").body


# what a reload does

def test_new_settings_answer_from_the_moment_it_returns(start):
    host = start(sections())
    assert text_of(host) == b"one"
    done = reload(host, "two")
    assert done.stdout == "generation 2 serves, with 2 workers\n"
    for _ in range(20):
        assert text_of(host) == b"two"


def test_a_new_plugin(start, tmp_path):
    made = plugin.build(tmp_path, "it", plugin.answering("first"))
    host = start({"plugin.it": {"path": made}})
    assert host.get("/it").body == b"first"
    (tmp_path / "new").mkdir()
    os.rename(plugin.build(tmp_path / "new", "it", plugin.answering("second")), made)
    assert host.get("/it").body == b"first"
    assert tell(host, "reload").returncode == 0
    assert host.get("/it").body == b"second"


def test_sighup(start):
    host = start(sections())
    host.configure(sections("two"))
    host.signal(signal.SIGHUP)
    host.wait_log("generation 2 serves")
    assert text_of(host) == b"two"


def test_a_secret_s_file_is_read_anew(start, tmp_path):
    (tmp_path / "secret").write_text("one\n")
    host = start(sections("${file:%s}" % (tmp_path / "secret")))
    assert text_of(host) == b"one"
    (tmp_path / "secret").write_text("two\n")
    reload(host)
    assert text_of(host) == b"two"


def test_kept_connections_get_one_more_answer(start):
    """From the old workers, with Connection: close; silent ones are closed after drain_idle, no sooner."""
    host = start(sections(server={"drain_idle": "700ms"}))
    with host.connect() as asks, host.connect() as silent:
        assert asks.ask("GET", "/lab/text").body == silent.ask("GET", "/lab/text").body == b"one"
        begin = time.monotonic()
        reload(host, "two")
        answer = asks.ask("GET", "/lab/text")
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"one", "close")
        assert asks.is_closed() and silent.is_closed()
        assert time.monotonic() - begin >= 0.7
    host.wait_log("generation 1 has ended")


def test_requests_under_way_are_finished(start):
    host = start(sections())
    with host.connect() as client:
        client.request("GET", "/lab/sleep/1500")
        assert host.get("/lab/text").status == 200
        reload(host, "two")
        assert text_of(host) == b"two"
        answer = client.read_answer()
        assert (answer.status, answer.header("connection")) == (200, "close")


def test_streams_without_an_end_are_told_at_once(start):
    """They end in order, long before the drain's time is over; and who follows again comes to the new workers."""
    server = {"drain_timeout": "60s", "rollback_window": "100ms", "workers": 1}
    more = {"plugin.streams": {"path": place.BUILD / "tests/plugins/streams.so"}}
    host = start(sections("one", server, **more))
    with host.connect(timeout=30) as follower, host.connect(timeout=30) as other:
        follower.request("GET", "/streams/events")
        other.request("GET", "/lab/sleep/1500")      # has an end: is not told
        wait_until(lambda: host.get("/streams/followers").body == b"1")
        begin = time.monotonic()
        reload(host, "two", server, **more)
        answer = follower.read_answer()              # with its last chunk
        assert answer.status == 200 and follower.is_closed()
        assert time.monotonic() - begin < 30
        assert other.read_answer().status == 200
        with host.connect() as again:
            again.request("GET", "/streams/events")
            wait_until(lambda: host.get("/streams/followers").body == b"1")
            assert host.post("/streams/events", "x").body == b"1"
    host.wait_log("generation 1 has ended", timeout=20)
    assert "cut off" not in host.log


def test_what_takes_too_long_is_cut_off(start):
    """And the log says how many."""
    server = {"drain_timeout": "300ms", "request_timeout": "60s", "rollback_window": "100ms"}
    host = start(sections(server=server))
    with host.connect() as client:
        client.request("GET", "/lab/sleep/50000")
        assert text_of(host) == b"one"
        reload(host, "two", server)
        with pytest.raises(Closed):
            assert client.read_answer().status == 503
            client.read_answer()
    host.wait_log("1 requests were cut off")
    host.wait_log("generation 1 has ended")
    assert text_of(host) == b"two"


def test_clients_in_the_queue_are_served(start):
    """Those of a worker that is busy at that very moment, too."""
    host = start(sections(server={"workers": 1}))
    with host.connect() as busy:
        busy.request("GET", "/lab/burn/700")
        clients = [host.connect().send(b"GET /lab/text HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(20)]
        reload(host, "two", {"workers": 1})
        for client in clients:
            assert client.read_answer().status == 200
            client.close()
        assert busy.read_answer().status == 200


def test_the_number_of_workers(start):
    """More, and fewer: every slot's clients are served, also those that no worker has for its own."""
    host = start(sections())
    for count in (4, 1, 3):
        reload(host, "text", {"workers": count})
        assert len([pid for pid in host.workers()]) >= count
        for _ in range(40):
            assert text_of(host) == b"text"
    host.wait_log("generation 3 has ended")
    assert len(host.workers()) == 3


def test_addresses(start, free_port, tmp_path):
    """New ones are bound, removed ones are closed once nobody needs them, and the file of a socket goes."""
    host = start(sections(server={"rollback_window": "1s"}))
    other = free_port()
    both = f"127.0.0.1:{host.port} 127.0.0.1:{other} unix:{tmp_path}/s"
    reload(host, "two", {"listen": both, "rollback_window": "1s"})
    for address in (host.address, ("127.0.0.1", other)):
        with socket.create_connection(address, timeout=10):
            pass
    assert (tmp_path / "s").is_socket()
    with socket.create_connection(host.address, timeout=10) as client:
        reload(host, "three", {"listen": f"127.0.0.1:{other}", "rollback_window": "1s"})
        # Nobody else has the old address: clients that come late are still served.
        assert text_of(host) == b"two"
        client.sendall(b"GET /lab/text HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    host.wait_log("generation 2 has ended")
    assert not (tmp_path / "s").exists()

    def is_refused():
        try:
            socket.create_connection(host.address, timeout=0.2).close()
            return False
        except TimeoutError:
            return False
        except ConnectionError:
            return True
    wait_until(is_refused)
    host.address = ("127.0.0.1", other)
    assert text_of(host) == b"three"


def test_what_wants_a_restart_is_said(start):
    host = start(sections())
    host.configure(sections("two", {"reuseport": "on"}))
    done = tell(host, "reload")
    assert done.returncode == 0 and "want a restart of the host: reuseport" in done.stderr, done.stderr
    assert text_of(host) == b"two"


def test_the_error_log_of_the_new_settings(start):
    host = start(sections())
    reload(host, "two", {"error_log": "new.log", "log_format": "json"})
    host.signal(signal.SIGTERM)
    host.wait()
    text = (host.folder / "new.log").read_text()
    assert '"process":"master"' in text and '"process":"worker 0"' in text, text


# what it refuses

@pytest.mark.parametrize("broken, why", [
    ("[plugin.lab", "server.ini"),
    ("[nonsense]", "unknown section"),
    ("[server]\nworkers = many\n[plugin.lab]\npath = x", "workers"),
    ("[server]\nlisten = 127.0.0.1:1\nworkers = 1\nsurprise = 1\n", "surprise"),
])
def test_a_broken_file_changes_nothing(start, broken, why):
    host = start(sections())
    workers = host.workers()
    keep = host.config.read_text()
    host.config.write_text(f"[server]\nruntime_dir = {host.folder}/run\n" + broken.removeprefix("[server]\n"))
    done = tell(host, "reload")
    assert done.returncode == 1 and why in done.stderr and "generation 1 goes on" in done.stderr, done.stderr
    assert text_of(host) == b"one" and host.workers() == workers
    host.config.write_text(keep.replace("= one", "= two"))
    assert tell(host, "reload").returncode == 0
    assert text_of(host) == b"two"


@pytest.mark.parametrize("what, why", [
    (source(CRASHES), "killed by signal"), (source(REFUSES), "broken.so"), (None, "broken.so"),
    (source(HANGS), "start_timeout")])
def test_a_broken_plugin_changes_nothing(start, tmp_path, what, why):
    host = start(sections(server={"start_timeout": "3s"}))
    workers = host.workers()
    if what is None:
        (tmp_path / "broken.so").write_bytes(b"\x7fELF and nothing more")
    else:
        plugin.build(tmp_path, "broken", what)
    host.configure(sections("two", {"start_timeout": "3s"}, **{"plugin.broken": {"path": tmp_path / "broken.so"}}))
    done = tell(host, "reload")
    assert done.returncode == 1 and why in done.stderr, done.stderr
    assert text_of(host) == b"one" and host.workers() == workers
    assert sorted(path.name for path in host.folder.glob("run/*/[0-9]*")) == ["1"]


def test_an_address_in_use_changes_nothing(start):
    host = start(sections())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        host.configure(sections("two", {"listen": f"127.0.0.1:{host.port} 127.0.0.1:{port}"}))
        done = tell(host, "reload")
    assert done.returncode == 1 and f"127.0.0.1:{port}" in done.stderr and "in use" in done.stderr, done.stderr
    assert text_of(host) == b"one"


def test_workers_that_cannot_start_change_nothing(start, tmp_path):
    """What the trial cannot see: the plugin's start fails, which only workers run."""
    made = plugin.build(tmp_path, "bad", """
#include <weft.h>
static weft_status init(weft_host *host, void **self) { (void)host; (void)self; return WEFT_OK; }
static weft_status start(weft_ctx *ctx, void *self) { (void)ctx; (void)self; return WEFT_E_INVALID; }
WEFT_PLUGIN("bad", "1.0", init, start, NULL);
""")
    host = start(sections())
    host.configure(sections("two", **{"plugin.bad": {"path": made}}))
    done = tell(host, "reload")
    assert done.returncode == 1 and "bad" in done.stderr, done.stderr
    assert text_of(host) == b"one"
    reload(host, "three")
    assert text_of(host) == b"three"


def test_sql_that_the_schema_refuses_changes_nothing(start, books):
    """The statements of plugins are prepared against the database as it is now."""
    more = {"pg.main": books.settings, "upstream.thirdparty": {"url": "http://127.0.0.1:9"},
            "plugin.books": {"path": "books.so"}}
    host = start(sections("one", **more))
    assert host.get("/books").status == 200
    books.run("alter table books rename author to writer")
    host.configure(sections("two", **more))
    done = tell(host, "reload")
    assert done.returncode == 1, done
    assert re.search(r"pg\.main: statement \w+ is refused: column \"author\" .*does not exist \(42703\);"
                     r" so are 2 other statements", done.stderr), done.stderr
    assert text_of(host) == b"one"
    checked = tell(host, "check")
    assert checked.returncode == 1 and "is refused: column" in checked.stderr, checked
    books.run("alter table books rename writer to author")
    assert tell(host, "check").returncode == 0
    assert tell(host, "reload").stderr == ""
    assert text_of(host) == b"two"


def test_a_database_that_is_away_is_a_warning(start, books, cluster):
    more = {"pg.main": books.settings, "upstream.thirdparty": {"url": "http://127.0.0.1:9"},
            "plugin.books": {"path": "books.so"}}
    host = start(sections("one", **more))
    cluster.stop()
    host.configure(sections("two", **more))
    done = tell(host, "reload")
    assert done.returncode == 0 and "weft: pg.main: cannot be tried: " in done.stderr, done
    assert text_of(host) == b"two"
    checked = tell(host, "check")
    assert checked.returncode == 0 and "weft: pg.main: cannot be tried: " in checked.stderr, checked
    host.wait_log("reload: pg.main: cannot be tried: ")
    cluster.start()
    wait_until(lambda: host.get("/books").status == 200)


def test_a_certificate_that_is_none_changes_nothing(start, tmp_path):
    host = start(sections())
    (tmp_path / "ca.pem").write_text("no certificate")
    more = {"upstream.x": {"url": "https://127.0.0.1:9", "tls_ca": tmp_path / "ca.pem"}}
    host.configure(sections("two", **more))
    done = tell(host, "reload")
    assert done.returncode == 1 and "ca.pem" in done.stderr, done
    assert text_of(host) == b"one"


# several at once

def test_several_become_one(start, tmp_path):
    late = plugin.build(tmp_path, "late", source(LATE, "late"))
    host = start(sections())
    host.configure(sections("two", **{"plugin.late": {"path": late}}))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        first = pool.submit(tell, host, "reload")
        host.wait_log("trying generation 2")
        others = [pool.submit(tell, host, "reload") for _ in range(4)]
        assert first.result().stdout.startswith("generation 2 serves")
        for other in others:
            assert other.result().stdout.startswith("generation 3 serves")
    assert "generation 4" not in host.log


def test_a_reload_before_the_host_serves_waits(start_weft, tmp_path):
    late = plugin.build(tmp_path, "late", source(LATE, "late"))
    host = start_weft(sections("one", **{"plugin.late": {"path": late}}), wait=False)
    wait_until(lambda: list(host.folder.glob("run/*/control.sock")))
    assert tell(host, "reload").stdout.startswith("generation 2 serves")


def test_stopped_while_it_reloads(start, tmp_path):
    hangs = plugin.build(tmp_path, "hangs", source(HANGS, "hangs"))
    host = start(sections())
    host.configure(sections("two", **{"plugin.hangs": {"path": hangs}}))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(tell, host, "reload")
        host.wait_log("trying generation 2")
        assert tell(host, "stop").returncode == 0
        done = asked.result()
        assert done.returncode == 1 and "stopping" in done.stderr
    assert host.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_stopped_while_the_old_generation_holds(start, number):
    host = start(sections())
    reload(host, "two")
    assert len(host.workers()) == 4
    host.signal(number)
    assert host.wait(20) == 0


def test_logs_are_opened_again_where_only_the_old_generation_is_left(start):
    """The one that serves may have gone before the one it has replaced, and logrotate does not ask."""
    server = {"access_log": "access.log"}
    host = start(sections(server=server))
    path = host.folder / "access.log"
    with host.connect() as client:
        client.request("GET", "/lab/sleep/2000")
        wait_until(lambda: " 1 under way" in tell(host, "status").stdout)
        old = host.workers()
        reload(host, "two", server)
        host.signal(signal.SIGTERM)
        wait_until(lambda: set(host.workers()) < set(old))
        path.rename(host.folder / "access.1")
        host.signal(signal.SIGUSR1)
        wait_until(path.exists)
        assert client.read_answer().status == 200
    assert host.wait(20) == 0
    assert "/lab/sleep/2000" in path.read_text()


def test_whoever_asked_may_go(start, tmp_path):
    late = plugin.build(tmp_path, "late", source(LATE, "late"))
    host = start(sections())
    host.configure(sections("two", **{"plugin.late": {"path": late}}))
    asked = subprocess.Popen([place.BUILD / "weft", "reload", "-c", host.config])
    host.wait_log("trying generation 2")
    asked.kill()
    asked.wait()
    host.wait_log("generation 2 serves")


# rollback

def test_a_crash_at_once_takes_the_new_generation_back(start, tmp_path):
    made = plugin.build(tmp_path, "it", source(FATAL.replace("__builtin_trap();", ";").replace("new", "old")))
    host = start(sections("one", **{"plugin.it": {"path": made}}))
    assert host.get("/it/x").body == b"old"
    (tmp_path / "new").mkdir()
    os.rename(plugin.build(tmp_path / "new", "it", source(FATAL)), made)
    reload(host, "two", **{"plugin.it": {"path": made}})
    assert host.get("/it/good").body == b"new"
    with host.connect() as client:
        client.request("GET", "/it/x")
        with pytest.raises(Closed):
            client.read_answer()
    host.wait_log("rollback: generation 2 was taken back, generation 1 serves again: .*plugin=it")
    for _ in range(20):
        assert host.get("/it/x").body == b"old"
        assert text_of(host) == b"one"
    host.wait_log("generation 2 has ended")
    assert len(host.workers()) == 2
    reload(host, "three", **{"plugin.it": {"path": made}})    # generation 3: its number was never used
    assert text_of(host) == b"three"


def test_a_worker_killed_at_once(start):
    """Whoever killed it: with keep-alive connections on both generations."""
    host = start(sections())
    before = set(host.workers())
    with host.connect() as old:
        assert old.ask("GET", "/lab/text").status == 200
        reload(host, "two")
        new = set(host.workers()) - before
        os.kill(new.pop(), signal.SIGKILL)
        host.wait_log("generation 1 serves again")
        assert set(host.workers()) & before == before
        answer = old.ask("GET", "/lab/text")
        assert answer.body == b"one" and answer.header("connection") != "close"
    assert text_of(host) == b"one"


def test_an_old_worker_that_died_meanwhile_is_replaced(start):
    host = start(sections())
    before = host.workers()
    reload(host, "two")
    os.kill(before[0], signal.SIGKILL)
    host.wait_log(rf"process {before[0]}\) was killed")
    os.kill((set(host.workers()) - set(before)).pop(), signal.SIGKILL)
    host.wait_log("generation 1 serves again")
    wait_until(lambda: len(host.workers()) == 2 and before[0] not in host.workers(), timeout=20)
    for _ in range(20):
        assert text_of(host) == b"one"


def test_later_crashes_are_not_the_reload_s(start):
    server = {"rollback_window": "200ms"}
    host = start(sections(server=server))
    reload(host, "two", server)
    host.wait_log("generation 1 has ended")
    os.kill(host.workers()[0], signal.SIGKILL)
    host.wait_log("is back as process")
    assert text_of(host) == b"two" and "serves again" not in host.log


def test_a_reload_ends_a_quarantine(start, tmp_path):
    """The route is open again, and is closed again if it has not become better."""
    made = plugin.build(tmp_path, "it", source(FATAL))
    server = {"crash_limit": 1, "rollback_window": "0", "workers": 1}
    more = {"plugin.it": {"path": made}}
    host = start(sections("one", server, **more))
    for turn in (1, 2):
        assert host.get("/it/good").status == 200
        with host.connect() as client:
            client.request("GET", "/it/x")
            with pytest.raises(Closed):
                client.read_answer()
        host.wait_log("quarantine: ", count=turn)
        wait_until(lambda: answers(host, "/it/good") == 503)
        assert text_of(host) == b"one"
        reload(host, "one", server, **more)
    assert host.get("/it/good").status == 200


def answers(host, target):
    """Its status; None while the worker is being started again."""
    try:
        return host.get(target).status
    except (Closed, OSError):
        return None


def test_what_became_of_it_is_in_the_status(start):
    host = start(sections())
    told = [json.loads(tell(host, "status", "--json").stdout)["reloads"]]
    assert told[0] == {"served": 0, "failed": 0, "taken_back": 0}
    reload(host, "two")
    host.config.write_text(host.config.read_text() + "[nonsense]\n")
    host.signal(signal.SIGHUP)
    host.wait_log("reload failed")
    found = json.loads(tell(host, "status", "--json").stdout)["reloads"]
    assert (found["served"], found["failed"], found["taken_back"]) == (1, 1, 0)
    assert "generation 2 goes on" in found["last_text"] and "nonsense" in found["last_text"]
    assert re.search(r"^last reload \d+\S* ago: reload failed, generation 2 goes on: ", tell(host, "status").stdout,
                     re.MULTILINE)


# all of it under load

def files_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory_of(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


@pytest.mark.limit(7000 if ROUNDS > 50 else 240)
def test_reloads_under_load(start, tmp_path):
    """Not one request fails, the right version answers, and nothing grows; every tenth is broken, by turns in the
    file and in the plugin."""
    versions = []
    for name in ("odd", "even"):
        (tmp_path / name).mkdir()
        versions.append(plugin.build(tmp_path / name, "it", plugin.answering(name)))
    current = tmp_path / "it.so"
    shutil.copy(versions[0], current)
    server = {"access_log": "off", "drain_idle": "300ms"}
    more = {"plugin.it": {"path": current}}
    host = start(sections("0", server, **more), env={
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    good, text, name, sizes = 0, b"0", b"odd", []

    def put(path):
        shutil.copy(path, tmp_path / "next.so")
        os.rename(tmp_path / "next.so", current)

    with Load(host.address, "/lab/text", slow="/lab/sleep/150") as load:
        for turn in range(1, ROUNDS + 1):
            is_bad = turn % 10 == 0
            host.configure(sections(str(turn), server, **more))
            if not is_bad:
                put(versions[turn % 2])
            elif turn % 20 == 0:
                host.config.write_text(host.config.read_text() + "[plugin.it]\n")
            else:
                (tmp_path / "junk").write_bytes(b"\x7fELF" + b"x" * 5000)
                put(tmp_path / "junk")
            done = tell(host, "reload", timeout=120)
            assert (done.returncode != 0) == is_bad, (turn, done)
            if not is_bad:
                good, text, name = good + 1, str(turn).encode(), [b"odd", b"even"][turn % 2]
            for _ in range(3):
                assert (text_of(host), host.get("/it").body) == (text, name), turn
            assert not load.failures, (turn, load.failures[:5], host.log[-5000:])
            if turn in (10, ROUNDS):
                sizes.append((files_of(host.pid), memory_of(host.pid)))
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert f"generation {good + 1} serves" in host.log
    (files, memory), (files_end, memory_end) = sizes
    assert files_end <= files + 20, sizes     # the channels of a generation that is being wound up
    assert memory_end <= memory + 8192 + ROUNDS * 4, sizes
    wait_until(lambda: len(host.workers()) == 2, timeout=30)
    print(f"{ROUNDS} reloads, {load.count} requests, files and memory {sizes}")
