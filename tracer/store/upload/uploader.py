# SPDX-License-Identifier: Apache-2.0
"""Brings the hours of an output's runs to its object store: first data, then the run's manifest, last the period's.

What is there already is found out there and not sent again, so that it does not matter where an upload ends.
"""

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import BinaryIO, Final, NamedTuple, cast
from uuid import UUID

import msgspec

from tracer.store.directories import open_below
from tracer.store.hours import hour_text
from tracer.store.periods import (
    LONGEST_PERIOD,
    Period,
    PeriodFile,
    decode_period,
    encode_period,
    merged_path,
    period_path,
    session_path,
)
from tracer.store.schemas import TABLES
from tracer.store.upload.merging import DamagedFileError, Merged, Source, merge
from tracer.store.upload.object_store import ObjectStore, UploadError
from tracer.store.upload.sequences import Sequences
from tracer.store.upload.uploads import Uploads
from tracer.store.upload.what_is_here import File, FilesHere, Node, Run, runs_of

_LONGEST_SESSION: Final = 16 * 2**20
# After so many in a row it is not the files.
_MOST_FAILURES: Final = 3


class Left(NamedTuple):
    """Closed files that are not safely uploaded, and their bytes."""

    files: int
    bytes: int


@dataclass
class Uploaded:
    """What was sent: manifests of periods, files, and their bytes and rows."""

    periods: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0


class Uploader:
    """Of one output and URL, for all runs, or those of one node. One thread calls its methods."""

    def __init__(
        self,
        output: Path,
        store: ObjectStore,
        uploads: Uploads,
        *,
        node: Node | None = None,
        pace: Callable[[int], None] = lambda _bytes: None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """pace: see `ObjectStore.put_file`. pause: see `merge`."""
        self.done = Uploaded()
        self._output = output
        self._store = store
        self._uploads = uploads
        self._node = node
        self._pace = pace
        self._pause = pause
        self._here = FilesHere(output)
        self._finished: set[UUID] = set()
        self._failures = 0

    @property
    def damaged(self) -> Mapping[str, str]:
        """Closed files that cannot be read and are passed over, and why."""
        return self._here.damaged

    def upload(self, *, own: UUID | None = None, until_hour: int | None = None) -> UploadError | None:
        """All that is not there yet; what went wrong first, if something did.

        A live run is left alone, but for `own`: of that, hours before `until_hour`, or all where it is over.
        """
        first: UploadError | None = None
        self._failures = 0
        self._here.look_again()
        for run in runs_of(self._output, self._node, own, is_own_over=until_hour is None):
            if run.id in self._finished and not self._uploads.untold(run.id):
                continue
            failure = self._upload_run(run, None if run.is_over else until_hour)
            if failure is None and run.is_over:
                self._finished.add(run.id)
            first = first or failure
            if self._failures >= _MOST_FAILURES:
                break
        return first

    def left(self, *, own: UUID | None = None) -> Left:
        """What is not there yet, of runs that are over and of `own`, without what is damaged."""
        self._here.look_again()
        left = [
            file
            for run in runs_of(self._output, self._node, own, is_own_over=True)
            if run.id not in self._finished
            for file in self._here.closed(run)
            if not self._uploads.is_safe(file.name) and file.name.relative_path not in self.damaged
        ]
        return Left(len(left), sum(file.size for file in left))

    def _upload_run(self, run: Run, until_hour: int | None) -> UploadError | None:
        wanted: dict[int, dict[str, list[File]]] = defaultdict(lambda: defaultdict(list))
        unsafe = []
        for closed in self._here.closed(run):
            if not self._uploads.is_safe(closed.name) and (file := self._here.read(run, closed)) is not None:
                unsafe.append(file)
                for hour in file.hours:
                    if not self._uploads.is_covered(run.id, hour, file.name):
                        wanted[hour][file.name.table].append(file)
        first: UploadError | None = None
        for hour in sorted({*wanted, *self._uploads.untold(run.id)}):
            if (until_hour is not None and hour >= until_hour) or self._failures >= _MOST_FAILURES:
                break
            failure = self._trying(partial(self._upload_period, run, hour, wanted.get(hour, {})))
            first = first or failure
        # It changes with each rotation: of a run that goes on it is there from its beginning, and anew with each hour.
        is_due = run.is_over or not self._uploads.session_sha256(run.id)
        if is_due and self._failures < _MOST_FAILURES:
            failure = self._trying(partial(self._upload_session, run))
            first = first or failure
        self._settle(run, unsafe)
        return first

    def _trying(self, what: Callable[[], None]) -> UploadError | None:
        try:
            what()
        except UploadError as error:
            self._failures += 1
            return error
        self._failures = 0
        return None

    def _upload_period(self, run: Run, hour: int, wanted: Mapping[str, Sequence[File]]) -> None:
        path = period_path(hour, run.partition, run.id)
        known = self._known(path, run)
        files = [] if known is None else list(known.files)
        for file in files:
            # Where nothing here says so any more.
            with suppress(ValueError):
                self._uploads.cover(run.id, hour, file.table, Sequences.parse(file.sources))
        failures: list[UploadError] = []
        covered: dict[str, Sequences] = {}
        is_whole = True
        for table, candidates in sorted(wanted.items()):
            missing = [file for file in candidates if not self._uploads.is_covered(run.id, hour, file.name)]
            try:
                made, covered[table] = self._upload_table(
                    run, hour, table, missing, sum(f.table == table for f in files)
                )
                files += made
                is_whole = is_whole and all(file.name.sequence in covered[table] for file in missing)
            except UploadError as error:
                failures.append(error)
                if len(failures) == _MOST_FAILURES:
                    break
        if failures and len(files) == (0 if known is None else len(known.files)):
            raise failures[0]
        self._upload_session(run)
        lost = self._uploads.lost_of(run.id, hour)
        period = Period(
            node_name=run.host.node_name,
            identifier=run.host.identifier,
            run_id=run.id,
            hour=hour_text(hour),
            files=files,
            complete=is_whole and not failures,
            lost=lost or (known.lost if known is not None and not self._uploads.knows_lost(run.id, hour) else {}),
        )
        if period != known:
            self._store.put(path, encode_period(period))
            self.done.periods += 1
        self._uploads.told(run.id, hour)
        for table, sequences in covered.items():
            self._uploads.cover(run.id, hour, table, sequences)
        if failures:
            raise failures[0]

    def _known(self, path: str, run: Run) -> Period | None:
        """The period's manifest as it is there; None where there is none that can be believed."""
        content = self._store.get(path, LONGEST_PERIOD)
        if content is None:
            return None
        try:
            period = decode_period(content)
        except ValueError:
            return None
        if period.run_id != run.id:
            raise UploadError(f"{path} is of another run", is_lasting=True)
        return period

    def _upload_table(
        self, run: Run, hour: int, table: str, files: Sequence[File], before: int
    ) -> tuple[list[PeriodFile], Sequences]:
        """The files that come of these, `before` being how many there are already, and which of these are in them.

        That is without those that are damaged or gone.
        """
        while files:
            made: list[PeriodFile] = []
            sources = [Source(file.path, file.facts.span) for file in files if file.facts.span is not None]
            merging = merge(
                self._output, TABLES[table], sources, hour, new_file=lambda: self._new_file(run), pause=self._pause
            )
            try:
                for merged in merging:
                    made.append(self._upload_file(run, table, merged, before + len(made)))
            except DamagedFileError as error:
                self._here.damaged[str(error.path)] = error.reason
                files = [file for file in files if file.path != error.path]
            except FileNotFoundError as error:
                there = [file for file in files if (self._output / file.path).exists()]
                if len(there) == len(files):
                    raise UploadError(f"{run.id} is not there any more: {error}", is_lasting=False) from error
                # Retention took the others.
                files = there
            except OSError as error:
                reason = error.strerror or str(error)
                raise UploadError(f"an hour's file cannot be written here: {reason}", is_lasting=False) from error
            else:
                sequences = Sequences.of(file.name.sequence for file in files)
                if made:
                    made[-1] = msgspec.structs.replace(made[-1], sources=str(sequences))
                return made, sequences
        return [], Sequences()

    def _upload_file(self, run: Run, table: str, merged: Merged, sequence: int) -> PeriodFile:
        path = merged_path(table, run.partition, merged.span.first_us, run.id, sequence)
        if self._store.put_file(path, merged.file, merged.size, merged.sha256, self._pace):
            self.done.files += 1
            self.done.bytes += merged.size
            self.done.rows += merged.rows
        return PeriodFile(
            path=path,
            table=table,
            rows=merged.rows,
            bytes=merged.size,
            sha256=merged.sha256,
            first_time_ns=merged.span.first_us * 1_000,
            last_time_ns=merged.span.last_us * 1_000,
        )

    def _upload_session(self, run: Run) -> None:
        """The run's manifest, if it is another than that which is there."""
        path = PurePath(session_path(run.id))
        try:
            with open_below(self._output, path.parent) as directory, directory.open_file(path.name) as file:
                content = file.read(_LONGEST_SESSION)
        except (OSError, ValueError) as error:
            raise UploadError(f"{path} cannot be read here: {error}", is_lasting=False) from error
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != self._uploads.session_sha256(run.id):
            self._store.put(str(path), content)
            with suppress(OSError, ValueError):
                self._uploads.save(run.id, session_sha256=sha256)

    def _settle(self, run: Run, files: Sequence[File]) -> None:
        """Those that are covered whole are safe."""
        needed: set[int] = set()
        for file in files:
            if all(self._uploads.is_covered(run.id, hour, file.name) for hour in file.hours):
                self._uploads.settle(run.id, file.name)
                self._here.forget(file)
            else:
                needed.update(file.hours)
        if files:
            # What is not written down is found out anew.
            with suppress(OSError, ValueError):
                self._uploads.save(run.id, needed_hours=needed)

    def _new_file(self, run: Run) -> BinaryIO:
        """Without a name, so that nothing is left of it, on the file system of the results."""
        return cast(BinaryIO, tempfile.TemporaryFile(dir=self._output / "runs" / str(run.id)))
