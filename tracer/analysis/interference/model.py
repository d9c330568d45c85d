# SPDX-License-Identifier: Apache-2.0
"""A victim's model: what its columns are, and what follows from it.

V victims, A suspects, C controls, N rows, F columns.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from tracer.analysis.interference.regression import Floats, Ints
from tracer.analysis.interference.rows import Source, VictimRows

# A response is two straight lines, of little traffic and of much.
_PIECES = 2


class Pair(NamedTuple):
    """A victim, a suspect, and the cycles lost between them: an estimate, its interval of 95 %, and a p-value.

    share: of the victim's cycles that were counted, `cycles`. delay_steps: how much later it is felt. sibling_share:
    what part of the share was on the SMT sibling. detectable_share: a loss of that would have been found, None where
    nobody can tell.
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
    detectable_share: float | None = None


class Joint(NamedTuple):
    """Suspects that cannot be told apart, and the share of its cycles that a victim lost to all of them."""

    suspects: list[int]
    share: float
    low: float
    high: float
    p_value: float


class ByChannels(Protocol):
    """A model of the ways in which suspects slow a victim down."""

    def lost_by_row(self, rows: VictimRows, places: list[int]) -> Floats:
        """[N, places]: cycles lost in each row to the suspects at these places."""
        ...


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

    def first_of(self, suspect: int) -> int:
        """The first column of a suspect's own two, by its place."""
        return self.controls + 1 + _PIECES * suspect

    def belongs(self, suspect: int) -> Floats:
        """[F]: 1 for the columns that are this suspect's doing, by its place."""
        belongs = np.zeros(self.controls + 1 + _PIECES * len(self.lags) + len(self.interactions))
        first = self.first_of(suspect)
        belongs[first : first + _PIECES] = 1
        for number, pair in enumerate(self.interactions):
            belongs[len(belongs) - len(self.interactions) + number] = suspect in pair
        return belongs


class Fitted(NamedTuple):
    """A victim's model, and what follows from it for each suspect but itself.

    cycles, instructions: those that were counted. coefficients: [F], of the columns that `layout` describes.
    sibling_share, cold_share: of its cycles, lost to whoever ran on the SMT sibling, and after pauses; None where
    nobody can tell. channels: of a model of `channel_model`, what it comes to, instead of `layout`. joint: groups of
    suspects that act at the same times.
    """

    victim: int
    cycles: float
    instructions: float
    layout: Layout
    coefficients: Floats
    sibling_share: float | None
    cold_share: float | None
    pairs: list[Pair]
    channels: ByChannels | None = None
    joint: Sequence[Joint] = ()


def outcome(source: Source, rows: VictimRows) -> tuple[Floats, Floats]:
    """Of the usable rows, what they weigh and what is to be explained: so that effects times weights are cycles."""
    cycles, instructions = rows.cycles[rows.is_usable], rows.instructions[rows.is_usable]
    return (cycles, np.log(cycles / instructions)) if source.is_ratio else (instructions, cycles / instructions)


def lost_by_row(source: Source, model: Fitted, rows: VictimRows, suspects: Sequence[int]) -> Floats:
    """[N, len(suspects)]: the cycles that the victim lost to each of them in each row, by its model."""
    places = [source.suspects.index(suspect) for suspect in suspects]
    if model.channels is not None:
        return model.channels.lost_by_row(rows, places)
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
