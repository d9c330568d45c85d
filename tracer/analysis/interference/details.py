# SPDX-License-Identifier: Apache-2.0
"""A closer look at the victims: when they lost what, and what simpler views of the same rows say."""

from functools import partial
from typing import NamedTuple

import numpy as np

from tracer.analysis.findings import NoisyAndQuiet
from tracer.analysis.interference.each_victim import for_each
from tracer.analysis.interference.episodes import find_bursts
from tracer.analysis.interference.model import Fitted, Pair, lost_by_row
from tracer.analysis.interference.regression import Floats, Ints
from tracer.analysis.interference.rows import Segment, Source

_MOST_BINS = 600
_LEAST_BIN_NS = 10**9
# Enough for means and correlations.
_MOST_ROWS = 500_000
_NOISIEST = 0.95
_MIDDLE = (0.25, 0.75)


class Details(NamedTuple):
    """Of one victim. lost_by_bin: [B] by aggressor, cycles lost in bins of `bin_steps`.

    bursts: [B, 2] by aggressor, lengths and pauses in steps. correlations: by aggressor, of its traffic with the
    victim's CPI.
    """

    model: Fitted
    pairs: list[Pair]
    bin_steps: int
    lost_by_bin: dict[int, Floats]
    bursts: dict[int, Ints]
    correlations: dict[int, float | None]
    noisy_and_quiet: NoisyAndQuiet | None
    moved_share: float | None


class _Closer:
    """Gathers one victim's details, segment by segment."""

    def __init__(self, source: Source, model: Fitted, pairs: list[Pair]) -> None:
        self._source = source
        self._model = model
        self._pairs = pairs
        self.bin_steps = max(1, _LEAST_BIN_NS // source.step_ns, -(-source.steps // _MOST_BINS))
        self._bins = -(-source.steps // self.bin_steps)
        self._lost = {pair.suspect: np.zeros(self._bins) for pair in pairs}
        self._bursts: dict[int, list[Ints]] = {pair.suspect: [] for pair in pairs}
        self._samples: list[Floats] = []
        self._moves: list[Floats] = []

    def add(self, segment: Segment) -> None:
        rows = segment.rows_of(self._model.victim)
        source, lags = self._source, self._model.layout.lags
        places = [source.suspects.index(pair.suspect) for pair in self._pairs]
        lost = lost_by_row(source, self._model, rows, [pair.suspect for pair in self._pairs]) * rows.is_known[:, None]
        for number, (pair, place) in enumerate(zip(self._pairs, places, strict=True)):
            self._lost[pair.suspect] += np.bincount(rows.step // self.bin_steps, lost[:, number], self._bins)
            self._bursts[pair.suspect].append(find_bursts(segment.suspect_misses[place]))
        traffic = rows.traffic(lags)
        every = max(1, len(rows.step) * -(-source.steps // max(segment.steps, 1)) // _MOST_ROWS)
        use = np.flatnonzero(rows.is_usable)[::every]
        others = traffic.sum(axis=1) + rows.rest
        self._samples.append(
            np.column_stack([rows.cycles[use], rows.instructions[use], others[use], traffic[use][:, places]])
        )
        if rows.has_moved is not None:
            self._moves.append(rows.has_moved.astype(np.float64))

    def details(self) -> Details:
        samples = np.concatenate(self._samples)
        cpi = samples[:, 0] / samples[:, 1]
        return Details(
            model=self._model,
            pairs=self._pairs,
            bin_steps=self.bin_steps,
            lost_by_bin=self._lost,
            bursts={suspect: np.concatenate(found) for suspect, found in self._bursts.items()},
            correlations={
                pair.suspect: _correlation(cpi, samples[:, 3 + number]) for number, pair in enumerate(self._pairs)
            },
            noisy_and_quiet=_noisy_and_quiet(samples),
            moved_share=float(np.concatenate(self._moves).mean()) if self._moves else None,
        )


def look_closer(source: Source, victims: dict[int, tuple[Fitted, list[Pair]]]) -> dict[int, Details]:
    """The details of each of `victims`, of which the model and the pairs that are believed are given."""
    closer = {victim: _Closer(source, model, pairs) for victim, (model, pairs) in victims.items()}
    if closer:
        for segment in source.segments():
            for_each(closer, partial(_add, closer, segment))
            # Before the next one is made: both would not fit.
            del segment
    return {victim: one.details() for victim, one in closer.items()}


def _add(closer: dict[int, _Closer], segment: Segment, victim: int) -> None:
    closer[victim].add(segment)


def _correlation(first: Floats, second: Floats) -> float | None:
    if len(first) < 2 or not first.std() or not second.std():
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _noisy_and_quiet(samples: Floats) -> NoisyAndQuiet | None:
    """Of columns cycles, instructions and others' misses."""
    others = samples[:, 2]
    if not len(others):
        return None
    noisy = samples[others >= np.quantile(others, _NOISIEST)]
    low, high = np.quantile(others, _MIDDLE)
    quiet = samples[(others >= low) & (others <= high)]
    cpis = [float(part[:, 0].sum() / part[:, 1].sum()) for part in (noisy, quiet)]
    return NoisyAndQuiet(noisy_cpi=cpis[0], quiet_cpi=cpis[1], ratio=cpis[0] / cpis[1])
