# SPDX-License-Identifier: Apache-2.0
"""A recording as snapshots: what a run had counted at each of its seconds."""

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import polars as pl

from tracer.errors import UsageError
from tracer.live.totals import Totals
from tracer.store.schemas import HEALTH, LIFECYCLE, LLC, RESOURCES, TABLES, WAITS, WINDOWS

if TYPE_CHECKING:
    from datetime import datetime

    from tracer.analysis.recording import Recording
    from tracer.live.snapshot import Snapshot

_SECOND: Final = timedelta(seconds=1)
# Read at once.
_PART: Final = timedelta(minutes=1)
_READ: Final = (WINDOWS, WAITS, RESOURCES, LLC, LIFECYCLE, HEALTH)


class OverError(UsageError):
    """There are no more seconds."""


class Playback:
    """Of one run. Each snapshot is a second later than the one before, without pauses."""

    def __init__(self, recording: "Recording") -> None:
        """Raises UsageError for a recording of several runs, or of one without a manifest."""
        if len(recording.manifests) != 1 or recording.manifests[0].first_tick is None:
            raise UsageError("only a single run can be played: DIR@RUN is one of several, which `tracer runs` lists")
        (manifest,) = recording.manifests
        self._recording = recording
        self._totals = Totals(
            run_id=str(manifest.run_id),
            node_name=manifest.host.node_name,
            tick_ns=manifest.tick_ns,
            first_tick=manifest.first_tick or 0,
        )
        self._now = recording.span.start
        self._part_end = recording.span.start
        self._rows: dict[str, dict[datetime, pl.DataFrame]] = {}

    def snapshot(self) -> "Snapshot":
        """After another second that has rows. Raises OverError after the last."""
        if not self._go_on():
            raise OverError("the recording is over")
        return self._totals.snapshot()

    def whole(self) -> "Snapshot":
        """After the last second."""
        while self._go_on():
            pass
        return self._totals.snapshot()

    def _go_on(self) -> bool:
        """By a second that has windows; False if there are no more."""
        while self._now < self._recording.span.end:
            if self._now >= self._part_end:
                self._read_part()
            has_windows = False
            for name, by_second in self._rows.items():
                if (rows := by_second.get(self._now)) is not None:
                    self._totals.put(TABLES[name], rows.to_arrow())
                    has_windows |= name == WINDOWS.name
            self._now += _SECOND
            if has_windows:
                return True
        return False

    def write(self) -> str:
        """There is nothing to write. Raises UsageError."""
        raise UsageError("this is a recording already")

    def _read_part(self) -> None:
        from tracer.analysis.recording import Span

        start, end = self._now, min(self._now + _PART, self._recording.span.end)
        self._part_end = start + _PART
        for table in _READ:
            rows = self._recording.collect(self._recording.scan(table.name, Span(start, end)))
            number = ((pl.col(table.time_column) - start).dt.total_microseconds() // 10**6).alias("second")
            parts = rows.with_columns(number).partition_by("second", as_dict=True, include_key=False)
            self._rows[table.name] = {start + int(key[0]) * _SECOND: part for key, part in parts.items()}
