# SPDX-License-Identifier: Apache-2.0
"""What really happened in a simulated run: `truth.json`."""

from pathlib import Path
from uuid import UUID

import msgspec
import numpy as np

from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.node import Block, SimulatedNode
from tracer.simulate.scenario import Container
from tracer.simulate.waiting import TrueWaiting, true_waiting
from tracer.store.layout import manifest_path

DEFINITION = (
    "lost_cycles are the cycles that the victim would not have spent for the same instructions in the same ticks had "
    "that aggressor not been there, summed over all ticks; its share of them on the sibling CPU is in it. wait_time_ns "
    "is time for which a thread was ready and did not run, of waits that ended in the run: behind who held its CPU "
    "then, or throttled, if its own quota was used up"
)


class Bursts(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks in which bursts began, and those after their last ones."""

    begin_ticks: list[int]
    end_ticks: list[int]


class TrueContainer(msgspec.Struct, frozen=True, kw_only=True):
    """Who it is, what it used, and in which ticks it lived (the last one excluded). `bursts`: None if it has none.

    `wanted_ns` is the CPU time that its work would have taken, None where all of it is done, if late; `stolen_ns`, what
    the hypervisor took of its CPU time.
    """

    cgroup_id: int
    container_id: str | None
    label: str
    planted: bool
    llc_domain: int
    begin_tick: int
    end_tick: int
    cpu_weight: int
    wanted_ns: int | None
    cpu_time_ns: int
    stolen_ns: int
    cycles: int
    instructions: int
    bursts: Bursts | None


class TrueAggressor(msgspec.Struct, frozen=True, kw_only=True):
    """What one container cost another; `delay_ticks` is how much later its misses were felt."""

    cgroup_id: int
    container_id: str | None
    label: str
    planted: bool
    lost_cycles: int
    lost_share: float
    delay_ticks: int


class OtherCauses(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles lost to what is no neighbour's doing; `smt_cycles`, which overlap with neighbours', to sibling CPUs."""

    smt_cycles: int
    cold_cache_cycles: int
    throttling_cycles: int


class TrueVictim(msgspec.Struct, frozen=True, kw_only=True):
    """A container that lost cycles to others, whom it lost most to first."""

    cgroup_id: int
    container_id: str | None
    label: str
    cycles: int
    aggressors: list[TrueAggressor]
    other_causes: OtherCauses


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; ticks are numbered as in the tables, shares are of the victim's cycles."""

    scenario: str
    seed: int
    definition: str
    tick_ns: int
    first_tick: int
    last_tick: int
    containers: list[TrueContainer]
    victims: list[TrueVictim]
    waiting: list[TrueWaiting]


def truth_path(output: Path, run_id: UUID) -> Path:
    """Beside the run's manifest."""
    return manifest_path(output, run_id).with_name("truth.json")


class TruthTeller:
    """Adds up what the blocks say."""

    def __init__(self, node: SimulatedNode, cgroups: SimulatedCgroups, *, first_tick: int) -> None:
        count = len(node.scenario.containers)
        self._node = node
        self._cgroups = cgroups
        self._first_tick = first_tick
        self._sums = np.zeros((8, count))
        self._waited = np.zeros((count, count + 2), np.int64)
        self._to_others = np.zeros((count, count))

    def add(self, block: Block) -> None:
        """Takes a block, each once."""
        count = len(self._to_others)
        self._to_others += block.losses.to_others
        times = (block.slots["time_ns"], block.slots["stolen_ns"])
        used = (np.bincount(block.container, of, count) for of in (*times, block.cycles, block.instructions))
        losses = block.losses
        others = (losses.smt, losses.cold_caches, losses.throttling)
        self._sums += np.stack([*used, *others, block.wanted_ns])
        self._waited += block.schedule.waited

    def tell(self, *, scenario: str, seed: int, tick_ns: int) -> Truth:
        """The truth of all blocks so far."""
        containers = range(len(self._to_others))
        return Truth(
            scenario=scenario,
            seed=seed,
            definition=DEFINITION,
            tick_ns=tick_ns,
            first_tick=self._first_tick,
            last_tick=self._first_tick + self._node.ticks - 1,
            containers=[self._container(index) for index in containers],
            victims=[self._victim(index) for index in containers if self._to_others[index].any()],
            waiting=true_waiting(self._waited, self._node.scenario, self._cgroups),
        )

    def _who(self, index: int) -> tuple[int, str | None, Container]:
        container = self._node.scenario.containers[index]
        return int(self._cgroups.ids[index]), self._cgroups.identities[index].container_id, container

    def _container(self, index: int) -> TrueContainer:
        cgroup_id, container_id, container = self._who(index)
        begin, end = (self._node.demand.lives[index] + self._first_tick).tolist()
        bursts = self._node.demand.bursts.get(index)
        cpu_time_ns, stolen_ns, cycles, instructions = (round(value) for value in self._sums[:4, index].tolist())
        return TrueContainer(
            cgroup_id=cgroup_id,
            container_id=container_id,
            label=container.label,
            planted=container.label in self._node.scenario.planted,
            llc_domain=container.domain,
            begin_tick=begin,
            end_tick=end,
            cpu_weight=container.cpu_weight,
            wanted_ns=round(self._sums[7, index]),
            cpu_time_ns=cpu_time_ns,
            stolen_ns=stolen_ns,
            cycles=cycles,
            instructions=instructions,
            bursts=None
            if bursts is None
            else Bursts(
                begin_ticks=(bursts.begins + self._first_tick).tolist(),
                end_ticks=(bursts.ends + self._first_tick).tolist(),
            ),
        )

    def _victim(self, index: int) -> TrueVictim:
        cgroup_id, container_id, container = self._who(index)
        lost = self._to_others[index].tolist()
        cycles = float(self._sums[2, index])
        smt, cold, throttling = (round(value) for value in self._sums[4:7, index].tolist())
        return TrueVictim(
            cgroup_id=cgroup_id,
            container_id=container_id,
            label=container.label,
            cycles=round(cycles),
            aggressors=[
                self._aggressor(aggressor, lost[aggressor], cycles, container.delay_ticks)
                for aggressor in sorted(range(len(lost)), key=lambda other: -lost[other])
                if lost[aggressor] > 0
            ],
            other_causes=OtherCauses(
                smt_cycles=smt,
                cold_cache_cycles=cold,
                throttling_cycles=throttling,
            ),
        )

    def _aggressor(self, index: int, lost: float, cycles: float, delay_ticks: int) -> TrueAggressor:
        cgroup_id, container_id, container = self._who(index)
        return TrueAggressor(
            cgroup_id=cgroup_id,
            container_id=container_id,
            label=container.label,
            planted=container.label in self._node.scenario.planted,
            lost_cycles=round(lost),
            lost_share=round(lost / cycles, 6) if cycles else 0.0,
            delay_ticks=delay_ticks,
        )
