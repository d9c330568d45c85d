# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is where not all can be read in one pass."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Waiting(NamedTuple):
    """A process that waits for its turn."""

    process: tuple[int, int]
    """Pid and start time: no other process has both."""
    container: str
    """Those with the same take turns with the others as one; on the host, the cgroup."""
    is_host: bool
    """Whether it belongs to no container."""
    size: int


class Turns:
    """Gives turns over many passes, in rounds: each process that is there when a round begins has one turn in it.

    Those that never had a turn come first, and containers' processes before the host's own. Among containers that one
    is next which took the least time so far in this round, and in a container the smallest process: one that is large
    or has many processes is in nobody's way. A container's process that comes during a round need not wait for the
    host's, with which it shares the time; other newcomers are first in the next round. So however many come, nobody
    waits for ever.
    """

    def __init__(self) -> None:
        self._members: set[tuple[int, int]] = set()
        """Who has, or had, a turn in this round."""
        self._had: set[tuple[int, int]] = set()
        """Who had one in this round."""
        self._ever: set[tuple[int, int]] = set()
        """Who had one in any."""
        self._spent_ns: defaultdict[str, int] = defaultdict(int)
        self._newcomers_ns = 0
        self._host_ns = 0

    def order(self, waiting: Iterable[Waiting]) -> Iterator[Waiting]:
        """All of `waiting` once, to be taken as far as a pass goes; each one that was taken is told to `took`."""
        left = {one.process: one for one in waiting}
        there = set(left)
        for known in (self._members, self._had, self._ever):
            known &= there
        while left:
            members = [one for process, one in left.items() if process in self._members and process not in self._had]
            if not members:
                self._begin_round(there)
                members = list(left.values())
            newcomers = [one for process, one in left.items() if process not in self._members and not one.is_host]
            for one in self._of_round(members, self._fairly(newcomers)):
                del left[one.process]
                yield one

    def took(self, one: Waiting, spent_ns: int) -> None:
        """The turn of `one` is over, and took so much time."""
        self._had.add(one.process)
        self._ever.add(one.process)
        self._spent_ns[one.container] += spent_ns
        if one.is_host:
            self._host_ns += spent_ns
        elif one.process not in self._members:
            self._newcomers_ns += spent_ns

    def _begin_round(self, members: set[tuple[int, int]]) -> None:
        self._members = set(members)
        self._had.clear()
        self._spent_ns.clear()
        self._newcomers_ns = self._host_ns = 0

    def _of_round(self, members: list[Waiting], newcomers: Iterator[Waiting]) -> Iterator[Waiting]:
        """All members, and newcomers while it is the turn of the host's."""
        first = [one for one in members if one.process not in self._ever]
        again = [one for one in members if one.process in self._ever]
        for some in (first, again):
            yield from self._fairly([one for one in some if not one.is_host])
            for of_host in self._fairly([one for one in some if one.is_host]):
                while self._newcomers_ns <= self._host_ns and (newcomer := next(newcomers, None)) is not None:
                    yield newcomer
                yield of_host

    def _fairly(self, waiting: list[Waiting]) -> Iterator[Waiting]:
        """All of them, each time from the container that took the least time so far."""
        queues: defaultdict[str, list[Waiting]] = defaultdict(list)
        # The smallest is the last, to be taken off the end.
        for one in sorted(waiting, key=lambda one: one.size, reverse=True):
            queues[one.container].append(one)
        heap = [(self._spent_ns[container], queue[-1].size, container) for container, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            queue = queues[heap[0][-1]]
            one = queue.pop()
            yield one
            if queue:
                heapq.heapreplace(heap, (self._spent_ns[one.container], queue[-1].size, one.container))
            else:
                heapq.heappop(heap)
