# SPDX-License-Identifier: Apache-2.0
"""What each thread's neighbours do to it in a block of ticks, and what would be without one of them."""

import numpy as np

from tracer.simulate.interference import displaced_share, slowdown
from tracer.simulate.random_times import Floats, Ints
from tracer.simulate.scenario import LONGEST_DELAY_TICKS, Scenario
from tracer.simulate.shape import NodeShape
from tracer.simulate.sums import sum_by_container, sum_by_cpu


class Neighbours:
    """Who shares what with whom. Traffic of the ticks before a block is kept, for those who feel it late."""

    def __init__(self, scenario: Scenario, shape: NodeShape, container_of_thread: Ints) -> None:
        containers = scenario.containers
        self.container_of_thread = container_of_thread
        self.cpus = shape.cpus
        self.sibling_of_cpu = shape.sibling_of_cpu()
        self.domain = np.array([c.domain for c in containers])
        self.delay = np.array([c.delay_ticks for c in containers])
        self.sensitivities = {
            name: np.array([getattr(c, name) for c in containers])[container_of_thread]
            for name in ("cache_sensitivity", "bandwidth_sensitivity", "smt_sensitivity")
        }
        self._before = np.zeros((LONGEST_DELAY_TICKS, len(containers)))

    def meet(self, traffic: Floats, busy: Floats, cpu: Ints) -> "Meeting":
        """The block with these [T, J] misses and shares of a tick, which each thread has alone, on these CPUs.

        To be called once for each block, in order.
        """
        by_container = sum_by_container(traffic, self.container_of_thread, len(self.domain))
        history = np.vstack([self._before, by_container])
        self._before = history[-LONGEST_DELAY_TICKS:]
        return Meeting(self, history, busy, cpu)


class Meeting:
    """One block. `factor`, [T, J], is how many times as many cycles an instruction takes as it would alone.

    `displaced`, [T, J], is the share of its container's lines that others displaced.
    """

    def __init__(self, neighbours: Neighbours, history: Floats, busy: Floats, cpu: Ints) -> None:
        self._neighbours = neighbours
        self._busy = busy
        self._cpu = cpu
        self._traffic_felt = {
            delay: history[LONGEST_DELAY_TICKS - delay : len(history) - delay]
            for delay in np.unique(neighbours.delay).tolist()
        }
        threads = neighbours.container_of_thread
        self._own_traffic = history[LONGEST_DELAY_TICKS:][:, threads]
        self._others_traffic = np.zeros_like(busy)
        for aggressor in range(len(neighbours.domain)):
            neighbouring = self._sharing_llc(aggressor)
            self._others_traffic[:, neighbouring] += self._traffic_on(aggressor, neighbouring)
        self._sibling_busy = self._busy_on_siblings(slice(None))
        self.displaced = displaced_share(self._others_traffic)
        self.factor = self._factor(slice(None), self._others_traffic, self._sibling_busy)

    def factor_without_siblings(self) -> Floats:
        """[T, J]: the factor if nobody ran on the sibling CPUs."""
        return self._factor(slice(None), self._others_traffic, np.zeros_like(self._busy))

    def lost_to(self, aggressor: int, alone_cycles: Floats) -> Floats:
        """[C]: cycles that each container would not have spent for the same instructions without this neighbour.

        `alone_cycles`, [T, J], is what these instructions would have taken each thread alone.
        """
        neighbours = self._neighbours
        threads = neighbours.container_of_thread
        victims = self._sharing_llc(aggressor)
        without = self._factor(
            victims,
            self._others_traffic[:, victims] - self._traffic_on(aggressor, victims),
            self._sibling_busy[:, victims] - self._busy_on_siblings(threads == aggressor)[:, victims],
        )
        lost = (alone_cycles[:, victims] * (self.factor[:, victims] - without)).sum(axis=0)
        by_container: Floats = np.bincount(threads[victims], lost, len(neighbours.domain)).astype(np.float64)
        return by_container

    def _sharing_llc(self, aggressor: int) -> Ints:
        """The threads of others behind the same last-level cache."""
        neighbours = self._neighbours
        threads = neighbours.container_of_thread
        shares = neighbours.domain[threads] == neighbours.domain[aggressor]
        return np.flatnonzero(shares & (threads != aggressor))

    def _traffic_on(self, aggressor: int, victims: Ints) -> Floats:
        """[T, victims]: its misses, when these threads feel them."""
        delays = self._neighbours.delay[self._neighbours.container_of_thread[victims]]
        felt = np.empty((len(self._busy), len(victims)))
        for delay, traffic in self._traffic_felt.items():
            felt[:, delays == delay] = traffic[:, aggressor, None]
        return felt

    def _busy_on_siblings(self, of_threads: "slice | np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Floats:
        """[T, J]: share of the tick in which these threads run on the sibling of each thread's CPU."""
        sibling = self._neighbours.sibling_of_cpu
        if sibling is None:
            return np.zeros_like(self._busy)
        by_cpu = sum_by_cpu(self._busy[:, of_threads], self._cpu[:, of_threads], self._neighbours.cpus)
        return np.take_along_axis(by_cpu, sibling[self._cpu], axis=1)

    def _factor(self, threads: "Ints | slice", others_traffic: Floats, sibling_busy: Floats) -> Floats:
        return slowdown(
            own_traffic=self._own_traffic[:, threads],
            others_traffic=others_traffic,
            sibling_busy=sibling_busy,
            **{name: values[threads] for name, values in self._neighbours.sensitivities.items()},
        )
