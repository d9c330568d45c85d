# SPDX-License-Identifier: Apache-2.0
"""Text on standard output: as wide as the terminal; elsewhere a line is as long as it needs.

`COLUMNS` overrides both, and `NO_COLOR` takes the colours away. Names in the text are as somebody chose them, and do no
harm here.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, TextIO

from tracer.cli.layout import Column, cells, table, wrapped
from tracer.naming import MARK
from tracer.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_USUAL_WIDTH: Final = 80
_LEAST_WIDTH: Final = 20
_ASCII: Final = str.maketrans({"–": "-", "…": ".."})

_ASCII_MARK = ".."
# A column gives way to others down to that.
_NARROWEST = 12


class TextOutput:
    """Sentences, tables and commands for people, on `file`, or on standard output."""

    def __init__(self, file: TextIO | None = None, *, width: int | None = None) -> None:
        self._file = sys.stdout if file is None else file
        self._encoding = getattr(self._file, "encoding", None) or "utf-8"
        self.width = width or _width(self._file)
        self.ascii_only = not self._encoding.lower().startswith("utf")

    def say(self, text: str = "", *, first: str = "", further: str | None = None, cut: bool = True) -> None:
        """A sentence after `first`, in several lines where there is no room, these after `further`, else `first` too.

        A word longer than a line, such as a name, is cut in its middle, or goes on in the next one.
        """
        mark = self.mark if cut else None
        for line in wrapped(self.shown(text), self.width, first=first, further=further, mark=mark):
            self._print(line)

    def print_table(
        self,
        columns: Sequence[Column],
        rows: Iterable[Sequence[str]],
        *,
        indent: int = 0,
        styles: Sequence[str] = (),
        guides: Sequence[str] | None = None,
        unbroken: bool = False,
    ) -> None:
        """A table of `tracer.cli.layout`; `styles` are of the rows' first cells, as Rich names them."""
        rows = [[self.shown(cell) for cell in row] for row in rows]
        lines = table(columns, rows, self.width, indent=indent, mark=self.mark, guides=guides, unbroken=unbroken)
        plain = [""] * (len(lines) - len(rows))
        firsts = [0] * len(plain) + [len(row[0]) for row in rows]
        for (first, *further), style, length in zip(
            lines, [*plain, *(styles or [""] * len(rows))], firsts, strict=True
        ):
            self.print_styled(first, style, indent, indent + length)
            for line in further:
                self._print(line)

    def print_command(self, command: str, *, comment: str = "", indent: int = 0) -> None:
        """A command for a shell, to be copied whole: continued with backslashes where there is no room."""
        left, comment = " " * indent, self.shown(comment)
        shown = self.shown(command)
        whole = f"{left}{shown}  {comment}" if comment else left + shown
        if self.width is None or cells(whole) <= self.width:
            self._print(whole)
            return
        line = left
        for word in map(shlex.quote, shlex.split(shown)):
            if line.strip() and cells(line) + 1 + cells(word) + len(" \\") > self.width:
                self._print(f"{line} \\")
                line = f"{left}  {word}"
            else:
                line += f" {word}" if line.strip() else word
        self._print(line)
        if comment:
            self._print(left + comment)

    def print_styled(self, line: str, style: str, start: int, end: int) -> None:
        """A line, of which `start` to `end` has a style where there are colours."""
        if not style or not self._console.color_system:
            self._print(line)
            return
        from rich.text import Text

        text = Text(line)
        text.stylize(style, start, end)
        self._console.print(text, soft_wrap=True)

    def shown(self, text: str) -> str:
        """`text` in what its encoding can express, and in one line."""
        text = printable(text.encode("utf-8", "backslashreplace"))
        if self.ascii_only:
            text = text.translate(_ASCII)
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    @property
    def mark(self) -> str:
        """What stands for the middle of a name that was cut."""
        return ".." if self.ascii_only else MARK

    @cached_property
    def _console(self) -> "Console":
        # Here, so that whoever prints without colours does without.
        from rich.console import Console

        if os.environ.get("NO_COLOR"):
            return Console(file=self._file, highlight=False, color_system=None)
        return Console(file=self._file, highlight=False)

    def _print(self, line: str) -> None:
        print(line, file=self._file)


def _width(file: TextIO) -> int | None:
    with suppress(ValueError):
        if (columns := int(os.environ.get("COLUMNS", ""))) > 0:
            return max(columns, _LEAST_WIDTH)
    if not file.isatty():
        return None
    with suppress(OSError, ValueError):
        if columns := os.get_terminal_size(file.fileno()).columns:
            return max(columns, _LEAST_WIDTH)
    return _USUAL_WIDTH
