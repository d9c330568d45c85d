# SPDX-License-Identifier: Apache-2.0
"""`tracer fleet compact`: the periods of an hour of all nodes, put together; each once, whatever comes in between."""

import contextlib
import hashlib
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from tracer.analysis.fleet.hour_sums import HOUR_SUMS, sums_of, write_sums
from tracer.analysis.fleet.merging import Merged, Piece, described, merge
from tracer.analysis.fleet.processors import models_of_runs
from tracer.analysis.objects.compactions import read_compaction
from tracer.analysis.objects.finding import Found, path_of
from tracer.analysis.objects.store import ObjectStore
from tracer.errors import UsageError
from tracer.store.compactions import (
    CompactedFile,
    Compaction,
    Source,
    compacted_directory,
    compacted_path,
    compaction_path,
    hour_start,
)
from tracer.store.hours import hour_text, parse_hour
from tracer.store.periods import Period, PeriodFile, session_path
from tracer.store.schemas import TABLES

_AHEAD: Final = 8


class Compacted(NamedTuple):
    """What was done with an hour: how many periods and files became how many files, of how many rows and bytes.

    `left` are periods whose hour was not over when they were uploaded, `known` those that were there already, and
    `deleted` says whether what they were made of is gone. `registered`: how many files were told to a catalogue.
    """

    hour: str
    periods: int
    files_before: int
    bytes_before: int
    files: int
    bytes: int
    rows: int
    left: int
    known: int
    deleted: bool
    registered: int = 0


def compact(
    found: Found,
    target: ObjectStore,
    *,
    size: int,
    delete: bool,
    register: Callable[[ObjectStore, Compaction], int] | None = None,
    say: Callable[[str, int, int], None] | None = None,
) -> Iterator[Compacted]:
    """Each hour of `found`, to `target`, in files of about `size` bytes; with `delete`, their originals are removed.

    `register` is called with what there is of each hour, also of one of which nothing is new, before originals go.

    Raises UsageError for what cannot be read, OutputError for what cannot be written.
    """
    hours: dict[int, list[Period]] = {}
    for period in found.periods:
        hours.setdefault(parse_hour(period.hour), []).append(period)
    for number, (hour, periods) in enumerate(sorted(hours.items())):
        if say is not None:
            say(hour_text(hour), number, len(hours))
        yield _compact_hour(found.store, target, hour, periods, size=size, delete=delete, register=register)


def _compact_hour(
    store: ObjectStore,
    target: ObjectStore,
    hour: int,
    periods: Sequence[Period],
    *,
    size: int,
    delete: bool,
    register: Callable[[ObjectStore, Compaction], int] | None,
) -> Compacted:
    after = before = read_compaction(target, hour) or Compaction(hour=hour_text(hour), sources=[], files=[])
    known = {source.path for source in before.sources}
    complete = [period for period in periods if period.complete]
    new = sorted(
        (period for period in complete if path_of(period) not in known), key=lambda one: (one.node_name, one.run_id.hex)
    )
    files = _merged(store, target, hour, new, size) if new else []
    if new:
        models = models_of_runs(store, {period.node_name: period.run_id for period in new})[0]
        sources = [
            Source(
                path=path_of(period), node_name=period.node_name, identifier=period.identifier, run_id=period.run_id,
                cpu_model=models.get(period.node_name), lost=period.lost,
            )
            for period in new
        ]  # fmt: skip
        after = Compaction(hour=before.hour, sources=[*before.sources, *sources], files=[*before.files, *files])
        _copy_sessions(store, target, {period.run_id for period in new})
        target.write(compaction_path(hour), msgspec.json.encode(after) + b"\n")
        _remove_unnamed(target, hour, after)
    registered = 0 if register is None else register(target, after)
    if delete:
        for period in complete:
            # Its manifest first: nobody looks for the files then.
            store.delete([path_of(period)])
            store.delete([file.path for file in period.files])
    return Compacted(
        hour=before.hour,
        periods=len(new),
        files_before=sum(len(period.files) for period in new),
        bytes_before=sum(file.bytes for period in new for file in period.files),
        files=sum(file.table in TABLES for file in files),
        bytes=sum(file.bytes for file in files),
        rows=sum(file.rows for file in files if file.table in TABLES),
        left=len(periods) - len(complete),
        known=len(complete) - len(new),
        deleted=delete,
        registered=registered,
    )


def _copy_sessions(store: ObjectStore, target: ObjectStore, runs: set[UUID]) -> None:
    """The manifests of runs too, as far as they are there: they tell what the rows do not."""

    def copy(path: str) -> None:
        with contextlib.suppress(UsageError):
            target.write(path, store.read(path))

    if store.url != target.url:
        for _done in store.of_each(copy, [session_path(run_id) for run_id in runs]):
            pass


def _merged(
    store: ObjectStore, target: ObjectStore, hour: int, periods: Sequence[Period], size: int
) -> list[CompactedFile]:
    digest = hashlib.sha256("\n".join(map(path_of, periods)).encode()).hexdigest()[:8]
    written = []
    span = (hour_start(hour), hour_start(hour + 1))
    with tempfile.TemporaryDirectory(prefix="tracer-") as name:
        directory = Path(name)
        for table in TABLES.values():
            files = [
                (period, file)
                for period in periods
                for file in sorted(period.files, key=lambda one: (one.first_time_ns, one.path))
                if file.table == table.name
            ]
            sums = []
            for sequence, merged in enumerate(merge(table, _fetched(store, files, directory), directory, size)):
                if (of_file := sums_of(table.name, merged.path, *span)) is not None:
                    sums.append(of_file)
                written.append(_put(target, table.name, compacted_path(table.name, hour, digest, sequence), merged))
            if sums:
                path = directory / "sums"
                of = write_sums(table.name, sums, span[0], path)
                merged = described(path, sum(map(len, sums)), *(_us(moment) for moment in span))
                written.append(_put(target, of.name, compacted_path(of.name, hour, digest, 0), merged))
    return written


def _fetched(store: ObjectStore, files: Sequence[tuple[Period, PeriodFile]], directory: Path) -> Iterator[Piece]:
    """The files on this machine, in order, a few ahead of whoever reads them; each is what its manifest says."""

    def fetch(number: int) -> Path:
        path = directory / f"{number}.fetched"
        store.copy(files[number][1].path, path)
        with path.open("rb") as copy:
            if hashlib.file_digest(copy, "sha256").hexdigest() != files[number][1].sha256:
                raise UsageError(f"{store.url}/{files[number][1].path} is not what its manifest says: other bytes")
        return path

    with ThreadPoolExecutor(_AHEAD) as pool:
        coming: deque[Future[Path]] = deque()
        try:
            for number, (period, file) in enumerate(files):
                while len(coming) < _AHEAD and number + len(coming) < len(files):
                    coming.append(pool.submit(fetch, number + len(coming)))
                yield Piece(
                    path=coming.popleft().result(),
                    name=f"{store.url}/{file.path}",
                    identifier=period.identifier,
                    run_id=str(period.run_id),
                    rows=file.rows,
                )
        finally:
            pool.shutdown(cancel_futures=True)


def _put(target: ObjectStore, table: str, path: str, merged: Merged) -> CompactedFile:
    target.write(path, merged.path)
    merged.path.unlink()
    return CompactedFile(
        path=path,
        table=table,
        rows=merged.rows,
        bytes=merged.bytes,
        sha256=merged.sha256,
        first_time_ns=merged.first_us * 1_000,
        last_time_ns=merged.last_us * 1_000,
    )


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**6


def _remove_unnamed(target: ObjectStore, hour: int, compaction: Compaction) -> None:
    """What was written of that hour by one that did not come to its manifest."""
    named = {file.path for file in compaction.files}
    for table in (*TABLES, *HOUR_SUMS):
        directory = compacted_directory(table, hour)
        target.delete([path for name in target.list(directory).objects if (path := f"{directory}/{name}") not in named])
