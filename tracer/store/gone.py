# SPDX-License-Identifier: Apache-2.0
"""Rows that are not in the results, or not any more: how many, of which table, and from when to when they are."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TimeSpan(NamedTuple):
    """The times of a first and a last row, UTC, us since the epoch."""

    first_us: int
    last_us: int

    def joined(self, other: "TimeSpan | None") -> "TimeSpan":
        """From the earlier first to the later last one."""
        if other is None:
            return self
        return TimeSpan(min(self.first_us, other.first_us), max(self.last_us, other.last_us))

    def __str__(self) -> str:
        return f"from {_shown(self.first_us)} to {_shown(self.last_us)}"


@dataclass
class Gone:
    """Counts and time spans by table; and rows by cause, where there are several."""

    rows: Counter[str] = field(default_factory=Counter)
    spans: dict[str, TimeSpan] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)

    def add(self, table: str, rows: int, span: TimeSpan, cause: str | None = None) -> None:
        """`span`: of these rows, or of a part of the time in which they are."""
        # In this order, and copied in the other one, so that whoever reads it meanwhile finds a span for each table.
        self.spans[table] = span.joined(self.spans.get(table))
        self.rows[table] += rows
        if cause is not None:
            self.causes[cause] += rows

    def __add__(self, other: Self) -> "Gone":
        both = Gone(Counter(self.rows), dict(self.spans), self.causes + other.causes)
        for table, rows in Counter(other.rows).items():
            both.add(table, rows, other.spans[table])
        return both

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} rows of {table}" for table, count in sorted(self.rows.items()))
        return f"{counts}, {self.span}" if self.rows else "nothing"

    @property
    def span(self) -> TimeSpan | None:
        """Of all tables; None if nothing is gone."""
        span = None
        for one in self.spans.values():
            span = one.joined(span)
        return span


def _shown(time_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%SZ}"
