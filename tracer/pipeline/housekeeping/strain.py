# SPDX-License-Identifier: Apache-2.0
"""How near a run is to what it may take: batches that wait, records lost, rows that wait for the disk, memory."""

import ctypes
from collections.abc import Callable

import pyarrow as pa

from tracer.pipeline.housekeeping.overload import Strain
from tracer.units import format_bytes

_TOO_FULL = 0.9
_CALM = 0.75
_FILLING = 0.5
# Of batches that wait, and of the store's queue.
_BEHIND = 0.5


class StrainMeter:
    """Measures it. Each argument gives its figure as of now; one thread calls `measure`."""

    def __init__(
        self,
        memory_limit_bytes: int,
        *,
        memory: Callable[[], int],
        release_memory: Callable[[], None],
        batches_waiting: Callable[[], float],
        ring_fill: Callable[[], float],
        rows_waiting: Callable[[], float],
        records_lost: Callable[[], int],
    ) -> None:
        """`batches_waiting` and `rows_waiting`: shares of what there is room for; `ring_fill`: of the last second."""
        self._limit_bytes = memory_limit_bytes
        self._memory = memory
        self._release_memory = release_memory
        self._batches_waiting = batches_waiting
        self._ring_fill = ring_fill
        self._rows_waiting = rows_waiting
        self._records_lost = records_lost
        self._lost = 0
        # One look may fall into a pause of the machine.
        self._was_behind = False

    def measure(self) -> Strain:
        """Since the last call, where something is counted."""
        lost, self._lost = self._lost, self._records_lost()
        batches, rows = self._batches_waiting(), self._rows_waiting()
        # Rings have room for many seconds of most nodes: only what fills them is near to a loss.
        is_behind = (batches >= 1 and self._ring_fill() > _FILLING) or self._lost > lost
        was_behind, self._was_behind = self._was_behind, is_behind
        memory = self._memory()
        if memory > _TOO_FULL * self._limit_bytes:
            self._release_memory()
            memory = self._memory()
        reason = None
        if is_behind and was_behind:
            reason = "records come faster than they are worked on"
        elif rows > _BEHIND:
            reason = "rows come faster than the disk takes them"
        elif memory > _TOO_FULL * self._limit_bytes:
            used, limit = format_bytes(memory), format_bytes(self._limit_bytes)
            reason = f"{used} of memory are near --memory-limit ({limit})"
        is_calm = batches < _BEHIND and rows < _BEHIND / 2 and memory < _CALM * self._limit_bytes
        return Strain(reason, is_calm and reason is None)


def release_memory() -> None:
    """Gives back to the kernel what the allocators keep for the next time (malloc_trim(3))."""
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
