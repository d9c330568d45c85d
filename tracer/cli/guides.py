# SPDX-License-Identifier: Apache-2.0
"""The lines of a tree, drawn before its texts."""

from collections.abc import Sequence
from typing import Final

# Branch, last branch, the line past a branch, nothing past the last one.
_GUIDES: Final = ("├", "└", "│", " ")
_ASCII_GUIDES: Final = ("|", "`", "|", " ")


def guides(depths: Sequence[int], *, width: int, ascii_only: bool) -> list[tuple[str, str]]:
    """What to draw in `width` cells a level before each line of a tree, and before those in which it goes on.

    `depths` are those of its lines, each after the one that it belongs to.
    """
    branch, last_branch, past, nothing = _ASCII_GUIDES if ascii_only else _GUIDES
    dash = ("-" if ascii_only else "─") * (width - 2) + " "
    is_last = []
    # From below, whether another line of the same depth, and the same parent, is still to come.
    open_depths: set[int] = set()
    for depth in reversed(depths):
        open_depths = {other for other in open_depths if other <= depth}
        is_last.append(depth not in open_depths)
        open_depths.add(depth)
    found = []
    columns: list[str] = []
    for depth, last in zip(depths, reversed(is_last), strict=True):
        del columns[max(depth - 1, 0) :]
        if depth == 0:
            found.append(("", ""))
        else:
            first = "".join(columns) + (last_branch if last else branch) + dash
            columns.append((nothing if last else past).ljust(width))
            found.append((first, "".join(columns)))
    return found
