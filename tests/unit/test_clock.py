# SPDX-License-Identifier: Apache-2.0
import time
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.clock import (
    ClockAnchor,
    RunClock,
    Sleep,
    clock_source,
    kernel_clock_offset_ns,
    measure_anchor,
    tightest_anchor,
)
from tracer.pipeline.labelling import utc_ns

moments = st.integers(0, 2**62)


def test_the_anchor_lies_between_readings_around_it() -> None:
    monotonic_before, realtime_before = time.monotonic_ns(), time.time_ns()
    anchor = measure_anchor()
    monotonic_after, realtime_after = time.monotonic_ns(), time.time_ns()
    assert monotonic_before <= anchor.monotonic_ns <= monotonic_after
    assert realtime_before <= anchor.realtime_ns <= realtime_after
    assert 0 <= anchor.uncertainty_ns <= monotonic_after - monotonic_before


def test_the_narrowest_sandwich_wins() -> None:
    assert tightest_anchor([(100, 5_000, 300), (400, 5_300, 407), (500, 5_450, 600)]) == ClockAnchor(
        realtime_ns=5_300, monotonic_ns=403, uncertainty_ns=4
    )


@given(st.lists(st.tuples(moments, moments, st.integers(0, 10**9)), min_size=1))
def test_the_uncertainty_covers_the_whole_sandwich(readings: list[tuple[int, int, int]]) -> None:
    anchor = tightest_anchor([(before, realtime, before + width) for before, realtime, width in readings])
    before, width = next(
        (before, width)
        for before, realtime, width in readings
        if realtime == anchor.realtime_ns and width == min(width for _, _, width in readings)
    )
    assert anchor.monotonic_ns - anchor.uncertainty_ns <= before
    assert before + width <= anchor.monotonic_ns + anchor.uncertainty_ns
    assert anchor.uncertainty_ns <= width // 2 + 1


@given(moments, moments, moments, moments)
def test_utc_keeps_distances(realtime: int, monotonic: int, first: int, second: int) -> None:
    anchor = ClockAnchor(realtime_ns=realtime, monotonic_ns=monotonic, uncertainty_ns=0)
    assert anchor.utc_ns(monotonic) == realtime
    assert anchor.utc_ns(second) - anchor.utc_ns(first) == second - first


def test_the_clock_source_is_one_of_those_the_kernel_offers() -> None:
    directory = Path("/sys/devices/system/clocksource/clocksource0")
    source = clock_source()
    if (directory / "current_clocksource").exists():
        assert source in (directory / "available_clocksource").read_text().split()
    else:
        assert source is None


def test_an_unreadable_clock_source_is_none(tmp_path: Path) -> None:
    assert clock_source(tmp_path) is None
    directory = tmp_path / "devices/system/clocksource/clocksource0"
    directory.mkdir(parents=True)
    (directory / "current_clocksource").write_text("\n")
    assert clock_source(tmp_path) is None
    (directory / "current_clocksource").write_text("hpet\n")
    assert clock_source(tmp_path) == "hpet"


@pytest.mark.parametrize(
    ("readings", "offset_ns"),
    [
        ([(100, 150, 200)], 0),
        ([(100, 100, 200), (0, 10**9, 5_000)], 0),
        ([(86_400_000_000_100, 150, 86_400_000_000_200)], 86_400_000_000_000),
        ([(100, 1_150, 200)], -1_000),
        # The narrowest counts.
        ([(5_000, 0, 9_000), (5_000, 0, 5_010)], 5_005),
    ],
)
def test_the_kernels_clock_is_ours_unless_it_is_seen_not_to_be(
    readings: list[tuple[int, int, int]], offset_ns: int
) -> None:
    assert kernel_clock_offset_ns(readings) == offset_ns


class Clocks:
    """The kernel's clocks, for a machine that can be put to sleep; a real one is, in a guest."""

    def __init__(self) -> None:
        self.monotonic_ns = 10**12
        self.slept_ns = 5 * 10**9
        self.wall_ns = 17 * 10**17

    def read(self, clock: int) -> int:
        self.monotonic_ns += 10
        self.wall_ns += 10
        return {
            time.CLOCK_MONOTONIC: self.monotonic_ns,
            time.CLOCK_BOOTTIME: self.monotonic_ns + self.slept_ns,
            time.CLOCK_REALTIME: self.wall_ns,
        }[clock]

    def pass_time(self, awake_ns: int = 0, asleep_ns: int = 0) -> None:
        self.monotonic_ns += awake_ns
        self.wall_ns += awake_ns + asleep_ns
        self.slept_ns += asleep_ns


def test_times_after_a_sleep_go_through_another_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    awake_until: list[int] = []
    clock = RunClock(measure_anchor(), lambda _slept_ns: awake_until[-1])
    boot_utc_ns = clock.boot_utc_ns
    moments = []
    for asleep_ns in (0, 60 * 10**9, 10**9, 0):
        clocks.pass_time(awake_ns=10**9)
        moments.append((clocks.monotonic_ns, clocks.wall_ns))
        awake_until.append(clocks.monotonic_ns)
        clocks.pass_time(asleep_ns=asleep_ns)
        found = clock.look()
        assert (found.slept_ns if found else 0) == pytest.approx(asleep_ns, abs=1_000)
        assert clock.look() is None
    assert len(clock.sleeps) == 2
    for monotonic_ns, wall_ns in moments:
        assert abs(clock.utc_ns(monotonic_ns) - wall_ns) < 1_000
    # What began before the sleeps and after them is told from the same beginning.
    assert clock.boot_utc_ns == boot_utc_ns
    assert abs(clock.boot_utc_ns + clocks.monotonic_ns + clocks.slept_ns - clocks.wall_ns) < 1_000


def test_a_clock_that_only_was_read_late_is_no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    clock = RunClock(measure_anchor(), lambda _slept_ns: 0)

    def held_up(number: int) -> int:
        value = clocks.read(number)
        clocks.pass_time(awake_ns=300_000_000)
        return value

    monkeypatch.setattr(time, "clock_gettime_ns", held_up)
    assert clock.look() is None


@given(
    st.lists(st.tuples(st.integers(0, 10**15), st.integers(1, 10**12)), max_size=4),
    st.lists(st.integers(0, 10**15), min_size=1, max_size=20),
)
def test_whole_columns_are_converted_alike(sleeps: list[tuple[int, int]], times: list[int]) -> None:
    clock = RunClock(ClockAnchor(realtime_ns=17 * 10**17, monotonic_ns=10**10, uncertainty_ns=0))
    slept_ns = 0
    for after_ns, length_ns in sorted(sleeps):
        slept_ns += length_ns
        anchor = ClockAnchor(17 * 10**17 + slept_ns, 10**10, 0, slept_ns)
        clock.sleeps = (*clock.sleeps, Sleep(after_ns, length_ns, anchor))
    frame = pl.DataFrame({"monotonic_ns": times})
    converted = frame.select(utc_ns(pl.col("monotonic_ns"), clock)).to_series().to_list()
    assert converted == [clock.utc_ns(moment) for moment in times]
