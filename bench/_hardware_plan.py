# SPDX-License-Identifier: Apache-2.0
"""Who is to work in which millisecond of a run on hardware, and what the victim lost by what it then did.

The truth is what the same program does without the aggressor. Stretches with and without it take turns in random
order, so that whatever else is on the machine meets both alike; it is compared within cycles of all kinds of stretch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

VICTIM, AGGRESSOR, DECOY = range(3)
# Who is there besides the victim in each stretch of a cycle. The recording is made from the first kind.
_CYCLE = ((AGGRESSOR, DECOY), (AGGRESSOR, DECOY), (DECOY,), (AGGRESSOR,))
_STRETCH_MS = (400, 800)
# At the beginning of each nobody but the victim works, and nothing is recorded: what was done before is over then.
_SETTLE_MS = 150
_BURST_MS, _GAP_MS = (5, 50), (30, 300)
_REQUEST_MS, _PAUSE_MS = (2, 20), (2, 20)
_SAMPLES = 2_000


class Stretch(NamedTuple):
    """Milliseconds from `first` to before `end`, after a pause, and who may work in them besides the victim."""

    cycle: int
    first: int
    end: int
    present: tuple[int, ...]

    @property
    def is_recorded(self) -> bool:
        """Whether it is part of the recording that the report is made from."""
        return len(self.present) == 2

    @property
    def span(self) -> slice:
        """Its milliseconds."""
        return slice(self.first, self.end)


class Loss(NamedTuple):
    """The share of its time that the victim would not have needed, and its interval of 95 %."""

    share: float
    low: float
    high: float


def stretches(random: np.random.Generator, duration_ms: int) -> list[Stretch]:
    """As many cycles as there is time for, of stretches of one length in random order."""
    found: list[Stretch] = []
    end = cycle = 0
    while not found or end + len(_CYCLE) * _STRETCH_MS[1] <= duration_ms:
        length = int(random.integers(*_STRETCH_MS))
        for place in random.permutation(len(_CYCLE)):
            found.append(Stretch(cycle, end + _SETTLE_MS, end + length, _CYCLE[place]))
            end += length
        cycle += 1
    return found


def schedule(random: np.random.Generator, parts: list[Stretch], gap_ms: tuple[int, int], *, has_pauses: bool) -> Bytes:
    """[T]: by millisecond, bits of VICTIM, AGGRESSOR and DECOY.

    gap_ms: between bursts of the aggressor. Those of the decoy know nothing of them. All stretches of a cycle have
    the same, but for who is away.
    """
    found = np.full(parts[-1].end, 0 if has_pauses else 1 << VICTIM, np.uint8)
    turns = {AGGRESSOR: (gap_ms, _BURST_MS), DECOY: (_GAP_MS, _BURST_MS)}
    if has_pauses:
        turns[VICTIM] = (_PAUSE_MS, _REQUEST_MS)
    drawn: dict[int, Bytes] = {}
    for part in parts:
        length = part.end - part.first + _SETTLE_MS
        if part.cycle not in drawn:
            drawn[part.cycle] = np.zeros(length, np.uint8)
            for who, (pause, work) in turns.items():
                begin = 0 if who == VICTIM else _SETTLE_MS
                for first, end in _turns(random, length - begin, pause, work):
                    drawn[part.cycle][begin + first : begin + end] |= 1 << who
        bits = sum(1 << who for who in (VICTIM, *part.present))
        found[part.first - _SETTLE_MS : part.end] |= drawn[part.cycle] & bits
    return found


def _turns(
    random: np.random.Generator, duration: int, pause: tuple[int, int], work: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    end = 0
    while end < duration:
        first = end + int(random.integers(*pause, endpoint=True))
        end = first + int(random.integers(*work, endpoint=True))
        yield first, end


def loss(parts: list[Stretch], work: Floats, time: Floats, without: int) -> Loss:
    """What the victim lost to `without` in the recorded stretches, from its work and time by millisecond, [T] each.

    Each cycle's recorded stretches are compared with the one without; cycles are drawn anew for the interval.
    """
    sums = np.array([_of_cycle(parts, cycle, work, time, without) for cycle in range(parts[-1].cycle + 1)])
    drawn = np.random.default_rng(0).integers(len(sums), size=(_SAMPLES, len(sums)))
    needed, took = sums[drawn].sum(axis=1).T
    low, high = np.quantile(1 - needed / took, (0.025, 0.975))
    needed_in_all, took_in_all = sums.sum(axis=0)
    return Loss(float(1 - needed_in_all / took_in_all), float(low), float(high))


def _of_cycle(parts: list[Stretch], cycle: int, work: Floats, time: Floats, without: int) -> tuple[float, float]:
    """The time that the recorded work would have needed, and what it took."""
    of_cycle = [part for part in parts if part.cycle == cycle]
    (alone,) = (_per_work(part, work, time) for part in of_cycle if without not in part.present)
    spans = [part.span for part in of_cycle if part.is_recorded]
    return alone * sum(float(work[span].sum()) for span in spans), sum(float(time[span].sum()) for span in spans)


def _per_work(part: Stretch, work: Floats, time: Floats) -> float:
    return float(time[part.span].sum() / work[part.span].sum())


def recorded(parts: list[Stretch]) -> Bools:
    """[T]: which milliseconds the recording has."""
    found = np.zeros(parts[-1].end, np.bool_)
    for part in parts:
        found[part.span] = part.is_recorded
    return found


def spread(parts: list[Stretch], work: Floats, time: Floats) -> float:
    """How much the time for the same work differs between stretches without the aggressor (deviation by mean)."""
    alone = np.array([_per_work(part, work, time) for part in parts if AGGRESSOR not in part.present])
    return float(alone.std() / alone.mean())


def after_bursts(parts: list[Stretch], work: Floats, time: Floats, is_burst: Bools) -> float:
    """The share of what was lost in recorded stretches that was lost while the aggressor did nothing."""
    lost = np.zeros(len(work))
    for part in parts:
        if AGGRESSOR not in part.present:
            alone = _per_work(part, work, time)
            for other in parts:
                if other.cycle == part.cycle and other.is_recorded:
                    lost[other.span] = time[other.span] - alone * work[other.span]
    return float(lost[~is_burst].sum() / lost.sum())
