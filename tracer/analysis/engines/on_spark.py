# SPDX-License-Identifier: Apache-2.0
"""Sums by Spark: the session that there is, or one of the configuration that Spark finds (`spark-submit`, SPARK_HOME).

Spark reads objects by its own means: URLs are told as its Hadoop file systems call them, and credentials are its own.
"""

from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa

from tracer.analysis.engines.engine import TIME_US, Files, plain_integers
from tracer.analysis.file_checks import one_line
from tracer.errors import UsageError

_SCHEMES: Final = {"s3": "s3a"}


class OnSpark:
    """See `Engine`."""

    name = "spark"

    def __init__(self) -> None:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        try:
            builder = SparkSession.builder.appName("tracer").config("spark.ui.showConsoleProgress", "false")
            self.session = SparkSession.getActiveSession() or builder.getOrCreate()
        except (PySparkException, OSError, RuntimeError) as error:
            raise UsageError(f"--engine spark: no session can be had: {one_line(error)}") from error

    def scan(self, files: Files) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        from pyspark.errors import PySparkException
        from pyspark.sql import functions as sql
        from pyspark.sql.pandas.types import from_arrow_schema

        wanted = [files.table.time_column, *files.columns]
        schema = from_arrow_schema(pa.schema([files.table.schema.field(name) for name in wanted]))
        time = sql.col(files.table.time_column)
        first, before = files.bounds_us
        try:
            # Paths are taken as they are: what looks like a pattern in one is a part of it.
            names = [_escaped(_spelled(name)) for name in files.names]
            rows = self.session.read.schema(schema).parquet(*names)
        except PySparkException as error:
            raise _unreadable(error) from error
        within = rows.where(
            (time >= sql.timestamp_micros(sql.lit(first))) & (time < sql.timestamp_micros(sql.lit(before)))
        )
        return nw.from_native(within.select(*files.columns, sql.unix_micros(time).alias(TIME_US)))

    def of(self, rows: pl.DataFrame) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        return nw.from_native(self.session.createDataFrame(rows.to_arrow()))

    def keep(self, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        kept: nw.LazyFrame[Any] = nw.from_native(rows.to_native().persist())
        return kept

    def collect(self, rows: nw.LazyFrame[Any]) -> pl.DataFrame:
        """See `Engine`."""
        from pyspark.errors import PySparkException

        try:
            return plain_integers(pl.DataFrame(rows.to_native().toArrow()))
        except PySparkException as error:
            raise _unreadable(error) from error


def _spelled(name: str) -> str:
    scheme, separator, rest = name.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}{separator}{rest}"


def _escaped(name: str) -> str:
    return "".join(f"\\{letter}" if letter in "*?[]{}\\" else letter for letter in name)


def _unreadable(error: Exception) -> UsageError:
    return UsageError(f"cannot read the recordings: {one_line(error)}")
