# SPDX-License-Identifier: Apache-2.0
"""A victim's model: what its columns are, and what follows from it.

V victims, A suspects, C controls, N rows, F columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tracer.analysis.interference.regression import Floats, Ints
from tracer.analysis.interference.rows import Source, VictimRows

# A response is two straight lines, of little traffic and of much.
_PIECES = 2


class Pair(NamedTuple):
    """A victim, a suspect, and the cycles lost between them: an estimate, its interval of 95 %, and a p-value.

    share: of the victim's cycles that were counted, `cycles`. delay_steps: how much later it is felt. sibling_share:
    what part of the share was on the SMT sibling.
    """

    victim: int
    suspect: int
    cycles: float
    share: float
    low: float
    high: float
    sibling_share: float
    delay_steps: int
    p_value: float


class Layout(NamedTuple):
    """The columns of a victim's model: C controls, the traffic of the rest, two pieces a suspect, interactions.

    lags: [A], steps after which each suspect's traffic is felt. knots: [A], where its response may bend.
    interactions: pairs of suspects, by their places.
    """

    controls: int
    lags: Ints
    knots: Floats
    interactions: list[tuple[int, int]]

    def features(self, rows: VictimRows) -> Floats:
        """[N, F]"""
        traffic = rows.traffic(self.lags)
        together = [traffic[:, one] * traffic[:, other] for one, other in self.interactions]
        return np.column_stack([rows.controls, rows.rest, _bent(traffic, self.knots), *together])

    def belongs(self, suspect: int) -> Floats:
        """[F]: 1 for the columns that are this suspect's doing, by its place."""
        belongs = np.zeros(self.controls + 1 + _PIECES * len(self.lags) + len(self.interactions))
        first = self.controls + 1 + _PIECES * suspect
        belongs[first : first + _PIECES] = 1
        for number, pair in enumerate(self.interactions):
            belongs[len(belongs) - len(self.interactions) + number] = suspect in pair
        return belongs


class Fitted(NamedTuple):
    """A victim's model, and what follows from it for each suspect but itself.

    cycles, instructions: those that were counted. coefficients: [F], of the columns that `layout` describes.
    sibling_share, cold_share: of its cycles, lost to whoever ran on the SMT sibling, and after pauses; None where
    nobody can tell.
    """

    victim: int
    cycles: float
    instructions: float
    layout: Layout
    coefficients: Floats
    sibling_share: float | None
    cold_share: float | None
    pairs: list[Pair]


def outcome(source: Source, rows: VictimRows) -> tuple[Floats, Floats]:
    """Of the usable rows, what they weigh and what is to be explained: so that effects times weights are cycles."""
    cycles, instructions = rows.cycles[rows.is_usable], rows.instructions[rows.is_usable]
    return (cycles, np.log(cycles / instructions)) if source.is_ratio else (instructions, cycles / instructions)


def lost_by_row(source: Source, model: Fitted, rows: VictimRows, suspects: Sequence[int]) -> Floats:
    """[N, len(suspects)]: the cycles that the victim lost to each of them in each row, by its model."""
    places = [source.suspects.index(suspect) for suspect in suspects]
    features = model.layout.features(rows)
    # [F, suspects]
    effects = np.stack([model.layout.belongs(place) * model.coefficients for place in places], axis=1)
    lost: Floats = features @ effects
    if source.sibling_control is not None and rows.sibling is not None:
        lost += rows.sibling[:, places] * model.coefficients[source.sibling_control]
    if not source.is_ratio:
        return lost * rows.instructions[:, None]
    # What several neighbours do at once multiplies, and is shared out by what each of them does.
    first = model.layout.controls + 1
    together: Floats = features[:, first:] @ model.coefficients[first:]
    per_effect = np.divide(-np.expm1(-together), together, out=np.ones(len(together)), where=together != 0)
    return lost * (rows.cycles * per_effect)[:, None]


def _bent(traffic: Floats, knots: Floats) -> Floats:
    """[N, 2 A]: for each suspect its traffic up to the knot, and beyond."""
    pieces = np.stack([np.minimum(traffic, knots), np.maximum(traffic - knots, 0.0)], axis=2)
    return pieces.reshape(len(traffic), _PIECES * len(knots))
