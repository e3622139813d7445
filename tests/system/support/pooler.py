"""PgBouncer in transaction mode before a cluster."""
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import tempfile
import time

PROGRAM = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")


class Pooler:
    """Listens on 127.0.0.1:port until end(). Role weft needs no password; `sessions` is how many sessions of the
    server all clients of a database share; `settings` are further lines of its file."""

    def __init__(self, port, cluster, sessions, settings=""):
        self.port = port
        # It refuses to run as root: who runs it instead has to reach its files.
        owner = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-pooler-", dir="/var/tmp"))
        (self._folder / "users").write_text('"weft" ""\n')
        (self._folder / "pooler.ini").write_text(f"""[databases]
* = host={cluster.env["PGHOST"]} port={cluster.env["PGPORT"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {self._folder}/users
pool_mode = transaction
default_pool_size = {sessions}
{settings}
""")
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        self._log = open(self._folder / "log", "wb")
        self._process = subprocess.Popen([PROGRAM, self._folder / "pooler.ini"], stdin=subprocess.DEVNULL,
                                         stdout=self._log, stderr=self._log, cwd="/", user=owner.pw_uid,
                                         group=owner.pw_gid, extra_groups=[])
        self._wait()

    def _wait(self):
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < end, self.log
                time.sleep(0.02)

    @property
    def log(self):
        return (self._folder / "log").read_text(errors="replace")

    def end(self):
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)
