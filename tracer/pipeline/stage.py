# SPDX-License-Identifier: Apache-2.0
"""A thread of the pipeline whose failure ends the run instead of being lost, and whose end is awaited with a bound."""

import threading
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tracer.errors import TracerError


class StuckError(TracerError):
    """Threads that did not end within their time. They may still use all that the run has: only leave the process."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"the run's end was waited for in vain: stuck in {', '.join(names)}; what was written is kept")


class Stage(threading.Thread):
    """Runs `work` once, then `end`. Of what fails, the first is kept in `failure`, and the run is asked to stop."""

    def __init__(self, name: str, stop_run: threading.Event) -> None:
        super().__init__(name=f"tracer-{name}", daemon=True)
        self.failure: TracerError | None = None
        self._stage = name
        self._stop_run = stop_run

    @abstractmethod
    def work(self) -> None:
        """The stage's life, from the first input to the last."""

    @abstractmethod
    def end(self) -> None:
        """Called after `work`, however that ended. From now on nobody waits for this stage; nor does this wait."""

    def run(self) -> None:
        """Called by the thread."""
        with self.surviving():
            self.work()
        self.end()

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """For a part of the work without which the rest can go on, so that what can be kept is kept."""
        try:
            yield
        except Exception as error:
            if self.failure is None:
                self.failure = self._explained(error)
            self._stop_run.set()

    def _explained(self, error: Exception) -> TracerError:
        if isinstance(error, TracerError):
            return error
        failure = TracerError(f"{self._stage} failed, which is a defect of the tracer: {error!r}")
        failure.__cause__ = error
        return failure


def await_end(threads: Iterable[threading.Thread], seconds: float) -> list[str]:
    """Waits for all of them together, at most so long; the names of those that have not ended."""
    deadline = time.monotonic() + seconds
    names = []
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            names.append(thread.name.removeprefix("tracer-"))
    return names
