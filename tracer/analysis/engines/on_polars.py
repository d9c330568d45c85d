# SPDX-License-Identifier: Apache-2.0
"""Sums by Polars' streaming engine, in this process: the default."""

from typing import Any

import narwhals as nw
import polars as pl
import pyarrow as pa

from tracer.analysis.engines.engine import TIME_US, Files, plain_integers
from tracer.analysis.file_checks import one_line
from tracer.errors import UsageError


class OnPolars:
    """See `Engine`. URLs are read by Polars itself, with the credentials of the environment."""

    name = "polars"

    def scan(self, files: Files) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        time = files.table.time_column
        wanted = [field for field in files.table.schema if field.name in (time, *files.columns)]
        rows = pl.scan_parquet(
            list(files.names),
            schema=pl.Schema(pa.schema(wanted)),
            missing_columns="insert",
            extra_columns="ignore",
            hive_partitioning=False,
            glob=False,
        )
        within = rows.filter(pl.col(time).is_between(files.start, files.end, closed="left"))
        return nw.from_native(within.select(*files.columns, pl.col(time).dt.epoch("us").alias(TIME_US)))

    def of(self, rows: pl.DataFrame) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        return nw.from_native(rows.lazy())

    def keep(self, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        return self.of(self.collect(rows))

    def collect(self, rows: nw.LazyFrame[Any]) -> pl.DataFrame:
        """See `Engine`."""
        native: pl.LazyFrame = rows.to_native()
        try:
            return plain_integers(native.collect(engine="streaming"))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise UsageError(f"cannot read the recordings: {one_line(error)}") from error
