# SPDX-License-Identifier: Apache-2.0
"""The runs of an output, and their closed files, as an upload looks at them."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Final, NamedTuple
from uuid import UUID

from tracer.errors import UsageError
from tracer.store.closed_files import ClosedFile, FileFacts, closed_files, read_facts
from tracer.store.directories import open_below
from tracer.store.hours import hours_of
from tracer.store.layout import ClosedFileName, partition_value
from tracer.store.manifest import Host, read_own_manifest
from tracer.store.open_runs import is_open
from tracer.store.schemas import TABLES

# A closed file has rows of one day.
_MOST_HOURS: Final = 24


class Node(NamedTuple):
    """Whose runs are meant where several write to one output."""

    name: str
    identifier: str


class Run(NamedTuple):
    """is_over: it has no rows still to come."""

    id: UUID
    host: Host
    partition: str
    is_over: bool


class File(NamedTuple):
    """A closed file that can be read, as far as its end says."""

    name: ClosedFileName
    path: PurePath
    size: int
    facts: FileFacts

    @property
    def hours(self) -> range:
        """Those of which it may have rows."""
        return range(0) if self.facts.span is None else hours_of(self.facts.span)


def runs_of(output: Path, node: Node | None, own: UUID | None, *, is_own_over: bool) -> Iterator[Run]:
    """Those that are over, and `own`; without those whose manifest cannot be read."""
    for run_id in _run_ids(output):
        if run_id != own and is_open(output, run_id):
            continue
        with suppress(UsageError):
            host = read_own_manifest(output, run_id).host
            if node in (None, Node(host.node_name, host.identifier)):
                yield Run(run_id, host, partition_value(host.identifier), is_own_over or run_id != own)


class FilesHere:
    """Looks at each file once. `damaged`: those that cannot be read, by their paths below the output, and why."""

    def __init__(self, output: Path) -> None:
        self.damaged: dict[str, str] = {}
        self._output = output
        self._facts: dict[str, FileFacts] = {}
        self._by_run: dict[str, dict[str, list[ClosedFile]]] = {}

    def look_again(self) -> None:
        """Which files there are is to be found out anew."""
        self._by_run.clear()

    def closed(self, run: Run) -> list[ClosedFile]:
        """By their names, the oldest first."""
        if run.partition not in self._by_run:
            by_run = defaultdict(list)
            for file in closed_files(self._output, run.partition):
                if file.name.table in TABLES:
                    by_run[file.name.run].append(file)
            self._by_run[run.partition] = by_run
        return self._by_run[run.partition].get(run.id.hex[:8], [])

    def read(self, run: Run, file: ClosedFile) -> File | None:
        """None for one that cannot be read, is gone, or is of another run."""
        path = file.name.relative_path
        if path in self.damaged:
            return None
        if path not in self._facts:
            try:
                facts = read_facts(self._output, PurePath(path))
                if facts.span is not None and len(hours_of(facts.span)) > _MOST_HOURS:
                    raise ValueError("it has rows of more than a day")
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                self.damaged[path] = (error.strerror if isinstance(error, OSError) else None) or str(error)
                return None
            self._facts[path] = facts
        facts = self._facts[path]
        return File(file.name, PurePath(path), file.size, facts) if facts.run_id == str(run.id) else None

    def forget(self, file: File) -> None:
        """It is not asked for again."""
        self._facts.pop(file.name.relative_path, None)


def _run_ids(output: Path) -> list[UUID]:
    found = []
    with suppress(OSError, ValueError), open_below(output, PurePath("runs")) as runs:
        for name in sorted(runs.names()):
            with suppress(ValueError):
                if str(UUID(name)) == name:
                    found.append(UUID(name))
    return found
