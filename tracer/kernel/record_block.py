# SPDX-License-Identifier: Apache-2.0
"""What a source of tick records hands over: columns of a fixed capacity, filled anew for each batch."""

import numpy as np
import numpy.typing as npt

from tracer.kernel.records import COUNTERS


class RecordBlock:
    """Columns of a fixed capacity, a row a record (or a tick of a run of ticks). Counters lie as [counter, row]."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tick = np.empty(capacity, np.uint64)
        self.cpu = np.empty(capacity, np.uint16)
        self.cgroup_id = np.empty(capacity, np.uint64)
        self.cpu_time_ns = np.empty(capacity, np.uint32)
        self.counters = np.empty((COUNTERS, capacity), np.uint64)
        self.unread = np.empty(capacity, np.uint16)
        self.context_switches = np.empty(capacity, np.uint32)
        self.lateness_ns = np.empty(capacity, np.uint32)

    def columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        """The arrays in the order the drain takes them."""
        return (
            self.tick, self.cpu, self.cgroup_id, self.cpu_time_ns, self.counters, self.unread,
            self.context_switches, self.lateness_ns,
        )  # fmt: skip
