# SPDX-License-Identifier: Apache-2.0
"""Event sequences of one CPU for the accumulator: written by hand, a few for each rule, and generated."""

from collections.abc import Sequence
from typing import NamedTuple

from accumulator_model import COUNTERS, IDLE, IDLE_TASK, U64, WAIT_BITS, Event, Kind, Ready, Record
from hypothesis import strategies as st

TICK_NS = 1_000_000

EINVAL = U64 - 22


class Example(NamedTuple):
    """Events on CPU 0 and the records they lead to, in order. What is still held at the end is not among them."""

    events: Sequence[Event]
    records: Sequence[Record]


# The number of a cgroup's task that has the same place in the table of waiting tasks as its number 0.
SHARING = 2


def task_of(cgroup_id: int, number: int = 0) -> int:
    """The address of one of a cgroup's tasks."""
    if number == SHARING and cgroup_id != IDLE:
        return task_of(cgroup_id) ^ (1 << WAIT_BITS | 1) << 6
    # Where no memory can be: what is looked up of a task that went unseen is then nothing, as in the model.
    return IDLE_TASK if cgroup_id == IDLE else 0x0100_8881_0000_0000 + (cgroup_id % 2**20 * 16 + number) * 64


def _at(
    tick: float,
    cgroup_id: int,
    *readings: int,
    to: int | None = None,
    restart: bool = False,
    after_ns: int = 0,
    ready: Ready = Ready.ASLEEP,
    thread: int = 0,
    to_thread: int = 0,
    stolen_ns: int = 0,
) -> Event:
    """An event at a multiple of ticks, at which a cgroup's task has run until then, and one of `to` is switched in.

    Readings that are not given are 0. By the scheduler each task has run since time 0, but for what was stolen of it.
    """
    padded = (*readings, *[0] * (COUNTERS - len(readings)))
    exec_ns = round(tick * TICK_NS)
    return Event(
        round(tick * TICK_NS) + after_ns,
        cgroup_id,
        padded,
        Kind.TICK if to is None else Kind.SWITCH,
        restart,
        task=task_of(cgroup_id, thread),
        exec_ns=exec_ns - stolen_ns,
        next_task=IDLE_TASK if to is None else task_of(to, to_thread),
        next_exec_ns=exec_ns,
        ready=ready,
    )


def _woken(tick: float, cgroup_id: int, thread: int = 0) -> Event:
    return Event(round(tick * TICK_NS), 0, kind=Kind.WAKE, task=task_of(cgroup_id, thread))


def _record(
    sequence: int,
    tick: int,
    cgroup_id: int,
    time_ns: int,
    counters: tuple[int, int, int] = (0, 0, 0),
    *,
    unread: int = 0,
    switches: int = 0,
    tick_count: int = 1,
    lateness_ns: int = 0,
    **waited: int,
) -> Record:
    return Record(
        tick, cgroup_id, counters, sequence, 0, unread, time_ns, switches, tick_count, lateness_ns, **waited
    )  # fmt: skip


def settled(*readings: int) -> list[Event]:
    """Two events after which tick 10 begins with nothing held; idle until then."""
    return [_at(10, IDLE, *readings, after_ns=-1), _at(10, IDLE, *readings)]


# Cgroups 1, 32 and 2^32 share slot 1; 2 and 3 have slots of their own.
EXAMPLES = {
    "a tick seen in part is not sent": Example(
        [_at(9.3, 2), _at(9.7, 3, to=IDLE), _at(10, IDLE), _at(11, 2)],
        [_record(0, 10, 2, TICK_NS)],
    ),
    "nor is what a collision drives out in it": Example(
        [_at(9.1, 1), _at(9.2, 1), _at(9.3, 32), _at(10, 32), _at(10.5, 32), _at(11, 3)],
        [_record(0, 10, 32, TICK_NS // 2), _record(1, 10, 3, TICK_NS // 2)],
    ),
    "cgroups leave by their slots and idle leaves last": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=3),
            _at(10.3, 3, to=2),
            _at(10.6, 2, to=3),
            _at(11, 3),
        ],
        [
            _record(0, 10, 2, 300_000, switches=1),
            _record(1, 10, 3, 600_000, switches=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "an interval over a boundary is divided: time exactly, counters rounded down first": Example(
        [*settled(), _at(10.4, IDLE), _at(11.2, 2, 7, 800, 1), _at(12, 2, 7, 800, 1)],
        [
            # 0.6 of 0.8 ticks: 5 of 7, 600 of 800, 0 of 1.
            _record(0, 10, 2, 600_000, (5, 600, 0), lateness_ns=200_000),
            _record(1, 10, IDLE, 400_000, lateness_ns=200_000),
            _record(2, 11, 2, TICK_NS, (2, 200, 1)),
        ],
    ),
    "a switch belongs to the tick it falls in": Example(
        [*settled(), _at(11.5, 2, to=3), _at(12, 3)],
        [
            _record(0, 10, 2, TICK_NS, lateness_ns=500_000),
            _record(1, 11, 2, 500_000, switches=1),
            _record(2, 11, 3, 500_000),
        ],
    ),
    "whole ticks without an event are one record": Example(
        [*settled(), _at(10.5, IDLE), _at(15.25, 2, 475, 19), _at(16, 2, 475, 19)],
        [
            _record(0, 10, 2, 500_000, (50, 2, 0), lateness_ns=4_250_000),
            _record(1, 10, IDLE, 500_000, lateness_ns=4_250_000),
            # 4 of the 4.25 ticks left: 400 of 425, 16 of 17.
            _record(2, 11, 2, TICK_NS, (400, 16, 0), tick_count=4, lateness_ns=3_250_000),
            _record(3, 15, 2, TICK_NS, (25, 1, 0)),
        ],
    ),
    "a long idle time is one record too, its shares counted in units of 2^16 ns": Example(
        [*settled(), _at(10_000_010, IDLE, 1_000_000_000), _at(10_000_010.5, 2, 1_000_000_000)],
        [
            # 10^6 >> 16 is 15, 10^13 >> 16 is 152_587_890: 10^9 * 15 // 152_587_890 is 98.
            _record(0, 10, IDLE, TICK_NS, (98, 0, 0), lateness_ns=2**32 - 1),
            _record(1, 11, IDLE, TICK_NS, (999_999_902, 0, 0), tick_count=9_999_999, lateness_ns=2**32 - 1),
        ],
    ),
    "an event on a boundary ends the tick and holds a place in the next": Example(
        [*settled(), _at(11, 2, 100, to=3), _at(12, 3, 100)],
        [
            _record(0, 10, 2, TICK_NS, (100, 0, 0)),
            _record(1, 11, 2, 0, switches=1),
            _record(2, 11, 3, TICK_NS),
        ],
    ),
    "cgroups that share a slot drive each other out, and nothing is lost": Example(
        [
            *settled(),
            _at(10.1, 1, 10, to=32),
            _at(10.3, 32, 30, to=2**32),
            _at(10.6, 2**32, 60, to=1),
            _at(11.0, 1, 100),
        ],
        [
            _record(0, 10, 1, 100_000, (10, 0, 0), switches=1),
            _record(1, 10, 32, 200_000, (20, 0, 0), switches=1),
            _record(2, 10, 2**32, 300_000, (30, 0, 0), switches=1),
            _record(3, 10, 1, 400_000, (40, 0, 0)),
        ],
    ),
    "going idle sends the cgroups at once, idle itself at the tick's end": Example(
        [
            *settled(),
            _at(10.2, IDLE, to=2),
            _at(10.3, 2, to=IDLE),
            _at(10.7, IDLE, to=2),
            _at(10.8, 2, to=IDLE),
            _at(11.1, IDLE),
        ],
        [
            _record(0, 10, 2, 100_000, switches=1),
            _record(1, 10, 2, 100_000, switches=1),
            _record(2, 10, IDLE, 800_000, switches=2, lateness_ns=100_000),
        ],
    ),
    "a counter that cannot be read is marked until there are two readings again": Example(
        [
            *settled(5, 5, 5),
            _at(10.2, 2, 6, EINVAL, 6, to=IDLE),
            _at(10.4, 2, 7, EINVAL, 7, to=IDLE),
            _at(10.6, 2, 8, 100, 8, to=IDLE),
            _at(10.8, 2, 9, 103, 9, to=IDLE),
        ],
        [
            _record(0, 10, 2, 200_000, (1, 0, 1), unread=0b010, switches=1),
            _record(1, 10, 2, 200_000, (1, 0, 1), unread=0b010, switches=1),
            _record(2, 10, 2, 200_000, (1, 0, 1), unread=0b010, switches=1),
            _record(3, 10, 2, 200_000, (1, 3, 1), switches=1),
        ],
    ),
    "a first reading that fails leaves the next one without an increment": Example(
        [_at(9.9, IDLE, EINVAL), _at(10.5, 2, 1000, to=IDLE), _at(11, 2, 1004)],
        [
            _record(0, 10, 2, 500_000, unread=0b001, switches=1),
            _record(1, 10, 2, 500_000, (4, 0, 0)),
        ],
    ),
    "a mark goes with every part of its interval": Example(
        [*settled(), _at(13.5, 2, 0, 0, EINVAL), _at(14, 2, 0, 0, 9)],
        [
            _record(0, 10, 2, TICK_NS, unread=0b100, lateness_ns=2_500_000),
            _record(1, 11, 2, TICK_NS, unread=0b100, tick_count=2, lateness_ns=1_500_000),
            _record(2, 13, 2, TICK_NS, unread=0b100),
        ],
    ),
    "the largest errno is an error, the value below it a reading": Example(
        [*settled(U64 - 5000, U64 - 5000), _at(11, 2, U64 - 4096, U64 - 4095)],
        [_record(0, 10, 2, TICK_NS, (904, 0, 0), unread=0b010)],
    ),
    "a reading below the last one is of a counter opened anew": Example(
        [*settled(5000), _at(10.5, 2, 4999), _at(11, 2, 4999), _at(12, 2, 5003)],
        [
            _record(0, 10, 2, TICK_NS, unread=0b001),
            _record(1, 11, 2, TICK_NS, (4, 0, 0)),
        ],
    ),
    "a counter wraps at 2^64": Example(
        [*settled(U64 - 4100), _at(11, 2, 900)],
        [_record(0, 10, 2, TICK_NS, (5000, 0, 0))],
    ),
    "a CPU that was offline sends what it held and begins anew": Example(
        [
            *settled(),
            _at(10.25, 2, 25, to=IDLE),
            _at(10.75, IDLE, 75),
            _at(99.5, 3, 7, to=3, restart=True),
            _at(100, 3, 50),
            _at(101, 2, 60),
        ],
        [
            _record(0, 10, 2, 250_000, (25, 0, 0), switches=1),
            _record(1, 10, IDLE, 500_000, (50, 0, 0)),
            _record(2, 100, 2, TICK_NS, (10, 0, 0)),
            _record(3, 100, 3, 0),
        ],
    ),
    "a clock that steps back adds no time, counters go on": Example(
        [
            *settled(),
            _at(10.5, 2, 5, to=3),
            _at(10.5, 3, 8, to=2, after_ns=-40),
            _at(11, 2, 10),
        ],
        [
            _record(0, 10, 2, TICK_NS, (7, 0, 0), switches=1),
            _record(1, 10, 3, 0, (3, 0, 0), switches=1),
        ],
    ),
    "a wait belongs to the cgroup that waited, and to the tick in which it lay": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _woken(10.2, 3),
            _at(10.5, 2, to=3),
            _at(11, 3),
        ],
        [
            _record(0, 10, 2, 400_000, switches=1),
            _record(1, 10, 3, 500_000, wait_ns=300_000, waits=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "what lay in earlier ticks leaves by itself, before the rest": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _woken(10.25, 3),
            _at(11, 2),
            _at(12, 2),
            _at(12.5, 2, to=3),
            _at(13, 3),
        ],
        [
            _record(0, 10, 2, 900_000),
            _record(1, 10, IDLE, 100_000, switches=1),
            _record(2, 11, 2, TICK_NS),
            # In its first tick nothing of the wait was its own cgroup's time.
            _record(3, 10, 3, 0, (10_250_000, 12_000_000, 0), tick_count=0),
            _record(4, 12, 2, 500_000, switches=1),
            _record(5, 12, 3, 500_000, wait_ns=500_000, waits=1),
        ],
    ),
    "who is preempted waits from then on, and is told from who sleeps": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _at(10.3, 2, to=3, ready=Ready.READY),
            _at(10.4, 3, to=2),
            _at(10.7, 2, to=IDLE),
            _at(11, IDLE),
        ],
        [
            _record(0, 10, 2, 500_000, switches=2, wait_ns=100_000, waits=1, involuntary=1),
            _record(1, 10, 3, 100_000, switches=1),
            _record(2, 10, IDLE, 400_000, switches=1),
        ],
    ),
    "waiting behind a thread of one's own is told from waiting behind others": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _woken(10.1, 2, thread=1),
            _at(10.2, 2, to=3),
            _at(10.5, 3, to=2, to_thread=1),
            _at(11, 2, thread=1),
        ],
        [
            # From 10.1 to 10.5, of which 10.1 to 10.2 behind thread 0.
            _record(0, 10, 2, 600_000, switches=1, wait_ns=400_000, wait_self_ns=100_000, waits=1),
            _record(1, 10, 3, 300_000, switches=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "a second wake-up of a task that waits changes nothing": Example(
        [*settled(), _at(10.1, IDLE, to=2), _woken(10.2, 3), _woken(10.4, 3), _at(10.5, 2, to=3), _at(11, 3)],
        [
            _record(0, 10, 2, 400_000, switches=1),
            _record(1, 10, 3, 500_000, wait_ns=300_000, waits=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "of two waiting tasks that share a place, the wait of the first is not known": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=3),
            _woken(10.2, 2),
            _woken(10.3, 2, thread=SHARING),
            _at(10.4, 3, to=2),
            _at(10.6, 2, to=2, to_thread=SHARING),
            _at(11, 2, thread=SHARING),
        ],
        [
            _record(0, 10, 2, 600_000, switches=1, wait_ns=300_000, wait_self_ns=200_000, waits=1),
            _record(1, 10, 3, 300_000, switches=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "where the kernel does not say whether a task is ready, its wake-up does": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            # 2 goes to sleep, as its wake-up tells; 3 does not.
            _at(10.2, 2, to=3, ready=Ready.UNTOLD),
            _woken(10.4, 2),
            _at(10.5, 3, to=2, ready=Ready.UNTOLD),
            _at(10.7, 2, to=3, ready=Ready.UNTOLD),
            _at(11, 3),
        ],
        [
            _record(0, 10, 2, 300_000, switches=2, wait_ns=100_000, waits=1),
            _record(1, 10, 3, 600_000, switches=1, wait_ns=200_000, waits=1, involuntary=1),
            _record(2, 10, IDLE, 100_000, switches=1),
        ],
    ),
    "of a switch that is not seen, neither task's wait is wrong": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _woken(10.2, 3),
            _woken(10.2, 4),
            _at(10.3, 2, to=3),
            # 3 has left for 4 unseen. 4 waited until 3 came at least; of 3's wait the cgroup cannot be told.
            _at(10.8, 4, to=IDLE),
            _at(11, IDLE),
        ],
        [
            _record(0, 10, 2, 200_000, switches=1),
            _record(1, 10, 4, 500_000, switches=1, wait_ns=100_000, waits=1),
            _record(2, 10, IDLE, 300_000, switches=1),
        ],
    ),
    "what was stolen is known when a task is switched out, and belongs to the tick of that": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _at(11, 2, stolen_ns=0),
            _at(11.5, 2, to=IDLE, stolen_ns=300_000),
            _at(12, IDLE),
        ],
        [
            _record(0, 10, 2, 900_000),
            _record(1, 10, IDLE, 100_000, switches=1),
            _record(2, 11, 2, 500_000, switches=1, stolen_ns=300_000),
            _record(3, 11, IDLE, 500_000),
        ],
    ),
    "of a task that goes on running, no more is told to be stolen than is sure": Example(
        [
            *settled(),
            _at(10.1, IDLE, to=2),
            _at(11, 2, stolen_ns=850_000),
            # Since then the scheduler has looked once more: when is not known.
            _at(12, 2, stolen_ns=1_750_000),
            _at(12.5, 2, to=IDLE, stolen_ns=1_800_000),
        ],
        [
            _record(0, 10, 2, 900_000),
            _record(1, 10, IDLE, 100_000, switches=1),
            _record(2, 11, 2, TICK_NS, stolen_ns=750_000),
            _record(3, 12, 2, 500_000, switches=1, stolen_ns=1_050_000),
        ],
    ),
    "a clock may step back over a boundary": Example(
        [*settled(), _at(11, 2), _at(11, 2, after_ns=-40), _at(12, 2)],
        [_record(0, 10, 2, TICK_NS), _record(1, 11, 2, TICK_NS)],
    ),
}


_CGROUPS = st.one_of(
    st.sampled_from([IDLE, 1, 32, 2**32, 2, 3]),
    st.integers(0, 127),
    st.integers(0, U64 - 1),
)
_ADVANCES = st.one_of(
    st.integers(0, TICK_NS // 3),
    st.integers(0, 5 * TICK_NS),
    st.integers(0, 2**34),
    st.integers(0, 2**47),
    st.integers(-1000, -1),
)
_INTERVALS = [Kind.TICK, Kind.TICK, Kind.SWITCH, Kind.SWITCH, Kind.SWITCH]
_KINDS = st.sampled_from([*_INTERVALS, Kind.WAKE, Kind.WAKE_NEW])
_THREADS = st.integers(0, SHARING)
# To the end of the current tick or of one after it, or just beside.
_BOUNDARIES = st.tuples(st.integers(1, 4), st.integers(-1, 1))
_INCREMENTS = st.one_of(st.integers(0, 5), st.integers(0, 2**40))
_ERRORS = st.integers(1, 4095).map(lambda number: U64 - number)


@st.composite
def event_sequences(
    draw: st.DrawFn, *, faults: bool = True, restarts: bool = True, longest_ns: int = 2**47
) -> list[Event]:
    """Events on one CPU as a node could send them and as it could not; the first ends an interval.

    Without faults all counters only rise.
    """
    now_ns = draw(st.integers(1_000, 2**60))
    readings = [draw(st.one_of(st.integers(0, 2**40), st.just(U64 - 10_000))) for _ in range(COUNTERS)]
    exec_ns = draw(st.integers(0, 2**50))
    events: list[Event] = []
    running = 0, 0
    for _ in range(draw(st.integers(2, 40))):
        advance = draw(st.one_of(_ADVANCES, _BOUNDARIES))
        if isinstance(advance, tuple):
            ticks, beside_ns = advance
            advance = (now_ns // TICK_NS + ticks) * TICK_NS + beside_ns - now_ns
        advance = min(advance, longest_ns)
        kind = draw(_KINDS if events else st.sampled_from(_INTERVALS))
        task = task_of(cgroup_id := draw(_CGROUPS), draw(_THREADS))
        if kind in (Kind.WAKE, Kind.WAKE_NEW):
            events.append(Event(now_ns + advance, 0, kind=kind, task=task))
            continue
        seen = []
        for index in range(COUNTERS):
            readings[index] = (readings[index] + draw(_INCREMENTS)) % U64
            if faults and draw(st.integers(0, 5)) == 5:
                seen.append(draw(_ERRORS))
                readings[index] = draw(st.one_of(st.just(readings[index]), st.integers(0, U64 - 1)))
            elif not faults and readings[index] > U64 - 4096:
                # What a counter that wraps reads as on its way is an error's number.
                readings[index] = (readings[index] + 4096) % U64
                seen.append(readings[index])
            else:
                seen.append(readings[index])
        exec_ns += max(0, advance - draw(st.integers(-10, 1_000)))
        next_task = task_of(next_cgroup_id := draw(_CGROUPS), draw(_THREADS))
        if running[0] and draw(st.integers(0, 3)):
            # More often than not, who was switched in is who runs.
            task, cgroup_id = running
        event = Event(
            now_ns + advance,
            cgroup_id,
            tuple(seen),
            kind,
            restart=restarts and draw(st.integers(0, 15)) == 15,
            task=task,
            exec_ns=exec_ns,
            next_task=next_task,
            next_exec_ns=draw(st.integers(0, 2**50)),
            ready=draw(st.sampled_from(list(Ready))),
        )
        events.append(event)
        now_ns = max(now_ns, now_ns + advance)
        if kind == Kind.SWITCH:
            running, exec_ns = (next_task, next_cgroup_id), event.next_exec_ns
        else:
            running = task, cgroup_id
    return events
