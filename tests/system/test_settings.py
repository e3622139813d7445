"""Goal: the command line, and what a settings file may not say: each mistake stops the start with one line
that names file, line and key and what was expected; config/server.ini is complete and true."""
import re
import signal
import socket

import pytest

from support import place, plugin
from support.host import run_weft

DEFAULTS = place.ROOT / "config" / "server.ini"
HELLO = "[plugin.hello]\npath = hello.so\n"


@pytest.fixture
def check(tmp_path):
    """A function that runs `weft check` on a text, below a [server] line of its own unless it has one. Lines
    are counted from the text's first."""
    def run(text, env=None, verb=("check",)):
        config = tmp_path / "server.ini"
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = run_weft(*verb, "-c", config, env={"XDG_RUNTIME_DIR": str(tmp_path), **(env or {})})
        done.stderr = done.stderr.replace(f"{config}", "server.ini")
        return done
    return run


def server(*lines):
    """A file with these lines in [server], the first of which is line 2."""
    return "\n".join(["[server]", *lines, HELLO])


# command line

def test_version_and_help():
    done = run_weft("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"weft \d+\.\d+\.\d+\n", done.stdout)
    done = run_weft("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("-c FILE", "check", "defaults", "--version"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [
    [], ["-x"], ["--unknown"], ["-c"], ["dance"], ["check"], ["check", "now", "-c", "x.ini"], ["run", "a", "b"],
], ids=" ".join)
def test_wrong_usage_exits_2(arguments):
    done = run_weft(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert 1 <= len(done.stderr.splitlines()) <= 2


# config/server.ini

def test_defaults_are_the_file_in_the_tree():
    done = run_weft("defaults")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == DEFAULTS.read_text()


def entries(text):
    """The keys of config/server.ini by section, with the values that stand there: {"pg.main": {...}}."""
    found, section = {}, None
    for line in text.splitlines():
        if match := re.fullmatch(r"#?\[([a-z]+(?:\.[A-Za-z]+)?)\]", line):
            section = found.setdefault(match.group(1), {})
        elif match := re.fullmatch(r"#([a-z_]+) = ?(.*)", line):
            assert match.group(1) not in section
            section[match.group(1)] = match.group(2)
    return found


def test_every_key_of_it_is_accepted_at_its_default(check):
    """All that is commented out there, written out: it means the same as nothing."""
    found = entries(DEFAULTS.read_text())
    assert {"server", "pg.main", "upstream.partner"} <= set(found)
    assert {"listen", "workers", "reuseport", "plugin_dir", "drain_timeout", "request_timeout"} <= set(found["server"])
    lines = []
    for section, keys in found.items():
        lines.append(f"[{section}]")
        for key, value in keys.items():
            if key == "url":
                value = "http://127.0.0.1:1"
            elif key == "path":
                value = "hello.so"
            elif key == "conninfo":
                continue  # stands instead of the others
            lines.append(f"{key} = {value}")
    done = check("\n".join(lines) + "\n")
    assert done.returncode == 0
    assert re.fullmatch("(weft: pg.main: cannot be tried: .*\n)?", done.stderr), done.stderr    # a server may be there


def test_its_defaults_are_those_that_are_promised():
    found = entries(DEFAULTS.read_text())
    keys = found["server"]
    assert (keys["workers"], keys["reuseport"], keys["drain_timeout"]) == ("auto", "off", "30s")
    assert keys["request_timeout"] == "5s"
    assert (found["pg.main"]["sessions"], found["pg.main"]["queue"], found["pg.main"]["queue_timeout"]) \
        == ("4", "4096", "2s")
    assert (found["upstream.partner"]["connections"], found["upstream.partner"]["queue"]) == ("64", "4096")


def test_it_says_of_every_number_whether_a_worker_or_the_host_has_it():
    comment = []
    for line in DEFAULTS.read_text().splitlines():
        if line.startswith("# "):
            comment.append(line)
        elif match := re.fullmatch(r"#([a-z_]+) = (\d+[kmg]?)", line):
            text = " ".join(comment).replace("\n", " ")
            assert "A time" in text or re.search(r"per (worker|host)", text), match.group(1)
        else:
            comment = []


# check

def test_check_lists_the_routes(check):
    done = check(server("workers = 1") + "[plugin.again]\npath = hello.so\nmount = /again\n")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    for wanted in (["GET", "/hello", "hello"], ["POST", "/echo", "hello"], ["GET", "/again/hello", "again"]):
        assert wanted in lines, done.stdout


def test_check_needs_no_database_no_upstream_and_no_free_port(check, peer):
    done = check(f"[server]\nlisten = 127.0.0.1:{peer.port}\n[pg.main]\nhost = /nonexistent\n"
                 "[upstream.thirdparty]\nurl = http://127.0.0.1:1\n[plugin.books]\npath = books.so\n")
    assert done.returncode == 0
    assert re.fullmatch("weft: pg.main: cannot be tried: .*No such file or directory\n", done.stderr), done.stderr
    assert "/books/:id" in done.stdout


# what is refused, each with its line

REFUSED = {
    "unknown key": (server("colour = red"), r"server.ini:2: .*colour.*"),
    "unknown key in pg": ("[pg.main]\nsize = 3\n" + HELLO, r"server.ini:2: .*size.*pg\.main.*"),
    "unknown key in upstream": ("[upstream.a]\nurl = http://a\nspeed = 3\n" + HELLO, r"server.ini:3: .*speed.*"),
    "key no plugin asks for": (HELLO + "volume = 11\n", r"server.ini:3: .*volume.*"),
    "host_ key": (HELLO + "host_later = 1\n", r"server.ini:3: .*host_later.*"),
    "unknown section": ("[serve]\n" + HELLO, r"server.ini:1: .*\[serve\].*expected .*"),
    "section without a name": ("[pg]\n" + HELLO, r"server.ini:1: .*\[pg\].*expected .*"),
    "name where none belongs": ("[server.a]\n" + HELLO, r"server.ini:1: .*\[server\.a\].*expected .*"),
    "duplicate key": (server("workers = 1", "workers = 1"), r"server.ini:3: workers: .*line 2.*"),
    "duplicate section": (HELLO + HELLO, r"server.ini:3: .*\[plugin\.hello\].*line 1.*"),
    "too many": (server("workers = 257"), r"server.ini:2: workers: expected a number from 1 to 256, or auto"),
    "too few": (server("workers = 0"), r"server.ini:2: workers: expected a number from 1 .*"),
    "not a number": (server("workers = many"), r"server.ini:2: workers: expected a number .*"),
    "a number and more": (server("workers = 2x"), r"server.ini:2: workers: expected a number .*"),
    "negative": (server("backlog = -1"), r"server.ini:2: backlog: expected a number .*"),
    "no value": (server("workers ="), r"server.ini:2: workers: expected a number .*"),
    "not a time": (server("drain_timeout = soon"), r"server.ini:2: drain_timeout: expected a time .* in ms, .*"),
    "a time without unit": (server("drain_timeout = 30"), r"server.ini:2: drain_timeout: expected a time .*"),
    "too long a time": (server("drain_timeout = 2h"), r"server.ini:2: drain_timeout: expected a time from .* to 1h.*"),
    "not a size": (server("fiber_stack = large"), r"server.ini:2: fiber_stack: expected a size .*"),
    "neither on nor off": (server("reuseport = perhaps"), r"server.ini:2: reuseport: expected on, off, yes or no"),
    "no such choice": (server("log_level = loud"), r"server.ini:2: log_level: expected one of error, warn, .*"),
    "listen without port": (server("listen = 127.0.0.1"),
                            r'server.ini:2: listen: .*127\.0\.0\.1.*expected 1 to 8 addresses.*'),
    "listen on a name": (server("listen = localhost:80"),
                         r"server.ini:2: listen: .*localhost.*expected 1 to 8 addresses.*"),
    "listen on port 0": (server("listen = 127.0.0.1:0"), r"server.ini:2: listen: .*expected 1 to 8 addresses.*"),
    "listen on nothing": (server("listen ="), r"server.ini:2: listen: .*expected .*"),
    "listen on too many": (server("listen = " + " ".join(f"127.0.0.1:{i}" for i in range(1, 10))),
                           r'server.ini:2: listen: "127.0.0.1:9", expected 1 to 8 addresses.*'),
    "line too long": (server("error_log = " + "x" * 5000), r"server.ini:2: .*expected at most 4096.*"),
    "section name too long": (f"[pg.{'x' * 60}]\n" + HELLO, r"server.ini:1: .*expected .*49.*"),
    "key too long": (server("x" * 60 + " = 1"), r"server.ini:2: .*expected .*49.*"),
    "semicolon in a value": (server("error_log = stderr ; as ever"), r'server.ini:2: error_log: ";".*'),
    "neither key nor section": (server("what is this"), r"server.ini:2: .*expected key = value.*"),
    "section not closed": ("[server\n" + HELLO, r"server.ini:1: .*section.*"),
    "key before a section": ("workers = 1\n" + HELLO, r"server.ini:1: workers: .*expected a \[section\].*"),
    "continuation of nothing": ("[server]\n  workers = 1\n" + HELLO, r"server.ini:2: an indented line.*"),
    "control byte": (b"[server]\nerror_log = a\x07b\n", r"server.ini:2: control byte 0x07.*"),
    "missing variable": (server("error_log = ${WEFT_TEST_NOT_SET}"),
                         r"server.ini:2: error_log: variable WEFT_TEST_NOT_SET is not set.*"),
    "lone dollar": (server("error_log = a$b"), r'server.ini:2: error_log: .*\$.*'),
    "variable not closed": (server("error_log = ${HOME"), r'server.ini:2: error_log: .*expected a "}"'),
    "bad variable": (server("error_log = ${A B}"), r"server.ini:2: error_log: .*expected \$\{NAME\}.*"),
    "plugin without path": ("[plugin.hello]\nmount = /x\n", r"server.ini:1: path: missing.*"),
    "plugin that is not there": ("[plugin.x]\npath = nowhere.so\n",
                                 r"server.ini:[12]: .*nowhere\.so.*No such file.*"),
    "plugin that is a folder": ("[plugin.x]\npath = /usr/lib\n", r"server.ini:[12]: .*/usr/lib is no file"),
    "mount without a slash": (HELLO + "mount = then\n", r"server.ini:3: .*mount = then: expected .*"),
    "mount with a slash behind": (HELLO + "mount = /then/\n", r"server.ini:3: .*mount = /then/: expected .*"),
    "mount with a parameter": (HELLO + "mount = /:then\n", r"server.ini:3: .*mount = /:then: expected .*"),
    "required is no bool": (HELLO + "required = maybe\n", r"server.ini:3: required: expected on, off, yes or no"),
    "pool that a plugin asks for": ("[upstream.thirdparty]\nurl = http://127.0.0.1:1\n"
                                    "[plugin.books]\npath = books.so\n",
                                    r"server.ini:[34]: .*books.*\[?pg\.main.*"),
    "upstream that a plugin asks for": ("[pg.main]\n[plugin.books]\npath = books.so\n",
                                        r"server.ini:[23]: .*books.*upstream\.thirdparty.*"),
    "upstream without url": ("[upstream.partner]\n" + HELLO, r"server.ini:1: url: missing.*"),
    "upstream url without scheme": ("[upstream.a]\nurl = localhost:80\n" + HELLO, r"server.ini:2: url = .*expected .*"),
    "upstream url of another kind": ("[upstream.a]\nurl = ftp://a\n" + HELLO, r"server.ini:2: url = .*expected .*"),
    "upstream without its file": ("[upstream.a]\nurl = https://a\ntls_ca = nowhere.pem\n" + HELLO,
                                 r"server.ini:2: TLS: .*/nowhere.pem: .*No such file.*"),
    "upstream url with a user": ("[upstream.a]\nurl = http://u:p@a\n" + HELLO, r"server.ini:2: url = .*user name.*"),
    "conninfo beside host": ("[pg.main]\nhost = a\nconninfo = host=b\n" + HELLO, r"server.ini:\d: .*conninfo.*host.*"),
    "conninfo that is none": ("[pg.main]\nconninfo = what is this\n" + HELLO, r"server.ini:\d: .*conninfo.*"),
    "conninfo with a service": (
        "[pg.main]\nsessions = 1\nconninfo = service=books\n" + HELLO,
        r"server.ini:3: \[pg.main\]: conninfo: service, expected no service: the keys of its file themselves"),
    "conninfo with a time of its own": (
        "[pg.main]\nconninfo = host=b options='-c statement_timeout=7s'\n" + HELLO,
        r"server.ini:2: .*options with statement_timeout, expected statement_timeout of this section"),
    "conninfo with a list that is not there": (
        "[pg.main]\nsessions = 1\nconninfo = host=b sslmode=verify-full sslcrl=/nowhere/crl.pem\n" + HELLO,
        r"server.ini:3: \[pg.main\]: conninfo: sslcrl: cannot read /nowhere/crl.pem: No such file or directory"),
    "an authority that is not there": (
        "[pg.main]\nsslrootcert = nowhere.pem\n" + HELLO,
        r"server.ini:2: \[pg.main\]: sslrootcert: cannot read /.*/nowhere.pem: No such file or directory"),
    "sslmode": ("[pg.main]\nsslmode = maybe\n" + HELLO, r"server.ini:2: sslmode: expected one of disable, .*"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(check, name):
    text, pattern = REFUSED[name]
    done = check(text)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.fullmatch("weft: " + pattern, lines[0]), lines[0]


def test_missing_file():
    done = run_weft("check", "-c", "/nonexistent/server.ini")
    assert done.returncode == 1
    assert done.stderr == ("weft: /nonexistent/server.ini: No such file or directory, "
                           "expected a file that can be read\n")


def test_two_plugins_claim_one_route(check):
    """The line names both, and the route."""
    done = check(HELLO + "[plugin.other]\npath = hello.so\n")
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert re.match(r"weft: server\.ini:[34]: ", line), line
    assert "other" in line and re.search(r"\bhello\b(?!\.so)", line) and "GET /hello" in line, line


def test_a_run_is_refused_in_the_same_way(check):
    done = check(server("colour = red\nlisten = unix:here.sock"), verb=())
    assert done.returncode == 1
    assert re.search(r"server\.ini:2: .*colour", done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_plugin_s_own_setting(check, tmp_path):
    """Required, out of range, not a switch: told with the line."""
    made = plugin.build(tmp_path, "own", """
#include <weft.h>
static weft_status init(weft_host *host, void **self)
{
    weft_str name;
    int64_t count;
    uint32_t is_on;
    (void)self;
    WEFT_TRY(weft_setting(host, "name", NULL, &name));
    WEFT_TRY(weft_setting_int(host, "count", 1, 10, 5, &count));
    return weft_setting_bool(host, "switch", 0, &is_on);
}
WEFT_PLUGIN("own", "1.0", init, NULL, NULL);
""")
    head = f"[plugin.own]\npath = {made}\n"
    for text, pattern in (("", r":1: .*name.*"), ("name = a\ncount = 11\n", r":4: .*count = .*1 to 10.*"),
                          ("name = a\ncount = x\n", r":4: .*count = .*1 to 10.*"),
                          ("name = a\nswitch = maybe\n", r":4: .*switch = maybe: .*on.*off.*")):
        done = check(head + text)
        assert done.returncode == 1
        assert re.fullmatch(r"weft: server\.ini" + pattern, done.stderr.strip()), done.stderr
    assert check(head + "name = a\ncount = 10\nswitch = on\n").returncode == 0


# what is accepted

def test_a_file_with_all_its_freedoms(check):
    text = ("\ufeff# a comment\r\n; another\r\n\r\n[server]\r\nworkers=1\r\n  # indented comment\r\n"
            "listen =\r\n    127.0.0.1:1\r\n\r\n    127.0.0.1:2\r\n" + HELLO)
    assert check(text).stderr == ""


def test_variables(check):
    text = server("workers = ${WEFT_TEST_WORKERS}", "error_log = ${WEFT_TEST_LOG:-stderr}")
    assert check(text, {"WEFT_TEST_WORKERS": "2"}).returncode == 0
    assert "server.ini:2: workers: expected" in check(text, {"WEFT_TEST_WORKERS": "0"}).stderr


def test_secrets_stay_out_of_messages_and_of_the_process_list(check, start_weft, free_port):
    """A value from the environment is not repeated in what is said about it."""
    secret = "5ecret-5ecret"
    text = "[pg.main]\nconninfo = password=${WEFT_TEST_SECRET} what\n" + HELLO
    done = check(text, {"WEFT_TEST_SECRET": secret})
    assert done.returncode == 1
    assert secret not in done.stderr
    host = start_weft({"pg.main": {"host": "127.0.0.1", "port": free_port(), "password": "${WEFT_TEST_SECRET}"},
                       "plugin.hello": {"path": "hello.so"}}, env={"WEFT_TEST_SECRET": secret})
    host.wait_log(r"level=\w+ .*pg main")
    for pid in [host.pid, *host.workers()]:
        assert secret.encode() not in open(f"/proc/{pid}/cmdline", "rb").read()
    host.stop()
    assert secret not in host.log


# what only a start finds

def test_taken_port(start_weft, peer):
    host = start_weft({"server": {"listen": f"127.0.0.1:{peer.port}"}, "plugin.hello": {"path": "hello.so"}},
                      wait=False)
    assert host.wait() == 1
    line, = [line for line in host.log.splitlines() if "level=error" in line]
    assert f"127.0.0.1:{peer.port}" in line and "Address already in use" in line and "reuseport" in line
    host.process = None


def test_an_address_that_is_not_ours(start_weft):
    host = start_weft({"server": {"listen": "192.0.2.1:8080"}, "plugin.hello": {"path": "hello.so"}}, wait=False)
    assert host.wait() == 1
    host.wait_log("192.0.2.1:8080.*Cannot assign requested address")
    host.process = None


@pytest.mark.parametrize("key", ["error_log", "access_log"])
def test_a_log_that_cannot_be_opened(start_weft, key):
    host = start_weft({"server": {key: "/nonexistent/file"}, "plugin.hello": {"path": "hello.so"}}, wait=False)
    assert host.wait() == 1
    host.wait_log(f"{key}: /nonexistent/file: No such file or directory")
    host.process = None


def test_several_addresses_of_both_families(start_weft, free_port):
    ports = [free_port(), free_port()]
    try:
        socket.socket(socket.AF_INET6).bind(("::1", 0))
        second = f"[::1]:{ports[1]}"
    except OSError:
        second = f"127.0.0.1:{ports[1]}"
    host = start_weft({"server": {"listen": f"127.0.0.1:@PORT@ 127.0.0.1:{ports[0]} {second}"},
                       "plugin.hello": {"path": "hello.so"}})
    assert host.get("/hello").status == 200
    for address in (("127.0.0.1", ports[0]), ("::1" if "[" in second else "127.0.0.1", ports[1])):
        with socket.create_connection(address) as client:
            client.sendall(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"


def test_paths_are_relative_to_the_file(start_weft):
    """Not to the folder that the host is started in."""
    host = start_weft({"server": {"runtime_dir": "here", "access_log": "access.log", "error_log": "error.log"},
                       "plugin.hello": {"path": "hello.so"}})
    assert host.get("/hello").status == 200
    host.signal(signal.SIGTERM)
    host.wait()
    assert "/hello" in (host.folder / "access.log").read_text()
    assert "draining" in (host.folder / "error.log").read_text()
    assert (host.folder / "here").is_dir()


def test_workers_auto_is_one_a_core(start_weft):
    """As far as nproc knows; a quota of processor time can only make it fewer."""
    import os
    host = start_weft({"server": {"workers": "auto"}, "plugin.hello": {"path": "hello.so"}})
    found = host.wait_log(r"serving: (\d+) workers")
    assert 1 <= int(found.group(1)) <= len(os.sched_getaffinity(0))
