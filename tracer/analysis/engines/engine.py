# SPDX-License-Identifier: Apache-2.0
"""What an engine can do."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

import narwhals as nw
import polars as pl

from tracer.store.schemas import Table

TIME_US: Final = "time_us"
"""A row's time, in us since the epoch, UTC: engines differ in what they think of zones, and not of integers."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Files(NamedTuple):
    """Closed files of one table: paths of this machine, or URLs of an object store, and the time that is asked for.

    `columns` are what is read of them, without the time.
    """

    table: Table
    names: Sequence[str]
    start: datetime
    end: datetime
    columns: Sequence[str]

    @property
    def bounds_us(self) -> tuple[int, int]:
        """From the first to before the second, in us since the epoch."""
        first, before = ((moment - _EPOCH) // timedelta(microseconds=1) for moment in (self.start, self.end))
        return first, before


class Engine(Protocol):
    """All raise UsageError for files that cannot be read."""

    name: str

    def scan(self, files: Files) -> nw.LazyFrame[Any]:
        """The rows within the time, with the columns that are asked for and `TIME_US`.

        Columns that a file does not have are null. There is at least one file.
        """

    def of(self, rows: pl.DataFrame) -> nw.LazyFrame[Any]:
        """A small table of this machine's, to be joined with what was scanned."""

    def keep(self, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        """The same rows, to be made once and used several times."""

    def collect(self, rows: nw.LazyFrame[Any]) -> pl.DataFrame:
        """What that comes to; integers are 64 bits wide, whatever the engine adds them up in."""


def plain_integers(rows: pl.DataFrame) -> pl.DataFrame:
    """Sums as 64-bit integers: DuckDB has them in 128 bits, which come as decimals."""
    wide = [
        name
        for name, type_ in rows.schema.items()
        if type_.is_decimal() or (type_.is_integer() and type_ != pl.Int64())
    ]
    return rows.with_columns(pl.col(wide).cast(pl.Int64))
