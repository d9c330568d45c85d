# SPDX-License-Identifier: Apache-2.0
"""A recording's windows, summed up by workload and slice of time."""

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
import numpy as np
import polars as pl

from tracer.analysis.comparison.changes import Floats
from tracer.analysis.labels import who_is, workload_label
from tracer.analysis.recording import Recording
from tracer.errors import UsageError
from tracer.naming import Named, Who, name_of

# So many that a job of a few minutes has enough of them in a day; of a minute, each window is one.
_SLICES: Final = 4096
_MOST_SLICES: Final = 4 * _SLICES
_TICK_NS: Final = 1_000_000

_KEY: Final = ("node_name", "cgroup_id")
_NAMES: Final = ("container_id", "container_name", "pod_name", "namespace")
_IDENTITY: Final = (*_KEY, "cgroup_kind", "cgroup_path", *_NAMES)
# The path tells them, so that they need not tell rows apart.
_BY_PATH: Final = ("runtime", "pod_uid", "qos_class")


class Slices:
    """What each workload of a recording used, by slice of time; idle time is no workload.

    `wall_ns`: recorded time of each slice, in order; of several nodes, the longest. Slices in which nothing was
    recorded are left out. `cores` and `cgroups` are by workload: CPU time per recorded time, and who its cgroups
    were. `there` are all, also those that were not asked for.
    """

    def __init__(self, recording: Recording, length_ns: int) -> None:
        """Raises UsageError if `recording` cannot be read, or its runs have ticks of different lengths."""
        self.slice_seconds = length_ns / 1e9
        slice_ = (pl.col("window_start").dt.epoch("ns") // length_ns).alias("slice")
        wall = recording.collect(_wall(recording, slice_)).sort("slice").with_row_index("position")
        self.wall_ns: Floats = wall["wall_ns"].cast(pl.Float64).to_numpy()
        sums, self.cgroups, self.there = _by_workload(recording, recording.collect(_sums(recording, slice_)))
        self._sums = sums.join(wall.select("slice", "position"), on="slice").partition_by(
            "workload", as_dict=True, include_key=False
        )
        wall_ns = float(self.wall_ns.sum())
        self.cores = {workload: float(rows["cpu_time_ns"].sum()) / wall_ns for (workload,), rows in self._sums.items()}

    def measured(self, name: str) -> bool:
        """Whether `name` was counted at all, of any workload."""
        return any(rows[name].sum() > 0 for rows in self._sums.values())

    def column(self, workload: str, name: str) -> Floats:
        """A sum of `workload` by slice, 0 where it did not run."""
        rows = self._sums[workload,]
        values = np.zeros(len(self.wall_ns))
        values[rows["position"].to_numpy()] = rows[name].to_numpy()
        return values


def slice_length_ns(recordings: Sequence[Recording]) -> int:
    """A length for slices of several recordings, so that they can be held against each other: whole windows."""
    window_ns = max(
        (manifest.tick_ns * manifest.window_ticks for recording in recordings for manifest in recording.manifests),
        default=60 * _TICK_NS,
    )
    spans_ns = [recording.recorded_time() / timedelta(microseconds=1) * 1e3 for recording in recordings]
    wanted_ns = max(min(spans_ns) / _SLICES, max(spans_ns) / _MOST_SLICES)
    return window_ns * max(1, math.ceil(wanted_ns / window_ns))


def _wall(recording: Recording, slice_: pl.Expr) -> pl.LazyFrame:
    ticks_ns = {manifest.tick_ns for manifest in recording.manifests} or {_TICK_NS}
    if len(ticks_ns) > 1:
        raise UsageError(f"the runs in {recording.places[0]!r} have ticks of different lengths: choose one by DIR@RUN")
    # Rows that came late have the same key.
    windows = recording.scan("windows").group_by(slice_, "node_name", "window_start").agg(pl.max("ticks"))
    by_node = windows.group_by("slice", "node_name").agg(wall_ns=pl.sum("ticks") * ticks_ns.pop())
    return by_node.group_by("slice").agg(pl.max("wall_ns"))


def _sums(recording: Recording, slice_: pl.Expr) -> pl.LazyFrame:
    """By cgroup, as far as it was known, and slice."""
    counted = pl.col("instructions").is_not_null()
    with_waits = pl.col("wait_time_ns").is_not_null()
    with_cycles, with_misses = (counted & pl.col(name).is_not_null() for name in ("cycles", "llc_misses"))
    # A `filter` within `agg` would hold all rows at once.
    parts = {
        "cpu_time_ns": pl.col("cpu_time_ns"),
        "context_switches": pl.col("context_switches"),
        "instructions": pl.col("instructions"),
        "counted_cpu_time_ns": pl.when(counted).then("cpu_time_ns"),
        "cycles": pl.when(with_cycles).then("cycles"),
        "instructions_with_cycles": pl.when(with_cycles).then("instructions"),
        "llc_misses": pl.when(with_misses).then("llc_misses"),
        "ready_time_ns": pl.col("cpu_time_ns") + pl.col("wait_time_ns"),
        "cpu_time_with_waits_ns": pl.when(with_waits).then("cpu_time_ns"),
        "instructions_with_misses": pl.when(with_misses).then("instructions"),
    }
    return (
        recording.scan("windows")
        .filter(pl.col("cgroup_kind") != "idle")
        .select(*_IDENTITY, *_BY_PATH, slice_, **{name: part.cast(pl.Float64) for name, part in parts.items()})
        .group_by(*_IDENTITY, "slice")
        .agg(pl.sum(*parts), pl.first(*_BY_PATH))
    )


def _by_workload(recording: Recording, sums: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, list[Named]], list[Who]]:
    """`sums` by workload and slice, who was in each workload, and who was there at all."""
    identities = (
        sums.group_by(_IDENTITY).agg(pl.min("slice"), pl.first(*_BY_PATH)).sort("slice").with_row_index("identity")
    )
    known = identities.with_columns(
        pl.when(pl.col("cgroup_kind") != "unknown").then("cgroup_kind").alias("cgroup_kind")
    )
    # The first rows of a cgroup can be from before its name was known. The id alone could be another cgroup's, after
    # the node was restarted.
    for columns, key in ((("cgroup_kind", "cgroup_path"), _KEY), ((*_NAMES, *_BY_PATH), (*_KEY, "cgroup_path"))):
        known = known.with_columns(pl.col(columns).backward_fill().forward_fill().over(key))
    known = known.with_columns(pl.col("cgroup_kind").fill_null("unknown"))
    labelled = known.filter(recording.is_wanted(known, required=False)).with_columns(workload=workload_label())
    cgroups: dict[str, list[Named]] = {}
    latest = labelled.unique([*_KEY, "cgroup_path"], keep="last", maintain_order=True).sort(_KEY)
    for workload, who in zip(latest["workload"], who_is(latest), strict=True):
        cgroups.setdefault(workload, []).append(Named(**msgspec.structs.asdict(who), name=name_of(who)))
    by_workload = (
        sums.join(identities.select("identity", *_IDENTITY), on=_IDENTITY, nulls_equal=True)
        .join(labelled.select("identity", "workload"), on="identity")
        .group_by("workload", "slice")
        .agg(pl.col(pl.Float64).sum())
    )
    return by_workload, cgroups, who_is(known.unique([*_KEY, "cgroup_path"], keep="last"))
