# SPDX-License-Identifier: Apache-2.0
"""How much is read of whom in a second, so that nobody's messages cost the node more, nor take others' place."""

from typing import Final

_SECOND_NS: Final = 1_000_000_000
MOST_IN_ALL: Final = 40_000
"""Of lines, values and tags in a second, and of each datagram as much as of four more: up to a fifth of a core."""
_OF_DATAGRAM: Final = 4
_CHARACTERS: Final = 8
_FEWEST_SHARES: Final = 2


def cost_of(datagram: bytes) -> int:
    """What it costs to read, about."""
    return _OF_DATAGRAM + datagram.count(b"\n") + 1 + datagram.count(b":")


def cost_of_text(text: bytes) -> int:
    """The same of an exposition, whose parser looks at each character."""
    return len(text) // _CHARACTERS + 1


class Allowance:
    """A share of what can be read in a second for each sender: of those that sent something in the last one, alike.

    One may take half even where it is alone, so that there is room for who comes next.
    """

    def __init__(self, most: int = MOST_IN_ALL) -> None:
        self._most = most
        self._second = -1
        self._used: dict[int | None, int] = {}
        self._left = most
        self._share = most // _FEWEST_SHARES

    def take(self, sender: int | None, cost: int, now_ns: int) -> bool:
        """Whether so much can be read of this sender now (CLOCK_MONOTONIC)."""
        if (second := now_ns // _SECOND_NS) != self._second:
            self._share = self._most // max(_FEWEST_SHARES, len(self._used) + 1)
            self._second, self._used, self._left = second, {}, self._most
        used = self._used.get(sender, 0)
        if cost > self._left or used + cost > self._share:
            self._used.setdefault(sender, 0)
            return False
        self._used[sender] = used + cost
        self._left -= cost
        return True
