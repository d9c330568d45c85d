# SPDX-License-Identifier: Apache-2.0
"""The store of one run: rows wait in memory, and become files that are complete and final.

A file is one Arrow table, encoded at once and then written at once. So its size is known before the first
byte goes to disk, a write that found the disk full is repeated from memory, and a crash leaves no half file.
Until then the rows are in a journal too, of which `recover` makes the file if nobody else is left to do so.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from tracer import __version__
from tracer.errors import OutputError
from tracer.store.journal import Journal, remove_journal_directory
from tracer.store.layout import file_path, manifest_path, partition_value
from tracer.store.manifest import Manifest, encode_manifest
from tracer.store.open_runs import RunLock
from tracer.store.parquet import combine, conform, encode
from tracer.store.retention import NO_SPACE, OnFull, Retention
from tracer.store.schemas import SCHEMA_VERSION, Table

BUFFER_BYTES: Final = 128 * 2**20

_DAY_US = 86_400 * 10**6
_RECENT_CHUNKS = 32


@dataclass
class StoreTotals:
    """What a store has done so far: rows, files and bytes written and rows lost, by table.

    `files_removed` are files, of any run, that retention removed; they stay in the other counts.
    """

    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    rows_lost: dict[str, int] = field(default_factory=dict)
    files_removed: int = 0


class _Buffer:
    """The rows of one table and UTC day that wait for their file, which has this sequence number."""

    def __init__(self, table: Table, day: int, sequence: int) -> None:
        self.table = table
        self.day = day
        self.sequence = sequence
        self.size = 0
        self.journal: Journal | None = None
        # Rows that are not in the journal yet, as it could not be written.
        self.missing: list[pa.Table] = []
        self._settled: list[pa.Table] = []
        self._settled_size = 0
        self._recent: list[pa.Table] = []

    def begin_journal_anew(self) -> None:
        """What it had is not where it was any more."""
        if self.journal is not None:
            self.journal.close()
        self.journal = None
        self.missing = [*self._settled, *self._recent]

    def append(self, rows: pa.Table) -> None:
        self._recent.append(rows)
        self.size += rows.nbytes
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


class JournalOptions(NamedTuple):
    """sync: each frame is on disk before the next. note: told of what is wrong with the output, and of its end."""

    sync: bool
    note: Callable[[str], None]


class Store:
    """Rows in, files out, for one run. Nothing touches the disk before the first rows or manifest.

    `rotate_ns` is the longest time rows wait for their file. `keep_bytes` and `on_full`: see `Retention`.
    One thread calls the methods; any thread may read `totals`. A method that raises OutputError has tried
    every file it had to write; rows that could not be written are gone and counted in `rows_lost`. Without `journal`
    a run that is killed loses the rows that wait. `release` comes last.
    """

    def __init__(
        self,
        output: Path,
        *,
        identifier: str,
        run_id: UUID,
        node_name: str,
        rotate_ns: int,
        keep_bytes: int | None,
        on_full: OnFull,
        journal: JournalOptions | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """`buffer_bytes`: of rows that wait for their files, of which the largest are written early beyond that."""
        self._output = output
        self._run_id = run_id
        self._node_name = node_name
        self._rotate_ns = rotate_ns
        self._rotate_at_ns: int | None = None
        self._partition = partition_value(identifier)
        self._retention = Retention(output, self._partition, keep_bytes, on_full)
        # A file is smaller than its rows in memory, so a quarter of the bound always leaves some history.
        self._buffer_bytes = buffer_bytes if keep_bytes is None else min(buffer_bytes, keep_bytes // 4)
        self._buffers: dict[tuple[str, int], _Buffer] = {}
        self._sequences: Counter[str] = Counter()
        self._totals = StoreTotals()
        self._journal = journal
        self._lock: RunLock | None = None
        self._journal_fails = False
        self._manifest: Manifest | None = None

    @property
    def totals(self) -> StoreTotals:
        """A copy of the totals so far."""
        totals = self._totals
        return StoreTotals(
            dict(totals.rows),
            dict(totals.files),
            dict(totals.bytes),
            dict(totals.rows_lost),
            self._retention.files_removed,
        )

    def append(self, table: Table, rows: pa.Table) -> None:
        """Take rows of `table`, of any UTC days and in any order.

        Raises ValueError if they do not have its schema, OutputError if a full buffer cannot be written.
        """
        for day, part in _by_day(table, conform(table, rows)):
            key = (table.name, day)
            if key not in self._buffers:
                self._buffers[key] = _Buffer(table, day, self._sequences[table.name])
                self._sequences[table.name] += 1
            self._buffers[key].append(part)
            if self._journal is not None:
                self._write_journal(self._buffers[key], part, self._journal)
        while sum(buffer.size for buffer in self._buffers.values()) > self._buffer_bytes:
            self._write_files([max(self._buffers.values(), key=lambda buffer: buffer.size)])

    def rotate_if_due(self, now_ns: int, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Write what is due: everything each `rotate_ns`, and days that are over. True if it was everything.

        `now_ns`: any clock that does not go back; the first call starts the first period. `meanwhile` is called after
        each file, on a slow disk long after the one before: to append what came, so that it is in a journal. Raises
        OutputError.
        """
        if self._rotate_at_ns is None:
            self._rotate_at_ns = now_ns + self._rotate_ns
        if now_ns >= self._rotate_at_ns:
            self._rotate_at_ns = now_ns + self._rotate_ns
            self._write_files(list(self._buffers.values()), meanwhile)
            return True
        latest_days = dict(sorted(self._buffers))
        over = [buffer for buffer in self._buffers.values() if buffer.day < latest_days[buffer.table.name]]
        self._write_files(over, meanwhile)
        return False

    def write_manifest(self, manifest: Manifest) -> None:
        """Write or replace the run's manifest. Raises OutputError."""
        self._manifest = manifest
        if self._journal is not None:
            self._hold(self._journal)
        self._retention.write(manifest_path(self._output, self._run_id), encode_manifest(manifest))

    def close(self) -> None:
        """Write all that is left. Raises OutputError."""
        self._write_files(list(self._buffers.values()))

    def release(self) -> None:
        """The run is over: what it may have left in journals is for `recover`."""
        if self._journal is not None:
            remove_journal_directory(self._output, self._run_id)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _hold(self, options: JournalOptions) -> None:
        """Tells others that the run is live. Where its journals are not there any more, they are begun anew."""
        # Where files cannot be locked, nobody can tell whether the run is live, and so nobody recovers it.
        with suppress(OSError, ValueError):
            if self._lock is not None:
                if self._lock.is_of(self._output, self._run_id):
                    return
                self._lock.close()
                self._lock = None
                self._begin_journals_anew(options)
            self._lock = RunLock.take(self._output, self._run_id, make=True)

    def _begin_journals_anew(self, options: JournalOptions) -> None:
        options.note(
            f"somebody removed or moved what this run has written to {str(self._output)!r}: "
            "it goes on there with the rows that were in no closed file yet"
        )
        for buffer in self._buffers.values():
            buffer.begin_journal_anew()
        if self._manifest is not None:
            # Without it nobody knows whose the journals are.
            with suppress(OutputError):
                self._retention.write(manifest_path(self._output, self._run_id), encode_manifest(self._manifest))

    def _write_journal(self, buffer: _Buffer, rows: pa.Table, options: JournalOptions) -> None:
        """Appends rows to the buffer's journal, after those that are missing there. What fails waits for the next."""
        buffer.missing.append(rows)
        try:
            self._hold(options)
            if buffer.journal is None:
                names = buffer.table.name, buffer.sequence
                buffer.journal = Journal(self._output, self._run_id, *names, sync=options.sync)
            while buffer.missing:
                self._append_frame(buffer.journal, buffer.missing[0])
                buffer.missing.pop(0)
        except (OSError, ValueError) as error:
            if not self._journal_fails:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                options.note(f"the journal cannot be written ({reason}): if the run is killed now, rows are lost")
            self._journal_fails = True
            return
        if self._journal_fails:
            options.note("the journal is written again")
            self._journal_fails = False

    def _append_frame(self, journal: Journal, rows: pa.Table) -> None:
        try:
            journal.append(rows)
        except OSError as error:
            if error.errno not in NO_SPACE or not self._retention.free_space(rows.nbytes):
                raise
            journal.append(rows)

    def _write_files(self, buffers: Collection[_Buffer], meanwhile: Callable[[], None] = lambda: None) -> None:
        if not buffers:
            return
        failure: Exception | None = None
        for buffer in buffers:
            # It may have been written meanwhile, as rows of others found no room.
            if self._buffers.get((buffer.table.name, buffer.day)) is not buffer:
                continue
            try:
                self._write_file(buffer)
            except Exception as error:
                failure = failure or error
            meanwhile()
        # Encoding takes several times a file's size, which the allocator would keep until the next one.
        pa.default_memory_pool().release_unused()
        if failure is not None:
            raise failure

    def _write_file(self, buffer: _Buffer) -> None:
        table, totals = buffer.table, self._totals
        del self._buffers[table.name, buffer.day]
        rows = buffer.take_rows()
        try:
            start_ns = pc.min(rows[table.time_column]).value * 1_000
            path = file_path(self._output, table.name, self._partition, start_ns, self._run_id, buffer.sequence)
            payload = memoryview(encode(table, rows, file_metadata(table, self._run_id, self._node_name)))
            self._retention.write_closed_file(path, payload)
        except Exception:
            totals.rows_lost[table.name] = totals.rows_lost.get(table.name, 0) + rows.num_rows
            if buffer.journal is not None:
                # `recover` may make the file when there is room for it.
                buffer.journal.close()
            raise
        if buffer.journal is not None:
            buffer.journal.remove()
        for counts, increase in (
            (totals.rows, rows.num_rows),
            (totals.files, 1),
            (totals.bytes, len(payload)),
        ):
            counts[table.name] = counts.get(table.name, 0) + increase


def file_metadata(table: Table, run_id: UUID, node_name: str) -> dict[str, str]:
    """What a closed file says of itself."""
    return {
        "tracer.schema_version": str(SCHEMA_VERSION),
        "tracer.table": table.name,
        "tracer.run_id": str(run_id),
        "tracer.node_name": node_name,
        "tracer.version": __version__,
    }


def _by_day(table: Table, rows: pa.Table) -> Iterable[tuple[int, pa.Table]]:
    """The rows of each UTC day, as (days since the epoch, rows)."""
    if rows.num_rows == 0:
        return
    times_us = rows[table.time_column].cast(pa.int64())
    bounds = pc.min_max(times_us)
    first, last = bounds["min"].as_py() // _DAY_US, bounds["max"].as_py() // _DAY_US
    if first == last:
        yield first, rows
        return
    days = pc.divide(times_us, _DAY_US)
    for day in pc.unique(days).to_pylist():
        yield day, rows.filter(pc.equal(days, day))
