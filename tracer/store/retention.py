# SPDX-License-Identifier: Apache-2.0
"""How much of the disk an output may take, and what goes when there is no room.

Only closed files that carry our naming and the run's identifier are ever removed, the oldest first, of all
tables and runs. Sizes are the files' lengths; manifests and files in progress are not counted.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from tracer.errors import OutputError
from tracer.store.directories import Directory, open_below, open_directory
from tracer.store.files import remove_below, write_atomically
from tracer.store.layout import ClosedFileName, parse_closed_file

OnFull = Literal["delete-oldest", "stop"]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, order=True)
class ClosedFile:
    """A closed file and its length in bytes; they sort from old to new."""

    name: ClosedFileName
    size: int


def closed_files(output: Path, partition: str) -> list[ClosedFile]:
    """The closed files of one identifier under all tables, oldest first, without what vanishes meanwhile."""
    files: list[ClosedFile] = []
    with contextlib.suppress(OSError, ValueError), open_directory(output) as top:
        for table in _children(top):
            with table:
                for day in _children(table, "dt="):
                    with day, contextlib.suppress(OSError), day.child(f"identifier={partition}") as directory:
                        files += _files_in(directory, PurePath(*directory.path.parts[-3:]))
    return sorted(files)


class Retention:
    """Writes the files of one identifier within its bound.

    `keep_bytes` bounds the sum of closed files (None: no bound). When a file would exceed it, or the file
    system is full, `delete-oldest` removes the oldest closed files first, and `stop` gives up.
    """

    def __init__(self, output: Path, partition: str, keep_bytes: int | None, on_full: OnFull) -> None:
        self._output = output
        self._partition = partition
        self._keep_bytes = keep_bytes
        self._on_full = on_full
        self.files_removed = 0

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
            try:
                return write_atomically(self._output, path.relative_to(self._output), payload)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error
                if self.free_space(len(payload)):
                    continue
                full = f"the file system of {str(self._output)!r} is full ({error.strerror})"
                if self._on_full == "stop":
                    hint = "let `tracer run` remove old results (--on-full delete-oldest)"
                    raise OutputError(f"{full}; free space, or {hint}") from error
                raise OutputError(f"{full} and no older result is left to remove; free space") from error

    def free_space(self, needed_bytes: int) -> bool:
        """Remove the oldest closed files of a file system that is full, if that is wanted; False if nothing went."""
        if self._on_full == "stop":
            return False
        return self._remove_oldest(closed_files(self._output, self._partition), needed_bytes) > 0

    def _make_room(self, incoming_bytes: int, keep_bytes: int) -> None:
        files = closed_files(self._output, self._partition)
        excess = sum(file.size for file in files) + incoming_bytes - keep_bytes
        if excess <= 0:
            return
        if self._on_full == "stop":
            raise OutputError(
                f"{str(self._output)!r} is full: the next file's {incoming_bytes} bytes would exceed --keep "
                f"({keep_bytes} bytes); raise it, remove old results, or use --on-full delete-oldest"
            )
        if incoming_bytes > keep_bytes:
            raise OutputError(f"--keep is {keep_bytes} bytes, less than the next file's {incoming_bytes}; raise --keep")
        if self._remove_oldest(files, excess) < excess:
            raise OutputError(f"cannot remove old results in {str(self._output)!r}; --keep cannot be held")

    def _remove_oldest(self, files: list[ClosedFile], needed_bytes: int) -> int:
        """Remove files in order until `needed_bytes` are free or none is left. Returns the bytes freed."""
        freed_bytes = 0
        for file in files:
            if freed_bytes >= needed_bytes:
                break
            path = PurePath(file.name.relative_path)
            try:
                remove_below(self._output, path)
                self.files_removed += 1
            except FileNotFoundError:
                pass  # removed by somebody else, so its space is free all the same
            except OSError:
                continue
            freed_bytes += file.size
            with contextlib.suppress(OSError):  # not empty
                for directory in (path.parent, path.parent.parent):
                    with open_below(self._output, directory.parent) as above:
                        os.rmdir(directory.name, dir_fd=above.descriptor)
        return freed_bytes


def _children(above: Directory, prefix: str = "") -> Iterator[Directory]:
    """Its directories whose names begin so, but for those that are not followed; to be closed."""
    for name in above.names():
        if name.startswith(prefix):
            with contextlib.suppress(OSError):
                yield above.child(name)


def _files_in(directory: Directory, relative_path: PurePath) -> Iterator[ClosedFile]:
    for name in directory.names():
        parsed = parse_closed_file(str(relative_path / name))
        if parsed is None:
            continue
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield ClosedFile(parsed, status.st_size)
