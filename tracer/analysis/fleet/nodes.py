# SPDX-License-Identifier: Apache-2.0
"""The nodes to look at first: those on which the largest part of the CPU time was lost."""

import polars as pl

from tracer.analysis.fleet.results import FleetNode


def node_times(cgroups: pl.DataFrame) -> pl.DataFrame:
    """By `node_name`: `recorded_cpu_ns`, the time of all CPUs, idle or not, and whether it `has_waits`."""
    return cgroups.group_by("node_name").agg(
        recorded_cpu_ns=pl.col("cpu_time_ns").cast(pl.Float64).sum(), has_waits=pl.col("waits_told").sum() > 0
    )


def ranked_nodes(
    cgroups: pl.DataFrame, models: pl.DataFrame, losses: pl.DataFrame, by_node: pl.DataFrame, top: int
) -> list[FleetNode]:
    """The `top` nodes on which anything was lost. `losses` and `by_node` are of `losses_of` and `cpi_by_node`."""
    waited = (
        losses.filter(pl.col("held_back_ns") > 0)
        .sort("held_back_ns", "victim", "aggressor", descending=[True, False, False])
        .group_by("node_name", maintain_order=True)
        .agg(pl.sum("held_back_ns"), pl.first("victim", "aggressor"))
    )
    slow = (
        by_node.filter("is_outlier")
        .sort("excess_ns", "workload", descending=[True, False])
        .group_by("node_name", maintain_order=True)
        .agg(pl.sum("excess_ns"), slow_workload=pl.first("workload"))
    )
    nodes = node_times(cgroups)
    for part in (models, waited, slow):
        nodes = nodes.join(part, on="node_name", how="left")
    nodes = nodes.with_columns(pl.col("held_back_ns", "excess_ns").fill_null(0.0)).with_columns(
        share=(pl.col("held_back_ns") + pl.col("excess_ns")) / pl.max_horizontal("recorded_cpu_ns", 1.0)
    )
    ranked = nodes.filter(pl.col("share") > 0).sort("share", "node_name", descending=[True, False]).head(top)
    return [
        FleetNode(
            node_name=row["node_name"],
            cpu_model=row["cpu_model"],
            recorded_cpu_ns=row["recorded_cpu_ns"],
            held_back_ns=row["held_back_ns"] if row["has_waits"] else None,
            lost_cycles_ns=row["excess_ns"],
            share_of_time=row["share"],
            victim=row["victim"],
            aggressor=row["aggressor"],
            slow_workload=row["slow_workload"],
        )
        for row in ranked.iter_rows(named=True)
    ]
