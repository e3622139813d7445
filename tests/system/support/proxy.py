"""A small TCP proxy, which can lose what it carries: reset its connections, fall silent on them, or break one off at a
word."""
import selectors
import socket
import struct
import threading

_PIECE = 65536
_RESET = struct.pack("ii", 1, 0)   # SO_LINGER


class _Bait:
    """What a piece must have in it to be lost."""

    def __init__(self, text, of_client):
        self.text = text
        self.of_client = of_client
        self.is_taken = threading.Event()


class Proxy:
    """Carries bytes between 127.0.0.1:port and `target`, an address, in a thread of its own.

    Whatever it does to the connections that there are, new ones are carried on as before, unless refuse() was
    called."""

    def __init__(self, port, target):
        self.port = port
        self.target = target
        self._next = []                  # targets, see lead()
        self._is_ending = False
        self._refuses = False
        self._lock = threading.Lock()
        self._partners = {}              # socket -> the one on the other side
        self._silent = set()             # sockets that are read no more
        self._near = set()               # those of who has connected
        self._bait = None                # what lose() waits for
        self._passed = {}                # socket -> the last bytes that have passed meanwhile
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def reset(self):
        """Breaks off every connection with a RST, on both sides."""
        with self._lock:
            for one in list(self._partners):
                self._close(one, _RESET)

    def fall_silent(self):
        """From now on nothing goes through the connections that there are, and nobody is told: half-open."""
        with self._lock:
            for one in self._partners:
                if one not in self._silent:
                    self._selector.unregister(one)
                    self._silent.add(one)

    def lose(self, text, of_client=False):
        """The next piece with `text` in it, of the target's or of a client's, goes nowhere: its connection breaks off
        with a RST on both sides. Returns an event, which is set then."""
        with self._lock:
            self._passed.clear()
            self._bait = _Bait(text, of_client)
            return self._bait.is_taken

    def end_silence(self):
        """Breaks off those that have fallen silent: whoever is at their other end keeps them no longer."""
        with self._lock:
            for one in list(self._silent):
                self._close(one)

    def refuse(self, refuses=True):
        """New connections are broken off at once."""
        self._refuses = refuses

    def lead(self, *targets):
        """As a balancer does: the next connections go to these, one each, and all after them to the last one."""
        with self._lock:
            self._next = list(targets)
            self.target = targets[-1]

    def left(self):
        """How many of these are still to be led to."""
        with self._lock:
            return len(self._next)

    def count(self):
        """How many connections it carries, silent ones too."""
        with self._lock:
            return len(self._partners) // 2

    def end(self):
        self._is_ending = True
        self._thread.join()
        self.reset()
        self._listener.close()
        self._selector.close()

    def _run(self):
        while not self._is_ending:
            for key, _ in self._selector.select(timeout=0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._partners and key.fileobj not in self._silent:
                        self._carry(key.fileobj)

    def _accept(self):
        near, _ = self._listener.accept()
        if self._refuses:
            near.close()
            return
        target = self._next.pop(0) if self._next else self.target
        try:
            far = socket.create_connection(target, timeout=5)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(5)
            self._partners[one] = other
            self._selector.register(one, selectors.EVENT_READ)
        self._near.add(near)

    def _carry(self, one):
        try:
            data = one.recv(_PIECE)
            if self._bait is not None and self._takes_bait(one, data):
                self._close(one, _RESET)
                return
            if data:
                self._partners[one].sendall(data)
                return
        except OSError:
            pass
        self._close(one)

    def _takes_bait(self, one, data):
        """The text may come in pieces: of those before the last one, some have passed."""
        bait = self._bait
        if bait.of_client != (one in self._near):
            return False
        seen = self._passed.get(one, b"") + data
        if bait.text not in seen:
            self._passed[one] = seen[-len(bait.text):]
            return False
        self._bait = None
        bait.is_taken.set()
        return True

    def _close(self, one, linger=None):
        """Both sides of a connection; with `linger` by RST."""
        for each in (one, self._partners.get(one)):
            if self._partners.pop(each, None) is None:
                continue
            if each not in self._silent:
                self._selector.unregister(each)
            self._silent.discard(each)
            self._near.discard(each)
            self._passed.pop(each, None)
            if linger:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            each.close()
