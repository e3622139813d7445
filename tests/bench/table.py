"""./run bench table: the tables of README.md, for all workloads: instructions by part and room, and system calls."""
import cost
import count
import stage
import workloads

PARTS = ["llhttp", "libpq", "libc", "malloc", "plugin"]
ROOMS = ["base", "loop", "observe", "task", "net", "http", "pg", "upstream", "plugin", "server"]
_SAME, _SAME_SHARE = 0.1, 0.005   # what is no change: of a count of calls, and of instructions
_TOLD, _TOLD_CALLS = 0.01, 0.2    # of a request's instructions, and calls: from what change on a workload has a row


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def _head(columns):
    return [_line(["", *columns]), "|---|" + "---:|" * len(columns)]


def parts_of(found):
    """A Count by the columns of the tables: weft's rooms in one, and PARTS."""
    own = sum(found.parts[f"weft/{room}"] for room in ROOMS)
    return {"weft": own, **{part: found.parts[part] for part in PARTS}}


def by_part(counts, calls):
    """The lines of the first table. `calls`: for each workload system calls on one connection and on many."""
    lines = _head(["weft", *PARTS, "**instructions**", "calls, 1", f"calls, {cost.CONNECTIONS}"])
    for workload, found in counts.items():
        one, many = calls[workload]
        lines.append(_line([workload, *(f"{cost:,.0f}" for cost in parts_of(found).values()),
                            f"**{found.total:,.0f}**", f"{one:.2f}", f"{many:.2f}"]))
    return lines


def _change(before, now, form):
    """Both, or what they have in common."""
    if abs(now - before) <= max(_SAME, _SAME_SHARE * before):
        return format(now, form)
    return f"{before:{form}} → {now:{form}}"


def is_told(before, now):
    """Has a change done something to a workload? malloc's calls count, and not what they took; calls on many
    connections come as requests happen to meet."""
    least = _TOLD * before["total"]
    return (abs(now["total"] - before["total"]) > least or abs(now["calls"][0] - before["calls"][0]) > _TOLD_CALLS or
            any(abs(now["parts"][part] - before["parts"][part]) > least for part in now["parts"] if part != "malloc"))


def of_change(change, before, now):
    """A row for each workload to which a change does something; `before` and `now`: {workload: {"total": ..., "parts":
    ..., "calls": ...}}, the parts as parts_of() has them, and system calls on one connection and on many."""
    lines = [_line(["change", "", "weft", *PARTS, "**instructions**", "calls, 1", f"calls, {cost.CONNECTIONS}"]),
             "|---|---|" + "---:|" * (len(PARTS) + 4)]
    for workload, found in now.items():
        if workload not in before or not is_told(before[workload], found):
            continue
        old, new = before[workload]["parts"], found["parts"]
        cells = [_change(old[part], new[part], ",.0f") for part in ("weft", *PARTS)]
        whole = _change(sum(old.values()), sum(new.values()), ",.0f")
        cells += [f"**{whole}**", *(_change(*pair, ".2f") for pair in zip(before[workload]["calls"], found["calls"]))]
        lines.append(_line([change, workload, *cells]))
        change = ""
    return lines if not change else [*lines, _line([change, "none", *[""] * (len(PARTS) + 4)])]


def by_room(counts):
    """The lines of the second: weft's own share."""
    lines = _head(ROOMS)
    for workload, found in counts.items():
        lines.append(_line([workload, *(f"{found.parts[f'weft/{room}']:,.0f}" for room in ROOMS)]))
    return lines


def take_calls(made, names, connections=(1, cost.CONNECTIONS)):
    """System calls a request on one connection and on many, by workload."""
    found = {}
    for changes, group in workloads.by_host(names):
        host = made.weft(count.with_changes(changes))
        for name in group:
            found[name] = [sum(count.syscalls(made, host, name, number).values()) for number in connections]
        made.end(host)
    return {name: found[name] for name in names}


def main(_):
    with stage.Stage("table") as made:
        counts, calls = count.count_all(made, workloads.COUNTED), take_calls(made, workloads.COUNTED)
    print("\n".join([*by_part(counts, calls), "", *by_room(counts)]))
    return 0
