# SPDX-License-Identifier: Apache-2.0
"""What tests on the live kernel share: cgroups with work in them, and the tracer as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.store.manifest import Manifest, read_manifest

SPIN = "while :; do :; done"
TRACER = ("-m", "tracer.cli.main")


def stolen_ns() -> int:
    """Time of the node's CPUs that the hypervisor took, in steps of 10 ms (proc_stat(5))."""
    return int(Path("/proc/stat").read_text().split()[8]) * 10_000_000


def cpu_time_ns(cgroup: Path) -> int:
    """CPU time of a cgroup's life as the kernel accounts it."""
    stat = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
    return int(stat["usage_usec"]) * 1000


class Cgroup:
    """A cgroup of the test's own; below `own_cgroup`."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True)
        self.path = path
        self.id = path.stat().st_ino
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Runs a shell script in the cgroup, from its first instruction on."""
        # What a task ran since it was last looked at goes, for the kernel and the tracer alike, to the cgroup in which
        # it is then: one that has just slept brings nothing along.
        enter = f'sleep 0.01; echo $$ > "{self.path / "cgroup.procs"}"'
        process = subprocess.Popen(["/bin/sh", "-c", f"{enter} && {script}"], start_new_session=True)
        self._processes.append(process)
        return process

    def cpu_time_ns(self) -> int:
        """CPU time of the cgroup's life as the kernel accounts it."""
        return cpu_time_ns(self.path)

    def stop(self) -> None:
        """Ends what was started here, and its children."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, 9)
            process.wait()
        self._processes.clear()


class Result(NamedTuple):
    """What a finished run left behind."""

    output: Path
    manifest: Manifest
    said: str

    def table(self, name: str) -> pl.DataFrame:
        """All rows of a table."""
        return pl.read_parquet(self.output / name / "**/*.parquet", hive_partitioning=False)


class Tracer:
    """`tracer run` as a process; `program` is what Python runs in place of the command."""

    def __init__(self, output: Path, *options: str, program: Sequence[str] = TRACER) -> None:
        self.output = output
        self.process = subprocess.Popen(
            [sys.executable, *program, "run", "--output", str(output), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def wait_until_tracing(self) -> None:
        """Returns once the tracer says that it traces."""
        assert self.process.stderr is not None
        while "tracing" not in self.said:
            line = self.process.stderr.readline()
            assert line, f"the tracer ended: {self.said}"
            self.said += line

    def end(self) -> int:
        """Waits for the end; returns the exit code."""
        _out, errors = self.process.communicate(timeout=600)
        self.said += errors
        return self.process.returncode

    def result(self) -> Result:
        """Waits for a good end; what the run left."""
        code = self.end()
        assert code == 0, self.said
        (manifest,) = self.output.glob("runs/*/session.json")
        return Result(self.output, read_manifest(manifest), self.said)


def agrees_with_cpu_stat(measured_ns: int, cgroup: Cgroup, stolen: int) -> bool:
    """To 1 %, and to the time stolen: the kernel takes it off a task's time, in the tables it is the task's."""
    truth_ns = cgroup.cpu_time_ns()
    return -0.01 * truth_ns <= measured_ns - truth_ns <= 0.01 * truth_ns + stolen


def holds_none_twice(windows: pl.DataFrame) -> bool:
    """Whether each row is there once, of those that ran.

    Others can be alike: of two tasks that each waited through all of a window, and were told of one after the other.
    """
    return bool(windows.filter(pl.col("cpu_time_ns") > 0).is_unique().all())
