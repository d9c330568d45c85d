# SPDX-License-Identifier: Apache-2.0
"""The one clock of a run: CLOCK_MONOTONIC, tied to UTC by an anchor, and by another each time the machine has slept.

BPF programs stamp with CLOCK_MONOTONIC. An anchor is kept as long as the machine is awake, so that times stay evenly
spaced and tables join exactly even where NTP or a person sets the wall clock meanwhile. While the machine is suspended
CLOCK_MONOTONIC stands still, unlike CLOCK_BOOTTIME (clock_gettime(2)).
"""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

_SANDWICHES = 20
# Far above what two readings differ by for other reasons, far below any suspension.
SHORTEST_SLEEP_NS = 1_000_000


class ClockAnchor(msgspec.Struct, frozen=True):
    """One moment on both clocks, in nanoseconds; the true pairing is within +-`uncertainty_ns`.

    slept_ns: what CLOCK_BOOTTIME was ahead: how long the machine had been suspended since it booted.
    """

    realtime_ns: int
    monotonic_ns: int
    uncertainty_ns: int
    slept_ns: int = 0

    def utc_ns(self, monotonic_ns: int) -> int:
        """Nanoseconds since 1970-01-01 UTC of a CLOCK_MONOTONIC time, before or after the anchor."""
        return self.realtime_ns + (monotonic_ns - self.monotonic_ns)


class Sleep(NamedTuple):
    """A suspension of the machine, in ns of CLOCK_MONOTONIC, for which it took no time."""

    after_ns: int
    """The last moment at which the machine was seen awake."""
    slept_ns: int
    """How long it took."""
    anchor: ClockAnchor
    """That holds from then on."""


class RunClock:
    """The UTC of a run's times. Any thread may call any method."""

    def __init__(self, anchor: ClockAnchor, last_awake_ns: Callable[[int], int] | None = None) -> None:
        """`last_awake_ns` tells when the machine was last seen awake before it had slept for that long in all.

        Without it no sleep is looked for: the node does not exist.
        """
        self.first = anchor
        self.sleeps: tuple[Sleep, ...] = ()
        self._last_awake_ns = last_awake_ns
        self._lock = threading.Lock()

    def look(self) -> Sleep | None:
        """Notices that the machine has slept since the last look; call it before times are converted."""
        if self._last_awake_ns is None or _slept_at_least_ns() < self._latest.slept_ns + SHORTEST_SLEEP_NS:
            return None
        with self._lock:
            before, anchor = self._latest, measure_anchor()
            slept_ns = anchor.slept_ns - before.slept_ns
            if slept_ns < SHORTEST_SLEEP_NS:
                return None
            sleep = Sleep(self._last_awake_ns(anchor.slept_ns), slept_ns, anchor)
            self.sleeps = (*self.sleeps, sleep)
            return sleep

    def utc_ns(self, monotonic_ns: int) -> int:
        """Nanoseconds since 1970-01-01 UTC of a CLOCK_MONOTONIC time."""
        for sleep in reversed(self.sleeps):
            if monotonic_ns > sleep.after_ns:
                return sleep.anchor.utc_ns(monotonic_ns)
        return self.first.utc_ns(monotonic_ns)

    @property
    def boot_utc_ns(self) -> int:
        """Of CLOCK_BOOTTIME 0: the same throughout the run, so that what began then has one beginning."""
        return self.first.utc_ns(0) - self.first.slept_ns

    @property
    def _latest(self) -> ClockAnchor:
        return self.sleeps[-1].anchor if self.sleeps else self.first


def tightest_anchor(sandwiches: Iterable[tuple[int, int, int]], slept_ns: int = 0) -> ClockAnchor:
    """The anchor of the narrowest of (monotonic, realtime, monotonic) readings: the least disturbed one."""
    before, realtime, after = min(sandwiches, key=lambda sandwich: sandwich[2] - sandwich[0])
    middle = (before + after) // 2
    return ClockAnchor(realtime_ns=realtime, monotonic_ns=middle, uncertainty_ns=after - middle, slept_ns=slept_ns)


def measure_anchor() -> ClockAnchor:
    """Reads the clocks some twenty times, in about 20 us, and keeps the best pair."""
    return tightest_anchor(
        [
            (
                time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                time.clock_gettime_ns(time.CLOCK_REALTIME),
                time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            )
            for _ in range(_SANDWICHES)
        ],
        # The least of what was read too late is the nearest.
        max(_slept_at_least_ns() for _ in range(_SANDWICHES)),
    )


def kernel_clock_offset_ns(sandwiches: Iterable[tuple[int, int, int]]) -> int:
    """What CLOCK_MONOTONIC of this process is ahead of the kernel's own, from (own, kernel's, own) readings.

    0 unless the process is in a time namespace that says otherwise (time_namespaces(7)).
    """
    before, kernel, after = min(sandwiches, key=lambda sandwich: sandwich[2] - sandwich[0])
    return 0 if before <= kernel <= after else (before + after) // 2 - kernel


def clock_source(sysfs: Path = Path("/sys")) -> str | None:
    """What the kernel's clocks are read from (`tsc`, `arch_sys_counter`); None where sysfs does not say."""
    try:
        path = sysfs / "devices/system/clocksource/clocksource0/current_clocksource"
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _slept_at_least_ns() -> int:
    """Whoever is held up between the two readings finds less, never more."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
