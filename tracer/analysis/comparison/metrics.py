# SPDX-License-Identifier: Apache-2.0
"""What is compared of a workload: ratios of what its slices of time add up to."""

from typing import Final, NamedTuple

import numpy as np

from tracer.analysis.comparison.changes import Floats, Series
from tracer.analysis.comparison.slices import Slices

_NS: Final = 1e-9


class Metric(NamedTuple):
    """`column` of the slices, times `scale`, per `per`, another column, or per second of recorded time."""

    name: str
    title: str
    column: str
    per: str | None = None
    scale: float = 1

    def measured(self, slices: Slices) -> bool:
        """Whether it can be said of anybody."""
        return slices.measured(self.column if self.per is None else self.per)

    def series(self, slices: Slices, workload: str) -> Series:
        """What slices say of `workload`; slices in which it was not counted weigh nothing."""
        numerator = slices.column(workload, self.column) * self.scale
        if self.per is not None:
            denominator = slices.column(workload, self.per)
            if self.column == "ready_time_ns":
                numerator = _until_it_ran(numerator, denominator)
            return Series(numerator, denominator, slices.slice_seconds)
        seconds = slices.wall_ns * _NS
        if self.column != "instructions":
            return Series(numerator, seconds, slices.slice_seconds)
        # Where the counters took turns or broke off, for all the time in which it ran.
        ran, counted = slices.column(workload, "cpu_time_ns"), slices.column(workload, "counted_cpu_time_ns")
        known = (counted > 0) | (ran == 0)
        whole = numerator[known] * ran[known] / counted[known].clip(1)
        return Series(whole, seconds[known], slices.slice_seconds)


def _until_it_ran(ready: Floats, ran: Floats) -> Floats:
    """`ready`, of slices in which it did not run at all, with that of the next one in which it did."""
    at = np.flatnonzero(ran)
    next_one = np.searchsorted(at, np.arange(len(ran)))
    is_followed = next_one < len(at)
    found: Floats = np.bincount(at[next_one[is_followed]], ready[is_followed], len(ran)).astype(np.float64)
    return found


METRICS: Final = (
    Metric("cpi", "CPI", "cycles", per="instructions_with_cycles"),
    Metric(
        "misses_per_kilo_instruction",
        "MPKI",
        "llc_misses",
        per="instructions_with_misses",
        scale=1000,
    ),
    Metric("instructions_per_second", "instructions/s", "instructions"),
    Metric("cores", "CPU time, cores", "cpu_time_ns", scale=_NS),
    # With the CPU time, as waiting alone is next to nothing for many: twice that is nothing to worry about.
    Metric("wait_slowdown", "run-queue slowdown", "ready_time_ns", per="cpu_time_with_waits_ns"),
    Metric("context_switches_per_second", "switches/s", "context_switches"),
)
