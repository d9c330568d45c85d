# SPDX-License-Identifier: Apache-2.0
"""Tick records to rows of the `windows` and `ticks` tables.

A record is what one CPU measured for one cgroup within one tick; RECORDS_SCHEMA has its columns. Several
records may share (tick, cpu, cgroup_id): the kernel hands one over early when its slot is taken or the CPU goes
idle. Everything here adds records up, so it makes no difference how a tick was cut into them.

Null means not measured: a sum leaves nulls out, and a sum of nothing but nulls is null; `counter_coverage` says how
much of the CPU time it is of. Counters are scaled up by the share of time they ran, record by record and rounded there,
so that `windows` and `ticks` agree exactly. Cycles per instruction are of the time in which both were counted.

No frame returned here is in any order. The time and the other identity columns are added where the clock and the
cgroups are known.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from tracer.pipeline.remembered_times import RememberedTimes
from tracer.pipeline.wait_holders import HOLDERS_SCHEMA, Times

IDLE_CGROUP_ID = 0

# Measured: on the 3,000 rows of a 2-CPU node the streaming engine takes half as much CPU time again as the one in
# memory, on the 512,000 of a 256-CPU node a third less.
_STREAMING_FROM_ROWS = 100_000

RECORDS_SCHEMA = pl.Schema(
    {
        "tick": pl.UInt64,
        "cpu": pl.UInt16,
        "cgroup_id": pl.UInt64,
        "cpu_time_ns": pl.UInt64,
        "cycles": pl.UInt64,
        "instructions": pl.UInt64,
        "llc_misses": pl.UInt64,
        "context_switches": pl.UInt32,
        # Share of the time the CPU's counters ran (running / enabled), 0 to 1; null if the run counts nothing.
        "coverage": pl.Float32,
        # Time for which tasks were ready and did not run, by the CPU on which they then ran; of it, what the cgroup
        # held that CPU itself, null where the tick was waited for from end to end. All null where waits are not
        # followed.
        "wait_time_ns": pl.UInt64,
        "wait_self_ns": pl.UInt64,
        "waits": pl.UInt32,
        "involuntary_switches": pl.UInt32,
        # Null where it cannot be told. Where in a switch a stint ends can make single ones come out a little below 0.
        "stolen_time_ns": pl.Int64,
    }
)
TICKS_SCHEMA = pl.Schema(
    {
        name: RECORDS_SCHEMA[name]
        for name in (
            "tick", "cpu", "cgroup_id", "cpu_time_ns", "cycles", "instructions", "llc_misses", "context_switches",
            "wait_time_ns",
        )
    }
)  # fmt: skip
WINDOWS_SCHEMA = pl.Schema(
    {
        # Not of the table: how many records the row is the sum of.
        "records": pl.UInt32,
        "cgroup_id": pl.UInt64,
        "window_tick": pl.UInt64,
        "ticks": pl.UInt16,
        "cpu_time_ns": pl.UInt64,
        "cycles": pl.UInt64,
        "instructions": pl.UInt64,
        "llc_misses": pl.UInt64,
        "context_switches": pl.UInt32,
        "active_ticks": pl.UInt16,
        "cpus": pl.UInt16,
        "cpu_time_peak_ns": pl.UInt64,
        "llc_misses_peak": pl.UInt64,
        "cpi_min": pl.Float32,
        "cpi_median": pl.Float32,
        "cpi_max": pl.Float32,
        "neighbour_cpu_time_ns": pl.UInt64,
        "neighbour_llc_misses": pl.UInt64,
        "counter_coverage": pl.Float32,
        "wait_time_ns": pl.UInt64,
        "wait_time_peak_ns": pl.UInt64,
        "waits": pl.UInt32,
        "involuntary_switches": pl.UInt32,
        "wait_behind_others_ns": pl.UInt64,
        "wait_behind_self_ns": pl.UInt64,
        "wait_idle_ns": pl.UInt64,
        "wait_throttled_ns": pl.UInt64,
        "stolen_time_ns": pl.Int64,
    }
)


def scale_counters(records: pl.DataFrame) -> pl.DataFrame:
    """The records with their counters as if these had run all the time: divided by coverage, rounded.

    Left exactly as read where coverage is 1. Null where the counters never ran (an event that never ran reads 0),
    where coverage is null, and where the result does not fit 64 bits.
    """
    return records.with_columns(_SCALED_COUNTERS)


def tick_rows(records: pl.DataFrame, *, tick_ns: int) -> pl.DataFrame:
    """Rows of the `ticks` table (TICKS_SCHEMA) from scaled records: one per (tick, cpu, cgroup_id).

    A CPU's tick of `tick_ns` that was idle throughout has no row.
    """
    idle_throughout = (
        (pl.col("cgroup_id") == IDLE_CGROUP_ID)
        & (pl.col("cpu_time_ns") == tick_ns)
        # Another cgroup may have come and gone within the clock's resolution: then both rows stay.
        & (pl.len().over("tick", "cpu") == 1)
    )
    return (
        records.group_by("tick", "cpu", "cgroup_id")
        .agg(*_TIME_AND_COUNTERS, pl.sum("context_switches"), _WAIT_TIME)
        .filter(~idle_throughout)
        .select(TICKS_SCHEMA.names())
    )


def llc_lookup(llc_of_cpu: Mapping[int, int]) -> pl.Series:
    """The number of the last-level cache of every possible CPU, by CPU; CPUs not named in the mapping share one."""
    cpus = pl.int_range(2**16, dtype=pl.UInt32, eager=True)
    return cpus.replace_strict(llc_of_cpu, default=-1, return_dtype=pl.Int32)


def aggregate_windows(
    records: pl.DataFrame,
    holders: pl.DataFrame | None = None,
    *,
    window_ticks: int,
    first_tick: int,
    last_tick: int | None,
    llc_by_cpu: pl.Series,
    tells_throttled: bool = False,
) -> pl.DataFrame:
    """Rows of the `windows` table (WINDOWS_SCHEMA) from scaled records: one per (window_tick, cgroup_id).

    `holders` is the same records' `share_out`, if waits are followed; it knew of throttling if it `tells_throttled`. A
    window starts at a multiple of `window_ticks` (1 to 65535). `ticks` counts those of its ticks that lie within the
    run, from `first_tick` to `last_tick`, both included; None while the run goes on. `llc_by_cpu` is a `llc_lookup`.
    """
    window_tick = (pl.col("tick") - pl.col("tick") % window_ticks).alias("window_tick")
    window = ["window_tick", "cgroup_id"]
    rows = records.lazy().with_columns(window_tick)
    totals = rows.with_columns(_COVERED).group_by(window).agg(_TOTALS)
    with_llc = rows.with_columns(pl.lit(llc_by_cpu).gather("cpu").alias("llc"), *_PAIRS)
    by_llc = with_llc.group_by("tick", "llc", "cgroup_id").agg(*_TIME_AND_COUNTERS, _WAIT_TIME)
    by_tick = _with_neighbours(by_llc).group_by("tick", "cgroup_id").agg(*_TIME_AND_COUNTERS, _WAIT_TIME, *_NEIGHBOURS)
    bursts = by_tick.with_columns(window_tick, _CPI).group_by(window).agg(*_BURSTS, *_NEIGHBOURS)
    behind = (HOLDERS_SCHEMA.to_frame() if holders is None else holders).lazy().group_by(window).agg(_BEHIND)
    return (
        totals.join(bursts, on=window)
        .join(behind, on=window, how="left")
        .with_columns(_ticks_of_run(window_ticks, first_tick, last_tick), *_BEHIND_IF_FOLLOWED)
        .with_columns([] if tells_throttled else pl.lit(None, pl.UInt64).alias("wait_throttled_ns"))
        .select(_WINDOWS_COLUMNS)
        .collect(engine="streaming" if records.height >= _STREAMING_FROM_ROWS else "in-memory")
    )


class ClosedWindows(NamedTuple):
    """What became final: the scaled records, for `tick_rows`, their WINDOWS_SCHEMA rows, and who was waited behind."""

    records: pl.DataFrame
    windows: pl.DataFrame
    holders: pl.DataFrame
    """HOLDERS_SCHEMA of `tracer.pipeline.wait_holders`."""


class WindowAssembler:
    """Holds the records of windows that are not final yet, and nothing else.

    A window is final by time: the caller says before which tick nothing more is expected. A record that comes for
    a window already closed is handed out with the next close, as a further row with the same key, so that sums
    stay right. Who held the CPUs is remembered for some ticks more, for waits that end so late.
    """

    def __init__(
        self,
        *,
        tick_ns: int,
        window_ticks: int,
        first_tick: int,
        llc_of_cpu: Mapping[int, int],
        tells_throttled: bool = False,
    ) -> None:
        self.late_rows = 0
        """Rows of `windows` for windows that had already been handed out."""
        self.merged = 0
        """Records that were added to a row of `windows` that another had made."""
        self.outside_run = 0
        """Records of ticks after the run's last."""
        self._tick_ns = tick_ns
        self._window_ticks = self._wanted_ticks = window_ticks
        self._tells_throttled = tells_throttled
        self._first_tick = first_tick
        self.use_llcs(llc_of_cpu)
        self._held = [RECORDS_SCHEMA.to_frame()]
        self._closed_before = 0  # all windows before this tick were closed
        self._remembered = RememberedTimes(tick_ns, window_ticks)

    def use_llcs(self, llc_of_cpu: Mapping[int, int]) -> None:
        """From the next close on, CPUs belong to these last-level caches: after one came online or went."""
        self._llc_by_cpu = llc_lookup(llc_of_cpu)

    def use_length(self, window_ticks: int) -> None:
        """Windows are of so many ticks from where one of them begins on; any thread may call it.

        Of two lengths, one is a multiple of the other.
        """
        self._wanted_ticks = window_ticks

    def add(self, records: pl.DataFrame) -> None:
        """Take records (RECORDS_SCHEMA) as they were drained, in any order."""
        self._held.append(records)

    def add_throttled(self, times: Times) -> None:
        """For how long which cgroup was throttled on which CPU, by its own limit or one above it."""
        self._remembered.add_throttled(times)

    def close_before(self, tick: int) -> ClosedWindows:
        """Hand out the windows whose last tick is less than `tick`; empty frames if there is no further one."""
        end = tick - tick % self._window_ticks
        if (wanted := self._wanted_ticks) != self._window_ticks:
            begin = -(-self._closed_before // wanted) * wanted
            if self._closed_before == begin:
                self._window_ticks = wanted
                end = tick - tick % wanted
            else:
                end = min(end, begin)
        if end <= self._closed_before:
            return ClosedWindows(RECORDS_SCHEMA.to_frame(), WINDOWS_SCHEMA.to_frame(), HOLDERS_SCHEMA.to_frame())
        held = pl.concat(self._held)
        final = pl.col("tick") < end
        self._held = [held.filter(~final)]
        return self._close(held.filter(final), end, last_tick=None)

    def close_all(self, last_tick: int) -> ClosedWindows:
        """Hand out all that is held up to `last_tick`, the last of the run: what began after it is no full tick."""
        held = pl.concat(self._held)
        in_run = held.filter(pl.col("tick") <= last_tick)
        self.outside_run += held.height - in_run.height
        self._held = [RECORDS_SCHEMA.to_frame()]
        end = last_tick - last_tick % self._window_ticks + self._window_ticks
        return self._close(in_run, end, last_tick=last_tick)

    def _close(self, records: pl.DataFrame, end: int, *, last_tick: int | None) -> ClosedWindows:
        scaled = scale_counters(records)
        holders = self._remembered.share_out(records)
        if self._window_ticks != self._remembered.window_ticks:
            holders = _in_windows_of(self._window_ticks, holders)
        windows = aggregate_windows(
            scaled,
            holders,
            window_ticks=self._window_ticks,
            first_tick=self._first_tick,
            last_tick=last_tick,
            llc_by_cpu=self._llc_by_cpu,
            tells_throttled=self._tells_throttled,
        )
        self.late_rows += windows.filter(pl.col("window_tick") < self._closed_before).height
        self.merged += int(windows["records"].sum()) - windows.height
        self._closed_before = max(self._closed_before, end)
        return ClosedWindows(scaled, windows, holders)


def _in_windows_of(window_ticks: int, holders: pl.DataFrame) -> pl.DataFrame:
    """The same in longer windows."""
    keys = [name for name in HOLDERS_SCHEMA if name != "wait_time_ns"]
    longer = pl.col("window_tick") - pl.col("window_tick") % window_ticks
    return holders.with_columns(longer).group_by(keys).agg(pl.sum("wait_time_ns")).select(HOLDERS_SCHEMA.names())


def _ticks_of_run(window_ticks: int, first_tick: int, last_tick: int | None) -> pl.Expr:
    begin = pl.max_horizontal("window_tick", pl.lit(first_tick, pl.UInt64))
    end = pl.col("window_tick") + window_ticks
    if last_tick is not None:
        end = pl.min_horizontal(end, pl.lit(last_tick + 1, pl.UInt64))
    return pl.when(end > begin).then(end - begin).otherwise(0).alias("ticks")


def _with_neighbours(by_llc: pl.LazyFrame) -> pl.LazyFrame:
    """Adds what the other cgroups, not idle, did on the same LLC in the same tick.

    Null in rows in which the cgroup did not run. `neighbour_llc_misses` is also null if there were others but no
    misses of theirs were counted, or if there were none and the cgroup's own were not counted either.
    """
    busy = by_llc.filter(_BUSY).group_by("tick", "llc").agg(_BUSY_TOTALS)
    return by_llc.join(busy, on=["tick", "llc"], how="left").with_columns(_WITHOUT_OWN)


# The expressions, built once: building them anew for each call costs as much as a group-by of a small node.

_COUNTERS = ("cycles", "instructions", "llc_misses")
_RAN = pl.col("cpu_time_ns") > 0


def _scaled(name: str) -> pl.Expr:
    coverage = pl.col("coverage")
    quotient = pl.col(name).cast(pl.Float64) / coverage.cast(pl.Float64)
    scaled = quotient.round(mode="half_to_even").cast(pl.UInt64, strict=False)
    return pl.when(coverage >= 1).then(name).when(coverage > 0).then(scaled).alias(name)


def _sum_or_null(name: str) -> pl.Expr:
    # Polars' own sum of nothing but nulls is 0.
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)


def _counter_coverage() -> pl.Expr:
    """Share of all CPU time in which each counter that has a sum here ran and was read: the least of these shares."""
    covered_ns = [pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()) for name in _COVERED_NAMES]
    time_ns = pl.sum("cpu_time_ns")
    share = pl.min_horizontal(covered_ns).fill_null(0) / time_ns
    return pl.when((time_ns > 0) & (pl.col("coverage").count() > 0)).then(share).alias("counter_coverage")


def _of_others(busy_total: str, own: pl.Expr) -> pl.Expr:
    return pl.col(busy_total).fill_null(0) - pl.when(_BUSY).then(own).otherwise(0)


_COVERED_NAMES = [f"{name}_covered_ns" for name in _COUNTERS]
_COVERED = [
    pl.when(pl.col(name).is_not_null()).then(pl.col("coverage").cast(pl.Float64) * pl.col("cpu_time_ns")).alias(covered)
    for name, covered in zip(_COUNTERS, _COVERED_NAMES, strict=True)
]
_SCALED_COUNTERS = [_scaled(name) for name in _COUNTERS]
_TIME_AND_COUNTERS = [pl.sum("cpu_time_ns"), *map(_sum_or_null, _COUNTERS)]
_WAIT_TIME = _sum_or_null("wait_time_ns")
_WAS_HERE = (_RAN | (pl.col("context_switches") > 0)).any().cast(pl.UInt32)
_TOTALS = [
    pl.len().alias("records"),
    *_TIME_AND_COUNTERS,
    pl.sum("context_switches"),
    pl.max_horizontal(pl.col("cpu").filter(_RAN).n_unique(), _WAS_HERE).alias("cpus"),
    _counter_coverage(),
    _WAIT_TIME,
    *map(_sum_or_null, ("waits", "involuntary_switches")),
    _sum_or_null("stolen_time_ns"),
]

_HOLDER = pl.col("holder_cgroup_id")
_BEHIND_SELF = pl.col("cgroup_id") == _HOLDER
_BEHIND_IDLE = _HOLDER == IDLE_CGROUP_ID
_BEHIND = [
    pl.col("wait_time_ns").filter(which).sum().alias(name)
    for name, which in (
        ("wait_behind_others_ns", _HOLDER.is_not_null() & ~_BEHIND_SELF & ~_BEHIND_IDLE),
        ("wait_behind_self_ns", _BEHIND_SELF),
        ("wait_idle_ns", _BEHIND_IDLE),
        ("wait_throttled_ns", pl.col("is_throttled")),
    )
]
_BEHIND_IF_FOLLOWED = [
    pl.when(pl.col("wait_time_ns").is_not_null()).then(pl.col(name).fill_null(0)).alias(name)
    for name in ("wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns", "wait_throttled_ns")
]

# On a CPU that counts only one of the two, neither belongs to the other's.
_BOTH = pl.col("cycles").is_not_null() & pl.col("instructions").is_not_null()
_PAIRS = [pl.when(_BOTH).then(name).alias(name) for name in ("cycles", "instructions")]
_CPI = pl.when(pl.col("instructions") > 0).then(pl.col("cycles") / pl.col("instructions")).alias("cpi")
_BURSTS = [
    _RAN.sum().alias("active_ticks"),
    pl.max("wait_time_ns").alias("wait_time_peak_ns"),
    pl.max("cpu_time_ns").alias("cpu_time_peak_ns"),
    pl.max("llc_misses").alias("llc_misses_peak"),
    pl.min("cpi").alias("cpi_min"),
    pl.median("cpi").alias("cpi_median"),
    pl.max("cpi").alias("cpi_max"),
]

_BUSY = pl.col("cgroup_id") != IDLE_CGROUP_ID
_BUSY_TOTALS = [
    pl.len().alias("records"),
    _RAN.sum().alias("busy_cgroups"),
    # Who only waited has no misses, which says nothing of those who ran.
    pl.col("llc_misses").filter(_RAN).count().alias("busy_cgroups_counted"),
    pl.sum("cpu_time_ns").alias("busy_cpu_time_ns"),
    pl.col("llc_misses").filter(_RAN).sum().alias("busy_llc_misses"),
]
_COUNTED = pl.col("llc_misses").is_not_null()
_ALONE = _of_others("busy_cgroups", pl.lit(1, pl.UInt32)) == 0
_OTHERS_COUNTED = _of_others("busy_cgroups_counted", _COUNTED.cast(pl.UInt32)) > 0
_WITHOUT_OWN = [
    pl.when(_RAN).then(_of_others("busy_cpu_time_ns", pl.col("cpu_time_ns"))).alias("neighbour_cpu_time_ns"),
    pl.when(_RAN & (_OTHERS_COUNTED | (_ALONE & _COUNTED)))
    .then(_of_others("busy_llc_misses", pl.col("llc_misses").fill_null(0)))
    .alias("neighbour_llc_misses"),
]
_NEIGHBOURS = [pl.sum("neighbour_cpu_time_ns"), _sum_or_null("neighbour_llc_misses")]

_WINDOWS_COLUMNS = [pl.col(name).cast(dtype) for name, dtype in WINDOWS_SCHEMA.items()]
