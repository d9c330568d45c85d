# SPDX-License-Identifier: Apache-2.0
"""The thread that does the duties of a run, each at its own interval."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracer.pipeline.stage import Stage

_LOOK_SECONDS = 0.1


class Duty(NamedTuple):
    """`do` takes the CLOCK_MONOTONIC, each `interval_ns`; `end` is called once at the end, if there is one."""

    interval_ns: int
    do: Callable[[int], object]
    end: Callable[[int], object] | None = None


class Housekeeping(Stage):
    """Does each duty until `finish`. One that fails ends the run, like any stage; the others go on until then."""

    def __init__(self, duties: Sequence[Duty], stop_run: threading.Event) -> None:
        super().__init__("housekeeping", stop_run)
        self._duties = tuple(duties)
        self._finish = threading.Event()

    def work(self) -> None:
        """Until `finish`; then what each duty has to do at the end, in their order."""
        due_ns = [_monotonic_ns() + duty.interval_ns for duty in self._duties]
        while not self._finish.wait(_LOOK_SECONDS):
            for index, duty in enumerate(self._duties):
                if (now_ns := _monotonic_ns()) >= due_ns[index]:
                    # From when it was due, so that a row a second is one; what was missed is not made up for.
                    due_ns[index] = max(due_ns[index] + duty.interval_ns, now_ns)
                    with self.surviving():
                        duty.do(now_ns)
        for duty in self._duties:
            if duty.end is not None:
                with self.surviving():
                    duty.end(_monotonic_ns())

    def end(self) -> None:
        """Nobody waits for it."""

    def finish(self) -> None:
        """Nothing of the run is under way any more."""
        self._finish.set()


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
