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
        found[place] = np.sqrt((farther * excess * in_cache) ** 2 + (queue_farther * in_queue) ** 2 + on_sibling**2)
    return found


def _farther(exposed: float, variation: float, sums: ChannelSums) -> float:
    """How much farther a line is drawn than what was seen, at least 1: of the sum and the variation of a column."""
    return max(1.0, _CONTRAST * exposed / max(float(np.sqrt(max(variation, 0.0) * sums.instructions)), 1e-300))


def unseen(products: Floats, whole: Floats, evicted: Floats, cost: float, sums: ChannelSums) -> Floats:
    """[A]: the standard error of a loss to each suspect, whatever the fit made of it: what could be there unseen."""
    columns = sums.columns
    merged = _merged(whole, columns, slice(None))
    active = columns.exposure.start + np.flatnonzero(evicted > 0)
    per_miss = max(cost, _USUAL_CYCLES_OF_MISS)
    found = np.zeros(columns.suspects)
    # What a suspect does to the queue at memory can be told only as far as that can be told of all.
    of_queue = np.zeros(len(whole))
    of_queue[columns.queue.start] = 1.0
    error, _spread = _error(products, whole, of_queue, np.arange(columns.exposure.start), columns.cycles)
    in_queue = error * sums.queue[:, 0] / sums.cycles_known
    own_misses = per_miss * sums.misses_known / sums.cycles_known
    traffic = sums.exposure[:, 0] / max(sums.exposure[:, 0].sum(), 1e-300)
    for place in range(len(found)):
        own = np.flatnonzero(merged[:, place])
        others = np.setdiff1d(np.r_[0 : columns.exposure.start, active], own)
        error, variation = _error(products, whole, merged[:, place], others, columns.misses)
        directly, _variation = _error(products, whole, merged[:, place], others, columns.cycles)
        exposed = float(sums.exposure[place].sum())
        # By way of its misses, or from its cycles at once: whichever says more.
        in_cache = min(error * per_miss, directly) * exposed / sums.cycles_known
        mean = exposed / sums.instructions
        spread = np.sqrt(variation / sums.instructions) / max(mean, 1e-300)
        if mean and spread < _CONTRAST:
            # Traffic that hardly varies may be behind any of the victim's misses.
            in_cache = max(in_cache, own_misses * float(traffic[place]) / FOUND_FROM)
        found[place] = np.hypot(in_cache, in_queue[place])
    return found


def _error(products: Floats, whole: Floats, column: Floats, others: Ints, outcome: int) -> tuple[float, float]:
    """The standard error of the effect of a `column` [P] of sums beside `others`, and the column's own variation.

    products: [G, P, P], `whole` is their sum. outcome: which column is to be explained. Rows of a group may be alike.
    """
    basis = np.zeros((len(whole), len(others) + 2))
    basis[others, range(len(others))] = 1.0
    basis[:, -2] = column
    basis[outcome, -1] = 1.0
    gram = basis.T @ whole @ basis
    if gram[-2, -2] <= 0:
        return 0.0, 0.0
    # The column less what the others say of it, and what is left of the outcome: their products by group.
    weight = basis[:, :-1] @ np.append(-solve(gram[:-1, :-1]), 1.0)
    left = basis @ np.append(-solve(gram), 1.0)
    scores = products @ left @ weight
    return float(np.sqrt((scores**2).sum())) / max(float(weight @ whole @ weight), 1e-300), float(gram[-2, -2])


def _merged(whole: Floats, columns: Columns, memories: slice) -> Floats:
    """[P, A + 1]: of each suspect, its exposure over these memories as one column."""
    merged = np.zeros((len(whole), columns.suspects + 1))
    for place in range(columns.suspects + 1):
        first = columns.exposure.start + place * columns.memories
        merged[range(first, first + columns.memories)[memories], place] = 1.0
    return merged
