# SPDX-License-Identifier: Apache-2.0
"""How much a ratio of sums changed between two series of time slices, and how sure that is.

A ratio such as cycles per instruction is taken of sums, so that each slice weighs as much as its denominator. Slices
near each other are alike (a container has phases), so that their scatter alone would promise far too much. The variance
is therefore taken from the slowest movements of each series alone, its projections on a few cosines, which leaves
Student's t with as many degrees of freedom (Müller, "HAC corrections for strongly autocorrelated time series", 2014;
Lazarus, Lewis, Stock and Watson, "HAR inference: recommendations for practice", 2018), and of two series those that
Welch gives them. What makes slices alike must last less than about a fifteenth of the series. All is on a logarithmic
scale, as changes are factors.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Fewer say nothing of slow movements.
LEAST_SLICES: Final = 32

# Cosines: the more, the surer is the variance, if they are still slow against the phases of a container. Those last for
# seconds, however long the series is.
_WAVES: Final = (4, 16)
_SECONDS_A_WAVE: Final = 15
_SLICES_A_WAVE: Final = 8

Floats = NDArray[np.float64]


class Series(NamedTuple):
    """Numerator and denominator of each slice of `slice_seconds`, in order of time; neither is negative."""

    numerator: Floats
    denominator: Floats
    slice_seconds: float

    @property
    def ratio(self) -> float:
        """The ratio of the sums."""
        return float(self.numerator.sum() / self.denominator.sum())

    @property
    def waves(self) -> int:
        """How many cosines are slow enough, and with that the degrees of freedom of `log_variance`."""
        slices = len(self.numerator)
        least, most = _WAVES
        return max(least, min(most, int(slices * self.slice_seconds / _SECONDS_A_WAVE), slices // _SLICES_A_WAVE))

    def log_variance(self) -> float:
        """Variance of the logarithm of `ratio`."""
        # How far each slice pulls the logarithm away; together they do not.
        pulls = self.numerator / self.numerator.sum() - self.denominator / self.denominator.sum()
        times = (np.arange(len(pulls)) + 0.5) / len(pulls)
        waves = math.sqrt(2) * np.cos(np.pi * np.outer(np.arange(1, self.waves + 1), times))
        return float(np.mean((waves @ pulls) ** 2))


class Change(NamedTuple):
    """From one ratio to another: the natural logarithm of their quotient, its standard error, the degrees of freedom.

    `effect` is Cliff's delta, -1 to 1: the share of pairs of slices of which the later is higher, less that of which
    it is lower, when each slice counts as much as it weighs.
    """

    before: float
    after: float
    log_quotient: float
    standard_error: float
    degrees: int
    effect: float

    @property
    def quotient(self) -> float:
        """`after` divided by `before`."""
        return math.exp(self.log_quotient)

    def interval(self, confidence: float) -> tuple[float, float]:
        """The quotients between which the true one is with this confidence, 0 to 1."""
        reach = student_quantile((1 + confidence) / 2, self.degrees) * self.standard_error
        # Beyond, it is as good as infinite.
        low, high = self.log_quotient - reach, min(self.log_quotient + reach, 700.0)
        return math.exp(low), math.exp(high)

    def p_value(self) -> float:
        """The probability of a change so great, either way, if there were none."""
        if self.standard_error == 0:
            return float(self.log_quotient == 0)
        return 2 * (1 - student_cdf(abs(self.log_quotient) / self.standard_error, self.degrees))


def find_change(before: Series, after: Series) -> Change | str:
    """The change of the ratio from one series to the other; why nobody can tell, where that is so."""
    before, after = _running(before), _running(after)
    for side, series in (("A", before), ("B", after)):
        if len(series.denominator) < LEAST_SLICES:
            return f"too little of it in {side}: {len(series.denominator)} time slices, {LEAST_SLICES} are needed"
    for side, series in (("A", before), ("B", after)):
        if not series.numerator.any():
            return f"none in {side}"
    variances = [(series.log_variance(), series.waves) for series in (before, after)]
    return Change(
        before=before.ratio,
        after=after.ratio,
        log_quotient=math.log(after.ratio / before.ratio),
        standard_error=math.sqrt(sum(variance for variance, _degrees in variances)),
        degrees=_degrees_of_freedom(variances),
        effect=cliffs_delta(before, after),
    )


def cliffs_delta(before: Series, after: Series) -> float:
    """P(after > before) - P(after < before) of the slices' own ratios, drawn in proportion to their denominators."""
    ratios = before.numerator / before.denominator
    order = np.argsort(ratios, kind="stable")
    # Weight of all slices of `before` that are among the first ones of that order, by their number.
    weights = np.concatenate(([0.0], np.cumsum(before.denominator[order])))
    values = after.numerator / after.denominator
    below = weights[np.searchsorted(ratios[order], values, side="left")]
    above = weights[-1] - weights[np.searchsorted(ratios[order], values, side="right")]
    # Rounding can be a little beyond.
    return float(np.clip(np.average(below - above, weights=after.denominator) / weights[-1], -1, 1))


def hold_together(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several findings hold if the chance that any of these is wrong must not exceed `level` (Holm, 1979)."""
    held = [False] * len(p_values)
    for rank, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[position] > level / (len(p_values) - rank):
            break
        held[position] = True
    return held


def student_cdf(t: float, degrees: int) -> float:
    """Student's distribution function, for an even number of `degrees` of freedom: then it is a finite sum."""
    square = degrees / (degrees + t * t)
    term = total = 1.0
    for k in range(1, degrees // 2):
        term *= square * (2 * k - 1) / (2 * k)
        total += term
    return 0.5 + 0.5 * t / math.sqrt(degrees + t * t) * total


def student_quantile(probability: float, degrees: int) -> float:
    """The t at which `student_cdf` is `probability`, from 0.5 to below 1."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < probability else (low, middle)
    return high


def _running(series: Series) -> Series:
    """Without the slices of no weight: slow movements are those of the time in which it ran."""
    ran = series.denominator > 0
    return Series(series.numerator[ran], series.denominator[ran], series.slice_seconds)


def _degrees_of_freedom(variances: Sequence[tuple[float, int]]) -> int:
    """Welch's, of a sum of variances with degrees of freedom of their own; rounded down to an even number."""
    shares = sum(variance**2 / degrees for variance, degrees in variances)
    if shares == 0:
        return min(degrees for _variance, degrees in variances) // 2 * 2
    return int(sum(variance for variance, _degrees in variances) ** 2 / shares) // 2 * 2
