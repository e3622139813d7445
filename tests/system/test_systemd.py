"""Goal: under systemd, or what speaks like it, the host says how far it is, shows that it lives, takes over sockets that
were made for it and gives them back unharmed, and its lines have their levels in the journal."""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from support import place
from support.client import Client
from support.host import run_weft
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"
CRASH = place.BUILD / "tests/plugins/crash.so"
HELLO = {"plugin.hello": {"path": "hello.so"}}
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:handle_abort=0:use_sigaltstack=0"}

# What systemd does between fork and exec: the sockets become 3, 4, ..., and are meant for this process.
ACTIVATE = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=":".join("x" for _ in fds))
high = [os.dup2(fd, 100 + at) for at, fd in enumerate(fds)]
for fd in fds:
    os.close(fd)
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
    os.close(fd)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """A notify socket that keeps what it is told, with the sender's process id."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.told = []

    def _take(self, timeout):
        if not select.select([self.socket], [], [], timeout)[0]:
            return False
        data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
        pid = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        self.told.append({"pid": pid, **dict(line.split("=", 1) for line in data.decode().splitlines())})
        return True

    def wait(self, key, count=1, timeout=20):
        """Waits until so many messages had this key, and returns the last of them."""
        end = time.monotonic() + timeout
        while len(found := [each for each in self.told if key in each]) < count:
            assert self._take(max(0, end - time.monotonic())), f"not {count} of {key}: {self.told}"
        return found[count - 1]

    def silence(self, key, after, seconds):
        """What comes in the first seconds is let pass; how many messages with this key there were then, if none comes
        in those that follow; None: one did."""
        counts = []
        for length in (after, seconds):
            end = time.monotonic() + length
            while self._take(max(0, end - time.monotonic())):
                pass
            counts.append(len([each for each in self.told if key in each]))
        return counts[0] if counts[0] == counts[1] else None

    def drain(self):
        """All that was told until now."""
        while self._take(0):
            pass
        return self.told

    def close(self):
        self.socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@weft-test-{os.getpid()}-{id(request)}")
    yield made
    made.close()


@pytest.fixture
def notified(tmp_path):
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


def test_ready_reloading_stopping(start_weft, manager):
    host = start_weft(HELLO, env={"NOTIFY_SOCKET": manager.name})
    ready = manager.wait("READY")
    assert (ready["READY"], ready["MAINPID"], ready["pid"]) == ("1", str(host.pid), host.pid)
    assert ready["STATUS"] == "serving, generation 1"
    before = time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    assert run_weft("reload", "-c", host.config).returncode == 0
    reloading = manager.wait("RELOADING")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6
    assert manager.wait("READY", 2)["STATUS"] == "serving, generation 2"
    assert host.config.write_text("[server]\nnone = 1\n")
    host.signal(signal.SIGHUP)
    manager.wait("RELOADING", 2)
    assert manager.wait("READY", 3)["STATUS"] == "serving, generation 2"    # it failed: the reload is over all the same
    host.signal(signal.SIGTERM)
    assert manager.wait("STOPPING")["STATUS"] == "draining"
    assert host.wait() == 0
    host.process = None
    keys = [next(key for key in each if key != "pid") for each in manager.drain()]
    assert keys == ["READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING"]
    assert {each["pid"] for each in manager.told} == {ready["pid"]}


def test_not_ready_before_it_serves(start_weft, notified):
    """READY comes when all workers serve, and never where they cannot."""
    host = start_weft({"server": {"workers": 2}, "plugin.hello": {"path": "none.so"}}, wait=False,
                      env={"NOTIFY_SOCKET": notified.name})
    assert host.wait() == 1
    host.process = None
    assert not [each for each in notified.drain() if "READY" in each]


def test_the_watchdog(start_weft, notified, tmp_path):
    """Signs of life come while one worker turns, and stop where none does."""
    host = start_weft({"server": {"workers": 2, "stall_warn": 0, "stall_kill": 0},
                       "plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"}, **HELLO},
                      env={"NOTIFY_SOCKET": notified.name, "WATCHDOG_USEC": "1000000", **ENV})
    assert notified.wait("WATCHDOG", 3)["WATCHDOG"] == "1"
    clients = [host.connect(timeout=60)]
    clients[0].request("GET", "/block/loop")
    host.wait_log("serving: ")
    count = len([each for each in notified.drain() if "WATCHDOG" in each])
    notified.wait("WATCHDOG", count + 4)       # 2 s later the other one still turns
    last = None
    while last is None:                        # until the other one has got one of these, too
        assert len(clients) < 20, "both workers hang, and the host says that it lives"
        clients.append(host.connect(timeout=60))
        clients[-1].request("GET", "/block/loop")
        last = notified.silence("WATCHDOG", 2, 1.5)
    (tmp_path / "flag").touch()
    notified.wait("WATCHDOG", last + 1)
    for client in clients:
        client.close()


def test_a_watchdog_for_another_process(start_weft, notified):
    host = start_weft(HELLO, env={"NOTIFY_SOCKET": notified.name, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"})
    notified.wait("READY")
    host.stop()
    assert not [each for each in notified.drain() if "WATCHDOG" in each]


@pytest.mark.parametrize("name", ["/none/of/this", "relative", "@"])
def test_a_manager_that_is_not_there(start_weft, name):
    """That is logged, and the host serves."""
    host = start_weft(HELLO, env={"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000"})
    host.wait_log(rf"NOTIFY_SOCKET: {re.escape(name)}: ")
    assert host.get("/hello").status == 200


def test_a_manager_that_does_not_listen(start_weft, notified):
    """One whose queue is full is not waited for."""
    host = start_weft(HELLO, env={"NOTIFY_SOCKET": notified.name, "WATCHDOG_USEC": "4000"})
    host.wait_log("cannot be told")
    assert host.get("/hello").status == 200
    assert run_weft("reload", "-c", host.config, timeout=60).returncode == 0


def test_an_upgrade(start_weft, notified):
    """The main process is the old master until it leaves, lest the manager ends the host with a new one that fails."""
    host = start_weft({"server": {"rollback_window": "500ms"}, **HELLO},
                      wrapper=[sys.executable, "-c", "import os, sys; os.environ['WATCHDOG_PID'] = str(os.getpid()); "
                               "os.execv(sys.argv[1], sys.argv[1:])"],
                      env={"NOTIFY_SOCKET": notified.name, "WATCHDOG_USEC": "400000"})
    notified.wait("READY")
    old = host.pid
    assert run_weft("upgrade", "-c", host.config).returncode == 0
    notified.wait("RELOADING")
    assert notified.wait("READY", 2)["pid"] == old
    told = notified.wait("READY", 3)
    new = told["pid"]
    assert new != old and told["MAINPID"] == str(new) and told["STATUS"] == "serving, generation 2"
    changes = [(each["pid"], int(each["MAINPID"])) for each in notified.told if "MAINPID" in each]
    assert changes == [(old, old), (old, old), (old, new), (new, new)]
    assert host.wait(20) == 0
    host.process = None
    before = len([each for each in notified.drain() if "WATCHDOG" in each])
    assert notified.wait("WATCHDOG", before + 2)["pid"] == new
    assert not [each for each in notified.told if "STOPPING" in each]
    os.kill(new, signal.SIGTERM)
    assert notified.wait("STOPPING")["pid"] == new
    wait_until(lambda: host.log.count("msg=stopped") == 2)


# ---- activation ----

def listening(address, family=socket.AF_INET):
    made = socket.socket(family)
    if family == socket.AF_INET:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    made.listen(64)
    return made


def activated(start_weft, sockets, sections, **more):
    return start_weft(sections, files=[each.fileno() for each in sockets],
                      wrapper=[sys.executable, "-c", ACTIVATE, ",".join(str(each.fileno()) for each in sockets)], **more)


def test_who_comes_between_two_hosts_is_served(start_weft, free_port):
    """The queue is the manager's: nobody is refused or reset while no host runs, or as one ends."""
    made = listening(("127.0.0.1", free_port()))
    port = made.getsockname()[1]
    early = Client(("127.0.0.1", port))
    early.request("GET", "/hello")
    host = activated(start_weft, [made], {"server": {"workers": 3}, **HELLO}, port=port)
    assert early.read_answer().status == 200
    for _ in range(20):
        assert host.get("/hello").status == 200
    assert run_weft("reload", "-c", host.config).returncode == 0
    assert host.get("/hello").status == 200
    host.stop()
    between = [Client(("127.0.0.1", port)) for _ in range(10)]
    for client in between:
        client.request("GET", "/hello")
    host.start()
    for client in between:
        assert client.read_answer().status == 200
        client.close()
    early.close()
    host.stop()
    made.close()


def test_all_kinds_of_sockets(start_weft, tmp_path, free_port):
    """TCP, a Unix socket and the admin's, matched by address in any order; what is left over is named and closed."""
    path = str(tmp_path / "public.sock")
    tcp, admin, extra = (listening(("127.0.0.1", free_port())) for _ in range(3))
    local = listening(path, socket.AF_UNIX)
    port = tcp.getsockname()[1]
    host = activated(start_weft, [extra, admin, local, tcp],
                     {"server": {"listen": f"127.0.0.1:{port} unix:{path}",
                                 "admin": "127.0.0.1:%d" % admin.getsockname()[1]}, **HELLO}, port=port)
    host.wait_log(rf"socket at 127\.0\.0\.1:{extra.getsockname()[1]}, which neither listen nor admin names: closed")
    assert host.get("/hello").status == 200
    with Client(path) as client:
        assert client.ask("GET", "/hello").status == 200
    with Client(admin.getsockname()) as client:
        assert client.ask("GET", "/readyz").status == 200
    host.stop()
    assert os.path.exists(path)     # it is the manager's
    for each in (tcp, admin, extra, local):
        each.close()


def test_what_is_no_listening_socket_is_refused(start_weft, free_port):
    made = socket.socket()
    made.bind(("127.0.0.1", free_port()))
    host = activated(start_weft, [made], HELLO, wait=False)
    assert host.wait() == 1
    assert "$LISTEN_FDS: descriptor 3 is no listening stream socket" in host.log
    host.process = None
    made.close()


def test_sockets_for_another_process(start_weft):
    host = start_weft(HELLO, env={"LISTEN_PID": "1", "LISTEN_FDS": "7"})
    assert host.get("/hello").status == 200
    assert "LISTEN_FDS" not in host.log


# ---- the journal, and the unit ----

def test_lines_have_their_levels_in_the_journal(start_weft, tmp_path):
    folder = tmp_path / "host1"
    folder.mkdir()
    log = folder / "weft.log"
    log.touch()
    stream = f"{log.stat().st_dev}:{log.stat().st_ino}"
    host = start_weft({"server": {"log_level": "trace", "access_log": "off"}, "plugin.lab": {"path": LAB},
                       "plugin.crash": {"path": CRASH, "flag": tmp_path / "flag"}, **HELLO},
                      env={"JOURNAL_STREAM": stream, **ENV})
    host.get("/hello")
    os.kill(host.workers()[0], signal.SIGSEGV)
    host.wait_log("is back as process")
    lines = [line for line in host.log.splitlines() if "level=" in line]
    levels = {"error": 3, "warn": 4, "info": 6, "debug": 7, "trace": 7}
    for line in lines:
        assert line.startswith(f"<{levels[re.search('level=([a-z]+)', line).group(1)]}>time="), line
    assert {line[:3] for line in lines} >= {"<3>", "<6>", "<7>"}


@pytest.mark.parametrize("stream", ["1:2", "nonsense", ""])
def test_another_stream_is_no_journal(start_weft, stream):
    host = start_weft(HELLO, env={"JOURNAL_STREAM": stream})
    assert host.get("/hello").status == 200
    host.wait_log("^time=")
    assert not re.search("^<[0-9]>", host.log, re.MULTILINE)


def test_the_units_are_right(tmp_path):
    """systemd finds nothing to say about them, once the program is where they say it is."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    names = []
    for name in ("weft.service", "weft.socket"):
        text = (place.ROOT / "config" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/weft", str(place.BUILD / "weft")))
        names.append(tmp_path / name)
    done = subprocess.run(["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=50)
    complaints = [line for line in done.stderr.splitlines() if "weft." in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_service_waits_longer_than_a_drain():
    """TimeoutStopSec is more than the default of drain_timeout, and no cgroup-wide SIGTERM reaches the workers."""
    unit = (place.ROOT / "config/weft.service").read_text()
    drain = re.search(r"^#drain_timeout = (\d+)s", run_weft("defaults").stdout, re.MULTILINE).group(1)
    assert int(re.search(r"^TimeoutStopSec=(\d+)s", unit, re.MULTILINE).group(1)) > int(drain)
    assert "\nKillMode=mixed\n" in unit and "\nType=notify\n" in unit


def test_sockets_go_on_to_a_new_master(start_weft, tmp_path):
    """They stay the manager's: an upgraded host that ends leaves the file, and whoever comes then waits."""
    path = str(tmp_path / "s")
    made = listening(path, socket.AF_UNIX)
    host = activated(start_weft, [made], {"server": {"listen": f"unix:{path}", "workers": 2, "rollback_window": "100ms"},
                                          **HELLO}, wait=False)
    host.wait_log("serving: ")
    assert run_weft("upgrade", "-c", host.config).returncode == 0
    assert host.wait(20) == 0
    host.process = None
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    assert run_weft("stop", "-c", host.config).returncode == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
    made.close()
