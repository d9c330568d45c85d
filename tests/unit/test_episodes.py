# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tracer.analysis.interference.episodes import bursts, find_bursts, time_ranges
from tracer.analysis.interference.timeline import Timeline
from tracer.analysis.recording import Span

START = datetime(2026, 11, 22, 14, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(second: int) -> datetime:
    return START + second * SECOND


def test_bursts_are_runs_of_high_traffic_that_a_low_moment_does_not_split() -> None:
    misses = np.full(2_000, 10.0)
    for begin in range(100, 1_900, 100):
        misses[begin : begin + 20] = 1_000.0
        misses[begin + 10] = 400.0
    found = find_bursts(misses)
    assert found.tolist() == [[20, 80]] * 17 + [[20, 180]]
    told = bursts(found, 1_000_000)
    assert told is not None
    assert (told.count, told.short_ms, told.long_ms) == (18, 20.0, 20.0)


def test_bursts_that_are_few_or_too_short_to_be_seen_are_not_told() -> None:
    assert bursts(np.array([[20, 20]] * 3), 1_000_000) is None
    assert bursts(np.array([[1, 20]] * 50), 60_000_000) is None
    assert bursts(np.array([[20, 2]] * 50), 60_000_000) is None
    assert len(find_bursts(np.zeros(100))) == 0


def test_time_ranges_are_those_of_the_loss() -> None:
    lost = np.zeros(100)
    lost[10:20] = 5.0
    lost[15] = 0.0
    lost[60:90] = 5.0
    lost[40] = 0.5
    first, second = time_ranges(lost, at)
    assert (first.start, first.end, second.start, second.end) == (at(10), at(20), at(60), at(90))
    assert first.share + second.share == pytest.approx(1, abs=0.01)
    assert time_ranges(np.zeros(10), at) == []


def test_a_timeline_leaves_gaps_out() -> None:
    timeline = Timeline([Span(at(0), at(10)), Span(at(1_000), at(1_005))], 10**9)
    parts = list(timeline.parts(8))
    assert sum(part.steps for part in parts) == timeline.steps
    assert [part.first_step for part in parts] == [0, 8, 12]
    assert parts[-1].start == at(1_000)
    assert timeline.time_of(3) == at(3)
    assert timeline.time_of(12) == at(1_000)
    assert timeline.time_of(99) == at(1_005)
