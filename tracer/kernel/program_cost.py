# SPDX-License-Identifier: Apache-2.0
"""What the programs cost in the kernel, measured for some moments: statistics would cost as much all the time."""

import os
from collections.abc import Callable, Mapping

from tracer.kernel import bpf


class ProgramCost:
    """Measures between its making and `end`, by the kernel's own statistics (bpf(2), BPF_ENABLE_STATS; from v5.8).

    Until then, and where the kernel does not let it (CAP_SYS_ADMIN), nothing is known.
    """

    def __init__(self, programs: Mapping[str, int], count: Callable[[], tuple[int, int]]) -> None:
        """`programs`: descriptors by name, of which `tick` runs at each tick and the others with switches.

        `count`: switches that the programs saw, and ticks of all CPUs.
        """
        self._programs = dict(programs)
        self._count = count
        self._per_switch_ns: float | None = None
        self._per_tick_ns: float | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = bpf.enable_statistics()
            self._before = self._read()
        except OSError:
            self.close()

    def end(self) -> None:
        """Ends the measuring; can be called twice."""
        if self._descriptor is None:
            return
        try:
            tick_ns, ticks, other_ns, switches = (
                after - before for after, before in zip(self._read(), self._before, strict=True)
            )
            self._per_tick_ns = tick_ns / ticks if ticks else 0.0
            self._per_switch_ns = other_ns / switches if switches else 0.0
        except OSError:
            pass
        self.close()

    def time_ns(self) -> int | None:
        """CPU time of all programs since they were attached, by what they cost then; None where that is not known."""
        if self._per_tick_ns is None or self._per_switch_ns is None:
            return None
        switches, ticks = self._count()
        return int(self._per_tick_ns * ticks + self._per_switch_ns * switches)

    def close(self) -> None:
        """Ends the statistics; can be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> tuple[int, int, int, int]:
        of_tick = bpf.program_statistics(self._programs["tick"])
        others = [bpf.program_statistics(fd) for name, fd in self._programs.items() if name != "tick"]
        if "run_time_ns" not in of_tick:
            raise OSError("this kernel has no statistics of programs")
        switches, _ticks = self._count()
        return of_tick["run_time_ns"], of_tick["run_cnt"], sum(some["run_time_ns"] for some in others), switches
