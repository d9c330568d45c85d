# SPDX-License-Identifier: Apache-2.0
"""What a closed file says of itself, and whether it can be: asked before a row of it is read.

A recording may be damaged, and it may come from somebody who means harm. So its metadata are held to what a run writes:
types, times that are those of its name, values that can be, and sizes that are in proportion to the file's, so that a
small one does not unfold to more than the memory there is.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracer.analysis.older_files import can_be_read_as
from tracer.printable import printable
from tracer.store.layout import parse_closed_file
from tracer.store.schemas import SCHEMA_VERSION, Table

_VERSION_KEY = b"tracer.schema_version"
_TABLE_KEY = b"tracer.table"
_RUN_KEY = b"tracer.run_id"
_NODE_KEY = b"tracer.node_name"
_LONGEST_REASON = 200

# Beside what a small file may have anyway: no run wrote rows that take no byte, nor what unfolds to more than this. Of
# two minutes of a simulated node, a row of `waits` took 10 bytes, of `ticks` 15; those unfolded to 5 times their size.
_ROWS_FOR_NOTHING: Final = 2**18
_UNFOLDED_FOR_NOTHING: Final = 2**26
_MOST_UNFOLDED: Final = 40
_LONGEST_FOOTER: Final = 2**24
# The file's end: the footer's length and four letters (https://parquet.apache.org/docs/file-format/).
_END_BYTES: Final = 8
# A cgroup's path has at most 4096 bytes, a name 255.
_LONGEST_TEXT: Final = 2**16
# Sums of a file are below what 64 bits hold.
_LARGEST_SUM: Final = 2**62
_SUMMED: Final = ("windows", "ticks", "waits")
_KEYS: Final = {"window_tick", "tick"}


class DamagedFileError(ValueError):
    """A file that is left out, and why, without its name."""


@dataclass(frozen=True)
class RecordedFile:
    """A closed file. `schema` has the types of its columns, without those that nobody knows.

    `span` has the times of its first and last row, to the microsecond below; None without rows. `rows` and `size`, in
    bytes, tell it from others.
    """

    path: Path
    node_name: str | None
    schema: pl.Schema
    span: tuple[datetime, datetime] | None
    rows: int
    size: int

    @property
    def run(self) -> str:
        """The beginning, of 8 digits, of the id of the run that left it."""
        return run_of(self.path.name)


def open_file(path: Path, table: Table) -> RecordedFile:
    """What a closed file's metadata tell. Raises DamagedFileError for what no run can have written."""
    try:
        # A pipe would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise DamagedFileError("is not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            _require_footer(file, status.st_size)
            parquet = pq.ParquetFile(file)
            metadata = parquet.metadata
            schema = metadata.schema.to_arrow_schema()
            _require_origin(path, table, schema.metadata or {})
            _require_types(table, schema)
            _require_sizes(metadata, status.st_size)
            _require_values(table, schema, metadata)
            _require_short_texts(path, table, schema, metadata)
            span = _times(metadata, schema, table)
            if span is not None:
                _require_times_of_name(path, *span)
    except (OSError, pa.ArrowException) as error:
        raise DamagedFileError(f"is broken, or no Parquet file: {one_line(error)}") from error
    node_name = (schema.metadata or {}).get(_NODE_KEY)
    return RecordedFile(
        path,
        None if node_name is None else node_name.decode("utf-8", "replace"),
        pl.Schema(pa.schema([field for field in schema if field.name in table.schema.names])),
        span and (_moment(span[0]), _moment(span[1])),
        metadata.num_rows,
        status.st_size,
    )


def require_rows(file: RecordedFile) -> None:
    """Reads all of it, by who reads it later. Raises DamagedFileError."""
    try:
        pl.read_parquet(file.path, columns=list(file.schema), hive_partitioning=False, glob=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DamagedFileError(f"is broken: {one_line(error)}") from error


def run_of(name: str) -> str:
    """The beginning, of 8 digits, of the id of the run that left the closed file of this name."""
    return name.rsplit("-", 2)[1]


def one_line(error: BaseException) -> str:
    """What a library says, which may be pages."""
    # Some of it may be from the file.
    text = printable(" ".join(str(error).split()).encode("utf-8", "backslashreplace"))
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."


def _require_footer(file: BinaryIO, size: int) -> None:
    """That it is there and not too long: libraries take it into memory as a whole, and unfolded."""
    if size < _END_BYTES:
        raise DamagedFileError("is broken, or no Parquet file: it is too short")
    file.seek(size - _END_BYTES)
    length = int.from_bytes(file.read(4), "little")
    if length > min(size, _LONGEST_FOOTER):
        raise DamagedFileError(f"is broken, or no Parquet file: its footer would have {length} bytes")
    file.seek(0)


def _require_origin(path: Path, table: Table, keys: dict[bytes, bytes]) -> None:
    version = keys.get(_VERSION_KEY, b"").decode("ascii", "replace")
    if version.isdecimal() and int(version[:9]) > SCHEMA_VERSION:
        raise DamagedFileError(
            f"has schema version {int(version[:9])}; this tracer reads up to {SCHEMA_VERSION}: get a newer"
        )
    if keys.get(_TABLE_KEY, table.name.encode()) != table.name.encode():
        raise DamagedFileError(f"is no {table.name}, by what it says of itself")
    run = keys.get(_RUN_KEY, b"").decode("ascii", "replace")
    if run and not run.startswith(run_of(path.name)):
        raise DamagedFileError("is of another run than its name says")


def _require_types(table: Table, schema: pa.Schema) -> None:
    for column in table.schema:
        position = schema.get_field_index(column.name)
        if position >= 0:
            found = schema.field(position).type
            if not can_be_read_as(found, column.type):
                raise DamagedFileError(f"has a column {column.name!r} of {_cut(str(found))}, not {column.type}")
        elif column.name in schema.names:
            raise DamagedFileError(f"has more than one column {column.name!r}")
        elif column.name in table.sort_columns:
            raise DamagedFileError(f"has no column {column.name!r}: it is no {table.name} of `tracer run`")


def _require_sizes(metadata: pq.FileMetaData, size: int) -> None:
    rows = 0
    unfolded = 0
    for group in _groups(metadata):
        rows += group.num_rows
        if group.num_rows < 0:
            raise DamagedFileError("is broken: a number of rows is below zero")
        for position in range(group.num_columns):
            column = group.column(position)
            unfolded += max(0, column.total_uncompressed_size)
            begin = min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset)
            if begin < 0 or column.total_compressed_size < 0 or begin + column.total_compressed_size > size:
                raise DamagedFileError("is broken: it is shorter than it says")
    if rows != metadata.num_rows:
        raise DamagedFileError(f"is broken: it has {metadata.num_rows} rows, and {rows}")
    if rows > _ROWS_FOR_NOTHING + size:
        raise DamagedFileError(f"would unfold to {rows:,} rows from {size:,} bytes, which no run wrote")
    if unfolded > _UNFOLDED_FOR_NOTHING + _MOST_UNFOLDED * size:
        raise DamagedFileError(f"would unfold to {unfolded:,} bytes from {size:,}, which no run wrote")


def _require_values(table: Table, schema: pa.Schema, metadata: pq.FileMetaData) -> None:
    """That amounts are not below zero, nor beyond what can be summed, by the statistics in the footer."""
    amounts = {
        column.name
        for column in table.schema
        if pa.types.is_integer(column.type) and not column.name.endswith("cgroup_id")
    }
    summed = amounts - _KEYS if table.name in _SUMMED else set()
    for group in _groups(metadata):
        for position in range(group.num_columns):
            column = group.column(position)
            if column.path_in_schema not in amounts or column.statistics is None:
                continue
            statistics = column.statistics
            if not statistics.has_min_max:
                continue
            if _is_unsigned(schema, column.path_in_schema):
                continue
            if statistics.min_raw < 0 and column.path_in_schema not in table.differences:
                raise DamagedFileError(f"{column.path_in_schema!r} is below zero in it: {statistics.min_raw}")
            largest = max(statistics.max_raw, statistics.min_raw, key=abs)
            if column.path_in_schema in summed and abs(largest) * group.num_rows > _LARGEST_SUM:
                raise DamagedFileError(f"{column.path_in_schema!r} cannot be as large as in it: {largest}")


def _is_unsigned(schema: pa.Schema, name: str) -> bool:
    # As version 1 had them; what is beyond the largest signed one is null when it is read.
    return bool(pa.types.is_unsigned_integer(schema.field(name).type))


def _require_short_texts(path: Path, table: Table, schema: pa.Schema, metadata: pq.FileMetaData) -> None:
    """That no name is of a length that none has: with each row it would be there anew."""
    texts = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name in schema.names]
    long = set()
    for group in _groups(metadata):
        for position in range(group.num_columns):
            column = group.column(position)
            if column.path_in_schema in texts and column.total_uncompressed_size > _LONGEST_TEXT:
                long.add(column.path_in_schema)
    if not long:
        return
    # What takes more than one such name may be many short ones.
    parquet = pq.ParquetFile(path, read_dictionary=sorted(long))
    for number in range(metadata.num_row_groups):
        for name in sorted(long):
            for chunk in parquet.read_row_group(number, columns=[name], use_threads=False)[name].chunks:
                longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
                if longest > _LONGEST_TEXT:
                    raise DamagedFileError(f"{name!r} has {longest:,} bytes in it, which no name has")


def _times(metadata: pq.FileMetaData, schema: pa.Schema, table: Table) -> tuple[int, int] | None:
    """The times of the first and the last row, in us since the epoch, by the statistics in the footer."""
    position = schema.get_field_index(table.time_column)
    units_of_microsecond = {"us": 1, "ns": 1000}[schema.field(position).type.unit]
    bounds = []
    for group in _groups(metadata):
        if group.num_rows:
            statistics = group.column(position).statistics
            if statistics is None or not statistics.has_min_max:
                raise DamagedFileError(
                    f"has no statistics of {table.time_column!r}: it was not written by `tracer run`"
                )
            bounds.append((statistics.min_raw, statistics.max_raw))
    if not bounds:
        return None
    first, last = min(low for low, _high in bounds), max(high for _low, high in bounds)
    return first // units_of_microsecond, last // units_of_microsecond


def _require_times_of_name(path: Path, first_us: int, last_us: int) -> None:
    """That its rows are of the one day that the name has, from the second on that the name has."""
    name = parse_closed_file("/".join(path.parts[-4:]))
    try:
        start = datetime.strptime(name.start if name else "", "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DamagedFileError("has a time in its name that is none") from error
    start_us = int(start.timestamp()) * 10**6
    day_us = 86_400 * 10**6
    if not start_us <= first_us < start_us + 10**6 or not first_us <= last_us < (start_us // day_us + 1) * day_us:
        raise DamagedFileError("has rows of other times than its name says")


def _groups(metadata: pq.FileMetaData) -> Iterator[pq.RowGroupMetaData]:
    return map(metadata.row_group, range(metadata.num_row_groups))


def _moment(utc_us: int) -> datetime:
    return datetime.fromtimestamp(utc_us // 10**6, UTC) + timedelta(microseconds=utc_us % 10**6)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "..."
