# SPDX-License-Identifier: Apache-2.0
"""Files of others, read without trust."""

import os
import stat
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

MAX_BYTES = 4 * 2**20
"""Size of the largest file that is read; an OCI bundle's `config.json` has some 10-50 kB."""

_MOST_NAMES = 65_536

T = TypeVar("T")


class Version(NamedTuple):
    """Differs once a file or directory does. Times are in ns since the epoch."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class Files:
    """Those of runtimes that belong to the node itself. Nothing of it raises, or waits for a FIFO's writer.

    A file itself is no symbolic link: none of the runtimes makes it one. The directories above it may be, since
    administrators do move `/var/lib/docker` and its like.
    """

    def read(self, path: str, most_bytes: int = MAX_BYTES) -> bytes | None:
        """All of the file at `path`; None if it is missing, too large or not a file."""
        descriptor = self._open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if descriptor is None:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
                return None
            # The kernel's own files have no size.
            return os.read(descriptor, status.st_size or most_bytes)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def read_json(self, path: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        """What `decoder` makes of the file at `path`; None if it cannot be read or is not as expected."""
        content = self.read(path)
        try:
            return None if content is None else decoder.decode(content)
        except (ValueError, RecursionError):  # UnicodeDecodeError and msgspec's errors are ValueErrors
            return None

    def names_in(self, directory: str) -> list[str]:
        """What is in a directory, of which 65,536 names are read; nothing if it cannot be."""
        descriptor = self._open(directory, os.O_RDONLY | os.O_DIRECTORY)
        if descriptor is None:
            return []
        try:
            with os.scandir(descriptor) as entries:
                return [entry.name for entry in islice(entries, _MOST_NAMES)]
        except OSError:
            return []
        finally:
            os.close(descriptor)

    def version(self, path: str) -> Version | None:
        """Of a file or directory; None if there is none, or none that can be looked at."""
        try:
            status = self._status(path)
        except (OSError, ValueError):
            return None
        return Version(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def _status(self, path: str) -> os.stat_result:
        return os.stat(path)  # noqa: PTH116 - Path.stat() takes several times as long

    def _open(self, path: str, flags: int) -> int | None:
        try:
            return os.open(path, flags | os.O_CLOEXEC)
        except (OSError, ValueError):
            return None


class UserFiles(Files):
    """A user's own files below `base`, which only the administrator can change, and no others.

    No symbolic link is followed below `base`, and what is opened belongs to the user: so it gives away nothing that
    the user could not have read.
    """

    def __init__(self, user_id: int, base: str) -> None:
        self._user_id = user_id
        self._base = base.rstrip("/")

    def _status(self, path: str) -> os.stat_result:
        descriptor = self._open(path, os.O_PATH)
        if descriptor is None:
            raise FileNotFoundError(path)
        try:
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, path: str, flags: int) -> int | None:
        if not path.startswith(f"{self._base}/"):
            return None
        components = path[len(self._base) + 1 :].split("/")
        descriptor = super()._open(self._base or "/", os.O_PATH | os.O_DIRECTORY)
        for number, component in enumerate(components):
            if descriptor is None or component in ("", ".", ".."):
                break
            is_last = number == len(components) - 1
            how = flags if is_last else os.O_PATH | os.O_DIRECTORY
            above = descriptor
            try:
                descriptor = os.open(component, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            except (OSError, ValueError):
                descriptor = None
            os.close(above)
            if is_last and descriptor is not None and os.fstat(descriptor).st_uid == self._user_id:
                return descriptor
        if descriptor is not None:
            os.close(descriptor)
        return None
