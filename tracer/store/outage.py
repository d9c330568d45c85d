# SPDX-License-Identifier: Apache-2.0
"""A time in which the output cannot be written, or only by removing older results: what is told of it.

One line when it begins, one when rows are dropped for the first time, one when it is over. It is over when nothing
waits and nothing failed for a while, which is longer each time: a disk that fails each second is not told each second.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tracer.store.gone import Gone, TimeSpan

_QUIET_SECONDS: Final = 2.0
_LONGEST_QUIET_SECONDS: Final = 600.0


@dataclass
class _Course:
    """What has come of one outage so far; times are of CLOCK_MONOTONIC, in seconds."""

    begun: float
    last: float
    is_unwritable: bool = False
    dropped: Gone = field(default_factory=Gone)
    files_removed: int = 0
    removed_span: TimeSpan | None = None


class Outage:
    """Of one run. `note` is told each line; any thread may call any method."""

    def __init__(self, note: Callable[[str], None], waiting_bytes: int) -> None:
        self._note = note
        self._waiting_bytes = waiting_bytes
        self._quiet_seconds = _QUIET_SECONDS
        self._course: _Course | None = None
        self._lock = threading.Lock()

    @property
    def is_now(self) -> bool:
        """Whether there is one."""
        return self._course is not None

    def fail(self, reason: str) -> None:
        """Something could not be written, or is not written in time."""
        with self._lock:
            course = self._begun()
            if not course.is_unwritable:
                course.is_unwritable = True
                self._note(
                    f"the output cannot be written ({reason}): rows wait in memory, up to "
                    f"{self._waiting_bytes / 2**20:.0f} MiB of files, until it can be again; a kill would lose them"
                )

    def drop(self, table: str, rows: int, span: TimeSpan) -> None:
        """Rows that waited, or found no room to wait, were dropped."""
        with self._lock:
            course = self._begun()
            if not course.dropped.rows:
                self._note("more rows wait for the output than memory is meant for: rows are dropped from now on")
            course.dropped.add(table, rows, span)

    def remove(self, files: int, span: TimeSpan | None) -> None:
        """Older results were removed, as the file system had no room."""
        with self._lock:
            course = self._begun()
            if not course.files_removed:
                self._note("the file system is full: the oldest results are removed to make room")
            course.files_removed += files
            course.removed_span = course.removed_span if span is None else span.joined(course.removed_span)

    def look(self, *, all_written: bool) -> None:
        """From time to time: says that it is over when it is."""
        with self._lock:
            now, course = time.monotonic(), self._course
            if course is None or not all_written or now - course.last < self._quiet_seconds:
                return
            what = "is written again" if course.is_unwritable else "has room again"
            self._note(f"the output {what}, after {course.last - course.begun:.0f} s: {_cost(course)}")
            self._course = None
            self._quiet_seconds = min(4 * self._quiet_seconds, _LONGEST_QUIET_SECONDS)

    def _begun(self) -> _Course:
        now = time.monotonic()
        if self._course is None:
            self._course = _Course(now, now)
        self._course.last = now
        return self._course


def _cost(course: _Course) -> str:
    costs = [f"DROPPED {course.dropped}"] if course.dropped.rows else []
    if course.files_removed:
        when = "" if course.removed_span is None else f", {course.removed_span}"
        costs.append(f"older results removed: {course.files_removed} files{when}")
    return "; ".join(costs) or "nothing was dropped"
