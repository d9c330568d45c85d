# SPDX-License-Identifier: Apache-2.0
"""One line on the terminal that says how a run goes, anew each second.

Nothing waits for it: it has a thread of its own, asks for what is counted anyway, and leaves a terminal alone that is
stopped (Ctrl-S) or is another job's by now.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tracer.cli.layout import cells
from tracer.naming import cut

if TYPE_CHECKING:
    from tracer.pipeline.run import Progress

_EVERY_SECONDS: Final = 1.0
_END_SECONDS: Final = 0.5
_LONGEST_NAME: Final = 40
_SHORTEST_NAME: Final = 12
# Where there is as much as needed.
_ROOM: Final = 1000


@contextmanager
def live_line(progress: "Callable[[], Progress]", *, quiet: bool) -> Iterator[None]:
    """Shows `progress` while it is entered, where standard error is a terminal; the line is gone at the end."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(progress, over, sys.stderr.fileno()), daemon=True, name="live line")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_END_SECONDS)


def line_of(progress: "Progress", room: int = _ROOM) -> str:
    """`00:01:07  25,184 records, none lost  busiest web-1/app 87 % of a CPU  8 files, 1.2 MB`.

    In fewer than `room` cells the busiest is told more shortly, or not.
    """
    minutes, seconds = divmod(int(progress.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    lost = f"{progress.lost:,} LOST" if progress.lost else "none lost"
    first = f"{hours:02}:{minutes:02}:{seconds:02}  {progress.records:,} records, {lost}"
    last = f"{progress.files} files, {progress.bytes / 1e6:.1f} MB"
    if progress.is_upload_failing:
        last += ", NOT uploaded"
    if (busiest := _busiest(progress)) is not None:
        name, share = busiest
        for unit in ("% of a CPU", "%"):
            left = room - cells(f"{first}  busiest  {share} {unit}  {last}")
            if left >= min(cells(name), _SHORTEST_NAME):
                return f"{first}  busiest {cut(name, min(left, _LONGEST_NAME), mark='..')} {share} {unit}  {last}"
    return f"{first}  {last}"


def _busiest(progress: "Progress") -> tuple[str, str] | None:
    """Of the newest windows: a container, or what else ran where there is none; and how much of a CPU it had, in %."""
    if progress.windows is None:
        return None
    import polars as pl

    from tracer.analysis.labels import container_label
    from tracer.printable import printable

    rows = pl.from_arrow(progress.windows)
    assert isinstance(rows, pl.DataFrame)
    sums = (
        rows.filter(pl.col("cgroup_kind") != "idle")
        .group_by(pl.col("cgroup_kind") == "container", container_label().alias("name"))
        .agg(pl.sum("cpu_time_ns"))
        .sort("cgroup_kind", "cpu_time_ns", descending=True)
    )
    if sums.is_empty():
        return None
    _is_container, name, cpu_time_ns = sums.row(0)
    name = printable(name.encode("utf-8", "backslashreplace"))
    return name, f"{100 * cpu_time_ns / (rows['window_tick'].n_unique() * progress.window_ns):.0f}"


def _show(progress: "Callable[[], Progress]", over: threading.Event, terminal: int) -> None:
    # Else a terminal that wants it (stty tostop) would stop the whole process.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    shown = ""
    while not over.wait(_EVERY_SECONDS):
        # Nobody is told of what goes wrong here: the run does not depend on it.
        with suppress(Exception):
            if _takes_text(terminal):
                shown = _write(terminal, line_of(progress(), _room(terminal)), shown)
    with suppress(Exception):
        if shown and _takes_text(terminal):
            _write(terminal, "", shown)


def _takes_text(terminal: int) -> bool:
    """Whether it has room, and is this job's."""
    with suppress(OSError):
        # Not where it is not the terminal that controls this process.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return False
    poll = select.poll()
    poll.register(terminal, select.POLLOUT)
    return any(events & select.POLLOUT for _descriptor, events in poll.poll(0))


def _room(terminal: int) -> int:
    """The cells of a line, but for the last: there some terminals go on in the next line."""
    columns = os.get_terminal_size(terminal).columns
    return columns - 1 if columns else _ROOM


def _write(terminal: int, line: str, before: str) -> str:
    """Writes over the line that is there; what is there now. Without escape sequences, which not all terminals know."""
    room = _room(terminal)
    # A name has its room already.
    line = line if cells(line) <= room else line[:room]
    blanks = " " * (min(cells(before), room) - cells(line))
    encoding = sys.stderr.encoding or "ascii"
    os.write(terminal, f"\r{line}{blanks}\r".encode(encoding, "backslashreplace"))
    return line
