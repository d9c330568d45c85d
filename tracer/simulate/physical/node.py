# SPDX-License-Identifier: Apache-2.0
"""A run of the physical machine, as blocks of ticks; and the same run again without some of its containers."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from tracer.kernel.cpus import format_cpu_list
from tracer.kernel.topology import Topology
from tracer.kernel.topology.memory import NumaNode
from tracer.simulate.node import BLOCK_TICKS, Block, Losses
from tracer.simulate.physical.cache import Floats, Ints
from tracer.simulate.physical.engine import COLUMNS, run
from tracer.simulate.physical.events import job_events
from tracer.simulate.physical.plan import Placed, plan_of, state_of
from tracer.simulate.physical.workload import PhysicalScenario
from tracer.simulate.scenario import Scenario
from tracer.simulate.scheduler import TICK_NS, Records, Schedule
from tracer.simulate.scheduler.state import EARLIER, SLOT, THROTTLED


class Sums(NamedTuple):
    """Of each container, [C]."""

    cycles: Floats
    instructions: Floats
    misses: Floats
    cpu_time_ns: Floats


class _Lives(NamedTuple):
    lives: Ints


class PhysicalNode:
    """Runs a scenario of `ticks`, numbered from 0."""

    def __init__(self, scenario: PhysicalScenario, *, seed: int, ticks: int) -> None:
        self.physical = scenario
        self.shape = scenario.shape
        self.ticks = ticks
        containers = [workload.container for workload in scenario.workloads]
        self.scenario = Scenario(name=scenario.name, containers=containers, planted=scenario.planted)
        self.demand = _Lives(np.tile([0, ticks], (len(containers), 1)))
        # Where each thread was in each tick of the first run.
        self._placed: Placed | None = None
        self._plan = plan_of(scenario, job_events(scenario, seed=seed, ticks=ticks), seed=seed, ticks=ticks)

    def topology(self) -> Topology:
        """As a manifest tells it: each memory controller is a NUMA node."""
        machine, shape = self.physical.machine, self.shape
        each = machine.llcs_per_controller * shape.cpus_of_domain
        shape = msgspec.structs.replace(shape, llc_bytes=machine.llc_bytes, frequency_ghz=machine.top_ghz)
        return msgspec.structs.replace(
            shape.topology(),
            numa_nodes=[
                NumaNode(number, format_cpu_list(range(first, min(first + each, shape.cpus))), None, None)
                for number, first in enumerate(range(0, shape.cpus, each))
            ],
        )

    def blocks(self) -> Iterator[Block]:
        """The run, from its first tick to its last; losses and wishes are left at 0, as nobody knows them yet."""
        state = state_of(self.physical, self._plan)
        self._placed = state.placed
        containers, cpus = len(self.physical.workloads), self.shape.cpus
        nobody, sums = np.zeros(containers, np.int64), np.zeros((containers, 4))
        most = BLOCK_TICKS * len(self._plan.container_of)
        for first in range(0, self.ticks, BLOCK_TICKS):
            ticks = min(BLOCK_TICKS, self.ticks - first)
            rows, ready = np.empty((most, COLUMNS), np.int64), np.zeros((ticks, containers), np.int64)
            behind = np.zeros((containers, containers + 2), np.int64)
            found = run(self._plan, state, first, ticks, nobody, False, True, True, sums, rows, ready, behind)
            # By tick and CPU, as a reader hands them over.
            rows = rows[:found][np.lexsort((rows[:found, 1], rows[:found, 0]))]
            used = np.bincount((rows[:, 0] - first) * cpus + rows[:, 1], rows[:, 3], ticks * cpus)
            idle_ns = TICK_NS - used.reshape(ticks, cpus).astype(np.int64)
            slots = _slots(rows)
            yield Block(
                first_tick=first,
                ticks=ticks,
                tick=rows[:, 0],
                cpu=rows[:, 1],
                container=rows[:, 2],
                slots=slots,
                cycles=rows[:, 4],
                instructions=rows[:, 5],
                misses=rows[:, 6],
                idle_ns=idle_ns,
                wanted_ns=np.zeros(containers),
                losses=Losses(np.zeros((containers, containers)), *(np.zeros(containers) for _ in range(3))),
                schedule=Schedule(
                    slots=slots,
                    idle_switches=(idle_ns > 0).astype(np.int64),
                    ready_ns=ready,
                    waited=behind,
                    # All waits end in their tick, and nobody has a quota.
                    earlier=np.zeros(0, EARLIER),
                    throttled=np.zeros(0, THROTTLED),
                    is_throttled=np.zeros((ticks, containers), np.bool_),
                    periods=np.zeros(containers, np.int64),
                    throttled_periods=np.zeros(containers, np.int64),
                ),
            )

    def again(self, without: tuple[int, ...] = (), *, siblings: bool = True, pauses: bool = True) -> Sums:
        """The same run from the same seed without these containers: with all requests that they would have made, and
        with all other threads on the same CPUs.

        siblings, pauses: whether a busy sibling and cold private caches cost anything.
        """
        gone = np.zeros(len(self.physical.workloads), np.int64)
        gone[list(without)] = 1
        sums = np.zeros((len(gone), 4))
        if without and self._placed is None:
            self.again()
        replays = self._placed is not None
        state = state_of(self.physical, self._plan, self._placed)
        self._placed = state.placed
        run(
            self._plan, state, 0, self.ticks, gone, replays, siblings, pauses, sums, *np.empty((3, 0, 0), np.int64),
        )  # fmt: skip
        return Sums(*sums.T)


def _slots(rows: Ints) -> Records:
    """What a scheduler says of each row. Who waits gives its CPU up against its will; nothing is stolen."""
    slots = np.zeros(len(rows), SLOT)
    slots["cpu"], slots["time_ns"] = rows[:, 1], rows[:, 3]
    slots["switches"], slots["waits"], slots["wait_ns"], slots["wait_self_ns"] = rows[:, 7:].T
    slots["involuntary"] = np.minimum(slots["waits"], slots["switches"])
    return slots
