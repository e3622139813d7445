"""Goal: a full disk under the logs stops nothing: requests are served, what could not be written is counted, and the log
says so when there is room again."""
import os
import re
import subprocess

import pytest

from support import logs, place
from support.client import Client
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"


@pytest.fixture
def small(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder],
                                           capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder):
    """Leaves no room on the disk, and answers the file that takes it."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    return path


def metric(port, name):
    with Client(("127.0.0.1", port)) as client:
        text = client.ask("GET", "/metrics").body.decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE).group(1))


def test_a_full_disk_under_both_logs(start_weft, small, free_port):
    port = free_port()
    error, access = small / "error.log", small / "access.log"
    host = start_weft({"server": {"error_log": error, "access_log": access, "admin": f"127.0.0.1:{port}", "workers": 1,
                                  "slow_request": "1ms"},
                       "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB}})
    wait_until(lambda: "serving: " in error.read_text())
    assert host.get("/hello").status == 200
    filler = fill(small)
    for _ in range(300):
        assert host.get("/hello").status == 200
    # Lines of the error log: the last page of its file has room for some.
    wait_until(lambda: host.get("/lab/sleep/2").status == 200 and metric(port, "weft_error_log_lost_total") > 0)
    filler.unlink()
    wait_until(lambda: host.get("/lab/sleep/2").status == 200 and "could not be written to this log" in error.read_text())
    wait_until(lambda: host.get("/hello").status == 200 and access.read_text().count("path=/hello") > 1)
    lines = [logs.fields(line) for line in error.read_text().splitlines()]
    told = [line for line in lines if line.get("msg", "").startswith("lines before this one could not be written")]
    assert 1 <= int(told[0]["lost"]) <= metric(port, "weft_error_log_lost_total")
    assert all(re.match("time=20", line) for line in error.read_text().splitlines()[-3:])
    host.stop()


def test_a_log_that_never_takes_a_line(start_weft, free_port):
    """/dev/full says what a full disk says, from the first line on."""
    port = free_port()
    host = start_weft({"server": {"error_log": "/dev/full", "access_log": "/dev/full", "admin": f"127.0.0.1:{port}",
                                  "slow_request": "1ms"},
                       "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB}})
    for _ in range(50):
        assert host.get("/hello").status == 200
    assert host.get("/lab/sleep/5").status == 200
    wait_until(lambda: metric(port, "weft_error_log_lost_total") > 0)
    host.stop()
