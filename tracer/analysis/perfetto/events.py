# SPDX-License-Identifier: Apache-2.0
"""Rows of the tables as events: values of counters, and slices of who ran on which CPU.

A tick tells how long each cgroup ran on a CPU, not when within it. Slices are laid one after the other: first who ran
there in the tick before, last who does so in the next one, so that what ran on is one slice.

Both `ticks` and `windows` come here as rows of MEASURED, over whatever time.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import polars as pl

IDLE_CGROUP_ID: Final = 0

MEASURED: Final = pl.Schema(
    {
        "node_name": pl.String,
        "cgroup_id": pl.Int64,
        "time_ns": pl.Int64,
        "length_ns": pl.Int64,
        "cpu_time_ns": pl.Int64,
        "wait_time_ns": pl.Int64,
        "cycles": pl.Int64,
        "instructions": pl.Int64,
        "llc_misses": pl.Int64,
        "line_bytes": pl.Int64,
    }
)
"""What a cgroup used from `time_ns` (UTC) on for `length_ns`; `line_bytes` is moved by each miss."""


class Counter(NamedTuple):
    """A counter of each cgroup, from a row of MEASURED. Without a row it is 0, or keeps its value if it is a ratio."""

    name: str
    unit: str
    value: pl.Expr
    is_ratio: bool = False


def _per_second(amount: pl.Expr) -> pl.Expr:
    return amount * 1e9 / pl.col("length_ns")


COUNTERS: Final[Sequence[Counter]] = (
    Counter("CPU", "CPUs", pl.col("cpu_time_ns") / pl.col("length_ns")),
    Counter("Waiting for a CPU", "tasks", pl.col("wait_time_ns") / pl.col("length_ns")),
    Counter(
        "CPI",
        "cycles per instruction",
        pl.when(pl.col("instructions") > 0).then(pl.col("cycles") / pl.col("instructions")),
        is_ratio=True,
    ),
    Counter("Instructions", "per second", _per_second(pl.col("instructions"))),
    Counter("LLC traffic", "B/s", _per_second(pl.col("llc_misses").cast(pl.Float64) * pl.col("line_bytes"))),
)

COUNTER_EVENTS: Final = pl.Schema(
    {"time_ns": pl.Int64, "node_name": pl.String, "cgroup_id": pl.Int64, "counter": pl.Int32, "value": pl.Float64}
)
SLICES: Final = pl.Schema(
    {
        "node_name": pl.String,
        "cpu": pl.Int32,
        "cgroup_id": pl.Int64,
        "begin_ns": pl.Int64,
        "end_ns": pl.Int64,
        "cpu_time_ns": pl.Int64,
        "cycles": pl.Int64,
        "instructions": pl.Int64,
        "llc_misses": pl.Int64,
    }
)
_CGROUP = ("node_name", "cgroup_id")
_CPU = ("node_name", "cpu")
_SUMS = ("cpu_time_ns", "cycles", "instructions", "llc_misses")


class CounterEvents:
    """Turns stretches of rows, in the order of time, into events at which a counter changes."""

    def __init__(self) -> None:
        # Rows that end after their stretch: whether another follows them is seen in the next one.
        self._open = MEASURED.to_frame()

    def take(self, rows: pl.DataFrame, before_ns: int) -> pl.DataFrame:
        """Events, COUNTER_EVENTS, of rows of MEASURED that began before this time, all of the stretch."""
        measured = (
            rows.group_by(*_CGROUP, "time_ns")
            .agg(pl.max("length_ns", "line_bytes"), *map(_sum_or_null, [*_SUMS, "wait_time_ns"]))
            .select(MEASURED.names())
        )
        at = pl.concat([self._open.with_columns(is_new=False), measured.with_columns(is_new=True)]).sort(
            *_CGROUP, "time_ns"
        )
        end = pl.col("time_ns") + pl.col("length_ns")
        following = pl.col("time_ns").shift(-1).over(_CGROUP)
        at = at.with_columns(end_ns=end, following_ns=following)
        is_open = pl.col("following_ns").is_null() & (pl.col("end_ns") >= before_ns)
        self._open = at.filter(is_open).select(MEASURED.names())
        stops = at.filter(~is_open & (pl.col("following_ns").is_null() | (pl.col("following_ns") > pl.col("end_ns"))))
        return _changes(at.filter("is_new"), stops)

    def finish(self) -> pl.DataFrame:
        """The events after the last stretch."""
        stops = self._open.with_columns(end_ns=pl.col("time_ns") + pl.col("length_ns"))
        self._open = MEASURED.to_frame()
        return _changes(stops.clear(), stops)


def slices(ticks: pl.DataFrame) -> pl.DataFrame:
    """SLICES, from rows of MEASURED with `cpu`, one for each tick, CPU and cgroup."""
    key = [*_CPU, "time_ns"]
    ran = (
        ticks.filter(pl.col("cpu_time_ns") > 0)
        .group_by(*key, "cgroup_id")
        .agg(pl.max("length_ns"), *map(_sum_or_null, _SUMS))
        .sort(*_CPU, "cgroup_id", "time_ns")
    )
    of_cgroup = [*_CPU, "cgroup_id"]
    length = pl.col("length_ns")
    ran_before = (pl.col("time_ns").diff().over(of_cgroup) == length).fill_null(False)
    runs_after = (pl.col("time_ns").diff(-1).over(of_cgroup) == -length).fill_null(False)
    is_idle = pl.col("cgroup_id") == IDLE_CGROUP_ID
    # Idle time before who runs on, and after who stops.
    place = (
        pl.when(is_idle)
        .then(3)
        .when(runs_after & ~ran_before)
        .then(4)
        .when(ran_before & ~runs_after)
        .then(1)
        .otherwise(2)
    )
    begin = pl.col("time_ns") + pl.col("cpu_time_ns").cum_sum().over(key) - pl.col("cpu_time_ns")
    laid = (
        ran.with_columns(place=place)
        .sort(*key, "place", "cgroup_id")
        .with_columns(begin_ns=begin)
        .with_columns(end_ns=pl.col("begin_ns") + pl.col("cpu_time_ns"))
        .filter(~is_idle)
    )
    goes_on = (pl.col("begin_ns") == pl.col("end_ns").shift().over(_CPU)) & (
        pl.col("cgroup_id") == pl.col("cgroup_id").shift().over(_CPU)
    )
    return (
        laid.with_columns(number=(~goes_on.fill_null(False)).cum_sum().over(_CPU))
        .group_by(*_CPU, "number")
        .agg(pl.first("cgroup_id"), pl.min("begin_ns"), pl.max("end_ns"), *map(_sum_or_null, _SUMS))
        .select(pl.col(name).cast(dtype) for name, dtype in SLICES.items())
    )


def _changes(rows: pl.DataFrame, stops: pl.DataFrame) -> pl.DataFrame:
    """Values of all counters in `rows`, and zeros at the end of `stops`, as far as they are news within this frame."""
    parts = []
    for index, counter in enumerate(COUNTERS):
        values = rows.select(*_CGROUP, "time_ns", counter=pl.lit(index), value=counter.value.cast(pl.Float64))
        if not counter.is_ratio:
            # What was not counted does not become zero.
            ends = stops.filter(counter.value.is_not_null())
            values = pl.concat(
                [values, ends.select(*_CGROUP, time_ns="end_ns", counter=pl.lit(index), value=pl.lit(0.0))]
            )
        parts.append(values.drop_nulls("value").filter(pl.col("value").is_finite()))
    track = [*_CGROUP, "counter"]
    return (
        pl.concat(parts)
        .sort(*track, "time_ns")
        .filter(pl.col("value").ne_missing(pl.col("value").shift().over(track)))
        .select(pl.col(name).cast(dtype) for name, dtype in COUNTER_EVENTS.items())
    )


def _sum_or_null(name: str) -> pl.Expr:
    # Polars' own sum of nothing but nulls is 0.
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)
