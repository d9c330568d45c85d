# SPDX-License-Identifier: Apache-2.0
"""What somebody may have meant who mistyped a name."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_MOST: Final = 3
_SHORTEST_BEGINNING: Final = 3
_MOST_LISTED: Final = 40


def close_to(text: str, known: Iterable[str]) -> str:
    """`; did you mean 'ticks'?` for what of `known` looks like `text`, else nothing."""
    # Of members of an enumeration the text alone.
    by_lower = {name.lower(): str(name) for name in known}
    wanted = text.lower()
    begun = [name for name in by_lower if name.startswith(wanted) and len(wanted) >= _SHORTEST_BEGINNING]
    close = begun[:_MOST] or get_close_matches(wanted, by_lower, _MOST)
    return f"; did you mean {' or '.join(repr(by_lower[name]) for name in close)}?" if close else ""


def not_among(what: str, text: str, known: Iterable[str]) -> str:
    """`no table 'tick'; did you mean 'ticks'?`, and else which there are; all on one line."""
    known = list(known)
    if not (rest := close_to(text, known)):
        more = f" and {len(known) - _MOST_LISTED} more" if len(known) > _MOST_LISTED else ""
        rest = f"; there are {', '.join(known[:_MOST_LISTED])}{more}"
    return f"no {what} {text!r}{rest}"
