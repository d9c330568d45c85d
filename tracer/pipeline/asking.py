# SPDX-License-Identifier: Apache-2.0
"""Asks the runtimes' state on disk for the names of containers, and looks whether they have changed since."""

import heapq
import time
from collections.abc import Callable

from tracer.containers.identity import ContainerKey
from tracer.containers.inventory import Arrival, Departure, Inventory
from tracer.containers.runtime_state import Record, RuntimeState
from tracer.containers.runtime_state.files import Version

# A container without names is asked for at once, and again after twice the time it has had; at last no more, since
# some have none that could be found, such as those that run within other containers.
_FIRST_RETRY_SECONDS = 0.02
_LAST_RETRY_SECONDS = 30.0
_LOOK_SECONDS = 1.0


class _Question:
    """A container that exists: what its path tells of the runtime, and since when (monotonic) it is asked for."""

    __slots__ = ("arrived_ns", "key", "record", "runtime", "since")

    def __init__(self, arrival: Arrival, now: float) -> None:
        self.key = arrival.key
        self.runtime = arrival.runtime
        self.arrived_ns = arrival.time_ns
        self.since = now
        self.record: Record | None = None


class _Kept:
    """A file or directory in which names stand: its version when they were read last, and whose they are."""

    __slots__ = ("containers", "version")

    def __init__(self) -> None:
        self.containers: dict[ContainerKey, _Question] = {}
        # That of the first reading is not known for certain.
        self.version: Version | None = None


class Asking:
    """Gives the inventory names from the state on disk, for as long as their containers exist. Not thread-safe."""

    def __init__(self, inventory: Inventory, state: RuntimeState, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self._inventory = inventory
        self._state = state
        self._clock = clock
        self._questions: dict[ContainerKey, _Question] = {}
        # (when it is due, a number that no other has, the question)
        self._due: list[tuple[float, int, _Question]] = []
        self._number = 0
        self._unanswered: dict[ContainerKey, _Question] = {}
        self._places: dict[str, Version | None] = {}
        self._kept: dict[str, _Kept] = {}
        self._looked_ns = 0
        self._next_look = 0.0

    def take(self, move: Arrival | Departure) -> None:
        """A container that came, which is due at once, or that went and is asked for no more."""
        self._forget(move.key)
        if isinstance(move, Arrival):
            now = self._clock()
            question = self._questions[move.key] = _Question(move, now)
            self._ask_at(now, question)

    def ask(self) -> None:
        """Looks up the containers that are due, and each second whether names or places to look at have changed."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            question = heapq.heappop(self._due)[2]
            if self._questions.get(question.key) is question:
                self._ask(question, now)
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._look_for_renamed()
            self._look_for_unanswered(now)

    def _ask(self, question: _Question, now: float) -> None:
        found = self._state.find(question.key, question.runtime)
        if found is not None:
            # One that was stopped, renamed and started has its name from its start.
            self._inventory.give_names(question.key, found.names, "runtime", question.arrived_ns)
            if found.record is not None:
                question.record = found.record
                self._kept.setdefault(found.record.path, _Kept()).containers[question.key] = question
        elif self._inventory.is_nameless(question.key):
            had = now - question.since
            if had < _LAST_RETRY_SECONDS:
                self._ask_at(now + max(_FIRST_RETRY_SECONDS, had), question)
            else:
                self._unanswered[question.key] = question

    def _ask_at(self, when: float, question: _Question) -> None:
        self._number += 1
        heapq.heappush(self._due, (when, self._number, question))

    def _forget(self, key: ContainerKey) -> None:
        question = self._questions.pop(key, None)
        self._unanswered.pop(key, None)
        if question is not None and question.record is not None:
            path = question.record.path
            del self._kept[path].containers[key]
            if not self._kept[path].containers:
                del self._kept[path]

    def _look_for_renamed(self) -> None:
        """Reads names again where they stand, if that was written since; renamed between this look and the last."""
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        ahead_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns
        for path, kept in self._kept.items():
            version: Version | None = None
            for question in kept.containers.values():
                assert question.record is not None
                version = version or question.record.files.version(path)
                if version is None or version == kept.version:
                    break
                names = question.record.read()
                if names is not None:
                    written_ns = min(now_ns, max(self._looked_ns, version.modified_ns - ahead_ns))
                    self._inventory.give_names(question.key, names, "runtime", written_ns)
            kept.version = version
        self._looked_ns = now_ns

    def _look_for_unanswered(self, now: float) -> None:
        """Asks again for what was not found, once there is something of its name where containers are kept."""
        for user_id in {key.user_id for key in self._unanswered}:
            for reader in self._state.readers(user_id):
                for place in reader.places():
                    version = reader.files.version(place)
                    if version is None or self._places.get(place) == version:
                        continue
                    self._places[place] = version
                    for name in reader.files.names_in(place):
                        question = self._unanswered.pop(ContainerKey(name, user_id), None)
                        if question is not None:
                            question.since = now
                            self._ask_at(now, question)
