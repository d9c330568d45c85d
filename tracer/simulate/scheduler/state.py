# SPDX-License-Identifier: Apache-2.0
"""What the scheduler of the simulated node knows, and what it tells of a block. Times are ns of the run, if not said.

T are the ticks of a block, J threads, C containers and K CPUs. A holder is a container's number, or `idle(C)`; a wait
is also filed under `throttled(C)`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

TICK_NS = 1_000_000
QUOTA_PERIOD_TICKS = 100
NOT_KNOWN = -1
NEVER = 2**62
NOBODY = -1

ASLEEP, READY, RUNNING = 0, 1, 2

THREAD = np.dtype(
    [
        ("container", np.int64),
        ("cpu", np.int64),
        ("state", np.int64),
        ("is_batch", np.int64),
        ("backlog_ns", np.int64),  # work that it has and has not done
        ("arrives", np.int64),  # when this tick's work comes, or NEVER
        ("virtual_ns", np.float64),  # time that it ran, the longer the less it weighs
        ("ready_since", np.int64),
        ("own_ns", np.int64),  # of its wait in this tick, time in which its container held the CPU
        ("own_first_ns", np.int64),  # the same of the tick in which the wait began, or NOT_KNOWN
    ]
)
CPU = np.dtype(
    [
        ("thread", np.int64),  # which runs, or NOBODY
        ("is_idle", np.int64),  # and not on its way from one thread to the next
        ("leaves_idle", np.int64),  # when it will have left its idle state, or NEVER
        ("slice_ns", np.int64),  # what is left of the running thread's
        ("virtual_ns", np.float64),  # of who has had least, never going back
    ]
)
CONTAINER = np.dtype(
    [
        ("weight", np.float64),
        ("threads", np.int64),  # ready or running at the tick's beginning
        ("quota_ns", np.int64),  # of a period, or NEVER
        ("left_ns", np.int64),
        ("is_throttled", np.int64),
        ("was_throttled", np.int64),  # and wanted to run, in this period
        ("periods", np.int64),  # in which it used any of its quota
        ("throttled_periods", np.int64),
    ]
)
# What a thread did in a tick. The wait is of those that ended in it, as far as they lie in it.
SLOT = np.dtype(
    [
        ("cpu", np.int64),
        ("time_ns", np.int64),
        ("stolen_ns", np.int64),
        ("switches", np.int64),
        ("involuntary", np.int64),
        ("waits", np.int64),
        ("wait_ns", np.int64),
        ("wait_self_ns", np.int64),
    ]
)
# A tick's part of a wait that ended in a later tick, on this CPU.
EARLIER = np.dtype(
    [
        ("tick", np.int64),
        ("cpu", np.int64),
        ("container", np.int64),
        ("wait_ns", np.int64),
        ("wait_self_ns", np.int64),  # NOT_KNOWN of a tick that was waited for from end to end
    ]
)
THROTTLED = np.dtype([("container", np.int64), ("cpu", np.int64), ("begin", np.int64), ("end", np.int64)])

Records = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]


class Node(NamedTuple):
    """From block to block."""

    threads: Records
    cpus: Records
    containers: Records
    allowed: Ints
    """[C, K]: the CPUs of each container, nearest first; NOBODY beyond them."""
    waited: Ints
    """[J, C + 2]: each waiting thread's wait so far by holder."""
    throttled_since: Ints
    """[C, K], or NOT_KNOWN."""


class Rules(NamedTuple):
    """How the scheduler decides; see `tracer.simulate.scenario.Scheduler`."""

    slice_ns: int
    wakes_preempt: bool
    leaving_idle_ns: int


class Wishes(NamedTuple):
    """What there is to do in a block."""

    first_tick: int
    homes: Ints
    """[T, J]: the CPU that each thread prefers."""
    work_ns: Ints
    """[T, J]: work that comes in each tick, ..."""
    offset_ns: Ints
    """[T, J]: ... so long after its beginning."""
    is_alive: npt.NDArray[np.bool_]
    """[T, J]"""
    stolen_from_ns: Ints
    """[T, K]: from its beginning on, what the hypervisor takes of a tick, if the CPU is busy then."""
    stolen_until_ns: Ints


class Doings(NamedTuple):
    """What was done in a block."""

    slots: Records
    """[T, J]"""
    idle_switches: Ints
    """[T, K]: times the CPU left idle time."""
    ready_ns: Ints
    """[T, C]: for which threads were ready and did not run, whenever that wait ends."""
    waited: Ints
    """[C, C + 2]: the waits that ended, by holder."""
    earlier: Records
    throttled: Records
    """What of a container could not run on a CPU, and when."""
    used: Ints
    """How many rows of `earlier` and of `throttled` are."""


def new_doings(node: Node, ticks: int, first_tick: int) -> Doings:
    """Nothing done yet, and room for all that can be."""
    threads, containers, cpus = len(node.threads), len(node.containers), len(node.cpus)
    waiting = node.threads[node.threads["state"] == READY]
    before = (first_tick * TICK_NS - waiting["ready_since"]) // TICK_NS + 1
    periods = ticks // QUOTA_PERIOD_TICKS + 2
    return Doings(
        slots=np.zeros((ticks, threads), SLOT),
        idle_switches=np.zeros((ticks, cpus), np.int64),
        ready_ns=np.zeros((ticks, containers), np.int64),
        waited=np.zeros((containers, containers + 2), np.int64),
        earlier=np.zeros(threads * (ticks + 1) + int(before.sum()), EARLIER),
        throttled=np.zeros(int((node.containers["quota_ns"] != NEVER).sum()) * cpus * periods, THROTTLED),
        used=np.zeros(2, np.int64),
    )
