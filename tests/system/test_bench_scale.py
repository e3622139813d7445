"""Goal: the benchmark's section on scale measures what it says: its clients hold as many connections as they are told
to, count what was answered and nothing else, and memory that grows is told from memory that swings."""
import json
import shutil
import subprocess
import sys

import pytest

from support import place
from support.host import run_weft

sys.path.insert(0, str(place.ROOT / "tests" / "bench"))
import scale  # noqa: E402
import stage  # noqa: E402


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stage of this build."""
    for program in ("nginx", "wrk"):
        if not shutil.which(program, path="/usr/bin:/usr/sbin"):
            pytest.skip(f"{program} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "WORK", tmp_path_factory.mktemp("bench"))
        opened = stage.Stage("scale")
        with opened:
            yield opened


@pytest.fixture
def tool(made):
    # pylint: disable=protected-access
    return scale._tool(made, "connections")


@pytest.fixture
def host(start_weft):
    return start_weft({"plugin.hello": {"path": "hello.so"}})


def requests_of(host):
    status = json.loads(run_weft("status", "--json", "-c", host.config).stdout)
    return status["requests"]


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60, check=False)


def test_held_connections_are_answered_and_stay(host, tool):
    with subprocess.Popen([tool, "-n", "200", "-s", "127.0.0.2", f"127.0.0.1:{host.port}", "/hello"], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1) as clients:
        def tell(line):
            clients.stdin.write(line + "\n")
            return clients.stdout.readline()

        assert clients.stdout.readline() == "held 200\n"
        assert requests_of(host) == 200
        assert json.loads(run_weft("status", "--json", "-c", host.config).stdout)["workers"][0]["connections"] == 200
        assert tell("ask /hello") == "asked 200\n"
        assert tell("take") == "taken 200\n"
        assert tell("ask /nowhere") == "asked 200\n"
        assert tell("take") == "taken 0\n"
        clients.stdin.close()
        assert clients.wait(30) == 0
    assert requests_of(host) == 600


def test_visits_are_counted(host, tool):
    done = run(tool, "-n", "8", "-d", "0.5", f"127.0.0.1:{host.port}", "/hello")
    found = json.loads(done.stdout)
    assert found["errors"] == 0 and 0 < found["p50_us"] <= found["p99_us"] <= found["max_us"]
    assert 0 < found["connections"] <= requests_of(host) <= found["connections"] + 8
    missed = json.loads(run(tool, "-n", "8", "-d", "0.2", f"127.0.0.1:{host.port}", "/nowhere").stdout)
    assert missed["connections"] == 0 and missed["errors"] > 0


def test_crowds_are_counted(host, tool):
    found = json.loads(run(tool, "-n", "50", "-d", "0.2", "-a", "/hello", f"127.0.0.1:{host.port}", "/hello").stdout)
    assert found["errors"] == 0 and found["connections"] >= 50 and found["connections"] % 50 == 0
    assert requests_of(host) == 2 * found["connections"]
    found = json.loads(run(tool, "-n", "50", "-d", "0.1", "-a", "/nowhere", f"127.0.0.1:{host.port}", "/hello").stdout)
    assert found["errors"] == found["connections"]


@pytest.mark.parametrize("arguments", [[], ["127.0.0.1:80"], ["127.0.0.1:0", "/"], ["here:80", "/"],
                                       ["-n", "0", "127.0.0.1:80", "/"], ["-n", "1x", "127.0.0.1:80", "/"],
                                       ["-s", "here", "127.0.0.1:80", "/"], ["-d", "-1", "127.0.0.1:80", "/"]], ids=str)
def test_wrong_arguments_are_refused(tool, arguments):
    done = run(tool, *arguments)
    assert done.returncode == 2 and "connections [-n COUNT]" in done.stderr


def test_a_server_that_is_not_there_is_told(tool, free_port):
    done = run(tool, "-n", "2", f"127.0.0.1:{free_port()}", "/")
    assert done.returncode == 1 and "connections: connect: Connection refused" in done.stderr


def test_idle_connections(made):
    assert "200 still answer" in scale.idle(made, 200).value


@pytest.mark.parametrize("wait", [scale.SLEEP, scale.THEN, scale.STATEMENT, scale.CALL], ids=lambda wait: wait.what)
def test_requests_that_wait(made, wait):
    assert "200 answered" in scale.waiting(made, 200, wait, seconds=2)[0].value


def test_active_connections_are_all_there(made):
    for row in scale.active(made, 200, 1):
        assert row.ok and "200 open at first, 200 in the end, 0 refused, 0 lost" in row.value, row


def test_active_connections_that_do_not_fit_are_noticed(made, monkeypatch):
    monkeypatch.setitem(scale.WIDE["server"], "connections_max", 100)
    monkeypatch.setitem(scale.WIDE["server"], "connections_soft", 100)
    rows = scale.active(made, 300, 1)
    assert [row.ok for row in rows] == [False, False], rows


@pytest.mark.parametrize("what, held", [
    ({}, True), ({"503": 1}, False), ({"other": 1}, False), ({"errors": 1}, False), ({"timeouts": 1}, False),
    ({"2xx": 0}, False), ({"begun": 9}, False), ({"ended": 9}, False), ({"refused": 1}, False), ({"lost": 1}, False)])
def test_bars_of_active_connections(what, held):
    classes = {name: {"count": what.get(name, count), "p50_us": 1, "p99_us": 1}
               for name, count in (("2xx", 5), ("503", 0), ("other", 0))}
    total = {"goodput": 5, "errors": what.get("errors", 0), "timeouts": what.get("timeouts", 0), **classes}
    conns = {"begun": 10, "ended": 10, "refused": 0, "lost": 0}
    conns.update({name: count for name, count in what.items() if name in conns})
    assert scale.active_row("so", 10, {"total": total, "connections": conns}).ok is held


@pytest.mark.parametrize("one, two, cpus, held", [
    (1000, 1600, 2, True), (1000, 1599, 2, False), (100000, 89000, 2, False), (1000, 990, 1, None)])
def test_bars_of_a_second_worker(one, two, cpus, held):
    row = scale.gain_row(one, two, cpus)
    assert row.ok is held and ("not judged" in row.bar) == (held is None)


def test_workers_are_asked_for_what_costs_them_cpu(made):
    """Here they are of a build with sanitizers: how much the second one is good for is another matter."""
    first, second, gain = scale.workers(made, 1)
    assert first.ok and "of them 100%" in first.value and " 0 bad" in first.value
    assert " 0 bad" in second.value and "%/" in second.value and " x the requests" in gain.value


def test_a_database_that_was_not_asked_is_noticed(made, monkeypatch):
    def check(workload, number, before, counts):
        real(workload, number, before, counts)
        with pytest.raises(RuntimeError, match=f"W3: the database has counted 0 of {number} for {number} requests"):
            real(workload, number, before, lambda: before, 0.1)
        asked.append(number)

    real, asked = scale.cost.check_database, []
    monkeypatch.setattr(scale.cost, "check_database", check)
    assert scale.sessions(made, 4, 1).ok
    assert len(asked) == 1 and asked[0] > 500


def test_routes_of_the_plugin(made, start_weft):
    # pylint: disable=protected-access
    host = start_weft({"plugin.scale": {"path": scale._plugin(made), "routes": 100}})
    assert host.get("/many/0/x").body == b"x" and host.get("/many/99/abc").body == b"abc"
    assert host.get("/many/100/x").status == 404
    assert host.get("/wait/1").body == host.get("/then/1").body == b"waited"


def test_growth_between_crowds():
    """How long a crowd takes, and whether one is there as the minute ends, is no growth; what it leaves is."""
    def crowds(left):
        return [(at, 16e6 + at * left + (6e6 if at % 10 < 2 + at / 200 else at % 3 * 1e5)) for at in range(600)]

    risen, mean = scale.growth(crowds(0))
    assert risen > 1e6                       # by the mean
    risen, mean = scale.growth(scale.lows(crowds(0), 10))
    assert abs(risen) < 1e5 and abs(mean - 16e6) < 1e5
    risen, _ = scale.growth(scale.lows(crowds(2000), 10))
    assert 1.0e6 < risen < 1.4e6


def test_growth_is_told_from_swings():
    swings = [(at, 20e6 + (at % 10) * 1e5) for at in range(600)]
    risen, mean = scale.growth(swings)
    assert abs(risen) < 0.05e6 and 20e6 < mean < 21e6
    risen, _ = scale.growth([(at, value + at * 2000) for at, value in swings])
    assert risen == pytest.approx(599 * 2000, rel=0.05)
    risen, _ = scale.growth([(at, value - at * 2000) for at, value in swings])
    assert risen == pytest.approx(-599 * 2000, rel=0.05)
