# SPDX-License-Identifier: Apache-2.0
"""How much of the disk an output may take, and what goes when there is no room.

Only closed files that carry our naming and say themselves that they are this node's, with the run's identifier, are
ever removed, the oldest first, of all tables and runs. Several nodes may write to one output, also with one identifier;
what another node wrote is neither counted nor removed, nor is what cannot be read. Sizes are the files' lengths;
manifests and files in progress are not counted.
"""

import contextlib
import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final, Literal, Self
from uuid import UUID

from tracer.errors import OutputError
from tracer.store.closed_files import ClosedFile, FileFacts, closed_files, read_facts, rows_by_hour
from tracer.store.directories import FILE_MODE, open_below, open_directory
from tracer.store.files import remove_below, write_atomically
from tracer.store.gone import Gone, TimeSpan
from tracer.store.hours import hour_of
from tracer.store.layout import partition_value
from tracer.store.upload.uploads import Uploads

OnFull = Literal["delete-oldest", "stop"]

_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT)
_SPARE_BYTES: Final = 2**20


class CannotWriteError(OutputError):
    """A file that could not be written; `reason` is why, in few words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Removed:
    """What a retention removed: `files` and `gone` of any run, `own` of the run that it is for.

    before_upload: rows of any run that are in no object store either, where they were meant to be.
    """

    files: int = 0
    gone: Gone = field(default_factory=Gone)
    own_files: int = 0
    own_bytes: int = 0
    own: Gone = field(default_factory=Gone)
    before_upload: Gone = field(default_factory=Gone)

    def __add__(self, other: Self) -> "Removed":
        return Removed(
            self.files + other.files,
            self.gone + other.gone,
            self.own_files + other.own_files,
            self.own_bytes + other.own_bytes,
            self.own + other.own,
            self.before_upload + other.before_upload,
        )


class Retention:
    """Writes the files of one node and identifier within their bound.

    `keep_bytes` bounds the sum of closed files (None: no bound). When a file would exceed it, or the file
    system is full, `delete-oldest` removes the oldest closed files first, and `stop` gives up. `run_id`: the run that
    writes, if one does. `removed_when_full` hears how many files a full file system cost, and of what time they were.
    With `uploads`, what is safely uploaded goes first, and the rest only where that is not enough.
    """

    def __init__(
        self,
        output: Path,
        identifier: str,
        keep_bytes: int | None,
        on_full: OnFull,
        *,
        node_name: str,
        run_id: UUID | None = None,
        removed_when_full: Callable[[int, TimeSpan | None], None] = lambda _files, _span: None,
        mode: int = FILE_MODE,
        uploads: Uploads | None = None,
    ) -> None:
        self.mode = mode
        """Of the files that are written."""
        self.removed = Removed()
        self.longest_write_ns = 0
        """Of one file, with its sync, until somebody sets it to 0."""
        self._output = output
        self._partition = partition_value(identifier)
        self._identifier = identifier_in_files(identifier)
        self._keep_bytes = keep_bytes
        self._on_full = on_full
        self._node_name = node_name
        self._run_id = run_id
        self._removed_when_full = removed_when_full
        self._uploads = uploads
        # Runs of which a file says that it is this node's, by the first digits of their ids.
        self._runs: set[str] = set() if run_id is None else {run_id.hex[:8]}
        self._strangers: set[str] = set()

    def write_closed_file(self, path: Path, payload: bytes | memoryview) -> None:
        """Write a file that counts towards the bound. Raises OutputError; then nothing of it is there."""
        if self._keep_bytes is not None:
            self._make_room(len(payload), self._keep_bytes)
        self.write(path, payload)

    def write(self, path: Path, payload: bytes | memoryview) -> None:
        """Write a file that does not count towards the bound.

        Raises OutputError; then nothing of it is there, and an older file of that name is as it was.
        """
        while True:
            begun = time.monotonic_ns()
            try:
                return write_atomically(self._output, path.relative_to(self._output), payload, mode=self.mode)
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
                if not isinstance(error, OSError) or error.errno not in _NO_SPACE:
                    raise CannotWriteError(f"cannot write {str(path)!r}: {reason}", reason) from error
                if self.free_space(error, len(payload)):
                    continue
                full = f"the file system of {str(self._output)!r} is full ({reason})"
                what = (
                    "; free space, or let `tracer run` remove old results (--on-full delete-oldest)"
                    if self._on_full == "stop"
                    else " and no older result is left to remove that would help; free space"
                )
                raise CannotWriteError(full + what, reason) from error
            finally:
                self.longest_write_ns = max(self.longest_write_ns, time.monotonic_ns() - begun)

    def free_space(self, error: OSError, needed_bytes: int) -> bool:
        """Remove the oldest closed files where `error` says that there is no room, if that is wanted.

        False if nothing went: where there is room by the file system's own account, what it lies on is full, and to
        remove files does not help.
        """
        if error.errno not in _NO_SPACE or self._on_full == "stop":
            return False
        if error.errno == errno.ENOSPC and self._has_room(needed_bytes):
            return False
        freed_bytes, removed = self._remove_oldest(self._own_files(), needed_bytes)
        if removed.files:
            self._removed_when_full(removed.files, removed.gone.span)
        return freed_bytes > 0

    def _has_room(self, needed_bytes: int) -> bool:
        """For ten such files, with room for what the file system itself needs."""
        with contextlib.suppress(OSError, ValueError), open_directory(self._output) as directory:
            status = os.fstatvfs(directory.descriptor)
            room = status.f_bavail * status.f_frsize
            # Where nothing is said of inodes, there is no bound on them.
            return room > 10 * needed_bytes + _SPARE_BYTES and (status.f_favail > 10 or not status.f_files)
        return False

    def _own_files(self) -> list[ClosedFile]:
        """Those of runs of which one file at least says that it is this node's; the oldest first."""
        files = closed_files(self._output, self._partition)
        self._strangers.intersection_update(file.name.relative_path for file in files)
        return [file for file in files if file.name.run in self._runs or self._facts_of_own(file) is not None]

    def _facts_of_own(self, file: ClosedFile) -> FileFacts | None:
        """What a file says of itself; None if that is not that this node wrote it, or nothing, or it cannot be read."""
        path = file.name.relative_path
        if path in self._strangers:
            return None
        try:
            facts = read_facts(self._output, PurePath(path))
        except OSError:
            # Which may be otherwise the next time.
            return None
        except ValueError:
            facts = None
        if (
            facts is None
            or facts.node_name != self._node_name
            or facts.identifier not in (None, self._identifier)
            or not facts.run_id.startswith(file.name.run)
        ):
            self._strangers.add(path)
            return None
        self._runs.add(file.name.run)
        return facts

    def _make_room(self, incoming_bytes: int, keep_bytes: int) -> None:
        files = self._own_files()
        excess = sum(file.size for file in files) + incoming_bytes - keep_bytes
        if excess <= 0:
            return
        if self._on_full == "stop":
            raise CannotWriteError(
                f"{str(self._output)!r} is full: the next file's {incoming_bytes} bytes would exceed --keep "
                f"({keep_bytes} bytes); raise it, remove old results, or use --on-full delete-oldest",
                "--keep is reached",
            )
        if incoming_bytes > keep_bytes:
            raise CannotWriteError(
                f"--keep is {keep_bytes} bytes, less than the next file's {incoming_bytes}; raise --keep",
                f"--keep is less than a file's {incoming_bytes} bytes",
            )
        freed_bytes, _removed = self._remove_oldest(files, excess)
        if freed_bytes < excess:
            reason = f"cannot remove old results in {str(self._output)!r}; --keep cannot be held"
            raise CannotWriteError(reason, reason)

    def _remove_oldest(self, files: list[ClosedFile], needed_bytes: int) -> tuple[int, Removed]:
        """Remove files in order until `needed_bytes` are free or none is left; the bytes that are free now, and how."""
        freed_bytes = 0
        removed = Removed()
        if self._uploads is not None:
            # Which keeps the order otherwise.
            files = sorted(files, key=self._is_unsafe)
        for file in files:
            if freed_bytes >= needed_bytes:
                break
            path = PurePath(file.name.relative_path)
            facts = self._facts_of_own(file)
            if facts is None:
                if not (self._output / path).exists():
                    freed_bytes += file.size  # removed by somebody else, so its space is free all the same
                continue
            hours = self._hours_not_uploaded(file, facts)
            try:
                remove_below(self._output, path)
                self._count(removed, file, facts)
                if self._uploads is not None and hours and facts.span is not None:
                    lost = self._uploads.lose(file.name, UUID(facts.run_id), hours)
                    if lost:
                        removed.before_upload.add(file.name.table, lost, facts.span)
            except FileNotFoundError:
                pass
            except OSError:
                continue
            freed_bytes += file.size
            with contextlib.suppress(OSError):  # not empty
                for directory in (path.parent, path.parent.parent):
                    with open_below(self._output, directory.parent) as above:
                        os.rmdir(directory.name, dir_fd=above.descriptor)
        # At once, for who reads it meanwhile.
        self.removed += removed
        return freed_bytes, removed

    def _is_unsafe(self, file: ClosedFile) -> bool:
        return self._uploads is not None and not self._uploads.is_safe(file.name)

    def _hours_not_uploaded(self, file: ClosedFile, facts: FileFacts) -> dict[int, int]:
        """Rows by hour of a file that is not safe."""
        if facts.span is None or not self._is_unsafe(file):
            return {}
        with contextlib.suppress(OSError, ValueError):
            return rows_by_hour(self._output, PurePath(file.name.relative_path))
        # What cannot be read is told as of the hour of its first row.
        return {hour_of(facts.span.first_us): facts.rows}

    def _count(self, removed: Removed, file: ClosedFile, facts: FileFacts) -> None:
        removed.files += 1
        is_own = self._run_id is not None and facts.run_id == str(self._run_id)
        if is_own:
            removed.own_files += 1
            removed.own_bytes += file.size
        if facts.span is not None:
            for gone in (removed.gone, *((removed.own,) if is_own else ())):
                gone.add(file.name.table, facts.rows, facts.span)


def identifier_in_files(identifier: str) -> str:
    """As files say it of themselves, and as the manifest does: text, whatever bytes it was given as."""
    return identifier.encode("utf-8", "backslashreplace").decode("utf-8")
