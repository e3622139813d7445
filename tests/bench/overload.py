"""Section: what becomes of load beyond capacity, with the settings that a user has who sets none, but that the access
log goes into a file and not to stderr. For the worker's CPU, a pool's sessions and an upstream's connections: how much
can be done is measured by closed loops; then 50, 90, 120 and 200 % of that come by chance, whatever the server does. As
much must be done as can be, what is done must be done in time, and the rest must be told so early."""
import collections
import sys

from openloop import Loader, judge, p99_ms
from stage import HERE, Row, left_out, place

NAME = "overload"
CLIENTS = 1000
SHARES = (50, 90, 120, 200)   # of what can be done, in percent; the last one alone where it is to be quick
# Bars, in ms: shed_after is 200, of which a quarter is the aim once it is on; the turn goes on top of that.
ANSWERED_MS, REFUSED_MS = 250, 250
LATE_MS = 25    # a generator that is later than that itself says nothing about these times, nor about refusals
# Of the first second of a load. Of a line that is offered twice what it serves, who is served after 400 ms is the first
# to have waited for shed_after; a window of 100 ms later, at 600 at the latest, newcomers are refused; who came just
# before that waits as long. And what chance adds.
START_MS = 750
# What may go wrong in a second whose median hides it: no longer than in the first one; and of all that can be done in
# these seconds so much is to be done: of six, one that is lost takes 17 % away, as do two that lose half.
DONE_SHARE = 0.85
# A load that more of is answered than so many times what the closed loops found: their capacity is none.
DOUBT = 1.1
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


def _done_share(parts, peak):
    """How much of what can be done was done, over these windows together. More than can be in one, since what came then
    was served later, makes up for no other."""
    can_be = [min(peak, part["offered"]) * part["seconds"] for part in parts]
    done = [min(most, part["goodput"] * part["seconds"]) for most, part in zip(can_be, parts)]
    return sum(done) / sum(can_be) if sum(can_be) > 0 else 0.0


def _slowest_ms(part):
    """Of a window, until who is answered or refused knows it. One in which nobody is answered lasts for ever."""
    return max(p99_ms(part), part["503"]["p99_us"] / 1000)


def _worst_row(what, peak, loaded):
    """Of all windows: a median does not notice what two of six were like. Those in which the generator was late do not
    count, and are told."""
    parts = loaded.in_time(LATE_MS)
    worst, done = max(map(_slowest_ms, parts), default=0), _done_share(parts, peak)
    value = f"p99 {worst:.1f} ms; in all {done:.0%} of what can be"
    if len(parts) < len(loaded.windows):
        value += f"; {len(loaded.windows) - len(parts)} of {len(loaded.windows)} not judged: the generator was late"
    return Row(NAME, f"{what}: the worst window", value, f"<= {START_MS} ms, > {DONE_SHARE:.0%}",
               worst <= START_MS and done > DONE_SHARE)


def _start_row(what, peak, part):
    """Of the first second, in which the refusing has to begin."""
    lost, done = part["errors"] + part["timeouts"] + part["other"]["count"], _done_share([part], peak)
    return Row(NAME, f"{what}: in the first second", f"p99 of those answered {p99_ms(part):.1f} ms, "
               f"refused {part['503']['p99_us'] / 1000:.1f} ms; {done:.0%} of what can be, {lost} neither",
               f"<= {START_MS} ms, > {DONE_SHARE:.0%}, 0",
               _slowest_ms(part) <= START_MS and done > DONE_SHARE and lost == 0)


def _doubted(rows, why):
    return [Row(row.section, row.what, f"{row.value}; {why}", f"{row.bar} (not judged)", None) for row in rows]


def _judged(rows, peak, possible):
    """The rows of a load; where more is possible than the peak says, they are too easy, and not judged."""
    if possible <= DOUBT * peak:
        return rows
    return _doubted(rows, f"{possible:.0f}/s are possible")


def _rows(case, share, peak, loaded):
    """What one load came to."""
    what = f"{case.name}, {share} % of {peak:.0f}/s"
    rows = []

    def add(name, value, bar="", is_held=None):
        rows.append(judge(Row(NAME, f"{what}: {name}", value, bar, is_held), loaded.late_ms, LATE_MS))

    done = loaded.goodput / min(peak, loaded.offered)
    # By chance more may come than fits for a while, at 90 % too.
    add("answered", f"{loaded.goodput:.0f}/s, {done:.0%} of what can be", "> 90 %", done > 0.9)
    add("answered, p50 p99", f"{loaded.ms('p50'):.1f} {loaded.ms():.1f} ms", f"<= {ANSWERED_MS} ms",
        loaded.ms() <= ANSWERED_MS)
    rows.append(judge(_worst_row(what, peak, loaded), loaded.late_ms, LATE_MS))
    least, most = int(share == 200), REFUSED_SHARE.get(share, 1) * loaded.total["requests"]
    add("refused, p50 p99", f"{loaded.refused} of {loaded.total['requests']}, {loaded.ms('p50', '503'):.1f} "
        f"{loaded.ms(kind='503'):.1f} ms",
        f"<= {REFUSED_SHARE[share]:.0%}" if share in REFUSED_SHARE else f"<= {REFUSED_MS} ms, with Retry-After",
        least <= loaded.refused <= most and loaded.ms(kind="503") <= REFUSED_MS and loaded.advised == loaded.refused)
    add("neither", f"{loaded.failed + loaded.others}", "0", loaded.failed + loaded.others == 0)
    if loaded.warm is not None:
        rows.append(judge(_start_row(what, peak, loaded.warm), loaded.warm["lag"]["p99_us"] / 1000, LATE_MS))
    return rows


def _peak(loader, host, case, quick):
    """What can be done: the best of some closed loops, since whatever else the machine does makes one worse."""
    return max(loader.run(host.port, case.path, 0.6 if quick else 2, connections=case.connections,
                          windows=3 if quick else 5).goodput for _ in range(2 if quick else 3))


def _offer(loader, host, case, peak, quick):
    """{share: Loaded}"""
    return {share: loader.run(host.port, case.path, 1.2 if quick else 6, rate=peak * share / 100, connections=CLIENTS,
                              windows=3 if quick else 6, warm=1)
            for share in (SHARES[-1:] if quick else SHARES)}


def _possible(loader, host, case, seen, quick):
    """The most that anything was answered at, afterwards and under load."""
    return max(_peak(loader, host, case, quick), *(loaded.goodput for loaded in seen.values()))


def _run_case(stage, loader, case, upstream, quick):
    changes = {"server": {"access_log": "access.log"}, **case.changes}
    changes.setdefault("upstream.quotes", {})["url"] = f"http://127.0.0.1:{upstream.port}"
    host = stage.weft(changes, name="overload")
    stage.warm(host, case.path, 20)
    peak = _peak(loader, host, case, quick)
    seen = _offer(loader, host, case, peak, quick)
    possible = _possible(loader, host, case, seen, quick)
    if possible > DOUBT * peak:    # all again, with what was seen
        peak = possible
        seen = _offer(loader, host, case, peak, quick)
        possible = _possible(loader, host, case, seen, quick)
    stage.end(host)
    rows = left_out(NAME, *(f"{case.name}, {share} %" for share in SHARES[:-1])) if quick else []
    for share, loaded in seen.items():
        rows += _judged(_rows(case, share, peak, loaded), peak, possible)
    return rows


def run(stage, quick):
    loader, upstream = Loader(stage), _slow_upstream(stage)
    return [row for case in CASES for row in _run_case(stage, loader, case, upstream, quick)]
