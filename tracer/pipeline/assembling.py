# SPDX-License-Identifier: Apache-2.0
"""The middle stage: batches of records to windows to labelled rows."""

import threading
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tracer.containers.inventory import Inventory
from tracer.kernel.throttling import Throttling
from tracer.kernel.tick_source import KernelTickSource
from tracer.pipeline.counter_check import CounterCheck
from tracer.pipeline.frames import counter_shares, records_frame
from tracer.pipeline.reading import Batch, Reading
from tracer.pipeline.stage import Stage
from tracer.pipeline.throttled import throttled_times
from tracer.pipeline.tick_tables import TickTables

# After a tick's end: its CPU closes it at the next tick or switch, and the reader finds it a millisecond later.
# What a task waited is known when it gets a CPU: so long a wait is in time for its windows, and not a further row.
_GRACE_NS = 100_000_000


class Assembling(Stage):
    """Groups the records of each batch into windows, and closes those that nothing more comes for."""

    def __init__(
        self,
        *,
        reading: Reading,
        source: KernelTickSource,
        counter_check: CounterCheck,
        throttling: Throttling | None,
        inventory: Inventory,
        tables: TickTables,
        observe: Callable[[npt.NDArray[np.uint32], int], None],
        stop_run: threading.Event,
    ) -> None:
        """`observe` takes how late the ticks of a batch were closed, in ns, and how many batches wait."""
        super().__init__("assembling", stop_run)
        self.rows_failed = 0
        """Rows of batches that could not be added."""
        self._reading = reading
        self._source = source
        self._counter_check = counter_check
        self._throttling = throttling
        self._inventory = inventory
        self._tables = tables
        self._observe = observe
        self._bound: int | None = None
        self._last_tick: int | None = None

    def work(self) -> None:
        """Until the reader's last batch; then the windows that are still open are closed."""
        while (batch := self._reading.take()) is not None:
            is_added = False
            with self.surviving():
                self._add(batch)
                is_added = True
                self._add_throttled()
                self._tables.close_before(self._final_before(batch.drained_ns))
            if not is_added:
                self.rows_failed += batch.rows
        if self._last_tick is not None:
            with self.surviving():
                self._inventory.settle()
                self._add_throttled()
                self._tables.close_all(self._last_tick)

    def end(self) -> None:
        """The reader need not wait for its blocks."""
        self._reading.abandon()

    def bound(self, last_tick: int) -> None:
        """The run goes no further than this tick, and may end before: no window that ends later is final yet."""
        self._bound = last_tick

    def finish_at(self, last_tick: int) -> None:
        """The run's last tick: with it the last window closes, full or not. Call it as soon as it is known."""
        self._bound = self._last_tick = last_tick

    def _final_before(self, drained_ns: int) -> int:
        """The tick before which nothing more is expected once the rings were drained at this time."""
        tick = (drained_ns - self._source.tick_ns - _GRACE_NS) // self._source.tick_ns
        return tick if self._bound is None else min(tick, self._bound + 1)

    def _add(self, batch: Batch) -> None:
        counted = self._source.counted
        coverage: Mapping[int, tuple[float | None, ...]] = self._source.take_coverage() if any(counted) else {}
        block, rows = batch.block, batch.rows
        try:
            refused = None
            if coverage and rows:
                refused = self._counter_check.refuse(block, rows, counter_shares(coverage, self._counter_check.cpus))
            records = records_frame(
                block,
                rows,
                counted=counted,
                coverage=coverage,
                refused=refused,
                waits=self._source.follows_waits,
                tells_stolen=self._source.tells_stolen,
            )
            # An idle CPU may not tick for long, and nothing depends on it: only ticks of busy ones say how late we are.
            lateness = block.lateness_ns[:rows]
            late = lateness[(lateness > 0) & (block.cgroup_id[:rows] != 0)]
        finally:
            self._reading.give_back(block)
        self._observe(late, self._reading.waiting())
        self._tables.add(records)

    def _add_throttled(self) -> None:
        """What limits held up until now: it is told when it is over, which is before anybody runs again."""
        if self._throttling is None or not len(throttlings := self._throttling.read()):
            return
        held_up = {cgroup_id: self._inventory.below(cgroup_id) for cgroup_id in set(throttlings["cgroup_id"].tolist())}
        times = throttled_times(
            throttlings, held_up, tick_ns=self._source.tick_ns, clock_offset_ns=self._source.clock_offset_ns
        )
        self._tables.windows.add_throttled(times)
