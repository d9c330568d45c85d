# SPDX-License-Identifier: Apache-2.0
"""Last-level caches near LRU, line by line in the mean: which lines are there follows from when each was last used.

A *set of lines* is what one container uses alike: `lines` of them, each as likely to be the next one; or one after the
other, in a circle; or, for a stream, always lines that nobody will use again. Of each set the cache keeps how many of
its lines were last used in each *bin* of time. In a bin with n accesses a share 1 - exp(-n / lines) of a set's lines is
used at least once: those move to the present bin, wherever they were, and those of them that were not in the cache are
its misses. In a circle it is those that were used longest ago that come next, so first those that have gone. What is
over the cache's size goes out from its oldest bin on, whoever it belongs to, and a part of it at random, as real caches
keep but a rough order. So nothing here says how much anybody harms anybody.

Numbers of lines are floats: means. A set's bins all shrink by the same factor when its lines are used again, so this is
kept once, as `scale`. Cost: per bin of time and set of lines in use, a few operations.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 4096
# Bins are scaled anew before doubles end.
_SMALLEST_SCALE = 1e-250


class Caches(NamedTuple):
    """K caches and S sets of lines, each in one cache.

    first_set: [K + 1], sets of one cache lie side by side. lines: [S], how many a set has; infinite for a stream.
    circles: [S], whether they are used in a circle; front: [S], the oldest bin with any of such a set's in it.
    recent: [S], accesses in the last bin with any.
    present: [S], how many of them are in the cache. bins: [BINS, S], by bin of time of last use, times `scale` [S].
    oldest: [K], the oldest bin with anything in it. held: [K], lines after the last bin. capacity: [K] lines.
    random_share: of what goes out, at random.
    """

    first_set: Ints
    lines: Floats
    circles: Ints
    front: Ints
    recent: Floats
    present: Floats
    bins: Floats
    scale: Floats
    oldest: Ints
    held: Floats
    capacity: Floats
    random_share: float


def empty_caches(first_set: Ints, lines: Floats, circles: Ints, capacity: Floats, random_share: float) -> Caches:
    """With nothing in them."""
    sets = len(lines)
    return Caches(
        first_set=first_set,
        lines=lines,
        circles=circles,
        front=np.zeros(sets, np.int64),
        recent=np.zeros(sets),
        present=np.zeros(sets),
        bins=np.zeros((BINS, sets)),
        scale=np.ones(sets),
        oldest=np.zeros(len(capacity), np.int64),
        held=np.zeros(len(capacity)),
        capacity=capacity,
        random_share=random_share,
    )


@njit(cache=True, forceinline=True)
def missing(caches: Caches, lines_of: int) -> float:
    """The share of the next accesses to a set that will miss."""
    lines = caches.lines[lines_of]
    gone = max(0.0, lines - caches.present[lines_of])
    if caches.circles[lines_of]:
        return min(1.0, gone / max(1.0, min(lines, caches.recent[lines_of])))
    return gone / lines


@njit(cache=True, forceinline=True)
def use(caches: Caches, lines_of: int, accesses: float, time: int) -> float:
    """So many accesses to a set in the bin of `time`, counted from 0; the misses that they make."""
    now = time % BINS
    lines = caches.lines[lines_of]
    caches.recent[lines_of] = accesses
    if np.isinf(lines):
        caches.present[lines_of] += accesses
        caches.bins[now, lines_of] += accesses / caches.scale[lines_of]
        return accesses
    if caches.circles[lines_of]:
        return _go_round(caches, lines_of, accesses, time)
    used = -np.expm1(-accesses / lines)
    missed = used * max(0.0, lines - caches.present[lines_of])
    caches.present[lines_of] += missed
    caches.scale[lines_of] *= max(1.0 - used, 1e-12)
    if caches.scale[lines_of] < _SMALLEST_SCALE:
        for one in range(BINS):
            caches.bins[one, lines_of] *= caches.scale[lines_of]
        caches.scale[lines_of] = 1.0
    caches.bins[now, lines_of] += used * lines / caches.scale[lines_of]
    return missed


@njit(cache=True)
def _go_round(caches: Caches, lines_of: int, accesses: float, time: int) -> float:
    lines, scale = caches.lines[lines_of], caches.scale[lines_of]
    used = min(accesses, lines)
    missed = min(used, max(0.0, lines - caches.present[lines_of]))
    left = used - missed
    bin_of = max(caches.front[lines_of], time - BINS + 1)
    while left > 0 and bin_of < time:
        row = bin_of % BINS
        held = caches.bins[row, lines_of] * scale
        if held > left:
            caches.bins[row, lines_of] = (held - left) / scale
            break
        caches.bins[row, lines_of] = 0.0
        left -= held
        bin_of += 1
    caches.front[lines_of] = bin_of
    caches.present[lines_of] += missed
    if bin_of >= time:
        # It went all the way round within this bin.
        caches.bins[time % BINS, lines_of] = caches.present[lines_of] / scale
    else:
        caches.bins[time % BINS, lines_of] += used / scale
    return missed


@njit(cache=True, forceinline=True)
def put_out(caches: Caches, cache: int, time: int) -> None:
    """Makes room after all accesses in the bin of `time`; to be called for each cache and bin, in order."""
    first, last = caches.first_set[cache], caches.first_set[cache + 1]
    held = 0.0
    for one in range(first, last):
        held += caches.present[one]
    # Lines go out while others come in: so that in the mean over a bin there are as many as there is room for, half of
    # what comes in during one is made room for before.
    over = held - caches.capacity[cache] + 0.5 * (held - caches.held[cache])
    over_all = over
    if over > 0:
        stays = 1.0 - min(1.0, caches.random_share * over / held)
        for one in range(first, last):
            caches.present[one] *= stays
            caches.scale[one] *= stays
        over *= 1.0 - caches.random_share
    oldest = caches.oldest[cache]
    while over > 0:
        row = oldest % BINS
        in_bin = 0.0
        for one in range(first, last):
            in_bin += caches.bins[row, one] * caches.scale[one]
        goes = 1.0 if in_bin <= over else over / in_bin
        for one in range(first, last):
            caches.present[one] = max(0.0, caches.present[one] - goes * caches.bins[row, one] * caches.scale[one])
            caches.bins[row, one] *= 1.0 - goes
        over -= goes * in_bin
        if goes < 1.0 or oldest == time:
            break
        oldest += 1
    if time - oldest == BINS - 1:
        # The ring is full: what is older than it is, is all one.
        row, newer = oldest % BINS, (oldest + 1) % BINS
        for one in range(first, last):
            caches.bins[newer, one] += caches.bins[row, one]
            caches.bins[row, one] = 0.0
        oldest += 1
    caches.oldest[cache] = oldest
    caches.held[cache] = held if over_all <= 0 else held - over_all


@njit(cache=True, forceinline=True)
def missing_share(caches: Caches, half_share: Floats, first_set: Ints, party: int, which: int) -> float:
    """The share of a party's hot (0) or warm (1) lines that are not in the cache."""
    found = 0.0
    for half in range(2):
        found += half_share[half] * missing(caches, first_set[party, half] + which)
    return found


@njit(cache=True, forceinline=True)
def use_lines(
    caches: Caches, half_share: Floats, first_set: Ints, party: int, which: int, accesses: float, time: int
) -> float:
    """Accesses of a party to its hot, its warm or its stream's lines; the misses."""
    missed = 0.0
    for half in range(2):
        share = 0.5 if which == 2 else half_share[half]
        missed += use(caches, first_set[party, half] + which, accesses * share, time)
    return missed
