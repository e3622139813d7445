"""What a worker does for a request: instructions, by callgrind, and system calls, by strace. Both repeat where time
does not: one connection, requests one after the other, after a warm-up; database and upstream are real, and not
counted."""
import collections
import re
import subprocess
import time

import cost
import stage
import workloads

_MALLOC = re.compile(r"(__libc_)?(malloc|calloc|realloc|free|memalign|posix_memalign|aligned_alloc)(@.*)?$"
                     r"|_int_(malloc|free)")
_CONTROL_S = 60
_IDLE_S = 2   # some of what ticks does so once a second
_IDLE_WINDOWS = 10
_AT_REST = 500_000   # instructions a second: there are some 60,000; a session that is opened takes 50 million
# What looks like a stall, or like an overload, is the doing of callgrind or strace. What a worker does is as ever: it
# is the master that looks for stalls, and whether there is an overload is asked for each request, but with 0.
UNHURRIED = {"server": {"stall_warn": 0, "stall_kill": 0, "shed_after": "10s"}}

TRACED = 500   # requests on one connection whose system calls are counted

ALLOCATIONS = ("calls", "malloc")   # among parse()'s functions: no instructions, but how often memory was asked for
_ALLOCATION = 100                   # what one counts for in Count.even


def with_changes(changes):
    """Sections of a host that is counted: UNHURRIED, and these beside it."""
    made = {section: dict(keys) for section, keys in UNHURRIED.items()}
    for section, keys in (changes or {}).items():
        made.setdefault(section, {}).update(keys)
    return made


class Count:
    """Instructions a request: `total`, by part, and by function, as (part, name). `even` is the total with a fixed
    price for each allocation: what malloc takes for the same calls depends on what the heap has seen before."""

    def __init__(self, functions, requests):
        self.functions = {key: cost / requests for key, cost in functions.items()}
        self.allocations = self.functions.pop(ALLOCATIONS, 0)
        self.parts = collections.Counter()
        for (part, _), instructions in self.functions.items():
            self.parts[part] += instructions
        self.total = sum(self.parts.values())
        self.even = self.total - self.parts["malloc"] + self.allocations * _ALLOCATION


def part_of(library, file, function):
    """Whose an instruction is: a room of weft, llhttp, plugin, malloc, or a library."""
    name = library.rsplit("/", 1)[-1]
    if name == "weft":
        room = re.search(r"/framework/(\w+)/", file)
        return "llhttp" if "llhttp" in file else f"weft/{room[1]}" if room else "weft/base"
    if name.startswith("libc.so"):
        is_malloc = re.search(r"/malloc/(malloc|arena)\.[ch]$", file) or _MALLOC.match(function)
        return "malloc" if is_malloc else "libc"
    if re.match(r"lib(mimalloc|jemalloc)", name):
        return "malloc"
    if re.match(r"lib(ssl|crypto)\.so", name):
        return "openssl"
    library = re.match(r"(lib\w+|ld)\b.*\.so", name)
    return library[1] if library else "plugin" if name.endswith(".so") else "other"


def parse(text):
    """The instructions of a file of callgrind's, {(part, function): count}; code that was inlined counts where its
    source lies, under the function it was inlined into."""
    names, at, is_call = {}, {}, False
    found = collections.Counter()
    for line in text.splitlines():
        mark = re.match(r"(ob|fl|fi|fe|fn|cob|cfi|cfl|cfn)=\((\d+)\)(?: (.*))?$", line)
        if mark:
            kind, number, name = mark.groups()
            table = {"b": "ob", "n": "fn"}.get(kind[-1], "fl")
            if name is not None:
                names[table, number] = name
            at[table if kind[0] != "c" else "called " + table] = names[table, number]
        elif line.startswith("calls="):
            is_call = True
            if at["called fn"] in ("malloc", "calloc", "realloc") and part_of(at["ob"], at["fl"], at["fn"]) != "malloc":
                found[ALLOCATIONS] += int(line[6:].split()[0])
        elif line[:1] in "+-*0123456789" and line[:1]:
            if not is_call:
                key = part_of(at["ob"], at["fl"], at["fn"]), at["fn"].split("'")[0]
                found[key] += int(line.split()[1])
            is_call = False
    return found


def put_first(made, *counted):
    """Has what is counted run before what else the machine does, and the sessions that there are and the upstream: on a
    busy one a turn's time would be over with less done, and answers come in more pieces, so that there are more turns
    for the same."""
    sessions = made.cluster.run("select pid from pg_stat_activity where application_name = 'weft'")
    made.put_first([*counted, made.upstream.pid, *(pid for pid, in sessions)])


def quietest(window):
    """Of windows (functions, seconds) of a worker that nobody asks, the quieter of the first two that are of a worker
    at rest. One in which sessions of the database are opened is not: that is not what goes on all the time."""
    found = []
    for _ in range(_IDLE_WINDOWS):
        functions, seconds = window()
        total = sum(functions.values())
        if total <= _AT_REST * seconds:
            found.append((total, functions, seconds))
        if len(found) == 2:
            return min(found, key=lambda one: one[0])[1:]
    raise RuntimeError(f"the worker that nobody asks has no rest: {total / seconds:,.0f} instructions a second")


class Counter:
    """A host under callgrind, of the stage that it was given; count() as often as you like. `changes` are sections, as
    for Stage.weft(); `env` is for it alone, such as LD_PRELOAD; `idle` another one's, whose worker does the same when
    nobody asks."""

    def __init__(self, made, changes=None, env=None, idle=None):
        self.stage = made
        self.prefix = made.folder / "vgdb"
        for old in made.folder.glob("callgrind.out*"):
            old.unlink()
        wrapper = ["valgrind", "-q", "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no",
                   f"--vgdb-prefix={self.prefix}", f"--callgrind-out-file={made.folder}/callgrind.out.%p"]
        if env:
            wrapper = ["env", *(f"{name}={value}" for name, value in env.items()), *wrapper]
        self.host = made.weft(with_changes(changes), name="counted", wrapper=wrapper, cpus=None)
        self.worker = self.host.workers()[0]
        self._dumps = 0
        self._is_on = False
        self.idle = idle   # by function, instructions a second of a worker that nobody asks; None until counted

    def _control(self, *arguments):
        command = ["callgrind_control", f"--vgdb-prefix={self.prefix}", *arguments, str(self.worker)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CONTROL_S)
        if "OK." not in done.stdout:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def _during(self, work, *arguments):
        """What the worker executes meanwhile, as parse() says, and how many seconds that took."""
        self._control("-z")
        begin = time.monotonic()
        work(*arguments)
        seconds = time.monotonic() - begin
        self._control("--dump=batch")
        self._dumps += 1
        file = self.stage.folder / f"callgrind.out.{self.worker}.{self._dumps}"
        return parse(file.read_text(encoding="utf-8", errors="replace")), seconds

    def _begin(self):
        self._control("--instr=on")
        self._during(time.sleep, 0.1)
        self._is_on = True
        if self.idle is None:
            found, seconds = quietest(lambda: self._during(time.sleep, _IDLE_S))
            self.idle = {key: instructions / seconds for key, instructions in found.items()}

    def _batch(self, client, ask, requests):
        found, seconds = self._during(ask, client, requests)
        for key, instructions in self.idle.items():
            found[key] = max(0, found[key] - instructions * seconds)
        return Count(found, requests)

    def count(self, workload, requests=300, batches=3):
        """The Count of the cheapest batch. What a worker does without requests in that time, timers that tick by the
        clock, is not counted: how long a batch takes says nothing here."""
        path, in_flight, _ = workloads.look_up(workload)
        return self.count_asking(lambda client, times: self.stage.ask(client, path, times, in_flight), requests,
                                 batches)

    def count_asking(self, ask, requests=300, batches=3):
        """The same of whatever ask(client, times) does so many times."""
        with self.host.connect(30) as client:
            ask(client, 300)
            put_first(self.stage, self.worker)
            if not self._is_on:
                self._begin()
            ask(client, 20)
            found = [self._batch(client, ask, requests) for _ in range(batches)]
        return min(found, key=lambda count: count.total)


def count_all(made, names, requests=300, batches=3):
    """{workload: Count}. What a worker does when nobody asks is counted once for all hosts: nothing is logged then."""
    found, idle = {}, None
    for changes, group in workloads.by_host(names):
        counter = Counter(made, changes, idle=idle)
        found.update((workload, counter.count(workload, requests, batches)) for workload in group)
        idle = counter.idle
        made.end(counter.host)
    return {name: found[name] for name in names}


def _ask_traced(made, host, client, workload, connections):
    """Asks, one after the other or by wrk, and returns how often; raises where one is not answered as it should."""
    path, in_flight, _ = workloads.look_up(workload)
    if connections == 1:
        made.ask(client, path, TRACED, in_flight)
        return TRACED
    load = made.wrk(host.port, path, connections, 2, in_flight)
    if load.bad:
        raise RuntimeError(f"{workload}: {load.bad} of {load.requests} requests were not answered")
    return load.requests


def syscalls(made, host, workload, connections=1):
    """System calls a request of a host's first worker, {name: calls}; from more connections than one, by wrk."""
    path = workloads.look_up(workload)[0]
    worker, outcome = host.workers()[0], made.folder / "strace.txt"
    made.warm(host, path)
    with host.connect(30) as client, subprocess.Popen(
            ["strace", "-f", "-c", "-U", "calls,name", "-o", outcome, "-p", str(worker)], stderr=subprocess.PIPE,
            text=True) as strace:
        while "attached" not in (line := strace.stderr.readline()):
            if not line:
                raise RuntimeError("strace cannot attach to the worker")
        put_first(made, worker, strace.pid)
        try:
            requests = _ask_traced(made, host, client, workload, connections)
        finally:
            strace.send_signal(2)
            strace.wait(30)
    calls = re.findall(r"^\s*(\d+)\s+(\w+)$", outcome.read_text(encoding="ascii"), re.MULTILINE)
    return {name: int(count) / requests for count, name in calls if name != "total"}


def main(options):
    """What `./run bench syscalls W3 W8` does."""
    with stage.Stage("syscalls") as made:
        for changes, group in workloads.by_host(options.workloads or workloads.COUNTED):
            host = made.weft(with_changes(changes))
            for workload in group:
                for connections in (1, cost.CONNECTIONS):
                    found = syscalls(made, host, workload, connections)
                    most = sorted(found.items(), key=lambda item: -item[1])
                    named = ", ".join(f"{name} {calls:.2f}" for name, calls in most if calls >= 0.005)
                    print(f"{workload}, {connections} connections: {sum(found.values()):.2f} a request: {named}",
                          flush=True)
            made.end(host)
    return 0
