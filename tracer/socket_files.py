# SPDX-License-Identifier: Apache-2.0
"""Unix sockets that lie in the file system: made so that nobody finds them half made, and removed by who made them."""

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

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


class SocketFile:
    """A socket at `path` that does not block; one of streams listens. `remove` it."""

    def __init__(self, path: Path, kind: socket.SocketKind, owner: Owner | None, mode: int = 0o600) -> None:
        """`owner`: whose it is to be. Raises OSError, also where something else is there: a socket somebody listens on.

        It is made under another name first: whoever finds it by its own does not take it for a dead one.
        """
        remove_if_dead(path)
        if path.is_symlink() or path.exists():
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        made = path.with_name(f".{path.name}.{os.getpid()}")
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, kind)
        before = os.umask(_OWNER_ONLY)
        try:
            self.socket.bind(str(made))
            if owner is not None:
                os.chown(made, owner.uid, owner.gid, follow_symlinks=False)
            made.chmod(mode)
            if kind == socket.SOCK_STREAM:
                self.socket.listen(_BACKLOG)
            self.socket.setblocking(False)
            made.rename(path)
        except BaseException:
            self.socket.close()
            made.unlink(missing_ok=True)
            raise
        finally:
            os.umask(before)
        # As long as it is open, no other file has its number.
        self._made = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)

    def remove(self) -> None:
        """Nobody reaches it any more."""
        self.socket.close()
        if self._made < 0:
            return
        # It is another user's directory for a run that has turned into somebody else: the next run removes it.
        with suppress(OSError):
            if os.path.samestat(os.fstat(self._made), self.path.lstat()):
                self.path.unlink()
        os.close(self._made)
        self._made = -1


def remove_if_dead(path: Path) -> None:
    """A socket that nobody has open any more, as of a run that was killed. Raises OSError."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_UNIX, kind) as client:
                client.settimeout(_TRY_SECONDS)
                try:
                    client.connect(str(path))
                except ConnectionRefusedError:
                    path.unlink()
                    return
                except OSError as error:
                    if error.errno != errno.EPROTOTYPE:
                        return
                else:
                    return
