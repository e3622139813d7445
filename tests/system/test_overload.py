"""Goal: with no setting for it, a host that is offered more than it can do goes on doing what it can, refuses the rest
early with 503 and Retry-After, and serves what does not want what is scarce."""
import json
import re
import subprocess
import time

import pytest

from support import place

LOAD = place.BUILD / "tests" / "openloop"
# Far above what is aimed at (a quarter of 200 ms), and below the seconds that lines and requests may take without it.
SOON_US = 1500000
UPSTREAM_S = 0.02   # what one answer of the upstream takes


@pytest.fixture
def host(start_weft, database, peer):
    def answer(exchange):
        time.sleep(UPSTREAM_S)
        exchange.answer(body="{}")

    peer.on("GET", "/quote", answer)
    return start_weft({"server": {"workers": 1}, "pg.main": {**database.settings, "sessions": 1},
                       "upstream.quotes": {"url": peer.url, "connections": 1}, "plugin.bench": {"path": "bench.so"}})


def offer(host, path, rate, connections, seconds=2, warm=1):
    """Starts a load; what comes of it is what told() says."""
    command = [LOAD, "-r", rate, "-d", seconds, "-w", warm, "-c", connections, "-p", f"127.0.0.1:{host.port}", path]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


def told(load):
    out, _ = load.communicate(timeout=50)
    assert load.returncode == 0
    return json.loads(out)["total"]


def check(total):
    assert total["errors"] == total["timeouts"] == total["other"]["count"] == 0, total
    assert total["503"]["count"] == total["retry_after"] > 0, total
    assert total["2xx"]["count"] > 0 and total["2xx"]["p99_us"] < SOON_US and total["503"]["p99_us"] < SOON_US, total


def test_more_than_a_worker_can_do(host):
    """3 ms of CPU each, 800 times a second, from as many clients as can wait for more than a second."""
    check(told(offer(host, "/work?us=3000", 800, 500)))
    assert re.search(r"http: overload: the shortest delay", host.log)
    assert host.get("/plaintext").status == 200


def test_more_than_a_pool_can_do(host):
    """20 ms each of the one session, 200 times a second."""
    load, plain = offer(host, "/wait?ms=20", 200, 300), offer(host, "/plaintext", 20, 10)
    check(told(load))
    served = told(plain)   # what needs no session
    assert served["2xx"]["count"] == served["requests"], served
    assert re.search(r"pg main: overload: whoever was served lately", host.log)
    assert host.get("/wait?ms=1").status == 200


def test_more_than_an_upstream_can_do(host):
    """The same of its one connection."""
    load, plain = offer(host, "/api", 200, 300), offer(host, "/plaintext", 20, 10)
    check(told(load))
    served = told(plain)
    assert served["2xx"]["count"] == served["requests"], served
    assert re.search(r"upstream quotes: overload: whoever was served lately", host.log)
