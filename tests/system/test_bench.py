"""Goal: the benchmark's tools do what they say. A table is complete whatever a section does, wrong arguments are
refused, the stage brings up the host, the database and the upstream with every workload's answer right, and the guard
fails where a request has become 5 % dearer, or makes a system call or an allocation more."""
import json
import re
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from support import place
from support.proxy import Proxy

sys.path.insert(0, str(place.ROOT / "tests" / "bench"))
import arguments  # noqa: E402
import bench  # noqa: E402
import cost  # noqa: E402
import count  # noqa: E402
import faults  # noqa: E402
import guard  # noqa: E402
import scale  # noqa: E402
import stage  # noqa: E402
import table  # noqa: E402
import workloads  # noqa: E402


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder in the place of build/bench."""
    monkeypatch.setattr(stage, "WORK", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stage of this build."""
    for program in ("nginx", "wrk"):
        if not shutil.which(program, path="/usr/bin:/usr/sbin"):
            pytest.skip(f"{program} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "WORK", tmp_path_factory.mktemp("bench"))
        opened = stage.Stage("stage")
    with opened:
        yield opened


@pytest.fixture
def host(made, request):
    """A host of the stage, of the test's own."""
    started = made.weft(name=request.node.name)
    yield started
    made.end(started)


class Section:
    """Stands in a section's place."""

    def __init__(self, name, outcome):
        self.NAME, self.outcome = name, outcome  # pylint: disable=invalid-name

    def run(self, _, quick):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return [stage.Row(self.NAME, "quick" if quick else "long", "1", "<= 2", self.outcome)]


@pytest.fixture
def sections(monkeypatch):
    """A function that makes these sections the benchmark's: name=outcome."""
    def be(**outcomes):
        for module in (bench, arguments):
            monkeypatch.setattr(module, "SECTIONS", list(outcomes))
        for name, outcome in outcomes.items():
            monkeypatch.setitem(sys.modules, name, Section(name, outcome))
    return be


def test_a_table_is_printed_and_kept(work, sections, capsys):
    sections(first=True, second=False, third=None)
    assert bench.main(["--quick"]) == 0
    text = (work / "table.md").read_text()
    assert text in capsys.readouterr().out
    assert "| first | quick | 1 | <= 2 | ok |" in text
    assert "| second | quick | 1 | <= 2 | MISSED |" in text
    assert "| third | quick | 1 | <= 2 |  |" in text
    kept = json.loads((work / "table.json").read_text())
    assert [row["ok"] for row in kept["rows"]] == [True, False, None]
    assert kept["revision"] and kept["cpu"] and kept["date"] and kept["quick"]


def test_a_section_that_fails_is_told_and_the_others_are_measured(work, sections):
    sections(first=ValueError("no such thing"), second=True)
    assert bench.main([]) == 1
    text = (work / "table.md").read_text()
    assert "| first | could not be measured | ValueError: no such thing |  | MISSED |" in text
    assert "| second | long | 1 | <= 2 | ok |" in text


def test_only_what_is_asked_for_is_run(work, sections):
    sections(first=True, second=True, third=True)
    assert bench.main(["--only", "third,first"]) == 0
    rows = json.loads((work / "third-first.json").read_text())["rows"]
    assert [row["section"] for row in rows] == ["third", "first"]
    assert not (work / "table.json").exists()


def test_what_was_measured_is_kept_at_once(work, sections):
    def interrupted(*_):
        raise KeyboardInterrupt

    sections(first=True, second=True)
    sys.modules["second"].run = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.main([])
    assert "| first | long | 1 | <= 2 | ok |" in (work / "table.md").read_text()


@pytest.mark.parametrize("given", [["--only", "nothing"], ["--fast"], ["cost"], ["guard", "--fast"],
                                       ["--quick", "guard"], ["table", "W1"], ["guard", "--split", "W0"],
                                       ["guard", "--strict", "--store"]])
def test_wrong_arguments_are_refused(given, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(given)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_wrong_arguments_are_refused_before_anything_is_built(tmp_path):
    """In a tree where nothing could be: it has no sources."""
    (tmp_path / "tests").mkdir()
    shutil.copy(place.ROOT / "run", tmp_path)
    shutil.copytree(place.ROOT / "tests" / "bench", tmp_path / "tests" / "bench")

    def run(*given):
        return subprocess.run([tmp_path / "run", "bench", *given], capture_output=True, text=True, check=False,
                              timeout=60)
    done = run("nosuch")
    assert done.returncode == 2 and "invalid choice: 'nosuch'" in done.stderr and not done.stdout
    done = run("--help")
    assert done.returncode == 0 and "--quick" in done.stdout and not done.stderr
    assert run("--quick").returncode not in (0, 2)   # there is nothing to install from
    assert not (tmp_path / "build").exists()


def sampled(cpu_us):
    """A Sample of nine requests."""
    return cost.Sample(stage.Load('RESULT {"requests":9,"errors":0,"refused":0,"p50_us":1,"p99_us":1,"max_us":1,'
                                  '"us":9}'), cpu_us, 0)


@pytest.fixture
def costs(monkeypatch):
    """A function that runs the section `cost` with these figures, of k1 one sample after the other: its rows by what
    they are of, and in which order it measured. What has none costs 10."""
    def run(quick, k1=(10,), **figures):
        order, left = [], list(k1)
        bare = SimpleNamespace(k1=lambda: "k1", nginx=lambda: "nginx", weft=lambda: "weft", warm=lambda *_: None,
                               end=lambda _: None)

        def measure(*_):
            order.append("k1")
            return sampled(left.pop(0) if len(left) > 1 else left[0])

        def measure_alone(_, start, workload, __):
            order.append(f"{start()} {workload}")
            return sampled(figures.get(workload, 10) if start is bare.weft else 10)

        monkeypatch.setattr(cost, "measure", measure)
        monkeypatch.setattr(cost, "measure_alone", measure_alone)
        return {row.what: row for row in cost.run(bare, quick)}, order
    return run


def test_k1_is_sampled_around_each_workload(costs):
    _, order = costs(False)
    assert order[0] == order[-1] == "k1" and order.count("weft W9") == order.count("nginx W7") == 3
    assert all("k1" in pair for pair in zip(order, order[1:])), order
    _, order = costs(True)
    assert order[0] == order[-1] == "k1" and order.count("k1") == 4 and "nginx W1" not in order
    assert order.count("weft W9") == 1


def test_costs_are_multiples_of_the_median_of_k1(costs):
    """One sample that went wrong moves nothing; how far they lie apart is told."""
    rows, _ = costs(True, k1=[10.5, 50, 9, 9.5], W1=11.9, W2=12.6)
    assert rows["k1 W1"].value.startswith("1.00 x k1, 10.00 us; ")
    assert rows["k1 W1"].value.endswith("; 4 samples, half of them 9.50 to 10.50 us, all 9.00 to 50.00")
    assert rows["weft W1"].value.startswith("1.19 x k1, 11.90 us") and rows["weft W1"].ok
    assert rows["weft W2"].value.startswith("1.26 x k1") and rows["weft W2"].ok is False


def left_out(rows):
    found = [row for row in rows if row.value == "left out with --quick"]
    assert all(row.ok is None for row in found)
    return {row.what for row in found}


def test_what_a_quick_run_of_scale_leaves_out_is_told(work, monkeypatch):
    """Whatever the whole one measures is measured or named; here nothing is."""
    asked, names = set(), ("idle", "waiting", "switch", "active", "accepts", "workers", "sessions", "routes", "headers",
                           "flat")
    for name in names:
        def note(_, number=None, *rest, name=name, **__):
            asked.add((name, number, *(wait.what for wait in rest if isinstance(wait, scale.Wait))))
            row = stage.Row("scale", name, "", "", None)
            return [row] if name in ("waiting", "active", "workers") else row
        monkeypatch.setattr(scale, name, note)
    with stage.Stage("quick") as made:
        assert not left_out(scale.run(made, False))
        whole = asked.copy()
        asked.clear()
        left = left_out(scale.run(made, True))
    assert {name for name, *_ in whole} == set(names)
    words = {"idle": "idle", "waiting": "wait", "active": "active"}
    for name, number, *of in whole - asked:
        wanted = [f"{number:,} ", words[name], *of] if name in words else []
        assert any(all(word in what for word in wanted) for what in left), (wanted, left)
    assert {"1 worker, 2 workers", "W3 by sessions", "instructions of a request by routes",
            "instructions of a request by header fields", "memory over ten minutes"} < left
    assert not any("switch" in what or "accepted" in what for what in left)


def test_what_a_quick_run_leaves_out_is_told(work, costs, monkeypatch):
    assert left_out(costs(True)[0].values()) == {"nginx W1", "nginx W1x16", "nginx W7"}
    assert not left_out(costs(False)[0].values())
    for name in ("_other_faults", "_database_faults", "Loader"):
        monkeypatch.setattr(faults, name, lambda *_: [])
    with stage.Stage("quick") as made:
        assert left_out(faults.run(made, True)) == {"nginx, node"}


def test_two_runs_in_one_folder_are_refused(work):
    with stage.Stage("same"), pytest.raises(SystemExit, match="another run uses"):
        with stage.Stage("same"):
            pass
    with stage.Stage("same"):
        pass


def test_every_section_is_there():
    for name in bench.SECTIONS:
        assert __import__(name).NAME == name


def test_every_workload_has_an_answer(made, host):
    asked = made.upstream_asked()
    answers = {name: host.get(path) for name, (path, _, _) in cost.WORKLOADS.items()}
    assert {answer.status for answer in answers.values()} == {200}
    assert answers["W1"].body == b"Hello, World!"
    assert answers["W3"].json().keys() == {"id", "randomNumber"}
    assert len(answers["W4"].json()) == len(answers["W6"].json()) == 20
    assert answers["W5"].body.count(b"<tr><td>") == 13
    assert answers["W7"].body.decode() == stage.QUOTE
    assert answers["W8"].json()["hits"] >= 1
    assert answers["W9"].json()["quote"] == json.loads(stage.QUOTE)
    assert made.upstream_asked() - asked == 3 + 1


def test_a_measurement_counts_requests_and_time(made, host):
    made.warm(host, "/db")
    sample = cost.measure(made, host, "W3", 1)
    assert sample.load.requests > 0 and sample.load.bad == 0
    assert 0 < sample.cpu_us < 1e6 / sample.load.rate * 1.5
    assert made.rss_bytes(host.pid) > 1 << 20


def test_a_host_that_does_not_end_in_order_stops_nothing_else(work):
    class Part:
        """Stands in a program's place."""
        stopped = 0

        def stop(self):
            Part.stopped += 1
            raise AssertionError("exited with 1")

    with pytest.raises(AssertionError, match="exited with 1"), stage.Stage("two") as opened:
        opened._parts += [Part(), Part()]  # pylint: disable=protected-access
    assert Part.stopped == 2
    with pytest.raises(ValueError), stage.Stage("two") as opened:
        opened._parts += [Part()]  # pylint: disable=protected-access
        raise ValueError("why it ended")


def test_a_section_leaves_a_clear_stage_behind(work):
    class Part(stage.Program):
        """Any program that goes on."""
        def __init__(self):  # pylint: disable=super-init-not-called
            self.process = subprocess.Popen(["sleep", "600"])  # pylint: disable=consider-using-with

    with stage.Stage("many") as opened:
        upstream, lost, other = Part(), Part(), Part()
        opened._parts, opened._upstream = [upstream, other], upstream  # pylint: disable=protected-access
        opened.clear()
        assert other.process.poll() is not None and upstream.process.poll() is None
        opened._parts, opened._upstream = [upstream, lost], lost  # pylint: disable=protected-access
        lost.stop()
        opened.clear()
        assert opened._upstream is None and upstream.process.poll() is not None  # pylint: disable=protected-access


def test_a_cluster_that_a_section_has_stopped_is_made_anew(work):
    with stage.Stage("again") as opened:
        first = opened.cluster
        opened.clear()
        assert opened.cluster is first
        first.stop()
        opened.clear()
        assert opened.cluster is not first
        assert opened.cluster.run("select count(*) from world", database="weft") == [(10000,)]


def test_silent_connections_end_and_no_others(free_port):
    with socket.create_server(("127.0.0.1", 0)) as target:
        proxy = Proxy(free_port(), target.getsockname())
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as silent:
                far, _ = target.accept()
                proxy.fall_silent()
                with socket.create_connection(("127.0.0.1", proxy.port), 10) as other, far:
                    further, _ = target.accept()
                    far.settimeout(10)
                    proxy.end_silence()
                    assert silent.recv(1) == b"" and far.recv(1) == b"" and proxy.count() == 1
                    other.sendall(b"x")
                    assert further.recv(1) == b"x"
                    further.close()
        finally:
            proxy.end()


def test_nginx_has_what_it_is_compared_by(made):
    peer = made.nginx()
    with stage.Client(("127.0.0.1", peer.port)) as client:
        assert client.ask("GET", "/plaintext").body == b"Hello, World!"
        assert client.ask("GET", "/api").body.decode() == stage.QUOTE
    made.end(peer)


def test_work_that_was_not_done_is_told():
    with pytest.raises(RuntimeError, match=re.escape("W4: the database has counted 19599 of 20000 for 1000 requests")):
        cost.check_database("W4", 1000, [5], lambda: [19604], 0.1)
    with pytest.raises(RuntimeError, match=re.escape("counted 40000 of 40000, 0 of 20000 for 1000 requests")):
        cost.check_database("W6", 1000, [0, 7], lambda: [40000, 7], 0.1)   # read, and never written
    with pytest.raises(RuntimeError, match="W7: the upstream was asked 900 times for 1000 requests"):
        cost.check_upstream("W7", 1000, 900)


def test_work_that_is_reported_late_counts():
    reports = [[980], [979], [10]]
    cost.check_database("W3", 1000, [0], reports.pop, 60)
    assert not reports
    cost.check_upstream("W3", 1000, 0)


def test_all_that_a_server_has_asked_is_counted(made):
    """Its backends have told it when they have ended."""
    asked = cost.measure_alone(made, lambda: made.weft(name="alone"), "W3", True).load.requests
    assert asked > 0


def test_k1_counts_heads_that_come_in_pieces(made):
    k1 = made.k1()
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with stage.Client(("127.0.0.1", k1.port)) as client:
        for cut in range(1, len(request)):
            client.send(request[:cut])
            client.send(request[cut:] + request)
            for _ in range(2):
                assert client.read_answer().body == b"Hello, World!"


def counted(allocations=0, **functions):
    """A Count of ten requests with these functions in room http, instructions a request, and so many allocations."""
    found = {("weft/http", name): instructions * 10 for name, instructions in functions.items()}
    return count.Count({**found, count.ALLOCATIONS: allocations * 10}, 10)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that stores figures and has the guard find others: the outcome of its main(). `calls`: system calls of
    the second run, in each look for them."""
    monkeypatch.setattr(guard, "STORED", tmp_path / "guard.json")
    monkeypatch.setattr(guard, "made_of", lambda: {"compiler": "gcc 12", "libpq": "libpq 15.1"})
    monkeypatch.setattr(stage, "WORK", tmp_path)

    def judge(before, now, *asked, calls=(6,)):
        looks = iter([6, *calls])

        def take_calls(_, names, connections=(1, 64)):
            one = next(looks) if names else 0
            return {name: [one, 3.14159][:len(connections)] for name in names}

        monkeypatch.setattr(table, "take_calls", take_calls)
        for counts, given in ((before, ["--store"]), (now, asked)):
            monkeypatch.setattr(count, "count_all", lambda _, names, counts=counts: dict.fromkeys(names, counts))
            status = bench.main(["guard", *given])
        assert next(looks, None) is None
        return status
    return judge


def test_what_has_become_dearer_fails_and_is_named(stored, capsys):
    before = counted(parse=6000, route=3000, write=1000)
    assert stored(before, counted(parse=6000, route=3490, write=1000)) == 0
    capsys.readouterr()
    assert stored(before, counted(parse=5990, route=3310, write=1000, hash=210)) == 1
    told = capsys.readouterr().out
    for workload in ("W1", "W1log", "W3", "W7", "W8", "W9"):
        assert f"{workload}: 10,510 instructions, 10,000 stored (+5.1%); " in told
    assert told.count(" 0.00 allocations, 0.00 stored: more instructions than may be\n") == 6
    assert told.index("weft/http route: 3,000 -> 3,310") < told.index("weft/http hash: 0 -> 210")
    assert "weft/http parse" not in told and "weft/http write" not in told


def test_what_a_worker_does_at_rest_is_taken_from_a_quiet_time():
    seen = iter([({"connect": total}, 2) for total in (54_000_000, 54_000_000, 60_000, 54_000_000, 56_000, 1)])
    assert count.quietest(seen.__next__) == ({"connect": 56_000}, 2)
    with pytest.raises(RuntimeError, match="no rest: 27,000,000 instructions"):
        count.quietest(lambda: ({"connect": 54_000_000}, 2))


def test_an_allocation_has_a_fixed_price(stored):
    def asking(instructions, allocations):
        return count.Count({("weft/pg", "take"): 90000, ("malloc", "_int_malloc"): instructions,
                            count.ALLOCATIONS: allocations}, 10)
    assert asking(5000, 20).even == asking(25000, 20).even == 9200
    assert asking(5000, 20).total == 9500
    assert stored(asking(5000, 20), asking(50000, 20)) == 0
    assert stored(asking(5000, 20), asking(5000, 67)) == 1


def test_a_system_call_more_fails_though_it_is_few_instructions(stored, capsys):
    same = counted(parse=10000)
    assert stored(same, same, calls=[6.25]) == 0
    assert stored(same, same, calls=[7, 6.1]) == 0   # the second look is at a quieter machine
    capsys.readouterr()
    assert stored(same, same, "--strict", calls=[7, 6.9]) == 1
    told = capsys.readouterr().out
    assert "; 6.90 system calls, 6.00 stored; 0.00 allocations, 0.00 stored: more system calls than may be" in told
    assert "    which: ./run bench syscalls W1\n" in told


def test_an_allocation_more_fails_though_it_is_few_instructions(stored, capsys):
    assert stored(counted(6, parse=10000), counted(6.1, parse=10000)) == 0
    capsys.readouterr()
    assert stored(counted(0, parse=10000), counted(1, parse=10000)) == 1
    assert "(+1.0%); 6.00 system calls, 6.00 stored; 1.00 allocations, 0.00 stored: more allocations" in \
        capsys.readouterr().out
    assert stored(counted(0, parse=1000), counted(1, parse=1000), calls=[7, 7]) == 1
    assert ": more instructions and system calls and allocations than may be" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--strict"]])
def test_what_has_become_cheaper_is_to_be_stored(stored, capsys, given):
    """And told where it is read: at the end."""
    before, now = counted(2, parse=6000, route=4000), counted(2, parse=6000, route=3000)
    assert stored(before, now, *given) == 0
    told = capsys.readouterr().out
    assert "W1: 9,200 instructions, 10,200 stored (-9.8%); " in told
    assert "\n### CHEAPER than stored: W1, W1log, W3, W7, W8, W9. Until" in told
    assert told.splitlines()[-1] == '### ./run bench guard --store "what has made it cheaper"'
    for calls, allocations in ((5, 2), (6, 1)):
        assert stored(before, counted(allocations, parse=6000, route=4000), *given, calls=[calls]) == 0
        assert "### CHEAPER" in capsys.readouterr().out
    assert stored(now, now, *given) == 0
    assert "CHEAPER" not in capsys.readouterr().out


def test_what_is_stored_is_told_as_rows(stored, capsys):
    before, now = counted(parse=6000, route=4000), counted(parse=6000, route=3000)
    stored(before, now, "--store", "routes are found sooner")
    lines = capsys.readouterr().out.splitlines()
    assert ("| routes are found sooner | W1 | 10,000 → 9,000 | 0 | 0 | 0 | 0 | 0 | **10,000 → 9,000** | 6.00 | 3.14 |"
            in lines)
    assert "|  | W6 | 10,000 → 9,000 | 0 | 0 | 0 | 0 | 0 | **10,000 → 9,000** | 6.00 | 3.14 |" in lines
    assert len([line for line in lines if " | W" in line]) == len(workloads.COUNTED) == 11
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_a_change_has_rows_of_what_it_changes(stored, capsys):
    def told(now, **of_it):
        before = {"total": 10000, "parts": {"weft": 6000, "libpq": 3000, "malloc": 1000}, "calls": [6.0, 3.0]}
        return table.is_told(before, {**before, **now, "parts": {**before["parts"], **of_it}})
    assert not told({"total": 10100, "calls": [6.15, 9.0]}, weft=6100, libpq=2950, malloc=5000)
    assert told({"total": 9899})
    assert told({"calls": [5.7, 3.0]})
    assert told({}, weft=5899, libpq=3101)
    same = counted(parse=6000)
    stored(same, counted(parse=6050), "--store", "what nobody sees")
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("| what nobody sees | none |") and lines[-1].count("|") == lines[-2].count("|")
    assert len(lines) == 3 + 3   # what is stored first is told in other words


def test_another_compiler_or_library_is_compared_only_where_that_is_strict(stored, capsys, monkeypatch):
    assert stored(counted(parse=1000), counted(parse=1000), "--strict") == 0

    def take(parse):
        monkeypatch.setattr(count, "count_all", lambda _, names: dict.fromkeys(names, counted(parse=parse)))
        monkeypatch.setattr(table, "take_calls",
                            lambda _, names, connections=(1, 64): {name: [6, 3][:len(connections)] for name in names})
        capsys.readouterr()

    for made in ({"compiler": "gcc 13", "libpq": "libpq 15.1"}, {"compiler": "gcc 12", "libpq": "libpq 15.2"}):
        monkeypatch.setattr(guard, "made_of", lambda made=made: made)
        take(2000)
        assert bench.main(["guard"]) == 0
        told = capsys.readouterr().out
        assert "W1: 2,000 instructions; 6.00 system calls; 0.00 allocations\n" in told
        assert told.endswith("not compared\n")
        assert ("compiler: gcc 13; the stored figures are of gcc 12" in told) == (made["compiler"] == "gcc 13")
        assert ("libpq: libpq 15.2; the stored figures are of libpq 15.1" in told) == (made["libpq"] == "libpq 15.2")
        assert bench.main(["guard", "--strict"]) == 1
        told = capsys.readouterr().out
        assert "more instructions than may be" in told
        assert "If that is why" in told and "./run bench guard --store" in told
        take(1040)
        assert bench.main(["guard", "--strict"]) == 0
        assert capsys.readouterr().out.endswith("compared all the same (--strict)\n")
    take(2000)
    bench.main(["guard", "--store"])
    assert "libpq: libpq 15.2; the stored figures are of libpq 15.1" in capsys.readouterr().out
    assert bench.main(["guard", "--strict"]) == 0
    assert "--strict" not in capsys.readouterr().out


def test_what_ci_runs_is_strict():
    assert "\ncheck guard ./run bench guard --strict\n" in (place.ROOT / ".ci" / "run").read_text()


def test_the_guard_counts_with_the_settings_of_a_host_in_use():
    """But for the master's look-out for stalls. A worker that sheds nothing (0) does not look for an overload."""
    assert count.UNHURRIED["server"].keys() == {"stall_warn", "stall_kill", "shed_after"}
    assert count.UNHURRIED["server"]["shed_after"] != 0


def test_the_compiler_is_the_build_s(made):
    found = guard.made_of(made.build)
    assert re.match(r"gcc \(.*\) [\d.]+, Debug, \w+$|.*clang version", found["compiler"])
    assert re.match(r"libpq \d\d\.\d+$", found["libpq"]) and re.match(r"glibc 2\.\d+$|another", found["libc"])


def test_the_stored_figures_are_whole():
    kept = guard.read_stored()
    assert list(kept["workloads"]) == workloads.COUNTED and set(guard.WORKLOADS) < set(workloads.COUNTED)
    assert kept["workloads"]["W1"]["allocations"] == kept["workloads"]["W7"]["allocations"] == 0
    assert all(kept["made of"][key] for key in ("compiler", "libc", "libpq"))
    for one in kept["workloads"].values():
        assert len(one["calls"]) == 2 and list(one["parts"]) == ["weft", *table.PARTS]
    for workload in guard.WORKLOADS:
        one = kept["workloads"][workload]
        assert 0.8 * one["total"] < sum(one["functions"].values()) <= one["total"]


def test_a_profile_s_sum_is_callgrind_s(tmp_path):
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    profile = tmp_path / "profile"
    subprocess.run(["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={profile}", "/bin/ls", "/"],
                   check=True, stdout=subprocess.DEVNULL)
    text = profile.read_text()
    found = count.parse(text)
    assert found.pop(count.ALLOCATIONS) > 20
    assert sum(found.values()) == int(re.search(r"^summary: (\d+)", text, re.MULTILINE)[1])
    assert {"libc", "malloc", "ld"} <= {part for part, _ in found}


@pytest.mark.parametrize("library, file, function, part", [
    ("/x/weft", "/x/framework/http/guard.c", "guard_scan", "weft/http"),
    ("/x/weft", "/usr/share/llhttp/llhttp.c", "llhttp__internal__run", "llhttp"),
    ("/x/weft", "/usr/include/bits/string.h", "take", "weft/base"),
    ("/usr/lib/libc.so.6", "./malloc/malloc.c", "_int_free", "malloc"),
    ("/usr/lib/libc.so.6", "???", "malloc", "malloc"),
    ("/usr/lib/libc.so.6", "???", "memcpy", "libc"),
    ("/usr/lib/libjemalloc.so.2", "???", "malloc", "malloc"),
    ("/usr/lib/libpq.so.5.15", "???", "PQgetvalue", "libpq"),
    ("/usr/lib/libcrypto.so.3", "???", "EVP_Digest", "openssl"),
    ("/run/1/bench.so", "/x/plugins/bench/bench.c", "one_query", "plugin"),
    ("???", "???", "0x5", "other"),
])
def test_whose_an_instruction_is(library, file, function, part):
    assert count.part_of(library, file, function) == part


def test_system_calls_are_counted(made, host):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    found = count.syscalls(made, host, "W1")
    assert found["sendto"] == pytest.approx(1, abs=0.05)
    assert found["recvfrom"] >= 0.99 and found.get("write", 0) < 0.5
    together = count.syscalls(made, host, "W1x16")
    assert together["sendto"] == pytest.approx(1 / 16, abs=0.01) and together["recvfrom"] < 0.2


def test_the_access_log_is_counted_with_what_it_is_about(made):
    """Its host writes a line for each request, into a file of its own run alone."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    for _ in range(2):
        calls = table.take_calls(made, ["W1", "W1log"], (1,))
        assert list(calls) == ["W1", "W1log"] and calls["W1log"][0] == pytest.approx(calls["W1"][0] + 1, abs=0.5)
        lines = (made.folder / "weft" / "access.log").read_text().splitlines()
        assert len(lines) == 200 + count.TRACED and all("path=/plaintext" in line for line in lines)


def test_a_workload_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["syscalls", "W17"])
    assert "no workload W17; there are: W1, W1x16, " in capsys.readouterr().err


def test_workloads_are_put_together_by_their_host():
    assert workloads.by_host(["W3", "W1log", "W1x16"]) == [({}, ["W3", "W1x16"]),
                                                           (workloads.VARIANTS["W1log"][1], ["W1log"])]
    assert workloads.look_up("W1x16")[:2] == ("/plaintext", 16)
    assert count.with_changes(workloads.look_up("W1log")[2])["server"] == {**count.UNHURRIED["server"],
                                                                           "access_log": "access.log"}
    assert "access_log" not in count.UNHURRIED["server"]


def test_the_tables_have_each_part_and_room():
    found = count.Count({("weft/http", "parse"): 60000, ("weft/pg", "send"): 20000, ("libpq", "PQexec"): 12345}, 10)
    lines = table.by_part({"W3": found}, {"W3": [6, 3.14159]})
    assert lines[2] == "| W3 | 8,000 | 0 | 1,234 | 0 | 0 | 0 | **9,234** | 6.00 | 3.14 |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    rooms = table.by_room({"W3": found})
    assert rooms[2] == "| W3 | 0 | 0 | 0 | 0 | 0 | 6,000 | 2,000 | 0 | 0 | 0 |"
    assert rooms[0].count("|") == rooms[2].count("|")


def test_the_table_has_every_room():
    rooms = {path.name for path in (place.ROOT / "framework").iterdir() if path.is_dir()}
    assert rooms == {*table.ROOMS, "settings"}
