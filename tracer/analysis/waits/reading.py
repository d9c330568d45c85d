# SPDX-License-Identifier: Apache-2.0
"""The waits of a recording, summed up by container and bin of time, a stretch after the other."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from tracer.analysis.engines import TIME_US
from tracer.analysis.recording import Recording, Span
from tracer.analysis.roster import Roster
from tracer.analysis.timing import bin_length, timing_of
from tracer.analysis.waits.summing import (
    SUMS,
    WINDOW,
    by_member,
    holders_of,
    own_in_all,
    pairs_of,
    summed,
    with_waits,
)

# Of windows; there are several times as many waits. An engine that is not in this process has them all at once.
_ROWS_AT_ONCE: Final = 100_000
_PAIR: Final = ("victim", "holder", "minute")
_US: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
    members = recording.beside(pl.concat([roster.members(node).with_columns(node_name=pl.lit(node)) for node in nodes]))
    by_bin, recorded, present = [], [], []
    pairs: list[pl.DataFrame] = []
    bins, minutes = _bin_us(recording, length), _minute(recording)
    for stretch in _stretches(recording, length):
        rows = recording.rows("windows", ("node_name", "cgroup_id", "ticks", *SUMS), stretch)
        rows = recording.keep(with_waits(rows))
        waits = recording.rows("waits", ("node_name", "cgroup_id", "holder_cgroup_id", "wait_time_ns"), stretch)
        holders = recording.keep(holders_of(waits, members))
        windows = recording.keep(own_in_all(by_member(rows, members), holders))
        recorded.append(recording.gather(rows.group_by(*WINDOW).agg(nw.col("ticks").max())))
        time = nw.col(TIME_US)
        ends = windows.group_by("node_name", "member").agg(time.min().alias("first"), time.max().alias("last"))
        present.append(recording.gather(ends))
        in_bins = windows.with_columns(bins.alias("bin"))
        by_bin.append(recording.gather(summed(in_bins, ["node_name", "member", "bin"], SUMS)))
        pairs += map(recording.gather, pairs_of(windows, holders, minutes))
    tick_ns = {node: timing_of(recording, node).tick_ns for node in nodes}
    number = pl.col("member").cast(pl.Int32)
    return Waits(
        length,
        # In an order, that the same rows give the same answer on every engine.
        _sum(pl.concat(by_bin), ["node_name", "member", "bin"], SUMS).with_columns(number).sort("member", "bin"),
        pl.concat(pairs)
        .group_by(*_PAIR)
        .agg(pl.sum("wait_time_ns", "victim_use", "holder_use"))
        .with_columns(pl.col("victim", "holder").cast(pl.Int32))
        .sort(_PAIR),
        _time(pl.concat(recorded), pl.concat(present), tick_ns).with_columns(number).sort("member"),
    )


def _has_waits(recording: Recording) -> bool:
    return recording.has("waits") or bool(
        recording.collect(recording.scan("windows").select(pl.col("wait_time_ns").count())).item()
    )


def _stretches(recording: Recording, length: timedelta) -> Iterator[Span]:
    """The recording's span in pieces of whole bins with about as many rows as are held at once."""
    if recording.engine is not None:
        yield recording.span
        return
    rows = recording.collect(
        recording.scan("windows").group_by(bin_of(recording, length)).agg(pl.len().alias("rows"))
    ).sort("bin")
    pieces = rows.with_columns(piece=(pl.col("rows").cum_sum() - pl.col("rows")) // _ROWS_AT_ONCE)
    begins = pieces.group_by("piece").agg(pl.min("bin"))["bin"].sort().to_list()
    start, end = recording.span
    edges = [start, *(start + number * length for number in begins[1:]), end]
    yield from map(Span, edges, edges[1:])


def _since_us(recording: Recording) -> nw.Expr:
    """Of a window: how long after the recording's start it begins, in us."""
    return nw.col(TIME_US) - (recording.span.start - _EPOCH) // _US


def _bin_us(recording: Recording, length: timedelta) -> nw.Expr:
    """As `bin_of`, for sums on any engine."""
    return _since_us(recording) // (length // _US)


def _minute(recording: Recording) -> nw.Expr:
    """Of a window: which minute of the recording it is in; the last one is longer than a minute."""
    last = max(int((recording.span.end - recording.span.start) / timedelta(minutes=1)), 1) - 1
    minute = _since_us(recording) // (timedelta(minutes=1) // _US)
    return nw.when(minute > last).then(nw.lit(last)).otherwise(minute)


def _time(recorded: pl.DataFrame, present: pl.DataFrame, tick_ns: dict[str, int]) -> pl.DataFrame:
    present = present.group_by("node_name", "member").agg(pl.min("first"), pl.max("last"))
    parts = []
    for (node,), windows in recorded.sort(TIME_US).group_by("node_name", maintain_order=True):
        of_node = present.filter(pl.col("node_name") == node)
        times = windows.group_by(TIME_US, maintain_order=True).agg(pl.max("ticks"))
        sums = np.concatenate([[0], np.cumsum(times["ticks"].to_numpy() * tick_ns[str(node)])])
        starts = times[TIME_US].to_numpy()
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
