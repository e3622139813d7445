"""Goal: what a worker holds for thousands is bounded: by the bytes of an idle connection and of a request that
waits. (Here by a sanitizer's measure, several times the real one, which ./run bench holds to 525 bytes and
12 KiB.)"""
import os

import pytest

from support import place
from support.memory import memory_of

MANY = 2000
IDLE_BYTES_MAX = 900      # with redzones and shadow; 525 without
LAB = place.BUILD / "tests/plugins/lab.so"
ENV = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1:malloc_context_size=0"}


@pytest.fixture
def host(start_weft):
    return start_weft({"plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB}}, env=ENV)


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
