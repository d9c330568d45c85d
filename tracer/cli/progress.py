# SPDX-License-Identifier: Apache-2.0
"""How far something that takes long has come."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def step_bar(first: str = "reading") -> Iterator[Callable[[str, float, float], None] | None]:
    """A bar on a terminal, to be told what is being done, how much of it is, and of how much; None elsewhere.

    `first` is what is done until it is told anything.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(first)
        yield lambda what, done, steps: bar.update(task, description=what, completed=done, total=steps)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None] | None]:
    """A bar on a terminal for one thing, to be told the share that is done; None elsewhere."""
    with step_bar(what) as show:
        yield None if show is None else lambda share: show(what, share, 1.0)
