# SPDX-License-Identifier: Apache-2.0
"""Which workload each cgroup of a fleet is, by the last names that it had."""

from typing import Final

import polars as pl

from tracer.analysis.fleet.sums import CGROUP
from tracer.analysis.labels import NAMING, container_label, workload_label

_SUMS: Final = (
    "cpu_time_ns", "wait_time_ns", "wait_behind_others_ns", "waits_told", "cycles_counted", "instructions_counted",
)  # fmt: skip
_ID: Final = ("node_name", "cgroup_id")
_NAMES: Final = tuple(name for name in NAMING if name not in CGROUP)


def with_paths(rows: pl.DataFrame, paths: pl.DataFrame, prefix: str = "") -> pl.DataFrame:
    """`rows` of cgroups, in which a path that was not known yet is the first that the cgroup had afterwards."""
    path = f"{prefix}cgroup_path"
    first = paths.rename({name: f"{prefix}{name}" for name in ("cgroup_id",)} | {"first_path": "first_path"})
    joined = rows.join(first, on=["node_name", f"{prefix}cgroup_id"], how="left", nulls_equal=True)
    return joined.with_columns(pl.col(path).fill_null(pl.col("first_path"))).drop("first_path")


def first_paths(sums: pl.DataFrame) -> pl.DataFrame:
    """`node_name`, `cgroup_id`, `first_path` of those that had any."""
    known = sums.filter(pl.col("cgroup_path").is_not_null()).sort("last_us")
    return known.group_by(_ID).agg(pl.col("cgroup_path").first().alias("first_path"))


def cgroups_of(sums: pl.DataFrame) -> pl.DataFrame:
    """One row a cgroup of `tracer.analysis.fleet.sums.by_cgroup`, with these columns beside its sums:

    the columns of `NAMING`   the last names; an id with another path, after a restart of the node, is another one
    workload, container       what it is called over all nodes (all of a StatefulSet alike), and on its own one
    """
    rows = with_paths(sums, first_paths(sums)).sort("last_us")
    cgroups = rows.group_by(CGROUP).agg(
        *(pl.col(name).drop_nulls().last() for name in _NAMES),
        pl.min("first_us"),
        pl.max("last_us"),
        *(pl.sum(name) for name in _SUMS),
    )
    return cgroups.with_columns(
        workload_label(keep_index=False).alias("workload"), container_label().alias("container")
    )
