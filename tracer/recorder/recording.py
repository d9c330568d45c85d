# SPDX-License-Identifier: Apache-2.0
"""One recording that a recorder writes: a store of its own, and the manifest that says why."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tracer.store.manifest import Instant, Manifest, Occasion, Recorder, Totals
from tracer.store.schemas import WINDOWS, Table
from tracer.store.writer import Store

MOST_OCCASIONS: Final = 64
# Counts of a run that are of a part of it as differences.
_COUNTS: Final = (
    "records", "records_expanded", "records_merged", "records_outside_run", "records_unassembled", "records_lost",
    "late_rows", "unknown_rows", "counter_values_refused",
)  # fmt: skip


class Recording:
    """What of a run is written for some occasions. One thread calls the methods."""

    def __init__(
        self,
        run_id: UUID,
        store: Store,
        *,
        manifest: Callable[[], Manifest],
        before: Totals,
        utc_ns: Callable[[int], int],
        continues: UUID | None,
        suppressed: dict[str, int],
    ) -> None:
        """`manifest`: of the whole run, as of now. before: what it had counted when the first row here came.

        utc_ns: of a time of CLOCK_MONOTONIC.
        """
        self.run_id = run_id
        self.store = store
        self._occasions: list[Occasion] = []
        self._occasions_left_out = 0
        self._manifest = manifest
        self._before = before
        self._utc_ns = utc_ns
        self._continues = continues
        self._suppressed = suppressed
        self._received: Counter[str] = Counter()
        self._ticks: tuple[int, int] | None = None

    def add(self, occasions: Sequence[Occasion], left_out: int) -> None:
        """Why it is written; `left_out` are further ones of which only that is known."""
        room = MOST_OCCASIONS - len(self._occasions)
        self._occasions = [*self._occasions, *occasions[:room]]
        self._occasions_left_out += left_out + len(occasions[room:])

    def see(self, table: Table, rows: pa.Table) -> None:
        """Rows that go to the store."""
        self._received[table.name] += rows.num_rows
        if table is WINDOWS and rows.num_rows:
            first = pc.min(rows["window_tick"]).as_py()
            last = pc.max(rows["window_tick"]).as_py() + pc.max(rows["ticks"]).as_py() - 1
            known = self._ticks or (first, last)
            self._ticks = (min(first, known[0]), max(last, known[1]))

    @property
    def next_tick(self) -> int:
        """After the last that has come; 0 if none has."""
        return 0 if self._ticks is None else self._ticks[1] + 1

    def totals(self, now: Totals) -> Totals:
        """Of this recording; `now`: of the whole run."""
        stored = self.store.totals
        totals = Totals(
            rows=stored.rows,
            files=stored.files,
            bytes=stored.bytes,
            rows_received=dict(self._received),
            rows_lost=stored.lost.rows.total(),
            rows_lost_by_table=dict(stored.lost.rows),
            rows_lost_by_cause=dict(stored.lost.causes),
            rows_in_journals=stored.rows_in_journals,
            files_removed=stored.removed.files,
            rows_removed=dict(stored.removed.own.rows),
            lost_by_cpu=_more_lost(self._before.lost_by_cpu, now.lost_by_cpu),
            **{name: max(0, getattr(now, name) - getattr(self._before, name)) for name in _COUNTS},
        )
        # Rows come some time after their records: some at the beginning, without theirs; others at the end are missing.
        of_rows = totals.records_unaccounted
        return msgspec.structs.replace(
            totals, records=totals.records + max(0, -of_rows), records_in_progress=max(0, of_rows)
        )

    def manifest(self, *, is_over: bool = False) -> Manifest:
        """As of now; `is_over`: nothing more is written."""
        run = self._manifest()
        first, last = self._ticks or (run.first_tick or 0, run.first_tick or 0)
        start_ns, end_ns = (self._utc_ns(tick * run.tick_ns) for tick in (first, last + 1))
        return msgspec.structs.replace(
            run,
            run_id=self.run_id,
            status="finished" if is_over else "running",
            exit_reason="the occasion is over" if is_over else None,
            start=Instant.of(start_ns),
            end=Instant.of(end_ns) if is_over else None,
            first_tick=first,
            last_tick=last if is_over else None,
            totals=self.totals(run.totals),
            left_out=[
                one
                for one in run.left_out
                if one.start.utc_ns < end_ns and (one.end is None or one.end.utc_ns > start_ns)
            ],
            recorder=Recorder(
                tracer_run_id=run.run_id,
                occasions=self._occasions,
                occasions_left_out=self._occasions_left_out,
                continues=self._continues,
                suppressed=self._suppressed,
            ),
        )


def _more_lost(before: dict[int, dict[str, int]], now: dict[int, dict[str, int]]) -> dict[int, dict[str, int]]:
    more = {}
    for cpu, causes in now.items():
        of_cpu = {cause: count - before.get(cpu, {}).get(cause, 0) for cause, count in causes.items()}
        if of_cpu := {cause: count for cause, count in of_cpu.items() if count > 0}:
            more[cpu] = of_cpu
    return more
