"""A scripted name server, over UDP and TCP."""
import ipaddress
import socket
import struct
import threading

from . import place

A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_NAME = 0, 2, 3


class Query:
    """A question: name (in lower case), type, whether it came over TCP, and how many came before for that."""

    def __init__(self, message, is_tcp):
        self.id = struct.unpack(">H", message[:2])[0]
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode("ascii").lower())
            at += 1 + message[at]
        self.name = ".".join(labels)
        self.question = message[12:at + 5]   # as it was written: who asked compares it
        self.type = struct.unpack(">H", message[at + 1:at + 3])[0]
        self.is_tcp = is_tcp
        self.before = 0

    def answer(self, *addresses, ttl=60, code=NO_ERROR, is_cut=False, number=None, question=None):
        """The message that answers it with those of the addresses that were asked for. number and question: others
        than its own."""
        question = question or self.question
        size = 4 if self.type == A else 16
        packed = [ipaddress.ip_address(address).packed for address in addresses]
        records = [b"\xc0\x0c" + struct.pack(">HHIH", self.type, 1, ttl, size) + one
                   for one in packed if len(one) == size and self.type in (A, AAAA)]
        flags = 0x8180 | code | (0x0200 if is_cut else 0)
        return struct.pack(">HHHHHH", self.id if number is None else number, flags, 1, len(records), 0, 0) + \
            question + b"".join(records)


def question(name, kind=A):
    """A question as it stands in a message."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + \
        b"\0" + struct.pack(">HH", kind, 1)


class NameServer:
    """on(name, function): function(query) returns the messages that are sent for it, one or a list; None is silence.
    It may block: others are answered meanwhile. Names that it does not know do not exist."""

    def __init__(self):
        self.queries = []   # every Query, in the order in which they came
        self._routes = {}
        self._changed = threading.Condition()
        while True:
            self.port = place.free_port()
            self._tcp = socket.create_server(("127.0.0.1", self.port))
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._udp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self._tcp.close()
                self._udp.close()
        self.address = f"127.0.0.1:{self.port}"
        for function in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=function, daemon=True).start()

    def on(self, name, function):
        self._routes[name] = function
        return self

    def hold(self, name, *addresses, **more):
        """It has these addresses from now on."""
        return self.on(name, lambda query: query.answer(*addresses, **more))

    def asked(self, name, kind=A):
        """How often it was asked for the name."""
        with self._changed:
            return self._count(name, kind)

    def wait_asked(self, name, count, timeout=20):
        """Waits until it was asked so often for the name's IPv4 addresses."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._count(name, A) >= count, timeout), self._count(name, A)

    def end(self):
        for one in (self._tcp, self._udp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass   # nobody is connected to it
            one.close()

    def _count(self, name, kind):
        return sum(query.name == name and query.type == kind for query in self.queries)

    def _answers(self, message, is_tcp):
        query = Query(message, is_tcp)
        with self._changed:
            query.before = self._count(query.name, query.type)
            self.queries.append(query)
            self._changed.notify_all()
        function = self._routes.get(query.name, lambda query: query.answer(code=NO_NAME))
        found = function(query)
        return [found] if isinstance(found, bytes) else found or []

    def _serve_udp(self):
        while True:
            try:
                message, sender = self._udp.recvfrom(4096)
            except OSError:
                return
            if not message:
                return   # shut down
            threading.Thread(target=self._answer_udp, args=(message, sender), daemon=True).start()

    def _answer_udp(self, message, sender):
        try:
            for answer in self._answers(message, False):
                self._udp.sendto(answer, sender)
        except OSError:
            pass   # the test is over

    def _serve_tcp(self):
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(connection,), daemon=True).start()

    def _answer_tcp(self, connection):
        try:
            with connection, connection.makefile("rb") as reader:
                while size := reader.read(2):
                    for answer in self._answers(reader.read(struct.unpack(">H", size)[0]), True):
                        connection.sendall(struct.pack(">H", len(answer)) + answer)
        except OSError:
            pass   # the host went away
