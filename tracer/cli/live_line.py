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

if TYPE_CHECKING:
    from tracer.pipeline.run import Progress

_EVERY_SECONDS: Final = 1.0
_END_SECONDS: Final = 0.5
_LONGEST_NAME: Final = 40


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


def line_of(progress: "Progress") -> str:
    """`00:01:07  25,184 records, none lost  busiest web-1/app 87 % of a CPU  8 files, 1.2 MB`."""
    minutes, seconds = divmod(int(progress.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [
        f"{hours:02}:{minutes:02}:{seconds:02}",
        f"{progress.records:,} records, {f'{progress.lost:,} LOST' if progress.lost else 'none lost'}",
        *([f"busiest {busiest}"] if (busiest := _busiest(progress)) else []),
        f"{progress.files} files, {progress.bytes / 1e6:.1f} MB",
    ]
    return "  ".join(parts)


def _busiest(progress: "Progress") -> str | None:
    """Of the newest windows: a container, or what else ran where there is none."""
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
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME // 2 - 1]}..{name[1 - _LONGEST_NAME // 2 :]}"
    return f"{name} {100 * cpu_time_ns / (rows['window_tick'].n_unique() * progress.window_ns):.0f} % of a CPU"


def _show(progress: "Callable[[], Progress]", over: threading.Event, terminal: int) -> None:
    # Else a terminal that wants it (stty tostop) would stop the whole process.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    shown = ""
    while not over.wait(_EVERY_SECONDS):
        # Nobody is told of what goes wrong here: the run does not depend on it.
        with suppress(Exception):
            if _takes_text(terminal):
                shown = _write(terminal, line_of(progress()), shown)
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


def _write(terminal: int, line: str, before: str) -> str:
    """Writes over the line that is there; what is there now. Without escape sequences, which not all terminals know."""
    room = os.get_terminal_size(terminal).columns - 1
    line = line[:room] if room > 0 else line
    encoding = sys.stderr.encoding or "ascii"
    os.write(terminal, f"\r{line.ljust(min(len(before), max(room, 0)))}\r".encode(encoding, "backslashreplace"))
    return line
