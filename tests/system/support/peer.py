"""A scripted upstream: an HTTP server that can also refuse, reset, stall and answer in any framing."""
import json
import socket
import struct
import threading


class Request:
    """What the host sent: method, target, headers (a dict, names in lower case), body, and the number of
    its connection, counted from 1."""

    def __init__(self, method, target, headers, body, connection):
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.connection = connection

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<Request {self.method} {self.target} on {self.connection}>"


class Exchange:
    """One request, to be answered by a function of the test, in the connection's own thread."""

    def __init__(self, peer, connection, request):
        self.peer = peer
        self.socket = connection
        self.request = request
        self.keep = True

    def send(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def answer(self, status=200, body=b"", headers=None, framing="length", kind="application/json"):
        """Sends an answer. framing: length, chunked (a chunk for each 7 bytes), or close."""
        body = body.encode() if isinstance(body, str) else body
        head = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}"]
        head += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if framing == "length":
            head.append(f"Content-Length: {len(body)}")
        elif framing == "chunked":
            head.append("Transfer-Encoding: chunked")
            parts = [body[at:at + 7] for at in range(0, len(body), 7)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            assert framing == "close", framing
            head.append("Connection: close")
            self.keep = False
        self.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)

    def stall(self):
        """Says nothing until the host goes away or the test ends; then the connection is closed."""
        self.keep = False
        self.peer.wait_for_end(self.socket)

    def reset(self):
        """Resets the connection."""
        self.keep = False
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        """Closes the connection once the function of the test is done."""
        self.keep = False


def fixed(**arguments):
    """A function that answers always the same: fixed(status=200, body=b"...", framing="chunked")."""
    return lambda exchange: exchange.answer(**arguments)


class Peer:
    """The server. on(method, path, function) says what it does; anything else is a 404."""

    def __init__(self, port, address="127.0.0.1"):
        self.port = port
        self.address = address
        self.url = f"http://{address}:{port}"
        self.requests = []       # every Request, in the order in which they came
        self.connections = 0     # accepted so far
        self._routes = {}
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._open = set()
        self._listener = None
        self.listen()

    def on(self, method, path, function):
        """function(exchange) answers what matches; fixed() makes one. A path of None is every path."""
        self._routes[method, path] = function
        return self

    def listen(self):
        """Accepts connections (again)."""
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.address, self.port))
        self._listener.listen(1024)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self):
        """Refuses new connections from now on and closes those that are open."""
        listener, self._listener = self._listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()

    @property
    def open(self):
        """How many connections there are."""
        with self._changed:
            return len(self._open)

    def drop(self):
        """Closes every open connection, idle ones too."""
        with self._changed:
            sockets = list(self._open)
        for connection in sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def end(self):
        """Ends all of it."""
        self._ending.set()
        self.refuse()

    def wait_requests(self, count, timeout=10):
        """Waits until so many requests came in all, and returns them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, timeout), self.requests
            return list(self.requests)

    def wait_for_end(self, connection):
        """Until the other side closes the connection, or the peer ends."""
        connection.settimeout(0.1)
        while not self._ending.is_set():
            try:
                if not connection.recv(65536):
                    return
            except socket.timeout:
                continue
            except OSError:
                return

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                number = self.connections
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            while self._serve_one(connection, reader, number):
                pass
        except OSError:
            pass  # the host went away, or the test closed it
        finally:
            with self._changed:
                self._open.discard(connection)
            reader.close()
            connection.close()

    def _serve_one(self, connection, reader, number):
        request = _read_request(reader, number)
        if request is None:
            return False
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        path = request.target.split("?")[0]
        function = self._routes.get((request.method, path)) or self._routes.get((request.method, None))
        exchange = Exchange(self, connection, request)
        (function or fixed(status=404, body=b"{}"))(exchange)
        return exchange.keep


def _read_request(reader, number):
    line = reader.readline().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    method, target, _ = line.split(" ")
    headers = {}
    while True:
        line = reader.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            break
        name, value = line.split(":", 1)
        headers[name.lower()] = value.strip()
    trailers = {}
    if headers.get("transfer-encoding") == "chunked":
        body = _read_chunked(reader, trailers)
    else:
        body = reader.read(int(headers.get("content-length", 0)))
    request = Request(method, target, headers, body, number)
    request.trailers = trailers
    return request


def _read_chunked(reader, trailers):
    body = b""
    while True:
        size = int(reader.readline().split(b";")[0], 16)
        if size == 0:
            break
        body += reader.read(size)
        reader.readline()
    while line := reader.readline().decode("latin-1").rstrip("\r\n"):
        name, value = line.split(":", 1)
        trailers[name.lower()] = value.strip()
    return body
