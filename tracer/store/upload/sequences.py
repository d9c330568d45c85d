# SPDX-License-Identifier: Apache-2.0
"""Sets of sequence numbers, which mostly follow on one another, as text: `0-39,41`."""

import bisect
import re
from collections.abc import Iterable
from typing import Final

_RANGE: Final = re.compile("([0-9]{1,19})(?:-([0-9]{1,19}))?")


class Sequences:
    """Takes as much room as it has gaps, whatever a text from outside says."""

    def __init__(self) -> None:
        # Firsts and lasts of ranges between which there is a gap, in order.
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Sequences":
        """Of these numbers, in any order."""
        made = cls()
        for number in numbers:
            made.add(number)
        return made

    @classmethod
    def parse(cls, text: str) -> "Sequences":
        """Of what `str` made. Raises ValueError."""
        made = cls()
        for part in text.split(",") if text else ():
            match = _RANGE.fullmatch(part)
            if match is None:
                raise ValueError(f"not a range of sequence numbers: {part[:40]!r}")
            made.add(int(match[1]), int(match[2] or match[1]))
        return made

    def add(self, first: int, last: int | None = None) -> None:
        """A number, or all from `first` to `last`. Raises ValueError where that is less."""
        last = first if last is None else last
        if last < first:
            raise ValueError(f"not a range of sequence numbers: {first}-{last}")
        begin = bisect.bisect_left(self._lasts, first - 1)
        end = bisect.bisect_right(self._firsts, last + 1)
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The first and the last of each, in order."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_left(self._lasts, number)
        return place < len(self._lasts) and self._firsts[place] <= number

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)
