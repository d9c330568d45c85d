# SPDX-License-Identifier: Apache-2.0
"""A bounded queue between two threads that either of them can end, so that neither waits for one that is gone."""

import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Items in order, from any number of threads that put to one that takes.

    Putting waits while `capacity` items wait to be taken. `close` is the putters' end: what is there can still be
    taken. `abandon` is the taker's: whoever puts is not held up by it, and is told that nobody takes any more.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> bool:
        """Whether the item was put: False if nobody will take it, as either side has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or len(self._items) < self._capacity)
            if self._has_ended:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def take(self, timeout: float | None = None) -> Item | None:
        """The next item; None once all were taken and no more comes. Raises TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_ended or self._items, timeout):
                raise TimeoutError
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more is put."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> list[Item]:
        """No more is taken. Returns what was not."""
        with self._changed:
            self._abandoned = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return left

    @property
    def _has_ended(self) -> bool:
        return self._closed or self._abandoned
