"""Section: what others notice of a fault. While PostgreSQL is killed and started again, an upstream stands still,
clients read slowly, or a plugin crashes, routes that have nothing to do with it are asked in an open loop; their p99 is
beside that of the same load without the fault, a moment earlier. nginx has the upstream's part beside it."""
import os
import signal
import socket
import statistics
import subprocess
import threading
import time

from openloop import Loader
from stage import ROOT, Row
from support.client import Client
from support.cluster import children

NAME = "faults"
RATE, CONNECTIONS = 400, 16       # of each route that is watched
SLOW_CLIENTS, BIG_BYTES = 200, 64 << 20
TIMES, SLACK_MS = 2, 1.0          # the bar: twice the quiet run's p99; a millisecond more is no news
WINDOWS, BEGIN, END = 10, 2, 6    # of a run; the fault is there from one to the other


class Fault:
    """Something that goes wrong from begin() to end(). `watched`: routes that have nothing to do with it; `hit`: one
    that has, and is asked meanwhile, or None."""
    what, watched, hit = "", (), None
    loses = 0   # connections that may be lost by it

    def begin(self):
        """Breaks it."""

    def end(self):
        """Mends it."""


class DatabaseKilled(Fault):
    """kill -9 of all its processes, and a start behind it."""
    what, watched, hit = "PostgreSQL is killed and started again", ("/json", "/api"), "/db"

    def __init__(self, stage):
        self.stage, self.cluster = stage, stage.cluster
        # The next start is on another port, unless it is told.
        self.cluster.options = (*self.cluster.options, "--port", self.cluster.env["PGPORT"])

    def begin(self):
        postmaster = int(self.cluster.env["PGPID"])
        for pid in [*children(postmaster), postmaster]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass   # one that has just ended
        while os.path.exists(f"/proc/{postmaster}"):   # as long as anything of it is there, none can start
            time.sleep(0.01)

    def end(self):
        self.cluster.start()
        if self.stage.load_cpus:
            os.sched_setaffinity(int(self.cluster.env["PGPID"]), map(int, self.stage.load_cpus.split(",")))


class UpstreamStalls(Fault):
    """SIGSTOP: the kernel goes on taking what is sent to it."""
    what, watched, hit = "an upstream stands still", ("/json", "/db"), "/api"

    def __init__(self, stage):
        self.pid = stage.upstream.pid

    def begin(self):
        os.kill(self.pid, signal.SIGSTOP)

    def end(self):
        os.kill(self.pid, signal.SIGCONT)


class SlowClients(Fault):
    """Each asks for a large file, and takes a few bytes of it now and then."""
    what, watched = f"{SLOW_CLIENTS} clients read slowly", ("/json", "/db")

    def __init__(self, port):
        self.port, self.clients = port, []
        self.done = self.reader = None

    def _read(self):
        while not self.done.wait(0.05):
            for client in self.clients:
                try:
                    client.recv(100)
                except BlockingIOError:
                    pass

    def begin(self):
        self.done, self.clients = threading.Event(), []
        for _ in range(SLOW_CLIENTS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", self.port))
            client.sendall(b"GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n")
            client.setblocking(False)
            self.clients.append(client)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def end(self):
        self.done.set()
        self.reader.join()
        for client in self.clients:
            client.close()


class PluginCrashes(Fault):
    """A handler writes where it may not: its worker dies, with what it had under way; there is another one."""
    what, watched, loses = "a plugin crashes", ("/json", "/db"), 2 * CONNECTIONS

    def __init__(self, port):
        self.port = port

    def begin(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /crash/segv HTTP/1.1\r\nHost: a\r\n\r\n")
            if client.recv(1000):
                raise RuntimeError("the plugin did not crash")


class NginxUpstreamStalls(UpstreamStalls):
    what, watched, hit = "an upstream stands still, nginx", ("/plaintext",), "/api"


def _crash_plugin(stage):
    """The system tests' own, which a release build does not have."""
    made = stage.folder / "crash.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-D_GNU_SOURCE", f"-I{ROOT / 'include'}",
                    "-o", made, ROOT / "tests" / "plugins" / "crash.c"], check=True)
    return made


def _start(stage):
    root = stage.folder / "files"
    root.mkdir(exist_ok=True)
    with open(root / "big", "wb") as big:
        big.truncate(BIG_BYTES)
    return stage.weft({"server": {"workers": 2, "crash_limit": 0},
                       "plugin.files": {"path": "static.so", "mount": "/files", "root": str(root)},
                       "plugin.crash": {"path": str(_crash_plugin(stage))}}, name="faults")


def _load(loader, port, fault, seconds, is_faulty):
    """Asks all that is watched, and what is hit; with the fault in the middle. What came of each that is watched."""
    more = {"rate": RATE, "connections": CONNECTIONS, "timeout_ms": 3000, "windows": WINDOWS}
    loads = [loader.start(port, path, seconds, seed=number, **more) for number, path in enumerate(fault.watched)]
    hit = loader.start(port, fault.hit, seconds, **more) if fault.hit else None
    try:
        if is_faulty:
            time.sleep(seconds * BEGIN / WINDOWS)
            fault.begin()
            time.sleep(seconds * (END - BEGIN) / WINDOWS)
            fault.end()
    finally:
        seen = [loader.end(load) for load in loads]
        if hit:
            loader.end(hit)
    return seen


def _times(seen):
    """The p99, in ms, of each window of all rounds in which the fault is there, or would be."""
    return [part["2xx"]["p99_us"] / 1000 for run in seen for part in run.windows[BEGIN:END] if part["2xx"]["count"] > 0]


def _rows(fault, quiet, faulty):
    """What each watched route came to, round by round. Medians: what happens once in all of it is the machine's doing;
    but the worst is told."""
    rows = []
    for index, path in enumerate(fault.watched):
        all_before, all_during = (_times([part[index] for part in seen]) for seen in (quiet, faulty))
        before, during = statistics.median(all_before), statistics.median(all_during or [float("inf")])
        lost = sum(part[index].failed for part in faulty)
        refused = sum(part[index].refused + part[index].others for part in faulty)
        asked = sum(part[index].total["requests"] for part in faulty)
        rows.append(Row(NAME, f"{fault.what}: p99 of {path}", f"{during:.2f} ms, {before:.2f} without; worst "
                        f"{max(all_during, default=0):.1f}, {max(all_before):.1f}",
                        f"<= {TIMES} x, or {SLACK_MS:.0f} ms more", during <= max(TIMES * before, before + SLACK_MS)))
        most = fault.loses * len(faulty)
        rows.append(Row(NAME, f"{fault.what}: {path} not answered", f"{lost} lost, {refused} refused of {asked}",
                        f"<= {most} lost with their worker" if most else "0", lost <= most and refused == 0))
    return rows


def _settle(port, paths):
    """Waits until all is as before: sessions are open again, a worker has started."""
    end, good = time.monotonic() + 10, 0
    while good < 20 and time.monotonic() < end:
        with Client(("127.0.0.1", port)) as client:
            good = good + 1 if all(client.ask("GET", path).status == 200 for path in paths) else 0
        time.sleep(0.02)


def _measure(loader, port, fault, rounds, seconds):
    """Quiet and faulty in turns: the machine's own moods are in both."""
    quiet, faulty = [], []
    for _ in range(rounds):
        quiet.append(_load(loader, port, fault, seconds, False))
        faulty.append(_load(loader, port, fault, seconds, True))
        _settle(port, [*fault.watched, *([fault.hit] if fault.hit else [])])
    return _rows(fault, quiet, faulty)


def run(stage, quick):
    """What we do ourselves must not be done where the server runs."""
    before = os.sched_getaffinity(0)
    if stage.load_cpus:
        os.sched_setaffinity(0, map(int, stage.load_cpus.split(",")))
    try:
        return _run(stage, quick)
    finally:
        os.sched_setaffinity(0, before)


def _run(stage, quick):
    rounds, seconds = (1, 0.8) if quick else (5, 3)
    loader, host = Loader(stage), _start(stage)
    for path in ("/json", "/db", "/api"):
        stage.warm(host, path, 50)
    rows = []
    for fault in (UpstreamStalls(stage), SlowClients(host.port), PluginCrashes(host.port), DatabaseKilled(stage)):
        rows += _measure(loader, host.port, fault, rounds, seconds)
    rows += _measure(loader, stage.nginx().port, NginxUpstreamStalls(stage), rounds, seconds)
    return rows
