# SPDX-License-Identifier: Apache-2.0
"""How many cycles a victim lost to each of its neighbours: `docs/analysis.md` has the method in words.

V victims, A suspects, C controls, P pieces of a response, B bootstrap samples.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from math import erfc, sqrt
from typing import NamedTuple

import numpy as np

from tracer.analysis.regression import (
    Floats,
    Ints,
    add_products,
    residuals,
    solve,
    solve_samples,
    without_means,
)
from tracer.analysis.rows import Segment, Source, VictimRows

# Fewer rows, or groups of them that can be drawn anew, tell nothing.
FEWEST_ROWS = 200
FEWEST_GROUPS = 20
# What the intervals' samples are drawn from: longer than a burst and the pause after it.
_GROUP_NS = 250_000_000
_MOST_GROUPS = 256
# The suspect's traffic of another time, which cannot have done anything.
_PLACEBOS = 16
# A later effect is believed if it stands out from that at once by so many times what other times give.
_LATER_IF = 3.0
# Rows whose traffic is more than this share of the largest are the ones in which a suspect does something.
_SOME_TRAFFIC = 0.1
_MOST_THREADS = 8
# Standard deviations of a normal distribution that 95 % are within.
_TWO_SIDED = 1.96


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


class Fitted(NamedTuple):
    """A victim's model, and what follows from it for each suspect but itself.

    cycles, instructions: those that were counted. coefficients: [F], of the columns that `layout` describes.
    sibling_share, cold_share: of its cycles, lost to whoever ran on the SMT sibling, and after pauses; None where
    nobody can tell.
    """

    victim: int
    cycles: float
    instructions: float
    layout: "Layout"
    coefficients: Floats
    sibling_share: float | None
    cold_share: float | None
    pairs: list[Pair]


class Layout(NamedTuple):
    """What the columns of a victim's model are: C controls, the traffic of the rest, P pieces a suspect, interactions.

    lags: [A], steps after which each suspect's traffic is felt. knots: [A], where its response may bend.
    interactions: pairs of suspects, by their places.
    """

    controls: int
    pieces: int
    lags: Ints
    knots: Floats
    interactions: list[tuple[int, int]]

    def features(self, rows: VictimRows) -> Floats:
        """[N, F]"""
        traffic = rows.traffic(self.lags)
        pieces = traffic if self.pieces == 1 else _bent(traffic, self.knots)
        together = [traffic[:, one] * traffic[:, other] for one, other in self.interactions]
        return np.column_stack([rows.controls, rows.rest, pieces, *together])

    def belongs(self, suspect: int) -> Floats:
        """[F]: 1 for the columns that are this suspect's doing, by its place."""
        belongs = np.zeros(self.controls + 1 + len(self.lags) * self.pieces + len(self.interactions))
        first = self.controls + 1 + suspect * self.pieces
        belongs[first : first + self.pieces] = 1
        for number, pair in enumerate(self.interactions):
            belongs[len(belongs) - len(self.interactions) + number] = suspect in pair
        return belongs


class _Screen:
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
        count = len(source.suspects)
        if use.sum() < 2:
            return
        weights, outcome = _outcome(source, rows)
        columns = np.column_stack([rows.controls[use], rows.rest[use], outcome])
        unexplained = np.zeros(len(use))
        unexplained[use] = residuals(without_means(columns, weights, rows.step[use] // source.stretch_steps)) * np.sqrt(
            weights
        )
        for lag in range(source.lags + 1):
            traffic = rows.traffic(np.full(count, lag))
            self.at_lag[lag] += unexplained @ traffic
            if lag == 0:
                self._knots.append(_middles(traffic[use]))
        for number, share in enumerate(np.linspace(0.1, 0.9, _PLACEBOS)):
            self.at_other_times[number] += unexplained @ rows.traffic(np.full(count, int(share * segment.steps)))

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
        return np.array([_above(*one) for one in zip(response, self.noise, strict=True)])

    @property
    def knots(self) -> Floats:
        """[A]"""
        found: Floats = np.median(self._knots, axis=0) if self._knots else np.zeros(self.at_lag.shape[1])
        return found


class _Sums:
    """Sums of a victim's rows, from which its model follows."""

    def __init__(self, groups: int, features: int, suspects: int) -> None:
        self.products = np.zeros((groups, features + 1, features + 1))
        # [A, F], of the rows where it is known: the columns that are each suspect's doing, by instructions.
        self.exposure = np.zeros((suspects, features))
        self.controls = np.zeros(features)
        self.cycles = 0.0
        self.instructions = 0.0
        self.cycles_known = 0.0


def attribute(source: Source) -> list[Fitted]:
    """A model of each of the source's victims that has enough rows."""
    screens = {victim: _Screen(source) for victim in source.victims}

    def add(segment: Segment, victim: int) -> None:
        screens[victim].add(source, segment, segment.rows_of(victim))

    for segment in source.segments():
        _for_each(source.victims, partial(add, segment))
    layouts = {
        victim: Layout(screen.controls, source.pieces, screen.lags, screen.knots, [])
        for victim, screen in screens.items()
        if screen.rows >= FEWEST_ROWS
    }
    return _fit(source, layouts, {victim: screens[victim].p_values for victim in layouts})


def with_interactions(source: Source, models: Sequence[Fitted], aggressors: Sequence[Sequence[int]]) -> list[Fitted]:
    """The models anew, with what any two of each one's aggressors do together: often less than both do alone."""
    layouts = {}
    for model, of_model in zip(models, aggressors, strict=True):
        places = sorted(source.suspects.index(aggressor) for aggressor in of_model)
        layouts[model.victim] = model.layout._replace(interactions=list(combinations(places, 2)))
    return _fit(source, layouts, {model.victim: _p_values(source, model) for model in models})


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for their number (Holm 1979): the chance that any of them is that small."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, position in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = largest
    return corrected


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


def _fit(source: Source, layouts: dict[int, Layout], p_values: dict[int, Floats]) -> list[Fitted]:
    group_steps = max(1, _GROUP_NS // source.step_ns, -(-source.steps // _MOST_GROUPS))
    groups = -(-source.steps // group_steps)
    sums: dict[int, _Sums] = {}

    def add(segment: Segment, victim: int) -> None:
        rows = segment.rows_of(victim)
        features = layouts[victim].features(rows)
        if victim not in sums:
            sums[victim] = _Sums(groups, features.shape[1], len(source.suspects))
        _add(sums[victim], source, layouts[victim], rows, features, group_steps)

    for segment in source.segments():
        _for_each(layouts, partial(add, segment))
    solved = (_solved(source, victim, layouts[victim], sums[victim], p_values[victim]) for victim in layouts)
    models = [model for model in solved if model is not None]
    return _row_by_row(source, models, sums) if source.is_ratio else models


def _row_by_row(source: Source, models: Sequence[Fitted], sums: dict[int, _Sums]) -> list[Fitted]:
    """Models of ratios with their losses row by row: sums of columns give but their first order."""
    lost = {model.victim: np.zeros(len(model.pairs)) for model in models}
    by_victim = {model.victim: model for model in models}

    def add(segment: Segment, victim: int) -> None:
        rows, model = segment.rows_of(victim), by_victim[victim]
        if model.pairs:
            lost[victim] += rows.is_known @ lost_by_row(source, model, rows, [pair.suspect for pair in model.pairs])

    for segment in source.segments():
        _for_each(by_victim, partial(add, segment))
    found = []
    for model in models:
        pairs = []
        for pair, cycles in zip(model.pairs, lost[model.victim], strict=True):
            share = float(cycles) / sums[model.victim].cycles_known
            factor = share / pair.share if pair.share else 1.0
            pairs.append(
                pair._replace(cycles=share * model.cycles, share=share, low=pair.low * factor, high=pair.high * factor)
            )
        found.append(model._replace(pairs=pairs))
    return found


def _for_each(victims: Iterable[int], work: Callable[[int], None]) -> None:
    """Does the work of each victim, several at a time: nearly all of it is in NumPy, which lets others run."""
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        for _done in threads.map(work, victims):
            pass


def _outcome(source: Source, rows: VictimRows) -> tuple[Floats, Floats]:
    """Of the usable rows, what they weigh and what is to be explained: so that effects times weights are cycles."""
    cycles, instructions = rows.cycles[rows.is_usable], rows.instructions[rows.is_usable]
    return (cycles, np.log(cycles / instructions)) if source.is_ratio else (instructions, cycles / instructions)


def _add(sums: _Sums, source: Source, layout: Layout, rows: VictimRows, features: Floats, group_steps: int) -> None:
    sums.cycles += float(rows.cycles.sum())
    sums.instructions += float(rows.instructions.sum())
    known = (rows.cycles if source.is_ratio else rows.instructions) * rows.is_known
    sums.cycles_known += float((rows.cycles * rows.is_known).sum())
    all_columns = known @ features
    sums.controls += all_columns
    for place in range(len(source.suspects)):
        sums.exposure[place] += all_columns * layout.belongs(place)
    if source.sibling_control is not None and rows.sibling is not None:
        sums.exposure[:, source.sibling_control] += known @ rows.sibling
    use = rows.is_usable
    weights, outcome = _outcome(source, rows)
    columns = np.column_stack([features[use], outcome])
    step = rows.step[use]
    add_products(sums.products, without_means(columns, weights, step // source.stretch_steps), step // group_steps)


def _solved(source: Source, victim: int, layout: Layout, sums: _Sums, p_values: Floats) -> Fitted | None:
    filled = sums.products[:, -1, -1] > 0
    if filled.sum() < FEWEST_GROUPS or not sums.cycles_known:
        return None
    products = sums.products[filled]
    coefficients = solve(products.sum(axis=0))
    samples = solve_samples(products)
    # What was not counted is taken to be like what was.
    to_share = 1 / sums.cycles_known
    shares = sums.exposure @ coefficients * to_share
    error = (samples @ sums.exposure.T * to_share).std(axis=0)
    bound = _TWO_SIDED * np.hypot(error, source.model_error * shares)
    sibling = source.sibling_control
    pairs = [
        Pair(
            victim=victim,
            suspect=suspect,
            cycles=float(shares[place] * sums.cycles),
            share=float(shares[place]),
            low=float(shares[place] - bound[place]),
            high=float(shares[place] + bound[place]),
            sibling_share=0.0
            if sibling is None
            else float(sums.exposure[place, sibling] * coefficients[sibling] * to_share),
            delay_steps=int(layout.lags[place]),
            p_value=max(_above(shares[place], error[place]), float(p_values[place])),
        )
        for place, suspect in enumerate(source.suspects)
        if suspect != victim and sums.exposure[place].any()
    ]
    cold = source.cold_controls
    return Fitted(
        victim=victim,
        cycles=sums.cycles,
        instructions=sums.instructions,
        layout=layout,
        coefficients=coefficients,
        sibling_share=None if sibling is None else float(sums.controls[sibling] * coefficients[sibling] * to_share),
        cold_share=float(sums.controls[cold] @ coefficients[cold] * to_share) if cold.stop else None,
        pairs=pairs,
    )


def _p_values(source: Source, model: Fitted) -> Floats:
    """[A]: those that the model's pairs have."""
    found = np.ones(len(source.suspects))
    for pair in model.pairs:
        found[source.suspects.index(pair.suspect)] = pair.p_value
    return found


def _above(value: float, error: float) -> float:
    """The chance of a value that large by nothing but an error of that standard deviation."""
    return 0.5 * erfc(value / error / sqrt(2)) if error > 0 else 1.0


def _bent(traffic: Floats, knots: Floats) -> Floats:
    """[N, 2 A]: for each suspect its traffic up to the knot, and beyond."""
    pieces = np.stack([np.minimum(traffic, knots), np.maximum(traffic - knots, 0.0)], axis=2)
    return pieces.reshape(len(traffic), 2 * len(knots))


def _middles(traffic: Floats) -> Floats:
    """[A]: the median of each suspect's traffic while it is at something."""
    return np.array(
        [np.median(column[column > _SOME_TRAFFIC * column.max()]) if column.any() else 0.0 for column in traffic.T]
    )
