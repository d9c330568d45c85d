# SPDX-License-Identifier: Apache-2.0
"""Programs that wait for a CPU, and what the kernel and a run of the tracer say of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
from live_node import Cgroup, Result, Tracer

SPIN = "while True: pass"
MEASURED_SECONDS = 6


class Waiters:
    """Programs in a cgroup that do nothing until `go`, and are stopped by `halt`, so that all their waits are over."""

    def __init__(self, cgroup: Cgroup) -> None:
        self.cgroup = cgroup
        self._processes: list[subprocess.Popen[bytes]] = []

    def add(self, program: str, cpu: int | None = None) -> None:
        """A program that stops itself once it is in its place."""
        place = [] if cpu is None else [f"os.sched_setaffinity(0, {{{cpu}}})"]
        code = "\n".join(
            [
                "import os, signal, gc",
                f"open({str(self.cgroup.path / 'cgroup.procs')!r}, 'w').write('0')",
                *place,
                "os.kill(os.getpid(), signal.SIGSTOP)",
                program,
            ]
        )
        process = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=True)
        self._processes.append(process)
        ended = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert ended is not None
        assert ended.si_code == os.CLD_STOPPED

    def go(self) -> None:
        """Lets them run."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGCONT)

    def halt(self) -> None:
        """Stops them, children and all."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGSTOP)
        while any(_state(task) not in "TZX" for task in self.tasks()):
            time.sleep(0.01)

    def tasks(self) -> list[int]:
        """All threads of the cgroup."""
        return [int(line) for line in (self.cgroup.path / "cgroup.threads").read_text().split()]

    def waited_ns(self) -> int:
        """What its threads have waited by the kernel's own sum (Documentation/scheduler/sched-stats.rst)."""
        return sum(int(Path(f"/proc/{task}/schedstat").read_text().split()[1]) for task in self.tasks())

    def end(self) -> None:
        """Ends them all."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


def _state(task: int) -> str:
    try:
        return Path(f"/proc/{task}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def measure(tracer: Tracer, *measured: Waiters) -> tuple[Result, list[int]]:
    """Lets them run under the tracer; what it left, and what the kernel says each of them waited."""
    before = [waiters.waited_ns() for waiters in measured]
    tracer.wait_until_tracing()
    for waiters in measured:
        waiters.go()
    time.sleep(MEASURED_SECONDS)
    for waiters in measured:
        waiters.halt()
    after = [waiters.waited_ns() for waiters in measured]
    # A wait is known when it ends: what the last ones were in may be open for a while.
    time.sleep(0.2)
    tracer.process.send_signal(signal.SIGINT)
    return tracer.result(), [end - begin for begin, end in zip(before, after, strict=True)]


def waits_of(result: Result, waiters: Waiters) -> dict[str, int]:
    """Sums of a cgroup's windows."""
    columns = [name for name in result.table("windows").columns if name.startswith(("wait", "involuntary"))]
    own = result.table("windows").filter(pl.col("cgroup_id") == waiters.cgroup.id)
    return own.select(pl.col(columns).exclude("wait_time_peak_ns").sum()).row(0, named=True)


def holders_of(result: Result, waiters: Waiters) -> dict[int | str, int]:
    """What a cgroup waited by holder: its id, or what there is instead."""
    own = result.table("waits").filter(pl.col("cgroup_id") == waiters.cgroup.id)
    return {
        row["holder_cgroup_kind"] if row["holder_cgroup_id"] is None else row["holder_cgroup_id"]: row["wait_time_ns"]
        for row in own.group_by("holder_cgroup_id", "holder_cgroup_kind").agg(pl.sum("wait_time_ns")).to_dicts()
    }
