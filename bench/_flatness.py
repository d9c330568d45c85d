# SPDX-License-Identifier: Apache-2.0
"""Whether a quantity that is sampled over a long run stays what it is, or rises."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BLOCKS = 24
_SIGMAS = 2
HOUR_SECONDS = 3600


class Course(NamedTuple):
    """How a quantity went: medians of the first and of the last third, and the slope of a line through all of it."""

    first: float
    last: float
    slope: float
    """By hour."""
    uncertainty: float
    """Of the slope: two standard errors."""

    def rises(self, bound: float) -> bool:
        """Whether it rises by more than `bound` an hour, as far as can be told; a bound of 0 allows nothing."""
        return self.slope - self.uncertainty > bound and self.last > self.first


def course(seconds: Sequence[float], values: Sequence[float], *, period_seconds: float) -> Course:
    """The course of at least 4 periods. What goes up and down with the period, as rows that wait for a file, is none.

    Means of a few dozen blocks of whole periods depend on each other far less than samples do, so that what is left
    beside the line tells how sure the slope is.
    """
    time, value = np.asarray(seconds, float), np.asarray(values, float)
    begin = time[0]
    periods = int((time[-1] - begin) // period_seconds)
    length = max(1, periods // _BLOCKS) * period_seconds
    block = ((time - begin) // length).astype(int)
    blocks = [number for number in range(int((time[-1] - begin) // length)) if (block == number).any()]
    x = np.array([time[block == number].mean() for number in blocks])
    y = np.array([value[block == number].mean() for number in blocks])
    slope, offset = np.polyfit(x, y, 1)
    rest = y - (slope * x + offset)
    error = np.sqrt((rest**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    third = (time[-1] - begin) / 3
    return Course(
        float(np.median(value[time < begin + third])),
        float(np.median(value[time >= time[-1] - third])),
        float(slope * HOUR_SECONDS),
        float(_SIGMAS * error * HOUR_SECONDS),
    )
