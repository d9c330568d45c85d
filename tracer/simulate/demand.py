# SPDX-License-Identifier: Apache-2.0
"""What the containers of a scenario want in each tick, and on which CPUs their threads would like to be."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tracer.simulate.random_times import BurstTimes, Floats, Ints, SharedLoad, Steps
from tracer.simulate.scenario import Scenario
from tracer.simulate.shape import NodeShape

# How long a thread prefers a CPU, and how long a container's mix of work stays the same, on average.
_STAYS_TICKS = 400.0
_PHASE_TICKS = 2_000.0
# A thread works, or does not, for some ticks. When it does, a service's wants this share of a tick on average.
_STRETCH_TICKS = 6.0
_WORK_OF_SERVICE = 0.6
_WORK_OF_BATCH = 0.95


class Wanted(NamedTuple):
    """All [T, J]: share of the tick each thread would run if it were alone, where in what is left of the tick it begins
    (0 to 1), its misses per 1,000 instructions, and cycles per instruction as a multiple of its container's, by its mix
    of work."""

    work: Floats
    begin: Floats
    mpki: Floats
    cpi_factor: Floats


class Demand:
    """The wishes of a run. `random` makes the generator of a purpose."""

    def __init__(
        self, scenario: Scenario, shape: NodeShape, ticks: int, random: Callable[..., np.random.Generator]
    ) -> None:
        containers = scenario.containers
        self.container_of_thread = np.array([index for index, c in enumerate(containers) for _ in range(c.threads)])
        self.lives = np.array([(round(c.begin * ticks), round(c.end * ticks)) for c in containers])
        self.load = SharedLoad(random("load"), ticks)
        self.bursts = {
            index: BurstTimes(random("bursts", index), ticks, container.bursts, self.load)
            for index, container in enumerate(containers)
            if container.bursts is not None
        }
        self._containers = containers
        self._random = random
        self._place_in_container = np.concatenate([np.arange(c.threads) for c in containers])
        self._work_when_busy = np.array(
            [(_WORK_OF_BATCH if c.is_batch else _WORK_OF_SERVICE) if c.work is None else c.work for c in containers]
        )
        self._allowed = [np.array(c.allowed_cpus(shape)) for c in containers]
        self._homes = [
            Steps(random("homes", index), ticks, mean_ticks=_STAYS_TICKS, low=0.0, high=1.0)
            for index in range(len(containers))
        ]
        self._phases = [
            Steps(random("phases", index), ticks, mean_ticks=_PHASE_TICKS, low=-0.3, high=0.3)
            for index in range(len(containers))
        ]

    def homes(self, ticks: Ints) -> Ints:
        """[T, J]: the CPU that each thread prefers. A container's threads lie side by side, and move together."""
        homes = np.empty((len(ticks), len(self.container_of_thread)), np.int64)
        for thread, of in enumerate(self.container_of_thread.tolist()):
            allowed = self._allowed[of]
            first = np.floor(self._homes[of].at(ticks) * len(allowed)).astype(np.int64)
            homes[:, thread] = allowed[(first + self._place_in_container[thread]) % len(allowed)]
        return homes

    def is_alive(self, ticks: Ints) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
        """[T, J]"""
        begin, end = self.lives[self.container_of_thread].T
        alive: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (ticks[:, None] >= begin) & (ticks[:, None] < end)
        return alive

    def wanted(self, ticks: Ints, block: int) -> Wanted:
        """What the threads want in these ticks, which are the block of that number."""
        random = self._random("work", block)
        threads = self.container_of_thread
        shape = (len(ticks), len(threads))
        load = self.load.at(ticks)
        phases = np.stack([phase.at(ticks) for phase in self._phases], axis=1)

        relative = np.empty((len(ticks), len(self._containers)))
        mpki = np.empty_like(relative)
        in_burst = np.zeros(relative.shape, bool)
        for index, container in enumerate(self._containers):
            relative[:, index] = 1 + container.shared_load * (load - 1)
            mpki[:, index] = container.mpki * (1 + phases[:, index])
            if container.bursts is not None:
                in_burst[:, index] = self.bursts[index].at(ticks)
                mpki[in_burst[:, index], index] = container.bursts.mpki
        is_batch = np.array([c.is_batch for c in self._containers])[threads]
        when_busy = self._work_when_busy[threads]
        probability = np.array([c.load for c in self._containers])[threads] / when_busy
        is_busy = _held(random.random(shape), random.random(shape) < 1 / _STRETCH_TICKS) < probability
        # More requests make fuller ticks, not longer stretches.
        amount = np.where(is_batch, when_busy, random.gamma(4.0, when_busy / 4, shape)) * relative[:, threads]
        work = np.where(is_busy, np.minimum(1.0, amount), 0.0)
        work = np.where(in_burst[:, threads], 1.0, work) * self.is_alive(ticks)
        return Wanted(
            work=work,
            begin=self._random("begin", block).random(shape),
            mpki=mpki[:, threads] * np.exp(random.normal(0, 0.15, shape)),
            # Half of what a miss more costs, another half being hidden behind other work.
            cpi_factor=np.where(in_burst, 1.0, 1 + 0.5 * phases)[:, threads],
        )


def _held(values: Floats, changes: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Floats:
    """In each column, the value at the latest change; the first row is one."""
    rows = np.arange(len(values))[:, None]
    latest = np.maximum.accumulate(np.where(changes, rows, 0), axis=0)
    return np.take_along_axis(values, latest, axis=0)
