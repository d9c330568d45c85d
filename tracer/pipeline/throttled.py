# SPDX-License-Identifier: Apache-2.0
"""Times for which limits kept cgroups from a CPU, by tick and by whom they held up."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from tracer.pipeline.wait_holders import Times


def throttled_times(
    throttlings: npt.NDArray[np.void], held_up: Mapping[int, Iterable[int]], *, tick_ns: int, clock_offset_ns: int = 0
) -> Times:
    """What `throttlings` (THROTTLING of tracer.kernel.throttling) are by tick, CPU and cgroup.

    `held_up` has for each of the cgroups with a limit the cgroups that it held up: itself and those below. Limits on
    several levels can hold up one at the same time, which counts once.
    """
    by_place: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for begin_ns, end_ns, cgroup_id, cpu in throttlings.tolist():
        if end_ns > begin_ns and cpu < 1 << 16:
            for one in held_up[cgroup_id]:
                by_place[one, cpu].append((begin_ns + clock_offset_ns, end_ns + clock_offset_ns))
    rows = [(*place, *piece) for place, pieces in by_place.items() for piece in _apart(pieces)]
    if not rows:
        return Times(np.zeros(0, np.uint64), np.zeros(0, np.uint16), np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    cgroup_id, cpu, begin, end = (np.array(column, np.uint64) for column in zip(*rows, strict=True))
    first = begin // tick_ns
    ticks = (end - np.uint64(1)) // tick_ns - first + np.uint64(1)
    row = np.repeat(np.arange(len(rows)), ticks.astype(np.int64))
    # The number of each tick within its row.
    number = np.arange(len(row)) - np.repeat(np.cumsum(ticks) - ticks, ticks.astype(np.int64)).astype(np.int64)
    tick = first[row] + number.astype(np.uint64)
    from_ns = np.maximum(begin[row], tick * np.uint64(tick_ns))
    until_ns = np.minimum(end[row], (tick + np.uint64(1)) * np.uint64(tick_ns))
    return Times(tick, cpu[row].astype(np.uint16), cgroup_id[row], until_ns - from_ns)


def _apart(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pieces of time that have none in common, and together are the given ones."""
    apart: list[tuple[int, int]] = []
    for begin, end in sorted(pieces):
        if apart and begin <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], end)
        else:
            apart.append((begin, end))
    return apart
