# SPDX-License-Identifier: Apache-2.0
"""Directories held open, so that what is made or removed in them is so there and nowhere else.

The tracer runs as root, and others may make entries in the directories that it writes to. So a path is walked one name
after the other, each opened without following links and looked at before the next, and all that comes later is relative
to the open directory: it does not matter what its path leads to by then. An entry is followed

    of a path that the user named    a symbolic link, if root or the caller made it, or could alone have made it;
                                     a directory, unless somebody else made it where everybody may
    below an output directory        a directory, unless somebody else made it where others may; never a link

*The caller* is who runs this, and under sudo also who called that. The owner of a directory may
make in it what he likes.
"""

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

FILE_MODE: Final = 0o640
"""Of results, unless `--mode` says otherwise; directories: see `directory_mode`."""
NAMED_FILE_MODE: Final = 0o644
"""Of a single file that the user named."""
PRIVATE_DIRECTORY_MODE: Final = 0o700
PRIVATE_FILE_MODE: Final = 0o600

_READ_BITS: Final = 0o444

_ROOT: Final = 0
_MOST_LINKS: Final = 40  # as in path_resolution(7)
_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_BY_EVERYBODY: Final = stat.S_IWOTH
_LARGEST_ID: Final = 2**32 - 2
_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Directory:
    """A directory that is open. `path` is how it was come by, for messages; `status` as it was when opened."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self.status = os.fstat(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def child(self, name: str, *, make: bool = False, mode: int = PRIVATE_DIRECTORY_MODE) -> "Directory":
        """The directory `name` in this one; made with `mode`, synced, if it is missing and `make`. Raises OSError."""
        if make:
            _make(self, name, mode)
        child = _open_entry(self, name)
        try:
            if not stat.S_ISDIR(child.status.st_mode):
                raise OSError(errno.ENOTDIR, f"{_shown(child)}, not a directory")
            _require_followed(self, child, _BY_OTHERS)
        except BaseException:
            os.close(child.descriptor)
            raise
        return child

    def open_file(self, name: str) -> BinaryIO:
        """A file in it, to read. Raises ValueError for what is none, such as a link, and OSError."""
        mode = os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode
        # Should it be another one by now, a pipe is not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if stat.S_ISREG(mode):
            descriptor = os.open(name, flags, dir_fd=self.descriptor)
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode):
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
        raise ValueError(f"is {kind_of(mode)}, and no file")

    def names(self) -> list[str]:
        """Of all entries, in no order. Raises OSError."""
        with _readable(self) as descriptor:
            return _names(descriptor)

    def sync(self) -> None:
        """Its entries are on disk then. Raises OSError."""
        with _readable(self) as descriptor:
            try:
                os.fsync(descriptor)
            except OSError as error:
                # fsync(2): EINVAL where the file system cannot sync a directory; there is nothing more to do.
                if error.errno != errno.EINVAL:
                    raise


def directory_mode(file_mode: int) -> int:
    """Of the directories of files with that mode: who may read those may search these."""
    return file_mode | (file_mode & _READ_BITS) >> 2


def open_directory(
    path: Path, *, made: list[Path] | None = None, mode: int = FILE_MODE, trusted: int = _ROOT
) -> Directory:
    """The directory that the user named, open. With `made`, what is missing is made, and its paths are put in there.

    `mode` is that of files which are to lie there. `trusted` is a user whose directories and links are followed too.

    Raises OSError, whose `strerror` says which part of the path is in the way where it is not the last, and ValueError.
    """
    directory, _name = _walk(path, whole=True, made=made, mode=directory_mode(mode), trusted=trusted)
    return directory


def open_parent(path: Path) -> tuple[Directory, str]:
    """The directory that a file which the user named lies in, and the file's name there.

    Where `path` is a link that is followed, it is that of the file behind it. Raises OSError and ValueError.
    """
    return _walk(path, whole=False, made=None)


@contextlib.contextmanager
def open_below(
    output: Path, relative: PurePath, *, make: bool = False, mode: int = FILE_MODE, private: bool = False
) -> Iterator[Directory]:
    """A directory below the `output` directory; what is missing is made if `make`. Raises OSError and ValueError.

    `mode` is that of files which are to lie there; a `private` one is its owner's only.
    """
    with contextlib.ExitStack() as opened:
        directory = opened.enter_context(open_directory(output, made=[] if make else None, mode=mode))
        for position, name in enumerate(relative.parts, start=1):
            is_private = private and position == len(relative.parts)
            own = PRIVATE_DIRECTORY_MODE if is_private else directory_mode(mode)
            directory = opened.enter_context(directory.child(name, make=make, mode=own))
        yield directory


def give_to_caller(descriptor: int, above: os.stat_result, mode: int) -> None:
    """What was just made in `above` gets its mode, whatever the umask is, and under sudo its owner, who called that."""
    # A file system without owners or modes has its own for all files.
    with contextlib.suppress(OSError):
        caller = sudo_caller()
        if caller is not None:
            # In a directory that hands its group on, it is to stay that one.
            os.fchown(descriptor, caller.uid, -1 if above.st_mode & stat.S_ISGID else caller.gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, mode | os.fstat(descriptor).st_mode & stat.S_ISGID)


def kind_of(mode: int) -> str:
    """What a file of this `st_mode` is, for people."""
    return next((kind for is_it, kind in _KINDS if is_it(mode)), "a file")


def user_name(uid: int) -> str:
    """For people."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"user {uid}"


class Caller(NamedTuple):
    """Who called sudo."""

    uid: int
    gid: int


def sudo_caller() -> Caller | None:
    """Who called sudo, if this runs as root by it."""
    values = [os.environ.get(name, "") for name in ("SUDO_UID", "SUDO_GID")]
    if os.geteuid() != _ROOT or not all(value.isascii() and value.isdigit() and len(value) <= 10 for value in values):
        return None
    caller = Caller(*map(int, values))
    return caller if _ROOT < caller.uid <= _LARGEST_ID and caller.gid <= _LARGEST_ID else None


def _trusted() -> set[int]:
    caller = sudo_caller()
    return {_ROOT, os.geteuid()} | ({caller.uid} if caller else set())


def _walk(
    path: Path, *, whole: bool, made: list[Path] | None, mode: int = PRIVATE_DIRECTORY_MODE, trusted: int = _ROOT
) -> tuple[Directory, str]:
    """The directory at `path` and nothing, or without `whole` the one above it and its name there."""
    # The names that are still to come, the next one last, and whether they are from a link.
    names = [(name, False) for name in reversed(path.absolute().parts[1:])]
    links = 0
    directory = Directory(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), Path("/"))
    try:
        while names:
            name, from_link = names.pop()
            is_last = not names and not whole
            if made is not None and not from_link and not is_last and name != os.pardir:
                _make(directory, name, mode, made)
            try:
                entry = _open_entry(directory, name)
            except FileNotFoundError:
                if is_last:
                    return directory, name
                if from_link:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
                raise
            with contextlib.ExitStack() as closing:
                closing.callback(os.close, entry.descriptor)
                if stat.S_ISLNK(entry.status.st_mode):
                    _require_link_followed(directory, entry, trusted)
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    target = PurePath(os.readlink("", dir_fd=entry.descriptor))
                    parts = target.parts
                    if target.is_absolute():
                        root = Directory(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), Path("/"))
                        os.close(directory.descriptor)
                        directory, parts = root, parts[1:]
                    names += [(part, True) for part in reversed(parts)]
                    continue
                if is_last:
                    return directory, name
                if not stat.S_ISDIR(entry.status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                if name != os.pardir:
                    _require_followed(directory, entry, _BY_EVERYBODY, trusted)
                closing.pop_all()
            os.close(directory.descriptor)
            directory = entry
        if not whole:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except BaseException:
        os.close(directory.descriptor)
        raise
    return directory, ""


def _open_entry(directory: Directory, name: str) -> Directory:
    """Whatever is there, not opened for reading, so that no pipe and no device is waited for."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    return Directory(os.open(name, flags, dir_fd=directory.descriptor), directory.path / name)


def _make(above: Directory, name: str, mode: int, made: list[Path] | None = None) -> None:
    """Makes a directory and syncs its entry; nothing where there is something already."""
    try:
        # Nobody else's until it is known to be the one that was made here.
        os.mkdir(name, 0o700, dir_fd=above.descriptor)
    except FileExistsError:
        return
    if made is not None:
        made.append(above.path / name)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=above.descriptor)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid() and not _names(descriptor):
            give_to_caller(descriptor, above.status, mode)
    finally:
        os.close(descriptor)
    above.sync()


def _names(descriptor: int) -> list[str]:
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


def _require_followed(above: Directory, entry: Directory, writable: int, trusted: int = _ROOT) -> None:
    owners = _trusted() | {trusted} | {above.status.st_uid}
    if entry.status.st_uid not in owners and above.status.st_mode & writable:
        raise PermissionError(errno.EPERM, f"{_shown(entry)}, and others may make such in {str(above.path)!r}")


def _require_link_followed(above: Directory, link: Directory, trusted: int) -> None:
    owners = _trusted() | {trusted}
    if link.status.st_uid in owners or (above.status.st_uid in owners and not above.status.st_mode & _BY_OTHERS):
        return
    raise PermissionError(errno.EPERM, f"{_shown(link)}, which is not followed")


def _shown(entry: Directory) -> str:
    return f"{str(entry.path)!r} is {kind_of(entry.status.st_mode)} of {user_name(entry.status.st_uid)}"


@contextlib.contextmanager
def _readable(directory: Directory) -> Iterator[int]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.descriptor)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
