"""Goal: who takes workers down again and again, or keeps one from turning, is named with plugin, route and
stack, is taken out of service as configured, and takes nobody else along; a master or machine that sleeps
blames nobody."""
import os
import re
import signal
import time

import pytest

from support import place
from support.client import Closed
from support.cluster import halt
from support.wait import wait_until

CRASH = place.BUILD / "tests/plugins/crash.so"

# The sanitizer would turn a signal into an exit of its own.
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
       + ":handle_segv=0:handle_abort=0:handle_sigbus=0:use_sigaltstack=0"}


@pytest.fixture
def start(start_weft, tmp_path):
    """A function that starts a host whose plugin crashes or blocks; server settings may be given."""
    def begin(**server):
        host = start_weft({"server": server, "plugin.hello": {"path": "hello.so"},
                           "plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"},
                           "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so"}}, env=ENV)
        host.wait_log("serving: ")
        return host
    return begin


def is_served(host):
    try:
        return host.get("/hello").status == 200
    except (Closed, OSError):
        return False


def crash(host, how="segv"):
    wait_until(lambda: is_served(host))
    with pytest.raises((Closed, ConnectionError)):
        host.get(f"/crash/{how}")


def test_a_route_that_crashes_too_often_is_closed(start):
    """Its clients read why; all else goes on; other workers know it, and the one that is started next."""
    host = start(workers=2, crash_limit=2, crash_window="60s")
    crash(host)
    crash(host, "leave")
    line = host.wait_log(r"^.*quarantine: 2 crashes within 60000 ms.*$").group()
    assert 'plugin=crash route="GET /crash/:how"' in line
    before = wait_until(lambda: len(host.workers()) == 2 and host.workers())
    for _ in range(20):
        answer = host.get("/crash/segv")
        assert answer.status == 503
        assert answer.header("content-type") == "application/problem+json"
        assert "quarantine" in answer.json()["detail"]
        assert host.get("/hello").status == 200
    assert host.workers() == before
    host.wait_access(path="/crash/segv", status=503, why="quarantine")
    host.wait_log("is back", count=2)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(host.workers()) == 2 and before[0] not in host.workers())
    host.wait_log("is back", count=3)
    for _ in range(20):
        assert host.get("/crash/segv").status == 503


def test_crashes_count_by_route_and_window(start):
    """One route's do not count for another's, old ones not at all, and a kill from outside is nobody's."""
    host = start(crash_limit=2, crash_window="1ms", stall_warn=0, stall_kill=0)
    crash(host)
    crash(host)
    host.wait_log("started again", count=2)
    wait_until(lambda: is_served(host))
    assert "quarantine: " not in host.log
    for count in range(2):
        wait_until(lambda: is_served(host))
        worker, = host.workers()
        os.kill(worker, signal.SIGKILL)
        host.wait_log("started again", count=3 + count)
    wait_until(lambda: is_served(host), 20)
    assert "quarantine: " not in host.log


def test_no_limit_no_quarantine(start):
    host = start(crash_limit=0)
    for _ in range(3):
        crash(host)
    host.wait_log("started again", count=3)
    assert "quarantine: " not in host.log


def begin_to_block(host, how):
    client = host.connect(timeout=30)
    client.request("GET", f"/block/{how}")
    return client


@pytest.mark.parametrize("how", ["loop", "sleep", "poll", "read", "mutex"])
def test_a_worker_that_hangs_is_named_and_replaced(start, how):
    """The other worker serves meanwhile; after stall_kill the route has one crash more."""
    host = start(workers=2, stall_warn="200ms", stall_kill="1s", crash_limit=1)
    client = begin_to_block(host, how)
    line = host.wait_log(r'^.*process=master .*has been in one turn for \d+ ms".*$').group()
    assert 'plugin=crash route="GET /block/:how" request=' in line
    line = host.wait_log(r"^.*hangs: in one turn for \d+ ms.*$").group()
    assert 'plugin=crash route="GET /block/:how" request=' in line
    host.wait_log(r"^\S*crash\.so\(.*\)\[0x[0-9a-f]+\]$")
    host.wait_log("longer than stall_kill: killed")
    host.wait_log(r"crashed: signal 6 \(SIGABRT\) sent by process")
    host.wait_log("killed by signal 6 .*requests lost: 1")
    with pytest.raises(Closed):
        client.read_answer()
    host.wait_log('quarantine: .*route="GET /block/:how"')
    host.wait_log("is back")
    for _ in range(10):
        assert host.get("/hello").status == 200
        assert host.get(f"/block/{how}").status == 503


def test_a_handler_that_comes_back_is_only_named(start, tmp_path):
    host = start(stall_warn="100ms", stall_kill=0)
    client = begin_to_block(host, "loop")
    host.wait_log("hangs: in one turn")
    (tmp_path / "flag").touch()
    assert client.read_answer().status == 200
    host.wait_log("turns again")
    assert host.log.count("hangs: in one turn") == 1
    assert "killed" not in host.log


def test_work_that_is_done_in_many_turns_is_no_stall(start):
    """A request that waits for long, on a loop that turns, is named by nobody."""
    host = start(stall_warn="50ms", stall_kill="200ms")
    assert host.get("/lab/sleep/600", timeout=20).status == 200
    assert "in one turn" not in host.log


def test_a_master_that_was_stopped_kills_nobody(start, tmp_path):
    """A worker blocked while the master slept is as old as the master has seen it."""
    host = start(stall_warn="400ms", stall_kill="800ms")
    before = host.workers()
    halt(host.pid)
    client = begin_to_block(host, "loop")
    time.sleep(2)                       # longer than stall_kill: what is tested is that it does not count
    (tmp_path / "flag").touch()
    assert client.read_answer().status == 200
    os.kill(host.pid, signal.SIGCONT)
    assert host.get("/hello").status == 200
    assert host.workers() == before
    assert "killed" not in host.log


def test_a_worker_that_is_stopped_is_left_alone(start, tmp_path):
    """Somebody looks at it with a debugger."""
    host = start(workers=2, stall_warn="100ms", stall_kill="400ms")
    before = host.workers()
    client = begin_to_block(host, "loop")
    pid = int(host.wait_log(r"pid=(\d+) .*hangs: in one turn").group(1))
    halt(pid)
    time.sleep(1)                       # longer than stall_kill
    assert sorted(host.workers()) == sorted(before)
    (tmp_path / "flag").touch()
    os.kill(pid, signal.SIGCONT)
    assert client.read_answer().status == 200
    assert sorted(host.workers()) == sorted(before)


def test_what_a_host_died_of_later_is_told_with_who_ran_last(start):
    """Killed while nobody's code runs, the log says whose ran last."""
    host = start()
    assert host.get("/hello").status == 200
    worker, = host.workers()
    os.kill(worker, signal.SIGSEGV)
    line = host.wait_log(r"^.*crashed: signal 11.*$").group()
    assert re.search(r'plugin=- route=- request=- last_plugin=hello last_route="GET /hello"', line)
    host.wait_log(r'while it ran plugin=- .*, after last_plugin=hello last_route=\\"GET /hello\\"; requests lost: 0')
