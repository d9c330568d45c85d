# SPDX-License-Identifier: Apache-2.0
"""Times for which limits held cgroups up, cut at the ticks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.throttling import THROTTLING
from tracer.pipeline.throttled import throttled_times

TICK_NS = 1_000_000
Row = tuple[int, int, int, int]


def rows_of(throttlings: list[Row], held_up: dict[int, list[int]], clock_offset_ns: int = 0) -> list[Row]:
    """Tick, CPU, cgroup and time, in order."""
    times = throttled_times(
        np.array(throttlings, THROTTLING), held_up, tick_ns=TICK_NS, clock_offset_ns=clock_offset_ns
    )
    return sorted(zip(*(column.tolist() for column in times), strict=True))


def test_it_is_cut_at_the_ticks_and_of_all_that_it_held_up() -> None:
    rows = rows_of([(9_400_000, 12_250_000, 7, 1)], {7: [7, 70]})
    expected = [(9, 600_000), (10, TICK_NS), (11, TICK_NS), (12, 250_000)]
    assert rows == sorted((tick, 1, cgroup_id, ns) for tick, ns in expected for cgroup_id in (7, 70))


def test_what_a_pod_and_its_container_hold_up_at_once_counts_once() -> None:
    both = [(5_000_000, 7_000_000, 7, 0), (6_500_000, 8_000_000, 70, 0), (6_000_000, 6_500_000, 70, 0)]
    assert rows_of(both, {7: [7, 70], 70: [70]}) == sorted(
        [(5, 0, 7, TICK_NS), (6, 0, 7, TICK_NS), (5, 0, 70, TICK_NS), (6, 0, 70, TICK_NS), (7, 0, 70, TICK_NS)]
    )


@pytest.mark.parametrize("wrong", [(5, 5, 7, 0), (6, 5, 7, 0), (5, 6, 7, 1 << 16)])
def test_what_cannot_be_is_left_out(wrong: Row) -> None:
    assert rows_of([wrong], {7: [7]}) == []


def test_the_kernels_clock_is_another_in_a_time_namespace() -> None:
    assert rows_of([(1_000_000, 2_000_000, 7, 0)], {7: [7]}, clock_offset_ns=5_000_000) == [(6, 0, 7, TICK_NS)]


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(1, 10**7), st.sampled_from([7, 8]), st.integers(0, 2))))
def test_nothing_is_lost_and_no_tick_has_more_than_its_length(pieces: list[Row]) -> None:
    throttlings = [(begin, begin + length, cgroup_id, cpu) for begin, length, cgroup_id, cpu in pieces]
    rows = rows_of(throttlings, {7: [7], 8: [8]})
    covered = {(cgroup_id, cpu, begin) for begin, _end, cgroup_id, cpu in throttlings}
    assert bool(rows) == bool(covered)
    by_tick: dict[tuple[int, int, int], int] = {}
    for tick, cpu, cgroup_id, ns in rows:
        by_tick[tick, cpu, cgroup_id] = by_tick.get((tick, cpu, cgroup_id), 0) + ns
    assert all(0 < ns <= TICK_NS for ns in by_tick.values())
    for place in {(cgroup_id, cpu) for _begin, _end, cgroup_id, cpu in throttlings}:
        moments = sorted((begin, end) for begin, end, *of in throttlings if tuple(of) == place)
        union, until = 0, 0
        for begin, end in moments:
            union += max(0, end - max(begin, until))
            until = max(until, end)
        assert union == sum(ns for (_tick, cpu, cgroup_id), ns in by_tick.items() if (cgroup_id, cpu) == place)
