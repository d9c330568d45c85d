# SPDX-License-Identifier: Apache-2.0
"""When it happened: the bursts of an aggressor, and the times in which most of the loss fell."""

from collections.abc import Callable
from datetime import datetime

import numpy as np

from tracer.analysis.findings import Bursts, TimeRange
from tracer.analysis.interference.regression import Bools, Floats, Ints

# Of the traffic that an aggressor, or the waiting that a victim, has when it has much: a burst has more than the first
# for a moment, than the second throughout.
_HIGH_TRAFFIC = 0.5
_SOME_TRAFFIC = 0.2
_MUCH_TRAFFIC_QUANTILE = 0.95
_FEWEST_BURSTS = 5
# A burst as short as what was recorded could be shorter still, and a pause as short hides others.
_RESOLVED_STEPS = 3
_MOST_RANGES = 5
# Of what is lost in a busy time: with less, a time is not part of the range.
_LITTLE_LOSS = 0.25
_LONGEST_BREAK_BINS = 3
_LEAST_SHARE = 0.05


def find_bursts(amounts: Floats, steps: Ints | None = None) -> Ints:
    """[B, 2]: lengths, in steps, of the times in which `amounts` [T] are high, and of the pause after each.

    `steps` are the numbers of the steps of `amounts`, ascending, where it has not one of each: others have nothing.
    """
    if steps is None:
        steps = np.arange(len(amounts))
    if not (amounts > 0).any():
        return np.zeros((0, 2), np.int64)
    much = np.quantile(amounts[amounts > 0], _MUCH_TRAFFIC_QUANTILE)
    is_some = amounts > _SOME_TRAFFIC * much
    amounts, some = amounts[is_some], steps[is_some]
    first = np.flatnonzero(np.diff(some, prepend=some[0] - 2) > 1)
    highest = np.maximum.reduceat(amounts, first)
    begin, end = some[first], some[np.append(first[1:], len(some)) - 1] + 1
    is_high = highest > _HIGH_TRAFFIC * much
    begin, end = begin[is_high], end[is_high]
    return np.column_stack([end - begin, np.append(begin[1:], steps[-1] + 1) - end])


def bursts(found: Ints, step_ns: int) -> Bursts | None:
    """How long bursts [B, 2] were; None where there were few, or most of them or of their pauses are hardly a step."""
    if len(found) < _FEWEST_BURSTS or (np.median(found, axis=0) < _RESOLVED_STEPS).any():
        return None
    short, median, long = (float(value) for value in np.quantile(found[:, 0], (0.1, 0.5, 0.9)) * step_ns / 1e6)
    return Bursts(count=len(found), short_ms=short, median_ms=median, long_ms=long)


def time_ranges(lost: Floats, bin_start: Callable[[int], datetime]) -> list[TimeRange]:
    """The times of most of the loss, of `lost` [B] in bins of time that begin at `bin_start`; the first first."""
    lost = np.maximum(lost, 0.0)
    total = lost.sum()
    if not total:
        return []
    is_in = lost > _LITTLE_LOSS * np.quantile(lost[lost > 0], 0.9)
    ranges = [[int(first), int(end)] for first, end in zip(*_runs(is_in), strict=True)]
    merged = ranges[:1]
    for first, end in ranges[1:]:
        if first - merged[-1][1] <= _LONGEST_BREAK_BINS:
            merged[-1][1] = end
        else:
            merged.append([first, end])
    shares = [(float(lost[first:end].sum() / total), first, end) for first, end in merged]
    largest = sorted((one for one in shares if one[0] >= _LEAST_SHARE), reverse=True)[:_MOST_RANGES]
    return [
        TimeRange(start=bin_start(first), end=bin_start(end), share=share)
        for share, first, end in sorted(largest, key=lambda one: one[1])
    ]


def _runs(is_in: Bools) -> tuple[Ints, Ints]:
    """Where the runs of true values begin, and where they are over."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]])))
    return edges[::2], edges[1::2]
