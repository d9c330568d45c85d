# SPDX-License-Identifier: Apache-2.0
"""Whether results can be written, found out before a run starts."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import OutputError
from tracer.store.files import write_atomically
from tracer.store.retention import NO_SPACE

_PROBE_BYTES = 4096


@dataclass(frozen=True)
class PreparedOutput:
    """An output directory that was writable a moment ago. `path` is absolute."""

    path: Path
    _created: tuple[Path, ...]

    def remove_if_empty(self) -> None:
        """Remove the directories that `prepare_output` made, as far as they are empty.

        For a run that does not start after all.
        """
        _remove_empty(self._created)


def prepare_output(path: Path, free_space: Callable[[int], bool] = lambda _bytes: False) -> PreparedOutput:
    """Make the directory if it is missing, and write, sync and remove a file in it.

    On a full disk, `free_space` is asked for the bytes needed, as long as it frees some (`Retention.free_space`).
    Raises OutputError, naming the path and the reason; then nothing is left behind.
    """
    created: tuple[Path, ...] = ()
    try:
        path = path.absolute()
        created = tuple(directory for directory in (path, *path.parents) if not directory.exists())
        probe = path / f".tracer-{secrets.token_hex(8)}.probe"
        # Not empty: a full file system may still have room for an empty file.
        while True:
            try:
                write_atomically(probe, bytes(_PROBE_BYTES))
                break
            except OSError as error:
                if error.errno not in NO_SPACE or not free_space(_PROBE_BYTES):
                    raise
        probe.unlink()
    except (OSError, ValueError) as error:
        _remove_empty(created)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(f"cannot write to the output {str(path)!r}: {reason}; choose another --output") from error
    return PreparedOutput(path, created)


def _remove_empty(directories: tuple[Path, ...]) -> None:
    for directory in directories:
        with contextlib.suppress(OSError, ValueError):
            directory.rmdir()
