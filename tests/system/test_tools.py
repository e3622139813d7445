"""Goal: what the other tests stand on does what it says. The private PostgreSQL starts, restarts after
every kind of death and leaves nothing behind; the scripted upstream and the raw client agree on every
framing."""
import os
import re
import subprocess
import time

import psycopg2
import pytest

from support import place
from support.client import Client, Closed
from support.cluster import Cluster, run_pgcluster
from support.peer import fixed


@pytest.fixture
def own(tmp_path):
    """A cluster that is not started yet, removed at the end."""
    made = Cluster(tmp_path / "pg")
    yield made
    made.remove()


def wait_until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(pid):
    """Not so for one that is dead but not yet waited for."""
    return os.path.exists(f"/proc/{pid}/exe")


def test_socket_needs_no_password_and_tcp_does(own):
    own.options = ["--tcp"]
    own.start()
    assert own.run("select 1") == [(1,)]
    tcp = {"host": "127.0.0.1", "port": own.env["PGPORT"], "user": "weft", "dbname": "weft"}
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(**tcp, password="wrong")
    psycopg2.connect(**tcp, password=own.env["PGPASSWORD"]).close()


def test_data_outlives_a_restart(own):
    own.start()
    own.run("create table kept as select 42 as x")
    own.stop()
    assert not own.is_running()
    own.start()
    assert own.run("select x from kept") == [(42,)]


def test_one_left_running_is_replaced(own):
    own.start()
    first = own.env["PGPID"]
    own.start()
    assert own.env["PGPID"] != first
    assert not is_alive(first)


def test_one_left_halted_is_replaced(own):
    own.start()
    own.pause()
    own.start()
    assert own.run("select 1") == [(1,)]


def test_stale_pid_file_that_names_another_process(own):
    own.start()
    data = own.run("show data_directory")[0][0]
    own.stop()
    with open(f"{data}/postmaster.pid", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n{data}\n")
    assert not own.is_running()
    own.start()
    assert own.run("select 1") == [(1,)]


def test_it_goes_with_the_process_it_was_started_for(own):
    with subprocess.Popen(["sleep", "600"]) as companion:
        env = run_pgcluster("start", own.folder, "--with", str(companion.pid))
        companion.kill()
    wait_until(lambda: not is_alive(env["PGPID"]))
    assert not own.is_running()


def test_a_long_path_gets_a_short_socket(tmp_path):
    made = Cluster(tmp_path / ("x" * 60) / ("y" * 60))
    try:
        made.start()
        assert len(made.env["PGHOST"]) < 92
        assert made.run("select 1") == [(1,)]
    finally:
        made.remove()
    assert not os.path.exists(made.env["PGHOST"])


def test_settings_reach_it_and_bad_ones_are_told(own):
    own.options = ["--set", "log_min_duration_statement=7ms"]
    own.start()
    assert own.run("show log_min_duration_statement") == [("7ms",)]
    own.options = ["--set", "port=no"]
    with pytest.raises(RuntimeError, match="PostgreSQL does not start: .*port"):
        own.start()


def test_pause_halts_it_and_resume_wakes_it(cluster):
    cluster.pause()
    state = place.pathlib.Path(f"/proc/{cluster.env['PGPID']}/stat")
    wait_until(lambda: state.read_text().split()[2] == "T")
    cluster.resume()
    assert cluster.run("select 1") == [(1,)]


def test_books_are_loaded_and_belong_to_weft(books):
    assert books.run("select count(*) from books")[0][0] >= 10
    assert books.run("select tableowner from pg_tables where tablename = 'books'") == [("weft",)]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_peer_and_client_agree_on_framings(peer, framing):
    peer.on("GET", "/x", fixed(body=b"0123456789" * 3, framing=framing))
    with Client(("127.0.0.1", peer.port)) as client:
        answer = client.ask("GET", "/x?y")
        assert (answer.status, answer.body) == (200, b"0123456789" * 3)
        assert client.is_closed() if framing == "close" else client.ask("GET", "/x").status == 200
    assert peer.connections == 1


def test_peer_reads_bodies_of_both_kinds_and_pipelined(peer):
    peer.on("POST", None, lambda exchange: exchange.answer(body=exchange.request.body[::-1]))
    with Client(("127.0.0.1", peer.port)) as client:
        client.request("POST", "/a", body=b"abc")
        client.request("POST", "/b", {"Transfer-Encoding": "chunked"}, b"2\r\nde\r\n1\r\nf\r\n0\r\n\r\n")
        assert client.read_answer().body == b"cba"
        assert client.read_answer().body == b"fed"
    assert [request.target for request in peer.wait_requests(2)] == ["/a", "/b"]


def test_peer_resets_stalls_and_refuses(peer):
    peer.on("GET", "/reset", lambda exchange: exchange.reset())
    peer.on("GET", "/stall", lambda exchange: exchange.stall())
    with Client(("127.0.0.1", peer.port)) as client, pytest.raises(Closed):
        client.ask("GET", "/reset")
    with Client(("127.0.0.1", peer.port), timeout=0.3) as client:
        with pytest.raises(TimeoutError):
            client.ask("GET", "/stall")
        peer.refuse()
        assert client.is_closed()
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.1", peer.port))
    peer.listen()
    assert Client(("127.0.0.1", peer.port)).ask("GET", "/nothing").status == 404


@pytest.mark.parametrize("everything", [False, True])
def test_a_skip_says_why_and_is_a_failure_where_all_is_installed(tmp_path, everything):
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('no such thing')\n")
    env = {**os.environ, "PYTHONPATH": str(place.ROOT / "tests" / "system"), "WEFT_TEST_ALL": str(int(everything))}
    done = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "conftest",
                           tmp_path], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == int(everything), done.stdout
    wanted = "skipped although WEFT_TEST_ALL=1: no such thing" if everything else "skipped: test_it.py::test_it: no such thing"
    assert wanted in done.stdout


def test_a_seed_repeats_the_random_trees():
    """What a failure prints is enough: the same seed grows the same trees, another one others."""
    def grow(seed):
        done = subprocess.run([place.BUILD / "tests/test_task_trees"], capture_output=True, text=True, timeout=100,
                              env={**os.environ, "WEFT_SEED": str(seed), "WEFT_TREES": "600"}, check=True)
        return re.search(r"\d+ ops, \d+ consumers", done.stdout + done.stderr).group()
    assert grow(4711) == grow(4711) != grow(4712)
