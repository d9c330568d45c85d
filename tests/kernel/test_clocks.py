# SPDX-License-Identifier: Apache-2.0
"""Where the process's CLOCK_MONOTONIC is not the kernel's own, nothing is lost and all tables agree."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import stepped_clock
from live_node import SPIN, TRACER, Cgroup, Result, Tracer

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
    # With a wrong clock all of them would be; some are of the time before the first tick and after the last one.
    assert totals.records_outside_run < totals.records / 2
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


@pytest.mark.parametrize("seconds", [-7_200])
def test_the_wall_clock_is_set_in_the_middle_of_a_run(
    tmp_path: Path,
    start_tracer: Callable[..., Tracer],
    new_container: Callable[[], Cgroup],
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
) -> None:
    file, step_ns = tmp_path / "step", seconds * 10**9
    monkeypatch.setenv(stepped_clock.FILE, str(file))
    monkeypatch.setenv(stepped_clock.SECONDS, str(seconds))
    tracer = start_tracer("--ticks", "--duration", "6s", "--processes", "1s", program=(stepped_clock.__file__,))
    tracer.wait_until_tracing()
    early, early_ns = new_container(), time.time_ns()
    early.start(SPIN)
    time.sleep(1)
    file.touch()
    # It is noticed within a second.
    time.sleep(1.5)
    late, late_ns = new_container(), time.time_ns() + step_ns
    late.start(SPIN)
    result = tracer.result()
    ended_ns = time.time_ns()

    clock = result.manifest.clock
    (step,) = clock.steps
    assert abs(step.step_ns - step_ns) < 1_000_000
    assert abs(clock.drift_ns or 0) < 1_000_000
    assert result.table("health").filter(pl.col("clock_step_ns") != 0)["clock_step_ns"].to_list() == [step.step_ns]
    word = "forward" if seconds > 0 else "back"
    assert f"warning: the wall clock was set {word} by {abs(seconds)}.000 s" in result.said
    assert "tracer: 6 s traced" in result.said
    assert result.manifest.totals.records_unaccounted == result.manifest.totals.records_lost == 0
    # By the ticks nothing happened.
    windows = result.table("windows")
    assert windows["cpu_time_ns"].sum() == 6 * 10**9 * len(online_cpus())
    assert windows["window_tick"].max() - windows["window_tick"].min() <= 6_000  # type: ignore[operator]

    def times(table: str, cgroup: Cgroup) -> pl.Series:
        rows = result.table(table).filter(pl.col("cgroup_id") == cgroup.id)
        # Where the machine has no time for the tracer, these are left out first.
        assert rows.height or (table in ("ticks", "waits") and result.manifest.left_out), table
        return rows[{"windows": "window_start", "waits": "window_start", "ticks": "tick_start"}.get(table, "time")]

    for table in ("windows", "ticks", "waits", "resources", "processes", "lifecycle"):
        if (spans := times(table, late).dt.epoch("ns")).is_empty():
            continue
        assert late_ns - 62_000_000 <= spans.min() <= spans.max() <= ended_ns + step_ns, table  # type: ignore[operator]
    for table in ("windows", "lifecycle"):
        before = times(table, early).dt.epoch("ns").sort()
        assert early_ns - 62_000_000 <= before[0 if seconds > 0 else -1] <= ended_ns, table
    # A process has one beginning, by the clock of then.
    for cgroup, begun_ns in ((early, early_ns), (late, late_ns)):
        starts = result.table("processes").filter(pl.col("cgroup_id") == cgroup.id)["start_time"].dt.epoch("ns")
        (start_ns,) = starts.unique()
        assert -20_000_000 <= start_ns - begun_ns < 2 * 10**9
