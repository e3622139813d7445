"""./run bench guard, and the section of the table: instructions of a request against the stored ones; arguments.py has
what may be asked for, and what the figures are."""
import ctypes
import json
import os
import pathlib
import platform
import re
import subprocess

import count
import stage
import table
import workloads

NAME = "guard"
WORKLOADS = ["W1", "W1log", "W3", "W7", "W8", "W9"]   # that are judged; workloads.COUNTED are stored
QUICK = ["W1", "W3", "W7"]                            # of these, with --quick
SHARE = 0.05            # of the stored instructions that they may grow
MORE = 0.3              # system calls on one connection, allocations: one for each request is less than SHARE
STORED = stage.HERE / "guard.json"
_NAMED = 8              # functions that a failure names
_KEPT = 20              # instructions a request from which on a function is stored


def compiler(build=stage.place.BUILD):
    """What the build was compiled with: the compiler's own words, the build's type and the machine."""
    cache = pathlib.Path(build, "CMakeCache.txt").read_text(encoding="utf-8")
    path = re.search(r"^CMAKE_C_COMPILER:\w+=(.*)$", cache, re.MULTILINE)[1]
    kind = re.search(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", cache, re.MULTILINE)[1]
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    named = re.sub(r"^\S*(cc|gcc-\d+) ", "gcc ", said.splitlines()[0])
    return f"{named}, {kind}, {platform.machine()}"


def made_of(build=stage.place.BUILD):
    """What figures of a build hold for: what it was compiled with, and whose instructions they are beside its own."""
    linked = subprocess.run(["ldd", pathlib.Path(build, "weft")], capture_output=True, text=True, check=True).stdout
    libpq = ctypes.CDLL(re.search(r"libpq\.so\S* => (\S+)", linked)[1]).PQlibVersion()
    return {"compiler": compiler(build), "libc": os.confstr("CS_GNU_LIBC_VERSION") or "another than glibc",
            "libpq": f"libpq {libpq // 10000}.{libpq % 10000}"}


def to_json(counts, calls, made):
    """What is stored of a run; `calls`: as table.take_calls() has them. Functions are for what a failure says."""
    kept = {}
    for workload, found in counts.items():
        parts = {part: round(cost) for part, cost in table.parts_of(found).items()}
        kept[workload] = {"total": round(found.even), "parts": parts, "allocations": round(found.allocations, 2),
                          "calls": [round(number, 2) for number in calls[workload]]}
        if workload in WORKLOADS:
            functions = {f"{part} {name}": round(cost) for (part, name), cost in found.functions.items()
                         if cost >= _KEPT}
            kept[workload]["functions"] = dict(sorted(functions.items()))
    return {"made of": made, "workloads": kept}


def grown(stored, found):
    """The functions that have more instructions than stored, the most first: (name, stored, found)."""
    changes = []
    for (part, name), now in found.functions.items():
        before = stored["functions"].get(f"{part} {name}", 0)
        if now - before >= _KEPT:
            changes.append((f"{part} {name}", before, round(now)))
    return sorted(changes, key=lambda change: change[1] - change[2])[:_NAMED]


def figures(found, calls):
    """What is judged of a workload: of its Count, and its system calls on one connection."""
    return {"instructions": found.even, "system calls": calls, "allocations": found.allocations}


def figures_stored(stored):
    """The same of what is stored of it."""
    return {"instructions": stored["total"], "system calls": stored["calls"][0], "allocations": stored["allocations"]}


def _slack(kind, before):
    """By how much a figure may differ from the stored one."""
    return SHARE * before if kind == "instructions" else MORE


def text_of(now, before=None):
    """Figures, beside those that are stored."""
    texts = []
    for kind, figure in now.items():
        form = ",.0f" if kind == "instructions" else ".2f"
        text = f"{figure:{form}} {kind}"
        if before is not None:
            text += f", {before[kind]:{form}} stored"
        if before is not None and kind == "instructions":
            text += f" ({figure / before[kind] - 1:+.1%})"
        texts.append(text)
    return "; ".join(texts)


def dearer(before, now):
    """The kinds of figures that are more than they may be."""
    return [kind for kind in now if now[kind] > before[kind] + _slack(kind, before[kind])]


def cheaper(before, now):
    """Those that are so much less that a regression has room to hide."""
    return [kind for kind in now if now[kind] < before[kind] - _slack(kind, before[kind])]


def judge(workload, stored, found, calls):
    """Whether a workload is no dearer than it may be, and the lines to print."""
    before, now = figures_stored(stored), figures(found, calls)
    lines, more = [f"{workload}: {text_of(now, before)}"], dearer(before, now)
    if more:
        lines[0] += f": more {' and '.join(more)} than may be"
    if "instructions" in more:
        lines += [f"    {name}: {before:,} -> {now:,}" for name, before, now in grown(stored, found)]
    if "system calls" in more:
        lines.append(f"    which: ./run bench syscalls {workload}")
    return not more, lines


def differences(stored, made):
    """What another compiler, or another library, the stored figures are of: lines, none where they can be compared."""
    kept = stored.get("made of", {})
    return [f"{key}: {now}; the stored figures are of {kept.get(key, 'nobody')}" for key, now in made.items()
            if kept.get(key) != now]


def compare(stored, counts, calls, made, is_strict=False):
    """Whether all is well, and the lines to print; `calls`: on one connection, by workload. Where the figures are of
    something else they say little, and nothing is judged; but to be strict is to do so: what guards must not fall
    silent with the next update of a library."""
    others = differences(stored, made)
    if others and not is_strict:
        lines = [f"{workload}: {text_of(figures(found, calls[workload]))}" for workload, found in counts.items()]
        return True, [*lines, *others, "not compared"]
    kept, is_fine, lines = stored["workloads"], True, []
    for workload, found in counts.items():
        is_held, told = judge(workload, kept[workload], found, calls[workload])
        is_fine, lines = is_fine and is_held, lines + told
    if others and is_fine:
        lines += [*others, "compared all the same (--strict)"]
    elif others:
        lines += [*others, "If that is why: store figures of a tree whose costs are known, the last one that passed,",
                  'built here: ./run bench guard --store "another compiler or library"']
    less = [name for name, found in counts.items() if cheaper(figures_stored(kept[name]), figures(found, calls[name]))]
    if less:
        lines += [f"### CHEAPER than stored: {', '.join(less)}. Until that is stored as much may come back unseen:",
                  '### ./run bench guard --store "what has made it cheaper"']
    return is_fine, lines


def read_stored():
    if not STORED.exists():
        return {"made of": {}, "workloads": {}}
    return json.loads(STORED.read_text(encoding="utf-8"))


def take_calls(made, stored):
    """System calls on one connection by workload; again where they are too many, since a busy machine makes some."""
    calls = {name: one for name, (one,) in table.take_calls(made, WORKLOADS, (1,)).items()}
    many = [name for name in WORKLOADS if name in stored["workloads"] and
            calls[name] > stored["workloads"][name]["calls"][0] + MORE]
    for name, (one,) in table.take_calls(made, many, (1,)).items():
        calls[name] = min(calls[name], one)
    return calls


def store(change, counts, calls):
    """Makes these the stored figures; returns what has changed, as rows of README.md."""
    made = made_of()
    before, now = read_stored(), to_json(counts, calls, made)
    STORED.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    others = differences(before, made)
    if others:
        return ["stored, and not compared with those before", *others]
    return table.of_change(change, before["workloads"], now["workloads"])


def print_split(counts):
    for workload, found in counts.items():
        print(f"{workload}: {found.total:,.0f} instructions a request")
        whole = sum(cost for part, cost in found.parts.items() if part.startswith("weft/"))
        print(f"    {'weft':20} {whole:8,.0f}")
        for part, instructions in found.parts.most_common():
            if instructions >= 1:
                print(f"    {part:20} {instructions:8,.0f}")
        dearest = sorted(found.functions.items(), key=lambda item: -item[1])[:30]
        print("  functions, what is inlined into them counted by its own room:")
        for (part, name), instructions in dearest:
            print(f"    {part + ' ' + name:50} {instructions:8,.0f}")


def run(made, quick):
    """The section of the table."""
    stored = read_stored()
    is_same = not differences(stored, made_of())
    rows = []
    chosen = QUICK if quick else WORKLOADS
    for workload, found in count.count_all(made, chosen, 100 if quick else 300, 1 if quick else 3).items():
        most = stored["workloads"][workload]["total"] * (1 + SHARE) if is_same else 0
        whole = sum(cost for part, cost in found.parts.items() if part.startswith("weft/"))
        value = f"{found.even:,.0f} instructions, {whole:,.0f} of them weft's own"
        rows.append(stage.Row(NAME, f"weft {workload}", value, f"<= {most:,.0f}" if is_same else "",
                              found.even <= most if is_same else None))
    return rows + stage.left_out(NAME, *(f"weft {each}" for each in WORKLOADS if each not in chosen))


def main(options):
    stored, calls = read_stored(), {}
    with stage.Stage(NAME) as made:
        counts = count.count_all(made, options.split or (workloads.COUNTED if options.store else WORKLOADS))
        if options.store:
            calls = table.take_calls(made, workloads.COUNTED)
        elif not options.split:
            calls = take_calls(made, stored)
    if options.split:
        print_split(counts)
        return 0
    if options.store:
        print("\n".join(store(options.store, counts, calls)))
        return 0
    is_fine, lines = compare(stored, counts, calls, made_of(), options.strict)
    print("\n".join(lines))
    return 0 if is_fine else 1

