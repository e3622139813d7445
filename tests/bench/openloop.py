"""The load generator openloop.c, compiled and run."""
import json
import os
import statistics
import subprocess

from stage import HERE, Row


class Loader:
    """Of one stage. What run() returns is a Loaded."""

    def __init__(self, stage):
        self._stage = stage
        self._program = stage.tool("openloop", "-D_GNU_SOURCE", f"-I{HERE.parent}", HERE / "load.c", "-lm")

    def start(self, port, path, seconds, rate=0, connections=64, **more):
        """Starts it: `rate` a second by chance, 0: a closed loop; `more`: warm (seconds), windows, timeout_ms, seed;
        is_first=False: what it may notice late does not matter. Returns once it asks."""
        command = [self._program, "-c", connections, "-d", seconds, "-r", rate, "-w", more.get("warm", 0), "-n",
                   more.get("windows", 1), "-t", more.get("timeout_ms", 5000), "-s", more.get("seed", 1), "-p",
                   f"127.0.0.1:{port}", path]
        # What it notices late would look like the server's doing. A closed loop would leave nothing to others.
        urgent = ["chrt", "-f", "1"] if rate > 0 else ["nice", "-n", "-10"]
        first = urgent if os.geteuid() == 0 and more.get("is_first", True) else []
        # pylint: disable=consider-using-with
        process = subprocess.Popen([*self._stage.pinned(self._stage.load_cpus), *first, *map(str, command)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = process.stderr.readline()
        if said != "begun\n":
            raise RuntimeError(f"{said}{process.communicate()[1]}")
        return process

    def run(self, port, path, seconds, **more):
        return self.end(self.start(port, path, seconds, **more))

    @staticmethod
    def end(process):
        """Waits for one that was started."""
        out, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"openloop: {errors}")
        return Loaded(json.loads(out))


def lag_ms(windows):
    """By how much the generator itself was late, of which the server knows nothing: the median of the windows' p99."""
    return statistics.median(part["lag"]["p99_us"] for part in windows) / 1000


def judge(row, late_ms, late_ms_max):
    """The Row; where the generator was later than that, one that says so and is not judged."""
    if late_ms <= late_ms_max:
        return row
    return Row(row.section, row.what, f"{row.value}; the generator itself was late by {late_ms:.1f} ms",
               f"{row.bar} (not judged)", None)


class Loaded:
    """What it saw: rates a second, times in milliseconds. Of several windows the median, which one hiccup of the
    machine does not move; failures are added up."""

    def __init__(self, told):
        self.total, self.windows, self.warm = told["total"], told["windows"], told.get("warm")
        self.goodput = statistics.median(part["goodput"] for part in self.windows)
        self.offered = self.total["offered"]
        self.lost, self.late = self.total["errors"], self.total["timeouts"]
        self.failed = self.lost + self.late
        self.refused = self.total["503"]["count"]
        self.others = self.total["other"]["count"]
        self.advised = self.total["retry_after"]
        self.late_ms = lag_ms(self.windows)

    def ms(self, quantile="p99", kind="2xx"):
        """The median of the windows that have such answers; 0: none has."""
        times = [part[kind][f"{quantile}_us"] for part in self.windows if part[kind]["count"] > 0]
        return statistics.median(times) / 1000 if times else 0.0

    def in_time(self, late_ms_max):
        """The windows in which the generator was not later than that itself."""
        return [part for part in self.windows if part["lag"]["p99_us"] <= late_ms_max * 1000]


def p99_ms(part):
    """Of what was answered in one window; for ever, where nothing was."""
    return part["2xx"]["p99_us"] / 1000 if part["2xx"]["count"] > 0 else float("inf")
