# SPDX-License-Identifier: Apache-2.0
"""Looks at labelled rows as they come: which of the rules are met."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from tracer.recorder.met import Met
from tracer.recorder.rules import Rule
from tracer.recorder.second_judge import SecondJudge
from tracer.recorder.window_judge import WindowJudge
from tracer.store.fields import Table
from tracer.store.schemas import HEALTH, RESOURCES, WINDOWS

__all__ = ["Judge", "Met"]


class Judge:
    """Of all rules of a run. One thread uses it; what it remembers is bounded, whatever comes."""

    def __init__(self, rules: Sequence[Rule], *, tick_ns: int, window_ticks: int) -> None:
        by_window = [rule for rule in rules if rule.metric.is_by_window]
        by_second = [rule for rule in rules if not rule.metric.is_by_window]
        self._windows = WindowJudge(by_window, tick_ns=tick_ns, window_ticks=window_ticks) if by_window else None
        self._seconds = SecondJudge(by_second) if by_second else None

    @property
    def left_out(self) -> int:
        """How often rows of some container were not looked at, as there were too many of them."""
        return self._windows.left_out if self._windows is not None else 0

    def look(self, table: Table, rows: pa.Table) -> list[Met]:
        """Takes rows of any table; returns what is met with them. A rule is met once by one streak."""
        if not rows.num_rows:
            return []
        if table is WINDOWS and self._windows is not None:
            return self._windows.look(rows)
        if table is RESOURCES and self._seconds is not None:
            return self._seconds.look_at_resources(_frame(rows))
        if table is HEALTH and self._seconds is not None:
            return self._seconds.look_at_health(_frame(rows))
        return []


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
