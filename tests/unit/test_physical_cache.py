# SPDX-License-Identifier: Apache-2.0
"""The caches of the physical machine, held to one that looks at each access: 16 ways, least recently used goes out."""

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from tracer.simulate.physical.cache import Caches, empty_caches, put_out, use

Floats = npt.NDArray[np.float64]
WAYS, CACHE_SETS = 16, 512
CAPACITY = WAYS * CACHE_SETS
PERIOD_TICKS, BURST_TICKS, TICKS = 120, 10, 3_000
WARM_UP_TICKS = 600
SLICES = 4


@njit
def access_by_access(  # type: ignore[no-untyped-def]
    lines, rates, circles, stream, random_share, seed
):
    """[TICKS, sets of lines] misses, with `rates` accesses a tick to each set, and a stream in bursts."""
    np.random.seed(seed)
    tags = np.full((CACHE_SETS, WAYS), -1, np.int64)
    used = np.zeros((CACHE_SETS, WAYS), np.int64)
    begins = np.zeros(len(lines) + 1, np.int64)
    for one in range(len(lines)):
        begins[one + 1] = begins[one] + lines[one]
    place = np.zeros(len(lines), np.int64)
    new = begins[-1] + 1
    now = 0
    misses = np.zeros((TICKS, len(lines)))
    for tick in range(TICKS):
        streamed = stream if tick % PERIOD_TICKS < BURST_TICKS else 0
        total = rates.sum() + streamed
        for _access in range(total):
            which, of = 0, np.random.randint(0, total)
            while which < len(lines) and of >= rates[which]:
                of -= rates[which]
                which += 1
            if which == len(lines):
                address = new
                new += 1
            elif circles[which]:
                address = begins[which] + place[which]
                place[which] = (place[which] + 1) % lines[which]
            else:
                address = begins[which] + np.random.randint(0, lines[which])
            # Real caches hash addresses to sets.
            mixed = np.uint64(address) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(31)
            cache_set = np.int64((mixed * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(55))
            now += 1
            found, oldest = False, 0
            for way in range(WAYS):
                if tags[cache_set, way] == address:
                    used[cache_set, way] = now
                    found = True
                    break
                if used[cache_set, way] < used[cache_set, oldest]:
                    oldest = way
            if not found:
                if random_share > 0 and np.random.random() < random_share:
                    oldest = np.random.randint(0, WAYS)
                tags[cache_set, oldest], used[cache_set, oldest] = address, now
                if which < len(lines):
                    misses[tick, which] += 1
    return misses


@njit
def in_the_mean(caches, shares, rates, stream):  # type: ignore[no-untyped-def]
    sets = len(rates)
    misses = np.zeros((TICKS, sets))
    for tick in range(TICKS):
        for part in range(SLICES):
            time = tick * SLICES + part
            for half in range(2):
                first = half * (sets + 1)
                for one in range(sets):
                    misses[tick, one] += use(caches, first + one, rates[one] * shares[half] / SLICES, time)
                if tick % PERIOD_TICKS < BURST_TICKS:
                    use(caches, first + sets, stream / 2 / SLICES, time)
                put_out(caches, half, time)
    return misses


def modelled(lines: list[int], rates: list[int], circles: list[bool], stream: int, random_share: float) -> Floats:
    """As `plan.state_of` lays them out: a half with crowded sets, a half with less crowded ones."""
    shares = np.array([1 + WAYS**-0.5, 1 - WAYS**-0.5]) / 2
    of_half = len(lines) + 1
    caches: Caches = empty_caches(
        np.array([0, of_half, 2 * of_half]),
        np.concatenate([[*(share * np.array(lines)), np.inf] for share in shares]),
        np.array([*circles, False] * 2, np.int64),
        np.full(2, CAPACITY / 2),
        random_share,
    )
    found: Floats = in_the_mean(caches, shares, np.array(rates, float), float(stream))
    return found


def by_time_since_burst(misses: Floats) -> Floats:
    """[PERIOD_TICKS, sets]"""
    kept = misses[WARM_UP_TICKS:]
    return np.stack([kept[tick::PERIOD_TICKS].mean(axis=0) for tick in range(PERIOD_TICKS)])


@pytest.mark.parametrize("random_share", [0.0, 0.3])
@pytest.mark.parametrize(
    ("lines", "rates", "stream"),
    [
        ([3_000], [100], 3_000),
        ([3_000, 2_000], [1_500, 300], 3_000),
        ([2_000, 1_000], [4_000, 100], 8_000),
        ([6_000, 4_000], [1_500, 300], 1_000),
    ],
    ids=["sleepy", "fits", "fast-stream", "too-large"],
)
def test_misses_are_those_of_single_accesses_tick_by_tick(
    lines: list[int], rates: list[int], stream: int, random_share: float
) -> None:
    """The sum of all deviations in the course after a burst, as a share of all misses."""
    no_circles = np.zeros(len(lines), np.int64)
    single = access_by_access(np.array(lines), np.array(rates), no_circles, stream, random_share, 1)
    mean = modelled(lines, rates, [False] * len(lines), stream, random_share)
    one, other = by_time_since_burst(single), by_time_since_burst(mean)
    assert (np.abs(one - other).sum(axis=0) <= 0.12 * one.sum(axis=0)).all()
    assert other.sum(axis=0) == pytest.approx(one.sum(axis=0), rel=0.1)


@pytest.mark.parametrize(("lines", "hits"), [(16_000, False), (4_000, True)])
def test_a_circle_that_does_not_fit_hits_nothing_and_one_that_fits_nothing_but(lines: int, hits: bool) -> None:
    single = access_by_access(np.array([lines]), np.array([2_000]), np.ones(1, np.int64), 0, 0.0, 1)[1_000:]
    mean = modelled([lines], [2_000], [True], 0, 0.0)[1_000:]
    assert single.sum() == pytest.approx(0 if hits else 2_000 * len(single), rel=0.01, abs=1)
    assert mean.sum() == pytest.approx(0 if hits else 2_000 * len(mean), rel=0.01, abs=1)


def test_there_are_never_more_lines_than_room() -> None:
    """With accesses and pauses at random, over more time than there are bins."""
    random = np.random.default_rng(1)
    caches = empty_caches(
        np.array([0, 3]), np.array([500.0, 3_000.0, np.inf]), np.array([0, 1, 0]), np.array([2_000.0]), 0.1
    )
    for time in range(10_000):
        for one in range(3):
            if random.random() < 0.1:
                accesses = float(random.uniform(0, 1_000))
                missed = use(caches, one, accesses, time)
                assert 0 <= missed <= accesses + 1e-9
        put_out(caches, 0, time)
        assert caches.present.sum() <= 2_000 + 1e-6
        assert (caches.present <= caches.lines + 1e-6).all()
        assert (caches.bins * caches.scale).sum(axis=0) == pytest.approx(caches.present, rel=1e-6, abs=1e-3)
