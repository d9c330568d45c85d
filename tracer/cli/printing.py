# SPDX-License-Identifier: Apache-2.0
"""Text of the node's on the user's terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def printable(text: str, console: "Console", *, cut: bool = False) -> "Text":
    """As plain text without markup, in what the terminal's encoding can express; `cut`: never more than a line."""
    # Here, so that `tracer.cli.main` does without.
    from rich.text import Text

    shown = Text(text.encode(console.encoding, errors="backslashreplace").decode(console.encoding))
    if cut:
        shown.no_wrap = True
        # The mark of an ellipsis is not ASCII.
        shown.overflow = "crop" if console.options.ascii_only else "ellipsis"
    return shown
