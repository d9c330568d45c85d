# SPDX-License-Identifier: Apache-2.0
"""Random numbers by name and not by turn: what one container draws changes nothing for another one.

A generator is a number, made of the run's seed, the container and the tick; `following` is its next state.
"""

import numpy as np
from numba import njit

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_16_BITS = np.uint64(0xFFFF)
# A sum of four numbers that are even from 0 to 1 has a standard deviation of 1 / root 3.
_ROOT_3 = 3.0**0.5


@njit(cache=True, inline="always")
def generator(seed: int, one: int, other: int) -> np.uint64:
    """The generator of that name."""
    return following(following(np.uint64(seed) ^ (np.uint64(one) << np.uint64(40))) ^ np.uint64(other))


@njit(cache=True, inline="always")
def following(state: np.uint64) -> np.uint64:
    """The next state: SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = np.uint64(state) + _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


@njit(cache=True, inline="always")
def even(state: np.uint64) -> float:
    """From 0 to below 1."""
    return float(np.uint64(state) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, inline="always")
def normal(state: np.uint64) -> float:
    """Mean 0, variance 1, and never beyond 3.5."""
    bits = np.uint64(state)
    total = 0.0
    for part in range(4):
        total += float((bits >> np.uint64(16 * part)) & _16_BITS) / 65536.0
    return (total - 2.0) * _ROOT_3
