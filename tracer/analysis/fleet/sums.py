# SPDX-License-Identifier: Apache-2.0
"""The only steps of `tracer fleet report` that read rows: `windows` and `waits`, added up by cgroup.

Written once with Narwhals, for every engine. What comes out has a row for each name that a cgroup had on a node, or for
each two cgroups that met: it grows with the containers, and not with the time.
"""

from collections.abc import Collection
from typing import Any, Final

import narwhals as nw
import polars as pl

from tracer.analysis.engines import TIME_US, Engine, Files
from tracer.analysis.labels import NAMING

_SUMMED: Final = ("cpu_time_ns", "wait_time_ns", "wait_behind_others_ns")
_COUNTED: Final = ("cycles", "instructions")
SUMMED_BY_CGROUP: Final = (*_SUMMED, "waits_told", *(f"{name}_counted" for name in _COUNTED))
CGROUP: Final = ("node_name", "cgroup_id", "cgroup_path")
PAIR: Final = (*CGROUP, "holder_cgroup_id", "holder_cgroup_path")

WINDOW_COLUMNS: Final = (*NAMING, *_SUMMED, *_COUNTED)
WAIT_COLUMNS: Final = (*PAIR, "wait_time_ns")


def by_cgroup(engine: Engine, windows: Files, nodes: Collection[str] = ()) -> pl.DataFrame:
    """What each cgroup used, by node and by the names that it had, of the `nodes` of these names, or of all.

    That is the columns of `NAMING`, and

        first_us, last_us     times of its first and last window
        cpu_time_ns           sum
        wait_time_ns, wait_behind_others_ns    sums; 0 where nothing was measured: see `waits_told`
        waits_told            rows in which waits were measured
        cycles_counted, instructions_counted   sums of rows in which both were counted

    Raises UsageError for files that cannot be read.
    """
    rows = of_nodes(engine.scan(windows), nodes)
    both = ~nw.col("cycles").is_null() & (nw.col("instructions") > 0)
    sums = (
        rows.with_columns(*(nw.when(both).then(nw.col(name)).alias(f"{name}_counted") for name in _COUNTED))
        .group_by(*NAMING)
        .agg(
            nw.col(TIME_US).min().alias("first_us"),
            nw.col(TIME_US).max().alias("last_us"),
            *(nw.col(name).sum() for name in _SUMMED),
            nw.col("wait_time_ns").count().alias("waits_told"),
            *(nw.col(f"{name}_counted").sum() for name in _COUNTED),
        )
    )
    return engine.collect(sums)


def by_pair(engine: Engine, waits: Files, nodes: Collection[str] = ()) -> pl.DataFrame:
    """How long each cgroup waited behind which other: the columns of `PAIR` and the sum of `wait_time_ns`.

    Waits behind itself, behind an idle CPU and behind nobody who is known by name are left out. Raises UsageError for
    files that cannot be read.
    """
    holder: nw.Expr = nw.col("holder_cgroup_id")
    others = of_nodes(engine.scan(waits), nodes).filter(
        ~holder.is_null() & (holder != 0) & (holder != nw.col("cgroup_id"))
    )
    return engine.collect(others.group_by(*PAIR).agg(nw.col("wait_time_ns").sum()))


def of_nodes(rows: nw.LazyFrame[Any], nodes: Collection[str]) -> nw.LazyFrame[Any]:
    """Those rows that are of `nodes`, by name; of none, all."""
    return rows.filter(nw.col("node_name").is_in(sorted(nodes))) if nodes else rows
