# SPDX-License-Identifier: Apache-2.0
"""`tracer top` in a terminal: one widget that paints the screen, as a table of many rows would take too long."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.strip import Strip
from textual.widget import Widget

from tracer.errors import TracerError
from tracer.live.snapshot import Snapshot
from tracer.live.top.history import History
from tracer.live.top.screen import Line, paint
from tracer.live.top.view import SORTS, View

_SECONDS: Final = 1.0
_STYLES: Final = {
    "": Style(),
    "title": Style(bold=True),
    "head": Style(reverse=True),
    "sort": Style(reverse=True, bold=True, underline=True),
    "selected": Style(reverse=True, color="cyan"),
    "bad": Style(color="red", bold=True),
    "course": Style(color="yellow"),
    "dim": Style(dim=True),
}


class _Screen(Widget):
    """All lines; they are painted when something has changed."""

    DEFAULT_CSS = "_Screen { width: 100%; height: 100%; }"

    def __init__(self, history: History, view: View) -> None:
        super().__init__()
        self._history = history
        self._view = view
        self._lines: list[Line] = []

    def repaint(self) -> None:
        """Something has changed."""
        self._lines = paint(self._history, self._view, self.size.width, self.size.height)
        self.refresh()

    def on_resize(self) -> None:
        self.repaint()

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width)
        segments = [Segment(text, _STYLES[style]) for text, style in self._lines[y]]
        return Strip(segments).adjust_cell_length(self.size.width)


class TopApp(App[None]):
    """`snapshot` gives the newest and `write` has the last minutes written; both may raise TracerError."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", show=False, priority=True)]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, snapshot: Callable[[], Snapshot], write: Callable[[], str], history: History) -> None:
        super().__init__(ansi_color=True)
        self._snapshot = snapshot
        self._write = write
        self._history = history
        self._is_asking = False
        self._view = View()
        self._screen = _Screen(history, self._view)
        self.failure: TracerError | None = None
        """What ended it."""

    def compose(self) -> ComposeResult:
        yield self._screen

    def on_mount(self) -> None:
        self.set_interval(_SECONDS, self._look)
        self._look()

    def _look(self) -> None:
        if not self._view.is_paused and not self._is_asking:
            self._is_asking = True
            # Keys are heard meanwhile, however long it takes; and nobody waits for it at the end.
            threading.Thread(target=self._ask, daemon=True).start()

    def _ask(self) -> None:
        answer: Callable[[], None]
        try:
            answer = partial(self._show, self._snapshot())
        except TracerError as error:
            answer = partial(self._fail, error)
        # The app may be over.
        with suppress(RuntimeError, CancelledError):
            self.call_from_thread(answer)

    def _show(self, snapshot: Snapshot) -> None:
        self._is_asking = False
        self._history.add(snapshot)
        self._screen.repaint()

    def _fail(self, error: TracerError) -> None:
        self._is_asking = False
        if self._history.now is None:
            self.failure = error
            self.exit()
            return
        self._view.message = f"{error}; q quits"
        self._screen.repaint()

    def on_key(self, event: Key) -> None:
        event.stop()
        self._press(event.key, event.character)
        self._screen.repaint()

    def _press(self, key: str, character: str | None) -> None:
        view, now = self._view, self._history.now
        view.message = ""
        if view.is_typing:
            view.type(key, character)
            return
        rows = view.rows(now.containers) if now is not None else []
        page = max(1, self.size.height - 4)
        moves = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -len(rows), "end": len(rows)}
        if key in moves:
            view.move(rows, moves[key])
        elif key in ("q", "f10"):
            self.exit()
        elif key == "escape":
            if view.page is None and not view.is_help:
                view.filter = ""
            view.page, view.is_help = None, False
        elif key == "enter" and rows:
            # The chosen one may not be among those that are shown.
            view.selected = rows[view.place(rows) or 0].name
            view.page = view.selected
        elif character == "/":
            view.is_typing = True
        elif key in ("space", "z"):
            view.is_paused = not view.is_paused
        elif character == "I":
            view.is_inverted = not view.is_inverted
        elif character in ("<", ">"):
            view.sort_by_next(now.containers if now is not None else [], 1 if character == ">" else -1)
        elif key in ("h", "f1", "question_mark"):
            view.is_help = not view.is_help
        elif character == "w":
            self._ask_to_write()
        elif character is not None and character.lower() in SORTS:
            view.sort = SORTS[character.lower()]

    def _ask_to_write(self) -> None:
        try:
            self._view.message = self._write()
        except TracerError as error:
            self._view.message = str(error)
