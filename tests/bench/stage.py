"""What every section of the benchmark stands on: the release build, a PostgreSQL and an upstream of its own, free
ports, and figures of processes.

    with Stage("cost") as stage:
        host = stage.weft()                               # config/bench.ini, on a free port
        load = stage.wrk(host.port, "/db", connections=64, seconds=2)
        print(load.rate, stage.rss_bytes(host.pid))

Where there are two CPUs or more, what is measured runs on the first, and load, PostgreSQL and upstream on the others;
all talk over TCP on the loopback. What a stage has started ends with it; where the benchmark itself is killed, that
ends, too. A stage is for the main thread: what another thread starts would end with that thread.
"""
import collections
import configparser
import contextlib
import fcntl
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "bench"
WORK = ROOT / "build" / "bench"
_compiled = set()   # the tools of this run
os.environ.setdefault("WEFT_BUILD", str(ROOT / "build" / "release"))
sys.path.insert(0, str(ROOT / "tests" / "system"))
# pylint: disable=wrong-import-position
from support import place  # noqa: E402
from support.client import Client  # noqa: E402
from support.cluster import Cluster  # noqa: E402
from support.host import Host  # noqa: E402

# One line of the table: the section, what was measured, the outcome as text, the bar as text ("" where there is none),
# and whether it is held (None where there is no bar).
Row = collections.namedtuple("Row", "section what value bar ok")


def left_out(section, *whats):
    """Rows of what a quick run does not measure: it says so."""
    return [Row(section, what, "left out with --quick", "", None) for what in whats]


QUOTE = '{"id":42,"symbol":"WEFT","price":101.25,"currency":"EUR"}'
_NGINX = """\
worker_processes 1; daemon off; master_process off; pid {name}.pid; error_log stderr warn;
worker_rlimit_nofile {files};
events {{ worker_connections 16384; multi_accept on; }}
http {{
  access_log off; tcp_nodelay on; keepalive_timeout 3600s; keepalive_requests 1000000000;
  client_body_temp_path tmp/{name}b; proxy_temp_path tmp/{name}p; fastcgi_temp_path tmp/{name}f;
  uwsgi_temp_path tmp/{name}u; scgi_temp_path tmp/{name}s;
  {rest}
}}
"""
_UPSTREAM = """\
  server {{ listen 127.0.0.1:{port} backlog=4096; default_type application/json;
    location = /status {{ stub_status; }}
    location = /quote {{ return 200 '{quote}'; }} }}"""
_PEER = """\
  upstream quotes {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; default_type text/plain;
    location = /plaintext {{ return 200 "Hello, World!"; }}
    location = /api {{ proxy_pass http://quotes/quote; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}"""
# Durability is off: what is measured is the CPU of the server before it.
_DATABASE = ["synchronous_commit=off", "max_connections=300", "shared_buffers=256MB", "jit=off", "wal_level=minimal",
             "max_wal_senders=0", "max_wal_size=4GB"]
_START_S = 20


class Load:
    """What wrk saw. Times in microseconds; `errors` of connections, `refused`: answers that are not 2xx or 3xx."""

    def __init__(self, text):
        found = json.loads(re.search(r"^RESULT (\{.*\})", text, re.MULTILINE)[1])
        self.requests, self.errors, self.refused = found["requests"], found["errors"], found["refused"]
        self.p50_us, self.p99_us, self.max_us = found["p50_us"], found["p99_us"], found["max_us"]
        self.seconds = found["us"] / 1e6
        self.rate = self.requests / self.seconds

    @property
    def bad(self):
        return self.errors + self.refused


class Program:
    """A process that listens on a port; ended by stop()."""

    def __init__(self, command, port, log, folder):
        self.port = port
        with open(log, "ab") as out:
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        end = time.monotonic() + _START_S
        while not is_listening(port):
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{command} does not serve: see {log}")
            time.sleep(0.02)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def process_tree(pid):
    """The process ids of a process and of all below it."""
    found, to_do = [], [pid]
    while to_do:
        found.append(to_do.pop())
        try:
            for task in os.listdir(f"/proc/{found[-1]}/task"):
                children = pathlib.Path(f"/proc/{found[-1]}/task/{task}/children").read_text(encoding="ascii")
                to_do += map(int, children.split())
        except OSError:
            pass  # gone meanwhile
    return found


class Stage:
    """Makes its parts when they are asked for first. `name` is its folder's, below build/bench: one run at a time."""

    def __init__(self, name="stage"):
        self.folder = WORK / name
        self.build = place.BUILD
        self.files = _raise_files()
        cpus = sorted(os.sched_getaffinity(0))
        self.server_cpus = str(cpus[0]) if len(cpus) > 1 else None
        self.load_cpus = ",".join(map(str, cpus[1:])) if len(cpus) > 1 else None
        self._parts = []   # what is to be stopped, in the order of the start
        self._cluster = self._upstream = self._lock = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        # pylint: disable=consider-using-with
        self._lock = open(self.folder / "lock", "w", encoding="ascii")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another run uses {self.folder}") from None
        return self

    def __exit__(self, error, *_):
        failed = self._stop(self._parts)
        if self._cluster is not None:
            self._cluster.remove()
        self._lock.close()
        if failed and error is None:
            raise failed[0]

    def _stop(self, parts):
        """Stops these, the last one first; returns what was wrong with it."""
        failed = []
        for part in reversed(parts):
            try:
                part.stop()
            except AssertionError as one:  # a host that did not end in order
                failed.append(one)
        self._parts = [part for part in self._parts if part not in parts]
        return failed

    def clear(self):
        """Leaves PostgreSQL and the upstream, where they still run, to the next section; raises where a host did not
        end in order."""
        if self._upstream is not None and self._upstream.process.poll() is not None:
            self._upstream = None
        if self._cluster is not None and not self._cluster.is_running():
            self._cluster.remove()
            self._cluster = None
        failed = self._stop([part for part in self._parts if part is not self._upstream])
        if failed:
            raise failed[0]

    def pinned(self, cpus):
        """What a command is run by, so that it ends with this process and stays on these CPUs (None: any)."""
        return ["setpriv", "--pdeathsig", "TERM", *(["taskset", "-c", cpus] if cpus else [])]

    @property
    def cluster(self):
        """The PostgreSQL, with the tables of schema.sql in database weft."""
        if self._cluster is None:
            options = [word for setting in _DATABASE for word in ("--set", setting)]
            self._cluster = Cluster(self.folder / "postgres", "--tcp", *options)
            self._cluster.start()
            if self.load_cpus:
                os.sched_setaffinity(int(self._cluster.env["PGPID"]), map(int, self.load_cpus.split(",")))
            self._cluster.run("set role weft; " + (HERE / "schema.sql").read_text(encoding="utf-8"), database="weft")
            self._cluster.run("vacuum analyze", database="weft")
        return self._cluster

    @property
    def upstream(self):
        """An nginx that answers /quote, and /status with its own counters."""
        if self._upstream is None:
            port = place.free_port()
            self._upstream = self._nginx("upstream", port, _UPSTREAM.format(port=port, quote=QUOTE), self.load_cpus)
        return self._upstream

    def nginx(self):
        """An nginx beside weft: /plaintext, and /api by a call of the upstream."""
        port = place.free_port()
        return self._nginx("nginx", port, _PEER.format(port=port, upstream=self.upstream.port), self.server_cpus)

    def _nginx(self, name, port, rest, cpus):
        (self.folder / "tmp").mkdir(exist_ok=True)
        config = self.folder / f"{name}.conf"
        config.write_text(_NGINX.format(name=name, files=self.files, rest=rest), encoding="ascii")
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return self.program([nginx, "-p", f"{self.folder}/", "-c", config, "-e", "stderr"], port, f"{name}.log", cpus)

    def program(self, command, port, log, cpus):
        """Starts a command that will listen on the port; its output goes into the file `log` of the stage's folder."""
        made = Program([*self.pinned(cpus), *command], port, self.folder / log, self.folder)
        self._parts.append(made)
        return made

    def tool(self, name, *flags):
        """The path of the program of tests/bench/NAME.c, compiled once in each run: what it includes may be newer."""
        source, made = HERE / f"{name}.c", self.folder.parent / name
        if made not in _compiled:
            _compiled.add(made)
            warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow"]
            subprocess.run(["cc", "-std=gnu17", "-O2", *warnings, "-o", made, source, *flags], check=True)
        return made

    def k1(self):
        """The bare loop that all is measured by (k1.c)."""
        port = place.free_port()
        return self.program([self.tool("k1"), str(port)], port, "k1.log", self.server_cpus)

    def sections(self):
        """The sections of config/bench.ini, with this stage's database and upstream in their places."""
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        parser.read(ROOT / "config" / "bench.ini", encoding="utf-8")
        made = {name: dict(parser[name]) for name in parser.sections()}
        for key in ("listen", "plugin_dir"):
            del made["server"][key]
        env = self.cluster.env
        made["pg.main"].update(host="127.0.0.1", port=env["PGPORT"], user="weft", dbname="weft",
                               password=env["PGPASSWORD"])
        made["upstream.quotes"]["url"] = f"http://127.0.0.1:{self.upstream.port}"
        return made

    @staticmethod
    def put_first(pids):
        """Real-time priority for the main threads of these processes, where we may give it: what else the machine does,
        and their own helper threads where there is one CPU for all, would look like the loop's doing. Not for one that
        waits for others' ends: Linux 6.18 walks in a circle then, as long as a process that it keeps from running looks
        at the dead one's entries below /proc."""
        if os.geteuid() == 0:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):   # it has just ended
                    os.sched_setscheduler(pid, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))

    def weft(self, changes=None, name="weft", wrapper=(), cpus=""):
        """Starts a host with config/bench.ini and these changes, {"server": {"workers": 2}}; returns the Host.
        `wrapper` is a command to run it under; `cpus` other CPUs than the first, None for any."""
        sections = self.sections()
        for section, keys in (changes or {}).items():
            sections.setdefault(section, {}).update(keys)
        wrapper = [*self.pinned(self.server_cpus if cpus == "" else cpus), *wrapper]
        host = Host(self.folder / name, sections, wrapper=wrapper)
        self._parts.append(host)
        for log in (host.log_path, host.folder / "access.log"):
            log.unlink(missing_ok=True)
        return host.start()

    def end(self, part):
        """Stops a host or program before the stage ends."""
        self._parts.remove(part)
        part.stop()

    def wrk(self, port, path, connections=64, seconds=2, in_flight=1, threads=1):
        """Loads a server with as many requests as it answers, and returns the Load."""
        command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "8s", "-s",
                   HERE / "report.lua", f"http://127.0.0.1:{port}{path}"]
        command += ["--", str(in_flight)] if in_flight > 1 else []
        done = subprocess.run([*self.pinned(self.load_cpus), *command], capture_output=True, text=True, check=False,
                              timeout=seconds + 60)
        if "RESULT" not in done.stdout:
            raise RuntimeError(f"wrk on {path}: {done.stdout}{done.stderr}")
        return Load(done.stdout)

    def warm(self, server, path, count=200):
        """Asks one after the other, so that sessions are open and statements prepared."""
        with Client(("127.0.0.1", server.port)) as client:
            self.ask(client, path, count)

    @staticmethod
    def ask(client, path, count, in_flight=1):
        """Asks so often on a connection, so many at once; raises where an answer is not 200."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for begin in range(0, count, in_flight):
            size = min(in_flight, count - begin)
            client.send(request * size)
            for _ in range(size):
                answer = client.read_answer()
                if answer.status != 200:
                    raise RuntimeError(f"{path}: {answer}")

    @staticmethod
    def cpu_s(pid):
        """CPU time so far of all threads of a process and of those below it, in seconds."""
        total = 0
        for process in process_tree(pid):
            try:
                for task in os.listdir(f"/proc/{process}/task"):
                    path = pathlib.Path(f"/proc/{process}/task/{task}/schedstat")
                    total += int(path.read_text(encoding="ascii").split()[0])
            except OSError:
                pass  # gone meanwhile
        return total / 1e9

    @staticmethod
    def rss_bytes(pid):
        """The memory of a process and of those below it. What they share is counted for each of them."""
        total = 0
        for process in process_tree(pid):
            try:
                status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
                total += int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024
            except (OSError, TypeError):
                pass  # gone meanwhile, or a zombie
        return total

    def postgres_cpu_s(self):
        return self.cpu_s(int(self.cluster.env["PGPID"]))

    def upstream_asked(self):
        """How many requests the upstream has served; asking counts as one."""
        with Client(("127.0.0.1", self.upstream.port)) as client:
            text = client.ask("GET", "/status").body.decode("ascii")
        return int(re.search(r"requests\s+\d+ \d+ (\d+)", text)[1])


def _raise_files():
    """As many open files as we may have, for us and all that we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard, 1 << 20)
