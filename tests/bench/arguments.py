"""./run bench: what a request costs, and how far it goes (tests/bench/README.md).

    ./run bench                    all sections: many minutes
    ./run bench --quick            all sections in a minute; short windows, rough figures
    ./run bench --only cost        some sections, separated by commas
    ./run bench guard [...]        instructions of a request against the stored ones (guard --help)
    ./run bench syscalls [W3 ...]  system calls of a request, on one connection and on 64
    ./run bench table              both for all workloads: the tables of README.md

Run by itself, this says whether arguments make sense and does nothing else: before minutes are spent on a build.
"""
import argparse
import sys

from workloads import COUNTED

SECTIONS = ["guard", "cost", "scale", "overload", "faults"]
GUARD = """./run bench guard: instructions of a request against the stored ones (guard.json); 5 % more is a failure.

    ./run bench guard                       those of W1, W1log, W3, W7, W8 and W9; exit code 1 where one has become
                                            dearer, or makes a system call or an allocation more
    ./run bench guard --strict              the same, with another compiler or library, too
    ./run bench guard --store [CHANGE]      those of all workloads are the stored ones from now on; before and after are
                                            printed as rows of README.md
    ./run bench guard --split W3 [W6 ...]   where the instructions of any workload are: by part and function

Only the worker counts, PostgreSQL and upstream are real. An allocation counts for 100 instructions, whatever it took.
The figures hold for one compiler, libc and libpq: with others they are judged with --strict only.
"""


def _make_parser():
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__.rsplit("\n\n", 1)[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", metavar="SECTION,...", type=_sections, default=SECTIONS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    guard = commands.add_parser("guard", description=GUARD, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = guard.add_mutually_exclusive_group()
    ways.add_argument("--strict", action="store_true")
    ways.add_argument("--store", nargs="?", const="this change", metavar="CHANGE")
    ways.add_argument("--split", nargs="+", metavar="WORKLOAD", type=_workload, default=[])
    syscalls = commands.add_parser("syscalls")
    syscalls.add_argument("workloads", nargs="*", metavar="WORKLOAD", type=_workload)
    commands.add_parser("table")
    return parser


def _sections(text):
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {unknown[0]}; there are: {', '.join(SECTIONS)}")
    return names


def _workload(name):
    if name not in COUNTED:
        raise argparse.ArgumentTypeError(f"no workload {name}; there are: {', '.join(COUNTED)}")
    return name


def parse(arguments):
    """What they ask for; ends with 2 where they make no sense. `command` is None for a run of sections."""
    parser = _make_parser()
    options = parser.parse_args(arguments)
    if options.command and (options.quick or options.only != SECTIONS):
        parser.error(f"--quick and --only are for sections, not for {options.command}")
    return options


if __name__ == "__main__":
    parse(sys.argv[1:])
