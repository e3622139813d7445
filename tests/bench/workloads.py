"""The workloads of plugins/bench by which weft is measured."""
# The workload, its path, requests in flight on a connection, and the multiple of k1 that is to be held.
WORKLOADS = {
    "W1": ("/plaintext", 1, 1.2),
    "W1x16": ("/plaintext", 16, 0.3),
    "W2": ("/json", 1, 1.25),
    "W3": ("/db", 1, 2.3),
    "W4": ("/queries?n=20", 1, 14),
    "W5": ("/fortunes", 1, 2.7),
    "W6": ("/updates?n=20", 1, 22),
    "W7": ("/api", 1, 2.55),
    "W8": ("/api-db", 1, 4.5),
    "W9": ("/db-api", 1, 4.5),
}
# Those that are counted and not timed: what they are, and what their host has beside config/bench.ini. The access log
# is on by default, and off there; a file of that name is its host's own (stage.py).
VARIANTS = {"W1log": ("W1", {"server": {"access_log": "access.log"}})}
COUNTED = [*WORKLOADS, *VARIANTS]


def look_up(name):
    """Of one of COUNTED: its path, requests in flight on a connection, and its host's further settings."""
    plain, changes = VARIANTS.get(name, (name, {}))
    path, in_flight, _ = WORKLOADS[plain]
    return path, in_flight, changes


def by_host(names):
    """The same names by the host that they need: [(its further settings, names), ...]."""
    kinds = {str(changes): changes for _, _, changes in map(look_up, names)}
    return [(changes, [name for name in names if look_up(name)[2] == changes]) for changes in kinds.values()]
