# SPDX-License-Identifier: Apache-2.0
"""What the hypervisor takes of each CPU: in each tick one piece of it, which only a busy CPU loses."""

from collections.abc import Callable

import numpy as np

from tracer.simulate.random_times import Ints, Steps
from tracer.simulate.scenario import Steal
from tracer.simulate.scheduler import TICK_NS


class StolenTime:
    """Each CPU's course of time. `random` makes the generator of a purpose."""

    def __init__(self, steal: Steal | None, cpus: int, ticks: int, random: Callable[..., np.random.Generator]) -> None:
        self._cpus = cpus
        self._random = random
        self._shares = (
            []
            if steal is None
            else [
                Steps(
                    random("steal", cpu), ticks, mean_ticks=steal.mean_ticks, low=steal.shares[0], high=steal.shares[1]
                )
                for cpu in range(cpus)
            ]
        )

    def intervals(self, ticks: Ints, block: int) -> tuple[Ints, Ints]:
        """[T, K]: when, in ns from each tick's beginning, the piece begins and ends; these ticks are the block of that
        number."""
        if not self._shares:
            none = np.zeros((len(ticks), self._cpus), np.int64)
            return none, none
        shares = np.clip(np.stack([course.at(ticks) for course in self._shares], axis=1), 0.0, 1.0)
        begin = self._random("stolen", block).random(shares.shape) * (1 - shares)
        return (begin * TICK_NS).astype(np.int64), ((begin + shares) * TICK_NS).astype(np.int64)
