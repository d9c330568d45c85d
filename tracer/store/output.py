# SPDX-License-Identifier: Apache-2.0
"""Whether results can be written, found out before a run starts."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path, PurePath

from tracer.errors import OutputError
from tracer.store.directories import open_directory, open_parent
from tracer.store.files import remove_below, write_atomically

_PROBE_BYTES = 4096

# Whether it frees so many bytes where a write failed so: `Retention.free_space`.
FreeSpace = Callable[[OSError, int], bool]


class PreparedOutput:
    """An output directory that is found writable by `prepare`. `path` is absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._created: list[Path] = []

    def prepare(self, free_space: FreeSpace = lambda _error, _bytes: False) -> None:
        """Make the directory if it is missing, and write, sync and remove a file in it.

        Where it cannot, `free_space` is asked for the bytes needed, as long as it frees some.
        Raises OutputError, naming the path and the reason; then, or where it is interrupted, nothing is left behind
        but what `remove_if_empty` removes.
        """
        # Here, so that `tracer.cli.main` does without.

        # With Arrow, which checks before a run do without.
        from tracer.store.schemas import TABLES

        try:
            self.path = self.path.absolute()
            with open_directory(self.path, made=self._created) as directory:
                # What is in the way is found now, and not when the first file is due.
                for name in {"runs", *TABLES}.intersection(directory.names()):
                    with directory.child(name):
                        pass
            probe = PurePath(f".tracer-{secrets.token_hex(8)}.probe")
            try:
                # Not empty: a full file system may still have room for an empty file.
                while not _is_written(self.path, probe, free_space):
                    pass
            finally:
                with contextlib.suppress(OSError, ValueError):
                    remove_below(self.path, probe)
        except (OSError, ValueError) as error:
            self.remove_if_empty()
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(
                f"cannot write to the output {str(self.path)!r}: {reason}; choose another --output"
            ) from error

    def remove_if_empty(self) -> None:
        """Remove the directories that `prepare` made, as far as they are empty: for a run that does not start."""
        for path in reversed(self._created):
            with contextlib.suppress(OSError, ValueError):
                above, name = open_parent(path)
                with above:
                    os.rmdir(name, dir_fd=above.descriptor)


def prepare_output(path: Path, free_space: FreeSpace = lambda _error, _bytes: False) -> PreparedOutput:
    """An output that was prepared; see `PreparedOutput.prepare`. Raises OutputError."""
    output = PreparedOutput(path)
    output.prepare(free_space)
    return output


def _is_written(output: Path, probe: PurePath, free_space: FreeSpace) -> bool:
    """False where it should be tried again, as some space was freed."""
    try:
        write_atomically(output, probe, bytes(_PROBE_BYTES))
    except OSError as error:
        if not free_space(error, _PROBE_BYTES):
            raise
        return False
    return True
