"""Goal: `weft fetch` asks what it is told to ask, shows the answer and how long it took, and says of many requests
what came of each; it fails where one was not answered."""
import re
import ssl
import subprocess
import threading

import pytest

from support import place
from support.host import run_weft
from support.peer import fixed


def fetch(*arguments, **more):
    return run_weft("fetch", *arguments, **more)


def test_an_answer_and_its_times(peer):
    peer.on("GET", "/a", fixed(status=418, body="a body", headers={"X-Own": "1"}))
    done = fetch(f"{peer.url}/a?b=%20c")
    assert (done.returncode, done.stdout) == (0, "a body"), done.stderr
    assert re.fullmatch(rf"418, 6 bytes from 127.0.0.1:{peer.port} in [\d.]+ ms "
                        r"\(connected in [\d.]+ ms, first byte after [\d.]+ ms\)\n", done.stderr)
    assert peer.requests[-1].target == "/a?b=%20c"
    done = fetch("-i", f"{peer.url}/a")
    assert done.stdout.startswith("418 ") and "\nX-Own: 1\n" in done.stdout and done.stdout.endswith("\n\na body")


def test_method_fields_and_body(peer):
    peer.on("POST", "/", lambda exchange: exchange.answer(body=exchange.request.body, framing="chunked"))
    peer.on("PUT", "/", lambda exchange: exchange.answer(body=exchange.request.headers["x-a"]))
    assert fetch("-d", "some text", peer.url).stdout == "some text"
    assert fetch("-X", "PUT", "-H", "X-A:  one ", "-H", "Y: 2", f"{peer.url}/").stdout == "one"
    assert peer.requests[-1].headers["y"] == "2"


def test_many(peer):
    lock, count = threading.Lock(), [0]

    def answer(exchange):
        with lock:
            count[0] += 1
            number = count[0]
        exchange.answer(status=200 if number % 4 else 503, body="x" * 10)

    peer.on("GET", "/", answer)
    done = fetch("-n", "200", "-c", "8", peer.url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^requests  200 in [\d.]+ s, 8 at once$", done.stdout, re.MULTILINE)
    assert re.search(r"^answered  200, [\d.]+ a second$", done.stdout, re.MULTILINE)
    assert "failed    0\nstatus    200: 150\nstatus    503: 50\nbodies    2000 bytes" in done.stdout
    assert int(re.search(r"^connects  (\d+)$", done.stdout, re.MULTILINE)[1]) <= 8
    times = [float(part) for part in re.findall(r"([\d.]+) ms", done.stdout)]
    assert len(times) == 5 and times == sorted(times)
    assert len(peer.requests) == 200


def test_what_is_not_answered(peer):
    peer.on("GET", "/reset", lambda exchange: exchange.reset())
    peer.on("GET", "/slow", lambda exchange: exchange.stall())
    peer.on("GET", "/half", lambda exchange: (exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
                                             exchange.reset()))
    done = fetch(f"{peer.url}/reset")
    assert done.returncode == 1 and re.search(r"weft fetch: upstream .*", done.stderr)
    assert len(peer.requests) == 1   # it is not sent again
    assert fetch("-m", "1", f"{peer.url}/slow").returncode == 1
    assert fetch(f"{peer.url}/half").returncode == 1
    done = fetch("-n", "5", f"{peer.url}/reset")
    assert done.returncode == 1 and "failed    5\n" in done.stdout and "the first that failed" in done.stderr
    peer.refuse()
    assert "Connection refused" in fetch(peer.url).stderr


@pytest.mark.parametrize("arguments", [
    [], ["ftp://x/"], ["http://"], ["http://a/", "http://b/"], ["-n", "0", "http://a/"], ["-c", "x", "http://a/"],
    ["-H", "none", "http://a/"], ["--no", "http://a/"], ["-m", "0", "http://a/"], ["--ca", "/none", "https://a/"]])
def test_a_line_that_makes_no_sense(arguments):
    done = fetch(*arguments)
    assert done.returncode == 2 and done.stderr


def test_help():
    done = fetch("--help")
    assert done.returncode == 0 and "-n COUNT" in done.stdout
    assert "weft fetch URL" in run_weft("--help").stdout


def test_a_field_that_is_not_ours_to_set(peer):
    done = fetch("-H", "Content-Length: 7", peer.url)
    assert done.returncode == 1 and "is not the handler's to set" in done.stderr
    assert peer.requests == []


def test_unix_socket_and_much(start_weft, tmp_path):
    start_weft({"server": {"listen": f"unix:{tmp_path}/sock"}, "plugin.streams": {
        "path": place.BUILD / "tests/plugins/streams.so"}}, wait=False)
    for _ in range(200):
        done = fetch(f"http://unix:{tmp_path}/sock:/streams/down/3000000")
        if done.returncode == 0:
            break
    assert done.returncode == 0 and done.stdout == "d" * 3000000, done.stderr


def test_tls(peer, tmp_path):
    """A certificate that nobody vouches for is refused, unless -k says otherwise, or --ca does."""
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                           "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out",
                           tmp_path / "cert"], capture_output=True, timeout=60)
    if made.returncode != 0:
        pytest.skip("openssl cannot make a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    serve = peer._serve
    peer._serve = lambda connection, number: _serve_tls(context, serve, connection, number)
    peer.on("GET", "/", fixed(body="secret"))
    url = f"https://127.0.0.1:{peer.port}/"
    done = fetch(url)
    assert done.returncode == 1 and "its certificate is refused" in done.stderr
    assert fetch("-k", url).stdout == "secret"
    assert fetch("--ca", str(tmp_path / "cert"), url).stdout == "secret"


def _serve_tls(context, serve, connection, number):
    try:
        connection = context.wrap_socket(connection, server_side=True)
    except OSError:
        connection.close()
        return
    serve(connection, number)
