"""Section: what becomes of load beyond capacity, with the settings that a user has who sets none. For the worker's CPU,
a pool's sessions and an upstream's connections: how much can be done is measured by a closed loop; then 50, 90, 120 and
200 % of that come by chance, whatever the server does. As much must be done as can be, what is done must be done in
time, and the rest must be told so early."""
import collections
import sys

from openloop import Loader, judge
from stage import HERE, Row, left_out, place

NAME = "overload"
CLIENTS = 1000
# Bars, in ms: shed_after is 200, of which a quarter is the aim once it is on; the turn goes on top of that.
ANSWERED_MS, REFUSED_MS = 250, 250
LATE_MS = 25    # a generator that is later than that itself says nothing about these times, nor about refusals
# How many may be refused, by the load's share of what can be done: nobody as long as there is plenty.
REFUSED_SHARE = {50: 0, 90: 0.01}

# What is scarce, the path that wants it, and connections of the closed loop that finds its capacity.
Case = collections.namedtuple("Case", "name path connections changes")
WAIT_MS = 10
CASES = [
    Case("CPU of the worker, 300 us each", "/work?us=300", 16, {}),
    Case("4 sessions, 10 ms each", f"/wait?ms={WAIT_MS}", 16, {"pg.main": {"sessions": 4}}),
    Case("4 upstream connections, 10 ms each", "/api", 16, {"upstream.quotes": {"connections": 4}}),
]


def _slow_upstream(stage):
    port = place.free_port()
    return stage.program([sys.executable, HERE / "slow_upstream.py", str(port), str(WAIT_MS)], port, "slow.log",
                         stage.load_cpus)


def _rows(case, share, peak, loaded):
    """What one load came to."""
    what = f"{case.name}, {share} % of {peak:.0f}/s"
    rows = []

    def add(name, value, bar="", is_held=None):
        rows.append(judge(Row(NAME, f"{what}: {name}", value, bar, is_held), loaded.late_ms, LATE_MS))

    done = loaded.goodput / min(peak, peak * share / 100)
    # By chance more may come than fits for a while, at 90 % too.
    add("answered", f"{loaded.goodput:.0f}/s, {done:.0%} of what can be", "> 90 %", done > 0.9)
    add("answered, p50 p99", f"{loaded.ms('p50'):.1f} {loaded.ms():.1f} ms", f"<= {ANSWERED_MS} ms",
        loaded.ms() <= ANSWERED_MS)
    most = REFUSED_SHARE.get(share, 1) * loaded.total["requests"]
    add("refused, p50 p99", f"{loaded.refused} of {loaded.total['requests']}, {loaded.ms('p50', '503'):.1f} "
        f"{loaded.ms(kind='503'):.1f} ms",
        f"<= {REFUSED_SHARE[share]:.0%}" if share in REFUSED_SHARE else f"<= {REFUSED_MS} ms, with Retry-After",
        loaded.refused <= most and loaded.ms(kind="503") <= REFUSED_MS and loaded.advised == loaded.refused)
    add("neither", f"{loaded.failed + loaded.others}", "0", loaded.failed + loaded.others == 0)
    return rows


def _run_case(stage, loader, case, upstream, quick):
    changes = {**case.changes}
    changes.setdefault("upstream.quotes", {})["url"] = f"http://127.0.0.1:{upstream.port}"
    host = stage.weft(changes, name="overload")
    stage.warm(host, case.path, 20)
    windows = 3 if quick else 5
    peak = loader.run(host.port, case.path, 0.6 if quick else 2, connections=case.connections, windows=windows).goodput
    rows = left_out(NAME, f"{case.name}, 50, 90 and 120 %") if quick else []
    for share in (200,) if quick else (50, 90, 120, 200):
        seconds = 1 if quick else 5
        loaded = loader.run(host.port, case.path, seconds, rate=peak * share / 100, connections=CLIENTS,
                            windows=windows, warm=1.2 if quick else 2)
        rows += _rows(case, share, peak, loaded)
    stage.end(host)
    return rows


def run(stage, quick):
    loader, upstream = Loader(stage), _slow_upstream(stage)
    return [row for case in CASES for row in _run_case(stage, loader, case, upstream, quick)]
