# SPDX-License-Identifier: Apache-2.0
"""A run that is killed: what is left of it, against what the kernel accounts meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from live_node import SPIN, TRACER, Cgroup, Tracer, holds_none_twice, stolen_ns
from starvation import Starvation

from tracer.store.manifest import read_manifest
from tracer.store.recovery import recover

pytestmark = pytest.mark.root

_MS = 1_000_000
_SECOND = 1_000 * _MS


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Tracer]]:
    started: list[Tracer] = []

    def one(*options: str) -> Tracer:
        started.append(Tracer(tmp_path / "results", "--resources-interval", "500ms", *options))
        return started[-1]

    yield one
    for tracer in started:
        kill(tracer)


def kill(tracer: Tracer) -> None:
    tracer.process.kill()
    tracer.process.wait()
    assert tracer.process.stderr is not None
    tracer.process.stderr.close()


def watch(cgroup: Cgroup, seconds: float) -> tuple[list[int], list[int]]:
    """CLOCK_MONOTONIC and the CPU time of a cgroup by then, each 10 ms, for so long."""
    times, used = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        times.append(time.monotonic_ns())
        used.append(cgroup.cpu_time_ns())
        time.sleep(0.01)
    return times, used


@pytest.mark.parametrize(("seconds", "options"), [(2.7, ()), (3.3, ("--rotate", "1s", "--sync"))])
def test_all_but_the_last_second_is_recovered_once(
    start: Callable[..., Tracer], new_container: Callable[[], Cgroup], seconds: float, options: tuple[str, ...]
) -> None:
    container = new_container()
    container.start(SPIN)
    tracer = start(*options)
    tracer.wait_until_tracing()
    starvation = Starvation(tracer.process.pid)
    stolen_before = stolen_ns()
    times, used = watch(container, seconds)
    killed_ns = time.monotonic_ns()
    kill(tracer)
    stolen = stolen_ns() - stolen_before

    (run,) = recover(tracer.output).runs
    (path,) = tracer.output.glob("runs/*/session.json")
    manifest = read_manifest(path)
    assert (run.problems, manifest.status) == ([], "crashed")
    assert set(run.rows) <= {"windows", "waits", "health", "resources", "lifecycle"}
    windows = pl.read_parquet(tracer.output / "windows/**/*.parquet", hive_partitioning=False)
    totals = manifest.totals
    assert totals.rows["windows"] == windows.height
    assert totals.rows_present == totals.rows
    # What had been received when it was last counted has a place; of what waited to be written then, some may be lost.
    assert totals.rows_lost_by_cause.keys() <= {"killed"}
    assert totals.rows_lost < windows.height / 10
    assert totals.rows_received.keys() >= run.rows.keys()
    assert (totals.records_unaccounted, totals.rows_unaccounted) == (0, {})
    assert totals.records + totals.records_expanded >= totals.rows["windows"] + totals.records_merged
    assert holds_none_twice(windows)
    end_ns = int((windows["window_tick"] + windows["ticks"]).max()) * manifest.tick_ns
    print(f"killed {(killed_ns - end_ns) / _MS:.0f} ms after the end of the last window that is there")
    assert killed_ns - end_ns - starvation.between(end_ns, killed_ns) < _SECOND

    whole = windows.filter(
        (pl.col("cgroup_id") == container.id) & (pl.col("window_tick") * manifest.tick_ns > times[0])
    )
    first_ns = int(whole["window_tick"].min()) * manifest.tick_ns
    truth_ns = float(np.diff(np.interp([first_ns, end_ns], times, used))[0])
    # The kernel accounts a task that goes on running at each of its own ticks, up to 10 ms late, and takes off what the
    # hypervisor stole.
    margin_ns = 0.01 * truth_ns + 12 * _MS
    assert -margin_ns <= whole["cpu_time_ns"].sum() - truth_ns <= margin_ns + stolen


def test_the_next_run_recovers_the_one_before_and_leaves_another_that_is_live(
    start: Callable[..., Tracer], tmp_path: Path
) -> None:
    first = start()
    first.wait_until_tracing()
    time.sleep(1.5)
    second = start()
    second.wait_until_tracing()
    assert "recovered" not in second.said
    kill(first)
    command = [sys.executable, *TRACER, "recover", str(first.output)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 2
    assert f" on {os.uname().nodename} was killed: recovered " in said[0]
    assert "rows of windows" in said[0]
    assert said[1].endswith(" is running, or being recovered: left alone")
    kill(second)
    third = start("--duration", "200ms")
    result = third.end()
    assert result == 0, third.said
    assert third.said.count(" was killed: recovered ") == 1
    statuses = sorted(read_manifest(path).status for path in (tmp_path / "results").glob("runs/*/session.json"))
    assert statuses == ["crashed", "crashed", "finished"]
