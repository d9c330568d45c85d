# SPDX-License-Identifier: Apache-2.0
"""The closed files of output directories: which there are, and what their footers say."""

import glob
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tracer.analysis.older_files import can_be_read_as
from tracer.errors import UsageError
from tracer.store.layout import IN_PROGRESS, parse_closed_file
from tracer.store.schemas import SCHEMA_VERSION, TABLES, Table

_VERSION_KEY = b"tracer.schema_version"
_NODE_KEY = b"tracer.node_name"
_LONGEST_REASON = 200


@dataclass(frozen=True)
class RecordedFile:
    """A closed file. `schema` has the types of its columns, without those that nobody knows.

    `span` has the times of its first and last row, to the microsecond below; None without rows.
    """

    path: Path
    node_name: str | None
    schema: pl.Schema
    span: tuple[datetime, datetime] | None

    @property
    def run(self) -> str:
        """The beginning, of 8 digits, of the id of the run that left it."""
        return run_of(self.path.name)


class RecordedFiles:
    """All closed files of `directories`, each once; `notes` say what else lies there, for people.

    `runs` are those whose files alone are taken, by directory: the beginnings, of 8 digits, of their ids; None: all.
    Raises UsageError for a directory that holds no recording.
    """

    def __init__(self, directories: Sequence[Path], runs: Sequence[Collection[str] | None] | None = None) -> None:
        self.notes: list[str] = []
        self._paths: dict[str, list[Path]] = {}
        self._opened: dict[str, list[RecordedFile]] = {}
        seen: set[str] = set()
        copies = unfinished = 0
        for directory, chosen in zip(directories, runs or [None] * len(directories), strict=True):
            closed, in_progress = closed_files(directory)
            if not closed:
                raise UsageError(
                    f"{str(directory)!r} holds no recording of `tracer run`: {_why_none(directory, in_progress)}"
                )
            unfinished += in_progress
            for name in closed:
                if chosen is not None and run_of(name) not in chosen:
                    continue
                # The run's id is in the name, so what has the same name is a copy.
                if name in seen:
                    copies += 1
                    continue
                seen.add(name)
                self._paths.setdefault(name.split("/")[0], []).append(directory / name)
        if unfinished:
            self.notes.append(f"not read: {unfinished} files that are still being written, or were when a run died")
        if copies:
            self.notes.append(f"read once: {copies} files that lie in more than one of the directories")

    @property
    def runs(self) -> set[str]:
        """The beginnings, of 8 digits, of the ids of all runs that left a file."""
        return {run_of(path.name) for paths in self._paths.values() for path in paths}

    def of(self, table: str) -> list[RecordedFile]:
        """The files of `table`, in the order of their names. Reads each footer once.

        Raises UsageError, by the file's name, for one that is broken, of a newer schema, or of other types.
        """
        if table not in self._opened:
            self._opened[table] = [_open(path, TABLES[table]) for path in self._paths.get(table, [])]
        return self._opened[table]

    def require_readable(self) -> None:
        """Reads the files that were opened, whole. Raises UsageError for the first that is broken."""
        for files in self._opened.values():
            for file in files:
                try:
                    parquet = pq.ParquetFile(file.path)
                    for group in range(parquet.num_row_groups):
                        parquet.read_row_group(group)
                except (OSError, pa.ArrowException) as error:
                    raise UsageError(f"{str(file.path)!r} is broken: {one_line(error)}") from error


def run_of(name: str) -> str:
    """The beginning, of 8 digits, of the id of the run that left the closed file of this name."""
    return name.rsplit("-", 2)[1]


def one_line(error: BaseException) -> str:
    """What a library says, which may be pages."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def closed_files(directory: Path) -> tuple[list[str], int]:
    """The closed files in `directory`, as relative paths, and the number of unfinished ones.

    Raises UsageError for what is no directory.
    """
    try:
        mode = directory.stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot read {str(directory)!r}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{str(directory)!r} is not a directory that `tracer run --output` wrote")
    # Path.glob raises when a directory vanishes.
    found = sorted(glob.glob("*/dt=*/identifier=*/*", root_dir=directory))  # noqa: PTH207
    unfinished = sum(name.endswith(IN_PROGRESS) for name in found)
    return [name for name in found if parse_closed_file(name) and name.split("/")[0] in TABLES], unfinished


def _why_none(directory: Path, unfinished: int) -> str:
    if unfinished:
        return f"its {unfinished} files are all unfinished (*{IN_PROGRESS})"
    if any(directory.glob("runs/*/session.json")):
        return "a run began there, but no file was closed yet"
    return "no <table>/dt=<day>/identifier=<name>/*.parquet in it"


def _open(path: Path, table: Table) -> RecordedFile:
    try:
        # A pipe would block.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{str(path)!r} is not a regular file")
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{str(path)!r} is broken, or no Parquet file: {one_line(error)}") from error
    keys = schema.metadata or {}
    version = keys.get(_VERSION_KEY, b"").decode("ascii", "replace")
    if version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise UsageError(
            f"{str(path)!r} has schema version {int(version)}; this tracer reads up to {SCHEMA_VERSION}: get a newer"
        )
    _require_types(path, table, schema)
    node_name = keys.get(_NODE_KEY)
    return RecordedFile(
        path,
        None if node_name is None else node_name.decode("utf-8", "replace"),
        pl.Schema(pa.schema([field for field in schema if field.name in table.schema.names])),
        _times(path, metadata, schema, table),
    )


def _require_types(path: Path, table: Table, schema: pa.Schema) -> None:
    for column in table.schema:
        position = schema.get_field_index(column.name)
        if position >= 0:
            found = schema.field(position).type
            if not can_be_read_as(found, column.type):
                raise UsageError(f"{str(path)!r}: column {column.name!r} is {found}, not {column.type}")
        elif column.name in table.sort_columns:
            raise UsageError(f"{str(path)!r} has no column {column.name!r}: it is no {table.name} of `tracer run`")


def _times(path: Path, metadata: pq.FileMetaData, schema: pa.Schema, table: Table) -> tuple[datetime, datetime] | None:
    """The times of the first and the last row, by the statistics in the footer."""
    position = schema.get_field_index(table.time_column)
    units_of_microsecond = {"us": 1, "ns": 1000}[schema.field(position).type.unit]
    bounds = []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        if row_group.num_rows:
            statistics = row_group.column(position).statistics
            if statistics is None or not statistics.has_min_max:
                raise UsageError(
                    f"{str(path)!r} has no statistics of {table.time_column!r}: not written by `tracer run`"
                )
            bounds.append((statistics.min_raw, statistics.max_raw))
    if not bounds:
        return None
    first, last = min(low for low, _high in bounds), max(high for _low, high in bounds)
    return _moment(first // units_of_microsecond), _moment(last // units_of_microsecond)


def _moment(utc_us: int) -> datetime:
    return datetime.fromtimestamp(utc_us // 10**6, UTC) + timedelta(microseconds=utc_us % 10**6)
