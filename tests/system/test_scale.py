"""Goal: what a worker holds for thousands is bounded: by the bytes of an idle connection and of a request that
waits. (Here by a sanitizer's measure, several times the real one, which ./run bench holds to 525 bytes and
12 KiB.)"""
import json
import os

import pytest

from support import place
from support.host import run_weft
from support.memory import memory_of
from support.wait import wait_until

MANY = 2000
IDLE_BYTES_MAX = 900      # with redzones and shadow; 525 without
WAITING_BYTES_MAX = 40000   # the same, with frames several times as large; 12 KiB without
LAB = place.BUILD / "tests/plugins/lab.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:malloc_context_size=0"}


@pytest.fixture
def host(start_weft):
    return start_weft({"server": {"shed_after": 0}, "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB}},
                      env=ENV)


def under_way(host):
    """How many requests the host has."""
    done = run_weft("status", "--json", "-c", host.config)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["under_way"]


def ask_each(clients):
    for client in clients:
        assert client.ask("GET", "/hello").status == 200


def test_an_idle_connection_costs_its_struct(host, many_files):
    """Each has made a request: what that took was given back, buffers, parser, arena and stack."""
    ask_each([host.connect() for _ in range(100)])
    worker = host.workers()[0]
    before = memory_of(worker)
    clients = [host.connect() for _ in range(MANY)]
    ask_each(clients)
    grown = (memory_of(worker) - before) * 1024 / MANY
    print(f"{grown:.0f} bytes for an idle connection")
    assert grown < IDLE_BYTES_MAX
    ask_each(clients[::100])
    for client in clients:
        client.close()


def test_a_request_that_waits_costs_a_stack_and_a_block(host, many_files):
    """Stack, arena and scope of each."""
    clients = [host.connect(timeout=60) for _ in range(MANY)]
    ask_each(clients)
    worker = host.workers()[0]
    before = memory_of(worker)
    for client in clients:
        client.request("GET", "/lab/sleep/50000")
    wait_until(lambda: under_way(host) == MANY, 40)
    grown = (memory_of(worker) - before) * 1024 / MANY
    print(f"{grown:.0f} bytes for a request that waits")
    assert grown < WAITING_BYTES_MAX
    for client in clients:
        client.close()
    wait_until(lambda: under_way(host) == 0, 40)
    assert host.get("/hello").status == 200
