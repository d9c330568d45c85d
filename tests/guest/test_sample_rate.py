# SPDX-License-Identifier: Apache-2.0
"""A kernel that lets nobody have as many samples as the tick takes; only a guest's is told to."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Tracer, agrees_with_cpu_stat, stolen_ns

pytestmark = pytest.mark.root

LIMIT = Path("/proc/sys/kernel/perf_event_max_sample_rate")
# Above this share of the time for interrupts the kernel lowers the limit by itself, and emulated ones take long. (With
# 0 and 100 it never does, and nobody else may.)
LOWERED_ABOVE_PERCENT = Path("/proc/sys/kernel/perf_cpu_time_max_percent")


@pytest.fixture(autouse=True)
def in_a_guest() -> Iterator[None]:
    """No other machine's limit is touched; it is as before when the test is over."""
    assert Path("/results").is_dir(), "only in a guest of scripts/vm"
    before = {path: path.read_text() for path in (LOWERED_ABOVE_PERCENT, LIMIT)}
    LOWERED_ABOVE_PERCENT.write_text("99")
    yield
    for path, value in before.items():
        path.write_text(value)


def health_since(tracer: Tracer, begin_ns: int) -> pl.DataFrame:
    """The rows of `health` that are in closed files by now and are of a time after that (CLOCK_MONOTONIC), in order."""
    if not (files := [*tracer.output.glob("health/**/*.parquet")]):
        return pl.DataFrame(schema={"time": pl.Datetime})
    ahead_ns = time.time_ns() - time.monotonic_ns()
    health = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]).sort("time")
    return health.filter(pl.col("time").dt.epoch("ns") > begin_ns + ahead_ns)


def test_held_up_ticks_are_told_and_cost_no_cpu_time(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    before = LIMIT.read_text()
    tracer = start_tracer("--event", "cycles=software:cpu-clock", "--rotate", "1s")
    tracer.wait_until_tracing()
    busy, stolen = new_container(), stolen_ns()
    # They leave an emulated machine to the tracer.
    for _ in range(2):
        busy.start(f"exec nice -n 19 sh -c '{SPIN}'")
    late = []
    for limit in (before, "250", before):
        LIMIT.write_text(limit)
        changed_ns = time.monotonic_ns()
        # The first two are of other times as well: before the limit was changed, or until that was noticed.
        while (rows := health_since(tracer, changed_ns)).height < 5:
            time.sleep(0.5)
        late.append(rows["tick_lateness_p50_ns"][2:].median())
    print(f"median lateness with, without and with its ticks again: {late} ns")
    busy.stop()
    stolen = stolen_ns() - stolen
    time.sleep(1)
    tracer.process.terminate()
    result = tracer.result()
    assert "warning: kernel.perf_event_max_sample_rate is 250, below 3000: ticks are held up" in result.said
    assert "warning: kernel.perf_event_max_sample_rate holds up no ticks any more" in result.said
    # Every fourth tick or fewer come: what is closed between two of them is late.
    assert late[1] > 2 * max(late[0], late[2])  # type: ignore[operator, type-var]
    assert result.manifest.totals.records_lost == result.manifest.totals.records_unaccounted == 0
    windows = result.table("windows").filter(pl.col("cgroup_id") == busy.id)
    assert agrees_with_cpu_stat(windows["cpu_time_ns"].sum(), busy, stolen)
    assert windows["cycles"].sum() == pytest.approx(windows["cpu_time_ns"].sum(), rel=0.01)


def test_a_limit_that_is_too_low_at_the_start_is_told_then(start_tracer: Callable[..., Tracer]) -> None:
    LIMIT.write_text("1000")
    result = start_tracer("--duration", "1s").result()
    assert result.said.count("warning: kernel.perf_event_max_sample_rate is 1000, below 3000") == 1
    said = subprocess.run(["tracer", "doctor"], capture_output=True, text=True, check=False).stdout
    assert "kernel.perf_event_max_sample_rate is 1000, below 3000" in said
