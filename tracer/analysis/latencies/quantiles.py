# SPDX-License-Identifier: Apache-2.0
"""Quantiles of values that were counted, of two groups of moments, and how sure their difference is."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.analysis.findings import Estimate

Floats = npt.NDArray[np.float64]

_RESAMPLES: Final = 1000
_SEED: Final = 1
_CONFIDENCE: Final = 0.95


class Groups(NamedTuple):
    """Values of two groups by cluster: moments that are near to each other, whose values are not independent.

    values: [V], ascending. during, otherwise: [C, V], how often each came in each cluster. independent: of
    both groups the number of values, of which those that stand for several, as of a sample rate, count as one.
    """

    values: Floats
    during: Floats
    otherwise: Floats
    independent: tuple[float, float]


def quantile(values: Floats, counts: Floats, share: float) -> float:
    """The least of `values` [V], ascending, up to which that share of all that were counted [V] lies; nan for none."""
    return float(_quantiles(values, counts[None, :], share)[0])


def difference(groups: Groups, share: float, looked_at: int) -> tuple[Estimate, bool]:
    """By how much that quantile is larger in `during`, and whether it is so beyond doubt.

    By drawing clusters anew: so values of one moment count as one, not as many. The interval is of 95 %; for there to
    be no doubt, one is asked for that is as wide as there were pairs of groups `looked_at`.
    """
    found = quantile(groups.values, groups.during.sum(axis=0), share) - quantile(
        groups.values, groups.otherwise.sum(axis=0), share
    )
    clusters = len(groups.during)
    drawn = np.random.default_rng(_SEED).multinomial(clusters, np.full(clusters, 1 / clusters), _RESAMPLES)
    weights = drawn.astype(np.float64)
    differences = _quantiles(groups.values, weights @ groups.during, share) - _quantiles(
        groups.values, weights @ groups.otherwise, share
    )
    differences = differences[~np.isnan(differences)]
    low, high = np.quantile(differences, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    surely = np.quantile(differences, max((1 - _CONFIDENCE) / 2 / looked_at, 1 / _RESAMPLES))
    return Estimate(value=found, low=float(min(low, found)), high=float(max(high, found))), bool(surely > 0)


def _quantiles(values: Floats, counts: Floats, share: float) -> Floats:
    """Of each row of `counts` [B, V]; nan where nothing was counted."""
    cumulated = counts.cumsum(axis=1)
    total = cumulated[:, -1:]
    found: Floats = values[(cumulated >= share * total).argmax(axis=1)]
    return np.where(total[:, 0] > 0, found, np.nan)
