# SPDX-License-Identifier: Apache-2.0
"""How much each container did in the course of time, in so few values that a picture can hold them.

Hours of windows become some thousand buckets. Of each bucket the mean is kept, which areas need, and beside it the
largest (of CPI also the smallest) value of any single window in it: a peak of one window is never averaged away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from tracer.analysis.pictures.axis import TimeAxis, utc_ns
from tracer.analysis.pictures.cast import IDLE, Cast
from tracer.analysis.pictures.node_facts import NodeFacts
from tracer.analysis.recording import Recording, Span
from tracer.store.schemas import TABLES

Grid = np.ndarray[tuple[int, int], np.dtype[np.float32]]
Line = np.ndarray[tuple[int], np.dtype[np.floating[Any]]]

# Windows times containers that one query holds, about 100 bytes each.
_GROUPS_AT_A_TIME = 1_000_000
# Cycles per instruction of a window in which it hardly ran say nothing.
LEAST_CPUS: Final = 1 / 60
# What may not have been measured.
_COUNTERS = ("cycles", "instructions", "llc_misses", "wait_time_ns")


@dataclass(frozen=True)
class Rate:
    """`mean` and `peak`, the largest of a window, by container (row) and bucket; `total_peak` of all together.

    NaN where nothing was recorded or counted; zero where a container did not run.
    """

    mean: Grid
    peak: Grid
    total_peak: Line


@dataclass(frozen=True)
class Courses:
    """The first `shown` containers of a cast; in one row more all others together.

    `cpus`: CPU time per second, which is a number of CPUs. `waiting`: time for which tasks were ready to run and did
    not, per second, which is a number of tasks. `traffic`: LLC misses times the size of a cache line, bytes per second.
    `cpi`, `cpi_min`, `cpi_max`: cycles per instruction of the bucket, and of the windows in it.
    """

    axis: TimeAxis
    shown: int
    cpus: Rate
    waiting: Rate
    traffic: Rate
    cpi: Grid
    cpi_min: Grid
    cpi_max: Grid

    @property
    def counted(self) -> bool:
        """Whether LLC misses were counted at all."""
        return not bool(np.isnan(self.traffic.total_peak).all())

    @property
    def has_waits(self) -> bool:
        """Whether it was recorded at all how long tasks waited for a CPU."""
        return not bool(np.isnan(self.waiting.total_peak).all())

    @property
    def has_cpi(self) -> bool:
        """Whether the CPI of any of the containers is known."""
        return not bool(np.isnan(self.cpi[: self.shown]).all())


def read_courses(
    recording: Recording,
    cast: Cast,
    axis: TimeAxis,
    *,
    shown: int,
    table: Literal["windows", "ticks"],
) -> Courses:
    """Reads `table` of the cast's node, a stretch of the `axis` after the other.

    A window is a tick where ticks are read. In these an idle tick has no row: what is missing counts as zero.
    """
    shown = min(shown, len(cast.containers))
    start = pl.col(TABLES[table].time_column)
    rows = cast.rows(recording, table).select(
        start.alias("start"),
        pl.col("ticks") if table == "windows" else pl.lit(1, pl.Int64).alias("ticks"),
        cast.number(shown).alias("number"),
        "cpu_time_ns",
        *_COUNTERS,
    )
    buckets_at_a_time = max(1, _GROUPS_AT_A_TIME // (axis.steps_each * (shown + 2)))
    by_container, totals = [], []
    for first in range(0, axis.buckets, buckets_at_a_time):
        last = min(first + buckets_at_a_time, axis.buckets)
        by_window = recording.collect(_by_window(rows.filter(axis.is_within(pl.col("start"), first, last))))
        windows = _with_rates(by_window.lazy(), axis, cast.facts)
        by_container.append(_by_container(windows).collect())
        totals.append(_totals(windows).collect())
    by_bucket = pl.concat(totals)
    if table == "ticks" and not by_bucket.is_empty():
        by_bucket = _idle_where_missing(by_bucket, axis, recording.recorded(cast.node), cast.facts.window_ns)
    return _courses(axis, shown, pl.concat(by_container), by_bucket, cast.facts.line_bytes)


def _by_window(rows: pl.LazyFrame) -> pl.LazyFrame:
    """One row per window and container: late rows, and containers of the same name, added up."""
    return (
        rows.group_by("start", "number")
        .agg(
            pl.col("ticks").max(),
            pl.col("cpu_time_ns", *_COUNTERS).sum(),
            pl.col(_COUNTERS).count().name.suffix("_rows"),
        )
        .with_columns(pl.when(pl.col(f"{name}_rows") > 0).then(name).alias(name) for name in _COUNTERS)
    )


def _with_rates(by_window: pl.LazyFrame, axis: TimeAxis, facts: NodeFacts) -> pl.LazyFrame:
    seconds = facts.seconds(pl.col("ticks").max().over("start"))
    return (
        by_window.with_columns(axis.bucket_of(pl.col("start")).alias("bucket"), seconds.alias("seconds"))
        .with_columns(
            (pl.col("cpu_time_ns") / 1e9 / pl.col("seconds")).alias("cpus"),
            (pl.col("llc_misses") * facts.line_bytes / pl.col("seconds")).alias("traffic"),
            (pl.col("wait_time_ns") / 1e9 / pl.col("seconds")).alias("waiting"),
        )
        .with_columns(
            pl.when(pl.col("cpus") >= LEAST_CPUS, pl.col("instructions") > 0)
            .then(pl.col("cycles") / pl.col("instructions"))
            .alias("cpi")
        )
    )


def _by_container(windows: pl.LazyFrame) -> pl.LazyFrame:
    return (
        windows.filter(pl.col("number") != IDLE)
        .group_by("bucket", "number")
        .agg(
            pl.col("cpu_time_ns", *_COUNTERS).sum(),
            pl.col("cpus", "traffic", "waiting").max().name.suffix("_peak"),
            pl.col("cpi").min().alias("cpi_min"),
            pl.col("cpi").max().alias("cpi_max"),
        )
    )


def _totals(windows: pl.LazyFrame) -> pl.LazyFrame:
    """By bucket: recorded seconds, those of windows with counts and with waits, and what all did together."""
    ran = pl.col("number") != IDLE
    return (
        windows.group_by("bucket", "start")
        .agg(
            pl.col("seconds").first(),
            pl.col("llc_misses").is_not_null().any().alias("counted"),
            pl.col("wait_time_ns").is_not_null().any().alias("waited"),
            pl.col("cpus", "traffic", "waiting").filter(ran).sum(),
        )
        .group_by("bucket")
        .agg(
            pl.col("seconds").sum(),
            pl.col("seconds").filter("counted").sum().alias("seconds_counted"),
            pl.col("seconds").filter("waited").sum().alias("seconds_waited"),
            pl.col("cpus").max().alias("cpus_peak"),
            pl.col("traffic").filter("counted").max().alias("traffic_peak"),
            pl.col("waiting").filter("waited").max().alias("waiting_peak"),
        )
    )


def _idle_where_missing(
    totals: pl.DataFrame, axis: TimeAxis, recorded: Sequence[Span], last_row_ns: int
) -> pl.DataFrame:
    """`totals` with every bucket of the axis but those in pauses of what was `recorded`.

    A pause begins `last_row_ns` after the last row before it.
    """
    whole = pl.lit(axis.bucket_ns / 1e9)
    counted, waited = (
        pl.when(pl.col(name).sum() > 0).then(whole).otherwise(0.0) for name in ("seconds_counted", "seconds_waited")
    )
    starts = axis.start_ns + np.arange(axis.buckets) * axis.bucket_ns
    is_recorded = np.ones(axis.buckets, bool)
    for before, after in pairwise(recorded):
        begin_ns, end_ns = utc_ns(before.end) + last_row_ns, utc_ns(after.start)
        is_recorded[(starts >= begin_ns) & (starts + axis.bucket_ns <= end_ns)] = False
    every = pl.DataFrame({"bucket": np.flatnonzero(is_recorded)})
    return every.join(totals, on="bucket", how="left").with_columns(
        seconds=whole, seconds_counted=counted, seconds_waited=waited
    )


def _courses(axis: TimeAxis, shown: int, by_container: pl.DataFrame, totals: pl.DataFrame, line_bytes: int) -> Courses:
    buckets = totals["bucket"].to_numpy()

    def line(column: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        values = np.full(axis.buckets, np.nan)
        values[buckets] = totals[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return values

    def grid(column: str, unless_there: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
        values = np.full((shown + 1, axis.buckets), float(unless_there))
        there = by_container.select("number", "bucket", pl.col(column).cast(pl.Float64).fill_null(np.nan))
        values[there["number"].to_numpy(), there["bucket"].to_numpy()] = there[column].to_numpy()
        return values

    def rate(column: str, amount: str, per_unit: float, seconds: str) -> Rate:
        recorded = line(seconds)
        recorded[recorded == 0] = np.nan
        peak = grid(f"{column}_peak", 0)
        # A container without a count did not run enough to have one, or nothing was counted then.
        peak[np.isnan(peak)] = 0
        peak[:, np.isnan(recorded)] = np.nan
        return Rate(
            (grid(amount, 0) * per_unit / recorded).astype(np.float32),
            peak.astype(np.float32),
            line(f"{column}_peak").astype(np.float32),
        )

    instructions = grid("instructions", np.nan)
    instructions[instructions == 0] = np.nan
    return Courses(
        axis,
        shown,
        rate("cpus", "cpu_time_ns", 1e-9, "seconds"),
        rate("waiting", "wait_time_ns", 1e-9, "seconds_waited"),
        rate("traffic", "llc_misses", line_bytes, "seconds_counted"),
        (grid("cycles", np.nan) / instructions).astype(np.float32),
        grid("cpi_min", np.nan).astype(np.float32),
        grid("cpi_max", np.nan).astype(np.float32),
    )
