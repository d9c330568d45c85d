# SPDX-License-Identifier: Apache-2.0
"""Throttling by a limit of one's own where the kernel does not tell it at each wait: by the second.

Then a container that is throttled waits as others do, and mostly while its CPU is idle. `cpu.stat` of it or of an
ancestor says in which seconds there was throttling; waiting for an idle CPU in these is taken to be that.
"""

from datetime import timedelta

import polars as pl

from tracer.analysis.recording import Recording
from tracer.analysis.waits.reading import bin_of

_KEY = ("node_name", "cgroup_id")


def throttled_by_second(recording: Recording, members: pl.DataFrame, bin_length: timedelta) -> pl.DataFrame:
    """`node_name`, `member`, `bin`, `throttled_ns`, of windows whose throttling nobody told.

    `members` has `node_name`, `cgroup_id` and `member`.
    """
    times = _throttled_times(recording, members)
    rows = recording.collect(
        recording.scan("windows")
        .filter(pl.col("cgroup_id").is_in(times["cgroup_id"].unique().implode()), pl.col("wait_idle_ns") > 0)
        .filter(pl.col("wait_throttled_ns").is_null())
        .select(*_KEY, "window_start", "wait_idle_ns")
    )
    throttled = (
        rows.sort("window_start")
        .join_asof(times.sort("start"), left_on="window_start", right_on="start", by=_KEY, check_sortedness=False)
        .filter(pl.col("window_start") < pl.col("end"))
    )
    return (
        throttled.join(members, on=_KEY)
        .group_by("node_name", "member", bin_of(recording, bin_length))
        .agg(throttled_ns=pl.sum("wait_idle_ns"))
    )


def _throttled_times(recording: Recording, members: pl.DataFrame) -> pl.DataFrame:
    """By cgroup, from when to when it or an ancestor was throttled at all: `start`, `end`."""
    counted = ["cpu_nr_throttled", "cpu_throttled_usec"]
    rows = recording.collect(
        recording.scan("resources")
        .filter(pl.col("cgroup_path").is_not_null())
        .select(*_KEY, "cgroup_path", "time", *counted)
    ).sort("time")
    grew = pl.any_horizontal((pl.col(name).diff() > 0).over(_KEY).fill_null(False) for name in counted)
    times = rows.with_columns(grew=grew, start=pl.col("time").shift(1).over(_KEY)).filter("grew")
    limited = times.select("node_name", limited="cgroup_path").unique()
    of_cgroup = rows.select(*_KEY, "cgroup_path").unique().join(members, on=_KEY, how="semi")
    is_below = (pl.col("cgroup_path") + "/").str.starts_with(pl.col("limited") + "/")
    affected = of_cgroup.join(limited, on="node_name").filter(is_below)
    return (
        affected.drop("cgroup_path")
        .join(times.select("node_name", "start", limited="cgroup_path", end="time"), on=["node_name", "limited"])
        .sort("start")
        # Those of a limit and of one above it overlap.
        .with_columns(end=pl.col("end").cum_max().over(_KEY))
        .select(*_KEY, "start", "end")
    )
