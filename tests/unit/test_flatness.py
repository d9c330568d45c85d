# SPDX-License-Identifier: Apache-2.0
"""What `make soak` takes for a slope, on courses whose truth is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from _flatness import course

PERIOD_SECONDS = 3.0


def at(seconds: float) -> np.ndarray:
    # Not quite once a second, as nobody samples exactly so.
    return np.cumsum(1 + 0.1 * np.random.default_rng(1).random(int(seconds)))


@pytest.mark.parametrize("seconds", [30, 900])
@pytest.mark.parametrize("by_hour", [1_000, 10_000])
def test_a_leak_is_found_in_what_goes_up_and_down(seconds: float, by_hour: float) -> None:
    time = at(seconds)
    saw = 10 * (time % PERIOD_SECONDS) / PERIOD_SECONDS
    found = course(time, 280 + saw + by_hour / 3600 * time, period_seconds=PERIOD_SECONDS)
    assert abs(found.slope - by_hour) <= 2 * found.uncertainty
    assert found.rises(by_hour / 10) == (found.uncertainty < 0.9 * by_hour)
    assert found.uncertainty < by_hour or seconds == 30
    assert not found.rises(1.5 * by_hour)


@pytest.mark.parametrize("seed", range(5))
def test_what_only_goes_up_and_down_does_not_rise(seed: int) -> None:
    time = at(900)
    noise = np.random.default_rng(seed).normal(0, 5, len(time))
    found = course(time, 300 + 10 * (time % PERIOD_SECONDS) + noise, period_seconds=PERIOD_SECONDS)
    assert not found.rises(2)
    assert found.uncertainty < 20


def test_a_constant_is_flat() -> None:
    time = at(60)
    found = course(time, np.full(len(time), 26.0), period_seconds=PERIOD_SECONDS)
    assert (found.first, found.last) == (26, 26)
    assert found.slope == pytest.approx(0, abs=1e-6)
    assert not found.rises(0)


def test_what_falls_does_not_rise() -> None:
    time = at(60)
    assert not course(time, 100 - time, period_seconds=PERIOD_SECONDS).rises(0)
