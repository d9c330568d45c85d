# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to a file: those that are gathered for it, and files that wait until they can be written."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tracer.store.gone import TimeSpan
from tracer.store.journal import Journal
from tracer.store.parquet import combine
from tracer.store.schemas import Table

_RECENT_CHUNKS = 32


class Buffer:
    """The rows of one table and UTC day that wait for their file, which has this sequence number."""

    def __init__(self, table: Table, day: int, sequence: int) -> None:
        self.table = table
        self.day = day
        self.sequence = sequence
        self.size = 0
        self.rows = 0
        self.journal: Journal | None = None
        self._settled: list[pa.Table] = []
        self._settled_size = 0
        self._recent: list[pa.Table] = []

    def begin_journal_anew(self) -> None:
        """What it had is not where it was any more."""
        if self.journal is not None:
            self.journal.close()
        self.journal = None

    @property
    def rows_unjournaled(self) -> int:
        """Those that are not in the journal yet: the last ones."""
        return self.rows - (0 if self.journal is None else self.journal.rows)

    def unjournaled(self) -> pa.Table | None:
        """The rows that are not in the journal yet; None if all are."""
        missing = self.rows_unjournaled
        if not missing:
            return None
        chunks: list[pa.Table] = []
        for chunk in reversed([*self._settled, *self._recent]):
            taken = min(missing, chunk.num_rows)
            chunks.append(chunk.slice(chunk.num_rows - taken))
            missing -= taken
            if not missing:
                break
        return chunks[0] if len(chunks) == 1 else combine(chunks[::-1])

    def append(self, rows: pa.Table) -> None:
        self._recent.append(rows)
        self.size += rows.nbytes
        self.rows += rows.num_rows
        if len(self._recent) == _RECENT_CHUNKS:
            # Each chunk carries its own dictionaries, which can be larger than the rows.
            self._settled.append(combine(self._recent))
            self._settled_size += self._settled[-1].nbytes
            self._recent.clear()
            self.size = self._settled_size

    def take_rows(self) -> pa.Table:
        """All rows; the buffer is empty then, so that memory holds them once."""
        chunks = [*self._settled, *self._recent]
        self._settled.clear()
        self._recent.clear()
        return pa.concat_tables(chunks).unify_dictionaries()


@dataclass(eq=False)
class WaitingFile:
    """A closed file to be, encoded, and the journal that has its rows, or the first of them."""

    table: str
    sequence: int
    path: Path
    payload: memoryview
    rows: int
    span: TimeSpan
    journal: Journal | None

    @property
    def rows_in_journal(self) -> int:
        """What `recover` finds if this is never written."""
        return 0 if self.journal is None else self.journal.rows
