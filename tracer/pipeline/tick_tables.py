# SPDX-License-Identifier: Apache-2.0
"""Tick records to the labelled rows of `windows`, `ticks` and `waits`: the same for every source of records."""

from collections import Counter
from collections.abc import Mapping

import polars as pl

from tracer.pipeline.labelling import Labelling
from tracer.pipeline.wait_holders import largest_holders
from tracer.pipeline.windows import IDLE_CGROUP_ID, ClosedWindows, WindowAssembler, tick_rows
from tracer.store.schemas import TICKS, WAITS, WINDOWS

_SUMMED = (
    "cpu_time_ns", "wait_time_ns", "wait_behind_others_ns", "wait_behind_self_ns", "wait_idle_ns", "wait_throttled_ns",
    "stolen_time_ns",
)  # fmt: skip


class TickTables:
    """Groups records into windows and hands on what is final; see `WindowAssembler` for when that is."""

    def __init__(
        self,
        labelling: Labelling,
        *,
        tick_ns: int,
        window_ticks: int,
        first_tick: int,
        llc_of_cpu: Mapping[int, int],
        write_ticks: bool,
        tells_throttled: bool = False,
    ) -> None:
        self._labelling = labelling
        self._tick_ns = tick_ns
        self._write_ticks = write_ticks
        self._write_waits = True
        self.windows = WindowAssembler(
            tick_ns=tick_ns,
            window_ticks=window_ticks,
            first_tick=first_tick,
            llc_of_cpu=llc_of_cpu,
            tells_throttled=tells_throttled,
        )
        """Holds what is not final yet, and counts what became of the records."""
        self.sums: Counter[str] = Counter()
        """Of columns of `windows`, over all rows handed on but those of idle time; null columns are left out."""

    def use_llcs(self, llc_of_cpu: Mapping[int, int]) -> None:
        """From the next close on, CPUs belong to these last-level caches."""
        self.windows.use_llcs(llc_of_cpu)

    def write_ticks(self, whether: bool) -> None:
        """Whether rows of `ticks` are handed on from the next close on; any thread may call it."""
        self._write_ticks = whether

    def write_waits(self, whether: bool) -> None:
        """The same of `waits`."""
        self._write_waits = whether

    def add(self, records: pl.DataFrame) -> None:
        """Takes records (`tracer.pipeline.windows.RECORDS_SCHEMA`) in any order."""
        self.windows.add(records)

    def close_before(self, tick: int) -> None:
        """Hands on the windows whose last tick is less than `tick`."""
        self._put(self.windows.close_before(tick), is_last=False)

    def close_all(self, last_tick: int) -> None:
        """Hands on all that is left, up to the last tick of the run."""
        self._put(self.windows.close_all(last_tick), is_last=True)

    def _put(self, closed: ClosedWindows, *, is_last: bool) -> None:
        busy = closed.windows.filter(pl.col("cgroup_id") != IDLE_CGROUP_ID)
        self.sums.update({name: busy[name].sum() for name in _SUMMED if busy[name].null_count() < busy.height})
        self._labelling.put(WINDOWS, closed.windows, self._monotonic_ns("window_tick"), is_last=is_last)
        if self._write_ticks:
            rows = tick_rows(closed.records, tick_ns=self._tick_ns)
            self._labelling.put(TICKS, rows, self._monotonic_ns("tick"), is_last=is_last)
        if self._write_waits:
            waits = largest_holders(closed.holders)
            self._labelling.put(WAITS, waits, self._monotonic_ns("window_tick"), is_last=is_last)

    def _monotonic_ns(self, tick: str) -> pl.Expr:
        return pl.col(tick).cast(pl.Int64) * self._tick_ns
