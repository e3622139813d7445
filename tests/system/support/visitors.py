"""Clients that ask, and leave whenever they like."""
import random
import threading
import time

from .client import Client, Closed


class Visitor(threading.Thread):
    """Comes again and again until a moment; each time asks for some things, and waits for the answers or does not."""

    def __init__(self, host, requests, seed, until):
        super().__init__()
        self.host, self.requests, self.until = host, requests, until
        self.random = random.Random(seed)
        self.answers = 0

    def run(self):
        while time.monotonic() < self.until:
            try:
                self.visit()
            except (Closed, OSError):
                pass

    def visit(self):
        pick = self.random.randrange
        with Client(self.host.address, 5) as client:
            for _ in range(1 + pick(3)):
                method, target, body = self.random.choice(self.requests)
                client.request(method, target, body=body)
            how = pick(6)
            if how == 0:
                client.reset()
            elif how == 1:
                time.sleep(pick(20) / 1000)
                client.reset()
            elif how == 2:
                client.send(b"GET /half HTTP/1.1\r\nHo")
            elif how == 3:
                client.finish()
            else:
                client.read_answer()
                self.answers += 1


def storm(host, requests, seed, seconds, count=8):
    """Has so many visitors come for so long; returns how many answers they waited for. `requests` are triples of
    method, target and body."""
    until = time.monotonic() + seconds
    visitors = [Visitor(host, requests, seed * 1000 + number, until) for number in range(count)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    return sum(visitor.answers for visitor in visitors)
