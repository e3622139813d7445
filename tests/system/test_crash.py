"""Goal: a plugin that crashes takes one worker with it, for a moment: the log names plugin, route and
signal, the worker is started again, everybody else is served; and whoever is killed, no process is left
behind and none is started over and over."""
import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from support import logs, place
from support.client import Closed
from support.host import run_weft
from support.wait import wait_until

CRASH = place.BUILD / "tests/plugins/crash.so"

# The sanitizer would turn a signal into an exit of its own.
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")
       + ":handle_segv=0:handle_abort=0:handle_sigbus=0:use_sigaltstack=0"}


# An exit() in the middle of a handler leaves everything as it is.
ENV_OF_EXIT = {"ASAN_OPTIONS": ENV["ASAN_OPTIONS"] + ":detect_leaks=0"}


@pytest.fixture
def start(start_weft):
    """A function that starts a host whose plugin crashes when it is told to."""
    def begin(workers=1, env=None, **settings):
        host = start_weft({"server": {"workers": workers}, "plugin.hello": {"path": "hello.so"},
                           "plugin.crash": {"path": CRASH, **settings},
                           "plugin.lab": {"path": place.BUILD / "tests/plugins/lab.so"}}, env=env or ENV)
        host.wait_log("serving: ")
        return host
    return begin


def is_alive(pid):
    """Not so for one that is dead but not yet waited for."""
    return os.path.exists(f"/proc/{pid}/exe")


def crash(host, how):
    with pytest.raises((Closed, ConnectionError)):
        host.get(f"/crash/{how}")


def wait_for_others(host, before):
    """Waits until no worker of `before` is there, and as many others serve."""
    wait_until(lambda: len(host.workers()) == len(before) and not set(host.workers()) & set(before))
    host.wait_log("is back")


@pytest.mark.parametrize("how, pattern", [
    ("segv", r"signal 11 \(Segmentation fault\)"), ("abort", r"signal 6 \(Aborted\)"), ("leave", "code 3"),
    ("exit", "code 4"), ("exit78", "code 78"), ("heap", "(signal 6|code 1)"),
    ("overflow", r"signal 11 \(Segmentation fault\)"), ("later", "signal 11"), ("then", "signal 11"),
])
def test_a_crash(start, how, pattern):
    host = start(env=ENV_OF_EXIT if "exit" in how else ENV)
    before = host.workers()
    crash(host, how)
    line = host.wait_log(rf"level=error.*{pattern}.*").group()
    assert "plugin=crash" in line, line
    assert "GET /crash/:how" in line, line
    wait_for_others(host, before)
    assert host.get("/hello").status == 200
    assert host.log.count(" was killed by ") + host.log.count(" exited with ") == 1


@pytest.mark.parametrize("how, said", [
    ("segv", r"crashed: signal 11 \(SIGSEGV\) at 0x10\""), ("abort", r"crashed: signal 6 \(SIGABRT\)\""),
    ("overflow", r"crashed: signal 11 \(SIGSEGV\) at 0x[0-9a-f]+: stack overflow of a fiber\""),
    ("later", r"crashed: signal 11 \(SIGSEGV\) at 0x10\""), ("then", r"crashed: signal 11 \(SIGSEGV\) at 0x10\""),
])
def test_the_report_of_a_crash(start, how, said):
    """The worker itself says what it was, with a backtrace; then it dies of the signal as before."""
    host = start()
    crash(host, how)
    line = host.wait_log(rf"^.*{said}.*$").group()
    found = logs.fields(line)
    assert list(found) == ["time", "level", "pid", "process", "msg", "plugin", "route", "request"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["time"])
    assert abs(datetime.datetime.fromisoformat(found["time"]).timestamp() - time.time()) < 60
    assert (found["level"], found["process"]) == ("error", "worker 0")
    assert (found["plugin"], found["route"]) == ("crash", "GET /crash/:how")
    host.wait_log(rf"process {found['pid']}\) was killed by signal.*request={found['request']}")
    assert re.search(r"^\S*crash\.so\(.*\+0x[0-9a-f]+\)\[0x[0-9a-f]+\]$", host.log, re.MULTILINE)
    assert build_ids(host, "crash.so") == {note_of(CRASH)}
    assert build_ids(host, "(the program)") == {note_of(place.BUILD / "weft")}
    assert host.log.count("crashed: signal") == 1


def build_ids(host, name):
    return set(re.findall(rf"^build id ([0-9a-f]+) \S*{re.escape(name)}$", host.log, re.MULTILINE))


def note_of(path):
    """The build id of a file, as readelf tells it."""
    notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True, timeout=60).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)


def test_an_exit_is_told_with_its_place(start):
    host = start(env=ENV_OF_EXIT)
    crash(host, "exit")
    line = host.wait_log(r'^.*msg="exit\(4\) was called".*$').group()
    assert (logs.fields(line)["plugin"], logs.fields(line)["route"]) == ("crash", "GET /crash/:how")
    host.wait_log(r"exited with code 4 while it ran plugin=crash")
    assert re.search(r"^\S*crash\.so\(.*$", host.log, re.MULTILINE)
    assert host.log.count("was called") == 1


def test_an_orderly_end_is_no_surprise(start):
    host = start()
    host.stop()
    assert "was called" not in host.log


def test_requests_that_are_lost_are_counted(start):
    host = start()
    with host.connect() as first, host.connect() as second:
        first.request("GET", "/lab/sleep/30000")
        second.request("GET", "/lab/sleep/30000")
        assert host.get("/hello").status == 200     # the others came before it
        crash(host, "segv")
        host.wait_log(r"killed by signal 11 .*; requests lost: 3\"$")


def test_the_report_as_json(start_weft):
    host = start_weft({"server": {"log_format": "json"}, "plugin.crash": {"path": CRASH}}, env=ENV)
    crash(host, "segv")
    found = json.loads(host.wait_log(r"^.*crashed: signal 11.*$").group())
    assert (found["plugin"], found["route"]) == ("crash", "GET /crash/:how")


@pytest.mark.parametrize("how, what", [("offload", "0x10"), ("offload-overflow", "0x[0-9a-f]+: stack overflow")])
def test_a_crash_of_offloaded_work(start, how, what):
    host = start()
    before = host.workers()
    crash(host, how)
    host.wait_log(rf"crashed: signal 11 \(SIGSEGV\) at {what} on a helper thread\" plugin=crash "
                  r"route=\"GET /crash/:how\" request=[0-9a-f]{16}")
    wait_for_others(host, before)


def test_a_signal_from_outside_is_told(start):
    host = start()
    worker, = host.workers()
    os.kill(worker, signal.SIGSEGV)
    host.wait_log(rf"crashed: signal 11 \(SIGSEGV\) sent by process {os.getpid()}\" plugin=")
    host.wait_log("killed by signal 11 ")


def test_the_request_is_named_by_its_id(start):
    host = start()
    assert host.get("/hello").status == 200
    crash(host, "segv")
    assert host.wait_log(r"while it ran .*request=([0-9a-f]+)").group(1).strip("0")


def test_the_other_worker_goes_on(start):
    """While one of two workers crashes, requests that the other one has are answered."""
    host = start(workers=2)
    before = host.workers()
    with host.connect() as client:
        mine = int(client.ask("GET", "/lab/pid").body)
        client.request("GET", "/lab/sleep/1000")
        other, = set(before) - {mine}
        crash_in(host, other)
        assert client.read_answer().status == 200
        assert int(client.ask("GET", "/lab/pid").body) == mine
    assert mine in host.workers()


def crash_in(host, worker):
    """Crashes this one of the workers: the kernel chooses whom a connection goes to."""
    for _ in range(200):
        client = host.connect()
        if int(client.ask("GET", "/lab/pid").body) == worker:
            with pytest.raises((Closed, ConnectionError)):
                client.ask("GET", "/crash/segv")
            return
        client.close()
    raise AssertionError(f"worker {worker} is never reached")


def test_again_and_again(start):
    """Back-off: the first time at once, then later and later."""
    host = start()
    for count in range(1, 4):
        wait_until(lambda: is_served(host))
        crash(host, "segv")
        host.wait_log("started again in", count=count)
    waits = [int(ms) for ms in re.findall(r"started again in (\d+) ms", host.log)]
    assert waits[0] == 0 and waits == sorted(waits) and waits[-1] >= 100
    wait_until(lambda: is_served(host))


def is_served(host):
    try:
        return host.get("/hello").status == 200
    except (Closed, OSError):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_killed_from_outside(start, number):
    host = start(workers=2)
    before = host.workers()
    os.kill(before[0], number)
    wait_until(lambda: len(host.workers()) == 2 and before[0] not in host.workers())
    assert before[1] in host.workers()
    host.wait_log(rf"killed by signal {int(number)} .*plugin=- route=-")
    for _ in range(20):
        assert host.get("/hello").status == 200


def test_the_master_killed(start):
    """Its workers end, in order, and another host can start at once."""
    host = start(workers=2)
    workers = host.workers()
    host.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    again = host.start()
    assert again.get("/hello").status == 200


def test_a_plugin_that_crashes_at_the_first_start(start_weft):
    """The host does not start, and says who it was."""
    for at in ("init", "start"):
        host = start_weft({"plugin.crash": {"path": CRASH, "at": at}}, wait=False, env=ENV)
        assert host.wait() == 1
        assert f"plugin=crash route=({at}) request=-" in host.wait_log("crashed: signal 11.*").group()
        assert f"plugin=crash route=({at}) request=-" in host.wait_log("was killed by signal 11.*").group()
        host.process = None


@pytest.mark.parametrize("at", ["job", "post"])
def test_a_job_of_a_plugin_that_crashes(start, at, tmp_path):
    """What start() goes on with when it has waited, and what was posted, are the background's."""
    flag = tmp_path / "flag"
    host = start(at=at, flag=flag)
    flag.touch()
    host.wait_log(r"crashed: signal 11.*plugin=crash route=\(background\) request=-")    # the next ones may die at start
    flag.unlink()
    wait_until(lambda: is_served(host), 20)


def test_a_plugin_that_crashes_at_every_later_start(start, tmp_path):
    """The worker is tried again and again, later and later, and the host stays manageable."""
    flag = tmp_path / "flag"
    host = start(at="init", flag=flag)
    flag.touch()
    crash(host, "segv")
    host.wait_log(r"started again in 500 ms", timeout=20)
    assert len(host.workers()) <= 1
    flag.unlink()
    wait_until(lambda: is_served(host), 20)


def test_a_plugin_that_crashes_at_the_end(start):
    """fini() runs when all requests are done: it spoils the exit code, not the end."""
    host = start(at="fini")
    assert host.get("/hello").status == 200
    host.signal(signal.SIGTERM)
    assert host.wait() in (0, 1)
    host.wait_log(r"crashed: signal 11.*plugin=crash route=\(fini\) request=-")
    host.process = None


def test_nothing_is_left_behind(start):
    """After crashes and an orderly end neither processes nor files of the host are there."""
    host = start(workers=2)
    crash(host, "segv")
    crash(host, "abort")
    wait_until(lambda: len(host.workers()) == 2)
    workers = host.workers()
    host.stop()
    assert not any(is_alive(pid) for pid in workers)
    assert list(pathlib.Path(host.folder / "run").iterdir()) == []


def test_check_names_a_plugin_that_crashes(tmp_path):
    config = tmp_path / "server.ini"
    config.write_text(f"[server]\nruntime_dir = {tmp_path}/run\n[plugin.bad]\npath = {CRASH}\nat = init\n")
    done = run_weft("check", "-c", config, env=ENV)
    assert done.returncode == 1
    assert "signal 11" in done.stderr and "plugin=bad route=(init)" in done.stderr
