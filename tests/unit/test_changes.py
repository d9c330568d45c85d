# SPDX-License-Identifier: Apache-2.0
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.analysis.comparison.changes import (
    LEAST_SLICES,
    Change,
    Series,
    cliffs_delta,
    find_change,
    hold_together,
    student_cdf,
    student_quantile,
)

SLICE_SECONDS = 0.06
# Of printed tables of Student's t: degrees of freedom, probability, t.
STUDENT = [
    (2, 0.975, 4.303), (6, 0.975, 2.447), (6, 0.9995, 5.959), (8, 0.95, 1.860), (12, 0.975, 2.179), (12, 0.995, 3.055),
]  # fmt: skip


def series(numerator: Sequence[float], denominator: Sequence[float]) -> Series:
    return Series(np.array(numerator, float), np.array(denominator, float), SLICE_SECONDS)


def wandering(generator: np.random.Generator, slices: int, memory: float, scale: float) -> np.ndarray:
    """Log-normal, each slice alike to those `memory` slices away."""
    kept = math.exp(-1 / memory)
    values = np.empty(slices)
    value = generator.normal()
    for position, step in enumerate(generator.normal(size=slices) * math.sqrt(1 - kept * kept)):
        values[position] = value = kept * value + step
    return np.exp(scale * values)


def run_of(generator: np.random.Generator, *, ratio: float, memory: float = 15) -> Series:
    """A minute of windows of a container whose load and whose CPI wander for about a second."""
    load = 1e8 * wandering(generator, 1000, memory, 0.5)
    return Series(ratio * load * wandering(generator, 1000, memory, 0.1), load, SLICE_SECONDS)


def found(before: Series, after: Series) -> Change:
    change = find_change(before, after)
    assert isinstance(change, Change), change
    return change


@pytest.mark.parametrize(("degrees", "probability", "t"), STUDENT)
def test_student_agrees_with_printed_tables(degrees: int, probability: float, t: float) -> None:
    assert student_cdf(t, degrees) == pytest.approx(probability, abs=5e-5)
    assert student_cdf(-t, degrees) == pytest.approx(1 - probability, abs=5e-5)
    assert student_quantile(probability, degrees) == pytest.approx(t, abs=6e-4)


def test_the_interval_holds_as_often_as_it_says_though_slices_are_alike() -> None:
    generator = np.random.default_rng(20261122)
    held = naive = 0
    for _ in range(400):
        before, after = run_of(generator, ratio=1.2), run_of(generator, ratio=1.2)
        low, high = found(before, after).interval(0.95)
        held += low <= 1 <= high
        # What would be promised if each slice were a draw of its own.
        each = [
            math.sqrt(np.mean((one.numerator / one.denominator / one.ratio - 1) ** 2) / 1000) for one in (before, after)
        ]
        naive += abs(math.log(after.ratio / before.ratio)) <= 1.96 * math.hypot(*each)
    assert held >= 0.91 * 400
    assert naive < 0.6 * 400


def test_a_planted_change_is_found_with_its_size() -> None:
    generator = np.random.default_rng(1)
    changes = [found(run_of(generator, ratio=1.2), run_of(generator, ratio=1.44)) for _ in range(50)]
    assert np.mean([math.exp(change.log_quotient) for change in changes]) == pytest.approx(1.2, rel=0.02)
    assert sum(change.p_value() < 0.01 for change in changes) >= 45
    assert all(change.effect > 0.3 for change in changes)


def test_a_longer_run_is_surer_of_its_variance() -> None:
    generator = np.random.default_rng(3)
    minute = run_of(generator, ratio=1)
    ten = Series(*(np.tile(values, 10) for values in minute[:2]), SLICE_SECONDS)
    assert (minute.waves, ten.waves) == (4, 16)
    assert series([1] * LEAST_SLICES, [1] * LEAST_SLICES)._replace(slice_seconds=60).waves == 4
    assert found(minute, minute).degrees == 8
    assert found(ten, ten).degrees == 32


def test_slices_weigh_as_much_as_their_denominator() -> None:
    steady = series([1.0] * 60, [1.0] * 60)
    # Half of the slices have a CPI of 9, but hardly any instructions.
    change = found(steady, series([1.0, 9e-6] * 30, [1.0, 1e-6] * 30))
    assert change.after == pytest.approx(1, abs=1e-4)
    assert change.effect == pytest.approx(0, abs=1e-4)


def test_a_slice_in_which_it_did_not_run_is_no_slice() -> None:
    generator = np.random.default_rng(2)
    before, after = run_of(generator, ratio=1), run_of(generator, ratio=1.1)
    pauses = np.zeros(1000)
    paused = Series(*(np.column_stack((values, pauses)).ravel() for values in after[:2]), SLICE_SECONDS)
    assert found(before, paused) == found(before, after)


def test_nothing_is_made_of_too_little() -> None:
    enough, short = series([1] * LEAST_SLICES, [1] * LEAST_SLICES), series([1] * 9, [1] * 9)
    assert find_change(enough, short) == f"too little of it in B: 9 time slices, {LEAST_SLICES} are needed"
    assert find_change(series([0] * LEAST_SLICES, [1] * LEAST_SLICES), enough) == "none in A"
    assert find_change(series([], []), enough) == f"too little of it in A: 0 time slices, {LEAST_SLICES} are needed"


def test_what_never_moves_changed_for_certain_or_not_at_all() -> None:
    one, two = series([1] * 40, [1] * 40), series([2] * 40, [1] * 40)
    assert found(one, one).p_value() == 1
    assert found(one, one).interval(0.95) == (1, 1)
    assert found(one, two).p_value() == pytest.approx(0, abs=1e-12)
    assert found(one, two).effect == 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=12),
)
def test_cliffs_delta_is_that_of_all_pairs(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    pairs = [
        (w1 * w2, Fraction(n2, w2) - Fraction(n1, w1))
        for n1, w1 in before
        for n2, w2 in after
    ]  # fmt: skip
    expected = sum(weight * ((gap > 0) - (gap < 0)) for weight, gap in pairs) / sum(weight for weight, _gap in pairs)
    delta = cliffs_delta(series(*zip(*before, strict=True)), series(*zip(*after, strict=True)))
    assert delta == pytest.approx(expected, abs=1e-12)


def test_findings_hold_together_as_holm_says() -> None:
    # 0.01 <= 0.05 / 4; 0.013 <= 0.05 / 3; 0.03 > 0.05 / 2, so that nothing after it holds either.
    assert hold_together([0.03, 0.01, 0.04, 0.013], 0.05) == [False, True, False, True]
    assert hold_together([], 0.05) == []
