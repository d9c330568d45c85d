# SPDX-License-Identifier: Apache-2.0
"""Where the time of containers went as time went on: ran, stolen, and waited behind whom, on top of each other."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import polars as pl

from tracer.analysis.pictures.axis import TimeAxis, utc_ns
from tracer.analysis.pictures.cast import Cast
from tracer.analysis.pictures.colours import COLOURED
from tracer.analysis.recording import Recording
from tracer.analysis.waits.throttling import throttled_by_second

HOLDERS: Final = 3
"""The first of the layers that have a container's colour: those behind which was waited, by their number."""

LAYERS: Final = (
    "ran",
    "steal, by the hypervisor and interrupts",
    "waited behind its own threads",
    *(f"waited behind {number}" for number in range(COLOURED)),
    "waited behind others",
    "throttled by its own limit",
    "waited while its CPU was idle",
    "waited, nobody knows behind whom",
)
_OTHERS, _THROTTLED, _IDLE, _UNKNOWN = range(HOLDERS + COLOURED, len(LAYERS))
_SUMS: Final = (
    "cpu_time_ns", "stolen_time_ns", "wait_time_ns", "wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns",
    "wait_throttled_ns",
)  # fmt: skip


@dataclass(frozen=True)
class SpentCourses:
    """By container (the first of a cast), layer (LAYERS) and bucket: the mean number of its tasks that did so.

    NaN where nothing was recorded.
    """

    axis: TimeAxis
    values: "np.ndarray[tuple[int, int, int], np.dtype[np.float32]]"


def read_spent(recording: Recording, cast: Cast, axis: TimeAxis, *, shown: int) -> SpentCourses | None:
    """Reads windows and waits of the cast's node; None if no waits were recorded then.

    The axis begins with the recording, or whole buckets later.
    """
    shown = min(shown, len(cast.containers))
    waited = cast.rows(recording, "windows").filter(pl.col("wait_time_ns").is_not_null())
    bucket = axis.bucket_of(pl.col("window_start")).alias("bucket")
    within = axis.is_within(pl.col("window_start"), 0, axis.buckets)
    starts = waited.filter(within).group_by("window_start").agg(cast.facts.seconds(pl.max("ticks")).alias("seconds"))
    seconds = np.full(axis.buckets, np.nan)
    recorded = recording.collect(starts.group_by(bucket).agg(pl.sum("seconds")))
    if recorded.is_empty():
        return None
    seconds[recorded["bucket"].to_numpy()] = recorded["seconds"].to_numpy()
    number = cast.number(shown).alias("number")
    is_shown = pl.col("number").is_between(0, shown - 1)
    sums = waited.filter(within).with_columns(number).filter(is_shown).group_by("number", bucket).agg(pl.sum(*_SUMS))
    behind = (
        cast.rows(recording, "waits")
        .filter(within, pl.col("holder_cgroup_id").is_not_null())
        .with_columns(number, cast.number(COLOURED, "holder_cgroup_id").alias("holder"))
        .filter(is_shown, pl.col("holder").is_between(0, COLOURED - 1))
        .filter(pl.col("cgroup_id") != pl.col("holder_cgroup_id"))
        .group_by("number", "holder", bucket)
        .agg(pl.sum("wait_time_ns"))
    )
    values = np.zeros((shown, len(LAYERS), axis.buckets))
    _fill(values, recording.collect(sums), _throttled(recording, cast, axis, shown), recording.collect(behind))
    return SpentCourses(axis, (values / 1e9 / seconds).astype(np.float32))


def _fill(
    values: "np.ndarray[tuple[int, int, int], np.dtype[np.float64]]",
    sums: pl.DataFrame,
    throttled: pl.DataFrame,
    behind: pl.DataFrame,
) -> None:
    at = sums["number"].to_numpy(), sums["bucket"].to_numpy()
    columns = {name: sums[name].cast(pl.Float64).to_numpy() for name in _SUMS}
    values[at[0], 0, at[1]] = columns["cpu_time_ns"] - columns["stolen_time_ns"]
    values[at[0], 1, at[1]] = columns["stolen_time_ns"]
    values[at[0], 2, at[1]] = columns["wait_behind_self_ns"]
    values[at[0], _OTHERS, at[1]] = columns["wait_behind_others_ns"]
    values[at[0], _THROTTLED, at[1]] = columns["wait_throttled_ns"]
    values[at[0], _IDLE, at[1]] = columns["wait_idle_ns"]
    told = ("wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns", "wait_throttled_ns")
    values[at[0], _UNKNOWN, at[1]] = columns["wait_time_ns"] - sum(columns[name] for name in told)
    victim, holder, bucket, waited = (
        behind[name].to_numpy() for name in ("number", "holder", "bucket", "wait_time_ns")
    )
    # Cgroups of one container wait behind itself.
    layer = np.where(victim == holder, 2, HOLDERS + holder)
    np.add.at(values, (victim, layer, bucket), waited)
    np.subtract.at(values[:, _OTHERS], (victim, bucket), waited)
    # Of these there is one row each.
    victim, bucket, waited = (throttled[name].to_numpy() for name in ("member", "bin", "throttled_ns"))
    values[victim, _THROTTLED, bucket] += waited
    values[victim, _IDLE, bucket] -= waited
    np.maximum(values, 0, out=values)


def _throttled(recording: Recording, cast: Cast, axis: TimeAxis, shown: int) -> pl.DataFrame:
    members = pl.DataFrame(
        [
            (cast.node, cgroup_id, number)
            for number, container in enumerate(cast.containers[:shown])
            for cgroup_id in container.cgroup_ids
        ],
        schema={"node_name": pl.String, "cgroup_id": pl.Int64, "member": pl.Int64},
        orient="row",
    )
    found = throttled_by_second(recording, members, timedelta(microseconds=axis.bucket_ns / 1000))
    # These count from the recording's start on.
    later = (axis.start_ns - utc_ns(recording.span.start)) // axis.bucket_ns
    return found.with_columns(pl.col("bin") - later).filter(pl.col("bin").is_between(0, axis.buckets - 1))
