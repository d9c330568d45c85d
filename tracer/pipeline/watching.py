# SPDX-License-Identifier: Apache-2.0
"""A thread beside the stages: whatever tells of cgroups and containers, into the inventory."""

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tracer.cgroup_event import CgroupEvent
from tracer.containers.identity import ContainerKey
from tracer.containers.inotify_watch import InotifyWatch
from tracer.containers.inventory import Arrival, Departure, Inventory
from tracer.containers.runtime_state import RuntimeState
from tracer.errors import NodeUnsupportedError
from tracer.kernel.cgroup_events import CgroupEvents
from tracer.pipeline.asking import Asking

if TYPE_CHECKING:
    from tracer.containers.nri.events import Event as NriEvent

# Events of cgroups wake the thread; only those of NRI, which can do no more than add to a name, wait for its turn.
_READ_SECONDS = 0.1
_SWITCH_SECONDS = 0.0005
_END_SECONDS = 1.0
_UNTAKEN_AT_MOST = 65_536


class Watching(threading.Thread):
    """Feeds the inventory from the kernel's events, or inotify's, from the runtimes' state on disk, and from NRI.

    Each source may be missing or break, and so may this thread: then the others, and at last the walk, do what they
    can, and a note says so. Nothing of it ends the run. It does nothing else that takes time: a container that lives
    a few milliseconds takes its names with it. `see_beginning` and `see_end` are told of each cgroup that has just got
    its first process, or lost its last one.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        root: Path,
        cgroup_events: CgroupEvents | None,
        nri_socket: Path | None,
        runtime_state: RuntimeState,
        see_beginning: Callable[[int], None],
        see_end: Callable[[int], None],
        note: Callable[[str], None],
    ) -> None:
        super().__init__(name="tracer-watching", daemon=True)
        self._inventory = inventory
        self._root = root
        self._kernel = cgroup_events
        self._nri_socket = nri_socket
        self._see_beginning = see_beginning
        self._see_end = see_end
        self._note = note
        self._asking = Asking(inventory, runtime_state)
        self._asking_users = _AskingUsers(Asking(inventory, runtime_state), note)
        self._finish = threading.Event()
        self._lost = 0
        self.nri_dropped = 0

    @property
    def lost(self) -> int:
        """Events of the kernel that found no room in their ring."""
        return self._lost

    def run(self) -> None:
        """Called by the thread; ends after `finish`."""
        try:
            self._watch()
        except Exception as error:
            self._note(f"cgroups are named by walks only, from here on: {error!r}")

    def finish(self) -> None:
        """Ends the thread within a moment."""
        self._finish.set()

    def _watch(self) -> None:
        inotify = self._watch_by_inotify() if self._kernel is None else None
        nri_events: queue.SimpleQueue[NriEvent] = queue.SimpleQueue()
        plugin = None
        if self._nri_socket is not None:
            # protobuf costs 7 MB: only where it is wanted.
            from tracer.containers.nri.plugin import NriPlugin

            # A reply waits for the interpreter's lock at most so long, of Python's usual 5 ms.
            sys.setswitchinterval(_SWITCH_SECONDS)
            plugin = NriPlugin(self._nri_socket, nri_events)
            plugin.start()
        self._asking_users.start()
        try:
            while not self._finish.is_set():
                self._read(inotify)
                if plugin is not None:
                    self._take_nri(nri_events, plugin.status.detail)
                    self.nri_dropped = plugin.dropped
                self._ask_for_names()
            # What was told while the last ones were looked at.
            self._read(inotify)
            self._ask_for_names()
        finally:
            self._asking_users.finish()
            if plugin is not None:
                plugin.close()
            if inotify is not None:
                inotify.close()

    def _watch_by_inotify(self) -> InotifyWatch | None:
        watch = InotifyWatch(self._root)
        try:
            watch.start()
        except (NodeUnsupportedError, OSError) as error:
            self._note(f"cgroups are found by walks only: {error}")
            return None
        return watch

    def _read(self, inotify: InotifyWatch | None) -> None:
        if self._kernel is not None:
            for event in self._kernel.read(_READ_SECONDS):
                self._inventory.see(event, "kernel")
                if event.kind == "populated":
                    self._see_beginning(event.cgroup_id)
                if event.kind == "emptied":
                    self._see_end(event.cgroup_id)
                if event.kind == "created":
                    # A short life's names are gone with it.
                    self._ask_for_names()
            if self._kernel.lost > self._lost:
                self._lost = self._kernel.lost
                self._inventory.refresh()
        elif inotify is not None:
            for told in inotify.read(_READ_SECONDS):
                if isinstance(told, CgroupEvent):
                    self._inventory.see(told, "inotify")
                else:
                    self._note(f"inotify missed something below {told.path}: {told.cause}")
                    self._inventory.refresh()
        else:
            self._finish.wait(_READ_SECONDS)

    def _take_nri(self, events: "queue.SimpleQueue[NriEvent]", runtime: str) -> None:
        from tracer.containers.nri.naming import names_of

        while not events.empty():
            event = events.get()
            if (named := names_of(event, runtime)) is not None:
                container_id, names = named
                key = ContainerKey(container_id)
                self._inventory.give_names(key, names, "nri")
                # Of a container that is only just created nothing of its own has run yet.
                for cgroup_id in self._inventory.cgroups_of(key):
                    self._see_beginning(cgroup_id)

    def _ask_for_names(self) -> None:
        for move in self._inventory.take_moves():
            if move.key.user_id is None:
                self._asking.take(move)
            else:
                self._asking_users.take(move)
        self._asking.ask()


class _AskingUsers(threading.Thread):
    """Asks for the names of users' containers: a home on a server that does not answer must hold up nobody else."""

    def __init__(self, asking: Asking, note: Callable[[str], None]) -> None:
        super().__init__(name="tracer-users", daemon=True)
        self._moves: deque[Arrival | Departure] = deque(maxlen=_UNTAKEN_AT_MOST)
        self._asking = asking
        self._note = note
        self._wake = threading.Event()
        self._finish = False

    def run(self) -> None:
        """Called by the thread; ends after `finish`."""
        try:
            while not self._finish:
                self._wake.wait(_READ_SECONDS)
                self._wake.clear()
                while self._moves:
                    self._asking.take(self._moves.popleft())
                self._asking.ask()
        except Exception as error:
            self._note(f"containers of users have no names, from here on: {error!r}")

    def take(self, move: Arrival | Departure) -> None:
        """A user's container that came or went."""
        self._moves.append(move)
        self._wake.set()

    def finish(self) -> None:
        """Ends the thread; not for long, since it may be waiting for some file system."""
        self._finish = True
        self._wake.set()
        self.join(_END_SECONDS)
