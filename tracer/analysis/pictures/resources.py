# SPDX-License-Identifier: Apache-2.0
"""Memory, pressure and throttling of containers on the time axis of the other pictures."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from tracer.analysis.pictures.axis import TimeAxis
from tracer.analysis.pictures.cast import Cast
from tracer.analysis.pictures.courses import Grid
from tracer.analysis.rates import rates
from tracer.analysis.recording import Recording

# What tasks waited for, and the counter of microseconds whose increase is that share of the time.
SHARES: Final = {
    "for a CPU": "cpu_pressure_some_total_usec",
    "for memory": "memory_pressure_some_total_usec",
    "for I/O": "io_pressure_some_total_usec",
    "throttled": "cpu_throttled_usec",
}

# Of these, what the `waits` table tells better.
_OF_CPUS: Final = ("for a CPU", "throttled")


@dataclass(frozen=True)
class Extremes:
    """The least and the largest value of a bucket's rows, by container (row) and bucket; NaN where there is none."""

    least: Grid
    largest: Grid


@dataclass(frozen=True)
class Resources:
    """Of the first containers of a cast memory in bytes, and the shares of time of `SHARES`.

    Those of CPUs are there only if no waits were recorded, which tell it better. Throttling adds up CPUs, so that its
    share can be more than 1.
    """

    axis: TimeAxis
    memory: Extremes
    shares: dict[str, Extremes]


def read_resources(recording: Recording, cast: Cast, axis: TimeAxis, *, shown: int) -> Resources | None:
    """Reads `resources` of the cast's node; None if there are none of its first `shown` containers.

    Cgroups of the same name at the same time are added up.
    """
    shown = min(shown, len(cast.containers))
    rows = cast.rows(recording, "resources").with_columns(cast.number(shown).alias("number"))
    rows = rows.filter(pl.col("number").is_between(0, shown - 1))
    counters = list(SHARES.values())
    seconds = rates(
        rows.select("node_name", "cgroup_id", "number", "time", "memory_current_bytes", *counters), counters
    )
    # A pass reads each cgroup at a moment of its own; those of a second belong together.
    by_second = seconds.group_by("number", pl.col("time").dt.truncate("1s")).agg(
        _sum("memory_current_bytes"), *(_sum(f"{counter}_per_second") for counter in counters)
    )
    columns = ["memory_current_bytes", *(f"{counter}_per_second" for counter in counters)]
    found = recording.collect(
        by_second.filter(axis.is_within(pl.col("time"), 0, axis.buckets))
        .group_by("number", axis.bucket_of(pl.col("time")).alias("bucket"))
        .agg(pl.col(columns).min().name.suffix("_least"), pl.col(columns).max().name.suffix("_largest"))
    )
    if found.is_empty():
        return None

    def extremes(column: str, per_unit: float) -> Extremes:
        least, largest = (_grid(found, f"{column}_{which}", shown, axis) for which in ("least", "largest"))
        return Extremes(least * np.float32(per_unit), largest * np.float32(per_unit))

    return Resources(
        axis,
        extremes("memory_current_bytes", 1),
        {
            name: extremes(f"{counter}_per_second", 1e-6)
            for name, counter in SHARES.items()
            if not (name in _OF_CPUS and recording.has("waits"))
        },
    )


def _sum(column: str) -> pl.Expr:
    return pl.when(pl.col(column).is_not_null().any()).then(pl.col(column).sum()).alias(column)


def _grid(found: pl.DataFrame, column: str, rows: int, axis: TimeAxis) -> Grid:
    values = np.full((rows, axis.buckets), np.nan, np.float32)
    values[found["number"].to_numpy(), found["bucket"].to_numpy()] = (
        found[column].cast(pl.Float32).fill_null(np.nan).to_numpy()
    )
    return values
