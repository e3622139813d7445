"""A raw HTTP/1.1 client: what is sent is what the test says, byte for byte."""
import json
import socket
import struct


class Answer:
    """One answer: version, status, reason, headers (a list of pairs, names as sent) and body."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.version, status, *reason = lines[0].split(" ", 2)
        self.status = int(status)
        self.reason = reason[0] if reason else ""
        self.headers = [tuple(line.split(":", 1)) for line in lines[1:] if line]
        self.headers = [(name, value.strip()) for name, value in self.headers]
        self.trailers = []
        self.body = b""

    def header(self, name):
        """The value of the first header called so, whatever the case, or None."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:200]!r}>"


class Closed(Exception):
    """The other side closed or reset the connection before an answer was complete. `got` holds what came."""

    def __init__(self, got):
        super().__init__(f"closed after {got[:200]!r}")
        self.got = got


class Client:
    """One connection. Every read has a time limit (socket.timeout is raised), so that no test hangs."""

    def __init__(self, address, timeout=10):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def request(self, method, target, headers=(), body=None):
        """Sends one request; headers is a dict or a list of pairs. Host and Content-Length are added."""
        pairs = list(headers.items() if isinstance(headers, dict) else headers)
        names = {name.lower() for name, _ in pairs}
        body = body.encode() if isinstance(body, str) else body
        if "host" not in names:
            pairs.insert(0, ("Host", "localhost"))
        if body is not None and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", len(body)))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs)
        return self.send(head.encode("latin-1") + b"\r\n" + (body or b""))

    def ask(self, method, target, headers=(), body=None):
        """Sends one request and reads its answer; interim answers are skipped."""
        self.request(method, target, headers, body)
        while True:
            answer = self.read_answer(method)
            if answer.status >= 200:
                return answer

    def read_answer(self, method="GET"):
        """Reads one answer, an interim one too. `method` tells whether a body follows."""
        answer = Answer(self._take_until(b"\r\n\r\n")[:-4])
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return answer
        if "chunked" in (answer.header("transfer-encoding") or "").lower():
            self._read_chunks(answer)
        elif answer.header("content-length") is not None:
            answer.body = self._take(int(answer.header("content-length")))
        else:
            answer.body = self.read_rest()
        return answer

    def _read_chunks(self, answer):
        while True:
            size = int(self._take_until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                break
            answer.body += self._take(size)
            assert self._take(2) == b"\r\n"
        while True:
            line = self._take_until(b"\r\n")[:-2]
            if not line:
                return
            name, value = line.decode("latin-1").split(":", 1)
            answer.trailers.append((name, value.strip()))

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self.pending)
        self.pending += data

    def _take(self, size):
        while len(self.pending) < size:
            self._more()
        data, self.pending = self.pending[:size], self.pending[size:]
        return data

    def _take_until(self, mark):
        while mark not in self.pending:
            self._more()
        return self._take(self.pending.index(mark) + len(mark))

    def read_rest(self):
        """Everything until the other side closes."""
        try:
            while True:
                self._more()
        except Closed:
            data, self.pending = self.pending, b""
            return data

    def is_closed(self):
        """Waits for the other side to close; False where bytes come instead, or nothing for long."""
        if self.pending:
            return False
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def finish(self):
        """Says that nothing more will be sent (FIN)."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        """Closes with a RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()
