# SPDX-License-Identifier: Apache-2.0
"""Latencies of a recording, and the windows in which their container waited behind another."""

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
_MUCH: Final = 0.05
_NONE: Final = 0.01
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


def waiting_and_quiet(recording: Recording, metric: Metric, holder: Container) -> Groups:
    """Values of the windows in which the container waited much behind the holder, and of those in which it did not.

    A value comes when a request is over: so of each window in which it waited the next one counts too. A window in
    which it waited a little is in neither group.
    """
    waited = _waited(recording, metric.container, holder)
    timing = timing_of(recording, metric.container.node_name)
    window_ns = timing.tick_ns * timing.window_ticks
    start, end = recording.span
    cluster = max(_SHORTEST_CLUSTER, (end - start) / _MOST_CLUSTERS) // timedelta(microseconds=1)
    is_waiting, is_quiet = (pl.col("waited") >= _MUCH * window_ns), (pl.col("waited") < _NONE * window_ns)
    rows = recording.collect(
        _values(recording, metric)
        .join(waited.lazy(), on="time", how="left")
        .with_columns(
            pl.col("waited").fill_null(0),
            cluster=(pl.col("time") - pl.lit(start)).dt.total_microseconds() // cluster,
        )
        .filter(is_waiting | is_quiet)
        .group_by("cluster", "near", is_waiting.alias("is_waiting"))
        .agg(_counted())
    )
    by_value = rows.group_by("near").agg(_counted()).sort("near")
    placed = rows.with_columns(pl.col("cluster").rank("dense") - 1, place=pl.col("near").rank("dense") - 1)
    shape = (int(placed["cluster"].n_unique()), by_value.height)
    waiting, quiet = np.zeros(shape), np.zeros(shape)
    for group, wanted in ((waiting, True), (quiet, False)):
        of_group = placed.filter(pl.col("is_waiting") == wanted)
        group[of_group["cluster"].to_numpy(), of_group["place"].to_numpy()] = of_group["count"].to_numpy()
    return Groups(_value_of(by_value), waiting, quiet)


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


def _waited(recording: Recording, container: Container, holder: Container) -> pl.DataFrame:
    """`time` and `waited`, ns: how long it waited behind the holder in the window of that time or the one before."""
    timing = timing_of(recording, container.node_name)
    window = timedelta(microseconds=timing.tick_ns * timing.window_ticks / 1000)
    rows = recording.collect(
        recording.scan("waits")
        .filter(
            pl.col("node_name") == container.node_name,
            pl.col("cgroup_id").is_in(container.cgroup_ids),
            pl.col("holder_cgroup_id").is_in(holder.cgroup_ids),
        )
        .group_by(time="window_start")
        .agg(waited=pl.sum("wait_time_ns"))
    )
    later = rows.with_columns(pl.col("time") + window)
    return pl.concat([rows, later]).group_by("time").agg(pl.max("waited"))


def _counted() -> list[pl.Expr]:
    return [pl.sum("sum"), pl.sum("count")]


def _value_of(rows: pl.DataFrame) -> Floats:
    """The mean of those that are as good as equal."""
    return (rows["sum"] / rows["count"]).to_numpy()
