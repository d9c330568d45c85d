# SPDX-License-Identifier: Apache-2.0
"""SIGUSR1 has a flight recorder write what it has."""

import signal
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tracer.cli.saying import say

if TYPE_CHECKING:
    from tracer.pipeline.run import Run


class RecorderSignal:
    """Heard from the start on, answered once there is a run. Without a recorder it ends the process, as ever."""

    def __init__(self, has_recorder: bool) -> None:
        self._has_recorder = has_recorder
        self._run: Run | None = None
        self._came_early = False

    def __enter__(self) -> Self:
        if self._has_recorder:
            signal.signal(signal.SIGUSR1, self._hear)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._run = None

    def answer_by(self, run: "Run") -> None:
        """From now on, and what came before."""
        self._run = run
        if self._came_early:
            self._hear(signal.SIGUSR1, None)

    def _hear(self, _number: int, _frame: object) -> None:
        if self._run is None:
            # Or late: while a run ends it does no harm.
            self._came_early = True
        else:
            say(self._run.ask("signal"))
