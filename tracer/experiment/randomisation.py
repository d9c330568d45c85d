# SPDX-License-Identifier: Apache-2.0
"""The difference between paused and other slots, with an interval that needs no model of what was measured.

In each block a coin decides which of two slots is the one with the pause. If pausing changed nothing, what was
measured would be the same under any other throw of the coins, however it is distributed, follows a rhythm, or depends
on what was before: so the chance of a difference as large as the one seen is counted by throwing them again. The
interval has those differences that, taken off the paused slots, leave nothing larger than chance (the test inverted).
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_DRAWS = 9_999
# Coins thrown at a time.
_CHUNK = 1 << 22
_LARGEST = 2.0**60
_STEPS = 50


class Slots(NamedTuple):
    """What was measured by block, as a ratio of two sums: waiting and CPU time, cycles and instructions."""

    numerator: Floats
    denominator: Floats

    @property
    def ratio(self) -> float:
        """Over all of them; not a number where there is nothing to divide by."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total else math.nan


class Difference(NamedTuple):
    """The other slots' ratio less that of the paused ones, from low to high; infinite where nothing bounds it.

    `p_value`: the chance of a difference as far from 0, if pausing changes nothing.
    """

    value: float
    low: float
    high: float
    p_value: float


class _Throws:
    """The sums that other throws of the coins would have given, for any difference taken off the paused slots."""

    def __init__(self, paused: Slots, other: Slots, generator: np.random.Generator) -> None:
        blocks = len(paused.numerator)
        # Of the slots that these throws keep paused, and of those that they swap in.
        kept = np.column_stack([*paused, *other])
        swapped = np.column_stack([*other, *paused])
        sums = []
        for begin in range(0, _DRAWS, step := max(1, _CHUNK // max(blocks, 1))):
            keep = generator.integers(0, 2, (min(step, _DRAWS - begin), blocks)).astype(np.float64)
            moved = np.column_stack([keep @ paused.denominator, (1 - keep) @ paused.denominator])
            sums.append(np.column_stack([keep @ kept + (1 - keep) @ swapped, moved]))
        self._sums = np.concatenate(sums)
        self.seen = other.ratio - paused.ratio

    def p_value(self, shift: float) -> float:
        """The share of throws, with the real one, whose difference is as large once `shift` is taken off."""
        paused, paused_by, other, other_by, to_paused, to_other = self._sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            differences = (other + shift * to_other) / other_by - (paused + shift * to_paused) / paused_by
        seen = abs(self.seen - shift)
        # Equal ones must not fall to one side or the other by rounding. What cannot be told is as large as any.
        is_smaller = np.abs(differences) < seen - 1e-9 * (seen + abs(self.seen))
        return float(1 + np.count_nonzero(~is_smaller)) / (1 + _DRAWS)


def difference(paused: Slots, other: Slots, confidence: float, generator: np.random.Generator) -> Difference:
    """What was more in the other slots, with an interval of `confidence` (0 to 1); blocks are in the same order."""
    throws = _Throws(paused, other, generator)
    if math.isnan(throws.seen):
        return Difference(math.nan, -math.inf, math.inf, 1.0)
    scale = max(abs(throws.seen), abs(other.ratio), abs(paused.ratio), 1e-12) / 64
    low, high = (_bound(throws, direction * scale, 1 - confidence) for direction in (-1, 1))
    return Difference(throws.seen, low, high, throws.p_value(0.0))


def _bound(throws: _Throws, step: float, alpha: float) -> float:
    """The end of the interval on the side of `step`: beyond it the test rejects."""
    inside, outside = 0.0, step
    while throws.p_value(throws.seen + outside) > alpha:
        inside, outside = outside, 2 * outside
        if abs(outside) > _LARGEST * abs(step):
            return math.copysign(math.inf, step)
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if throws.p_value(throws.seen + middle) > alpha:
            inside = middle
        else:
            outside = middle
    return throws.seen + outside
