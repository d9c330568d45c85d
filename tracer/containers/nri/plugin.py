# SPDX-License-Identifier: Apache-2.0
"""The plug-in's thread: connects to the runtime, answers it at once, and connects anew when the connection ends.

The runtime waits for each reply with a lock held that all its containers need. So the thread sends prepared bytes and
only then decodes, and it never waits for the consumer: an event that finds the queue full is counted and dropped.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NoReturn

import msgspec

from tracer.containers.identity import printable_path
from tracer.containers.nri.conversation import REGISTRATION, Conversation
from tracer.containers.nri.decoding import MAX_SYNCHRONIZED
from tracer.containers.nri.events import Disconnected, Event
from tracer.containers.nri.framing import NriError

_MAX_QUEUED = 2 * MAX_SYNCHRONIZED
_RECEIVE_BYTES = 1 << 16

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0
# The runtime lets plug-ins in one after the other, each for up to 5 s of registration and 2 s of synchronisation.
_REGISTRATION_SECONDS = 30
# As long as the runtime waits for a reply (NRI, DefaultPluginRequestTimeout).
_SEND_SECONDS = 2
_CLOSE_SECONDS = 0.5

_CLOSED = "the runtime closed the connection"


class Status(msgspec.Struct, frozen=True):
    """`absent`: there is no runtime to connect to. `reconnecting`: there was one, or it does not let the plug-in in.

    detail: the runtime's name and version, or why there is no connection, or nothing yet; one printable line.
    """

    state: Literal["connected", "absent", "reconnecting"]
    detail: str


class NriPlugin:
    """Puts into `events` what the runtime behind `socket_path` says, from `start()` to `close()`.

    Nothing of it raises: without a runtime, `status` says why, and the socket is tried again, at first after 0.5 s, at
    last every 30 s.
    """

    def __init__(self, socket_path: Path, events: SimpleQueue[Event]) -> None:
        self.status = Status("absent", "not tried yet")
        self.dropped = 0
        """Events not put into the queue, which already held 16,384."""
        self.undecoded = 0
        """Messages that could not be decoded, each an event or a part of a synchronisation."""
        self._socket_path = socket_path
        self._events = events
        self._closing = threading.Event()
        # Guards against shutting down a descriptor that is another file's by then. Never held while answering.
        self._socket_lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._live, name="tracer-nri", daemon=True)

    def start(self) -> None:
        """Starts the thread, once."""
        self._thread.start()

    def close(self) -> None:
        """Ends the connection and the thread; within a second, whatever the runtime does."""
        self._closing.set()
        with self._socket_lock:
            if self._socket is not None:
                _shut_down(self._socket)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def _live(self) -> None:
        _go_before_others()
        retry_seconds = _FIRST_RETRY_SECONDS
        while not self._closing.is_set():
            began = time.monotonic()
            status = self._connect_and_converse()
            if self._closing.is_set():
                break
            if status.state == "reconnecting" and status != self.status:
                self._publish(Disconnected(time_ns=_now_ns(), reason=status.detail))
            self.status = status
            # Not after each connection: a runtime that takes the plug-in in and drops it would do so twice a second,
            # each time with a synchronisation, during which it starts no container.
            if time.monotonic() - began > _LAST_RETRY_SECONDS:
                retry_seconds = _FIRST_RETRY_SECONDS
            self._closing.wait(retry_seconds)
            retry_seconds = min(2 * retry_seconds, _LAST_RETRY_SECONDS)
        self.status = Status("absent", "closed")

    def _connect_and_converse(self) -> Status:
        """One connection from its first to its last byte; the status it leaves."""
        try:
            connection = _connect(self._socket_path)
        except OSError as error:
            return Status("absent", printable_path(f"{self._socket_path}: {error.strerror or error}"))
        try:
            self._hold(connection)
            if self._closing.is_set():
                # close() came too early to shut this socket down.
                return self.status
            self._converse(connection)
        except NriError as error:
            return Status("reconnecting", str(error))
        except ConnectionError:
            return Status("reconnecting", _CLOSED)
        except OSError as error:
            return Status("reconnecting", error.strerror or str(error))
        except Exception as error:
            # Whatever is wrong with the plug-in, it is no reason for the run to end.
            return Status("reconnecting", printable_path(f"defect: {error!r}"))
        finally:
            self._hold(None)
            connection.close()

    def _hold(self, connection: socket.socket | None) -> None:
        """Lets close() reach this socket, or none any more."""
        with self._socket_lock:
            self._socket = connection

    def _converse(self, connection: socket.socket) -> NoReturn:
        conversation = Conversation()
        _send(connection, REGISTRATION)
        while True:
            data = _receive(connection)
            for output in conversation.receive(data, _now_ns()):
                if isinstance(output, bytes):
                    _send(connection, output)
                elif output is None:
                    self.undecoded += 1
                else:
                    self._publish(output)
            if conversation.synchronized and self.status.state != "connected":
                _set_timeout(connection, socket.SO_RCVTIMEO, 0)
                self.status = Status("connected", conversation.runtime)

    def _publish(self, event: Event) -> None:
        # SimpleQueue takes no lock that a reader holds, but has no bound of its own.
        if self._events.qsize() < _MAX_QUEUED:
            self._events.put_nowait(event)
        else:
            self.dropped += 1


def _go_before_others() -> None:
    """Has this thread run as soon as it can: a reply takes microseconds, and all containers wait for it.

    Without the right to it, replies are merely slower. A kernel without preemption lets a thread of the usual policy
    wait for milliseconds, whatever its nice value.
    """
    # 0 is the calling thread, not the process (sched_setscheduler(2)).
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _connect(path: Path) -> socket.socket:
    """A connection whose calls block, with the kernel's own timeouts."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # With a full backlog a blocking connect would wait for the runtime.
        connection.setblocking(False)
        connection.connect(str(path))
        connection.setblocking(True)
        # Not Python's timeouts: those poll before each call, which costs a second wait for the interpreter's lock.
        _set_timeout(connection, socket.SO_RCVTIMEO, _REGISTRATION_SECONDS)
        _set_timeout(connection, socket.SO_SNDTIMEO, _SEND_SECONDS)
    except OSError:
        connection.close()
        raise
    return connection


def _set_timeout(connection: socket.socket, option: int, seconds: int) -> None:
    """0 is for ever."""
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except BlockingIOError:
        raise NriError("the runtime does not read the replies") from None


def _receive(connection: socket.socket) -> bytes:
    try:
        data = connection.recv(_RECEIVE_BYTES)
    except BlockingIOError:
        raise NriError(f"the runtime did not let the plug-in in within {_REGISTRATION_SECONDS} s") from None
    if not data:
        raise NriError(_CLOSED)
    return data


def _shut_down(connection: socket.socket) -> None:
    """Wakes the thread that waits for this socket."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
