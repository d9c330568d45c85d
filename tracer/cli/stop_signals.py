# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and SIGHUP while a run starts, goes on and ends."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Self


class StopSignals:
    """The first signal stops the run; another one ends the process at once, by the kernel's hand.

    Before there is a run to stop, the first gives back what was taken and ends the process; nothing is raised for it,
    since a library could swallow that. SIGINT is heard also where a shell had it ignored for what a script starts with
    `&`: it is how a run is ended. An ignored SIGHUP stays so: nohup wants that.
    """

    def __init__(self) -> None:
        self._give_back: Callable[[], None] = lambda: None
        self._stop: Callable[[], None] | None = None
        self._before: dict[signal.Signals, object] = {}

    def give_back(self, everything: Callable[[], None]) -> None:
        """What to call before the process ends because of a signal that comes before `stop`."""
        self._give_back = everything

    def stop(self, run: Callable[[], None]) -> None:
        """From now on the first signal calls `run`."""
        self._stop = run

    @contextmanager
    def while_importing(self) -> Iterator[None]:
        """For imports of libraries that take over signals: what comes meanwhile waits, and they do not keep them.

        Polars makes a SIGINT end the query under way, in whatever thread, with a KeyboardInterrupt; and one that
        comes while it sets that up can be lost.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, self._before)
        try:
            yield
        finally:
            for number in self._before:
                signal.signal(number, self._handle)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._before)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        for handled in self._before:
            signal.signal(handled, signal.SIG_DFL)
        if self._stop is not None:
            self._stop()
            return
        self._give_back()
        with suppress(OSError):
            os.write(2, f"tracer: {signal.Signals(number).name} came before anything was traced\n".encode())
        os.kill(os.getpid(), number)
