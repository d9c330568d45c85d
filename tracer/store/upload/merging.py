# SPDX-License-Identifier: Apache-2.0
"""The rows of one hour from many closed files of a run and table, as one sorted file.

Each closed file is sorted, and is read a few thousand rows at a time. What is known to be before all that is still to
come is sorted and written, so that memory has only the rows of files that overlap.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracer.store.directories import open_below
from tracer.store.gone import TimeSpan
from tracer.store.hours import hour_span
from tracer.store.parquet import combine, parquet_writer
from tracer.store.rows import span_of
from tracer.store.schemas import Table

LARGEST_FILE_BYTES: Final = 512 * 2**20

_READ_ROWS: Final = 8 * 1024
# As many as a group of rows in the file. Of `windows`, of 400 bytes a row, the stages in all take some 90 MB so.
_GROUP_ROWS: Final = 32 * 1024
# Of files that overlap all along, it is better to have several sorted files than no bound.
_MOST_WAITING_ROWS: Final = 3 * _GROUP_ROWS


class DamagedFileError(ValueError):
    """A closed file that cannot be read; `path` is below the output, `reason` in few words."""

    def __init__(self, path: PurePath, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class Source(NamedTuple):
    """A closed file: where it is below the output, and of which time its rows are."""

    path: PurePath
    span: TimeSpan


class Merged(NamedTuple):
    """A file that is complete, at its beginning, and gone when it is closed."""

    file: BinaryIO
    size: int
    sha256: str
    rows: int
    span: TimeSpan


def merge(
    output: Path,
    table: Table,
    sources: Sequence[Source],
    hour: int,
    *,
    new_file: Callable[[], BinaryIO],
    pause: Callable[[], None] = lambda: None,
    largest_bytes: int = LARGEST_FILE_BYTES,
) -> Iterator[Merged]:
    """The rows of `hour`; mostly one file, more where one would be larger or the sources differ in their columns.

    The same sources in the same order give the same bytes. Each file is closed when the next is asked for. `pause` is
    called between groups of rows. Raises DamagedFileError; FileNotFoundError for a source that is gone; and OSError for
    what cannot be written.
    """
    with ExitStack() as opened:
        alike: dict[str, list[_Stream]] = {}
        for source in sorted(sources, key=lambda one: (one.span, one.path)):
            stream = opened.enter_context(_Stream(output, source, table, hour))
            alike.setdefault(stream.schema.remove_metadata().to_string(), []).append(stream)
        for streams in alike.values():
            yield from _Merging(table, streams, new_file, pause, largest_bytes).files()


class _Stream:
    """The rows that a closed file has of one hour, in its order."""

    def __init__(self, output: Path, source: Source, table: Table, hour: int) -> None:
        self.path = source.path
        self._output = output
        self._table = table
        self._bounds = hour_span(hour)
        self.reached_us = max(source.span.first_us, self._bounds.first_us)
        """No row that is still to come is before it."""
        self._opened = ExitStack()
        try:
            with self._reading():
                described = self._open([])
                self.schema = described.schema_arrow
                self.metadata = _words(described)
                missing = {*table.sort_columns, table.time_column}.difference(self.schema.names)
                if missing:
                    raise ValueError(f"it has no column {min(missing)}")
        finally:
            self._opened.close()

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_failure: object) -> None:
        self._opened.close()

    def batches(self) -> Iterator[pa.Table]:
        """With strings as dictionaries."""
        strings = [field.name for field in self.schema if pa.types.is_string(field.type)]
        with self._reading():
            file = self._open(strings)
            batches = file.iter_batches(_READ_ROWS, use_threads=False)
            while True:
                batch = next(batches, None)
                if batch is None:
                    break
                # Of a damaged file, indices may lead out of their dictionary, and whoever follows them ends.
                batch.validate(full=True)
                rows = self._of_hour(pa.Table.from_batches([batch]).replace_schema_metadata())
                if rows.num_rows:
                    span = span_of(self._table, rows)
                    if span.first_us < self.reached_us:
                        raise ValueError("its rows are not in the order of their times")
                    self.reached_us = span.last_us
                    yield rows
        self._opened.close()

    def _of_hour(self, rows: pa.Table) -> pa.Table:
        times = rows[self._table.time_column]
        bounds = [
            pa.scalar(bound, pa.timestamp("us", times.type.tz)).cast(times.type)
            for bound in (self._bounds.first_us, self._bounds.last_us + 1)
        ]
        return rows.filter(pc.and_(pc.greater_equal(times, bounds[0]), pc.less(times, bounds[1])))

    def _open(self, dictionaries: list[str]) -> pq.ParquetFile:
        with open_below(self._output, self.path.parent) as directory:
            file = self._opened.enter_context(directory.open_file(self.path.name))
        return pq.ParquetFile(file, read_dictionary=dictionaries, pre_buffer=False)

    def _reading(self) -> "_Reading":
        return _Reading(self.path)


class _Reading:
    """Where what is wrong with a file becomes a DamagedFileError."""

    def __init__(self, path: PurePath) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FileNotFoundError | DamagedFileError):
            return
        if isinstance(error, OSError | ValueError | ArithmeticError | pa.ArrowException):
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
            raise DamagedFileError(self._path, reason[:200]) from error


class _Merging:
    """Of streams with the same columns."""

    def __init__(
        self,
        table: Table,
        streams: Sequence[_Stream],
        new_file: Callable[[], BinaryIO],
        pause: Callable[[], None],
        largest_bytes: int,
    ) -> None:
        self._table = table
        self._streams = streams
        self._new_file = new_file
        self._pause = pause
        self._largest_bytes = largest_bytes
        self._ordering = [(name, "ascending") for name in table.sort_columns]

    def files(self) -> Iterator[Merged]:
        groups = self._groups()
        group = next(groups, None)
        while group is not None:
            with self._new_file() as file:
                sink = _HashingFile(file)
                rows, span = 0, None
                schema, metadata = self._streams[0].schema, self._streams[0].metadata
                with (
                    pa.PythonFile(sink, "w") as arrow_sink,
                    parquet_writer(arrow_sink, group.rows.schema, schema, self._table.sort_columns, metadata) as writer,
                ):
                    while group is not None:
                        writer.write_table(group.rows, row_group_size=_GROUP_ROWS)
                        rows += group.rows.num_rows
                        span = span_of(self._table, group.rows).joined(span)
                        is_last = group.is_last or sink.size >= self._largest_bytes
                        self._pause()
                        group = next(groups, None)
                        if is_last:
                            break
                # What encoding took would be kept by the allocator.
                pa.default_memory_pool().release_unused()
                file.flush()
                file.seek(0)
                assert span is not None
                yield Merged(file, sink.size, sink.sha256, rows, span)

    def _groups(self) -> "Iterator[_Group]":
        """All rows, in order but for a new beginning after one that `is_last`."""
        running = [(stream, stream.batches()) for stream in self._streams]
        waiting: list[pa.Table] = []
        count = 0
        while running:
            stream, batches = min(running, key=lambda one: one[0].reached_us)
            rows = next(batches, None)
            if rows is None:
                running.remove((stream, batches))
                continue
            waiting.append(rows)
            count += rows.num_rows
            if count < _GROUP_ROWS:
                continue
            ordered = combine(waiting).sort_by(self._ordering)
            is_last = False
            certain = self._rows_before(ordered, min((one.reached_us for one, _ in running), default=None))
            if not certain and count >= _MOST_WAITING_ROWS:
                certain, is_last = count, True
            waiting, count = [ordered.slice(certain)] if certain < count else [], count - certain
            if certain:
                yield _Group(ordered.slice(0, certain), is_last)
        if count:
            yield _Group(combine(waiting).sort_by(self._ordering), True)

    def _rows_before(self, ordered: pa.Table, reached_us: int | None) -> int:
        """How many of the first rows no other can come before."""
        if reached_us is None:
            return int(ordered.num_rows)
        times = ordered[self._table.time_column]
        reached = pa.scalar(reached_us, pa.timestamp("us", times.type.tz)).cast(times.type)
        return int(pc.sum(pc.less(times, reached)).as_py() or 0)


class _Group(NamedTuple):
    """Sorted rows. is_last: the next ones may be before them."""

    rows: pa.Table
    is_last: bool


class _HashingFile(io.RawIOBase):
    """Hands on what is written to it, from the beginning to the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, content: Any) -> int:
        self._hash.update(content)
        self.size += len(content)
        return int(self._file.write(content))


def _words(file: pq.ParquetFile) -> dict[str, str]:
    """What a closed file says of itself."""
    said = file.metadata.metadata or {}
    return {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in said.items()
        if name.startswith(b"tracer.")
    }
