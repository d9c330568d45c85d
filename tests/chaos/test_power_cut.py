# SPDX-License-Identifier: Apache-2.0
"""The power goes: of what a tracer has written a disk has what was flushed by then, and no more.

The tracer goes on meanwhile: the disk is looked at as it was at several moments of one run.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from killing import Starvation
from live_node import Tracer
from logged_disk import LoggedDisk

from tracer.store.manifest import read_manifest
from tracer.store.recovery import recover

pytestmark = pytest.mark.root

_SECOND = 10**9
_CUTS = 4


def test_the_power_goes(tmp_path: Path, start_tracer: Callable[..., Tracer], request: pytest.FixtureRequest) -> None:
    look(LoggedDisk(tmp_path / "synced"), start_tracer, "--sync")
    if request.config.getoption("--kills"):
        look(LoggedDisk(tmp_path / "disk"), start_tracer)


def look(disk: LoggedDisk, start_tracer: Callable[..., Tracer], *options: str) -> None:
    """At what is there after a cut, at several moments of a run."""
    cuts = []
    with disk.open() as emulator:
        tracer = start_tracer("--rotate", "3s", *options, output=disk.mounted / "results")
        tracer.wait_until_tracing()
        tracing_ns = time.monotonic_ns()
        waited = [Starvation(pid) for pid in (tracer.process.pid, emulator)]
        time.sleep(3)
        for _cut in range(_CUTS):
            time.sleep(random.uniform(0.2, 1))
            cuts.append((time.monotonic_ns(), disk.cut()))
        tracer.process.kill()
        tracer.process.wait()
    for cut_ns, log in cuts:
        with disk.without_power(log) as mounted:
            end_ns = end_of_rows(mounted / "results") or tracing_ns
        starved_ns = sum(one.between(end_ns, cut_ns) for one in waited)
        print(f"{' '.join(options)} after {(cut_ns - tracing_ns) / _SECOND:.1f} s: the last "
              f"{(cut_ns - end_ns) / _SECOND:.2f} s are missing, starved for {starved_ns / _SECOND:.2f} s")  # fmt: skip
        if options:
            assert cut_ns - end_ns - starved_ns < _SECOND


def end_of_rows(output: Path) -> int | None:
    """The end of the last window that a recovery finds (CLOCK_MONOTONIC, ns), once it was seen that all is well."""
    if not list(output.glob("runs/*/session.json")):
        return None
    found = recover(output)
    assert (found.problems, found.unwritten, found.live) == ([], [], [])
    (manifest,) = map(read_manifest, output.glob("runs/*/session.json"))
    assert [run.problems for run in found.runs] in ([], [[]])
    assert recover(output).runs == []
    rows = [pl.read_parquet(path, hive_partitioning=False) for path in output.glob("windows/*/*/*.parquet")]
    if not rows:
        return None
    windows = pl.concat(rows)
    assert windows.is_unique().all()
    assert manifest.totals.rows["windows"] == windows.height
    return int((windows["window_tick"] + windows["ticks"]).max()) * manifest.tick_ns
