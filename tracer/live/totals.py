# SPDX-License-Identifier: Apache-2.0
"""The sink that adds up rows by cgroup, for whoever looks at a run while it goes on.

Rows that come are only put aside; they are added up when somebody asks, or when many wait. Both take milliseconds and
are bounded, however many cgroups come and go. Rows that come late just add.
"""

import threading
from typing import Final

import msgspec
import polars as pl
import pyarrow as pa

from tracer.live.snapshot import Amounts, CgroupTotals, Pair, Snapshot
from tracer.store.fields import IDENTITY
from tracer.store.schemas import HEALTH, LIFECYCLE, LLC, RESOURCES, WAITS, WINDOWS, Table

MOST_CGROUPS: Final = 4096
MOST_PAIRS: Final = 8192
_WAITING_BATCHES: Final = 64
_KEEP_REMOVED_NS: Final = 300 * 10**9

_WHO: Final = tuple(field.name for field in IDENTITY[1:])
_AMOUNTS: Final = Amounts.__struct_fields__
_FROM_WINDOWS: Final = tuple(name for name in _AMOUNTS if name in WINDOWS.schema.names)
_FROM_LLC: Final = ("mbm_total_bytes", "mbm_local_bytes")
_FROM_RESOURCES: Final = tuple(
    name for name in CgroupTotals.__struct_fields__ if name in RESOURCES.schema.names and name not in _WHO
)
# What these columns of `health` say is so at its time; the others are of its second.
_NOW: Final = frozenset(
    {
        "tick_lateness_p50_ns", "tick_lateness_p99_ns", "tick_lateness_max_ns", "reader_lag_max_ns", "ring_fill_peak",
        "queue_depth_peak", "unresolved_cgroups", "known_cgroups", "reader_pass_max_ns", "process_read_max_ns",
        "drain_interval_ns", "parts_left_out", "own_rss_bytes", "rows_waiting", "bytes_waiting", "write_max_ns",
        "online_cpus",
    }
)  # fmt: skip


def _int(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Int64, strict=False)


def _id(name: str, rows: pl.DataFrame) -> pl.Expr:
    """As the files have it: one of 2^63 or more is the negative number of the same bits."""
    return pl.col(name).reinterpret(signed=True) if rows.schema[name] == pl.UInt64 else _int(name)


def _utc_ns(name: str) -> pl.Expr:
    return pl.col(name).dt.cast_time_unit("ns").cast(pl.Int64)


_TEXTS: Final = [pl.col(name).cast(pl.String) for name in _WHO if name != "cgroup_id"]
_LAST_TICK: Final = _int("window_tick") + pl.max_horizontal(_int("ticks"), 1) - 1
_OF_WINDOWS: Final = [
    *map(_int, _FROM_WINDOWS),
    (pl.col("counter_coverage").cast(pl.Float64) * pl.col("cpu_time_ns"))
    .round()
    .cast(pl.Int64)
    .alias("counted_time_ns"),
    _LAST_TICK.alias("last_tick"),
]
_SCHEMA: Final = pl.Schema(
    {
        **dict.fromkeys(_WHO, pl.String), "cgroup_id": pl.Int64,
        **dict.fromkeys((*_AMOUNTS, "last_tick", "removed_ns"), pl.Int64),
        "llc_time": pl.Int64, "llc_occupancy_bytes": pl.Int64,
        "resources_time": pl.Int64, **dict.fromkeys(_FROM_RESOURCES, pl.Int64),
    }
)  # fmt: skip


def _sum(name: str) -> pl.Expr:
    # Polars' own sum of nothing but nulls is 0.
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)


def _newest(name: str, time: str) -> pl.Expr:
    """The value of the newest row that is of the table which has `time`: it may be null there."""
    return pl.col(name).filter(pl.col(time).is_not_null()).last()


_MERGED: Final = [
    *(pl.col(name).drop_nulls().last() for name in _WHO if name != "cgroup_id"),
    *map(_sum, _AMOUNTS),
    pl.max("last_tick"),
    pl.max("removed_ns"),
    _newest("llc_time", "llc_time"),
    _newest("llc_occupancy_bytes", "llc_time"),
    _newest("resources_time", "resources_time"),
    *(_newest(name, "resources_time") for name in _FROM_RESOURCES),
]
_PAIR: Final = ("cgroup_id", "holder_cgroup_id", "holder_cgroup_kind")
_PAIRS_SCHEMA: Final = pl.Schema(
    {"cgroup_id": pl.Int64, "holder_cgroup_id": pl.Int64, "holder_cgroup_kind": pl.String, "wait_time_ns": pl.Int64}
)


class Totals:
    """A sink (`put`) with a `snapshot` of what came, of one run. Any threads may call both."""

    def __init__(self, *, run_id: str, node_name: str, tick_ns: int, first_tick: int) -> None:
        self._lock = threading.Lock()  # of what waits, for as long as it takes to put a row aside
        self._waiting: list[tuple[Table, pa.Table]] = []
        self._adding = threading.Lock()  # of all below
        self._has_changed = False
        self._cgroups = _SCHEMA.to_frame()
        self._pairs = _PAIRS_SCHEMA.to_frame()
        self._others = Amounts()
        self._left_out = 0
        self._other_pairs_ns = 0
        self._health: dict[str, float] = {}
        self._snapshot = Snapshot(run_id=run_id, node_name=node_name, tick_ns=tick_ns, first_tick=first_tick)

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows of any table."""
        if table not in (WINDOWS, WAITS, LLC, RESOURCES, LIFECYCLE, HEALTH):
            return
        with self._lock:
            self._waiting.append((table, rows))
            many = len(self._waiting) >= _WAITING_BATCHES
        # Else somebody is about to add them up.
        if many and self._adding.acquire(blocking=False):
            try:
                self._add_up()
            finally:
                self._adding.release()

    def snapshot(self) -> Snapshot:
        """As of now. It is the same object while nothing has come."""
        with self._adding:
            self._add_up()
            if self._has_changed:
                self._has_changed = False
                self._snapshot = self._as_of_now()
            return self._snapshot

    def _add_up(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        parts, pairs = [self._cgroups], [self._pairs]
        for table, batch in waiting:
            rows = pl.from_arrow(batch.combine_chunks())
            assert isinstance(rows, pl.DataFrame)
            if table is HEALTH:
                self._add_health(rows)
            elif table is WAITS:
                keys = [_id(name, rows).alias(name) for name in _PAIR[:2]]
                pairs.append(rows.select(*keys, pl.col(_PAIR[2]).cast(pl.String), _int("wait_time_ns")))
            else:
                if table is WINDOWS:
                    self._look_at_time(rows)
                parts.append(_part(table, rows))
        if len(parts) > 1:
            together = pl.concat(parts, how="diagonal")
            self._keep_cgroups(together.group_by("cgroup_id", maintain_order=True).agg(_MERGED))
        if len(pairs) > 1 or len(parts) > 1:
            self._keep_pairs(pl.concat(pairs).group_by(_PAIR).agg(pl.sum("wait_time_ns")))
        # Who puts rows aside may have added them up.
        self._has_changed |= bool(waiting)

    def _add_health(self, rows: pl.DataFrame) -> None:
        for row in rows.iter_rows(named=True):
            for name, value in row.items():
                if isinstance(value, int | float):
                    self._health[name] = value if name in _NOW else self._health.get(name, 0) + value

    def _look_at_time(self, rows: pl.DataFrame) -> None:
        before = self._snapshot
        last = rows.select(_LAST_TICK.alias("tick"), _utc_ns("window_start").alias("start"), _int("window_tick"))
        tick, start_ns, first = last.row(int(last["tick"].arg_max() or 0))
        if before.last_tick is None or tick > before.last_tick:
            time_ns = start_ns + (tick + 1 - first) * before.tick_ns
            self._snapshot = msgspec.structs.replace(before, last_tick=tick, time_ns=time_ns)

    def _keep_cgroups(self, merged: pl.DataFrame) -> None:
        """Those that are long gone, and the latest to come beyond the bound, are among the others from now on."""
        now_ns = self._snapshot.time_ns or 0
        is_old = (pl.col("removed_ns") < now_ns - _KEEP_REMOVED_NS).fill_null(False)
        if merged.height > MOST_CGROUPS:
            removed_first = pl.col("removed_ns").fill_null(2**63 - 1)
            merged = merged.sort(removed_first, descending=True, maintain_order=True)
            is_old |= pl.int_range(pl.len()) >= MOST_CGROUPS
        old = merged.filter(is_old)
        self._cgroups = merged if old.is_empty() else merged.filter(~is_old)
        if not old.is_empty():
            self._left_out += old.height
            both = [pl.DataFrame([msgspec.structs.asdict(self._others)], schema=_SCHEMA), old]
            sums = pl.concat(both, how="diagonal").select(map(_sum, _AMOUNTS))
            self._others = Amounts(**sums.row(0, named=True))

    def _keep_pairs(self, merged: pl.DataFrame) -> None:
        """The largest of cgroups that are in the list."""
        kept = merged.join(self._cgroups, on="cgroup_id", how="semi").top_k(MOST_PAIRS, by="wait_time_ns")
        self._other_pairs_ns += int(merged["wait_time_ns"].sum()) - int(kept["wait_time_ns"].sum())
        self._pairs = kept

    def _as_of_now(self) -> Snapshot:
        return msgspec.structs.replace(
            self._snapshot,
            cgroups=msgspec.convert(self._cgroups.drop("llc_time", "resources_time").to_dicts(), list[CgroupTotals]),
            others=self._others,
            cgroups_left_out=self._left_out,
            pairs=msgspec.convert(self._pairs.to_dicts(), list[Pair]),
            other_pairs_ns=self._other_pairs_ns,
            health=dict(self._health),
        )


def _part(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """What `table` says of each cgroup, in columns of _SCHEMA."""
    who = [_id("cgroup_id", rows).alias("cgroup_id"), *_TEXTS]
    if table is WINDOWS:
        return rows.select(*who, *_OF_WINDOWS)
    if table is RESOURCES:
        return rows.select(*who, _utc_ns("time").alias("resources_time"), *map(_int, _FROM_RESOURCES))
    if table is LIFECYCLE:
        removed = pl.when(pl.col("event").cast(pl.String) == "removed").then(_utc_ns("time")).alias("removed_ns")
        return rows.select(*who, removed)
    # A row for each cache.
    names = [field.name for field in IDENTITY[1:] if field.name != "cgroup_id"]
    values = rows.select(*who, _utc_ns("time").alias("llc_time"), *map(_int, _FROM_LLC), _int("llc_occupancy_bytes"))
    return values.group_by("cgroup_id", "llc_time", maintain_order=True).agg(
        *(pl.last(name) for name in names), *map(_sum, (*_FROM_LLC, "llc_occupancy_bytes"))
    )
