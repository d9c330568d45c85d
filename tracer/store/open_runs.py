# SPDX-License-Identifier: Apache-2.0
"""Which runs are being written now: each holds a lock on its journals' directory (flock(2)), until its process ends.

Who may open a directory may lock it, for as long as he likes. So this one is nobody's but its owner's to open.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final
from uuid import UUID

from tracer.store.directories import FILE_MODE, open_below
from tracer.store.layout import journal_directory

_LOCKS: Final = Path("/proc/locks")
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class RunLock:
    """Held by who writes a run, or recovers it, until it is released or its process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, output: Path, run_id: UUID, *, make: bool = False, mode: int = FILE_MODE) -> "RunLock | None":
        """None where another process has it. `mode`: of the run's results.

        Raises OSError and ValueError, also where files cannot be locked.
        """
        with open_below(output, journal_directory(run_id), make=make, mode=mode, private=True) as directory:
            descriptor = os.open(".", _FLAGS, dir_fd=directory.descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                return None
            raise
        return cls(descriptor)

    def is_of(self, output: Path, run_id: UUID) -> bool:
        """Whether it is still that directory which is found there. Raises OSError and ValueError."""
        try:
            with open_below(output, journal_directory(run_id)) as directory:
                return os.path.samestat(directory.status, os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def close(self) -> None:
        """Others may take it then."""
        os.close(self._descriptor)


def is_open(output: Path, run_id: UUID) -> bool:
    """Whether somebody writes that run; never on a file system without locks."""
    directory = output / journal_directory(run_id)
    try:
        descriptor = os.open(directory, _FLAGS | os.O_NOFOLLOW)
    except PermissionError:
        return _is_listed(directory)
    except OSError:
        return False
    with contextlib.closing(RunLock(descriptor)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
    return False


def _is_listed(directory: Path) -> bool:
    """Whether the kernel lists a lock on it, for who may not try one. It lists those of one's own PID namespace."""
    with contextlib.suppress(OSError):
        inode = str(directory.stat().st_ino)
        # proc_locks(5); devices there are not always those of stat(2).
        locks = [line.split() for line in _LOCKS.read_text().splitlines()]
        return any(lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == inode for lock in locks if len(lock) > 5)
    return False
