# SPDX-License-Identifier: Apache-2.0
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.clock import ClockAnchor, clock_source, measure_anchor, tightest_anchor

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
