# SPDX-License-Identifier: Apache-2.0
"""Tick records to the labelled rows of `windows` and `ticks`: the same for every source of records."""

from collections.abc import Mapping

import polars as pl

from tracer.pipeline.labelling import Labelling
from tracer.pipeline.windows import ClosedWindows, WindowAssembler, tick_rows
from tracer.store.schemas import TICKS, WINDOWS


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
    ) -> None:
        self._labelling = labelling
        self._tick_ns = tick_ns
        self._write_ticks = write_ticks
        self.windows = WindowAssembler(window_ticks=window_ticks, first_tick=first_tick, llc_of_cpu=llc_of_cpu)
        """Holds what is not final yet, and counts what became of the records."""

    def use_llcs(self, llc_of_cpu: Mapping[int, int]) -> None:
        """From the next close on, CPUs belong to these last-level caches."""
        self.windows.use_llcs(llc_of_cpu)

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
        self._labelling.put(WINDOWS, closed.windows, self._monotonic_ns("window_tick"), is_last=is_last)
        if self._write_ticks:
            rows = tick_rows(closed.records, tick_ns=self._tick_ns)
            self._labelling.put(TICKS, rows, self._monotonic_ns("tick"), is_last=is_last)

    def _monotonic_ns(self, tick: str) -> pl.Expr:
        return pl.col(tick).cast(pl.Int64) * self._tick_ns
