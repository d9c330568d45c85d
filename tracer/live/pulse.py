# SPDX-License-Identifier: Apache-2.0
"""Whether a run does its work: the one rule that `/ready` and the watchdog of the systemd unit go by.

Programs are attached, and records of ticks came within the last second. The thread that drains the rings says so, so
that one which does not get on, for whatever reason, is not ready. An idle node has such records too: that thread runs
there.
"""

import time
from collections.abc import Callable
from typing import Final

LONGEST_PAUSE_NS: Final = 1_000_000_000


class Pulse:
    """Of one run. Any thread may call any method; `now_ns` is CLOCK_MONOTONIC."""

    def __init__(self, now_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC)) -> None:
        self._now_ns = now_ns
        self._is_attached = False
        self._seen_ns: int | None = None

    def attach(self) -> None:
        """The programs are attached."""
        self._is_attached = True

    def detach(self) -> None:
        """They are not any more: what still comes is what was there."""
        self._is_attached = False

    def see_ticks(self) -> None:
        """Records of ticks came just now."""
        self._seen_ns = self._now_ns()

    def what_is_missing(self) -> str | None:
        """Why the run is not at its work; None where it is."""
        if not self._is_attached:
            return "the programs are not attached"
        if self._seen_ns is None:
            return "no tick was seen yet"
        pause_ns = self._now_ns() - self._seen_ns
        if pause_ns > LONGEST_PAUSE_NS:
            return f"no tick was seen for {pause_ns / 1e9:.1f} s"
        return None
