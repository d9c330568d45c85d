# SPDX-License-Identifier: Apache-2.0
"""What is believed of counters' values, and what becomes of them in a frame of records."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.kernel.counter_plan import CpuPlan
from tracer.kernel.event_specs import EventSpec, on_pmu, parse_events
from tracer.kernel.record_block import RecordBlock
from tracer.pipeline.counter_check import HAS_NO_TURN, HAS_NOT_COUNTED, HAS_STOPPED, CounterCheck
from tracer.pipeline.frames import counter_shares, records_frame
from tracer.pipeline.windows import aggregate_windows, llc_lookup, scale_counters

US, MS, SECOND = 1_000, 1_000_000, 1_000_000_000
EVENTS = parse_events([])
ALL = (1.0, 1.0, 1.0)
Row = tuple[int, int, int, tuple[int, int, int]]
Shares = dict[int, Sequence[float | None]]


def block_of(rows: Sequence[Row], unread: Sequence[int] = ()) -> RecordBlock:
    """Rows of CPU, cgroup, CPU time and counters, a tick each."""
    block = RecordBlock(max(1, len(rows)))
    for number, (cpu, cgroup_id, time_ns, counters) in enumerate(rows):
        block.tick[number], block.cpu[number], block.cgroup_id[number] = number, cpu, cgroup_id
        block.cpu_time_ns[number], block.counters[:, number] = time_ns, counters
        block.unread[number] = unread[number] if unread else 0
        block.context_switches[number] = 0
    return block


def plan(events: tuple[EventSpec, ...] = EVENTS, **changes: Any) -> CpuPlan:
    return CpuPlan(events, (None,) * 3, grouped=True, has_counted=(True,) * 3)._replace(**changes)


def new_check(plans: dict[int, CpuPlan] | None = None, khz: dict[int, int] | None = None) -> CounterCheck:
    check = CounterCheck(EVENTS, 4)
    check.follow(plans or {cpu: plan() for cpu in range(4)}, khz or {})
    return check


def refused(
    check: CounterCheck, rows: Sequence[Row], shares: Shares | None = None, unread: Sequence[int] = ()
) -> list[list[bool]]:
    """By counter and row."""
    shares = shares or dict.fromkeys(range(4), ALL)
    found = check.refuse(block_of(rows, unread), len(rows), counter_shares(shares, 4))
    return [[False] * len(rows)] * 3 if found is None else found.tolist()


def test_zeros_of_a_counter_that_counts_are_values() -> None:
    """Halted cycles are none, and a sliver of a tick may have none; a miss is nothing that must be."""
    check = new_check()
    rows = [(0, 5, MS, (9, 9, 0)), (0, 0, MS, (0, 0, 0)), (0, 5, 20 * US, (0, 0, 0)), (0, 5, MS, (9, 9, 0))]
    assert not np.any(refused(check, rows))
    assert check.refused == 0


def test_a_counter_that_stands_still_while_the_cpu_works_is_refused() -> None:
    check = new_check()
    alive, dead, idle = (0, 5, MS, (9, 9, 1)), (0, 5, MS, (0, 9, 1)), (0, 0, MS, (0, 9, 0))
    # Back to its last count, so also what was too short to tell.
    short = (0, 5, 20 * US, (0, 9, 1))
    assert refused(check, [alive, short, idle, dead, idle])[0] == [False, True, True, True, True]
    assert check.reasons()[0] == (HAS_STOPPED, None, None)
    # On from there, until it counts; and another CPU is another counter.
    assert refused(check, [short, (1, 5, 20 * US, (0, 9, 1)), alive, short])[0] == [True, False, False, False]
    assert check.reasons()[0] == (None, None, None)
    assert (check.stops(0), check.stops(1), check.refused) == ([0], [], 5)


def test_one_that_never_counted_has_no_values_at_all() -> None:
    never = plan(has_counted=(True, True, False))
    check = new_check(dict.fromkeys(range(4), never))
    assert refused(check, [(0, 5, 1 * US, (9, 9, 0)), (1, 0, MS, (0, 0, 0))])[2] == [True, True]
    assert check.reasons()[3] == (None, None, HAS_NOT_COUNTED)
    # A single count shows that it can, on all CPUs of this kind.
    assert refused(check, [(0, 5, MS, (9, 9, 0)), (1, 5, MS, (9, 9, 1)), (2, 5, MS, (9, 9, 0))])[2] == [False] * 3
    assert check.reasons()[3] == (None, None, None)
    assert check.stops(2) == []


def test_of_two_kinds_of_cores_one_may_never_count() -> None:
    kinds = [
        CpuPlan(tuple(on_pmu(event, type_) for event in EVENTS), (None,) * 3, True, (True, True, False))
        for type_ in (4, 10)
    ]
    check = new_check({0: kinds[0], 1: kinds[0], 2: kinds[1], 3: kinds[1]})
    rows = [(cpu, 5, MS, (9, 9, int(cpu == 0))) for cpu in range(4)]
    assert refused(check, rows)[2] == [False, False, True, True]


def test_misses_may_stay_away_for_long_but_not_for_good() -> None:
    check = new_check()
    second = [(0, 5, SECOND // 10, (9, 9, 0))] * 10
    assert not np.any(refused(check, [(0, 5, MS, (9, 9, 1))]))
    for _ in range(9):
        assert not np.any(refused(check, second))
    # No time of an idle CPU is counted.
    assert not np.any(refused(check, [(0, 0, SECOND, (0, 0, 0))] * 100))
    assert np.all(refused(check, second)[2])


def test_events_that_take_turns_have_longer_pauses() -> None:
    check = new_check()
    by_turns = {0: (0.1, 0.1, 0.1)}
    pause = [(0, 5, MS, (9, 9, 9)), *[(0, 5, MS, (0, 0, 0))] * 40, (0, 5, MS, (9, 9, 9))]
    assert not np.any(refused(check, pause, by_turns))
    assert np.any(refused(check, pause, {0: ALL}))


def test_what_was_not_read_or_did_not_run_is_no_zero() -> None:
    check = new_check()
    zeros = [(0, 5, MS, (0, 9, 9))] * 5
    assert not np.any(refused(check, zeros, unread=[1] * 5))
    assert not np.any(refused(check, zeros, {0: (0.0, 1.0, 1.0)}))
    assert not np.any(refused(check, zeros, {0: (None, 1.0, 1.0)}))
    assert check.reasons()[0] == (None, None, None)


def test_a_cpu_whose_events_are_opened_anew_begins_anew() -> None:
    plans = {cpu: plan() for cpu in range(4)}
    check = new_check(plans)
    assert np.any(refused(check, [(1, 5, MS, (0, 0, 0))]))
    check.follow(plans | {1: plan()}, {})
    assert check.reasons()[1] == (None, None, None)


def test_more_than_a_processor_can_do() -> None:
    check = new_check(khz={0: 3_000_000})
    at_3_ghz = 3_000_000
    rows = [
        (0, 5, MS, (at_3_ghz, at_3_ghz * 8, 0)), (0, 5, MS, (at_3_ghz * 12 // 10, 9, 0)),
        (0, 5, MS, (at_3_ghz * 13 // 10, 9, 0)), (0, 5, MS, (at_3_ghz, at_3_ghz * 9, 0)),
        # Of a short time the moments of reading differ too much; of CPU 1 no frequency is known, but none has 13 GHz.
        (0, 5, 500, (at_3_ghz, 9, 0)), (1, 5, MS, (at_3_ghz * 3, 9, 0)), (1, 5, MS, (at_3_ghz * 1000, 9, 0)),
        (1, 5, MS, (13_000_000, 9, 0)),
    ]  # fmt: skip
    assert refused(check, rows)[:2] == [
        [False, False, True, True, False, False, True, True],
        [False, False, False, True, False, False, False, False],
    ]
    assert check.refused == 5
    # Events that somebody put in their place have no such bounds.
    other = CounterCheck(parse_events(["cycles=software:cpu-clock"]), 4)
    other.follow({cpu: plan(other._specs) for cpu in range(4)}, {0: 3_000_000})
    assert not np.any(refused(other, rows))
    # Each is bounded without the other, too, and where they take turns each by itself.
    assert refused(other, [(0, 5, MS, (9, at_3_ghz * 8 * 13 // 10, 0))])[1] == [True]
    by_turns = {0: (0.9, 0.9, 0.9)}
    assert refused(new_check(khz={0: 3_000_000}), [(0, 5, MS, (at_3_ghz, at_3_ghz * 9, 0))], by_turns)[0] == [False]
    assert refused(new_check(khz={0: 3_000_000}), [(0, 5, MS, (at_3_ghz * 2, 9, 0))], by_turns)[0] == [True]


def test_counters_that_get_no_turn_are_anothers_until_they_get_one() -> None:
    now = [100.0]
    check = CounterCheck(EVENTS, 4, lambda: now[0])
    check.follow({0: plan(), 1: plan(reasons=("no PMU",) * 3)}, {})
    taken: Shares = {0: (0.0, 0.0, 1.0), 1: (None, None, None)}
    rows = [(0, 5, MS, (0, 0, 9)), (1, 5, MS, (0, 0, 0))]
    for seconds, is_anothers in ((0, False), (0.9, False), (0.2, True), (60, True)):
        now[0] += seconds
        refused(check, rows, taken)
        assert check.reasons() == {0: (HAS_NO_TURN if is_anothers else None,) * 2 + (None,), 1: (None,) * 3}
    # A look that comes late says nothing by itself.
    refused(check, [(0, 5, MS, (9, 9, 9))], {0: ALL})
    now[0] += 60
    assert check.reasons()[0] == (None,) * 3
    refused(check, [(0, 5, MS, (9, 9, 9))], {0: ALL})
    assert check.reasons()[0] == (None,) * 3
    assert (check.stops(0), check.stops(1), check.stops(2)) == ([0], [0], [])
    # Of a CPU whose events are opened anew it begins anew.
    check.follow({0: plan()}, {})
    refused(check, rows, taken)
    assert check.reasons()[0] == (None,) * 3


runs_strategy = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 1, 7]), st.sampled_from([0, 40 * US, 90 * US]), st.booleans()),
    max_size=30,
)
LIMIT_NS = 100 * US


@given(runs_strategy, st.integers(0, 30))
def test_zeros_against_a_loop_and_in_any_batches(rows: list[tuple[int, int, int, bool]], cut: int) -> None:
    """A zero is silence if the zeros around it, from the last count to the next, last too long in all."""

    def judged(check: CounterCheck, part: list[tuple[int, int, int, bool]]) -> list[bool]:
        return refused(check, [(cpu, int(busy), time_ns, (value, 1, 1)) for cpu, value, time_ns, busy in part])[0]

    def by_loop(part: list[tuple[int, int, int, bool]], zero_ns: list[int]) -> list[bool]:
        silent = [False] * len(part)
        for cpu in range(4):
            waiting: list[int] = []
            for number, (of_cpu, value, time_ns, busy) in enumerate(part):
                if of_cpu != cpu:
                    continue
                if value:
                    waiting, zero_ns[cpu] = [], 0
                    continue
                waiting.append(number)
                zero_ns[cpu] += time_ns if busy else 0
                if zero_ns[cpu] >= LIMIT_NS:
                    for one in waiting:
                        silent[one] = True
        return silent

    assert judged(new_check(), rows) == by_loop(rows, [0] * 4)
    in_two, zero_ns = new_check(), [0] * 4
    for part in (rows[:cut], rows[cut:]):
        assert judged(in_two, part) == by_loop(part, zero_ns)


# --- frames of records --------------------------------------------------------------------------------------------


def frame_of(rows: Sequence[Row], shares: Shares, **options: Any) -> pl.DataFrame:
    options = {"counted": [True] * 3} | options
    return records_frame(block_of(rows), len(rows), coverage=shares, **options)


def test_a_cpu_that_counts_nothing_has_nulls_and_no_coverage() -> None:
    rows = [(0, 5, MS, (100, 50, 7)), (1, 5, MS, (100, 50, 7)), (2, 5, MS, (100, 50, 7)), (3, 5, MS, (100, 50, 7))]
    shares = {0: ALL, 1: (None, None, None), 2: (0.0, 0.0, 0.0)}
    frame = frame_of(rows, shares)
    assert frame["coverage"].to_list() == [1, 0, 0, 0]
    assert frame["cycles"].to_list() == [100, None, None, None]
    assert frame_of(rows, shares, counted=[False] * 3)["coverage"].to_list() == [None] * 4


def test_a_counter_that_a_cpu_lacks_takes_nothing_from_the_others() -> None:
    rows = [(0, 5, MS, (100, 50, 7))]
    frame = frame_of(rows, {0: (0.5, 0.25, None)})
    # Both are brought to the smaller share, which then scales them up.
    assert frame.select("cycles", "instructions", "llc_misses", "coverage").rows() == [(50, 50, None, 0.25)]


def test_refused_values_are_null() -> None:
    rows = [(0, 5, MS, (100, 50, 7)), (0, 5, MS, (100, 50, 7))]
    mask = np.array([[True, False], [False, False], [False, True]])
    frame = frame_of(rows, {0: ALL}, refused=mask)
    assert frame.select("cycles", "instructions", "llc_misses").rows() == [(None, 50, 7), (100, 50, None)]


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_sixty_ms_on_two_cpus_of_which_one_counts(share: float) -> None:
    """The sum is of what was counted, scaled up for the turns of that CPU only, and the coverage is of both CPUs."""
    rows = [(cpu, 5, MS, (int(3_000_000 * share), int(1_500_000 * share), 7)) for _tick in range(30) for cpu in (0, 1)]
    block = block_of(rows)
    block.tick[:60] = np.arange(60) // 2
    frame = records_frame(block, 60, counted=[True, True, False], coverage={0: (share, share, None)})
    window = aggregate_windows(
        scale_counters(frame), window_ticks=60, first_tick=0, last_tick=None, llc_by_cpu=llc_lookup({})
    )
    assert window.select("cpu_time_ns", "cycles", "instructions", "llc_misses").rows() == [
        (60 * MS, 90_000_000, 45_000_000, None)
    ]
    assert window.select("cpi_median", "counter_coverage").rows() == [(2.0, share / 2)]


def test_cycles_and_instructions_of_different_cpus_are_no_cpi() -> None:
    rows = [(0, 5, MS, (300, 100, 0)), (1, 5, MS, (300, 100, 0))]
    block = block_of(rows)
    block.tick[:2] = 0
    frame = records_frame(block, 2, counted=[True] * 3, coverage={0: ALL, 1: (1.0, None, 1.0)})
    window = aggregate_windows(
        scale_counters(frame), window_ticks=60, first_tick=0, last_tick=None, llc_by_cpu=llc_lookup({})
    )
    assert window.select("cycles", "instructions", "cpi_median", "counter_coverage").rows() == [(600, 100, 3.0, 0.5)]
