"""Clients that ask without pause, some on connections that they keep, some on a new one each time."""
import collections
import threading
import time

from .client import Client, Closed


class Load:
    """with Load(host.address, "/it") as load: ... Afterwards load.failures is what went wrong, a list of texts,
    and load.count how many were answered 200. `slow` is a target that is asked by one client more."""

    def __init__(self, address, target, keeping=4, fresh=4, slow=None, pause=0.002):
        self.address = address
        self.count = 0
        self.bodies = collections.Counter()
        self.failures = []
        self._pause = pause
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        jobs = [(self._keep, target)] * keeping + [(self._fresh, target)] * fresh
        jobs += [(self._keep, slow)] if slow else []
        self._threads = [threading.Thread(target=self._run, args=job) for job in jobs]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait(20)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more, timeout=30):
        """Until so many more requests were answered."""
        wanted, end = self.count + more, time.monotonic() + timeout
        while self.count < wanted:
            assert not self.failures, self.failures[:5]
            assert time.monotonic() < end, f"only {self.count} of {wanted} requests were answered"
            time.sleep(0.005)

    def _run(self, job, target):
        while not self._is_over.is_set():
            try:
                job(target)
            except (OSError, Closed, AssertionError) as error:
                with self._lock:
                    self.failures.append(f"{job.__name__} {target}: {error!r}")

    def _note(self, answer):
        assert answer.status == 200, answer
        with self._lock:
            self.count += 1
            self.bodies[answer.body] += 1
        time.sleep(self._pause)

    def _keep(self, target):
        with Client(self.address, 30) as client:
            while not self._is_over.is_set():
                answer = client.ask("GET", target)
                self._note(answer)
                if answer.header("connection") == "close":
                    return

    def _fresh(self, target):
        with Client(self.address, 30) as client:
            self._note(client.ask("GET", target, {"Connection": "close"}))
