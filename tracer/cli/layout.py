# SPDX-License-Identifier: Apache-2.0
"""Sentences and tables as lines of a given width, without trailing blanks. A width of None has no end."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Final, Literal, NamedTuple

from tracer.naming import MARK, cut, shown_names

Kind = Literal["name", "word", "figure", "text", "prose"]

_GAPS: Final = (2, 1)
# What is left of a name at least while there is another way to save room; text has a column from such a width on.
_LEAST_NAME: Final = 16
_LEAST_TEXT: Final = 20
_TEXT: Final = ("text", "prose")
_BELOW: Final = 3
# What a figure is not parted from by the end of a line.
_UNITS: Final = ("%", "ms", "s", "min", "h", "x", "ticks", "B", "KiB", "MiB", "GiB", "TiB")


class Column(NamedTuple):
    """`kind`: a `name` is cut in its middle where there is no room; a `word` and, at the right, a `figure` never are.

    A `text` is the last column; where there is no room, it takes several lines, or stands below the others. So does
    `prose`, without names in it: what is too long for a line is not cut but goes on in the next one. `short` is the
    title where that is all there is room for.
    """

    title: str
    kind: Kind = "figure"
    short: str = ""


class _Plan(NamedTuple):
    """Which columns stand in which line of a row, and how wide they are."""

    titles: list[str]
    gap: int
    lines: list[list[int]]
    widths: list[int]


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def wrapped(
    text: str, width: int | None, *, first: str = "", further: str | None = None, mark: str | None = None
) -> list[str]:
    """`text` in lines that end between words, the first after `first`, others after `further`, else `first` too.

    A word that is longer than a line is cut in its middle with `mark`, or goes on in the next line where that is None.
    """
    before = first
    further = first if further is None else further
    lines: list[str] = []
    line = ""
    for word in _words(text):
        if line and width is not None and cells(before + line + word) + 1 > width:
            lines.append(before + line)
            line, before = "", further
        line = f"{line} {word}" if line else word.lstrip()
        while width is not None and cells(line) > (room := max(width - cells(before), 1)):
            if mark is not None:
                line = cut(line, room, mark=mark)
                break
            # One character at least, also if it takes more than there is.
            beginning = _first(line, room) or line[:1]
            lines.append(before + beginning)
            line, before = line[len(beginning) :], further
    lines.append(before + line)
    return [one.rstrip() for one in lines]


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    width: int | None,
    *,
    indent: int = 0,
    mark: str = MARK,
    guides: Sequence[str] | None = None,
    unbroken: bool = False,
) -> list[list[str]]:
    """The lines of the titles, if there are any, and of each row: one line, or more where there is no room.

    A row of one cell among others stands above those that follow. `guides` are what further lines of each row begin
    with. `unbroken`: each row is one line with nothing cut; those that fit are as in a table that does.
    """
    rows = list(rows)
    room = None if width is None else max(width - indent, 1)
    whole = [row for row in rows if len(row) == len(columns)]
    plan = _unbroken_plan(columns, whole, room) if unbroken else _plan(columns, whole, room)
    room = None if unbroken else room
    if room is not None:
        rows = _with_short_names(columns, plan, rows, mark)
    guide = None if guides is None else ""
    titles = [_row(columns, plan, plan.titles, room, mark, guide)] if any(plan.titles) else []
    found = [
        _row(columns, plan, row, room, mark, guide) if len(row) == len(columns) else wrapped(row[0], room, mark=mark)
        for row, guide in zip(rows, [guide] * len(rows) if guides is None else guides, strict=True)
    ]
    return [[(" " * indent + line).rstrip() for line in lines] for lines in (*titles, *found)]


def _plan(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> _Plan:
    """The first that has room: names are cut, and titles and gaps get shorter, before a row takes more lines."""
    numbers = list(range(len(columns)))
    texts = [number for number in numbers if columns[number].kind in _TEXT]
    others = [number for number in numbers if number not in texts]
    arrangements = [[numbers], *([[others, texts]] if texts else [])]
    for lines in arrangements:
        for gap, is_short in product(_GAPS, (False, True)):
            titles = [column.short if is_short and column.short else column.title for column in columns]
            widths = [max(map(cells, column), default=0) for column in zip(titles, *rows, strict=True)]
            fitted = widths if room is None else _fitted(columns, titles, widths, lines[0], gap, room)
            if fitted is not None:
                return _Plan(titles, gap, lines, fitted)
    figures = [number for number in others if columns[number].kind in ("word", "figure")]
    names = [[number] for number in others if columns[number].kind == "name"]
    assert room is not None
    lines = [*names, *_packed(figures, widths, room), *([texts] if texts else [])]
    return _Plan(titles, 1, lines, [min(one, room) for one in widths])


def _with_short_names(
    columns: Sequence[Column], plan: _Plan, rows: Sequence[Sequence[str]], mark: str
) -> list[Sequence[str]]:
    """The rows, with names as wide as their columns at most, of which no two become alike."""
    found = [list(row) for row in rows]
    whole = [row for row in found if len(row) == len(columns)]
    for number, column in enumerate(columns):
        if column.kind == "name":
            short = shown_names((row[number] for row in whole), plan.widths[number], mark=mark)
            for row in whole:
                row[number] = short[row[number]]
    return [*found]


def _unbroken_plan(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> _Plan:
    titles = [column.title for column in columns]
    widths = [max(map(cells, column)) for column in zip(titles, *rows, strict=True)]
    over = 0 if room is None else sum(widths) + _GAPS[0] * (len(columns) - 1) - room
    for number, column in enumerate(columns):
        if column.kind == "name":
            less = min(max(over, 0), widths[number] - cells(column.title))
            widths[number] -= less
            over -= less
    return _Plan(titles, _GAPS[0], [list(range(len(columns)))], widths)


def _fitted(
    columns: Sequence[Column], titles: Sequence[str], widths: Sequence[int], line: Sequence[int], gap: int, room: int
) -> list[int] | None:
    """The widths with which a line has room, if there are any: of texts and names, those that are long give way."""
    found = list(widths)
    over = sum(found[number] for number in line) + gap * (len(line) - 1) - room
    for kinds, least in ((_TEXT, _LEAST_TEXT), (("name",), _LEAST_NAME)):
        for number in line:
            if over > 0 and columns[number].kind in kinds:
                least_here = min(found[number], max(least, cells(titles[number])))
                less = min(over, found[number] - least_here)
                found[number] -= less
                over -= less
    return found if over <= 0 else None


def _packed(figures: Sequence[int], widths: Sequence[int], room: int) -> Iterator[list[int]]:
    line: list[int] = []
    for number in figures:
        if line and _BELOW + sum(widths[one] + 1 for one in (*line, number)) - 1 > room:
            yield line
            line = []
        line.append(number)
    if line:
        yield line


def _row(
    columns: Sequence[Column], plan: _Plan, row: Sequence[str], room: int | None, mark: str, guide: str | None
) -> list[str]:
    """The lines of a row; those below the first stand at the right, where there is a `guide` at their left."""
    found: list[str] = []
    for position, numbers in enumerate(plan.lines):
        kinds = {columns[number].kind for number in numbers}
        if position and kinds <= set(_TEXT):
            for number in numbers:
                found += wrapped(row[number], room, first=" " * _BELOW, mark=_mark_of(columns[number], mark))
            continue
        left = _BELOW if position and "name" not in kinds else 0
        if left and guide is not None and room is not None:
            left = max(room - sum(plan.widths[number] + plan.gap for number in numbers) + plan.gap, left)
        found += _beside(
            columns, plan, numbers, row, _filled(_first(guide or "", left), left), mark, is_cut=room is not None
        )
    return [line for line in found if line.strip()] or [""]


def _beside(
    columns: Sequence[Column],
    plan: _Plan,
    numbers: Sequence[int],
    row: Sequence[str],
    left: str,
    mark: str,
    *,
    is_cut: bool,
) -> list[str]:
    """Cells beside each other, after `left`; in several lines if the last one is a text that takes several."""
    line, further = left, []
    for number in numbers:
        kind, width, text = columns[number].kind, plan.widths[number], row[number]
        if kind in _TEXT and cells(text) > width and is_cut:
            text, *further = wrapped(text, width, mark=_mark_of(columns[number], mark))
            further = [" " * cells(line) + one for one in further]
        line += (text.rjust(width) if kind == "figure" else _filled(text, width)) + " " * plan.gap
    return [line, *further]


def _filled(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def _mark_of(column: Column, mark: str) -> str | None:
    return None if column.kind == "prose" else mark


def _words(text: str) -> list[str]:
    """Those of a text, further blanks with the one that follows; a unit is no word of its own."""
    words: list[str] = []
    blanks = ""
    for word in text.split(" "):
        if not word:
            blanks += " "
        elif words and words[-1][-1:].isdigit() and word.rstrip(".,:;)") in _UNITS:
            words[-1] += f" {word}"
        else:
            words.append(blanks + word)
            blanks = ""
    return words


def _first(text: str, width: int) -> str:
    """As many of the first characters as `width` cells take."""
    if text.isascii():
        return text[:width]
    taken = used = 0
    for character in text:
        used += cells(character)
        if used > width:
            break
        taken += 1
    return text[:taken]
