"""Goal: plugins run with no more rights than the settings say: as another user, without new privileges, behind a filter of
system calls that names what it refuses; secrets are seen nowhere; a worker that grows is replaced while all is served."""
import json
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from support import logs, place
from support.client import Client
from support.host import run_weft
from support.wait import wait_until

OUTLAW = place.BUILD / "tests/plugins/outlaw.so"
CRASH = place.BUILD / "tests/plugins/crash.so"
LAB = place.BUILD / "tests/plugins/lab.so"
ASAN = os.environ.get("ASAN_OPTIONS", "")
# What looks for leaks at the end is another process, which the filter does not let come about.
FILTERED = {"ASAN_OPTIONS": ASAN + ":detect_leaks=0"}
HELLO = {"plugin.hello": {"path": "hello.so"}}
NOBODY = pwd.getpwnam("nobody")
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def start(start_weft, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    secret.chmod(0o600)

    def begin(server=None, env=None, **sections):
        host = start_weft({"server": server or {}, "plugin.outlaw": {"path": OUTLAW, "secret": secret},
                           **HELLO, **sections}, env=env)
        if "error_log" not in (server or {}):
            host.wait_log("serving: ")
        return host
    return begin


@pytest.fixture
def open_folder():
    """A folder that everybody may enter."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="weft-rights-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def outlaw(host, how):
    answer = host.get(f"/outlaw/{how}")
    assert answer.status == 200
    return answer.body.decode()


def check(folder, server, wrapper=()):
    config = folder / "check.ini"
    config.write_text("[server]\n" + "".join(f"{key} = {value}\n" for key, value in server.items()))
    config.chmod(0o644)
    return subprocess.run([*wrapper, place.BUILD / "weft", "check", "-c", config], capture_output=True, text=True,
                          timeout=30, stdin=subprocess.DEVNULL)


# ---- the user ----

@is_root
def test_workers_become_the_user(start):
    host = start({"user": "nobody", "workers": 2, "rollback_window": 0})
    ids = f"{NOBODY.pw_uid} {NOBODY.pw_uid} {NOBODY.pw_gid} {NOBODY.pw_gid}"
    assert outlaw(host, "who").startswith(ids + " ")
    assert "nnp=1" in outlaw(host, "who")
    assert outlaw(host, "back") == "Operation not permitted"
    assert outlaw(host, "open") == "Permission denied"
    assert os.stat(f"/proc/{host.pid}").st_uid == 0
    assert all(os.stat(f"/proc/{pid}").st_uid == NOBODY.pw_uid for pid in host.workers())    # dumpable, too
    assert "plugins run as root" not in host.log
    assert run_weft("reload", "-c", host.config).returncode == 0
    assert outlaw(host, "who").startswith(ids + " ")
    host.wait_log("generation 1 has ended")
    os.kill(host.workers()[0], signal.SIGKILL)
    host.wait_log("is back as process")
    assert outlaw(host, "who").startswith(ids + " ")


@is_root
@pytest.mark.parametrize("server, wanted", [
    ({"user": NOBODY.pw_uid}, f"{NOBODY.pw_uid} {NOBODY.pw_uid} {NOBODY.pw_gid} {NOBODY.pw_gid} groups=1"),
    ({"user": "nobody", "group": "daemon"}, rf"{NOBODY.pw_uid} {NOBODY.pw_uid} 1 1 groups="),
    ({"group": "daemon"}, "0 0 1 1 groups=1")])
def test_ids_and_groups(start, server, wanted):
    assert outlaw(start(server), "who").startswith(wanted)


@is_root
def test_as_root_one_warning(start):
    host = start({"workers": 2})
    host.wait_log("plugins run as root")
    assert len(re.findall("level=warn .*plugins run as root", host.log)) == 1
    host.stop()
    named = start({"user": "root"})
    assert "plugins run as root" not in named.log
    assert outlaw(named, "who").startswith("0 0 0 0 ")


@pytest.mark.parametrize("server, wanted", [
    ({"user": "no-such-user"}, 'check.ini:2: user: "no-such-user", expected a user of this machine'),
    ({"group": "no-such-group"}, 'check.ini:2: group: "no-such-group", expected a group of this machine'),
    ({"user": "4294967295"}, 'check.ini:2: user: "4294967295", expected a user of this machine'),
    ({"syscall_filter": "on", "syscalls_allowed": "fork none_such"},
     'check.ini:3: syscalls_allowed: "none_such", expected the name of a system call')])
def test_what_is_not_there_is_refused(tmp_path, server, wanted):
    done = check(tmp_path, server)
    assert done.returncode == 1 and wanted in done.stderr


@is_root
def test_who_is_not_root_stays_who_they_are(open_folder):
    wrapper = [sys.executable, "-c", "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); "
               "os.execv(sys.argv[1], sys.argv[1:])"]
    done = check(open_folder, {"user": "daemon"}, wrapper)
    assert done.returncode == 1
    assert "user: workers can become another user or group only where the host is started as root" in done.stderr
    assert check(open_folder, {"user": "nobody"}, wrapper).returncode == 0
    assert check(open_folder, {}, wrapper).returncode == 0


@is_root
def test_a_database_s_files_are_for_the_user(start_weft, open_folder):
    """The master, which is root, can read all of them; the worker, which opens the sessions, says that it cannot."""
    authority = open_folder / "ca.pem"
    authority.write_text("")
    authority.chmod(0o600)
    sections = {"server": {"user": "nobody"}, "pg.main": {"host": "127.0.0.1", "sslrootcert": authority}, **HELLO}
    host = start_weft(sections, wait=False)
    assert host.wait() == 1
    assert re.search(r"server.ini:\d+: \[pg.main\]: sslrootcert: cannot read .*: Permission denied", host.log), host.log
    host.process = None
    authority.chmod(0o644)
    start_weft(sections)


@is_root
def test_a_worker_of_another_user_ends_with_its_master(start):
    """The kernel forgets the signal of the parent's death with the user."""
    host = start({"user": "nobody"}, **{"plugin.lab": {"path": LAB}})
    workers = host.workers()
    host.process.kill()
    host.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers))
    host.process = None


@is_root
def test_logs_are_the_users_and_are_opened_anew(start, open_folder):
    """Also where they did not exist, after they were moved away, and after a reload that names others."""
    error, access = open_folder / "error.log", open_folder / "access.log"
    host = start({"user": "nobody", "error_log": error, "access_log": access})
    assert host.get("/hello").status == 200
    wait_until(lambda: "path=/hello" in access.read_text())
    assert (error.stat().st_uid, access.stat().st_uid) == (NOBODY.pw_uid, NOBODY.pw_uid)
    error.rename(open_folder / "error.1")
    access.rename(open_folder / "access.1")
    host.signal(signal.SIGUSR1)
    wait_until(lambda: access.exists() and error.exists())
    wait_until(lambda: host.get("/hello").status == 200 and "path=/hello" in access.read_text())
    assert (error.stat().st_uid, access.stat().st_uid) == (NOBODY.pw_uid, NOBODY.pw_uid)
    assert "cannot be opened again" not in error.read_text()


@is_root
def test_a_crash_is_told_by_a_worker_of_another_user(start, tmp_path):
    """Its page, its stack and its core are its own."""
    asan = {"ASAN_OPTIONS": ASAN + ":handle_segv=0:handle_abort=0:use_sigaltstack=0"}
    host = start({"user": "nobody", "core_dumps": "on"}, env=asan,
                 **{"plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"}})
    limit = open(f"/proc/{host.workers()[0]}/limits").read()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    wanted = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    assert re.search(rf"^Max core file size +{wanted} ", limit, re.MULTILINE)
    assert "dumpable=1" in outlaw(host, "who")
    with pytest.raises(Exception):
        host.get("/crash/segv")
    host.wait_log(r'msg="crashed: signal 11 .*plugin=crash')
    host.wait_log("is back as process")


@pytest.mark.parametrize("server", [{}, {"user": "nobody"}] if os.geteuid() == 0 else [{}])
def test_no_cores_where_they_are_off(start, server):
    host = start({"core_dumps": "off", **server}, env=FILTERED)
    assert re.search(r"^Max core file size +0 +", open(f"/proc/{host.workers()[0]}/limits").read(), re.MULTILINE)
    assert "dumpable=0" in outlaw(host, "who")


def test_files(start):
    host = start({"files_max": 777})
    for pid in [host.pid, *host.workers()]:
        assert re.search(r"^Max open files +777 ", open(f"/proc/{pid}/limits").read(), re.MULTILINE)
    host.stop()
    host = start()
    soft, hard = re.search(r"^Max open files +(\d+) +(\d+)", open(f"/proc/{host.workers()[0]}/limits").read(),
                           re.MULTILINE).groups()
    assert soft == hard


# ---- secrets ----

def test_secrets_are_seen_nowhere(start, tmp_path, database, free_port):
    """Passwords of the file, of a file of its own and of the command line: not in titles, status, metrics or logs; also
    of the workers, and after a reload, which knows them all the same."""
    secret = tmp_path / "password"
    secret.write_text("hunter2-file")
    port = free_port()
    host = start({"log_level": "trace", "admin": f"127.0.0.1:{port}"}, **{
        "pg.main": {**database.settings, "password": "hunter2-ini"},
        "pg.other": {**database.settings, "password": "${file:%s}" % secret}})
    host.stop()
    host.arguments = ["-o", "pg.main.password=hunter2-option", "-opg.other.password=hunter2-short",
                      "--option=plugin.outlaw.secret=/hunter2", "-o", "server.workers=2"]
    host.start()
    host.wait_log("serving: ", 2)
    assert outlaw(host, "open") == "No such file or directory"     # the option's path, not the file's
    title = open(f"/proc/{host.pid}/cmdline").read().split("\0")
    assert [word for word in title if "*" in word] == [
        "pg.main.password=" + "*" * len("hunter2-option"), "-opg.other.password=" + "*" * len("hunter2-short"),
        "--option=plugin.outlaw.secret=" + "*" * len("/hunter2")]
    assert "server.workers=2" in title
    assert run_weft("reload", "-c", host.config).returncode == 0
    assert outlaw(host, "open") == "No such file or directory"
    with Client(("127.0.0.1", port)) as admin:
        told = [admin.ask("GET", path).body.decode() for path in ("/metrics", "/status?requests")]
    told += [run_weft("status", "-c", host.config, *more).stdout for more in ([], ["--json"], ["--requests"])]
    told += [open(f"/proc/{pid}/{name}").read() for pid in (host.pid, *host.workers()) for name in ("cmdline", "comm")]
    assert len(host.workers()) >= 2 and all(told)
    assert [text for text in (*told, host.log) if "hunter2" in text] == []


# ---- the filter ----

def refusals(host, **wanted):
    lines = (logs.fields(line) for line in host.log.splitlines() if "refused by syscall_filter" in line)
    return [line for line in lines if wanted.items() <= line.items()]


@pytest.mark.parametrize("how, call", [("fork", "clone"), ("parent", "kill"), ("packet", "socket"), ("keys", "keyctl"),
                                       ("unshare", "unshare"), ("offload", "clone")])
def test_a_refused_call_is_named(start, how, call):
    host = start({"syscall_filter": "on"}, env=FILTERED)
    assert outlaw(host, how) == "Operation not permitted"
    wanted = {"call": call, "plugin": "outlaw", "route": "GET /outlaw/:how", "level": "error", "times": "1"}
    wait_until(lambda: refusals(host, **wanted))
    assert host.get("/hello").status == 200
    assert outlaw(host, "threads") == "0"


def test_a_program_that_would_be_started_is_refused(start):
    host = start({"syscall_filter": "on"}, env=FILTERED)
    worker = host.workers()
    assert outlaw(host, "spawn") == "Operation not permitted"
    assert host.workers() == worker


def test_without_the_filter_they_are_not_refused(start):
    host = start()
    assert [outlaw(host, how) for how in ("fork", "spawn", "parent", "unshare")] == ["0"] * 4
    assert refusals(host) == []


def test_calls_may_be_allowed(start):
    host = start({"syscall_filter": "on", "syscalls_allowed": "unshare  kill"}, env=FILTERED)
    assert (outlaw(host, "unshare"), outlaw(host, "parent")) == ("0", "0")
    assert outlaw(host, "fork") == "Operation not permitted"


def test_a_thousand_refusals_are_ten_lines(start):
    host = start({"syscall_filter": "on"}, env=FILTERED)
    assert outlaw(host, "loop") == "Operation not permitted"
    wait_until(lambda: refusals(host, times="512"))
    assert [line["times"] for line in refusals(host)] == [str(2 ** power) for power in range(10)]


def test_all_goes_on_behind_the_filter(start, books, peer, open_folder):
    """Statements, calls, logs opened anew, a reload, a crash with its stack, and the end."""
    peer.on("GET", "/quote", lambda exchange: exchange.answer(body='{"author": "Jane", "quote": "x"}'))
    log = open_folder / "access.log"
    asan = {"ASAN_OPTIONS": ASAN + ":detect_leaks=0:handle_segv=0:handle_abort=0:use_sigaltstack=0"}
    host = start({"syscall_filter": "on", "access_log": log, "workers": 2, "rollback_window": 0}, env=asan, **{
        "pg.main": books.settings, "upstream.thirdparty": {"url": peer.url}, "plugin.books": {"path": "books.so"},
        "plugin.crash": {"path": CRASH, "flag": open_folder / "flag"}})
    assert [host.get(path).status for path in ("/books/1", "/quote", "/books")] == [200, 200, 200]
    log.rename(open_folder / "access.1")
    host.signal(signal.SIGUSR1)
    wait_until(lambda: host.get("/hello").status == 200 and log.exists() and "/hello" in log.read_text())
    assert run_weft("reload", "-c", host.config).returncode == 0
    with pytest.raises(Exception):
        host.get("/crash/abort")
    host.wait_log(r'msg="crashed: signal 6 .*plugin=crash')
    host.wait_log("is back as process")
    assert host.get("/books/1").status == 200
    assert refusals(host) == []
    host.stop()
    assert refusals(host) == []


# ---- memory ----

def memory(host):
    """Bytes that its one worker uses."""
    worker, = json.loads(run_weft("status", "-c", host.config, "--json").stdout)["workers"]
    return worker["memory"]


def start_with_room(start, room, **server):
    """A host with one worker, whose memory_max leaves it so many bytes, and lab beside the others."""
    lab = {"plugin.lab": {"path": LAB}}
    host = start(**lab)
    assert host.get("/hello").status == 200
    limit = memory(host) + room
    host.stop()
    return start({"memory_max": limit, "request_timeout": "90s", **server}, **lab)


def test_a_worker_that_has_grown_is_replaced(start):
    """Nobody notices: who is served by it is served to the end, and who comes meanwhile by it or by the next one."""
    host = start_with_room(start, 32 << 20)
    old, = host.workers()
    assert outlaw(host, "grow100") == "grown"
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/9000")
        host.wait_log(r"process %d\) uses \d+ bytes of memory, memory_max is \d+: replaced" % old, timeout=30)
        wait_until(lambda: old not in host.workers() or len(host.workers()) == 2)
        answers = [host.get("/hello").status for _ in range(200)]
        assert answers == [200] * 200
        assert client.read_answer().status == 200
    wait_until(lambda: old not in host.workers())
    new, = host.workers()
    assert f"worker 0 is process {new} now; process {old} is wound up" in host.log
    assert host.get("/hello").status == 200
    found = json.loads(run_weft("status", "-c", host.config, "--json").stdout)
    assert found["slots"][0]["deaths"] == 0
    assert [each["requests"] for each in found["routes"] if each["route"] == "GET /outlaw/:how"] == [1]
    assert "level=error" not in host.log


def test_a_worker_that_is_replaced_and_does_not_end(start):
    """Its requests are cut off when the drain's time is over, and a reload, signals and the end find it, too."""
    host = start_with_room(start, 32 << 20, drain_timeout="3s", rollback_window=0)
    old, = host.workers()
    assert outlaw(host, "grow100") == "grown"
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/60000")
        host.wait_log(": replaced", timeout=30)
        host.signal(signal.SIGUSR1)
        assert run_weft("reload", "-c", host.config).returncode == 0
        wait_until(lambda: old not in host.workers(), timeout=30)
        host.wait_log("generation 1 has ended")
    assert host.get("/hello").status == 200


def test_the_end_of_a_host_with_a_worker_that_is_replaced(start):
    host = start_with_room(start, 32 << 20, drain_timeout="20s")
    assert outlaw(host, "grow100") == "grown"
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/60000")
        host.wait_log(": replaced", timeout=30)
        host.wait_log("ready: generation 1", 2, timeout=30)
        host.stop()


def test_the_end_of_a_host_with_a_worker_that_is_replaced_and_stopped(start):
    """It is killed like any other that does not end, and the host says so."""
    host = start_with_room(start, 32 << 20, drain_timeout="1s")
    old, = host.workers()
    assert outlaw(host, "grow100") == "grown"
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/60000")
        host.wait_log(f"process {old} is wound up", timeout=30)
        os.kill(old, signal.SIGSTOP)
        host.stop(code=1)
    assert f"worker 0 (process {old}) does not end: killed" in host.log


def test_a_worker_that_is_replaced_and_killed(start):
    host = start_with_room(start, 32 << 20)
    old, = host.workers()
    assert outlaw(host, "grow100") == "grown"
    with host.connect(timeout=60) as client:
        client.request("GET", "/lab/sleep/60000")
        host.wait_log(": replaced", timeout=30)
        os.kill(old, signal.SIGKILL)
        with pytest.raises(Exception):
            client.read_answer()
    host.wait_log(r"worker 0 \(process %d\) was killed by signal 9" % old)
    wait_until(lambda: len(host.workers()) == 1 and host.get("/hello").status == 200)
