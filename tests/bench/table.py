"""./run bench table: the tables of README.md, for all workloads: instructions by part and room, and system calls."""
import cost
import count
import stage

PARTS = ["llhttp", "libpq", "libc", "malloc", "plugin"]
ROOMS = ["base", "loop", "observe", "task", "net", "http", "pg", "upstream", "plugin", "server"]


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _head(columns):
    return [_line(["", *columns]), "|---|" + "---:|" * len(columns)]


def by_part(counts, calls):
    """The lines of the first table. `calls`: for each workload system calls on one connection and on many."""
    lines = _head(["weft", *PARTS, "**instructions**", "calls, 1", f"calls, {cost.CONNECTIONS}"])
    for workload, found in counts.items():
        own = sum(found.parts[f"weft/{room}"] for room in ROOMS)
        one, many = calls[workload]
        lines.append(_line([workload, f"{own:,.0f}", *(f"{found.parts[part]:,.0f}" for part in PARTS),
                            f"**{found.total:,.0f}**", f"{one:.2f}", f"{many:.2f}"]))
    return lines


def by_room(counts):
    """The lines of the second: weft's own share."""
    lines = _head(ROOMS)
    for workload, found in counts.items():
        lines.append(_line([workload, *(f"{found.parts[f'weft/{room}']:,.0f}" for room in ROOMS)]))
    return lines


def main(_):
    workloads = [workload for workload, (_, in_flight, _) in cost.WORKLOADS.items() if in_flight == 1]
    with stage.Stage("table") as made:
        counter = count.Counter(made)
        counts = {workload: counter.count(workload) for workload in workloads}
        made.end(counter.host)
        host = made.weft(count.NEVER_STALLED)
        calls = {workload: [sum(count.syscalls(made, host, workload, connections).values())
                            for connections in (1, cost.CONNECTIONS)] for workload in workloads}
    print("\n".join([*by_part(counts, calls), "", *by_room(counts)]))
    return 0
