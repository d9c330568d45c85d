# SPDX-License-Identifier: Apache-2.0
"""From what threads want in a block of ticks to what they get."""

from typing import NamedTuple

import numpy as np

from tracer.simulate.random_times import Ints
from tracer.simulate.scenario import Scenario
from tracer.simulate.scheduler.state import (
    ASLEEP,
    CONTAINER,
    CPU,
    NEVER,
    NOBODY,
    NOT_KNOWN,
    QUOTA_PERIOD_TICKS,
    THREAD,
    TICK_NS,
    Node,
    Records,
    Rules,
    Wishes,
    new_doings,
)
from tracer.simulate.scheduler.ticks import run_block
from tracer.simulate.shape import NodeShape


class Schedule(NamedTuple):
    """What was done in a block; `tracer.simulate.scheduler.state` has the columns of slots, earlier and throttled."""

    slots: Records
    """[T, J]; where threads have no slots of their own, of each row of a block."""
    idle_switches: Ints
    """[T, K]: times the CPU left idle time."""
    ready_ns: Ints
    """[T, C]: for which threads were ready and did not run, whenever that wait ends."""
    waited: Ints
    """[C, C + 2]: the waits that ended: behind each container, for the own quota, and while the CPU was idle."""
    earlier: Records
    throttled: Records
    is_throttled: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]"
    """[T, C]: whether it was at any time of a tick, on any CPU."""
    periods: Ints
    """[C]: of the quota, in which it ran."""
    throttled_periods: Ints
    """[C]"""

    def throttled_ns(self) -> Ints:
        """[C]: how long, summed over CPUs, its threads could not run on them for its quota."""
        sums = np.zeros(len(self.periods), np.int64)
        np.add.at(sums, self.throttled["container"], self.throttled["end"] - self.throttled["begin"])
        return sums


class Scheduler:
    """Carries on from block to block, with what is not done, and with who is how far behind."""

    def __init__(self, scenario: Scenario, shape: NodeShape, container_of_thread: Ints) -> None:
        containers = scenario.containers
        rules = scenario.scheduling
        self._rules = Rules(rules.slice_us * 1_000, rules.wakes_preempt, rules.leaving_idle_us * 1_000)
        allowed = np.full((len(containers), shape.cpus), NOBODY)
        for row, container in zip(allowed, containers, strict=True):
            own = container.allowed_cpus(shape)
            row[: len(own)] = own
        threads = np.zeros(len(container_of_thread), THREAD)
        threads["container"] = container_of_thread
        threads["cpu"] = allowed[container_of_thread, 0]
        threads["state"] = ASLEEP
        threads["is_batch"] = np.array([c.is_batch for c in containers])[container_of_thread]
        threads["arrives"] = NEVER
        cpus = np.zeros(shape.cpus, CPU)
        cpus["thread"] = NOBODY
        cpus["is_idle"] = 1
        cpus["leaves_idle"] = NEVER
        of_containers = np.zeros(len(containers), CONTAINER)
        of_containers["weight"] = [c.cpu_weight for c in containers]
        of_containers["quota_ns"] = of_containers["left_ns"] = [
            NEVER if c.cpu_quota is None else round(c.cpu_quota * QUOTA_PERIOD_TICKS * TICK_NS) for c in containers
        ]
        self._node = Node(
            threads=threads,
            cpus=cpus,
            containers=of_containers,
            allowed=allowed,
            waited=np.zeros((len(threads), len(containers) + 2), np.int64),
            throttled_since=np.full((len(containers), shape.cpus), NOT_KNOWN),
        )

    def run(self, wishes: Wishes) -> Schedule:
        """The next block."""
        ticks = len(wishes.homes)
        node = self._node
        periods, throttled_periods = node.containers["periods"].copy(), node.containers["throttled_periods"].copy()
        doings = new_doings(node, ticks, wishes.first_tick)
        run_block(node, self._rules, wishes, doings)
        throttled = doings.throttled[: doings.used[1]]
        is_throttled = np.zeros((ticks, len(node.containers)), np.bool_)
        for interval in throttled:
            first = interval["begin"] // TICK_NS - wishes.first_tick
            is_throttled[first : -(-interval["end"] // TICK_NS) - wishes.first_tick, interval["container"]] = True
        return Schedule(
            slots=doings.slots,
            idle_switches=doings.idle_switches,
            ready_ns=doings.ready_ns,
            waited=doings.waited,
            earlier=doings.earlier[: doings.used[0]],
            throttled=throttled,
            is_throttled=is_throttled,
            periods=node.containers["periods"] - periods,
            throttled_periods=node.containers["throttled_periods"] - throttled_periods,
        )
