# SPDX-License-Identifier: Apache-2.0
"""The few words of HTTP that a scraper or `tracer top` needs, in one thread, within bounds that no stranger moves.

One request a connection: a request line and headers of at most 8 KiB that must have come within 5 s, an answer that
must be taken within 10 s. At most 16 connections; a further one takes the place of the oldest, so that those who do
nothing keep nobody out. What a request has as its body is thrown away.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Final, NamedTuple

READING: Final = ("GET", "HEAD")
MOST_CONNECTIONS: Final = 16
LARGEST_REQUEST_BYTES: Final = 8192
REQUEST_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.5
_CHUNK_BYTES: Final = 65536
_END_SECONDS: Final = 1.0
_MOST_THROWN_AWAY_BYTES: Final = 1 << 20


class Answer(NamedTuple):
    """What is answered; `extra` are further header lines."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    extra: tuple[tuple[str, str], ...] = ()


class _Connection:
    """One client: what came of its request, then what is left of its answer."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.request = bytearray()
        self.answer = memoryview(b"")
        self.is_answered = False
        self.thrown_away = 0
        self.until = time.monotonic() + REQUEST_SECONDS


class Server(threading.Thread):
    """Answers until `finish`. `answer` takes method, target and the header `Accept`; what it raises becomes a 500."""

    def __init__(
        self,
        listening: socket.socket,
        answer: Callable[[str, str, str], Answer],
        failed: Callable[[Exception], None],
        *,
        name: str = "metrics",
        methods: Sequence[str] = READING,
    ) -> None:
        """`listening` does not block, and is closed at the end. `failed` is told of what `answer` raises."""
        super().__init__(name=f"tracer-{name}", daemon=True)
        self._methods = methods
        self._listening = listening
        self._answer = answer
        self._failed = failed
        self._selector = selectors.DefaultSelector()
        self._connections: dict[socket.socket, _Connection] = {}
        self._finish = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def run(self) -> None:
        """Called by the thread."""
        try:
            while not self._finish.is_set():
                for key, _events in self._selector.select(_LOOK_SECONDS):
                    if key.fileobj is self._listening:
                        self._accept()
                    elif (connection := self._connections.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                        self._go_on(connection)
                self._close_late()
        finally:
            for connection in list(self._connections.values()):
                self._close(connection)
            self._listening.close()
            self._selector.close()
            self._wake.close()
            self._woken.close()

    def finish(self) -> None:
        """Nobody is answered any more. Call it once, from another thread."""
        self._finish.set()
        with suppress(OSError):
            self._wake.send(b"x")

    def _accept(self) -> None:
        try:
            client, _address = self._listening.accept()
        except OSError:
            # It went away, or there are no file descriptors now: not at once again.
            self._finish.wait(0.01)
            return
        client.setblocking(False)
        if len(self._connections) >= MOST_CONNECTIONS:
            self._close(next(iter(self._connections.values())))
        self._connections[client] = _Connection(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _go_on(self, connection: _Connection) -> None:
        try:
            if connection.is_answered:
                self._await_end(connection)
            elif connection.answer:
                self._send(connection)
            else:
                self._receive(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _receive(self, connection: _Connection) -> None:
        if not (came := connection.client.recv(LARGEST_REQUEST_BYTES)):
            self._close(connection)
            return
        connection.request += came
        head, end, _body = bytes(connection.request).replace(b"\r\n", b"\n").partition(b"\n\n")
        if end:
            answer, with_body = answer_to(head, self._answer, self._failed, self._methods)
        elif len(connection.request) > LARGEST_REQUEST_BYTES:
            answer, with_body = _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        else:
            return
        connection.answer = memoryview(encoded(answer, with_body=with_body))
        connection.until = time.monotonic() + ANSWER_SECONDS
        self._selector.modify(connection.client, selectors.EVENT_WRITE)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        sent = connection.client.send(connection.answer[:_CHUNK_BYTES])
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            # What was not read when a socket is closed makes the kernel take back what was sent (RFC 9112, 9.6).
            connection.client.shutdown(socket.SHUT_WR)
            connection.is_answered = True
            connection.until = time.monotonic() + _END_SECONDS
            self._selector.modify(connection.client, selectors.EVENT_READ)

    def _await_end(self, connection: _Connection) -> None:
        came = connection.client.recv(_CHUNK_BYTES)
        connection.thrown_away += len(came)
        if not came or connection.thrown_away > _MOST_THROWN_AWAY_BYTES:
            self._close(connection)

    def _close_late(self) -> None:
        now = time.monotonic()
        for connection in [one for one in self._connections.values() if one.until < now]:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.client]
        self._selector.unregister(connection.client)
        connection.client.close()


def answer_to(
    head: bytes,
    answer: Callable[[str, str, str], Answer],
    failed: Callable[[Exception], None],
    methods: Sequence[str] = READING,
) -> tuple[Answer, bool]:
    """Of a request's line and headers, with line feeds as ends, and whether the body belongs to it too."""
    if len(head) > LARGEST_REQUEST_BYTES:
        return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
    line, _, rest = head.partition(b"\n")
    words = line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return _plain(HTTPStatus.BAD_REQUEST), True
    method, target, _version = words
    if method not in methods:
        return _plain(HTTPStatus.METHOD_NOT_ALLOWED)._replace(extra=(("Allow", ", ".join(methods)),)), True
    try:
        accept = ",".join(map(str, parse_headers(BytesIO(rest + b"\n\n")).get_all("Accept", [])))
    except HTTPException:
        return _plain(HTTPStatus.BAD_REQUEST), method != "HEAD"
    try:
        return answer(method, target, accept), method != "HEAD"
    except Exception as error:
        failed(error)
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR), method != "HEAD"


def _plain(status: HTTPStatus) -> Answer:
    return Answer(status, f"{status.phrase}\n".encode())


def encoded(answer: Answer, *, with_body: bool) -> bytes:
    """As it is sent."""
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Connection", "close"),
        ("X-Content-Type-Options", "nosniff"),
        *answer.extra,
    ]
    lines = [f"HTTP/1.1 {answer.status.value} {answer.status.phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (answer.body if with_body else b"")
