# SPDX-License-Identifier: Apache-2.0
"""Of which time rows in memory are."""

from collections.abc import Iterable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from tracer.store.gone import TimeSpan
from tracer.store.schemas import Table

_DAY_US: Final = 86_400 * 10**6


def span_of(table: Table, rows: pa.Table) -> TimeSpan:
    """Of rows in memory, of which there are some, with times in us or ns."""
    bounds = pc.min_max(rows[table.time_column])
    per_us = 1_000 if rows.schema.field(table.time_column).type.unit == "ns" else 1
    return TimeSpan(bounds["min"].value // per_us, bounds["max"].value // per_us)


def by_day(table: Table, rows: pa.Table) -> Iterable[tuple[int, pa.Table]]:
    """The rows of each UTC day, as (days since the epoch, rows)."""
    if rows.num_rows == 0:
        return
    times_us = rows[table.time_column].cast(pa.int64())
    bounds = pc.min_max(times_us)
    first, last = bounds["min"].as_py() // _DAY_US, bounds["max"].as_py() // _DAY_US
    if first == last:
        yield first, rows
        return
    days = pc.divide(times_us, _DAY_US)
    for day in pc.unique(days).to_pylist():
        yield day, rows.filter(pc.equal(days, day))
