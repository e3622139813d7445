"""Where things are, and ports that nobody else has."""
import os
import pathlib
import random
import socket

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("WEFT_BUILD", ROOT / "build" / "dev")).resolve()
TOOLS = ROOT / "tests" / "tools"

# Below the ports that the kernel gives to outgoing connections, and apart from pgcluster's.
_PORTS = range(10000, 20000)
_reserved = []


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens on and no other test gets while this process lives.

    The reservation is a Unix socket in the abstract name space: it goes with the process."""
    while True:
        port = random.choice(_PORTS)
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        probe = socket.socket()
        try:
            mark.bind(f"\0weft-test-port-{port}")
            probe.bind(("127.0.0.1", port))
        except OSError:
            mark.close()
            continue
        finally:
            probe.close()
        _reserved.append(mark)
        return port
