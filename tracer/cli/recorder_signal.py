# SPDX-License-Identifier: Apache-2.0
"""SIGUSR1 has a flight recorder write what it has."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tracer.cli.saying import say

if TYPE_CHECKING:
    from tracer.pipeline.run import Run


@contextmanager
def heard_by(run: "Run") -> Iterator[None]:
    """Where the run has no recorder the signal does what it always does: it ends the process."""
    if not run.has_recorder:
        yield
        return

    def ask(_number: int, _frame: object) -> None:
        say(run.ask("signal"))

    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield
    finally:
        # One that comes while the run ends does no harm.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN if before is signal.SIG_DFL else before)
