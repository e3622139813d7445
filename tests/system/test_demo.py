"""Goal: the demo answers every route as it says, and leaves nothing behind, however it ends: told to stop,
its terminal closed, or killed. Here it runs the build under test, on ports and in a folder of its own."""
import fcntl
import os
import pathlib
import pty
import re
import signal
import subprocess
import time

import pytest

from support import place
from support.client import Client
from support.cluster import run_pgcluster


class Demo:
    """One run of tests/tools/demo."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.port = place.free_port()
        self.env = {**os.environ, "WEFT_BUILD": str(place.BUILD), "WEFT_DEMO_FOLDER": str(folder),
                    "WEFT_DEMO_PORT": str(self.port), "WEFT_DEMO_API_PORT": str(place.free_port())}
        self.pid = None
        self.output = b""

    def check(self):
        return subprocess.run([place.TOOLS / "demo", "--check"], env=self.env, capture_output=True, text=True,
                              timeout=120, check=False)

    def start(self):
        """Starts it on a terminal of its own and waits until it says how to stop it."""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(place.TOOLS / "demo", ["demo"], self.env)
        while b"Ctrl-C stops all" not in self.output:
            self.output += os.read(self.terminal, 65536)
        return self

    def close_terminal(self):
        os.close(self.terminal)

    def press_interrupt(self):
        os.write(self.terminal, b"\x03")

    def wait(self):
        """The exit code of a run that ends by itself, or less than 0 where a signal ended it."""
        pid, self.pid = self.pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def left(self):
        """The hosts and postmasters of this demo that still run."""
        marks = [str(self.folder / "postgres"), f"WEFT_DEMO_PORT={self.port}"]
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                program = os.readlink(process / "exe")
                text = (process / "cmdline").read_text() + (process / "environ").read_text()
            except OSError:
                continue
            if program.endswith(("/weft", "/postgres")) and any(mark in text for mark in marks):
                found.append(f"{process.name} {program}")
        return found

    def wait_left(self):
        end = time.monotonic() + 15
        while self.left() and time.monotonic() < end:
            time.sleep(0.1)
        return self.left()


@pytest.fixture
def demo(tmp_path):
    made = Demo(tmp_path / "demo")
    yield made
    if made.pid:
        os.kill(made.pid, signal.SIGTERM)
        made.wait()
    run_pgcluster("remove", made.folder / "postgres")


@pytest.mark.limit(120)
def test_check_finds_every_route_as_it_should_be(demo):
    done = demo.check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[3-9]\d requests, 0 not as expected", done.stdout, re.M)
    assert demo.left() == []
    for name in ["weft.log", "thirdparty.log"]:
        log = (demo.folder / name).read_text()
        assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.mark.limit(120)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_all_of_it(demo, number):
    demo.start()
    assert Client(("127.0.0.1", demo.port)).ask("GET", "/books/1").status == 200
    os.kill(demo.pid, number)
    assert demo.wait() == 128 + number
    assert demo.left() == []


@pytest.mark.limit(120)
def test_interrupt_key_stops_all_of_it(demo):
    demo.start().press_interrupt()
    assert demo.wait() == 128 + signal.SIGINT
    assert demo.left() == []


@pytest.mark.limit(120)
def test_closing_its_terminal_stops_all_of_it(demo):
    demo.start().close_terminal()
    demo.wait()
    assert demo.left() == []


@pytest.mark.limit(180)
def test_a_killed_run_leaves_nothing_in_the_way_of_the_next(demo):
    os.kill(demo.start().pid, signal.SIGKILL)
    demo.wait()
    done = demo.check()
    assert done.returncode == 0, done.stdout + done.stderr
    assert demo.wait_left() == []


@pytest.mark.limit(120)
def test_a_halted_host_left_behind_is_stopped(demo):
    demo.start()
    os.kill(int((demo.folder / "weft.pid").read_text()), signal.SIGSTOP)
    os.kill(demo.pid, signal.SIGTERM)
    demo.wait()
    assert demo.left() == []


def test_a_taken_port_is_one_line_that_says_what_to_do(demo, peer):
    demo.env["WEFT_DEMO_PORT"] = str(peer.port)
    done = demo.check()
    assert done.returncode == 1
    assert f"demo: port {peer.port} of 127.0.0.1 is taken: stop what listens there" in done.stderr


def test_a_second_demo_in_one_folder_is_refused(demo):
    demo.folder.mkdir()
    with open(demo.folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = demo.check()
    assert done.returncode == 1
    assert "another ./run demo runs in this folder" in done.stderr
