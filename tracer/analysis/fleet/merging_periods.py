# SPDX-License-Identifier: Apache-2.0
"""A part of an hour's periods, put together on whichever machine this runs on."""

import hashlib
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from tracer.analysis.fleet.hour_sums import sums_of, write_sums
from tracer.analysis.fleet.merging import Merged, Piece, described, merge
from tracer.analysis.objects.finding import path_of
from tracer.analysis.objects.store import ObjectStore
from tracer.errors import UsageError
from tracer.store.compactions import CompactedFile, compacted_path, hour_start
from tracer.store.periods import Period, PeriodFile
from tracer.store.schemas import TABLES

_AHEAD: Final = 8


class Part(NamedTuple):
    """`periods` of one hour, from the one object store (a URL) to the other, in files of about `size` bytes."""

    source: str
    target: str
    hour: int
    periods: Sequence[Period]
    size: int


def merge_part(part: Part) -> list[CompactedFile]:
    """Writes the files of all tables, and the hour's sums. No manifest names them yet.

    Raises UsageError for what cannot be read, OutputError for what cannot be written.
    """
    store, target = ObjectStore(part.source), ObjectStore(part.target)
    hour, periods = part.hour, part.periods
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
            for sequence, merged in enumerate(merge(table, _fetched(store, files, directory), directory, part.size)):
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
