"""How soon the server stops what nobody waits for any more, as a quiet machine would have it.

What a machine that does other things, too, adds is known to the kernel: for how long a thread could have run and had no
processor (/proc/PID/schedstat). What those who take part were kept waiting, one after the other at worst, is taken off:
so each measurement is a proof, and not the best of several, and none fails for what others do."""
import pathlib
import time

import psycopg2

from .cluster import children
from .wait import wait_until

GONE_S = 0.3  # how long what nobody waits for may run on in the server
LATE_S = 5    # and at most, whatever the machine does


def _waited(pid):
    """For how long a process's threads have waited for a processor, by thread."""
    found = {}
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            found[path] = int(path.read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            pass  # it has just ended
    return found


class Watch:
    """with Watch(host, database, query) as watch: `query` counts what runs. A connection of its own, so that looking is
    cheap; took has what each gone_since() has measured, as seconds by the clock and seconds for lack of a processor."""

    def __init__(self, host, database, query):
        self.took = []
        self._pids = [*host.workers(), "self"]
        self._postmaster = int(database.cluster.env["PGPID"])
        self._query = query
        env = database.cluster.env
        self._connection = psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres",
                                            dbname=database.name, connect_timeout=10)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()

    def count(self):
        self._cursor.execute(self._query)
        return self._cursor.fetchone()[0]

    def _all_waited(self):
        found = {}
        for pid in [*self._pids, self._postmaster, *children(self._postmaster)]:
            found.update(_waited(pid))
        return found

    def gone_since(self, leave):
        """Has leave() end whoever waits, and waits until nothing runs any more. Fails where that took too long."""
        before = self._all_waited()
        start = time.monotonic()
        leave()
        wait_until(lambda: not self.count(), 10)
        took = time.monotonic() - start
        kept = sum(seconds - before.get(path, 0) for path, seconds in self._all_waited().items())
        self.took.append((took, kept))
        assert took < LATE_S and took - kept < GONE_S, f"gone after {took:.3f} s, {kept:.3f} s for lack of a CPU"

    def __str__(self):
        return "gone within " + ", ".join(f"{took * 1000:.0f} ({kept * 1000:.0f})" for took, kept in self.took) + " ms"
