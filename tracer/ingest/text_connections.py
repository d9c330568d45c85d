# SPDX-License-Identifier: Apache-2.0
"""Texts that come by streams: each ends with a line `# EOF`, or with its connection."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Final

from tracer.ingest.openmetrics import END

MOST_CONNECTIONS: Final = 16
LONGEST_TEXT: Final = 1 << 17
TEXT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 65_536
_END_LINE: Final = b"\n" + END + b"\n"


class _Connection:
    """What came of its text, and until when the rest must have come."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.until = float("inf")


class TextConnections:
    """At most 16; a further one takes the place of the one that has been silent longest. One thread uses it.

    broken: texts that were too long or too slow, whose connections were closed; for somebody to count.
    """

    def __init__(self, listening: socket.socket) -> None:
        """`listening` does not block, and is not closed here."""
        self.broken = 0
        self._listening = listening
        self._selector = selectors.DefaultSelector()
        # In the order in which they were last heard of.
        self._connections: dict[socket.socket, _Connection] = {}

    def __enter__(self) -> "TextConnections":
        self._selector.register(self._listening, selectors.EVENT_READ)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for client in list(self._connections):
            self._close(client)
        self._selector.close()

    def __len__(self) -> int:
        return len(self._connections)

    def receive(self, seconds: float) -> Iterator[tuple[socket.socket, bytes]]:
        """Texts that are whole, with their connections; waits for something to come for so long."""
        for key, _events in self._selector.select(seconds):
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if client is self._listening:
                self._accept()
            elif client in self._connections:
                yield from ((client, text) for text in self._read(client))
        now = time.monotonic()
        for client in [client for client, one in self._connections.items() if one.until < now]:
            self._break(client)

    def _accept(self) -> None:
        try:
            client, _address = self._listening.accept()
        except OSError:
            # It went away, or there are no file descriptors now: not at once again.
            time.sleep(0.01)
            return
        client.setblocking(False)
        if len(self._connections) >= MOST_CONNECTIONS:
            oldest = next(iter(self._connections))
            self._break(oldest) if self._connections[oldest].text else self._close(oldest)
        self._connections[client] = _Connection()
        self._selector.register(client, selectors.EVENT_READ)

    def _read(self, client: socket.socket) -> Iterator[bytes]:
        connection = self._connections.pop(client)
        self._connections[client] = connection
        try:
            came = client.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        if not connection.text:
            connection.until = time.monotonic() + TEXT_SECONDS
        # Its first bytes may have come before.
        searched = max(0, len(connection.text) - len(_END_LINE))
        connection.text += came
        while (end := connection.text.find(_END_LINE, searched)) >= 0:
            text = bytes(connection.text[: end + len(_END_LINE)])
            del connection.text[: end + len(_END_LINE)]
            searched = 0
            yield text
        if not came:
            if connection.text.strip():
                yield bytes(connection.text)
            self._close(client)
        elif not connection.text:
            connection.until = float("inf")
        elif len(connection.text) > LONGEST_TEXT:
            self._break(client)

    def _break(self, client: socket.socket) -> None:
        self.broken += 1
        self._close(client)

    def _close(self, client: socket.socket) -> None:
        del self._connections[client]
        self._selector.unregister(client)
        with suppress(OSError):
            client.close()
