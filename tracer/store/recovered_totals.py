# SPDX-License-Identifier: Apache-2.0
"""What the manifest of a dead run counts once its journals are files: every record and every row has a place."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tracer.store.journal import JournalName
from tracer.store.manifest import Totals


class ClosedFile(NamedTuple):
    """A file of the run that is whole. `last_ns` is the time of its last row, UTC; 0 if it has none."""

    name: JournalName
    size: int
    rows: int
    last_ns: int
    is_recovered: bool


def recovered_rows(files: Sequence[ClosedFile]) -> Counter[str]:
    """The rows of files that a recovery made, this one or one that was killed, by table."""
    rows = Counter[str]()
    for file in files:
        if file.is_recovered:
            rows[file.name.table] += file.rows
    return rows


def totals_with(
    before: Totals, files: Sequence[ClosedFile], recovered: Mapping[str, int], *, was_killed: bool
) -> Totals:
    """What the run noted last (`before`), with all files that are there; `recovered`: rows of them that are new."""
    rows: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for file in files:
        rows[file.name.table] += file.rows
        counts[file.name.table] += 1
        sizes[file.name.table] += file.size
    totals = msgspec.structs.replace(
        before,
        rows=_written(before, rows, recovered),
        files=dict(counts),
        bytes=dict(sizes),
        rows_present=dict(rows),
        files_present=counts.total(),
        bytes_present=sizes.total(),
    )
    return _of_killed(totals) if was_killed else _without_recovered(totals, before)


def _written(before: Totals, found: Mapping[str, int], recovered: Mapping[str, int]) -> dict[str, int]:
    """Rows by table that were ever in a closed file: those of the run, at least as many as it said, and from journals.

    What it removed itself, or somebody else did, is among them.
    """
    closed = Counter(found)
    closed.subtract(recovered)
    closed.update(before.rows_removed)
    return {
        table: max(closed[table], before.rows.get(table, 0)) + recovered.get(table, 0)
        for table in sorted({*closed, *before.rows})
    }


def _without_recovered(totals: Totals, before: Totals) -> Totals:
    """Of a run that ended, but had no room for all files: what journals had is in files now."""
    left = Counter(before.rows_in_journals)
    left.subtract({table: rows - before.rows.get(table, 0) for table, rows in totals.rows.items()})
    return msgspec.structs.replace(totals, rows_in_journals={table: rows for table, rows in left.items() if rows > 0})


def _of_killed(totals: Totals) -> Totals:
    """What was counted last, up to a second before the kill, with what has been found: so that all has a place.

    Rows that were received by then and are nowhere are lost. Rows and their records may also have come since.
    """
    received, written = Counter(totals.rows_received), Counter(totals.rows)
    lost = Counter(totals.rows_lost_by_table)
    killed = received - written - lost
    lost += killed
    causes = {**totals.rows_lost_by_cause, **({"killed": killed.total()} if killed else {})}
    totals = msgspec.structs.replace(
        totals,
        rows_received=dict(written + lost),
        rows_lost=lost.total(),
        rows_lost_by_table=dict(lost),
        rows_lost_by_cause=causes,
        rows_in_journals={},
    )
    in_progress = totals.records_unaccounted
    return msgspec.structs.replace(
        totals, records=totals.records + max(0, -in_progress), records_in_progress=max(0, in_progress)
    )
