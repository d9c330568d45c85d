# SPDX-License-Identifier: Apache-2.0
"""A thread of the pipeline whose failure ends the run instead of being lost, and whose end is awaited with a bound."""

import threading
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
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
        self.moved_at = time.monotonic()
        """When it last got on with its work: one that is slow is not one that is stuck."""
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
        self.moved_at = time.monotonic()

    def _explained(self, error: Exception) -> TracerError:
        if isinstance(error, TracerError):
            return error
        failure = TracerError(f"{self._stage} failed, which is a defect of the tracer: {error!r}")
        failure.__cause__ = error
        return failure


def await_end(threads: Sequence[threading.Thread], seconds: float) -> list[str]:
    """Waits until all have ended, but for no longer without one of them moving; the names of those that have not."""
    begun = time.monotonic()
    for thread in threads:
        while thread.is_alive():
            moved_at = max([begun, *(other.moved_at for other in threads if isinstance(other, Stage))])
            left = moved_at + seconds - time.monotonic()
            if left <= 0:
                return [late.name.removeprefix("tracer-") for late in threads if late.is_alive()]
            thread.join(left)
    return []
