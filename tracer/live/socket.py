# SPDX-License-Identifier: Apache-2.0
"""The unix socket of a run, on which `tracer top` and `tracer mark` reach it. Its owner and mode say who may."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from tracer.errors import UsageError

DIRECTORY: Final = Path("/run/tracer")
_BACKLOG: Final = 128
_TRY_SECONDS: Final = 1.0
_OWNER_ONLY: Final = 0o177


class Owner(Protocol):
    """A user."""

    @property
    def uid(self) -> int:
        """As the kernel has it."""

    @property
    def gid(self) -> int:
        """As the kernel has it."""


class LiveSocket:
    """Where a run listens. listening: None where it does not. problem: why not, though it was to."""

    def __init__(self, path: Path | None, listening: socket.socket | None, problem: str | None = None) -> None:
        self.path = path
        self.listening = listening
        self.problem = problem
        self._inode = None if path is None else _inode(path)

    @classmethod
    def of_option(cls, option: str, run_id: UUID, owner: Owner | None) -> "LiveSocket":
        """`auto`, `off` or a path. `owner`: whose it is to be. Raises UsageError for a path that fails."""
        if option == "off":
            return cls(None, None)
        if option != "auto":
            path = Path(option)
            try:
                return cls(path, _listen(path, owner))
            except OSError as error:
                raise UsageError(f"--socket: cannot listen on {option!r}: {error.strerror or error}") from error
        path = DIRECTORY / f"{run_id.hex[:8]}.sock"
        try:
            with suppress(FileExistsError):
                DIRECTORY.mkdir()
                # Whatever this process keeps from others: only the sockets are not everybody's.
                DIRECTORY.chmod(0o755)
            for other in sockets():
                _remove_if_dead(other)
            return cls(path, _listen(path, owner))
        except OSError as error:
            # Who may not write there, or has no such directory, traces all the same.
            return cls(None, None, f"no socket for `tracer top` in {DIRECTORY}: {error.strerror or error}")

    def remove(self) -> None:
        """Nobody reaches the run any more."""
        if self.listening is not None:
            self.listening.close()
        if self.path is not None and _inode(self.path) == self._inode:
            # It is another user's directory for a run that has turned into somebody else: the next run removes it.
            with suppress(OSError):
                self.path.unlink()


def sockets() -> Iterator[Path]:
    """Of all runs of this node that have one where it usually is. Raises OSError."""
    with suppress(FileNotFoundError):
        for entry in sorted(DIRECTORY.iterdir()):
            if entry.suffix == ".sock" and stat.S_ISSOCK(entry.lstat().st_mode):
                yield entry


def _listen(path: Path, owner: Owner | None) -> socket.socket:
    """Under another name first: whoever finds it by its own can ask at once, and does not take it for a dead one.

    Raises OSError.
    """
    _remove_if_dead(path)
    if path.is_symlink() or path.exists():
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    made = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_OWNER_ONLY)
    try:
        listening.bind(str(made))
        if owner is not None:
            os.chown(made, owner.uid, owner.gid, follow_symlinks=False)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        made.rename(path)
    except BaseException:
        listening.close()
        made.unlink(missing_ok=True)
        raise
    finally:
        os.umask(before)
    return listening


def _remove_if_dead(path: Path) -> None:
    """A socket on which nobody listens any more, as of a run that was killed."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TRY_SECONDS)
            try:
                client.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            except OSError:
                return


def _inode(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None
