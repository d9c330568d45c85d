# SPDX-License-Identifier: Apache-2.0
"""Who is in a recording, and what each used in all: one row a container, over all its cgroups."""

from typing import Final

import narwhals as nw
import polars as pl

from tracer.analysis.engines import TIME_US
from tracer.analysis.findings import Container
from tracer.analysis.labels import container_label
from tracer.analysis.recording import Recording
from tracer.naming import Who

_CGROUP: Final = ["node_name", "cgroup_id"]
_NAMES: Final = [name for name in Who.__struct_fields__ if name not in _CGROUP]
_COUNTERS = ("cycles", "instructions", "llc_misses")
_WHO: Final = ["node_name", "namespace", "name", "kind"]
_OF_LAST: Final = [name for name in Who.__struct_fields__ if name not in (*_WHO, "cgroup_kind")]


class Roster:
    """All containers and other cgroups but idle time, the busiest first.

    `table` is windows or ticks, whichever it was made from. `containers` has one row each:

        member          its number, from 0 on
        node_name, namespace, name, kind     as in `findings.Container`
        cgroup_ids      list of i64
        cgroup_id, …    the other identity columns, of the cgroup that was there last
        is_wanted       whether it is one of those that were asked for
        rows            rows of `table`
        cpu_time_ns, cycles, instructions, llc_misses   sums; a counter that was never counted is null
        cycles_counted, instructions_counted            the same of rows in which both were counted
        coverage        mean share of the time in which the counters counted; null without, or from ticks

    `idle_ns` is idle time by node_name.
    """

    def __init__(self, recording: Recording) -> None:
        self.table = "windows" if recording.has("windows") else "ticks"
        sums = _sums_by_cgroup(recording, self.table)
        known = sums.join(_names(recording, self.table, sums["last"]), on=_CGROUP, how="left")
        cgroups = known.with_columns(
            container_label().alias("name"),
            pl.col("cgroup_kind").alias("kind"),
            recording.is_wanted(known).alias("is_wanted"),
        )
        idle = pl.col("kind") == "idle"
        self.idle_ns = dict(cgroups.filter(idle).group_by("node_name").agg(pl.sum("cpu_time_ns")).iter_rows())
        self.containers = (
            cgroups.filter(~idle)
            .sort("last", "cgroup_id")
            .group_by(_WHO, maintain_order=True)
            .agg(
                pl.col("cgroup_id").sort().alias("cgroup_ids"),
                *(pl.col(name).last() for name in _OF_LAST),
                pl.any("is_wanted"),
                pl.sum("rows", "cpu_time_ns"),
                *(_sum_or_null(name) for name in _COUNTERS),
                pl.sum("cycles_counted", "instructions_counted"),
                pl.mean("coverage"),
            )
            .sort("cpu_time_ns", *_WHO, descending=[True, *[False] * len(_WHO)], nulls_last=True)
            .with_row_index("member")
        )

    def node_time_ns(self, node_name: str) -> int:
        """CPU time of all, and idle time."""
        here = self.containers.filter(pl.col("node_name") == node_name)
        return int(here["cpu_time_ns"].sum()) + int(self.idle_ns.get(node_name, 0))

    @property
    def idle_share(self) -> float:
        """Of all CPU time of all nodes."""
        idle = sum(self.idle_ns.values())
        return idle / max(idle + int(self.containers["cpu_time_ns"].sum()), 1)

    def members(self, node_name: str) -> pl.DataFrame:
        """Which container each cgroup of a node is: `cgroup_id`, `member`."""
        of_node = self.containers.filter(pl.col("node_name") == node_name)
        return of_node.select(pl.col("cgroup_ids").alias("cgroup_id"), pl.col("member").cast(pl.Int32)).explode(
            "cgroup_id"
        )

    def container(self, member: int) -> Container:
        """Who that is."""
        row = self.containers.row(member, named=True)
        return Container(**{name: row[name] for name in (*_WHO, "cgroup_ids", *_OF_LAST)})


def _sums_by_cgroup(recording: Recording, table: str) -> pl.DataFrame:
    columns = [*_CGROUP, "cpu_time_ns", *_COUNTERS, *(["counter_coverage"] if table == "windows" else [])]
    rows = recording.rows(table, columns)
    both = ~nw.col("cycles").is_null() & (nw.col("instructions") > 0)
    counted = [nw.when(both).then(nw.col(name)).alias(f"{name}_counted") for name in ("cycles", "instructions")]
    sums = (
        rows.with_columns(*counted)
        .group_by(*_CGROUP)
        .agg(
            nw.col(TIME_US).max().alias("last_us"),
            nw.len().alias("rows"),
            nw.col("cpu_time_ns").sum(),
            *(nw.col(name).sum() for name in _COUNTERS),
            *(nw.col(name).count().alias(f"{name}_told") for name in _COUNTERS),
            *(nw.col(f"{name}_counted").sum() for name in ("cycles", "instructions")),
            *([nw.col("counter_coverage").mean().alias("coverage")] if table == "windows" else []),
        )
    )
    found = recording.gather(sums)
    return found.with_columns(
        pl.from_epoch("last_us", time_unit="us").dt.replace_time_zone("UTC").alias("last"),
        # A sum of nothing but nulls is 0.
        *(pl.when(pl.col(f"{name}_told") > 0).then(pl.col(name)).alias(name) for name in _COUNTERS),
        *([] if table == "windows" else [pl.lit(None, pl.Float64).alias("coverage")]),
    ).drop("last_us", *(f"{name}_told" for name in _COUNTERS))


def _names(recording: Recording, table: str, last_times: pl.Series) -> pl.DataFrame:
    """Of each cgroup, the last names it had: its first rows can be from before they were known.

    They are read at the ends of cgroups and of files alone: of all rows, they would take longer than all sums.
    """
    ends = pl.Series(recording.ends_of_files(table), dtype=last_times.dtype)
    times = pl.concat([last_times, ends]).unique().dt.epoch("us").alias(TIME_US).to_frame()
    rows = recording.rows(table, [*_CGROUP, *_NAMES]).join(recording.beside(times), on=TIME_US, how="semi")
    in_order = recording.gather(rows).sort(TIME_US)
    # After a restart of the node, the id can be another cgroup's.
    path = pl.col("cgroup_path")
    in_order = in_order.filter(path.is_null() | (path == path.drop_nulls().last().over(_CGROUP)))
    return in_order.group_by(_CGROUP).agg(pl.col(name).drop_nulls().last() for name in _NAMES)


def _sum_or_null(name: str) -> pl.Expr:
    # Polars' own sum of nothing but nulls is 0.
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)
