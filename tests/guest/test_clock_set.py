# SPDX-License-Identifier: Apache-2.0
"""A wall clock that is slewed and set in the middle of a run; only a guest's can be."""

import ctypes
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Tracer

pytestmark = pytest.mark.root

SECOND = 10**9
TIME_COLUMNS = {"windows": "window_start", "ticks": "tick_start", "waits": "window_start"}
ADJ_FREQUENCY = 0x0002
PPM = 1 << 16


class Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), of which only the beginning is used."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("rest", ctypes.c_byte * 256),
    )


def set_rate(parts_per_million: int) -> None:
    """Makes the clocks so much faster, as NTP does."""
    libc = ctypes.CDLL(None, use_errno=True)
    timex = Timex(modes=ADJ_FREQUENCY, freq=parts_per_million * PPM)
    assert libc.adjtimex(ctypes.byref(timex)) >= 0, ctypes.get_errno()


def step(seconds: int) -> None:
    """Sets the wall clock."""
    time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + seconds * SECOND)


@pytest.fixture(autouse=True)
def in_a_guest() -> Iterator[None]:
    """No other machine's clock is touched; it is as before when the test is over."""
    assert Path("/results").is_dir(), "only in a guest of scripts/vm"
    wall_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
    yield
    set_rate(0)
    time.clock_settime_ns(time.CLOCK_REALTIME, wall_ns + time.monotonic_ns() - monotonic_ns)


class Work(NamedTuple):
    """What ran for a while, and when by the wall clock."""

    cgroup: Cgroup
    begun_ns: int
    ended_ns: int


def test_times_go_by_the_wall_clock_as_it_is_set(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--ticks", "--processes", "1s", "--ring-size", "32MiB")
    tracer.wait_until_tracing()

    def work() -> Work:
        cgroup, begun_ns = new_container(), time.time_ns()
        # They wait for each other, and leave an emulated machine to the tracer.
        for _ in range(2):
            cgroup.start(f"exec nice -n 19 taskset -c 0 sh -c '{SPIN}'")
        time.sleep(5)
        cgroup.stop()
        # No row of it is from later.
        cgroup.path.rmdir()
        return Work(cgroup, begun_ns, time.time_ns())

    # 500 ppm of 6 s are 3 ms, and would be seen if they were a step.
    set_rate(500)
    time.sleep(1)
    works = [work()]
    set_rate(0)
    steps = (3_600, -7_200, 86_400)
    for seconds in steps:
        step(seconds)
        # It is noticed within a second.
        time.sleep(4)
        works.append(work())
    time.sleep(1)
    tracer.process.terminate()
    result = tracer.result()

    clock = result.manifest.clock
    assert clock.sleeps == []
    assert [round(one.step_ns / SECOND) for one in clock.steps] == list(steps)
    for one, seconds in zip(clock.steps, steps, strict=True):
        assert abs(one.step_ns - seconds * SECOND) < 50_000_000
    assert abs(clock.drift_ns or 0) < 1_000_000
    for one in clock.steps:
        way = "forward" if one.step_ns > 0 else "back"
        assert f"warning: the wall clock was set {way} by {abs(one.step_ns) / SECOND:.3f} s" in result.said
        assert any(f"the wall clock was set {way} by" in note for note in result.manifest.notes)
    health = result.table("health")
    told = health.filter(pl.col("clock_step_ns") != 0)["clock_step_ns"].to_list()
    # In a file rows are in the order of their times, which went back meanwhile.
    assert sorted(told) == sorted(one.step_ns for one in clock.steps)
    assert result.manifest.totals.records_unaccounted == result.manifest.totals.records_lost == 0

    # Ticks are as if nothing had happened.
    ticks = result.table("ticks")["tick"].unique().sort()
    assert ticks.diff().drop_nulls().unique().to_list() == [1]
    for one in works:
        for table in ("windows", "ticks", "waits", "resources", "processes", "lifecycle"):
            rows = result.table(table).filter(pl.col("cgroup_id") == one.cgroup.id)
            times = rows[TIME_COLUMNS.get(table, "time")].dt.epoch("ns")
            assert len(times), table
            early = 61_000_000 if table in ("windows", "waits") else 2_000_000
            assert one.begun_ns - early <= times.min() <= times.max() <= one.ended_ns + 2 * SECOND, table  # type: ignore[operator]
        starts = result.table("processes").filter(pl.col("cgroup_id") == one.cgroup.id)
        by_process = starts.group_by("pid").agg(pl.col("start_time").dt.epoch("ns").unique())
        for (start_ns,) in by_process["start_time"].to_list():
            assert one.begun_ns - 20_000_000 <= start_ns <= one.ended_ns
