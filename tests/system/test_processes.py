"""Goal: whatever becomes of a process, the clients are served: neighbours accept for a worker that cannot, workers
without a master end by themselves and leave the port, and a stopped master is nobody's end."""
import os
import re
import signal
import time

import pytest

from support import place
from support.client import Client
from support.host import run_weft
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"


def sections(**server):
    return {"server": {"workers": 2, "request_timeout": "60s", **server}, "plugin.lab": {"path": LAB, "text": "x"}}


@pytest.fixture
def start(start_weft):
    """start_weft, and all workers are there."""
    def begin(*given, **named):
        host = start_weft(*given, **named)
        host.wait_log("serving: ")
        return host
    return begin


def all_are_served(host, count=40):
    """New connections, one after the other; about half of them come to each of two slots."""
    for _ in range(count):
        assert host.get("/lab/text", timeout=8).status == 200


def burn(host, client, ms):
    """A worker is busy from here on, and its neighbour has noticed."""
    noticed = r"worker \d+ does not accept: its slot \d+ is served here"
    before = len(re.findall(noticed, host.log))
    client.request("GET", f"/lab/burn/{ms}")
    host.wait_log(noticed, count=before + 1)


def is_gone(pid):
    """No such process, or one that nobody has waited for."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except FileNotFoundError:
        return True


# neighbours

def test_a_stopped_worker_s_clients_are_served(start):
    """Those who were queued when it was stopped, too; and it serves again once it goes on."""
    host = start(sections())
    stopped = host.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        clients = [host.connect().send(b"GET /lab/text HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                   for _ in range(40)]
        for client in clients:
            assert client.read_answer().status == 200
            client.close()
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: int(host.get("/lab/pid").body) == stopped)
    assert stopped in host.workers()


def test_a_busy_worker_s_clients_are_served(start):
    host = start(sections(stall_warn="0", stall_kill="0", log_level="debug"))
    with host.connect() as busy:
        burn(host, busy, 9000)
        all_are_served(host)
        busy.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            busy.socket.recv(1)
        busy.socket.settimeout(20)
        assert busy.read_answer().status == 200


def test_a_full_worker_s_clients_are_served(start):
    """A worker that has all the connections it may have does not accept, and neither should its queue wait."""
    host = start(sections(connections_max=6))
    kept = []
    while len(kept) < 6:        # until one of the two has as many as it may
        kept.append(Client(host.address, 10))
        kept[-1].ask("GET", "/lab/pid")
    all_are_served(host)
    for client in kept:
        client.close()


def test_a_worker_that_waits_to_be_started_again(start):
    """With back-off, from the third time on for half a second and more."""
    host = start(sections())
    for count in range(1, 4):
        os.kill(host.workers()[-1], signal.SIGKILL)
        host.wait_log("is started again in", count=count)
        all_are_served(host, 10)
        host.wait_log("is back as process", count=count)


# the master

def test_no_master_no_workers(start):
    """They finish what they have, and the port is free at once."""
    host = start(sections())
    workers = host.workers()
    with host.connect() as client:
        client.request("GET", "/lab/sleep/1000")
        assert host.get("/lab/text").status == 200
        host.kill()
        host.wait_log("the master has died")
        assert client.read_answer().status == 200
    wait_until(lambda: all(map(is_gone, workers)))
    host.start()
    assert host.get("/lab/text").status == 200


def test_no_master_and_a_worker_that_does_not_listen(start):
    """Plugin code that never returns keeps neither the process nor the port."""
    host = start(sections(stall_warn="0", stall_kill="0", log_level="debug"))
    workers = host.workers()
    with host.connect() as busy:
        burn(host, busy, 50000)
        host.kill()
        wait_until(lambda: all(map(is_gone, workers)), timeout=20)
    host.start()
    assert host.get("/lab/text").status == 200


def test_no_master_while_it_reloads(start):
    """The old generation holds, the new one serves: both end."""
    host = start(sections())
    host.signal(signal.SIGHUP)
    host.wait_log("generation 2 serves")
    workers = host.workers()
    assert len(workers) == 4
    host.kill()
    wait_until(lambda: all(map(is_gone, workers)), timeout=20)
    host.start()
    assert host.get("/lab/text").status == 200


def test_a_stopped_master_kills_nobody(start):
    """Nor is anybody killed for it when it goes on, though every limit of time has passed meanwhile."""
    host = start(sections(stall_warn="200ms", stall_kill="500ms", start_timeout="1s"))
    workers = host.workers()
    host.signal(signal.SIGSTOP)
    begin = time.monotonic()
    while time.monotonic() < begin + 2:
        all_are_served(host, 5)
    host.signal(signal.SIGCONT)
    all_are_served(host)
    assert host.workers() == workers
    host.stop()
    assert "killed" not in host.log


def test_a_master_stopped_while_it_reloads(start):
    """New workers that were ready in time are not late because the master looks late."""
    host = start(sections(start_timeout="6s"))
    host.signal(signal.SIGHUP)
    host.wait_log("trying generation 2")
    host.signal(signal.SIGSTOP)
    time.sleep(6.5)      # the trial ends meanwhile
    host.signal(signal.SIGCONT)
    host.wait_log("generation 2 serves", timeout=20)
    all_are_served(host)


# the clock on the wall

def test_a_clock_that_is_set(start, tmp_path):
    """By years, forward and back: nothing is late for it, nothing ends, nobody is killed; only what is written down
    has the other time."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    server = {"stall_warn": "300ms", "stall_kill": "1s", "idle_timeout": "60s", "request_timeout": "20s",
              "start_timeout": "30s", "rollback_window": "60s", "crash_window": "60s"}
    host = start(sections(**server), env={
        "LD_PRELOAD": str(place.BUILD / "tests" / "clock.so"), "WEFT_CLOCK": str(offset),
        "ASAN_OPTIONS": "detect_stack_use_after_return=0:verify_asan_link_order=0"})
    before = host.workers()
    with host.connect(timeout=30) as kept, host.connect(timeout=30) as busy:
        assert kept.ask("GET", "/lab/text").status == 200
        for years in (10, -10, 40, 0):
            busy.request("GET", "/lab/sleep/400")
            offset.write_text(str(years * 365 * 86400) + " " * 20)
            all_are_served(host, 10)
            assert busy.read_answer().status == 200
            assert kept.ask("GET", "/lab/text").status == 200
        assert host.workers() == before
        offset.write_text(str(10 * 365 * 86400) + " " * 20)
        assert run_weft("reload", "-c", host.config).returncode == 0
        assert run_weft("status", "-c", host.config).returncode == 0
        assert len(host.workers()) == 4      # the old ones are held as long as ever
        all_are_served(host, 10)
    host.wait_log(rf"^time={time.gmtime().tm_year + 10 - 1}|^time={time.gmtime().tm_year + 10}")
    host.stop()
    assert not re.search("killed|in one turn|cut off|level=error", host.log), host.log


def test_both_ends_of_a_port_after_a_crash_of_the_master(start_weft):
    """A new host starts while a request of the old one is still being finished."""
    host = start_weft(sections())
    host.wait_log("serving: ")
    with host.connect() as client:
        client.request("GET", "/lab/sleep/3000")
        assert host.get("/lab/text").status == 200
        host.kill()
        host.wait_log("the master has died", count=2)
        host.wait_log("draining", count=2)
        host.start()
        assert host.get("/lab/text").status == 200
        assert client.read_answer().status == 200
