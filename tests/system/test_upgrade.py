"""Goal: another master, of the program as it is installed at that moment, takes over without losing a request; or it
fails, and nothing has changed."""
import ctypes
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
from support.client import Client
from support.files import open_files
from support.host import run_weft
from support.load import Load
from support.wait import wait_until

ROUNDS = 300 if os.environ.get("WEFT_SOAK") == "1" else 12
LAB = place.BUILD / "tests/plugins/lab.so"
PR_SET_CHILD_SUBREAPER = 36


class Process:
    """A master that this test did not start itself. It is ours once its parent has gone; where it ended before that,
    its parent was told, and its last line says whether all was well."""

    def __init__(self, host, pid):
        self.host = host
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:        # its parent is still there
                if not os.path.exists(f"/proc/{self.pid}"):
                    is_good = re.search(rf"pid={self.pid} process=master msg=stopped$", self.host.log, re.MULTILINE)
                    self.returncode = 0 if is_good else 1
                return self.returncode
            if pid != 0:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (timeout or 60)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("weft", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module", autouse=True)
def subreaper():
    """Whose parent has gone becomes our child."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def start(start_weft, tmp_path):
    """start_weft, of a copy of the program that may be replaced, and all workers are there."""
    folder = tmp_path / "installed"
    folder.mkdir()
    shutil.copy(place.BUILD / "weft", folder / "weft")
    (folder / "plugins").symlink_to(place.BUILD / "plugins")

    def begin(*given, **named):
        host = start_weft(*given, build=folder, **named)
        host.wait_log("serving: ")
        return host
    return begin


def sections(text="one", server=None, **more):
    return {"server": {"workers": 2, **(server or {})}, "plugin.lab": {"path": LAB, "text": text}, **more}


def install(host, program):
    """As `make install` does: another file under the same name."""
    new = pathlib.Path(host.build) / "weft.new"
    if isinstance(program, str):
        new.write_text(program)
    else:
        shutil.copy(program, new)
    new.chmod(0o755)
    os.rename(new, pathlib.Path(host.build) / "weft")


def tell(host, *arguments, timeout=60):
    return run_weft(*arguments, "-c", host.config, timeout=timeout)


def master_of(host):
    """By the pid file: there is one, in the folder that stays the same."""
    found, = host.folder.glob("run/*/weft.pid")
    return int(found.read_text())


def follow(host):
    """From here on the host is the master that has taken over; returns the process before."""
    before, host.process = host.process, Process(host, master_of(host))
    host.is_told = False
    return before


def upgrade(host):
    """It must succeed, and the process before ends by itself with 0."""
    done = tell(host, "upgrade")
    assert done.returncode == 0, done.stderr + host.log
    before = follow(host)
    assert before.pid != host.pid
    return done, before


def text_of(host):
    return host.get("/lab/text").body


# what it does

def test_another_process_of_the_same_host(start):
    """With the settings of now; folder, control socket and pid file go over to it, the number of generations on."""
    host = start(sections(server={"rollback_window": "300ms"}))
    folder, = host.folder.glob("run/*")
    host.configure(sections("two", {"rollback_window": "300ms"}))
    done, before = upgrade(host)
    assert re.fullmatch(r"upgraded: weft \S+ in process %d, generation 2, 2 workers\n" % host.pid, done.stdout)
    assert text_of(host) == b"two"
    status = tell(host, "status").stdout
    assert f"process {host.pid}, serving, generation 2" in status and "ago: upgraded: weft " in status, status
    assert before.wait(20) == 0
    assert text_of(host) == b"two"
    assert list(host.folder.glob("run/*")) == [folder]
    assert sorted(path.name for path in folder.glob("[0-9]*")) == ["2"]
    assert (folder / "control.sock").is_socket()
    host.configure(sections("three"))
    assert tell(host, "reload").stdout == "generation 3 serves, with 2 workers\n"
    assert text_of(host) == b"three"
    assert tell(host, "stop").returncode == 0
    assert host.wait() == 0
    assert list((host.folder / "run").iterdir()) == []


def test_sigusr2(start):
    host = start(sections())
    host.configure(sections("two"))
    host.signal(signal.SIGUSR2)
    host.wait_log("upgraded: weft .* in process")
    follow(host)
    assert text_of(host) == b"two"


def test_the_program_that_was_installed_meanwhile(start):
    """By its path: the file that runs is not there any more."""
    host = start(sections())
    install(host, place.BUILD / "weft")
    assert os.readlink(f"/proc/{host.pid}/exe").endswith("(deleted)")
    upgrade(host)
    assert os.readlink(f"/proc/{host.pid}/exe") == str(pathlib.Path(host.build) / "weft")
    assert text_of(host) == b"one"


@pytest.mark.parametrize("how", ["path", "relative", "link"])
def test_it_is_found_as_it_was_called(start_weft, tmp_path, how):
    """By a name in PATH, by a relative path, by a link that leads elsewhere now."""
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        shutil.copy(place.BUILD / "weft", tmp_path / version / "weft")
    link = tmp_path / "bin"
    link.symlink_to("old")
    shell = {"path": f"export PATH={link}:$PATH; exec weft", "relative": f"cd {tmp_path} && exec bin/weft",
             "link": f"exec {link}/weft"}[how]
    host = start_weft(sections(), wrapper=["/bin/sh", "-c", "shift; " + shell + ' "$@"', "sh"])
    host.wait_log("serving: ")
    link.unlink()
    link.symlink_to("new")
    upgrade(host)
    assert os.readlink(f"/proc/{host.pid}/exe") == str(tmp_path / "new" / "weft")


def kinds(pid):
    """Of a process's open files, what they are, without numbers."""
    # a worker that stands in for a neighbour has a spare one more
    return sorted(re.sub(r"\d+", "N", each) for each in open_files(pid) if each != "/dev/null")


def test_no_descriptor_goes_astray(start, free_port):
    """Masters and workers have what those before them had, and no more."""
    host = start(sections(server={"admin": f"127.0.0.1:{free_port()}", "rollback_window": "0"}))
    master, worker = kinds(host.pid), kinds(host.workers()[0])
    for _ in range(3):
        _, before = upgrade(host)
        before.wait(20)
        wait_until(lambda: kinds(host.pid) == master, what=(kinds(host.pid), master))
        assert kinds(host.workers()[0]) == worker


def test_requests_under_way_are_finished(start):
    host = start(sections(server={"rollback_window": "100ms"}))
    with host.connect() as client, host.connect() as kept:
        assert kept.ask("GET", "/lab/text").body == b"one"
        client.request("GET", "/lab/sleep/1500")
        assert host.get("/lab/text").status == 200
        host.configure(sections("two"))
        _, before = upgrade(host)
        answer = kept.ask("GET", "/lab/text")
        assert (answer.body, answer.header("connection")) == (b"one", "close")
        assert text_of(host) == b"two"
        assert before.poll() is None
        assert client.read_answer().status == 200
    assert before.wait(20) == 0


def test_addresses_change_with_it(start, free_port, tmp_path):
    """New ones are bound; removed ones are served by the old workers until they end; one that stays, a Unix socket
    too, is the same socket all along."""
    server = {"rollback_window": "500ms"}
    other, third = free_port(), free_port()
    host = start(sections(server=server))
    host.configure(sections("two", {"listen": f"127.0.0.1:{host.port} 127.0.0.1:{other} unix:{tmp_path}/s", **server}))
    assert tell(host, "reload").returncode == 0
    host.wait_log("generation 1 has ended")
    inode = (tmp_path / "s").stat().st_ino
    host.configure(sections("three", {"listen": f"127.0.0.1:{other} 127.0.0.1:{third} unix:{tmp_path}/s", **server}))
    _, before = upgrade(host)
    assert text_of(host) == b"two"        # nobody else has that address
    assert before.wait(20) == 0
    assert (tmp_path / "s").stat().st_ino == inode
    with pytest.raises(ConnectionError):
        socket.create_connection(host.address, timeout=5).close()
    for port in (other, third):
        host.address = ("127.0.0.1", port)
        assert text_of(host) == b"three"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(f"{tmp_path}/s")
        client.sendall(b"GET /lab/text HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"three" in b"".join(iter(lambda: client.recv(4096), b""))


def test_the_admin_listener_goes_over(start, free_port):
    """It is refused at no moment, and after a way back it is the old master's again."""
    port = free_port()
    host = start(sections(server={"admin": f"127.0.0.1:{port}"}))

    def who():
        with Client(("127.0.0.1", port), 10) as client:
            answer = client.ask("GET", "/status")
            assert answer.status == 200
            return answer.json()["pid"]

    assert who() == host.pid
    with Load(("127.0.0.1", port), "/readyz", keeping=2, fresh=2) as load:
        assert tell(host, "upgrade").returncode == 0
        new = master_of(host)
        assert who() == new
        load.wait(50)
    assert not load.failures, load.failures[:5]
    os.kill(new, signal.SIGKILL)
    host.wait_log("rollback: ")
    assert who() == host.pid
    with Load(("127.0.0.1", port), "/readyz", keeping=2, fresh=2) as load:
        _, before = upgrade(host)
        load.wait(50)
        before.send_signal(signal.SIGTERM)
        assert before.wait(20) == 0
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert who() == host.pid


def test_the_number_of_workers(start):
    host = start(sections(server={"workers": 1}))
    for count in (3, 2):
        host.configure(sections("text", {"workers": count, "rollback_window": "0"}))
        _, before = upgrade(host)
        for _ in range(40):
            assert text_of(host) == b"text"
        assert before.wait(20) == 0
        assert len(host.workers()) == count


def test_one_after_the_other(start):
    """The second one does not wait for the first one's window: three masters never live."""
    host = start(sections())
    for turn in range(4):
        host.configure(sections(str(turn)))
        _, before = upgrade(host)
        assert text_of(host) == str(turn).encode()
    assert before.poll() is None
    host.configure(sections("reloaded"))
    assert tell(host, "reload").returncode == 0       # neither does a reload
    assert before.wait(20) == 0
    assert text_of(host) == b"reloaded"


def test_a_stop_within_the_window_stops_both(start):
    host = start(sections())
    _, before = upgrade(host)
    assert tell(host, "stop").returncode == 0
    assert host.wait(20) == 0 and before.wait(20) == 0
    with pytest.raises(ConnectionError):
        socket.create_connection(host.address, timeout=5).close()


def test_a_stop_after_a_delay_is_not_taken_back(start):
    """Within the window, too, and though a worker dies meanwhile."""
    host = start(sections(server={"pre_stop_delay": "1s", "rollback_window": "60s"}))
    assert tell(host, "upgrade").returncode == 0
    before = follow(host)
    host.signal(signal.SIGTERM)
    host.wait_log("the drain begins in 1000 ms")
    worker = int(pathlib.Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    assert before.wait(20) == 0 and host.wait(20) == 0
    assert "rollback: " not in host.log


def test_what_the_old_master_is_asked_then_the_new_one_does(start):
    """Who knows the old process id only, or asked while the new one was on its way, is not forgotten."""
    host = start(sections())
    _, before = upgrade(host)
    host.configure(sections("two"))
    before.send_signal(signal.SIGHUP)
    host.wait_log("reloaded: generation 3 serves")
    assert text_of(host) == b"two"
    host.configure(sections("three"))
    host.signal(signal.SIGUSR2)
    host.signal(signal.SIGHUP)               # the upgrade reads everything anew: one of both is enough
    host.wait_log("upgraded: ", count=2)
    follow(host)
    assert text_of(host) == b"three"


def test_the_old_master_may_be_told_to_end_at_once(start):
    host = start(sections())
    _, before = upgrade(host)
    before.send_signal(signal.SIGTERM)
    assert before.wait(20) == 0
    assert text_of(host) == b"one"


# what changes nothing

LATER = """#!/bin/sh
case $WEFT_HERITAGE in "") ;; *) %s ;; esac
exec %s/weft "$@"
"""


@pytest.mark.parametrize("program, why", [
    (None, "No such file or directory"), ("no program at all", "Exec format error"),
    ("#!/bin/sh\nexit 3\n", "exited with code 3"), ("#!/bin/sh\nkill -SEGV $$\n", "killed by signal 11"),
    (LATER % ("WEFT_HERITAGE='weft 2'; export WEFT_HERITAGE", place.BUILD), "exited with code 1"),
    ("#!/bin/sh\nexec sleep 100\n", "has not said in time that it is ready"),
])
def test_a_program_that_does_not_come_up(start, program, why):
    host = start(sections(server={"start_timeout": "300ms" if program and "sleep" in program else "60s"}))
    workers = host.workers()
    if program is None:
        os.unlink(pathlib.Path(host.build) / "weft")
    else:
        install(host, program)
    done = tell(host, "upgrade")
    assert done.returncode == 1 and why in done.stderr, done
    assert "upgrade failed, generation 1 goes on: " in done.stderr
    assert text_of(host) == b"one" and master_of(host) == host.pid
    wait_until(lambda: sorted(host.workers()) == sorted(workers))
    assert sorted(path.name for path in host.folder.glob("run/*/[0-9]*")) == ["1"]
    install(host, place.BUILD / "weft")
    upgrade(host)
    assert text_of(host) == b"one"


# A program that says what a new master says up to a point, and accepts nobody.
PRETENDER = """#!/usr/bin/python3
import os, re, socket, sys
channel = socket.socket(fileno=int(re.search(r"channel (\\d+)", os.environ["WEFT_HERITAGE"])[1]))
channel.setblocking(True)
for wanted, answer in ((b"", b"R0"), (b"G", b"S"), (b"C", b"O")):
    if wanted and channel.recv(1) != wanted:
        sys.exit(9)
    if wanted == b"%s":
        how = "%s"
        if how == "fails":
            channel.send(b"Fno good")
        if how == "is silent":
            channel.recv(1)
        sys.exit(7)
    channel.send(answer)
"""


@pytest.mark.parametrize("how, why", [("fails", "no good"), ("dies", "exited with code 7"),
                                      ("is silent", "has not said in time that it ")])
@pytest.mark.parametrize("where", ["G", "C"])
def test_one_that_fails_half_way(start, free_port, where, how, why):
    """Told to serve, or to take the control socket: our workers have held for a moment, and nobody has noticed."""
    port = free_port()
    host = start(sections(server={"admin": f"127.0.0.1:{port}"}))
    workers = host.workers()
    with Load(host.address, "/lab/text", keeping=2, fresh=2) as load:
        install(host, PRETENDER % (where, how))
        done = tell(host, "upgrade")
        assert done.returncode == 1 and why in done.stderr, done
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert sorted(host.workers()) == sorted(workers) and master_of(host) == host.pid
    with Client(("127.0.0.1", port), 10) as client:
        assert client.ask("GET", "/readyz").status == 200
    install(host, place.BUILD / "weft")
    upgrade(host)
    assert text_of(host) == b"one"


@pytest.mark.parametrize("what, why", [
    ("settings", "surprise"), ("plugin", "broken.so"), ("init", "killed by signal"), ("start", "bad"),
    ("port", "in use")])
def test_settings_and_plugins_that_are_no_good(start, tmp_path, what, why):
    host = start(sections())
    workers = host.workers()
    taken = socket.create_server(("127.0.0.1", 0))
    if what == "settings":
        host.configure(sections("two", {"surprise": 1}))
    elif what == "port":
        host.configure(sections("two", {"listen": f"127.0.0.1:{host.port} 127.0.0.1:{taken.getsockname()[1]}"}))
    else:
        body = {"plugin": None,
                "init": "static weft_status init(weft_host *h, void **s) { (void)h; (void)s; __builtin_trap(); }\n"
                        'WEFT_PLUGIN("bad", "1.0", init, NULL, NULL);',
                "start": "static weft_status init(weft_host *h, void **s) { (void)h; (void)s; return WEFT_OK; }\n"
                         "static weft_status begin(weft_ctx *c, void *s) { (void)c; (void)s; return WEFT_E_INVALID; }\n"
                         'WEFT_PLUGIN("bad", "1.0", init, begin, NULL);'}[what]
        if body is None:
            (tmp_path / "broken.so").write_bytes(b"\x7fELF and nothing more")
        else:
            plugin.build(tmp_path, "broken", "#include <weft.h>\n" + body)
        host.configure(sections("two", **{"plugin.bad": {"path": tmp_path / "broken.so"}}))
    with taken:
        done = tell(host, "upgrade")
    assert done.returncode == 1 and why in done.stderr, done
    assert text_of(host) == b"one" and master_of(host) == host.pid
    wait_until(lambda: sorted(host.workers()) == sorted(workers))
    assert tell(host, "status").returncode == 0


def test_the_folder_cannot_change(start):
    """Commands would look for the host where it is not."""
    host = start(sections())
    keep = host.config.read_text()
    host.configure(sections("two", {"runtime_dir": host.folder / "elsewhere"}))
    host.signal(signal.SIGUSR2)
    host.wait_log("upgrade failed, generation 1 goes on: runtime_dir has changed")
    host.config.write_text(keep)
    assert text_of(host) == b"one" and master_of(host) == host.pid
    upgrade(host)


def test_warnings_reach_who_has_asked(start):
    more = {"pg.main": {"host": "/nonexistent"}, "pg.other": {"host": "/nonexistent"}}
    host = start(sections(**more))
    done, _ = upgrade(host)
    assert "weft: pg.main: cannot be tried: " in done.stderr and "weft: pg.other: cannot be tried: " in done.stderr, done


def test_process_1_of_a_container(start):
    """It cannot leave: everybody would end with it."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespace of processes can be made here")
    host = start(sections(), wrapper=["unshare", "--pid", "--fork", "--kill-child"])
    done = tell(host, "upgrade")
    assert done.returncode == 1 and "this is process 1" in done.stderr, done
    assert text_of(host) == b"one"
    assert tell(host, "stop").returncode == 0


def test_stopped_while_it_upgrades(start):
    host = start(sections())
    install(host, "#!/bin/sh\nexec sleep 100\n")
    asked = subprocess.Popen([place.BUILD / "weft", "upgrade", "-c", host.config], stderr=subprocess.PIPE, text=True)
    host.wait_log("upgrade: to ")
    assert tell(host, "stop").returncode == 0
    assert "stopping" in asked.communicate(timeout=20)[1] and asked.returncode == 1
    assert host.wait(20) == 0


@pytest.mark.parametrize("is_begun", [True, False])
def test_told_to_stop_after_a_delay_while_it_upgrades(start, is_begun):
    """The upgrade is given up at once: the host serves until the delay is over, and then it is not there any more."""
    host = start(sections(server={"pre_stop_delay": "1s"}))
    if is_begun:
        install(host, "#!/bin/sh\nexec sleep 100\n")
        host.signal(signal.SIGUSR2)
        host.wait_log("upgrade: to ")
        host.signal(signal.SIGTERM)
        host.wait_log("upgrade failed, generation 1 goes on: the host is stopping")
    else:
        host.signal(signal.SIGSTOP)          # so that it reads both at once
        host.signal(signal.SIGUSR2)
        host.signal(signal.SIGTERM)
        host.signal(signal.SIGCONT)
    host.wait_log("the drain begins in 1000 ms")
    assert text_of(host) == b"one"
    assert host.wait(20) == 0
    assert is_begun or "upgrade: to " not in host.log
    with pytest.raises(ConnectionError):
        socket.create_connection(host.address, timeout=5).close()


# what is taken back

def test_a_worker_that_dies_within_the_window(start):
    host = start(sections())
    before = host.workers()
    host.configure(sections("two"))
    assert tell(host, "upgrade").returncode == 0
    assert text_of(host) == b"two"
    new = master_of(host)
    with Load(host.address, "/lab/text", keeping=2, fresh=2) as load:
        worker = int(pathlib.Path(f"/proc/{new}/task/{new}/children").read_text().split()[0])
        os.kill(worker, signal.SIGKILL)
        host.wait_log("rollback: the upgrade was taken back, generation 1 serves again: .*killed by signal 9")
        load.failures.clear()                # what that worker had
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert text_of(host) == b"one"
    wait_until(lambda: master_of(host) == host.pid)
    wait_until(lambda: sorted(host.workers()) == sorted(before))
    upgrade(host)
    assert text_of(host) == b"two"


def test_a_master_that_dies_within_the_window(start):
    """Its workers end by themselves; the old ones serve again."""
    host = start(sections())
    host.configure(sections("two"))
    assert tell(host, "upgrade").returncode == 0
    with Load(host.address, "/lab/text", keeping=2, fresh=2) as load:
        os.kill(master_of(host), signal.SIGKILL)
        host.wait_log("rollback: .*was killed by signal 9")
        load.wait(200)
    assert not load.failures, load.failures[:5]
    assert text_of(host) == b"one"
    assert tell(host, "status").returncode == 0
    assert master_of(host) == host.pid
    upgrade(host)
    assert text_of(host) == b"two"


@pytest.mark.parametrize("when", ["ready: generation 2", "upgraded: "])
def test_the_old_master_dies(start, when):
    """The new one goes on, and takes commands."""
    host = start(sections())
    host.signal(signal.SIGUSR2)
    host.wait_log(when)
    old = host.pid
    os.kill(old, signal.SIGKILL)
    host.process.wait()
    wait_until(lambda: master_of(host) != old)
    host.process = Process(host, master_of(host))
    wait_until(lambda: tell(host, "status").returncode == 0)
    for _ in range(20):
        assert text_of(host) == b"one"


def test_the_old_master_dies_before_there_is_another(start):
    """What was started by then sees that it is alone, and serves."""
    host = start(sections())
    begun = host.folder / "begun"
    install(host, f"#!/bin/sh\ntouch {begun}\nsleep 1\nexec {place.BUILD}/weft \"$@\"\n")
    host.signal(signal.SIGUSR2)
    wait_until(begun.exists)
    old = host.pid
    os.kill(old, signal.SIGKILL)
    host.process.wait()
    wait_until(lambda: master_of(host) != old)
    host.process = Process(host, master_of(host))
    assert text_of(host) == b"one"


# all of it under load

def files_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.limit(3000 if ROUNDS > 12 else 240)
def test_upgrades_under_load(start):
    """Up, and back out of it, by turns: not one request fails, and nothing is left open."""
    server = {"access_log": "off", "drain_idle": "300ms", "rollback_window": "60s"}
    host = start(sections("0", server), env={
        "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    good, files, before = "0", [], None
    with Load(host.address, "/lab/text", slow="/lab/sleep/150") as load:
        for turn in range(1, ROUNDS + 1):
            host.configure(sections(str(turn), server))
            if turn % 3 == 0:
                install(host, "#!/bin/sh\nexit 3\n")
                assert tell(host, "upgrade").returncode == 1
                install(host, place.BUILD / "weft")
            elif turn % 3 == 1:
                _, before = upgrade(host)
                good = str(turn)
            else:                            # comes up, and dies at once
                done = tell(host, "upgrade")
                assert done.returncode == 0, done
                before.wait(30)              # three masters never live
                os.kill(master_of(host), signal.SIGKILL)
                host.wait_log("rollback: ", count=(turn + 1) // 3, timeout=30)
            for _ in range(3):
                assert text_of(host).decode() == good, turn
            assert not load.failures, (turn, load.failures[:5], host.log[-5000:])
            files.append(files_of(host.pid))
        load.wait(50)
    assert not load.failures, load.failures[:5]
    assert max(files) <= files[0] + 12, files
    print(f"{ROUNDS} upgrades, {load.count} requests, files {files}")
