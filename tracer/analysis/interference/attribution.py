# SPDX-License-Identifier: Apache-2.0
"""How many cycles a victim lost to each of its neighbours: `docs/analysis.md` has the method in words.

V victims, A suspects, C controls, B bootstrap samples.
"""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import numpy as np

from tracer.analysis.interference.channel_errors import FOUND_FROM, MAY_BE_MORE
from tracer.analysis.interference.channel_model import solve_channels
from tracer.analysis.interference.channel_sums import ChannelSums
from tracer.analysis.interference.each_victim import for_each
from tracer.analysis.interference.model import Fitted, Layout, Pair, lost_by_row, outcome
from tracer.analysis.interference.regression import (
    Floats,
    add_products,
    solve,
    solve_samples,
    without_means,
)
from tracer.analysis.interference.rows import Segment, Source, VictimRows
from tracer.analysis.interference.screening import Screen, above

# Fewer rows, or groups of them that can be drawn anew, tell nothing.
FEWEST_ROWS = 200
FEWEST_GROUPS = 20
# What the intervals' samples are drawn from: longer than a burst and the pause after it.
_GROUP_NS = 250_000_000
_MOST_GROUPS = 256
# Their sums have more columns.
_MOST_GROUPS_OF_CHANNELS = 128
# Windows do not say when in them the harm was
# done: each of a victim's misses may be due to any suspect, for all have traffic, at so many cycles.
_MOST_OF_MISS = 300.0
# Of its cycles, that a busy sibling can cost; how much more often than in the mean a suspect may be on the victim's.
_MOST_OF_SIBLING = 0.5
_MORE_OFTEN_BESIDE = 2.0
# Standard deviations of a normal distribution that 95 % are within.
_TWO_SIDED = 1.96


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
        self.misses_known = 0.0


def attribute(source: Source) -> list[Fitted]:
    """A model of each of the source's victims that has enough rows."""
    if source.has_channels:
        return _by_channels(source)
    screens = {victim: Screen(source) for victim in source.victims}

    def add(segment: Segment, victim: int) -> None:
        screens[victim].add(source, segment, segment.rows_of(victim))

    for segment in source.segments():
        for_each(source.victims, partial(add, segment))
    layouts = {
        victim: Layout(screen.controls, screen.lags, screen.knots, [])
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


def _by_channels(source: Source) -> list[Fitted]:
    group_steps, groups = _groups(source, _MOST_GROUPS_OF_CHANNELS)
    sums = {victim: ChannelSums(source, groups) for victim in source.victims}

    screens = {victim: Screen(source) for victim in source.victims}

    def add(segment: Segment, victim: int) -> None:
        rows = segment.rows_of(victim)
        if len(rows.step):
            sums[victim].add(source, rows, group_steps)
            screens[victim].add(source, segment, rows)

    for segment in source.segments():
        for_each(source.victims, partial(add, segment))
        # Before the next one is made: both would not fit.
        del segment
    solved: dict[int, Fitted | None] = {}

    def solve_one(victim: int) -> None:
        solved[victim] = solve_channels(source, victim, sums[victim], screens[victim].lags, FEWEST_GROUPS)

    for_each([victim for victim in source.victims if sums[victim].rows >= FEWEST_ROWS], solve_one)
    return [model for victim in source.victims if (model := solved.get(victim)) is not None]


def _groups(source: Source, most: int = _MOST_GROUPS) -> tuple[int, int]:
    """How many steps a group has that is drawn anew, and how many groups there are, at most so many."""
    steps = max(1, _GROUP_NS // source.step_ns, -(-source.steps // most))
    return steps, -(-source.steps // steps)


def _fit(source: Source, layouts: dict[int, Layout], p_values: dict[int, Floats]) -> list[Fitted]:
    group_steps, groups = _groups(source)
    sums: dict[int, _Sums] = {}

    def add(segment: Segment, victim: int) -> None:
        rows = segment.rows_of(victim)
        features = layouts[victim].features(rows)
        if victim not in sums:
            sums[victim] = _Sums(groups, features.shape[1], len(source.suspects))
        _add(sums[victim], source, layouts[victim], rows, features, group_steps)

    for segment in source.segments():
        for_each(layouts, partial(add, segment))
    solved: dict[int, Fitted | None] = {}

    def solve_one(victim: int) -> None:
        solved[victim] = _solved(source, victim, layouts[victim], sums[victim], p_values[victim])

    for_each(layouts, solve_one)
    models = [model for victim in layouts if (model := solved[victim]) is not None]
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
        for_each(by_victim, partial(add, segment))
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


def _add(sums: _Sums, source: Source, layout: Layout, rows: VictimRows, features: Floats, group_steps: int) -> None:
    sums.cycles += float(rows.cycles.sum())
    sums.instructions += float(rows.instructions.sum())
    known = (rows.cycles if source.is_ratio else rows.instructions) * rows.is_known
    sums.cycles_known += float((rows.cycles * rows.is_known).sum())
    sums.misses_known += float((rows.misses * rows.is_known).sum())
    all_columns = known @ features
    sums.controls += all_columns
    for place in range(len(source.suspects)):
        sums.exposure[place] += all_columns * layout.belongs(place)
    if source.sibling_control is not None and rows.sibling is not None:
        sums.exposure[:, source.sibling_control] += known @ rows.sibling
    use = rows.is_usable
    weights, explained = outcome(source, rows)
    columns = np.column_stack([features[use], explained])
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
    unseen = np.maximum(FOUND_FROM * error, _MOST_OF_MISS * sums.misses_known * to_share)
    unseen += _MOST_OF_SIBLING * np.minimum(_MORE_OFTEN_BESIDE * source.beside, 1.0)
    bound = _TWO_SIDED * np.hypot(error, source.model_error * shares)
    sibling = source.sibling_control
    pairs = [
        Pair(
            victim=victim,
            suspect=suspect,
            cycles=float(shares[place] * sums.cycles),
            share=float(shares[place]),
            low=float(shares[place] - bound[place]),
            high=float(shares[place] + np.hypot(bound[place], MAY_BE_MORE * unseen[place])),
            sibling_share=0.0
            if sibling is None
            else float(sums.exposure[place, sibling] * coefficients[sibling] * to_share),
            delay_steps=int(layout.lags[place]),
            p_value=max(above(shares[place], error[place]), float(p_values[place])) if error[place] else 1.0,
            detectable_share=float(unseen[place]),
        )
        for place, suspect in enumerate(source.suspects)
        if suspect != victim
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
