# SPDX-License-Identifier: Apache-2.0
"""How an upload goes on: when it is tried again, what is told of a store that takes nothing, and how fast it may be."""

import random
import time
from collections.abc import Callable
from typing import Final

from tracer.store.upload.object_store import UploadError

LONGEST_WAIT_SECONDS: Final = 120.0
_SHORTEST_WAIT_SECONDS: Final = 1.0
# What passes by itself is told once it has not passed.
_FAILURES_TOLD: Final = 3
# Of a sum that is due, so much is gathered before it is waited for.
_SHORTEST_PAUSE_SECONDS: Final = 0.01


class Course:
    """Of one store. `note` is told when nothing can be uploaded, and when that is over."""

    def __init__(self, url: str, note: Callable[[str], None]) -> None:
        self._url = url
        self._note = note
        self._failures = 0
        self._begun: float | None = None
        self._told: str | None = None

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._begun is not None

    def fail(self, error: UploadError) -> float:
        """How many seconds to wait before it is tried again: longer each time, and not the same on each node."""
        self._failures += 1
        self._begun = time.monotonic() if self._begun is None else self._begun
        reason = str(error)
        if self._told != reason and (error.is_lasting or self._failures == _FAILURES_TOLD):
            self._told = reason
            self._note(
                f"results cannot be uploaded to {self._url} ({reason}): they are kept here, as far as --keep allows, "
                "and it is tried again"
            )
        longest = min(LONGEST_WAIT_SECONDS, _SHORTEST_WAIT_SECONDS * 2.0 ** min(self._failures, 10))
        if error.is_lasting:
            longest = LONGEST_WAIT_SECONDS
        return random.uniform(longest / 2, longest)

    def succeed(self) -> None:
        """It is over, if it was."""
        if self._begun is not None and self._told is not None:
            self._note(f"results are uploaded to {self._url} again, after {time.monotonic() - self._begun:.0f} s")
        self._failures = 0
        self._begun = self._told = None


def bandwidth(bytes_per_second: float | None, wait: Callable[[float], object]) -> Callable[[int], None]:
    """To be told how many bytes are sent next; it waits until they may be."""
    free_at = time.monotonic()

    def pace(size: int) -> None:
        nonlocal free_at
        if bytes_per_second is None:
            return
        now = time.monotonic()
        if free_at > now:
            wait(free_at - now)
        free_at = max(now, free_at) + size / bytes_per_second

    return pace


def share_of_cpu(share: float, wait: Callable[[float], object]) -> Callable[[], None]:
    """To be called from time to time by one thread; it waits so that it takes no more than that share of a CPU."""
    seen = 0.0

    def pause() -> None:
        nonlocal seen
        due = (time.thread_time() - seen) * (1 / share - 1)
        if due > _SHORTEST_PAUSE_SECONDS:
            wait(due)
            seen = time.thread_time()

    return pause
