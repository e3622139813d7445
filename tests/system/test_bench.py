"""Goal: the benchmark's tools do what they say. A table is complete whatever a section does, wrong arguments are refused,
and the stage brings up the host, the database and the upstream with every workload's answer right."""
import json
import re
import shutil
import sys

import pytest

from support import place

sys.path.insert(0, str(place.ROOT / "tests" / "bench"))
import bench  # noqa: E402
import cost  # noqa: E402
import stage  # noqa: E402


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder in the place of build/bench."""
    monkeypatch.setattr(stage, "WORK", tmp_path)
    return tmp_path


@pytest.fixture
def made(work):
    """A stage of this build."""
    for program in ("nginx", "wrk"):
        if not shutil.which(program, path="/usr/bin:/usr/sbin"):
            pytest.skip(f"{program} is not installed")
    with stage.Stage("stage") as opened:
        yield opened


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
        monkeypatch.setattr(bench, "SECTIONS", list(outcomes))
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
    rows = json.loads((work / "table.json").read_text())["rows"]
    assert [row["section"] for row in rows] == ["third", "first"]


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--fast"], ["cost"]])
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(work):
    with stage.Stage("same"), pytest.raises(SystemExit, match="another run uses"):
        with stage.Stage("same"):
            pass
    with stage.Stage("same"):
        pass


def test_every_section_is_there():
    for name in bench.SECTIONS:
        assert __import__(name).NAME == name


def test_every_workload_has_an_answer(made):
    host = made.weft()
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


def test_a_measurement_counts_requests_and_time(made):
    host = made.weft()
    made.warm(host, "/db")
    sample = cost.measure(made, host.pid, host.port, "W3", 1)
    assert sample.load.requests > 0 and sample.load.bad == 0
    assert 0 < sample.cpu_us < 1e6 / sample.load.rate * 1.5
    assert made.rss_bytes(host.pid) > 1 << 20


def test_work_that_was_not_done_is_told():
    with pytest.raises(RuntimeError, match=re.escape("W3: the database has counted 10 of 1 x 1000")):
        cost._check_work("W3", 1000, 10, 0)  # pylint: disable=protected-access
    with pytest.raises(RuntimeError, match="W7: the upstream was asked 900 times"):
        cost._check_work("W7", 1000, 0, 900)  # pylint: disable=protected-access


def test_k1_counts_heads_that_come_in_pieces(made):
    k1 = made.k1()
    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with stage.Client(("127.0.0.1", k1.port)) as client:
        for cut in range(1, len(request)):
            client.send(request[:cut])
            client.send(request[cut:] + request)
            for _ in range(2):
                assert client.read_answer().body == b"Hello, World!"
