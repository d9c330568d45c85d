# SPDX-License-Identifier: Apache-2.0
"""Random courses of time, known for every tick of a run without being held for each."""

import numpy as np
import numpy.typing as npt

from tracer.simulate.scenario import Bursts

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Steps:
    """Values, drawn evenly between two bounds, of which each holds for a random time with an exponential distribution.

    Ticks count from the beginning of the run.
    """

    def __init__(self, random: np.random.Generator, ticks: int, *, mean_ticks: float, low: float, high: float) -> None:
        # More than enough: the number of changes has a standard deviation of its root.
        expected = ticks / mean_ticks
        changes = int(expected + 6 * np.sqrt(expected) + 8)
        self._times = np.cumsum(random.exponential(mean_ticks, changes))
        self._values = random.uniform(low, high, changes + 1)

    def at(self, ticks: Ints) -> Floats:
        """The value in each of these ticks."""
        return self._values[np.searchsorted(self._times, ticks, side="right")]


class SharedLoad:
    """How much all services have to do, about 1: a slow wave, with surges of some hundred ticks on it."""

    def __init__(self, random: np.random.Generator, ticks: int) -> None:
        self._period = random.uniform(8_000, 14_000)
        self._phase = random.uniform(0, 2 * np.pi)
        self._surges = Steps(random, ticks, mean_ticks=250.0, low=-0.5, high=0.5)

    def at(self, ticks: Ints) -> Floats:
        """The load in each of these ticks, 0.2 to 1.8."""
        wave: Floats = 0.3 * np.sin(2 * np.pi * ticks / self._period + self._phase)
        return 1 + wave + self._surges.at(ticks)


class BurstTimes:
    """When the bursts of a container begin and end: `begins` and `ends` in ticks of the run, an end being past it."""

    def __init__(self, random: np.random.Generator, ticks: int, bursts: Bursts, load: SharedLoad) -> None:
        first, last = int(ticks * bursts.begin), int(ticks * bursts.end)
        shortest, longest = bursts.lengths
        # More than enough, as above.
        expected = max(last - first, 0) / (bursts.mean_gap + (shortest + longest) / 2)
        count = int(expected + 6 * np.sqrt(expected) + 8)
        lengths = random.integers(shortest, longest + 1, count)
        gaps = np.ceil(random.exponential(bursts.mean_gap, count)).astype(np.int64)
        begins = first + np.cumsum(gaps + lengths) - lengths
        ends = begins + lengths
        wanted = ends <= last
        if bursts.follows_load:
            wanted &= random.uniform(0.6, 1.4, count) < load.at(begins)
        self.begins: Ints = begins[wanted]
        self.ends: Ints = ends[wanted]

    def at(self, ticks: Ints) -> npt.NDArray[np.bool_]:
        """Whether each of these ticks is in a burst."""
        return np.searchsorted(self.begins, ticks, side="right") > np.searchsorted(self.ends, ticks, side="right")
