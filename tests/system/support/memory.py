"""How much memory a worker takes while much goes through it."""
import pathlib
import re


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


def give(client, size, memory=None):
    piece, given = b"u" * (1 << 16), 0
    while given < size:
        given += client.socket.send(piece[:min(len(piece), size - given)])
        if memory is not None and given % (1 << 23) == 0:
            memory.look()
