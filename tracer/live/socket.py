# SPDX-License-Identifier: Apache-2.0
"""The unix socket of a run, on which `tracer top` and `tracer mark` reach it. Its owner and mode say who may."""

import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from tracer.errors import UsageError
from tracer.socket_files import Owner, SocketFile, remove_if_dead

DIRECTORY: Final = Path("/run/tracer")
_NAME: Final = re.compile(r"[0-9a-f]{8}\.sock")


class LiveSocket:
    """Where a run listens. listening: None where it does not. problem: why not, though it was to."""

    def __init__(self, file: SocketFile | None, problem: str | None = None) -> None:
        self._file = file
        self.problem = problem

    @property
    def path(self) -> Path | None:
        """None where it does not listen."""
        return None if self._file is None else self._file.path

    @property
    def listening(self) -> socket.socket | None:
        """It does not block."""
        return None if self._file is None else self._file.socket

    @classmethod
    def of_option(cls, option: str, run_id: UUID, owner: Owner | None) -> "LiveSocket":
        """`auto`, `off` or a path. `owner`: whose it is to be. Raises UsageError for a path that fails."""
        if option == "off":
            return cls(None)
        if option != "auto":
            try:
                return cls(SocketFile(Path(option), socket.SOCK_STREAM, owner))
            except OSError as error:
                raise UsageError(f"--socket: cannot listen on {option!r}: {error.strerror or error}") from error
        try:
            with suppress(FileExistsError):
                DIRECTORY.mkdir()
                # Whatever this process keeps from others: only the sockets are not everybody's.
                DIRECTORY.chmod(0o755)
            for other in sockets():
                remove_if_dead(other)
            return cls(SocketFile(DIRECTORY / f"{run_id.hex[:8]}.sock", socket.SOCK_STREAM, owner))
        except OSError as error:
            # Who may not write there, or has no such directory, traces all the same.
            return cls(None, f"no socket for `tracer top` in {DIRECTORY}: {error.strerror or error}")

    def remove(self) -> None:
        """Nobody reaches the run any more."""
        if self._file is not None:
            self._file.remove()


def sockets() -> Iterator[Path]:
    """Of all runs of this node that have one where it usually is. Raises OSError."""
    with suppress(FileNotFoundError):
        for entry in sorted(DIRECTORY.iterdir()):
            # Others may lie there too, such as where applications are heard.
            if _NAME.fullmatch(entry.name) and stat.S_ISSOCK(entry.lstat().st_mode):
                yield entry
