# SPDX-License-Identifier: Apache-2.0
"""What each container's cycles per instruction were in its own last hour."""

from typing import Final

import numpy as np
import numpy.typing as npt

_PARTS: Final = 12
_PART_NS: Final = 300 * 10**9
# Of 1/8 octave, from 1/16 to 64 cycles per instruction.
_BY_OCTAVE: Final = 8
_LEAST_LOG2: Final = -4
_BINS: Final = 10 * _BY_OCTAVE
_ENOUGH_NS: Final = 60 * 10**9

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class OwnCpi:
    """Instructions by their cycles each, of lines of `ContainerSums`, by five minutes: the last hour of them."""

    def __init__(self, lines: int) -> None:
        self._instructions = np.zeros((_PARTS, lines, _BINS), np.float32)
        self._counted_ns = np.zeros((_PARTS, lines))
        self._newest = -1

    def forget(self, line: int, lines: int) -> None:
        """The line is somebody else's from now on; there are so many of them."""
        if (more := lines - self._counted_ns.shape[1]) > 0:
            self._instructions = np.pad(self._instructions, ((0, 0), (0, more), (0, 0)))
            self._counted_ns = np.pad(self._counted_ns, ((0, 0), (0, more)))
        self._instructions[:, line] = 0
        self._counted_ns[:, line] = 0

    def add(self, lines: Ints, now_ns: int, counted_ns: Ints, cycles: Floats, instructions: Floats) -> None:
        """Takes what containers did in `counted_ns` each, up to `now_ns` of CLOCK_MONOTONIC; NaN was not counted."""
        newest = now_ns // _PART_NS
        if newest > self._newest:
            new = np.arange(max(self._newest + 1, newest - _PARTS + 1), newest + 1) % _PARTS
            self._instructions[new] = 0
            self._counted_ns[new] = 0
            self._newest = newest
        is_known = (cycles > 0) & (instructions > 0)
        lines, instructions = lines[is_known], instructions[is_known]
        place = (np.log2(cycles[is_known] / instructions) - _LEAST_LOG2) * _BY_OCTAVE
        bins = np.clip(place, 0, _BINS - 1).astype(np.int64)
        part = self._newest % _PARTS
        np.add.at(self._instructions[part], (lines, bins), instructions.astype(np.float32))
        np.add.at(self._counted_ns[part], lines, counted_ns[is_known])

    def median(self, lines: Ints) -> Floats:
        """Half of the instructions of the hour had at most that many cycles each; NaN before a minute was counted."""
        lines, inverse = np.unique(lines, return_inverse=True)
        sums = self._instructions[:, lines].sum(axis=0, dtype=np.float64).cumsum(axis=1)
        half = sums[:, -1:] / 2
        bins = (sums < half).sum(axis=1)
        every = np.arange(len(lines))
        below = np.where(bins > 0, sums[every, bins - 1], 0)
        # As if all instructions of a bin were spread evenly over it.
        with np.errstate(invalid="ignore", divide="ignore"):
            within = (half[:, 0] - below) / (sums[every, bins] - below)
        median = 2.0 ** ((bins + within) / _BY_OCTAVE + _LEAST_LOG2)
        is_enough = self._counted_ns[:, lines].sum(axis=0) >= _ENOUGH_NS
        return np.asarray(np.where(is_enough, median, np.nan)[inverse])
