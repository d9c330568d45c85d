# SPDX-License-Identifier: Apache-2.0
"""Two threads that hear applications: datagrams of DogStatsD, and text by streams. Neither holds anybody up for long.

What breaks one of them is a note in the manifest and the end of its rows, never of the run.
"""

import selectors
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from tracer.ingest.allowance import cost_of, cost_of_text
from tracer.ingest.dogstatsd import is_ignored, messages_of, parse_message
from tracer.ingest.messages import MalformedError
from tracer.ingest.openmetrics import parse_exposition
from tracer.ingest.sockets import Datagram, DatagramReceiver, peer_pid, throw_away
from tracer.ingest.text_connections import TextConnections
from tracer.kernel.cpus import online_cpus
from tracer.pipeline.intake import Intake, monotonic_ns
from tracer.pipeline.pace import affordable_share
from tracer.pipeline.senders import Senders

_LOOK_SECONDS: Final = 0.25
_HAND_ON_NS: Final = 1_000_000_000
_DATAGRAMS_AT_ONCE: Final = 16
_DRAINS_AT_END: Final = 256
# The kernel queues 10 where nobody set net.unix.max_dgram_qlen; whoever finds the queue full waits, or loses them.
_FEW: Final = 5
# Instead of a wake-up for each datagram of many.
_PAUSE_SECONDS: Final = 0.001
_LONGEST_PAUSE_SECONDS: Final = 0.01
_LONGEST_TEXT_PAUSE_SECONDS: Final = 1.0
_READINGS: Final = 4
_HELD_UP_NS: Final = 20_000


class _Drained(NamedTuple):
    """How many datagrams were taken, and whether some were not read as there were too many."""

    taken: int
    is_too_much: bool


class _Ingesting(threading.Thread):
    """`finish` it."""

    def __init__(self, what: str, intake: Intake, senders: Senders, note: Callable[[str], None]) -> None:
        super().__init__(name=f"tracer-{what}", daemon=True)
        self._what = what
        self._intake = intake
        self._senders = senders
        self._note = note
        self._share = affordable_share(len(online_cpus()))
        self._finish = threading.Event()

    def run(self) -> None:
        """Called by the thread; ends after `finish`."""
        try:
            self.receive()
        except Exception as error:
            self._note(f"{self._what} of applications are not heard any more, from here on: {error!r}")
        finally:
            # Whoever sends is not to wait for somebody that takes nothing any more.
            self.turn_away()
            self._senders.close()

    @abstractmethod
    def receive(self) -> None:
        """Until `finish`."""

    @abstractmethod
    def turn_away(self) -> None:
        """What comes from now on is not kept."""

    def finish(self) -> None:
        """Ends the thread within a moment."""
        self._finish.set()


class DatagramIngesting(_Ingesting):
    """Also hands on what both have taken, each second; the last of it is left to whoever ends the run."""

    def __init__(self, receiving: socket.socket, intake: Intake, senders: Senders, note: Callable[[str], None]) -> None:
        super().__init__("datagrams", intake, senders, note)
        self._socket = receiving
        self._receiver = DatagramReceiver(receiving)
        # Nothing in the queue is from before this (CLOCK_MONOTONIC), whatever the wall clock did meanwhile.
        self._empty_ns = monotonic_ns()

    def receive(self) -> None:
        due_ns = monotonic_ns() + _HAND_ON_NS
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not self._finish.is_set():
                selector.select(_LOOK_SECONDS)
                begun_cpu_ns = time.thread_time_ns()
                drained = self._drain()
                if drained.is_too_much:
                    # Somebody floods it: the others wait no longer than this, and the node's CPUs are not for that.
                    cost_ns = time.thread_time_ns() - begun_cpu_ns
                    self._finish.wait(min(cost_ns / self._share / 1e9, _LONGEST_PAUSE_SECONDS))
                elif drained.taken <= _FEW:
                    self._finish.wait(_PAUSE_SECONDS)
                if (now_ns := monotonic_ns()) >= due_ns:
                    due_ns = now_ns + _HAND_ON_NS
                    self._intake.hand_on(now_ns)
        # What was sent before the end, unless it never ends.
        for _time in range(_DRAINS_AT_END):
            if self._drain().taken < _DATAGRAMS_AT_ONCE:
                break

    def turn_away(self) -> None:
        throw_away(self._socket)

    def _drain(self) -> _Drained:
        """Takes what waits, but no more than a few at once."""
        begun_ns, is_too_much = monotonic_ns(), False
        for taken in range(_DATAGRAMS_AT_ONCE):
            if (datagram := self._receiver.receive()) is None:
                self._empty_ns = begun_ns
                return _Drained(taken, is_too_much)
            realtime_ns, begun_ns = _by_both_clocks()
            is_too_much |= not self._take(datagram, realtime_ns, begun_ns)
        return _Drained(_DATAGRAMS_AT_ONCE, is_too_much)

    def _take(self, datagram: Datagram, realtime_ns: int, now_ns: int) -> bool:
        """Whether it was read; both times are now, by CLOCK_REALTIME and CLOCK_MONOTONIC."""
        content = datagram.content
        age_ns = 0
        if datagram.realtime_ns is not None:
            age_ns = realtime_ns - datagram.realtime_ns
        received_ns = min(max(now_ns - age_ns, self._empty_ns), now_ns)
        boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - (now_ns - received_ns)
        cgroup_id = self._senders.cgroup_of(datagram.pid, boottime_ns)
        if not self._intake.allows(cgroup_id, cost_of(content), now_ns):
            self._intake.count(messages_dropped=content.count(b"\n") + 1)
            return False
        if datagram.is_cut:
            # Half a message may look like a whole one.
            content = content[: content.rfind(b"\n") + 1]
            self._intake.count(messages=1, messages_malformed=1)
        for line in messages_of(content):
            if is_ignored(line):
                self._intake.count(messages=1, messages_ignored=1)
                continue
            try:
                message = parse_message(line)
            except MalformedError:
                self._intake.count(messages=1, messages_malformed=1)
            else:
                self._intake.take(message, cgroup_id, received_ns, can_claim=not datagram.pid)
        return True


def _by_both_clocks() -> tuple[int, int]:
    """Now by CLOCK_REALTIME and CLOCK_MONOTONIC, read again if the thread was held up between them."""
    for _reading in range(_READINGS):
        before_ns, realtime_ns, now_ns = monotonic_ns(), time.clock_gettime_ns(time.CLOCK_REALTIME), monotonic_ns()
        if now_ns - before_ns < _HELD_UP_NS:
            break
    return realtime_ns, now_ns


class TextIngesting(_Ingesting):
    """Expositions by streams; each is of the moment in which its last byte came."""

    def __init__(self, listening: socket.socket, intake: Intake, senders: Senders, note: Callable[[str], None]) -> None:
        super().__init__("texts", intake, senders, note)
        self._listening = listening
        self._connections = TextConnections(listening)

    def receive(self) -> None:
        with self._connections as connections:
            while not self._finish.is_set():
                begun_cpu_ns = time.thread_time_ns()
                for connection, text in connections.receive(_LOOK_SECONDS):
                    self._take(connection, text)
                # Whoever connects all the time, or sends what takes long to read, takes no more than a share either.
                cost_seconds = (time.thread_time_ns() - begun_cpu_ns) / 1e9
                self._finish.wait(min(cost_seconds / self._share, _LONGEST_TEXT_PAUSE_SECONDS))
                self._intake.count(messages=connections.broken, messages_malformed=connections.broken)
                connections.broken = 0

    def turn_away(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)

    def _take(self, connection: socket.socket, text: bytes) -> None:
        now_ns = monotonic_ns()
        pid = 0
        with suppress(OSError):
            pid = peer_pid(connection)
        cgroup_id = self._senders.cgroup_of(pid, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        if not self._intake.allows(cgroup_id, cost_of_text(text), now_ns):
            self._intake.count(messages_dropped=text.count(b"\n") + 1)
            return
        try:
            for message in parse_exposition(text):
                if message is None:
                    self._intake.count(messages=1, messages_ignored=1)
                else:
                    self._intake.take(message, cgroup_id, now_ns)
        except MalformedError:
            self._intake.count(messages=1, messages_malformed=1)
