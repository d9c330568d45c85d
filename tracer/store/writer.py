# SPDX-License-Identifier: Apache-2.0
"""The store of one run: rows wait in memory, and become files that are complete and final.

A file is one Arrow table, encoded at once and then written at once. So its size is known before the first
byte goes to disk, a write that found the disk full is repeated from memory, and a crash leaves no half file.
Until then the rows are in a journal too, of which `recover` makes the file if nobody else is left to do so.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from uuid import UUID

import pyarrow as pa

from tracer import __version__
from tracer.errors import OutputError
from tracer.store.buffer import Buffer, WaitingFile
from tracer.store.checkpoint import remove_checkpoint, write_checkpoint
from tracer.store.closed_files import closed_files, read_facts
from tracer.store.directories import FILE_MODE
from tracer.store.gone import Gone
from tracer.store.journal import Journal, remove_journal, remove_journal_directory
from tracer.store.layout import file_path, manifest_path, partition_value
from tracer.store.manifest import Manifest, Totals, encode_manifest
from tracer.store.open_runs import RunLock
from tracer.store.outage import Outage
from tracer.store.parquet import conform, encode
from tracer.store.retention import CannotWriteError, OnFull, Removed, Retention, identifier_in_files
from tracer.store.rows import by_day, span_of
from tracer.store.schemas import SCHEMA_VERSION, Table
from tracer.store.stored import Present, StoreTotals
from tracer.store.upload.uploads import Uploads

BUFFER_BYTES: Final = 128 * 2**20
RETRY_SECONDS: Final = 1.0

# A write that failed after so long would hold up the others by as much.
_SLOW_SECONDS = 1.0


class JournalOptions(NamedTuple):
    """sync: each frame is on disk before the next. note: told of what is wrong with the output, and of its end."""

    sync: bool
    note: Callable[[str], None]


@dataclass
class _Failures:
    """Of several files: the first, and whether the last took long."""

    first: CannotWriteError | None = None
    are_slow: bool = False


class Store:
    """Rows in, files out, for one run. Nothing touches the disk before the first rows or manifest.

    `rotate_ns` is the longest time rows wait for their file. `keep_bytes` and `on_full`: see `Retention`.
    One thread calls the methods; any thread may read `totals` and tell `outage`. Without `journal` a run that is killed
    loses the rows that wait. `release` comes last.

    A file that cannot be written stays in memory and is tried again each `RETRY_SECONDS`. With `delete-oldest` nothing
    is raised then: of more such files than half of `buffer_bytes` the oldest are dropped, and counted. With `stop` the
    method raises OutputError, once it has tried every file it had to write. What `close` cannot write is given up: its
    rows are in `rows_in_journals` as far as its journal has them, and lost beyond that.
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
        mode: int = FILE_MODE,
        uploads: Uploads | None = None,
    ) -> None:
        """`buffer_bytes`: of rows that wait for their files, of which the largest are written early beyond that.

        Half of it is for files that cannot be written for now; rows have what these leave. `mode`: of the files.
        `uploads`: see `Retention`.
        """
        self._mode = mode
        self._output = output
        self._run_id = run_id
        self._rotate_ns = rotate_ns
        self._rotate_at_ns: int | None = None
        self._partition = partition_value(identifier)
        self._on_full = on_full
        # A file is smaller than its rows in memory, so a quarter of the bound always leaves some history.
        self._buffer_bytes = buffer_bytes if keep_bytes is None else min(buffer_bytes, keep_bytes // 4)
        self._buffers: dict[tuple[str, int], Buffer] = {}
        self._all_bytes = buffer_bytes
        self._waiting_bytes = buffer_bytes // 2
        self._waiting: list[WaitingFile] = []
        self._retry_at = 0.0
        # Why files could not be written last; of one that cannot even be encoded, that.
        self._reason = "a defect"
        self._sequences: Counter[str] = Counter()
        self._totals = StoreTotals()
        self._journal = journal
        self.outage = Outage(journal.note if journal is not None else lambda _line: None, self._waiting_bytes)
        self._retention = Retention(
            output,
            identifier,
            keep_bytes,
            on_full,
            node_name=node_name,
            run_id=run_id,
            removed_when_full=self.outage.remove,
            mode=mode,
            uploads=uploads,
        )
        self._metadata = file_metadata(run_id, node_name, identifier)
        self._lock: RunLock | None = None
        self._manifest: Manifest | None = None
        self._manifest_fails = False

    @property
    def totals(self) -> StoreTotals:
        """A copy of the totals so far."""
        totals, removed = self._totals, self._retention.removed
        return StoreTotals(
            dict(totals.rows),
            dict(totals.files),
            dict(totals.bytes),
            totals.lost + Gone(),
            dict(totals.rows_in_journals),
            removed + Removed(),
            sum(buffer.size for buffer in list(self._buffers.values())) + self._bytes_of_waiting(),
        )

    def take_longest_write_ns(self) -> int:
        """Of the files and frames written since the last call, each with its sync; any thread may ask."""
        longest, self._retention.longest_write_ns = self._retention.longest_write_ns, 0
        return longest

    def present(self) -> Present:
        """What of the run is there now, whoever removed the rest. It takes longer where that was not the run itself."""
        own = f"-{self._run_id.hex[:8]}-"
        files = [file for file in closed_files(self._output, self._partition) if own in file.name.relative_path]
        totals, removed = self._totals, self._retention.removed
        count, size = len(files), sum(file.size for file in files)
        if (
            count == sum(totals.files.values()) - removed.own_files
            and size == sum(totals.bytes.values()) - removed.own_bytes
        ):
            rows = {table: rows - removed.own.rows[table] for table, rows in totals.rows.items()}
            return Present(rows, count, size)
        found: Counter[str] = Counter(dict.fromkeys(totals.rows, 0))
        count = size = 0
        for file in files:
            with suppress(OSError, ValueError):
                facts = read_facts(self._output, PurePath(file.name.relative_path))
                if facts.run_id == str(self._run_id):
                    found[file.name.table] += facts.rows
                    count += 1
                    size += file.size
        return Present(dict(found), count, size)

    def append(self, table: Table, rows: pa.Table) -> None:
        """Take rows of `table`, of any UTC days and in any order.

        Raises ValueError if they do not have its schema, OutputError if a full buffer cannot be written.
        """
        for day, part in by_day(table, conform(table, rows)):
            key = (table.name, day)
            if key not in self._buffers:
                self._buffers[key] = Buffer(table, day, self._sequences[table.name])
                self._sequences[table.name] += 1
            self._buffers[key].append(part)
            if self._journal is not None:
                self._write_journal(self._buffers[key], self._journal)
        room = min(self._buffer_bytes, self._all_bytes - self._bytes_of_waiting())
        while sum(buffer.size for buffer in self._buffers.values()) > room:
            self._write_files([max(self._buffers.values(), key=lambda buffer: buffer.size)])

    def rotate_if_due(self, now_ns: int, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Write what is due: everything each `rotate_ns`, days that are over, and what could not be written before.

        True if a manifest is due: it was everything, or the last one could not be written.
        `now_ns`: any clock that does not go back; the first call starts the first period. `meanwhile` is called after
        each file, on a slow disk long after the one before: to append what came, so that it is in a journal. Raises
        OutputError.
        """
        if self._rotate_at_ns is None:
            self._rotate_at_ns = now_ns + self._rotate_ns
        is_everything = now_ns >= self._rotate_at_ns
        if is_everything:
            self._rotate_at_ns = now_ns + self._rotate_ns
            self._write_files(list(self._buffers.values()), meanwhile)
        else:
            latest = dict(sorted(self._buffers))
            over = [buffer for buffer in self._buffers.values() if buffer.day < latest[buffer.table.name]]
            self._write_files(over, meanwhile)
        is_retry = time.monotonic() >= self._retry_at
        if is_retry and self._waiting:
            self._write_waiting(meanwhile)
        behind = [] if self._journal is None else [one for one in self._buffers.values() if one.rows_unjournaled]
        if is_retry and self._journal is not None:
            for buffer in behind:
                self._write_journal(buffer, self._journal)
        self.outage.look(all_written=not (self._waiting or behind or self._manifest_fails))
        return is_everything or (is_retry and self._manifest_fails)

    def note_totals(self, totals: Totals) -> None:
        """For the manifest of the run, should it be killed before it is written again."""
        if self._journal is not None:
            with suppress(OSError, ValueError):
                write_checkpoint(self._output, self._run_id, totals)

    def write_manifest(self, manifest: Manifest, *, may_wait: bool = False) -> None:
        """Write or replace the run's manifest. Raises OutputError, unless it may wait for the next one."""
        self._manifest = manifest
        if self._journal is not None:
            self._hold(self._journal)
        try:
            self._retention.write(manifest_path(self._output, self._run_id), encode_manifest(manifest))
        except CannotWriteError as error:
            if not may_wait or self._on_full == "stop":
                raise
            self._manifest_fails = True
            self._fail(error.reason)
        else:
            self._manifest_fails = False

    def close(self) -> None:
        """Write all that is left; what cannot be written is given up. Raises OutputError with `stop`."""
        try:
            self._write_files(list(self._buffers.values()))
            if self._waiting:
                self._write_waiting()
        finally:
            while self._waiting:
                self._give_up(self._waiting.pop(0))

    def release(self) -> None:
        """The run is over: what it may have left in journals is for `recover`."""
        if self._journal is not None:
            remove_checkpoint(self._output, self._run_id)
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
            self._lock = RunLock.take(self._output, self._run_id, make=True, mode=self._mode)

    def _begin_journals_anew(self, options: JournalOptions) -> None:
        options.note(
            f"somebody removed or moved what this run has written to {str(self._output)!r}: "
            "it goes on there with the rows that were in no closed file yet"
        )
        for buffer in self._buffers.values():
            buffer.begin_journal_anew()
        for file in self._waiting:
            file.journal = None
        if self._manifest is not None:
            # Without it nobody knows whose the journals are.
            with suppress(OutputError):
                self._retention.write(manifest_path(self._output, self._run_id), encode_manifest(self._manifest))

    def _write_journal(self, buffer: Buffer, options: JournalOptions) -> None:
        """Appends to the buffer's journal the rows that are missing there. What fails waits for the next time."""
        begun = time.monotonic_ns()
        try:
            self._hold(options)
            if buffer.journal is None:
                names = buffer.table.name, buffer.sequence
                buffer.journal = Journal(self._output, self._run_id, *names, sync=options.sync, mode=self._mode)
            if (rows := buffer.unjournaled()) is not None:
                self._append_frame(buffer.journal, rows)
        except (OSError, ValueError) as error:
            self._fail((error.strerror if isinstance(error, OSError) else None) or str(error))
        finally:
            self._retention.longest_write_ns = max(self._retention.longest_write_ns, time.monotonic_ns() - begun)

    def _append_frame(self, journal: Journal, rows: pa.Table) -> None:
        try:
            journal.append(rows)
        except OSError as error:
            if not self._retention.free_space(error, rows.nbytes):
                raise
            journal.append(rows)

    def _write_files(self, buffers: Collection[Buffer], meanwhile: Callable[[], None] = lambda: None) -> None:
        """As many as can be written; the others wait. Raises OutputError with `stop`, or another error of a defect."""
        if not buffers:
            return
        defect: Exception | None = None
        failures = _Failures()
        for buffer in buffers:
            # It may have been written meanwhile, as rows of others found no room.
            if self._buffers.get((buffer.table.name, buffer.day)) is not buffer:
                continue
            try:
                self._write(self._encode(buffer), failures)
            except Exception as error:
                defect = defect or error
            meanwhile()
        # Encoding takes several times a file's size, which the allocator would keep until the next one.
        pa.default_memory_pool().release_unused()
        self._settle(failures)
        if defect is not None:
            raise defect

    def _encode(self, buffer: Buffer) -> WaitingFile:
        """The buffer becomes a file that waits. If that fails, its rows are lost, but for those in its journal."""
        table = buffer.table
        del self._buffers[table.name, buffer.day]
        if buffer.journal is not None:
            buffer.journal.close()
        rows = buffer.take_rows()
        span = span_of(table, rows)
        path = file_path(
            self._output, table.name, self._partition, span.first_us * 1_000, self._run_id, buffer.sequence
        )
        payload = memoryview(b"")
        try:
            payload = memoryview(encode(table, rows, {**self._metadata, "tracer.table": table.name}))
        finally:
            file = WaitingFile(table.name, buffer.sequence, path, payload, rows.num_rows, span, buffer.journal)
            if payload:
                self._waiting.append(file)
            else:
                self._give_up(file)
        return file

    def _write_waiting(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """The files that wait, the oldest first; what cannot be written goes on waiting, within its bound."""
        failures = _Failures()
        for file in list(self._waiting):
            # It may be gone, as more than these came meanwhile.
            if file in self._waiting:
                self._write(file, failures)
                meanwhile()
        self._settle(failures)

    def _write(self, file: WaitingFile, failures: _Failures) -> None:
        """A file that waits, unless one before was so slow to fail that this one is not to be waited for, too."""
        if failures.are_slow:
            return
        begun = time.monotonic()
        try:
            self._retention.write_closed_file(file.path, file.payload)
        except CannotWriteError as error:
            failures.first = failures.first or error
            failures.are_slow = time.monotonic() - begun > _SLOW_SECONDS
            return
        self._waiting.remove(file)
        if self._journal is not None:
            remove_journal(self._output, self._run_id, file.table, file.sequence)
        totals = self._totals
        for counts, increase in ((totals.rows, file.rows), (totals.files, 1), (totals.bytes, len(file.payload))):
            counts[file.table] = counts.get(file.table, 0) + increase

    def _settle(self, failures: _Failures) -> None:
        """What comes of files that could not be written. Raises OutputError with `stop`."""
        if failures.first is None:
            return
        self._reason = failures.first.reason
        if self._on_full == "stop":
            self._retry_at = time.monotonic() + RETRY_SECONDS
            raise failures.first
        self._fail(self._reason)
        while self._bytes_of_waiting() > self._waiting_bytes:
            file = self._waiting.pop(0)
            if lost := self._give_up(file):
                self.outage.drop(file.table, lost, file.span)

    def _give_up(self, file: WaitingFile) -> int:
        """Rows of a file that is never written are lost, but for those in its journal; how many are lost."""
        totals, kept = self._totals, file.rows_in_journal
        if kept:
            totals.rows_in_journals[file.table] = totals.rows_in_journals.get(file.table, 0) + kept
        if lost := file.rows - kept:
            totals.lost.add(file.table, lost, file.span, self._reason)
        return lost

    def _bytes_of_waiting(self) -> int:
        return sum(len(file.payload) for file in list(self._waiting))

    def _fail(self, reason: str) -> None:
        self._reason = reason
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self.outage.fail(reason)


def file_metadata(run_id: UUID, node_name: str, identifier: str) -> dict[str, str]:
    """What each closed file of a run says of itself, beside its table."""
    return {
        "tracer.schema_version": str(SCHEMA_VERSION),
        "tracer.run_id": str(run_id),
        "tracer.node_name": node_name,
        "tracer.identifier": identifier_in_files(identifier),
        "tracer.version": __version__,
    }
