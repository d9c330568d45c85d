# SPDX-License-Identifier: Apache-2.0
"""What a model of the ways in which neighbours do harm is not taken at its word for."""

import numpy as np
import pytest

from tracer.analysis.interference.channel_errors import inexact, unseen
from tracer.analysis.interference.channel_sums import ChannelSums, Columns
from tracer.analysis.interference.model import Fitted, Layout, Pair
from tracer.analysis.report import _within_reach

ROWS = 4_000
CYCLES = 1e9
# One suspect and the rest on the sibling, one memory of the cache, and the queue.
COLUMNS = Columns(controls=1, suspects=1, memories=1, exposure=slice(3, 5), queue=slice(5, 7), misses=7, cycles=8)


def sums_of(own: np.ndarray, beside: np.ndarray, cycles: np.ndarray) -> ChannelSums:
    """Of rows with the victim's own threads and the suspect on the sibling, for so much of the tick."""
    columns = np.zeros((ROWS, COLUMNS.cycles + 1))
    columns[:, 0], columns[:, 1], columns[:, COLUMNS.cycles] = own, beside, cycles
    columns -= columns.mean(axis=0)
    sums = ChannelSums.__new__(ChannelSums)
    sums.columns = COLUMNS
    groups = columns.reshape(20, -1, columns.shape[1])
    sums.products = np.einsum("gnp,gnq->gpq", groups, groups)
    sums.exposure, sums.queue, sums.beside = np.zeros((1, 1)), np.zeros((1, 2)), np.array([beside.sum(), 0.0])
    sums.instructions, sums.cycles_known, sums.misses_known = float(ROWS), float(cycles.sum()), 0.0
    return sums


@pytest.mark.parametrize("is_ever_idle", [True, False])
def test_a_sibling_that_is_never_idle_tells_nothing(is_ever_idle: bool) -> None:
    random = np.random.default_rng(1)
    beside = random.random(ROWS)
    own = random.random(ROWS) * (1 - beside) if is_ever_idle else 1 - beside + 1e-4 * random.random(ROWS)
    sums = sums_of(own, beside, 1 + 0.3 * (own + beside) + 0.05 * random.random(ROWS))
    whole = sums.products.sum(axis=0)
    evicted, cost = np.zeros(2), np.array([0.3, 0.0, 0.0, 0.0, 0.0])
    share = 0.3 * sums.beside[0] / sums.cycles_known
    error = inexact(whole, evicted, cost, sums)[0]
    hidden = unseen(sums.products, whole, evicted, 0.0, sums)[0]
    if is_ever_idle:
        assert error < 2 * share
        assert hidden < 0.01
    else:
        assert error > 100 * share
        assert hidden > 0.1


@pytest.mark.parametrize(
    ("misses", "sibling_share", "is_within"), [(4e5, 0.0, False), (2e6, 0.0, True), (4e5, 0.25, True)]
)
def test_nobody_costs_more_than_its_own_misses_and_its_time_on_the_sibling(
    misses: float, sibling_share: float, is_within: bool
) -> None:
    pair = Pair(
        victim=1, suspect=2, cycles=0.3 * CYCLES, share=0.3, low=0.2, high=0.4, sibling_share=sibling_share,
        delay_steps=0, p_value=1e-9, detectable_share=0.05,
    )  # fmt: skip
    layout = Layout(0, np.zeros(1, np.int64), np.zeros(1), [])
    model = Fitted(
        victim=1, cycles=CYCLES, instructions=CYCLES, layout=layout, coefficients=np.zeros(0), sibling_share=None,
        cold_share=None, pairs=[pair],
    )  # fmt: skip
    (found,) = _within_reach(model, {2: 250 * misses}).pairs
    assert (found == pair) == is_within
    if not is_within:
        # It is said that it cannot be told.
        assert found.p_value == 1.0
        assert found.detectable_share == 0.4
