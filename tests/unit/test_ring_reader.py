# SPDX-License-Identifier: Apache-2.0
"""The ring reader on rings made by hand in plain memory: what the kernel writes, and what it never would.

Each ring lies between pages that cannot be read: a reader that leaves the ring ends the test run.
"""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from accumulator_model import COUNTERS, LONGEST_WAIT_TICKS, OPEN, U16, U32, U64, Record, Row, rows_of
from crafted_rings import BUSY, DISCARDED, ENOUGH, RECORD, SIZE, STEP, TICK_NS, CraftedRing, rings_of
from hypothesis import given
from hypothesis import strategies as st
from reader_rows import take_rows

from tracer.kernel.record_block import RecordBlock
from tracer.kernel.records import TICK_RECORD
from tracer.kernel.rings import RingCounts, Rings, default_ring_bytes


def packed(record: Record) -> bytes:
    return np.array([tuple(record)], TICK_RECORD).tobytes()


def tick_record(
    sequence: int, *, tick: int = 100, tick_count: int = 1, cpu: int = 0, counters: Sequence[int] = (10, 20, 30)
) -> Record:
    """A plain record; each of its fields has a value of its own."""
    record = Record(
        tick=tick, cgroup_id=(7 << 32) + sequence, counters=tuple(counters), sequence=sequence, cpu=cpu, unread=0b101,
        time_ns=1_000 + sequence % 1_000, switches=0, tick_count=tick_count, lateness_ns=77,
    )  # fmt: skip
    if tick_count > 1:
        return record
    return record._replace(switches=3, wait_ns=501, wait_self_ns=201, waits=4, involuntary=2, stolen_ns=88)


def wait_record(sequence: int, begin_ns: int, end_ns: int, own_ns: int = 5_000) -> Record:
    """The part of a wait that lies in earlier ticks."""
    return Record(begin_ns // TICK_NS, 7, (begin_ns, end_ns, own_ns), sequence, 0, 0, 0, 0, 0, 0)


def rows_of_all(records: Sequence[Record], first: int = 0, last: int = U64 - 1) -> list[Row]:
    return [row for record in records for row in rows_of(record, TICK_NS) if first <= row.tick <= last]


def further_and_outside(records: Sequence[Record], first: int, last: int) -> tuple[int, int]:
    """Rows beyond the first of each record, and records without a row."""
    rows = [len(rows_of_all([record], first, last)) for record in records]
    return sum(count - 1 for count in rows if count), rows.count(0)


def test_records_become_rows_and_the_space_is_given_back() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    records = [tick_record(sequence) for sequence in range(3)]
    for record in records:
        ring.put(packed(record))
    assert take_rows(rings, ENOUGH) == rows_of_all(records)
    assert ring.consumed == ring.produced
    assert rings.counts(0) == RingCounts(expected=3, records=3, bytes=3 * STEP, missing=0, malformed=0)
    assert take_rows(rings, ENOUGH) == []
    assert rings.counts(0).records == 3


def test_every_value_a_field_can_hold_arrives() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    largest = Record(
        U64 - 1, U64 - 2, (U64 - 3, U64 - 4, U64 - 5), 0, 0, U16 - 1, U32 - 2, U32 - 3, 1, U32 - 4, U64 - 6, U64 - 7,
        U32 - 5, U32 - 6, U64 - 8,
    )  # fmt: skip
    ring.put(packed(largest))
    assert take_rows(rings, ENOUGH) == rows_of_all([largest])


@pytest.mark.parametrize("start", [SIZE - 8, SIZE - 16, SIZE - STEP + 8, 5 * SIZE - 40, 2**40 * SIZE - 24])
def test_a_record_that_wraps_is_read_across_the_end(start: int) -> None:
    ring = CraftedRing(start=start)
    record = tick_record(0)
    ring.put(packed(record))
    assert take_rows(rings_of(ring), ENOUGH) == rows_of_all([record])
    assert ring.consumed == start + STEP


def test_a_full_ring_is_emptied_again_and_again() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    sequence = 0
    for _ in range(20):
        records = [tick_record(sequence + index) for index in range(SIZE // STEP)]
        for record in records:
            ring.put(packed(record))
        assert take_rows(rings, ENOUGH) == rows_of_all(records)
        sequence += len(records)
    assert rings.counts(0).missing == 0
    assert rings.take_peaks()[0] == pytest.approx(SIZE // STEP * STEP / SIZE)
    assert rings.take_peaks()[0] == 0


def test_a_busy_record_stops_the_reader_until_it_is_submitted() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    records = [tick_record(sequence) for sequence in range(3)]
    ring.put(packed(records[0]))
    busy = ring.put(packed(records[1]), BUSY)
    ring.put(packed(records[2]))
    assert take_rows(rings, ENOUGH) == rows_of_all(records[:1])
    assert ring.consumed == busy
    assert take_rows(rings, ENOUGH) == []
    ring.set_header(busy, TICK_RECORD.itemsize)
    assert take_rows(rings, ENOUGH) == rows_of_all(records[1:])
    assert rings.counts(0) == RingCounts(expected=3, records=3, bytes=3 * STEP, missing=0, malformed=0)


def test_a_discarded_record_is_passed_over() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    records = [tick_record(0), tick_record(1)]
    ring.put(packed(records[0]))
    ring.put(packed(tick_record(500)), DISCARDED)
    ring.put(b"x" * 13, DISCARDED)
    ring.put(packed(records[1]))
    assert take_rows(rings, ENOUGH) == rows_of_all(records)
    assert rings.counts(0) == RingCounts(expected=2, records=2, bytes=3 * STEP + 24, missing=0, malformed=0)


def test_a_busy_record_that_is_then_discarded_is_passed_over() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    busy = ring.put(packed(tick_record(500)), BUSY)
    ring.put(packed(tick_record(0)))
    assert take_rows(rings, ENOUGH) == []
    ring.set_header(busy, TICK_RECORD.itemsize | DISCARDED)
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(0)])


@pytest.mark.parametrize("length", [0, 1, 7, 8, 64, RECORD - 1, RECORD + 1, RECORD + 8, 3 * RECORD])
def test_a_record_of_another_length_is_skipped_and_counted(length: int) -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    # Long enough, it begins like a good one.
    ring.put((packed(tick_record(500)) * 4)[:length])
    ring.put(packed(tick_record(0)))
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(0)])
    assert rings.counts(0).malformed == 1
    assert ring.consumed == ring.produced


@pytest.mark.parametrize(
    "length",
    [STEP + 1, SIZE, 2 * SIZE, DISCARDED // 2 + TICK_RECORD.itemsize, DISCARDED - 8, DISCARDED - 7, DISCARDED - 1],
)
@pytest.mark.parametrize("flags", [0, DISCARDED])
def test_a_length_beyond_the_producer_gives_up_what_the_ring_holds(length: int, flags: int) -> None:
    ring = CraftedRing(start=SIZE - STEP)
    rings = rings_of(ring)
    ring.put(packed(tick_record(0)))
    ring.put(packed(tick_record(1)), flags, length)
    ring.put(b"")
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(0)])
    assert ring.consumed == ring.produced
    assert rings.counts(0).malformed == 1
    # What was given up shows as missing as soon as the next record comes.
    ring.put(packed(tick_record(2)))
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(2)])
    assert (rings.counts(0).missing, rings.counts(0).malformed) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        tick_record(0, cpu=1),
        tick_record(0, cpu=U16 - 1),
        wait_record(0, 5 * TICK_NS, 5 * TICK_NS),
        wait_record(0, 5 * TICK_NS + 9, 5 * TICK_NS + 3),
        wait_record(0, 5 * TICK_NS, 4 * TICK_NS),
        wait_record(0, 5 * TICK_NS + 9, (5 + LONGEST_WAIT_TICKS + 1) * TICK_NS + 1),
        wait_record(0, 0, U64 - 1),
    ],
    ids=repr,
)
def test_a_record_that_contradicts_itself_is_skipped_and_counted(wrong: Record) -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    ring.put(packed(wrong))
    ring.put(packed(tick_record(1)))
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(1)])
    assert rings.counts(0) == RingCounts(expected=2, records=1, bytes=2 * STEP, missing=1, malformed=1)


@pytest.mark.parametrize("fill", [SIZE + 8, 2**40, U64 - SIZE, U64 - 8])
def test_positions_no_ring_can_have_give_up_what_it_holds(fill: int) -> None:
    ring = CraftedRing(start=10 * SIZE)
    rings = rings_of(ring)
    for _ in range(SIZE // STEP):
        ring.put(packed(tick_record(0)))
    ring.produced = (ring.consumed + fill) % U64
    assert take_rows(rings, ENOUGH) == []
    assert ring.consumed == ring.produced
    assert rings.counts(0).malformed == 1
    assert rings.counts(0).records == 0


def test_cpus_without_a_ring_are_passed_over() -> None:
    ring = CraftedRing()
    rings = Rings(4, SIZE, TICK_NS)
    rings.add_mapping(2, ring.consumer_address, ring.producer_address, ring.data_address)
    ring.put(packed(tick_record(0, cpu=2)))
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(0, cpu=2)])
    assert rings.counts(0).records == 0
    assert rings.counts(2).records == 1


def test_each_cpu_has_its_own_sequence_and_its_own_faults() -> None:
    crafted = [CraftedRing(), CraftedRing(), CraftedRing()]
    rings = rings_of(*crafted)
    crafted[0].put(packed(tick_record(0)))
    crafted[0].put(packed(tick_record(4)))
    crafted[1].put(packed(tick_record(0, cpu=1)), length=SIZE)
    crafted[2].put(packed(tick_record(0, cpu=2)))
    crafted[2].put(packed(tick_record(1, cpu=2)))
    assert [row.cpu for row in take_rows(rings, ENOUGH)] == [0, 0, 2, 2]
    assert [(rings.counts(cpu).missing, rings.counts(cpu).malformed) for cpu in range(3)] == [(3, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("sequences", "missing"),
    [
        ([0, 1, 2], 0),
        ([3], 3),
        ([0, 2], 1),
        ([0, 5, 6, 10], 7),
        ([U32 - 1, 0, 1], U32 - 1),
        ([U32 - 3, 2], U32 - 3 + 4),
    ],
)
def test_gaps_in_the_sequence_are_missing_records(sequences: list[int], missing: int) -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    for sequence in sequences:
        ring.put(packed(tick_record(sequence)))
    take_rows(rings, ENOUGH)
    assert rings.counts(0).missing == missing
    assert rings.counts(0).expected == (sequences[-1] + 1) % U32


def test_a_run_of_ticks_becomes_a_row_a_tick_and_its_counters_add_up() -> None:
    ring = CraftedRing()
    run = tick_record(0, tick_count=7, counters=(6, 7 * 10**18 + 3, U64 - 1))
    ring.put(packed(run))
    rows = take_rows(rings_of(ring), ENOUGH)
    assert rows == rows_of_all([run])
    assert [row.tick for row in rows] == list(range(100, 107))
    for index in range(COUNTERS):
        assert sum(row.counters[index] for row in rows) == run.counters[index]


def test_a_run_that_does_not_fit_goes_on_at_the_next_drain() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    records = [tick_record(0), tick_record(1, tick=101, tick_count=10, counters=(23, 5, 0)), tick_record(2, tick=111)]
    for record in records:
        ring.put(packed(record))
    rows = take_rows(rings, 4)
    assert rows == rows_of_all(records)[:4]
    assert ring.consumed == STEP
    assert rings.counts(0).records == 1
    while taken := take_rows(rings, 4):
        rows += taken
    assert rows == rows_of_all(records)
    assert rings.counts(0) == RingCounts(expected=3, records=3, bytes=3 * STEP, missing=0, malformed=0, further_ticks=9)


def test_a_run_waits_on_each_cpu_for_itself() -> None:
    crafted = [CraftedRing(), CraftedRing()]
    rings = rings_of(*crafted)
    records = [tick_record(0, cpu=cpu, tick_count=5, counters=(9, 9, 9)) for cpu in range(2)]
    for ring, record in zip(crafted, records, strict=True):
        ring.put(packed(record))
    assert take_rows(rings, 7) == rows_of_all(records)[:7]
    assert take_rows(rings, 7) == rows_of_all(records)[7:]


def test_a_wait_becomes_a_row_a_tick_that_add_up_to_it() -> None:
    ring = CraftedRing()
    waits = [
        wait_record(0, 3 * TICK_NS + 250_000, 6 * TICK_NS),
        wait_record(1, 9 * TICK_NS, 10 * TICK_NS),
        wait_record(2, 20 * TICK_NS + 1, (20 + LONGEST_WAIT_TICKS) * TICK_NS),
    ]
    for record in waits:
        ring.put(packed(record))
    rows = take_rows(rings_of(ring), 2 * LONGEST_WAIT_TICKS)
    assert rows == rows_of_all(waits)
    for record in waits:
        begin_ns, end_ns, own_ns = record.counters
        of_record = [row for row in rows if begin_ns // TICK_NS <= row.tick < end_ns // TICK_NS]
        assert sum(row.wait_ns for row in of_record) == end_ns - begin_ns
        # Only of the tick in which it began is it known what was its own cgroup's.
        assert [row.wait_self_ns for row in of_record] == [own_ns, *[OPEN] * (len(of_record) - 1)]


def test_a_full_block_takes_nothing_and_loses_nothing() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    ring.put(packed(tick_record(0)))
    block = RecordBlock(4)
    assert rings.follow(block, 4, interval_ns=1, phase_ns=0, deadline_ns=0) == 4
    assert ring.consumed == 0
    assert take_rows(rings, ENOUGH) == rows_of_all([tick_record(0)])


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, U64 - 1), (103, U64 - 1), (0, 103), (102, 104), (100, 100), (109, 109), (110, 200), (50, 99), (105, 104)],
)
def test_only_the_part_of_a_run_within_the_bounds_gives_rows(first: int, last: int) -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    rings.bound(first_tick=first, last_tick=last)
    records = [tick_record(0, tick_count=10, counters=(37, 1, 0)), tick_record(1, tick=110)]
    for record in records:
        ring.put(packed(record))
    assert take_rows(rings, ENOUGH) == rows_of_all(records, first, last)
    # What is out of bounds has arrived all the same.
    assert rings.counts(0) == RingCounts(2, 2, 2 * STEP, 0, 0, *further_and_outside(records, first, last))


def test_the_end_may_be_set_in_the_middle_of_a_run() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    run = tick_record(0, tick_count=10)
    ring.put(packed(run))
    rows = take_rows(rings, 4)
    rings.bound(last_tick=102)
    assert rows + take_rows(rings, 4) == rows_of_all([run])[:4]
    assert (rings.counts(0).further_ticks, rings.counts(0).outside) == (3, 0)
    assert rings.counts(0).records == 1
    assert ring.consumed == ring.produced


def test_the_longest_run_fills_block_after_block() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    ring.put(packed(tick_record(0, tick_count=U32 - 1, counters=(1, 0, 0))))
    ticks = [row.tick for _ in range(3) for row in take_rows(rings, 4)]
    assert ticks == list(range(100, 112))
    assert rings.counts(0).records == 0


def test_follow_drains_until_it_is_interrupted() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    block = RecordBlock(ENOUGH)
    rows: list[int] = []
    reader = threading.Thread(
        target=lambda: rows.append(rings.follow(block, 0, interval_ns=1_000_000, phase_ns=0, deadline_ns=2**62))
    )
    reader.start()
    for sequence in range(SIZE // STEP):
        ring.put(packed(tick_record(sequence)))
    while ring.consumed < ring.produced:
        reader.join(0.001)
    rings.interrupt()
    reader.join()
    assert rows == [SIZE // STEP]
    assert rings.last_drain_ns > 0


def test_follow_returns_when_the_block_is_nearly_full() -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    for sequence in range(12):
        ring.put(packed(tick_record(sequence)))
    assert rings.follow(RecordBlock(16), 0, interval_ns=10**9, phase_ns=0, deadline_ns=2**62) == 12


def test_the_rings_of_all_cpus_stay_below_128_mib() -> None:
    assert default_ring_bytes(1) == default_ring_bytes(128) == 1 << 20
    assert default_ring_bytes(129) == default_ring_bytes(256) == 1 << 19
    assert default_ring_bytes(8192) == 1 << 16
    assert default_ring_bytes(64, total_bytes=40 << 20) == 1 << 19


def _any_waits(draw: st.DrawFn) -> dict[str, int]:
    largest = {"wait_ns": U64, "wait_self_ns": U64, "waits": U32, "involuntary": U32, "stolen_ns": U64}
    return {name: draw(st.integers(0, end - 1)) for name, end in largest.items()}


@st.composite
def valid_records(draw: st.DrawFn) -> list[Record]:
    """What one CPU could send: any values, numbered in order but for losses."""
    records = []
    sequence = draw(st.sampled_from([0, U32 - 3]))
    for _ in range(draw(st.integers(0, 30))):
        sequence = (sequence + draw(st.sampled_from([0, 0, 0, 1, 5]))) % U32
        tick_count = draw(st.sampled_from([0, 1, 1, 1, 2, 9, 40]))
        if tick_count == 0:
            begin_ns = draw(st.integers(0, 60 * TICK_NS))
            length_ns = draw(st.integers(1, 40 * TICK_NS))
            records.append(wait_record(sequence, begin_ns, begin_ns + length_ns, draw(st.integers(0, U64 - 1))))
            sequence = (sequence + 1) % U32
            continue
        records.append(
            Record(
                tick=draw(st.integers(0, 60)),
                cgroup_id=draw(st.integers(0, U64 - 1)),
                counters=tuple(draw(st.integers(0, U64 - 1)) for _ in range(COUNTERS)),
                sequence=sequence,
                cpu=0,
                unread=draw(st.integers(0, 7)),
                time_ns=draw(st.integers(0, U32 - 1)),
                switches=draw(st.integers(0, U32 - 1)) if tick_count == 1 else 0,
                tick_count=tick_count,
                lateness_ns=draw(st.integers(0, U32 - 1)),
                **(_any_waits(draw) if tick_count == 1 else {}),
            )
        )
        sequence = (sequence + 1) % U32
    return records


@given(
    records=valid_records(),
    start=st.integers(0, 2**50).map(lambda position: 8 * position),
    bounds=st.tuples(st.integers(0, 50), st.integers(20, 100)),
    data=st.data(),
)
def test_records_cut_into_any_drains_give_the_same_rows(
    records: list[Record], start: int, bounds: tuple[int, int], data: st.DataObject
) -> None:
    ring = CraftedRing(start=start)
    rings = rings_of(ring)
    rings.bound(first_tick=bounds[0], last_tick=bounds[1])
    rows = []
    waiting = list(records)
    while waiting or ring.consumed < ring.produced:
        for record in waiting[: data.draw(st.integers(0, 8))]:
            ring.put(packed(record))
            waiting.pop(0)
        rows += take_rows(rings, data.draw(st.integers(1, 50)))
    assert rows == rows_of_all(records, *bounds)
    expected = [0, *((record.sequence + 1) % U32 for record in records)]
    missing = sum((record.sequence - before) % U32 for before, record in zip(expected, records, strict=False))
    ticks = further_and_outside(records, *bounds)
    assert rings.counts(0) == RingCounts(expected[-1], len(records), STEP * len(records), missing, 0, *ticks)


def hostile_headers() -> st.SearchStrategy[int]:
    """Headers that look like a record's, and any other."""
    return st.one_of(
        st.just(TICK_RECORD.itemsize),
        st.integers(0, 2 * SIZE),
        st.sampled_from([BUSY, DISCARDED, BUSY | DISCARDED, DISCARDED - 1, U32 - 1]),
        st.integers(0, U32 - 1),
    )


@given(
    content=st.binary(max_size=512),
    headers=st.lists(st.tuples(st.integers(0, SIZE - 1), hostile_headers()), max_size=12),
    start=st.one_of(st.integers(0, 4 * SIZE), st.integers(0, U64 - 1)),
    fill=st.one_of(
        st.integers(0, SIZE), st.integers(0, SIZE // 8).map(lambda words: 8 * words), st.integers(0, U64 - 1)
    ),
    capacity=st.integers(1, 300),
)
def test_no_bytes_lead_the_reader_astray(
    content: bytes, headers: list[tuple[int, int]], start: int, fill: int, capacity: int
) -> None:
    ring = CraftedRing()
    rings = rings_of(ring)
    ring.write(0, (content * SIZE)[:SIZE] or bytes(SIZE))
    for offset, header in headers:
        ring.set_header(start + offset, header)
    ring.consumed = start
    ring.produced = (start + fill) % U64
    before = ring.content()
    for _ in range(3):
        at = ring.consumed
        assert len(take_rows(rings, capacity)) <= capacity
        assert ring.consumed == ring.produced or (ring.consumed - at) % U64 <= fill
        assert (ring.produced - ring.consumed) % U64 <= fill
    assert np.array_equal(ring.content(), before)
