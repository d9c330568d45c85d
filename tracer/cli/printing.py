# SPDX-License-Identifier: Apache-2.0
"""Text of the node's on the user's terminal."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tracer.naming import MARK, shown, shown_names

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement
    from rich.text import Text

_ASCII_MARK = ".."
# A column gives way to others down to that.
_NARROWEST = 12


def printable(text: str, console: "Console") -> "Text":
    """As plain text without markup, in what the terminal's encoding can express."""
    # Here, so that `tracer.cli.main` does without.
    from rich.text import Text

    return Text(_encoded(text, console))


class NameColumn:
    """The names in a column of a table: each in one line, cut in its middle so that no two become alike."""

    def __init__(self, names: Iterable[str], console: "Console") -> None:
        self._console = console
        self._mark = _ASCII_MARK if console.options.ascii_only else MARK
        self._names = {name: _encoded(shown(name), console) for name in names}
        self._by_width: dict[int, dict[str, str]] = {}

    def cell(self, name: str, before: str = "") -> "NameCell":
        """One of the names, with something before it that is never cut."""
        return NameCell(self, name, before)

    def text(self, name: str, width: int) -> str:
        """What to show of a name in so many columns of the terminal."""
        if width not in self._by_width:
            self._by_width[width] = shown_names(self._names.values(), width, mark=self._mark)
        return self._by_width[width][self._names[name]]


class NameCell:
    """A cell of a `NameColumn`: it learns how wide it may be when it is printed."""

    def __init__(self, column: NameColumn, name: str, before: str) -> None:
        self._column, self._name, self._before = column, name, before

    def __rich_measure__(self, console: "Console", options: "ConsoleOptions") -> "Measurement":
        from rich.cells import cell_len
        from rich.measure import Measurement

        before = cell_len(self._before)
        most = before + cell_len(self._column.text(self._name, 10_000))
        return Measurement(min(before + _NARROWEST, most), most)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.cells import cell_len
        from rich.text import Text

        room = max(options.max_width - cell_len(self._before), 1)
        yield Text(self._before + self._column.text(self._name, room), no_wrap=True, overflow="crop")


def _encoded(text: str, console: "Console") -> str:
    return text.encode(console.encoding, errors="backslashreplace").decode(console.encoding)
