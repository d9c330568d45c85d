# SPDX-License-Identifier: Apache-2.0
"""A machine that is suspended in the middle of a run; only a guest can be."""

import subprocess
import time
from collections.abc import Callable

import polars as pl
import pytest
from live_node import Cgroup, Tracer

pytestmark = [pytest.mark.root, pytest.mark.core]

ASLEEP_SECONDS = 5
# An emulated node has little CPU time, and is seconds behind at first: room for that, so that no ticks are left out.
WAITING, ROOM = "exec sleep 1000", ("--ring-size", "32MiB")


def slept_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def test_times_are_right_after_a_suspension(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--ticks", "--duration", "20s", "--processes", "1s", *ROOM)
    tracer.wait_until_tracing()
    early, late = new_container(), new_container()
    early_ns = time.time_ns()
    early.start(WAITING)
    time.sleep(3)
    slept_before_ns = slept_ns()
    # To RAM, and woken by the clock of the mainboard.
    subprocess.run(["rtcwake", "-m", "mem", "-s", str(ASLEEP_SECONDS)], check=True)
    after_ns, asleep_ns = time.time_ns(), slept_ns() - slept_before_ns
    assert asleep_ns > 10**9
    late_ns = time.time_ns()
    late.start(WAITING)
    result = tracer.result()

    (sleep,) = result.manifest.clock.sleeps
    assert abs(sleep.slept_ns - asleep_ns) < 10_000_000
    assert result.table("health")["suspended_time_ns"].sum() == sleep.slept_ns
    assert result.manifest.totals.records_unaccounted == 0
    # By the wall clock nothing happened while it slept.
    for table, column in (("windows", "window_start"), ("ticks", "tick_start"), ("health", "time")):
        times = result.table(table)[column].dt.epoch("ns").sort()
        assert times.diff().max() > asleep_ns - 10**8, table  # type: ignore[operator]
        assert times.max() < time.time_ns()  # type: ignore[operator]
    asleep = result.table("health").filter(pl.col("suspended_time_ns") > 0)
    assert asleep["time"].dt.epoch("ns")[0] > after_ns - 2 * 10**9
    ticks = result.table("ticks").filter(pl.col("cgroup_id") == late.id)["tick_start"].dt.epoch("ns")
    assert late_ns - 2_000_000 <= ticks.min()  # type: ignore[operator]
    created = result.table("lifecycle").filter(pl.col("event") == "populated")
    for container, begun_ns in ((early, early_ns), (late, late_ns)):
        (populated_ns,) = created.filter(pl.col("cgroup_id") == container.id)["time"].dt.epoch("ns")
        assert -1_000 <= populated_ns - begun_ns < 2 * 10**9
        starts = result.table("processes").filter(pl.col("cgroup_id") == container.id)["start_time"]
        (start_ns,) = starts.dt.epoch("ns").unique()
        assert -20_000_000 <= start_ns - begun_ns < 2 * 10**9
