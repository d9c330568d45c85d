# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.analysis.interference.attribution import holm
from tracer.analysis.interference.regression import (
    SAMPLES,
    add_products,
    residuals,
    solve,
    solve_samples,
    without_means,
)

RANDOM = np.random.default_rng(1)


def products(columns: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    sums = np.zeros((groups, columns.shape[1], columns.shape[1]))
    add_products(sums, columns, group)
    return sums


def test_it_finds_the_coefficients_whatever_the_level_of_each_stretch() -> None:
    x = RANDOM.uniform(0, 1, (4_000, 2))
    stretch = np.repeat(np.arange(40), 100)
    weights = RANDOM.uniform(1, 3, 4_000)
    outcome = x @ [2.0, -0.5] + RANDOM.uniform(-9, 9, 40)[stretch] + RANDOM.normal(0, 0.1, 4_000)
    columns = without_means(np.column_stack([x, outcome]), weights, stretch)
    sums = products(columns, stretch, 40)
    assert solve(sums.sum(axis=0)) == pytest.approx([2.0, -0.5], abs=0.03)
    assert sums.sum(axis=0) == pytest.approx(columns.T @ columns)
    assert abs(residuals(columns) @ columns[:, 0]) < 1e-4
    samples = solve_samples(sums)
    assert samples.shape == (SAMPLES, 2)
    assert 0.002 < samples[:, 0].std() < 0.02
    assert np.array_equal(samples, solve_samples(sums))


def test_columns_of_nothing_and_twice_the_same_do_no_harm() -> None:
    x = RANDOM.uniform(0, 1, 100)
    columns = np.column_stack([x, np.zeros(100), x, 3 * x])
    found = solve(columns.T @ columns)
    assert found[1] == 0
    assert found[0] + found[2] == pytest.approx(3, rel=1e-3)


def test_no_rows_are_no_sums() -> None:
    assert without_means(np.zeros((0, 3)), np.zeros(0), np.zeros(0, np.int64)).shape == (0, 3)
    assert not products(np.zeros((0, 3)), np.zeros(0, np.int64), 2).any()


def test_holm_of_a_known_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_never_makes_less_of_it(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(0 <= old <= new <= 1 for old, new in zip(p_values, corrected, strict=True))
    ranked = [new for _old, new in sorted(zip(p_values, corrected, strict=True))]
    assert ranked == sorted(ranked)
