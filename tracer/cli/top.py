# SPDX-License-Identifier: Apache-2.0
"""`tracer top`: who runs, who waits, and behind whom, second by second."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.json_output import print_answer
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.cli.playback import Playback
    from tracer.live.snapshot import Snapshot
    from tracer.live.top.history import History

# For `--once`: between two snapshots.
_SECONDS = 1.0
_LONGEST_SECONDS = 10.0


def top(
    directory: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="Play this recording, or DIR@RUN, instead of the node.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one second as text, or all of a recording.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
    socket: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="That of the run, where there are several.", show_default="the one there is"),
    ] = None,
) -> None:
    """Show who runs, who waits and behind whom, of a tracer that runs here; or of one that is begun for it."""
    if directory is not None and socket is not None:
        raise UsageError("DIR is a recording and --socket a run: give one of them")
    from tracer.live.top.history import History

    if directory is not None and (once or as_json):
        history = History()
        history.add_all(_playback(directory).whole())
        _print(history, as_json=as_json)
        return
    with _ending_by_signal(), ExitStack() as stack:
        snapshot, write = _source(directory, socket, stack)
        history = History()
        if once or as_json:
            _wait_for_a_second(snapshot, history)
            _print(history, as_json=as_json)
            return
        # The library draws on standard error.
        if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            raise UsageError("tracer top needs a terminal; --once and --json do not")
        from tracer.live.top.app import TopApp

        app = TopApp(snapshot, write, history)
        app.run()
        if app.failure is not None:
            raise app.failure


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """SIGTERM and SIGHUP are raised, so that all is put in order before they end the process."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _source(
    directory: str | None, socket: Path | None, stack: ExitStack
) -> "tuple[Callable[[], Snapshot], Callable[[], str]]":
    """What gives snapshots, and what has the last minutes written."""
    if directory is not None:
        playback = _playback(directory)
        return playback.snapshot, playback.write
    from tracer.live.attaching import GoneError, attach

    try:
        attached = attach(socket)
    except GoneError:
        if socket is not None:
            raise
        from tracer.cli.own_run import own_run

        attached = stack.enter_context(own_run())
    return attached.snapshot, lambda: attached.mark("w in tracer top")


def _playback(directory: str) -> "Playback":
    from tracer.cli.playback import Playback
    from tracer.cli.recordings import open_told

    return Playback(open_told([directory]))


def _wait_for_a_second(snapshot: "Callable[[], Snapshot]", history: "History") -> None:
    until = time.monotonic() + _LONGEST_SECONDS
    while not history.add(snapshot()):
        if time.monotonic() > until:
            raise UsageError(f"nothing was traced within {_LONGEST_SECONDS:g} s")
        time.sleep(_SECONDS)


def _print(history: "History", *, as_json: bool) -> None:
    from tracer.cli.printing import TextOutput
    from tracer.live.top.screen import plain
    from tracer.live.top.view import View

    assert history.now is not None
    if as_json:
        print_answer(history.now)
        return
    output = TextOutput()
    for line in plain(history, View(), output.width or 120):
        print(line)
