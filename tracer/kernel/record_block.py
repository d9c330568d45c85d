# SPDX-License-Identifier: Apache-2.0
"""What a source of tick records hands over: columns of a fixed capacity, filled anew for each batch."""

from typing import Final

import numpy as np
import numpy.typing as npt

from tracer.kernel.records import COUNTERS

OPEN = np.uint64(2**64 - 1)
WAITED_WORDS = 4


class RecordBlock:
    """Columns of a fixed capacity, a row a record (or a tick of a run of ticks). Counters lie as [counter, row]."""

    ROW_BYTES: Final = 88
    """Of all columns together."""

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
        self.waited = np.empty((capacity, WAITED_WORDS), np.uint64)
        """The record's fields from wait_ns on, as they lie there: [row, word]."""

    @property
    def wait_ns(self) -> npt.NDArray[np.uint64]:
        """Time waited."""
        return self.waited[:, 0]

    @property
    def wait_self_ns(self) -> npt.NDArray[np.uint64]:
        """Of that, behind the cgroup itself; OPEN where it is not known whose time of the tick the wait was."""
        return self.waited[:, 1]

    @property
    def waits(self) -> npt.NDArray[np.uint32]:
        """Waits that ended."""
        return self.waited.view(np.uint32)[:, 4]

    @property
    def involuntary(self) -> npt.NDArray[np.uint32]:
        """Switches of tasks that were still ready."""
        return self.waited.view(np.uint32)[:, 5]

    @property
    def stolen_ns(self) -> npt.NDArray[np.uint64]:
        """What hypervisor and interrupts took; modulo 2^64, as it can be below 0."""
        return self.waited[:, 3]

    def columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        """The arrays in the order the drain takes them."""
        return (
            self.tick, self.cpu, self.cgroup_id, self.cpu_time_ns, self.counters, self.unread,
            self.context_switches, self.lateness_ns, self.waited,
        )  # fmt: skip
