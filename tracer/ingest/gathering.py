# SPDX-License-Identifier: Apache-2.0
"""Messages, window by window, until their rows are taken.

Of latencies (timers, histograms, distributions) each value is kept with how often it came; where a window has many
different ones of a metric, those within 1 % of each other are one. Of counters, gauges and sets a window has one row.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from tracer.ingest.messages import LATENCY_KINDS, Kind, Message

MOST_ROWS: Final = 20_000
MOST_ROWS_OF_SENDER: Final = 5_000
MOST_EXACT_VALUES: Final = 32
"""Of a metric in a window; of more, those that are near to each other are one."""
_NEAR: Final = math.log(1.02)
_LARGEST: Final = 1e300


class Sender(NamedTuple):
    """Who sent it, as far as anybody can tell. by: `credentials`, `claim`, or None."""

    cgroup_id: int | None
    by: str | None


class Row(NamedTuple):
    """As in the table `external`; `number` is its `count`."""

    window_tick: int
    cgroup_id: int | None
    sender_by: str | None
    name: str
    kind: Kind
    tags: str | None
    value: float
    number: float


class _Series(NamedTuple):
    sender: Sender
    name: str
    kind: Kind
    tags: str | None


class _Values:
    """Values of one series in one window, with how often each came."""

    def __init__(self) -> None:
        self.counts: dict[float, float] = {}
        self.members: set[str] = set()
        self.is_coarse = False


class Gathering:
    """Not more rows than there is room for: what would be a further one is counted as dropped. One thread at a time."""

    def __init__(self, most_rows: int = MOST_ROWS, most_of_sender: int = MOST_ROWS_OF_SENDER) -> None:
        self._most_rows = most_rows
        self._most_of_sender = most_of_sender
        self._windows: dict[int, dict[_Series, _Values]] = {}
        self._rows_of: Counter[Sender] = Counter()
        self._rows = 0

    def add(self, window_tick: int, sender: Sender, message: Message) -> int:
        """How many of its values had to be dropped."""
        series = _Series(sender, message.name, message.kind, message.tags)
        window = self._windows.setdefault(window_tick, {})
        if (values := window.get(series)) is None:
            # The first value of a series is a row; so an empty one is none.
            values = _Values()
        add = {"counter": self._add_increment, "set": self._add_members}.get(
            message.kind, self._add_values if message.kind in LATENCY_KINDS else self._put_value
        )
        dropped = add(values, sender, message)
        if values.counts:
            window[series] = values
        return dropped

    def take(self, before_tick: int | None = None) -> Iterator[Row]:
        """The rows of all windows that begin before that tick, or of all; they are forgotten."""
        for window_tick in sorted(self._windows):
            if before_tick is not None and window_tick >= before_tick:
                break
            for series, values in self._windows.pop(window_tick).items():
                self._give_back(series.sender, max(len(values.counts), len(values.members)))
                for value, count in values.counts.items():
                    yield Row(window_tick, *series.sender, series.name, series.kind, series.tags, value, count)

    def _has_room(self, sender: Sender) -> bool:
        """Takes the place of a row, if there is one."""
        if self._rows >= self._most_rows or self._rows_of[sender] >= self._most_of_sender:
            return False
        self._rows += 1
        self._rows_of[sender] += 1
        return True

    def _give_back(self, sender: Sender, rows: int) -> None:
        self._rows -= rows
        self._rows_of[sender] -= rows
        if not self._rows_of[sender]:
            # Nobody is kept for having been there once.
            del self._rows_of[sender]

    def _add_increment(self, values: _Values, sender: Sender, message: Message) -> int:
        if not values.counts and not self._has_room(sender):
            return len(message.values)
        total, number = next(iter(values.counts.items()), (0.0, 0.0))
        total = min(max(total + sum(message.values) * message.weight, -_LARGEST), _LARGEST)
        values.counts = {total: number + 1}
        return 0

    def _put_value(self, values: _Values, sender: Sender, message: Message) -> int:
        if not values.counts and not self._has_room(sender):
            return len(message.values)
        values.counts = {message.values[-1]: sum(values.counts.values()) + 1}
        return 0

    def _add_members(self, values: _Values, sender: Sender, message: Message) -> int:
        new = [member for member in message.members if member not in values.members]
        # A member takes the place of a row until they are counted.
        if (new or not values.counts) and not self._has_room(sender):
            return len(message.members)
        values.members.update(new)
        values.counts = {float(len(values.members)): sum(values.counts.values()) + 1}
        return 0

    def _add_values(self, values: _Values, sender: Sender, message: Message) -> int:
        dropped = 0
        for value in message.values:
            if values.is_coarse:
                value = coarse(value)
            if value in values.counts:
                values.counts[value] += message.weight
            elif self._has_room(sender):
                values.counts[value] = message.weight
                if len(values.counts) > MOST_EXACT_VALUES and not values.is_coarse:
                    self._make_coarse(values, sender)
            else:
                dropped += 1
        return dropped

    def _make_coarse(self, values: _Values, sender: Sender) -> None:
        counts: dict[float, float] = {}
        for value, count in values.counts.items():
            near = coarse(value)
            counts[near] = counts.get(near, 0.0) + count
        self._give_back(sender, len(values.counts) - len(counts))
        values.counts, values.is_coarse = counts, True


def coarse(value: float) -> float:
    """One value for all that are within 1 % of it."""
    if not value:
        return 0.0
    # The ends of what a float can be.
    size = min(abs(value), _LARGEST)
    return math.copysign(math.exp(round(math.log(size) / _NEAR) * _NEAR), value)
