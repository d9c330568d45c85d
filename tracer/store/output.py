# SPDX-License-Identifier: Apache-2.0
"""Whether results can be written, found out before a run starts."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path, PurePath

from tracer.errors import OutputError
from tracer.store.directories import FILE_MODE, open_directory, open_parent
from tracer.store.files import remove_below, write_atomically

_PROBE_BYTES = 4096

# Whether it frees so many bytes where a write failed so: `Retention.free_space`.
FreeSpace = Callable[[OSError, int], bool]


class PreparedOutput:
    """An output directory that is found writable by `prepare`. `path` is absolute, `mode` that of the results."""

    def __init__(self, path: Path, mode: int = FILE_MODE) -> None:
        self.path = path
        self._mode = mode
        self._created: list[Path] = []
        self._probe: PurePath | None = None

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
            with open_directory(self.path, made=self._created, mode=self._mode) as directory:
                # What is in the way is found now, and not when the first file is due.
                for name in {"runs", *TABLES}.intersection(directory.names()):
                    with directory.child(name):
                        pass
            self._probe = PurePath(f".tracer-{secrets.token_hex(8)}.probe")
            try:
                # Not empty: a full file system may still have room for an empty file.
                while not _is_written(self.path, self._probe, free_space):
                    pass
            finally:
                self._remove_probe()
        except (OSError, ValueError) as error:
            self.remove_if_empty()
            raise OutputError(_refusal(self.path, error)) from error

    def remove_if_empty(self) -> None:
        """Remove what `prepare` made, as far as it is empty: for a run that does not start.

        A signal's handler may call it while `prepare` is at work, and end the process.
        """
        self._remove_probe()
        _remove_if_empty(self._created)

    def _remove_probe(self) -> None:
        if self._probe is not None:
            with contextlib.suppress(OSError, ValueError):
                remove_below(self.path, self._probe)


def prepare_output(path: Path, free_space: FreeSpace = lambda _error, _bytes: False) -> PreparedOutput:
    """An output that was prepared; see `PreparedOutput.prepare`. Raises OutputError."""
    output = PreparedOutput(path)
    output.prepare(free_space)
    return output


def make_output_for(path: Path, uid: int, gid: int, mode: int = FILE_MODE) -> None:
    """Make the output and the directories above it that are missing; they belong to that user. Raises OutputError."""
    made: list[Path] = []
    try:
        with open_directory(path.absolute(), made=made, mode=mode, trusted=uid):
            # The lowest first: what is above it is not another user's yet.
            for directory in reversed(made):
                with open_directory(directory, trusted=uid) as opened:
                    os.chown(".", uid, gid, dir_fd=opened.descriptor)
    except (OSError, ValueError) as error:
        _remove_if_empty(made)
        raise OutputError(_refusal(path, error)) from error


def _remove_if_empty(made: list[Path]) -> None:
    for path in reversed(made):
        with contextlib.suppress(OSError, ValueError):
            above, name = open_parent(path)
            with above:
                os.rmdir(name, dir_fd=above.descriptor)


def _refusal(path: Path, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot write to the output {str(path.absolute())!r}: {reason}; choose another --output"


def _is_written(output: Path, probe: PurePath, free_space: FreeSpace) -> bool:
    """False where it should be tried again, as some space was freed."""
    try:
        write_atomically(output, probe, bytes(_PROBE_BYTES))
    except OSError as error:
        if not free_space(error, _PROBE_BYTES):
            raise
        return False
    return True
