# SPDX-License-Identifier: Apache-2.0
"""Closed files as they are on disk, by their names, and what they say of themselves."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from tracer.store.directories import Directory, open_below, open_directory
from tracer.store.gone import TimeSpan
from tracer.store.hours import hour_of
from tracer.store.layout import ClosedFileName, parse_closed_file

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# What 64 bits hold of nanoseconds since the epoch: until 2262.
_LAST_US: Final = (2**63 - 1) // 1_000


@dataclass(frozen=True, order=True)
class ClosedFile:
    """A closed file and its length in bytes; they sort from old to new."""

    name: ClosedFileName
    size: int


class FileFacts(NamedTuple):
    """What a closed file says of itself, from its footer; `span` is None if it has no rows.

    metadata: all that it says in words, by name.
    """

    run_id: str
    node_name: str
    identifier: str | None
    rows: int
    span: TimeSpan | None
    metadata: dict[str, str]


def closed_files(output: Path, partition: str) -> list[ClosedFile]:
    """The closed files of one identifier under all tables, oldest first, without what vanishes meanwhile."""
    files: list[ClosedFile] = []
    with contextlib.suppress(OSError, ValueError), open_directory(output) as top:
        for table in _children(top):
            with table:
                for day in _children(table, "dt="):
                    with day, contextlib.suppress(OSError), day.child(f"identifier={partition}") as directory:
                        files += _files_in(directory, PurePath(*directory.path.parts[-3:]))
    return sorted(files)


def read_facts(output: Path, path: PurePath) -> FileFacts:
    """Of a file below the output. Raises OSError, and ValueError for what no run wrote."""
    # With Arrow, which checks before a run do without.
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tracer.store.schemas import TABLES

    table = TABLES.get(path.parts[0])
    if table is None:
        raise ValueError(f"there is no table {path.parts[0]!r}")
    with open_below(output, path.parent) as directory, directory.open_file(path.name) as file:
        try:
            footer = pq.read_metadata(file)
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error
        except OSError as error:
            # Of Arrow, about what is in the file.
            if error.errno is None:
                raise ValueError(str(error)) from error
            raise
    said = {
        name.decode(errors="replace"): value.decode(errors="replace") for name, value in (footer.metadata or {}).items()
    }
    return FileFacts(
        run_id=said.get("tracer.run_id", ""),
        node_name=said.get("tracer.node_name", ""),
        identifier=said.get("tracer.identifier"),
        rows=footer.num_rows,
        span=_span(footer, table.time_column),
        metadata=said,
    )


def rows_by_hour(output: Path, path: PurePath) -> dict[int, int]:
    """How many rows of each hour since the epoch a file below the output has. Raises OSError and ValueError."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from tracer.store.schemas import TABLES

    time_column = TABLES[path.parts[0]].time_column
    try:
        with open_below(output, path.parent) as directory, directory.open_file(path.name) as file:
            times = pq.read_table(file, columns=[time_column], use_threads=False)[time_column]
        hours = pc.floor_temporal(times, unit="hour").cast(pa.timestamp("us", times.type.tz)).cast(pa.int64())
        return {hour_of(one["values"]): one["counts"] for one in pc.value_counts(hours).to_pylist()}
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(str(error)) from error


def _span(footer: "pq.FileMetaData", time_column: str) -> TimeSpan | None:
    """Of a file's rows, from its statistics. Raises ValueError."""
    if not footer.num_rows:
        return None
    place = footer.schema.names.index(time_column)
    columns = [footer.row_group(number).column(place) for number in range(footer.num_row_groups)]
    # Where a footer contradicts itself, Arrow does not refuse to read statistics, but ends the process.
    if any(one.physical_type != "INT64" for one in (footer.schema.column(place), *columns)):
        raise ValueError(f"{time_column} is of no type that times have")
    groups = [column.statistics for column in columns]
    spans = [
        TimeSpan(int(group.min_raw), int(group.max_raw)) for group in groups if group is not None and group.has_min_max
    ]
    if not spans:
        return None
    span = TimeSpan(min(one.first_us for one in spans), max(one.last_us for one in spans))
    if not 0 <= span.first_us <= span.last_us <= _LAST_US:
        raise ValueError(f"has rows of a time that is none: {span.last_us} us since the epoch")
    return span


def _children(above: Directory, prefix: str = "") -> Iterator[Directory]:
    """Its directories whose names begin so, but for those that are not followed; to be closed."""
    for name in above.names():
        if name.startswith(prefix):
            with contextlib.suppress(OSError):
                yield above.child(name)


def _files_in(directory: Directory, relative_path: PurePath) -> Iterator[ClosedFile]:
    for name in directory.names():
        parsed = parse_closed_file(str(relative_path / name))
        if parsed is None:
            continue
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield ClosedFile(parsed, status.st_size)
