# SPDX-License-Identifier: Apache-2.0
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.clock import (
    ClockAnchor,
    RunClock,
    Sleep,
    Step,
    clock_source,
    kernel_clock_offset_ns,
    measure_anchor,
    tightest_anchor,
)
from tracer.pipeline.labelling import boot_utc_ns, utc_ns

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

    def pass_time(self, awake_ns: int = 0, asleep_ns: int = 0, step_ns: int = 0) -> None:
        self.monotonic_ns += awake_ns
        self.wall_ns += awake_ns + asleep_ns + step_ns
        self.slept_ns += asleep_ns


def test_times_after_a_sleep_go_through_another_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    awake_until: list[int] = []
    clock = RunClock(measure_anchor(), lambda _slept_ns: awake_until[-1])
    boot_utcs = clock.boot_utcs
    moments = []
    for asleep_ns in (0, 60 * 10**9, 10**9, 0):
        clocks.pass_time(awake_ns=10**9)
        moments.append((clocks.monotonic_ns, clocks.wall_ns))
        awake_until.append(clocks.monotonic_ns)
        clocks.pass_time(asleep_ns=asleep_ns)
        found = clock.look()
        assert (found.slept_ns if isinstance(found, Sleep) else 0) == pytest.approx(asleep_ns, abs=1_000)
        assert clock.look() is None
    assert len(clock.sleeps) == 2
    for monotonic_ns, wall_ns in moments:
        assert abs(clock.utc_ns(monotonic_ns) - wall_ns) < 1_000
    # What began before the sleeps and after them is told from the same beginning.
    assert clock.boot_utcs == boot_utcs
    assert abs(boot_utcs[0][1] + clocks.monotonic_ns + clocks.slept_ns - clocks.wall_ns) < 1_000


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


@pytest.mark.parametrize("step_ns", [3_600 * 10**9, -3_600 * 10**9, 1_500_000, -1_500_000])
def test_times_after_the_wall_clock_was_set_go_by_it(monkeypatch: pytest.MonkeyPatch, step_ns: int) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    told: list[Step] = []
    clock = RunClock(measure_anchor(), lambda _slept_ns: 0, told.append)
    first = before = clocks.monotonic_ns, clocks.wall_ns
    clocks.pass_time(awake_ns=10**9)
    assert clock.look() is None
    clocks.pass_time(step_ns=step_ns)
    # Until it is noticed, all go on as before.
    unnoticed = clocks.monotonic_ns, clocks.wall_ns - step_ns
    (step,) = [clock.look()]
    assert isinstance(step, Step)
    assert told == [step] == list(clock.steps)
    assert step.step_ns == pytest.approx(step_ns, abs=1_000)
    assert clock.look() is None
    clocks.pass_time(awake_ns=10**9)
    for monotonic_ns, wall_ns in (before, unnoticed, (clocks.monotonic_ns, clocks.wall_ns)):
        assert abs(clock.utc_ns(monotonic_ns) - wall_ns) < 1_000
    # What began before it still did then, and what began after it is told by the new time.
    for monotonic_ns, wall_ns in (first, (clocks.monotonic_ns, clocks.wall_ns)):
        assert abs(converted(boot_utc_ns, [monotonic_ns + clocks.slept_ns], clock)[0] - wall_ns) < 1_000


def test_steps_too_small_to_be_told_are_told_when_they_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a clock that is set each minute from that of the hypervisor."""
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    clock = RunClock(measure_anchor(), lambda _slept_ns: 0)
    for minute in range(100):
        clocks.pass_time(awake_ns=60 * 10**9, step_ns=300_000)
        assert abs(clock.utc_ns(clocks.monotonic_ns) - clocks.wall_ns) < 1_400_000, minute
        clock.look()
    assert sum(step.step_ns for step in clock.steps) == pytest.approx(100 * 300_000, abs=1_200_000)


def test_the_clock_is_set_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    awake_until = clocks.monotonic_ns
    clock = RunClock(measure_anchor(), lambda _slept_ns: awake_until)
    clocks.pass_time(asleep_ns=60 * 10**9, step_ns=-7 * 10**9)
    clock.look()
    (sleep,), (step,) = clock.sleeps, clock.steps
    assert (sleep.slept_ns, step.step_ns) == (
        pytest.approx(60 * 10**9, abs=1_000), pytest.approx(-7 * 10**9, abs=1_000),
    )  # fmt: skip
    assert abs(clock.utc_ns(clocks.monotonic_ns) - clocks.wall_ns) < 1_000
    assert clock.anchor_at(clocks.monotonic_ns).slept_ns - clock.first.slept_ns == sleep.slept_ns


def test_a_machine_that_sleeps_while_its_clocks_are_read_has_slept_and_not_set_its_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At each reading in turn."""
    for moment in range(200):
        clocks = Clocks()
        monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
        clock = RunClock(measure_anchor(), lambda _slept_ns: 0)
        clocks.pass_time(asleep_ns=10**9)
        readings = itertools.count()

        def read(number: int, clocks: Clocks = clocks, readings: Iterator[int] = readings, at: int = moment) -> int:
            clocks.pass_time(asleep_ns=3 * 10**9 * (next(readings) == at))
            return clocks.read(number)

        monkeypatch.setattr(time, "clock_gettime_ns", read)
        clock.look()
        monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
        clock.look()
        assert clock.steps == ()
        slept_ns = clocks.slept_ns - clock.first.slept_ns
        assert sum(sleep.slept_ns for sleep in clock.sleeps) == pytest.approx(slept_ns, abs=1_000)
    # At the last one it was too late.
    assert slept_ns == pytest.approx(10**9, abs=1_000)


def test_of_very_many_steps_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(time, "clock_gettime_ns", clocks.read)
    clock = RunClock(measure_anchor(), lambda _slept_ns: 0)
    for _ in range(1_000):
        clocks.pass_time(awake_ns=10**9, step_ns=-(10**9))
        clock.look()
    assert len(clock.anchors) == len(clock.steps) == 64
    assert clock.changes_left_out == 1_000 - 64
    assert abs(clock.utc_ns(clocks.monotonic_ns) - clocks.wall_ns) < 1_000
    whole = clock.anchor_at(clocks.monotonic_ns).boot_utc_ns - clock.first.boot_utc_ns
    assert whole == pytest.approx(-1_000 * 10**9, abs=10_000)


def test_the_kernels_own_clocks_are_not_seen_to_step() -> None:
    """Unless somebody sets this machine's clock meanwhile."""
    clock = RunClock(measure_anchor(), lambda _slept_ns: 0)
    for _ in range(10_000):
        assert clock.look() is None


@given(
    st.lists(st.tuples(st.integers(0, 10**15), st.integers(1, 10**12), st.booleans()), max_size=4),
    st.lists(st.integers(0, 10**15), min_size=1, max_size=20),
)
def test_whole_columns_are_converted_alike(changes: list[tuple[int, int, bool]], times: list[int]) -> None:
    clock = RunClock(ClockAnchor(realtime_ns=17 * 10**17, monotonic_ns=10**10, uncertainty_ns=0))
    moved_ns = slept_ns = 0
    for after_ns, length_ns, is_sleep in sorted(changes):
        moved_ns += length_ns
        slept_ns += length_ns * is_sleep
        clock.anchors = (*clock.anchors, (after_ns, ClockAnchor(17 * 10**17 + moved_ns, 10**10, 0, slept_ns)))
    assert converted(utc_ns, times, clock) == [clock.utc_ns(moment) for moment in times]
    # By way of the other clock it comes to the same, but where a sleep begins.
    of_boot = [moment + clock.anchor_at(moment).slept_ns for moment in times]
    assert converted(boot_utc_ns, of_boot, clock) == [clock.utc_ns(moment) for moment in times]


def converted(convert: Callable[[pl.Expr, RunClock], pl.Expr], times: list[int], clock: RunClock) -> list[int]:
    return pl.DataFrame({"times": times}).select(convert(pl.col("times"), clock)).to_series().to_list()
