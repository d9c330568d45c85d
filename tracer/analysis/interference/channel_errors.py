# SPDX-License-Identifier: Apache-2.0
"""How well a model of `channel_model` can tell what it tells: whose traffic is alike, how far a line is drawn out to
where nobody has been, and what could be there unseen.

A suspects, M memories, G groups, P columns: see `channel_sums`. `whole` [P, P] is the sum of `products` [G, P, P].
`evicted` [(A + 1) M] are misses per instruction by exposure.
"""

import numpy as np

from tracer.analysis.interference.channel_sums import ChannelSums, Columns
from tracer.analysis.interference.regression import Floats, Ints, solve

# What a miss costs at least, where a victim's rows do not say, to tell what could have been seen.
_USUAL_CYCLES_OF_MISS = 150.0
# Traffic that varies by that part of its mean, or more, is seen to be absent.
_CONTRAST = 0.5
# Suspects whose traffic is so much alike cannot be told apart.
_ALIKE = 0.8
# With less than that share of the traffic that a victim is exposed to, nobody is anybody's double.
_SOME_EXPOSURE = 0.1
# A loss is found nine times in ten from so many standard errors on.
FOUND_FROM = 4.0
# How much of what could be there unseen is in the upper end of an interval, as found in `bench/interference.py`.
MAY_BE_MORE = 0.75


def alike(whole: Floats, sums: ChannelSums) -> list[list[int]]:
    """Groups of suspects whose traffic comes at the same times, by their places."""
    # What comes at the same time, not what is long felt.
    merged = _merged(whole, sums.columns, slice(2))[:, :-1]
    covariance = merged.T @ whole @ merged
    spread = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    correlation = covariance / spread[:, None] / spread[None, :]
    exposed = sums.exposure.sum(axis=1)
    counts = exposed > _SOME_EXPOSURE * exposed.max(initial=0.0)
    groups: list[list[int]] = []
    left = [place for place in np.argsort(-exposed).tolist() if counts[place]]
    while left:
        first = left.pop(0)
        group = [first, *(other for other in left if correlation[first, other] > _ALIKE)]
        left = [other for other in left if other not in group]
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


def inexact(whole: Floats, evicted: Floats, cost: Floats, sums: ChannelSums) -> Floats:
    """[A]: how large the error is that the method itself makes of each share, whatever the number of rows, in units of
    its `model_error`. cost: [A + 4], as in `channel_model`.

    What a suspect would not have evicted is told from times with less of its traffic. Where that varies little about
    its mean, no such times were seen, and the line is drawn out to where nobody has been.
    """
    columns = sums.columns
    found = np.zeros(columns.suspects)
    # Of the queue at memory, that is so of all traffic.
    in_queues = cost[-2:] @ sums.queue.T
    queue_farther = _farther(
        float(sums.queue[:, 0].sum()), float(whole[columns.queue.start, columns.queue.start]), sums
    )
    # More misses than it had are a line that was drawn out too far, whoever's.
    excess = float(sums.excess(evicted[None])[0])
    for place in range(columns.suspects):
        own = np.arange(place * columns.memories, (place + 1) * columns.memories)
        misses = float(evicted[own] @ sums.exposure[place])
        farther = 1.0
        if misses > 0:
            felt = np.zeros(len(whole))
            felt[columns.exposure.start + own] = evicted[own]
            farther = _farther(misses, float(felt @ whole @ felt), sums)
        in_cache = float(cost[-3]) * misses / excess / sums.cycles_known
        in_queue = float(in_queues[place]) / sums.cycles_known
        on_sibling = float(cost[place] * sums.beside[place]) / sums.cycles_known
        if on_sibling > 0:
            # A sibling that is never idle tells nothing, whoever is on it.
            other_controls = np.setdiff1d(np.arange(columns.exposure.start), columns.controls + place)
            alone = _left(whole, columns.controls + place, other_controls)
            on_sibling *= _farther(float(sums.beside[place]), float(alone @ whole @ alone), sums)
        found[place] = np.linalg.norm([farther * excess * in_cache, queue_farther * in_queue, on_sibling])
    return found


def _farther(exposed: float, variation: float, sums: ChannelSums) -> float:
    """How much farther a line is drawn than what was seen, at least 1: of the sum and the variation of a column."""
    return max(1.0, _CONTRAST * exposed / max(float(np.sqrt(max(variation, 0.0) * sums.instructions)), 1e-300))


def unseen(products: Floats, whole: Floats, evicted: Floats, cost: float, sums: ChannelSums) -> Floats:
    """[A]: the standard error of a loss to each suspect, whatever the fit made of it: what could be there unseen."""
    columns = sums.columns
    controls = np.arange(columns.exposure.start)
    active = np.append(controls, columns.exposure.start + np.flatnonzero(evicted > 0))
    of_misses, of_cycles = (_Errors(products, whole, active, outcome) for outcome in (columns.misses, columns.cycles))
    per_miss = max(cost, _USUAL_CYCLES_OF_MISS)
    # No more than all of the victim's misses can be due to anybody.
    own_misses = per_miss * sums.misses_known / sums.cycles_known
    # What a suspect does to the queue at memory can be told only as far as that can be told of all.
    queue = _left(whole, columns.queue.start, controls)
    in_queue = of_cycles.error(queue) * sums.queue[:, 0] / sums.cycles_known
    found = np.zeros(columns.suspects)
    for place in range(len(found)):
        own = columns.exposure.start + place * columns.memories + np.arange(columns.memories)
        others = np.setdiff1d(active, own)
        in_cache = 0.0
        # Whether its lines go soon or late is not known: so it is the time of which least can be told.
        for memory, column in enumerate(own):
            exposed = float(sums.exposure[place, memory])
            left = _left(whole, column, others)
            # By way of its misses, or from its cycles at once: whichever says more.
            error = min(of_misses.error(left) * per_miss, of_cycles.error(left))
            possible = error * exposed / sums.cycles_known
            mean = exposed / sums.instructions
            if whole[column, column] < (_CONTRAST * mean) ** 2 * sums.instructions:
                # Traffic that hardly varies may be behind any of the victim's misses.
                possible = own_misses
            in_cache = max(in_cache, min(possible, own_misses * mean / FOUND_FROM))
        column = columns.controls + place
        beside = of_cycles.error(_left(whole, column, np.setdiff1d(controls, column)))
        on_sibling = beside * sums.beside[place] / sums.cycles_known
        found[place] = np.linalg.norm([in_cache, in_queue[place], on_sibling])
    return found


class _Errors:
    """Standard errors of effects on an `outcome`, a column, beside others. Rows of a group may be alike."""

    def __init__(self, products: Floats, whole: Floats, others: Ints, outcome: int) -> None:
        self._whole = whole
        # [G, P]: products of all columns with what the others leave of the outcome.
        self._products = products @ _left(whole, outcome, others)

    def error(self, column: Floats) -> float:
        """Of a column [P] of which is left what the others do not say; 0 for one that is empty."""
        variation = float(column @ self._whole @ column)
        return float(np.linalg.norm(self._products @ column)) / variation if variation > 0 else 0.0


def _left(whole: Floats, column: int, others: Ints) -> Floats:
    """[P]: a column, as a sum of columns, less what the others say of it."""
    places = np.append(others, column)
    found = np.zeros(len(whole))
    found[places] = np.append(-solve(whole[np.ix_(places, places)]), 1.0)
    return found


def _merged(whole: Floats, columns: Columns, memories: slice) -> Floats:
    """[P, A + 1]: of each suspect, its exposure over these memories as one column."""
    merged = np.zeros((len(whole), columns.suspects + 1))
    for place in range(columns.suspects + 1):
        first = columns.exposure.start + place * columns.memories
        merged[range(first, first + columns.memories)[memories], place] = 1.0
    return merged
