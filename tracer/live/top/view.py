# SPDX-License-Identifier: Apache-2.0
"""What somebody has chosen to see, and how keys change it. It knows no terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tracer.live.top.rates import Rates

# By the letter that sorts by it, as in htop where that has one.
SORTS: Final = {
    "l": "lost_tasks",
    "p": "cpus",
    "c": "cpi",
    "i": "mpki",
    "t": "traffic",
    "m": "memory_bytes",
    "n": "name",
}
_ORDER: Final = list(SORTS.values())


@dataclass
class View:
    """`page`: the container whose own page is shown. `message`: of what was done last."""

    sort: str = "lost_tasks"
    is_inverted: bool = False
    filter: str = ""
    is_typing: bool = False
    is_paused: bool = False
    is_help: bool = False
    page: str | None = None
    selected: str | None = None
    message: str = ""

    def rows(self, containers: Sequence[Rates]) -> list[Rates]:
        """Those that the filter takes, the most of what is sorted by first."""
        wanted = self.filter.lower()
        found = [one for one in containers if wanted in one.name.lower()]
        if self.sort == "name":
            return sorted(found, key=lambda one: one.name, reverse=self.is_inverted)

        def key(one: Rates) -> tuple[float, float]:
            value = getattr(one, self.sort)
            return (float("-inf") if value is None else value, one.cpus)

        return sorted(sorted(found, key=lambda one: one.name), key=key, reverse=not self.is_inverted)

    def move(self, rows: Sequence[Rates], by: int) -> None:
        """Selects another row."""
        if rows:
            here = self.place(rows)
            self.selected = rows[max(0, min(len(rows) - 1, (0 if here is None else here) + by))].name

    def place(self, rows: Sequence[Rates]) -> int | None:
        """Of the selected row."""
        return next((place for place, one in enumerate(rows) if one.name == self.selected), None)

    def type(self, key: str, character: str | None) -> None:
        """A key while the filter is typed."""
        if key in ("enter", "tab"):
            self.is_typing = False
        elif key == "escape":
            self.is_typing, self.filter = False, ""
        elif key in ("backspace", "ctrl+h"):
            self.filter = self.filter[:-1]
        elif key == "ctrl+u":
            self.filter = ""
        elif character is not None and character.isprintable():
            self.filter = (self.filter + character)[:100]

    def sort_by_next(self, containers: Sequence[Rates], step: int) -> None:
        """What is next to the left or right, of what is measured of anybody."""
        known = [
            field
            for field in _ORDER
            if field in ("name", self.sort) or any(getattr(one, field) is not None for one in containers)
        ]
        self.sort = known[(known.index(self.sort) + step) % len(known)]
