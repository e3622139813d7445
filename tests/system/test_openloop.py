"""Goal: the load generator of tests/bench keeps its rate whatever the server does, counts the time that a request waits
for a connection, and says of each request what came of it."""
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from support import place
from support.cluster import halt
from support.peer import fixed

sys.path.insert(0, str(place.ROOT / "tests" / "bench"))
import faults  # noqa: E402
import overload  # noqa: E402
from openloop import Loaded  # noqa: E402

PROGRAM = place.BUILD / "tests" / "openloop"


def load(peer, path, *options):
    done = subprocess.run([PROGRAM, *map(str, options), f"127.0.0.1:{peer.port}", path],
                          capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counts(part):
    return [part[name]["count"] for name in ("2xx", "503", "other")] + [part["errors"], part["timeouts"]]


@pytest.mark.parametrize("by_chance", [False, True])
def test_each_request_is_counted_once(peer, by_chance):
    lock, seen = threading.Lock(), [0]
    answers = [dict(status=200, body="x" * 5000), dict(status=503, headers={"Retry-After": "1"}), dict(status=404),
               dict(status=204), dict(status=503)]

    def answer(exchange):
        with lock:
            seen[0] += 1
            number = seen[0]
        exchange.answer(**answers[number % 5])

    peer.on("GET", "/", answer)
    told = load(peer, "/", "-r", 100, "-d", 1.5, "-w", 0.5, "-n", 3, "-c", 4, *(["-p"] if by_chance else []))
    total = told["total"]
    if not by_chance:
        assert total["requests"] == 150 and seen[0] == 200
        assert [part["requests"] for part in told["windows"]] == [50, 50, 50]
        assert counts(told["warm"]) == [20, 20, 10, 0, 0] and told["warm"]["offered"] == 100
        assert counts(total) == [60, 60, 30, 0, 0] and total["retry_after"] == 30
        assert total["offered"] == 100 and total["answered"] == 100 and total["goodput"] == 40
    assert 50 < total["requests"] < 300 and sum(counts(total)) == total["requests"]
    assert sum(part["requests"] for part in told["windows"]) == total["requests"]


def test_waiting_for_a_connection_counts(peer):
    """One connection, and a server that stands still once for 0.6 s at 100 requests a second: half of the requests of
    the 1.2 s are late, of which the generator would see one alone if it waited for answers before it went on."""
    first = threading.Event()

    def answer(exchange):
        if not first.is_set():
            first.set()
            time.sleep(0.6)   # the server's slowness, not the test's patience
        exchange.answer(body="x")

    peer.on("GET", "/", answer)
    total = load(peer, "/", "-r", 100, "-d", 1.2, "-c", 1)["total"]
    assert counts(total) == [120, 0, 0, 0, 0]
    assert total["2xx"]["max_us"] >= 600000 and total["2xx"]["p90_us"] >= 400000
    assert total["held"]["count"] == 120 and total["held"]["max_us"] >= 600000
    assert total["held"]["p90_us"] < total["2xx"]["p90_us"]   # one alone was held for long


def test_one_that_was_sent_may_have_all_of_its_time(peer):
    """With -a nothing that was sent is given up for the time that it, or others, had to wait here: 0.2 s for a
    connection, 20 s for an answer, of a server that stands still for 0.6 s."""
    first = threading.Event()

    def answer(exchange):
        if not first.is_set():
            first.set()
            time.sleep(0.6)   # the server's slowness, not the test's patience
        exchange.answer(body="x")

    peer.on("GET", "/", answer)
    total = load(peer, "/", "-r", 100, "-d", 1.2, "-c", 1, "-t", 200, "-a", 20000)["total"]
    assert total["errors"] == 0 and total["unanswered"] == 0
    assert total["unsent"] >= 39 and total["unsent"] + total["2xx"]["count"] == total["requests"] == 120
    assert total["held"]["max_us"] >= 600000


def test_what_comes_too_late_or_never(peer):
    peer.on("GET", "/stall", lambda exchange: exchange.stall())
    total = load(peer, "/stall", "-r", 50, "-d", 1, "-c", 2, "-t", 200)["total"]
    assert counts(total) == [0, 0, 0, 0, 50]     # two were under way at a time, the others found no connection
    assert total["unanswered"] >= 2 and total["unanswered"] + total["unsent"] == 50
    assert total["held"]["count"] == 0
    total = load(peer, "/stall", "-r", 50, "-d", 1, "-c", 100, "-a", 200)["total"]
    assert total["unanswered"] == total["timeouts"] == 50 and total["unsent"] == 0
    peer.on("GET", "/reset", lambda exchange: exchange.reset())
    total = load(peer, "/reset", "-r", 50, "-d", 1, "-c", 2)["total"]
    assert counts(total) == [0, 0, 0, 50, 0]
    peer.on("GET", "/close", fixed(body="x", headers={"Connection": "close"}))
    total = load(peer, "/close", "-r", 50, "-d", 1, "-c", 2)["total"]
    assert counts(total) == [50, 0, 0, 0, 0]


def test_connections_are_counted(peer):
    """Those that are open, and those that the server has ended."""
    peer.on("GET", "/", fixed(body="x"))
    assert load(peer, "/", "-r", 50, "-d", 0.5, "-c", 3)["connections"] == {
        "begun": 3, "ended": 3, "refused": 0, "lost": 0}
    peer.on("GET", "/reset", lambda exchange: exchange.reset())
    told = load(peer, "/reset", "-r", 50, "-d", 0.5, "-w", 0.5, "-c", 2)
    assert told["connections"]["begun"] == 2 and told["connections"]["lost"] == 50   # those of the warm-up, too
    assert told["total"]["errors"] == 25
    peer.on("GET", "/stall", lambda exchange: exchange.stall())
    told = load(peer, "/stall", "-r", 10, "-d", 0.5, "-c", 20, "-t", 200)
    assert told["connections"]["lost"] == 0   # given up here


def test_a_closed_loop(peer):
    peer.on("GET", "/", fixed(body="x"))
    total = load(peer, "/", "-d", 0.5, "-c", 3)["total"]
    assert total["requests"] == total["2xx"]["count"] > 10
    assert counts(total)[1:] == [0, 0, 0, 0]


@pytest.mark.parametrize("arguments", [
    [], ["127.0.0.1:80"], ["127.0.0.1:80", "path"], ["localhost", "/"], ["name:80", "/"], ["127.0.0.1:0", "/"],
    ["-r", "x", "127.0.0.1:80", "/"], ["-c", "0", "127.0.0.1:80", "/"], ["-z", "127.0.0.1:80", "/"],
    ["127.0.0.1:80", "/" + "x" * 5000]])
def test_a_line_that_makes_no_sense(arguments):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_nobody_there(free_port):
    done = subprocess.run([PROGRAM, f"127.0.0.1:{free_port()}", "/"], capture_output=True, text=True, timeout=50,
                          check=False)
    assert done.returncode == 2 and "cannot connect" in done.stderr


def part(goodput=100, p99_us=1000, count=10, **more):
    """What the generator says of a window, and of the whole."""
    times = {"count": count, "p50_us": p99_us, "p99_us": p99_us}
    refused = {"count": more.get("refused", 0), "p50_us": 1000, "p99_us": more.get("refused_us", 1000)}
    lag = {"p99_us": more.get("lag_us", 0)}
    return {"goodput": goodput, "lag": lag, "2xx": times, "503": refused, "other": {"count": 0},
            "offered": more.get("offered", 200), "seconds": 1, "errors": more.get("errors", 0),
            "timeouts": more.get("timeouts", 0), "requests": more.get("requests", 10),
            "retry_after": more.get("advised", more.get("refused", 0))}


def loaded(windows=10, **what):
    return Loaded({"windows": [part(**what)] * windows, "total": part(**what)})


def test_medians_of_windows():
    """One window that went wrong moves neither rate nor times; its failures count."""
    seen = Loaded({"windows": [part(9, 1000), part(1, 90000), part(10, 2000), part(0, 0, 0)],
                   "total": part(5, 90000, 30, errors=3)})
    assert (seen.goodput, seen.ms(), seen.ms(kind="503"), seen.failed) == (5, 2, 0, 3)


@pytest.mark.parametrize("share, what, held", [
    (200, {"refused": 5}, [True] * 5),
    (200, {"goodput": 90, "refused": 5}, [False, True, True, True, True]),
    (200, {"goodput": 85, "refused": 5}, [False, True, False, True, True]),
    (200, {}, [True, True, True, False, True]),
    (200, {"goodput": 110, "refused": 5}, [True] * 5),
    (50, {"goodput": 46}, [True] * 5),
    (50, {"goodput": 45}, [False, True, True, True, True]),
    (120, {"p99_us": 251000}, [True, False, True, True, True]),
    (120, {"p99_us": 751000}, [True, False, False, True, True]),
    (120, {"refused": 5, "refused_us": 251000}, [True, True, True, False, True]),
    (120, {"refused": 5, "advised": 4}, [True, True, True, False, True]),
    (50, {"refused": 1}, [True, True, True, False, True]),
    (90, {"refused": 1, "requests": 100}, [True] * 5),
    (90, {"refused": 2, "requests": 100}, [True, True, True, False, True]),
    (50, {"refused": 1, "lag_us": 25001}, [None] * 5),
    (90, {"errors": 1}, [True, True, True, True, False]),
    (90, {"timeouts": 1}, [True, True, True, True, False])])
def test_bars_of_overload(share, what, held):
    # pylint: disable=protected-access
    seen = loaded(offered=share, **what)
    assert [row.ok for row in overload._rows(overload.CASES[0], share, 100, seen)] == held


DEAD = {"goodput": 0, "count": 0, "p99_us": 0}


@pytest.mark.parametrize("bad, held, said", [
    ([], True, "p99 1.0 ms; in all 100%"),
    ([DEAD], False, "p99 inf ms; in all 83%"),
    ([{"goodput": 1, "p99_us": 4000000}] * 2, False, "p99 4000.0 ms; in all 67%"),
    ([{"p99_us": 750000}], True, "p99 750.0 ms"),
    ([{"p99_us": 751000}], False, "p99 751.0 ms"),
    ([{"refused_us": 751000}], False, "p99 751.0 ms"),
    ([{"goodput": 11}], True, "in all 85%"),
    ([{"goodput": 9}], False, "in all 85%"),
    ([{"goodput": 50}] * 2, False, "in all 83%"),
    ([{"goodput": 200}, DEAD], False, "in all 83%"),                   # more than can be makes up for nothing
    ([{"offered": 50, "goodput": 50}], True, "in all 100%"),           # by chance there were fewer
    ([{"lag_us": 25001, **DEAD}], True, "in all 100% of what can be; 1 of 6 not judged"),
    ([{"lag_us": 25001, **DEAD}, DEAD], False, "in all 80% of what can be; 1 of 6 not judged")])
def test_a_bad_second_fails(bad, held, said):
    """Of six. The medians are as if it had not been."""
    good = {"refused": 5}
    parts = [part(**{**good, **what}) for what in bad] + [part(**good)] * (6 - len(bad))
    # pylint: disable=protected-access
    rows = overload._rows(overload.CASES[0], 200, 100, Loaded({"windows": parts, "total": part(**good)}))
    assert [row.ok for row in rows] == [True, True, held, True, True] and said in rows[2].value, rows[2]


@pytest.mark.parametrize("possible, held", [(100, False), (110, False), (111, None)])
def test_a_peak_that_was_none_judges_nothing(possible, held):
    # pylint: disable=protected-access
    rows = overload._rows(overload.CASES[0], 200, 100, loaded(goodput=80, errors=1, p99_us=751000))
    found = overload._judged(rows, 100, possible)
    assert [row.ok for row in found] == [held] * 5
    assert all(("not judged" in row.bar and "111/s are possible" in row.value) == (held is None) for row in found)


class Rates:
    """A generator that answers with these, closed loops and loads each in turn."""

    def __init__(self, closed, offered):
        self.closed, self.offered, self.asked = closed, offered, []

    def run(self, _port, _path, _seconds, rate=0, **_):
        self.asked.append(rate)
        told = part((self.offered if rate else self.closed).pop(0), refused=5, offered=rate)
        return Loaded({"windows": [told], "total": told, "warm": told})


class Anything:
    """A stage, and a host of it."""

    port = 1

    def weft(self, *_, **__):
        return self

    def warm(self, *_):
        pass

    def end(self, _):
        pass


@pytest.mark.parametrize("closed, offered, rates, held", [
    ([90, 100, 95, 95], [100], [200], True),                       # the best of them counts
    ([90, 100, 95, 200, 190, 190], [100, 195], [200, 400], True),  # afterwards it is more: all again
    ([90, 100, 95, 95, 95, 95], [300, 290], [200, 600], True),     # the load is answered: it was none
    ([90, 100, 95, 200, 250, 190], [100, 195], [200, 400], None)])
def test_a_peak_is_taken_anew(closed, offered, rates, held):
    loader = Rates(closed, offered)
    # pylint: disable=protected-access
    rows = overload._run_case(Anything(), loader, overload.CASES[0], Anything(), True)
    assert [rate for rate in loader.asked if rate > 0] == rates and not closed and not offered
    assert [row.what for row in rows[:3]] == [f"{overload.CASES[0].name}, {share} %" for share in (50, 90, 120)]
    assert [row.ok for row in rows[:3]] == [None] * 3 and [row.ok for row in rows[3:]] == [held] * 6, rows


@pytest.mark.parametrize("what, held", [
    ({}, True), ({"p99_us": 750000, "refused": 5, "refused_us": 750000}, True), ({"p99_us": 751000}, False),
    ({"refused": 5, "refused_us": 751000}, False), ({"errors": 1}, False), ({"lag_us": 25001, "errors": 1}, None),
    ({"goodput": 86}, True), ({"goodput": 85}, False), (DEAD, False)])
def test_bars_of_the_first_second(what, held):
    told = {"windows": [part(refused=5)] * 3, "total": part(refused=5), "warm": part(**what)}
    # pylint: disable=protected-access
    rows = overload._rows(overload.CASES[0], 200, 100, Loaded(told))
    assert [row.ok for row in rows] == [True] * 5 + [held] and "first second" in rows[5].what


@pytest.mark.parametrize("before, during, whole, loses, held", [
    (1000, 1000, {}, 0, True),
    (500, 1500, {}, 0, True),
    (500, 1501, {}, 0, False),
    (5000, 10000, {}, 0, True),
    (5000, 10001, {}, 0, False),
    (1000, 1000, {"errors": 1}, 0, False),
    (1000, 1000, {"errors": 2}, 2, True),
    (1000, 1000, {"errors": 3}, 2, False),
    (1000, 1000, {"refused": 1}, 2, False),
    (500, 1501, {"lag_us": 400}, 0, False),
    (500, 1501, {"lag_us": 501}, 0, None)])
def test_bars_of_faults(before, during, whole, loses, held):
    fault = faults.Fault()
    fault.watched, fault.loses = ("/",), loses
    seen = Loaded({"windows": [part(p99_us=time, **whole) for time in (before, during, 90000)], "total": part(**whole)})
    # pylint: disable=protected-access
    rows = faults._rows(fault, [([seen], None)])
    assert [row.ok for row in rows] == [held]
    assert (held is None) == ("not judged" in rows[0].bar) == ("the generator itself was late" in rows[0].value)


def test_a_route_that_answers_no_more_is_none_that_is_quick():
    fault = faults.Fault()
    fault.watched = ("/",)
    seen = Loaded({"windows": [part(), part(count=0, p99_us=0), part()], "total": part()})
    # pylint: disable=protected-access
    row, = faults._rows(fault, [([seen], None)])
    assert row.ok is False and row.value.startswith("inf ms, 1.00 before it")


def test_nothing_is_asked_of_peers():
    fault = faults.Fault()
    fault.what, fault.watched, fault.is_peer = "other: it fails", ("/", "/b"), True
    # pylint: disable=protected-access
    rows = faults._rows(fault, [([loaded(errors=5, windows=3)] * 2, loaded(refused=3))])
    assert [(row.what, row.bar, row.ok) for row in rows[:2]] == [
        ("other: it fails: p99 of /", "", None), ("other: it fails: p99 of /b", "", None)]
    assert "3 503" in rows[2].value and rows[2].ok is None and rows[2].bar == ""


@pytest.mark.parametrize("what, held, said", [
    ({"timeouts": 127}, True, "127 after 3 s, 0 lost"), ({"timeouts": 2, "errors": 1}, False, "2 after 3 s, 1 lost")])
def test_those_who_are_hit_may_be_late_and_not_lost(what, held, said):
    fault = faults.Fault()
    fault.watched, fault.hit = ("/",), "/db"
    # pylint: disable=protected-access
    _, row = faults._rows(fault, [([loaded(windows=3)], loaded(**what))])
    assert row.ok is held and row.bar == "0 lost" and said in row.value


def test_a_generator_that_is_late_itself_says_so(peer):
    """It is stopped for a while: the requests of that time are late, and the server has not been asked."""
    peer.on("GET", "/", fixed(body="x"))
    with subprocess.Popen([PROGRAM, "-r", "100", "-d", "2", "-c", "4", f"127.0.0.1:{peer.port}", "/"],
                          stdout=subprocess.PIPE, text=True) as one:
        peer.wait_requests(1)
        halt(one.pid)
        time.sleep(0.5)   # the generator's own absence
        one.send_signal(signal.SIGCONT)
        total = json.loads(one.communicate(timeout=50)[0])["total"]
    assert total["lag"]["max_us"] >= 400000 and total["2xx"]["max_us"] >= total["lag"]["max_us"], total
    assert total["lag"]["count"] == total["requests"] == 200, total


def test_a_server_that_is_slow_makes_no_late_generator(peer):
    def answer(exchange):
        time.sleep(0.1)   # the server's slowness
        exchange.answer(body="x")

    peer.on("GET", "/", answer)
    total = load(peer, "/", "-r", 50, "-d", 1, "-c", 1)["total"]
    assert total["2xx"]["max_us"] >= 1000000 and total["lag"]["p50_us"] == 0, total
