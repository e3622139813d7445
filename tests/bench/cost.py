"""Section: server CPU of a request, for each workload of plugins/bench, as a multiple of k1's for a constant answer in
the same run; beside it CPU of PostgreSQL, rates and latencies. 64 connections."""
import statistics

from stage import Row

NAME = "cost"
CONNECTIONS = 64

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
# What the database must have counted for each request: a column of pg_stat_user_tables, the table, and how often.
_DATABASE = {"W3": ("idx_scan", "world", 1), "W4": ("idx_scan", "world", 20), "W5": ("seq_scan", "fortune", 1),
             "W6": ("idx_scan", "world", 20), "W8": ("n_tup_ins + n_tup_upd", "quote", 1),
             "W9": ("idx_scan", "world", 1)}
_UPSTREAM = ("W7", "W8", "W9")


class Sample:
    """One measurement: the Load, and CPU in microseconds a request."""

    def __init__(self, load, cpu_us, postgres_us):
        self.load, self.cpu_us, self.postgres_us = load, cpu_us, postgres_us


def _database_count(stage, workload):
    if workload not in _DATABASE:
        return 0
    column, table, _ = _DATABASE[workload]
    return int(stage.cluster.run(f"select {column} from pg_stat_user_tables where relname = '{table}'",
                                 database="weft")[0][0])


def _check_work(workload, count, in_database, at_upstream):
    """Raises where the database or the upstream has not done what so many requests take."""
    times = _DATABASE.get(workload, (None, None, 0))[2]
    # A backend reports its counters once a second at most: what it did last may be missing.
    if in_database < 0.2 * times * count:
        raise RuntimeError(f"{workload}: the database has counted {in_database} of {times} x {count}")
    if workload in _UPSTREAM and at_upstream < 0.98 * count:
        raise RuntimeError(f"{workload}: the upstream was asked {at_upstream} times for {count} requests")


def measure(stage, pid, port, workload, seconds, is_weft=True):
    """Loads one workload of a server that is warm."""
    path, in_flight, _ = WORKLOADS[workload]
    counted, asked = (_database_count(stage, workload), stage.upstream_asked()) if is_weft else (0, 0)
    before, postgres = stage.cpu_s(pid), stage.postgres_cpu_s()
    load = stage.wrk(port, path, CONNECTIONS, seconds, in_flight)
    cpu_us = (stage.cpu_s(pid) - before) * 1e6 / max(1, load.requests)
    postgres_us = (stage.postgres_cpu_s() - postgres) * 1e6 / max(1, load.requests)
    if is_weft:
        _check_work(workload, load.requests, _database_count(stage, workload) - counted, stage.upstream_asked() - asked)
    return Sample(load, cpu_us, postgres_us)


def _one_round(stage, seconds, samples):
    """Each server in turn, so that what else the machine does meets all of them."""
    k1 = stage.k1()
    for workload in ("W1", "W1x16"):
        stage.wrk(k1.port, WORKLOADS[workload][0], CONNECTIONS, 1, WORKLOADS[workload][1])
        samples.setdefault(("k1", workload), []).append(measure(stage, k1.pid, k1.port, workload, seconds, False))
    stage.end(k1)
    host = stage.weft()
    for workload, (path, in_flight, _) in WORKLOADS.items():
        stage.warm(host, path)
        if seconds > 1:
            stage.wrk(host.port, path, CONNECTIONS, 1, in_flight)
        samples.setdefault(("weft", workload), []).append(measure(stage, host.pid, host.port, workload, seconds))
    stage.end(host)


def _row(server, workload, samples, limit_us, bar):
    middle = sorted(samples, key=lambda sample: sample.cpu_us)[len(samples) // 2]
    multiple = statistics.median(sample.cpu_us for sample in samples) / limit_us
    bad = sum(sample.load.bad for sample in samples)
    value = f"{multiple:.2f} x k1, {middle.cpu_us:.2f} us; {middle.load.rate:,.0f}/s"
    if WORKLOADS[workload][1] == 1:  # wrk knows no latency of a request where many are in flight
        value += f", p50 {middle.load.p50_us:,.0f} us, p99 {middle.load.p99_us:,.0f} us"
    if middle.postgres_us >= 0.5:
        value += f"; PostgreSQL {middle.postgres_us:.1f} us"
    if bad:
        value += f"; {bad} ERRORS"
    ok = None if bar is None else multiple <= bar and bad == 0
    return Row(NAME, f"{server} {workload}", value, "" if bar is None else f"<= {bar:g} x k1, no error", ok)


def run(stage, quick):
    samples = {}
    for _ in range(1 if quick else 3):
        _one_round(stage, 1 if quick else 4, samples)
    limit_us = statistics.median(sample.cpu_us for sample in samples["k1", "W1"])
    return [_row(server, workload, found, limit_us, WORKLOADS[workload][2] if server == "weft" else None)
            for (server, workload), found in samples.items()]
