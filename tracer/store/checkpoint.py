# SPDX-License-Identifier: Apache-2.0
"""What a live run has counted so far, anew each second beside its journals: so a killed run's manifest adds up.

    <output>/runs/<run_id>/journal/totals.json

It takes the place of the one before by a rename, but is not synced: after power loss the manifest's own are the last.
"""

import contextlib
import os
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from tracer.store.directories import PRIVATE_FILE_MODE, Directory, give_to_caller, open_below
from tracer.store.layout import IN_PROGRESS, journal_directory
from tracer.store.manifest import Totals

CHECKPOINT: Final = "totals.json"
_LONGEST: Final = 2**20


def write_checkpoint(output: Path, run_id: UUID, totals: Totals) -> None:
    """Raises OSError and ValueError; then the last one is as it was."""
    with open_below(output, journal_directory(run_id), make=True, private=True) as directory:
        # A directory of the run's own, which nobody else may open.
        name = CHECKPOINT + IN_PROGRESS
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=directory.descriptor), "wb") as file:
            give_to_caller(file.fileno(), directory.status, PRIVATE_FILE_MODE)
            file.write(msgspec.json.encode(totals))
        os.rename(name, CHECKPOINT, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)


def read_checkpoint(directory: Directory) -> Totals | None:
    """That in a run's directory of journals; None where there is none that can be believed. Raises OSError."""
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError), directory.open_file(CHECKPOINT) as file:
        return msgspec.json.decode(file.read(_LONGEST), type=Totals)
    return None


def remove_checkpoint(output: Path, run_id: UUID) -> None:
    """Of a run that is over; nothing where there is none."""
    with contextlib.suppress(OSError, ValueError), open_below(output, journal_directory(run_id)) as directory:
        for name in (CHECKPOINT, CHECKPOINT + IN_PROGRESS):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory.descriptor)
