# SPDX-License-Identifier: Apache-2.0
"""Where the process's CLOCK_MONOTONIC is not the kernel's own, nothing is lost and all tables agree."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, TRACER, Cgroup, Result

from tracer.kernel.cpus import online_cpus
from tracer.store.manifest import read_manifest

pytestmark = pytest.mark.root


@pytest.mark.parametrize("offsets", [(86_400, 86_400), (-1, 0), (1_000_000_000, 5)])
def test_a_run_in_a_time_namespace(
    tmp_path: Path, new_container: Callable[[], Cgroup], offsets: tuple[int, int]
) -> None:
    monotonic, boottime = offsets
    output = tmp_path / "results"
    begun_ns = time.time_ns()
    namespace = ["unshare", "--time", f"--monotonic={monotonic}", f"--boottime={boottime}", "--fork"]
    options = ["--ticks", "--duration", "3s", "--processes", "1s"]
    process = subprocess.Popen(
        [*namespace, sys.executable, *TRACER, "run", *options, "--output", output], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "tracing" not in (line := process.stderr.readline()):
        assert line
    container = new_container()
    container.start(SPIN)
    _out, said = process.communicate()
    ended_ns = time.time_ns()
    assert process.returncode == 0, said
    (path,) = output.glob("runs/*/session.json")
    result = Result(output, read_manifest(path), said)

    totals = result.manifest.totals
    assert totals.records_unaccounted == totals.records_lost == 0
    assert totals.records_outside_run < totals.records / 10
    windows = result.table("windows")
    assert windows["cpu_time_ns"].sum() == 3 * 10**9 * len(online_cpus())
    # The tick is of the same clock as the anchor: of this process's.
    clock = result.manifest.clock.start
    first = windows.sort("window_tick").row(0, named=True)
    expected_ns = clock.anchor_realtime_ns + first["window_tick"] * 10**6 - clock.anchor_monotonic_ns
    assert abs(first["window_start"].timestamp() * 1e9 - expected_ns) < 10_000
    for table in ("windows", "ticks", "lifecycle", "resources", "health", "processes"):
        column = {"windows": "window_start", "ticks": "tick_start"}.get(table, "time")
        times = result.table(table)[column].dt.epoch("ns")
        assert begun_ns - 60_000_000 <= times.min() <= times.max() <= ended_ns, table  # type: ignore[operator]
    created = result.table("lifecycle").filter(pl.col("cgroup_id") == container.id, pl.col("event") == "created")
    assert created["source"].to_list() == ["kernel"]
    starts = result.table("processes").filter(pl.col("cgroup_id") == container.id)["start_time"].dt.epoch("ns")
    assert len(starts)
    # A process's start is known to 10 ms.
    assert begun_ns - 10_000_000 <= starts.min() <= starts.max() <= ended_ns  # type: ignore[operator]
