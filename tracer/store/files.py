# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete and on disk, or not there."""

import contextlib
import errno
import os
from pathlib import Path
from typing import BinaryIO

from tracer.store.layout import IN_PROGRESS

_ATTEMPTS = 10


def write_atomically(path: Path, payload: bytes | memoryview) -> None:
    """Write `payload` to `path`: under another suffix, synced, renamed, the directory synced.

    Makes the directories. After a crash at any point `path` is as it was before, or complete.
    Raises OSError; then no file in progress is left behind.
    """
    in_progress = path.with_name(path.name + IN_PROGRESS)
    file = _create(in_progress)
    try:
        with file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        in_progress.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            in_progress.unlink()
        raise
    _sync_directory(path.parent)


def make_directories(directory: Path) -> None:
    """Make `directory` and what is missing above it, each entry synced. Raises OSError."""
    if directory.is_dir():
        return
    make_directories(directory.parent)
    try:
        directory.mkdir()
    except FileExistsError:
        if not directory.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
    _sync_directory(directory.parent)


def _create(path: Path) -> BinaryIO:
    """Open a new file for writing, in a directory that is made if needed."""
    for _ in range(_ATTEMPTS):
        # The retention of another run may remove the directory while it is still empty.
        with contextlib.suppress(FileNotFoundError):
            make_directories(path.parent)
            return path.open("xb")
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # fsync(2): EINVAL where the file system cannot sync a directory; there is nothing more to do.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
