# SPDX-License-Identifier: Apache-2.0
"""Cycles per instruction of a workload on nodes with the same processor, and the nodes that are out of line."""

from typing import Final

import polars as pl

from tracer.analysis.fleet.results import Outlier, WorkloadCpi

# Fewer nodes have no median to speak of.
LEAST_NODES: Final = 5
# Less CPU time of a workload on a node tells nothing of it.
LEAST_CPU_NS: Final = 10**9
# How far beyond the others a node is an outlier (Iglewicz and Hoaglin's modified z-score), and by how much of the
# median, for where all others agree to the last digit.
LEAST_DEVIATIONS: Final = 3.5
LEAST_EXCESS: Final = 0.1
_NORMAL: Final = 1.4826
_KIND: Final = ("workload", "cpu_model")


def cpi_by_node(cgroups: pl.DataFrame, models: pl.DataFrame) -> pl.DataFrame:
    """By workload, model and node: `cpi` beside the others' `median` and `spread`, the number of `others` with it,
    `deviations` of it from the median in spreads, `excess_ns` of CPU time, and whether it `is_outlier`.

    `models` has `node_name` and `cpu_model`; nodes without a model are left out, as is what was not counted.
    """
    counted = (
        cgroups.filter(pl.col("instructions_counted") > 0)
        .join(models.filter(pl.col("cpu_model").is_not_null()), on="node_name")
        .group_by(*_KIND, "node_name")
        .agg(pl.sum("cpu_time_ns", "cycles_counted", "instructions_counted"))
        .filter(pl.col("cpu_time_ns") >= LEAST_CPU_NS)
        .with_columns(cpi=pl.col("cycles_counted") / pl.col("instructions_counted"))
    )
    cpi, median = pl.col("cpi"), pl.col("median")
    beside = counted.with_columns(median=cpi.median().over(_KIND), nodes=pl.len().over(_KIND))
    beside = beside.with_columns(spread=(cpi - median).abs().median().over(_KIND) * _NORMAL)
    # Where all others agree, what is beyond them is beyond by a number that can be printed.
    deviations = (cpi - median) / pl.max_horizontal(pl.col("spread"), LEAST_EXCESS / LEAST_DEVIATIONS * median)
    return beside.with_columns(
        deviations=deviations,
        excess_ns=(pl.col("cpu_time_ns") * (1 - median / cpi)).clip(0),
        is_outlier=(pl.col("nodes") >= LEAST_NODES) & (deviations >= LEAST_DEVIATIONS),
    )


def ranked_outliers(by_node: pl.DataFrame, top: int) -> list[Outlier]:
    """The `top` outliers, those that cost most first."""
    rows = by_node.filter("is_outlier").sort("excess_ns", "node_name", "workload", descending=[True, False, False])
    return [
        Outlier(
            node_name=row["node_name"],
            workload=row["workload"],
            cpu_model=row["cpu_model"],
            cpi=row["cpi"],
            median_cpi=row["median"],
            deviations=row["deviations"],
            excess_ns=row["excess_ns"],
        )
        for row in rows.head(top).iter_rows(named=True)
    ]


def cpi_of_workloads(by_node: pl.DataFrame, top: int) -> list[WorkloadCpi]:
    """The `top` workloads by CPU time, each with all of its models."""
    busiest = by_node.group_by("workload").agg(pl.sum("cpu_time_ns")).sort(
        "cpu_time_ns", "workload", descending=[True, False]
    ).head(top).with_row_index("rank")  # fmt: skip
    kinds = (
        by_node.join(busiest.select("workload", "rank"), on="workload")
        .group_by("rank", *_KIND)
        .agg(pl.first("nodes", "median", "spread"), outliers=pl.col("is_outlier").sum())
        .sort("rank", "nodes", "cpu_model", descending=[False, True, False])
    )
    return [
        WorkloadCpi(
            workload=row["workload"],
            cpu_model=row["cpu_model"],
            nodes=row["nodes"],
            cpi=row["median"],
            spread=row["spread"],
            outliers=row["outliers"],
        )
        for row in kinds.iter_rows(named=True)
    ]
