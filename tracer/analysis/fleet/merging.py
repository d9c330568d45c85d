# SPDX-License-Identifier: Apache-2.0
"""Files of many nodes as few large ones: node after node, each in the order of time that it has.

Rows go from one file to the other in batches, so that memory is a batch and the row group that is being filled,
whatever the files' sizes are. Each row group is of one node, or of several small ones: by its statistics, whoever asks
for a node reads that one.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tracer.analysis.file_checks import one_line
from tracer.errors import UsageError
from tracer.store.compactions import compacted_schema
from tracer.store.schemas import Table

_BATCH_ROWS: Final = 2**15
_GROUP_ROWS: Final = 2**17
_SMALL_GROUP_ROWS: Final = 2**15
_READ_BYTES: Final = 2**20


class Piece(NamedTuple):
    """A file of one node's run to be merged, at `path` on this machine; `name` is what it is called for people."""

    path: Path
    name: str
    identifier: str
    run_id: str
    rows: int


class Merged(NamedTuple):
    """A file that was written; times are of its first and last row, in us since the epoch."""

    path: Path
    rows: int
    bytes: int
    sha256: str
    first_us: int
    last_us: int


def merge(table: Table, pieces: Iterable[Piece], directory: Path, size: int) -> Iterator[Merged]:
    """All rows of `pieces`, in their order, in files of `directory` of about `size` bytes, the last of what is left.

    Pieces are removed once they were read; so may be what is taken from here. Raises UsageError for a piece that cannot
    be read, or has not the rows that it is said to have; OSError where there is no room.
    """
    writer: _Writer | None = None
    number = 0
    for piece in pieces:
        for rows in _batches(table, piece):
            writer = writer or _Writer(table, directory / f"{number}.merged")
            writer.add(rows)
        piece.path.unlink()
        if writer is not None:
            # A row group of two large nodes would be read for both.
            writer.end_of_piece()
            if writer.size >= size:
                yield writer.close()
                writer, number = None, number + 1
    if writer is not None:
        yield writer.close()


def described(path: Path, rows: int, first_us: int, last_us: int) -> Merged:
    """A file that was written."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Merged(path, rows, path.stat().st_size, digest, first_us, last_us)


def _batches(table: Table, piece: Piece) -> Iterator[pa.Table]:
    schema = _in_memory(compacted_schema(table))
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    rows = 0
    try:
        with pq.ParquetFile(piece.path, pre_buffer=False, buffer_size=_READ_BYTES, read_dictionary=strings) as file:
            there = [name for name in table.schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(_BATCH_ROWS, columns=there):
                rows += len(batch)
                yield _conformed(schema, batch, piece)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{piece.name} cannot be read: {one_line(error)}") from error
    if rows != piece.rows:
        raise UsageError(f"{piece.name} has {rows:,} rows, and not {piece.rows:,} as its manifest says")


def _conformed(schema: pa.Schema, batch: pa.RecordBatch, piece: Piece) -> pa.Table:
    """A column that was not known when it was recorded is null."""
    of_path = {"identifier": piece.identifier, "run_id": piece.run_id}
    columns = []
    for field in schema:
        if field.name in of_path:
            all_the_same = np.zeros(len(batch), np.int32)
            columns.append(pa.DictionaryArray.from_arrays(all_the_same, [of_path[field.name]]))
        elif field.name in batch.schema.names:
            columns.append(batch[field.name].cast(field.type))
        else:
            columns.append(pa.nulls(len(batch), field.type))
    return pa.table(columns, names=schema.names)


class _Writer:
    """A file that is being written, in row groups that are held in memory until they are full."""

    def __init__(self, table: Table, path: Path) -> None:
        self._path = path
        self._time = table.time_column
        schema = compacted_schema(table)
        self._sink = pa.OSFile(str(path), "wb")
        strings = [field.name for field in schema if pa.types.is_string(field.type)]
        self._writer = pq.ParquetWriter(
            self._sink,
            _in_memory(schema),
            compression="zstd",
            use_dictionary=strings,
            write_statistics=True,
            # It would say that strings are dictionaries, which Polars takes for categories.
            store_schema=False,
        )
        self._held: list[pa.Table] = []
        self._held_rows = self._rows = 0
        self._bounds: list[int] = []

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return int(self._sink.tell())

    def add(self, rows: pa.Table) -> None:
        self._held.append(rows)
        self._held_rows += len(rows)
        if self._held_rows >= _GROUP_ROWS:
            self._flush()

    def end_of_piece(self) -> None:
        if self._held_rows >= _SMALL_GROUP_ROWS:
            self._flush()

    def close(self) -> Merged:
        self._flush()
        self._writer.close()
        self._sink.close()
        bounds = self._bounds or [0]
        return described(self._path, self._rows, min(bounds), max(bounds))

    def _flush(self) -> None:
        if not self._held_rows:
            return
        rows = pa.concat_tables(self._held).unify_dictionaries().combine_chunks()
        times = rows[self._time].cast(pa.int64())
        bounds = pa.compute.min_max(times).as_py()
        self._bounds += [bounds["min"], bounds["max"]]
        self._writer.write_table(rows, row_group_size=_GROUP_ROWS + _BATCH_ROWS)
        self._rows += len(rows)
        self._held, self._held_rows = [], 0


def _in_memory(schema: pa.Schema) -> pa.Schema:
    """Strings as dictionaries, which take a tenth of the room; what may be null is not told apart any more."""
    dictionary = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [pa.field(field.name, dictionary if pa.types.is_string(field.type) else field.type) for field in schema]
    )
