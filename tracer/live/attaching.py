# SPDX-License-Identifier: Apache-2.0
"""Asks a run on this node, over its socket."""

import http.client
import socket
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import msgspec

from tracer.errors import UsageError
from tracer.live.answering import LONGEST_NOTE
from tracer.live.snapshot import Snapshot
from tracer.live.socket import DIRECTORY, sockets
from tracer.printable import printable

_SECONDS: Final = 5.0
_LONGEST_ANSWER: Final = 1 << 28
_LONGEST_TEXT: Final = 1000
_CHUNK_BYTES: Final = 1 << 16


class GoneError(UsageError):
    """The run does not answer any more."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Attached:
    """A run, by its socket. Each question is a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def snapshot(self) -> Snapshot:
        """What it has counted. Raises UsageError, GoneError where it has ended."""
        status, body = self._ask("GET", "/snapshot")
        if status != http.client.OK:
            raise UsageError(f"{str(self.path)!r} does not answer: {_text(body) or status}")
        try:
            return msgspec.json.decode(body, type=Snapshot)
        except ValueError as error:
            raise UsageError(f"{str(self.path)!r} is no tracer of this version: {error}") from error

    def mark(self, note: str | None) -> str:
        """Has it write the last minutes; what is done then. Raises UsageError."""
        if note is not None and (len(note) > LONGEST_NOTE or not note.isprintable()):
            raise UsageError(f"a note is one line of at most {LONGEST_NOTE} characters that can be printed")
        status, body = self._ask("POST", "/mark" + (f"?{urlencode({'note': note})}" if note else ""))
        if status != http.client.OK:
            raise UsageError(_text(body))
        return _text(body)

    def _ask(self, method: str, target: str) -> tuple[int, bytes]:
        connection = _Connection(self.path)
        try:
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, _read(answer)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise GoneError(f"no tracer runs behind {str(self.path)!r}") from error
        except PermissionError as error:
            raise UsageError(f"{str(self.path)!r} is for its owner and root: sudo tracer ...") from error
        except (OSError, http.client.HTTPException) as error:
            raise UsageError(f"{str(self.path)!r} does not answer: {error}") from error
        finally:
            connection.close()


def _read(answer: http.client.HTTPResponse) -> bytes:
    """All of it, within a bound of time and one of bytes. Raises TimeoutError."""
    until, body = time.monotonic() + _SECONDS, bytearray()
    while chunk := answer.read1(_CHUNK_BYTES):
        body += chunk
        if time.monotonic() > until or len(body) > _LONGEST_ANSWER:
            raise TimeoutError("its answer takes too long")
    return bytes(body)


def _text(body: bytes) -> str:
    """What somebody says, whoever that is, as a line that does no harm."""
    return printable(body[:_LONGEST_TEXT].strip())


def attach(path: Path | None) -> Attached:
    """To the run behind `path`, or to the one that there is. Raises UsageError, GoneError if there is none."""
    if path is not None:
        named = Attached(path)
        named.snapshot()
        return named
    try:
        found = list(sockets())
    except OSError as error:
        raise UsageError(f"cannot read {str(DIRECTORY)!r}: {error.strerror}") from error
    alive, refusals = [], []
    for one in map(Attached, found):
        try:
            one.snapshot()
        except GoneError:
            continue
        except UsageError as error:
            # Another user's, or one that stands still.
            refusals.append(error)
            continue
        alive.append(one)
    if not alive and refusals:
        raise refusals[0]
    if not alive:
        raise GoneError(f"no tracer that can be asked runs on this node: there is no socket in {DIRECTORY}")
    if len(alive) > 1:
        paths = ", ".join(str(one.path) for one in alive)
        raise UsageError(f"several tracers run here; say which by --socket: {paths}")
    return alive[0]
