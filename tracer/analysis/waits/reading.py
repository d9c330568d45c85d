# SPDX-License-Identifier: Apache-2.0
"""The waits of a recording, summed up by container and bin of time, a stretch after the other."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from tracer.analysis.recording import Recording, Span
from tracer.analysis.roster import Roster
from tracer.analysis.timing import bin_length, timing_of

# Of windows; there are several times as many waits.
_ROWS_AT_ONCE: Final = 100_000
_WINDOW: Final = ("node_name", "window_start")
_ALWAYS_TOLD: Final = (
    "cpu_time_ns", "wait_time_ns", "waits", "wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns",
)  # fmt: skip
_SUMS: Final = (*_ALWAYS_TOLD, "wait_throttled_ns", "stolen_time_ns")


class Waits(NamedTuple):
    """Members are those of the roster; bins of `bin_length` are numbered from the recording's start.

    by_bin   node_name, member, bin, and the sums of the columns of `windows`, times in ns: cpu_time_ns,
             wait_time_ns, waits, wait_behind_others_ns, wait_behind_self_ns, wait_idle_ns; wait_throttled_ns and
             stolen_time_ns are null where nobody told
    pairs    victim, holder, wait_time_ns by minute, and in the same unit `victim_use` and `holder_use`: the CPU
             time of both, of each window in proportion to how long the two waited for each other in it
    time     node_name, member, time_ns: recorded from its first to its last window
    """

    bin_length: timedelta
    by_bin: pl.DataFrame
    pairs: pl.DataFrame
    time: pl.DataFrame


def read_waits(recording: Recording, roster: Roster) -> Waits | None:
    """None where none were recorded. Raises UsageError where runs of a node had ticks of different length."""
    if roster.table != "windows" or not _has_waits(recording):
        return None
    length = bin_length(recording)
    nodes = recording.nodes
    members = pl.concat([roster.members(node).with_columns(node_name=pl.lit(node)) for node in nodes])
    by_bin, pairs, recorded, present = [], [], [], []
    for stretch in _stretches(recording, length):
        rows = _windows(recording, stretch)
        windows = _by_member(rows, members)
        bins = bin_of(recording, length)
        recorded.append(rows.group_by(_WINDOW).agg(pl.max("ticks")))
        present.append(
            windows.group_by("node_name", "member").agg(first=pl.min("window_start"), last=pl.max("window_start"))
        )
        holders = _holders(recording, stretch, members)
        windows = _own_in_all(windows, holders)
        by_bin.append(_sum(windows.with_columns(bins), ["node_name", "member", "bin"], _SUMS))
        pairs.append(_pairs(windows, holders, _minute_of(recording)))
    tick_ns = {node: timing_of(recording, node).tick_ns for node in nodes}
    return Waits(
        length,
        _sum(pl.concat(by_bin), ["node_name", "member", "bin"], _SUMS),
        pl.concat(pairs).group_by("victim", "holder", "minute").agg(pl.sum("wait_time_ns", "victim_use", "holder_use")),
        _time(pl.concat(recorded), pl.concat(present), tick_ns),
    )


def _has_waits(recording: Recording) -> bool:
    return recording.has("waits") or bool(
        recording.collect(recording.scan("windows").select(pl.col("wait_time_ns").count())).item()
    )


def _stretches(recording: Recording, length: timedelta) -> Iterator[Span]:
    """The recording's span in pieces of whole bins with about as many rows as are held at once."""
    rows = recording.collect(
        recording.scan("windows").group_by(bin_of(recording, length)).agg(pl.len().alias("rows"))
    ).sort("bin")
    pieces = rows.with_columns(piece=(pl.col("rows").cum_sum() - pl.col("rows")) // _ROWS_AT_ONCE)
    begins = pieces.group_by("piece").agg(pl.min("bin"))["bin"].sort().to_list()
    start, end = recording.span
    edges = [start, *(start + number * length for number in begins[1:]), end]
    yield from map(Span, edges, edges[1:])


def _windows(recording: Recording, stretch: Span) -> pl.DataFrame:
    rows = recording.scan("windows", stretch).filter(pl.col("wait_time_ns").is_not_null())
    sums = [pl.col(name).fill_null(0) if name in _ALWAYS_TOLD else pl.col(name) for name in _SUMS]
    return recording.collect(rows.select(*_WINDOW, "ticks", "cgroup_id", *sums))


def _by_member(rows: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """A row for each container and window; late rows added up. Idle time is left out."""
    return _sum(rows.join(members, on=["node_name", "cgroup_id"]), [*_WINDOW, "member"], _SUMS)


def _holders(recording: Recording, stretch: Span, members: pl.DataFrame) -> pl.DataFrame:
    """By window, victim and holder, both members: only holders that are known by name."""
    rows = recording.collect(
        recording.scan("waits", stretch)
        .filter(pl.col("holder_cgroup_id") != 0)
        .select(*_WINDOW, "cgroup_id", "holder_cgroup_id", "wait_time_ns")
    )
    rows = rows.join(members.rename({"member": "victim"}), on=["node_name", "cgroup_id"])
    holder = members.rename({"member": "holder", "cgroup_id": "holder_cgroup_id"})
    is_itself = pl.col("cgroup_id") == pl.col("holder_cgroup_id")
    rows = rows.filter(~is_itself).join(holder, on=["node_name", "holder_cgroup_id"])
    return rows.group_by(*_WINDOW, "victim", "holder").agg(pl.sum("wait_time_ns"))


def _own_in_all(windows: pl.DataFrame, holders: pl.DataFrame) -> pl.DataFrame:
    """What a container waited behind another cgroup of its own is behind itself."""
    own = holders.filter(pl.col("victim") == pl.col("holder")).select(*_WINDOW, member="victim", own="wait_time_ns")
    moved = pl.col("own").fill_null(0)
    return windows.join(own, on=[*_WINDOW, "member"], how="left").with_columns(
        wait_behind_others_ns=(pl.col("wait_behind_others_ns") - moved).clip(0),
        wait_behind_self_ns=pl.col("wait_behind_self_ns") + moved,
    )


def _pairs(windows: pl.DataFrame, holders: pl.DataFrame, minute: pl.Expr) -> pl.DataFrame:
    rows = holders.filter(pl.col("victim") != pl.col("holder"))
    # Both ways in one row, so that both are looked at in the same windows.
    waited = pl.col("wait_time_ns")
    is_first = pl.col("victim") < pl.col("holder")
    couples = (
        rows.with_columns(one=pl.min_horizontal("victim", "holder"), other=pl.max_horizontal("victim", "holder"))
        .group_by(*_WINDOW, "one", "other")
        .agg(one_waited=waited.filter(is_first).sum(), other_waited=waited.filter(~is_first).sum())
    )
    use = windows.select(*_WINDOW, "member", use=pl.col("cpu_time_ns").cast(pl.Float64))
    for who in ("one", "other"):
        couples = couples.join(
            use.rename({"member": who, "use": f"{who}_use"}), on=[*_WINDOW, who], how="left"
        ).with_columns(pl.col(f"{who}_use").fill_null(0) * (pl.col("one_waited") + pl.col("other_waited")))
    both_ways = [
        couples.select(
            minute,
            victim=victim,
            holder=holder,
            wait_time_ns=f"{victim}_waited",
            victim_use=f"{victim}_use",
            holder_use=f"{holder}_use",
        )
        for victim, holder in (("one", "other"), ("other", "one"))
    ]
    return pl.concat(both_ways).group_by("victim", "holder", "minute").agg(
        pl.sum("wait_time_ns", "victim_use", "holder_use")
    )  # fmt: skip


def _minute_of(recording: Recording) -> pl.Expr:
    """Of a window: which minute of the recording it is in; the last one is longer than a minute."""
    minutes = max(int((recording.span.end - recording.span.start) / timedelta(minutes=1)), 1)
    since = (pl.col("window_start") - pl.lit(recording.span.start)).dt.total_minutes()
    return since.clip(0, minutes - 1).alias("minute")


def _time(recorded: pl.DataFrame, present: pl.DataFrame, tick_ns: dict[str, int]) -> pl.DataFrame:
    present = present.group_by("node_name", "member").agg(pl.min("first"), pl.max("last"))
    parts = []
    for (node,), windows in recorded.sort("window_start").group_by("node_name", maintain_order=True):
        of_node = present.filter(pl.col("node_name") == node)
        times = windows.group_by("window_start", maintain_order=True).agg(pl.max("ticks"))
        sums = np.concatenate([[0], np.cumsum(times["ticks"].to_numpy() * tick_ns[str(node)])])
        starts = times["window_start"].to_numpy()
        first = np.searchsorted(starts, of_node["first"].to_numpy())
        last = np.searchsorted(starts, of_node["last"].to_numpy(), side="right")
        parts.append(of_node.select("node_name", "member", time_ns=pl.Series(sums[last] - sums[first])))
    return pl.concat(parts)


def bin_of(recording: Recording, length: timedelta) -> pl.Expr:
    """The number of the bin in which a window begins."""
    since = (pl.col("window_start") - pl.lit(recording.span.start)).dt.total_microseconds()
    return (since // (length // timedelta(microseconds=1))).alias("bin")


def _sum(rows: pl.DataFrame, by: list[str], columns: tuple[str, ...]) -> pl.DataFrame:
    return rows.group_by(by).agg(
        # Polars' own sum of nothing but nulls is 0.
        pl.when(pl.col(name).count() > 0).then(pl.col(name).sum()).alias(name)
        for name in columns
    )
