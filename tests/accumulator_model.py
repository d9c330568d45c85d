# SPDX-License-Identifier: Apache-2.0
"""The rules of bpf_programs/cgroup_ticks.c for one CPU, written to be read.

Whole numbers without a limit take the place of the C side's integers, and a dictionary that of its slots. What is
said here is what a record means; that the BPF program says the same, tests/kernel/test_replay.py shows.

Not modelled, as no node gets there: an interval of 2^48 ns (78 hours) without an event on a CPU.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

COUNTERS = 3
IDLE = 0
U16, U32, U64 = 2**16, 2**32, 2**64

# Slots of a CPU for cgroups. Idle has a place of its own, behind them.
SLOTS = 32
_IDLE_PLACE = SLOTS


class Kind(IntEnum):
    """What ended an interval, numbered as the BPF program `replay` takes it."""

    TICK = 0
    SWITCH = 1
    SWITCH_TO_IDLE = 2


class Event(NamedTuple):
    """The end of an interval on one CPU."""

    now_ns: int
    cgroup_id: int
    """Who ran until now; 0 is idle."""
    readings: tuple[int, ...]
    """Of each counter; a negative errno modulo 2^64 where it could not be read."""
    kind: Kind = Kind.TICK
    restart: bool = False
    """The CPU was offline before this event: user space set the flag."""
    task: int = 0
    """Who ran until now; of two tasks of one cgroup they differ."""
    next_task: int = 0
    """Who runs from now on, at a switch."""


class Record(NamedTuple):
    """A tick record with the fields of records.h, in their order."""

    tick: int
    cgroup_id: int
    counters: tuple[int, ...]
    sequence: int
    cpu: int
    unread: int
    time_ns: int
    switches: int
    tick_count: int
    lateness_ns: int


class Row(NamedTuple):
    """What one tick of a record becomes in the columns of a RecordBlock."""

    tick: int
    cpu: int
    cgroup_id: int
    cpu_time_ns: int
    counters: tuple[int, ...]
    unread: int
    context_switches: int
    lateness_ns: int


def rows_of(record: Record) -> Iterator[Row]:
    """The rows of a record: the ticks of a run share the increments evenly, the last ones take the remainder."""
    for index in range(record.tick_count):
        counters = tuple(
            value // record.tick_count + (index >= record.tick_count - value % record.tick_count)
            for value in record.counters
        )
        yield Row(
            tick=record.tick + index,
            cpu=record.cpu,
            cgroup_id=record.cgroup_id,
            cpu_time_ns=record.time_ns,
            counters=counters,
            unread=record.unread,
            context_switches=record.switches if record.tick_count == 1 else 0,
            lateness_ns=record.lateness_ns if index == 0 else 0,
        )


class Piece(NamedTuple):
    """The part of an interval that lies in one tick, or in a run of whole ticks."""

    tick: int
    tick_count: int
    time_ns: int
    """Over all of its ticks together."""


def cut(start_ns: int, end_ns: int, tick_ns: int) -> list[Piece]:
    """An interval cut at the tick boundaries.

    If it crosses any: the rest of the tick it began in, the whole ticks after that, and what lies in the tick it
    ends in, which can be nothing.
    """
    first, last = start_ns // tick_ns, end_ns // tick_ns
    if first == last:
        return [Piece(first, 1, end_ns - start_ns)]
    pieces = [Piece(first, 1, (first + 1) * tick_ns - start_ns)]
    whole = last - first - 1
    if whole:
        pieces.append(Piece(first + 1, whole, whole * tick_ns))
    pieces.append(Piece(last, 1, end_ns - last * tick_ns))
    return pieces


def share(increment: int, part_ns: int, whole_ns: int) -> int:
    """What a part of an interval gets of an increment, rounded down.

    From 2^32 ns on both times count in units of 2^16 ns only, so that the product fits in 64 bits in the kernel.
    """
    if whole_ns >= 2**32:
        part_ns, whole_ns = part_ns >> 16, whole_ns >> 16
    return increment * part_ns // whole_ns if whole_ns else 0


def divide(increment: int, pieces: Sequence[Piece]) -> list[int]:
    """An increment divided among the pieces of its interval; each takes from what the ones before it left."""
    portions = []
    for position, piece in enumerate(pieces[:-1]):
        portion = share(increment, piece.time_ns, sum(later.time_ns for later in pieces[position:]))
        portions.append(portion)
        increment -= portion
    return [*portions, increment]


def place_of(cgroup_id: int) -> int:
    """Where a cgroup is summed. Two that share a slot drive each other out; idle shares its place with none."""
    if cgroup_id == IDLE:
        return _IDLE_PLACE
    return (cgroup_id ^ cgroup_id >> 5 ^ cgroup_id >> 32) % SLOTS


def is_error(reading: int) -> bool:
    """A failed bpf_perf_event_read returns a negative errno."""
    return reading > U64 - 4096


class Sum:
    """What one cgroup did in the current tick since its last record."""

    def __init__(self, cgroup_id: int) -> None:
        self.cgroup_id = cgroup_id
        self.counters = [0] * COUNTERS
        self.unread: set[int] = set()
        self.time_ns = 0
        self.switches = 0

    def add(self, time_ns: int, increments: Sequence[int], unread: set[int]) -> None:
        """Adds a piece of an interval."""
        self.time_ns += time_ns
        self.counters = [value + increment for value, increment in zip(self.counters, increments, strict=True)]
        self.unread |= unread


class CpuModel:
    """The accumulators of one CPU. `sent` has every record that was numbered, in order."""

    def __init__(self, cpu: int, tick_ns: int) -> None:
        self.cpu = cpu
        self.tick_ns = tick_ns
        self.sent: list[Record] = []
        self.held: dict[int, Sum] = {}
        self.last_ns: int | None = None
        # The reading a counter's next increment counts from; None: there is none.
        self.last_readings: list[int | None] = [None] * COUNTERS
        # Nothing is sent before the first tick boundary, so that no tick is sent that was seen in part.
        self.settled = False
        # Who runs, as far as the events told; 0: not known.
        self.task = 0
        self.switches = self.unseen = self.unseen_ns = 0

    @property
    def tick(self) -> int:
        """The current tick."""
        assert self.last_ns is not None
        return self.last_ns // self.tick_ns

    def happen(self, event: Event) -> None:
        """Accounts the interval that an event ends."""
        self._see_task(event)
        if self.last_ns is None or event.restart:
            self._begin(event)
            return
        start_ns, self.last_ns = self.last_ns, max(self.last_ns, event.now_ns)  # The clock may step back a little.
        increments, unread = self._read(event.readings)
        pieces = cut(start_ns, self.last_ns, self.tick_ns)
        portions = list(zip(*(divide(increment, pieces) for increment in increments), strict=True))

        self._sum_of(event.cgroup_id, pieces[0].tick).add(pieces[0].time_ns, portions[0], unread)
        if len(pieces) > 1:
            self._end_tick(pieces[0].tick)
            self.settled = True
            for piece, portion in zip(pieces[1:-1], portions[1:-1], strict=True):
                run = Sum(event.cgroup_id)
                run.add(self.tick_ns, portion, unread)
                self._send(run, piece.tick, piece.tick_count, self._lateness(piece.tick))
            self._sum_of(event.cgroup_id, pieces[-1].tick).add(pieces[-1].time_ns, portions[-1], unread)

        if event.kind != Kind.TICK:
            self._sum_of(event.cgroup_id, self.tick).switches += 1
        if event.kind == Kind.SWITCH_TO_IDLE:
            # An idle CPU may not tick for long.
            self._send_cgroups(self.tick, 0)

    def _see_task(self, event: Event) -> None:
        """Another task than the last event left: a switch was not seen, and the interval is not all its own."""
        if self.task not in (0, event.task) and not event.restart:
            self.unseen += 1
            self.unseen_ns += max(0, event.now_ns - (self.last_ns or 0))
        self.task = event.task
        if event.kind != Kind.TICK:
            self.task = event.next_task
            self.switches += 1

    def _begin(self, event: Event) -> None:
        """The first event, or the first after the CPU was offline: nothing is known of the time before."""
        if self.last_ns is not None:
            self._send_all(self.tick, 0)
        self.settled = False
        self.last_ns = event.now_ns
        self.last_readings = [None if is_error(reading) else reading for reading in event.readings]

    def _read(self, readings: Sequence[int]) -> tuple[list[int], set[int]]:
        """Each counter's increment over the interval, and the counters of which it is not known."""
        increments, unread = [], set()
        for index, reading in enumerate(readings):
            last = self.last_readings[index]
            self.last_readings[index] = None if is_error(reading) else reading
            increment = 0
            # A counter that wrapped at 2^64 went on; one that is behind its last reading was opened anew.
            if is_error(reading) or last is None or (reading - last) % U64 >= 2**63:
                unread.add(index)
            else:
                increment = (reading - last) % U64
            increments.append(increment)
        return increments, unread

    def _sum_of(self, cgroup_id: int, tick: int) -> Sum:
        """Where a cgroup is summed in the current tick; another that holds the place is sent to make room."""
        place = place_of(cgroup_id)
        held = self.held.get(place)
        if held is None or held.cgroup_id != cgroup_id:
            if held is not None:
                self._send(held, tick, 1, 0)
            self.held[place] = Sum(cgroup_id)
        return self.held[place]

    def _lateness(self, tick: int) -> int:
        """How long ago a tick ended."""
        assert self.last_ns is not None
        return self.last_ns - (tick + 1) * self.tick_ns

    def _end_tick(self, tick: int) -> None:
        self._send_all(tick, self._lateness(tick))

    def _send_all(self, tick: int, lateness_ns: int) -> None:
        self._send_cgroups(tick, lateness_ns)
        idle = self.held.get(_IDLE_PLACE)
        if idle is not None and (idle.time_ns or idle.switches):
            self._send(self.held.pop(_IDLE_PLACE), tick, 1, lateness_ns)

    def _send_cgroups(self, tick: int, lateness_ns: int) -> None:
        for place in sorted(self.held.keys() - {_IDLE_PLACE}):
            self._send(self.held.pop(place), tick, 1, lateness_ns)

    def _send(self, what: Sum, tick: int, tick_count: int, lateness_ns: int) -> None:
        if not self.settled:
            return
        self.sent.append(
            Record(
                tick=tick,
                cgroup_id=what.cgroup_id,
                counters=tuple(value % U64 for value in what.counters),
                sequence=len(self.sent) % U32,
                cpu=self.cpu,
                unread=sum(1 << index for index in what.unread),
                time_ns=what.time_ns,
                switches=what.switches,
                tick_count=tick_count,
                lateness_ns=min(lateness_ns, U32 - 1),
            )
        )
