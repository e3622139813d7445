"""Goal: commands find the host that runs with an ini file, whatever is wrong with the file by now, are refused to
strangers, and say clearly what became of them."""
import os
import signal
import socket
import stat
import subprocess

import pytest

from support.host import run_weft

HELLO = {"plugin.hello": {"path": "hello.so"}}


def socket_of(host):
    folder, = (host.folder / "run").iterdir()
    return folder / "control.sock"


def tell(host, *arguments, timeout=30):
    return run_weft(*arguments, "-c", host.config, timeout=timeout)


@pytest.mark.parametrize("now", [[], ["--now"]])
def test_stop(start_weft, now):
    """It returns when the host has ended."""
    host = start_weft(HELLO)
    assert stat.S_IMODE(socket_of(host).stat().st_mode) == 0o600
    done = tell(host, "stop", *now)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
    assert host.wait(10) == 0
    assert "told to stop" in host.log


def test_stop_waits_for_requests(start_weft):
    host = start_weft({"plugin.lab": {"path": host_lab()}})
    with host.connect() as client:
        client.request("GET", "/lab/sleep/1500")
        assert host.get("/lab/text").status == 200
        assert tell(host, "stop").returncode == 0
        assert client.read_answer().status == 200


def host_lab():
    from support import place
    return place.BUILD / "tests/plugins/lab.so"


def test_no_host(start_weft):
    host = start_weft(HELLO)
    host.stop()
    done = tell(host, "stop")
    assert done.returncode == 3
    assert "no host runs with" in done.stderr and str(host.config) in done.stderr


def test_found_by_another_path_of_the_file(start_weft, tmp_path):
    host = start_weft(HELLO)
    (tmp_path / "link.ini").symlink_to(host.config)
    assert run_weft("stop", "-c", tmp_path / "link.ini", "-o", f"server.runtime_dir={host.folder}/run").returncode == 0
    host.wait(10)


@pytest.mark.parametrize("wrong", ["nonsense\n", "[server\n", "[pg.main]\nnokey = 1\n", "[server]\nlisten = x\n"])
def test_found_although_the_file_is_broken(start_weft, wrong):
    host = start_weft(HELLO)
    with open(host.config, "a") as file:
        file.write(wrong)
    assert tell(host, "stop").returncode == 0
    host.wait(10)


def test_a_path_of_its_own(start_weft, tmp_path):
    host = start_weft({"server": {"control": tmp_path / "c.sock"}, **HELLO})
    assert (tmp_path / "c.sock").is_socket()
    second = start_weft({"server": {"control": tmp_path / "c.sock"}, **HELLO}, wait=False)
    assert second.wait() == 1 and "another host answers there" in second.log
    second.process = None
    assert tell(host, "stop").returncode == 0
    host.wait(10)
    assert not (tmp_path / "c.sock").exists()


def test_an_unknown_command(start_weft):
    host = start_weft(HELLO)
    with socket.socket(socket.AF_UNIX) as client:
        folder = os.open(socket_of(host).parent, os.O_PATH)
        client.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        client.settimeout(10)
        client.sendall(b"frobnicate now\n")
        got = b"".join(iter(lambda: client.recv(4096), b"")).decode()
    assert got == f"weft {host.pid}\n!this host has no command frobnicate\n=1\n"


def test_a_stopped_host_is_reported(start_weft):
    """Not waited for without end."""
    host = start_weft(HELLO)
    host.signal(signal.SIGSTOP)
    try:
        done = tell(host, "stop", timeout=60)
    finally:
        host.signal(signal.SIGCONT)
    assert done.returncode == 1 and "does not answer" in done.stderr
    host.is_told = True    # the command's line has arrived


def test_which_settings():
    done = run_weft("stop")
    assert done.returncode == 2 and "which settings" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_others_may_not_command(start_weft):
    """Neither by the file's mode nor by who they are."""
    host = start_weft(HELLO)
    path = socket_of(host)
    script = ("import os, socket, sys; folder = os.open(sys.argv[1], os.O_PATH); os.setuid(65534);"
              "s = socket.socket(socket.AF_UNIX); s.connect(f'/proc/self/fd/{folder}/control.sock');"
              "s.settimeout(10); s.sendall(b'stop\\n'); print(s.recv(100))")
    command = ["/usr/bin/python3", "-c", script, path.parent]
    assert "PermissionError" in subprocess.run(command, capture_output=True, text=True, timeout=30).stderr
    path.chmod(0o666)
    path.parent.chmod(0o755)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stdout == "b''\n" or "ConnectionResetError" in done.stderr or "BrokenPipe" in done.stderr, done
    host.wait_log("may not command")
    assert host.get("/hello").status == 200
