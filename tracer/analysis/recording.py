# SPDX-License-Identifier: Apache-2.0
"""What one or several `tracer run --output` left, opened as one recording.

A recording is the closed files of any number of directories, runs and nodes. Files that are still being written are
left out, and so is the second copy of a file that lies in two of the directories; `Recording.notes` says so.

Each file's footer is looked at before its rows are: a file that is broken, of a newer schema or of other types is
refused by its name. Columns that an older file does not have are null, columns that nobody knows any more are ignored,
and the types of schema version 1 become those of today.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tracer.analysis.labels import is_named
from tracer.analysis.moments import moment_text, parse_moment
from tracer.analysis.older_files import as_today
from tracer.analysis.recorded_files import RecordedFile, RecordedFiles, one_line
from tracer.errors import UsageError
from tracer.store.manifest import Manifest, read_manifest
from tracer.store.schemas import TABLES


class Span(NamedTuple):
    """From `start` to before `end`, both UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Closed files, and how to read them. Made by `open_recording`.

    `span` is what is read: the rows' own times, within what was asked for. `nodes` are the names of the nodes with
    files in it, `manifests` those of the runs that are in it, by start; a run whose manifest is gone has none.
    `container` and `namespace` are what was asked for: see `is_wanted`. `notes` say what was left out, for people.
    """

    directories: tuple[Path, ...]
    manifests: list[Manifest]
    nodes: list[str]
    span: Span
    container: str | None
    namespace: str | None
    notes: list[str]
    _files: RecordedFiles = field(repr=False)
    _recorded: Span = field(repr=False)

    def has(self, table: str) -> bool:
        """Whether `table` has a file with rows in the span. Raises UsageError for a file that cannot be read."""
        return bool(_within(self._files.of(table), self.span))

    def scan(self, table: str, within: Span | None = None) -> pl.LazyFrame:
        """All rows of `table` in the span, with exactly the columns and types of its schema today, in no order.

        `within` is a part of the span. Collect it with `collect`. Raises UsageError for a file that cannot be read.
        """
        schema = polars_schema(table)
        span = within or self.span
        paths: dict[tuple[pl.DataType, ...], list[Path]] = {}
        for file in _within(self._files.of(table), span):
            types = tuple(file.schema.get(name, today) for name, today in schema.items())
            paths.setdefault(types, []).append(file.path)
        if not paths:
            return pl.LazyFrame(schema=schema)
        scans = []
        for types, of_types in paths.items():
            rows = pl.scan_parquet(
                of_types,
                schema=dict(zip(schema, types, strict=True)),
                missing_columns="insert",
                extra_columns="ignore",
                hive_partitioning=False,
                glob=False,
            )
            if span != self._recorded:
                rows = rows.filter(pl.col(TABLES[table].time_column).is_between(*span, closed="left"))
            scans.append(
                rows.with_columns(
                    as_today(name, today)
                    for found, (name, today) in zip(types, schema.items(), strict=True)
                    if found != today
                )
            )
        return pl.concat(scans)

    def ends_of_files(self, table: str) -> list[datetime]:
        """When the last row of each file of `table` is from."""
        return [file.span[1] for file in self._files.of(table) if file.span]

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What `rows`, made of scans of this recording, come to, by the streaming engine.

        Raises UsageError for a file that is broken below its footer.
        """
        try:
            return rows.collect(engine="streaming")
        except (pl.exceptions.ComputeError, OSError) as error:
            # Polars does not always say which.
            self._files.require_readable()
            raise UsageError(f"cannot read the recording: {one_line(error)}") from error

    def recorded(self, node_name: str, longest_gap: timedelta) -> list[Span]:
        """The times of which a node has files of windows or ticks, without the gaps that are longer than that."""
        spans = sorted(
            file.span
            for table in ("windows", "ticks")
            for file in _within(self._files.of(table), self.span)
            if file.span and file.node_name in (node_name, None)
        )
        recorded: list[Span] = []
        for first, last in spans:
            start, end = max(first, self.span.start), min(last + timedelta(microseconds=1), self.span.end)
            if recorded and start - recorded[-1].end <= longest_gap:
                recorded[-1] = Span(recorded[-1].start, max(recorded[-1].end, end))
            else:
                recorded.append(Span(start, end))
        return recorded

    def is_wanted(self) -> pl.Expr:
        """Whether a row's cgroup is one of those asked for, by its identity columns; true where none was.

        `container` is as `tracer.analysis.labels.is_named` has it.
        """
        wanted = pl.lit(True)
        if self.namespace is not None:
            wanted &= _is("namespace", self.namespace)
        if self.container is not None:
            wanted &= is_named(self.container)
        return wanted


def open_recording(
    directories: Sequence[Path],
    *,
    run: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    container: str | None = None,
    namespace: str | None = None,
) -> Recording:
    """The recording that lies in `directories`, from `since` to before `until`; of all runs, or of one of them.

    `run` is how that one's id begins. Times as text are as `parse_moment` reads them. Nothing but footers and manifests
    is read. Raises UsageError for a directory that holds no recording, a file that cannot be read, a run that is not
    there, and a time in which nothing was recorded.
    """
    files = RecordedFiles(directories, run)
    recorded = _recorded_span(files)
    span = Span(
        recorded.start if since is None else max(recorded.start, _moment(since, recorded)),
        recorded.end if until is None else min(recorded.end, _moment(until, recorded)),
    )
    if span.start >= span.end:
        raise UsageError(
            f"nothing was recorded then: the recording is from {moment_text(recorded.start)} "
            f"to {moment_text(recorded.end)}"
        )
    in_span = [file for table in ("windows", "ticks") for file in _within(files.of(table), span)]
    nodes = {file.node_name for file in in_span}
    return Recording(
        directories=tuple(directories),
        manifests=_manifests(directories, {file.run for file in in_span} or files.runs),
        nodes=sorted(name for name in nodes if name is not None),
        span=span,
        container=container,
        namespace=namespace,
        notes=files.notes,
        _files=files,
        _recorded=recorded,
    )


@cache
def polars_schema(table: str) -> pl.Schema:
    """The columns of `table` as Polars reads them."""
    return pl.Schema(TABLES[table].schema)


def _is(column: str, value: str) -> pl.Expr:
    return pl.col(column).eq_missing(pl.lit(value))


def _moment(given: datetime | str, recorded: Span) -> datetime:
    return parse_moment(given, recorded.start) if isinstance(given, str) else given.astimezone(UTC)


def _within(files: list[RecordedFile], span: Span) -> list[RecordedFile]:
    return [file for file in files if file.span and file.span[0] < span.end and file.span[1] >= span.start]


def _recorded_span(files: RecordedFiles) -> Span:
    """When the rows of windows and ticks are from; of all tables, if these have none."""
    for tables in (("windows", "ticks"), tuple(TABLES)):
        spans = [file.span for table in tables for file in files.of(table) if file.span]
        if spans:
            # The last row's own time is part of it.
            end = max(last for _first, last in spans) + timedelta(microseconds=1)
            return Span(min(first for first, _last in spans), end)
    raise UsageError("the recording has files, but not one row: nothing was measured")


def _manifests(directories: Sequence[Path], runs: set[str]) -> list[Manifest]:
    """The manifests of `runs`, which are the beginnings of their ids. Raises UsageError for one that is broken."""
    manifests = {}
    for directory in directories:
        for path in sorted(directory.glob("runs/*/session.json")):
            if path.parent.name[:8] in runs:
                manifest = read_manifest(path)
                manifests[manifest.run_id] = manifest
    return sorted(manifests.values(), key=lambda manifest: manifest.start.utc_ns)
