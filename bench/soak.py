# SPDX-License-Identifier: Apache-2.0
"""Whether a run can be left alone: a live one, under a load that it never rests from, holds what it held before.

    python bench/soak.py [SECONDS]

For SECONDS (1,800 if not given) `tracer run` follows containers that come and go at twelve a second, two processes
that throw a byte to and fro as fast as they can, and files that are renamed under it: what names containers, and
results that somebody collects. Files are closed every few seconds, and the oldest go. What it holds is looked at each
second; what is not flat after eleven minutes, when the first dead containers are forgotten (or, in less than fifteen,
after the first third), is named, and so is each record, row, event and container that is missing. At the end SIGTERM
must end it well, with nothing left. Exits with 1 if anything is wrong.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import polars as pl
from _common import need_root, prefer, print_machine
from _containers import cgroup_tree
from _flatness import Course, course
from _renames import Renames
from _soaked import bpf_programs, children_of, programs_of, sample

from tracer.store.manifest import Manifest, read_manifest

SECONDS = 1800.0
LIVING = 12
LIFE_SECONDS = 1.0
ROTATE_SECONDS = 3
KEEP_BYTES = 1 << 20
# By then as many of the dead are forgotten as come: the inventory keeps them for ten minutes.
STEADY_AFTER_SECONDS = 660.0
LEAST_STEADY_SECONDS = 240.0
# What may be gained in an hour.
STEADY_BOUNDS = {
    "resident memory, MB": 10.0,
    "file descriptors": 2.0,
    "threads": 1.0,
    "inotify watches": 1.0,
    "journal files": 1.0,
    "journals, MB": 0.5,
    "known cgroups": 200.0,
}
# What may be gained with each new container before: half a minute is enough to see what is lost with each of them.
BOUNDS_BY_CONTAINER = {
    "resident memory, MB": 0.25,
    "file descriptors": 0.25,
    "threads": 0.05,
    "inotify watches": 0.05,
    "journal files": 0.05,
    "journals, MB": 0.001,
    # None of the dead is forgotten yet.
    "known cgroups": float("inf"),
}

_RESULTS = "results, bytes"
# Programs go some time after the last who holds them.
_GONE_SECONDS = 10
_HERE = Path(__file__).resolve().parent


@contextmanager
def load(*arguments: str | Path, out: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the benches beside the tracer, which yields to all others; ended afterwards."""
    process = subprocess.Popen(
        ["nice", "-n", "10", sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(_HERE.parent)},
        stdout=out,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Soak:
    """One run: what it held at which second, and how it ended."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.root = root
        self.output = directory / "results"
        self.state = directory / "state"
        self.collected = directory / "collected"
        self.seconds: list[float] = []
        self.held: defaultdict[str, list[float]] = defaultdict(list)
        self.made: list[str] = []
        self.renames = 0
        self.said = ""
        self.code = 0
        self.left: list[str] = []

    def run(self, seconds: float) -> None:
        """Traces and looks."""
        for path in (self.state, self.collected):
            path.mkdir()
        where = ["--output", self.output, "--containerd-state", self.state]
        options = [*where, "--rotate", f"{ROTATE_SECONDS}s", "--keep", f"{KEEP_BYTES >> 20}MiB", "--processes", "5s"]
        tracer = subprocess.Popen(
            [sys.executable, "-m", "tracer.cli.main", "run", *options],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        # What else the machine does must not keep it from its rings: that loses records, and counts them.
        prefer(tracer.pid)
        try:
            self._soak(tracer, seconds)
        finally:
            if tracer.poll() is None:
                tracer.kill()
                tracer.wait()

    def _soak(self, tracer: "subprocess.Popen[str]", seconds: float) -> None:
        assert tracer.stderr is not None
        while "tracing" not in self.said:
            line = tracer.stderr.readline()
            assert line, self.said
            self.said += line
        programs = programs_of(tracer.pid)
        assert programs
        renames = Renames(self.state, self.output, self.collected)
        made = self.state.with_name("made")
        with ExitStack() as stack:
            out = stack.enter_context(made.open("w"))
            containers = stack.enter_context(
                load(_HERE / "_churn.py", self.root, self.state, str(LIVING), str(LIFE_SECONDS), out=out)
            )
            # To the end: more throws than there is time for.
            last_cpu = max(os.sched_getaffinity(0))
            ping_pong = stack.enter_context(load(_HERE / "_ping_pong.py", str(last_cpu), str(10**12), out=out))
            stack.callback(os.killpg, ping_pong.pid, signal.SIGKILL)
            renames.start()
            stack.callback(renames.finish)
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < seconds:
                assert tracer.poll() is None, "the tracer ended"
                assert containers.poll() is None, "no containers come any more"
                self.seconds.append(now)
                for name, value in sample(tracer.pid, self.output).items():
                    self.held[name].append(value)
                time.sleep(1)
            children = children_of(tracer.pid)
            self.made = made.read_text().split()
            # While the load goes on.
            tracer.terminate()
            _out, rest = tracer.communicate(timeout=120)
            self.said += rest
            self.code = tracer.returncode
            until = time.monotonic() + _GONE_SECONDS
            while programs & set(bpf_programs()) and time.monotonic() < until:
                time.sleep(0.1)
            self.left += [f"BPF program {id_}" for id_ in programs & set(bpf_programs())]
            self.left += [f"process {pid}" for pid in children if Path(f"/proc/{pid}").exists()]
        renames.collect()
        self.renames = renames.count
        self.left += [
            str(path.relative_to(self.output))
            for path in self.output.rglob("*")
            if path.is_file() and path.suffix != ".parquet" and path.name != "session.json"
        ]

    def manifest(self) -> Manifest:
        """The run's."""
        (path,) = self.output.glob("runs/*/session.json")
        return read_manifest(path)

    def table(self, name: str) -> pl.DataFrame:
        """All rows of a table that was collected."""
        return pl.read_parquet(self.collected / name / "*.parquet")


def is_long(seconds: float) -> bool:
    """Whether it is steady for long enough to say what an hour adds."""
    return seconds >= STEADY_AFTER_SECONDS + LEAST_STEADY_SECONDS


def courses(soak: Soak, seconds: float) -> dict[str, Course]:
    """By name of what was held."""
    steady = STEADY_AFTER_SECONDS if is_long(seconds) else seconds / 3
    first = next(index for index, second in enumerate(soak.seconds) if second >= steady)
    found = {
        name: course(soak.seconds[first:], values[first:], period_seconds=ROTATE_SECONDS)
        for name, values in soak.held.items()
    }
    health = soak.table("health").sort("time")
    time_s = (health["time"] - health["time"][0]).dt.total_nanoseconds() / 1e9
    is_steady = (time_s >= steady) & (time_s < seconds)
    known = health["known_cgroups"].filter(is_steady).to_list()
    found["known cgroups"] = course(time_s.filter(is_steady).to_list(), known, period_seconds=ROTATE_SECONDS)
    return found


def what_rises(soak: Soak, seconds: float) -> list[str]:
    """Prints the table; names what is not flat."""
    found, made = courses(soak, seconds), len(soak.made)
    bounds = (
        STEADY_BOUNDS
        if is_long(seconds)
        else {n: one * made / seconds * 3600 for n, one in BOUNDS_BY_CONTAINER.items()}
    )
    rising = []
    print(f"{'':22}{'first third':>12}{'last third':>12}{'slope an hour':>16}{'+-':>10}{'at most':>10}")
    for name, bound in bounds.items():
        one = found[name]
        verdict = "RISES" if one.rises(bound) else "flat"
        rising += [name] * one.rises(bound)
        print(
            f"{name:22}{one.first:12,.2f}{one.last:12,.2f}{one.slope:16,.2f}{one.uncertainty:10,.2f}{bound:10,.1f}"
            f"  {verdict}"
        )
    if not is_long(seconds):
        print("bounds are by new container: in less than 15 minutes nothing that depends on the dead is steady")
    wrong = [f"{name} rises" for name in rising]
    # Files that come and go while they are listed are both in a sum, or neither.
    results = statistics.median(soak.held[_RESULTS])
    print(f"results mostly took {results / 1e6:.2f} MB, of {KEEP_BYTES / 1e6:.2f} MB that they may")
    if results > KEEP_BYTES:
        wrong.append("results take more than they may")
    return wrong


def what_is_missing(soak: Soak) -> list[str]:
    """Prints what was counted; names each loss."""
    totals = soak.manifest().totals
    health, lifecycle = soak.table("health"), soak.table("lifecycle")
    of_run = lifecycle.filter(pl.col("cgroup_path").str.starts_with(f"/{soak.root.name}/"))
    told = {event: set(of_run.filter(event=event)["container_id"]) for event in ("created", "named", "removed")}
    # The last ones are there yet, or have no names yet.
    due = {"created": soak.made, "named": soak.made[:-LIVING], "removed": soak.made[: -2 * LIVING]}
    print(
        f"{totals.records:,} records, {health['context_switches'].sum():,} context switches, "
        f"{len(soak.made):,} containers, {soak.renames:,} renames, {sum(totals.files.values()):,} files, of which "
        f"{totals.files_removed:,} made room"
    )
    print(f"rows: {', '.join(f'{rows:,} of {name}' for name, rows in sorted(totals.rows.items()))}")
    lost = {
        "records lost": totals.records_lost,
        "records not assembled": totals.records_unassembled,
        "rows lost": totals.rows_lost,
        "events of cgroups lost": int(health["cgroup_events_lost"].sum()),
        "throttlings lost": int(health["throttlings_lost"].sum()),
        "programs that were not run": totals.recursion_misses,
        "rows of health collected too few": totals.rows["health"] - health.height,
        "rows of lifecycle collected too few": totals.rows["lifecycle"] - lifecycle.height,
        **{f"containers not told to be {event}": len(set(due[event]) - told[event]) for event in due},
    }
    print(", ".join(f"{count:,} {name}" for name, count in lost.items()))
    return [f"{count:,} {name}" for name, count in lost.items() if count]


def main() -> None:
    need_root()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    # So that nothing is left then, too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    print_machine()
    with tempfile.TemporaryDirectory() as directory, cgroup_tree() as root:
        soak = Soak(Path(directory), root)
        soak.run(seconds)
        print(soak.said.strip())
        wrong = what_rises(soak, seconds) + what_is_missing(soak)
    wrong += [f"{what} is left" for what in soak.left]
    if soak.code:
        wrong.append(f"exit code {soak.code}")
    print("; ".join(wrong) if wrong else "flat, none lost, nothing left")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
