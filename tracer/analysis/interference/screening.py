# SPDX-License-Identifier: Apache-2.0
"""Which suspects a victim responds to at all, how late, and how likely that is by chance: one by one, before any model.

A suspects, N rows.
"""

from math import erfc, sqrt

import numpy as np

from tracer.analysis.interference.model import outcome
from tracer.analysis.interference.regression import Floats, Ints, residuals, without_means
from tracer.analysis.interference.rows import Segment, Source, VictimRows

# The suspect's traffic of another time, which cannot have done anything.
_PLACEBOS = 16
# A later effect is believed if it stands out from that at once by so many times what other times give.
_LATER_IF = 3.0
# Rows whose traffic is more than this share of the largest are the ones in which a suspect does something.
_SOME_TRAFFIC = 0.1
_ROWS_OF_MEDIAN = 5_000


class Screen:
    """A victim's response to each suspect's traffic, one by one: at each lag, and at times that cannot matter."""

    def __init__(self, source: Source) -> None:
        count = len(source.suspects)
        self.rows = 0
        self.controls = 0
        self.at_lag = np.zeros((source.lags + 1, count))
        self.at_other_times = np.zeros((_PLACEBOS, count))
        self._knots: list[Floats] = []

    def add(self, source: Source, segment: Segment, rows: VictimRows) -> None:
        use = rows.is_usable
        self.rows += int(use.sum())
        self.controls = rows.controls.shape[1]
        if use.sum() < 2:
            return
        weights, explained = outcome(source, rows)
        columns = np.column_stack([rows.controls[use], rows.rest[use], explained])
        unexplained = np.zeros(len(use))
        unexplained[use] = residuals(without_means(columns, weights, rows.step[use] // source.stretch_steps)) * np.sqrt(
            weights
        )
        self.at_lag += rows.responses(unexplained, np.arange(source.lags + 1))
        other_times = np.linspace(0.1, 0.9, _PLACEBOS) * segment.steps
        self.at_other_times += rows.responses(unexplained, other_times.astype(np.int64))
        self._knots.append(_middles(rows.traffic(np.zeros(len(source.suspects), np.int64))[use]))

    @property
    def noise(self) -> Floats:
        """[A]: what traffic of other times gives, root mean square."""
        found: Floats = np.sqrt((self.at_other_times**2).mean(axis=0)) + 1e-300
        return found

    @property
    def lags(self) -> Ints:
        """[A]: how many steps later the victim responds most."""
        gain = self.at_lag.max(axis=0) - self.at_lag[0]
        found: Ints = np.where(gain > _LATER_IF * self.noise, self.at_lag.argmax(axis=0), 0)
        return found

    @property
    def p_values(self) -> Floats:
        """[A]: the chance of the response at its lag, if it were one at any time."""
        response = np.take_along_axis(self.at_lag, self.lags[None, :], axis=0)[0]
        return np.array([above(*one) for one in zip(response, self.noise, strict=True)])

    @property
    def knots(self) -> Floats:
        """[A]"""
        found: Floats = np.median(self._knots, axis=0) if self._knots else np.zeros(self.at_lag.shape[1])
        return found


def above(value: float, error: float) -> float:
    """The chance of a value that large by nothing but an error of that standard deviation."""
    return 0.5 * erfc(value / error / sqrt(2)) if error > 0 else 1.0


def _middles(traffic: Floats) -> Floats:
    """[A]: the median of each suspect's traffic while it is at something."""
    few = traffic[:: max(1, len(traffic) // _ROWS_OF_MEDIAN)]
    return np.array([np.median(one[one > _SOME_TRAFFIC * one.max()]) if one.any() else 0.0 for one in few.T])
