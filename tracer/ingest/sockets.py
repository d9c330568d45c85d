# SPDX-License-Identifier: Apache-2.0
"""The sockets on which applications are heard: datagrams at a path, text by a stream beside it."""

import array
import ctypes
import os
import socket
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from tracer.errors import UsageError
from tracer.socket_files import Owner, SocketFile

TEXT_SUFFIX: Final = ".openmetrics"
LONGEST_DATAGRAM: Final = 65_536
# Not in Python's module (asm-generic/socket.h); the message that it brings has the same number.
_SO_TIMESTAMPNS: Final = 35
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
# struct sock_filter and struct sock_fprog (linux/filter.h).
_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")
_BPF_RET: Final = 0x06
_TIME: Final = struct.Struct("qq")
_CREDENTIALS: Final = struct.Struct("iII")
# No more, so that the kernel has no room for descriptors that a stranger sends along (unix(7), MSG_CTRUNC).
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIME.size) + socket.CMSG_SPACE(_CREDENTIALS.size)


class Datagram(NamedTuple):
    """What came, from whom, and when the kernel took it (CLOCK_REALTIME), None for one from before it was asked to.

    pid: 0 where the kernel does not tell. is_cut: it was longer than LONGEST_DATAGRAM.
    """

    content: bytes
    pid: int
    realtime_ns: int | None
    is_cut: bool


class IngestSockets:
    """Both, until `remove`. Until `begin` datagrams are thrown away: nobody waits for a run that is still beginning."""

    def __init__(self, path: Path, owner: Owner | None, mode: int) -> None:
        """`owner`: whose they are to be. Raises UsageError."""
        with ExitStack() as on_failure:
            try:
                self._datagrams = SocketFile(path, socket.SOCK_DGRAM, owner, mode)
                on_failure.callback(self._datagrams.remove)
                self._text = SocketFile(path.with_name(path.name + TEXT_SUFFIX), socket.SOCK_STREAM, owner, mode)
            except OSError as error:
                raise UsageError(f"--ingest: cannot listen on {str(path)!r}: {error.strerror or error}") from error
            on_failure.pop_all()
        self.datagrams = self._datagrams.socket
        self.text = self._text.socket
        throw_away(self.datagrams)
        self.datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.datagrams.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def begin(self) -> None:
        """From now on they are kept, and somebody takes them."""
        self.datagrams.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def remove(self) -> None:
        """Nobody is heard any more; once more does no harm."""
        self._datagrams.remove()
        self._text.remove()


class DatagramReceiver:
    """Takes what waits on a socket of datagrams that does not block."""

    def __init__(self, receiving: socket.socket) -> None:
        self._socket = receiving
        self._buffer = bytearray(LONGEST_DATAGRAM)

    def receive(self) -> Datagram | None:
        """The next one; None if none waits."""
        try:
            size, ancillary, flags, _address = self._socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES)
        except BlockingIOError:
            return None
        pid, realtime_ns = 0, None
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == socket.SCM_CREDENTIALS and len(content) >= _CREDENTIALS.size:
                pid, _uid, _gid = _CREDENTIALS.unpack_from(content)
            elif kind == _SO_TIMESTAMPNS and len(content) >= _TIME.size:
                seconds, nanoseconds = _TIME.unpack_from(content)
                realtime_ns = seconds * 1_000_000_000 + nanoseconds
            elif kind == socket.SCM_RIGHTS:
                _close_all(content)
        return Datagram(bytes(self._buffer[:size]), pid, realtime_ns, bool(flags & socket.MSG_TRUNC))


def throw_away(receiving: socket.socket) -> None:
    """What comes is dropped, without a word to who sends it (socket(7), unix_dgram_sendmsg() in net/unix/af_unix.c)."""
    drop = ctypes.create_string_buffer(_INSTRUCTION.pack(_BPF_RET, 0, 0, 0))
    receiving.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _PROGRAM.pack(1, ctypes.addressof(drop)))


def peer_pid(connection: socket.socket) -> int:
    """Of the process that connected (SO_PEERCRED, unix(7)); 0 where the kernel does not tell."""
    return int(_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0])


def _close_all(content: bytes) -> None:
    """Descriptors of a stranger."""
    descriptors = array.array("i")
    descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    for descriptor in descriptors:
        os.close(descriptor)
