"""The host as a process, with settings, log and end under the test's eye."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

from . import logs, place
from .client import Client

_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|LeakSanitizer: detected"
                     r"|ERROR SUMMARY: [1-9]|CHECK failed|check failed")
_START_S = 30
_STOP_S = 40


def ini_text(sections):
    """An ini file's text from {"server": {"workers": 1}, ...}; a value that is a list makes a key for each."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        for key, value in keys.items():
            lines += [f"{key} = {one}" for one in (value if isinstance(value, list) else [value])]
        lines.append("")
    return "\n".join(lines)


def run_weft(*arguments, env=None, timeout=30):
    """Runs the program to its end and returns the CompletedProcess; stdout and stderr are text."""
    return subprocess.run([place.BUILD / "weft", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=timeout, env={**os.environ, **(env or {})})


class Host:
    """One `weft -c FILE`. Listens on 127.0.0.1:port, with one worker unless the settings say otherwise."""

    def __init__(self, folder, sections=None, text=None, env=None, port=None, wrapper=(), build=place.BUILD,
                 files=()):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or place.free_port()
        self.address = ("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "server.ini"
        self.log_path = self.folder / "weft.log"
        self.env = {**os.environ, **(env or {})}
        self.wrapper = list(wrapper)   # a command to run it under, such as valgrind or strace
        self.build = build             # the build that it is of
        self.files = files             # descriptors that it inherits
        self.arguments = []            # further ones of the command line
        self.process = None
        self.is_told = False           # to stop: a second signal would cut off what is under way
        self.configure(sections, text)

    def configure(self, sections=None, text=None):
        """Writes server.ini anew. `text` is taken as it is, with @PORT@ replaced."""
        if text is None:
            server = {"listen": f"127.0.0.1:{self.port}", "workers": 1,
                      "plugin_dir": self.build / "plugins", "runtime_dir": self.folder / "run"}
            server.update((sections or {}).get("server", {}))
            text = ini_text({"server": server,
                             **{name: keys for name, keys in (sections or {}).items() if name != "server"}})
        self.config.write_text(text.replace("@PORT@", str(self.port)))

    def start(self, wait=True):
        """Starts it and waits until it serves."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*self.wrapper, self.build / "weft", "-c", self.config,
                                             *self.arguments],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                                            pass_fds=self.files)
        if wait:
            self.wait_until_serving()
        return self

    def wait_until_serving(self):
        """Until a worker has noticed that a client came and left: the kernel takes connections sooner."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"weft exited with {self.process.returncode}:\n{self.log}")
            try:
                with socket.create_connection(self.address, timeout=1) as probe:
                    probe.shutdown(socket.SHUT_WR)
                    probe.recv(1)
                    return
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"weft does not serve on port {self.port}:\n{self.log}")

    @property
    def pid(self):
        """The master's process id; under a wrapper, the wrapper's."""
        return self.process.pid

    @property
    def log(self):
        """Everything written to stdout and stderr so far, in all runs."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern, count=1, timeout=10):
        """Waits until the log has so many matches, and returns the last as a Match."""
        end = time.monotonic() + timeout
        while True:
            found = list(re.finditer(pattern, self.log, re.MULTILINE))
            if len(found) >= count:
                return found[-1]
            assert time.monotonic() < end, f"not {count} of {pattern!r} in the log:\n{self.log}"
            time.sleep(0.02)

    def accesses(self, **wanted):
        """The lines of the access log, as dicts, whose fields are as wanted."""
        return logs.accesses(self.log, **wanted)

    def wait_access(self, count=1, timeout=10, **wanted):
        """Waits until the access log has so many such lines, and returns the last as a dict."""
        end = time.monotonic() + timeout
        while len(found := self.accesses(**wanted)) < count:
            assert time.monotonic() < end, f"not {count} lines with {wanted} in the log:\n{self.log}"
            time.sleep(0.02)
        return found[-1]

    def workers(self):
        """The process ids of the workers."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def connect(self, timeout=10):
        """A Client on a new connection."""
        return Client(self.address, timeout)

    def ask(self, method, target, headers=(), body=None, timeout=10):
        """One request on a connection of its own."""
        with self.connect(timeout) as client:
            return client.ask(method, target, headers, body)

    def get(self, target, **more):
        return self.ask("GET", target, **more)

    def post(self, target, body=b"", headers=(), **more):
        return self.ask("POST", target, headers, body, **more)

    def signal(self, number):
        self.is_told |= number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)

    def wait(self, timeout=_STOP_S):
        """Waits for its end and returns the exit code; killed and failed where it does not come."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"weft did not end within {timeout} s:\n{self.log}") from None

    def stop(self, code=0):
        """SIGTERM, unless it had one, and the end that is wanted: the exit code, and no report of a sanitizer in
        the log."""
        if self.process is None:
            return
        if self.process.poll() is None and not self.is_told:
            self.signal(signal.SIGTERM)
        found = self.wait()
        self.process, self.is_told = None, False
        self.check_log()
        assert found == code, f"weft exited with {found}, not {code}:\n{self.log}"

    def check_log(self):
        report = _REPORT.search(self.log)
        assert report is None, f"{report.group()} in the log:\n{self.log}"

    def kill(self):
        """Ends it at once, whatever it does. Checks nothing."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process, self.is_told = None, False
