"""How much memory a worker takes while much goes through it."""
import pathlib
import re
import select


def memory_of(pid):
    """KiB, now."""
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


class Memory:
    """How much a worker's memory has grown since, at its highest of the moments when somebody looked."""

    def __init__(self, pid):
        self.pid = pid
        self.before = memory_of(pid)
        self.most = 0

    def look(self):
        self.most = max(self.most, memory_of(self.pid) - self.before)
        return self.most


def take(client, size, memory=None):
    """Takes that many bytes of a connection, and looks at the memory now and then."""
    taken, looked = 0, 0
    while taken < size:
        got = client.socket.recv(min(1 << 16, size - taken))
        assert got, f"closed after {taken}"
        taken += len(got)
        if memory is not None and taken - looked > 1 << 23:
            memory.look()
            looked = taken


def give(client, size, memory=None, piece=b"u" * (1 << 16)):
    """Sends that many bytes, made of the piece, 64 KiB, over and over."""
    given = 0
    while given < size:
        at = given % len(piece)
        given += client.socket.send(piece[at:at + min(len(piece), size - given)])
        if memory is not None and given % (1 << 23) == 0:
            memory.look()


def stuff(client, most, piece=b"u" * (1 << 16)):
    """The same until nothing has gone for a second; how much went."""
    given = 0
    client.socket.setblocking(False)
    while given < most:
        if not select.select([], [client.socket], [], 1)[1]:
            break
        at = given % len(piece)
        try:
            given += client.socket.send(piece[at:at + min(len(piece), most - given)])
        except BlockingIOError:
            pass
    client.socket.settimeout(60)
    return given
