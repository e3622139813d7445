"""A private PostgreSQL cluster (tests/tools/pgcluster) and databases in it."""
import itertools
import os
import pathlib
import signal
import subprocess
import time

import psycopg2

from . import place

_numbers = itertools.count(1)


def run_pgcluster(*arguments):
    """Runs tests/tools/pgcluster and returns what it printed, as a dict; raises where it fails."""
    command = [place.TOOLS / "pgcluster", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def children(pid):
    """The process ids of a process's children."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def halt(pid):
    """Stops a process, and waits until it does nothing more; one that is gone is fine."""
    try:
        os.kill(pid, signal.SIGSTOP)
        while pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "TZX":
            time.sleep(0.001)
    except (ProcessLookupError, FileNotFoundError):
        pass


class Database:
    """One database of a cluster; `settings` is what belongs into a [pg.NAME] section."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name

    @property
    def settings(self):
        env = self.cluster.env
        return {"host": env["PGHOST"], "port": env["PGPORT"], "user": "weft", "dbname": self.name}

    def run(self, sql, *values):
        """Runs one statement and returns its rows, or None where it has none."""
        return self.cluster.run(sql, *values, database=self.name)

    def load(self, path):
        """Runs a file of SQL."""
        return self.run(pathlib.Path(path).read_text())


class Cluster:
    """A cluster that runs until stop() or the end of this process."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.options = options
        self.env = {}
        self.authority = None   # the file of who vouches for its certificate: speak_tls()

    def start(self):
        self.env = run_pgcluster("start", self.folder, "--with", str(os.getpid()), *self.options)

    def stop(self, now=True):
        run_pgcluster("stop", self.folder, *(["--now"] if now else []))

    def remove(self):
        run_pgcluster("remove", self.folder)

    def is_running(self):
        command = [place.TOOLS / "pgcluster", "env", self.folder]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0

    def speak_tls(self):
        """From now on, with a certificate for localhost and 127.0.0.1; it is started again."""
        folder = (pathlib.Path(self.folder) / "pg").resolve()
        subprocess.run([place.TOOLS / "certificates", folder], stdin=subprocess.DEVNULL, timeout=60, check=True)
        owner = (folder / "data").stat()
        for path in [*folder.glob("*.crt"), *folder.glob("*.key")]:
            os.chown(path, owner.st_uid, owner.st_gid)
            path.chmod(0o600)
        self.authority = folder / "ca.crt"
        self.options += ("--set", "ssl=on", "--set", f"ssl_cert_file={folder / 'good.crt'}",
                         "--set", f"ssl_key_file={folder / 'good.key'}")
        self.stop()
        self.start()

    def be_standby(self):
        """The next start is as a standby without a primary, until pg_promote(). To be called while it is stopped."""
        data = (pathlib.Path(self.folder) / "pg").resolve() / "data"
        mark = data / "standby.signal"
        mark.touch()
        os.chown(mark, data.stat().st_uid, data.stat().st_gid)

    def pause(self):
        """Halts every process of it (SIGSTOP), as a machine that hangs would."""
        postmaster = int(self.env["PGPID"])
        halt(postmaster)  # first, so that it forks no further child
        for pid in children(postmaster):
            halt(pid)

    def resume(self):
        postmaster = int(self.env["PGPID"])
        for pid in [*children(postmaster), postmaster]:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass  # a backend that has just ended

    def run(self, sql, *values, database="postgres"):
        """Runs one statement as the superuser and returns its rows, or None where it has none."""
        connection = psycopg2.connect(host=self.env["PGHOST"], port=self.env["PGPORT"], user="postgres",
                                      dbname=database, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def create_database(self):
        """An empty database that belongs to role weft."""
        name = f"test_{next(_numbers)}"
        self.run(f"create database {name} owner weft")
        return Database(self, name)

    def drop_database(self, database):
        self.run(f"drop database {database.name} with (force)")
