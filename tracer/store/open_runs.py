# SPDX-License-Identifier: Apache-2.0
"""Which runs are being written now: each holds a lock on its directory (flock(2)), which ends with its process."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path, PurePath
from uuid import UUID

from tracer.store.directories import open_below


class RunLock:
    """Held by who writes a run, or recovers it, until it is released or its process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, output: Path, run_id: UUID, *, make: bool = False) -> "RunLock | None":
        """None where another process has it. Raises OSError and ValueError, also where files cannot be locked."""
        with open_below(output, PurePath("runs", str(run_id)), make=make) as directory:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = os.open(".", flags, dir_fd=directory.descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                return None
            raise
        return cls(descriptor)

    def close(self) -> None:
        """Others may take it then."""
        os.close(self._descriptor)


def is_open(directory: Path) -> bool:
    """Whether somebody writes the run whose manifest lies in `directory`; never on a file system without locks."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
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
