# SPDX-License-Identifier: Apache-2.0
"""Who had the CPUs while somebody waited for one: no proof that it was these, but who else was there."""

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from tracer.analysis.findings import CpuUser
from tracer.analysis.recording import Recording
from tracer.analysis.roster import Roster
from tracer.analysis.timing import bin_length
from tracer.store.schemas import TABLES

_MOST_USERS = 3
_LEAST_SHARE = 0.05
_STALLED = "cpu_pressure_some_total_usec"


def cpu_users(recording: Recording, roster: Roster, waiters: Sequence[int]) -> dict[int, list[CpuUser]]:
    """By member of the roster: who had most of the node's CPU time while it waited, itself too, the most first.

    Times are weighed by how long it waited in them, as `cpu.pressure` says; these are a second long, or a 3,600th of
    what was recorded.
    """
    if not waiters:
        return {}
    length = bin_length(recording)
    waits = _waits(recording, roster, waiters, length)
    used = _used(recording, roster, length)
    shares = (
        waits.join(used, on=["node_name", "bin"])
        .group_by("waiter", "user")
        .agg((pl.col("stalled") * pl.col("share")).sum())
        .join(waits.group_by("waiter").agg(pl.sum("stalled").alias("in_all")), on="waiter")
        .select("waiter", "user", share=pl.col("stalled") / pl.col("in_all"))
        .filter(pl.col("share") >= _LEAST_SHARE)
        .sort("share", "user", descending=[True, False])
    )
    found: dict[int, list[CpuUser]] = {}
    for waiter, user, share in shares.iter_rows():
        users = found.setdefault(waiter, [])
        if len(users) < _MOST_USERS:
            users.append(CpuUser(container=roster.container(user), share_of_node=share))
    return found


def _waits(recording: Recording, roster: Roster, waiters: Sequence[int], length: timedelta) -> pl.DataFrame:
    """How long each waited in each bin: `waiter`, `node_name`, `bin`, `stalled`."""
    members = pl.concat([roster.members(node).with_columns(node_name=pl.lit(node)) for node in recording.nodes])
    members = members.filter(pl.col("member").is_in(list(waiters)))
    order = ["node_name", "cgroup_id", "time"]
    rows = recording.collect(
        recording.scan("resources")
        .filter(pl.col("cgroup_id").is_in(members["cgroup_id"].unique().implode()))
        .select("node_name", "cgroup_id", "time", _STALLED)
    ).drop_nulls()
    rows = rows.join(members, on=["node_name", "cgroup_id"]).sort(order)
    before = pl.col("time").shift(1).over(order[:2])
    return (
        rows.with_columns(
            stalled=pl.col(_STALLED).diff().over(order[:2]).clip(lower_bound=0),
            # What was counted since the row before was waited halfway between them, as far as can be told.
            bin=_bin(before + (pl.col("time") - before) / 2, recording, length),
        )
        .drop_nulls("stalled")
        .group_by(pl.col("member").alias("waiter"), "node_name", "bin")
        .agg(pl.sum("stalled"))
    )


def _used(recording: Recording, roster: Roster, length: timedelta) -> pl.DataFrame:
    """Whose part of its node's CPU time in each bin was how large: `user`, `node_name`, `bin`, `share`."""
    members = pl.concat([roster.members(node).with_columns(node_name=pl.lit(node)) for node in recording.nodes])
    start = pl.col(TABLES[roster.table].time_column)
    used = recording.collect(
        recording.scan(roster.table)
        .group_by("node_name", "cgroup_id", bin=_bin(start, recording, length))
        .agg(pl.sum("cpu_time_ns"))
    )
    return (
        used.with_columns(share=pl.col("cpu_time_ns") / pl.col("cpu_time_ns").sum().over("node_name", "bin"))
        .join(members, on=["node_name", "cgroup_id"])
        .group_by(pl.col("member").alias("user"), "node_name", "bin")
        .agg(pl.sum("share"))
    )


def _bin(time: pl.Expr, recording: Recording, length: timedelta) -> pl.Expr:
    return (time - pl.lit(recording.span.start)).dt.total_microseconds() // (length // timedelta(microseconds=1))
