# SPDX-License-Identifier: Apache-2.0
"""A control file by which a cgroup can be paused, and put back exactly as it was found.

Documentation/admin-guide/cgroup-v2.rst: `cgroup.freeze` stops all processes of a cgroup and below, `cpu.max` bounds
their CPU time. Both reach all descendants and nobody else. A change takes effect at once: cpu.max also lets those go on
that the old limit held up (tg_set_cfs_bandwidth(), kernel/sched/core.c).
"""

import errno
import os
import time
from typing import NamedTuple

FREEZE = "cgroup.freeze"
CPU_MAX = "cpu.max"
GONE = (errno.ENODEV, errno.ENOENT)
"""What opening, reading and writing files of a cgroup fail with once it has been removed."""

_LONGEST_TEXT = 4096
_RESTORE_SECONDS = 10.0
_RETRY_SECONDS = 0.005


class ChangedError(Exception):
    """Somebody else wrote the control file meanwhile: what is in it now is theirs. The text says what it was and is."""


class Control(NamedTuple):
    """A control file's name, the text that was found in it, and the one that pauses the cgroup."""

    file: str
    found: str
    paused: str


def read_text(directory: int, file: str) -> str:
    """The text of a control file of the cgroup whose directory is open as `directory`. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, _LONGEST_TEXT).decode(errors="replace").rstrip("\n")
    finally:
        os.close(descriptor)


def write_text(directory: int, file: str, text: str) -> None:
    """Writes a control file. Raises OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def pause(directory: int, control: Control) -> None:
    """Pauses the cgroup. Raises ChangedError where the file is not as it was found, and OSError."""
    now = read_text(directory, control.file)
    if now != control.found:
        raise ChangedError(f"{control.file} was {control.found!r} and is {now!r} now")
    write_text(directory, control.file, control.paused)


def restore(directory: int, control: Control) -> None:
    """Puts back what was found, unless somebody has written something else meanwhile, or the cgroup is gone.

    Tries for ten seconds. Raises ChangedError, or the last OSError.
    """
    give_up = time.monotonic() + _RESTORE_SECONDS
    while True:
        try:
            now = read_text(directory, control.file)
            if now == control.paused:
                write_text(directory, control.file, control.found)
        except OSError as error:
            if error.errno in GONE:
                return
            if time.monotonic() > give_up:
                raise
            time.sleep(_RETRY_SECONDS)
            continue
        if now not in (control.paused, control.found):
            raise ChangedError(f"{control.file} was {control.paused!r} during a pause and is {now!r} now")
        return
