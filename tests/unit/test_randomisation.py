# SPDX-License-Identifier: Apache-2.0
"""The randomisation test: its intervals hold the truth, whatever the series is like, and it accuses nobody in vain."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tracer.errors import UsageError
from tracer.experiment.randomisation import Slots, difference
from tracer.experiment.schedule import SLOT_WINDOWS, Schedule, draw_schedule

Floats = npt.NDArray[np.float64]
MS = 1_000_000
SEEDS = 120
# Of so many independent intervals of 95 %, fewer than this hold the truth once in 3,000 times.
LEAST_HOLDING = 105


def drawn(generator: np.random.Generator, **given: int | float) -> Schedule:
    options = {"duration_ns": 15_000 * MS, "pulse_ns": 50 * MS, "duty": 0.1, "tick_ns": MS} | given
    return draw_schedule(generator=generator, **options)  # type: ignore[arg-type]


def wandering(windows: int, generator: np.random.Generator) -> Floats:
    """Each window is nearly as the one before: it takes half a second to forget."""
    noise = generator.normal(0, 1, windows)
    series = np.zeros(windows)
    for number in range(1, windows):
        series[number] = 0.98 * series[number - 1] + noise[number]
    return np.exp(series / 10)


def periodic(windows: int, generator: np.random.Generator) -> Floats:
    """Bursts as often as there are blocks, one of 130 ms each 500 ms."""
    phase = (np.arange(windows) + generator.integers(50)) % 50
    return np.where(phase < 13, 4.0, 1.0) + generator.normal(0, 0.05, windows)


def independent(windows: int, generator: np.random.Generator) -> Floats:
    return generator.exponential(1.0, windows)


def heavy(windows: int, generator: np.random.Generator) -> Floats:
    """Now and then a window is a hundred times the others."""
    return 1 + generator.pareto(2.5, windows)


SERIES = [wandering, periodic, independent, heavy]


def measured(
    schedule: Schedule, numerator: Floats, denominator: Floats, pause: Callable[[Floats, Floats], tuple[Floats, Floats]]
) -> tuple[Slots, Slots]:
    """What the slots show, where `pause` says what pausing makes of numerator and denominator."""
    paused, other = schedule.measured(schedule.blocks)
    in_pause = pause(numerator[paused], denominator[paused])
    return (
        Slots(*(values.sum(axis=1) for values in in_pause)),
        Slots(numerator[other].sum(axis=1), denominator[other].sum(axis=1)),
    )


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_intervals_hold_the_truth(series: Callable[[int, np.random.Generator], Floats], effect: float) -> None:
    holding = 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        schedule = drawn(generator)
        work = 1 + generator.random(2 * schedule.blocks * schedule.half_windows)
        cost = series(len(work), generator) * work
        slots = measured(schedule, cost, work, lambda cost, work: (cost - effect * work, work))
        found = difference(*slots, 0.95, generator)
        assert found.low <= found.value <= found.high
        assert (found.p_value <= 0.05) == (not found.low <= 0 <= found.high) or found.p_value == pytest.approx(0.05)
        holding += found.low <= effect <= found.high
    assert holding >= LEAST_HOLDING


def test_a_victim_that_runs_twice_as_much_in_pauses_has_its_interval() -> None:
    """As two that take turns on a CPU do: waiting goes from its CPU time to nearly nothing."""
    holding = 0
    for seed in range(SEEDS):
        generator = np.random.default_rng(seed)
        schedule = drawn(generator)
        ran = 5 + 0.5 * wandering(2 * schedule.blocks * schedule.half_windows, generator)
        waited = 10 - ran
        truth = float((waited.sum() / ran.sum()) - 0.01)
        slots = measured(schedule, waited, ran, lambda waited, ran: (0.01 * (waited + ran), waited + ran))
        found = difference(*slots, 0.95, generator)
        holding += found.low <= truth <= found.high
        assert found.p_value < 0.001
    assert holding >= LEAST_HOLDING


def test_nothing_to_divide_by_is_no_difference() -> None:
    nothing = Slots(np.zeros(20), np.zeros(20))
    something = Slots(np.ones(20), np.ones(20))
    found = difference(nothing, something, 0.95, np.random.default_rng(0))
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_few_blocks_bound_nothing() -> None:
    generator = np.random.default_rng(0)
    few = [Slots(generator.random(4), np.ones(4)) for _ in range(2)]
    found = difference(*few, 0.95, generator)
    assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("duty", [0.01, 0.05, 0.1, 0.2, 0.25])
def test_a_schedule_keeps_to_its_duty_and_its_gaps(duty: float) -> None:
    schedule = drawn(np.random.default_rng(1), duty=duty, duration_ns=60_000 * MS)
    slots = schedule.slots(0)
    paused_ns = sum(end - begin for begin, end, is_paused in slots if is_paused)
    assert 0.95 * duty * schedule.duration_ns < paused_ns <= duty * schedule.duration_ns
    assert schedule.duration_ns <= 60_000 * MS
    assert all(end - begin == 50 * MS for begin, end, _is_paused in slots)
    gap_ns = min(begin - end for (_, end, _), (begin, _, _) in itertools.pairwise(slots))
    assert gap_ns >= min(100, 50 / (2 * duty) - 50) * MS
    for first, second in zip(slots[::2], slots[1::2], strict=True):
        assert first[2] != second[2]


def test_what_is_looked_at_lies_in_the_slots() -> None:
    schedule = drawn(np.random.default_rng(2))
    start_ns = 7 * schedule.window_ns
    paused, other = schedule.measured(schedule.blocks)
    for windows, wanted in ((paused, True), (other, False)):
        slots = [slot for slot in schedule.slots(start_ns) if slot[2] is wanted]
        for row, (begin, end, _is_paused) in zip(windows, slots, strict=True):
            begins = start_ns + row * schedule.window_ns
            assert begin < begins[0]
            assert begins[-1] + schedule.window_ns == end
            assert len(row) == SLOT_WINDOWS - 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"pulse_ns": 19 * MS}, "--pulse"),
        ({"pulse_ns": 52 * MS}, "--pulse"),
        ({"pulse_ns": 1_005 * MS}, "--pulse"),
        ({"duty": 0.3}, "--duty"),
        ({"duty": 0.001}, "--duty"),
        ({"duration_ns": 601_000 * MS}, "--duration"),
        ({"duration_ns": 3_000 * MS}, "8 pauses at least take 4s"),
    ],
)
def test_what_is_out_of_bounds_is_refused(given: dict[str, float], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        drawn(np.random.default_rng(0), **given)
