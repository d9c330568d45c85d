# SPDX-License-Identifier: Apache-2.0
"""Names for a place of bounded width: harmless, cut in the middle, and no two alike that were not."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from tracer.printable import printable

MARK: Final = "…"
"""What stands for what was cut out; `tracer.naming.Selector` takes it for anything."""

# Beyond, the middle is not looked at: names can be of any length.
_LONGEST: Final = 4096
# No script puts more on one letter.
_MOST_MARKS: Final = 4

Cells = list[tuple[str, int]]


def shown(name: str) -> str:
    """`name` as text that does no harm: no control characters, no line ends, nothing that turns the text around."""
    return printable(name.encode("utf-8", "surrogatepass"))


def cut(name: str, width: int, *, mark: str = MARK) -> str:
    """`name`, harmless and at most `width` columns of a terminal wide: of a longer one the beginning and the end.

    Wide characters have two columns, and marks stay on the letter that they are on.
    """
    cells = _cells(name)
    if _width(cells) <= width:
        return _text(cells)
    room = max(width - _width(_cells(mark)), 1)
    tail = _last(cells, room // 2)
    return _text(_first(cells, room - _width(tail))) + mark + _text(tail)


def shown_names(names: Iterable[str], width: int | None = None, *, mark: str = MARK) -> dict[str, str]:
    """By name, what to show for it within `width` columns: `cut`, but what is different stays different.

    Where the difference would be cut out, it is kept instead of what is before and behind it; where there is no room
    for that either, a number tells them apart. The same names give the same answer, in any order. With no `width`,
    nothing is cut.
    """
    unique = sorted(set(names))
    plain = {name: shown(name) if width is None else cut(name, width, mark=mark) for name in unique}
    alike: dict[str, list[str]] = {}
    for name in unique:
        alike.setdefault(plain[name], []).append(name)
    result = {group[0]: text for text, group in alike.items() if len(group) == 1}
    # Also what is shown as it is must not be taken for another one that was cut.
    taken = set(result.values())
    for text, group in alike.items():
        if len(group) > 1:
            candidates = [text] * len(group) if width is None else _around_differences(group, width, mark)
            for name, candidate in zip(group, candidates, strict=True):
                result[name] = _not_taken(candidate, taken, width, mark)
                taken.add(result[name])
    return result


def _around_differences(group: Sequence[str], width: int, mark: str) -> list[str]:
    """Of names in order: each with the place where it begins to differ from its neighbours, both ends if they fit."""
    cells = [_cells(name) for name in group]
    common = [_common(one, other) for one, other in pairwise(cells)]
    places = [max(pair) for pair in zip([0, *common], [*common, 0], strict=True)]
    return [_around(one, place, width, mark) for one, place in zip(cells, places, strict=True)]


def _around(cells: Cells, place: int, width: int, mark: str) -> str:
    mark_width = _width(_cells(mark))
    room = width - 2 * mark_width
    if room < 1:
        return _text(_first(cells, width - mark_width)) + mark
    head, tail = _first(cells, room // 4), _last(cells, room // 4)
    in_middle = room - _width(head) - _width(tail)
    # From the beginning of the word, so that it can be recognized, if that is near.
    begin = place
    while begin > 0 and _width(cells[begin - 1 : place]) <= in_middle // 2 and cells[begin - 1][0].isalnum():
        begin -= 1
    middle = _first(cells[begin:], in_middle)
    if begin <= len(head):
        return _text(_first(cells, width - mark_width - _width(tail))) + mark + _text(tail)
    if begin + len(middle) >= len(cells) - len(tail):
        return _text(head) + mark + _text(_last(cells, width - mark_width - _width(head)))
    return _text(head) + mark + _text(middle) + mark + _text(tail)


def _not_taken(candidate: str, taken: set[str], width: int | None, mark: str) -> str:
    text, number = candidate, 1
    while text in taken:
        number += 1
        end = f"#{number}"
        text = (candidate if width is None else cut(candidate, max(width - len(end), 1), mark=mark)) + end
    return text


def _cells(name: str) -> Cells:
    """The letters of a name, made harmless, with the marks on them; and how many columns each has on a terminal."""
    # Here, so that commands without tables do without.
    from rich.cells import get_character_cell_size

    if len(name) > _LONGEST:
        name = name[: _LONGEST // 2] + name[-(_LONGEST // 2) :]
    text = shown(name)
    if text.isascii():
        return [(character, 1) for character in text]
    cells: Cells = []
    marks = 0
    for character in text:
        size = get_character_cell_size(character)
        if size or not cells:
            cells.append((character, size))
            marks = 0
        elif marks < _MOST_MARKS:
            cells[-1] = (cells[-1][0] + character, cells[-1][1])
            marks += 1
    return cells


def _width(cells: Cells) -> int:
    return sum(size for _text, size in cells)


def _text(cells: Cells) -> str:
    return "".join(text for text, _size in cells)


def _first(cells: Cells, width: int) -> Cells:
    for count, (_text, size) in enumerate(cells):
        width -= size
        if width < 0:
            return cells[:count]
    return cells


def _last(cells: Cells, width: int) -> Cells:
    kept = _first(cells[::-1], width)
    return kept[::-1]


def _common(one: Cells, other: Cells) -> int:
    """How many letters both begin with."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
