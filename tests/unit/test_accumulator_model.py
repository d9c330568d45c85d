# SPDX-License-Identifier: Apache-2.0
"""The reference model against the examples written by hand, and against what must hold for any events."""

from collections import defaultdict
from fractions import Fraction

import pytest
from accumulator_events import EXAMPLES, TICK_NS, Example, event_sequences, settled
from accumulator_model import (
    COUNTERS,
    IDLE,
    IDLE_TASK,
    LONGEST_WAIT_TICKS,
    OPEN,
    U64,
    CpuModel,
    Event,
    Kind,
    Record,
    cut,
    divide,
    place_of,
    rows_of,
)
from hypothesis import given
from hypothesis import strategies as st

UNREADABLE = U64 - 22


def run(events: list[Event]) -> CpuModel:
    model = CpuModel(0, TICK_NS)
    for event in events:
        model.happen(event)
    return model


def from_tick_10(events: list[Event]) -> list[Event]:
    """The same events on a CPU that settles with their first readings and has been idle until they begin."""
    before = settled(*events[0].readings)
    shift = before[-1].now_ns + 1_000 - events[0].now_ns
    return [*before, *(event._replace(now_ns=event.now_ns + shift) for event in events)]


def intervals(events: list[Event]) -> list[Event]:
    """The events that end an interval."""
    return [event for event in events if not event.is_wake_up]


def of_time(model: CpuModel) -> list[Record]:
    """The records that are no part of a wait."""
    return [record for record in model.sent if record.tick_count]


def total_time(model: CpuModel) -> int:
    """CPU time in all records and in what is still held."""
    sent = sum(record.time_ns * record.tick_count for record in model.sent)
    return sent + (sum(held.time_ns for held in model.held.values()) if model.settled else 0)


def observed_time(events: list[Event]) -> int:
    """Time from the first tick boundary seen until the last event, and again after each restart."""
    total, first_boundary, last = 0, 0, 0
    for position, event in enumerate(intervals(events)):
        if position == 0 or event.restart:
            total += max(0, last - first_boundary)
            first_boundary, last = (event.now_ns // TICK_NS + 1) * TICK_NS, event.now_ns
        last = max(last, event.now_ns)
    return total + max(0, last - first_boundary)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples(example: Example) -> None:
    assert run(list(example.events)).sent == list(example.records)


@given(event_sequences())
def test_no_time_is_lost_or_made(events: list[Event]) -> None:
    assert total_time(run(events)) == observed_time(events)


@given(event_sequences(restarts=False))
def test_every_tick_that_is_over_sums_to_its_length(events: list[Event]) -> None:
    model = run(events)
    by_tick: dict[int, list[Record]] = defaultdict(list)
    for record in of_time(model):
        by_tick[record.tick].append(record)
    tick = events[0].now_ns // TICK_NS + 1
    while tick < model.tick:
        records = by_tick.pop(tick)
        counts = {record.tick_count for record in records}
        assert len(counts) == 1
        # A run of ticks is one cgroup's alone.
        assert counts == {1} or len(records) == 1
        assert sum(record.time_ns for record in records) == TICK_NS
        tick += counts.pop()
    assert set(by_tick) <= {model.tick}


@given(event_sequences(faults=False, restarts=False))
def test_no_count_is_lost_or_made(events: list[Event]) -> None:
    events = from_tick_10(events)
    model = run(events)
    last = intervals(events)[-1]
    for index in range(COUNTERS):
        sent = sum(record.counters[index] for record in of_time(model))
        held = sum(held.counters[index] for held in model.held.values())
        assert (sent + held) % U64 == (last.readings[index] - events[0].readings[index]) % U64
    assert all(record.unread == 0 for record in model.sent)


@given(event_sequences(restarts=False))
def test_every_switch_is_counted_once(events: list[Event]) -> None:
    events = from_tick_10(events)
    model = run(events)
    counted = sum(record.switches for record in model.sent) + sum(held.switches for held in model.held.values())
    assert counted == sum(event.kind == Kind.SWITCH for event in events)


@given(event_sequences())
def test_time_goes_to_the_one_that_ran(events: list[Event]) -> None:
    cgroups = {event.cgroup_id for event in events}
    model = run(events)
    assert {record.cgroup_id for record in model.sent} <= cgroups
    for place, held in model.held.items():
        assert place == place_of(held.cgroup_id)


@given(event_sequences())
def test_records_are_numbered_without_a_gap(events: list[Event]) -> None:
    assert [record.sequence for record in run(events).sent] == list(range(len(run(events).sent)))


@given(event_sequences(restarts=False), st.integers(0, COUNTERS - 1))
def test_a_counter_that_never_reads_is_marked_everywhere_and_touches_no_other(events: list[Event], index: int) -> None:
    def unreadable(event: Event) -> Event:
        readings = list(event.readings)
        readings[index] = UNREADABLE
        return event._replace(readings=tuple(readings))

    def without(record: Record) -> tuple[object, ...]:
        others = [value for position, value in enumerate(record.counters) if position != index]
        return record._replace(counters=tuple(others), unread=record.unread & ~(1 << index))

    records = of_time(run([unreadable(event) for event in events]))
    assert all(record.counters[index] == 0 for record in records)
    assert all(record.unread >> index & 1 for record in records)
    assert [without(record) for record in records] == [without(record) for record in of_time(run(events))]


@given(event_sequences())
def test_going_idle_leaves_no_cgroup_behind(events: list[Event]) -> None:
    model = run(events)
    model.happen(events[-1]._replace(kind=Kind.SWITCH, next_task=IDLE_TASK, restart=False))
    assert all(held.cgroup_id == IDLE for held in model.held.values())


@given(event_sequences())
def test_idle_never_waits_and_nobody_waits_longer_for_himself_than_at_all(events: list[Event]) -> None:
    for record in run(events).sent:
        assert record.wait_self_ns <= record.wait_ns
        assert record.waits or record.tick_count == 0 or not record.wait_ns
        assert record.involuntary <= record.switches + record.waits
        if record.cgroup_id == IDLE:
            assert record.tick_count
            assert (record.waits, record.involuntary, record.stolen_ns) == (0, 0, 0)
        if record.tick_count == 0:
            begin_ns, end_ns, own_ns = record.counters
            assert record.tick == begin_ns // TICK_NS
            assert 0 < end_ns - begin_ns <= LONGEST_WAIT_TICKS * TICK_NS
            assert end_ns % TICK_NS == 0
            assert own_ns in range(TICK_NS + 1) or own_ns == OPEN


@given(st.integers(0, 2**62), st.integers(0, 2**47), st.integers(0, U64 - 1))
def test_pieces_and_portions_add_up(start_ns: int, elapsed_ns: int, increment: int) -> None:
    pieces = cut(start_ns, start_ns + elapsed_ns, TICK_NS)
    assert sum(piece.time_ns for piece in pieces) == elapsed_ns
    assert [piece.tick for piece in pieces[1:]] == [piece.tick + piece.tick_count for piece in pieces[:-1]]
    portions = divide(increment, pieces)
    assert sum(portions) == increment
    assert all(portion >= 0 for portion in portions)


@given(st.integers(0, 2**62), st.integers(1, 2**32 - 1), st.integers(0, U64 - 1))
def test_portions_are_in_proportion(start_ns: int, elapsed_ns: int, increment: int) -> None:
    pieces = cut(start_ns, start_ns + elapsed_ns, TICK_NS)
    for piece, portion in zip(pieces, divide(increment, pieces), strict=True):
        assert abs(portion - Fraction(increment * piece.time_ns, elapsed_ns)) < 2


@given(
    st.integers(1, 500),
    st.tuples(*[st.one_of(st.integers(0, 1000), st.integers(0, U64 - 1))] * COUNTERS),
)
def test_rows_of_a_run_add_up_to_its_record(tick_count: int, counters: tuple[int, ...]) -> None:
    record = Record(7, 2, counters, 0, 0, 0, TICK_NS, 0, tick_count, 12)
    rows = list(rows_of(record, TICK_NS))
    assert [row.tick for row in rows] == list(range(7, 7 + tick_count))
    for index in range(COUNTERS):
        values = [row.counters[index] for row in rows]
        assert sum(values) == counters[index]
        assert max(values) - min(values) <= 1
        assert values == sorted(values)
