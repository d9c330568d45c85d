# SPDX-License-Identifier: Apache-2.0
"""Least squares with coefficients that cannot be below 0, and what a cache remembers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.analysis.interference.memories import MEMORY_TICKS, follows, remembered
from tracer.analysis.interference.nonnegative import solve_nonnegative, solve_some


def products(columns: np.ndarray, outcome: np.ndarray) -> np.ndarray:
    both = np.column_stack([columns, outcome])
    return both.T @ both


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(0, 2))
def test_no_other_coefficients_are_better(seed: int, count: int, free: int) -> None:
    """There, the gradient is 0 where a coefficient is free or above 0, else not below."""
    random = np.random.default_rng(seed)
    columns = random.normal(size=(60, count)) @ random.normal(size=(count, count))
    outcome = columns @ random.normal(size=count) + random.normal(size=60)
    is_free = np.arange(count) < free
    found = solve_nonnegative(products(columns, outcome), is_free)
    assert (found[~is_free] >= 0).all()
    gradient = columns.T @ (columns @ found - outcome) / np.sqrt((columns**2).sum(axis=0)) / np.linalg.norm(outcome)
    loose = is_free | (found > 0)
    assert gradient[loose] == pytest.approx(0, abs=1e-4)
    assert (gradient[~loose] > -1e-4).all()


def test_columns_of_nothing_have_no_effect() -> None:
    columns = np.column_stack([np.zeros(10), np.arange(10.0)])
    assert solve_nonnegative(products(columns, 3 * np.arange(10.0)), np.zeros(2, bool)) == pytest.approx([0, 3])
    assert solve_nonnegative(products(columns, -np.arange(10.0)), np.array([False, False])) == pytest.approx([0, 0])
    assert solve_nonnegative(products(columns, -np.arange(10.0)), np.array([False, True])) == pytest.approx([0, -1])


def test_some_columns_of_many_samples() -> None:
    random = np.random.default_rng(1)
    columns = random.normal(size=(50, 3))
    sums = np.stack([products(columns, columns @ [1.0, 0.0, 2.0]), products(columns, columns @ [3.0, 0.0, 4.0])])
    found = solve_some(sums, np.array([True, False, True]))
    assert found == pytest.approx(np.array([[1, 0, 2], [3, 0, 4]]), abs=1e-6)


def test_a_cache_remembers_what_came_before_and_no_more_than_all_of_itself() -> None:
    traffic = np.zeros(100)
    traffic[10] = 0.01
    assert remembered(traffic, 0.0)[10] == pytest.approx(0.01, rel=0.01)
    assert not remembered(traffic, 0.0)[11:].any()
    felt = remembered(traffic, 15.0)
    assert not felt[:11].any()
    assert felt[11] == pytest.approx(0.01, rel=0.1)
    assert felt[26] / felt[11] == pytest.approx(np.exp(-1), rel=0.02)
    assert remembered(np.full(100, 50.0), 4.0).max() <= 1


def test_who_fetches_anew_after_others_had_traffic_follows_them() -> None:
    random = np.random.default_rng(1)
    ticks, lines = 4_000, 100_000.0
    job = np.where(np.arange(ticks) % 100 < 10, 60_000.0, 0.0)
    fetches = 5_000 * remembered(job / lines, 15.0) + random.uniform(100, 200, ticks)
    own_way = random.uniform(100, 200, ticks)
    misses = np.stack([job, fetches, own_way], axis=1)[None]
    work = np.where(misses > 0, 1e6, 0.0)
    found = follows(misses, misses.sum(axis=2), work, lines, 1_000, MEMORY_TICKS)
    assert found.tolist() == [False, True, False]
