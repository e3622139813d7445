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
