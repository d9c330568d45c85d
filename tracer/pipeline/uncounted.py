# SPDX-License-Identifier: Apache-2.0
"""A thread that notes which containers are counted as something else, on nodes where that can be."""

import threading
from collections.abc import Callable

from tracer.containers.identity import ContainerKey
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import describe, find_hidden, is_hybrid

_LOOK_SECONDS = 30.0
# A runtime that has one such container has them all so: the manifest need not tell of each.
_MOST_NOTED = 256


class Uncounted(threading.Thread):
    """Looks through the processes at the beginning, each half minute, and at the end; without hybrid cgroups, never."""

    def __init__(self, runtime_state: RuntimeState, note: Callable[[str], None]) -> None:
        super().__init__(name="tracer-uncounted", daemon=True)
        self._runtime_state = runtime_state
        self._note = note
        self._noted: set[tuple[ContainerKey, str]] = set()
        self._finish = threading.Event()

    def run(self) -> None:
        """Called by the thread; ends after `finish`."""
        try:
            if not is_hybrid():
                return
            self._look()
            while not self._finish.wait(_LOOK_SECONDS):
                self._look()
            self._look()
        except Exception as error:
            self._note(f"containers without cgroups of version 2 are not looked for, from here on: {error!r}")

    def finish(self) -> None:
        """Ends the thread after one more look."""
        self._finish.set()

    def _look(self) -> None:
        new = [hidden for hidden in find_hidden() if (hidden.key, hidden.counted_as) not in self._noted]
        new = new[: _MOST_NOTED - len(self._noted)]
        self._noted.update((hidden.key, hidden.counted_as) for hidden in new)
        if (text := describe(new, self._runtime_state)) is not None:
            self._note(text)
