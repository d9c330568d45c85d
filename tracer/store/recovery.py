# SPDX-License-Identifier: Apache-2.0
"""What runs that were killed left in journals becomes closed files, exactly once.

A journal is removed only once its file is on disk; if that is there already, the journal is only removed. So it does
not matter where a recovery is itself killed. Runs that are live, by their lock, are left alone.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tracer.errors import OutputError, UsageError
from tracer.store.directories import Directory, open_below
from tracer.store.journal import (
    DamagedJournalError,
    JournalName,
    journal_directory,
    open_journal,
    parse_journal_name,
    read_frames,
    remove_journal_directory,
)
from tracer.store.layout import file_path, manifest_path, parse_closed_file, partition_value
from tracer.store.manifest import Instant, Manifest, encode_manifest, read_manifest
from tracer.store.open_runs import RunLock
from tracer.store.parquet import combine, conform, encode
from tracer.store.retention import ClosedFile, Retention, closed_files
from tracer.store.schemas import TABLES
from tracer.store.writer import file_metadata

_DAMAGED: Final = ".damaged"


@dataclass
class RecoveredRun:
    """A dead run whose journals were looked at.

    rows: recovered, by table. last: of all its rows, UTC. problems: what could not be recovered, and why, a line each.
    """

    run_id: UUID
    node_name: str
    was_killed: bool
    rows: dict[str, int] = field(default_factory=dict)
    last: Instant | None = None
    problems: list[str] = field(default_factory=list)


@dataclass
class Recovery:
    """What became of an output's runs.

    live: those that are running, or that cannot be told from such. problems: of runs that cannot be recovered.
    unwritten: those for which there was no room; they can be recovered later.
    """

    runs: list[RecoveredRun] = field(default_factory=list)
    live: list[UUID] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)


def recover(output: Path, retention: Retention | None = None, *, identifier: str | None = None) -> Recovery:
    """Recover the dead runs of an output, or those of one identifier, within the bound of `retention`.

    Raises UsageError for a directory that cannot be read.
    """
    found = Recovery()
    try:
        with open_below(output, PurePath("runs")) as runs:
            names = sorted(runs.names())
    except FileNotFoundError:
        return found
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(output / 'runs')!r}: {_reason(error)}") from error
    for name in names:
        try:
            run_id = UUID(name)
        except ValueError:
            continue
        if str(run_id) != name:
            continue
        try:
            # It is removed when a run ends well.
            with open_below(output, journal_directory(run_id)):
                pass
        except (OSError, ValueError):
            continue
        try:
            _recover_run(found, output, run_id, retention, identifier)
        except UsageError as error:
            found.problems.append(f"run {name[:8]} cannot be recovered: {error}")
        except OutputError as error:
            found.unwritten.append(f"run {name[:8]} is not recovered yet: {error}")
        except (OSError, ValueError) as error:
            found.problems.append(f"run {name[:8]} cannot be recovered: {_reason(error)}")
    return found


def _recover_run(
    found: Recovery, output: Path, run_id: UUID, retention: Retention | None, identifier: str | None
) -> None:
    manifest = read_manifest(manifest_path(output, run_id))
    if identifier is not None and manifest.host.identifier != identifier:
        return
    lock = RunLock.take(output, run_id)
    if lock is None:
        found.live.append(run_id)
        return
    try:
        # It may have ended, or have been recovered, until just now.
        manifest = read_manifest(manifest_path(output, run_id))
        with open_below(output, journal_directory(run_id)) as directory:
            journals = sorted(name for name in directory.names() if parse_journal_name(name) is not None)
        if manifest.status != "running" and not journals:
            return
        run = RecoveredRun(run_id, manifest.host.node_name, manifest.status == "running")
        partition = partition_value(manifest.host.identifier)
        room = Retention(output, partition, None, "stop") if retention is None else retention
        before = _files_of(output, partition, run_id)
        closed = {JournalName(file.name.relative_path.partition("/")[0], file.name.sequence) for file in before}
        for name in journals:
            _recover_journal(run, output, partition, name, closed, room)
        _write_manifest(run, output, manifest, _files_of(output, partition, run_id), room)
        found.runs.append(run)
    finally:
        lock.close()


def _files_of(output: Path, partition: str, run_id: UUID) -> list[ClosedFile]:
    of_run = f"-{run_id.hex[:8]}-"
    return [file for file in closed_files(output, partition) if of_run in PurePath(file.name.relative_path).name]


def _recover_journal(
    run: RecoveredRun, output: Path, partition: str, name: str, closed: set[JournalName], room: Retention
) -> None:
    """One journal to a closed file. Where it is damaged, what comes before that is recovered, and it is kept aside."""
    parsed = parse_journal_name(name)
    assert parsed is not None
    with open_below(output, journal_directory(run.run_id)) as directory:
        if parsed.table not in TABLES:
            run.problems.append(f"{name}: there is no table {parsed.table!r}; it is kept")
            return
        rows, problem = _read(directory, name, parsed.table)
        if rows is not None and parsed not in closed:
            _close(run, output, partition, parsed, rows, room)
        if problem is None:
            os.unlink(name, dir_fd=directory.descriptor)
        else:
            os.rename(name, name + _DAMAGED, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)
            run.problems.append(f"{name}: {problem}; what comes after that is kept in {name + _DAMAGED}")


def _read(directory: Directory, name: str, table: str) -> tuple[pa.Table | None, str | None]:
    """All rows that can be read, None if none can, and what is wrong with the rest."""
    chunks: list[pa.Table] = []
    problem = None
    try:
        with open_journal(directory, name) as journal:
            for rows in read_frames(journal):
                chunks.append(conform(TABLES[table], rows))
    except (DamagedJournalError, ValueError, pa.ArrowException, OSError) as error:
        problem = _reason(error)
    rows = combine(chunks) if chunks else None
    return (rows if rows is not None and rows.num_rows else None), problem


def _close(run: RecoveredRun, output: Path, partition: str, name: JournalName, rows: pa.Table, room: Retention) -> None:
    table = TABLES[name.table]
    start_ns = pc.min(rows[table.time_column]).value * 1_000
    path = file_path(output, table.name, partition, start_ns, run.run_id, name.sequence)
    room.write_closed_file(path, memoryview(encode(table, rows, file_metadata(table, run.run_id, run.node_name))))
    run.rows[table.name] = run.rows.get(table.name, 0) + rows.num_rows


def _write_manifest(
    run: RecoveredRun, output: Path, manifest: Manifest, files: list[ClosedFile], room: Retention
) -> None:
    """The manifest says then what is there."""
    rows: dict[str, int] = {}
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    last_ns = 0
    for file in files:
        path = file.name.relative_path
        parsed = parse_closed_file(path)
        assert parsed is not None
        name = path.partition("/")[0]
        counts[name] = counts.get(name, 0) + 1
        sizes[name] = sizes.get(name, 0) + file.size
        try:
            metadata = pq.read_metadata(output / path)
        except (OSError, pa.ArrowException) as error:
            run.problems.append(f"{path}: {_reason(error)}")
            continue
        rows[name] = rows.get(name, 0) + metadata.num_rows
        last_ns = max(last_ns, _last_ns(metadata, TABLES[name].time_column))
    recovered = {
        name: manifest.recovered.get(name, 0) + run.rows.get(name, 0) for name in run.rows | manifest.recovered
    }
    totals = msgspec.structs.replace(manifest.totals, rows=rows, files=counts, bytes=sizes)
    if not run.was_killed:
        # What a disk that was full had no room for.
        left = {
            name: count - run.rows.get(name, 0)
            for name, count in totals.rows_lost_by_table.items()
            if count > run.rows.get(name, 0)
        }
        totals = msgspec.structs.replace(totals, rows_lost=sum(left.values()), rows_lost_by_table=left)
    changed = msgspec.structs.replace(manifest, totals=totals, recovered=recovered)
    if last_ns:
        run.last = Instant.of(last_ns)
    if run.was_killed:
        changed = msgspec.structs.replace(
            changed,
            status="crashed",
            exit_reason="killed, or the machine went down",
            end=run.last or manifest.start,
            notes=[*manifest.notes, *run.problems],
        )
    room.write(manifest_path(output, run.run_id), encode_manifest(changed))
    remove_journal_directory(output, run.run_id)


def _last_ns(metadata: pq.FileMetaData, time_column: str) -> int:
    """The last time in a closed file, from its statistics; 0 if it has none."""
    place = metadata.schema.names.index(time_column)
    groups = (metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups))
    times = [group.max for group in groups if group is not None and group.has_min_max]
    return max((int(time.timestamp() * 1_000_000) * 1_000 for time in times), default=0)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
