# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete and on disk, or not there: all that the tracer writes comes about here.

Until it is complete, a file has no name, and is gone with the process that writes it. Where the file system knows no
files without names, it has one that ends in `IN_PROGRESS` and was nobody's before. It is never written to what is there
under its name, be that a link, a pipe or another name of somebody's file, but takes its place.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO, Final

from tracer.errors import OutputError
from tracer.store.directories import (
    FILE_MODE,
    NAMED_FILE_MODE,
    Directory,
    give_to_caller,
    kind_of,
    open_below,
    open_parent,
)
from tracer.store.layout import IN_PROGRESS

_ATTEMPTS: Final = 10
_OPEN_FILES: Final = Path("/proc/self/fd")
# open(2), of O_TMPFILE: EOPNOTSUPP by the file system, EISDIR by an old kernel; overlayfs and others say EINVAL.
_NO_UNNAMED_FILES: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS)


def write_atomically(
    output: Path, relative_path: PurePath, payload: bytes | memoryview, *, mode: int = FILE_MODE
) -> None:
    """Write `payload` to `relative_path` below `output`, synced, with its directories. An older file is replaced.

    After a crash at any point the file is as it was before, or complete. Raises OSError and ValueError; then nothing is
    left behind but directories.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with (
                open_below(output, relative_path.parent, make=True, mode=mode) as directory,
                _new_file(directory, relative_path.name, mode) as file,
            ):
                file.write(payload)
            return
        except FileNotFoundError:
            # The retention of another run may remove the directory while it is still empty.
            if attempt == _ATTEMPTS - 1:
                raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` when all went well, and else leaves what was there as it was.

    Raises OutputError, by the file's name, for what cannot be opened, written or put there.
    """
    try:
        directory, name = open_parent(path)
        with directory, _new_file(directory, name, NAMED_FILE_MODE) as file:
            yield file
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(f"cannot write {str(path)!r}: {reason}") from error


def remove_below(output: Path, relative_path: PurePath) -> None:
    """Remove a file below `output`, of which no link is followed. Raises OSError and ValueError."""
    with open_below(output, relative_path.parent) as directory:
        os.unlink(relative_path.name, dir_fd=directory.descriptor)


@contextlib.contextmanager
def _new_file(directory: Directory, name: str, mode: int) -> Iterator[BinaryIO]:
    _require_replaceable(directory, name)
    descriptor, temporary = _open_new(directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            give_to_caller(descriptor, directory.status, mode)
            os.fsync(descriptor)
            if temporary is None and _is_linked(descriptor, directory, name):
                directory.sync()
                return
            if temporary is None:
                # There is a file already, and a link cannot take its place.
                temporary = _temporary_name()
                _link(descriptor, directory, temporary)
        os.rename(temporary, name, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)
        temporary = None
        directory.sync()
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory.descriptor)


def _require_replaceable(directory: Directory, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, f"{str(directory.path / name)!r} is {kind_of(mode)}, which is left as it is")


def _open_new(directory: Directory) -> tuple[int, str | None]:
    """A file for writing that nobody else can read yet, and its name if it has one."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    if _OPEN_FILES.is_dir():
        try:
            return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory.descriptor), None
        except OSError as error:
            if not os.fstat(directory.descriptor).st_nlink:
                # ext4 says EPERM of a directory that was removed.
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            if error.errno not in _NO_UNNAMED_FILES:
                raise
    name = _temporary_name()
    flags |= os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.open(name, flags, 0o600, dir_fd=directory.descriptor), name


def _temporary_name() -> str:
    return f"tracer-{secrets.token_hex(8)}{IN_PROGRESS}"


def _is_linked(descriptor: int, directory: Directory, name: str) -> bool:
    try:
        _link(descriptor, directory, name)
    except FileExistsError:
        return False
    return True


def _link(descriptor: int, directory: Directory, name: str) -> None:
    # open(2) shows it so, for who may not give linkat(2) an empty path.
    os.link(_OPEN_FILES / str(descriptor), name, dst_dir_fd=directory.descriptor, follow_symlinks=True)
