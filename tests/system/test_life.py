"""Goal: the life of a host: it drains on SIGTERM and SIGINT, cuts off what takes too long, shares a port
with another host where that is wanted, has as many workers as it was told, and writes logs that explain
what happened."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest

from support import logs, place
from support.client import Closed
from support.files import open_files
from support.wait import wait_until

LAB = place.BUILD / "tests/plugins/lab.so"


def sections(server=None, lab=None):
    return {"server": server or {}, "plugin.hello": {"path": "hello.so"}, "plugin.lab": {"path": LAB, **(lab or {})}}


def ask(target, more=""):
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n"


def refuses(host):
    """Nobody listens any more. Just before that, the kernel is told to drop who comes."""
    try:
        socket.create_connection(host.address, timeout=0.2).close()
        return False
    except TimeoutError:
        return False
    except ConnectionError:
        return True


# the end

def assert_nothing_wrong(host):
    """But for the one warning of a host that was started as root."""
    told = [line for line in host.log.splitlines() if "plugins run as root" not in line]
    assert not re.search(r"level=(warn|error)", "\n".join(told)), host.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(start_weft, number):
    """Requests in flight finish, idle connections are closed, new ones are refused, the exit code is 0."""
    host = start_weft(sections({"workers": 2}))
    with host.connect() as waiting, host.connect() as idle:
        assert idle.ask("GET", "/hello").status == 200
        waiting.request("GET", "/lab/sleep/1000")
        assert host.get("/hello").status == 200
        host.signal(number)
        wait_until(lambda: refuses(host))
        assert idle.is_closed()
        answer = waiting.read_answer()
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"slept\n", "close")
        assert waiting.is_closed()
    host.stop()
    assert host.accesses(path="/lab/sleep/1000", status=200, why="done")
    assert_nothing_wrong(host)


def test_ctrl_c_reaches_every_process(start_weft):
    """A terminal sends SIGINT to the workers too: they wait for the master's word."""
    host = start_weft(sections({"workers": 2}))
    with host.connect() as waiting:
        waiting.request("GET", "/lab/sleep/500")
        assert host.get("/hello").status == 200
        for pid in [*host.workers(), host.pid]:
            os.kill(pid, signal.SIGINT)
        assert waiting.read_answer().status == 200
    host.stop()


def test_a_body_under_way_is_taken_while_draining(start_weft):
    host = start_weft(sections())
    with host.connect() as client:
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
        assert host.get("/hello").status == 200
        host.signal(signal.SIGTERM)
        host.wait_log("draining")
        client.send("whole")
        assert client.read_answer().body == b"half whole"
    host.stop()


def test_connections_in_the_kernel_s_queue_are_served(start_weft):
    """Whoever connected before the signal is answered, not reset."""
    host = start_weft(sections())
    with host.connect() as busy:
        busy.request("GET", "/lab/burn/500")
        clients = [host.connect().send(ask("/hello")) for _ in range(20)]
        host.signal(signal.SIGTERM)
        for client in clients:
            assert client.read_answer().status == 200
            client.close()
    host.stop()


def test_drain_timeout_cuts_off(start_weft):
    """And the log says how many."""
    host = start_weft(sections({"drain_timeout": "300ms", "request_timeout": "60s"}))
    clients = [host.connect().send(ask("/lab/sleep/50000")) for _ in range(3)]
    assert host.get("/hello").status == 200
    host.signal(signal.SIGTERM)
    for client in clients:
        try:
            assert client.read_answer().status == 503
        except Closed as closed:
            assert closed.got == b""
        client.close()
    host.wait_log("3 requests were cut off")
    host.stop()
    assert len(host.accesses(path="/lab/sleep/50000", why="shutdown")) == 3


def test_a_second_signal_ends_it_at_once(start_weft):
    host = start_weft(sections({"request_timeout": "60s"}))
    with host.connect() as client:
        client.request("GET", "/lab/sleep/50000")
        assert host.get("/hello").status == 200
        host.signal(signal.SIGTERM)
        host.wait_log("draining")
        host.signal(signal.SIGTERM)
        assert host.wait(20) == 0


def test_sigquit_does_not_wait(start_weft):
    host = start_weft(sections({"request_timeout": "60s"}))
    with host.connect() as client:
        client.request("GET", "/lab/sleep/50000")
        assert host.get("/hello").status == 200
        host.signal(signal.SIGQUIT)
        assert host.wait(20) == 0


def test_nothing_is_left_of_the_runtime_folder(start_weft):
    host = start_weft(sections())
    assert host.get("/hello").status == 200
    folder, = (host.folder / "run").iterdir()
    assert int((folder / "weft.pid").read_text()) == host.pid
    assert sorted(path.name for path in folder.glob("*/*.so")) == ["hello.so", "lab.so"]
    host.stop()
    assert list((host.folder / "run").iterdir()) == []


def test_what_a_killed_host_left_is_replaced(start_weft):
    host = start_weft(sections())
    worker, = host.workers()
    host.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{worker}/exe"))
    host.start()
    assert len(list((host.folder / "run").iterdir())) == 1
    host.stop()
    assert list((host.folder / "run").iterdir()) == []


def test_stopped_while_it_starts(start_weft):
    """Some workers are there, some are not yet: none is forked after the signal, and it is no error."""
    for _ in range(5):
        host = start_weft(sections({"workers": 6}), wait=False)
        host.wait_log("ready: ")
        host.signal(signal.SIGTERM)
        host.stop()
        assert_nothing_wrong(host)


# several

def test_two_hosts_share_a_port(start_weft):
    """Both are seen answering; when one ends, the other one has it all and nobody is refused."""
    first = start_weft(sections({"reuseport": "on"}, {"text": "first"}))
    second = start_weft(sections({"reuseport": "on"}, {"text": "second"}), port=first.port)
    second.wait_log("serving: ")
    seen = set()
    wait_until(lambda: seen.add(first.get("/lab/text").body) or len(seen) == 2)
    assert seen == {b"first", b"second"}
    first.stop()
    for _ in range(50):
        assert second.get("/lab/text").body == b"second"


def test_two_hosts_of_one_file(start_weft):
    """Each has a folder of its own, and takes only that away with it."""
    first = start_weft(sections({"reuseport": "on"}))
    with open(first.log_path, "ab") as log:
        second = subprocess.Popen([place.BUILD / "weft", "-c", first.config], stdout=log, stderr=log)
    try:
        first.wait_log("serving: ", count=2)
        assert len(list((first.folder / "run").iterdir())) == 2
    finally:
        second.terminate()
        assert second.wait(20) == 0
    assert len(list((first.folder / "run").iterdir())) == 1
    assert first.get("/hello").status == 200


def test_a_port_is_not_shared_without_saying_so(start_weft):
    """The second host says so in one line, and the first one does not notice."""
    for one in ("off", "on"):
        first = start_weft(sections({"reuseport": one}, {"text": "first"}))
        second = start_weft(sections(), port=first.port, wait=False)
        assert second.wait() == 1
        line, = [line for line in second.log.splitlines() if "level=error" in line]
        assert f"127.0.0.1:{first.port}" in line and "in use" in line
        second.process = None
        for _ in range(10):
            assert first.get("/lab/text").body == b"first"
        first.stop()


def test_every_worker_answers(start_weft):
    host = start_weft(sections({"workers": 3}))
    host.wait_log("serving: 3 workers")
    assert len(host.workers()) == 3
    seen = set()
    wait_until(lambda: seen.add(int(host.get("/lab/pid").body)) or len(seen) == 3)
    assert seen == set(host.workers())


# logs

def start_with_files(start_weft, **server):
    host = start_weft(sections({"access_log": "access.log", "error_log": "error.log", **server}))
    host.access_path = host.folder / "access.log"
    host.error_path = host.folder / "error.log"
    return host


def test_a_line_has_all_fields(start_weft):
    host = start_weft(sections())
    answer = host.get("/lab/text?a=b")
    line = host.wait_access(path="/lab/text?a=b")
    assert list(line) == logs.ACCESS_KEYS
    assert (line["method"], line["route"], line["plugin"], line["status"]) == ("GET", "/lab/text", "lab", "200")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line["peer"])
    assert int(line["bytes"]) >= len(answer.body)
    assert line["why"] == "done"
    for key in ("total_ms", "queue_ms", "pg_ms", "call_ms"):
        assert re.fullmatch(r"\d+\.\d{3}", line[key])
    host.get("/nowhere")
    line = host.wait_access(path="/nowhere")
    assert (line["status"], line["route"], line["plugin"]) == ("404", "-", "-")
    assert line["id"] != host.wait_access(path="/lab/text?a=b")["id"]


def test_a_request_has_one_id_in_both_logs(start_weft):
    """Who finds an error finds the request, and the other way round."""
    host = start_weft(sections())
    assert host.get("/lab/log/1").status == 200
    assert host.get("/lab/nothing").status == 500
    for target, text in (("/lab/log/1", "the lab has an error"), ("/lab/nothing", "no reply")):
        line = logs.fields(host.wait_log(f"level=error.*{text}.*").group())
        assert line["request"] == host.wait_access(path=target)["id"]
        assert re.fullmatch("[0-9a-f]{16}", line["request"])


def test_one_line_a_request(start_weft):
    host = start_weft(sections())
    with host.connect() as client:
        for _ in range(100):
            client.request("GET", "/hello")
        for _ in range(100):
            client.read_answer()
    host.stop()
    assert len(host.accesses(path="/hello")) == 100


def test_what_a_client_sends_cannot_forge_a_line(start_weft):
    host = start_weft(sections())
    with host.connect() as client:
        client.send(b'GET /a"b\xff%0a?x=\\y HTTP/1.1\r\nHost: a\r\n\r\n')
        assert client.read_answer().status in (400, 404)
    host.get("/hello%22%20why=done")
    host.wait_access(path="/hello%22%20why=done")
    host.stop()
    for line in host.log.splitlines():
        assert line.isprintable(), line


def test_logs_in_files(start_weft):
    host = start_with_files(start_weft)
    assert host.get("/hello").status == 200
    wait_until(lambda: logs.accesses(host.access_path.read_text(), path="/hello"))
    wait_until(lambda: "serving: " in host.error_path.read_text())
    host.stop()
    assert host.log == ""


def test_json_logs(start_weft):
    host = start_with_files(start_weft, log_format="json")
    assert host.get("/lab/text?a=%22").status == 200
    assert host.get("/lab/nothing").status == 500
    host.stop()
    lines = [json.loads(line) for line in host.access_path.read_text().splitlines()]
    assert [line["path"] for line in lines] == ["/lab/text?a=%22", "/lab/nothing"]
    assert list(lines[0]) == logs.ACCESS_KEYS
    assert lines[0]["status"] == 200 and isinstance(lines[0]["total_ms"], float)
    errors = [json.loads(line) for line in host.error_path.read_text().splitlines()]
    assert {"time", "level", "pid", "process", "msg"} <= set(errors[0])
    assert any("/lab/nothing" in json.dumps(line) for line in errors if line["level"] == "error")


def test_sigusr1_opens_the_logs_again(start_weft):
    """As logrotate does: renamed first. Nothing is lost, in none of the workers."""
    host = start_with_files(start_weft, workers=2)
    assert host.get("/hello").status == 200
    wait_until(lambda: logs.accesses(host.access_path.read_text(), path="/hello"))
    host.access_path.rename(host.folder / "access.1")
    host.error_path.rename(host.folder / "error.1")
    host.signal(signal.SIGUSR1)
    wait_until(lambda: host.access_path.exists() and host.error_path.exists())
    for _ in range(20):
        host.get("/lab/text")
    host.get("/lab/nothing")
    host.stop()
    both = host.access_path.read_text() + (host.folder / "access.1").read_text()
    assert len(logs.accesses(both)) == 22
    assert logs.accesses(host.access_path.read_text(), path="/lab/text")
    assert "draining" in host.error_path.read_text()


def test_access_log_off(start_weft):
    host = start_weft(sections({"access_log": "off"}))
    assert host.get("/hello").status == 200
    host.stop()
    assert host.accesses() == []


def test_repeated_errors_are_counted(start_weft):
    """A thousand times the same in one request: some lines, and one that says how many more there were."""
    host = start_weft(sections())
    assert host.get("/lab/log/1000").status == 200
    wait_until(lambda: sum(map(int, re.findall(r"the lab has an error.*repeated=(\d+)", host.log)))
               + len(re.findall(r"the lab has an error(?!.*repeated=)", host.log)) == 1000)
    lines = re.findall(r".*the lab has an error.*", host.log)
    assert len(lines) < 50
    assert "plugin=lab" in lines[0] and "/lab/log/:count" in lines[0]


def test_levels(start_weft):
    quiet = start_weft(sections({"log_level": "error", "access_log": "off"}))
    assert quiet.get("/hello").status == 200
    quiet.stop()
    assert quiet.log == ""
    loud = start_weft(sections({"log_level": "trace"}))
    assert loud.get("/hello").status == 200
    loud.stop()
    assert "level=trace" in loud.log and "level=debug" in loud.log


def test_a_slow_reader_of_the_log_delays_nobody(start_weft, tmp_path):
    """The access log goes into a pipe that nobody empties: requests are served all the same."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        host = start_weft(sections({"access_log": fifo}))
        with host.connect(timeout=20) as client:
            for _ in range(40):
                for _ in range(100):
                    client.request("GET", "/hello")
                for _ in range(100):
                    assert client.read_answer().status == 200
        host.stop()
    finally:
        os.close(reader)


# what else a process should be

def test_it_needs_nothing_but_its_file(start_weft):
    """No environment, another working folder, nothing on standard input."""
    host = start_weft(sections())
    host.stop()
    environment = {key: value for key, value in os.environ.items() if key.endswith("_OPTIONS")}
    with open(host.log_path, "ab") as log:
        host.process = subprocess.Popen([place.BUILD / "weft", "-c", host.config], cwd="/", env=environment,
                                        stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    host.wait_until_serving()
    assert host.get("/hello").status == 200


def test_workers_inherit_no_stray_descriptors(start_weft):
    """A worker has what it uses: no epoll of the master, no report pipe, no signalfd twice."""
    host = start_weft(sections({"workers": 2}))
    host.wait_log("serving: ")

    for pid in host.workers():
        # "ready" is written before the pipe that it was written to is closed
        wait_until(lambda: not [name for name in open_files(pid) if name.startswith("pipe:")])
        assert open_files(pid).count("anon_inode:[eventpoll]") == 1, open_files(pid)
        assert open_files(pid).count("anon_inode:[signalfd]") == 1, open_files(pid)
