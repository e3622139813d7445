"""Faults of PostgreSQL, for the section `faults`: of a cluster with few connections, which lies behind a TCP proxy."""
import collections
import contextlib
import os
import random
import signal
import time

import psycopg2

from stage import HERE, place
from support.cluster import Cluster, children, halt
from support.proxy import Proxy

CONNECTIONS_MAX = 24   # of the cluster, so that all of them can be taken
TICK_S = 0.05          # between two of what goes wrong again and again
# Whoever is hit by it is not to wait longer than a run takes.
PATIENCE = {"statement_timeout": "1s", "queue_timeout": "1s", "connect_timeout": "1s"}


class Database:
    """What can be broken, and how. Made by a process that is where the load is; so is the cluster then."""

    def __init__(self, stage):
        self.cluster = Cluster(stage.folder / "broken", "--port", str(place.free_port()), "--set",
                               f"max_connections={CONNECTIONS_MAX}", "--set", "synchronous_commit=off")
        self.cluster.start()
        self.proxy = Proxy(place.free_port(), ("127.0.0.1", int(self.cluster.env["PGPORT"])))
        self.run("set role weft; " + (HERE / "schema.sql").read_text(encoding="utf-8"))
        self.run("create function full_disk() returns trigger language plpgsql as"
                 " $$ begin raise 'could not extend file' using errcode = '53100'; end $$;"
                 "create trigger full_disk before update on world for each row execute function full_disk();"
                 "alter table world disable trigger full_disk")
        self._others, self._halted = [], []

    def close(self):
        self.proxy.end()
        self.cluster.remove()

    @property
    def settings(self):
        """What belongs into a [pg.NAME] section."""
        return {"host": "127.0.0.1", "port": self.proxy.port, "user": "weft", "dbname": "weft",
                "password": self.cluster.env["PGPASSWORD"], **PATIENCE}

    def run(self, sql):
        return self.cluster.run(sql, database="weft")

    def sessions(self):
        """The server's processes of the host's sessions."""
        return [pid for pid, in self.run("select pid from pg_stat_activity where application_name = 'weft'")]

    def kill(self):
        postmaster = int(self.cluster.env["PGPID"])
        for pid in [*children(postmaster), postmaster]:
            with contextlib.suppress(ProcessLookupError):   # one that has just ended
                os.kill(pid, signal.SIGKILL)
        while os.path.exists(f"/proc/{postmaster}"):   # as long as anything of it is there, none can start
            time.sleep(0.01)

    def start(self):
        self.cluster.start()

    def restart(self):
        self.cluster.stop(now=True)
        self.cluster.start()

    def terminate_one(self):
        self.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'weft'"
                 " order by random() limit 1")

    def halt_one(self):
        self._halted = random.sample(self.sessions(), 1)
        for pid in self._halted:
            halt(pid)

    def resume(self):
        for pid in self._halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def take_all(self):
        """Every connection is somebody else's, and the host's are thrown out."""
        env = self.cluster.env
        for _ in range(3 * CONNECTIONS_MAX):
            try:
                self._others.append(psycopg2.connect(host=env["PGHOST"], port=env["PGPORT"], user="postgres",
                                                     dbname="postgres"))
                self._others[-1].autocommit = True
            except psycopg2.OperationalError:   # full: one of the host's goes, and its place is the next one's
                if not self._others:
                    raise
                with contextlib.closing(self._others[0].cursor()) as cursor:
                    cursor.execute("select pg_terminate_backend(pid) from pg_stat_activity"
                                   " where application_name = 'weft'")
                    if not cursor.fetchall():
                        return

    def give_back(self):
        while self._others:
            self._others.pop().close()

    def fill_disk(self):
        self.run("alter table world enable trigger full_disk")

    def empty_disk(self):
        self.run("alter table world disable trigger full_disk")

    def demote(self):
        """It comes back as a standby."""
        self.cluster.stop(now=True)
        self.cluster.be_standby()
        self.cluster.start()

    def promote(self):
        self.cluster.run("select pg_promote()")


# What goes wrong; the path that is hit by it; what does it, what goes on doing it, and what mends it, or None.
Cause = collections.namedtuple("Cause", "what hit begin tick end", defaults=(None, None, None))


def causes(database):
    return [
        Cause("PostgreSQL is killed and started again", "/db", begin=database.kill, end=database.start),
        Cause("PostgreSQL restarts at once", "/db", begin=database.restart),
        Cause("pg_terminate_backend at random", "/db", tick=database.terminate_one),
        Cause("SIGSTOP of a backend", "/db", begin=database.halt_one, end=database.resume),
        Cause("connections to it are reset", "/db", tick=database.proxy.reset),
        Cause("connections to it are half-open", "/db", begin=database.proxy.fall_silent,
              end=database.proxy.end_silence),
        Cause("max_connections are others'", "/db", begin=database.take_all, end=database.give_back),
        Cause("its disk is full (53100)", "/updates?n=1", begin=database.fill_disk, end=database.empty_disk),
        Cause("it is in recovery", "/updates?n=1", begin=database.demote, end=database.promote),
    ]
