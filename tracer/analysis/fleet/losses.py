# SPDX-License-Identifier: Apache-2.0
"""Who lost how much to whom by waiting for CPUs, by workload over all nodes."""

from typing import Final

import polars as pl

from tracer.analysis.fleet.cgroups import first_paths, with_paths
from tracer.analysis.fleet.results import LostTo
from tracer.analysis.fleet.sums import CGROUP

# Less of the time in which the victim ran or waited on a node is what any two have that share CPUs.
FOUND_SHARE: Final = 0.01


def losses_of(cgroups: pl.DataFrame, sums: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """By node, victim and aggressor, both workloads: `lost_ns`, and `time_ns` in which the victim ran or waited there.

    `held_back_ns` is what was lost where the aggressor had more CPU time than the victim: who waits behind others that
    have less than himself waits for more than an equal share.

    `cgroups` and `sums` are those of `cgroups_of`, `pairs` of `tracer.analysis.fleet.sums.by_pair`. Containers of one
    pod's are no loss to each other where they are one container; other replicas of the same workload are.
    """
    paths = first_paths(sums)
    who = cgroups.select(*CGROUP, "workload", "container")
    holders = who.rename({name: f"holder_{name}" for name in who.columns if name != "node_name"})
    rows = (
        with_paths(with_paths(pairs, paths), paths, "holder_")
        .join(who, on=CGROUP, nulls_equal=True)
        .join(holders, on=["node_name", "holder_cgroup_id", "holder_cgroup_path"], nulls_equal=True)
        .filter(pl.col("container") != pl.col("holder_container"))
    )
    lost = rows.group_by("node_name", victim="workload", aggressor="holder_workload").agg(
        lost_ns=pl.col("wait_time_ns").cast(pl.Float64).sum()
    )
    ran = pl.col("cpu_time_ns").cast(pl.Float64)
    time = cgroups.group_by("node_name", victim="workload").agg(
        ran_ns=ran.sum(), time_ns=(ran + pl.col("wait_time_ns")).sum()
    )
    took = time.select("node_name", aggressor="victim", took_ns="ran_ns")
    both = lost.join(time, on=["node_name", "victim"]).join(took, on=["node_name", "aggressor"])
    is_held_back = pl.col("took_ns") > pl.col("ran_ns")
    held_back = pl.when(is_held_back).then("lost_ns").otherwise(0.0).alias("held_back_ns")
    return both.with_columns(held_back).drop("ran_ns", "took_ns")


def ranked_losses(cgroups: pl.DataFrame, losses: pl.DataFrame, top: int) -> list[LostTo]:
    """The `top` pairs of workloads, those first in which the victim was held back most."""
    whole = float(losses["lost_ns"].sum())
    found = pl.col("lost_ns") >= FOUND_SHARE * pl.col("time_ns")
    ranked = (
        losses.sort("lost_ns", "node_name", descending=[True, False])
        .group_by("victim", "aggressor", maintain_order=True)
        .agg(
            pl.sum("lost_ns", "held_back_ns", "time_ns"),
            nodes_found=found.sum(),
            worst_node=pl.first("node_name"),
            worst_node_lost_ns=pl.max("lost_ns"),
        )
        .sort("held_back_ns", "lost_ns", "victim", "aggressor", descending=[True, True, False, False])
        .head(top)
    )
    nodes = _nodes_of(cgroups, {*ranked["victim"], *ranked["aggressor"]})
    return [
        LostTo(
            victim=row["victim"],
            aggressor=row["aggressor"],
            lost_ns=row["lost_ns"],
            held_back_ns=row["held_back_ns"],
            share_of_lost=row["lost_ns"] / whole if whole else 0.0,
            share_of_time=row["lost_ns"] / max(row["time_ns"], 1.0),
            nodes_found=row["nodes_found"],
            nodes_together=len(nodes[row["victim"]] & nodes[row["aggressor"]]),
            worst_node=row["worst_node"],
            worst_node_lost_ns=row["worst_node_lost_ns"],
        )
        for row in ranked.iter_rows(named=True)
    ]


def _nodes_of(cgroups: pl.DataFrame, workloads: set[str]) -> dict[str, set[str]]:
    """The nodes on which each of these was."""
    there = cgroups.filter(pl.col("workload").is_in(workloads))
    return {name: set(nodes) for name, nodes in there.group_by("workload").agg("node_name").iter_rows()}
