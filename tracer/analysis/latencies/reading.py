# SPDX-License-Identifier: Apache-2.0
"""Latencies of a recording, and the windows in which another container was in the way of theirs."""

import math
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from tracer.analysis.findings import Container
from tracer.analysis.latencies.quantiles import Floats, Groups
from tracer.analysis.recording import Recording
from tracer.analysis.timing import timing_of

KINDS: Final = ("timer", "histogram", "distribution")
_MOST_METRICS: Final = 16
# Values that are as near as that are one.
_STEP: Final = math.log(1.005)
# Of a window's length: so much waiting behind another is much, and so little is none.
_MUCH_WAIT: Final = 0.05
_LITTLE_WAIT: Final = 0.01
# Of the misses that another has when it has much; as of its bursts.
_MUCH_QUANTILE: Final = 0.95
_MUCH_TRAFFIC: Final = 0.5
_LITTLE_TRAFFIC: Final = 0.2
_MOST_CLUSTERS: Final = 600
_SHORTEST_CLUSTER: Final = timedelta(seconds=1)


class Metric(NamedTuple):
    """What a container measures under one name, whatever the tags."""

    container: Container
    name: str
    kind: str


def metrics(recording: Recording, containers: list[Container]) -> list[Metric]:
    """Those with the most values of these containers."""
    of_cgroup = {(one.node_name, cgroup_id): one for one in containers for cgroup_id in one.cgroup_ids}
    found = recording.collect(
        recording.scan("external")
        .filter(pl.col("kind").is_in(KINDS), pl.col("sender_by") == "credentials")
        .group_by("node_name", "cgroup_id", "name", "kind")
        .agg(pl.sum("count"))
    ).sort("count", "node_name", "cgroup_id", "name", "kind", descending=[True, False, False, False, False])
    known: dict[tuple[int, str, str], Metric] = {}
    for node, cgroup_id, name, kind in found.select("node_name", "cgroup_id", "name", "kind").iter_rows():
        if (container := of_cgroup.get((node, cgroup_id))) is not None:
            known.setdefault((id(container), name, kind), Metric(container, name, kind))
    return list(known.values())[:_MOST_METRICS]


def all_values(recording: Recording, metric: Metric) -> tuple[Floats, Floats]:
    """All values, ascending, and how often each came."""
    rows = recording.collect(_values(recording, metric).group_by("near").agg(_counted())).sort("near")
    return _value_of(rows), rows["count"].to_numpy()


def while_waiting(recording: Recording, metric: Metric, holder: Container) -> Groups:
    """Values of the windows in which the container waited much behind the holder, and of those in which it did not."""
    timing = timing_of(recording, metric.container.node_name)
    window_ns = timing.tick_ns * timing.window_ticks
    rows = recording.scan("waits").filter(
        pl.col("cgroup_id").is_in(metric.container.cgroup_ids), pl.col("holder_cgroup_id").is_in(holder.cgroup_ids)
    )
    waited = _by_window(recording, metric, rows, "wait_time_ns")
    return _grouped(recording, metric, waited, much=_MUCH_WAIT * window_ns, little=_LITTLE_WAIT * window_ns)


def while_missing(recording: Recording, metric: Metric, aggressor: Container) -> Groups:
    """Values of the windows in which the aggressor missed the LLC much, and of those in which it hardly did."""
    rows = recording.scan("windows").filter(pl.col("cgroup_id").is_in(aggressor.cgroup_ids))
    misses = _by_window(recording, metric, rows, "llc_misses")
    much = misses.filter(pl.col("amount") > 0)["amount"].quantile(_MUCH_QUANTILE) or 1.0
    return _grouped(recording, metric, misses, much=_MUCH_TRAFFIC * much, little=_LITTLE_TRAFFIC * much)


def _by_window(recording: Recording, metric: Metric, rows: pl.LazyFrame, column: str) -> pl.DataFrame:
    """`time` and `amount`: the larger of a window's and of the one before it.

    A value comes when a request is over: so what was in its way may have been so in the window before.
    """
    timing = timing_of(recording, metric.container.node_name)
    window = timedelta(microseconds=timing.tick_ns * timing.window_ticks / 1000)
    amounts = recording.collect(
        rows.filter(pl.col("node_name") == metric.container.node_name)
        .group_by(time="window_start")
        .agg(amount=pl.sum(column))
    )
    later = amounts.with_columns(pl.col("time") + window)
    return pl.concat([amounts, later]).group_by("time").agg(pl.max("amount"))


def _grouped(recording: Recording, metric: Metric, amounts: pl.DataFrame, *, much: float, little: float) -> Groups:
    """By windows with so much of it or more, and with less than so little; those between are in neither group."""
    start, end = recording.span
    cluster = max(_SHORTEST_CLUSTER, (end - start) / _MOST_CLUSTERS) // timedelta(microseconds=1)
    is_during, is_otherwise = pl.col("amount") >= much, pl.col("amount") < little
    rows = recording.collect(
        _values(recording, metric)
        .join(_usual_windows(recording, metric), on="time", how="semi")
        .join(amounts.lazy(), on="time", how="left")
        .with_columns(
            pl.col("amount").fill_null(0),
            cluster=(pl.col("time") - pl.lit(start)).dt.total_microseconds() // cluster,
        )
        .filter(is_during | is_otherwise)
        .group_by("cluster", "near", is_during.alias("is_during"))
        .agg(*_counted(), squares=(pl.col("count") ** 2).sum())
    )
    by_value = rows.group_by("near").agg(_counted()).sort("near")
    placed = rows.with_columns(pl.col("cluster").rank("dense") - 1, place=pl.col("near").rank("dense") - 1)
    shape = (int(placed["cluster"].n_unique()), by_value.height)
    groups = (np.zeros(shape), np.zeros(shape))
    independent = []
    for group, wanted in zip(groups, (True, False), strict=True):
        of_group = placed.filter(pl.col("is_during") == wanted)
        group[of_group["cluster"].to_numpy(), of_group["place"].to_numpy()] = of_group["count"].to_numpy()
        # Kish's effective sample size.
        independent.append(float(of_group["count"].sum()) ** 2 / max(float(of_group["squares"].sum()), 1e-9))
    return Groups(_value_of(by_value), *groups, (independent[0], independent[1]))


def _usual_windows(recording: Recording, metric: Metric) -> pl.LazyFrame:
    """`time` of those that the node's recording has, but for the longer ones of a run that was short of memory.

    Of what is not there, or begins elsewhere, nobody can tell what was in the way.
    """
    node = metric.container.node_name
    is_usual = pl.col("ticks") <= timing_of(recording, node).window_ticks
    rows = recording.scan("windows").filter(pl.col("node_name") == node, is_usual)
    return rows.select(time="window_start").unique()


def _values(recording: Recording, metric: Metric) -> pl.LazyFrame:
    """`time`, `near` (those of one number are as good as equal), `sum` and `count`."""
    value = pl.col("value")
    return (
        recording.scan("external")
        .filter(
            pl.col("node_name") == metric.container.node_name,
            pl.col("cgroup_id").is_in(metric.container.cgroup_ids),
            pl.col("name") == metric.name,
            pl.col("kind") == metric.kind,
            pl.col("sender_by") == "credentials",
            value >= 0,
            pl.col("count") > 0,
        )
        .select(
            "time",
            near=pl.when(value > 0).then((value.log() / _STEP).floor()).otherwise(-math.inf),
            sum=value * pl.col("count"),
            count="count",
        )
    )


def _counted() -> list[pl.Expr]:
    return [pl.sum("sum"), pl.sum("count")]


def _value_of(rows: pl.DataFrame) -> Floats:
    """The mean of those that are as good as equal."""
    return (rows["sum"] / rows["count"]).to_numpy()
