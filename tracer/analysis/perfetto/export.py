# SPDX-License-Identifier: Apache-2.0
"""A recording as a file for the Perfetto UI, a stretch of time after the other, so that memory stays bounded."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.analysis.cpu_map import DEFAULT_LINE_BYTES, cpu_map
from tracer.analysis.labels import who_is
from tracer.analysis.perfetto.events import IDLE_CGROUP_ID, MEASURED, CounterEvents, slices
from tracer.analysis.perfetto.holders import HolderEvents
from tracer.analysis.perfetto.trace_file import TraceFile
from tracer.analysis.perfetto.tracks import Tracks
from tracer.analysis.recording import Recording, Span, of_what_can_be_read, polars_schema
from tracer.errors import UsageError
from tracer.naming import name_of
from tracer.store.files import replacing
from tracer.store.schemas import IDENTITY, TABLES

_BOTH = ("windows", "ticks")
_ROWS_AT_ONCE = 200_000
_FINEST_STRETCH = "100ms"
_USUAL_TICK_NS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Of events at the same time: what ended, then counters, then what begins.
_END, _COUNT, _BEGIN = range(3)
_ANNOTATIONS = ("cpu_time_ns", "cycles", "instructions", "llc_misses")


class Exported(NamedTuple):
    """What was written."""

    packets: int
    bytes: int


@of_what_can_be_read
def export_perfetto(recording: Recording, file: Path, *, progress: Callable[[float], None] | None = None) -> Exported:
    """Writes `file` anew; it is complete, or as it was. `progress` is told the share that is done.

    Counters are from `ticks` where these were recorded, else from `windows`; CPUs are there with `ticks` only.
    Raises UsageError for a recording that cannot be read, OutputError for a file that cannot be written.
    """
    with replacing(file) as output:
        trace = TraceFile(output, _ns(recording.span.start))
        _write(recording, trace, progress or (lambda _share: None))
        if not trace.tracks:
            raise UsageError("nothing to export: no such container ran in this time")
        trace.flush()
        size = output.tell()
    return Exported(trace.packets, size)


def _write(recording: Recording, trace: TraceFile, progress: Callable[[float], None]) -> None:
    cgroups = _cgroups(recording)
    labels = {(who.node_name or "", who.cgroup_id or 0): name_of(who) for who in who_is(cgroups)}
    wanted_ids = cgroups.filter(recording.is_wanted(cgroups)).select("node_name", "cgroup_id")
    tracks = Tracks(trace, labels, len(recording.nodes))
    runs = _runs(recording)
    counters = CounterEvents()
    holders = HolderEvents(recording, runs)
    whole = recording.span.end - recording.span.start
    for stretch in _stretches(recording):
        part = dataclasses.replace(recording, span=stretch)
        ticks = _measured(part, "ticks", runs)
        windows = _without_ticks(_measured(part, "windows", runs), ticks)
        # By id, since names come after the first rows.
        wanted = [
            rows.filter(pl.col("cgroup_id") != IDLE_CGROUP_ID)
            .join(wanted_ids, on=["node_name", "cgroup_id"], how="semi", nulls_equal=True, maintain_order="left")
            .select(MEASURED.names())
            for rows in (ticks, windows)
        ]
        events = counters.take(pl.concat(wanted), _ns(stretch.end))
        # Laid out with all that ran, so that who is asked for is where it is without asking.
        ran = slices(ticks).join(wanted[0], on=["node_name", "cgroup_id"], how="semi")
        _put(trace, tracks, events, ran, holders.take(part, _ns(stretch.end)))
        progress((stretch.end - recording.span.start) / whole)
    _put(trace, tracks, counters.finish(), slices(ticks.clear()), holders.finish())


def _put(trace: TraceFile, tracks: Tracks, counts: pl.DataFrame, ran: pl.DataFrame, waited: pl.DataFrame) -> None:
    """Events of a stretch, by time."""
    columns = [
        "time_ns",
        "kind",
        "node_name",
        "cgroup_id",
        "cpu",
        "counter",
        "holder_cgroup_id",
        "value",
        *_ANNOTATIONS,
    ]
    parts = [
        counts.with_columns(kind=pl.lit(_COUNT)),
        waited.with_columns(kind=pl.lit(_COUNT)),
        ran.with_columns(kind=pl.lit(_BEGIN), time_ns="begin_ns"),
        ran.with_columns(kind=pl.lit(_END), time_ns="end_ns"),
    ]
    events = pl.concat(parts, how="diagonal").sort(columns[: -len(_ANNOTATIONS) - 1])
    for time_ns, kind, node, cgroup_id, cpu, counter, holder, value, *amounts in events.select(columns).iter_rows():
        if kind == _COUNT and holder is not None:
            trace.count(time_ns, tracks.of_holder(node, cgroup_id, holder), value)
        elif kind == _COUNT:
            trace.count(time_ns, tracks.of_counter(node, cgroup_id, counter), value)
        elif kind == _BEGIN:
            annotations = {
                name: amount for name, amount in zip(_ANNOTATIONS, amounts, strict=True) if amount is not None
            }
            trace.begin(time_ns, tracks.of_cpu(node, cpu), tracks.label(node, cgroup_id), annotations)
        else:
            trace.end(time_ns, tracks.of_cpu(node, cpu))


def _measured(part: Recording, table: str, runs: pl.DataFrame) -> pl.DataFrame:
    """Rows of `ticks` or `windows` as MEASURED, and the `cpu` of ticks."""
    more = ["cpu"] if table == "ticks" else []
    return (
        part.collect(
            part.scan(table).select(
                "node_name",
                "cgroup_id",
                *more,
                pl.col(TABLES[table].time_column).dt.epoch("ns").alias("time_ns"),
                "cpu_time_ns",
                "wait_time_ns",
                "cycles",
                "instructions",
                "llc_misses",
                in_ticks=pl.lit(1, pl.Int64) if table == "ticks" else pl.col("ticks"),
            )
        )
        .sort("time_ns")
        .join_asof(runs, left_on="time_ns", right_on="start_ns", by="node_name", check_sortedness=False)
        .with_columns(
            length_ns=pl.col("in_ticks") * pl.col("tick_ns").fill_null(_USUAL_TICK_NS),
            line_bytes=pl.col("line_bytes").fill_null(DEFAULT_LINE_BYTES),
        )
        .filter(pl.col("length_ns") > 0)
        .select(*MEASURED.names(), *more)
    )


def _without_ticks(windows: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    """The rows of windows in whose time no tick of their node was recorded."""
    recorded = ticks.group_by("node_name").agg(first=pl.min("time_ns"), last=pl.max("time_ns"))
    after = pl.col("time_ns") > pl.col("last")
    before = pl.col("time_ns") + pl.col("length_ns") <= pl.col("first")
    return windows.join(recorded, on="node_name", how="left").filter((after | before).fill_null(True))


def _stretches(recording: Recording) -> Iterator[Span]:
    """The recording's span in pieces of about as many rows as are held at once."""
    times = [
        recording.scan(table).select(bin=pl.col(TABLES[table].time_column).dt.truncate(_FINEST_STRETCH))
        for table in _BOTH
    ]
    rows = recording.collect(pl.concat(times).group_by("bin").len()).sort("bin")
    pieces = rows.with_columns(piece=(pl.col("len").cum_sum() - pl.col("len")) // _ROWS_AT_ONCE)
    begins = pieces.group_by("piece").agg(pl.min("bin"))["bin"].sort().to_list()
    edges = [recording.span.start, *begins[1:], recording.span.end]
    yield from map(Span, edges, edges[1:])


def _cgroups(recording: Recording) -> pl.DataFrame:
    """The identity columns, one row a cgroup: when most was known of it, since names come after the first rows."""
    identity = [field.name for field in IDENTITY]
    times = {table: pl.col(TABLES[table].time_column).cast(polars_schema("windows")["window_start"]) for table in _BOTH}
    seen = [
        recording.scan(table).select(*identity, time=times[table]).group_by(identity).agg(pl.max("time"))
        for table in _BOTH
    ]
    known = pl.sum_horizontal(pl.col(name).is_not_null() for name in identity)
    return (
        recording.collect(pl.concat(seen))
        .sort(known, "time")
        .unique(["node_name", "cgroup_id"], keep="last", maintain_order=True)
    )


def _runs(recording: Recording) -> pl.DataFrame:
    """When each run of a node began, how long its ticks are, and its cache's lines.

    Its first window may begin before it, by no more than its length.
    """
    return pl.DataFrame(
        [
            (
                node,
                manifest.utc_bounds_ns[0] - manifest.tick_ns * manifest.window_ticks,
                manifest.tick_ns,
                cpu_map([manifest], node, 1).line_bytes,
            )
            for manifest in recording.manifests
            for node in [manifest.host.node_name]
        ],
        schema={"node_name": pl.String, "start_ns": pl.Int64, "tick_ns": pl.Int64, "line_bytes": pl.Int64},
        orient="row",
    ).sort("start_ns")


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
