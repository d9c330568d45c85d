# SPDX-License-Identifier: Apache-2.0
"""The kernel's limit of samples, which the tick is under as any event that overflows.

An event that overflows more often within a jiffy than kernel.perf_event_max_sample_rate allows is stopped until the
next one (`__perf_event_account_interrupt` in kernel/events/core.c). Anybody may lower the limit, and so does the kernel
where samples take more than kernel.perf_cpu_time_max_percent (Documentation/admin-guide/sysctl/kernel.rst).
"""

from collections.abc import Callable
from pathlib import Path

_LIMIT = Path("/proc/sys/kernel/perf_event_max_sample_rate")
# The limit is rounded to whole samples of a jiffy, reaching it can be enough, and a tick that is late comes just before
# the next one: where a jiffy is as long as a tick, two in one are usual.
_ROOM = 3


def sample_rate_limit() -> int | None:
    """Samples a second of one event on one CPU; None where the kernel has no perf events, or /proc is not there."""
    try:
        return int(_LIMIT.read_text())
    except (OSError, ValueError):
        return None


def needed_sample_rate(tick_ns: int) -> int:
    """The lowest limit with which no tick of so many nanoseconds is held up."""
    return _ROOM * -(-1_000_000_000 // tick_ns)


class SampleRateWatch:
    """Notices that the limit holds up ticks, and that it does not any more."""

    def __init__(self, tick_ns: int, read: Callable[[], int | None] = sample_rate_limit) -> None:
        self.is_too_low = False
        self._needed = needed_sample_rate(tick_ns)
        self._read = read

    def look(self) -> str | None:
        """What changed since the last look, in words."""
        limit = self._read()
        was_too_low, self.is_too_low = self.is_too_low, limit is not None and limit < self._needed
        if self.is_too_low == was_too_low:
            return None
        if not self.is_too_low:
            return "kernel.perf_event_max_sample_rate holds up no ticks any more"
        return (
            f"kernel.perf_event_max_sample_rate is {limit}, below {self._needed}: ticks are held up, and what a CPU "
            "counts is spread evenly over those that it misses; CPU time stays exact"
        )
