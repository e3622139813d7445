"""Section: what others notice of a fault. PostgreSQL fails in each way of faults_pg.py, an upstream stands still,
clients read slowly, a plugin crashes: routes that have nothing to do with it are asked in an open loop, and so is one
that has, 2,000 times a second. The p99 of those is beside that of the same load just before. nginx and node have beside
it what they can have."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import time

import faults_pg
from openloop import Loader, judge, p99_ms
from stage import HERE, ROOT, Row, left_out, place, process_tree
from support.client import Client, Closed

NAME = "faults"
RATE, CONNECTIONS = 1000, 32      # of each route that is watched
HIT_RATE, HIT_CONNECTIONS = 2200, 256   # by chance they are 2,000 a second at least
SLOW_CLIENTS, BIG_BYTES = 200, 64 << 20
ARRIVAL_S = 0.001                 # between two of them: how slowly they read is measured, not how many come at once
TIMES, SLACK_MS = 2, 1.0          # the bar: twice the p99 before it; of a p99 below a millisecond, one more is no news
LATE_MS = SLACK_MS / 2            # a generator that is later than that says nothing about such times
LOOK_S = 0.002                    # between two looks for who has taken a dead one's place
WARM_S = 0.2                      # before anything counts
BEFORE, WHILE, AFTERWARDS = range(3)   # the thirds of a run
UNMEASURED = ("kore", "drogon_ctl")


class Fault:
    """Something that goes wrong from begin() to end(), and again at each tick(). `watched`: routes that have nothing to
    do with it; `hit`: one that has, and is asked meanwhile, or None."""
    what, watched, hit = "", (), None
    loses = 0          # connections that may be lost by it
    ends_processes = False   # that serve what is watched
    is_peer = False    # what is measured is another server, which nothing is asked of

    def begin(self):
        """Breaks it."""

    def tick(self):
        """Breaks it again."""

    def end(self):
        """Mends it."""


class DatabaseFault(Fault):
    """One of faults_pg.causes()."""
    watched = "/json", "/api"

    def __init__(self, cause):
        self.what, self.hit = cause.what, cause.hit
        for name in ("begin", "tick", "end"):
            if getattr(cause, name):
                setattr(self, name, getattr(cause, name))


class UpstreamStalls(Fault):
    """SIGSTOP: the kernel goes on taking what is sent to it."""
    what, hit = "an upstream stands still", "/api"

    def __init__(self, pid, watched=("/json", "/db")):
        self.pid, self.watched = pid, watched

    def begin(self):
        os.kill(self.pid, signal.SIGSTOP)

    def end(self):
        os.kill(self.pid, signal.SIGCONT)


class SlowClients(Fault):
    """Each asks for a large file, and takes a few bytes of it now and then."""
    what = f"{SLOW_CLIENTS} clients read slowly"

    def __init__(self, port, watched=("/json", "/db")):
        self.port, self.watched, self.clients = port, watched, []

    def begin(self):
        for _ in range(SLOW_CLIENTS):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", self.port))
            client.sendall(b"GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n")
            client.setblocking(False)
            self.clients.append(client)
            time.sleep(ARRIVAL_S)

    def tick(self):
        for client in self.clients:
            with contextlib.suppress(BlockingIOError):
                client.recv(100)

    def end(self):
        while self.clients:
            self.clients.pop().close()


class PluginCrashes(Fault):
    """A handler writes where it may not: its worker dies, with what it had under way; there is another one."""
    what, ends_processes = "a plugin crashes", True

    def __init__(self, port, watched=("/json", "/db")):
        self.port, self.watched = port, watched
        self.loses = (len(watched) + 1) * CONNECTIONS

    def begin(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"GET /crash/segv HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                if client.recv(1000):
                    raise RuntimeError("the plugin did not crash")


def _crash_plugin(stage):
    """The system tests' own, which a release build does not have."""
    made = stage.folder / "crash.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-D_GNU_SOURCE", f"-I{ROOT / 'include'}",
                    "-o", made, ROOT / "tests" / "plugins" / "crash.c"], check=True)
    return made


def _big_file(stage):
    root = stage.folder / "files"
    root.mkdir(exist_ok=True)
    with open(root / "big", "wb") as big:
        big.truncate(BIG_BYTES)
    return root / "big"


def _load(loader, port, fault, put_first, seconds):
    """Asks all that is watched, and what is hit; in the second third of the time with the fault. What came of each that
    is watched, and of what is hit or None; each in three windows. put_first(): see _Measure."""
    more = {"timeout_ms": 3000, "windows": 3, "warm": WARM_S}
    loads = [loader.start(port, path, seconds, rate=RATE, connections=CONNECTIONS, seed=number, **more)
             for number, path in enumerate(fault.watched)]
    if fault.hit:
        loads.append(loader.start(port, fault.hit, seconds, rate=HIT_RATE, connections=HIT_CONNECTIONS, is_first=False,
                                  **more))
    try:
        # By the clocks of all generators the second third has begun, by the first one's a little more; so for its end.
        time.sleep(WARM_S + seconds / 3)
        end = time.monotonic() + seconds / 3
        try:
            fault.begin()
            while time.monotonic() < end:
                fault.tick()
                if fault.ends_processes:
                    put_first()
                time.sleep(LOOK_S if fault.ends_processes else faults_pg.TICK_S)
        finally:
            fault.end()
    finally:
        seen = [loader.end(load) for load in loads]
    return seen[:len(fault.watched)], seen[-1] if fault.hit else None


def _rows(fault, rounds):
    """What each watched route came to, in what _load() returned for each round. Medians of the rounds: what happens
    once in all of them is the machine's doing; but the worst is told."""
    rows = []
    for index, path in enumerate(fault.watched):
        all_seen = [watched[index] for watched, _ in rounds]
        times = [[p99_ms(part) for part in seen.windows] for seen in all_seen]
        before, during, afterwards = (statistics.median(column) for column in zip(*times))
        lost, asked = sum(seen.failed for seen in all_seen), sum(seen.total["requests"] for seen in all_seen)
        refused = sum(seen.refused + seen.others for seen in all_seen)
        most = fault.loses * len(rounds)
        worst = max(time[WHILE] for time in times), max(time[BEFORE] for time in times)
        value = (f"{during:.2f} ms, {before:.2f} before it, {afterwards:.2f} once it is mended; worst {worst[0]:.1f}, "
                 f"{worst[1]:.1f}; {lost} lost, {refused} refused of {asked}")
        row = Row(NAME, f"{fault.what}: p99 of {path}", value, f"<= {TIMES} x, or {SLACK_MS:.0f} ms more; "
                  + (f"<= {most} lost" if most else "0, 0"),
                  during <= max(TIMES * before, before + SLACK_MS) and lost <= most and refused == 0)
        late_ms = statistics.median(seen.late_ms for seen in all_seen)
        rows.append(row._replace(bar="", ok=None) if fault.is_peer else judge(row, late_ms, LATE_MS))
    return rows + _rows_hit(fault, [hit for _, hit in rounds if hit])


def _rows_hit(fault, all_seen):
    """What became of those that wanted what was broken. It may be broken for as long as they can wait, and the load is
    more than their connections carry then; but no connection may be lost."""
    if not all_seen:
        return []
    offered = statistics.median(seen.offered for seen in all_seen)
    done = sum(seen.total["2xx"]["count"] for seen in all_seen)
    refused, others, lost, late = (sum(getattr(seen, name) for seen in all_seen)
                                   for name in ("refused", "others", "lost", "late"))
    return [Row(NAME, f"{fault.what}: {fault.hit} meanwhile", f"{offered:,.0f}/s offered: {done} answered, {refused} "
                f"503, {others} other errors, {late} after 3 s, {lost} lost", "" if fault.is_peer else "0 lost",
                None if fault.is_peer else lost == 0)]


def _settle(port, paths):
    """Waits until all is as before: sessions are open again, a worker has started."""
    end, good = time.monotonic() + 15, 0
    while good < 20:
        if time.monotonic() > end:
            raise RuntimeError(f"{', '.join(paths)}: not as before within 15 s")
        with contextlib.suppress(OSError, Closed), Client(("127.0.0.1", port)) as client:
            if all(client.ask("GET", path).status == 200 for path in paths):
                good += 1
                continue
        good = 0
        time.sleep(0.02)


def _sleeps(pid):
    """Waits for events, that is; one that starts has work or waits for a CPU."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"
    except OSError:   # it has just ended
        return False


class _Measure:
    """measure(port, fault, serving): the rows of a fault. serving() has the processes that serve what is watched there;
    they and what they ask wait for nobody: neither for the rest of the machine, nor for what is broken and shares a CPU
    with the load."""

    def __init__(self, stage, rounds, seconds):
        self._stage, self._loader, self._rounds, self._seconds = stage, Loader(stage), rounds, seconds

    def _put_first(self, serving):
        sessions = self._stage.cluster.run("select pid from pg_stat_activity where application_name = 'weft'")
        self._stage.put_first([*serving(), self._stage.upstream.pid, *(pid for pid, in sessions)])

    def _put_new_first(self, serving):
        """Who has taken a dead one's place: once he has started. That is work of milliseconds, which nobody's requests
        wait for unless it goes before them."""
        self._stage.put_first(pid for pid in serving() if _sleeps(pid))

    def __call__(self, port, fault, serving):
        found = []
        for _ in range(self._rounds):
            _settle(port, [*fault.watched, *([fault.hit] if fault.hit else [])])
            self._put_first(serving)
            found.append(_load(self._loader, port, fault, lambda: self._put_new_first(serving), self._seconds))
        return _rows(fault, found)


def _database_faults(stage, measure):
    """With a PostgreSQL that is there to be broken."""
    with contextlib.closing(faults_pg.Database(stage)) as database:
        settings = {"server": {"workers": 2, "request_timeout": "2s"}, "pg.main": database.settings}
        host, rows = stage.weft(settings, name="broken"), []
        for cause in faults_pg.causes(database):
            rows += measure(host.port, DatabaseFault(cause), host.workers)
        stage.end(host)
    return rows


def _other_faults(stage, measure):
    host = stage.weft({"server": {"workers": 2, "crash_limit": 0},
                       "plugin.files": {"path": "static.so", "mount": "/files", "root": str(_big_file(stage).parent)},
                       "plugin.crash": {"path": str(_crash_plugin(stage))}}, name="faults")
    rows = []
    for fault in (UpstreamStalls(stage.upstream.pid), SlowClients(host.port), PluginCrashes(host.port)):
        rows += measure(host.port, fault, host.workers)
    stage.end(host)
    return rows


def _peer_rows(name, measure, server, faults):
    """`server`: a Program; processes below it serve, where there are any."""
    rows = []
    for fault in faults:
        fault.what, fault.is_peer = f"{name}: {fault.what}", True
        rows += measure(server.port, fault, lambda: process_tree(server.pid)[1:] or [server.pid])
    return rows


def _peers(stage, measure):
    """What others make of it, where they are installed; nothing is asked of them."""
    nginx = stage.nginx()
    rows = _peer_rows("nginx", measure, nginx, [UpstreamStalls(stage.upstream.pid, ("/plaintext",))])
    stage.end(nginx)
    node = shutil.which("node")
    if node:
        port = place.free_port()
        command = [node, HERE / "peer.js", str(port), str(stage.upstream.port), _big_file(stage)]
        made = stage.program(command, port, "node.log", stage.server_cpus)
        rows += _peer_rows("node", measure, made, [UpstreamStalls(stage.upstream.pid, ("/json",)),
                                                   SlowClients(port, ("/json",)), PluginCrashes(port, ("/json",))])
        stage.end(made)
    else:
        rows.append(Row(NAME, "node", "not installed", "", None))
    # They serve programs that are written for them in C and C++, and there are none here.
    said = {True: "not measured: there is no program for it here", False: "not installed"}
    return rows + [Row(NAME, name, said[bool(shutil.which(name))], "", None) for name in UNMEASURED]


def run(stage, quick):
    """What we do ourselves must not be done where the server runs."""
    before = os.sched_getaffinity(0)
    if stage.load_cpus:
        os.sched_setaffinity(0, map(int, stage.load_cpus.split(",")))
    try:
        rounds, seconds = (1, 1.2) if quick else (3, 4.5)
        measure = _Measure(stage, rounds, seconds)
        rows = _other_faults(stage, measure) + _database_faults(stage, measure)
        return rows + (left_out(NAME, "nginx, node") if quick else _peers(stage, measure))
    finally:
        os.sched_setaffinity(0, before)
