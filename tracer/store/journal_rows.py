# SPDX-License-Identifier: Apache-2.0
"""The rows of a journal that a run has left, as rows of this version's tables."""

from typing import Final

import pyarrow as pa

from tracer.store.directories import Directory
from tracer.store.journal import DamagedJournalError, read_frames
from tracer.store.parquet import combine, conform
from tracer.store.schemas import Table
from tracer.store.writer import BUFFER_BYTES

_RECENT_FRAMES: Final = 32
# A run closes a file before its rows take more than `BUFFER_BYTES`; what came at once is beyond that.
_MOST_BYTES: Final = 4 * BUFFER_BYTES


def read_rows(directory: Directory, name: str, table: Table) -> tuple[pa.Table | None, DamagedJournalError | None]:
    """All rows before damage, None if there are none, and what is damaged then.

    Raises ValueError for what is no journal, or not of this version's rows; and OSError.
    """
    chunks: list[pa.Table] = []
    damage = None
    with directory.open_file(name) as journal:
        try:
            for rows in read_frames(journal):
                chunks.append(conform(table, _with_columns(table, rows)))
                size = sum(chunk.nbytes for chunk in chunks)
                if len(chunks) > _RECENT_FRAMES or size > _MOST_BYTES:
                    # Each has dictionaries of its own.
                    chunks = [combine(chunks)]
                    if chunks[0].nbytes > _MOST_BYTES:
                        raise DamagedJournalError("more rows than a run holds")
        except DamagedJournalError as error:
            damage = error
    rows = combine(chunks) if chunks else None
    return (rows if rows is not None and rows.num_rows else None), damage


def _with_columns(table: Table, rows: pa.Table) -> pa.Table:
    """Rows of an older version, with nulls in columns that it did not have. Raises ValueError for those of a newer."""
    unknown = sorted(set(rows.column_names) - set(table.schema.names))
    missing = [column for column in table.schema if column.name not in rows.column_names]
    if unknown or not all(column.nullable for column in missing):
        names = ", ".join(map(repr, unknown or [column.name for column in missing]))
        raise ValueError(f"is of another version of tracer, which differs in {names}")
    for column in missing:
        rows = rows.append_column(column.name, pa.nulls(rows.num_rows, column.type))
    return rows.select(table.schema.names)
