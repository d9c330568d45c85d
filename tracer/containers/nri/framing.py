# SPDX-License-Identifier: Apache-2.0
"""Messages of ttrpc in the connections that NRI multiplexes on one socket. Pure: bytes in, bytes out.

A frame of the multiplexer (containerd/nri, pkg/net/multiplex), all numbers big-endian: u32 connection, u32 length,
payload. Each connection is a stream of bytes of its own, cut into frames anywhere.

A message of ttrpc (containerd/ttrpc, channel.go): u32 length, u32 stream, u8 type, u8 flags, data. The response has the
stream of its request.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PLUGIN_CONNECTION = 1
"""Here the runtime calls the plug-in."""
RUNTIME_CONNECTION = 2
"""Here the plug-in calls the runtime."""

REQUEST = 1
RESPONSE = 2

MAX_DATA_BYTES = 4 << 20
"""Of one message (ttrpc, messageLengthMax)."""

MAX_SENT_PAYLOAD_BYTES = 4096
"""Of a frame sent: the runtime reads through a buffer of this size, and its multiplexer fails a read that is shorter
than the frame."""

_FRAME = struct.Struct(">II")
_MESSAGE = struct.Struct(">IIBB")
_FRAMED_MESSAGE = struct.Struct(">IIIIBB")
_MAX_PAYLOAD_BYTES = _MESSAGE.size + MAX_DATA_BYTES
_STREAM = slice(12, 16)


class NriError(Exception):
    """Why a connection cannot go on, in one printable line; it is the plug-in's to connect anew."""


class Message(NamedTuple):
    """A message of ttrpc and the connection it is on."""

    connection: int
    stream: int
    type: int
    data: bytes


class MessageReader:
    """Puts messages together, however their bytes come cut.

    Keeps one unfinished message per connection, thus at most 4 MiB each; what is on other connections is discarded.
    """

    def __init__(self, connections: Iterable[int]) -> None:
        self._unfinished = {connection: bytearray() for connection in connections}
        self._header = bytearray()
        self._connection = 0
        # Of the current frame's payload.
        self._missing = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes. Raises NriError on a length that cannot be; that is the end then."""
        position = 0
        while position < len(data):
            if not self._missing:
                taken = data[position : position + _FRAME.size - len(self._header)]
                position += len(taken)
                self._begin_frame(taken)
                continue
            payload = data[position : position + self._missing]
            position += len(payload)
            self._missing -= len(payload)
            unfinished = self._unfinished.get(self._connection)
            if unfinished is not None:
                unfinished += payload
                yield from _take_messages(self._connection, unfinished)

    def _begin_frame(self, taken: bytes) -> None:
        self._header += taken
        if len(self._header) < _FRAME.size:
            return
        self._connection, self._missing = _FRAME.unpack(self._header)
        self._header.clear()
        if self._missing > _MAX_PAYLOAD_BYTES:
            raise NriError(f"the runtime sent a frame of {self._missing} bytes, more than NRI allows")


def encode(message: Message) -> bytes:
    """`message` as one frame. Raises ValueError if it does not fit into one that the runtime can read."""
    payload_bytes = _MESSAGE.size + len(message.data)
    if payload_bytes > MAX_SENT_PAYLOAD_BYTES:
        raise ValueError(f"a frame to the runtime cannot hold {payload_bytes} bytes")
    header = _FRAMED_MESSAGE.pack(message.connection, payload_bytes, len(message.data), message.stream, message.type, 0)
    return header + message.data


class PreparedResponse:
    """A response of the plug-in, encoded ahead; only the stream is put in when it is asked for."""

    def __init__(self, data: bytes) -> None:
        encoded = encode(Message(PLUGIN_CONNECTION, 0, RESPONSE, data))
        self._before = encoded[: _STREAM.start]
        self._after = encoded[_STREAM.stop :]

    def on(self, stream: int) -> bytes:
        """The frame that answers the request on `stream`."""
        return self._before + stream.to_bytes(4, "big") + self._after


def _take_messages(connection: int, unfinished: bytearray) -> Iterator[Message]:
    """Removes the complete messages from the front of `unfinished`."""
    taken = 0
    while len(unfinished) - taken >= _MESSAGE.size:
        length, stream, message_type, _flags = _MESSAGE.unpack_from(unfinished, taken)
        if length > MAX_DATA_BYTES:
            raise NriError(f"the runtime sent a message of {length} bytes, more than ttrpc allows")
        begin = taken + _MESSAGE.size
        if len(unfinished) < begin + length:
            break
        taken = begin + length
        yield Message(connection, stream, message_type, bytes(unfinished[begin:taken]))
    del unfinished[:taken]
