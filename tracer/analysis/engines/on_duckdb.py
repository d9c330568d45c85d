# SPDX-License-Identifier: Apache-2.0
"""Sums by DuckDB, in this process; what does not fit in memory goes to a temporary directory."""

import tempfile
from datetime import UTC
from typing import Any

import duckdb
import narwhals as nw
import polars as pl

from tracer.analysis.engines.engine import TIME_US, Files, plain_integers
from tracer.analysis.file_checks import one_line
from tracer.errors import UsageError
from tracer.store.object_urls import connection_options


class OnDuckDB:
    """See `Engine`. URLs are read through obstore, as DuckDB's own way is an extension from elsewhere."""

    name = "duckdb"

    def __init__(self) -> None:
        # Never what an earlier call in this process left, nor a directory of the user's for what does not fit.
        self._connection = duckdb.connect(config={"temp_directory": tempfile.gettempdir()})
        self._protocols: set[str] = set()
        self._kept = 0

    def scan(self, files: Files) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        self._register(files)
        start, end = (f"TIMESTAMPTZ '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'" for moment in files[2:4])
        time = files.table.time_column
        try:
            rows = self._connection.read_parquet(list(files.names), union_by_name=True, hive_partitioning=False)
            there = set(rows.columns)
            columns = [name if name in there else f"NULL::{_TYPES[str(files.table.schema.field(name).type)]} AS {name}"
                       for name in files.columns]  # fmt: skip
            within = rows.filter(f"{time} >= {start} AND {time} < {end}")
            return nw.from_native(within.project(", ".join([*columns, f"epoch_us({time}) AS {TIME_US}"])))
        except duckdb.Error as error:
            raise _unreadable(error) from error

    def of(self, rows: pl.DataFrame) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        return nw.from_native(self._connection.from_arrow(rows.to_arrow()))

    def keep(self, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        """See `Engine`."""
        self._kept += 1
        name = f"kept_{self._kept}"
        try:
            # A table of its own goes to the temporary directory where memory is short.
            rows.to_native().create(name)
        except duckdb.Error as error:
            raise _unreadable(error) from error
        return nw.from_native(self._connection.table(name))

    def collect(self, rows: nw.LazyFrame[Any]) -> pl.DataFrame:
        """See `Engine`."""
        try:
            return plain_integers(rows.collect("polars").to_native())
        except duckdb.Error as error:
            raise _unreadable(error) from error

    def _register(self, files: Files) -> None:
        for protocol in {name.partition("://")[0] for name in files.names if "://" in name} - self._protocols:
            from obstore.fsspec import FsspecStore

            # What fsspec itself knows is not in its types: an earlier one may have been of another environment.
            make: Any = FsspecStore
            self._connection.register_filesystem(make(protocol, skip_instance_cache=True, **connection_options()))
            self._protocols.add(protocol)


_TYPES = {
    "int64": "BIGINT", "int32": "INTEGER", "float": "FLOAT", "string": "VARCHAR",
    "timestamp[us, tz=UTC]": "TIMESTAMPTZ",
}  # fmt: skip


def _unreadable(error: duckdb.Error) -> UsageError:
    return UsageError(f"cannot read the recordings: {one_line(error)}")
