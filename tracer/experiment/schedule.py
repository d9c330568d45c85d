# SPDX-License-Identifier: Apache-2.0
"""When the suspect is paused: blocks with two slots each, of which a coin chooses the one with the pause.

    |<----------------- block ----------------->|
    |<------- half ------>|<------- half ------>|
    |  gap   [slot]       |  gap      [slot]    |      a slot is as long as a pause

Caches that are filled again and work that piled up are felt after a pause: so each slot begins at least a gap after its
half does, and what is measured at its beginning is left out. Where in the rest of its half it lies is drawn as well, so
that no rhythm of the node's goes with the schedule.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tracer.errors import UsageError

SLOT_WINDOWS = 5
"""Windows in a slot."""
SETTLING_WINDOWS = 1
"""Of these, how many at its beginning are not looked at."""

PULSE_BOUNDS_NS = (20_000_000, 1_000_000_000)
LARGEST_DUTY = 0.25
DURATION_BOUNDS_NS = (1_000_000_000, 600_000_000_000)
_GAP_SLOTS = 2
# With fewer, even the largest difference could be chance.
LEAST_BLOCKS = 8


class Schedule(NamedTuple):
    """In windows of `window_ns`: where the slots begin, as [block, half], and whether the first one is the pause's."""

    window_ns: int
    half_windows: int
    begins: npt.NDArray[np.int64]
    first_is_paused: npt.NDArray[np.bool_]

    @property
    def blocks(self) -> int:
        """How many pauses there are."""
        return len(self.begins)

    @property
    def duration_ns(self) -> int:
        """From the first block to the end of the last one."""
        return 2 * self.blocks * self.half_windows * self.window_ns

    def slots(self, start_ns: int) -> list[tuple[int, int, bool]]:
        """From when to when, in order of time, and whether it is a pause; the first block begins at `start_ns`."""
        length_ns = SLOT_WINDOWS * self.window_ns
        kinds = np.column_stack([self.first_is_paused, ~self.first_is_paused])
        begins = start_ns + self.begins.ravel() * self.window_ns
        return [
            (begin, begin + length_ns, is_paused)
            for begin, is_paused in zip(begins.tolist(), kinds.ravel().tolist(), strict=True)
        ]

    def measured(self, blocks: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of the first `blocks`, the windows that are looked at, as [block, window]: of pauses, and of other slots.

        Counted from the beginning of the first block.
        """
        order = np.where(self.first_is_paused, 0, 1)[:blocks]
        numbers = np.arange(blocks)
        windows = np.arange(SETTLING_WINDOWS, SLOT_WINDOWS)
        paused, other = (self.begins[numbers, half][:, None] + windows for half in (order, 1 - order))
        return paused, other


def draw_schedule(
    *, duration_ns: int, pulse_ns: int, duty: float, tick_ns: int, generator: np.random.Generator
) -> Schedule:
    """Pauses of `pulse_ns` for at most the share `duty` of at most `duration_ns`.

    Raises UsageError for what is out of bounds.
    """
    shortest, longest = PULSE_BOUNDS_NS
    if not shortest <= pulse_ns <= longest or pulse_ns % (SLOT_WINDOWS * tick_ns):
        raise UsageError("--pulse must be between 20ms and 1s, in steps of 5ms")
    if not 0.01 <= duty <= LARGEST_DUTY:
        raise UsageError("--duty must be between 1 and 25 (per cent)")
    shortest, longest = DURATION_BOUNDS_NS
    if not shortest <= duration_ns <= longest:
        raise UsageError("--duration must be between 1s and 10m")
    window_ns = pulse_ns // SLOT_WINDOWS
    half_windows = math.ceil(SLOT_WINDOWS / (2 * duty))
    blocks = duration_ns // (2 * half_windows * window_ns)
    if blocks < LEAST_BLOCKS:
        needed = LEAST_BLOCKS * 2 * half_windows * window_ns / 1e9
        raise UsageError(f"--duration is too short: {LEAST_BLOCKS} pauses at least take {needed:g}s")
    gap = min(_GAP_SLOTS * SLOT_WINDOWS, half_windows - SLOT_WINDOWS)
    offsets = generator.integers(gap, half_windows - SLOT_WINDOWS + 1, (blocks, 2))
    halves = np.arange(2 * blocks).reshape(blocks, 2) * half_windows
    return Schedule(window_ns, half_windows, halves + offsets, generator.integers(0, 2, blocks).astype(np.bool_))
