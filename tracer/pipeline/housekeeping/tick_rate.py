# SPDX-License-Identifier: Apache-2.0
"""Whether the kernel lets each CPU have all of its ticks."""

from collections.abc import Callable

from tracer.kernel.sample_rate import SampleRateWatch
from tracer.kernel.tick_source import KernelTickSource


class TickRate:
    """Says so at once where it does not, from the beginning, and puts the ticks right when it does again."""

    def __init__(self, source: KernelTickSource, alarm: Callable[[str], None]) -> None:
        self._source = source
        self._watch = SampleRateWatch(source.tick_ns)
        self._alarm = alarm
        self.look(0)

    def look(self, _now_ns: int) -> None:
        """Looks for changes since the last time."""
        if (change := self._watch.look()) is None:
            return
        self._alarm(change)
        if not self._watch.is_too_low:
            self._source.bring_in_phase()
