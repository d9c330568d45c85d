# SPDX-License-Identifier: Apache-2.0
"""What a cache remembers of traffic: lines that a burst evicts are missed when they are used again, some ms later."""

from collections.abc import Sequence

import numpy as np
from numba import njit

from tracer.analysis.interference.nonnegative import solve_nonnegative
from tracer.analysis.interference.regression import Bools, Floats, without_means

# After so many ticks, an effect is down to a third: the first is that of the tick itself.
MEMORY_TICKS = (0.0, 3.0, 12.0, 45.0, 150.0)

# Who misses more after others did, so far that this explains such a part of it, follows them.
_FOLLOWS = 0.15
_TRIFLE = 0.02
_FEWEST_TICKS = 200


def remembered(traffic: Floats, ticks: float) -> Floats:
    """[T]: traffic [T], as shares of the cache, that a cache of one memory still feels: at most 1, as no more can go.

    With a memory of 0 ticks, that of the tick itself; else that of all ticks before, each weighing less with time.
    """
    felt = traffic if ticks == 0 else _decayed(np.ascontiguousarray(traffic), float(np.exp(-1 / ticks)))
    found: Floats = -np.expm1(-felt)
    return found


def follows(
    misses: Floats, missed: Floats, instructions: Floats, lines: float, stretch_steps: int, memories: Sequence[float]
) -> Bools:
    """[A]: whether a suspect misses more after others had traffic, of [D, T, A] misses and instructions.

    missed: [D, T], of all. lines: of the cache. memories: in steps.
    """
    found = np.zeros(misses.shape[2], np.bool_)
    for suspect in range(misses.shape[2]):
        domain = int(instructions[:, :, suspect].sum(axis=1).argmax())
        work, own = instructions[domain, :, suspect], misses[domain, :, suspect]
        ran = np.flatnonzero(work > _TRIFLE * np.median(work[work > 0])) if work.any() else np.zeros(0, np.int64)
        if len(ran) < _FEWEST_TICKS:
            continue
        others = (missed[domain] - own) / lines
        felt = [remembered(others, ticks)[ran] for ticks in memories if ticks]
        columns = without_means(np.column_stack([*felt, own[ran] / work[ran]]), work[ran], ran // stretch_steps)
        effects = solve_nonnegative(columns.T @ columns, np.zeros(len(felt), np.bool_))
        unexplained = columns[:, -1] - columns[:, :-1] @ effects
        found[suspect] = (unexplained**2).sum() < (1 - _FOLLOWS) * (columns[:, -1] ** 2).sum()
    return found


@njit(cache=True, nogil=True)
def _decayed(traffic: Floats, kept: float) -> Floats:
    found = np.empty_like(traffic)
    felt = 0.0
    for tick in range(len(traffic)):
        found[tick] = felt
        felt = (felt + traffic[tick]) * kept
    return found
