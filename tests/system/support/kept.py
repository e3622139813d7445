"""What a host keeps while nothing goes on: what it counts as open, its descriptors, its memory, its heap."""
import collections
import os
import pathlib
import re

from .client import Client
from .memory import memory_of

# What goes up and down with what is under way: of contexts and their arenas, ops, handlers, requests, connections,
# statements and sessions. weft_pg_sessions itself is compared with the sockets that there are.
GAUGES = ("weft_ctx_open", "weft_ctx_bytes", "weft_ops_open", "weft_worker_fibers", "weft_http_requests_open",
          "weft_http_connections_open", "weft_pg_sessions_pinned", "weft_pg_sessions_opening", "weft_pg_waiting",
          "weft_pg_in_flight", "weft_pg_sessions")
_SERIES = re.compile(rf"^((?:{'|'.join(GAUGES)})(?:\{{.*\}})?) ([0-9.]+)$", re.MULTILINE)


def _metrics(host):
    with Client(host.admin) as client:
        return client.ask("GET", "/metrics").body.decode()


def gauges(host):
    """{series: number} of the host's admin listener, whose address is host.admin."""
    text = _metrics(host)
    found = {series: float(number) for series, number in _SERIES.findall(text)}
    assert {re.match("[a-z_]+", series)[0] for series in found} == set(GAUGES), text
    return found


def _inodes_to(port):
    """Of the TCP sockets of this machine whose other end is that port."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {line.split()[9] for line in lines if int(line.split()[2].split(":")[1], 16) == port}


def descriptors(host, database_port):
    """Of all workers: how many of each kind, {"anon_inode:[eventpoll]": 1, ...}; sockets of the database apart."""
    kinds, inodes = collections.Counter(), _inodes_to(database_port)
    for worker in host.workers():
        for fd in os.listdir(f"/proc/{worker}/fd"):
            try:
                name = os.readlink(f"/proc/{worker}/fd/{fd}")
            except FileNotFoundError:   # it has been closed meanwhile
                continue
            kind, _, number = name.partition(":")
            if kind == "socket" and number.strip("[]") in inodes:
                kinds["database"] += 1
            else:
                kinds[kind if kind in ("socket", "pipe") else name] += 1
    return kinds


def handlers_high(host):
    """The most that have lived at once, of all workers."""
    return sum(map(float, re.findall(r"^weft_worker_fibers_high\{.*\} ([0-9.]+)$", _metrics(host), re.MULTILINE)))


def heap_of(host):
    """Bytes that the worker has allocated and not freed, exactly; the plugin ledger tells."""
    assert len(host.workers()) == 1
    return int(host.get("/ledger/heap").body)


class Kept:
    """kept = Kept(host, port) while the host, of one worker, is idle; later kept.is_again() as soon as it is again."""

    def __init__(self, host, database_port):
        self._host = host
        self._port = database_port
        self._gauges = gauges(host)
        self._descriptors = descriptors(host, database_port)
        self._handlers_high = handlers_high(host)
        self._heap = heap_of(host)
        self._memory = self._memory_now()

    def _memory_now(self):
        return sum(memory_of(worker) for worker in self._host.workers())

    def grown_kib(self):
        """Memory that the workers have more than then."""
        return self._memory_now() - self._memory

    def heap_grown(self):
        """Bytes that the worker has allocated more than then."""
        return heap_of(self._host) - self._heap

    def handlers_more(self):
        """By how much more of them have lived at once than ever before."""
        return handlers_high(self._host) - self._handlers_high

    def differences(self):
        """What is not as it was: {what: (then, now)}. One session more than the pool counts is the pool's own, which
        it has once it had to cancel something."""
        now, there = gauges(self._host), descriptors(self._host, self._port)
        then, before = dict(self._gauges), dict(self._descriptors)
        sessions = sum(number for series, number in now.items() if series.startswith("weft_pg_sessions{"))
        if there.get("database", 0) - sessions in (0, 1):
            before["database"] = there.get("database", 0)
        found = {}
        for was, is_now in ((then, now), (before, there)):
            for key in {*was, *is_now}:
                if was.get(key, 0) != is_now.get(key, 0):
                    found[key] = was.get(key, 0), is_now.get(key, 0)
        return found

    def is_again(self):
        return not self.differences()

    def is_idle(self):
        """Was nothing under way, and one session of each pool left?"""
        return all(number == (1 if series.startswith("weft_pg_sessions{") else 0)
                   for series, number in self._gauges.items())
