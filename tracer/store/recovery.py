# SPDX-License-Identifier: Apache-2.0
"""What runs that were killed left in journals becomes closed files, exactly once.

First journals become files, which say that they were recovered; then the manifest says what is there; only then the
journals are removed. So it does not matter where a recovery is itself killed: the next one finds the same, and all that
it needs to know. Runs that are live, by their lock, are left alone.
"""

import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from uuid import UUID

import msgspec
import pyarrow as pa

from tracer.errors import OutputError, UsageError
from tracer.store.checkpoint import read_checkpoint, remove_checkpoint
from tracer.store.closed_files import closed_files, read_facts
from tracer.store.directories import Directory, open_below
from tracer.store.journal import JournalName, parse_journal_name, remove_journal_directory
from tracer.store.journal_rows import read_rows
from tracer.store.layout import IN_PROGRESS, file_path, journal_directory, manifest_path, partition_value
from tracer.store.manifest import Instant, Manifest, Totals, encode_manifest, read_own_manifest
from tracer.store.open_runs import RunLock
from tracer.store.parquet import encode
from tracer.store.recovered_totals import ClosedFile, recovered_rows, totals_with
from tracer.store.retention import Retention
from tracer.store.rows import span_of
from tracer.store.schemas import TABLES
from tracer.store.writer import file_metadata

_DAMAGED: Final = ".damaged"
_RECOVERED: Final = "tracer.recovered"
_READ_AND_WRITE: Final = 0o666
_LONGEST_REASON: Final = 300


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

    live: those that are running, or that another recovery is at. problems: of runs that cannot be recovered.
    unwritten: those that could not be read or written now, as a disk is full; they can be recovered later.
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
            with_journals = [run_id for name in sorted(runs.names()) if (run_id := _run_with_journals(runs, name))]
    except FileNotFoundError:
        return found
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(output / 'runs')!r}: {_reason(error)}") from error
    for run_id in with_journals:
        name = str(run_id)[:8]
        try:
            _recover_run(found, output, run_id, retention, identifier)
        except (OSError, OutputError, MemoryError) as error:
            found.unwritten.append(f"run {name} is not recovered yet: {_reason(error)}")
        except (UsageError, ValueError, ArithmeticError, RecursionError, pa.ArrowException) as error:
            found.problems.append(f"run {name} cannot be recovered: {_reason(error)}")
    return found


def _run_with_journals(runs: Directory, name: str) -> UUID | None:
    """The run whose directory has that name, if it is one; the journals' directory is removed when a run ends well."""
    with suppress(OSError, ValueError):
        run_id = UUID(name)
        status = os.stat(f"{name}/journal", dir_fd=runs.descriptor, follow_symlinks=False)
        if str(run_id) == name and stat.S_ISDIR(status.st_mode):
            return run_id
    return None


def _recover_run(
    found: Recovery, output: Path, run_id: UUID, retention: Retention | None, identifier: str | None
) -> None:
    if identifier is not None and read_own_manifest(output, run_id).host.identifier != identifier:
        return
    try:
        lock = RunLock.take(output, run_id)
    except FileNotFoundError:
        # It has ended just now.
        return
    if lock is None:
        found.live.append(run_id)
        return
    try:
        if not lock.is_of(output, run_id):
            # It has ended, or was recovered, just now.
            return
        manifest = read_own_manifest(output, run_id)
        with open_below(output, journal_directory(run_id)) as directory:
            journals = sorted(name for name in directory.names() if parse_journal_name(name) is not None)
            checkpoint = read_checkpoint(directory)
        if manifest.status != "running" and not journals:
            # The last that a recovery that was killed has left.
            remove_checkpoint(output, run_id)
            remove_journal_directory(output, run_id)
            return
        run = RecoveredRun(run_id, manifest.host.node_name, manifest.status == "running")
        host = manifest.host
        partition = partition_value(host.identifier)
        room = (
            Retention(output, host.identifier, None, "stop", node_name=host.node_name)
            if retention is None
            else retention
        )
        room.mode = _mode(output, run_id)
        closed = {one.name for one in _closed_files(RecoveredRun(run_id, "", False), output, partition)}
        metadata = file_metadata(run_id, host.node_name, host.identifier) | {_RECOVERED: "true"}
        done = [
            one
            for name in journals
            if (one := _recover_journal(run, output, partition, name, closed, metadata, room)) is not None
        ]
        files = _closed_files(run, output, partition)
        run.rows = recovered_rows(files) - Counter(manifest.recovered)
        if run.was_killed or run.rows:
            _write_manifest(run, output, manifest, checkpoint, files, room)
        _put_away(output, run_id, done)
        if run.was_killed or run.rows or run.problems:
            found.runs.append(run)
    finally:
        lock.close()


def _mode(output: Path, run_id: UUID) -> int:
    """Of the run's results, as its manifest has it. Raises OSError and ValueError."""
    path = manifest_path(output, run_id).relative_to(output)
    with open_below(output, path.parent) as directory:
        return os.stat(path.name, dir_fd=directory.descriptor, follow_symlinks=False).st_mode & _READ_AND_WRITE


class _Done(NamedTuple):
    """A journal that is not needed any more, or what is wrong with its end, for which it is kept aside."""

    name: str
    problem: str | None


def _closed_files(run: RecoveredRun, output: Path, partition: str) -> list[ClosedFile]:
    """All that are; the others are in `problems` then."""
    files = []
    of_run = f"-{run.run_id.hex[:8]}-"
    for file in closed_files(output, partition):
        path = PurePath(file.name.relative_path)
        if path.parts[0] not in TABLES or of_run not in path.name:
            continue
        try:
            facts = read_facts(output, path)
            if facts.run_id != str(run.run_id):
                raise ValueError("is of another run than its name says")
        except (OSError, ValueError) as error:
            run.problems.append(f"{path}: {_reason(error)}")
            continue
        name = JournalName(path.parts[0], file.name.sequence)
        last_ns = 0 if facts.span is None else facts.span.last_us * 1_000
        files.append(ClosedFile(name, file.size, facts.rows, last_ns, _RECOVERED in facts.metadata))
    return files


def _recover_journal(
    run: RecoveredRun,
    output: Path,
    partition: str,
    name: str,
    closed: set[JournalName],
    metadata: dict[str, str],
    room: Retention,
) -> _Done | None:
    """One journal to a closed file. Where it is damaged, what comes before that is recovered. None: it is to stay.

    Raises OSError and OutputError.
    """
    parsed = parse_journal_name(name)
    assert parsed is not None
    if parsed.table not in TABLES:
        run.problems.append(f"{name}: there is no table {parsed.table!r}; it is kept")
        return None
    with open_below(output, journal_directory(run.run_id)) as directory:
        try:
            rows, damage = read_rows(directory, name, TABLES[parsed.table])
            if rows is not None and parsed not in closed:
                _close(run, output, partition, parsed, rows, metadata, room)
        except (ValueError, OverflowError, pa.ArrowException) as error:
            run.problems.append(f"{name}: {_reason(error)}; it is kept")
            return None
    problem = None if damage is None else _reason(damage)
    if problem is not None:
        run.problems.append(f"{name}: {problem}; what comes after that is kept in {name + _DAMAGED}")
    return _Done(name, problem)


def _put_away(output: Path, run_id: UUID, journals: list[_Done]) -> None:
    """Removes what is done, and what a manifest that was not written to its end has left. Raises OSError."""
    with open_below(output, journal_directory(run_id).parent) as directory:
        for name in directory.names():
            if name.endswith(IN_PROGRESS):
                os.unlink(name, dir_fd=directory.descriptor)
    with open_below(output, journal_directory(run_id)) as directory:
        for name, problem in journals:
            if problem is None:
                os.unlink(name, dir_fd=directory.descriptor)
            else:
                os.rename(name, name + _DAMAGED, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)
    remove_checkpoint(output, run_id)
    remove_journal_directory(output, run_id)


def _close(
    run: RecoveredRun,
    output: Path,
    partition: str,
    name: JournalName,
    rows: pa.Table,
    metadata: dict[str, str],
    room: Retention,
) -> None:
    table = TABLES[name.table]
    start_ns = span_of(table, rows).first_us * 1_000
    path = file_path(output, table.name, partition, start_ns, run.run_id, name.sequence)
    room.write_closed_file(path, memoryview(encode(table, rows, {**metadata, "tracer.table": table.name})))


def _write_manifest(
    run: RecoveredRun,
    output: Path,
    manifest: Manifest,
    checkpoint: Totals | None,
    files: list[ClosedFile],
    room: Retention,
) -> None:
    """The manifest says then what is there."""
    before = manifest.totals if checkpoint is None else checkpoint
    totals = totals_with(before, files, run.rows, was_killed=run.was_killed)
    recovered = dict(Counter(manifest.recovered) + Counter(run.rows))
    changed = msgspec.structs.replace(manifest, totals=totals, recovered=recovered)
    if last_ns := max((file.last_ns for file in files), default=0):
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


def _reason(error: BaseException) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    # What a library says may be pages; our own names the file.
    is_short = isinstance(error, OutputError) or len(reason) <= _LONGEST_REASON
    return reason if is_short else reason[:_LONGEST_REASON] + "..."
