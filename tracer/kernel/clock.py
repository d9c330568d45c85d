# SPDX-License-Identifier: Apache-2.0
"""The one clock of a run: CLOCK_MONOTONIC, tied to UTC by an anchor measured once.

BPF programs stamp with CLOCK_MONOTONIC (`bpf_ktime_get_ns`). The anchor is kept for the whole run, so that
times stay evenly spaced and tables join exactly even where NTP or a person sets the wall clock meanwhile.
"""

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

_SANDWICHES = 20


class ClockAnchor(msgspec.Struct, frozen=True):
    """One moment on both clocks, in nanoseconds; the true pairing is within +-`uncertainty_ns`."""

    realtime_ns: int
    monotonic_ns: int
    uncertainty_ns: int

    def utc_ns(self, monotonic_ns: int) -> int:
        """Nanoseconds since 1970-01-01 UTC of a CLOCK_MONOTONIC time, before or after the anchor."""
        return self.realtime_ns + (monotonic_ns - self.monotonic_ns)


def tightest_anchor(sandwiches: Iterable[tuple[int, int, int]]) -> ClockAnchor:
    """The anchor of the narrowest of (monotonic, realtime, monotonic) readings: the least disturbed one."""
    before, realtime, after = min(sandwiches, key=lambda sandwich: sandwich[2] - sandwich[0])
    middle = (before + after) // 2
    return ClockAnchor(realtime_ns=realtime, monotonic_ns=middle, uncertainty_ns=after - middle)


def measure_anchor() -> ClockAnchor:
    """Reads both clocks some twenty times, in about 20 us, and keeps the best pair."""
    return tightest_anchor(
        [
            (
                time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                time.clock_gettime_ns(time.CLOCK_REALTIME),
                time.clock_gettime_ns(time.CLOCK_MONOTONIC),
            )
            for _ in range(_SANDWICHES)
        ]
    )


def clock_source(sysfs: Path = Path("/sys")) -> str | None:
    """What the kernel's clocks are read from (`tsc`, `arch_sys_counter`); None where sysfs does not say."""
    try:
        path = sysfs / "devices/system/clocksource/clocksource0/current_clocksource"
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None
