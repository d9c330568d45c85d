# SPDX-License-Identifier: Apache-2.0
"""All rows of a table as each engine reads them: the kind of each column, and the rows by time, in terms of Python.

Times are microseconds since the epoch, maps dicts, and `dt` is text.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Rows = list[dict[str, Any]]
Read = tuple[dict[str, str], Rows]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PARTITIONS: Final = ds.partitioning(pa.schema([("dt", pa.date32()), ("identifier", pa.string())]), flavor="hive")


def with_polars(directory: Path) -> Read:
    kinds = {
        pl.String: "text", pl.Int32: "int32", pl.Int64: "int64", pl.Float32: "float32", pl.Float64: "float64",
        pl.Date: "date", pl.Datetime("us", "UTC"): "time", pl.Map(pl.String, pl.Int64): "map",
    }  # fmt: skip
    partitions = {"dt": pl.Date, "identifier": pl.String}
    rows = pl.scan_parquet(directory, hive_partitioning=True, hive_schema=partitions).collect()
    return {name: kinds[dtype] for name, dtype in rows.schema.items()}, _plain(rows.iter_rows(named=True))


def with_duckdb(directory: Path) -> Read:
    kinds = {
        "VARCHAR": "text", "INTEGER": "int32", "BIGINT": "int64", "FLOAT": "float32", "DOUBLE": "float64",
        "DATE": "date", "TIMESTAMP WITH TIME ZONE": "time", "MAP(VARCHAR, BIGINT)": "map",
    }  # fmt: skip
    rows = duckdb.sql(
        f"FROM read_parquet('{directory}/*/*/*.parquet', hive_types = {{'dt': DATE, 'identifier': VARCHAR}})"
    )
    types = {name: kinds[str(type_)] for name, type_ in zip(rows.columns, rows.types, strict=True)}
    return types, _plain(rows.to_arrow_table().to_pylist())


def with_pandas(directory: Path) -> Read:
    kinds = {
        "string": "text", "Int32": "int32", "Int64": "int64", "Float32": "float32", "Float64": "float64",
        "datetime64[us, UTC]": "time",
    }  # fmt: skip
    rows = pd.read_parquet(directory, partitioning=PARTITIONS, dtype_backend="numpy_nullable")
    # pandas has no types of its own for days and maps.
    objects = {"dt": "date", "extra": "map"}
    types = {
        str(name): objects[str(name)] if dtype == "object" else kinds[str(dtype)] for name, dtype in rows.dtypes.items()
    }
    rows = rows.astype(object).where(rows.notna(), None)
    return types, _plain(rows.to_dict("records"))


def with_pyarrow(directory: Path) -> Read:
    rows = ds.dataset(directory, partitioning=PARTITIONS).to_table()
    return _arrow_kinds(rows.schema), _plain(rows.to_pylist())


def with_spark(directory: Path, spark: "SparkSession") -> Read:
    from pyspark.sql import functions

    kinds = {
        "string": "text", "int": "int32", "bigint": "int64", "float": "float32", "double": "float64",
        "timestamp": "time", "map<string,bigint>": "map",
    }  # fmt: skip
    spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
    rows = spark.read.parquet(str(directory))
    types = {field.name: kinds[field.dataType.simpleString()] for field in rows.schema.fields}
    for name, kind in types.items():
        if kind == "time":
            # Python would get them in the machine's time zone.
            rows = rows.withColumn(name, functions.unix_micros(name))
    return {**types, "dt": "date"}, _plain(row.asDict() for row in rows.collect())


def with_iceberg(directory: Path, scratch: Path) -> Read:
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("tests", uri="sqlite:///:memory:", warehouse=str(scratch))
    try:
        catalog.create_namespace("tracer")
        files = sorted(map(str, directory.glob("*/*/*.parquet")))
        table = catalog.create_table("tracer.rows", schema=pq.read_schema(files[0]))
        table.add_files(files)
        rows = table.scan().to_arrow()
        return _arrow_kinds(rows.schema), _plain(rows.to_pylist())
    finally:
        catalog.close()


ENGINES: Final[dict[str, Callable[[Path], Read]]] = {
    "polars": with_polars, "duckdb": with_duckdb, "pandas": with_pandas, "pyarrow": with_pyarrow,
}  # fmt: skip
"""Those that need nothing but a directory."""


def _arrow_kinds(schema: pa.Schema) -> dict[str, str]:
    def kind(type_: pa.DataType) -> str:
        if pa.types.is_map(type_):
            assert pa.types.is_string(type_.key_type) or pa.types.is_large_string(type_.key_type)
            assert type_.item_type == pa.int64()
            return "map"
        kinds = {
            pa.string(): "text", pa.large_string(): "text", pa.int32(): "int32", pa.int64(): "int64",
            pa.float32(): "float32", pa.float64(): "float64", pa.date32(): "date", pa.timestamp("us", "UTC"): "time",
        }  # fmt: skip
        return kinds[type_]

    return {field.name: kind(field.type) for field in schema}


def _plain(rows: Iterable[dict[str, Any]]) -> Rows:
    return [{name: _plain_value(name, value) for name, value in row.items()} for row in rows]


def _plain_value(name: str, value: Any) -> Any:
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return value.isoformat()
    if name == "extra" and value is not None:
        return dict(value)
    return value
