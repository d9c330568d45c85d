# SPDX-License-Identifier: Apache-2.0
"""The simulated node: who runs where in each tick, how fast, and what it costs whom.

A block is a second of ticks. In arrays, T are the ticks of a block, J threads, C containers and K CPUs. Random numbers
are drawn by block and purpose, so that what one container does changes nobody else's.

What a container puts on others' caches is what it would put, in the time that it ran, if nobody slowed it down. So
there is no way back from those it harms, and what is lost to one neighbour is exactly defined.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tracer.simulate.cold_caches import ColdCaches, ColdStarts
from tracer.simulate.demand import Demand, Wanted
from tracer.simulate.neighbours import Neighbours
from tracer.simulate.random_times import Floats, Ints
from tracer.simulate.scenario import Scenario
from tracer.simulate.scheduler import TICK_NS, Records, Schedule, Scheduler, Wishes
from tracer.simulate.shape import NodeShape
from tracer.simulate.steal import StolenTime
from tracer.simulate.sums import sum_by_container, sum_by_cpu

BLOCK_TICKS = 1_000

_MOST_COLD_SHARE = 0.5
_CYCLES_OF_COLD_MISS = 100.0
# Lines that others displaced have to be fetched again: so many times the usual misses where all are.
_REFETCHED = 2.0
_NOISE = 0.07
_SLOW_NOISE = 0.04
_SLOW_NOISE_TICKS = 30


class Losses(NamedTuple):
    """Cycles that each container, [C], would not have spent, by cause; `to_others` is [victim, aggressor].

    `smt` is what the sibling CPU cost it, whoever ran there; with others, it is in `to_others` too.
    """

    to_others: Floats
    smt: Floats
    cold_caches: Floats
    throttling: Floats


class Block(NamedTuple):
    """A block of ticks. Columns from `tick` to `misses` are of each tick and thread that ran or was to."""

    first_tick: int
    ticks: int
    tick: Ints
    cpu: Ints
    container: Ints
    slots: Records
    """What the scheduler says of it."""
    cycles: Ints
    instructions: Ints
    misses: Ints
    idle_ns: Ints
    """[T, K]: what is left of each CPU's tick."""
    wanted_ns: Floats
    """[C]: CPU time that it wanted, as it was slowed down by neighbours."""
    losses: Losses
    schedule: Schedule


class SimulatedNode:
    """Makes the blocks of a run of `ticks`, numbered from 0."""

    def __init__(self, scenario: Scenario, shape: NodeShape, *, seed: int, ticks: int) -> None:
        self._seed = seed
        self.ticks = ticks
        self.shape = shape
        self.scenario = scenario
        self.demand = Demand(scenario, shape, ticks, self._random)
        containers = scenario.containers
        threads = self.demand.container_of_thread
        self._cpi = np.array([c.cpi for c in containers])[threads]
        self._work_effect = np.array([c.work_effect for c in containers])[threads]
        self._refetches = np.minimum(1.0, np.array([c.cache_sensitivity for c in containers]))[threads]
        self._takes_longer = np.array([not c.is_batch for c in containers])[threads]
        self._scheduler = Scheduler(scenario, shape, threads)
        self._stolen = StolenTime(scenario.steal, shape.cpus, ticks, self._random)
        self._neighbours = Neighbours(scenario, shape, threads)
        self._foreseen_neighbours = Neighbours(scenario, shape, threads)
        self._cold_caches = ColdCaches(np.array([c.cold_cycles for c in containers]))

    def blocks(self) -> Iterator[Block]:
        """The run, from its first tick to its last; once."""
        for number, first in enumerate(range(0, self.ticks, BLOCK_TICKS)):
            yield self._block(np.arange(first, min(first + BLOCK_TICKS, self.ticks)), number)

    def _block(self, ticks: Ints, number: int) -> Block:
        random = self._random("speed", number)
        wanted = self.demand.wanted(ticks, number)
        homes = self.demand.homes(ticks)
        frequency = self.shape.frequency_ghz * random.normal(1.0, 0.005, homes.shape)
        # Cycles per instruction alone, but for what the tick's own work does to it.
        cpi = self._cpi * wanted.cpi_factor * self._noise(random, homes.shape)
        misses_of_tick = TICK_NS * frequency * wanted.mpki / 1_000
        foreseen = self._foreseen_neighbours.meet(
            wanted.work * misses_of_tick / (cpi * self._own_work(wanted.work)), wanted.work, homes
        )
        longer = np.where(self._takes_longer, foreseen.factor, 1.0)
        wishes = self._wishes(ticks, number, homes, wanted, longer)
        schedule = self._scheduler.run(wishes)

        slots = schedule.slots
        cpu, time_ns = slots["cpu"], slots["time_ns"]
        ran_ns = time_ns - slots["stolen_ns"]
        ran = ran_ns / TICK_NS
        cpi_alone = cpi * self._own_work(ran)
        meeting = self._neighbours.meet(ran / longer * misses_of_tick / cpi_alone, ran, cpu)
        cycles = np.rint(ran_ns * frequency).astype(np.int64)
        starts = self._cold_caches.starts(ticks, self._by_container(time_ns) > 0, schedule.is_throttled)
        cold, cold_by_throttling = self._cold_cycles(starts, cycles)
        instructions = np.floor((cycles - cold) / (cpi_alone * meeting.factor)).astype(np.int64)
        refetched = 1 + _REFETCHED * self._refetches * meeting.displaced
        misses = np.rint(instructions * wanted.mpki / 1_000 * refetched + cold / _CYCLES_OF_COLD_MISS).astype(np.int64)

        alone_cycles = instructions * cpi_alone
        by_siblings = alone_cycles * (meeting.factor - meeting.factor_without_siblings())
        losses = Losses(
            to_others=np.stack(
                [meeting.lost_to(aggressor, alone_cycles) for aggressor in range(len(self.scenario.containers))], axis=1
            ),
            smt=self._by_container(by_siblings).sum(axis=0),
            cold_caches=self._by_container(cold - cold_by_throttling).sum(axis=0),
            throttling=self._by_container(cold_by_throttling).sum(axis=0),
        )
        is_told = (time_ns > 0) | (slots["waits"] > 0)
        row, thread = np.nonzero(is_told)
        idle_ns = TICK_NS - sum_by_cpu(time_ns, cpu, self.shape.cpus).astype(np.int64)
        return Block(
            first_tick=int(ticks[0]),
            ticks=len(ticks),
            tick=ticks[row],
            cpu=cpu[is_told],
            container=self.demand.container_of_thread[thread],
            slots=slots[is_told],
            cycles=cycles[is_told],
            instructions=instructions[is_told],
            misses=misses[is_told],
            idle_ns=idle_ns,
            wanted_ns=self._by_container(wishes.work_ns).sum(axis=0),
            losses=losses,
            schedule=schedule,
        )

    def _wishes(self, ticks: Ints, number: int, homes: Ints, wanted: Wanted, longer: Floats) -> Wishes:
        work = wanted.work * longer
        stolen_from_ns, stolen_until_ns = self._stolen.intervals(ticks, number)
        return Wishes(
            first_tick=int(ticks[0]),
            homes=homes,
            work_ns=np.rint(work * TICK_NS).astype(np.int64),
            # Alone on its CPU, it has done it at the end of the tick.
            offset_ns=(wanted.begin * np.maximum(0.0, 1.0 - work) * TICK_NS).astype(np.int64),
            is_alive=self.demand.is_alive(ticks),
            stolen_from_ns=stolen_from_ns,
            stolen_until_ns=stolen_until_ns,
        )

    def _own_work(self, work: Floats) -> Floats:
        effect: Floats = 1 + self._work_effect * (work - 0.5)
        return effect

    def _noise(self, random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """What nobody explains: for each tick, and on it for some tens of ticks. Skewed to the right, as CPI is."""
        ticks, threads = shape
        slow = random.normal(0.0, _SLOW_NOISE, (ticks // _SLOW_NOISE_TICKS + 1, threads))
        return np.exp(random.normal(0.0, _NOISE, shape) + np.repeat(slow, _SLOW_NOISE_TICKS, axis=0)[:ticks])

    def _cold_cycles(self, starts: ColdStarts, cycles: Ints) -> tuple[Floats, Floats]:
        """[T, J] cycles lost to cold caches, and of these those for which a quota is to blame.

        Shared out among the threads that ran; a part of their cycles at most.
        """
        of_container = self._by_container(cycles)
        share = np.minimum(
            np.divide(starts.cycles, of_container, out=np.zeros_like(starts.cycles), where=of_container > 0),
            _MOST_COLD_SHARE,
        )
        cold = cycles.astype(np.float64) * share[:, self.demand.container_of_thread]
        by_throttling = (starts.by_throttling > 0)[:, self.demand.container_of_thread]
        return cold, np.where(by_throttling, cold, 0.0)

    def _by_container(self, values: Floats | Ints) -> Floats:
        return sum_by_container(values, self.demand.container_of_thread, len(self.scenario.containers))

    def _random(self, purpose: str, number: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._seed, number, *purpose.encode()])
