# SPDX-License-Identifier: Apache-2.0
"""The one clock of a run: CLOCK_MONOTONIC, tied to UTC by an anchor, which only a sleep or a step makes another one.

BPF programs stamp with CLOCK_MONOTONIC. The kernel's clocks run at one rate, which NTP corrects for all of them alike
(adjtimex(2)), so that an anchor does not drift. Their distances change in two ways, and each is seen by itself: while
the machine is suspended CLOCK_MONOTONIC stands still, unlike CLOCK_BOOTTIME (clock_gettime(2)); and who sets the wall
clock, as NTP does when it steps, moves CLOCK_REALTIME against both.
"""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

_SANDWICHES = 20
# Far above what two readings differ by for other reasons, far below any suspension.
SHORTEST_SLEEP_NS = 1_000_000
# The sum of shorter ones is found when it is as large.
SHORTEST_STEP_NS = 1_000_000
# In months of a clock that is set each minute, neither the manifest nor what a time costs may grow.
_MOST_CHANGES = 64
_ALWAYS = -(2**63)


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

    @property
    def boot_utc_ns(self) -> int:
        """Of CLOCK_BOOTTIME 0, which a sleep does not change."""
        return self.realtime_ns - self.monotonic_ns - self.slept_ns


class Sleep(NamedTuple):
    """A suspension of the machine, in ns of CLOCK_MONOTONIC, for which it took no time."""

    after_ns: int
    """The last moment at which the machine was seen awake."""
    slept_ns: int
    """How long it took."""
    anchor: ClockAnchor
    """That holds from then on."""


class Step(NamedTuple):
    """The wall clock was set, in ns."""

    after_ns: int
    """When that was noticed, a second later at the most (CLOCK_MONOTONIC)."""
    step_ns: int
    """By how much; below 0: back."""
    anchor: ClockAnchor
    """That holds from then on."""


class RunClock:
    """The UTC of a run's times. Any thread may call any method."""

    def __init__(
        self,
        anchor: ClockAnchor,
        last_awake_ns: Callable[[int], int] | None = None,
        tell: Callable[[Step], None] = lambda _step: None,
    ) -> None:
        """`last_awake_ns` tells when the machine was last seen awake before it had slept for that long in all.

        Without it nothing is looked for: the node does not exist. `tell` hears of each step.
        """
        self.first = anchor
        self.anchors: tuple[tuple[int, ClockAnchor], ...] = ((_ALWAYS, anchor),)
        """In order, each with the time after which it holds (CLOCK_MONOTONIC); of very many the latest."""
        self.sleeps: tuple[Sleep, ...] = ()
        """Of very many the latest, as of steps."""
        self.steps: tuple[Step, ...] = ()
        self._changes = 0
        self._last_awake_ns = last_awake_ns
        self._tell = tell
        self._lock = threading.Lock()

    def look(self) -> Sleep | Step | None:
        """Notices that the machine has slept, or that its clock was set, since the last look; the latter of both.

        Call it before times are converted.
        """
        latest = self._latest
        if self._last_awake_ns is None or (
            _slept_at_least_ns() < latest.slept_ns + SHORTEST_SLEEP_NS
            and abs(_boot_utc_ns() - latest.boot_utc_ns) < SHORTEST_STEP_NS
        ):
            return None
        change: Sleep | Step | None = None
        with self._lock:
            before, now = self._latest, measure_anchor()
            slept_ns = now.slept_ns - before.slept_ns
            if slept_ns >= SHORTEST_SLEEP_NS:
                awake = msgspec.structs.replace(now, realtime_ns=before.boot_utc_ns + now.slept_ns + now.monotonic_ns)
                change = Sleep(self._last_awake_ns(now.slept_ns), slept_ns, awake)
                self.sleeps = (*self.sleeps, change)[-_MOST_CHANGES:]
                self._hold(change.after_ns, awake)
            else:
                now = msgspec.structs.replace(now, slept_ns=before.slept_ns)
            step_ns = now.boot_utc_ns - before.boot_utc_ns
            if abs(step_ns) >= SHORTEST_STEP_NS + now.uncertainty_ns:
                change = Step(now.monotonic_ns, step_ns, now)
                self.steps = (*self.steps, change)[-_MOST_CHANGES:]
                self._hold(change.after_ns, now)
        if isinstance(change, Step):
            self._tell(change)
        return change

    def utc_ns(self, monotonic_ns: int) -> int:
        """Nanoseconds since 1970-01-01 UTC of a CLOCK_MONOTONIC time."""
        return self.anchor_at(monotonic_ns).utc_ns(monotonic_ns)

    def anchor_at(self, monotonic_ns: int) -> ClockAnchor:
        """The one that holds at that time."""
        return next(anchor for after_ns, anchor in reversed(self.anchors) if monotonic_ns > after_ns)

    @property
    def changes_left_out(self) -> int:
        """Sleeps and steps that are not in these any more."""
        return self._changes - len(self.sleeps) - len(self.steps)

    @property
    def boot_utcs(self) -> list[tuple[int, int]]:
        """UTC of CLOCK_BOOTTIME 0 for what is told in that clock, in order, each with the time after which it holds.

        Only a step changes it, so that what began at a time has one beginning.
        """
        return [
            (after_ns + (before.slept_ns if after_ns > _ALWAYS else 0), anchor.boot_utc_ns)
            for (_after_ns, before), (after_ns, anchor) in pairwise((self.anchors[0], *self.anchors))
            if after_ns == _ALWAYS or anchor.boot_utc_ns != before.boot_utc_ns
        ]

    @property
    def _latest(self) -> ClockAnchor:
        return self.anchors[-1][1]

    def _hold(self, after_ns: int, anchor: ClockAnchor) -> None:
        kept = (*self.anchors, (after_ns, anchor))[-_MOST_CHANGES:]
        self.anchors = ((_ALWAYS, kept[0][1]), *kept[1:])
        self._changes += 1


def tightest_anchor(sandwiches: Iterable[tuple[int, int, int]], slept_ns: int = 0) -> ClockAnchor:
    """The anchor of the narrowest of (monotonic, realtime, monotonic) readings: the least disturbed one."""
    before, realtime, after = min(sandwiches, key=lambda sandwich: sandwich[2] - sandwich[0])
    middle = (before + after) // 2
    return ClockAnchor(realtime_ns=realtime, monotonic_ns=middle, uncertainty_ns=after - middle, slept_ns=slept_ns)


def measure_anchor() -> ClockAnchor:
    """Reads the clocks some twenty times, in about 20 us, and keeps the best pair."""
    while True:
        slept_ns = _slept_ns()
        anchor = tightest_anchor(
            [
                (
                    time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                    time.clock_gettime_ns(time.CLOCK_REALTIME),
                    time.clock_gettime_ns(time.CLOCK_MONOTONIC),
                )
                for _ in range(_SANDWICHES)
            ],
            slept_ns,
        )
        # It may have slept in the middle of this.
        if _slept_ns() < slept_ns + SHORTEST_SLEEP_NS:
            return anchor


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


def _slept_ns() -> int:
    """The least of what was read too late is the nearest."""
    return max(_slept_at_least_ns() for _ in range(_SANDWICHES))


def _slept_at_least_ns() -> int:
    """Whoever is held up between the two readings finds less, never more."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def _boot_utc_ns() -> int:
    """Whoever is held up between the two readings finds less or more: measure it then."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
