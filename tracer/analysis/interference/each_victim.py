# SPDX-License-Identifier: Apache-2.0
"""Work for each victim, on several CPUs."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

_MOST_THREADS = 8


def for_each(victims: Iterable[int], work: Callable[[int], None]) -> None:
    """Does the work of each victim, several at a time: nearly all of it is in NumPy, which lets others run."""
    with ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0)))) as threads:
        for _done in threads.map(work, victims):
            pass
