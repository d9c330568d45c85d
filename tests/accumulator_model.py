# SPDX-License-Identifier: Apache-2.0
"""The rules of bpf_programs/cgroup_ticks.c, written to be read.

Whole numbers without a limit take the place of the C side's integers, and dictionaries that of its slots and of its
table of waiting tasks. What is said here is what a record means; that the BPF program says the same,
tests/kernel/test_replay.py shows.

Not modelled: an interval of 2^48 ns (78 hours) without an event on a CPU, which no node has, and what is read of the
kernel's memory where a switch was not seen, for which there must be real tasks.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

COUNTERS = 3
IDLE = 0
U16, U32, U64 = 2**16, 2**32, 2**64

# Slots of a CPU for cgroups. Idle has a place of its own, behind them.
SLOTS = 32
_IDLE_PLACE = SLOTS
# Intervals of a CPU that are remembered.
HELD = 8
LONGEST_WAIT_TICKS = 2**15
TIME_RANGE = 2**43
# Of the table of waiting tasks.
WAIT_BITS = 16
# In place of a sum that is not known.
OPEN = U64 - 1

IDLE_TASK = 0xFFFF_8880_0000_0040
"""Address of each CPU's idle task."""


class Kind(IntEnum):
    """What happens, numbered as the BPF program `replay` takes it."""

    TICK = 0
    SWITCH = 1
    WAKE = 2
    WAKE_NEW = 3


class Ready(IntEnum):
    """Whether a task that is switched out can go on at once, numbered as `enum readiness`."""

    ASLEEP = 0
    READY = 1
    UNTOLD = 2


class Event(NamedTuple):
    """The end of an interval on one CPU; or a wake-up, of which only the moment and the task count."""

    now_ns: int
    cgroup_id: int
    """Who ran until now; 0 is idle."""
    readings: tuple[int, ...] = (0,) * COUNTERS
    """Of each counter; a negative errno modulo 2^64 where it could not be read."""
    kind: Kind = Kind.TICK
    restart: bool = False
    """The CPU was offline before this event: user space set the flag."""
    task: int = IDLE_TASK
    """The address of the task that ran until now, or that is woken."""
    exec_ns: int = 0
    """Its time by the scheduler, which lacks what was stolen."""
    next_task: int = IDLE_TASK
    """Who runs from now on, at a switch."""
    next_exec_ns: int = 0
    ready: Ready = Ready.ASLEEP

    @property
    def is_wake_up(self) -> bool:
        """Then it ends no interval."""
        return self.kind in (Kind.WAKE, Kind.WAKE_NEW)


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
    wait_ns: int = 0
    wait_self_ns: int = 0
    waits: int = 0
    involuntary: int = 0
    stolen_ns: int = 0


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
    wait_ns: int = 0
    wait_self_ns: int = 0
    waits: int = 0
    involuntary: int = 0
    stolen_ns: int = 0


def rows_of(record: Record, tick_ns: int) -> Iterator[Row]:
    """The rows of a record: the ticks of a run share the increments evenly, the last ones take the remainder.

    Of the part of a wait that lies in earlier ticks, each tick has what lies in it.
    """
    if record.tick_count == 0:
        begin_ns, end_ns, own_ns = record.counters
        for index, piece in enumerate(pieces_of_wait(begin_ns, end_ns, tick_ns)):
            yield Row(
                tick=piece.tick, cpu=record.cpu, cgroup_id=record.cgroup_id, cpu_time_ns=0, counters=(0,) * COUNTERS,
                unread=0b111, context_switches=0, lateness_ns=0, wait_ns=piece.time_ns,
                wait_self_ns=OPEN if index else own_ns,
            )  # fmt: skip
        return
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
            **({name: getattr(record, name) for name in _WAITED} if record.tick_count == 1 else {}),
        )


_WAITED = ("wait_ns", "wait_self_ns", "waits", "involuntary", "stolen_ns")


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


def pieces_of_wait(begin_ns: int, end_ns: int, tick_ns: int) -> Iterator[Piece]:
    """A wait cut at the tick boundaries, a piece a tick."""
    for tick in range(begin_ns // tick_ns, (end_ns - 1) // tick_ns + 1):
        yield Piece(tick, 1, min(end_ns, (tick + 1) * tick_ns) - max(begin_ns, tick * tick_ns))


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
        self.wait_ns = self.wait_self_ns = self.waits = self.involuntary = self.stolen_ns = 0

    def add(self, time_ns: int, increments: Sequence[int], unread: set[int]) -> None:
        """Adds a piece of an interval."""
        self.time_ns += time_ns
        self.counters = [value + increment for value, increment in zip(self.counters, increments, strict=True)]
        self.unread |= unread


class Wait(NamedTuple):
    """Since when a task has been ready to run and not running."""

    task: int
    since_ns: int
    is_maybe: bool
    """It was switched out, and the kernel does not say whether it was still ready: a wake-up will tell."""


class Waiting:
    """The waits of a node's tasks. Two tasks that share a place in the kernel's table drive each other out."""

    def __init__(self, bits: int = WAIT_BITS) -> None:
        self._bits = bits
        self._places: dict[int, Wait] = {}

    def begin(self, task: int, now_ns: int, *, is_maybe: bool = False) -> None:
        """A task is ready from now on, or may be."""
        self._places[self._place_of(task)] = Wait(task, now_ns, is_maybe)

    def wake(self, task: int, now_ns: int, *, is_new: bool) -> None:
        """A task that was preempted on its way to sleep waits already; a new one may lie where one has died."""
        known = self._places.get(self._place_of(task))
        if is_new or known is None or known.task != task or known.is_maybe:
            self.begin(task, now_ns)

    def end(self, task: int) -> Wait | None:
        """A task waits no longer; None if it was not known to."""
        place = self._place_of(task)
        if place not in self._places or self._places[place].task != task:
            return None
        return self._places.pop(place)

    def _place_of(self, task: int) -> int:
        bits = task >> 6
        return (bits ^ bits >> self._bits) % 2**self._bits


class CpuModel:
    """The accumulators of one CPU. `sent` has every record that was numbered, in order.

    `waiting` is shared by the CPUs of a node. `tells_stolen`: the kernel's sum of a task's time can be read.
    """

    def __init__(self, cpu: int, tick_ns: int, waiting: Waiting | None = None, *, tells_stolen: bool = True) -> None:
        self.cpu = cpu
        self.tick_ns = tick_ns
        self.waiting = waiting or Waiting()
        self.tells_stolen = tells_stolen
        self.sent: list[Record] = []
        self.held: dict[int, Sum] = {}
        self.last_ns: int | None = None
        # The reading a counter's next increment counts from; None: there is none.
        self.last_readings: list[int | None] = [None] * COUNTERS
        # Nothing is sent before the first tick boundary, so that no tick is sent that was seen in part.
        self.settled = False
        # Who runs, as far as the events told; 0: not known.
        self.task = 0
        self.switches = self.unseen = self.unseen_ns = self.waits_unknown = self.waits_cut_ns = 0
        # Of the running task: its wait until it was switched in, not charged yet.
        self.waited: Wait | None = None
        # (until when, which cgroup) held the CPU, the latest last.
        self.history: list[tuple[int, int]] = [(0, IDLE)]
        self.begin_stint(None)

    @property
    def tick(self) -> int:
        """The current tick."""
        assert self.last_ns is not None
        return self.last_ns // self.tick_ns

    def happen(self, event: Event) -> None:
        """Accounts the interval that an event ends."""
        if event.is_wake_up:
            self.waiting.wake(event.task, event.now_ns, is_new=event.kind == Kind.WAKE_NEW)
            return
        self._see_task(event)
        is_begun = self.last_ns is not None and not event.restart
        if is_begun:
            self._account(event)
        else:
            self._begin(event)
        if event.kind == Kind.SWITCH:
            self._switch(event, is_begun=is_begun)

    def begin_stint(self, exec_ns: int | None) -> None:
        """A task's time on this CPU begins. None: what the scheduler made of it is not known."""
        self.exec_ns = self.exec_seen_ns = exec_ns
        self.stint_ns = self.stolen_told_ns = 0

    def _switch(self, event: Event, *, is_begun: bool) -> None:
        self.switches += 1
        if is_begun:
            self._sum_of(event.cgroup_id, self.tick).switches += 1
        if event.task != IDLE_TASK:
            if event.ready == Ready.ASLEEP:
                self.waiting.end(event.task)
            else:
                self.waiting.begin(event.task, event.now_ns, is_maybe=event.ready == Ready.UNTOLD)
            if event.ready == Ready.READY and is_begun:
                self._sum_of(event.cgroup_id, self.tick).involuntary += 1
        if event.next_task != IDLE_TASK:
            self._end_wait(event.next_task, event.now_ns, self.last_ns or 0)
        self.task = event.next_task
        self.begin_stint(event.next_exec_ns)
        if event.next_task == IDLE_TASK and is_begun:
            # An idle CPU may not tick for long.
            self._send_cgroups(self.tick, 0)

    def _end_wait(self, task: int, now_ns: int, found_ns: int) -> None:
        """A task runs since the CPU's last event, as is found at `found_ns`; `now_ns` is the event's own moment."""
        wait = self.waiting.end(task)
        if wait is None:
            self.waits_unknown += 1
            return
        # Only so many bits are kept of the moment; and the clocks of two CPUs may be some ns apart. A wait that began
        # before the clock, or after the CPU's last event, is none.
        waited_ns = (now_ns - wait.since_ns) % TIME_RANGE
        since_ns = found_ns - (0 if waited_ns >= TIME_RANGE - 2**30 else waited_ns)
        self.waited = wait._replace(since_ns=min(since_ns % U64, self.last_ns or 0))

    def _see_task(self, event: Event) -> None:
        """Another task than the last event left: a switch was not seen, and the interval is not all its own."""
        if event.task == self.task and not event.restart:
            return
        is_known = bool(self.task) and not event.restart
        if is_known:
            self.unseen += 1
            self.unseen_ns += max(0, event.now_ns - (self.last_ns or 0))
            self.waits_unknown += self.waited is not None
            self.waited = None
            self.waiting.end(self.task)
            if event.task != IDLE_TASK:
                self._end_wait(event.task, event.now_ns, event.now_ns)
        self.task = event.task
        self.begin_stint(None if is_known else event.exec_ns)

    def _account(self, event: Event) -> None:
        assert self.last_ns is not None
        start_ns, self.last_ns = self.last_ns, max(self.last_ns, event.now_ns)  # The clock may step back a little.
        increments, unread = self._read(event.readings)
        pieces = cut(start_ns, self.last_ns, self.tick_ns)
        portions = list(zip(*(divide(increment, pieces) for increment in increments), strict=True))

        first = self._sum_of(event.cgroup_id, pieces[0].tick)
        if self.waited is not None:
            self._charge_wait(first, start_ns, pieces[0].tick * self.tick_ns)
        self._remember(event.cgroup_id)
        self._charge_stolen(first, event, self.last_ns - start_ns)
        first.add(pieces[0].time_ns, portions[0], unread)
        if len(pieces) > 1:
            self._end_tick(pieces[0].tick)
            self.settled = True
            for piece, portion in zip(pieces[1:-1], portions[1:-1], strict=True):
                run = Sum(event.cgroup_id)
                run.add(self.tick_ns, portion, unread)
                self._send(run, piece.tick, piece.tick_count, self._lateness(piece.tick))
            self._sum_of(event.cgroup_id, pieces[-1].tick).add(pieces[-1].time_ns, portions[-1], unread)

    def _charge_wait(self, to: Sum, until_ns: int, tick_begin_ns: int) -> None:
        """The wait of the task that now has shown its cgroup: what lies in this tick is summed, the rest leaves."""
        assert self.waited is not None
        since_ns, is_maybe = self.waited.since_ns, self.waited.is_maybe
        self.waited = None
        to.waits += 1
        to.involuntary += is_maybe
        from_ns = max(since_ns, tick_begin_ns)
        if from_ns < until_ns:
            to.wait_ns += until_ns - from_ns
            to.wait_self_ns += self._held_by(to.cgroup_id, from_ns, until_ns)
        if since_ns < tick_begin_ns:
            cut_ns = max(0, tick_begin_ns - since_ns - LONGEST_WAIT_TICKS * self.tick_ns)
            self.waits_cut_ns += cut_ns
            since_ns += cut_ns
            tick = since_ns // self.tick_ns
            own_ns = self._held_by(to.cgroup_id, since_ns, (tick + 1) * self.tick_ns, unknown=OPEN)
            earlier = Sum(to.cgroup_id)
            earlier.counters = [since_ns, tick_begin_ns, own_ns]
            self._send(earlier, tick, 0, 0)

    def _held_by(self, cgroup_id: int, from_ns: int, until_ns: int, unknown: int | None = None) -> int:
        """For how long a cgroup held the CPU; what is older than what is remembered is as the rest, or `unknown`."""
        remembered = self.history[-HELD:]
        own_ns, oldest_ns = 0, until_ns
        for (begin_ns, _), (end_ns, holder) in pairwise(remembered):
            part_ns = max(0, min(end_ns, until_ns) - max(begin_ns, from_ns))
            oldest_ns = min(oldest_ns, max(begin_ns, from_ns)) if begin_ns < until_ns else oldest_ns
            own_ns += part_ns if holder == cgroup_id else 0
        if oldest_ns <= from_ns:
            return own_ns
        return share(own_ns, oldest_ns - from_ns, until_ns - oldest_ns) + own_ns if unknown is None else unknown

    def _remember(self, cgroup_id: int) -> None:
        assert self.last_ns is not None
        if self.history[-1][1] == cgroup_id:
            self.history.pop()
        self.history.append((self.last_ns, cgroup_id))

    def _charge_stolen(self, to: Sum, event: Event, elapsed_ns: int) -> None:
        """What the scheduler did not count of the task's time: between switches only what is sure."""
        self.stint_ns += elapsed_ns
        seen_ns, self.exec_seen_ns = self.exec_seen_ns, event.exec_ns
        if not self.tells_stolen or event.cgroup_id == IDLE or self.exec_ns is None:
            return
        stolen_ns = self.stint_ns - (event.exec_ns - self.exec_ns) - self.stolen_told_ns
        if event.kind != Kind.SWITCH:
            # The scheduler's own timer may have come at any moment since the last look, or not at all.
            stolen_ns = max(0, stolen_ns - elapsed_ns) if event.exec_ns != seen_ns else 0
        to.stolen_ns += stolen_ns
        self.stolen_told_ns += stolen_ns

    def _begin(self, event: Event) -> None:
        """The first event, or the first after the CPU was offline: nothing is known of the time before."""
        if self.last_ns is not None:
            self._send_all(self.tick, 0)
        self.settled = False
        self.waits_unknown += self.waited is not None
        self.waited = None
        self.last_ns = event.now_ns
        self._remember(U64 - 1)
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
                wait_ns=what.wait_ns,
                wait_self_ns=what.wait_self_ns,
                waits=what.waits,
                involuntary=what.involuntary,
                stolen_ns=what.stolen_ns % U64,
            )
        )
