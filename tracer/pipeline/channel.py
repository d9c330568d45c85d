# SPDX-License-Identifier: Apache-2.0
"""A bounded queue between two threads that either of them can end, so that neither waits for one that is gone."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Items in order, from any number of threads that put to one that takes.

    It is full while items of `capacity` wait to be taken, each of which counts as `size` says: an item that is larger
    than what is left still goes in, once. Putting waits then, offering does not. `close` is the putters' end: what is
    there can still be taken. `abandon` is the taker's: whoever puts is not held up by it, and is told that nobody takes
    any more.
    """

    def __init__(self, capacity: int, size: Callable[[Item], int] = lambda _item: 1) -> None:
        self._capacity = capacity
        self._size_of = size
        self._size = 0
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._abandoned = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        """Of the items that wait, as they count towards the capacity."""
        return self._size

    def put(self, item: Item) -> bool:
        """Whether the item was put: False if nobody will take it, as either side has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended or self._size < self._capacity)
            return self._add(item)

    def offer(self, item: Item) -> bool:
        """Whether the item was put: False if there is no room now, or nobody will take it. Never waits."""
        with self._changed:
            return self._size < self._capacity and self._add(item)

    def take(self, timeout: float | None = None) -> Item | None:
        """The next item; None once all were taken and no more comes. Raises TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_ended or self._items, timeout):
                raise TimeoutError
            if not self._items:
                return None
            item = self._items.popleft()
            self._size -= self._size_of(item)
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
            self._size = 0
            self._changed.notify_all()
            return left

    def _add(self, item: Item) -> bool:
        if self._has_ended:
            return False
        self._items.append(item)
        self._size += self._size_of(item)
        self._changed.notify_all()
        return True

    @property
    def _has_ended(self) -> bool:
        return self._closed or self._abandoned
