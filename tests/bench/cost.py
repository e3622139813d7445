"""Section: server CPU of a request, for each workload of plugins/bench, as a multiple of k1's for a constant answer,
sampled before and after each of them; beside it CPU of PostgreSQL, rates, latencies, and nginx where it has the
workload. 64 connections."""
import statistics
import time

from stage import Row, left_out
from workloads import WORKLOADS

NAME = "cost"
CONNECTIONS = 64
WARM = 200    # requests, one after the other
BETWEEN = 4   # samples of k1 are so many workloads, where it is to be quick; else one

# What the database must have counted for each request: columns of pg_stat_user_tables, the table, how often. An update
# looks for its row, too.
_DATABASE = {"W3": [("idx_scan", "world", 1)], "W4": [("idx_scan", "world", 20)], "W5": [("seq_scan", "fortune", 1)],
             "W6": [("idx_scan", "world", 40), ("n_tup_upd", "world", 20)],
             "W8": [("n_tup_ins + n_tup_upd", "quote", 1)], "W9": [("idx_scan", "world", 1)]}
_UPSTREAM = ("W7", "W8", "W9")
NGINX = ["W1", "W1x16", "W7"]   # what it can do, too


class Sample:
    """One measurement: the Load, and CPU in microseconds a request."""

    def __init__(self, load, cpu_us, postgres_us):
        self.load, self.cpu_us, self.postgres_us = load, cpu_us, postgres_us


def database_counts(stage, workload):
    """What check_database() wants to see rise."""
    return [int(stage.cluster.run(f"select {column} from pg_stat_user_tables where relname = '{table}'",
                                  database="weft")[0][0]) for column, table, _ in _DATABASE.get(workload, [])]


def check_database(workload, count, before, counts, patience_s=10):
    """Raises where the database has not done what so many requests take. counts(): its counters, which were `before`. A
    backend reports its own once a second at most, and all of them when it ends: those of a server that has ended are
    about to."""
    end, wants = time.monotonic() + patience_s, [times * count for _, _, times in _DATABASE.get(workload, [])]
    while True:
        found = [now - then for now, then in zip(counts(), before)]
        if all(done >= 0.98 * want for done, want in zip(found, wants)):
            return
        if time.monotonic() > end:
            said = ", ".join(f"{done} of {want}" for done, want in zip(found, wants))
            raise RuntimeError(f"{workload}: the database has counted {said} for {count} requests")
        time.sleep(0.02)


def check_upstream(workload, count, asked):
    """The same of the upstream, whose counter is of this moment."""
    if workload in _UPSTREAM and asked < 0.98 * count:
        raise RuntimeError(f"{workload}: the upstream was asked {asked} times for {count} requests")


def measure(stage, server, workload, seconds):
    """Loads one workload of a server that is warm, a Host or a Program."""
    path, in_flight, _ = WORKLOADS[workload]
    asked = stage.upstream_asked()
    before, postgres = stage.cpu_s(server.pid), stage.postgres_cpu_s()
    load = stage.wrk(server.port, path, CONNECTIONS, seconds, in_flight)
    cpu_us = (stage.cpu_s(server.pid) - before) * 1e6 / max(1, load.requests)
    postgres_us = (stage.postgres_cpu_s() - postgres) * 1e6 / max(1, load.requests)
    check_upstream(workload, load.requests, stage.upstream_asked() - asked)
    return Sample(load, cpu_us, postgres_us)


def measure_alone(stage, start, workload, quick):
    """The same of a server of its own, and whether the database has done all of it."""
    path, in_flight, _ = WORKLOADS[workload]
    counted, server, warmed = database_counts(stage, workload), start(), WARM
    stage.warm(server, path, WARM)
    if not quick:
        warmed += stage.wrk(server.port, path, CONNECTIONS, 1, in_flight).requests
    sample = measure(stage, server, workload, 1 if quick else 4)
    stage.end(server)
    check_database(workload, warmed + sample.load.requests, counted, lambda: database_counts(stage, workload))
    return sample


def _one_round(stage, k1, quick, samples):
    """Each server in turn, so that what else the machine does meets all of them. `k1` runs throughout, and is sampled
    in between: what all is divided by must not be of another minute."""
    servers = {"k1": (stage.k1, ["W1x16"]), "nginx": (stage.nginx, NGINX),
               "weft": (stage.weft, list(WORKLOADS))}
    to_do = [(name, start, workload) for name, (start, workloads) in servers.items() for workload in workloads
             if not (quick and name == "nginx")]
    for number, (name, start, workload) in enumerate(to_do):
        if number % (BETWEEN if quick else 1) == 0:
            samples.setdefault(("k1", "W1"), []).append(measure(stage, k1, "W1", 1))
        samples.setdefault((name, workload), []).append(measure_alone(stage, start, workload, quick))
    samples["k1", "W1"].append(measure(stage, k1, "W1", 1))


def _row(server, workload, samples, limit_us, bar):
    middle = sorted(samples, key=lambda sample: sample.cpu_us)[len(samples) // 2]
    cpu_us = statistics.median(sample.cpu_us for sample in samples)
    multiple = cpu_us / limit_us
    bad = sum(sample.load.bad for sample in samples)
    value = f"{multiple:.2f} x k1, {cpu_us:.2f} us; {middle.load.rate:,.0f}/s"
    if WORKLOADS[workload][1] == 1:  # wrk knows no latency of a request where many are in flight
        value += f", p50 {middle.load.p50_us:,.0f} us, p99 {middle.load.p99_us:,.0f} us"
    if middle.postgres_us >= 0.5:
        value += f"; PostgreSQL {middle.postgres_us:.1f} us"
    if bad:
        value += f"; {bad} ERRORS"
    ok = None if bar is None else multiple <= bar and bad == 0
    return Row(NAME, f"{server} {workload}", value, "" if bar is None else f"<= {bar:g} x k1, no error", ok)


def _spread(samples):
    """How far they lie apart: what a multiple may be off by."""
    times = sorted(sample.cpu_us for sample in samples)
    low, high = times[len(times) // 4], times[-1 - len(times) // 4]
    return f"; {len(times)} samples, half of them {low:.2f} to {high:.2f} us, all {times[0]:.2f} to {times[-1]:.2f}"


def run(stage, quick):
    samples, k1 = {}, stage.k1()
    stage.warm(k1, WORKLOADS["W1"][0], WARM)
    for _ in range(1 if quick else 3):
        _one_round(stage, k1, quick, samples)
    stage.end(k1)
    limit_us = statistics.median(sample.cpu_us for sample in samples["k1", "W1"])
    rows = [_row(server, workload, found, limit_us, WORKLOADS[workload][2] if server == "weft" else None)
            for (server, workload), found in samples.items()]
    rows[0] = rows[0]._replace(value=rows[0].value + _spread(samples["k1", "W1"]))
    return rows + (left_out(NAME, *(f"nginx {workload}" for workload in NGINX)) if quick else [])
