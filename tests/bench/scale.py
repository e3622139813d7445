"""Section: how far it goes. What idle connections and waiting requests hold, thousands of active connections, how fast
connections are taken, workers, sessions, many routes and header fields, and whether memory stays what it is."""
import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import cost
import count
import stage
from stage import Row
from support.cluster import halt  # noqa: E402

NAME = "scale"
IDLE_BYTES_MAX = 525            # what nginx holds
WAITING_BYTES_MAX = 12 << 10
ACCEPTS_MIN = 5000              # a second
GIVEN_BACK_S = 90
KEPT_BYTES = 4 << 20            # blocks that stay for the next thousand requests
CROWD_S = 10                    # from one crowd to the next: its memory has been given back by then
BUSY = "/work?us=300"           # of a worker's CPU: asking costs next to nothing beside that
GAIN_MIN = 1.6                  # by a second worker on a second CPU, of which the load has its part
PER_ADDRESS = 5000              # connections: with many more the client's kernel looks for free ports for long
# Room for as many connections as a worker has descriptors for, with none closed for another's sake; and nobody refused
# because thousands ask at once.
WIDE = {"server": {"connections_max": 19500, "connections_soft": 19500, "requests_max": 20000, "idle_timeout": "10m",
                   "request_timeout": "2m", "shed_after": 0}}
MIX = ["/plaintext", "/json", "/db", "/queries?n=20", "/fortunes", "/updates?n=20", "/api", "/api-db", "/db-api"]


def _tool(made, name, *flags):
    return made.tool(name, stage.HERE / "load.c", "-I", stage.ROOT / "tests", "-lm", *flags)


def _plugin(made):
    """The path of scale.so."""
    path = made.folder / "scale.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic-functions",
                    "-I", stage.ROOT / "include", "-o", path, stage.HERE / "scale.c"], check=True)
    return path


def _with(changes, *more):
    """Changes to settings, one after the other."""
    found = {}
    for each in (changes, *more):
        for section, keys in each.items():
            found.setdefault(section, {}).update(keys)
    return found


def _memory(pids):
    """RSS, in bytes."""
    return sum(int(re.search(r"^Rss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"),
                             re.MULTILINE)[1]) * 1024 for pid in pids)


# ---- connections that are held ----

class Held:
    """Connections of one process, which made a request each; see connections.c."""

    def __init__(self, made, host, number, path="/plaintext", source=None):
        command = [*made.pinned(made.load_cpus), _tool(made, "connections"), "-n", str(number),
                   *(["-s", source] if source else []), f"127.0.0.1:{host.port}", path]
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def answer(self):
        """The number that the next line says."""
        words = self.process.stdout.readline().split()
        if len(words) != 2:
            raise RuntimeError(f"connections ended: {self.process.wait(10)}")
        return int(words[1])

    def tell(self, line):
        self.process.stdin.write(line + "\n")

    def ask_all(self, path):
        self.tell(f"ask {path}")
        return self.answer()

    def take_all(self):
        self.tell("take")
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


@contextlib.contextmanager
def _hold(made, host, number, clients=1):
    """So many connections, of some processes with an address each; all have been answered once."""
    shares = [number // clients + (i < number % clients) for i in range(clients)]
    held = [Held(made, host, share, source=f"127.0.0.{i + 2}") for i, share in enumerate(shares)]
    try:
        for each in held:
            each.answer()
        yield held
    finally:
        for each in held:
            each.close()


def _warm(made, host):
    """So that what the first requests take is there."""
    with _hold(made, host, 64):
        pass
    made.wrk(host.port, "/plaintext", 64, 1)


def idle(made, number, workers=1):
    """Bytes for each idle connection, as RSS and, of one worker, as allocated; and how many still answer."""
    host = made.weft(_with(WIDE, {"server": {"workers": workers}, "plugin.scale": {"path": _plugin(made)}}),
                     name="idle")
    _warm(made, host)
    before, allocated_before = _memory(host.workers()), int(host.get("/heap").body)
    with _hold(made, host, number, clients=-(-number // PER_ADDRESS)) as held:
        time.sleep(1)
        after, allocated = _memory(host.workers()), int(host.get("/heap").body)
        for each in held:
            each.ask_all("/plaintext")
        living = sum(each.take_all() for each in held)
    made.end(host)
    each = (after - before) / number
    where, more = f"{workers} workers", ""
    if workers == 1:
        where, more = "one worker", f" ({(allocated - allocated_before) / number:.0f} of malloc's)"
    return Row(NAME, f"{number:,} idle connections, {where}",
               f"{each:.0f} bytes of RSS each{more}, {living:,} still answer", f"<= {IDLE_BYTES_MAX}, all",
               each <= IDLE_BYTES_MAX and living == number)


@contextlib.contextmanager
def _nothing_stops(_):
    yield


@contextlib.contextmanager
def _database_stops(made):
    """All of it stands still."""
    made.cluster.pause()
    try:
        yield
    finally:
        made.cluster.resume()


@contextlib.contextmanager
def _upstream_stops(made):
    halt(made.upstream.pid)
    try:
        yield
    finally:
        os.kill(made.upstream.pid, signal.SIGCONT)


# What a request may wait for: a route, and what sees to it that none is answered meanwhile. Each leaves the handler at
# another depth of its stack.
Wait = collections.namedtuple("Wait", "what path stops")
SLEEP = Wait("a sleep on a fiber", "/wait/{ms}", _nothing_stops)
THEN = Wait("a sleep with a callback", "/then/{ms}", _nothing_stops)
STATEMENT = Wait("a statement on a fiber", "/wait?ms=1", _database_stops)
CALL = Wait("a call on a fiber", "/api", _upstream_stops)
# A line that is long enough for all of them, and nobody who gives up.
PATIENT = {"pg.main": {"queue": 20000, "queue_timeout": "2m", "statement_timeout": "2m"},
           "upstream.quotes": {"queue": 20000, "queue_timeout": "2m", "first_byte_timeout": "2m"}}


def waiting(made, number, wait=SLEEP, seconds=6, is_watched=False):
    """Bytes of RSS for each request that waits so long, its connection included; is_watched: and what becomes of them
    afterwards."""
    host = made.weft(_with(WIDE, PATIENT, {"plugin.scale": {"path": _plugin(made)}}), name="waiting")
    _warm(made, host)
    for path in ("/db", "/api"):
        made.warm(host, path, 20)
    before = _memory(host.workers())
    with _hold(made, host, number) as (held,):
        time.sleep(1)
        idling = _memory(host.workers())
        with wait.stops(made):
            begun = time.monotonic()
            held.ask_all(wait.path.format(ms=seconds * 1000))
            time.sleep(max(0, begun + seconds - 1 - time.monotonic()))
            after = _memory(host.workers())
        answered = held.take_all()
        what = f"{number:,} requests that have waited for {wait.what}"
        rows = [_given_back(host, what, idling, after)] if is_watched else []
    made.end(host)
    each = (after - before) / number
    row = Row(NAME, f"{number:,} requests that wait for {wait.what}",
              f"{each:.0f} bytes of RSS each, {(idling - before) / number:.0f} of them the connection; "
              f"{answered:,} answered", f"<= {WAITING_BYTES_MAX:,}, all",
              each <= WAITING_BYTES_MAX and answered == number)
    return [row, *rows]


def _given_back(host, what, idling, waiting_rss):
    """How long it takes until what requests took that waited has gone back to the system, but for what is kept."""
    begun = time.monotonic()
    while (seconds := time.monotonic() - begun) < GIVEN_BACK_S:
        left = (_memory(host.workers()) - idling - KEPT_BYTES) / (waiting_rss - idling)
        if left <= 0.1:
            break
        time.sleep(1)
    return Row(NAME, what,
               f"{left:.0%} of their memory is still held after {seconds:.0f} s, beside the 4 MiB for the next",
               f"<= 10% within {GIVEN_BACK_S} s", left <= 0.1)


def switch(made, quick):
    """What a switch from a fiber or to it costs."""
    parts = [stage.ROOT / "framework" / path for path in (
        "task/fiber.c", "task/fiber_switch.S", "task/fiber_switch.c", "base/check.c", "base/clock.c", "base/log.c",
        "base/mem.c")]
    path = made.tool("switch", *parts, "-I", stage.ROOT / "framework", "-D_GNU_SOURCE", "-Wno-unused")
    pinned = made.pinned(made.server_cpus)
    best = min(float(subprocess.run([*pinned, path, "1000000"], check=True, capture_output=True, text=True).stdout)
               for _ in range(3 if quick else 9))
    spent = []
    for resumed in (1000, 11000):
        file = made.folder / "switch.out"
        subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={file}", path, str(resumed)],
                       check=True, capture_output=True)
        spent.append(int(re.search(r"^(?:totals|summary): (\d+)", file.read_text(encoding="ascii"), re.MULTILINE)[1]))
    return Row(NAME, "a fiber's switch", f"{best:.1f} ns, {(spent[1] - spent[0]) / 20000:.0f} instructions", "", None)


# ---- connections that work, come and go ----

def _openloop(made, host, path, *options):
    command = [*made.pinned(made.load_cpus), _tool(made, "openloop"), *options, f"127.0.0.1:{host.port}", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)


def active_row(what, number, told):
    """All connections must be there from the first request to the last, and each request be answered with a 200."""
    total, conns = told["total"], told["connections"]
    bad = total["errors"] + total["timeouts"] + total["503"]["count"] + total["other"]["count"]
    seen = total["2xx"]
    is_whole = conns["begun"] == conns["ended"] == number and conns["refused"] == conns["lost"] == 0
    return Row(NAME, f"{number:,} active connections, {what}",
               f"{total['goodput']:,.0f}/s, p50 {seen['p50_us'] / 1000:.1f} ms, p99 {seen['p99_us'] / 1000:.1f} ms, "
               f"{bad} bad; {conns['begun']:,} open at first, {conns['ended']:,} in the end, "
               f"{conns['refused']} refused, {conns['lost']} lost", "0 bad, all open",
               bad == 0 and is_whole and seen["count"] > 0)


def active(made, number, seconds):
    """As many requests as so many connections carry, and half as many at a steady rate."""
    host = made.weft(WIDE, name="active")
    made.warm(host, "/plaintext")
    whole = _openloop(made, host, "/plaintext", "-c", str(number), "-w", "1", "-d", str(seconds))
    rate = max(1, int(whole["total"]["goodput"] / 2))
    half = _openloop(made, host, "/plaintext", "-c", str(number), "-w", "1", "-d", str(seconds), "-r", str(rate), "-p")
    made.end(host)
    return [active_row("as fast as they are answered", number, whole), active_row("at half that rate", number, half)]


def _come_and_go(made, host, seconds, number=64):
    """Clients that connect, ask once and are gone, as fast as they are served."""
    command = [*made.pinned(made.load_cpus), _tool(made, "connections"), "-n", str(number), "-d", str(seconds),
               f"127.0.0.1:{host.port}", "/plaintext"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = json.loads(done.stdout)
    found["rate"] = found["connections"] / found["seconds"]
    return found


def accepts(made, seconds):
    host = made.weft(name="accepts")
    made.warm(host, "/plaintext")
    before = made.cpu_s(host.pid)
    found = _come_and_go(made, host, seconds)
    cpu_us = (made.cpu_s(host.pid) - before) * 1e6 / max(1, found["connections"])
    made.end(host)
    return Row(NAME, "connections accepted, with a request each",
               f"{found['rate']:,.0f}/s, {cpu_us:.1f} us of CPU each, p99 {found['p99_us'] / 1000:.1f} ms, "
               f"{found['errors']} failed", f">= {ACCEPTS_MIN:,}/s, 0", found["rate"] >= ACCEPTS_MIN and
               found["errors"] == 0)


def _requests(host):
    """How many requests each worker has had."""
    done = subprocess.run([stage.place.BUILD / "weft", "status", "--json", "-c", host.config], check=True,
                          capture_output=True, text=True)
    return [worker["requests"] for worker in json.loads(done.stdout)["workers"]]


def _worker_row(made, number, seconds):
    """Accepts and requests of so many workers that share the machine with the load: the Row, and requests a second."""
    host = made.weft({"server": {"workers": number}}, name=f"workers{number}", cpus=None)
    made.warm(host, BUSY)
    before = _requests(host)
    found = _come_and_go(made, host, seconds)
    shares = [now - then for now, then in zip(_requests(host), before)]
    load = made.wrk(host.port, BUSY, 32, seconds)
    made.end(host)
    least = min(shares) / max(1, sum(shares))
    text = "/".join(f"{share / max(1, sum(shares)):.0%}" for share in shares)
    bad = load.bad + found["errors"]
    return Row(NAME, f"{number} worker{'s' * (number > 1)}", f"{found['rate']:,.0f} connections/s, of them {text}; "
               f"{load.rate:,.0f} requests/s of {BUSY}, {bad} bad", ">= 40% each, 0 bad" if number > 1 else "0 bad",
               bad == 0 and (number == 1 or least >= 0.4)), load.rate


def gain_row(one, two, cpus):
    """What the second worker is good for; on one CPU it can be good for nothing."""
    is_judged = cpus > 1
    return Row(NAME, "2 workers beside 1", f"{two / one:.2f} x the requests",
               f">= {GAIN_MIN} x" + ("" if is_judged else " (not judged: one CPU)"),
               two >= GAIN_MIN * one if is_judged else None)


def workers(made, seconds):
    """One and two. Of a route that costs the workers' CPU and the load next to nothing: there are two CPUs here, and a
    load that wants one of them for itself takes from the second worker what it could do."""
    (first, one), (second, two) = (_worker_row(made, number, seconds) for number in (1, 2))
    return [first, second, gain_row(one, two, len(os.sched_getaffinity(0)))]


def sessions(made, number, seconds):
    counted = cost.database_counts(made, "W3")
    host = made.weft({"pg.main": {"sessions": number}}, name="sessions")
    made.warm(host, "/db", 500)
    warmed = 500 + made.wrk(host.port, "/db", 256, 1).requests
    before = made.cpu_s(host.pid)
    load = made.wrk(host.port, "/db", 256, seconds)
    cpu_us = (made.cpu_s(host.pid) - before) * 1e6 / load.requests
    made.end(host)
    cost.check_database("W3", warmed + load.requests, counted, lambda: cost.database_counts(made, "W3"))
    return Row(NAME, f"W3 at 256 connections, {number} session{'s' * (number > 1)}",
               f"{load.rate:,.0f}/s, {cpu_us:.1f} us of CPU, p99 {load.p99_us / 1000:.1f} ms, {load.bad} bad", "0 bad",
               load.bad == 0)


# ---- what a request costs as things grow ----

def routes(made, numbers):
    """Instructions of a request as there are more routes: it must not matter how many there are."""
    found = {}
    for number in numbers:
        counter = count.Counter(made, {"plugin.scale": {"path": _plugin(made), "routes": number}})
        # pylint: disable=cell-var-from-loop
        found[number] = counter.count_asking(lambda client, times: made.ask(client, f"/many/{number // 2}/x", times),
                                             200, 3).total
        made.end(counter.host)
    text = ", ".join(f"{number:,}: {instructions:,.0f}" for number, instructions in found.items())
    first, last = found[numbers[0]], found[numbers[-1]]
    return Row(NAME, "instructions of a request by routes", text, "<= 10% more for the last", last <= 1.1 * first)


def _ask_with(client, fields, times):
    headers = [(f"X-Field-{i}", "a value of a usual length") for i in range(fields - 1)]
    for _ in range(times):
        if client.ask("GET", "/plaintext", headers).status != 200:
            raise RuntimeError("not answered")


def headers(made, numbers):
    """Instructions of a request as it has more header fields (Host is one): each may cost the same."""
    counter = count.Counter(made)
    # pylint: disable=cell-var-from-loop
    found = {number: counter.count_asking(lambda client, times: _ask_with(client, number, times), 100, 3).total
             for number in numbers}
    made.end(counter.host)
    text = ", ".join(f"{number}: {instructions:,.0f}" for number, instructions in found.items())
    first, mid, last = numbers[0], numbers[len(numbers) // 2], numbers[-1]
    early = (found[mid] - found[first]) / (mid - first)
    late = (found[last] - found[mid]) / (last - mid)
    return Row(NAME, "instructions of a request by header fields",
               f"{text}; a field {early:,.0f}, in the end {late:,.0f}", "<= 25% more in the end", late <= 1.25 * early)


# ---- memory over time ----

def lows(samples, every):
    """Of (seconds, bytes) the least of each `every` seconds."""
    least = {}
    for at, value in samples:
        place = int(at // every)
        if place not in least or value < least[place][1]:
            least[place] = at, value
    return list(least.values())


def growth(samples):
    """Bytes that a line through (seconds, bytes) has risen from the first to the last, and their mean."""
    times, values = [at for at, _ in samples], [value for _, value in samples]
    mean_at, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - mean_at) ** 2 for at in times)
    slope = sum((at - mean_at) * (value - mean) for at, value in samples) / spread
    return slope * (times[-1] - times[0]), mean


def _start_mix(made, host, seconds):
    """Every workload at once, clients that come and go, and every CROWD_S a crowd that waits; returns the processes, of
    wrk first."""
    commands = [["wrk", "-t1", "-c8", f"-d{seconds}s", "--timeout", "8s", "-s", stage.HERE / "report.lua",
                 f"http://127.0.0.1:{host.port}{path}"] for path in MIX]
    visitors = [_tool(made, "connections"), "-d", str(seconds)]
    to = [f"127.0.0.1:{host.port}", "/db"]
    commands += [[*visitors, "-n", "4", *to], [*visitors, "-n", "500", "-a", "/wait/1000", "-e", str(CROWD_S), *to]]
    # pylint: disable=consider-using-with
    return [subprocess.Popen([*made.pinned(made.load_cpus), *command], stdout=subprocess.PIPE, text=True)
            for command in commands]


def _watch(host, seconds):
    """RSS of the worker each second: (seconds, bytes)."""
    samples, begun = [], time.monotonic()
    worker = host.workers()[0]
    while (at := time.monotonic() - begun) < seconds:
        samples.append((at, _memory([worker])))
        time.sleep(1)
    if host.workers() != [worker]:
        raise RuntimeError("the worker is another one")
    return samples


def flat(made, seconds, warm):
    """All workloads at once for so long: memory must not grow once `warm` seconds are over. What counts is what is left
    between two crowds: how long one takes, and with it the mean, is the machine's business."""
    host = made.weft(_with(WIDE, {"plugin.scale": {"path": _plugin(made)}}), name="flat")
    for path in MIX:
        made.warm(host, path, 50)
    mix = _start_mix(made, host, int(seconds))
    samples = _watch(host, seconds - 1)
    outputs = [each.communicate(timeout=90)[0] for each in mix]
    loads = [stage.Load(text) for text in outputs[:len(MIX)]]
    visits = [json.loads(text) for text in outputs[len(MIX):]]
    made.end(host)
    (made.folder / "flat.json").write_text(json.dumps(samples), encoding="ascii")
    risen, mean = growth(lows([sample for sample in samples if sample[0] >= warm], CROWD_S))
    noise = max(mean * 0.01, 512 << 10)
    served = sum(load.requests for load in loads) + sum(visit["connections"] for visit in visits)
    bad = sum(load.bad for load in loads) + sum(visit["errors"] for visit in visits)
    peak = max(value for _, value in samples)
    return Row(NAME, f"memory over {seconds:.0f} s of all workloads, {served:,} requests",
               f"RSS {mean / 1e6:.1f} MB between crowds, at most {peak / 1e6:.1f}; {risen / 1e6:+.2f} MB since second "
               f"{warm:.0f}; {bad} bad", f"<= {noise / 1e6:.2f} MB, 0", risen <= noise and bad == 0)


# What is measured, in whole and where it is to be quick: what it is called, and what returns its rows.
WHOLE = {
    "10,000 idle connections": lambda made: [idle(made, 10000)],
    "19,000 idle connections": lambda made: [idle(made, 19000)],
    "100,000 idle connections": lambda made: [idle(made, 100000, workers=6)],
    "5,000 requests that wait for a sleep on a fiber": lambda made: waiting(made, 5000),
    "5,000 requests that wait for a statement on a fiber": lambda made: waiting(made, 5000, STATEMENT),
    "5,000 requests that wait for a call on a fiber": lambda made: waiting(made, 5000, CALL),
    "memory of 10,000 requests that have waited for a sleep on a fiber":
        lambda made: waiting(made, 10000, seconds=10, is_watched=True),
    "memory of 10,000 requests that have waited for a sleep with a callback":
        lambda made: waiting(made, 10000, THEN, seconds=10, is_watched=True),
    "a fiber's switch": lambda made: [switch(made, False)],
    "10,000 active connections": lambda made: active(made, 10000, 5),
    "connections accepted": lambda made: [accepts(made, 5)],
    "1 worker, 2 workers": lambda made: workers(made, 5),
    "W3 by sessions": lambda made: [sessions(made, number, 5) for number in (1, 4, 16, 64)],
    "instructions of a request by routes": lambda made: [routes(made, (10, 100, 1000, 10000))],
    "instructions of a request by header fields": lambda made: [headers(made, (5, 15, 30, 45, 60))],
    "memory over ten minutes": lambda made: [flat(made, 600, 120)],
}
QUICK = {
    "5,000 idle connections": lambda made: [idle(made, 5000)],
    "2,000 requests that wait for a sleep on a fiber": lambda made: waiting(made, 2000, seconds=2),
    "a fiber's switch": lambda made: [switch(made, True)],
    "2,000 active connections": lambda made: active(made, 2000, 1),
    "connections accepted": lambda made: [accepts(made, 1)],
}


def run(made, quick):
    rows = [row for measure in (QUICK if quick else WHOLE).values() for row in measure(made)]
    return rows + (stage.left_out(NAME, *(what for what in WHOLE if what not in QUICK)) if quick else [])
