# SPDX-License-Identifier: Apache-2.0
"""The BPF program's rules on the real kernel, record by record against the reference model.

`replay` runs through BPF_PROG_TEST_RUN on events given as arguments; nothing is attached, so that only these events
reach the state.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pytest
from accumulator_events import EXAMPLES, TICK_NS, Example, event_sequences, settled
from accumulator_model import IDLE, IDLE_TASK, U32, WAIT_BITS, CpuModel, Event, Kind, Record, Waiting, rows_of
from hypothesis import given
from hypothesis import strategies as st
from reader_rows import take_rows

from tracer.kernel import bpf
from tracer.kernel.loader import Programs
from tracer.kernel.records import CPU_STATE, TICK_RECORD
from tracer.kernel.rings import Rings
from tracer.kernel.tick_load import TickLoad

pytestmark = pytest.mark.root

RING_BYTES = 1 << 16
RECORD_WITH_HEADER_BYTES = 8 + TICK_RECORD.itemsize


class Ring:
    """A ring in the kernel, read here without the tracer's reader."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = bpf.create_ring(size)
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(self.descriptor, page)
        self._producer = mmap.mmap(self.descriptor, page + 2 * size, prot=mmap.PROT_READ, offset=page)

    def unread(self) -> list[Record]:
        """The records between the consumer's and the producer's position; they stay in the ring."""
        position, end = self._position(self._consumer), self._position(self._producer)
        records = []
        while position < end:
            start = mmap.PAGESIZE + position % self.size
            (length,) = struct.unpack_from("I", self._producer, start)
            assert length == TICK_RECORD.itemsize, "every record is complete and of one length"
            values = np.frombuffer(self._producer, TICK_RECORD, 1, start + 8)[0]
            records.append(Record(*(tuple(value) if np.ndim(value) else value for value in values.tolist())))
            position += RECORD_WITH_HEADER_BYTES
        return records

    def clear(self) -> None:
        """Gives the whole ring back to the producer."""
        self._consumer[:8] = self._producer[:8]

    def show_to(self, rings: Rings, cpu: int) -> None:
        """Lets the tracer's reader drain this ring as the CPU's."""
        consumer, producer = (
            int(np.frombuffer(part, np.uint8).ctypes.data) for part in (self._consumer, self._producer)
        )
        rings.add_mapping(cpu, consumer, producer, producer + mmap.PAGESIZE)

    def close(self) -> None:
        """Gives the ring back to the kernel."""
        os.close(self.descriptor)

    @staticmethod
    def _position(page: mmap.mmap) -> int:
        return int(struct.unpack_from("Q", page, 0)[0])


# What a CPU counts of what it could not see or follow, in the state as in the model.
COUNTED = ("switches", "unseen", "unseen_ns", "waits_unknown", "waits_cut_ns")


class Losses(NamedTuple):
    """What a CPU's state says of records that did not get into a ring."""

    ring_full: int
    no_ring: int


class Replayer:
    """The loaded programs with a ring for each of the first two possible CPUs."""

    def __init__(self, programs: Programs, possible_cpus: int) -> None:
        self.cpus = range(min(2, possible_cpus))
        self.rings = [Ring(RING_BYTES) for _ in self.cpus]
        self._programs = programs
        self._states_map = mmap.mmap(programs["states"], possible_cpus * CPU_STATE.itemsize)
        self.states = np.frombuffer(self._states_map, CPU_STATE)
        self._waiting_map = mmap.mmap(programs["waiting"], 8 << WAIT_BITS)
        self._waiting = np.frombuffer(self._waiting_map, np.uint64)
        self.reset()

    def reset(self) -> None:
        """All CPUs as after loading, all rings empty."""
        self.states[:] = np.zeros(1, CPU_STATE)
        self.states["idle_task"] = IDLE_TASK
        self._waiting[:] = 0
        for cpu, ring in enumerate(self.rings):
            ring.clear()
            self.put_ring(cpu, ring)

    def put_ring(self, cpu: int, ring: Ring | None) -> None:
        """Gives a CPU this ring, or none."""
        if ring is None:
            bpf.clear_descriptor(self._programs["rings"], cpu)
        else:
            bpf.set_descriptor(self._programs["rings"], cpu, ring.descriptor)

    def happen(self, cpu: int, event: Event) -> None:
        """Runs the BPF program on one event."""
        if event.restart:
            self.states["restart"][cpu] = 1
        bpf.run_with_arguments(
            self._programs["replay"], event.now_ns, event.cgroup_id, *event.readings, cpu, int(event.kind),
            event.task, event.exec_ns, event.next_task, event.next_exec_ns, int(event.ready),
        )  # fmt: skip

    def losses(self, cpu: int) -> Losses:
        """Records that the CPU could not send."""
        return Losses(int(self.states["lost_ring_full"][cpu]), int(self.states["lost_no_ring"][cpu]))

    def close(self) -> None:
        """Gives the rings back; the programs are the caller's."""
        for ring in self.rings:
            ring.close()


@pytest.fixture(scope="module")
def loaded() -> Iterator[Replayer]:
    load = TickLoad(tick_ns=TICK_NS, counted=[True] * 3, extra_functions=["replay"])
    with load.result() as programs:
        replayer = Replayer(programs, load.cpus)
        yield replayer
        replayer.close()


@pytest.fixture
def replayer(loaded: Replayer) -> Replayer:
    loaded.reset()
    return loaded


def everything_held(events: Sequence[Event]) -> Event:
    """An event at which a CPU sends all that it still holds."""
    return events[-1]._replace(kind=Kind.TICK, restart=True)


@pytest.mark.core
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples(replayer: Replayer, example: Example) -> None:
    for event in example.events:
        replayer.happen(0, event)
    assert replayer.rings[0].unread() == list(example.records)
    assert replayer.losses(0) == (0, 0)


@given(st.data())
def test_generated_events_on_each_cpu(loaded: Replayer, data: st.DataObject) -> None:
    loaded.reset()
    waiting = Waiting()
    models = [CpuModel(cpu, TICK_NS, waiting) for cpu in loaded.cpus]
    streams = []
    for cpu in loaded.cpus:
        events = data.draw(event_sequences())
        streams.append([(cpu, event) for event in [*events, everything_held(events)]])
    # One event of each CPU in turn: what one does must not show on another.
    longest = max(len(stream) for stream in streams)
    for cpu, event in chain.from_iterable(stream[step : step + 1] for step in range(longest) for stream in streams):
        loaded.happen(cpu, event)
        models[cpu].happen(event)
    for cpu, model in enumerate(models):
        assert loaded.rings[cpu].unread() == model.sent
        assert loaded.losses(cpu) == (0, 0)
        state = loaded.states[cpu]
        for name in COUNTED:
            assert (name, state[name]) == (name, getattr(model, name))


@given(st.data())
def test_the_reader_gives_the_rows_of_the_model(loaded: Replayer, data: st.DataObject) -> None:
    loaded.reset()
    rings = Rings(len(loaded.cpus), RING_BYTES)
    expected = []
    waiting = Waiting()
    for cpu, ring in enumerate(loaded.rings):
        ring.show_to(rings, cpu)
        model = CpuModel(cpu, TICK_NS, waiting)
        events = data.draw(event_sequences(longest_ns=2**24))
        for event in [*events, everything_held(events)]:
            loaded.happen(cpu, event)
            model.happen(event)
        expected += [row for record in model.sent for row in rows_of(record, TICK_NS)]
    assert take_rows(rings, 2 * len(expected) + 1) == expected
    for cpu, ring in enumerate(loaded.rings):
        assert ring.unread() == []
        assert rings.counts(cpu).missing == rings.counts(cpu).malformed == 0


def test_sequence_numbers_wrap(replayer: Replayer) -> None:
    replayer.happen(0, settled()[0])
    replayer.happen(0, settled()[1])
    replayer.states["sequence"][0] = U32 - 1
    for tick in (11, 12, 13):
        replayer.happen(0, Event(tick * TICK_NS, IDLE, (0, 0, 0)))
    assert [record.sequence for record in replayer.rings[0].unread()] == [U32 - 1, 0, 1]


def lose_after_the_first(replayer: Replayer, ring: Ring | None, cpu: int, events: Sequence[Event]) -> CpuModel:
    """Runs the events, the first two with the CPU's own ring and the others with another or none; then it is back."""
    model = CpuModel(cpu, TICK_NS)
    for position, event in enumerate(events):
        if position == 2:
            replayer.put_ring(cpu, ring)
        replayer.happen(cpu, event)
        model.happen(event)
    replayer.put_ring(cpu, replayer.rings[cpu])
    return model


def idle_ticks(count: int) -> list[Event]:
    """A record a tick from the third event on."""
    return [*settled(), *(Event((11 + index) * TICK_NS, IDLE, (0, 0, 0)) for index in range(count))]


def test_records_that_find_the_ring_full_are_counted_and_leave_a_gap(replayer: Replayer) -> None:
    small = Ring(mmap.PAGESIZE)
    try:
        model = lose_after_the_first(replayer, small, 0, idle_ticks(100))
        arrived = small.unread()
    finally:
        small.close()
    assert 0 < len(arrived) <= mmap.PAGESIZE // RECORD_WITH_HEADER_BYTES
    assert arrived == model.sent[: len(arrived)]
    lost = len(model.sent) - len(arrived)
    assert replayer.losses(0) == (lost, 0)
    assert gap_found_by_the_reader(replayer, 0) == len(model.sent)


def test_records_of_a_cpu_without_a_ring_are_counted_and_leave_a_gap(replayer: Replayer) -> None:
    model = lose_after_the_first(replayer, None, 0, idle_ticks(5))
    assert len(model.sent) == 5
    assert replayer.losses(0) == (0, 5)
    assert gap_found_by_the_reader(replayer, 0) == 5


def gap_found_by_the_reader(replayer: Replayer, cpu: int) -> int:
    """What is missing before the CPU's next record, by its sequence number; nothing was read before."""
    replayer.happen(cpu, Event(2**40, IDLE, (0, 0, 0)))
    rings = Rings(cpu + 1, RING_BYTES)
    replayer.rings[cpu].show_to(rings, cpu)
    take_rows(rings, 1)
    return rings.counts(cpu).missing


def test_a_cpu_beyond_the_table_does_nothing(replayer: Replayer) -> None:
    for event in idle_ticks(3):
        replayer.happen(len(replayer.states), event)
    assert not replayer.states["last_ns"].any()
    assert all(ring.unread() == [] for ring in replayer.rings)
