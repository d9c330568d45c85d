# SPDX-License-Identifier: Apache-2.0
"""What a pause costs: after it, a container's lines have to be fetched anew."""

from typing import NamedTuple

import numpy as np

from tracer.simulate.random_times import Floats, Ints

_NEVER = -(10**9)
# After so long a pause, most of a container's lines are gone.
_GONE_AFTER_TICKS = 30.0


class ColdStarts(NamedTuple):
    """Both [T, C]: cycles that it costs, and of these those for which a quota is to blame."""

    cycles: Floats
    by_throttling: Floats


class ColdCaches:
    """Remembers from block to block when each container last ran and was last throttled."""

    def __init__(self, cold_cycles: Floats) -> None:
        self._cold_cycles = cold_cycles
        self._last_run = np.full(len(cold_cycles), _NEVER)
        self._last_throttled = np.full(len(cold_cycles), _NEVER - 1)

    def starts(
        self,
        ticks: Ints,
        ran: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
        throttled: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    ) -> ColdStarts:
        """What beginning to run costs in each of these ticks; `ran` and `throttled` are [T, C]."""
        last_run = _latest(ticks, ran, self._last_run)
        last_throttled = _latest(ticks, throttled, self._last_throttled)
        run_before, throttled_before = last_run[:-1], last_throttled[:-1]
        pause = ticks[:, None] - run_before - 1
        cycles = np.where(ran, self._cold_cycles * -np.expm1(-pause / _GONE_AFTER_TICKS), 0.0)
        self._last_run, self._last_throttled = last_run[-1], last_throttled[-1]
        return ColdStarts(cycles, np.where(throttled_before >= run_before, cycles, 0.0) * (pause > 0))


def _latest(ticks: Ints, happened: np.ndarray[tuple[int, int], np.dtype[np.bool_]], before: Ints) -> Ints:
    """[T + 1, C]: the latest tick in which it happened, before each of the ticks and after the last."""
    times = np.vstack([before, np.where(happened, ticks[:, None], _NEVER - 1)])
    return np.maximum.accumulate(times, axis=0)
