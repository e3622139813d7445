"""./run bench: measures weft's release build, prints one table, and keeps it in build/bench (arguments.py has what may
be asked for).

A section is a module beside this file with NAME and run(stage, quick), which returns Rows (stage.py). The exit code is
1 where a section could not be measured; a bar that is missed says so in the table, since that may be the machine's
doing.
"""
import datetime
import importlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
import traceback

import stage
from arguments import SECTIONS, parse

COMMANDS = {"guard": "guard", "syscalls": "count", "table": "table"}
_WORDS = {True: "ok", False: "MISSED", None: ""}


def machine():
    """Where and of what the figures are."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    git = subprocess.run(["git", "-C", stage.ROOT, "describe", "--always", "--dirty", "--abbrev=12"], check=False,
                         capture_output=True, text=True)
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "revision": git.stdout.strip() or "unknown", "cpu": cpu[1] if cpu else platform.machine(),
            "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release(), "load": os.getloadavg()[0]}


def table(about, rows):
    """The rows as Markdown."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), "",
             "| section | what | value | bar | |", "|---|---|---|---|---|"]
    lines += [f"| {row.section} | {row.what} | {row.value} | {row.bar} | {_WORDS[row.ok]} |" for row in rows]
    return "\n".join(lines) + "\n"


def keep(name, about, rows, quick):
    """After each section: what was measured stays, whatever becomes of the next."""
    stage.WORK.mkdir(parents=True, exist_ok=True)
    (stage.WORK / f"{name}.md").write_text(table(about, rows), encoding="utf-8")
    kept = {**about, "quick": quick, "rows": [row._asdict() for row in rows]}
    (stage.WORK / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def run_section(name, quick, made):
    """The section's rows; where it fails, one that says how, and False."""
    begin = time.monotonic()
    print(f"==> {name}", flush=True)
    try:
        try:
            rows = importlib.import_module(name).run(made, quick)
        finally:
            made.clear()
        print(f"==> {name}: {time.monotonic() - begin:.0f} s", flush=True)
        return rows, True
    except Exception as error:  # pylint: disable=broad-exception-caught
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0]
        return [stage.Row(name, "could not be measured", said, "", False)], False


def run_sections(names, quick):
    """Yields what run_section() says of each. One stage does for all when that is to be quick."""
    if quick:
        with stage.Stage("quick") as made:
            for name in names:
                yield run_section(name, quick, made)
        return
    for name in names:
        with stage.Stage(name) as made:
            yield run_section(name, quick, made)


def main(arguments):
    options, rows, is_whole = parse(arguments), [], True
    if options.command in COMMANDS:
        return importlib.import_module(COMMANDS[options.command]).main(options)
    about = machine()
    name = "table" if options.only == SECTIONS else "-".join(options.only)
    for found, is_done in run_sections(options.only, options.quick):
        rows += found
        is_whole = is_whole and is_done
        keep(name, about, rows, options.quick)
    print(table(about, rows))
    print(f"kept in {stage.WORK}/{name}.md and {name}.json")
    return 0 if is_whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
