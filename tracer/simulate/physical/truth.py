# SPDX-License-Identifier: Apache-2.0
"""What really happened on the physical machine: the run again, without one container, or without several."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tracer.simulate.cgroups import SimulatedCgroups
from tracer.simulate.node import Block
from tracer.simulate.physical.cache import Floats
from tracer.simulate.physical.node import PhysicalNode, Sums
from tracer.simulate.truth import TrueAggressor, TrueContainer
from tracer.simulate.waiting import TrueWaiting, true_waiting

DEFINITION = (
    "lost_cycles are those that the victim would not have spent for the same instructions, at the cycles per "
    "instruction of the same run from the same seed, with all threads on the same CPUs, but without that one "
    "container, or without all of a group; below 0, it gained. wait_time_ns is time for which a thread was ready and "
    "did not run, behind who ran on its CPU in that tick"
)
# With more containers than that, those who fetch fewest lines and run least are left out together.
MOST_ALONE = 24
_TOLD_SHARE = 0.001


class TrueGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What several cost a victim, who would not have lost it without all of them."""

    labels: list[str]
    lost_cycles: int
    lost_share: float


class TrueVictim(msgspec.Struct, frozen=True, kw_only=True):
    """A container, and what others cost it: each alone, from 0.1 % on, the most first; and groups that act together.

    rest_lost_share: lost to all together whom the run was not made without one by one; None if there are none.
    smt_share, cold_cache_share: of its cycles, spent on busy siblings, whoever ran there, and on cold private caches.
    """

    cgroup_id: int
    container_id: str | None
    label: str
    cycles: int
    aggressors: list[TrueAggressor]
    groups: list[TrueGroup]
    rest_lost_share: float | None
    smt_share: float
    cold_cache_share: float


class PhysicalTruth(msgspec.Struct, frozen=True, kw_only=True):
    """All of it; ticks are numbered as in the tables, shares are of the victim's cycles."""

    machine: str = "physical"
    scenario: str
    seed: int
    definition: str
    tick_ns: int
    first_tick: int
    last_tick: int
    containers: list[TrueContainer]
    victims: list[TrueVictim]
    waiting: list[TrueWaiting]


class PhysicalTruthTeller:
    """Adds up what the blocks say, and runs the node again to tell what it was due to."""

    def __init__(self, node: PhysicalNode, cgroups: SimulatedCgroups, *, first_tick: int) -> None:
        count = len(node.scenario.containers)
        self._node = node
        self._cgroups = cgroups
        self._first_tick = first_tick
        self._sums = np.zeros((4, count))
        self._waited = np.zeros((count, count + 2), np.int64)

    def add(self, block: Block) -> None:
        """Takes a block, each once."""
        used = (block.slots["time_ns"], block.cycles, block.instructions, block.misses)
        self._sums += np.stack([np.bincount(block.container, of, len(self._waited)) for of in used])
        self._waited += block.schedule.waited

    def tell(
        self, *, scenario: str, seed: int, tick_ns: int, progress: Callable[[float], None] | None = None
    ) -> PhysicalTruth:
        """The truth of the whole run, after all its blocks."""
        node, labels = self._node, [container.label for container in self._node.scenario.containers]
        base = node.again()
        alone = self._worth_a_run(labels)
        groups = [tuple(labels.index(label) for label in group) for group in node.physical.together]
        rest = tuple(sorted(set(range(len(labels))) - set(alone)))
        runs = [*((one,) for one in alone), *groups, *([rest] if rest else [])]
        lost: dict[tuple[int, ...], list[float]] = {}
        for number, without in enumerate(runs):
            lost[without] = _lost(base, node.again(without)).tolist()
            if progress is not None:
                progress((number + 1) / len(runs))
        smt = _lost(base, node.again(siblings=False)).tolist()
        cold = _lost(base, node.again(pauses=False)).tolist()
        return PhysicalTruth(
            scenario=scenario,
            seed=seed,
            definition=DEFINITION,
            tick_ns=tick_ns,
            first_tick=self._first_tick,
            last_tick=self._first_tick + node.ticks - 1,
            containers=[self._container(index) for index in range(len(labels))],
            victims=[
                TrueVictim(
                    **self._who(index),
                    cycles=round(self._sums[1, index]),
                    aggressors=[
                        self._aggressor(one, lost[one,][index], index)
                        for one in sorted(alone, key=lambda one: -lost[one,][index])
                        if one != index and abs(lost[one,][index]) >= _TOLD_SHARE
                    ],
                    groups=[
                        TrueGroup(
                            labels=[labels[one] for one in group],
                            lost_cycles=round(lost[group][index] * self._sums[1, index]),
                            lost_share=round(lost[group][index], 6),
                        )
                        for group in groups
                        if index not in group
                    ],
                    # It is not there itself where the run is made without it.
                    rest_lost_share=round(lost[rest][index], 6) if rest and index not in rest else None,
                    smt_share=round(smt[index], 6),
                    cold_cache_share=round(cold[index], 6),
                )
                for index in range(len(labels))
            ],
            waiting=true_waiting(self._waited, node.scenario, self._cgroups),
        )

    def _worth_a_run(self, labels: Sequence[str]) -> list[int]:
        if len(labels) <= MOST_ALONE:
            return list(range(len(labels)))
        planted = {labels.index(label) for label in self._node.scenario.planted}
        by_misses, by_time = np.argsort(-self._sums[3]).tolist(), np.argsort(-self._sums[0]).tolist()
        most = [*planted, *by_misses[: 3 * MOST_ALONE // 4], *by_time[: MOST_ALONE // 4]]
        return list(dict.fromkeys(most))

    def _who(self, index: int) -> dict[str, Any]:
        return {
            "cgroup_id": int(self._cgroups.ids[index]),
            "container_id": self._cgroups.identities[index].container_id,
            "label": self._node.scenario.containers[index].label,
        }

    def _container(self, index: int) -> TrueContainer:
        time, cycles, instructions = (round(value) for value in self._sums[:3, index].tolist())
        container = self._node.scenario.containers[index]
        return TrueContainer(
            **self._who(index),
            planted=container.label in self._node.scenario.planted,
            llc_domain=self._node.physical.workloads[index].domains[0],
            begin_tick=self._first_tick,
            end_tick=self._first_tick + self._node.ticks,
            cpu_weight=container.cpu_weight,
            wanted_ns=None,
            cpu_time_ns=time,
            stolen_ns=0,
            cycles=cycles,
            instructions=instructions,
            bursts=None,
        )

    def _aggressor(self, index: int, share: float, victim: int) -> TrueAggressor:
        return TrueAggressor(
            **self._who(index),
            planted=self._node.scenario.containers[index].label in self._node.scenario.planted,
            lost_cycles=round(share * self._sums[1, victim]),
            lost_share=round(share, 6),
            delay_ticks=0,
        )


def _lost(base: Sums, without: Sums) -> Floats:
    """[C]: the share of each one's cycles that it would not have spent; 0 where it does not run in both."""
    with np.errstate(all="ignore"):
        shares = 1 - (without.cycles / without.instructions) / (base.cycles / base.instructions)
    found: Floats = np.where((without.instructions > 0) & (base.instructions > 0), shares, 0.0)
    return found
