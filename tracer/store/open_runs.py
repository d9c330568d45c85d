# SPDX-License-Identifier: Apache-2.0
"""Which runs are being written now: each holds a lock on the directory of its manifest, which ends with its process."""

import contextlib
import fcntl
import os
from pathlib import Path
from uuid import UUID

from tracer.store.layout import manifest_path


def hold_open(output: Path, run_id: UUID) -> contextlib.ExitStack:
    """Until it is closed, or the process ends, `is_open` is true of that run, whose manifest is there.

    On a file system without locks it never is.
    """
    held = contextlib.ExitStack()
    with contextlib.suppress(OSError):
        descriptor = os.open(manifest_path(output, run_id).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        held.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def is_open(directory: Path) -> bool:
    """Whether somebody on this machine writes the run whose manifest lies in `directory`."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return False
