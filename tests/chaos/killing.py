# SPDX-License-Identifier: Apache-2.0
"""Tracers that are killed, one after the other and beside each other, and what must be there of each afterwards."""

import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from live_node import TRACER, Cgroup, holds_none_twice
from starvation import Starvation

from tracer.errors import UsageError
from tracer.store.manifest import Manifest, read_manifest
from tracer.store.schemas import TABLES

_MS = 1_000_000
_SECOND = 1_000 * _MS
# What a run does to its files: journals, closed files, manifests.
_FAULT_POINTS = {"pwrite64": 9, "fsync": 9, "fdatasync": 6, "linkat": 6, "renameat": 2, "unlinkat": 6, "mkdirat": 4}
_LONGEST_LIFE_SECONDS = 4.0
_LONGEST_WAIT_SECONDS = 120

BUSY = (
    f"exec {sys.executable} -c 'import time\n"
    "while True:\n"
    "    end = time.monotonic() + 0.02\n"
    "    while time.monotonic() < end: pass\n"
    "    time.sleep(0.02)'"
)
"""A shell's words for half a CPU's work."""

_READINGS = """
import sys, time
sys.path.insert(0, sys.argv[3])
from live_node import cpu_time_ns, stolen_ns
from pathlib import Path
cgroup = Path(sys.argv[1])
with open(sys.argv[2], "w", 1) as log:
    while True:
        before = time.monotonic_ns()
        used = cpu_time_ns(cgroup)
        after = time.monotonic_ns()
        log.write(f"{before} {after} {used} {stolen_ns()}\\n")
        time.sleep(0.005)
"""


def _who_writes(pid: int) -> int:
    """The process's thread that has written most, but for its first (proc_pid_io(5))."""
    written = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        if path.name != str(pid):
            fields = dict(line.split(": ") for line in (path / "io").read_text().splitlines())
            written[int(path.name)] = int(fields["wchar"])
    return max(written, key=lambda thread: written[thread])


class Account:
    """A cgroup's CPU time as the kernel has it, read some hundred times a second by a process of its own."""

    def __init__(self, cgroup: Cgroup, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-c", _READINGS, str(cgroup.path), str(log), str(Path(__file__).parents[1])]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # Python takes its time: what runs before the first reading could not be told.
        while not (log.exists() and "\n" in log.read_text()):
            assert self._process.poll() is None
            time.sleep(0.01)

    def end(self) -> None:
        """No further readings."""
        self._process.kill()
        self._process.wait()

    def between(self, begin_ns: int, end_ns: int) -> tuple[float, float, float]:
        """The least and the most CPU time that can have been used, and what was stolen meanwhile, all in ns."""
        # The last line may be half there.
        lines = self._log.read_text().splitlines()[:-1]
        before, after, used, stolen = np.array([line.split() for line in lines], np.int64).T
        last = [int(np.searchsorted(after, at, "right")) - 1 for at in (begin_ns, end_ns)]
        next_ = [int(np.searchsorted(before, at)) for at in (begin_ns, end_ns)]
        least, most = used[last[1]] - used[next_[0]], used[next_[1]] - used[last[0]]
        return float(least), float(most), float(stolen[next_[1]] - stolen[last[0]])


class Kill(NamedTuple):
    """How a tracer ended and what was found of it. Times in ns; `error` is that of its CPU time against the account.

    `missing_ns` has no rows any more; for `starved_ns` of that its threads waited for a CPU, all together.
    """

    how: str
    lived_ns: int
    missing_ns: int
    starved_ns: int
    compared_ns: int
    error: float
    recoveries_killed: int


class Slot(threading.Thread):
    """Kills one tracer after the other, all with one identifier, and looks at what is there of each."""

    def __init__(self, name: str, output: Path, account: Account, cgroup: Cgroup, kills: int) -> None:
        super().__init__()
        self._name = name
        self._output = output
        self._account = account
        self._cgroup = cgroup
        self._random = random.Random(name)
        self._wanted = kills
        self._seen: set[Path] = set()
        self.kills: list[Kill] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while len(self.kills) < self._wanted:
                self._kill_one()
        except BaseException as error:
            traceback.print_exc()
            self.failure = error

    def _kill_one(self) -> None:
        how = self._random.choice(["at random", "at random", "in the start", *_FAULT_POINTS])
        options = ["--rotate", "1s"] if how in _FAULT_POINTS or self._random.random() < 0.5 else []
        if how == "fdatasync" or self._random.random() < 0.3:
            options.append("--sync")
        command = [sys.executable, *TRACER, "run", "--output", str(self._output), "--identifier", self._name, *options]
        began_ns = time.monotonic_ns()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
        starvation = Starvation(process.pid)
        try:
            tracing_ns = self._live(process, how)
        finally:
            process.kill()
            process.wait()
            killed_ns = time.monotonic_ns()
            assert process.stderr is not None
            process.stderr.close()
        assert process.returncode == -signal.SIGKILL
        killed = self._recover()
        path = self._own_manifest()
        lived_ns = killed_ns - (tracing_ns or began_ns)
        if path is None:
            assert tracing_ns is None, "a run that traced has no manifest"
            self._add(Kill(how, lived_ns, 0, 0, 0, 0.0, killed))
            return
        missing_ns, compared_ns, error = self._check(how, read_manifest(path), tracing_ns, killed_ns)
        starved_ns = starvation.between(killed_ns - missing_ns, killed_ns)
        self._add(Kill(how, lived_ns, missing_ns, starved_ns, compared_ns, error, killed))

    def _add(self, kill: Kill) -> None:
        print(kill, flush=True)
        self.kills.append(kill)

    def _live(self, process: "subprocess.Popen[str]", how: str) -> int | None:
        """Until it is to be killed, or has been; when it began to trace."""
        assert process.stderr is not None
        if how == "in the start":
            time.sleep(self._random.uniform(0, 4))
            return None
        said = ""
        while "tracing" not in said:
            line = process.stderr.readline()
            assert line, f"the tracer ended: {said}"
            said += line
        tracing_ns = time.monotonic_ns()
        time.sleep(self._random.uniform(0.7 if how in _FAULT_POINTS else 0, _LONGEST_LIFE_SECONDS))
        if how in _FAULT_POINTS:
            number = self._random.randint(1, _FAULT_POINTS[how])
            inject = ("-e", f"trace={how}", "-e", f"inject={how}:signal=KILL:when={number}")
            # Only that thread is stopped at its system calls. strace ends with it.
            strace = ["strace", "-qq", "-o", "/dev/null", *inject, "-p", str(_who_writes(process.pid))]
            subprocess.run(strace, stderr=subprocess.DEVNULL, timeout=_LONGEST_WAIT_SECONDS)
            assert process.wait(_LONGEST_WAIT_SECONDS) == -signal.SIGKILL
        return tracing_ns

    def _recover(self) -> int:
        """With commands of which some are killed; how many were."""
        killed = 0
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        while time.monotonic() < deadline:
            command = [sys.executable, *TRACER, "recover", str(self._output)]
            kill = killed < 2 and self._random.random() < 0.3
            if kill:
                call = self._random.choice(["fsync", "linkat", "renameat", "unlinkat", "mkdirat"])
                number = self._random.randint(1, 8)
                inject = f"inject={call}:signal=KILL:when={number}"
                command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, *command]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST_WAIT_SECONDS)
            if done.returncode == -signal.SIGKILL and kill:
                killed += 1
                continue
            assert done.returncode == 0, done.stderr
            assert "cannot be recovered" not in done.stdout, done.stdout
            path = self._own_manifest(look=True)
            if path is None or (read_manifest(path).status != "running" and not (path.parent / "journal").exists()):
                return killed
            # Somebody else is at it, or was killed at it.
            time.sleep(0.1)
        raise AssertionError("a killed run is not recovered")

    def _own_manifest(self, *, look: bool = False) -> Path | None:
        """That of the tracer that was killed last; None if it came to none."""
        for path in self._output.glob("runs/*/session.json"):
            if path in self._seen:
                continue
            try:
                identifier = read_manifest(path).host.identifier
            except UsageError:
                raise AssertionError(f"{path} cannot be read") from None
            if identifier != self._name:
                self._seen.add(path)
            else:
                if not look:
                    self._seen.add(path)
                return path
        return None

    def _check(self, how: str, manifest: Manifest, tracing_ns: int | None, killed_ns: int) -> tuple[int, int, float]:
        """What is missing in ns, how long an interval was compared, and the relative error in it."""
        assert manifest.status == "crashed"
        paths = sorted(self._output.glob(f"*/dt=*/identifier={self._name}/*-{manifest.run_id.hex[:8]}-*.parquet"))
        rows = Counter[str]()
        for path in paths:
            rows[path.parts[-4]] += pq.ParquetFile(path).read().num_rows
        assert manifest.totals.rows == dict(rows)
        assert all(0 <= count <= rows[table] for table, count in manifest.recovered.items())
        assert set(rows) <= set(TABLES)
        assert not list((self._output / "runs" / str(manifest.run_id)).glob("journal/*"))
        of_windows = [path for path in paths if path.parts[-4] == "windows"]
        if not of_windows:
            return (0 if tracing_ns is None else killed_ns - tracing_ns), 0, 0.0
        windows = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in of_windows])
        assert holds_none_twice(windows), "rows are there twice"
        end_ns = int((windows["window_tick"] + windows["ticks"]).max()) * manifest.tick_ns
        # The first window that is whole is one that began after the first tick.
        first_tick = int(windows["window_tick"].min()) + manifest.window_ticks
        of_cgroup = windows.filter((pl.col("cgroup_id") == self._cgroup.id) & (pl.col("window_tick") >= first_tick))
        compared_ns = end_ns - first_tick * manifest.tick_ns
        if compared_ns <= 0:
            return killed_ns - end_ns, 0, 0.0
        least_ns, most_ns, stolen_ns = self._account.between(first_tick * manifest.tick_ns, end_ns)
        stolen = of_cgroup["stolen_time_ns"]
        measured_ns = of_cgroup["cpu_time_ns"].sum() - stolen.sum()
        if not stolen.null_count():
            stolen_ns = 0
        # The kernel accounts a task that goes on running at each of its own ticks, up to 10 ms late.
        margin_ns = 0.01 * most_ns + 12 * _MS
        told = f"{how}: {measured_ns} of {least_ns} to {most_ns} in {compared_ns}, stolen {stolen_ns}"
        assert least_ns - margin_ns <= measured_ns <= most_ns + margin_ns + stolen_ns, told
        truth_ns = (least_ns + most_ns) / 2
        return killed_ns - end_ns, compared_ns, (measured_ns - truth_ns) / max(truth_ns, 1)
