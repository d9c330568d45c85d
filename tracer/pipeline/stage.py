# SPDX-License-Identifier: Apache-2.0
"""A thread of the pipeline whose failure ends the run instead of being lost."""

import threading
from abc import abstractmethod


class Stage(threading.Thread):
    """Runs `work` once. If it raises, the exception is kept in `failure` and the run is asked to stop."""

    def __init__(self, name: str, stop_run: threading.Event) -> None:
        super().__init__(name=f"tracer-{name}", daemon=True)
        self.failure: BaseException | None = None
        self._stop_run = stop_run

    @abstractmethod
    def work(self) -> None:
        """The stage's life, from the first input to the last."""

    @abstractmethod
    def give_up(self) -> None:
        """Called after `work` raised: keep the stage before this one from waiting for ever."""

    def run(self) -> None:
        """Called by the thread."""
        try:
            self.work()
        except BaseException as error:
            self.failure = error
            self._stop_run.set()
            self.give_up()
