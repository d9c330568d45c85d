# SPDX-License-Identifier: Apache-2.0
"""The closed files of output directories: which there are, and which of them can be read.

One that is damaged costs its own rows: it is left out, and `RecordedFiles.notes` name it.
"""

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tracer.analysis.file_checks import DamagedFileError, RecordedFile, open_file, require_rows, run_of
from tracer.errors import UsageError
from tracer.store.layout import IN_PROGRESS, parse_closed_file, partition_value
from tracer.store.manifest import Manifest, read_manifest
from tracer.store.schemas import TABLES

_RUN_DIGITS = 8
_MOST_NAMED = 4


class BrokenFilesError(UsageError):
    """Files turned out to be broken, and are left out from now on: the same question has an answer now."""


class RecordedFiles:
    """All closed files of `directories`, each once; `notes` say what else lies there, for people.

    `runs` are those whose files alone are taken, by directory: the beginnings, of 8 digits, of their ids; None: all.
    `identifiers` are those of the nodes or pods whose files alone are taken, as they were given; none: all. Raises
    UsageError for a directory that holds no recording, or none of theirs.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        runs: Sequence[Collection[str] | None] | None = None,
        identifiers: Collection[str] = (),
    ) -> None:
        self._directories = directories
        self._notes: list[str] = []
        self._left_out: dict[Path, str] = {}
        self._paths: dict[str, list[Path]] = {}
        self._opened: dict[str, list[RecordedFile]] = {}
        seen: set[str] = set()
        copies = unfinished = 0
        partitions = {f"identifier={partition_value(one)}" for one in identifiers}
        others: set[str] = set()
        for directory, chosen in zip(directories, runs or [None] * len(directories), strict=True):
            closed, in_progress, unreadable = closed_files(directory)
            self._left_out |= unreadable
            if not closed:
                why = self._what_is_left_out() if unreadable else _why_none(directory, in_progress)
                raise UsageError(f"{str(directory)!r} holds no recording of `tracer run`: {why}")
            unfinished += in_progress
            for name in closed:
                if chosen is not None and run_of(name) not in chosen:
                    continue
                if partitions and (whose := name.split("/")[2]) not in partitions:
                    others.add(whose.removeprefix("identifier="))
                    continue
                # The run's id is in the name, so what has the same name is a copy.
                if name in seen:
                    copies += 1
                    continue
                seen.add(name)
                self._paths.setdefault(name.split("/")[0], []).append(directory / name)
        if partitions and not seen:
            raise UsageError(f"nothing is recorded of {', '.join(identifiers)}; there are {some_of(others)}")
        if unfinished:
            self._notes.append(f"not read: {unfinished} files that are still being written, or were when a run died")
        if copies:
            self._notes.append(f"read once: {copies} files that lie in more than one of the directories")

    @property
    def notes(self) -> list[str]:
        """What was left out so far, and why, for people."""
        return self._notes + ([f"left out: {self._what_is_left_out()}"] if self._left_out else [])

    def _what_is_left_out(self) -> str:
        path, reason = next(iter(self._left_out.items()))
        first = f"{str(path)!r} {reason}"
        return first if len(self._left_out) == 1 else f"{len(self._left_out)} files, the first: {first}"

    @property
    def runs(self) -> set[str]:
        """The beginnings, of 8 digits, of the ids of all runs that left a file."""
        return {run_of(path.name) for paths in self._paths.values() for path in paths}

    def of(self, table: str) -> list[RecordedFile]:
        """The files of `table` that can be read, in the order of their names. Reads each footer once."""
        if table not in self._opened:
            files = []
            seen = set()
            for path in self._paths.get(table, []):
                try:
                    file = open_file(path, TABLES[table])
                except DamagedFileError as error:
                    self._left_out[path] = str(error)
                    continue
                # Under another name, in the same directory.
                facts = (file.run, file.node_name, file.span, file.rows, file.size)
                if file.span and facts in seen:
                    self._left_out[path] = "is a copy of another file"
                    continue
                seen.add(facts)
                files.append(file)
            self._opened[table] = files
        return self._opened[table]

    def by_run(self) -> dict[str, "RecordedFiles"]:
        """Those of each run that can be read, by the beginning of its id; what is noted of all is not noted there."""
        parts: dict[str, RecordedFiles] = {}
        for table in TABLES:
            for file in self.of(table):
                if file.run not in parts:
                    parts[file.run] = RecordedFiles(())
                    parts[file.run]._opened = {name: [] for name in TABLES}
                parts[file.run]._opened[table].append(file)
        return parts

    def leave_out_broken(self) -> bool:
        """Reads the files that were opened, whole, and leaves out those that cannot be; False if all can be."""
        before = len(self._left_out)
        for table, files in self._opened.items():
            self._opened[table] = [file for file in files if self._has_its_rows(file)]
        return len(self._left_out) > before

    def why_none(self) -> str:
        """Why there is not one row, for people."""
        if self._left_out:
            return f"nothing can be read: {self._what_is_left_out()}"
        return "the recording has files, but not one row: nothing was measured"

    def manifests(self, runs: set[str]) -> list[Manifest]:
        """The manifests of `runs`, which are the beginnings of their ids, by start; without those that are damaged."""
        manifests = {}
        for directory in self._directories:
            for path in sorted(directory.glob("runs/*/session.json")):
                if path.parent.name[:_RUN_DIGITS] not in runs:
                    continue
                try:
                    manifest = read_manifest(path)
                except UsageError as error:
                    self._left_out[path] = f"cannot be used: {error}"
                    continue
                if str(manifest.run_id) != path.parent.name:
                    self._left_out[path] = "is of another run than its directory"
                    continue
                manifests[manifest.run_id] = manifest
        return sorted(manifests.values(), key=lambda manifest: manifest.start.utc_ns)

    def _has_its_rows(self, file: RecordedFile) -> bool:
        try:
            require_rows(file)
        except DamagedFileError as error:
            self._left_out[file.path] = str(error)
            return False
        return True


def some_of(names: Collection[str]) -> str:
    """A few of them, and how many more there are."""
    first = sorted(names)[:_MOST_NAMED]
    more = len(names) - len(first)
    return ", ".join(first + ([f"{more} more"] if more else [])) or "none"


def closed_files(directory: Path) -> tuple[list[str], int, dict[Path, str]]:
    """The closed files in `directory`, as relative paths, the number of unfinished ones, and what cannot be read there.

    Raises UsageError for what is no directory.
    """
    try:
        mode = directory.stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read {str(directory)!r}: {reason}") from error
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{str(directory)!r} is not a directory that `tracer run --output` wrote")
    unreadable: dict[Path, str] = {}
    found = sorted(
        str(path.relative_to(directory))
        for table in _entries(directory, "", unreadable)
        if table.name in TABLES
        for day in _entries(table, "dt=", unreadable)
        for identifier in _entries(day, "identifier=", unreadable)
        for path in _entries(identifier, "", unreadable)
    )
    unfinished = sum(name.endswith(IN_PROGRESS) for name in found)
    return [name for name in found if parse_closed_file(name)], unfinished, unreadable


def _entries(directory: Path, prefix: str, unreadable: dict[Path, str]) -> Iterator[Path]:
    """Of a directory that may be unreadable, or none, or gone by now."""
    try:
        with os.scandir(directory) as entries:
            yield from [directory / entry.name for entry in entries if entry.name.startswith(prefix)]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        unreadable[directory] = f"cannot be read: {error.strerror}"


def _why_none(directory: Path, unfinished: int) -> str:
    if unfinished:
        return f"its {unfinished} files are all unfinished (*{IN_PROGRESS})"
    if any(directory.glob("runs/*/session.json")):
        return "a run began there, but no file was closed yet: if it was killed, `tracer recover` has its rows"
    return "no <table>/dt=<day>/identifier=<name>/*.parquet in it"
