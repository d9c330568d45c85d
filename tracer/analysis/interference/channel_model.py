# SPDX-License-Identifier: Apache-2.0
"""What a victim lost by each of the ways in which neighbours can slow it down: `docs/analysis.md` has it in words.

Neighbours evict its lines, so it misses more: first its misses are fitted to what its cache remembers of the others'
traffic, then its cycles to the misses that are due to them. Thus nobody can cost more than its own misses do. Beside
it, memory takes longer where others queue up at it, and a busy SMT sibling takes its part of the core.

A suspects, M memories, P columns: see `channel_sums`. S bootstrap samples.
"""

from typing import NamedTuple

import numpy as np

from tracer.analysis.interference.channel_errors import FOUND_FROM, MAY_BE_MORE, alike, inexact, unseen
from tracer.analysis.interference.channel_sums import ChannelSums, Columns, queue_of_each
from tracer.analysis.interference.model import Fitted, Joint, Layout, Pair
from tracer.analysis.interference.nonnegative import solve_nonnegative, solve_some
from tracer.analysis.interference.regression import SAMPLES, Bools, Floats, Ints, solve
from tracer.analysis.interference.rows import Source, VictimRows
from tracer.analysis.interference.screening import above

# A miss costs no more cycles than a slow memory takes, with nothing else under way: so all that a victim can have lost
# by way of its cache is that for each of its misses.
_MOST_CYCLES_OF_MISS = 600.0
_TWO_SIDED = 1.96
# That harm is not negative makes the error of a loss smaller than that of any effect: by that factor, as found in
# `bench/interference.py`.
_UNSEEN = 0.7


class ChannelEffects(NamedTuple):
    """The coefficients of a victim: [A + 1] by sibling, [A + 1, M] by exposure, and [2] by the queue at memory."""

    beside: Floats
    exposure: Floats
    queue: Floats

    def lost_by_row(self, rows: VictimRows, places: list[int]) -> Floats:
        """[N, places]: cycles lost in each row to the suspects at these places."""
        channels = rows.channels
        assert channels is not None
        lost: Floats = np.einsum("nam,am->na", channels.exposure(slice(None), places), self.exposure[places])
        if rows.sibling is not None:
            lost += self.beside[places] * rows.sibling[:, places]
        first, beyond = queue_of_each(rows)
        lost += self.queue[0] * first[:, places] + self.queue[1] * beyond[:, places]
        return lost * rows.instructions[:, None]


def solve_channels(source: Source, victim: int, sums: ChannelSums, lags: Ints, fewest_groups: int) -> Fitted | None:
    """A victim's model; None where there are too few rows or groups."""
    filled = sums.products[:, -1, -1] > 0
    if filled.sum() < fewest_groups or not sums.cycles_known:
        return None
    products = sums.products[filled]
    whole = products.sum(axis=0)
    suspects = len(source.suspects)
    columns = sums.columns
    evicted = _evicted(whole, columns)
    due = float(sums.due_to_others(evicted[None]).sum() / sums.excess(evicted[None])[0])
    most = _MOST_CYCLES_OF_MISS * sums.misses_known / max(due, 1e-9)
    cost = _cost(whole[None], evicted[None], columns, None, most)[0]
    counts = np.random.default_rng(0).multinomial(len(products), np.full(len(products), 1 / len(products)), SAMPLES)
    samples = (counts.astype(np.float64) @ products.reshape(len(products), -1)).reshape(SAMPLES, *whole.shape)
    chosen = np.zeros(columns.misses, np.bool_)
    chosen[: columns.exposure.start] = True
    chosen[columns.exposure] = evicted > 0
    evicted_samples = solve_some(samples[:, : columns.misses + 1, : columns.misses + 1], chosen)[:, columns.exposure]
    cost_samples = _cost(samples, evicted_samples, columns, cost > 0, most)

    shares = _shares(sums, evicted[None], cost[None])[0]
    share_samples = _shares(sums, evicted_samples, cost_samples)
    effects = ChannelEffects(
        beside=cost[: suspects + 1],
        exposure=(cost[-3] * evicted / sums.excess(evicted[None])).reshape(suspects + 1, source.memories),
        queue=cost[-2:],
    )
    together = alike(whole, sums)
    possible = unseen(products, whole, evicted, float(cost[-3]), sums)
    rough = source.model_error * inexact(whole, evicted, cost, sums)
    pairs = []
    for place, suspect in enumerate(source.suspects):
        if suspect == victim or not (sums.exposure[place].any() or sums.beside[place] or sums.queue[place].any()):
            continue
        share = float(shares[place])
        error = float(share_samples[:, place].std())
        bound = _TWO_SIDED * float(np.hypot(error, rough[place]))
        hidden = FOUND_FROM * _UNSEEN * float(possible[place])
        pairs.append(
            Pair(
                victim=victim,
                suspect=suspect,
                cycles=share * sums.cycles,
                share=share,
                low=share - bound,
                high=share + float(np.hypot(bound, MAY_BE_MORE * hidden)),
                sibling_share=float(cost[place] * sums.beside[place] / sums.cycles_known),
                delay_steps=int(lags[place]),
                p_value=above(share, error) if share > 0 else 1.0,
                detectable_share=float(np.hypot(FOUND_FROM * np.hypot(error, rough[place]), hidden)),
            )
        )
    joint = []
    for group in together:
        share = float(shares[group].sum())
        error = float(share_samples[:, group].sum(axis=1).std())
        bound = _TWO_SIDED * float(np.hypot(error, rough[group].sum()))
        joint.append(
            Joint(
                suspects=[source.suspects[place] for place in group],
                share=share,
                low=share - bound,
                high=share + bound,
                p_value=above(share, error) if share > 0 else 1.0,
            )
        )
    cold = source.cold_controls
    coefficients = solve(whole)
    return Fitted(
        victim=victim,
        cycles=sums.cycles,
        instructions=sums.instructions,
        layout=Layout(source.own_controls, lags, np.zeros(suspects), []),
        coefficients=coefficients,
        sibling_share=None
        if source.sibling_control is None
        else float(cost[: suspects + 1] @ sums.beside / sums.cycles_known),
        cold_share=float(sums.controls[cold] @ coefficients[cold] / sums.cycles_known) if cold.stop else None,
        pairs=pairs,
        channels=effects,
        joint=joint,
    )


def _evicted(whole: Floats, columns: Columns) -> Floats:
    """[(A + 1) M]: misses per instruction by exposure, 0 or more."""
    is_free = np.zeros(columns.misses, np.bool_)
    is_free[: columns.exposure.start] = True
    # The queue at memory makes nobody miss.
    kept = np.r_[0 : columns.queue.start, columns.misses]
    found = solve_nonnegative(whole[np.ix_(kept, kept)], is_free[kept[:-1]])
    return found[columns.exposure]


def _cost(products: Floats, evicted: Floats, columns: Columns, chosen: Bools | None, most: float) -> Floats:
    """[S, A + 4]: cycles by who is busy on the sibling, by miss that is due to others, and by line at memory, up to the
    knot and beyond.

    products: [S, P, P]. evicted: [S, (A + 1) M]. chosen: [A + 4], which may be more than 0; None if it is to be found.
    most: that a miss can cost.
    """
    samples, size = products.shape[:2]
    first = columns.exposure.start
    mapped = np.zeros((samples, size, first + 4))
    mapped[:, range(first), range(first)] = 1.0
    mapped[:, columns.exposure, first] = evicted
    mapped[:, columns.queue.start, first + 1] = 1.0
    mapped[:, columns.queue.start + 1, first + 2] = 1.0
    mapped[:, columns.cycles, first + 3] = 1.0
    reduced = mapped.transpose(0, 2, 1) @ products @ mapped
    if chosen is None:
        is_free = np.arange(first + 3) < columns.controls
        found = np.stack([solve_nonnegative(one, is_free) for one in reduced])
    else:
        found = solve_some(reduced, np.concatenate([np.ones(columns.controls, np.bool_), chosen]))
    found = found[:, columns.controls :]
    found[:, -3] = np.clip(found[:, -3], 0.0, most)
    return found


def _shares(sums: ChannelSums, evicted: Floats, cost: Floats) -> Floats:
    """[S, A]: the share of the victim's cycles that each suspect cost it."""
    # No more than it had.
    misses = sums.due_to_others(evicted) / sums.excess(evicted)[:, None]
    cycles = cost[:, -3:-2] * misses + cost[:, :-4] * sums.beside[:-1] + cost[:, -2:] @ sums.queue.T
    found: Floats = cycles / sums.cycles_known
    return found
